//! The readers of data sets: IDX files, and tables of numbers.
#![no_main]

use kiln_train::data::{Table, digits, idx};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(array) = idx::parse("fuzzed", bytes) {
        let count = array.shape.iter().fold(1usize, |n, d| n.saturating_mul(*d));
        assert!(count <= bytes.len());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _either = (digits("fuzzed", text), Table::parse("fuzzed", text));
    }
});
