//! `bias_grad`: the gradient of a bias of 768, which is the sum of the cotangent's rows.

use super::block::{Block, rows};
use super::vector::{Vector, loops};
use super::{Case, F32, Failure};
use kiln::ir::ReduceKind;
use kiln::{Builder, DType};

const COLUMNS: usize = 768;
/// Rows for each pass over the sums, which then cost little in cache.
const ROWS: usize = 4;
/// Beyond these bytes rows are read one by one, since memory is fastest as a single stream.
const STREAM: usize = 16 << 20;

/// The sum of each column.
pub(crate) fn bias_grad(footprint: usize) -> Result<Case, Failure> {
    let g = Builder::new("bias_grad");
    let x = g.input("dy", DType::F32, (g.dim("n"), COLUMNS as i64));
    g.output("db", x.reduce(ReduceKind::Sum, &[0]));
    let rows = footprint / (F32 * COLUMNS);
    Ok(Case::of(g.finish()?, rows, loops!(sum_loop)))
}

#[inline(always)]
unsafe fn sum_loop<V: Vector>(inputs: &[Block], own: &mut [Block]) {
    let (x, sums) = (inputs[0].floats(), own[0].floats_mut());
    assert_eq!(sums.len(), COLUMNS);
    sums.fill(0.0);
    let sums = sums.as_mut_ptr();
    let rows = rows(x, COLUMNS);
    let pass = if size_of_val(x) > STREAM { 1 } else { ROWS };
    let x = x.as_ptr();
    for row in (0..rows).step_by(pass) {
        let end = (row + pass).min(rows);
        for i in (0..COLUMNS).step_by(V::LANES) {
            // SAFETY: rows and columns lie within the operands; the caller answers for the instruction set.
            unsafe {
                let mut sum = V::load(sums.add(i));
                for r in row..end {
                    sum = V::add(sum, V::load(x.add(r * COLUMNS + i)));
                }
                V::store(sum, sums.add(i));
            }
        }
    }
}
