//! Operators on small tensors, against results that are known without computing.

use super::write::{
    BOOL, F32, I64, Parts, bytes, float_list, floats, graph, graph_attribute, int_attribute,
    int_list, ints, node, node_with, read, tensor, tensor_type, text_attribute, text_list, value,
};
use kiln_interop::onnx::ImportOptions;
use kiln_interop::onnx::backend::interpret;
use kiln_ir::{Array, DType, TensorType, Values};
use std::collections::BTreeMap;

fn array(shape: &[usize], values: &[f64]) -> Array {
    Array::new(DType::F32, shape.to_vec(), Values::Float(values.to_vec())).unwrap()
}

fn indices(shape: &[usize], values: &[i64]) -> Array {
    Array::new(DType::I64, shape.to_vec(), Values::Int(values.to_vec())).unwrap()
}

/// The outputs of a model, or why the step fails.
fn run(parts: &Parts<'_>, feeds: &[(&str, Array)]) -> Result<Vec<Array>, String> {
    let import = read(parts).import(&ImportOptions::default());
    let import = import.unwrap_or_else(|errors| panic!("{errors}"));
    let mut all: BTreeMap<String, Array> = BTreeMap::new();
    for (name, data) in &import.params {
        all.insert(name.clone(), data.to_array().unwrap());
    }
    for (name, data) in feeds {
        all.insert((*name).to_owned(), data.clone());
    }
    interpret(&import.graph, &all)
}

/// The one output `y` of one node on `x`, and on initializers.
fn one(
    operator: &str,
    inputs: &[&str],
    attributes: &[Vec<u8>],
    initializers: &[Vec<u8>],
    x: &Array,
) -> Vec<f64> {
    let dims: Vec<String> = x.shape().iter().map(ToString::to_string).collect();
    let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
    let parts = Parts {
        nodes: &[node_with(operator, inputs, &["y"], attributes)],
        initializers,
        inputs: &[value("x", &tensor_type(F32, &dims))],
        outputs: &["y"],
        functions: &[],
    };
    let results = run(&parts, &[("x", x.clone())]).unwrap();
    results[0].floats().unwrap().to_vec()
}

fn assert_close(got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len());
    for (g, w) in got.iter().zip(wanted) {
        assert!((g - w).abs() < 1e-5, "{got:?}, wanted {wanted:?}");
    }
}

#[test]
fn the_identity_samples_an_image_as_it_is() {
    let image: Vec<f64> = (0..12).map(|i| f64::from(i * i)).collect();
    let x = array(&[1, 2, 2, 3], &image);
    let theta = floats("theta", &[1, 2, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let size = ints("size", &[4], &[1, 2, 2, 3]);
    for centres in [0, 1] {
        for mode in ["nearest", "linear", "cubic"] {
            let corners = int_attribute("align_corners", centres);
            let mode = text_attribute("mode", mode);
            let parts = Parts {
                nodes: &[
                    node_with(
                        "AffineGrid",
                        &["theta", "size"],
                        &["grid"],
                        std::slice::from_ref(&corners),
                    ),
                    node_with("GridSample", &["x", "grid"], &["y"], &[corners, mode]),
                ],
                initializers: &[theta.clone(), size.clone()],
                inputs: &[value("x", &tensor_type(F32, &["1", "2", "2", "3"]))],
                outputs: &["y"],
                functions: &[],
            };
            let results = run(&parts, &[("x", x.clone())]).unwrap();
            assert_close(results[0].floats().unwrap(), &image);
        }
    }
}

#[test]
fn places_outside_of_an_image_are_zero_or_the_border_or_mirrored() {
    // Pixels 10, 20 and 30 in a row; a place two pixels left of the first, at its centre.
    let x = array(&[1, 1, 1, 3], &[10.0, 20.0, 30.0]);
    let grid = floats("grid", &[1, 1, 1, 2], &[-3.0, 0.0]);
    let sampled = |padding: &str| {
        let attributes = [
            int_attribute("align_corners", 1),
            text_attribute("padding_mode", padding),
        ];
        one(
            "GridSample",
            &["x", "grid"],
            &attributes,
            std::slice::from_ref(&grid),
            &x,
        )
    };
    assert_close(&sampled("zeros"), &[0.0]);
    assert_close(&sampled("border"), &[10.0]);
    assert_close(&sampled("reflection"), &[30.0]);
}

#[test]
fn an_inverse_transform_gives_the_signal_back() {
    let signal = [0.5, -1.0, 2.0, 3.0, -0.25];
    let x = array(&[1, 5, 1], &signal);
    let parts = Parts {
        nodes: &[
            node("DFT", &["x"], "frequencies"),
            node_with(
                "DFT",
                &["frequencies"],
                &["y"],
                &[int_attribute("inverse", 1)],
            ),
        ],
        inputs: &[value("x", &tensor_type(F32, &["1", "n", "1"]))],
        outputs: &["y", "frequencies"],
        ..Parts::default()
    };
    let results = run(&parts, &[("x", x)]).unwrap();
    let complex: Vec<f64> = signal.iter().flat_map(|x| [*x, 0.0]).collect();
    assert_close(results[0].floats().unwrap(), &complex);
    // The frequency 0 is the sum.
    assert_close(&results[1].floats().unwrap()[..2], &[4.25, 0.0]);
}

#[test]
fn a_constant_signal_has_the_frequency_zero_alone() {
    let x = array(&[1, 6, 1], &[1.0; 6]);
    let initializers = [ints("step", &[], &[2]), ints("length", &[], &[4])];
    let got = one("STFT", &["x", "step", "", "length"], &[], &initializers, &x);
    let frame = [4.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_close(&got, &[frame, frame].concat());
}

#[test]
fn windows_of_known_length() {
    let parts = Parts {
        nodes: &[
            node("HannWindow", &["n"], "periodic"),
            node_with(
                "HannWindow",
                &["n"],
                &["symmetric"],
                &[int_attribute("periodic", 0)],
            ),
        ],
        initializers: &[ints("n", &[], &[4])],
        outputs: &["periodic", "symmetric"],
        ..Parts::default()
    };
    let results = run(&parts, &[]).unwrap();
    assert_close(results[0].floats().unwrap(), &[0.0, 0.5, 1.0, 0.5]);
    assert_close(results[1].floats().unwrap(), &[0.0, 0.75, 0.75, 0.0]);
}

#[test]
fn determinants_with_and_without_pivots() {
    let matrices = [
        // Its first pivot is 0.
        [0.0, 2.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 3.0],
        [1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 1.0, 0.0, 1.0],
        [2.0, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 4.0],
    ];
    let x = array(&[3, 3, 3], &matrices.concat());
    assert_close(&one("Det", &["x"], &[], &[], &x), &[-6.0, 0.0, 18.0]);
}

#[test]
fn overlapping_windows_are_added() {
    // Windows of two elements at three positions of a row of four.
    let x = array(&[1, 2, 3], &[1.0; 6]);
    let initializers = [ints("image", &[1], &[4]), ints("block", &[1], &[2])];
    let got = one("Col2Im", &["x", "image", "block"], &[], &initializers, &x);
    assert_close(&got, &[1.0, 2.0, 2.0, 1.0]);
}

#[test]
fn an_element_that_is_named_twice_is_multiplied_twice() {
    let x = array(&[3], &[1.0, 2.0, 3.0]);
    let initializers = [
        ints("at", &[2, 1], &[1, 1]),
        floats("by", &[2], &[2.0, 5.0]),
    ];
    let reduction = text_attribute("reduction", "mul");
    let got = one(
        "ScatterND",
        &["x", "at", "by"],
        &[reduction],
        &initializers,
        &x,
    );
    assert_close(&got, &[1.0, 20.0, 3.0]);
}

#[test]
fn a_label_twice_is_a_diagonal() {
    let x = array(&[2, 2], &[1.0, f64::NAN, f64::INFINITY, 4.0]);
    let got = one(
        "Einsum",
        &["x"],
        &[text_attribute("equation", "ii->i")],
        &[],
        &x,
    );
    assert_close(&got, &[1.0, 4.0]);
}

#[test]
fn activations_take_their_parameters_in_turn() {
    // One cell without recurrence on -2: the activation of the input.
    let x = array(&[1, 1, 1], &[-2.0]);
    let initializers = [
        floats("w", &[1, 1, 1], &[1.0]),
        floats("r", &[1, 1, 1], &[0.0]),
    ];
    let cell = |name: &str, alpha: f32, beta: f32| {
        let attributes = [
            text_list("activations", &[name]),
            float_list("activation_alpha", &[alpha]),
            float_list("activation_beta", &[beta]),
        ];
        one("RNN", &["x", "w", "r"], &attributes, &initializers, &x)
    };
    assert_close(&cell("LeakyRelu", 0.25, 9.0), &[-0.5]);
    assert_close(&cell("Affine", 3.0, 1.0), &[-5.0]);
    assert_close(&cell("ScaledTanh", 2.0, 0.5), &[2.0 * (-1f64).tanh()]);
}

#[test]
fn n_grams_are_counted_over_gaps() {
    let x = array(&[5], &[1.0, 2.0, 1.0, 1.0, 2.0]);
    let mut attributes = [
        int_list("pool_int64s", &[1, 1, 2]),
        int_list("ngram_counts", &[0, 1]),
        int_list("ngram_indexes", &[1, 0]),
        float_list("weights", &[10.0, 100.0]),
        int_attribute("min_gram_length", 1),
        int_attribute("max_gram_length", 2),
        int_attribute("max_skip_count", 1),
        text_attribute("mode", "TF"),
    ];
    // 1 stands there three times, counted in column 1; 1 2 twice side by side, and once over a gap.
    for (mode, wanted) in [
        ("TF", [3.0, 3.0]),
        ("IDF", [100.0, 10.0]),
        ("TFIDF", [300.0, 30.0]),
    ] {
        attributes[7] = text_attribute("mode", mode);
        let parts = Parts {
            nodes: &[
                node_with("Cast", &["x"], &["i"], &[int_attribute("to", 7)]),
                node_with("TfIdfVectorizer", &["i"], &["y"], &attributes),
            ],
            inputs: &[value("x", &tensor_type(F32, &["5"]))],
            outputs: &["y"],
            ..Parts::default()
        };
        let results = run(&parts, &[("x", x.clone())]).unwrap();
        assert_close(results[0].floats().unwrap(), &wanted);
    }
}

#[test]
fn large_windows_are_reduced_axis_by_axis() {
    let x: Vec<f64> = (0..18 * 17).map(f64::from).collect();
    let x = array(&[1, 1, 18, 17], &x);
    let windows = [
        int_list("kernel_shape", &[18, 16]),
        int_list("pads", &[0, 1, 0, 0]),
    ];
    let largest = one("MaxPool", &["x"], &windows, &[], &x);
    assert_close(&largest, &[303.0, 304.0, 305.0]);
    // The first of the windows has 15 columns, the others 16.
    let means = one("AveragePool", &["x"], &windows, &[], &x);
    assert_close(&means, &[151.5, 152.0, 153.0]);

    let import = read(&Parts {
        nodes: &[node_with("MaxPool", &["x"], &["y"], &windows)],
        inputs: &[value("x", &tensor_type(F32, &["1", "1", "18", "17"]))],
        outputs: &["y"],
        ..Parts::default()
    });
    let graph = import.import(&ImportOptions::default()).unwrap().graph;
    assert_eq!(
        graph.to_string().matches("reduce_window").count(),
        2,
        "{graph}"
    );
}

#[test]
fn an_index_out_of_range_is_an_error() {
    let x = value("x", &tensor_type(F32, &["2", "3"]));
    let known = read(&Parts {
        nodes: &[node("Gather", &["x", "at"], "y")],
        initializers: &[ints("at", &[1], &[2])],
        inputs: std::slice::from_ref(&x),
        outputs: &["y"],
        functions: &[],
    });
    let errors = known.import(&ImportOptions::default()).unwrap_err();
    assert!(
        errors.to_string().contains("index 2 of 2 elements"),
        "{errors}"
    );

    let image = array(&[2, 3], &[0.0; 6]);
    // (0, 3) is within the six elements, but not within its axis.
    for (operator, dims) in [("GatherND", &["1", "2"]), ("GatherElements", &["1", "2"])] {
        let parts = Parts {
            nodes: &[node(operator, &["x", "at"], "y")],
            inputs: &[x.clone(), value("at", &tensor_type(I64, dims))],
            outputs: &["y"],
            ..Parts::default()
        };
        let feed = |at: &[i64]| {
            run(
                &parts,
                &[("x", image.clone()), ("at", indices(&[1, 2], at))],
            )
        };
        assert!(feed(&[1, 1]).is_ok());
        let error = feed(&[0, 3]).unwrap_err();
        assert!(error.contains("out of range"), "{error}");
    }
}

#[test]
fn within_a_loop_an_index_out_of_range_is_the_nearest() {
    let body = graph(&Parts {
        nodes: &[
            node("Identity", &["go"], "on"),
            node("Gather", &["table", "carried"], "next"),
        ],
        outputs: &["on", "next"],
        inputs: &[value("i", &[]), value("go", &[]), value("carried", &[])],
        ..Parts::default()
    });
    let parts = Parts {
        nodes: &[node_with(
            "Loop",
            &["times", "", "start"],
            &["y"],
            &[graph_attribute("body", &body)],
        )],
        initializers: &[ints("times", &[], &[1])],
        inputs: &[
            value("start", &tensor_type(I64, &[])),
            value("table", &tensor_type(I64, &["2"])),
        ],
        outputs: &["y"],
        functions: &[],
    };
    let feeds = [
        ("start", indices(&[], &[7])),
        ("table", indices(&[2], &[30, 40])),
    ];
    let results = run(&parts, &feeds).unwrap();
    assert_eq!(results[0].ints().unwrap(), [40]);
}

/// A loop that appends slices of growing length to a sequence, of which it is given the first element.
#[test]
fn a_loop_over_sequences_is_unrolled() {
    let body = graph(&Parts {
        nodes: &[
            node("Identity", &["go"], "on"),
            node("Add", &["i", "one"], "end"),
            node("Unsqueeze", &["end", "zeros"], "ends"),
            node("Slice", &["x", "zeros", "ends"], "part"),
            node("SequenceInsert", &["parts", "part"], "more"),
        ],
        initializers: &[ints("one", &[], &[1]), ints("zeros", &[1], &[0])],
        inputs: &[value("i", &[]), value("go", &[]), value("parts", &[])],
        outputs: &["on", "more"],
        functions: &[],
    });
    let sequence = bytes(4, bytes(1, tensor_type(F32, &["1"])));
    let model = read(&Parts {
        nodes: &[node_with(
            "Loop",
            &["times", "yes", "s"],
            &["y"],
            &[graph_attribute("body", &body)],
        )],
        initializers: &[ints("times", &[], &[2]), tensor("yes", BOOL, &[], &[1])],
        inputs: &[value("x", &tensor_type(F32, &["3"])), value("s", &sequence)],
        outputs: &["y"],
        functions: &[],
    });
    let errors = model.import(&ImportOptions::default()).unwrap_err();
    assert!(
        errors.to_string().contains("ImportOptions::parts"),
        "{errors}"
    );

    let mut options = ImportOptions::default();
    let element = TensorType::new(DType::F32, [1]);
    options.parts.insert("s".into(), vec![element]);
    let import = model.import(&options).unwrap();
    assert_eq!(import.sequences, BTreeMap::from([("y".to_owned(), 3)]));
    let names: Vec<&str> = import
        .graph
        .outputs()
        .iter()
        .map(|o| o.name.as_str())
        .collect();
    assert_eq!(names, ["y.0", "y.1", "y.2"]);
    let feeds = BTreeMap::from([
        ("x".to_owned(), array(&[3], &[1.0, 2.0, 3.0])),
        ("s.0".to_owned(), array(&[1], &[9.0])),
    ]);
    let results = interpret(&import.graph, &feeds).unwrap();
    let results: Vec<&[f64]> = results.iter().map(|r| r.floats().unwrap()).collect();
    assert_eq!(results, [&[9.0][..], &[1.0], &[1.0, 2.0]]);
}
