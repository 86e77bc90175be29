//! Pictures for a question: URLs as they are, files inline.

use std::fs::File;
use std::io::Read;

use super::failure::Failure;

/// The most bytes that all pictures of a question may have, which makes a third more once they are
/// encoded: a request is at most 10 MB unless the operator says otherwise.
const LARGEST: u64 = 6_000_000;

/// What the first bytes of a picture say about its format, as registered for each media type.
const FORMATS: [(&str, &[u8]); 4] = [
    ("image/png", b"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", b"\xff\xd8\xff"),
    ("image/gif", b"GIF8"),
    ("image/webp", b"RIFF"),
];

/// The URL of each picture; a file's is a `data:` URL that carries it (RFC 2397).
pub fn urls(sources: &[String]) -> Result<Vec<String>, Failure> {
    let mut room = LARGEST;
    sources
        .iter()
        .map(|source| url(source, &mut room))
        .collect()
}

fn url(source: &str, room: &mut u64) -> Result<String, Failure> {
    if ["http://", "https://", "data:"]
        .iter()
        .any(|scheme| source.starts_with(scheme))
    {
        return Ok(source.to_owned());
    }
    let mut bytes = Vec::new();
    // One byte more than there is room for shows that there are too many.
    let read = File::open(source).and_then(|file| file.take(*room + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::usage(format!("--image {source}: {error}")))?;
    *room = room.checked_sub(bytes.len() as u64).ok_or_else(|| {
        let megabytes = LARGEST / 1_000_000;
        let way_out = "make it smaller, or give its URL";
        Failure::usage(format!(
            "--image {source}: more than {megabytes} MB of pictures: {way_out}"
        ))
    })?;
    let format = FORMATS
        .iter()
        .find(|(_, magic)| bytes.starts_with(magic))
        .ok_or_else(|| {
            Failure::usage(format!(
                "--image {source}: must be a PNG, JPEG, GIF or WebP file, or a URL"
            ))
        })?;
    Ok(format!("data:{};base64,{}", format.0, base64(&bytes)))
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (group >> (18 - 6 * digit)) & 63;
            let is_padding = digit > chunk.len();
            text.push(if is_padding {
                '='
            } else {
                char::from(DIGITS[index as usize])
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn files_go_inline_and_urls_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.display().to_string()
        };
        let gif = file("a", b"GIF89a");
        let urls = urls(&["https://x.test/a".into(), gif]).unwrap();
        assert_eq!(urls, ["https://x.test/a", "data:image/gif;base64,R0lGODlh"]);

        let refused = |path: String| super::urls(&[path]).unwrap_err().message;
        assert!(refused(file("b", b"plain text")).contains("must be a PNG"));
        assert!(refused(file("c", &vec![0; LARGEST as usize + 1])).contains("smaller"));
        assert!(refused("/nowhere/d.png".into()).contains("/nowhere/d.png"));
    }

    #[test]
    fn all_pictures_share_the_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("half.jpg");
        let mut half = b"\xff\xd8\xff".to_vec();
        half.resize(LARGEST as usize / 2 + 1, 0);
        std::fs::write(&path, half).unwrap();
        let path = path.display().to_string();
        assert!(urls(std::slice::from_ref(&path)).is_ok());
        assert!(urls(&[path.clone(), path]).is_err());
    }
}
