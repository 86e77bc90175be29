//! `[server]`: the doors and their limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::section::Section;
use super::{Env, directory, environment};

const SECOND: Duration = Duration::from_secs(1);

/// The longest path a Unix socket can have on Linux, in bytes; checked here since the system's own
/// complaint, at bind, names neither the path nor the limit.
const LONGEST_SOCKET_PATH: usize = 107;

/// The doors and their limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where HTTP listens; `None` (`"off"`) nowhere. Default `127.0.0.1:4180`.
    pub http: Option<SocketAddr>,
    /// Whether `http` may be an address that other machines reach. Needs a key in `[[keys]]`. Default
    /// `false`.
    pub allow_remote: bool,
    /// Where the Unix socket is; `None` (`"off"`) nowhere. Default `quorate/quorate.sock` in
    /// `$XDG_RUNTIME_DIR`, or else `/tmp/quorate-<uid>/quorate.sock`.
    pub socket: Option<PathBuf>,
    /// The largest request body in bytes, 1 KB to 1 GB. Default 10 MB.
    pub max_body: usize,
    /// Bodies of requests in memory, all together, in bytes, 1 KB to 1 TB and no less than `max_body`. Of one caller a
    /// quarter of that; without keys, all of HTTP is one caller and has three quarters. Default 256 MB.
    pub max_bodies: usize,
    /// Connections at once, at each door, 1 to 1,000,000. Default 10,000.
    pub max_connections: usize,
    /// How long a client may take to send its request, 10 ms to 1 h. Default 30 s.
    pub read_timeout: Duration,
    /// How long a client may leave what is sent to it unread, 10 ms to 1 h. Default 60 s.
    pub write_timeout: Duration,
    /// How long running queries may take to finish at shutdown, 1 ms to 1 h. Default 30 s.
    pub shutdown_timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self::defaults(&environment().collect())
    }
}

impl Server {
    pub(super) fn defaults(env: &Env) -> Self {
        Self {
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 4180))),
            allow_remote: false,
            socket: Some(default_socket(env)),
            max_body: 10_000_000,
            max_bodies: 256_000_000,
            max_connections: 10_000,
            read_timeout: 30 * SECOND,
            write_timeout: 60 * SECOND,
            shutdown_timeout: 30 * SECOND,
        }
    }

    pub(super) fn read(root: &mut Section<'_>, has_keys: bool) -> Self {
        let defaults = Self::defaults(root.env());
        root.table("server", |section| {
            let waits = Duration::from_millis(10)..=3600 * SECOND;
            let server = Self {
                http: section.text("http", address).unwrap_or(defaults.http),
                allow_remote: section
                    .flag("allow_remote")
                    .unwrap_or(defaults.allow_remote),
                socket: section.path_or_off("socket").unwrap_or(defaults.socket),
                max_body: section
                    .size("max_body", 1_000..=1_000_000_000)
                    .unwrap_or(defaults.max_body),
                max_bodies: section
                    .size("max_bodies", 1_000..=1_000_000_000_000)
                    .unwrap_or(defaults.max_bodies),
                max_connections: section
                    .integer("max_connections", 1..=1_000_000)
                    .unwrap_or(defaults.max_connections),
                read_timeout: section
                    .duration("read_timeout", waits.clone())
                    .unwrap_or(defaults.read_timeout),
                write_timeout: section
                    .duration("write_timeout", waits)
                    .unwrap_or(defaults.write_timeout),
                shutdown_timeout: section
                    .duration("shutdown_timeout", Duration::from_millis(1)..=3600 * SECOND)
                    .unwrap_or(defaults.shutdown_timeout),
            };
            server.check(section, has_keys);
            server
        })
    }

    fn check(&self, section: &Section<'_>, has_keys: bool) {
        if let Some(address) = self.http.filter(|address| !address.ip().is_loopback()) {
            if !self.allow_remote {
                let message = format!(
                    "{address} is reachable from other machines: use a loopback address, or set \
                     allow_remote = true and add [[keys]]"
                );
                section.fail("http", message);
            } else if !has_keys {
                section.fail(
                    "http",
                    format!("{address} is open to everybody: add [[keys]]"),
                );
            }
        }
        let length = self
            .socket
            .as_deref()
            .map_or(0, |path| path.as_os_str().len());
        if length > LONGEST_SOCKET_PATH {
            let message =
                format!("the path has {length} bytes, a socket's at most {LONGEST_SOCKET_PATH}");
            section.fail("socket", message);
        }
    }
}

fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let wanted = "must be \"off\" or an IP address with a port, such as \"127.0.0.1:4180\"";
    text.parse()
        .map(Some)
        .map_err(|_| format!("{wanted}, not '{text}'"))
}

/// The XDG base directory specification's place for sockets; without one, a directory of the user's
/// own in `/tmp`.
fn default_socket(env: &Env) -> PathBuf {
    let directory = directory(env, "XDG_RUNTIME_DIR").map_or_else(
        || format!("/tmp/quorate-{}", uid()).into(),
        |run| run.join("quorate"),
    );
    directory.join("quorate.sock")
}

/// This process's user; 0 if the system does not say. Read off a file that is the process's own, as
/// the system call needs `unsafe`.
pub(crate) fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt;

    let own = [Path::new("/proc/self"), Path::new("/dev/fd/0")];
    own.into_iter()
        .find_map(|path| path.metadata().ok())
        .map_or(0, |found| found.uid())
}
