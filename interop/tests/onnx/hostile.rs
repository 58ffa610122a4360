//! Files that lie: about sizes, about order, about where their data is.

use super::write::{
    F32, Parts, bytes, float_list, floats, graph, graph_attribute, int, int_attribute, ints, model,
    node, node_with, read, tensor, tensor_type, value,
};
use kiln_interop::onnx::{self, ImportOptions, Model};
use std::path::{Path, PathBuf};

/// Why a model cannot be imported.
fn refusal(parts: &Parts<'_>) -> String {
    let errors = read(parts).import(&ImportOptions::default());
    errors.unwrap_err().to_string()
}

#[test]
fn a_cycle_is_an_error() {
    let parts = Parts {
        nodes: &[node("Neg", &["b"], "a"), node("Abs", &["a"], "b")],
        outputs: &["b"],
        ..Parts::default()
    };
    let error = refusal(&parts);
    assert!(
        error.contains("nothing before it makes its input `b`"),
        "{error}"
    );
}

#[test]
fn functions_that_call_themselves_or_too_many_are_errors() {
    let function = |name: &str, calls: &str| {
        let nodes: Vec<Vec<u8>> = (0..8).map(|_| node(calls, &["a"], "b")).collect();
        let mut function = [bytes(1, name), bytes(4, "a"), bytes(5, "b")].concat();
        function.extend(nodes.iter().flat_map(|n| bytes(7, n)));
        function.extend([bytes(9, int(2, 20)), bytes(10, "ai.onnx")].concat());
        function
    };
    let x = [value("x", &tensor_type(F32, &["2"]))];
    let own = [function("F0", "F0")];
    let parts = Parts {
        nodes: &[node("F0", &["x"], "y")],
        inputs: &x,
        outputs: &["y"],
        functions: &own,
        ..Parts::default()
    };
    let error = refusal(&parts);
    assert!(error.contains("too deep, or without end"), "{error}");
    // 8^10 nodes.
    let tower: Vec<Vec<u8>> = (0..10)
        .map(|i| {
            function(
                &format!("F{i}"),
                &match i {
                    9 => "Neg".to_owned(),
                    i => format!("F{}", i + 1),
                },
            )
        })
        .collect();
    let error = refusal(&Parts {
        functions: &tower,
        ..parts
    });
    assert!(error.contains("too many nodes"), "{error}");
}

#[test]
fn sizes_that_the_file_does_not_hold_are_errors() {
    let wrong: [(&[u64], &str); 4] = [
        (&[1 << 40, 1 << 40], "has shape"),
        (&[1 << 40], "holds 4"),
        (&[u64::MAX], "axis of size -1"),
        (&[0], "holds 4"),
    ];
    for (dims, what) in wrong {
        let parts = Parts {
            nodes: &[node("Neg", &["w"], "y")],
            initializers: &[tensor("w", F32, dims, &[0; 4])],
            outputs: &["y"],
            ..Parts::default()
        };
        let error = refusal(&parts);
        assert!(error.contains(what), "{dims:?}: {error}");
    }
}

#[test]
fn large_tensors_of_small_files_take_no_memory() {
    // Each is either refused, or a graph of few nodes: none is computed.
    let huge = [
        ints("huge", &[1], &[1 << 40]),
        ints("one", &[], &[1]),
        ints("many", &[], &[1 << 40]),
    ];
    let nodes = [
        node("ConstantOfShape", &["huge"], "zeros"),
        node("ReduceSum", &["zeros"], "y"),
        node("Range", &["one", "many", "one"], "range"),
        node("SplitToSequence", &["zeros"], "s"),
        node_with(
            "Split",
            &["zeros"],
            &["p"],
            &[int_attribute("num_outputs", 1 << 40)],
        ),
        node("HannWindow", &["many"], "window"),
        node("DFT", &["x", "many"], "frequencies"),
        node("OneHot", &["one", "many", "values"], "hot"),
    ];
    for node in &nodes[2..] {
        let parts = Parts {
            nodes: &[nodes[0].clone(), nodes[1].clone(), node.clone()],
            initializers: &[huge.as_slice(), &[ints("values", &[2], &[0, 1])]].concat(),
            inputs: &[value("x", &tensor_type(F32, &["1", "4", "1"]))],
            outputs: &["y"],
            functions: &[],
        };
        let _either = read(&parts).import(&ImportOptions::default());
    }
}

#[test]
fn resizing_far_is_refused() {
    for scale in [1e30, 1e8, 1e-9] {
        let parts = Parts {
            nodes: &[node_with(
                "Resize",
                &["x", "", "scales"],
                &["y"],
                &[
                    int_attribute("antialias", 1),
                    super::write::text_attribute("mode", "linear"),
                ],
            )],
            initializers: &[floats("scales", &[1], &[scale])],
            inputs: &[value("x", &tensor_type(F32, &["1099511627776"]))],
            outputs: &["y"],
            functions: &[],
        };
        let errors = read(&parts).import(&ImportOptions::default());
        assert!(errors.is_err(), "{scale}");
    }
}

#[test]
fn files_that_grow_in_memory_are_refused() {
    // Empty nodes: two bytes each in the file.
    let nodes: Vec<u8> = (0..4 << 20).flat_map(|_| [0x0a, 0x00]).collect();
    let error = Model::from_bytes("nodes", bytes(7, nodes)).unwrap_err();
    assert!(error.to_string().contains("bytes of memory"), "{error}");
    // Integers of one byte each, which are eight in memory.
    let numbers = bytes(7, vec![1u8; 8 << 20]);
    let error = Model::from_bytes("numbers", bytes(7, bytes(5, numbers))).unwrap_err();
    assert!(error.to_string().contains("bytes of memory"), "{error}");
}

#[test]
fn graphs_within_graphs_without_end_are_refused() {
    let mut inner = graph(&Parts::default());
    for _ in 0..2000 {
        let attribute = graph_attribute("then_branch", &inner);
        let nodes = [node_with("If", &["x"], &["y"], &[attribute])];
        inner = graph(&Parts {
            nodes: &nodes,
            ..Parts::default()
        });
    }
    assert!(Model::from_bytes("deep", bytes(7, inner)).is_err());
}

#[test]
fn extents_that_multiply_without_end_are_refused_or_stay_small() {
    let mut nodes = vec![node("Shape", &["x"], "s0")];
    for i in 0..40 {
        let (from, to) = (format!("s{i}"), format!("s{}", i + 1));
        nodes.push(node("Add", &[&from, "turned"], &format!("t{i}")));
        nodes.push(node("Mul", &[&format!("t{i}"), &from], &to));
    }
    nodes.insert(1, node("Concat", &["b", "a"], "turned"));
    nodes[1] = node_with(
        "Concat",
        &["b", "a"],
        &["turned"],
        &[int_attribute("axis", 0)],
    );
    nodes.insert(1, node("Gather", &["s0", "first"], "a"));
    nodes.insert(2, node("Gather", &["s0", "second"], "b"));
    nodes.push(node("Expand", &["one", "s40"], "y"));
    let parts = Parts {
        nodes: &nodes,
        initializers: &[
            ints("first", &[1], &[0]),
            ints("second", &[1], &[1]),
            floats("one", &[1], &[1.0]),
        ],
        inputs: &[value("x", &tensor_type(F32, &["p", "q"]))],
        outputs: &["y"],
        functions: &[],
    };
    let _either = read(&parts).import(&ImportOptions::default());
}

/// A folder of the test's own below the build's.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A model `y = -w` whose `w`, two f32, lies in another file.
fn external(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut w = [int(1, 2), int(2, F32), bytes(8, "w"), int(14, 1)].concat();
    for (key, value) in entries {
        w.extend(bytes(13, [bytes(1, key), bytes(2, value)].concat()));
    }
    model(&Parts {
        nodes: &[node("Neg", &["w"], "y")],
        initializers: &[w],
        outputs: &["y"],
        ..Parts::default()
    })
}

#[test]
fn external_data_lies_in_the_folder_of_the_model() {
    let outer = folder("external");
    let inner = outer.join("model");
    std::fs::create_dir_all(&inner).unwrap();
    for place in [outer.join("outside.bin"), inner.join("inside.bin")] {
        std::fs::write(place, [1.5f32, 2.5].map(f32::to_le_bytes).concat()).unwrap();
    }
    let import = |entries: &[(&str, &str)]| {
        let path = inner.join("model.onnx");
        std::fs::write(&path, external(entries)).unwrap();
        onnx::read(&path).unwrap().import(&ImportOptions::default())
    };
    let good = import(&[("location", "inside.bin"), ("offset", "0"), ("length", "8")]).unwrap();
    assert_eq!(
        good.params[0].1.to_array().unwrap().floats().unwrap(),
        [1.5, 2.5]
    );

    let absolute = outer.join("outside.bin");
    let absolute = absolute.to_str().unwrap();
    let wrong: [(&[(&str, &str)], &str); 9] = [
        (
            &[("location", "../outside.bin")],
            "must lie in the model's folder",
        ),
        (
            &[("location", "model/../../outside.bin")],
            "must lie in the model's folder",
        ),
        (&[("location", absolute)], "must lie in the model's folder"),
        (&[("location", "")], "must lie in the model's folder"),
        (&[("location", "missing.bin")], "cannot read"),
        (&[], "without a place"),
        (
            &[("location", "inside.bin"), ("offset", "4")],
            "8 bytes from 4",
        ),
        (
            &[
                ("location", "inside.bin"),
                ("offset", "18446744073709551615"),
            ],
            "from 18446744073709551615",
        ),
        (&[("location", "inside.bin"), ("length", "4")], "it holds 4"),
    ];
    for (entries, what) in wrong {
        let error = import(entries).unwrap_err().to_string();
        assert!(error.contains(what), "{entries:?}: {error}");
    }
    let error = Model::from_bytes("bytes", external(&[("location", "inside.bin")])).unwrap();
    let error = error
        .import(&ImportOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("the model is no file"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_does_not_lead_out_of_the_folder() {
    let outer = folder("linked");
    let inner = outer.join("model");
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::write(outer.join("secret.bin"), [0; 8]).unwrap();
    let link = inner.join("link.bin");
    if !link.exists() {
        std::os::unix::fs::symlink(outer.join("secret.bin"), &link).unwrap();
    }
    let path = inner.join("model.onnx");
    std::fs::write(&path, external(&[("location", "link.bin")])).unwrap();
    let errors = onnx::read(&path).unwrap().import(&ImportOptions::default());
    let error = errors.unwrap_err().to_string();
    assert!(error.contains("must lie in the model's folder"), "{error}");
}

#[test]
fn fixed_values_have_the_declared_type() {
    let model = read(&Parts {
        nodes: &[node("Neg", &["x"], "y")],
        inputs: &[value("x", &tensor_type(F32, &["2"]))],
        outputs: &["y"],
        ..Parts::default()
    });
    let ints = kiln_ir::Array::new(
        kiln_ir::DType::I64,
        vec![2],
        kiln_ir::Values::Int(vec![1, 2]),
    );
    let mut options = ImportOptions::default();
    let data = onnx::Elements::from_array(&ints.unwrap());
    options.fixed.insert("x".into(), data);
    let error = model.import(&options).unwrap_err().to_string();
    assert!(error.contains("not declared to be"), "{error}");
}

#[test]
fn attributes_of_another_type_are_errors() {
    let parts = Parts {
        nodes: &[node_with(
            "Elu",
            &["x"],
            &["y"],
            &[float_list("alpha", &[1.0])],
        )],
        inputs: &[value("x", &tensor_type(F32, &["2"]))],
        outputs: &["y"],
        ..Parts::default()
    };
    let error = refusal(&parts);
    assert!(
        error.contains("attribute `alpha` has another type"),
        "{error}"
    );
}

/// What fuzzing found to panic: tensors of fewer axes than their operator wants.
#[test]
fn tensors_of_too_few_axes_are_errors() {
    let value = |name: &str, dims: &[&str]| value(name, &tensor_type(F32, dims));
    let block = int_attribute("block_size", 2);
    let cases = [
        (
            node_with("QuantizeLinear", &["x", "s"], &["y"], &[block]),
            vec![value("x", &["3", "4"]), value("s", &["2"])],
            "blocks of 2",
        ),
        (
            node("RNN", &["x", "w", "r", "b"], "y"),
            vec![
                value("x", &["2", "3", "3"]),
                value("w", &["1", "5", "3"]),
                value("r", &["1", "5", "5"]),
                value("b", &["1"]),
            ],
            "axis 0",
        ),
        (
            node("GridSample", &["x", "grid"], "y"),
            vec![value("x", &[]), value("grid", &["2", "0"])],
            "at a grid",
        ),
    ];
    for (node, inputs, what) in cases {
        let error = refusal(&Parts {
            nodes: &[node],
            inputs: &inputs,
            outputs: &["y"],
            ..Parts::default()
        });
        assert!(error.contains(what), "{error}");
    }
}
