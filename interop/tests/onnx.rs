//! ONNX import: small models written here as protobuf bytes, the table in the documentation, and files that were tampered with.

use kiln_interop::onnx::{ImportOptions, Model, table};
use proptest::prelude::*;

/// A field of a message: a varint.
fn int(field: u64, value: u64) -> Vec<u8> {
    let mut bytes = varint(field << 3);
    bytes.extend(varint(value));
    bytes
}

/// A field of a message: bytes, a text or another message.
fn bytes(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut bytes = varint(field << 3 | 2);
    bytes.extend(varint(content.len() as u64));
    bytes.extend(content);
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i)).collect();
    node.extend(bytes(2, output));
    node.extend(bytes(4, operator));
    node
}

/// A model of f32 input `x` `[batch, 3]`, output `y` and a 3 x 2 initializer `w`.
fn model(nodes: &[Vec<u8>]) -> Vec<u8> {
    let batch = bytes(1, bytes(2, "batch"));
    let three = bytes(1, int(1, 3));
    let shape = [batch, three].concat();
    let tensor = [int(1, 1), bytes(2, shape)].concat();
    let x = [bytes(1, "x"), bytes(2, bytes(1, tensor))].concat();
    let data: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let w = [
        int(1, 3),
        int(1, 2),
        int(2, 1),
        bytes(8, "w"),
        bytes(9, data),
    ]
    .concat();
    let mut graph: Vec<u8> = nodes.iter().flat_map(|n| bytes(1, n)).collect();
    graph.extend(
        [
            bytes(2, "g"),
            bytes(5, w),
            bytes(11, x),
            bytes(12, bytes(1, "y")),
        ]
        .concat(),
    );
    [int(1, 9), bytes(7, graph), bytes(8, int(2, 17))].concat()
}

#[test]
fn initializers_are_params_and_extents_symbols() {
    let nodes = [
        node("Shape", &["w"], "s"),
        node("Abs", &["w"], "a"),
        node("Expand", &["a", "s"], "y"),
    ];
    let model = Model::from_bytes("small", model(&nodes)).unwrap();
    let import = model.import(&ImportOptions::default()).unwrap();
    assert_eq!(import.params.len(), 1);
    assert_eq!(import.params[0].0, "w");
    assert_eq!(import.params[0].1.shape(), [3, 2]);
    let text = import.graph.to_string();
    assert!(text.contains("f32[batch, 3]"), "{text}");
    assert!(
        !text.contains("= const {"),
        "shape arithmetic left a trace: {text}"
    );
}

/// A node that gives a vector of f32.
fn constant(values: &[f32], output: &str) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensor = [int(1, values.len() as u64), int(2, 1), bytes(9, data)].concat();
    let value = [bytes(1, "value"), bytes(5, tensor), int(20, 4)].concat();
    [node("Constant", &[], output), bytes(5, value)].concat()
}

#[test]
fn constants_of_several_floats_are_params_unless_a_shape_is_made_of_them() {
    let to_integers = [bytes(1, "to"), int(3, 7), int(20, 2)].concat();
    let nodes = [
        constant(&[1.0, 2.0, 3.0], "gain"),
        constant(&[0.5], "half"),
        constant(&[6.0, 1.0], "target"),
        constant(&[1.0, 2.0], "unused"),
        node("Mul", &["x", "gain"], "scaled"),
        node("Mul", &["w", "half"], "weights"),
        node("MatMul", &["scaled", "weights"], "product"),
        [node("Cast", &["target"], "shape"), bytes(5, to_integers)].concat(),
        node("Reshape", &["w", "shape"], "column"),
        node("ReduceSum", &["column"], "sum"),
        node("Add", &["product", "sum"], "y"),
    ];
    let model = Model::from_bytes("small", model(&nodes)).unwrap();
    let import = model.import(&ImportOptions::default()).unwrap();
    let weights = import.weights();
    let names: Vec<&str> = weights.iter().map(|tensor| tensor.name()).collect();
    assert_eq!(names, ["gain", "w"]);
    let gain = weights.get("gain").unwrap().to_array().unwrap();
    assert_eq!(gain.floats().unwrap(), [1.0, 2.0, 3.0]);
    let text = import.graph.to_string();
    assert!(text.contains("param %gain: f32[3]"), "{text}");
    assert!(text.contains("f32[6, 1]"), "{text}");
}

#[test]
fn inputs_say_their_types_before_they_are_imported() {
    let model = Model::from_bytes("small", model(&[node("Abs", &["x"], "y")])).unwrap();
    let ty = model.input_type("x").unwrap();
    assert_eq!(ty.to_string(), "f32[batch, 3]");
    assert_eq!(model.input_type("w"), None);
}

#[test]
fn all_that_is_unsupported_is_listed() {
    let nodes = [
        node("NonZero", &["x"], "n"),
        node("Abs", &["n"], "a"),
        node("Fancy", &["x"], "y"),
    ];
    let model = Model::from_bytes("small", model(&nodes)).unwrap();
    let errors = model.import(&ImportOptions::default()).unwrap_err();
    let found: Vec<(&str, &str)> = (errors.0.iter())
        .map(|e| (e.node.as_str(), e.operator.as_str()))
        .collect();
    assert_eq!(found, [("n", "NonZero"), ("y", "Fancy")], "{errors}");
    assert!(errors.to_string().contains("depends on the data"));
}

#[test]
fn the_documentation_has_the_table() {
    let page = include_str!("../../docs/onnx.md");
    assert!(
        page.contains(&table()),
        "docs/onnx.md must have this table:\n{}",
        table()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_tampered_model_panics(
        at in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let nodes = [node("Shape", &["x"], "s"), node("Abs", &["x"], "a"), node("Reshape", &["a", "s"], "y")];
        let mut bytes = model(&nodes);
        for (index, byte) in at {
            let place = index.index(bytes.len());
            bytes[place] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(model) = Model::from_bytes("tampered", bytes) {
            let _either = model.import(&ImportOptions::default());
        }
    }

    #[test]
    fn no_random_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(model) = Model::from_bytes("random", bytes) {
            let _either = model.import(&ImportOptions::default());
        }
    }
}
