//! `kiln export`: a model that is read again, and what is said where values are missing.

use crate::folder::{Folder, STEP};
use crate::run::{floats, save};
use kiln_interop::onnx::{self, ImportOptions};

#[test]
fn a_graph_becomes_a_model_with_its_weights() {
    let folder = Folder::new("export");
    folder.write("step.kir", STEP);
    let w = floats(&[4], &[1.0, 2.0, 3.0, 4.0]);
    save(&folder, "w.npz", &[("w", &w)]);
    let export = ["export", "step.kir", "--to", "step.onnx"];
    let told = folder.kiln(&[&export[..], &["--weights", "w.npz"]].concat());
    assert_eq!(told.good(), "wrote step.onnx\n");
    let model = onnx::read(folder.path("step.onnx")).unwrap();
    assert_eq!((model.inputs(), model.outputs()), (vec!["x"], vec!["loss"]));
    let import = model.import(&ImportOptions::default()).unwrap();
    assert_eq!(import.params[0].1.bytes(), w.to_bytes());
}

#[test]
fn what_is_missing_is_named_and_nothing_is_written() {
    let folder = Folder::new("export-missing");
    folder.write("step.kir", STEP);
    let export = ["export", "step.kir", "--to", "step.onnx"];
    let told = folder.kiln(&export).wrong();
    assert!(
        told.contains("`w` (param: f32[4]): it has no value"),
        "{told}"
    );
    let told = folder
        .kiln(&[&export[..], &["--output", "y"]].concat())
        .wrong();
    assert!(
        told.contains("no output `y`; its outputs are loss"),
        "{told}"
    );
    let told = folder
        .kiln(&[&export[..], &["--weights", "step.kir"]].concat())
        .wrong();
    assert!(told.contains("`.safetensors` or `.npz`"), "{told}");
    assert!(!folder.path("step.onnx").exists());
}
