//! The walk over a plan: kernels, products and guards, on one thread or shared out over the pool.
//!
//! Which thread computes what is a function of the plan and the number of threads alone. The walk allocates, hashes and locks nothing
//! (the `gemm` crate inside of products excepted) and looks nothing up.

use crate::plan::{Call, Plan, ProductCall, Resolved, Shares, Strided};
use crate::pool::{Pool, split};
use crate::product::{Operand, Target, panel_rows, panels, product};
use crate::store::Address;
use kiln_ir::program::Code;
use std::ops::Range;

/// The position in the program of a guard that did not hold.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) usize);

/// What every call of a step shares.
struct Run<'a> {
    addresses: &'a [Address],
    sizes: &'a [i64],
    helpers: *const *const u8,
}

// SAFETY: the table of helpers belongs to a `Code`, which is `Sync` and whose kernels may be called with it from any thread.
unsafe impl Sync for Run<'_> {}

/// Runs all steps. A guard that does not hold ends the run before any resident is written, because guards come first.
///
/// # Safety
/// - The plan was made from a verified program under sizes that the addresses have: each address of `plan` begins a buffer of the
///   size of its layout, alive for the whole call, and no two overlap unless the layout says so.
/// - Nobody else reads what the program writes, or writes what it reads, meanwhile.
/// - The scratch of the layout is there for each thread of `pool`.
/// - `code` is that of the program and keeps the promise of [`Code`].
pub(crate) unsafe fn execute(plan: &Plan, pool: &mut Pool, code: &dyn Code) -> Result<(), Refused> {
    let run = Run {
        addresses: &plan.addresses,
        sizes: &plan.sizes,
        helpers: code.helpers(),
    };
    for step in &plan.steps {
        match step {
            // SAFETY: the caller's promise is passed on.
            Resolved::Kernel { call, shares } => unsafe { run.kernel(call, shares, pool) },
            // SAFETY: as above.
            Resolved::Product(product) => unsafe { run.product(product, pool) },
            Resolved::Guard { condition, step } => {
                // SAFETY: a condition is a buffer of one byte, which nobody writes now. It is read as a number, not as a `bool`.
                if unsafe { run.addresses[*condition].0.read() } == 0 {
                    return Err(Refused(*step));
                }
            }
        }
    }
    Ok(())
}

impl Run<'_> {
    /// # Safety
    /// As [`execute`].
    unsafe fn kernel(&self, call: &Call, shares: &Shares, pool: &mut Pool) {
        if shares.count <= 1 {
            // SAFETY: the caller's promise is passed on; the range is the whole.
            unsafe { self.call(call, 0, 0..shares.total) }
            return;
        }
        pool.run(shares.count, &|share, thread| {
            let range = split(shares.total, shares.count, shares.grain, share);
            // SAFETY: as above; the shares do not overlap, and each thread has its own scratch.
            unsafe { self.call(call, thread, range) }
        });
    }

    /// # Safety
    /// As [`execute`]; `range` lies within the launch's total, overlaps no range that runs now, and `thread` runs nothing else.
    unsafe fn call(&self, call: &Call, thread: usize, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let first = call.arguments + thread * call.thread_stride;
        // Slicing keeps a mistake in the plan from becoming a wild pointer. An `Address` is a `*mut u8`.
        let parameters = self.addresses[first..].as_ptr().cast::<*mut u8>();
        let sizes = self.sizes[call.sizes..].as_ptr();
        // SAFETY: the parameters and sizes are those of the kernel in its order, the range lies within its total (so it fits in an i64),
        // and the promise of `Code` holds for them.
        unsafe {
            (call.entry)(
                parameters,
                sizes,
                range.start as i64,
                range.end as i64,
                self.helpers,
            );
        }
    }

    /// # Safety
    /// As [`execute`].
    unsafe fn product(&self, product: &ProductCall, pool: &mut Pool) {
        if product.parallel {
            pool.run(product.tasks, &|task, thread| {
                // SAFETY: the caller's promise is passed on; panels write rows of their own.
                unsafe { self.panel(product, task, thread) }
            });
        } else {
            for task in 0..product.tasks {
                // SAFETY: as above.
                unsafe { self.panel(product, task, 0) }
            }
        }
    }

    /// One panel of one matrix, and its epilogue while it is in cache.
    ///
    /// # Safety
    /// As [`execute`]; no other thread has the same task, and `thread` runs nothing else.
    unsafe fn panel(&self, call: &ProductCall, task: usize, thread: usize) {
        let per_matrix = panels(call.m);
        let (matrix, panel) = (task / per_matrix, task % per_matrix);
        let rows = panel_rows(call.m, panel);
        let place = |strided: &Strided, first_row: usize| {
            let start =
                strided.start(matrix, &call.batch) + strided.row_stride * first_row as isize;
            let base = self.addresses[strided.address].0;
            base.wrapping_offset(start * call.dtype.size() as isize)
        };
        let lhs = Operand {
            ptr: place(&call.lhs, rows.start),
            row_stride: call.lhs.row_stride,
            col_stride: call.lhs.col_stride,
        };
        let rhs = Operand {
            ptr: place(&call.rhs, 0),
            row_stride: call.rhs.row_stride,
            col_stride: call.rhs.col_stride,
        };
        let dst = Target {
            ptr: place(&call.dst, rows.start),
            row_stride: call.dst.row_stride,
            col_stride: call.dst.col_stride,
        };
        // SAFETY: the plan checked that all elements of the three matrices lie inside their buffers, that those of the result are
        // distinct, and the program keeps the result in a buffer apart from the operands.
        unsafe { product(call.dtype, rows.len(), call.n, call.k, dst, lhs, rhs) }
        if let Some(epilogue) = &call.epilogue {
            let first = matrix * call.m;
            // SAFETY: the rows are this panel's among those of the whole batch, which is the epilogue's total.
            unsafe { self.call(epilogue, thread, first + rows.start..first + rows.end) }
        }
    }
}

impl Strided {
    /// Where a matrix of the batch begins, in elements.
    fn start(&self, matrix: usize, batch: &[usize]) -> isize {
        let mut rest = matrix;
        let mut start = self.offset;
        for (extent, stride) in batch.iter().zip(&self.batch_strides).rev() {
            start += (rest % extent) as isize * stride;
            rest /= extent;
        }
        start
    }
}
