//! The macro for snapshot tests of a user's own models, as README shows it.
//!
//! The model is one map, so that these snapshots change with the printed forms and not with every step that fusion learns.

use kiln::{Builder, DType, Graph, Init, Stage, assert_ir_snapshot};

fn model() -> Graph {
    let g = Builder::new("model");
    let x = g.input("x", DType::F32, (g.dim("b"), 4));
    let gain = g.param("gain", [4], Init::ones());
    g.output("y", (x * gain).tanh());
    g.finish().unwrap()
}

#[test]
fn a_model_is_as_it_was_reviewed() {
    assert_ir_snapshot!(model(), Stage::Optimized);
    assert_ir_snapshot!("the-groups", model(), Stage::Fused);
}
