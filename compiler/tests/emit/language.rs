//! The language of kernels: how it prints, and that the verifier names each broken rule.

use crate::code::add;
use crate::nests::{dropout, softmax};
use crate::support::{Build, folding, i, n, nest, store, store_if};
use kiln_compiler::jit;
use kiln_compiler::kernel::{
    Access, Accumulator, Atom, Element, Expr, Fold, Index, Kernel, LoopId, LoopKind, ParamId,
    SortRow, Stmt, ValueId, verify,
};
use kiln_ir::ops::{Binary, Literal, ReduceKind, Unary};
use kiln_ir::{DType, Dim};

#[test]
fn a_row_kernel_prints() {
    insta::assert_snapshot!(softmax(DType::F32, Dim::from(10)), @r"
    kernel test(p0: read f32, p1: update f32, p2: write f32, p3: write i64) {
      grid i0 < 3 {
        lanes i1 < 10 {
          v0: f32 = load p0[10*i0 + i1]
          v1: i64 = index i1
        } fold v2: f32 = max v0, v3: i64 = argmax v0 at v1
        store p3[i0] = v3
        lanes i2 < 10 {
          v4: f32 = load p0[10*i0 + i2]
          v5: f32 = sub v4, v2
          v6: f32 = exp v5
          store p1[i2] = v6
        } fold v7: f32 = sum v6
        v8: f32 = recip v7
        lanes i3 < 10 {
          v9: f32 = load p1[i3]
          v10: f32 = mul v9, v8
          store p2[10*i0 + i3] = v10
        }
      }
    }
    ");
}

#[test]
fn a_map_with_random_numbers_prints() {
    insta::assert_snapshot!(dropout(3), @r"
    kernel test(p0: read f32, p1: read u32, p2: write f32, p3: write u32) {
      v0: u32 = load p1[0]
      v1: u32 = load p1[1]
      v2: u32 = load p1[2]
      v3: u32 = load p1[3]
      lanes i0 < n {
        v4: f32 = load p0[i0]
        v5: i64 = index i0 + 3
        v6: u32 = philox key (v0, v1) counter (v2, v3) at v5
        v7: u32 = const 2147483648
        v8: bool = lt v6, v7
        v9: f32 = const 0.0
        v10: f32 = select v8, v4, v9
        store p2[i0] = v10
        store p3[i0] = v6
      }
    }
    ");
}

#[test]
fn indices_print_as_sums() {
    let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
    let quotient = i(0).offset(&Dim::from(-5)).floor_div(&(&b * &t), &|_| None);
    let remainder = i(1).modulo(&Dim::from(7), &|_| None);
    let index = i(0)
        .times(&Dim::from(-3))
        .plus(&i(1).times(&(&t + &Dim::from(1))))
        .plus(&Index::atom(Atom::Value(ValueId(4))).times(&b))
        .plus(&quotient)
        .plus(&remainder.times(&Dim::from(2)))
        .offset(&Dim::from(-1));
    insta::assert_snapshot!(index, @"-3*i0 + (t + 1)*i1 + b*v4 + ((i0 - 5) div (b*t)) + 2*(i1 mod 7) - 1");
    insta::assert_snapshot!(Index::constant(&b * &t), @"b*t");
    insta::assert_snapshot!(i(2).offset(&b), @"i2 + b");
}

fn floats(access: &[Access]) -> Build {
    Build::new(&access.iter().map(|a| (DType::F32, *a)).collect::<Vec<_>>())
}

fn lanes(body: Vec<Stmt>) -> Vec<Stmt> {
    vec![nest(LoopKind::Lanes, 0, n(), body)]
}

fn refused(kernel: &Kernel, words: &str) {
    let error = verify(kernel).expect_err(words).to_string();
    assert!(error.contains(words), "{error}\n{kernel}");
    // The compiler does not go past it.
    assert!(jit::compile(std::slice::from_ref(kernel)).is_err());
}

#[test]
fn the_examples_are_well_formed() {
    for kernel in [add(), softmax(DType::F64, n()), dropout(0)] {
        assert_eq!(verify(&kernel), Ok(()));
    }
}

#[test]
fn tables_hold_what_is_mentioned() {
    let mut b = floats(&[Access::Read]);
    let mut body = Vec::new();
    b.compute(
        &mut body,
        DType::F32,
        Expr::Load {
            param: ParamId(3),
            index: i(0),
            predicate: None,
        },
    );
    refused(&b.finish(lanes(body)), "p3 is not in the table");
    let mut b = floats(&[]);
    let mut body = Vec::new();
    b.compute(&mut body, DType::F32, Expr::Unary(Unary::Neg, ValueId(9)));
    refused(&b.finish(lanes(body)), "v9 is not in the table");
}

#[test]
fn values_are_computed_once_and_before_their_use() {
    let mut b = floats(&[]);
    let mut body = Vec::new();
    let x = b.float(&mut body, DType::F32, 1.0);
    body.push(Stmt::Let {
        value: x,
        expr: Expr::Const(Literal::Float(0)),
    });
    refused(&b.finish(body), "v0 is computed twice");

    let mut b = floats(&[]);
    let later = b.value(DType::F32);
    let mut body = Vec::new();
    b.compute(&mut body, DType::F32, Expr::Unary(Unary::Neg, later));
    refused(&b.finish(body), "v0 is not visible");

    // A value of a loop's body is not visible behind the loop.
    let mut b = floats(&[Access::Read, Access::Write]);
    let mut inner = Vec::new();
    let x = b.load(&mut inner, 0, i(0));
    let mut body = lanes(inner);
    body.push(store(1, Index::constant(0), x));
    refused(&b.finish(body), "v0 is not visible");
}

#[test]
fn types_fit() {
    let mut b = floats(&[Access::Read]);
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, i(0));
    b.compute(&mut body, DType::I32, Expr::Unary(Unary::Neg, x));
    refused(
        &b.finish(lanes(body)),
        "v1 is i32, but the expression is f32",
    );

    let mut b = floats(&[Access::Read]);
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, i(0));
    let y = b.int(&mut body, DType::I32, 1);
    b.compute(&mut body, DType::F32, Expr::Binary(Binary::Add, x, y));
    refused(&b.finish(lanes(body)), "different element types");

    let mut b = floats(&[]);
    let mut body = Vec::new();
    let y = b.int(&mut body, DType::I32, 1);
    b.compute(&mut body, DType::I32, Expr::Unary(Unary::Exp, y));
    refused(&b.finish(body), "`exp` takes floating types");

    let mut b = floats(&[Access::Read, Access::Write]);
    let mut body = Vec::new();
    let x = b.load(&mut body, 0, i(0));
    body.push(store_if(1, i(0), x, Some(x)));
    refused(&b.finish(lanes(body)), "the predicate v0 is f32, not bool");

    let mut b = floats(&[]);
    let mut body = Vec::new();
    b.int(&mut body, DType::F32, 1);
    refused(&b.finish(body), "the literal 1 is not of f32");

    let mut b = floats(&[]);
    let mut body = Vec::new();
    let x = b.float(&mut body, DType::F32, 1.0);
    b.compute(&mut body, DType::F64, Expr::Bitcast(x));
    refused(&b.finish(body), "differ in width");

    let mut b = floats(&[Access::Read]);
    let mut body = Vec::new();
    let at = b.int(&mut body, DType::I32, 1);
    b.load(&mut body, 0, Index::atom(Atom::Value(at)));
    refused(&b.finish(body), "the index value v0 is i32, not i64");
}

#[test]
fn parameters_are_used_as_they_may() {
    let mut b = floats(&[Access::Write]);
    let mut body = Vec::new();
    b.load(&mut body, 0, i(0));
    refused(&b.finish(lanes(body)), "p0 is for write only");
    let mut b = floats(&[Access::Read]);
    let mut body = Vec::new();
    let x = b.float(&mut body, DType::F32, 1.0);
    body.push(store(0, i(0), x));
    refused(&b.finish(lanes(body)), "p0 is for read only");
}

#[test]
fn loops_nest_as_they_may() {
    let inside = |outer: LoopKind, inner: LoopKind| {
        let inner = nest(inner, 1, n(), Vec::new());
        floats(&[]).finish(vec![nest(outer, 0, n(), vec![inner])])
    };
    refused(
        &inside(LoopKind::Serial, LoopKind::Grid),
        "within grid loops only",
    );
    refused(
        &inside(LoopKind::Lanes, LoopKind::Grid),
        "within grid loops only",
    );
    refused(
        &inside(LoopKind::Lanes, LoopKind::Lanes),
        "not within a lanes loop",
    );
    assert_eq!(verify(&inside(LoopKind::Serial, LoopKind::Lanes)), Ok(()));

    let twice = vec![
        nest(LoopKind::Serial, 0, n(), Vec::new()),
        nest(LoopKind::Serial, 0, n(), Vec::new()),
    ];
    refused(&floats(&[]).finish(twice), "i0 is opened twice");
    refused(
        &floats(&[]).finish(vec![nest(LoopKind::Grid, 0, Dim::from(-1), Vec::new())]),
        "not negative",
    );
}

fn fold_of(kind: LoopKind, fold: Fold, dtype: DType, result: DType) -> Kernel {
    let mut b = Build::new(&[(dtype, Access::Read)]);
    let mut body = Vec::new();
    let operand = b.load(&mut body, 0, i(0));
    let value = b.value(result);
    b.finish(vec![folding(
        kind,
        0,
        n(),
        body,
        vec![Accumulator {
            value,
            fold,
            operand,
        }],
    )])
}

#[test]
fn folds_take_their_types() {
    let sum = Fold::Reduce(ReduceKind::Sum);
    refused(
        &fold_of(LoopKind::Grid, sum.clone(), DType::F32, DType::F32),
        "a grid loop folds nothing",
    );
    refused(
        &fold_of(LoopKind::Lanes, sum.clone(), DType::F32, DType::F64),
        "a fold of f32 is not f64",
    );
    refused(
        &fold_of(LoopKind::Lanes, sum, DType::Bool, DType::Bool),
        "`sum` does not take bool",
    );
    let any = Fold::Reduce(ReduceKind::Any);
    refused(
        &fold_of(LoopKind::Serial, any, DType::F32, DType::F32),
        "`any` does not take f32",
    );
    let position = Fold::ArgMax(ValueId(0));
    refused(
        &fold_of(LoopKind::Lanes, position.clone(), DType::I64, DType::I32),
        "a position is i64, not i32",
    );
    refused(
        &fold_of(LoopKind::Lanes, position, DType::F32, DType::I64),
        "the position v0 is f32, not i64",
    );
}

#[test]
fn indices_mention_loops_around_them() {
    let mut b = floats(&[Access::Read]);
    let mut body = Vec::new();
    b.load(&mut body, 0, i(7));
    refused(&b.finish(lanes(body)), "loop i7 is not around");
    let mut b = floats(&[Access::Read]);
    let mut body = Vec::new();
    let zero = Index::atom(Atom::FloorDiv(
        Box::new(Index::counter(LoopId(0))),
        Dim::from(0),
    ));
    b.load(&mut body, 0, zero);
    refused(&b.finish(lanes(body)), "an index is divided by 0");
}

#[test]
fn rows_are_put_in_order_outside_of_lanes() {
    let order = |positions: bool| SortRow {
        row: ParamId(0),
        room: ParamId(1),
        target: Element {
            param: ParamId(2),
            index: Index::constant(0),
        },
        stride: Dim::from(1),
        extent: n(),
        count: Dim::from(2),
        descending: true,
        positions,
    };
    let kernel = |dtypes: [DType; 3], sort: SortRow, within: Option<LoopKind>| {
        let access = [Access::Read, Access::ReadWrite, Access::Write];
        let params: Vec<(DType, Access)> = dtypes.into_iter().zip(access).collect();
        let body = vec![Stmt::Sort(sort)];
        Build::new(&params).finish(match within {
            Some(kind) => vec![nest(kind, 0, n(), body)],
            None => body,
        })
    };
    let (x, room) = (DType::F32, DType::U64);
    for within in [None, Some(LoopKind::Grid), Some(LoopKind::Serial)] {
        assert_eq!(verify(&kernel([x, room, x], order(false), within)), Ok(()));
        let positions = kernel([x, room, DType::I64], order(true), within);
        assert_eq!(verify(&positions), Ok(()));
        assert_eq!(positions.sizes(), [n()]);
    }
    refused(
        &kernel([x, room, x], order(false), Some(LoopKind::Lanes)),
        "outside of lanes",
    );
    refused(
        &kernel([x, room, x], order(true), None),
        "p2[0] is f32, not i64",
    );
    refused(&kernel([x, DType::I64, x], order(false), None), "not u64");
    let half = DType::F16;
    refused(
        &kernel([half, room, half], order(false), None),
        "rows of f16",
    );
    let negative = SortRow {
        stride: Dim::from(-1),
        ..order(false)
    };
    refused(&kernel([x, room, x], negative, None), "-1 is negative");
}
