//! NumPy's form of one array: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
//!
//! A magic string and a version are followed by the length of a header, which is a Python literal, and the header by the elements. Versions
//! 1 to 3 are read and the first that is long enough is written. The literal is read by a parser for just this dictionary of three
//! keys: libraries parse all of Python's literals, and to do so bring a grammar compiler.
//!
//! NumPy has no bf16. The package `ml_dtypes`, by which JAX and TensorFlow hand such arrays out, leaves two bytes of no type (`V2`) in the file, and
//! this is what `bf16` is written as and read from.

mod header;

use crate::bytes::Bytes;
use crate::error::{FileError, SaveError};
use crate::replace::replace_file;
use crate::tensors::{Data, Entry, TensorRef, Tensors, map, size};
use header::Header;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

const FORM: &str = "npy";

/// Maps the array in a file, under the name of the file without `.npy`. Elements are lent where they lie if they are little-endian and
/// row-major; big-endian ones are turned around, and arrays in Fortran's order rearranged, in memory.
///
/// The file must not be changed in place while the [`Tensors`] live, as for [`safetensors::open`](crate::safetensors::open).
///
/// # Errors
/// [`FileError`].
pub fn open(path: &Path) -> Result<Tensors, FileError> {
    let (file, bytes) = map(path)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    read(file, &name, bytes)
}

/// The array in `bytes`, which messages call `file`, as the tensor `name`.
///
/// # Errors
/// As [`open`].
pub fn parse(file: &str, name: &str, bytes: Vec<u8>) -> Result<Tensors, FileError> {
    read(file.to_owned(), name, Bytes::Owned(bytes))
}

/// Replaces the file at `path`, whole or not at all ([`replace_file`]), with `tensor`, whose name is not written.
///
/// # Errors
/// [`SaveError`]; the file is then as it was.
///
/// ```
/// use kiln_interop::{TensorRef, npy};
/// use kiln_ir::DType;
/// # let path = std::env::temp_dir().join(format!("kiln-npy-doc-{}.npy", std::process::id()));
/// npy::save(&path, TensorRef::new("x", DType::U8, &[2, 2], &[1, 2, 3, 4])?)?;
///
/// let file = npy::open(&path)?;
/// let x = file.iter().next().ok_or("a file has one array")?;
/// assert_eq!((x.shape(), x.bytes()), (&[2, 2][..], &[1, 2, 3, 4][..]));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save(path: &Path, tensor: TensorRef<'_>) -> Result<(), SaveError> {
    let written = replace_file(path, |file| write(file, tensor));
    written.map_err(|source| SaveError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Writes header and elements.
pub(crate) fn write(to: &mut impl Write, tensor: TensorRef<'_>) -> io::Result<()> {
    to.write_all(&header::print(tensor.dtype(), tensor.shape()))?;
    to.write_all(tensor.bytes())
}

/// The bytes that [`write`] writes.
pub(crate) fn written_len(tensor: TensorRef<'_>) -> usize {
    header::print(tensor.dtype(), tensor.shape())
        .len()
        .saturating_add(tensor.bytes().len())
}

fn read(file: String, name: &str, bytes: Bytes) -> Result<Tensors, FileError> {
    let place = Place {
        file: &file,
        form: FORM,
        name,
    };
    let (header, data) = place.header(&bytes)?;
    let start = bytes.len() - data.len();
    let data = match header.rearranged(data) {
        Some(rearranged) => Data::Owned(rearranged),
        None => Data::InFile(start..bytes.len()),
    };
    let entry = header.entry(name, data);
    Tensors::new(file, bytes, vec![entry], BTreeMap::new(), Vec::new())
}

/// Where an array is, for messages.
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    pub(crate) form: &'static str,
    pub(crate) name: &'a str,
}

impl Place<'_> {
    /// The header of an array and its elements, which are as many as the header says.
    pub(crate) fn header<'b>(&self, bytes: &'b [u8]) -> Result<(Header, &'b [u8]), FileError> {
        let (header, data) = header::parse(bytes).map_err(|wrong| match wrong {
            header::Wrong::Form(what) => self.malformed(what),
            header::Wrong::DType(found) => FileError::DType {
                file: self.file.to_owned(),
                name: self.name.to_owned(),
                found,
            },
        })?;
        if size(header.dtype, &header.shape) != Some(data.len()) {
            let what = format!(
                "its header says {}{:?}, which {} bytes of elements do not make",
                header.dtype,
                header.shape,
                data.len()
            );
            return Err(self.malformed(what));
        }
        Ok((header, data))
    }

    pub(crate) fn malformed(&self, what: String) -> FileError {
        let what = if self.form == FORM {
            what
        } else {
            format!("array `{}`: {what}", self.name)
        };
        FileError::Malformed {
            file: self.file.to_owned(),
            form: self.form,
            what,
        }
    }
}

impl Header {
    /// The elements as Kiln has them, little-endian and row-major, where those of the file are otherwise. `data` must fill the shape.
    pub(crate) fn rearranged(&self, data: &[u8]) -> Option<Vec<u8>> {
        let width = self.dtype.size();
        let turns = self.is_big_endian && width > 1;
        // With one long axis there is but one order.
        let long = self.shape.iter().filter(|extent| **extent > 1).count();
        let transposes = self.is_fortran && long > 1;
        if data.is_empty() || !(turns || transposes) {
            return None;
        }
        let mut elements = if transposes {
            row_major(&self.shape, width, data)
        } else {
            data.to_vec()
        };
        if turns {
            elements.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
        Some(elements)
    }

    /// The tensor with this header.
    pub(crate) fn entry(self, name: &str, data: Data) -> Entry {
        Entry {
            name: name.to_owned(),
            dtype: self.dtype,
            shape: self.shape,
            data,
        }
    }
}

/// Elements of `width` bytes in Fortran's order, in which the first axis runs fastest, in row-major order. No extent is 0.
fn row_major(shape: &[usize], width: usize, data: &[u8]) -> Vec<u8> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = width;
    for extent in shape {
        strides.push(stride);
        stride *= extent;
    }
    let mut index = vec![0; shape.len()];
    let mut offset = 0;
    let mut elements = Vec::with_capacity(data.len());
    while elements.len() < data.len() {
        elements.extend_from_slice(&data[offset..offset + width]);
        // The last axis runs fastest; where it is through, the one before it moves on.
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            offset -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    elements
}
