//! The walk over a plan: kernels, products, convolutions and guards, on one thread or shared out over the pool.
//!
//! Which thread computes what is a function of the plan and the number of threads alone. The walk allocates, hashes and locks nothing,
//! and looks nothing up.

use crate::convolution::Operands;
use crate::plan::{
    Call, ConvolutionCall, Piece, Plan, ProductCall, Resolved, Shares, Start, Strided,
};
use crate::pool::{Pool, split};
use crate::product::{Matrices, Unit};
use crate::profile::Watch;
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
    pieces: &'a [Piece],
    shares: &'a [Range<usize>],
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
pub(crate) unsafe fn execute<W: Watch>(
    plan: &Plan,
    pool: &mut Pool,
    code: &dyn Code,
    watch: &mut W,
) -> Result<(), Refused> {
    let run = Run {
        addresses: &plan.addresses,
        sizes: &plan.sizes,
        pieces: &plan.pieces,
        shares: &plan.shares,
        helpers: code.helpers(),
    };
    for (step, cost) in plan.steps.iter().zip(&plan.costs) {
        let begun = watch.begin();
        match step {
            // SAFETY: the caller's promise is passed on.
            Resolved::Kernel(shares) => unsafe { run.kernel(shares, pool) },
            // SAFETY: as above.
            Resolved::Product(product) => unsafe { run.product(product, pool) },
            // SAFETY: as above.
            Resolved::Convolution(call) => unsafe { run.convolution(call, pool) },
            Resolved::Guard { condition, step } => {
                // SAFETY: a condition is a buffer of one byte, which nobody writes now. It is read as a number, not as a `bool`.
                if unsafe { run.addresses[*condition].0.read() } == 0 {
                    return Err(Refused(*step));
                }
            }
        }
        watch.end(begun, cost);
    }
    Ok(())
}

impl Run<'_> {
    /// # Safety
    /// As [`execute`].
    unsafe fn kernel(&self, shares: &Shares, pool: &mut Pool) {
        let shares = &self.shares[shares.clone()];
        pool.run(shares.len(), &|share, thread| {
            for Piece { call, range } in &self.pieces[shares[share].clone()] {
                // SAFETY: the caller's promise is passed on. The pieces of a launch do not overlap, parts do not touch what another
                // one writes, and each thread has its own scratch.
                unsafe { self.call(call, thread, range.clone()) }
            }
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
        let method = &product.method;
        pool.run(method.shares(), &|share, thread| {
            let mut packed = std::ptr::null();
            for index in split(method.units(), method.shares(), 1, share) {
                let unit = method.unit(index);
                // SAFETY: the caller's promise is passed on; units have results of their own, and the thread runs nothing else.
                unsafe { self.unit(product, unit, thread, &mut packed) }
            }
        });
        if let (false, Some((_, shares))) = (method.has_whole_rows(), &product.epilogue) {
            // SAFETY: as above; all units are done.
            unsafe { self.kernel(shares, pool) }
        }
    }

    /// # Safety
    /// As [`execute`].
    unsafe fn convolution(&self, convolution: &ConvolutionCall, pool: &mut Pool) {
        let method = &convolution.method;
        let completes = method.completes_rows();
        for pass in 0..method.passes() {
            pool.run(method.shares(pass), &|share, thread| {
                let start = |start: &Start| {
                    self.addresses[start.address]
                        .0
                        .wrapping_offset(start.offset)
                };
                let at = Operands {
                    dst: start(&convolution.dst),
                    lhs: start(&convolution.lhs),
                    rhs: start(&convolution.rhs),
                };
                let scratch = |thread: usize| self.addresses[convolution.scratch + thread].0;
                let mut done = |rows: Range<usize>| {
                    if let (true, Some((call, _))) = (completes, &convolution.epilogue) {
                        // SAFETY: the rows are this share's among those of the result, which is the epilogue's total.
                        unsafe { self.call(call, thread, rows) }
                    }
                };
                // SAFETY: the plan checked that the three views lie inside their buffers and that the elements of the result are
                // distinct, and the program keeps the result in a buffer apart from the operands. The scratch lies behind that of
                // epilogues; the pool runs a pass to its end before the next begins.
                unsafe { method.run(pass, share, thread, at, &scratch, &mut done) }
            });
        }
        if let (false, Some((_, shares))) = (completes, &convolution.epilogue) {
            // SAFETY: as above; all rows are done.
            unsafe { self.kernel(shares, pool) }
        }
    }

    /// One unit of a product, and its epilogue while it is in cache if its rows are complete.
    ///
    /// # Safety
    /// As [`execute`]; no other thread has the same unit, and `thread` runs nothing else and has not since `packed` was set.
    unsafe fn unit(
        &self,
        product: &ProductCall,
        unit: Unit,
        thread: usize,
        packed: &mut *const u8,
    ) {
        let first = unit.matrix * product.m;
        let epilogue = first + unit.rows.start..first + unit.rows.end;
        let place = |strided: &Strided| {
            let start = strided.start(unit.matrix, &product.batch) * product.size as isize;
            self.addresses[strided.address].0.wrapping_offset(start)
        };
        let at = Matrices {
            dst: place(&product.dst),
            lhs: place(&product.lhs),
            rhs: place(&product.rhs),
        };
        let scratch = self.addresses[product.scratch + thread].0;
        // SAFETY: the plan checked that all elements of the three matrices lie inside their buffers, that those of the result are
        // distinct, and the program keeps the result in a buffer apart from the operands. The scratch is this thread's, behind that of
        // epilogues.
        unsafe {
            product
                .method
                .run(unit.rows, unit.cols, at, scratch, packed);
        }
        if let (true, Some((call, _))) = (product.method.has_whole_rows(), &product.epilogue) {
            // SAFETY: the rows are this unit's among those of the whole batch, which is the epilogue's total.
            unsafe { self.call(call, thread, epilogue) }
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
