//! Every differentiable op against central differences in f64, first and second order.
//!
//! The families' files list cases; here they run, and a table walks all ops, so that one without a case fails.

mod check;
mod control;
mod custom;
mod gates;
mod indexing;
mod movement;
mod reduction;
mod scalar;
mod window;

use check::{Case, key, run};
use kiln_ir::ops::{Iota, Op, OutOfRange, ReduceKind, ScatterKind};
use kiln_ir::{Builder, DType, Init, Tensor, TensorType, grad};
use std::collections::BTreeSet;

/// Ops through which no gradient flows: sources, which have no operand; ops whose result is an integer or `bool`; and ops that are
/// constant between their jumps, or that stop the gradient by definition.
const NOT_DIFFERENTIABLE: &[&str] = &[
    "source",
    "const",
    "iota",
    "dim_size",
    "sign",
    "floor",
    "ceil",
    "round",
    "not",
    "is_finite",
    "and",
    "or",
    "xor",
    "shl",
    "shr",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "bitcast",
    "stop_gradient",
    "reduce any",
    "reduce all",
    "argmax",
    "argmin",
    "argsort",
    "argmax_window",
    "argmin_window",
    "rng_bits",
    "while",
    "part",
];

fn check_all(cases: Vec<Case>) {
    for case in cases {
        case.check();
    }
}

#[test]
fn control_ops() {
    check_all(control::cases());
}

#[test]
fn custom_calls() {
    check_all(custom::cases());
}

#[test]
fn scalar_ops() {
    check_all(scalar::cases());
}

#[test]
fn gates() {
    check_all(gates::cases());
}

#[test]
fn movement_ops() {
    check_all(movement::cases());
}

#[test]
fn reductions_and_contractions() {
    check_all(reduction::cases());
}

#[test]
fn indexing_ops() {
    check_all(indexing::cases());
}

#[test]
fn convolutions() {
    check_all(window::convolutions());
}

#[test]
fn windows() {
    check_all(window::pools());
}

#[test]
fn every_op_is_checked_or_listed() {
    let families = [
        control::cases(),
        custom::cases(),
        scalar::cases(),
        movement::cases(),
        reduction::cases(),
        indexing::cases(),
        window::convolutions(),
        window::pools(),
    ];
    let checked: BTreeSet<String> = families.iter().flatten().map(|c| c.op.to_owned()).collect();
    let listed: BTreeSet<String> = NOT_DIFFERENTIABLE.iter().map(|n| (*n).to_owned()).collect();
    assert_eq!(checked.intersection(&listed).next(), None);
    let known: BTreeSet<String> = Op::representatives().iter().map(key).collect();
    let covered: BTreeSet<String> = checked.union(&listed).cloned().collect();
    assert_eq!(known, covered);
}

/// The gradients at `points` of the sum of what `build` makes.
fn gradients(
    points: &[&[f64]],
    build: impl for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g>,
) -> Vec<Vec<f64>> {
    let g = Builder::new("gradients");
    let params: Vec<Tensor<'_>> = points
        .iter()
        .enumerate()
        .map(|(i, p)| {
            g.param_of(
                &format!("p{i}"),
                DType::F64,
                [p.len() as i64],
                Init::zeros(),
            )
        })
        .collect();
    let loss = build(&params).sum();
    for (i, d) in grad(loss, &params).into_iter().enumerate() {
        g.output(&format!("d{i}"), d);
    }
    let graph = g.finish().unwrap_or_else(|e| panic!("{e}"));
    let values: Vec<Vec<f64>> = points.iter().map(|p| p.to_vec()).collect();
    let sizes: Vec<Vec<i64>> = points.iter().map(|p| vec![p.len() as i64]).collect();
    run(&graph, &values, &sizes)
}

/// `count` times the index 0.
fn zeros_of(g: &Builder, count: i64) -> Tensor<'_> {
    let iota = Iota {
        ty: TensorType::new(DType::I64, [count]),
        axis: 0,
    };
    g.push(iota, &[]) * 0.0
}

#[test]
fn ties_share_the_cotangent() {
    let (x, y): (&[f64], &[f64]) = (&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]);
    assert_eq!(
        gradients(&[x, y], |p| p[0].maximum(p[1])),
        [[0.5, 0.0, 1.0], [0.5, 1.0, 0.0]]
    );
    assert_eq!(
        gradients(&[&[2.0, 1.0, 2.0, 2.0]], |p| p[0]
            .reduce(ReduceKind::Max, &[0])),
        [[1.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0]]
    );
    // The base and two of the three updates reach the result.
    let shared = gradients(&[&[5.0], &[5.0, 4.0, 5.0]], |p| {
        let at = zeros_of(p[0].builder(), 3);
        p[0].scatter(ScatterKind::Max, 0, at, p[1], OutOfRange::Clamp)
    });
    let third = 1.0 / 3.0;
    assert_eq!(shared, [vec![third], vec![third, 0.0, third]]);
}

#[test]
fn the_last_update_of_a_set_takes_the_cotangent() {
    let found = gradients(&[&[7.0, 8.0], &[1.0, 2.0, 3.0]], |p| {
        let at = zeros_of(p[0].builder(), 3);
        p[0].scatter(ScatterKind::Set, 0, at, p[1], OutOfRange::Skip)
    });
    assert_eq!(found, [vec![0.0, 1.0], vec![0.0, 0.0, 1.0]]);
}

#[test]
fn the_power_with_exponent_zero_is_constant() {
    let found = gradients(&[&[0.0, 2.0, -1.0], &[0.0, 0.0, 0.0]], |p| p[0].pow(p[1]));
    assert_eq!(found[0], [0.0, 0.0, 0.0]);
    assert_eq!(found[1], [0.0, 2.0_f64.ln(), 0.0]);
}

#[test]
fn infinite_cotangents_do_not_leak_out_of_padding() {
    // The cotangent of an element of the operand is infinite, that of the padding is 1.
    let found = gradients(&[&[0.0], &[1.0]], |p| {
        let value = p[1].sum();
        let zero = [0_i64].map(kiln_ir::Dim::from);
        let one = [1_i64].map(kiln_ir::Dim::from);
        p[0].pad(value, &zero, &one, &[0]).sqrt()
    });
    assert_eq!(found, [vec![f64::INFINITY], vec![0.5]]);
}
