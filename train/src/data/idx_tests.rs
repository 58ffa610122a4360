//! Tests of the IDX reader: every way in which a file can be wrong is refused by place.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;

/// An IDX file of this type code and shape over these bytes.
fn file(code: u8, shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, code, shape.len() as u8];
    shape
        .iter()
        .for_each(|axis| bytes.extend(axis.to_be_bytes()));
    bytes.extend(data);
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    parse("f", bytes).unwrap_err().to_string()
}

#[test]
fn every_element_type_is_read_big_endian() {
    let array = parse("f", &file(0x08, &[2, 3], &[1, 2, 3, 4, 5, 255])[..]).unwrap();
    assert_eq!(array.shape, [2, 3]);
    assert_eq!(array.data, ColumnData::U8(vec![1, 2, 3, 4, 5, 255]));
    let cases = [
        (0x09, vec![0xff], ColumnData::I8(vec![-1])),
        (0x0b, vec![0x01, 0x02], ColumnData::I16(vec![258])),
        (
            0x0c,
            vec![0xff, 0xff, 0xff, 0xfe],
            ColumnData::I32(vec![-2]),
        ),
        (
            0x0d,
            1.5f32.to_be_bytes().to_vec(),
            ColumnData::F32(vec![1.5]),
        ),
        (
            0x0e,
            (-0.1f64).to_be_bytes().to_vec(),
            ColumnData::F64(vec![-0.1]),
        ),
    ];
    for (code, data, wanted) in cases {
        assert_eq!(
            parse("f", &file(code, &[1], &data)[..]).unwrap().data,
            wanted
        );
    }
}

#[test]
fn a_wrong_header_is_named() {
    assert_eq!(
        refusal(&[0x89, b'P', b'N', b'G', 0]),
        "f: at byte 0: found the bytes 0x89 0x50, but an IDX file begins with two zero bytes"
    );
    let wrong_type = refusal(&file(0x0a, &[1], &[0]));
    assert!(
        wrong_type.starts_with("f: at byte 2: found the element type 0x0a"),
        "{wrong_type}"
    );
}

#[test]
fn a_file_cut_anywhere_is_refused_at_the_cut() {
    let whole = file(0x0c, &[2, 1], &[0; 8]);
    assert!(parse("f", &whole[..]).is_ok());
    for cut in 0..whole.len() {
        let refusal = refusal(&whole[..cut]);
        let wanted = format!("f: at byte {cut}: found the end of the file, but ");
        assert!(refusal.starts_with(&wanted), "cut at {cut}: {refusal}");
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = file(0x08, &[3], &[1, 2, 3]);
    bytes.push(0);
    assert_eq!(
        refusal(&bytes),
        "f: at byte 11: found more bytes, but an array of shape [3] ends at byte 11"
    );
}

#[test]
fn absurd_sizes_are_refused_without_memory_for_them() {
    let overflow = refusal(&file(0x08, &[u32::MAX, u32::MAX, u32::MAX], &[]));
    assert!(
        overflow.starts_with("f: at byte 4: found the shape [4294967295, "),
        "{overflow}"
    );
    let large = refusal(&file(0x0e, &[1 << 30], &[]));
    assert!(large.contains("at most 4294967295 bytes"), "{large}");
    // Just within the limit: only what is there is read, so this is a short file and no more.
    let short = refusal(&file(0x08, &[u32::MAX], &[0; 5]));
    assert!(
        short.starts_with("f: at byte 13: found the end of the file"),
        "{short}"
    );
    // An axis of length 0 makes the array empty however long the others are.
    let empty = parse(
        "f",
        &file(0x08, &[u32::MAX, 0, u32::MAX, u32::MAX], &[])[..],
    )
    .unwrap();
    assert_eq!(empty.data.len(), 0);
}

#[test]
fn a_gzipped_file_is_the_same_array() {
    let folder = std::env::temp_dir().join(format!("kiln-idx-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let plain = file(0x08, &[4], &[9, 8, 7, 6]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&plain).unwrap();
    let packed = encoder.finish().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };

    let array = read(&write("plain", &plain)).unwrap();
    assert_eq!(read(&write("packed", &packed)).unwrap(), array);
    for cut in 0..packed.len() {
        let error = read(&write("cut", &packed[..cut])).unwrap_err().to_string();
        assert!(error.contains("cut"), "the file is named: {error}");
    }
    let mut damaged = packed.clone();
    let checksum = packed.len() - 8;
    damaged[checksum] ^= 1;
    let error = read(&write("damaged", &damaged)).unwrap_err();
    assert!(matches!(error, DataError::Io { .. }), "{error}");
    let error = read(&folder.join("absent")).unwrap_err().to_string();
    assert!(error.contains("absent"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}
