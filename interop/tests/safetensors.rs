//! safetensors files: what is written is read, by the reference reader too, and a bad file is an error that says why.

use kiln_interop::{FileError, SaveError, TensorRef, Tensors, safetensors};
use kiln_ir::DType;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A file with this header and as many bytes of data, each its own number.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend((0..data).map(|i| i as u8));
    bytes
}

fn refusal(bytes: Vec<u8>) -> String {
    safetensors::parse("f", bytes).unwrap_err().to_string()
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

/// One tensor of each element type, each of two elements whose bytes are 0 and 1.
fn one_of_each() -> Vec<(String, DType, Vec<u8>)> {
    let one = |dtype: DType| {
        let bytes = (0..2 * dtype.size()).map(|i| (i % 2) as u8).collect();
        (format!("a/{dtype}"), dtype, bytes)
    };
    DType::ALL.into_iter().map(one).collect()
}

#[test]
fn every_element_type_comes_back() {
    let path = scratch("every.safetensors");
    let all = one_of_each();
    let tensors = all
        .iter()
        .map(|(name, dtype, bytes)| TensorRef::new(name, *dtype, &[1, 2], bytes));
    let tensors: Vec<TensorRef> = tensors.collect::<Result<_, _>>().unwrap();
    let metadata = texts(&[("epoch", "7"), ("graph", "größe")]);
    safetensors::save(&path, tensors.iter().copied(), &metadata).unwrap();
    let read = safetensors::open(&path).unwrap();
    assert_eq!(read.len(), DType::ALL.len());
    for tensor in tensors {
        assert_eq!(read.get(tensor.name()), Some(tensor));
        let lent = read.get(tensor.name()).unwrap().bytes().as_ptr().addr();
        assert!(lent.is_multiple_of(tensor.dtype().size()), "{tensor:?}");
    }
    assert_eq!(read.metadata(), &metadata, "without the checksum");
    read.verify().unwrap();
    assert!(read.get("a/f31").is_none());
}

#[test]
fn numbers_and_empty_tensors_come_back() {
    let path = scratch("small.safetensors");
    let number = TensorRef::new("step", DType::I64, &[], &[7, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let empty = TensorRef::new("none", DType::F32, &[3, 0], &[]).unwrap();
    safetensors::save(&path, [number, empty], &BTreeMap::new()).unwrap();
    let read = safetensors::open(&path).unwrap();
    assert_eq!(read.iter().collect::<Vec<_>>(), [empty, number], "by name");
    safetensors::save(&path, [], &BTreeMap::new()).unwrap();
    assert!(safetensors::open(&path).unwrap().is_empty());
}

#[test]
fn the_reference_reader_agrees() {
    let path = scratch("reference.safetensors");
    let all = one_of_each();
    let tensors = all
        .iter()
        .map(|(name, dtype, bytes)| TensorRef::new(name, *dtype, &[2], bytes).unwrap());
    safetensors::save(&path, tensors, &texts(&[("k", "v")])).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let reference = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let own = safetensors::open(&path).unwrap();
    assert_eq!(reference.len(), own.len());
    for (name, tensor) in reference.iter() {
        let own = own.get(name).unwrap();
        assert_eq!((tensor.shape(), tensor.data()), (own.shape(), own.bytes()));
    }
    // And what the reference writes is read.
    let views = reference.iter().collect::<Vec<_>>();
    let written = ::safetensors::serialize(views, None).unwrap();
    let again = safetensors::parse("reference", written).unwrap();
    assert!(again.iter().eq(own.iter()));
    assert!(again.metadata().is_empty());
    again.verify().unwrap();
}

#[test]
fn files_do_not_depend_on_the_order_of_their_tensors() {
    let (first, second) = (scratch("order1.safetensors"), scratch("order2.safetensors"));
    let all = one_of_each();
    let tensors = all
        .iter()
        .map(|(name, dtype, bytes)| TensorRef::new(name, *dtype, &[2], bytes).unwrap());
    let metadata = texts(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    safetensors::save(&first, tensors.clone(), &metadata).unwrap();
    safetensors::save(&second, tensors.rev(), &metadata).unwrap();
    assert_eq!(
        std::fs::read(first).unwrap(),
        std::fs::read(second).unwrap()
    );
}

#[test]
fn any_order_of_the_data_is_read() {
    let header = r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"I16","shape":[1,1],"data_offsets":[2,4]}}"#;
    let read = safetensors::parse("f", file(header, 4)).unwrap();
    assert_eq!(read.get("a").unwrap().bytes(), [2, 3]);
    assert_eq!(read.get("b").unwrap().bytes(), [0, 1]);
    assert_eq!(read.get("a").unwrap().shape(), [1, 1]);
}

#[test]
fn a_name_that_occurs_twice_is_refused() {
    let entry = r#"{"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#;
    for header in [
        format!(r#"{{"w":{entry},"w":{entry}}}"#),
        format!(r#"{{"w":{entry},"v":{entry},"\u0077":{entry}}}"#),
    ] {
        let error = safetensors::parse("f", file(&header, 2)).unwrap_err();
        assert!(
            matches!(&error, FileError::Duplicate { name, .. } if name == "w"),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            "f: two tensors are named `w`; a name must be unique in a file"
        );
    }
    let header = r#"{"__metadata__":{},"__metadata__":{}}"#;
    assert!(refusal(file(header, 0)).contains("duplicate field `__metadata__`"));

    let path = scratch("twice.safetensors");
    let w = TensorRef::new("w", DType::U8, &[1], &[1]).unwrap();
    let error = safetensors::save(&path, [w, w], &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, SaveError::Duplicate { name } if name == "w"));
    assert!(!path.exists());
}

#[test]
fn names_that_the_form_needs_are_refused() {
    let path = scratch("names.safetensors");
    let w = TensorRef::new("__metadata__", DType::U8, &[1], &[1]).unwrap();
    let message = safetensors::save(&path, [w], &BTreeMap::new())
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("nothing may be saved under the name `__metadata__`"),
        "{message}"
    );
    let metadata = texts(&[("kiln.checksum", "0")]);
    let message = safetensors::save(&path, [], &metadata)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`kiln.checksum`: it holds the checksum"),
        "{message}"
    );
    assert!(!path.exists());
}

#[test]
fn a_header_that_lies_is_refused_with_what_is_wrong() {
    let one = |shape: &str, offsets: &str| {
        let header =
            format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
        refusal(file(&header, 8))
    };
    let two = |first: &str, second: &str| {
        let header = format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{first}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#
        );
        refusal(file(&header, 8))
    };
    let cases = [
        (
            one("[3]", "[0,8]"),
            "tensor `w` is said to be f32[3] in the 8 bytes 0..8 of the data, which do not make that shape",
        ),
        (
            one("[3]", "[0,12]"),
            "tensor `w` is said to be at the bytes 0..12 of the data, which has 8",
        ),
        (one("[2]", "[8,0]"), "at the bytes 8..0"),
        (
            one("[18446744073709551615,18446744073709551615]", "[0,8]"),
            "do not make that shape",
        ),
        (
            one("[9223372036854775808,2]", "[0,0]"),
            "do not make that shape",
        ),
        (
            one("[18446744073709551616]", "[0,8]"),
            "its header is not as it should be: ",
        ),
        (one("[-1]", "[0,8]"), "invalid value: integer `-1`"),
        (
            one("[1]", "[0,4]"),
            "its tensors end at byte 4 of the data, which has 8",
        ),
        (
            two("[0,4]", "[2,6]"),
            "the tensors do not lie one behind the other: invalid offset for tensor `b`",
        ),
        (
            two("[0,4]", "[0,4]"),
            "the tensors do not lie one behind the other",
        ),
        (
            refusal(file("{}", 1)),
            "its tensors end at byte 0 of the data, which has 1",
        ),
        (
            refusal(file("[1]", 0)),
            "its header is not as it should be: invalid type: sequence, expected a map from names to tensors",
        ),
        (
            refusal(file("{\"\u{7f}", 0)),
            "its header is not as it should be: EOF",
        ),
        (
            refusal(file(r#"{"__metadata__":{"kiln.checksum":"yes"}}"#, 0)),
            r#"its text `kiln.checksum` is "yes", where eight hexadecimal digits belong"#,
        ),
        (
            refusal(vec![]),
            "it has 0 bytes, and the length of its header alone takes 8",
        ),
        (refusal(vec![0; 7]), "it has 7 bytes"),
        (
            refusal(vec![0; 8]),
            "its header is not as it should be: EOF while parsing a value",
        ),
        (
            refusal(vec![255; 16]),
            "its first 8 bytes say that the header has 18446744073709551615 bytes, but 8 follow",
        ),
        (
            refusal(b"PK\x03\x04 this is a zip".to_vec()),
            "its first 8 bytes say",
        ),
    ];
    for (message, wanted) in cases {
        assert!(
            message.contains(wanted),
            "{message}\nshould contain {wanted}"
        );
        assert!(
            message.starts_with("f is not a whole safetensors file: "),
            "{message}"
        );
    }
}

#[test]
fn an_element_type_that_kiln_lacks_is_named() {
    let header = r#"{"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#;
    let message = refusal(file(header, 2));
    assert!(
        message.starts_with("f: tensor `w` has elements of type F8_E4M3, which Kiln does not have"),
        "{message}"
    );
    let header = header.replace("F8_E4M3", "F33");
    assert!(refusal(file(&header, 2)).contains("unknown variant `F33`"));
}

/// A file of two tensors, and where its data begins.
fn good() -> (Vec<u8>, usize) {
    let path = scratch(&format!(
        "good-{:?}.safetensors",
        std::thread::current().id()
    ));
    let a = TensorRef::new("a", DType::F32, &[3], &[1; 12]).unwrap();
    let b = TensorRef::new("b", DType::U8, &[2, 2], &[2; 4]).unwrap();
    safetensors::save(&path, [a, b], &texts(&[("k", "v")])).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let start = bytes.len() - 16;
    (bytes, start)
}

#[test]
fn every_shortened_or_lengthened_file_is_refused() {
    let (bytes, _) = good();
    for length in 0..bytes.len() {
        assert!(
            safetensors::parse("f", bytes[..length].to_vec()).is_err(),
            "{length} bytes"
        );
    }
    assert!(safetensors::parse("f", [&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn a_damaged_byte_is_found_wherever_it_is() {
    let (bytes, start) = good();
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            let read = safetensors::parse("f", damaged);
            if position >= start {
                let error = read.unwrap().verify().unwrap_err();
                assert!(matches!(error, FileError::Checksum { .. }), "{error}");
            } else if let Ok(read) = read {
                // Only the name of the checksum itself can become another unseen.
                let sound = read.verify().is_ok();
                assert!(!sound || !read.is_checked(), "byte {position}");
                let sizes = read.iter().map(|tensor| tensor.bytes().len());
                assert_eq!(sizes.sum::<usize>(), bytes.len() - start);
            }
        }
    }
}

#[test]
fn a_file_that_is_not_there_or_no_file_is_refused_with_its_path() {
    let path = scratch("no such file");
    let message = safetensors::open(&path).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("cannot read {}: ", path.display())),
        "{message}"
    );
    let folder = scratch("");
    let message = safetensors::open(&folder).unwrap_err().to_string();
    assert!(message.ends_with("it is not a regular file"), "{message}");
}

#[test]
fn saving_over_a_file_that_is_open_leaves_its_reader_alone() {
    let path = scratch("over.safetensors");
    let w = |bytes: &'static [u8; 2]| TensorRef::new("w", DType::U8, &[2], bytes).unwrap();
    safetensors::save(&path, [w(&[1, 2])], &BTreeMap::new()).unwrap();
    let before: Tensors = safetensors::open(&path).unwrap();
    safetensors::save(&path, [w(&[3, 4])], &BTreeMap::new()).unwrap();
    assert_eq!(before.get("w").unwrap().bytes(), [1, 2]);
    before.verify().unwrap();
    assert_eq!(
        safetensors::open(&path).unwrap().get("w").unwrap().bytes(),
        [3, 4]
    );
}
