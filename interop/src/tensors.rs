//! What the readers give and the writers take: named tensors over borrowed bytes.

use crate::bytes::Bytes;
use crate::error::FileError;
use kiln_ir::{Array, DType, EvalError, Values};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// A named tensor over borrowed bytes. The bytes always fill the shape.
#[derive(Clone, Copy, PartialEq)]
pub struct TensorRef<'a> {
    name: &'a str,
    dtype: DType,
    shape: &'a [usize],
    bytes: &'a [u8],
}

/// Bytes that are not as many as their shape has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tensor `{name}`: {found} bytes do not make {dtype}{shape:?}, which has {}", count(.wanted))]
pub struct SizeError {
    /// The tensor.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<usize>,
    /// The bytes of the shape; `None` where no memory could hold it.
    pub wanted: Option<usize>,
    /// The bytes that were given.
    pub found: usize,
}

fn count(bytes: &Option<usize>) -> String {
    match bytes {
        Some(bytes) => bytes.to_string(),
        None => "more than memory can hold".into(),
    }
}

impl<'a> TensorRef<'a> {
    /// The tensor `name` with the elements `bytes`: little-endian, row-major in `shape`, a `bool` as one byte of 0 or 1.
    ///
    /// # Errors
    /// [`SizeError`] where the bytes do not fill the shape.
    pub fn new(
        name: &'a str,
        dtype: DType,
        shape: &'a [usize],
        bytes: &'a [u8],
    ) -> Result<TensorRef<'a>, SizeError> {
        let wanted = size(dtype, shape);
        if wanted != Some(bytes.len()) {
            return Err(SizeError {
                name: name.to_owned(),
                dtype,
                shape: shape.to_vec(),
                wanted,
                found: bytes.len(),
            });
        }
        Ok(TensorRef {
            name,
            dtype,
            shape,
            bytes,
        })
    }

    /// The name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents, outermost first; empty for a single number.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The elements, little-endian and row-major. They need not begin where an element of the type may begin: that is up to the file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A copy as the interpreter's array, whatever the element type. A `u64` keeps its bits.
    ///
    /// # Errors
    /// [`EvalError`] where memory has no room for it.
    pub fn to_array(&self) -> Result<Array, EvalError> {
        macro_rules! elements {
            ($kind:ident, $type:ty, $value:expr) => {{
                let (chunks, _) = self.bytes.as_chunks::<{ size_of::<$type>() }>();
                let value: fn([u8; size_of::<$type>()]) -> _ = $value;
                Values::$kind(chunks.iter().map(|chunk| value(*chunk)).collect())
            }};
        }
        let values = match self.dtype {
            DType::F32 => elements!(Float, f32, |b| f64::from(f32::from_le_bytes(b))),
            DType::F64 => elements!(Float, f64, f64::from_le_bytes),
            DType::BF16 => elements!(Float, u16, |b| half::bf16::from_le_bytes(b).to_f64()),
            DType::F16 => elements!(Float, u16, |b| half::f16::from_le_bytes(b).to_f64()),
            DType::I8 => elements!(Int, i8, |b| i64::from(i8::from_le_bytes(b))),
            DType::I16 => elements!(Int, i16, |b| i64::from(i16::from_le_bytes(b))),
            DType::I32 => elements!(Int, i32, |b| i64::from(i32::from_le_bytes(b))),
            DType::I64 => elements!(Int, i64, i64::from_le_bytes),
            DType::U8 | DType::Bool => elements!(Int, u8, |b| i64::from(u8::from_le_bytes(b))),
            DType::U16 => elements!(Int, u16, |b| i64::from(u16::from_le_bytes(b))),
            DType::U32 => elements!(Int, u32, |b| i64::from(u32::from_le_bytes(b))),
            DType::U64 => elements!(Int, u64, i64::from_le_bytes),
        };
        Array::new(self.dtype, self.shape.to_vec(), values)
    }
}

impl fmt::Debug for TensorRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{:?}", self.name, self.dtype, self.shape)
    }
}

/// The bytes of a shape, if they can be counted. A shape with an extent of 0 has none, however large the others are.
pub(crate) fn size(dtype: DType, shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let mut extents = shape.iter();
    extents.try_fold(dtype.size(), |bytes, extent| bytes.checked_mul(*extent))
}

/// The first name that occurs for the second time.
pub(crate) fn twice<'n>(mut names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let mut seen = BTreeSet::new();
    names.find(|name| !seen.insert(*name))
}

/// The tensors of a file, in the order of their names.
///
/// The file is mapped where it was opened by its path: elements are lent where they lie, and pages that nobody reads are never loaded.
pub struct Tensors {
    file: String,
    bytes: Bytes,
    /// In the order of the names, no two of which are equal; every entry's bytes fill its shape.
    entries: Vec<Entry>,
    metadata: BTreeMap<String, String>,
    checks: Vec<Check>,
}

/// A tensor of a file.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

/// Where the elements are.
pub(crate) enum Data {
    /// In the file, as they are wanted.
    InFile(Range<usize>),
    /// In memory, since they were packed or in another order.
    Owned(Vec<u8>),
    /// In memory, or in a mapping, that others hold too.
    Shared(bytes::Bytes),
}

/// Bytes of a file with the checksum that was written with them.
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) range: Range<usize>,
    /// The checksum of what is summed before the range; 0 for nothing.
    pub(crate) before: u32,
    pub(crate) crc32: u32,
}

impl Tensors {
    /// Puts the parts of a file together and refuses two entries of one name. The ranges must lie in `bytes`, and data must fill shapes.
    pub(crate) fn new(
        file: String,
        bytes: Bytes,
        mut entries: Vec<Entry>,
        metadata: BTreeMap<String, String>,
        checks: Vec<Check>,
    ) -> Result<Tensors, FileError> {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(name) = twice(entries.iter().map(|entry| entry.name.as_str())) {
            let name = name.to_owned();
            return Err(FileError::Duplicate { file, name });
        }
        Ok(Tensors {
            file,
            bytes,
            entries,
            metadata,
            checks,
        })
    }

    /// Tensors that lie in no one file, called `what`. Of two of one name the last is taken; data must fill shapes.
    pub(crate) fn of_entries(what: String, entries: impl Iterator<Item = Entry>) -> Tensors {
        let named: BTreeMap<String, Entry> = entries.map(|e| (e.name.clone(), e)).collect();
        Tensors {
            file: what,
            bytes: Bytes::Owned(Vec::new()),
            entries: named.into_values().collect(),
            metadata: BTreeMap::new(),
            checks: Vec::new(),
        }
    }

    /// The file, or what the bytes were called.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The tensors, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TensorRef<'_>> {
        self.entries.iter().map(|entry| self.lend(entry))
    }

    /// The tensor `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<TensorRef<'_>> {
        let found = self
            .entries
            .binary_search_by(|entry| entry.name.as_str().cmp(name));
        found.ok().map(|index| self.lend(&self.entries[index]))
    }

    /// The texts that a safetensors file carries beside its tensors, without Kiln's checksum; empty for other forms.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Whether the file carries checksums, so that [`verify`](Self::verify) finds damage.
    pub fn is_checked(&self) -> bool {
        !self.checks.is_empty()
    }

    /// Reads all elements once and compares them with the checksums that the file carries. npz files have one for each tensor; safetensors
    /// files have one, of names, types and shapes too, where Kiln wrote them; npy files have none. Without any there is nothing to compare.
    ///
    /// # Errors
    /// [`FileError::Checksum`].
    pub fn verify(&self) -> Result<(), FileError> {
        for check in &self.checks {
            let mut sum = crc32fast::Hasher::new_with_initial(check.before);
            sum.update(&self.bytes[check.range.clone()]);
            let found = sum.finalize();
            if found != check.crc32 {
                return Err(FileError::Checksum {
                    file: self.file.clone(),
                    what: check.what.clone(),
                    found,
                    wanted: check.crc32,
                });
            }
        }
        Ok(())
    }

    fn lend<'t>(&'t self, entry: &'t Entry) -> TensorRef<'t> {
        let bytes = match &entry.data {
            Data::InFile(range) => &self.bytes[range.clone()],
            Data::Owned(bytes) => bytes,
            Data::Shared(bytes) => bytes,
        };
        TensorRef {
            name: &entry.name,
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes,
        }
    }
}

impl fmt::Debug for Tensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensors({}, {} tensors)", self.file, self.len())
    }
}

/// Maps the file at `path`; its name, as messages give it, comes along.
pub(crate) fn map(path: &Path) -> Result<(String, Bytes), FileError> {
    let bytes = Bytes::map(path).map_err(|source| FileError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok((path.display().to_string(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_must_fill_their_shape() {
        let message = |shape: &[usize], bytes: &[u8]| {
            let tensor = TensorRef::new("w", DType::F32, shape, bytes);
            tensor.unwrap_err().to_string()
        };
        assert!(TensorRef::new("w", DType::F32, &[2, 1], &[0; 8]).is_ok());
        assert!(TensorRef::new("w", DType::F32, &[], &[0; 4]).is_ok());
        assert!(TensorRef::new("w", DType::F32, &[usize::MAX, 0, 2], &[]).is_ok());
        assert_eq!(
            message(&[3], &[0; 8]),
            "tensor `w`: 8 bytes do not make f32[3], which has 12"
        );
        assert_eq!(
            message(&[usize::MAX, 2], &[0; 8]),
            "tensor `w`: 8 bytes do not make f32[18446744073709551615, 2], which has more than memory can hold"
        );
    }

    #[test]
    fn every_element_type_becomes_an_array() {
        let floats = |dtype, bytes: &[u8]| {
            let array = TensorRef::new("w", dtype, &[2], bytes).unwrap().to_array();
            let array = array.unwrap();
            assert_eq!(array.to_bytes(), bytes, "{dtype}, and back");
            array.floats().unwrap().to_vec()
        };
        let ints = |dtype, bytes: &[u8]| {
            let array = TensorRef::new("w", dtype, &[2], bytes).unwrap().to_array();
            let array = array.unwrap();
            assert_eq!(array.to_bytes(), bytes, "{dtype}, and back");
            array.ints().unwrap().to_vec()
        };
        let two = |a: &[u8], b: &[u8]| [a, b].concat();
        let f32s = two(&1.5f32.to_le_bytes(), &(-2f32).to_le_bytes());
        assert_eq!(floats(DType::F32, &f32s), [1.5, -2.0]);
        let f64s = two(&0.1f64.to_le_bytes(), &f64::MAX.to_le_bytes());
        assert_eq!(floats(DType::F64, &f64s), [0.1, f64::MAX]);
        assert_eq!(floats(DType::BF16, &[0x80, 0x3f, 0, 0xc0]), [1.0, -2.0]);
        assert_eq!(floats(DType::F16, &[0, 0x3c, 0, 0xc0]), [1.0, -2.0]);
        assert_eq!(ints(DType::I8, &[1, 255]), [1, -1]);
        assert_eq!(ints(DType::U8, &[1, 255]), [1, 255]);
        assert_eq!(ints(DType::Bool, &[1, 0]), [1, 0]);
        assert_eq!(ints(DType::I16, &[1, 0, 255, 255]), [1, -1]);
        assert_eq!(ints(DType::U16, &[1, 0, 255, 255]), [1, 65_535]);
        let words = two(&1u32.to_le_bytes(), &u32::MAX.to_le_bytes());
        assert_eq!(ints(DType::I32, &words), [1, -1]);
        assert_eq!(ints(DType::U32, &words), [1, i64::from(u32::MAX)]);
        let long = two(&1u64.to_le_bytes(), &u64::MAX.to_le_bytes());
        assert_eq!(ints(DType::I64, &long), [1, -1]);
        assert_eq!(ints(DType::U64, &long), [1, -1], "the bits of u64::MAX");
    }
}
