//! Every element-wise op of every type, against the interpreter's meaning of the op, and against the recipes on the host where it has one.

use crate::elements::{TYPES, assert_same, decode, encode, gather, numbers, pairs, zeros};
use crate::support::{Buffer, Compiled, LENGTHS, map, targets};
use kiln_compiler::emit::Target;
use kiln_compiler::kernel::{Expr, Kernel};
use kiln_compiler::math::{
    Host32, Host64, erf, erf64, erfc, exp, exp64, log, log64, pow, pow64, root, trig, trig64,
};
use kiln_ir::ops::{Binary, Compare, Convert, Op, Rules, Select, Unary};
use kiln_ir::{Array, Bindings, DType, TensorType, Values};

/// The interpreter's result of an op.
pub(crate) fn reference(op: impl Into<Op>, operands: &[&Array]) -> Array {
    let op: Op = op.into();
    let types: Vec<TensorType> = operands
        .iter()
        .map(|a| {
            let extents = a.shape().iter().map(|n| (*n).into());
            TensorType::new(a.dtype(), kiln_ir::Shape::from_iter(extents))
        })
        .collect();
    let ty = op.rules().infer(&types.iter().collect::<Vec<_>>()).unwrap();
    let pairs: Vec<(&TensorType, &Array)> = types.iter().zip(operands.iter().copied()).collect();
    op.eval(&pairs, &ty, &Bindings::new()).unwrap()
}

fn accepts(op: &dyn Rules, dtype: DType) -> bool {
    let ty = TensorType::new(dtype, ());
    op.infer(&[&ty]).is_ok() || op.infer(&[&ty, &ty]).is_ok()
}

/// Runs a map over operands and compares with what is expected, whole and at all lengths.
fn check(kernel: Kernel, operands: &[&Array], expected: &Array, what: &str) {
    for target in targets() {
        check_on(&target, kernel.clone(), operands, expected, what);
    }
}

fn check_on(target: &Target, kernel: Kernel, operands: &[&Array], expected: &Array, what: &str) {
    let compiled = Compiled::for_target(kernel, target);
    let whole = expected.shape()[0];
    for n in LENGTHS.into_iter().filter(|n| *n < whole).chain([whole]) {
        // A window that moves, so that every edge is met in different lanes.
        let start = (n * 7) % (whole - n + 1);
        let cut = |a: &Array| gather(a, n, |i| start + i);
        let inputs: Vec<Array> = operands.iter().map(|a| cut(a)).collect();
        let mut buffers: Vec<Buffer> = inputs.iter().map(encode).collect();
        buffers.push(zeros(expected.dtype(), n));
        compiled.run(n, &mut buffers.iter_mut().collect::<Vec<_>>());
        let found = decode(expected.dtype(), &buffers[operands.len()]);
        let views: Vec<&Array> = inputs.iter().collect();
        assert_same(
            &found,
            &cut(expected),
            &views,
            &format!("{what} at length {n}"),
        );
    }
}

/// The recipe on the host, by a table of its own.
fn recipe32(op: Unary) -> Option<fn(f32) -> f32> {
    Some(match op {
        Unary::Exp => |x| exp::exp_f32(&mut Host32, x),
        Unary::Expm1 => |x| exp::expm1_f32(&mut Host32, x),
        Unary::Log => |x| log::log_f32(&mut Host32, x),
        Unary::Log1p => |x| log::log1p_f32(&mut Host32, x),
        Unary::Rsqrt => |x| root::rsqrt_f32(&mut Host32, x),
        Unary::Sin => |x| trig::sin_f32(&mut Host32, x),
        Unary::Cos => |x| trig::cos_f32(&mut Host32, x),
        Unary::Tan => |x| trig::tan_f32(&mut Host32, x),
        Unary::Tanh => |x| exp::tanh_f32(&mut Host32, x),
        Unary::Logistic => |x| exp::logistic_f32(&mut Host32, x),
        Unary::Erf => |x| erf::erf_f32(&mut Host32, x),
        Unary::Erfc => |x| erfc::erfc_f32(&mut Host32, x),
        _ => return None,
    })
}

fn recipe64(op: Unary) -> Option<fn(f64) -> f64> {
    Some(match op {
        Unary::Exp => |x| exp64::exp_f64(&mut Host64, x),
        Unary::Expm1 => |x| exp64::expm1_f64(&mut Host64, x),
        Unary::Log => |x| log64::log_f64(&mut Host64, x),
        Unary::Log1p => |x| log64::log1p_f64(&mut Host64, x),
        Unary::Rsqrt => |x| root::rsqrt_f64(&mut Host64, x),
        Unary::Sin => |x| trig64::sin_f64(&mut Host64, x),
        Unary::Cos => |x| trig64::cos_f64(&mut Host64, x),
        Unary::Tan => |x| trig64::tan_f64(&mut Host64, x),
        Unary::Tanh => |x| exp64::tanh_f64(&mut Host64, x),
        Unary::Logistic => |x| exp64::logistic_f64(&mut Host64, x),
        Unary::Erf => |x| erf64::erf_f64(&mut Host64, x),
        Unary::Erfc => |x| erf64::erfc_f64(&mut Host64, x),
        _ => return None,
    })
}

fn mapped(array: &Array, f: impl Fn(f64) -> f64) -> Array {
    let values = array.floats().unwrap().iter().map(|x| f(*x)).collect();
    Array::new(array.dtype(), array.shape().to_vec(), Values::Float(values)).unwrap()
}

pub(crate) fn unary_reference(op: Unary, x: &Array) -> Array {
    match x.dtype() {
        DType::F32 => recipe32(op).map(|f| mapped(x, |x| f64::from(f(x as f32)))),
        DType::F64 => recipe64(op).map(|f| mapped(x, f)),
        _ => None,
    }
    .unwrap_or_else(|| reference(op, &[x]))
}

#[test]
fn unary_ops() {
    for op in Unary::ALL {
        for dtype in TYPES.into_iter().filter(|d| accepts(op, *d)) {
            let x = numbers(dtype, 300, 1);
            let expected = unary_reference(*op, &x);
            let result = expected.dtype();
            let kernel = map(&[dtype], result, |b, body, v| {
                b.compute(body, result, Expr::Unary(*op, v[0]))
            });
            check(kernel, &[&x], &expected, &format!("{} {dtype}", op.name()));
        }
    }
}

pub(crate) fn binary_reference(op: Binary, x: &Array, y: &Array) -> Array {
    let both = |f: &dyn Fn(f64, f64) -> f64| {
        let (xs, ys) = (x.floats().unwrap(), y.floats().unwrap());
        let values = xs.iter().zip(ys).map(|(x, y)| f(*x, *y)).collect();
        Array::new(x.dtype(), x.shape().to_vec(), Values::Float(values)).unwrap()
    };
    match (op, x.dtype()) {
        (Binary::Pow, DType::F32) => {
            both(&|x, y| f64::from(pow::pow_f32(&mut Host32, x as f32, y as f32)))
        }
        (Binary::Pow, DType::F64) => both(&|x, y| pow64::pow_f64(&mut Host64, x, y)),
        (Binary::Atan2, DType::F32) => {
            both(&|x, y| f64::from(root::atan2_f32(&mut Host32, x as f32, y as f32)))
        }
        (Binary::Atan2, DType::F64) => both(&|x, y| root::atan2_f64(&mut Host64, x, y)),
        _ => reference(op, &[x, y]),
    }
}

#[test]
fn binary_ops() {
    for op in Binary::ALL {
        for dtype in TYPES.into_iter().filter(|d| accepts(op, *d)) {
            let [x, y] = pairs(dtype);
            let expected = binary_reference(*op, &x, &y);
            let kernel = map(&[dtype, dtype], dtype, |b, body, v| {
                b.compute(body, dtype, Expr::Binary(*op, v[0], v[1]))
            });
            check(
                kernel,
                &[&x, &y],
                &expected,
                &format!("{} {dtype}", op.name()),
            );
        }
    }
}

/// The second operand as a literal: the emitter makes use of what it knows of it.
#[test]
fn binary_ops_with_a_literal() {
    let ops = [
        Binary::Max,
        Binary::Min,
        Binary::Shl,
        Binary::Shr,
        Binary::Div,
    ];
    for op in ops {
        for dtype in TYPES.into_iter().filter(|d| accepts(&op, *d)) {
            let x = numbers(dtype, 100, 2);
            let edges = numbers(dtype, 28, 3);
            for k in 0..28 {
                let y = gather(&edges, 100, |_| k);
                for swapped in [false, true] {
                    let sides = if swapped { [&y, &x] } else { [&x, &y] };
                    let expected = reference(op, &sides);
                    let kernel = map(&[dtype], dtype, |b, body, v| {
                        let literal = match y.values() {
                            Values::Float(f) => b.float(body, dtype, f[0]),
                            Values::Int(i) => b.int(body, dtype, i[0]),
                        };
                        let (left, right) = if swapped {
                            (literal, v[0])
                        } else {
                            (v[0], literal)
                        };
                        b.compute(body, dtype, Expr::Binary(op, left, right))
                    });
                    check(
                        kernel,
                        &[&x],
                        &expected,
                        &format!("{} {dtype}, literal {k}", op.name()),
                    );
                }
            }
        }
    }
}

#[test]
fn comparisons() {
    for op in Compare::ALL {
        for dtype in TYPES {
            let [x, y] = pairs(dtype);
            let expected = reference(op, &[&x, &y]);
            let kernel = map(&[dtype, dtype], DType::Bool, |b, body, v| {
                b.compute(body, DType::Bool, Expr::Compare(op, v[0], v[1]))
            });
            check(
                kernel,
                &[&x, &y],
                &expected,
                &format!("{} {dtype}", op.name()),
            );
        }
    }
}

#[test]
fn selections() {
    for dtype in TYPES {
        let [x, y] = pairs(dtype);
        let condition = numbers(DType::Bool, x.shape()[0], 4);
        let expected = reference(Select, &[&condition, &x, &y]);
        let kernel = map(&[DType::Bool, dtype, dtype], dtype, |b, body, v| {
            b.compute(body, dtype, Expr::Select(v[0], v[1], v[2]))
        });
        check(
            kernel,
            &[&condition, &x, &y],
            &expected,
            &format!("select {dtype}"),
        );
    }
}

#[test]
fn conversions() {
    for from in TYPES {
        for to in TYPES {
            let x = numbers(from, 300, 6);
            let expected = reference(Convert { to }, &[&x]);
            let kernel = map(&[from], to, |b, body, v| {
                b.compute(body, to, Expr::Convert(v[0]))
            });
            check(kernel, &[&x], &expected, &format!("convert {from} to {to}"));
        }
    }
}

#[test]
fn bit_patterns() {
    for from in TYPES {
        for to in TYPES {
            if from.size() != to.size() || [from, to].contains(&DType::Bool) {
                continue;
            }
            let x = numbers(from, 100, 7);
            let expected = decode(to, &encode(&x));
            let kernel = map(&[from], to, |b, body, v| {
                b.compute(body, to, Expr::Bitcast(v[0]))
            });
            check(kernel, &[&x], &expected, &format!("bitcast {from} to {to}"));
        }
    }
}

#[test]
fn fused_products_are_rounded_once_with_and_without_the_instruction() {
    let native = Target::native().unwrap();
    for target in [native.clone(), native.without_fma()] {
        for dtype in [DType::F32, DType::F64] {
            let [x, y] = pairs(dtype);
            let z = numbers(dtype, x.shape()[0], 8);
            let [xs, ys, zs] = [&x, &y, &z].map(|a| a.floats().unwrap());
            let fused = |i: usize| {
                if dtype == DType::F32 {
                    f64::from((xs[i] as f32).mul_add(ys[i] as f32, zs[i] as f32))
                } else {
                    xs[i].mul_add(ys[i], zs[i])
                }
            };
            let values = Values::Float((0..xs.len()).map(fused).collect());
            let expected = Array::new(dtype, vec![xs.len()], values).unwrap();
            let kernel = map(&[dtype; 3], dtype, |b, body, v| {
                b.compute(body, dtype, Expr::Fma(v[0], v[1], v[2]))
            });
            check_on(
                &target,
                kernel,
                &[&x, &y, &z],
                &expected,
                &format!("fma {dtype}"),
            );
        }
    }
}

#[test]
fn recipes_have_the_same_bits_without_fused_instructions() {
    let target = Target::native().unwrap().without_fma();
    for dtype in [DType::F32, DType::F64] {
        let x = numbers(dtype, 100, 9);
        let expected = unary_reference(Unary::Sin, &x);
        let kernel = map(&[dtype], dtype, |b, body, v| {
            b.compute(body, dtype, Expr::Unary(Unary::Sin, v[0]))
        });
        check_on(
            &target,
            kernel,
            &[&x],
            &expected,
            &format!("sin {dtype} without fma"),
        );
    }
}

#[test]
fn half_precision_is_refused_by_name() {
    for dtype in [DType::F16, DType::BF16] {
        let kernel = map(&[dtype], dtype, |b, body, v| {
            b.compute(body, dtype, Expr::Unary(Unary::Neg, v[0]))
        });
        let error = kiln_compiler::jit::compile(&[kernel])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(dtype.name()) && error.contains("load"),
            "{error}"
        );
    }
}
