//! Graphs that make no sense, as a file may hold them: rules refuse, nothing panics.

use crate::{f32s, floats, ints};
use kiln_ir::ops::{
    Arg, ArgKind, ArgWindow, Argsort, Broadcast, Concat, Conv, ConvAxes, ConvGroups, Cumulative,
    CumulativeKind, Dot, DynamicSlice, Gather, GatherWindow, Iota, Pad, Reduce, ReduceWindow,
    Reshape, Reverse, Scatter, ScatterWindow, Slice, Sort, Transpose, WindowAxis, WindowKind,
    Windows,
};
use kiln_ir::{
    Array, Bindings, Builder, DType, Dim, EvalError, Graph, Location, Node, NodeId, Op, Origin,
    OutOfRange, Provenance, ReduceKind, ScatterKind, Shape, TensorType, eval, grad,
};

fn typed(array: Array) -> (TensorType, Array) {
    let shape: Shape = array.shape().iter().map(|d| Dim::from(*d)).collect();
    (TensorType::new(array.dtype(), shape), array)
}

fn pool() -> Vec<(TensorType, Array)> {
    [
        f32s(&[], &[2.0]),
        f32s(&[1], &[-1.0]),
        f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
        f32s(&[0, 2], &[]),
        // Extents whose product does not fit, next to one of 0.
        f32s(&[1 << 40, 0, 1 << 40], &[]),
        floats(DType::F64, &[3], &[1.0, f64::NAN, -1.0]),
        ints(DType::I64, &[3], &[-1, i64::MAX, 1]),
        ints(DType::U32, &[2], &[0, 7]),
        ints(DType::I64, &[], &[i64::MIN]),
        ints(DType::Bool, &[2, 2], &[0, 1, 1, 0]),
        // What convolutions and windows fit.
        f32s(&[2], &[5.0, 7.0]),
        ints(DType::U8, &[2], &[1, 255]),
        f32s(&[1, 1, 1], &[3.0]),
    ]
    .map(typed)
    .to_vec()
}

/// Attributes that no builder would make.
fn hostile() -> Vec<Op> {
    let d = |list: &[i64]| -> Vec<Dim> { list.iter().map(|d| Dim::from(*d)).collect() };
    let huge = usize::MAX;
    let mut ops: Vec<Op> = vec![
        Broadcast {
            shape: Shape::from([1 << 50, 1 << 50]),
            axes: vec![],
        }
        .into(),
        Broadcast {
            shape: Shape::from([1_i64 << 45]),
            axes: vec![],
        }
        .into(),
        Broadcast {
            shape: Shape::from([2]),
            axes: vec![7],
        }
        .into(),
        Broadcast {
            shape: Shape::from([-1]),
            axes: vec![],
        }
        .into(),
        Broadcast {
            shape: Shape::from([2, 2]),
            axes: vec![1, 0],
        }
        .into(),
        Reshape {
            shape: Shape::from([i64::MAX, i64::MAX]),
        }
        .into(),
        Reshape {
            shape: Shape::from([-2, -2]),
        }
        .into(),
        Transpose { order: vec![0, 0] }.into(),
        Transpose {
            order: vec![1, huge],
        }
        .into(),
        Reverse { axes: vec![0, 0] }.into(),
        Reverse { axes: vec![huge] }.into(),
        Concat { axis: huge }.into(),
        Concat { axis: 1 }.into(),
        Iota {
            ty: TensorType::new(DType::F32, [2]),
            axis: 3,
        }
        .into(),
        Iota {
            ty: TensorType::new(DType::I64, [1_i64 << 62, 4]),
            axis: 0,
        }
        .into(),
        Arg {
            kind: ArgKind::Max,
            axis: huge,
        }
        .into(),
        Arg {
            kind: ArgKind::Min,
            axis: 1,
        }
        .into(),
    ];
    for (low, high, interior) in [
        (d(&[-1]), d(&[0]), vec![0]),
        (d(&[0]), d(&[0]), vec![-1]),
        (d(&[0]), d(&[0]), vec![i64::MAX]),
        (d(&[i64::MAX]), d(&[i64::MAX]), vec![0]),
        (d(&[1 << 45]), d(&[0]), vec![0]),
        (d(&[]), d(&[0, 0]), vec![]),
        (d(&[1, 1]), d(&[i64::MAX, 0]), vec![0, i64::MAX]),
        (vec![Dim::symbol("unbound")], d(&[0]), vec![0]),
    ] {
        ops.push(
            Pad {
                low,
                high,
                interior,
            }
            .into(),
        );
    }
    for (start, limit, stride) in [
        (d(&[0]), d(&[1]), vec![0]),
        (d(&[0]), d(&[1]), vec![i64::MAX]),
        (d(&[0]), d(&[1]), vec![i64::MIN]),
        (d(&[i64::MIN]), d(&[i64::MAX]), vec![1]),
        (d(&[0, 0]), d(&[2, 2]), vec![1, i64::MAX]),
        (d(&[1]), d(&[0]), vec![1]),
        (d(&[]), d(&[1]), vec![1, 1]),
        (vec![Dim::symbol("unbound")], d(&[0]), vec![1]),
    ] {
        ops.push(
            Slice {
                start,
                limit,
                stride,
            }
            .into(),
        );
    }
    for axes in [vec![huge], vec![1, 0], vec![0, 0], vec![0, 1, 2]] {
        for kind in ReduceKind::ALL {
            ops.push(
                Reduce {
                    kind,
                    axes: axes.clone(),
                    accumulate: Some(DType::Bool),
                }
                .into(),
            );
            ops.push(
                Reduce {
                    kind,
                    axes: axes.clone(),
                    accumulate: None,
                }
                .into(),
            );
        }
    }
    for contract in [
        (vec![0], vec![]),
        (vec![huge], vec![0]),
        (vec![0, 1], vec![1, 0]),
        (vec![], vec![]),
    ] {
        for batch in [
            (vec![], vec![]),
            (vec![0], vec![0]),
            (vec![huge], vec![huge]),
        ] {
            ops.push(
                Dot {
                    contract: contract.clone(),
                    batch,
                    accumulate: None,
                }
                .into(),
            );
        }
    }
    ops.extend(hostile_windows());
    for axis in [0, 1, huge] {
        ops.extend(CumulativeKind::ALL.map(|kind| {
            Op::from(Cumulative {
                kind,
                axis,
                reverse: axis == 0,
                accumulate: (axis == 1).then_some(DType::F64),
            })
        }));
    }
    for sizes in [
        d(&[]),
        d(&[-1]),
        d(&[i64::MAX]),
        d(&[1]),
        d(&[3, 1]),
        d(&[1 << 40, 0, 1]),
    ] {
        let sizes = sizes.into();
        ops.push(DynamicSlice { sizes }.into());
    }
    let unbound = vec![Dim::symbol("unbound")].into();
    ops.push(DynamicSlice { sizes: unbound }.into());
    for axis in [0, 1, 2, huge] {
        let descending = axis == 1;
        ops.push(Sort { axis, descending }.into());
        for count in [
            Dim::from(-1),
            Dim::from(2),
            Dim::from(i64::MAX),
            Dim::symbol("b"),
        ] {
            ops.push(
                Argsort {
                    axis,
                    descending,
                    count,
                }
                .into(),
            );
        }
    }
    for out_of_range in OutOfRange::ALL {
        for axis in [0, 1, 2, huge] {
            ops.push(Gather { axis, out_of_range }.into());
            ops.extend(ScatterKind::ALL.map(|kind| {
                Scatter {
                    kind,
                    axis,
                    out_of_range,
                }
                .into()
            }));
        }
    }
    ops
}

/// Convolutions and windows with numbers that no builder would make.
fn hostile_windows() -> Vec<Op> {
    let mut ops = Vec::new();
    let numbers = [
        [0, 0, 0, 1, 1],
        [1, 0, 0, 0, 1],
        [1, 0, 0, 1, 0],
        [-1, 1, 1, 1, 1],
        [i64::MAX, 0, 0, 1, 1],
        [i64::MIN, 0, 0, 1, 1],
        [1, i64::MAX, i64::MAX, 1, 1],
        [1, i64::MIN, i64::MAX, 1, 1],
        [1, i64::MIN, i64::MIN, 1, 1],
        [1, 0, 0, i64::MAX, 1],
        [1, 0, 0, 1, i64::MAX],
        [1, 0, 1 << 40, 1, 1],
        [1, -(1 << 40), 1 << 40, 1, 1],
        [1 << 31, 1 << 40, 1 << 40, 1 << 31, 1 << 31],
        [1 << 31, 1, 1, 1 << 31, 1],
    ];
    let axis = |[stride, low, high, base_dilation, window_dilation]: [i64; 5]| WindowAxis {
        stride,
        low: Dim::from(low),
        high: Dim::from(high),
        base_dilation,
        window_dilation,
    };
    let mut axes: Vec<Vec<WindowAxis>> = numbers.map(|n| vec![axis(n)]).to_vec();
    axes.push(vec![]);
    axes.push(vec![WindowAxis::default(); 2]);
    axes.push(vec![WindowAxis {
        low: Dim::symbol("unbound"),
        ..WindowAxis::default()
    }]);
    axes.push(vec![WindowAxis {
        high: &Dim::symbol("b") - &Dim::from(1),
        ..WindowAxis::default()
    }]);
    for axes in axes {
        for sizes in [
            vec![],
            vec![0],
            vec![-1],
            vec![2],
            vec![i64::MAX],
            vec![1 << 32, 1 << 32],
        ] {
            let windows = Windows {
                sizes,
                axes: axes.clone(),
            };
            ops.extend(WindowKind::ALL.map(|kind| {
                let windows = windows.clone();
                Op::from(ReduceWindow {
                    kind,
                    windows,
                    accumulate: None,
                })
            }));
            ops.push(
                ArgWindow {
                    kind: ArgKind::Max,
                    windows: windows.clone(),
                }
                .into(),
            );
            ops.push(
                GatherWindow {
                    windows: windows.clone(),
                }
                .into(),
            );
            for extent in [2, 0, -3, i64::MAX] {
                ops.push(
                    ScatterWindow {
                        shape: Shape::from([extent]),
                        windows: windows.clone(),
                    }
                    .into(),
                );
            }
        }
        for (count, reverse) in [
            (1, true),
            (0, false),
            (-1, false),
            (i64::MAX, true),
            (i64::MIN, false),
        ] {
            for batch in [0, 1, usize::MAX] {
                let mut conv = Conv {
                    axes: ConvAxes::channels_last(1),
                    window: axes.clone(),
                    reverse,
                    groups: ConvGroups::batches(count),
                    accumulate: None,
                };
                conv.axes.lhs.batch = batch;
                ops.push(conv.clone().into());
                conv.groups = ConvGroups::features(count);
                ops.push(conv.clone().into());
                conv.axes.rhs.spatial = vec![0; 5];
                ops.push(conv.into());
            }
        }
    }
    ops
}

/// Every tuple of up to three operands of the pool.
fn tuples() -> Vec<Vec<usize>> {
    let n = pool().len();
    let mut all: Vec<Vec<usize>> = vec![vec![]];
    let mut last = all.clone();
    for _ in 0..3 {
        last = last
            .iter()
            .flat_map(|t| (0..n).map(|i| [t.as_slice(), &[i]].concat()))
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

#[test]
fn no_op_panics_whatever_its_operands() {
    let (pool, tuples) = (pool(), tuples());
    let mut evaluated = 0;
    for op in Op::representatives().into_iter().chain(hostile()) {
        for tuple in &tuples {
            let types: Vec<&TensorType> = tuple.iter().map(|i| &pool[*i].0).collect();
            let operands: Vec<(&TensorType, &Array)> =
                tuple.iter().map(|i| (&pool[*i].0, &pool[*i].1)).collect();
            let inferred = op.rules().infer(&types);
            let ty = inferred
                .clone()
                .unwrap_or_else(|_| TensorType::new(DType::F32, [2]));
            let value = op.eval(&operands, &ty, &Bindings::from([("b", 3)]));
            match (inferred, value) {
                (Err(_), Ok(_)) => panic!("{op:?} of {types:?} is refused and has a value"),
                (Ok(ty), Ok(value)) => {
                    assert_eq!(value.dtype(), ty.dtype, "{op:?}");
                    evaluated += 1;
                }
                (_, Err(_)) => {}
            }
        }
    }
    assert!(evaluated > 500, "only {evaluated} fits");
}

#[test]
fn attributes_parse_back_to_the_op() {
    let (pool, tuples) = (pool(), tuples());
    for op in Op::representatives() {
        if matches!(op, Op::Source(_)) {
            continue;
        }
        let fitting = tuples.iter().find_map(|tuple| {
            let types: Vec<&TensorType> = tuple.iter().map(|i| &pool[*i].0).collect();
            op.rules().infer(&types).ok()
        });
        // `convert` and the like read their attribute off the type; an op that fits nothing of the pool reads none.
        let ty = fitting.unwrap_or_else(|| TensorType::new(DType::F32, [2, 3]));
        let mut attributes = op.rules().attributes();
        let parsed = Op::parse(op.rules().name(), &mut attributes, &ty);
        assert_eq!(parsed, Some(Ok(op)));
        assert!(attributes.is_empty());
    }
    let mut none = kiln_ir::Attributes::none();
    assert_eq!(
        Op::parse("no_such_op", &mut none, &TensorType::new(DType::F32, ())),
        None
    );
}

fn node(op: impl Into<Op>, operands: &[usize], ty: TensorType) -> Node {
    Node {
        op: op.into(),
        operands: operands.iter().map(|i| NodeId::new(*i)).collect(),
        ty,
        provenance: Provenance {
            location: Location::caller(),
            scope: "".into(),
            origin: Origin::User,
        },
    }
}

#[test]
fn a_graph_with_wrong_types_or_forward_references_is_refused() {
    let f32x2 = TensorType::new(DType::F32, [2]);
    let splat = |value| kiln_ir::ops::Constant::splat(TensorType::new(DType::F32, [2]), value);
    let cases = [
        // The operand comes later, is the node itself, or is nowhere.
        vec![node(kiln_ir::ops::Unary::Exp, &[1], f32x2.clone())],
        vec![node(kiln_ir::ops::Unary::Exp, &[0], f32x2.clone())],
        vec![node(kiln_ir::ops::Unary::Exp, &[99], f32x2.clone())],
        // The declared type is not the rule's.
        vec![
            node(splat(1.0), &[], f32x2.clone()),
            node(
                Transpose { order: vec![0] },
                &[0],
                TensorType::new(DType::F32, [3]),
            ),
        ],
    ];
    for nodes in cases {
        let mut graph = Graph::empty("broken");
        nodes.into_iter().for_each(|n| {
            graph.push(n);
        });
        let error = eval(&graph, |_| None).unwrap_err();
        assert!(matches!(error.cause(), EvalError::Invalid(_)), "{error}");
    }
}

#[test]
fn an_absurd_size_is_an_error() {
    let g = Builder::new("huge");
    let x = g.input("x", DType::F32, vec![Dim::symbol("b")]);
    let b = Dim::symbol("b");
    let square = &(&b * &b) * &Dim::from(1_i64 << 44);
    g.output("y", x.sum().broadcast_to(vec![square]));
    let graph = g.finish().unwrap();
    let error = eval(&graph, |_| Some(f32s(&[4], &[1.0; 4]))).unwrap_err();
    assert!(
        matches!(error.cause(), EvalError::TooLarge { .. }),
        "{error}"
    );
}

#[test]
fn poison_reports_one_mistake_through_gradients_too() {
    let g = Builder::new("poison");
    let w = g.param("w", [2], kiln_ir::Init::zeros());
    let wrong = w.gather(3, w, OutOfRange::Clamp);
    let guarded = wrong.require(wrong.is_finite(), "finite").concat(w, 0);
    let gradients = grad(guarded.sum(), &[w, wrong]);
    assert!(gradients.iter().all(|d| d.ty().is_none()));
    g.update(w, w - gradients[0]);
    assert_eq!(g.finish().unwrap_err().0.len(), 1);
}
