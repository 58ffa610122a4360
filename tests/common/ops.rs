//! Every op on operands of every element type: what `every_op.rs` runs.

use super::Numbers;
use super::data::{Kind, bytes, random};
use super::generate::DTYPES;
use kiln_ir::ops::{
    Arg, ArgWindow, Argsort, Bitcast, Broadcast, Concat, Constant, Conv, Convert, Cumulative,
    Dense, Dot, DynamicSlice, DynamicUpdateSlice, Gather, GatherWindow, Iota, Op, Pad, Reduce,
    ReduceWindow, Reshape, Reverse, Scatter, ScatterWindow, Slice, Sort, Transpose,
};
use kiln_ir::{DType, Dim, OutOfRange, Shape, TensorType};
use windows::{convolutions, indices, windows};

mod windows;

/// Ops of several results, and these: `tests/control.rs` and `tests/custom.rs` run them, and random graphs have loops.
pub const COMPOUND: &[&str] = &["scan", "while", "cond", "custom_call", "part"];

/// An op with the types of its operands.
#[derive(Clone, Debug)]
pub struct Case {
    pub op: Op,
    pub operands: Vec<TensorType>,
}

fn ty(dtype: DType, dims: &[&str]) -> TensorType {
    let dims: Shape = dims.iter().map(|d| dim(d)).collect();
    TensorType::new(dtype, dims)
}

fn dim(text: &str) -> Dim {
    text.parse().expect("a dim")
}

fn dims(texts: &[&str]) -> Vec<Dim> {
    texts.iter().map(|d| dim(d)).collect()
}

/// Calls of `op`, or of its kin with other attributes, on operands of `dtype`; the op may still refuse them. A new op does not compile
/// until it has an arm here.
pub fn cases(op: &Op, dtype: DType) -> Vec<Case> {
    let x = ty(dtype, &["b", "5"]);
    let one = |op: Op| Case {
        op,
        operands: vec![x.clone()],
    };
    let of = |op: Op, operands: &[TensorType]| Case {
        op,
        operands: operands.to_vec(),
    };
    match op {
        // What is fed comes out again: the source is an operand of nothing.
        Op::Source(_) => vec![of(op.clone(), &[])],
        Op::Constant(_) => {
            let small = TensorType::new(dtype, [2, 5]);
            let data = random(&mut Numbers::new(3), dtype, &[2, 5], Kind::Odd);
            let dense = Constant::dense(small, Dense::from_bytes(bytes(&data)));
            let splats = [0.0, -0.0, 3.0, -1.0, f64::NAN, 1e300];
            let splats = splats.map(|v| of(Constant::splat(x.clone(), v).into(), &[]));
            splats.into_iter().chain([of(dense.into(), &[])]).collect()
        }
        Op::Iota(_) => [0, 1]
            .map(|axis| {
                of(
                    Iota {
                        ty: x.clone(),
                        axis,
                    }
                    .into(),
                    &[],
                )
            })
            .to_vec(),
        Op::DimSize(_) => vec![of(op.clone(), &[])],
        Op::Unary(_) | Op::StopGradient(_) => vec![one(op.clone())],
        Op::Binary(_) | Op::Compare(_) => vec![of(op.clone(), &[x.clone(), x])],
        Op::Select(_) => vec![of(
            op.clone(),
            &[ty(DType::Bool, &["b", "5"]), x.clone(), x],
        )],
        Op::Fma(_) => vec![of(op.clone(), &[x.clone(), x.clone(), x])],
        Op::Convert(_) => DTYPES.map(|to| one(Convert { to }.into())).to_vec(),
        Op::Bitcast(_) => DTYPES.map(|to| one(Bitcast { to }.into())).to_vec(),
        Op::Require(_) => vec![of(op.clone(), &[x, ty(DType::Bool, &["b"])])],
        Op::Broadcast(_) => {
            let to = |shape: &[&str], axes: &[usize]| {
                Op::from(Broadcast {
                    shape: dims(shape).into(),
                    axes: axes.to_vec(),
                })
            };
            vec![
                one(to(&["3", "b", "5"], &[1, 2])),
                one(to(&["b", "3", "5"], &[0, 2])),
                one(to(&["b", "5", "3"], &[0, 1])),
                of(to(&["b", "5"], &[0, 1]), &[ty(dtype, &["b", "1"])]),
                of(to(&["b", "5"], &[]), &[ty(dtype, &[])]),
            ]
        }
        Op::Reshape(_) => {
            let to = |shape: &[&str]| {
                Op::from(Reshape {
                    shape: dims(shape).into(),
                })
            };
            vec![
                one(to(&["5*b"])),
                one(to(&["5", "b"])),
                one(to(&["b", "1", "5", "1"])),
                of(to(&["2", "b", "3"]), &[ty(dtype, &["6", "b"])]),
                of(to(&["b", "2"]), &[ty(dtype, &["2*b"])]),
            ]
        }
        Op::Transpose(_) => vec![
            one(Transpose { order: vec![1, 0] }.into()),
            of(
                Transpose {
                    order: vec![2, 0, 1],
                }
                .into(),
                &[ty(dtype, &["3", "b", "5"])],
            ),
        ],
        Op::Slice(_) => {
            let slice = |start: &[&str], limit: &[&str], stride: [i64; 2]| {
                one(Slice {
                    start: dims(start),
                    limit: dims(limit),
                    stride: stride.to_vec(),
                }
                .into())
            };
            vec![
                slice(&["0", "1"], &["b", "4"], [1, 1]),
                slice(&["floordiv(b, 2)", "0"], &["b", "5"], [2, 3]),
                slice(&["0", "2"], &["b", "2"], [1, 1]),
            ]
        }
        Op::Pad(_) => {
            let pad = |low: &[&str], high: &[&str], interior: [i64; 2]| {
                let pad = Pad {
                    low: dims(low),
                    high: dims(high),
                    interior: interior.to_vec(),
                };
                of(pad.into(), &[x.clone(), ty(dtype, &[])])
            };
            vec![
                pad(&["1", "0"], &["0", "2"], [0, 0]),
                pad(&["0", "2"], &["1", "0"], [2, 1]),
                pad(&["b", "0"], &["0", "0"], [0, 0]),
            ]
        }
        Op::Concat(_) => vec![
            of(
                Concat { axis: 0 }.into(),
                &[x.clone(), ty(dtype, &["2", "5"])],
            ),
            of(
                Concat { axis: 1 }.into(),
                &[x.clone(), ty(dtype, &["b", "1"]), x.clone()],
            ),
            one(Concat { axis: 0 }.into()),
        ],
        Op::Reverse(_) => [vec![], vec![0], vec![1], vec![0, 1]]
            .map(|axes| one(Reverse { axes }.into()))
            .to_vec(),
        Op::Reduce(reduce) => {
            let mut all = Vec::new();
            for axes in [vec![], vec![0], vec![1], vec![0, 1]] {
                for accumulate in [None, Some(DType::F64)] {
                    let kind = reduce.kind;
                    let axes = axes.clone();
                    all.push(one(Reduce {
                        kind,
                        axes,
                        accumulate,
                    }
                    .into()));
                }
            }
            for axes in [vec![1], vec![0, 2], vec![0, 1, 2], vec![2]] {
                let reduce = Reduce {
                    axes,
                    ..reduce.clone()
                };
                all.push(of(reduce.into(), &[ty(dtype, &["3", "b", "2"])]));
            }
            all
        }
        Op::Arg(arg) => [0, 1].map(|axis| one(Arg { axis, ..*arg }.into())).to_vec(),
        Op::Dot(_) => {
            let dot =
                |contract: [&[usize]; 2], batch: [&[usize]; 2], lhs: &[&str], rhs: &[&str]| {
                    [None, Some(DType::F64)].map(|accumulate| {
                        let dot = Dot {
                            contract: (contract[0].to_vec(), contract[1].to_vec()),
                            batch: (batch[0].to_vec(), batch[1].to_vec()),
                            accumulate,
                        };
                        of(dot.into(), &[ty(dtype, lhs), ty(dtype, rhs)])
                    })
                };
            [
                dot([&[1], &[0]], [&[], &[]], &["b", "5"], &["5", "3"]),
                dot([&[0], &[0]], [&[], &[]], &["b", "5"], &["b", "3"]),
                dot([&[1], &[1]], [&[], &[]], &["b", "5"], &["20", "5"]),
                dot([&[0], &[0]], [&[], &[]], &["5"], &["5"]),
                dot([&[], &[]], [&[], &[]], &["b"], &["5"]),
                dot(
                    [&[2], &[1]],
                    [&[0], &[0]],
                    &["b", "3", "5"],
                    &["b", "5", "2"],
                ),
                dot(
                    [&[0, 2], &[0, 2]],
                    [&[], &[]],
                    &["b", "3", "5"],
                    &["b", "2", "5"],
                ),
                dot(
                    [&[2, 0], &[0, 2]],
                    [&[], &[]],
                    &["b", "3", "5"],
                    &["5", "2", "b"],
                ),
                dot([&[], &[]], [&[0, 1], &[0, 1]], &["b", "5"], &["b", "5"]),
            ]
            .into_iter()
            .flatten()
            .collect()
        }
        Op::Gather(_) => {
            let mut all = Vec::new();
            for index in DTYPES {
                for out_of_range in OutOfRange::ALL {
                    for (axis, shape) in [(0, &["3"][..]), (1, &["2", "b"]), (0, &[])] {
                        let gather = Gather { axis, out_of_range };
                        all.push(of(gather.into(), &[x.clone(), ty(index, shape)]));
                    }
                }
            }
            all
        }
        Op::Scatter(scatter) => {
            let mut all = Vec::new();
            for index in DTYPES {
                for out_of_range in OutOfRange::ALL {
                    let places: [(usize, &[&str], &[&str]); 4] = [
                        (0, &["3"], &["3", "5"]),
                        (1, &["2", "b"], &["b", "2", "b"]),
                        (1, &["7"], &["b", "7"]),
                        (0, &[], &["5"]),
                    ];
                    for (axis, shape, updates) in places {
                        let scatter = Scatter {
                            axis,
                            out_of_range,
                            ..*scatter
                        };
                        let operands = [x.clone(), ty(index, shape), ty(dtype, updates)];
                        all.push(of(scatter.into(), &operands));
                    }
                }
            }
            all
        }
        Op::Conv(_) => convolutions()
            .into_iter()
            .flat_map(|(conv, lhs, rhs)| {
                [None, Some(DType::F64)].map(|accumulate| {
                    let conv = Conv {
                        accumulate,
                        ..conv.clone()
                    };
                    of(conv.into(), &[ty(dtype, lhs), ty(dtype, rhs)])
                })
            })
            .collect(),
        Op::ReduceWindow(reduce) => {
            let mut all = Vec::new();
            for windows in windows() {
                for accumulate in [None, Some(DType::F64)] {
                    let reduce = ReduceWindow {
                        kind: reduce.kind,
                        windows: windows.clone(),
                        accumulate,
                    };
                    all.push(one(reduce.into()));
                }
            }
            all
        }
        Op::ArgWindow(arg) => windows()
            .into_iter()
            .map(|windows| {
                let kind = arg.kind;
                one(ArgWindow { kind, windows }.into())
            })
            .collect(),
        Op::GatherWindow(_) => windows()
            .into_iter()
            .filter_map(|windows| {
                let index = indices(&windows, &x)?;
                Some(of(GatherWindow { windows }.into(), &[x.clone(), index]))
            })
            .collect(),
        Op::ScatterWindow(_) => windows()
            .into_iter()
            .filter_map(|windows| {
                let index = indices(&windows, &x)?;
                let values = index.with_dtype(dtype);
                let shape = x.shape.clone();
                let scatter = ScatterWindow { shape, windows };
                Some(of(scatter.into(), &[values, index]))
            })
            .collect(),
        Op::Cumulative(op) => {
            let mut all = Vec::new();
            for axis in [0, 1] {
                for (reverse, accumulate) in [(false, None), (true, None), (true, Some(DType::F64))]
                {
                    let op = Cumulative {
                        kind: op.kind,
                        axis,
                        reverse,
                        accumulate,
                    };
                    all.push(one(op.into()));
                    all.push(of(op.into(), &[ty(dtype, &["3", "b", "2"])]));
                }
            }
            all
        }
        Op::Scan(_) | Op::While(_) | Op::Cond(_) | Op::CustomCall(_) | Op::Part(_) => Vec::new(),
        Op::DynamicSlice(_) => {
            let window = |sizes: &[&str], starts: [DType; 2]| {
                let sizes = dims(sizes).into();
                let operands = [x.clone(), ty(starts[0], &[]), ty(starts[1], &[])];
                of(DynamicSlice { sizes }.into(), &operands)
            };
            let types = DTYPES.into_iter().flat_map(|start| {
                [
                    window(&["b", "2"], [DType::I64, start]),
                    window(&["floordiv(b, 2)", "5"], [start, DType::I32]),
                ]
            });
            types
                .chain([window(&["b", "5"], [DType::I64; 2])])
                .chain([window(&["0", "1"], [DType::I64; 2])])
                .collect()
        }
        Op::DynamicUpdateSlice(_) => {
            let update = |update: &[&str], starts: [DType; 2]| {
                let update = ty(dtype, update);
                let operands = [x.clone(), update, ty(starts[0], &[]), ty(starts[1], &[])];
                of(DynamicUpdateSlice.into(), &operands)
            };
            let types = DTYPES.into_iter().flat_map(|start| {
                [
                    update(&["b", "2"], [DType::I64, start]),
                    update(&["floordiv(b, 2)", "5"], [start, DType::I32]),
                ]
            });
            // One row, so that there is no loop over rows.
            let row = [
                ty(dtype, &["3", "b"]),
                ty(dtype, &["1", "floordiv(b, 2)"]),
                ty(DType::I64, &[]),
                ty(DType::I64, &[]),
            ];
            let same = of(
                op.clone(),
                &[x.clone(), x.clone(), ty(DType::I8, &[]), ty(DType::U8, &[])],
            );
            types
                .chain([update(&["b", "5"], [DType::I64; 2]), same])
                .chain([update(&["0", "1"], [DType::I64; 2])])
                .chain([of(op.clone(), &row)])
                .chain([of(op.clone(), &[ty(dtype, &[]), ty(dtype, &[])])])
                .collect()
        }
        Op::Sort(_) => {
            let mut all = Vec::new();
            for (axis, descending) in [(0, false), (0, true), (1, false), (1, true)] {
                let sort = Sort { axis, descending };
                all.push(one(sort.into()));
                all.push(of(sort.into(), &[ty(dtype, &["3", "b", "2"])]));
            }
            all.push(of(op.clone(), &[ty(dtype, &["b"])]));
            all
        }
        Op::Argsort(_) => {
            let argsort = |axis: usize, descending: bool, count: &str| {
                let count = dim(count);
                Op::from(Argsort {
                    axis,
                    descending,
                    count,
                })
            };
            let mut all = Vec::new();
            for descending in [false, true] {
                all.push(one(argsort(0, descending, "b")));
                all.push(one(argsort(0, descending, "floordiv(b, 3)")));
                all.push(one(argsort(1, descending, "5")));
                all.push(one(argsort(1, descending, "2")));
                all.push(one(argsort(1, descending, "0")));
                let cube = ty(dtype, &["3", "b", "2"]);
                all.push(of(argsort(1, descending, "floordiv(b, 2)"), &[cube]));
            }
            all
        }
        Op::RngBits(_) => {
            let words = TensorType::new(DType::U32, [2]);
            vec![of(op.clone(), &[words.clone(), words])]
        }
    }
}
