//! The text form: what is read is printed, and read again as the same graph.
#![no_main]

use kiln_ir::{Graph, TextOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(graph) = Graph::parse(text) else {
        return;
    };
    let printed = graph.to_text(TextOptions::default());
    match Graph::parse(&printed) {
        Ok(again) => assert_eq!(
            again.structural_hash(),
            graph.structural_hash(),
            "{printed}"
        ),
        Err(errors) => panic!("{errors}\n{printed}"),
    }
});
