//! JSON and the binary form: round trips, damage, and the structural hash.

mod common;

use common::{Choices, random_graph, with_nodes, without_provenance};
use kiln_ir::ops::{Op, Source};
use kiln_ir::{Builder, DType, Graph, Init, Invariant, SerialError, verify};
use proptest::prelude::*;

/// A graph with a symbol, a literal, dense data, an update and an initialiser of infinity, which JSON has no number for.
fn example(name: &str) -> Graph {
    let g = Builder::new(name);
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b, 2));
    let w = g.state("w", DType::F32, [2], Init::Constant(f64::NEG_INFINITY));
    let y = x * g.constant([2], &[1.0f32, f32::NAN]) + 0.5;
    g.update(w, w.maximum(y.reduce(kiln_ir::ops::ReduceKind::Max, &[0])));
    g.output("y", y);
    g.finish().unwrap()
}

#[test]
fn json_is_readable_and_says_what_is_wrong() {
    let graph = example("g");
    let json = graph.to_json().unwrap();
    for part in [
        "\"kiln\": 1",
        "\"name\": \"g\"",
        "\"constant(-inf)\"",
        "\"b\",",
        "\"0000803f0000c07f\"",
    ] {
        assert!(json.contains(part), "{part} in {json}");
    }
    assert_eq!(Graph::from_json(&json).unwrap(), graph);
    let message = |json: &str| Graph::from_json(json).unwrap_err().to_string();
    assert!(
        message("{\"kiln\": 1}")
            .starts_with("the JSON is not that of a graph: missing field `graph`")
    );
    assert!(message(&json.replace("0000803f", "0000803")).contains("two hexadecimal digits"));
    assert!(
        message(&json.replace("constant(-inf)", "glorot(1)")).contains("expected an initialiser")
    );
    assert!(
        message(&json.replace("\"b\",", "\"b +\","))
            .contains("expected a number or a name at offset")
    );
    assert!(message(&"[".repeat(100_000)).starts_with("the JSON is not that of a graph"));
    let lie = json.replacen("\"f32\"", "\"f64\"", 1);
    let Err(SerialError::Invalid(violations)) = Graph::from_json(&lie) else {
        panic!("a type that the rule does not give was read");
    };
    assert_eq!(violations.0[0].invariant, Invariant::Rule);
}

#[test]
fn polynomials_of_files_are_bounded_before_any_rule_multiplies_them() {
    let sum: Vec<String> = (0..200).map(|i| format!("s{i}")).collect();
    let json = example("g").to_json().unwrap();
    let start = json.find("\"b\",").unwrap();
    let long = format!("\"{}\",", sum.join(" + "));
    let hostile = format!("{}{}{}", &json[..start], long.repeat(20), &json[start..]);
    assert!(
        Graph::from_json(&hostile)
            .unwrap_err()
            .to_string()
            .contains("too long a polynomial")
    );
}

#[test]
fn claims_of_length_do_not_allocate() {
    let bytes = example("g").to_bytes().unwrap();
    // The name's length, and then the number of nodes, become huge.
    for at in [6, 8] {
        let mut hostile = bytes[..at].to_vec();
        hostile.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        hostile.extend(&bytes[at + 1..]);
        assert!(matches!(
            Graph::from_bytes(&hostile),
            Err(SerialError::Binary(_))
        ));
    }
    assert!(matches!(
        Graph::from_bytes(&bytes[..bytes.len() - 1]),
        Err(SerialError::Binary(_))
    ));
}

#[test]
fn the_hash_covers_the_computation_and_nothing_else() {
    let graph = example("g");
    let hash = graph.structural_hash();
    // Part of the definition: it must not change from run to run, nor from machine to machine.
    assert_eq!(format!("{hash:032x}"), HASH);
    assert_eq!(example("another name").structural_hash(), hash);
    assert_eq!(without_provenance(&graph).structural_hash(), hash);
    assert_eq!(graph.canonical().structural_hash(), hash);
    assert_eq!(
        Graph::parse(&graph.to_string()).unwrap().structural_hash(),
        hash
    );
    let other = |change: fn(&mut kiln_ir::Node)| {
        with_nodes(&graph, |_, node| {
            let mut node = node.clone();
            change(&mut node);
            node
        })
        .structural_hash()
    };
    let literal = other(|n| {
        if let Op::Constant(c) = &mut n.op
            && c.as_splat().is_some()
        {
            *c = kiln_ir::ops::Constant::splat(c.ty.clone(), 0.25);
        }
    });
    let data = other(|n| {
        if let Op::Constant(c) = &mut n.op
            && c.as_dense().is_some()
        {
            *c = kiln_ir::ops::Constant::dense(
                c.ty.clone(),
                kiln_ir::ops::Dense::from_elements(&[1.0f32, 2.0]),
            );
        }
    });
    let dtype = other(|n| {
        if let Op::Source(s) = &mut n.op {
            *s = Source {
                ty: s.ty.with_dtype(DType::F64),
            };
            n.ty = s.ty.clone();
        }
    });
    let operands = other(|n| n.operands.reverse());
    let mut all = vec![hash, literal, data, dtype, operands];
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 5);
}

const HASH: &str = "7860bda4f87c46566342d1fb21f2fe9e";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_graphs_round_trip(seed: u64, size in 0usize..30) {
        let graph = random_graph(seed, size);
        let json = graph.to_json().unwrap();
        prop_assert_eq!(&Graph::from_json(&json).unwrap(), &graph);
        let bytes = graph.to_bytes().unwrap();
        prop_assert_eq!(&Graph::from_bytes(&bytes).unwrap(), &graph);
        let hash = graph.structural_hash();
        prop_assert_eq!(Graph::parse(&graph.to_string()).unwrap().structural_hash(), hash);
    }

    #[test]
    fn damaged_files_do_not_panic(seed: u64, damage: u64) {
        let graph = random_graph(seed, 12);
        let mut choices = Choices::new(damage);
        let mut bytes = graph.to_bytes().unwrap();
        let mut json = graph.to_json().unwrap().into_bytes();
        for _ in 0..1 + choices.below(3) {
            let at = 6 + choices.below(bytes.len() - 6);
            bytes[at] = choices.below(256) as u8;
            let at = choices.below(json.len());
            json[at] = choices.pick(b"0123456789[]{},\"-ab");
        }
        if let Ok(graph) = Graph::from_bytes(&bytes) {
            prop_assert!(verify(&graph).is_ok());
            let text = graph.to_string();
            prop_assert_eq!(Graph::parse(&text).unwrap().to_string(), text);
        }
        if let Ok(graph) = Graph::from_json(&String::from_utf8_lossy(&json)) {
            let text = graph.to_string();
            prop_assert_eq!(Graph::parse(&text).unwrap().to_string(), text);
        }
    }
}
