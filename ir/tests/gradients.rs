//! Every differentiable op against central differences in f64, first and second order.
//!
//! The loss is a weighted sum of the op's result, so that no element can hide behind another. The second order differentiates the
//! weighted sum of the first-order gradients once more and is checked in the same way.

use kiln_ir::ops::ReduceKind;
use kiln_ir::{Array, Builder, DType, Dim, Graph, Init, Tensor, Values, eval, grad};

const STEP: f64 = 1e-5;

/// A weight for each element: different, none zero.
fn weights<'g>(like: Tensor<'g>) -> Tensor<'g> {
    let ty = like.ty().expect("the op under test fits");
    let mut total = like.builder().splat(ty.dtype, &ty.shape, 0.7);
    for axis in 0..ty.rank() {
        let index = kiln_ir::ops::Iota {
            ty: ty.clone(),
            axis,
        };
        total = total + like.builder().push(index, &[]) * (0.3 + axis as f64);
    }
    total
}

/// The scalar of one order: outputs the loss and its gradients.
fn build(
    op: &dyn for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g>,
    shapes: &[Vec<i64>],
    order: usize,
) -> Graph {
    let g = Builder::new("gradient");
    let params: Vec<Tensor<'_>> = shapes
        .iter()
        .enumerate()
        .map(|(i, s)| g.param_of(&format!("p{i}"), DType::F64, s.as_slice(), Init::zeros()))
        .collect();
    let result = op(&params);
    let mut loss = (result * weights(result)).sum();
    if order == 2 {
        let first = grad(loss, &params);
        loss = first
            .iter()
            .map(|t| (t.square() * weights(*t)).sum())
            .reduce(|a, b| a + b)
            .expect("params");
    }
    g.output("loss", loss);
    for (i, gradient) in grad(loss, &params).into_iter().enumerate() {
        g.output(&format!("d{i}"), gradient);
    }
    g.finish().unwrap_or_else(|e| panic!("{e}"))
}

fn run(graph: &Graph, points: &[Vec<f64>], shapes: &[Vec<i64>]) -> Vec<Vec<f64>> {
    let step = eval(graph, |slot| {
        let i: usize = slot.name[1..].parse().ok()?;
        let shape = shapes[i].iter().map(|d| *d as usize).collect();
        Array::new(DType::F64, shape, Values::Float(points[i].clone())).ok()
    });
    step.unwrap()
        .outputs
        .iter()
        .map(|a| a.floats().unwrap().to_vec())
        .collect()
}

/// Points between `low` and `high`, spread and without ties.
fn points(shapes: &[Vec<i64>], low: f64, high: f64) -> Vec<Vec<f64>> {
    let mut k = 0.0;
    let mut next = || {
        k += 0.618_033_988_749_895;
        low + (high - low) * f64::fract(k)
    };
    shapes
        .iter()
        .map(|s| (0..s.iter().product()).map(|_| next()).collect())
        .collect()
}

fn check_order(
    name: &str,
    op: &dyn for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g>,
    shapes: &[Vec<i64>],
    range: (f64, f64),
    order: usize,
) {
    let graph = build(op, shapes, order);
    let at = points(shapes, range.0, range.1);
    let exact = run(&graph, &at, shapes);
    for (p, values) in at.iter().enumerate() {
        for i in 0..values.len() {
            let loss = |delta: f64| {
                let mut moved = at.clone();
                moved[p][i] += delta;
                run(&graph, &moved, shapes)[0][0]
            };
            let central = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
            let analytic = exact[1 + p][i];
            let scale = 1.0 + central.abs().max(exact[0][0].abs());
            assert!(
                (central - analytic).abs() <= 1e-6 * scale,
                "{name}, order {order}, p{p}[{i}]: {analytic} but {central}"
            );
        }
    }
}

fn check(
    name: &str,
    op: &dyn for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g>,
    shapes: &[&[i64]],
    range: (f64, f64),
) {
    let shapes: Vec<Vec<i64>> = shapes.iter().map(|s| s.to_vec()).collect();
    check_order(name, op, &shapes, range, 1);
    check_order(name, op, &shapes, range, 2);
}

#[test]
fn unary_ops() {
    type Case = (
        &'static str,
        for<'g> fn(Tensor<'g>) -> Tensor<'g>,
        (f64, f64),
    );
    let cases: [Case; 17] = [
        ("neg", |x| x.neg().square(), (-2.0, 2.0)),
        ("abs", |x| x.abs().exp(), (0.1, 2.0)),
        ("abs of negatives", |x| x.abs().exp(), (-2.0, -0.1)),
        ("exp", |x| x.exp(), (-2.0, 2.0)),
        ("expm1", |x| x.expm1(), (-2.0, 2.0)),
        ("log", |x| x.log(), (0.5, 3.0)),
        ("log1p", |x| x.log1p(), (-0.5, 3.0)),
        ("sqrt", |x| x.sqrt(), (0.5, 3.0)),
        ("rsqrt", |x| x.rsqrt(), (0.5, 3.0)),
        ("recip", |x| x.recip(), (0.5, 3.0)),
        ("sin", |x| x.sin(), (-3.0, 3.0)),
        ("cos", |x| x.cos(), (-3.0, 3.0)),
        ("tan", |x| x.tan(), (-1.0, 1.0)),
        ("tanh", |x| x.tanh(), (-2.0, 2.0)),
        ("logistic", |x| x.logistic(), (-3.0, 3.0)),
        ("erf", |x| x.erf(), (-2.0, 2.0)),
        ("erfc", |x| x.erfc(), (-2.0, 2.0)),
    ];
    for (name, op, range) in cases {
        check(name, &|p| op(p[0]), &[&[2, 3]], range);
    }
}

#[test]
fn binary_ops() {
    type Case = (
        &'static str,
        for<'g> fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
    );
    let cases: [Case; 9] = [
        ("add", |x, y| (x + y).square()),
        ("sub", |x, y| (x - y).square()),
        ("mul", |x, y| x * y),
        ("div", |x, y| x / y),
        ("rem", |x, y| x.rem(y * 0.4).square()),
        ("pow", |x, y| x.pow(y)),
        ("atan2", |x, y| x.atan2(y)),
        ("max", |x, y| x.maximum(y).square()),
        ("min", |x, y| x.minimum(y).square()),
    ];
    for (name, op) in cases {
        check(name, &|p| op(p[0], p[1]), &[&[2, 3], &[2, 3]], (0.5, 2.5));
        check(name, &|p| op(p[0], p[1]), &[&[2, 3], &[3]], (0.5, 2.5));
    }
}

#[test]
fn movement_selection_and_conversion() {
    check(
        "broadcast",
        &|p| p[0].broadcast_to([4, 2, 3]).exp(),
        &[&[2, 1]],
        (-1.0, 1.0),
    );
    check(
        "reshape",
        &|p| p[0].reshape([3, 2]).exp(),
        &[&[2, 3]],
        (-1.0, 1.0),
    );
    check(
        "transpose",
        &|p| p[0].transpose(&[2, 0, 1]).exp(),
        &[&[2, 3, 2]],
        (-1.0, 1.0),
    );
    check(
        "select",
        &|p| p[0].square().where_(p[0].gt(0.2), p[1].exp()),
        &[&[5], &[5]],
        (-1.0, 1.0),
    );
    check(
        "convert",
        &|p| p[0].convert(DType::F64).exp(),
        &[&[3]],
        (-1.0, 1.0),
    );
    let dims = |v: [i64; 2]| v.map(Dim::from);
    check(
        "slice",
        &|p| p[0].slice(&dims([1, 0]), &dims([5, 3]), &[2, 2]).exp(),
        &[&[6, 4]],
        (-1.0, 1.0),
    );
}

#[test]
fn reductions() {
    for axes in [vec![0], vec![1], vec![0, 1], vec![]] {
        check(
            "sum",
            &|p| p[0].reduce(ReduceKind::Sum, &axes).square(),
            &[&[3, 4]],
            (0.1, 1.0),
        );
        check(
            "max",
            &|p| p[0].reduce(ReduceKind::Max, &axes).exp(),
            &[&[3, 4]],
            (-1.0, 1.0),
        );
        check(
            "min",
            &|p| p[0].reduce(ReduceKind::Min, &axes).exp(),
            &[&[3, 4]],
            (-1.0, 1.0),
        );
    }
    check("mean", &|p| p[0].mean().exp(), &[&[3, 4]], (-1.0, 1.0));
}

#[test]
fn products() {
    check("dot", &|p| p[0].dot(p[1]), &[&[2, 3], &[3, 2]], (-1.0, 1.0));
    check(
        "vector dot",
        &|p| p[0].dot(p[1]),
        &[&[3], &[3]],
        (-1.0, 1.0),
    );
    check(
        "transposed",
        &|p| p[0].dot_general(p[1], &[0], &[1], &[], &[]),
        &[&[3, 2], &[4, 3]],
        (-1.0, 1.0),
    );
    check(
        "batched",
        &|p| p[0].dot_general(p[1], &[2], &[0], &[0], &[2]),
        &[&[2, 3, 2], &[2, 2, 2]],
        (-1.0, 1.0),
    );
    check(
        "two axes",
        &|p| p[0].dot_general(p[1], &[0, 2], &[2, 0], &[], &[]),
        &[&[2, 3, 2], &[2, 2, 2]],
        (-1.0, 1.0),
    );
}

#[test]
fn ties_share_the_cotangent() {
    let g = Builder::new("ties");
    let x = g.param_of("p0", DType::F64, [3], Init::zeros());
    let y = g.param_of("p1", DType::F64, [3], Init::zeros());
    let loss = x.maximum(y).sum();
    for (i, d) in grad(loss, &[x, y]).into_iter().enumerate() {
        g.output(&format!("d{i}"), d);
    }
    let graph = g.finish().unwrap();
    let found = run(
        &graph,
        &[vec![1.0, 2.0, 3.0], vec![1.0, 3.0, 2.0]],
        &[vec![3], vec![3]],
    );
    assert_eq!(found, [vec![0.5, 0.0, 1.0], vec![0.5, 1.0, 0.0]]);
}
