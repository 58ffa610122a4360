//! Products, argmax and argmin, and the accumulation type.

use crate::{evaluate, f32s, floats, ints, own_shapes, result};
use kiln_ir::ops::{Op, Reduce};
use kiln_ir::{Attributes, CumulativeKind, DType, Graph, ReduceKind, TensorType};

#[test]
fn products() {
    let x = f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 0.0, -6.0]);
    let rows = result(std::slice::from_ref(&x), |_, t| {
        t[0].reduce(ReduceKind::Prod, &[1])
    });
    assert_eq!(rows, f32s(&[2], &[6.0, 0.0]));
    let nothing = result(&[f32s(&[0, 2], &[])], |_, t| {
        t[0].reduce(ReduceKind::Prod, &[0])
    });
    assert_eq!(nothing, f32s(&[2], &[1.0, 1.0]));
    let wrapped = result(&[ints(DType::I8, &[3], &[100, 3, 1])], |_, t| {
        t[0].reduce(ReduceKind::Prod, &[0])
    });
    assert_eq!(wrapped, ints(DType::I8, &[], &[44]));
}

#[test]
fn the_first_extreme_and_the_first_nan_win() {
    let nan = f64::NAN;
    let x = f32s(
        &[4, 4],
        &[
            1.0,
            3.0,
            3.0,
            2.0, // a tie
            5.0,
            nan,
            9.0,
            nan, // NaN over numbers, the first of them
            -0.0,
            0.0,
            0.0,
            -0.0, // zeros are equal
            f64::NEG_INFINITY,
            f64::NEG_INFINITY,
            1.0,
            f64::INFINITY,
        ],
    );
    let largest = result(std::slice::from_ref(&x), |_, t| t[0].argmax(1));
    assert_eq!(largest, ints(DType::I64, &[4], &[1, 1, 0, 3]));
    let smallest = result(std::slice::from_ref(&x), |_, t| t[0].argmin(1));
    assert_eq!(smallest, ints(DType::I64, &[4], &[0, 1, 0, 0]));
    let columns = result(&[f32s(&[2, 3], &[1.0, 5.0, 2.0, 3.0, 4.0, 2.0])], |_, t| {
        t[0].argmax(0)
    });
    assert_eq!(columns, ints(DType::I64, &[3], &[1, 0, 0]));
    let unsigned = result(&[ints(DType::U64, &[3], &[1, -1, 2])], |_, t| {
        t[0].argmax(0)
    });
    assert_eq!(unsigned, ints(DType::I64, &[], &[1]));
    let nothing = result(&[f32s(&[2, 0], &[])], |_, t| t[0].argmax(1));
    assert_eq!(nothing, ints(DType::I64, &[2], &[0, 0]));
    assert_eq!(
        result(&[f32s(&[3, 0], &[])], |_, t| t[0].argmin(0)).shape(),
        [0]
    );
}

#[test]
fn reductions_of_nothing_are_the_identity() {
    let empty = |dtype: DType, kind: ReduceKind| {
        let x = if dtype.is_float() {
            floats(dtype, &[0], &[])
        } else {
            ints(dtype, &[0], &[])
        };
        result(&[x], |_, t| t[0].reduce(kind, &[0]))
    };
    let least = empty(DType::F32, ReduceKind::Max);
    assert_eq!(least, f32s(&[], &[f64::NEG_INFINITY]));
    assert_eq!(
        empty(DType::I8, ReduceKind::Max),
        ints(DType::I8, &[], &[-128])
    );
    assert_eq!(
        empty(DType::U8, ReduceKind::Min),
        ints(DType::U8, &[], &[255])
    );
    assert_eq!(
        empty(DType::U64, ReduceKind::Min),
        ints(DType::U64, &[], &[-1])
    );
    assert_eq!(
        empty(DType::Bool, ReduceKind::All),
        ints(DType::Bool, &[], &[1])
    );
    assert_eq!(
        empty(DType::Bool, ReduceKind::Any),
        ints(DType::Bool, &[], &[0])
    );
    // A contraction of nothing is +0, not -0.
    let inputs = [f32s(&[1, 0], &[]), f32s(&[0, 1], &[])];
    let product = evaluate(&inputs, &own_shapes(&inputs), |_, t| t[0].dot(t[1])).unwrap();
    assert_eq!(product.floats().unwrap()[0].to_bits(), 0);
}

#[test]
fn reductions_propagate_nan_and_order_zeros() {
    let x = f32s(&[3], &[1.0, f64::NAN, 2.0]);
    for kind in [
        ReduceKind::Max,
        ReduceKind::Min,
        ReduceKind::Sum,
        ReduceKind::Prod,
    ] {
        let y = result(std::slice::from_ref(&x), |_, t| t[0].reduce(kind, &[0]));
        assert!(y.floats().unwrap()[0].is_nan(), "{}", kind.name());
    }
    let zeros = f32s(&[2], &[-0.0, 0.0]);
    let sign = |kind| {
        let y = result(std::slice::from_ref(&zeros), |_, t| t[0].reduce(kind, &[0]));
        y.floats().unwrap()[0].is_sign_negative()
    };
    assert!(!sign(ReduceKind::Max) && sign(ReduceKind::Min));
}

#[test]
fn the_accumulation_type_prints_only_where_it_is_not_the_default() {
    let ty = |dtype| TensorType::new(dtype, [2]);
    let printed = |dtype, accumulate| {
        let op = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![0],
            accumulate,
        };
        let fits = Op::from(op.clone()).rules().infer(&[&ty(dtype)]).is_ok();
        let names: Vec<String> = Op::from(op)
            .rules()
            .attributes()
            .iter()
            .map(|(n, v)| format!("{n} = {v}"))
            .collect();
        (fits, names.join(", "))
    };
    let plain = "kind = sum, axes = [0]".to_owned();
    let wide = format!("{plain}, accumulate = f64");
    assert_eq!(printed(DType::F32, None), (true, plain.clone()));
    assert_eq!(printed(DType::F32, Some(DType::F64)), (true, wide.clone()));
    assert_eq!(printed(DType::BF16, Some(DType::F64)), (true, wide.clone()));
    // One meaning has one form: the default is left out, and nothing else is possible.
    assert_eq!(printed(DType::F64, Some(DType::F64)), (false, wide));
    assert!(!printed(DType::F32, Some(DType::F32)).0);
    assert!(!printed(DType::F32, Some(DType::I32)).0);
    assert!(!printed(DType::I32, Some(DType::I64)).0);
    let written = Attributes::none()
        .with("kind", kiln_ir::Value::Word("sum".into()))
        .with_axes("axes", &[0])
        .with("accumulate", kiln_ir::Value::Word("f32".into()));
    let parsed = |dtype| {
        let scalar = TensorType::new(dtype, ());
        match Op::parse("reduce", &mut written.clone(), &scalar) {
            Some(Ok(Op::Reduce(reduce))) => reduce.accumulate,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(parsed(DType::BF16), None);
    assert_eq!(parsed(DType::F64), Some(DType::F32));
}

#[test]
fn sums_and_products_that_choose_f64() {
    let x = f32s(&[2], &[1.5, 2.5]);
    let inputs = [x.clone(), x];
    let sum = result(&inputs, |_, t| {
        t[0].reduce_in(ReduceKind::Sum, &[0], DType::F64)
    });
    assert_eq!(sum, f32s(&[], &[4.0]));
    let product = result(&inputs, |_, t| {
        t[0].dot_in(t[1], (&[0], &[0]), (&[], &[]), DType::F64)
    });
    assert_eq!(product, f32s(&[], &[8.5]));
    // Choosing the default is the same op as not choosing.
    let g = kiln_ir::Builder::new("g");
    let t = g.input("x", DType::F32, [2]);
    g.output("a", t.reduce_in(ReduceKind::Sum, &[0], DType::F32));
    g.output("b", t.sum());
    let graph = g.finish().unwrap();
    let op = |i: usize| graph.node(graph.outputs()[i].node).map(|n| n.op.clone());
    assert_eq!(op(0), op(1));
}

#[test]
fn running_sums_products_and_maxima() {
    let nan = f64::NAN;
    let x = f32s(&[2, 3], &[1.0, 3.0, 2.0, -4.0, 5.0, nan]);
    let along = |kind, axis, reverse| {
        let found = result(std::slice::from_ref(&x), |_, t| {
            if reverse {
                t[0].cumulative_from_end(kind, axis)
            } else {
                t[0].cumulative(kind, axis)
            }
        });
        format!("{:?}", found.floats().unwrap())
    };
    assert_eq!(
        along(CumulativeKind::Sum, 1, false),
        "[1.0, 4.0, 6.0, -4.0, 1.0, NaN]"
    );
    assert_eq!(
        along(CumulativeKind::Sum, 1, true),
        "[6.0, 5.0, 2.0, NaN, NaN, NaN]"
    );
    assert_eq!(
        along(CumulativeKind::Prod, 0, false),
        "[1.0, 3.0, 2.0, -4.0, 15.0, NaN]"
    );
    assert_eq!(
        along(CumulativeKind::Max, 0, true),
        "[1.0, 5.0, NaN, -4.0, 5.0, NaN]"
    );
    let wrapped = result(&[ints(DType::I8, &[3], &[100, 100, 100])], |_, t| {
        t[0].cumulative(CumulativeKind::Sum, 0)
    });
    assert_eq!(wrapped, ints(DType::I8, &[3], &[100, -56, 44]));
    let none = result(&[f32s(&[2, 0], &[])], |_, t| {
        t[0].cumulative(CumulativeKind::Prod, 1)
    });
    assert_eq!(none, f32s(&[2, 0], &[]));
}

#[test]
fn running_ops_read_back_from_the_text() {
    let text = "kiln 1\ngraph @c<b>(%x: f32[b, 3]) {\n  %0: f32[b, 3] = cumulative %x {kind = sum, axis = [1]}\n  \
                %1: f32[b, 3] = cumulative %0 {kind = prod, axis = [0], reverse = true, accumulate = f64}\n  return %1\n}\n";
    assert_eq!(Graph::parse(text).unwrap().to_string(), text);
    let wrong = text.replace("kind = sum", "kind = any");
    let said = Graph::parse(&wrong).unwrap_err().to_string();
    assert_eq!(
        said,
        "3:34: `cumulative`: attribute `kind`: expected sum, prod or max"
    );
}
