//! Random convolutions and windows: what they compute is linear, and their adjoints are the adjoints of it.
//!
//! For a function `f` that is linear in `x`, `sum(f(x) * g) = sum(x * df)` where `df` is the cotangent of `x` for the cotangent `g`. All
//! numbers are small integers, so that both sides are equal bit for bit.

mod common;

use common::Choices;
use kiln_ir::ops::{
    ArgKind, ArgWindow, Conv, ConvAxes, ConvGroups, DataAxes, DataRole, GatherWindow, KernelAxes,
    KernelRole, Op, ReduceWindow, ScatterWindow, WindowAxis, WindowKind, Windows,
};
use kiln_ir::{Array, Builder, DType, Dim, Graph, Init, Shape, Tensor, Values, eval, grad, verify};
use proptest::prelude::*;

fn number(choices: &mut Choices, low: i64, high: i64) -> i64 {
    low + choices.below((high - low + 1) as usize) as i64
}

fn axis(choices: &mut Choices) -> WindowAxis {
    WindowAxis {
        stride: number(choices, 1, 3),
        low: Dim::from(number(choices, -2, 3)),
        high: Dim::from(number(choices, -2, 3)),
        base_dilation: number(choices, 1, 3),
        window_dilation: number(choices, 1, 2),
    }
}

/// The axes 0 to `rank` in any order.
fn order(choices: &mut Choices, rank: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..rank).collect();
    (0..rank)
        .map(|_| left.remove(choices.below(left.len())))
        .collect()
}

/// A convolution and the shapes of its operands.
fn convolution(choices: &mut Choices) -> (Op, [Vec<i64>; 2]) {
    let spatial = 1 + choices.below(3);
    let [lhs, rhs, out] = [0; 3].map(|_| order(choices, spatial + 2));
    let data = |order: &[usize]| DataAxes {
        batch: order[0],
        feature: order[1],
        spatial: order[2..].to_vec(),
    };
    let count = number(choices, 1, 3);
    let roles = [DataRole::Batch, DataRole::Feature];
    let groups = ConvGroups {
        count,
        lhs: choices.pick(&roles),
        rhs: choices.pick(&[KernelRole::Input, KernelRole::Output]),
        out: choices.pick(&roles),
    };
    let groups = if count == 1 {
        ConvGroups::default()
    } else {
        groups
    };
    let [batch, input, output] = [0; 3].map(|_| number(choices, 1, 2));
    let times = |size: i64, divided: bool| if divided { size * count } else { size };
    let (mut left, mut right) = (vec![0; spatial + 2], vec![0; spatial + 2]);
    left[lhs[0]] = times(batch, groups.lhs == DataRole::Batch);
    left[lhs[1]] = times(input, groups.lhs == DataRole::Feature);
    right[rhs[0]] = times(input, groups.rhs == KernelRole::Input);
    right[rhs[1]] = times(output, groups.rhs == KernelRole::Output);
    for a in 0..spatial {
        left[lhs[2 + a]] = number(choices, 1, 6);
        right[rhs[2 + a]] = number(choices, 1, 3);
    }
    let conv = Conv {
        axes: ConvAxes {
            lhs: data(&lhs),
            rhs: KernelAxes {
                input: rhs[0],
                output: rhs[1],
                spatial: rhs[2..].to_vec(),
            },
            out: data(&out),
        },
        window: (0..spatial).map(|_| axis(choices)).collect(),
        reverse: choices.below(2) == 0,
        groups,
        accumulate: None,
    };
    (conv.into(), [left, right])
}

/// Numbers, or symbols with something added or multiplied that stand for them.
fn declared(choices: &mut Choices, sizes: &[i64], name: &str) -> Shape {
    let dim = |(i, size): (usize, &i64)| {
        let symbol = Dim::symbol(&format!("{name}{i}"));
        match choices.below(4) {
            0 => Dim::from(*size),
            1 if size % 2 == 0 => symbol * 2,
            1 | 2 => symbol + 1,
            _ => symbol,
        }
    };
    sizes.iter().enumerate().map(dim).collect()
}

fn numbers(choices: &mut Choices, shape: &[usize]) -> Array {
    let count = shape.iter().product();
    let values = (0..count).map(|_| number(choices, -3, 3) as f64).collect();
    Array::new(DType::F64, shape.to_vec(), Values::Float(values)).unwrap()
}

fn product(a: &Array, b: &Array) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let pairs = a.floats().unwrap().iter().zip(b.floats().unwrap());
    pairs.map(|(a, b)| a * b).sum()
}

/// The result of `build` and the cotangents of its operands for a cotangent that is a param of its own. `None` where the op is refused.
fn graph(
    shapes: &[Shape],
    build: &dyn for<'g> Fn(&'g Builder, &[Tensor<'g>]) -> Tensor<'g>,
) -> Option<Graph> {
    let g = Builder::new("adjoint");
    let operands: Vec<Tensor<'_>> = shapes
        .iter()
        .enumerate()
        .map(|(i, s)| g.param_of(&i.to_string(), DType::F64, s, Init::zeros()))
        .collect();
    let result = build(&g, &operands);
    let Some(ty) = result.ty() else {
        assert!(g.finish().is_err());
        return None;
    };
    let cotangent = g.param_of("g", DType::F64, ty.shape, Init::zeros());
    g.output("result", result);
    let first = grad((result * cotangent).sum(), &operands);
    for (i, (d, operand)) in first.iter().zip(&operands).enumerate() {
        assert_eq!(d.ty(), operand.ty());
        g.output(&format!("d{i}"), *d);
    }
    // Once more, to see that it is possible.
    let loss = first.iter().map(|d| d.square().sum());
    let loss = loss.reduce(|a, b| a + b).expect("an operand");
    g.output("second", grad(loss, &[cotangent])[0]);
    Some(g.finish().unwrap_or_else(|e| panic!("{e}")))
}

/// Whether the sizes were accepted; then the adjoints have been checked.
fn check(
    choices: &mut Choices,
    sizes: &[Vec<i64>],
    shapes: &[Shape],
    build: &dyn for<'g> Fn(&'g Builder, &[Tensor<'g>]) -> Tensor<'g>,
) -> bool {
    let plain: Vec<Shape> = sizes.iter().map(|s| Shape::from(s.as_slice())).collect();
    let Some(constant) = graph(&plain, build) else {
        return false;
    };
    let symbolic = graph(shapes, build).expect("symbols decide less");
    let result = constant.node(constant.outputs()[0].node).unwrap();
    let result = result.ty.shape.constants().unwrap();
    let arrays: Vec<Array> = sizes
        .iter()
        .map(|s| s.iter().map(|d| *d as usize).collect::<Vec<_>>())
        .chain([result])
        .map(|shape| numbers(choices, &shape))
        .collect();
    let mut found = Vec::new();
    for graph in [constant, symbolic] {
        assert_eq!(verify(&graph), Ok(()));
        let text = graph.to_string();
        assert_eq!(Graph::parse(&text).unwrap().to_string(), text);
        let feed = |name: &str| arrays.get(name.parse().unwrap_or(sizes.len())).cloned();
        let step = eval(&graph, |slot| feed(&slot.name)).unwrap_or_else(|e| panic!("{text}{e}"));
        let expected = product(&step.outputs[0], &arrays[sizes.len()]);
        for (i, array) in arrays[..sizes.len()].iter().enumerate() {
            assert_eq!(product(array, &step.outputs[1 + i]), expected, "{text}");
        }
        found.push(step.outputs);
    }
    assert_eq!(found[0], found[1]);
    true
}

#[test]
fn enough_of_the_random_cases_are_accepted() {
    let accepted = (0..200).filter(|seed| {
        let mut choices = Choices::new(*seed);
        let (op, sizes) = convolution(&mut choices);
        let shapes = sizes.clone().map(|s| Shape::from(s.as_slice()));
        check(&mut choices, &sizes, &shapes, &|g, t| g.push(op.clone(), t))
    });
    assert!(accepted.count() > 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn convolutions_have_adjoints(seed: u64) {
        let mut choices = Choices::new(seed);
        let (op, sizes) = convolution(&mut choices);
        let Op::Conv(conv) = &op else { unreachable!("a convolution") };
        // Extents that are contracted are the same in both operands, and the divided ones multiples; only the spatial ones are symbols.
        let mut shapes = sizes.clone().map(|s| Shape::from(s.as_slice()));
        let names = ["x", "k"];
        let spatial = [&conv.axes.lhs.spatial, &conv.axes.rhs.spatial];
        for ((shape, sizes), (name, axes)) in shapes.iter_mut().zip(&sizes).zip(names.iter().zip(spatial)) {
            let symbols = declared(&mut choices, sizes, name);
            let pick = |(a, d): (usize, &Dim)| if axes.contains(&a) { symbols[a].clone() } else { d.clone() };
            *shape = shape.iter().enumerate().map(pick).collect();
        }
        check(&mut choices, &sizes, &shapes, &|g, t| g.push(op.clone(), t));
    }

    #[test]
    fn windows_have_adjoints(seed: u64) {
        let mut choices = Choices::new(seed);
        let rank = 1 + choices.below(3);
        let sizes: Vec<i64> = (0..rank).map(|_| number(&mut choices, 1, 6)).collect();
        let windows = Windows {
            sizes: (0..rank).map(|_| number(&mut choices, 1, 3)).collect(),
            axes: (0..rank).map(|_| axis(&mut choices)).collect(),
        };
        let shape = declared(&mut choices, &sizes, "x");
        let sum = ReduceWindow { kind: WindowKind::Sum, windows: windows.clone(), accumulate: None };
        check(&mut choices, std::slice::from_ref(&sizes), std::slice::from_ref(&shape), &|g, t| g.push(sum.clone(), t));
        // Linear in the operand where the indices come from elsewhere; scattered once more, to the same places.
        check(&mut choices, std::slice::from_ref(&sizes), std::slice::from_ref(&shape), &|g, t| {
            let windows = windows.clone();
            let fixed = t[0].stop_gradient();
            let index = g.push(ArgWindow { kind: ArgKind::Max, windows: windows.clone() }, &[fixed]);
            let gathered = g.push(GatherWindow { windows: windows.clone() }, &[t[0], index]);
            let shape = t[0].ty().expect("a type").shape;
            g.push(ScatterWindow { shape, windows }, &[gathered, index])
        });
    }
}
