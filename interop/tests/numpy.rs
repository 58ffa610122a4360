//! npy and npz files: those that NumPy wrote, those that Kiln writes, and bad ones.

use kiln_interop::{FileError, SaveError, TensorRef, Tensors, npy, npz, safetensors};
use kiln_ir::{DType, Values};
use std::path::{Path, PathBuf};

/// Files that `data/make.py` wrote with NumPy.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The elements as numbers, whatever the type.
fn numbers(tensor: TensorRef<'_>) -> Vec<f64> {
    let array = tensor.to_array().unwrap();
    match array.values() {
        Values::Float(values) => values.clone(),
        Values::Int(values) => values.iter().map(|value| *value as f64).collect(),
    }
}

fn check_types(read: &Tensors) {
    for dtype in DType::ALL {
        let tensor = read.get(dtype.name()).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, &[2, 3][..]));
        let wanted = match dtype {
            DType::Bool => [0.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            _ => [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        };
        assert_eq!(numbers(tensor), wanted, "{dtype}");
    }
}

#[test]
fn what_numpy_wrote_is_read() {
    for name in ["stored.npz", "deflated.npz"] {
        let read = npz::open(&data(name)).unwrap();
        read.verify().unwrap();
        assert_eq!(read.len(), DType::ALL.len() + 6);
        check_types(&read);
        let get = |name| {
            let tensor = read.get(name).unwrap();
            (tensor.dtype(), tensor.shape(), numbers(tensor))
        };
        let count = |n: i32| (0..n).map(f64::from).collect::<Vec<f64>>();
        assert_eq!(get("fortran"), (DType::I16, &[2, 3, 4][..], count(24)));
        assert_eq!(get("big"), (DType::F32, &[2, 3][..], count(6)));
        assert_eq!(get("big fortran"), (DType::I64, &[2, 3][..], count(6)));
        assert_eq!(get("scalar"), (DType::F64, &[][..], vec![1.5]));
        assert_eq!(get("vector"), (DType::I32, &[3][..], count(3)));
        assert_eq!(get("empty"), (DType::F32, &[0, 3][..], vec![]));
    }
    let read = npy::open(&data("fortran.npy")).unwrap();
    let tensor = read.get("fortran").unwrap();
    assert_eq!(
        numbers(tensor),
        (0..24).map(f64::from).collect::<Vec<f64>>()
    );
    let read = safetensors::open(&data("numpy.safetensors")).unwrap();
    check_types(&read);
    assert_eq!(read.metadata()["made by"], "safetensors");
}

#[test]
fn what_is_saved_is_read_and_lies_where_elements_may() {
    let read = npz::open(&data("deflated.npz")).unwrap();
    let path = scratch("saved.npz");
    npz::save(&path, read.iter()).unwrap();
    let again = npz::open(&path).unwrap();
    again.verify().unwrap();
    assert!(again.iter().eq(read.iter()));
    for tensor in again.iter() {
        assert!(
            tensor.bytes().as_ptr().addr().is_multiple_of(64),
            "{tensor:?}"
        );
        let path = scratch("saved.npy");
        npy::save(&path, tensor).unwrap();
        let one = npy::open(&path).unwrap();
        let one = one.get("saved").unwrap();
        assert_eq!((one.dtype(), one.shape()), (tensor.dtype(), tensor.shape()));
        assert_eq!(one.bytes(), tensor.bytes());
    }
    // NumPy's own bytes for one array.
    let fortran = npz::open(&data("stored.npz")).unwrap();
    let path = scratch("vector.npy");
    npy::save(&path, fortran.get("vector").unwrap()).unwrap();
    let mut wanted = b"\x93NUMPY\x01\0\x76\0".to_vec();
    wanted.extend(b"{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }");
    wanted.resize(127, b' ');
    wanted.extend(b"\n\0\0\0\0\x01\0\0\0\x02\0\0\0");
    assert_eq!(std::fs::read(&path).unwrap(), wanted);
}

#[test]
fn arrays_of_one_name_and_names_too_long_are_not_saved() {
    let path = scratch("refused.npz");
    let x = TensorRef::new("x", DType::U8, &[1], &[1]).unwrap();
    let error = npz::save(&path, [x, x]).unwrap_err();
    assert!(matches!(error, SaveError::Duplicate { name } if name == "x"));
    let name = "x".repeat(70_000);
    let x = TensorRef::new(&name, DType::U8, &[1], &[1]).unwrap();
    assert!(matches!(npz::save(&path, [x]), Err(SaveError::Name { .. })));
    assert!(!path.exists());
    let path = scratch("empty.npz");
    npz::save(&path, []).unwrap();
    assert!(npz::open(&path).unwrap().is_empty());
}

#[test]
fn an_axis_too_many_for_the_first_version_makes_a_second() {
    let shape = vec![1; 30_000];
    let x = TensorRef::new("x", DType::U8, &shape, &[7]).unwrap();
    let path = scratch("axes.npy");
    npy::save(&path, x).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[6], 2);
    let read = npy::parse("f", "x", bytes).unwrap();
    assert_eq!(read.get("x"), Some(x));
}

/// A file of the first version with this header and as many zero bytes behind it.
fn array(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn headers_of_other_writers_are_read() {
    for header in [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }   \n",
        "{\"shape\":(2,1,),'descr':'=f4','fortran_order':True}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 1L)}",
    ] {
        let read = npy::parse("f", "x", array(header, 8)).unwrap();
        let x = read.get("x").unwrap();
        assert_eq!((x.dtype(), x.shape()), (DType::F32, &[2, 1][..]));
    }
}

#[test]
fn a_bad_header_is_refused_with_what_is_wrong() {
    let header = |descr: &str, order: &str, shape: &str| {
        format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}")
    };
    let good = header("'<f4'", "False", "(2,)");
    let cases = [
        (vec![], "it does not begin with the six bytes"),
        (
            b"\x93NUMPY\x01".to_vec(),
            "it ends before its header begins",
        ),
        (
            b"\x93NUMPY\x09\0\0\0".to_vec(),
            "it is of version 9 of the form",
        ),
        (
            b"\x93NUMPY\x02\0\xff\xff\xff\xff{}".to_vec(),
            "its header is said to have 4294967295 bytes, but 2 follow",
        ),
        (
            array(&good, 7),
            "its header says f32[2], which 7 bytes of elements do not make",
        ),
        (array(&good, 9), "which 9 bytes"),
        (
            array(&header("'<f4'", "False", "(18446744073709551615, 2)"), 8),
            "do not make",
        ),
        (
            array(&header("'<f4'", "False", "(18446744073709551616,)"), 8),
            "no extent that can be counted",
        ),
        (
            array(&header("'<f4'", "False", "(-1,)"), 8),
            "no extent that can be counted",
        ),
        (array(&header("'<f4'", "False", "(2 2)"), 8), "no `)`"),
        (
            array(&header("'<f4'", "None", "(2,)"), 8),
            "neither True nor False",
        ),
        (
            array(&header("<f4", "False", "(2,)"), 8),
            "at byte 10 of its header is no string",
        ),
        (array("{'descr': '<f4", 8), "a string without end"),
        (
            array("{'descr': '<f4'}", 8),
            "its header has no `fortran_order`",
        ),
        (
            array("{'descr': '<f4', 'descr': '<f4'}", 8),
            "a key for the second time",
        ),
        (array("{'x': '<f4'}", 8), "a key other than descr"),
        (array(&format!("{good} 1"), 8), "more behind the dictionary"),
        (array("", 8), "no `{`"),
        (array("{'descr': '\u{e9}", 8), "a string without end"),
    ];
    for (bytes, wanted) in cases {
        let error = npy::parse("f", "x", bytes).unwrap_err().to_string();
        assert!(error.starts_with("f is not a whole npy file: "), "{error}");
        assert!(error.contains(wanted), "{error}\nshould contain {wanted}");
    }
    for (descr, found) in [
        ("'<c8'", "<c8"),
        ("'|O'", "|O"),
        ("'<U5'", "<U5"),
        ("''", ""),
        ("'é4'", "é4"),
        ("[('a', '<f4'), ('b', '<f4')]", "records"),
    ] {
        let error = npy::parse("f", "x", array(&header(descr, "False", "(1,)"), 8)).unwrap_err();
        let named = matches!(&error, FileError::DType { found: f, .. } if f == found);
        assert!(named, "{descr}: {error}");
    }
}

#[test]
fn shortened_and_damaged_files_never_panic() {
    for name in ["stored.npz", "deflated.npz"] {
        let bytes = std::fs::read(data(name)).unwrap();
        for length in 0..bytes.len() {
            assert!(
                npz::parse("f", bytes[..length].to_vec()).is_err(),
                "{name} cut to {length}"
            );
        }
        let whole = npz::parse("f", bytes.clone()).unwrap();
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << (position % 8);
            let Ok(read) = npz::parse("f", damaged) else {
                continue;
            };
            if read.verify().is_ok() {
                // Names, dates and flags have no checksum; elements have.
                let elements = |file: &Tensors| -> Vec<Vec<u8>> {
                    let mut all: Vec<Vec<u8>> = file.iter().map(|t| t.bytes().to_vec()).collect();
                    all.sort();
                    all
                };
                assert_eq!(
                    elements(&read),
                    elements(&whole),
                    "{name} damaged at {position}"
                );
            }
        }
    }
    let bytes = std::fs::read(data("fortran.npy")).unwrap();
    for length in 0..bytes.len() {
        assert!(
            npy::parse("f", "x", bytes[..length].to_vec()).is_err(),
            "{length} bytes"
        );
    }
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            if let Ok(read) = npy::parse("f", "x", damaged) {
                assert_eq!(read.get("x").unwrap().bytes().len(), 48);
            }
        }
    }
}

/// An archive of members with these names, without data, as no library would write it.
fn archive(names: &[&str]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for name in names {
        let start = bytes.len() as u32;
        let length = (name.len() as u16).to_le_bytes();
        bytes.extend(b"PK\x03\x04\x14\0\0\0\0\0\0\0\x21\0");
        bytes.extend([0; 12]);
        bytes.extend(length);
        bytes.extend([0; 2]);
        bytes.extend(name.bytes());
        directory.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\x21\0");
        directory.extend([0; 12]);
        directory.extend(length);
        directory.extend([0; 12]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.bytes());
    }
    let (start, length) = (bytes.len() as u32, directory.len() as u32);
    let count = (names.len() as u16).to_le_bytes();
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].concat());
    bytes.extend(length.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

#[test]
fn archives_of_something_else_are_refused() {
    let message = |names: &[&str]| npz::parse("f", archive(names)).unwrap_err().to_string();
    assert_eq!(
        message(&["x.npy"]),
        "f is not a whole npz file: array `x`: it does not begin with the six bytes \\x93NUMPY"
    );
    assert_eq!(
        message(&["notes.txt"]),
        "f is not a whole npz file: its member `notes.txt` is no array, of which the name ends in .npy"
    );
    assert_eq!(
        message(&["x.npy", "x.npy"]),
        "f is not a whole npz file: two of its members have one name"
    );
    assert!(npz::parse("f", b"not an archive".to_vec()).is_err());
    assert!(npz::parse("f", Vec::new()).is_err());
    let message = npz::open(&scratch("missing.npz")).unwrap_err().to_string();
    assert!(message.starts_with("cannot read "), "{message}");
}
