//! The bytes of a file: mapped, or held in memory.
//!
//! This is the one file of the crate with `unsafe` code.

use memmap2::Mmap;
use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::path::Path;

/// Bytes that stay where they are as long as this lives.
pub(crate) enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps a regular file. An empty one is no mapping: systems differ in whether they allow that.
    pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
        // Asked before it is opened: to open a pipe would wait for its other end.
        if !fs::metadata(path)?.is_file() {
            let what = "it is not a regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Bytes::Owned(Vec::new()));
        }
        // SAFETY: the mapping is private to this process's reads, lives as long as `Mmap`, and is never written. What no program can rule
        // out is that another one changes or shortens the file meanwhile; the openers of this crate pass that condition on to their caller
        // in their documentation, and Kiln's own writers never change a file in place but rename a new one over it.
        let mapping = unsafe { Mmap::map(&file)? };
        Ok(Bytes::Mapped(mapping))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(mapping) => mapping,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replace_file;
    use std::io::Write;

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("kiln-interop-bytes-{}-{name}", std::process::id()))
    }

    #[test]
    fn files_of_no_one_and_many_bytes_are_mapped_whole() {
        let path = scratch("sizes");
        for length in [0, 1, 4095, 4096, 4097] {
            let wanted: Vec<u8> = (0..length).map(|i| i as u8).collect();
            replace_file(&path, |file| file.write_all(&wanted)).unwrap();
            assert_eq!(*Bytes::map(&path).unwrap(), wanted);
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_mapping_outlives_the_replacement_of_its_file() {
        let path = scratch("replaced");
        replace_file(&path, |file| file.write_all(&[1; 10_000])).unwrap();
        let mapped = Bytes::map(&path).unwrap();
        replace_file(&path, |file| file.write_all(&[2])).unwrap();
        assert_eq!(*mapped, [1; 10_000]);
        assert_eq!(*Bytes::map(&path).unwrap(), [2]);
        fs::remove_file(&path).unwrap();
        assert_eq!(mapped.len(), 10_000, "and its removal");
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let refused = |path: &Path| Bytes::map(path).err().unwrap().to_string();
        assert_eq!(refused(&std::env::temp_dir()), "it is not a regular file");
        assert!(refused(&scratch("missing")).contains("No such file"));
    }
}
