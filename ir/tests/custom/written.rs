//! What needs no code: text, JSON, binary form, DOT, hash, verifier. And what the code computes.

use crate::{f64s, repeated};
use kiln_ir::{Graph, TextOptions, eval, verify};

const TEXT: &str = r#"kiln 1
graph @repeated<b>(%x: f64[b, 3]) {
  %0: f64[2*b, 3] = custom_call %x {target = "custom/repeat", by = "0.5", results = (f64[2*b, 3], i64[])}
  %1: f64[2*b, 3] = part %0 {index = [0]}
  %2: i64[] = part %0 {index = [1]}
  %3: f64[2*b, 3] = add %1, 1.0
  return y: %3, rows: %2
}
"#;

/// The name is one that no test registers.
fn unknown() -> Graph {
    let text = TEXT.replace("custom/repeat", "custom/written elsewhere");
    Graph::parse(&text).expect("a text")
}

#[test]
fn a_call_prints_with_its_name_its_attributes_and_the_types_of_its_results() {
    let graph = repeated();
    let parsed = Graph::parse(TEXT).expect("a text");
    assert_eq!(parsed.structural_hash(), graph.structural_hash(), "{graph}");
    let options = TextOptions::default();
    assert_eq!(graph.to_text(options), TEXT);
}

#[test]
fn every_written_form_comes_back_without_the_op() {
    let graph = unknown();
    assert!(verify(&graph).is_ok());
    let printed = graph.to_string();
    assert_eq!(Graph::parse(&printed).expect("a text").to_string(), printed);
    let json = graph.to_json().expect("JSON");
    assert_eq!(Graph::from_json(&json).expect("a graph"), graph);
    let bytes = graph.to_bytes().expect("bytes");
    assert_eq!(Graph::from_bytes(&bytes).expect("a graph"), graph);
    assert!(graph.to_dot().contains("custom_call"));
    // The name and the attributes are part of what the graph computes.
    let other = TEXT.replace("0.5", "0.25");
    let other = Graph::parse(&other).expect("a text");
    assert_ne!(other.structural_hash(), repeated().structural_hash());
    assert_ne!(unknown().structural_hash(), repeated().structural_hash());
}

#[test]
fn a_call_is_interpreted_at_any_size() {
    let graph = repeated();
    for rows in [0, 1, 3] {
        let values: Vec<f64> = (0..3 * rows).map(|i| i as f64).collect();
        let x = f64s(&[rows, 3], &values);
        let step = eval(&graph, |_| Some(x.clone())).expect("a step");
        let half: Vec<f64> = values.iter().map(|x| x * 0.5 + 1.0).collect();
        assert_eq!(step.outputs[0], f64s(&[2 * rows, 3], &half.repeat(2)));
        assert_eq!(step.outputs[1].ints().expect("integers"), [2 * rows as i64]);
    }
}
