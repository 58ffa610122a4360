//! `layernorm` of rows of 768, forward and backward: Ba, Kiros and Hinton, "Layer Normalization" (2016).

use super::block::{Block, rows};
use super::vector::{Vector, fold, loops};
use super::{Case, F32, Failure};
use kiln::ir::ReduceKind;
use kiln::{Builder, DType, Init, Tensor, grad};

const COLUMNS: usize = 768;
const EPSILON: f32 = 1e-5;

/// Rows of mean 0 and variance 1, times `gamma`, plus `beta`.
pub(crate) fn forward(footprint: usize) -> Result<Case, Failure> {
    let g = Builder::new("layernorm");
    let x = g.input("x", DType::F32, (g.dim("n"), COLUMNS as i64));
    let (gamma, beta) = (vector(&g, "gamma"), vector(&g, "beta"));
    g.output("y", normalised(x) * across(x, gamma) + across(x, beta));
    let rows = footprint / (2 * F32 * COLUMNS);
    Ok(Case::of(g.finish()?, rows, loops!(forward_loop)))
}

/// The gradient by the rows alone, as where `gamma` and `beta` are frozen; the statistics are computed from the rows again.
pub(crate) fn by_rows(footprint: usize) -> Result<Case, Failure> {
    let g = Builder::new("layernorm_dx");
    let (x, dy) = rows_and_cotangent(&g);
    let gamma = vector(&g, "gamma");
    let y = normalised(x) * across(x, gamma);
    g.output("dx", grad((y * dy).sum(), &[x])[0]);
    let rows = footprint / (3 * F32 * COLUMNS);
    Ok(Case::of(g.finish()?, rows, loops!(by_rows_loop)))
}

/// The gradients by the rows, by `gamma` and by `beta`: the whole backward step. The loop takes all three in one pass.
pub(crate) fn backward(footprint: usize) -> Result<Case, Failure> {
    let g = Builder::new("layernorm_backward");
    let (x, dy) = rows_and_cotangent(&g);
    let (gamma, beta) = (vector(&g, "gamma"), vector(&g, "beta"));
    let y = normalised(x) * across(x, gamma) + across(x, beta);
    let gradients = grad((y * dy).sum(), &[x, gamma, beta]);
    for (name, gradient) in ["dx", "dgamma", "dbeta"].into_iter().zip(gradients) {
        g.output(name, gradient);
    }
    let rows = footprint / (3 * F32 * COLUMNS);
    Ok(Case::of(g.finish()?, rows, loops!(backward_loop)))
}

fn rows_and_cotangent(g: &Builder) -> (Tensor<'_>, Tensor<'_>) {
    let rows = |name| g.input(name, DType::F32, (g.dim("n"), COLUMNS as i64));
    (rows("x"), rows("dy"))
}

fn vector<'g>(g: &'g Builder, name: &str) -> Tensor<'g> {
    g.param(name, (COLUMNS as i64,), Init::uniform(1.0))
}

/// A vector over the columns, for each row of `x`.
fn across<'g>(x: Tensor<'g>, vector: Tensor<'g>) -> Tensor<'g> {
    let columns = COLUMNS as i64;
    let n = x.builder().dim("n");
    vector.reshape((1, columns)).broadcast_to((n, columns))
}

fn normalised(x: Tensor<'_>) -> Tensor<'_> {
    let centred = x - spread(mean(x));
    let variance = mean(centred.square());
    centred * spread((variance + f64::from(EPSILON)).rsqrt())
}

/// The mean of each row.
fn mean(x: Tensor<'_>) -> Tensor<'_> {
    x.reduce(ReduceKind::Sum, &[1]) * (1.0 / COLUMNS as f64)
}

/// A number for each row, over its columns.
fn spread(rows: Tensor<'_>) -> Tensor<'_> {
    let n = rows.builder().dim("n");
    let column = rows.reshape((n.clone(), 1));
    column.broadcast_to((n, COLUMNS as i64))
}

/// The mean of a row and the reciprocal of its standard deviation.
#[inline(always)]
unsafe fn statistics<V: Vector>(x: *const f32) -> (V, V) {
    // SAFETY: the row has all columns; the caller answers for the instruction set.
    unsafe {
        let mean = fold!(V, COLUMNS, 0.0, V::add, i, V::load(x.add(i)));
        let mean = V::splat(V::sum(mean) / COLUMNS as f32);
        let squares = fold!(V, COLUMNS, 0.0, V::add, i, {
            let centred = V::sub(V::load(x.add(i)), mean);
            V::mul(centred, centred)
        });
        let variance = V::sum(squares) / COLUMNS as f32;
        (mean, V::splat(1.0 / (variance + EPSILON).sqrt()))
    }
}

#[inline(always)]
unsafe fn forward_loop<V: Vector>(inputs: &[Block], own: &mut [Block]) {
    let [gamma, beta, y] = own else {
        unreachable!("gamma, beta, y")
    };
    let (x, y) = (inputs[0].floats(), y.floats_mut());
    let (gamma, beta) = (gamma.floats(), beta.floats());
    assert_eq!(
        (gamma.len(), beta.len(), y.len()),
        (COLUMNS, COLUMNS, x.len())
    );
    let (gamma, beta) = (gamma.as_ptr(), beta.as_ptr());
    for row in 0..rows(x, COLUMNS) {
        // SAFETY: the row lies within both operands; the caller answers for the instruction set.
        unsafe {
            let x = x.as_ptr().add(row * COLUMNS);
            let y = y.as_mut_ptr().add(row * COLUMNS);
            let (mean, scale) = statistics::<V>(x);
            for i in (0..COLUMNS).step_by(V::LANES) {
                let normal = V::mul(V::sub(V::load(x.add(i)), mean), scale);
                let scaled = V::fma(normal, V::load(gamma.add(i)), V::load(beta.add(i)));
                V::store(scaled, y.add(i));
            }
        }
    }
}

#[inline(always)]
unsafe fn by_rows_loop<V: Vector>(inputs: &[Block], own: &mut [Block]) {
    let [gamma, dx] = own else {
        unreachable!("gamma, dx")
    };
    // SAFETY: the caller answers for the instruction set.
    unsafe { gradients::<V>(inputs, gamma, dx, None) }
}

#[inline(always)]
unsafe fn backward_loop<V: Vector>(inputs: &[Block], own: &mut [Block]) {
    let [gamma, _, dx, dgamma, dbeta] = own else {
        unreachable!("gamma, beta, dx, dgamma, dbeta")
    };
    // SAFETY: the caller answers for the instruction set.
    unsafe { gradients::<V>(inputs, gamma, dx, Some([dgamma, dbeta])) }
}

/// The gradient by the rows, and the sums over the rows by `gamma` and `beta` where they are wanted.
#[inline(always)]
unsafe fn gradients<V: Vector>(
    inputs: &[Block],
    gamma: &Block,
    dx: &mut Block,
    sums: Option<[&mut Block; 2]>,
) {
    let (x, dy, dx) = (inputs[0].floats(), inputs[1].floats(), dx.floats_mut());
    let gamma = gamma.floats();
    assert_eq!(
        (gamma.len(), dy.len(), dx.len()),
        (COLUMNS, x.len(), x.len())
    );
    let gamma = gamma.as_ptr();
    let sums = sums.map(|sums| {
        sums.map(|sum| {
            let sum = sum.floats_mut();
            assert_eq!(sum.len(), COLUMNS);
            sum.fill(0.0);
            sum.as_mut_ptr()
        })
    });
    let count = COLUMNS as f32;
    for row in 0..rows(x, COLUMNS) {
        // SAFETY: the row lies within the operands; the caller answers for the instruction set.
        unsafe {
            let (x, dy) = (
                x.as_ptr().add(row * COLUMNS),
                dy.as_ptr().add(row * COLUMNS),
            );
            let dx = dx.as_mut_ptr().add(row * COLUMNS);
            let (mean, scale) = statistics::<V>(x);
            let cotangent = fold!(V, COLUMNS, 0.0, V::add, i, {
                V::mul(V::load(dy.add(i)), V::load(gamma.add(i)))
            });
            let along = fold!(V, COLUMNS, 0.0, V::add, i, {
                let cotangent = V::mul(V::load(dy.add(i)), V::load(gamma.add(i)));
                V::mul(cotangent, V::sub(V::load(x.add(i)), mean))
            });
            let first = V::splat(V::sum(cotangent) / count);
            let second = V::mul(V::splat(V::sum(along) / count), V::mul(scale, scale));
            for i in (0..COLUMNS).step_by(V::LANES) {
                let centred = V::sub(V::load(x.add(i)), mean);
                let dy = V::load(dy.add(i));
                let v = V::sub(V::mul(dy, V::load(gamma.add(i))), first);
                let v = V::sub(v, V::mul(centred, second));
                V::store(V::mul(v, scale), dx.add(i));
                if let Some([dgamma, dbeta]) = sums {
                    let normal = V::mul(centred, scale);
                    V::store(V::fma(dy, normal, V::load(dgamma.add(i))), dgamma.add(i));
                    V::store(V::add(V::load(dbeta.add(i)), dy), dbeta.add(i));
                }
            }
        }
    }
}
