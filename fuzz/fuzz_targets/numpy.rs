//! The same bytes as an npy file and as an npz file.
#![no_main]

use kiln_interop::{Tensors, npy, npz};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let single = npy::parse("fuzzed", "x", bytes.to_vec());
    let several = npz::parse("fuzzed", bytes.to_vec());
    for tensors in [single, several].iter().flatten() {
        arrays(tensors);
    }
});

fn arrays(tensors: &Tensors) {
    for tensor in tensors.iter() {
        if let Ok(array) = tensor.to_array() {
            assert_eq!(array.shape(), tensor.shape());
        }
    }
}
