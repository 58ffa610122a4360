//! IDX, the form of the MNIST files: a dense array behind a header of a few bytes.
//!
//! The header is two zero bytes, a byte for the element type, a byte for the number of axes and
//! then each axis as a big-endian `u32`; the elements follow, big-endian and row-major
//! (<http://yann.lecun.com/exdb/mnist/>). A file may be gzipped, which its first two bytes show.
//!
//! The header is never believed before the data is there: memory grows with what is read, not with
//! what is claimed, and a file must end exactly where its header says.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::column::product;
use super::{ColumnData, DataError};

/// The largest array that is read, in bytes: 4 GiB. A few bytes of gzip can unpack to any size, so
/// there has to be an end; the largest file of the MNIST family is a tenth of this.
pub const MAX_BYTES: usize = u32::MAX as usize;

/// The first two bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// An array read from an IDX file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The length of each axis; empty for a single number.
    pub shape: Vec<usize>,
    /// The elements, row-major: u8, i8, i16, i32, f32 or f64.
    pub data: ColumnData,
}

/// Reads an IDX file, gzipped or not.
///
/// # Errors
/// [`DataError::Io`] if the file cannot be read or its gzip data is damaged; otherwise as [`parse`].
pub fn read(path: &Path) -> Result<Array, DataError> {
    let failed = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let mut start = Vec::with_capacity(GZIP.len());
    file.by_ref()
        .take(GZIP.len() as u64)
        .read_to_end(&mut start)
        .map_err(failed)?;
    let is_gzip = start == GZIP;
    let whole = io::Cursor::new(start).chain(file);
    let name = path.display().to_string();
    let parsed = if is_gzip {
        parse(&name, MultiGzDecoder::new(whole))
    } else {
        parse(&name, whole)
    };
    parsed.map_err(|error| match error {
        DataError::Io { source, .. } => failed(source),
        other => other,
    })
}

/// Reads an IDX array from uncompressed bytes to their end; `file` is the name used in messages.
///
/// # Errors
/// [`DataError::Idx`] with the byte at which the bytes stop being IDX: a wrong magic number or
/// element type, a header or data cut short, bytes after the end, or an array over [`MAX_BYTES`].
/// [`DataError::Io`] if `bytes` cannot be read.
pub fn parse(file: &str, bytes: impl Read) -> Result<Array, DataError> {
    let mut source = Source {
        file,
        bytes,
        offset: 0,
    };
    let magic: [u8; 4] = source.exactly("the 4 bytes of the magic number")?;
    let [zero, nil, code, axes] = magic;
    if (zero, nil) != (0, 0) {
        let found = format!("the bytes {zero:#04x} {nil:#04x}");
        return Err(source.error(0, found, "an IDX file begins with two zero bytes"));
    }
    let Some(kind) = Kind::of_code(code) else {
        let wanted = "the element types are 0x08 (u8), 0x09 (i8), 0x0b (i16), 0x0c (i32), 0x0d \
                      (f32) and 0x0e (f64)";
        return Err(source.error(2, format!("the element type {code:#04x}"), wanted));
    };
    let mut shape = Vec::with_capacity(usize::from(axes));
    for axis in 0..axes {
        let length: [u8; 4] = source.exactly(&format!("the length of axis {axis} of {axes}"))?;
        shape.push(u32::from_be_bytes(length) as usize);
    }
    let size = product(&shape).and_then(|count| count.checked_mul(kind.bytes()));
    let Some(size) = size.filter(|&size| size <= MAX_BYTES) else {
        let found = format!("the shape {shape:?} of {} bytes an element", kind.bytes());
        let wanted = format!("an array of at most {MAX_BYTES} bytes is read");
        return Err(source.error(4, found, &wanted));
    };
    let raw = source.all(size, &shape)?;
    Ok(Array {
        shape,
        data: kind.decode(&raw),
    })
}

/// The element types of IDX.
#[derive(Clone, Copy)]
enum Kind {
    U8,
    I8,
    I16,
    I32,
    F32,
    F64,
}

impl Kind {
    fn of_code(code: u8) -> Option<Self> {
        match code {
            0x08 => Some(Self::U8),
            0x09 => Some(Self::I8),
            0x0b => Some(Self::I16),
            0x0c => Some(Self::I32),
            0x0d => Some(Self::F32),
            0x0e => Some(Self::F64),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn decode(self, raw: &[u8]) -> ColumnData {
        match self {
            Self::U8 => ColumnData::U8(raw.to_vec()),
            Self::I8 => ColumnData::I8(each(raw, i8::from_be_bytes)),
            Self::I16 => ColumnData::I16(each(raw, i16::from_be_bytes)),
            Self::I32 => ColumnData::I32(each(raw, i32::from_be_bytes)),
            Self::F32 => ColumnData::F32(each(raw, f32::from_be_bytes)),
            Self::F64 => ColumnData::F64(each(raw, f64::from_be_bytes)),
        }
    }
}

fn each<T, const N: usize>(raw: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks()
        .0
        .iter()
        .map(|&chunk| decode(chunk))
        .collect()
}

/// The bytes, with how many of them are read.
struct Source<'f, R> {
    file: &'f str,
    bytes: R,
    offset: u64,
}

impl<R: Read> Source<'_, R> {
    fn exactly<const N: usize>(&mut self, what: &str) -> Result<[u8; N], DataError> {
        let mut buffer = Vec::with_capacity(N);
        self.bytes
            .by_ref()
            .take(N as u64)
            .read_to_end(&mut buffer)
            .map_err(|source| self.failed(source))?;
        let read = buffer.len() as u64;
        let whole: Result<[u8; N], _> = buffer.try_into();
        let Ok(whole) = whole else {
            let wanted = format!("{what} should stand at byte {}", self.offset);
            return Err(self.error(
                self.offset + read,
                "the end of the file".to_owned(),
                &wanted,
            ));
        };
        self.offset += read;
        Ok(whole)
    }

    /// The elements: exactly `size` bytes and then the end.
    fn all(&mut self, size: usize, shape: &[usize]) -> Result<Vec<u8>, DataError> {
        let mut raw = Vec::new();
        // One byte more than wanted shows whether the file goes on.
        self.bytes
            .by_ref()
            .take(size as u64 + 1)
            .read_to_end(&mut raw)
            .map_err(|source| self.failed(source))?;
        let end = self.offset + size as u64;
        let wanted = format!("an array of shape {shape:?} ends at byte {end}");
        if raw.len() < size {
            let offset = self.offset + raw.len() as u64;
            return Err(self.error(offset, "the end of the file".to_owned(), &wanted));
        }
        if raw.len() > size {
            return Err(self.error(end, "more bytes".to_owned(), &wanted));
        }
        Ok(raw)
    }

    fn error(&self, offset: u64, found: String, wanted: &str) -> DataError {
        DataError::Idx {
            file: self.file.to_owned(),
            offset,
            found,
            wanted: wanted.to_owned(),
        }
    }

    /// Damaged gzip data is reported as the end of a file that the system's own reason explains.
    fn failed(&self, source: io::Error) -> DataError {
        if source.kind() == ErrorKind::UnexpectedEof {
            let wanted = "the compressed data goes on";
            return self.error(self.offset, "the end of the file".to_owned(), wanted);
        }
        DataError::Io {
            path: self.file.into(),
            source,
        }
    }
}

#[cfg(test)]
#[path = "idx_tests.rs"]
mod tests;
