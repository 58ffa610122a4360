//! ONNX import: small models written here as protobuf bytes, the table in the documentation, and files that were tampered with.

mod hostile;
mod operators;
mod write;

use kiln_interop::onnx::{Elements, ImportOptions, Model, table};
use kiln_ir::{Array, DType, Values};
use proptest::prelude::*;
use write::{F32, I64, Parts, bytes, floats, int, ints, node, tensor_type, value};

/// A model of f32 input `x` `[batch, 3]`, output `y` and a 3 x 2 initializer `w`.
fn model(nodes: &[Vec<u8>]) -> Vec<u8> {
    write::model(&Parts {
        nodes,
        initializers: &[floats("w", &[3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])],
        inputs: &[value("x", &tensor_type(F32, &["batch", "3"]))],
        outputs: &["y"],
        functions: &[],
    })
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
fn what_is_made_of_frozen_weights_is_computed_at_import() {
    // The halves of a matrix, the second first, as exporters reorder the gates of an LSTM.
    let half = |from, to, name| node("Slice", &["m", from, to], name);
    let axis = write::int_attribute("axis", 0);
    let model = write::read(&Parts {
        nodes: &[
            half("start", "middle", "first"),
            half("middle", "end", "second"),
            write::node_with("Concat", &["second", "first"], &["turned"], &[axis]),
            node("MatMul", &["x", "turned"], "y"),
        ],
        initializers: &[
            floats("m", &[300, 300], &[0.5; 90_000]),
            ints("start", &[1], &[0]),
            ints("middle", &[1], &[150]),
            ints("end", &[1], &[300]),
        ],
        inputs: &[value("x", &tensor_type(F32, &["batch", "300"]))],
        outputs: &["y"],
        functions: &[],
    });
    let mut options = ImportOptions::default();
    let learns = model.import(&options).unwrap();
    assert_eq!(learns.params.len(), 1);
    assert!(learns.graph.to_string().contains("concat"));
    options.frozen = true;
    let frozen = model.import(&options).unwrap();
    assert!(frozen.params.is_empty());
    assert_eq!(frozen.graph.len(), 3, "an input, a constant and a product");
}

#[test]
fn inputs_say_their_types_before_they_are_imported() {
    let model = Model::from_bytes("small", model(&[node("Abs", &["x"], "y")])).unwrap();
    let types = model.input_types();
    let types: Vec<String> = types.iter().map(|(n, ty)| format!("{n}: {ty}")).collect();
    assert_eq!(types, ["x: f32[batch, 3]"]);
}

/// A tensor of i64 as a model is given it.
fn numbers(values: &[i64]) -> Elements {
    let values = Values::Int(values.to_vec());
    let shape = match &values {
        Values::Int(values) if values.len() != 1 => vec![values.len()],
        Values::Int(_) | Values::Float(_) => Vec::new(),
    };
    Elements::from_array(&Array::new(DType::I64, shape, values).unwrap())
}

/// A tensor of zeros as a model is given it.
fn zeros(shape: &[usize]) -> Elements {
    let values = Values::Float(vec![0.0; shape.iter().product()]);
    Elements::from_array(&Array::new(DType::F32, shape.to_vec(), values).unwrap())
}

#[test]
fn what_decides_shapes_and_branches_is_taken_from_the_inputs() {
    let squeezed = |axis: &str| {
        write::graph(&Parts {
            nodes: &[node("Squeeze", &["sum", axis], "z")],
            outputs: &["z"],
            ..Parts::default()
        })
    };
    let branches = [
        write::graph_attribute("then_branch", &squeezed("second")),
        write::graph_attribute("else_branch", &squeezed("first")),
    ];
    let f32s = |name: &str, dims: &[&str]| value(name, &tensor_type(F32, dims));
    let i64s = |name: &str, dims: &[&str]| value(name, &tensor_type(I64, dims));
    let model = write::read(&Parts {
        nodes: &[
            node("Add", &["x", "other"], "sum"),
            node("Equal", &["rate", "usual"], "is_usual"),
            write::node_with("If", &["is_usual"], &["branch"], &branches),
            node("Add", &["shape", "usual"], "larger"),
            node("Expand", &["branch", "larger"], "y"),
        ],
        initializers: &[
            ints("usual", &[], &[1]),
            ints("first", &[1], &[0]),
            ints("second", &[1], &[1]),
        ],
        inputs: &[
            f32s("x", &["batch", "long"]),
            f32s("other", &["batch", "length"]),
            i64s("rate", &[]),
            i64s("shape", &["axes"]),
        ],
        outputs: &["y"],
        functions: &[],
    });
    let given = [
        ("x", zeros(&[3, 1])),
        ("other", zeros(&[3, 1])),
        ("rate", numbers(&[1])),
        ("shape", numbers(&[1, 2])),
    ];
    let given = given.map(|(name, data)| (name.to_owned(), data)).into();
    assert!(model.import(&ImportOptions::default()).is_err());
    let import = model.import_for(&given, &ImportOptions::default()).unwrap();
    let ty = |node| import.graph.node(node).unwrap().ty.to_string();
    let slots: Vec<String> = import.graph.slots().iter().map(|s| ty(s.node)).collect();
    assert_eq!(slots, ["f32[3, 1]", "f32[3, 1]"]);
    assert_eq!(ty(import.graph.outputs()[0].node), "f32[2, 3]");

    // What needs nothing of its inputs stays open.
    let model = Model::from_bytes("small", self::model(&[node("Abs", &["x"], "y")])).unwrap();
    let given = [("x".to_owned(), zeros(&[2, 3]))].into();
    let import = model.import_for(&given, &ImportOptions::default()).unwrap();
    let input = import.graph.slots()[0].node;
    assert_eq!(
        import.graph.node(input).unwrap().ty.to_string(),
        "f32[batch, 3]"
    );
}

#[test]
fn all_that_is_unsupported_is_listed() {
    let nodes = [
        node("Unique", &["x"], "n"),
        node("Abs", &["n"], "a"),
        node("Fancy", &["x"], "y"),
    ];
    let model = Model::from_bytes("small", model(&nodes)).unwrap();
    let errors = model.import(&ImportOptions::default()).unwrap_err();
    let found: Vec<(&str, &str)> = (errors.0.iter())
        .map(|e| (e.node.as_str(), e.operator.as_str()))
        .collect();
    assert_eq!(found, [("n", "Unique"), ("y", "Fancy")], "{errors}");
    assert!(errors.to_string().contains("depends on the data"));
}

#[test]
fn what_no_output_needs_is_left_out() {
    let nodes = [node("Neg", &["w"], "unread"), node("Dropout", &["x"], "y")];
    let model = Model::from_bytes("small", model(&nodes)).unwrap();
    let import = model.import(&ImportOptions::default()).unwrap();
    assert!(import.params.is_empty());
    assert_eq!(import.graph.len(), 1, "{}", import.graph);
}

#[test]
fn extents_that_are_spelled_alike_stay_apart() {
    let inputs = ["a.b", "a-b", "a.b"].iter().enumerate();
    let inputs = inputs.map(|(i, name)| value(&format!("x{i}"), &tensor_type(F32, &[name])));
    let inputs: Vec<Vec<u8>> = inputs.collect();
    let model = write::read(&Parts {
        nodes: &[
            node("Add", &["x0", "x2"], "same"),
            node("Neg", &["x1"], "other"),
        ],
        inputs: &inputs,
        outputs: &["same", "other"],
        ..Parts::default()
    });
    let import = model.import(&ImportOptions::default()).unwrap();
    let types: Vec<String> = (import.graph.outputs().iter())
        .map(|o| import.graph.node(o.node).unwrap().ty.to_string())
        .collect();
    assert_eq!(types, ["f32[a_b]", "f32[a_b_2]"]);
}

#[test]
fn the_documentation_has_the_table() {
    let page = include_str!("../../../docs/onnx.md");
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
