//! A safetensors file: every tensor that it has can be lent, and becomes an array of its shape.
#![no_main]

use kiln_interop::safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(tensors) = safetensors::parse("fuzzed", bytes.to_vec()) else {
        return;
    };
    let _checked = tensors.verify();
    for tensor in tensors.iter() {
        if let Ok(array) = tensor.to_array() {
            assert_eq!(array.shape(), tensor.shape());
        }
    }
});
