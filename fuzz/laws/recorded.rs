//! Recorded answers: what is read can be written and read again, and packed or plain is the same. What is refused
//! is refused with the file's name.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use quorate::eval::read::read;
use quorate::eval::record::{Recorded, write};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tempfile::TempDir;

/// What a packed file begins with.
const MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// The law.
pub fn holds(bytes: &[u8]) {
    let first = given(bytes);
    if !bytes.starts_with(MAGIC) {
        let packed = compress_to_vec(bytes, CompressionLevel::Fastest);
        assert_eq!(given(&packed), first, "packed");
    }
    match first {
        Ok(records) => {
            let mut written = Vec::new();
            write(&records, &mut written).unwrap();
            assert_eq!(
                given(&written),
                Ok(records.clone()),
                "written and read back"
            );
            for reply in records.iter().flat_map(|record| record.answers.values()) {
                assert!(reply.score.is_none_or(|score| (0.0..=1.0).contains(&score)));
            }
        }
        Err(told) => assert!(told.contains("set.jsonl"), "{told}"),
    }
}

fn given(bytes: &[u8]) -> Result<Vec<Recorded>, String> {
    let path = path();
    fs::write(&path, bytes).unwrap();
    let read = read(&path).map_err(|error| error.to_string());
    // A file that is written anew in its place is flushed to the disk by some systems.
    fs::remove_file(&path).unwrap();
    read
}

/// Removed with the thread, and not with each run.
fn path() -> PathBuf {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| TempDir::new().unwrap());
        folder.path().join("set.jsonl")
    })
}
