//! Tensors and models in and out, in the files of other programs: [`safetensors`], NumPy's [`npy`] and [`npz`], and [`onnx`] models, which
//! become graphs.
//!
//! The three readers of tensors give the same [`Tensors`]: names, element types, shapes, and bytes where they lie in the file, which is mapped and
//! not read. Their writers take [`TensorRef`]s and replace a file whole or not at all ([`replace_file`]). It knows no session:
//! it moves bytes, checks what a file claims before it believes it, and never converts an element.
//!
//! A file is never trusted. A header that is short, malformed, or that lies about sizes is an error that says what was wrong, and no
//! memory is taken for what the file does not hold.

mod bytes;
mod error;
pub mod npy;
pub mod npz;
pub mod onnx;
mod replace;
pub mod safetensors;
mod tensors;

pub use error::{FileError, SaveError};
pub use replace::{can_replace, replace_file};
pub use tensors::{SizeError, TensorRef, Tensors};

// The elements in all three forms are little-endian, and they are lent as the machine's own. On another machine they would have to be
// turned around, for which nothing here is made.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "kiln-interop lends the bytes of files as they are, which needs a little-endian machine"
);
