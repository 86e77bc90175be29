//! HTTP on the socket: whatever comes, in whatever pieces, is answered in HTTP or not at all, never as our own
//! fault, and the next request is served. The first byte chooses the cuts.

use super::doors::converse;

/// The law.
pub fn holds(bytes: &[u8]) {
    let Some((&seed, said)) = bytes.split_first() else {
        return;
    };
    // This first byte begins JSON-RPC.
    if said.starts_with(b"{") {
        return;
    }
    let answer = converse(&super::pieces(
        said,
        seed,
        if seed % 4 == 0 { 4096 } else { 97 },
    ));
    if !answer.is_empty() {
        let status = status(&answer).expect("a status line");
        assert!((100..600).contains(&status) && status != 500, "{status}");
    }
    let well =
        converse(&[b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"]);
    assert_eq!(
        status(&well),
        Some(200),
        "{}",
        String::from_utf8_lossy(&well)
    );
}

fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer
        .strip_prefix(b"HTTP/1.1 ")
        .or(answer.strip_prefix(b"HTTP/1.0 "))?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}
