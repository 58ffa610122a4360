//! Folding: the interpreter's numbers where those are exact, the kernels' own where they are not.

use crate::support::{FLOATS, show};
use kiln_compiler::math::{Host32, Host64, apply, exp, exp64, pow};
use kiln_compiler::{Options, driver::run_pass};
use kiln_ir::ops::{Binary, Compare, Convert, Fma, Iota, Literal, ReduceKind, Rules, Unary};
use kiln_ir::{Builder, DType, Dim, Graph, Tensor, TensorType, Values, eval};

fn folded(build: impl for<'g> Fn(&'g Builder) -> Tensor<'g>) -> (Graph, Graph) {
    let g = Builder::new("fold");
    g.output("y", build(&g));
    let before = g.finish().unwrap_or_else(|e| panic!("{e}"));
    let after = run_pass("fold", &before, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    (before, after)
}

/// The number that the graph's output has become.
fn constant(graph: &Graph) -> Option<Literal> {
    match &graph.node(graph.outputs()[0].node)?.op {
        kiln_ir::ops::Op::Constant(c) => c.as_splat(),
        _ => None,
    }
}

const ODD: [f64; 14] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.5,
    -3.5,
    0.5,
    7.0,
    1e-40,
    3e38,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    300.0,
];

fn same(x: Literal, y: Literal) -> bool {
    match (x, y) {
        (Literal::Float(x), Literal::Float(y)) => {
            x == y || f64::from_bits(x).is_nan() && f64::from_bits(y).is_nan()
        }
        (x, y) => x == y,
    }
}

fn interpreted(graph: &Graph) -> Literal {
    match eval(graph, |_| None).unwrap().outputs[0].values() {
        Values::Float(v) => Literal::Float(v[0].to_bits()),
        Values::Int(v) => Literal::Int(v[0]),
    }
}

/// Folds the op on every combination of odd operands and compares with the interpreter.
fn agrees(
    what: &str,
    operands: usize,
    types: &[DType],
    build: &dyn for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g>,
) {
    for dtype in types {
        for at in 0..ODD.len().pow(operands as u32) {
            let (before, after) = folded(|g| {
                let values: Vec<Tensor<'_>> = (0..operands)
                    .map(|k| g.splat(*dtype, [2], ODD[at / ODD.len().pow(k as u32) % ODD.len()]))
                    .collect();
                build(&values)
            });
            let folded =
                constant(&after).unwrap_or_else(|| panic!("{what} of {dtype} is not folded"));
            let wanted = interpreted(&before);
            assert!(
                same(folded, wanted),
                "{what} of {dtype}: {folded} but {wanted} for {}",
                show(&before, "y")
            );
        }
    }
}

const INTEGERS: [DType; 8] = [
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
];

fn accepts(op: &dyn Rules, dtype: DType, operands: usize) -> bool {
    let ty = TensorType::new(dtype, [2]);
    op.infer(&vec![&ty; operands]).is_ok()
}

fn types_of(op: &dyn Rules, operands: usize, from: &[DType]) -> Vec<DType> {
    from.iter()
        .copied()
        .filter(|d| accepts(op, *d, operands))
        .collect()
}

/// The ops that IEEE 754 rounds correctly, so that the interpreter's f64 and the kernels' own type agree.
fn is_exact(op: Unary) -> bool {
    use Unary::*;
    matches!(
        op,
        Neg | Abs | Sign | Sqrt | Recip | Floor | Ceil | Round | Not | IsFinite
    )
}

#[test]
fn elementwise_ops_agree_with_the_interpreter() {
    let all: Vec<DType> = FLOATS
        .into_iter()
        .chain(INTEGERS)
        .chain([DType::Bool])
        .collect();
    for op in Unary::ALL.iter().copied().filter(|op| is_exact(*op)) {
        let types = types_of(&op, 1, &all);
        assert!(!types.is_empty());
        agrees(op.name(), 1, &types, &move |x| x[0].builder().push(op, x));
    }
    for op in Binary::ALL.iter().copied() {
        if !matches!(op, Binary::Pow | Binary::Atan2) {
            agrees(op.name(), 2, &types_of(&op, 2, &all), &move |x| {
                x[0].builder().push(op, x)
            });
        }
    }
    for op in Compare::ALL {
        agrees(op.name(), 2, &types_of(&op, 2, &all), &move |x| {
            x[0].builder().push(op, x)
        });
    }
    for to in all.iter().copied() {
        let from: Vec<DType> = all.iter().copied().filter(|d| *d != to).collect();
        agrees("convert", 1, &from, &move |x| {
            x[0].builder().push(Convert { to }, x)
        });
    }
    agrees("fma", 3, &FLOATS, &|x| x[0].builder().push(Fma, x));
}

#[test]
fn transcendental_functions_fold_to_the_recipes() {
    let of = |x: f32| Literal::Float(f64::from(x).to_bits());
    let (_, after) = folded(|g| g.splat(DType::F32, [2], 0.7).exp());
    assert_eq!(constant(&after), Some(of(exp::exp_f32(&mut Host32, 0.7))));
    let (_, after) = folded(|g| g.splat(DType::F32, [2], 0.7).pow(1.3));
    assert_eq!(
        constant(&after),
        Some(of(pow::pow_f32(&mut Host32, 0.7, 1.3)))
    );
    let (_, after) = folded(|g| g.splat(DType::F64, [2], 0.7).tanh());
    assert_eq!(
        constant(&after),
        Some(Literal::Float(exp64::tanh_f64(&mut Host64, 0.7).to_bits()))
    );
    // Each op is tied to its own recipe: near enough to the interpreter's function, and to no other.
    for op in Unary::ALL.iter().copied().filter(|op| !is_exact(*op)) {
        for dtype in FLOATS {
            let (before, after) = folded(|g| g.push(op, &[g.splat(dtype, [2], 0.7)]));
            let (Some(Literal::Float(folded)), Literal::Float(wanted)) =
                (constant(&after), interpreted(&before))
            else {
                panic!("{} of {dtype} is not folded", op.name());
            };
            let (folded, wanted) = (f64::from_bits(folded), f64::from_bits(wanted));
            let epsilon = if dtype == DType::F32 {
                f64::from(f32::EPSILON)
            } else {
                f64::EPSILON
            };
            assert!(
                (folded - wanted).abs() <= 2.0 * epsilon * wanted.abs(),
                "{}: {folded}, {wanted}",
                op.name()
            );
        }
    }
    assert_eq!(
        apply::binary_f32(Binary::Atan2, 1.0, -1.0)
            .map(|x| (f64::from(x) - 2.356_194_490_192_345).abs() < 1e-6),
        Some(true)
    );
}

#[test]
fn halves_are_left_to_the_kernels() {
    for dtype in [DType::BF16, DType::F16] {
        let (_, after) = folded(|g| g.splat(dtype, [2], 0.7) + g.splat(dtype, [2], 0.2));
        assert_eq!(constant(&after), None);
        let (_, after) = folded(|g| g.splat(DType::F32, [2], 0.7).convert(dtype));
        assert_eq!(constant(&after), None);
    }
}

#[test]
fn movements_and_extents_fold() {
    let (_, after) = folded(|g| {
        g.splat(DType::F32, (), 3.0)
            .broadcast_to([4, 2])
            .transpose(&[1, 0])
            .reshape([8])
    });
    assert_eq!(show(&after, "y"), "3.0 of f32[8]");
    let (_, after) = folded(|g| {
        let x = g.splat(DType::F32, [4, 2], 3.0);
        let y = g.splat(DType::F32, [1, 2], 3.0);
        g.push(kiln_ir::ops::Concat { axis: 0 }, &[x, y])
    });
    assert_eq!(show(&after, "y"), "3.0 of f32[5, 2]");
    let (_, after) = folded(|g| {
        let x = g.splat(DType::F32, [4, 2], 0.0);
        let y = g.splat(DType::F32, [1, 2], -0.0);
        g.push(kiln_ir::ops::Concat { axis: 0 }, &[x, y])
    });
    assert_eq!(
        show(&after, "y"),
        "concat{axis = [0]}(0.0 of f32[4, 2], -0.0 of f32[1, 2])"
    );
    let (_, after) = folded(|g| {
        g.push(kiln_ir::ops::DimSize { dim: Dim::from(7) }, &[])
            .convert(DType::F32)
    });
    assert_eq!(show(&after, "y"), "7.0 of f32[]");
    let iota = |extent: i64| {
        folded(move |g| {
            let ty = TensorType::new(DType::I32, [2, extent]);
            g.push(Iota { ty, axis: 1 }, &[])
        })
    };
    assert_eq!(show(&iota(1).1, "y"), "0 of i32[2, 1]");
    assert_eq!(constant(&iota(2).1), None);
}

#[test]
fn extremes_of_equal_elements_fold_and_sums_do_not() {
    let reduced = |kind, shape: [i64; 2]| {
        folded(move |g| g.splat(DType::F32, shape, 0.1).reduce(kind, &[0])).1
    };
    assert_eq!(
        show(&reduced(ReduceKind::Max, [3, 2]), "y"),
        "0.1 of f32[2]"
    );
    assert_eq!(constant(&reduced(ReduceKind::Sum, [3, 2])), None);
    // Of no elements the extreme is the identity.
    assert_eq!(constant(&reduced(ReduceKind::Max, [0, 2])), None);
}

#[test]
fn a_mean_over_a_known_extent_is_a_product() {
    let g = Builder::new("mean");
    let x = g.input("x", DType::F32, [4, 2]);
    g.output("y", x.mean());
    let after = run_pass("fold", &g.finish().unwrap(), &Options::default()).unwrap();
    assert_eq!(
        show(&after, "y"),
        "mul(reduce{kind = sum, axes = [0, 1]}(x), 0.125 of f32[])"
    );
}
