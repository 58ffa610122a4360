//! `softmax` of rows of 1024.

use super::block::{Block, rows};
use super::math::exp;
use super::vector::{Vector, fold, loops};
use super::{Case, F32, Failure};
use kiln::{Builder, DType};

const COLUMNS: usize = 1024;

/// The graph is the one that layers use. The loop multiplies each row by the reciprocal of its sum, where Kiln divides.
pub(crate) fn softmax(footprint: usize) -> Result<Case, Failure> {
    let g = Builder::new("softmax");
    let x = g.input("x", DType::F32, (g.dim("n"), COLUMNS as i64));
    g.output("y", kiln::nn::softmax(x));
    let rows = footprint / (2 * F32 * COLUMNS);
    Ok(Case::of(g.finish()?, rows, loops!(softmax_loop)))
}

/// Three sweeps of a row that stays in L1: the maximum, the exponentials with their sum, the scaling.
#[inline(always)]
unsafe fn softmax_loop<V: Vector>(inputs: &[Block], own: &mut [Block]) {
    let (x, y) = (inputs[0].floats(), own[0].floats_mut());
    let rows = rows(x, COLUMNS);
    assert_eq!(x.len(), y.len());
    for row in 0..rows {
        // SAFETY: the row lies within both operands; the caller answers for the instruction set.
        unsafe {
            let x = x.as_ptr().add(row * COLUMNS);
            let y = y.as_mut_ptr().add(row * COLUMNS);
            let greatest = fold!(V, COLUMNS, f32::NEG_INFINITY, V::max, i, V::load(x.add(i)));
            let greatest = V::splat(V::greatest(greatest));
            let sum = fold!(V, COLUMNS, 0.0, V::add, i, {
                let e = exp(V::sub(V::load(x.add(i)), greatest));
                V::store(e, y.add(i));
                e
            });
            let scale = V::splat(1.0 / V::sum(sum));
            for i in (0..COLUMNS).step_by(V::LANES) {
                V::store(V::mul(V::load(y.add(i)), scale), y.add(i));
            }
        }
    }
}
