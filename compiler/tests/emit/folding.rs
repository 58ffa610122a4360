//! Folding against machine code: for every op and type, what folding makes of odd and random numbers is what a kernel computes.

use crate::elements::Random;
use crate::support::{Buffer, Compiled, map};
use kiln_compiler::kernel::Expr;
use kiln_compiler::math::apply;
use kiln_ir::ops::{Binary, Compare, Literal, Rules, Unary};
use kiln_ir::{DType, TensorType};

/// The types that have machine code.
const TYPES: [DType; 7] = [
    DType::F32,
    DType::F64,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U32,
    DType::Bool,
];

/// Odd and random numbers of a type.
fn numbers(dtype: DType) -> Vec<Literal> {
    let mut random = Random::new(7);
    let mut wide = || random.next();
    let float = |x: f64| Literal::Float(x.to_bits());
    match dtype {
        DType::F32 => {
            let odd = [
                0.0f32,
                -0.0,
                1.0,
                -1.0,
                0.5,
                2.5,
                -3.5,
                1e-40,
                -1e-45,
                3e38,
                -3e38,
                88.0,
                -104.0,
                4e9,
                -3e9,
                1e20,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::NAN,
            ];
            let random: Vec<f32> = (0..40).map(|_| f32::from_bits(wide() as u32)).collect();
            let all = odd.into_iter().chain(random);
            all.map(|x| float(if x.is_nan() { f64::NAN } else { f64::from(x) }))
                .collect()
        }
        DType::F64 => {
            let odd = [
                0.0,
                -0.0,
                1.0,
                -1.0,
                0.5,
                2.5,
                -3.5,
                1e-310,
                -5e-324,
                1e308,
                -1e308,
                709.0,
                -745.0,
                4e9,
                -1e19,
                1e20,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NAN,
            ];
            let random: Vec<f64> = (0..40).map(|_| f64::from_bits(wide())).collect();
            let all = odd.into_iter().chain(random);
            all.map(|x| float(if x.is_nan() { f64::NAN } else { x }))
                .collect()
        }
        _ => {
            let odd = [
                0,
                1,
                -1,
                2,
                7,
                31,
                32,
                63,
                64,
                255,
                i64::MIN,
                i64::MAX,
                1 << 31,
                -(1 << 31),
                (1 << 31) - 1,
            ];
            let random: Vec<i64> = (0..20).map(|_| wide() as i64).collect();
            let all = odd.into_iter().chain(random);
            all.map(|x| Literal::Int(apply::wrap(dtype, x))).collect()
        }
    }
}

fn encode(dtype: DType, values: &[Literal]) -> Buffer {
    let float = |l: &Literal| match l {
        Literal::Float(bits) => f64::from_bits(*bits),
        Literal::Int(_) => panic!("a floating literal"),
    };
    let int = |l: &Literal| match l {
        Literal::Int(i) => *i,
        Literal::Float(_) => panic!("an integer literal"),
    };
    match dtype {
        DType::F32 => Buffer::of(&values.iter().map(|l| float(l) as f32).collect::<Vec<_>>()),
        DType::F64 => Buffer::of(&values.iter().map(float).collect::<Vec<_>>()),
        DType::I32 | DType::U32 => {
            Buffer::of(&values.iter().map(|l| int(l) as i32).collect::<Vec<_>>())
        }
        DType::I64 => Buffer::of(&values.iter().map(int).collect::<Vec<_>>()),
        DType::U8 | DType::Bool => {
            Buffer::of(&values.iter().map(|l| int(l) as u8).collect::<Vec<_>>())
        }
        _ => panic!("{dtype} has no machine code"),
    }
}

fn decode(dtype: DType, buffer: &Buffer) -> Vec<Literal> {
    let float = |x: f64| Literal::Float(if x.is_nan() { f64::NAN } else { x }.to_bits());
    let int = |x: i64| Literal::Int(x);
    match dtype {
        DType::F32 => buffer
            .to_vec::<f32>()
            .into_iter()
            .map(|x| float(f64::from(x)))
            .collect(),
        DType::F64 => buffer.to_vec::<f64>().into_iter().map(float).collect(),
        DType::I32 => buffer
            .to_vec::<i32>()
            .into_iter()
            .map(|x| int(i64::from(x)))
            .collect(),
        DType::U32 => buffer
            .to_vec::<u32>()
            .into_iter()
            .map(|x| int(i64::from(x)))
            .collect(),
        DType::I64 => buffer.to_vec::<i64>().into_iter().map(int).collect(),
        DType::U8 | DType::Bool => buffer
            .to_vec::<u8>()
            .into_iter()
            .map(|x| int(i64::from(x)))
            .collect(),
        _ => panic!("{dtype} has no machine code"),
    }
}

/// Runs the op over all operands in a kernel and folds it for each.
fn check(
    what: &str,
    types: (DType, DType),
    operands: &[Vec<Literal>],
    expr: impl Fn(&[kiln_compiler::kernel::ValueId]) -> Expr,
    fold: impl Fn(&[Literal]) -> Option<Literal>,
) {
    let (from, to) = types;
    let count = operands[0].len();
    let kernel = map(&vec![from; operands.len()], to, |build, body, values| {
        let expr = expr(values);
        build.compute(body, to, expr)
    });
    let mut buffers: Vec<Buffer> = operands.iter().map(|o| encode(from, o)).collect();
    let zero = if to.is_float() {
        Literal::Float(0)
    } else {
        Literal::Int(0)
    };
    buffers.push(encode(to, &vec![zero; count]));
    Compiled::new(kernel).run(count, &mut buffers.iter_mut().collect::<Vec<_>>());
    let found = decode(to, &buffers[operands.len()]);
    for (k, found) in found.into_iter().enumerate() {
        let at: Vec<Literal> = operands.iter().map(|o| o[k]).collect();
        let folded = fold(&at);
        assert_eq!(
            folded,
            Some(found),
            "{what} of {from} at {at:?}: folded, computed"
        );
    }
}

fn pairs(dtype: DType) -> [Vec<Literal>; 2] {
    let all = numbers(dtype);
    let left = all.iter().flat_map(|x| vec![*x; all.len()]).collect();
    let right = all.iter().flat_map(|_| all.clone()).collect();
    [left, right]
}

fn accepts(op: &dyn Rules, dtype: DType, operands: usize) -> bool {
    let ty = TensorType::new(dtype, ());
    op.infer(&vec![&ty; operands]).is_ok()
}

#[test]
fn unary_ops_fold_to_what_kernels_compute() {
    for dtype in TYPES {
        for op in Unary::ALL
            .iter()
            .copied()
            .filter(|op| accepts(op, dtype, 1))
        {
            let to = if op == Unary::IsFinite {
                DType::Bool
            } else {
                dtype
            };
            check(
                op.name(),
                (dtype, to),
                &[numbers(dtype)],
                |v| Expr::Unary(op, v[0]),
                |x| apply::unary(op, dtype, x[0]),
            );
        }
    }
}

#[test]
fn binary_ops_and_comparisons_fold_to_what_kernels_compute() {
    for dtype in TYPES {
        let pairs = pairs(dtype);
        for op in Binary::ALL
            .iter()
            .copied()
            .filter(|op| accepts(op, dtype, 2))
        {
            check(
                op.name(),
                (dtype, dtype),
                &pairs,
                |v| Expr::Binary(op, v[0], v[1]),
                |x| apply::binary(op, dtype, x[0], x[1]),
            );
        }
        for op in Compare::ALL {
            let fold = |x: &[Literal]| {
                apply::compare(op, dtype, x[0], x[1]).map(|b| Literal::Int(i64::from(b)))
            };
            check(
                op.name(),
                (dtype, DType::Bool),
                &pairs,
                |v| Expr::Compare(op, v[0], v[1]),
                fold,
            );
        }
    }
}

#[test]
fn conversions_and_fma_fold_to_what_kernels_compute() {
    for from in TYPES {
        for to in TYPES.into_iter().filter(|to| *to != from) {
            check(
                &format!("convert to {to}"),
                (from, to),
                &[numbers(from)],
                |v| Expr::Convert(v[0]),
                |x| apply::convert(from, to, x[0]),
            );
        }
    }
    for dtype in [DType::F32, DType::F64] {
        let [x, y] = pairs(dtype);
        let z: Vec<Literal> = y.iter().rev().copied().collect();
        check(
            "fma",
            (dtype, dtype),
            &[x, y, z],
            |v| Expr::Fma(v[0], v[1], v[2]),
            |x| apply::fma(dtype, x[0], x[1], x[2]),
        );
    }
}
