//! What can be wrong with a file that is read, and why one could not be written. After either, nothing has changed on the disk.

use crate::tensors::SizeError;
use std::path::PathBuf;

/// A file that cannot be read as tensors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system cannot open, map or read it.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not of the form, or not whole.
    #[error("{file} is not a whole {form} file: {what}")]
    Malformed {
        /// The file, or what the caller calls the bytes.
        file: String,
        /// `safetensors`, `npy` or `npz`.
        form: &'static str,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// Two tensors of one name, of which readers would pick either.
    #[error("{file}: two tensors are named `{name}`; a name must be unique in a file")]
    Duplicate {
        /// The file.
        file: String,
        /// The name.
        name: String,
    },
    /// An element type that Kiln does not have.
    #[error(
        "{file}: tensor `{name}` has elements of type {found}, which Kiln does not have; it has f32, f64, bf16, f16, i8 to i64, u8 to u64 and bool"
    )]
    DType {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// The type as the file spells it.
        found: String,
    },
    /// The elements are not those that were written.
    #[error(
        "{file}: {what} has the checksum {found:08x}, but {wanted:08x} was written with it; the file was damaged since"
    )]
    Checksum {
        /// The file.
        file: String,
        /// What was summed.
        what: String,
        /// The CRC-32 of what is there.
        found: u32,
        /// The CRC-32 that the file carries.
        wanted: u32,
    },
}

/// Tensors that cannot be saved. A file of that name is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The system cannot write, sync or rename.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file that should have been replaced.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A tensor whose bytes do not fill its shape.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// Two tensors of one name.
    #[error("two tensors to save are named `{name}`; a name must be unique in a file")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A name that the form keeps for itself.
    #[error("nothing may be saved under the name `{name}`: {why}")]
    Name {
        /// The name.
        name: String,
        /// What it means in the form, or why it cannot be written.
        why: &'static str,
    },
    /// More than the form can say.
    #[error("the tensors do not fit into a {form} file: {what}")]
    TooLarge {
        /// `safetensors`, `npy` or `npz`.
        form: &'static str,
        /// What exceeds it.
        what: String,
    },
}
