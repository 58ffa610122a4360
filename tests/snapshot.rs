//! The macro for snapshot tests of a user's own models, as README shows it.

use kiln::{Builder, DType, Graph, Init, Optimizer, Sgd, Stage, assert_ir_snapshot};

fn model() -> Graph {
    let g = Builder::new("model");
    let x = g.input("x", DType::F32, (g.dim("b"), 4));
    let w = g.param("w", (4, 1), Init::normal(0.1));
    let loss = x.dot(w).square().mean();
    g.output("loss", loss);
    Sgd::new(0.1).minimize(loss);
    g.finish().unwrap()
}

#[test]
fn a_model_is_as_it_was_reviewed() {
    assert_ir_snapshot!(model(), Stage::Differentiated);
    assert_ir_snapshot!("the-groups", model(), Stage::Fused);
}
