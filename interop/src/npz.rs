//! NumPy's form of several arrays: a zip archive of npy files, whose names are those of the arrays with `.npy` behind them.
//!
//! Arrays that are stored are lent where they lie; deflated ones are unpacked when the file is opened. Kiln stores them, each beginning at
//! a multiple of 64 bytes, as `numpy.savez` does but for the multiple. Every member has a CRC-32: of a deflated one it is checked as it is unpacked,
//! of a stored one by [`Tensors::verify`].

use crate::bytes::Bytes;
use crate::error::{FileError, SaveError};
use crate::npy::{self, Place};
use crate::replace::replace_file;
use crate::tensors::{Check, Data, TensorRef, Tensors, map, twice};
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::Path;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const FORM: &str = "npz";
/// What the name of an array gets in the archive.
const SUFFIX: &str = ".npy";
/// What stored arrays are aligned to.
const ALIGNMENT: u16 = 64;
/// The most bytes that one byte of deflated data can stand for; what claims to be more is a lie.
const MAX_RATIO: u64 = 1032;

/// Maps an archive and reads the headers of its arrays.
///
/// The file must not be changed in place while the [`Tensors`] live, as for [`safetensors::open`](crate::safetensors::open).
///
/// # Errors
/// [`FileError`]: also for members that are no arrays, that are encrypted, or that are packed other than by deflate.
pub fn open(path: &Path) -> Result<Tensors, FileError> {
    let (file, bytes) = map(path)?;
    read(file, bytes)
}

/// The arrays in `bytes`, which messages call `file`.
///
/// # Errors
/// As [`open`].
pub fn parse(file: &str, bytes: Vec<u8>) -> Result<Tensors, FileError> {
    read(file.to_owned(), Bytes::Owned(bytes))
}

/// Replaces the file at `path`, whole or not at all ([`replace_file`]), with `tensors`.
///
/// # Errors
/// [`SaveError`]; the file is then as it was.
///
/// ```
/// use kiln_interop::{TensorRef, npz};
/// use kiln_ir::DType;
/// # let path = std::env::temp_dir().join(format!("kiln-npz-doc-{}.npz", std::process::id()));
/// let x = TensorRef::new("x", DType::U8, &[2, 2], &[1, 2, 3, 4])?;
/// let y = TensorRef::new("y", DType::I8, &[], &[7])?;
/// npz::save(&path, [x, y])?; // numpy.load(path)["x"]
/// assert_eq!(npz::open(&path)?.get("y"), Some(y));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn save<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = TensorRef<'a>>,
) -> Result<(), SaveError> {
    let tensors: Vec<TensorRef<'a>> = tensors.into_iter().collect();
    if let Some(name) = twice(tensors.iter().map(TensorRef::name)) {
        let name = name.to_owned();
        return Err(SaveError::Duplicate { name });
    }
    // The length of a name in an archive is two bytes.
    let fits = |name: &str| name.len() + SUFFIX.len() <= usize::from(u16::MAX);
    if let Some(tensor) = tensors.iter().find(|tensor| !fits(tensor.name())) {
        let (name, why) = (
            tensor.name().to_owned(),
            "it is longer than a name in a zip archive",
        );
        return Err(SaveError::Name { name, why });
    }
    let written = replace_file(path, |file| {
        let mut archive = ZipWriter::new(file);
        for tensor in &tensors {
            let length = npy::written_len(*tensor);
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(length > u32::MAX as usize)
                .with_alignment(ALIGNMENT);
            archive.start_file(format!("{}{SUFFIX}", tensor.name()), options)?;
            npy::write(&mut archive, *tensor)?;
        }
        archive.finish()?.flush()
    });
    written.map_err(|source| SaveError::Io {
        path: path.to_owned(),
        source,
    })
}

fn read(file: String, bytes: Bytes) -> Result<Tensors, FileError> {
    let refused = |error: ZipError| FileError::Malformed {
        file: file.clone(),
        form: FORM,
        what: error.to_string(),
    };
    let malformed = |what: &str| FileError::Malformed {
        file: file.clone(),
        form: FORM,
        what: what.to_owned(),
    };
    let mut archive = ZipArchive::new(Cursor::new(&bytes[..])).map_err(refused)?;
    if archive.has_duplicate_names() {
        return Err(malformed("two of its members have one name"));
    }
    if archive.has_overlapping_entries().map_err(refused)? {
        return Err(malformed("two of its members share bytes"));
    }
    let mut entries = Vec::new();
    let mut checks = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(refused)?;
        let full = member.name().map_err(refused)?.into_owned();
        let Some(name) = full.strip_suffix(SUFFIX) else {
            let what =
                format!("its member `{full}` is no array, of which the name ends in {SUFFIX}");
            return Err(malformed(&what));
        };
        let place = Place {
            file: &file,
            form: FORM,
            name,
        };
        let packed = member.compressed_size();
        if member.compression() == CompressionMethod::Stored {
            let start = member
                .data_start()
                .and_then(|start| usize::try_from(start).ok());
            let range = start.zip(usize::try_from(packed).ok());
            let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
            let within = range.filter(|range| range.end <= bytes.len());
            let Some(range) = within else {
                return Err(place.malformed("it is said to lie outside of the archive".into()));
            };
            checks.push(Check {
                what: format!("array `{name}`"),
                range: range.clone(),
                before: 0,
                crc32: member.crc32(),
            });
            let (header, data) = place.header(&bytes[range.clone()])?;
            let data = match header.rearranged(data) {
                Some(rearranged) => Data::Owned(rearranged),
                None => Data::InFile(range.end - data.len()..range.end),
            };
            entries.push(header.entry(name, data));
        } else {
            let claimed = member.size();
            if claimed > packed.saturating_mul(MAX_RATIO) {
                let what = format!(
                    "{packed} bytes are said to unpack to {claimed}, which no deflated data does"
                );
                return Err(place.malformed(what));
            }
            // Memory grows with what is unpacked, and one byte more than claimed is enough to see a lie.
            let mut unpacked = Vec::new();
            member
                .by_ref()
                .take(claimed.saturating_add(1))
                .read_to_end(&mut unpacked)
                .map_err(|error| place.malformed(format!("it cannot be unpacked: {error}")))?;
            let (header, data) = place.header(&unpacked)?;
            let start = unpacked.len() - data.len();
            let rearranged = header.rearranged(data);
            let data = rearranged.unwrap_or_else(|| {
                unpacked.drain(..start);
                unpacked
            });
            entries.push(header.entry(name, Data::Owned(data)));
        }
    }
    drop(archive);
    Tensors::new(file, bytes, entries, BTreeMap::new(), checks)
}
