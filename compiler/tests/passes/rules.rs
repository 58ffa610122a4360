//! Each rule: what it makes of its pattern, what it leaves alone, and that exact ones keep every bit of odd values.

use crate::support::{Feed, assert_same_bits, show};
use kiln_compiler::{Options, driver::run_pass, passes};
use kiln_ir::ops::{Concat, OutOfRange, Pad, ReduceKind, Require, Reverse, ScatterKind};
use kiln_ir::{Builder, DType, Dim, Graph, Tensor};

/// The sources that the patterns are built from.
struct Sources<'g> {
    g: &'g Builder,
    x: Tensor<'g>,
    y: Tensor<'g>,
    /// `f32[b, 3]`
    rows: Tensor<'g>,
    /// `f32[2, 3, 4]`
    cube: Tensor<'g>,
    /// `f32[1, 3]`
    unit: Tensor<'g>,
    i: Tensor<'g>,
    u: Tensor<'g>,
    p: Tensor<'g>,
    q: Tensor<'g>,
}

fn graph(pattern: impl for<'g> Fn(Sources<'g>) -> Tensor<'g>) -> Graph {
    let g = Builder::new("rule");
    let b = g.dim("b");
    let result = pattern(Sources {
        g: &g,
        x: g.input("x", DType::F32, [12]),
        y: g.input("y", DType::F32, [12]),
        rows: g.input("rows", DType::F32, (b, 3)),
        cube: g.input("cube", DType::F32, [2, 3, 4]),
        unit: g.input("unit", DType::F32, [1, 3]),
        i: g.input("i", DType::I32, [10]),
        u: g.input("u", DType::U8, [10]),
        p: g.input("p", DType::Bool, [10]),
        q: g.input("q", DType::Bool, [10]),
    });
    g.output("y", result);
    g.finish().unwrap_or_else(|e| panic!("{e}"))
}

/// The pattern behind `pass`, dead code dropped, as an expression.
fn after(pass: &str, pattern: impl for<'g> Fn(Sources<'g>) -> Tensor<'g>) -> String {
    let before = graph(pattern);
    let after = run_pass(pass, &before, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    let exact = passes::by_name(pass).unwrap().numerics() == passes::Numerics::Exact;
    if exact || pass == "absorb_transposes" {
        for seed in 0..8 {
            let (kind, b) = if exact {
                (Feed::Odd, seed as i64 % 4)
            } else {
                (Feed::Moderate, 2)
            };
            assert_same_bits(&show(&before, "y"), &before, &after, kind, seed, b);
        }
    }
    show(&after, "y")
}

macro_rules! rules {
    ($pass:literal, $($pattern:expr => $expected:expr;)+) => {
        $(assert_eq!(after($pass, $pattern), $expected, "{}", stringify!($pattern));)+
    };
}

#[test]
fn identities_disappear() {
    rules! { "canonicalize",
        |s| s.x.reshape([12]) => "x";
        |s| s.cube.transpose(&[0, 1, 2]) => "cube";
        |s| s.g.push(kiln_ir::ops::Broadcast { shape: [12].into(), axes: vec![0] }, &[s.x]) => "x";
        |s| s.x.slice(&[0.into()], &[12.into()], &[1]) => "x";
        |s| s.g.push(kiln_ir::ops::Convert { to: DType::F32 }, &[s.x]) => "x";
        |s| s.g.push(kiln_ir::ops::Bitcast { to: DType::F32 }, &[s.x]) => "x";
        |s| s.g.push(Concat { axis: 0 }, &[s.x]) => "x";
        |s| s.g.push(Reverse { axes: vec![0] }, &[s.unit]) => "unit";
        |s| {
            let pad = Pad { low: vec![0.into()], high: vec![0.into()], interior: vec![0] };
            s.g.push(pad, &[s.x, s.g.splat(DType::F32, (), 5.0)])
        } => "x";
        |s| s.x.slice(&[0.into()], &[11.into()], &[1]) => "slice{start = [0], limit = [11], stride = [1]}(x)";
    }
}

#[test]
fn movements_combine() {
    rules! { "canonicalize",
        |s| s.x.reshape([3, 4]).reshape([2, 6]) => "reshape{f32[2, 6]}(x)";
        |s| s.x.reshape([3, 4]).reshape([12]) => "x";
        |s| s.cube.transpose(&[1, 2, 0]).transpose(&[1, 2, 0]) => "transpose{order = [2, 0, 1]}(cube)";
        |s| s.cube.transpose(&[1, 2, 0]).transpose(&[2, 0, 1]) => "cube";
        |s| s.cube.transpose(&[1, 2, 0]).transpose(&[1, 0, 2]) => "transpose{order = [2, 1, 0]}(cube)";
        |s| s.unit.broadcast_to([2, 3]).broadcast_to([4, 2, 3]) => "broadcast{f32[4, 2, 3]axes = [1, 2]}(unit)";
        |s| s.x.slice(&[2.into()], &[11.into()], &[1]).slice(&[1.into()], &[8.into()], &[3])
            => "slice{start = [3], limit = [10], stride = [3]}(x)";
        |s| s.x.slice(&[0.into()], &[12.into()], &[2]).slice(&[1.into()], &[6.into()], &[1])
            => "slice{start = [1], limit = [6], stride = [1]}(slice{start = [0], limit = [12], stride = [2]}(x))";
        |s| {
            let once = s.g.push(Reverse { axes: vec![0, 1] }, &[s.cube]);
            s.g.push(Reverse { axes: vec![1, 2] }, &[once])
        } => "reverse{axes = [0, 2]}(cube)";
        // What the gradient of a sum does.
        |s| s.rows.reduce(ReduceKind::Sum, &[1]).reshape((s.g.dim("b"), 1)).broadcast_to((s.g.dim("b"), 3))
            => "broadcast{f32[b, 3]axes = [0]}(reduce{kind = sum, axes = [1]}(rows))";
    }
}

#[test]
fn axes_of_one_element_are_free() {
    rules! { "canonicalize",
        |s| s.unit.transpose(&[1, 0]) => "reshape{f32[3, 1]}(unit)";
        |s| s.cube.transpose(&[1, 0, 2]).reshape([3, 1, 2, 4])
            => "transpose{order = [2, 0, 1, 3]}(reshape{f32[1, 2, 3, 4]}(cube))";
        |s| s.cube.reshape([2, 1, 12]).transpose(&[2, 1, 0]).reshape([12, 2])
            => "transpose{order = [1, 0]}(reshape{f32[2, 12]}(cube))";
        |s| s.unit.broadcast_to([4, 1, 3]).reshape([4, 3]) => "broadcast{f32[4, 3]axes = [1]}(reshape{f32[3]}(unit))";
        |s| s.x.broadcast_to([2, 12]).reshape([2, 1, 12]) => "broadcast{f32[2, 1, 12]axes = [2]}(x)";
        |s| s.rows.broadcast_to((4, s.g.dim("b"), 3)).transpose(&[2, 0, 1])
            => "broadcast{f32[3, 4, b]axes = [0, 2]}(transpose{order = [1, 0]}(rows))";
        |s| s.x.broadcast_to([2, 12]).transpose(&[1, 0]) => "broadcast{f32[12, 2]axes = [0]}(x)";
        |s| s.x.broadcast_to([2, 12]).reshape([24]) => "reshape{f32[24]}(broadcast{f32[2, 12]axes = [1]}(x))";
    }
}

#[test]
fn algebra_that_is_exact() {
    rules! { "canonicalize",
        |s| -(-s.x) => "x";
        |s| (-s.x).abs() => "abs(x)";
        |s| s.x.abs().abs() => "abs(x)";
        |s| s.x * 1.0 => "x";
        |s| 1.0 * s.x => "x";
        |s| s.x / 1.0 => "x";
        |s| s.x + -0.0 => "x";
        |s| s.x - 0.0 => "x";
        |s| s.x + -s.y => "sub(x, y)";
        |s| -s.x + s.y => "sub(y, x)";
        |s| s.x - -s.y => "add(x, y)";
        |s| 1.0 / s.x => "recip(x)";
        |s| s.x / 8.0 => "mul(x, 0.125 of f32[12])";
        |s| s.x / -0.5 => "mul(x, -2.0 of f32[12])";
        |s| s.x.maximum(s.x) => "x";
        |s| 2.0 * s.x => "mul(x, 2.0 of f32[12])";
        |s| s.g.splat(DType::F32, (), 2.0).broadcast_to([12]).maximum(s.x)
            => "max(x, broadcast{f32[12]axes = []}(2.0 of f32[]))";
        |s| s.i + 0.0 => "i";
        |s| s.i * 0.0 => "0 of i32[10]";
        |s| s.i - s.i => "0 of i32[10]";
        |s| s.i.and(-1.0) => "i";
        |s| s.u.and(255.0) => "u";
        |s| s.u.or(255.0) => "255 of u8[10]";
        |s| s.i.xor(s.i) => "0 of i32[10]";
        |s| s.i.shl(0.0) => "i";
        |s| s.p.and(s.p) => "p";
        |s| s.p.or(1.0) => "true of bool[10]";
        |s| s.p.xor(0.0) => "p";
        |s| (-s.i).abs() => "abs(i)";
    }
}

#[test]
fn algebra_that_would_not_be_exact_is_left_alone() {
    rules! { "canonicalize",
        |s| s.x + 0.0 => "add(x, 0.0 of f32[12])";
        |s| s.x - -0.0 => "sub(x, -0.0 of f32[12])";
        |s| s.x * 0.0 => "mul(x, 0.0 of f32[12])";
        |s| s.x - s.x => "sub(x, x)";
        |s| s.x / s.x => "div(x, x)";
        |s| s.x / 3.0 => "div(x, 3.0 of f32[12])";
        // The inverse of 2^127 is subnormal.
        |s| s.x / 2f64.powi(127) => "div(x, 1.7014118e38 of f32[12])";
        |s| s.x.lt(s.y).not().convert(DType::F32) => "convert{f32[12]}(not(lt(x, y)))";
        |s| -(s.x - s.y) => "neg(sub(x, y))";
        |s| (-s.u).abs() => "abs(neg(u))";
        |s| s.i / 2.0 => "div(i, 2 of i32[10])";
    }
}

#[test]
fn choices_and_conversions() {
    rules! { "canonicalize",
        |s| s.p.not().not() => "p";
        |s| s.i.not().not() => "i";
        |s| s.i.lt(s.i + 1.0).not() => "ge(i, add(i, 1 of i32[10]))";
        |s| s.x.eq(s.y).not() => "ne(x, y)";
        |s| s.x.ne(s.y).not() => "eq(x, y)";
        |s| s.g.splat(DType::F32, [12], 2.0).lt(s.x) => "gt(x, 2.0 of f32[12])";
        |s| s.i.where_(s.p, s.i) => "i";
        |s| s.i.where_(s.p.not(), 0.0) => "select(p, 0 of i32[10], i)";
        |s| s.i.where_(s.g.splat(DType::Bool, [10], 1.0), 0.0) => "i";
        |s| s.i.where_(s.g.splat(DType::Bool, (), 0.0).broadcast_to([10]), 3.0) => "3 of i32[10]";
        |s| s.x.convert(DType::F64).convert(DType::F32) => "x";
        |s| s.u.convert(DType::I32).convert(DType::F32) => "convert{f32[10]}(u)";
        |s| s.q.convert(DType::F32).convert(DType::I32) => "convert{i32[10]}(q)";
        |s| s.i.convert(DType::F32).convert(DType::F64) => "convert{f64[10]}(convert{f32[10]}(i))";
        |s| s.x.convert(DType::I32).convert(DType::F32) => "convert{f32[12]}(convert{i32[12]}(x))";
        |s| {
            let require = Require { message: "never".into() };
            s.g.push(require, &[s.x, s.g.splat(DType::Bool, [2], 1.0)])
        } => "x";
    }
}

#[test]
fn legalization() {
    rules! { "legalize",
        |s| s.x.stop_gradient() => "x";
        |s| s.cube.reduce(ReduceKind::Sum, &[]) => "cube";
        |s| s.cube.reduce(ReduceKind::Sum, &[0, 2])
            => "reduce{kind = sum, axes = [0]}(reduce{kind = sum, axes = [2]}(cube))";
        |s| s.cube.reduce(ReduceKind::Max, &[0, 1]) => "reduce{kind = max, axes = [0, 1]}(cube)";
        |s| s.cube.reshape([2, 3, 1, 4]).reduce(ReduceKind::Sum, &[0, 2, 3])
            => "reduce{kind = sum, axes = [0]}(reduce{kind = sum, axes = [2, 3]}(reshape{f32[2, 3, 1, 4]}(cube)))";
        |s| s.cube.convert(DType::BF16).reduce(ReduceKind::Sum, &[0, 2])
            => "convert{bf16[3]}(reduce{kind = sum, axes = [0]}(reduce{kind = sum, axes = [2]}\
                (convert{f32[2, 3, 4]}(convert{bf16[2, 3, 4]}(cube)))))";
    }
}

#[test]
fn an_index_that_fails_becomes_a_guard() {
    let guard = |op: &str, extent: &str| {
        format!(
            "require{{message = \"an index of `{op}` is not below the extent {extent} of axis 0\"}}(i, \
             and(ge(convert{{i64[10]}}(i), 0 of i64[10]), \
             lt(convert{{i64[10]}}(i), broadcast{{i64[10]axes = []}}(dim_size{{dim = [{extent}]}}()))))"
        )
    };
    assert_eq!(
        after("legalize", |s| s.x.gather(0, s.i, OutOfRange::Fail)),
        format!(
            "gather{{axis = [0], out_of_range = clamp}}(x, {})",
            guard("gather", "12")
        )
    );
    assert_eq!(
        after("legalize", |s| {
            let updates = s.x.gather(0, s.i, OutOfRange::Skip);
            s.x.scatter(ScatterKind::Add, 0, s.i, updates, OutOfRange::Fail)
        }),
        format!(
            "scatter{{kind = add, axis = [0], out_of_range = skip}}(x, {}, \
             gather{{axis = [0], out_of_range = skip}}(x, i))",
            guard("scatter", "12")
        )
    );
}

#[test]
fn the_guard_fails_where_the_op_did() {
    for dtype in [DType::I32, DType::U64, DType::U8, DType::I64] {
        for index in [-1, 0, 2, 3, 255, i64::MIN] {
            let g = Builder::new("guard");
            let x = g.input("x", DType::F32, [3]);
            let i = g.input("i", dtype, [1]);
            g.output("y", x.gather(0, i, OutOfRange::Fail));
            let before = g.finish().unwrap();
            let after = run_pass("legalize", &before, &Options::default()).unwrap();
            let run = |graph: &Graph| {
                kiln_ir::eval(graph, |slot| {
                    let values = match slot.name.as_str() {
                        "x" => {
                            return kiln_ir::Array::new(
                                DType::F32,
                                vec![3],
                                kiln_ir::Values::Float(vec![1.0, 2.0, 3.0]),
                            )
                            .ok();
                        }
                        _ => kiln_ir::Values::Int(vec![index]),
                    };
                    kiln_ir::Array::new(dtype, vec![1], values).ok()
                })
                .ok()
            };
            assert_eq!(run(&before), run(&after), "index {index} of {dtype}");
        }
    }
}

#[test]
fn powers_with_a_known_exponent() {
    rules! { "reduce_strength",
        |s| s.x.pow(2.0) => "mul(x, x)";
        |s| s.x.pow(1.0) => "x";
        |s| s.x.pow(0.0) => "1.0 of f32[12]";
        |s| s.x.pow(-1.0) => "recip(x)";
        |s| s.x.pow(0.5) => "pow(x, 0.5 of f32[12])";
        |s| s.x.pow(s.g.splat(DType::F32, [12], 2.0) - 1.0) => "x";
    }
}

#[test]
fn products_absorb_transposes() {
    rules! { "absorb_transposes",
        |s| s.rows.transpose(&[1, 0]).dot(s.rows) => "dot{contract = [0]x[0]}(rows, rows)";
        |s| s.unit.dot(s.rows.transpose(&[1, 0])) => "dot{contract = [1]x[1]}(unit, rows)";
        // The gradient of a weight: a transposed product is the product with swapped sides.
        |s| s.rows.dot_general(s.rows.tanh(), &[0], &[0], &[], &[]).transpose(&[1, 0])
            => "dot{contract = [0]x[0]}(tanh(rows), rows)";
        |s| {
            let heads = s.cube.transpose(&[1, 0, 2]);
            heads.dot_general(heads, &[2], &[2], &[0], &[0])
        } => "dot{contract = [2]x[2], batch = [1]x[1]}(cube, cube)";
        |s| s.cube.dot_general(s.cube, &[2], &[2], &[0, 1], &[0, 1]).transpose(&[1, 0])
            => "dot{contract = [2]x[2], batch = [1, 0]x[1, 0]}(cube, cube)";
        |s| s.cube.dot_general(s.cube, &[2], &[2], &[1], &[1]).transpose(&[0, 2, 1])
            => "dot{contract = [2]x[2], batch = [1]x[1]}(cube, cube)";
        // The order of the free axes is part of the result, so this transpose stays.
        |s| s.cube.transpose(&[1, 0, 2]).dot_general(s.x.reshape([4, 3]), &[2], &[0], &[], &[])
            => "dot{contract = [2]x[0]}(transpose{order = [1, 0, 2]}(cube), reshape{f32[4, 3]}(x))";
        // Batch axes come first in a product, so this one stays too.
        |s| s.cube.dot_general(s.cube, &[2], &[2], &[1], &[1]).transpose(&[1, 0, 2])
            => "transpose{order = [1, 0, 2]}(dot{contract = [2]x[2], batch = [1]x[1]}(cube, cube))";
        // A product that others read is not computed twice.
        |s| {
            let product = s.rows.dot_general(s.rows.tanh(), &[0], &[0], &[], &[]);
            product.transpose(&[1, 0]) + product
        } => "add(transpose{order = [1, 0]}(dot{contract = [0]x[0]}(rows, tanh(rows))), \
              dot{contract = [0]x[0]}(rows, tanh(rows)))";
    }
}

#[test]
fn equal_nodes_are_shared_and_dead_ones_go() {
    let before = graph(|s| {
        let dead = s.x.exp();
        let _ = dead * 2.0;
        (s.x + s.y) * (s.y + s.x)
    });
    let shared = run_pass("cse", &before, &Options::default()).unwrap();
    assert_eq!(shared.len(), before.len() - 1);
    let product = shared.node(shared.outputs()[0].node).unwrap();
    assert_eq!(product.operands[0], product.operands[1]);
    let lean = run_pass("dce", &shared, &Options::default()).unwrap();
    assert_eq!(lean.len(), lean.slots().len() + 2);
    assert_eq!(show(&lean, "y"), "mul(add(x, y), add(x, y))");
}

#[test]
fn guards_are_neither_shared_nor_dropped() {
    let before = graph(|s| {
        let require = Require {
            message: "positive".into(),
        };
        let positive = s.x.gt(0.0);
        let _unread = s.g.push(require.clone(), &[s.x, positive]);
        s.g.push(require.clone(), &[s.y, positive]) + s.g.push(require, &[s.y, positive])
    });
    let mut after = run_pass("cse", &before, &Options::default()).unwrap();
    after = run_pass("dce", &after, &Options::default()).unwrap();
    let guards = after
        .nodes()
        .filter(|(_, n)| n.op.rules().name() == "require");
    assert_eq!(guards.count(), 3);
}

#[test]
fn nodes_keep_where_they_come_from() {
    use kiln_ir::Origin;
    let g = Builder::new("provenance");
    let x = g.input("x", DType::F32, [2]);
    let w = g.param("w", [2], kiln_ir::Init::zeros());
    let loss = {
        let _scope = g.scope("loss");
        (x + -w).square().sum()
    };
    let gradient = kiln_ir::grad(loss, &[w])[0];
    g.output("gradient", gradient);
    let before = g.finish().unwrap();
    let after = run_pass("canonicalize", &before, &Options::default()).unwrap();
    let made: Vec<_> = after
        .nodes()
        .filter(|(_, n)| matches!(&n.provenance.origin, Origin::Pass(p) if &**p == "canonicalize"))
        .collect();
    assert!(!made.is_empty());
    assert!(
        made.iter()
            .any(|(_, n)| &*n.provenance.scope == "loss" && n.op.rules().name() == "sub")
    );
    let lines: Vec<_> = before
        .nodes()
        .map(|(_, n)| n.provenance.location.clone())
        .collect();
    for (_, node) in after.nodes() {
        assert!(lines.contains(&node.provenance.location));
        if let Origin::Vjp(of) = node.provenance.origin {
            assert!(after.node(of).is_some());
        }
    }
}

#[test]
fn shapes_that_are_symbolic_stay_so() {
    let g = Builder::new("symbolic");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), 4));
    g.output(
        "y",
        x.reshape((b.clone(), 2, 2))
            .reshape((b.clone() * 2, 2))
            .transpose(&[1, 0]),
    );
    let before = g.finish().unwrap();
    let after = run_pass("canonicalize", &before, &Options::default()).unwrap();
    assert_eq!(
        show(&after, "y"),
        "transpose{order = [1, 0]}(reshape{f32[2*b, 2]}(x))"
    );
    assert_eq!(
        after.node(after.outputs()[0].node).unwrap().ty.shape[1],
        Dim::from(&(b * 2))
    );
}
