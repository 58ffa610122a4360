//! A model that is read and imported; what is imported is a graph that verifies.
#![no_main]

use kiln_interop::onnx::{ImportOptions, Model};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::from_bytes("fuzzed", bytes.to_vec()) else {
        return;
    };
    if let Ok(import) = model.import(&ImportOptions::default()) {
        if let Err(violations) = kiln_ir::verify(&import.graph) {
            panic!("{violations}");
        }
    }
});
