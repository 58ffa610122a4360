//! The walk over a plan: kernels, products, convolutions, copies, guards and custom calls, on one thread or shared out over the pool, and the loops and
//! branches that run them.
//!
//! Which thread computes what is a function of the plan and the number of threads alone. The walk allocates, hashes and locks nothing,
//! and looks nothing up.

use crate::convolution::Operands;
use crate::plan::{
    Ask, Call, ConvolutionCall, LoopCall, MOST_ASKS, Move, Parallel, Piece, Plan, ProductCall,
    Resolved, Shares, Start, Strided,
};
use crate::pool::{Pool, split};
use crate::product::{Lines, Matrices, Unit};
use crate::profile::{Cost, Unwatched, Watch};
use crate::store::Address;
use kiln_ir::program::Code;
use std::cell::Cell;
use std::ops::Range;

mod custom;

/// What refused a step, by its position in the program.
#[derive(Debug)]
pub(crate) enum Refused {
    /// A guard that did not hold.
    Guard(usize),
    /// A custom call that failed, with the op's words.
    Call(Box<(usize, String)>),
}

/// What every call of a step shares.
#[derive(Clone, Copy)]
struct Run<'a> {
    steps: &'a [Resolved],
    costs: &'a [Cost],
    /// Those of slices are written by their loop, all others by nobody.
    addresses: &'a [Cell<Address>],
    sizes: &'a [i64],
    pieces: &'a [Piece],
    shares: &'a [Range<usize>],
    moves: &'a [Move],
    targets: &'a [usize],
    helpers: *const *const u8,
    /// How far the addresses of this thread lie behind those of the plan: not 0 in a parallel loop.
    shift: usize,
}

// SAFETY: the table of helpers belongs to a `Code`, which is `Sync` and whose kernels may be called with it from any thread. The addresses
// of slices are cells: a loop writes them before an iteration, on the thread that runs the loop, while no other thread runs a step of it
// (the pool's fork comes after, and its join before the next iteration). Threads of a parallel loop each have addresses of their own.
unsafe impl Sync for Run<'_> {}

/// Who runs a step.
enum Threads<'p> {
    /// All of a pool, called by the one that runs the program.
    Pool(&'p mut Pool),
    /// One, which has an iteration of a parallel loop to itself.
    One,
}

impl Threads<'_> {
    fn run(&mut self, tasks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        match self {
            Threads::Pool(pool) => pool.run(tasks, task),
            Threads::One => (0..tasks).for_each(|index| task(index, 0)),
        }
    }
}

/// Runs all steps. A guard that does not hold ends the run, and so does a custom call that fails, before any resident is
/// written, because these come first.
///
/// # Safety
/// - The plan was made from a verified program under sizes that the addresses have: each address of `plan` begins a buffer of the
///   size of its layout, alive for the whole call, and no two overlap unless the layout says so; but those of slices, which may be anything.
/// - Nobody else reads what the program writes, or writes what it reads, meanwhile.
/// - The scratch of the layout is there for each thread of `pool`.
/// - `code` is that of the program and keeps the promise of [`Code`].
pub(crate) unsafe fn execute<W: Watch>(
    plan: &mut Plan,
    pool: &mut Pool,
    code: &dyn Code,
    watch: &mut W,
) -> Result<(), Refused> {
    let run = Run {
        steps: &plan.steps,
        costs: &plan.costs,
        addresses: Cell::from_mut(&mut plan.addresses[..]).as_slice_of_cells(),
        sizes: &plan.sizes,
        pieces: &plan.pieces,
        shares: &plan.shares,
        moves: &plan.moves,
        targets: &plan.targets,
        helpers: code.helpers(),
        shift: 0,
    };
    // SAFETY: the caller's promise is passed on.
    unsafe { run.steps(0..run.steps.len(), &mut Threads::Pool(pool), watch) }
}

impl Run<'_> {
    /// Runs steps with their bodies.
    ///
    /// # Safety
    /// As [`execute`]; the slices that the steps touch, but those of loops among them, have addresses.
    unsafe fn steps<W: Watch>(
        &self,
        range: Range<usize>,
        threads: &mut Threads<'_>,
        watch: &mut W,
    ) -> Result<(), Refused> {
        let mut at = range.start;
        while at < range.end {
            let step = &self.steps[at];
            let next = step.end(at);
            match step {
                Resolved::Loop(l) => match &l.parallel {
                    // SAFETY: the caller's promise is passed on.
                    None => unsafe { self.repeat(l, at + 1..next, threads, watch)? },
                    Some(parallel) => {
                        let begun = watch.begin();
                        // SAFETY: as above.
                        unsafe { self.parallel(l, parallel, at + 1..next, threads) }
                        watch.end(begun, &self.costs[at]);
                    }
                },
                Resolved::While {
                    condition, test, ..
                } => loop {
                    // SAFETY: as above.
                    unsafe { self.steps(at + 1..*test, threads, watch)? }
                    // SAFETY: as above; the test is done.
                    if !unsafe { self.holds(*condition) } {
                        break;
                    }
                    // SAFETY: as above.
                    unsafe { self.steps(*test..next, threads, watch)? }
                },
                Resolved::Branch {
                    condition,
                    otherwise,
                    ..
                } => {
                    // SAFETY: as above; what writes the condition is done.
                    let side = if unsafe { self.holds(*condition) } {
                        at + 1..*otherwise
                    } else {
                        *otherwise..next
                    };
                    // SAFETY: as above.
                    unsafe { self.steps(side, threads, watch)? }
                }
                Resolved::Kernel(_)
                | Resolved::Product(_)
                | Resolved::Convolution(_)
                | Resolved::Guard { .. }
                | Resolved::Copy(_)
                | Resolved::Custom(_) => {
                    let begun = watch.begin();
                    // SAFETY: as above.
                    unsafe { self.step(step, threads)? }
                    watch.end(begun, &self.costs[at]);
                }
            }
            at = next;
        }
        Ok(())
    }

    /// Runs a step that has no body.
    ///
    /// # Safety
    /// As [`Run::steps`].
    #[inline(always)]
    unsafe fn step(&self, step: &Resolved, threads: &mut Threads<'_>) -> Result<(), Refused> {
        match step {
            // SAFETY: the caller's promise is passed on.
            Resolved::Kernel(shares) => unsafe { self.kernel(shares, threads) },
            // SAFETY: as above.
            Resolved::Product(product) => unsafe { self.product(product, threads) },
            // SAFETY: as above.
            Resolved::Convolution(call) => unsafe { self.convolution(call, threads) },
            Resolved::Guard { condition, step } => {
                // SAFETY: as above; what writes the condition is done.
                if !unsafe { self.holds(*condition) } {
                    return Err(Refused::Guard(*step));
                }
            }
            Resolved::Copy(copy) => {
                let at = |(position, offset): (usize, usize)| {
                    self.address(position).0.wrapping_add(offset)
                };
                // SAFETY: the plan checked that both parts lie inside their buffers, which may be the same one; nobody else touches what
                // is written now.
                unsafe { std::ptr::copy(at(copy.from), at(copy.to), copy.bytes) }
            }
            // SAFETY: as above.
            Resolved::Custom(custom) => unsafe { self.custom(custom)? },
            // These have bodies, and `steps` runs them.
            Resolved::Loop(_) | Resolved::While { .. } | Resolved::Branch { .. } => {}
        }
        Ok(())
    }

    /// Runs the iterations of a loop one after the other.
    ///
    /// # Safety
    /// As [`Run::steps`].
    unsafe fn repeat<W: Watch>(
        &self,
        l: &LoopCall,
        body: Range<usize>,
        threads: &mut Threads<'_>,
        watch: &mut W,
    ) -> Result<(), Refused> {
        let moves = &self.moves[l.moves.clone()];
        for pack in &l.packs {
            if let Resolved::Product(product) = &self.steps[*pack]
                && let Some(packed) = product.packed
            {
                let rhs = product.rhs.offset * product.size as isize;
                let rhs = self.address(product.rhs.address).0.wrapping_offset(rhs);
                // SAFETY: the plan checked that the right side lies inside its buffer, which was written before the loop and is by no
                // step of it; the layout has room for the packed form, which nothing else uses in this loop.
                unsafe { product.method.pack(rhs, self.address(packed.address).0) }
            }
        }
        self.place(moves, 0);
        // SAFETY: the caller's promise is passed on; all slices of this loop have the addresses of iteration 0.
        unsafe { self.steps(body.clone(), threads, watch)? }
        for _ in 1..l.trip {
            self.advance(moves);
            // SAFETY: as above, of this iteration.
            unsafe { self.steps(body.clone(), threads, watch)? }
        }
        Ok(())
    }

    /// Shares the iterations of a loop out.
    ///
    /// # Safety
    /// As [`Run::steps`].
    unsafe fn parallel(
        &self,
        l: &LoopCall,
        parallel: &Parallel,
        body: Range<usize>,
        threads: &mut Threads<'_>,
    ) {
        let moves = &self.moves[l.moves.clone()];
        let shares = parallel.shares;
        threads.run(shares, &|share, thread| {
            let own = Run {
                shift: self.shift + thread * parallel.stride,
                ..*self
            };
            let mut iterations = split(l.trip, shares, 1, share);
            let Some(first) = iterations.next() else {
                return;
            };
            let mut threads = Threads::One;
            own.place(moves, first);
            loop {
                // SAFETY: the caller's promise is passed on. The addresses of this share are this thread's own and those of the iteration;
                // no other iteration writes what this one touches, and scratch is the thread's, which is what a verified program says. A
                // verified parallel loop has neither guard nor custom call, so nothing is refused.
                let _ = unsafe { own.steps(body.clone(), &mut threads, &mut Unwatched) };
                if iterations.next().is_none() {
                    break;
                }
                own.advance(moves);
            }
        });
    }

    /// Gives slices the addresses of an iteration.
    fn place(&self, moves: &[Move], iteration: usize) {
        for one in moves {
            let walked = iteration % one.entries;
            let entry = if one.step < 0 {
                one.first + one.entries - walked
            } else {
                one.first + walked
            };
            let offset = (entry % one.entries).wrapping_mul(one.step.unsigned_abs());
            self.point(one, self.address(one.base).0.wrapping_add(offset));
        }
    }

    /// Gives slices the addresses of the next iteration.
    #[inline(always)]
    fn advance(&self, moves: &[Move]) {
        for one in moves {
            let base = self.address(one.base).0;
            let before = self.address(self.targets[one.targets.start]).0;
            let offset = before
                .wrapping_offset(one.step)
                .addr()
                .wrapping_sub(base.addr());
            // Behind the last entry comes the first, and before the first the last: a negative offset is a large one here.
            let offset = if offset >= one.whole {
                offset.wrapping_add_signed(one.wrap)
            } else {
                offset
            };
            self.point(one, base.wrapping_add(offset));
        }
    }

    #[inline(always)]
    fn point(&self, one: &Move, address: *mut u8) {
        for target in &self.targets[one.targets.clone()] {
            self.addresses[self.shift + *target].set(Address(address));
        }
    }

    #[inline(always)]
    fn address(&self, position: usize) -> Address {
        self.addresses[self.shift + position].get()
    }

    /// Whether a condition holds.
    ///
    /// # Safety
    /// The position is that of a buffer of at least one byte, which nobody writes now.
    unsafe fn holds(&self, condition: usize) -> bool {
        // SAFETY: the caller's promise. It is read as a number, not as a `bool`.
        unsafe { self.address(condition).0.read() != 0 }
    }

    /// # Safety
    /// As [`execute`].
    unsafe fn kernel(&self, shares: &Shares, threads: &mut Threads<'_>) {
        let shares = &self.shares[shares.clone()];
        threads.run(shares.len(), &|share, thread| {
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
        let first = self.shift + call.arguments + thread * call.thread_stride;
        // Slicing keeps a mistake in the plan from becoming a wild pointer. A cell of an `Address` is a `*mut u8`.
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
    unsafe fn product(&self, product: &ProductCall, threads: &mut Threads<'_>) {
        let method = &product.method;
        threads.run(method.shares(), &|share, thread| {
            let mut packed = match product.packed {
                Some(packed) => self.address(packed.address).0.cast_const(),
                None => std::ptr::null(),
            };
            for index in split(method.units(), method.shares(), 1, share) {
                // SAFETY: the caller's promise is passed on; units have results of their own, and the thread runs nothing else.
                unsafe { self.unit(product, index, thread, &mut packed) }
            }
        });
        if let (false, Some((_, shares))) = (method.has_whole_rows(), &product.epilogue) {
            // SAFETY: as above; all units are done.
            unsafe { self.kernel(shares, threads) }
        }
    }

    /// # Safety
    /// As [`execute`].
    unsafe fn convolution(&self, convolution: &ConvolutionCall, threads: &mut Threads<'_>) {
        let method = &convolution.method;
        let completes = method.completes_rows();
        for pass in 0..method.passes() {
            threads.run(method.shares(pass), &|share, thread| {
                let start =
                    |start: &Start| self.address(start.address).0.wrapping_offset(start.offset);
                let at = Operands {
                    dst: start(&convolution.dst),
                    lhs: start(&convolution.lhs),
                    rhs: start(&convolution.rhs),
                };
                let scratch = |thread: usize| self.address(convolution.scratch + thread).0;
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
            unsafe { self.kernel(shares, threads) }
        }
    }

    /// One unit of a product, and its epilogue while it is in cache if its rows are complete.
    ///
    /// # Safety
    /// As [`execute`]; no other thread has the same unit, and `thread` runs nothing else and has not since `packed` was set, which is where
    /// the right side is packed if a loop has done that.
    unsafe fn unit(
        &self,
        product: &ProductCall,
        index: usize,
        thread: usize,
        packed: &mut *const u8,
    ) {
        let unit = product.method.unit(index);
        let first = unit.matrix * product.m;
        let epilogue = first + unit.rows.start..first + unit.rows.end;
        let place = |strided: &Strided| {
            let start = strided.start(unit.matrix, &product.batch) * product.size as isize;
            self.address(strided.address).0.wrapping_offset(start)
        };
        let at = Matrices {
            dst: place(&product.dst),
            lhs: place(&product.lhs),
            rhs: place(&product.rhs),
        };
        let scratch = self.address(product.scratch + thread).0;
        // SAFETY: the plan checked that all elements of the three matrices lie inside their buffers, that those of the result are
        // distinct, and the program keeps the result in a buffer apart from the operands. The scratch is this thread's, behind that of
        // epilogues.
        unsafe {
            let (method, Unit { rows, cols, .. }) = (&product.method, unit);
            if product.asks.is_empty() {
                method.run(rows, cols, at, scratch, packed);
            } else {
                let ahead = self.ahead(&product.asks, index, method.units());
                method.run_asking(rows, cols, at, scratch, packed, &ahead);
            }
        }
        if let (true, Some((call, _))) = (product.method.has_whole_rows(), &product.epilogue) {
            // SAFETY: the rows are this unit's among those of the whole batch, which is the epilogue's total.
            unsafe { self.call(call, thread, epilogue) }
        }
    }

    /// What a unit asks for: its share of each entry, since threads share out the rows of kernels as they do units.
    fn ahead(&self, asks: &[Ask], index: usize, units: usize) -> [Lines; MOST_ASKS] {
        let mut all = [Lines::NONE; MOST_ASKS];
        for (lines, ask) in all.iter_mut().zip(asks) {
            let entry = self.address(ask.address).0.wrapping_offset(ask.offset);
            *lines = Lines::of(entry, ask.bytes).share(index, units);
        }
        all
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
