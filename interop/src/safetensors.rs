//! The form of weights that Hugging Face, PyTorch and JAX exchange: <https://github.com/huggingface/safetensors>.
//!
//! Eight bytes give the length of a JSON header, little-endian; it maps names to element types, shapes and byte ranges of the data that
//! follows. The `safetensors` crate decides what a valid header is; what it lets pass and Kiln does not are names that occur twice, of
//! which it keeps one, and element types that Kiln lacks.
//!
//! Kiln writes a CRC-32 among the texts of the header, under `kiln.checksum`, so that [`Tensors::verify`] can tell whether a file was
//! damaged: that of the header without this text, as Kiln writes it, and the data behind it. Files are the same, byte for byte, whatever the order in which tensors were given.

use crate::bytes::Bytes;
use crate::error::{FileError, SaveError};
use crate::replace::replace_file;
use crate::tensors::{Check, Data, Entry, TensorRef, Tensors, map, size, twice};
use kiln_ir::DType;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::Path;

const FORM: &str = "safetensors";
/// The key of the texts among the tensors.
const TEXTS: &str = "__metadata__";
/// The text under which Kiln keeps the checksum, as eight hexadecimal digits.
const CHECKSUM: &str = "kiln.checksum";
/// The bytes that hold the length of the header.
const LENGTH: usize = size_of::<u64>();
/// The longest header, which is that of the `safetensors` crate.
const MAX_HEADER: usize = 100_000_000;

/// Maps a file and reads its header; elements are lent where they lie.
///
/// As long as the [`Tensors`] live, the file must not be changed in place or shortened by anyone: its bytes are memory of this process.
/// To replace it by renaming another over it, as [`save`] does, is harmless. Where that cannot be promised, read the file and use [`parse`].
///
/// # Errors
/// [`FileError`], but [`FileError::Checksum`], which only [`Tensors::verify`] looks for.
///
/// ```
/// use kiln_interop::{TensorRef, safetensors};
/// use kiln_ir::DType;
/// # let path = std::env::temp_dir().join(format!("kiln-safetensors-doc-{}", std::process::id()));
/// let bytes: Vec<u8> = [1.0f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
/// let weights = TensorRef::new("fc1/w", DType::F32, &[2, 1], &bytes)?;
/// safetensors::save(&path, [weights], &Default::default())?;
///
/// let file = safetensors::open(&path)?;
/// let weights = file.get("fc1/w").ok_or("it was saved")?;
/// assert_eq!((weights.dtype(), weights.shape()), (DType::F32, &[2, 1][..]));
/// assert_eq!(weights.bytes(), bytes);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(path: &Path) -> Result<Tensors, FileError> {
    let (file, bytes) = map(path)?;
    read(file, bytes)
}

/// The tensors in `bytes`, which messages call `file`.
///
/// # Errors
/// As [`open`].
pub fn parse(file: &str, bytes: Vec<u8>) -> Result<Tensors, FileError> {
    read(file.to_owned(), Bytes::Owned(bytes))
}

/// Replaces the file at `path`, whole or not at all ([`replace_file`]), with `tensors` and the texts `metadata`.
///
/// # Errors
/// [`SaveError`]; the file is then as it was.
pub fn save<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = TensorRef<'a>>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), SaveError> {
    let mut tensors: Vec<TensorRef<'a>> = tensors.into_iter().collect();
    check_names(&tensors, metadata)?;
    // The largest elements first, so that all of them begin where an element may begin; the form recommends this order.
    tensors.sort_by(|a, b| (b.dtype().size(), a.name()).cmp(&(a.dtype().size(), b.name())));
    let header = header(&tensors, metadata)?;
    let written = replace_file(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors
            .iter()
            .try_for_each(|tensor| file.write_all(tensor.bytes()))
    });
    written.map_err(|source| SaveError::Io {
        path: path.to_owned(),
        source,
    })
}

fn check_names(
    tensors: &[TensorRef<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<(), SaveError> {
    if tensors.iter().any(|tensor| tensor.name() == TEXTS) {
        let (name, why) = (
            TEXTS.to_owned(),
            "in the form it holds the texts beside the tensors",
        );
        return Err(SaveError::Name { name, why });
    }
    if let Some(name) = twice(tensors.iter().map(TensorRef::name)) {
        let name = name.to_owned();
        return Err(SaveError::Duplicate { name });
    }
    if metadata.contains_key(CHECKSUM) {
        let name = CHECKSUM.to_owned();
        let why = "it holds the checksum, which is written with every file";
        return Err(SaveError::Name { name, why });
    }
    Ok(())
}

/// The header of `tensors` in this order, padded so that the data begins at a multiple of eight bytes.
fn header(
    tensors: &[TensorRef<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, SaveError> {
    let too_large = |what: String| SaveError::TooLarge { form: FORM, what };
    let mut infos = Vec::with_capacity(tensors.len());
    let mut end = 0usize;
    for tensor in tensors {
        let start = end;
        end = start
            .checked_add(tensor.bytes().len())
            .ok_or_else(|| too_large("the data has more bytes than can be counted".into()))?;
        let info = TensorInfo {
            dtype: to_file(tensor.dtype()),
            shape: tensor.shape().to_vec(),
            data_offsets: (start, end),
        };
        infos.push((tensor.name().to_owned(), info));
    }
    // What Kiln writes, every reader must be able to read: the crate's own check has the last word.
    Metadata::new(None, infos.clone()).map_err(|error| too_large(error.to_string()))?;
    let mut header = Header {
        texts: metadata.clone(),
        tensors: infos,
    };
    let unwritten = |error: serde_json::Error| too_large(format!("its header: {error}"));
    let mut checksum = header.checksum().map_err(unwritten)?;
    tensors.iter().for_each(|t| checksum.update(t.bytes()));
    let checksum = digits(checksum.finalize());
    header.texts.insert(CHECKSUM.to_owned(), checksum);
    let mut text = serde_json::to_vec(&header).map_err(unwritten)?;
    text.resize(text.len().next_multiple_of(LENGTH), b' ');
    if text.len() > MAX_HEADER {
        let what = format!(
            "their names and shapes take {} bytes, and the form allows {MAX_HEADER}",
            text.len()
        );
        return Err(too_large(what));
    }
    Ok(text)
}

fn read(file: String, bytes: Bytes) -> Result<Tensors, FileError> {
    let malformed = |what: String| FileError::Malformed {
        file: file.clone(),
        form: FORM,
        what,
    };
    let total = bytes.len();
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        let what =
            format!("it has {total} bytes, and the length of its header alone takes {LENGTH}");
        return Err(malformed(what));
    };
    let length = u64::from_le_bytes(*length);
    let too_long = format!(
        "its first {LENGTH} bytes say that the header has {length} bytes, but {} follow",
        rest.len()
    );
    let header = usize::try_from(length)
        .ok()
        .and_then(|length| rest.split_at_checked(length));
    let Some((header, data)) = header else {
        return Err(malformed(too_long));
    };
    if header.len() > MAX_HEADER {
        let what = format!("its header has {length} bytes, and the form allows {MAX_HEADER}");
        return Err(malformed(what));
    }
    let unfit =
        |error: serde_json::Error| malformed(format!("its header is not as it should be: {error}"));
    let mut header: Header = serde_json::from_slice(header).map_err(unfit)?;
    let start = total - data.len();
    let present = data.len();

    let mut checks = Vec::new();
    if let Some(text) = header.texts.remove(CHECKSUM) {
        let crc32 = u32::from_str_radix(&text, 16).ok();
        let Some(crc32) = crc32.filter(|crc32| digits(*crc32) == text) else {
            return Err(malformed(format!(
                "its text `{CHECKSUM}` is {text:?}, where eight hexadecimal digits belong"
            )));
        };
        checks.push(Check {
            what: "what it holds".into(),
            range: start..total,
            before: header.checksum().map_err(unfit)?.finalize(),
            crc32,
        });
    }
    let Header {
        texts,
        tensors: mut infos,
    } = header;
    // Here and not only in `Tensors::new`, since two entries of one name would be reported as an overlap.
    if let Some(name) = twice(infos.iter().map(|(name, _)| name.as_str())) {
        let name = name.to_owned();
        return Err(FileError::Duplicate { file, name });
    }
    infos.sort_by_key(|(_, info)| info.data_offsets);
    let mut entries = Vec::with_capacity(infos.len());
    for (name, info) in &infos {
        let Some(dtype) = from_file(info.dtype) else {
            return Err(FileError::DType {
                file,
                name: name.clone(),
                found: info.dtype.to_string(),
            });
        };
        let (first, end) = info.data_offsets;
        if first > end || end > present {
            let what = format!(
                "tensor `{name}` is said to be at the bytes {first}..{end} of the data, which has {present}"
            );
            return Err(malformed(what));
        }
        if size(dtype, &info.shape) != Some(end - first) {
            let what = format!(
                "tensor `{name}` is said to be {dtype}{:?} in the {} bytes {first}..{end} of the data, which do not make that shape",
                info.shape,
                end - first
            );
            return Err(malformed(what));
        }
        entries.push(Entry {
            name: name.clone(),
            dtype,
            shape: info.shape.clone(),
            data: Data::InFile(start + first..start + end),
        });
    }
    // The crate's own check: the tensors lie one behind the other without gap or overlap.
    let checked = Metadata::new(None, infos).map_err(|error| {
        malformed(format!(
            "the tensors do not lie one behind the other: {error}"
        ))
    })?;
    if checked.data_len() != present {
        let what = format!(
            "its tensors end at byte {} of the data, which has {present}",
            checked.data_len()
        );
        return Err(malformed(what));
    }
    Tensors::new(file, bytes, entries, texts, checks)
}

/// The header as it stands in the file: all entries, those of one name included.
struct Header {
    texts: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl Header {
    /// The checksum of the header, which the texts must not hold yet, to be continued with the data.
    fn checksum(&self) -> serde_json::Result<crc32fast::Hasher> {
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&serde_json::to_vec(self)?);
        Ok(checksum)
    }
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.tensors.len() + 1))?;
        map.serialize_entry(TEXTS, &self.texts)?;
        for (name, info) in &self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names to tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut texts = None;
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name != TEXTS {
                        tensors.push((name, map.next_value()?));
                    } else if texts.replace(map.next_value()?).is_some() {
                        return Err(A::Error::duplicate_field(TEXTS));
                    }
                }
                let texts = texts.unwrap_or_default();
                Ok(Header { texts, tensors })
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

fn digits(crc32: u32) -> String {
    format!("{crc32:08x}")
}

fn to_file(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::Bool => Dtype::BOOL,
    }
}

/// Kiln's element type; the crate's enumeration is open and has narrow floats and complex numbers as well.
fn from_file(dtype: Dtype) -> Option<DType> {
    DType::ALL.into_iter().find(|own| to_file(*own) == dtype)
}
