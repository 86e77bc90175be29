//! Tensors of a safetensors file, read one after the other, so that the file is never in memory twice.
//!
//! The format (Hugging Face, "Safetensors", 2022): eight bytes of length, little-endian; so much JSON, which names
//! each tensor's type, shape and place; the values.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A longer head is none.
const LONGEST_HEAD: u64 = 1 << 20;

/// An open file of tensors.
pub(super) struct Weights {
    file: File,
    /// Where the values begin.
    start: u64,
    /// What the head says of each tensor.
    head: HashMap<String, Box<RawValue>>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Weights {
    /// Reads the head of the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("'{}': {error}", path.display());
        let mut file = File::open(path).map_err(|error| failed(&error))?;
        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(|error| failed(&error))?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEAD {
            return Err(failed(&"not a safetensors file"));
        }
        let mut head = Vec::new();
        let read = file.by_ref().take(length).read_to_end(&mut head);
        read.map_err(|error| failed(&error))?;
        Ok(Self {
            file,
            start: 8 + length,
            head: serde_json::from_slice(&head).map_err(|error| failed(&error))?,
        })
    }

    /// The values of the tensor called `name`, which must be 32-bit floats in this shape and finite.
    pub(super) fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("tensor {name}: {error}");
        let entry = self.head.get(name).ok_or_else(|| failed(&"is missing"))?;
        let entry: Entry = serde_json::from_str(entry.get()).map_err(|error| failed(&error))?;
        if entry.dtype != "F32" || entry.shape != shape {
            let text = format!("is {} {:?}, not F32 {shape:?}", entry.dtype, entry.shape);
            return Err(failed(&text));
        }
        let bytes = shape.iter().product::<usize>() * size_of::<f32>();
        let (from, to) = entry.data_offsets;
        if to.checked_sub(from) != Some(bytes as u64) {
            return Err(failed(&"has another length than its shape"));
        }
        let place = SeekFrom::Start(self.start.saturating_add(from));
        self.file.seek(place).map_err(|error| failed(&error))?;
        let mut raw = vec![0; bytes];
        self.file
            .read_exact(&mut raw)
            .map_err(|error| failed(&error))?;
        let (values, _) = raw.as_chunks::<4>();
        let values: Vec<f32> = values
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect();
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(failed(&"is not finite"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, head: &str, values: &[f32]) -> std::path::PathBuf {
        let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
        bytes.extend(head.as_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let path = folder.join("t.safetensors");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_tensor_is_read_in_the_shape_asked_for_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let head = r#"{"__metadata__":{"format":"pt"},
            "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "b":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},
            "c":{"dtype":"F32","shape":[2],"data_offsets":[16,24]},
            "d":{"dtype":"F32","shape":[2],"data_offsets":[4,8]},
            "e":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
        let path = written(folder.path(), head, &[1.0, 2.0, 3.0, f32::NAN]);
        let mut weights = Weights::open(&path).unwrap();
        assert_eq!(weights.read("a", &[2]).unwrap(), [1.0, 2.0]);
        for (name, shape, says) in [
            ("a", &[1, 2][..], "not F32 [1, 2]"),
            ("b", &[1, 2], "not finite"),
            ("c", &[2], "tensor c"),
            ("d", &[2], "another length"),
            ("e", &[1], "is I64"),
            ("__metadata__", &[1], "tensor __metadata__"),
            ("none", &[1], "is missing"),
        ] {
            let error = weights.read(name, shape).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for head in ["", "[]", "{"] {
            let path = written(folder.path(), head, &[]);
            assert!(Weights::open(&path).is_err(), "{head}");
        }
        let path = folder.path().join("gguf");
        std::fs::write(&path, b"GGUF\x03\0\0\0\xff\xff").unwrap();
        let error = Weights::open(&path).err().unwrap();
        assert!(error.contains("safetensors"), "{error}");
        assert!(Weights::open(&folder.path().join("none")).is_err());
    }
}
