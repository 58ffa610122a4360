//! The JSON and the binary form: what is read is written, and read again as the same graph.
#![no_main]

use kiln_ir::Graph;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let json = std::str::from_utf8(bytes).ok();
    let json = json.and_then(|json| Graph::from_json(json).ok());
    for graph in json.into_iter().chain(Graph::from_bytes(bytes).ok()) {
        let hash = graph.structural_hash();
        let json = graph
            .to_json()
            .expect("a graph that was read can be written");
        let again = Graph::from_json(&json).expect("what was written can be read");
        assert_eq!(again.structural_hash(), hash);
    }
});
