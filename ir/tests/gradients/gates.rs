//! Element-wise functions of one tensor that it enters in several places, whose slopes are put together before they meet the cotangent.

use crate::check::Case;
use kiln_ir::{Builder, DType, Init, NodeId, Tensor, grad};
use std::f64::consts::FRAC_1_SQRT_2;

fn gelu(x: Tensor<'_>) -> Tensor<'_> {
    x * 0.5 * ((x * FRAC_1_SQRT_2).erf() + 1.0)
}

fn silu(x: Tensor<'_>) -> Tensor<'_> {
    x * x.logistic()
}

pub(crate) fn cases() -> Vec<Case> {
    let one = |op, build: for<'g> fn(Tensor<'g>) -> Tensor<'g>| {
        Case::new(op, &[&[2, 3]], (-1.5, 1.5), move |p| build(p[0]))
    };
    vec![
        one("erf", gelu),
        one("logistic", silu),
        one("tanh", |x| x * x.exp().log1p().tanh()),
        // A choice is no gate.
        one("select", |x| x.where_(x.gt(0.1), x.expm1() * 0.7)),
        one("fma", |x| x.fma(x.sin(), x * x)),
        // A gate of a gate, and gates of a tensor that has other readers.
        one("exp", |x| silu(gelu(x.exp()))),
        one("mul", |x| silu(x) * gelu(x) + x),
        // Functions of two tensors are none, nor is one whose middle is read elsewhere.
        Case::new("atan2", &[&[4], &[4]], (0.5, 2.0), |p| {
            p[0] * (p[0] * p[1]).logistic() + p[1].atan2(p[0])
        }),
        one("reduce sum", |x| {
            let gate = x.logistic();
            x * gate * gate.sum()
        }),
        Case::new("broadcast", &[&[3], &[2, 3]], (-1.0, 1.0), |p| {
            p[0] * p[0].logistic() * p[1]
        }),
    ]
}

/// How many nodes the cotangent of what `gate` makes goes through on its way to the params, for which gradients `of` asks.
fn steps(gate: impl for<'g> Fn(Tensor<'g>) -> (Tensor<'g>, Vec<Tensor<'g>>)) -> usize {
    let g = Builder::new("gate");
    let x = g.param_of("x", DType::F32, [4], Init::zeros());
    let weight = g.param_of("weight", DType::F32, [4], Init::zeros());
    let (result, asked) = gate(x);
    let before = weight.id().expect("a node");
    let loss = (result * weight).sum();
    let last = loss.id().expect("a node");
    for (i, gradient) in grad(loss, &asked).into_iter().enumerate() {
        g.output(&format!("d{i}"), gradient);
    }
    let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
    let mut hangs_on: Vec<NodeId> = vec![before];
    for (id, node) in graph.nodes() {
        if node.operands.iter().any(|o| hangs_on.contains(o)) {
            hangs_on.push(id);
        }
    }
    hangs_on.iter().filter(|id| **id > last).count()
}

#[test]
fn the_cotangent_meets_the_slope_of_a_gate_once() {
    // The cotangent itself, and its product with the slope.
    assert_eq!(steps(|x| (gelu(x), vec![x])), 2);
    assert_eq!(steps(|x| (silu(x), vec![x])), 2);
    // Two paths meet in a sum where a short function is all that there is.
    assert_eq!(steps(|x| (x * (x + 1.0), vec![x])), 4);
}

#[test]
fn an_infinite_cotangent_does_not_pass_a_choice() {
    let inner: [for<'g> fn(Tensor<'g>) -> Tensor<'g>; 2] = [|x| x.log(), silu];
    for inner in inner {
        let g = Builder::new("choice");
        let x = g.param_of("p0", DType::F64, [1], Init::zeros());
        let chosen = inner(x).where_(x.gt(0.0), 0.0);
        let gradient = grad(chosen.sqrt().sum(), &[x])[0];
        g.output("dx", gradient);
        let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
        let found = crate::check::run(&graph, &[vec![-1.0]], &[vec![1]]);
        assert_eq!(found[0], [0.0]);
    }
}

#[test]
fn what_is_asked_for_within_a_gate_gets_a_gradient_of_its_own() {
    let asked = steps(|x| {
        let gate = x.logistic();
        (x * gate, vec![x, gate])
    });
    assert!(asked > 2, "{asked}");
    let g = Builder::new("asked");
    let x = g.param_of("p0", DType::F64, [1], Init::zeros());
    let gate = x.logistic();
    let gradients = grad((x * gate).sum(), &[x, gate]);
    g.output("dx", gradients[0]);
    g.output("dgate", gradients[1]);
    let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
    let x = 0.3_f64;
    let s = 1.0 / (1.0 + (-x).exp());
    let found = crate::check::run(&graph, &[vec![x]], &[vec![1]]);
    assert!((found[0][0] - (s + x * s * (1.0 - s))).abs() < 1e-12);
    assert_eq!(found[1], [x]);
}
