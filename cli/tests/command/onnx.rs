//! ONNX models as a user gives them to the command, and folders of ONNX's backend tests.

use crate::folder::{Folder, Ran};
use crate::run::{floats, save};
use kiln_interop::npz;
use kiln_ir::{Array, DType, Values};
use std::fs;

/// A field of a protobuf message: a varint below 128.
fn int(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// A field of a message: bytes, a text or another message, below 128 bytes or below 16 KiB.
fn bytes(field: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let size = match u8::try_from(content.len()) {
        Ok(size @ ..128) => vec![size],
        Ok(_) | Err(_) => vec![content.len() as u8 | 128, (content.len() >> 7) as u8],
    };
    [vec![field << 3 | 2], size, content.to_vec()].concat()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i)).collect();
    node.extend(bytes(2, output));
    node.extend(bytes(4, operator));
    node
}

/// An input of element type `dtype` and extents that are numbers or names.
fn input(name: &str, dtype: u8, extents: &[&str]) -> Vec<u8> {
    let extent = |extent: &&str| match extent.parse() {
        Ok(number) => bytes(1, int(1, number)),
        Err(_) => bytes(1, bytes(2, extent)),
    };
    let shape: Vec<u8> = extents.iter().flat_map(extent).collect();
    let tensor = [int(1, dtype), bytes(2, shape)].concat();
    [bytes(1, name), bytes(2, bytes(1, tensor))].concat()
}

/// A tensor of f32.
fn tensor(name: &str, shape: &[u8], values: &[f32]) -> Vec<u8> {
    let shape: Vec<u8> = shape.iter().flat_map(|extent| int(1, *extent)).collect();
    let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    [shape, int(2, 1), bytes(8, name), bytes(9, data)].concat()
}

/// A model with the output `y` and the initializer `w` `[2]`.
fn model(nodes: &[Vec<u8>], inputs: &[Vec<u8>]) -> Vec<u8> {
    let graph = [
        nodes.iter().flat_map(|n| bytes(1, n)).collect(),
        bytes(2, "small"),
        bytes(5, tensor("w", &[2], &[10.0, 20.0])),
        inputs.iter().flat_map(|i| bytes(11, i)).collect(),
        bytes(12, bytes(1, "y")),
    ];
    [int(1, 9), bytes(7, graph.concat()), bytes(8, int(2, 17))].concat()
}

/// `y = x + w`, where `x` is `[batch, 2]`.
fn sum() -> Vec<u8> {
    model(
        &[node("Add", &["x", "w"], "y")],
        &[input("x", 1, &["batch", "2"])],
    )
}

#[test]
fn a_model_is_checked_shown_optimised_and_run_with_its_weights() {
    let folder = Folder::new("onnx");
    folder.write("sum.onnx", sum());
    let told = folder.kiln(&["check", "sum.onnx"]).good();
    assert!(
        told.starts_with("sum.onnx: graph @small,") && told.contains("1 input, 1 param"),
        "{told}"
    );
    let text = folder.kiln(&["show", "sum.onnx"]).good();
    assert!(
        text.contains("%x: f32[batch, 2]; param %w: f32[2]"),
        "{text}"
    );
    folder.write("sum.kir", &text);
    assert_eq!(folder.kiln(&["show", "sum.kir"]).good(), text);
    folder.kiln(&["diff", "sum.kir", "sum.onnx"]).good();
    let page = folder
        .kiln(&["show", "sum.onnx", "--format", "html"])
        .good();
    assert!(page.contains("<h1>small</h1>"));
    let param = "<td>param<td><code>w</code><td><code>f32[2]</code><td>as in the model";
    assert!(page.contains(param), "the weight is not drawn");
    folder
        .kiln(&["opt", "sum.onnx", "--pass", "cse,dce,fuse"])
        .good();

    save(
        &folder,
        "x.npz",
        &[("x", &floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]))],
    );
    let run = ["run", "sum.onnx", "--inputs", "x.npz", "--outputs", "y.npz"];
    for way in [&[][..], &["--interpret"]] {
        folder.kiln(&[&run[..], way].concat()).good();
        let outputs = npz::open(&folder.path("y.npz")).unwrap();
        let y = outputs.get("y").unwrap().to_array().unwrap();
        assert_eq!(y, floats(&[2, 2], &[11.0, 22.0, 13.0, 24.0]), "{way:?}");
    }
    // Weights from a file take the place of the model's.
    save(&folder, "w.npz", &[("w", &floats(&[2], &[0.0, 0.0]))]);
    for way in [&[][..], &["--interpret"]] {
        let told = folder.kiln(&[&run[..], &["--inputs", "w.npz"], way].concat());
        assert_eq!(told.good(), "y: f32[2, 2] from 1 to 4\n", "{way:?}");
    }
}

#[test]
fn extents_and_values_that_decide_shapes_are_given_on_the_command_line() {
    let folder = Folder::new("onnx-dims");
    folder.write("sum.onnx", sum());
    let shown = |more: &[&str]| folder.kiln(&[&["show", "sum.onnx"], more].concat());
    let text = shown(&["--dims", "batch=3"]).good();
    assert!(text.contains("%x: f32[3, 2]"), "{text}");
    let text = shown(&["--dims", "batch=32*h"]).good();
    assert!(text.contains("%x: f32[32*h, 2]"), "{text}");
    let message = shown(&["--dims", "height=3"]).usage();
    assert!(message.contains("extents of ONNX models"), "{message}");
    for bad in ["batch", "batch=", "batch=-1", "batch=32*"] {
        shown(&["--dims", bad]).usage();
    }

    // `Expand` to a shape that is an input.
    let nodes = [node("Expand", &["w", "shape"], "y")];
    folder.write(
        "expand.onnx",
        model(&nodes, &[input("shape", 7, &["axes"])]),
    );
    let message = folder.kiln(&["check", "expand.onnx"]).wrong();
    assert!(message.contains("`shape`, is computed"), "{message}");
    let fixed = |value: &str| folder.kiln(&["run", "expand.onnx", "--fix", value]);
    assert_eq!(fixed("shape=3,2").good(), "y: f32[3, 2] from 10 to 20\n");
    for (bad, wanted) in [
        ("shape=1.5", "1.5 is no element of i64[axes]"),
        ("size=3", "no such input, but `shape`"),
        ("shape=", "expected INPUT=NUMBERS"),
        ("shape", "expected INPUT=NUMBERS"),
    ] {
        let message = fixed(bad).usage();
        assert!(message.contains(wanted), "{message}");
    }
    folder.write("step.kir", crate::folder::STEP);
    let message = folder.kiln(&["check", "step.kir", "--fix", "x=1"]).usage();
    assert!(message.contains("step.kir is no ONNX model"), "{message}");
    let message = folder.kiln(&["check", "step.kir", "--dims", "b=1"]).usage();
    assert!(message.contains("`b` is no extent of an ONNX"), "{message}");
    let run = ["run", "step.kir", "--dims", "b=2*c"];
    save(&folder, "x.npz", &[("x", &floats(&[2, 4], &[0.0; 8]))]);
    let message = folder
        .kiln(&[&run[..], &["--inputs", "x.npz"]].concat())
        .usage();
    assert!(message.contains("`2*c` is no size for `b`"), "{message}");
}

#[test]
fn what_a_model_leaves_open_is_asked_for_or_taken_from_the_inputs() {
    let folder = Folder::new("onnx-open");
    // `y = x + z`, whose axes fit only where `left` and `right` are the same, expanded to a shape.
    let nodes = [
        node("Add", &["x", "z"], "sum"),
        node("Expand", &["sum", "shape"], "y"),
    ];
    let inputs = [
        input("x", 1, &["rows", "left"]),
        input("z", 1, &["rows", "right"]),
        input("shape", 7, &["axes"]),
    ];
    folder.write("open.onnx", model(&nodes, &inputs));
    let message = folder.kiln(&["check", "open.onnx"]).wrong();
    for wanted in [
        "open: `x`, f32[rows, left]; `z`, f32[rows, right]. `kiln run` takes them",
        "  kiln check open.onnx --dims left=64,right=64,rows=64\n",
    ] {
        assert!(message.contains(wanted), "{message}");
    }
    // Where some of it is known, only what matters of the rest is asked for.
    let check = |more: &[&str]| folder.kiln(&[&["check", "open.onnx"], more].concat());
    let message = check(&["--dims", "left=1,right=1"]).wrong();
    assert!(message.contains("of `shape` perhaps"), "{message}");
    assert!(
        message.contains("  kiln check open.onnx --fix shape=1\n"),
        "{message}"
    );
    let message = check(&["--fix", "shape=4,2,3", "--dims", "rows=2"]).wrong();
    assert!(message.contains("--dims left=1,right=1\n"), "{message}");
    check(&["--fix", "shape=4,2,3", "--dims", "rows=2,left=1,right=1"]).good();

    let x = floats(&[2, 1], &[1.0, 2.0]);
    let shape = Array::new(DType::I64, vec![3], Values::Int(vec![4, 2, 3])).unwrap();
    save(&folder, "x.npz", &[("x", &x)]);
    save(&folder, "z.npz", &[("z", &x), ("shape", &shape)]);
    let run = |more: &[&str]| {
        let run = ["run", "open.onnx", "--inputs", "x.npz"];
        folder.kiln(&[&run[..], more].concat())
    };
    for way in [
        &["--inputs", "z.npz"][..],
        &["--inputs", "z.npz", "--interpret"],
    ] {
        assert_eq!(run(way).good(), "y: f32[4, 2, 3] from 2 to 4\n");
    }
    let message = run(&[]).wrong();
    let missing = "in no file of `--inputs`:\n  z: f32[rows, right]\n  shape: i64[axes]";
    assert!(message.contains(missing), "{message}");
    let message = run(&["--inputs", "z.npz", "--fix", "shape=2,1"]).usage();
    assert!(
        message.contains("--fix shape: z.npz has it too"),
        "{message}"
    );
    save(&folder, "flat.npz", &[("z", &floats(&[2], &[1.0, 2.0]))]);
    let message = run(&["--inputs", "flat.npz"]).wrong();
    let unfit = "flat.npz: `z` is f32[2], but in the model it is f32[rows, right]";
    assert!(message.contains(unfit), "{message}");
}

#[test]
fn files_that_are_no_models_and_operators_that_nobody_knows_are_refused() {
    let folder = Folder::new("onnx-bad");
    let whole = sum();
    for part in 1..whole.len() {
        folder.write("cut.onnx", &whole[..part]);
        folder.kiln(&["check", "cut.onnx"]).wrong();
    }
    folder.write("noise.onnx", [0xa7; 500]);
    let message = folder.kiln(&["check", "noise.onnx"]).wrong();
    assert!(
        message.contains("noise.onnx is not a whole ONNX model"),
        "{message}"
    );
    let nodes = [node("Fancy", &["w"], "y")];
    folder.write("fancy.onnx", model(&nodes, &[]));
    let message = folder.kiln(&["show", "fancy.onnx"]).wrong();
    assert!(
        message.contains("fancy.onnx: a part of the model cannot be imported:"),
        "{message}"
    );
}

/// A folder of a test: `y = x + w` for `x = [[1, 2]]`, and what is said to come out.
fn test(folder: &Folder, name: &str, model: &[u8], wanted: &[f32]) {
    let set = folder.path(&format!("tests/{name}/test_data_set_0"));
    fs::create_dir_all(&set).unwrap();
    folder.write(&format!("tests/{name}/model.onnx"), model);
    fs::write(set.join("input_0.pb"), tensor("x", &[1, 2], &[1.0, 2.0])).unwrap();
    fs::write(set.join("output_0.pb"), tensor("y", &[1, 2], wanted)).unwrap();
}

#[test]
fn backend_tests_have_a_line_each_and_a_sum() {
    let folder = Folder::new("onnx-test");
    let input = [input("x", 1, &["1", "2"])];
    test(&folder, "test_b_good", &sum(), &[11.0, 22.0]);
    test(&folder, "test_a_good", &sum(), &[11.0, 22.0]);
    let fancy = model(&[node("Fancy", &["x"], "y")], &input);
    test(&folder, "test_c_fancy", &fancy, &[0.0, 0.0]);
    fs::create_dir_all(folder.path("tests/no_test")).unwrap();
    let told = |ran: Ran| {
        let lines: Vec<String> = ran.out.lines().map(str::to_owned).collect();
        (lines, ran.code)
    };
    for way in [&[][..], &["--interpret"]] {
        let run = folder.kiln(&[&["onnx-test", "tests"], way].concat());
        let (lines, code) = told(run);
        assert_eq!(lines[..2], ["pass test_a_good", "pass test_b_good"]);
        assert!(
            lines[2].starts_with("unsupported test_c_fancy "),
            "{lines:?}"
        );
        assert_eq!(lines[3..], ["2 pass, 0 fail, 1 unsupported"]);
        assert_eq!(code, Some(0), "what is unsupported fails nothing");
    }
    test(&folder, "test_d_bad", &sum(), &[11.0, 22.5]);
    for way in [&[][..], &["--interpret"]] {
        let one = ["onnx-test", "tests/test_d_bad", "tests/test_a_good"];
        let (lines, code) = told(folder.kiln(&[&one[..], way].concat()));
        assert_eq!(
            lines[0],
            "fail test_d_bad output `y`: element 1 is 22, wanted 22.5"
        );
        assert_eq!(lines[2], "1 pass, 1 fail, 0 unsupported");
        assert_eq!(code, Some(1));
    }
    let message = folder.kiln(&["onnx-test", "tests/no_test"]).wrong();
    assert!(message.contains("has a `model.onnx`"), "{message}");
    folder.kiln(&["onnx-test", "nowhere"]).wrong();
    folder.kiln(&["onnx-test"]).usage();
}
