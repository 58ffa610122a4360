//! Graphs with custom calls: everything but to run them works without their code.

use crate::folder::Folder;
use crate::run::{floats, save};

const CALL: &str = "kiln 1
graph @call<b>(%x: f32[b, 4]) {
  %0: f32[b, 4] = custom_call %x {target = \"my/op\", by = \"2\", results = (f32[b, 4])} @ net.py:7:5
  %1: f32[b, 4] = part %0 {index = [0]}
  %2: f32[b, 4] = add %1, %1
  return y: %2
}
";

#[test]
fn a_graph_is_shown_checked_and_optimized_without_the_op() {
    let folder = Folder::new("custom-shown");
    folder.write("call.kir", CALL);
    let said = folder.kiln(&["check", "call.kir"]).good();
    assert!(said.contains("call.kir"), "{said}");
    for (stage, expected) in [
        ("traced", "custom_call %x {target = \"my/op\", by = \"2\""),
        ("fused", "custom"),
        (
            "program",
            "custom call \"custom_call\" of \"my/op\" by=\"2\"",
        ),
    ] {
        let shown = folder.kiln(&["show", "call.kir", "--stage", stage]).good();
        assert!(shown.contains(expected), "{stage}: {shown}");
    }
    for format in ["dot", "json", "html"] {
        let shown = folder
            .kiln(&["show", "call.kir", "--format", format])
            .good();
        assert!(shown.contains("my/op"), "{format}: {shown}");
    }
    let optimized = folder
        .kiln(&["opt", "call.kir", "--pass", "cse,dce"])
        .good();
    assert!(optimized.contains("custom_call %x"), "{optimized}");
}

#[test]
fn a_run_says_what_is_missing_and_where_it_is_called() {
    let folder = Folder::new("custom-run");
    folder.write("call.kir", CALL);
    let x = floats(&[1, 4], &[1.0, 2.0, 3.0, 4.0]);
    save(&folder, "x.npz", &[("x", &x)]);
    for way in [&[][..], &["--interpret"]] {
        let run = ["run", "call.kir", "--inputs", "x.npz"];
        let said = folder.kiln(&[&run[..], way].concat()).wrong();
        assert!(
            said.contains("custom op `my/op` is not registered in this program"),
            "{said}"
        );
        assert!(said.contains("net.py:7:5"), "{said}");
    }
}

#[test]
fn an_export_names_the_op() {
    let folder = Folder::new("custom-export");
    folder.write("call.kir", CALL);
    let said = folder
        .kiln(&["export", "call.kir", "--to", "call.onnx"])
        .wrong();
    assert!(said.contains("custom op `my/op`"), "{said}");
    assert!(!folder.path("call.onnx").exists());
}
