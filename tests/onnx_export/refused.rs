//! What has no form in ONNX is listed, all of it, and nothing is written.

use kiln_interop::TensorRef;
use kiln_interop::onnx::{ExportError, ExportOptions, ImportOptions, Model, export, save};
use kiln_ir::ops::Bitcast;
use kiln_ir::{Builder, DType, Graph, Init};

/// Reads the bits of floats twice, and has a param.
fn bits() -> Graph {
    let g = Builder::new("bits");
    let x = g.input("x", DType::F32, (g.dim("b"),));
    let w = g.param("w", (), Init::zeros());
    let bits = g.push(Bitcast { to: DType::U32 }, &[x]);
    g.output("bits", bits);
    g.output("again", g.push(Bitcast { to: DType::I32 }, &[x * w]));
    g.output("twice", x + x);
    g.finish().expect("a graph")
}

#[test]
fn all_reasons_come_in_one_error() {
    let refused = export(&bits(), [], &ExportOptions::default());
    let Err(ExportError::Unexported { graph, nodes }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(graph, "bits");
    let found: Vec<(&str, &str)> = nodes
        .iter()
        .map(|n| (n.node.as_str(), n.op.as_str()))
        .collect();
    let wanted = [("w", "param"), ("0", "bitcast"), ("2", "bitcast")];
    let named = |(node, op): &(&str, &str), (name, wanted): &(&str, &str)| {
        node.trim_start_matches('%').starts_with(name) && op == wanted
    };
    assert!(
        found.len() == 3
            && found.iter().zip(&wanted).all(|(a, b)| a.1 == b.1)
            && named(&found[0], &wanted[0]),
        "{found:?}"
    );
    assert!(
        nodes[1].reason.contains("cannot read the bits of f32"),
        "{}",
        nodes[1]
    );
}

#[test]
fn what_the_chosen_outputs_do_not_need_is_left_out() {
    let twice = ExportOptions {
        outputs: vec!["twice".into()],
    };
    let bytes = export(&bits(), [], &twice).expect("a model");
    let model = Model::from_bytes("bits", bytes).expect("a model");
    assert_eq!(model.outputs(), ["twice"]);
    let import = model.import(&ImportOptions::default()).expect("a graph");
    assert!(import.params.is_empty());

    let none = ExportOptions {
        outputs: vec!["thrice".into()],
    };
    let error = export(&bits(), [], &none).unwrap_err().to_string();
    assert!(
        error.contains("no output `thrice`; its outputs are bits, again, twice"),
        "{error}"
    );
}

#[test]
fn a_value_of_another_type_is_refused_and_the_file_stays() {
    let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kept.onnx");
    std::fs::write(&path, "as it was").expect("written");
    let eight = 8f64.to_le_bytes();
    let w = TensorRef::new("w", DType::F64, &[], &eight).expect("a tensor");
    let error = save(&path, &bits(), [w], &ExportOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("its value has the type f64"), "{error}");
    assert_eq!(std::fs::read(&path).expect("there"), b"as it was");
}
