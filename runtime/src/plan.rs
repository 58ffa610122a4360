//! A program under one binding: plain numbers and a table of addresses that a step walks without looking anything up.
//!
//! Everything that could leave its buffer is checked here, once: sizes by the layout, strided matrices in checked arithmetic. What a
//! step has left to do is to put the addresses of its feeds into the table.

mod convolution;

pub use convolution::ConvolutionProblem;
pub(crate) use convolution::{ConvolutionCall, Start};

use crate::executable::Loaded;
use crate::feed::Feed;
use crate::form::{Evaluated, View, evaluate};
use crate::layout::{Layout, Location, Span, lay_out};
use crate::product::Method;
use crate::profile::Cost;
use crate::report::MemoryReport;
use crate::share::{Extent, share_out};
use crate::store::{Address, Spot, Store};
use kiln_ir::program::{KernelFn, Launch, Matrix, Port, Product, Requirement, Step};
use kiln_ir::{BindError, Bindings, BufferId, DType, Dim};
use std::ops::Range;

mod error;

pub use error::PlanError;

/// A program under one binding.
pub(crate) struct Plan {
    /// The sizes of the blocks that it needs.
    pub(crate) report: MemoryReport,
    /// What each input must be fed.
    pub(crate) inputs: Vec<Expected>,
    /// Where the results lie.
    pub(crate) outputs: Vec<Span>,
    pub(crate) steps: Vec<Resolved>,
    /// What each of `steps` moves and computes.
    pub(crate) costs: Vec<Cost>,
    /// The calls of all launches, share by share.
    pub(crate) pieces: Vec<Piece>,
    /// The shares of all launches: positions in `pieces`.
    pub(crate) shares: Vec<Range<usize>>,
    /// The parameters of all launches, and the buffers of products and guards.
    pub(crate) addresses: Vec<Address>,
    /// The sizes of all launches.
    pub(crate) sizes: Vec<i64>,
    /// When it was used last, on the session's own clock of steps.
    pub(crate) used: u64,
    /// What each address is the address of.
    spots: Vec<Spot>,
    /// The positions in `addresses` that take the address of a feed, with the input.
    feeds: Vec<(usize, usize)>,
    /// The generation of the store that `addresses` are of; `None` before the first.
    generation: Option<u64>,
}

/// The sizes that an input has under a binding.
pub(crate) struct Expected {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: usize,
}

/// A step as numbers. Positions are those of `addresses`, `sizes` and `shares` of the plan.
pub(crate) enum Resolved {
    Kernel(Shares),
    Product(Box<ProductCall>),
    Convolution(Box<ConvolutionCall>),
    Guard { condition: usize, step: usize },
}

/// What a kernel is called with, but for the range.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) entry: KernelFn,
    /// Where the parameters of thread 0 begin.
    pub(crate) arguments: usize,
    /// From the parameters of a thread to the next one's: 0 where no parameter is scratch.
    pub(crate) thread_stride: usize,
    /// Where the sizes begin.
    pub(crate) sizes: usize,
}

/// A call of a kernel over a part of its outermost loop.
pub(crate) struct Piece {
    pub(crate) call: Call,
    pub(crate) range: Range<usize>,
}

/// A launch: positions in the plan's shares, one for each thread that has something to do.
pub(crate) type Shares = Range<usize>;

/// A product under a binding.
pub(crate) struct ProductCall {
    pub(crate) method: Method,
    /// The size of an element in bytes.
    pub(crate) size: usize,
    /// Rows of a matrix.
    pub(crate) m: usize,
    pub(crate) lhs: Strided,
    pub(crate) rhs: Strided,
    pub(crate) dst: Strided,
    /// The extents of the batch axes, outermost first.
    pub(crate) batch: Vec<usize>,
    /// Where the packing space of thread 0 is in the plan's addresses; those of the other threads follow.
    pub(crate) scratch: usize,
    pub(crate) epilogue: Option<(Call, Shares)>,
}

/// Where the matrices of a batch begin, in elements.
pub(crate) struct Strided {
    /// The buffer, a position in the plan's addresses.
    pub(crate) address: usize,
    pub(crate) offset: isize,
    pub(crate) row_stride: isize,
    pub(crate) col_stride: isize,
    pub(crate) batch_strides: Vec<isize>,
}

impl Plan {
    /// Resolves a verified program.
    ///
    /// # Errors
    /// [`PlanError`] where a size has no value or a matrix leaves its buffer.
    pub(crate) fn new(
        loaded: &Loaded,
        bindings: &Bindings,
        threads: usize,
    ) -> Result<Plan, PlanError> {
        let program = &loaded.program;
        // Requirements take sizes for granted not to be negative; the caller's own bindings may be anything.
        if let Some((symbol, _)) = bindings.iter().find(|(_, value)| *value < 0) {
            let dim = Dim::symbol(symbol.name());
            return Err(BindError::OutOfRange { dim }.into());
        }
        for Requirement { value, message } in &program.requirements {
            let found = value.eval(bindings)?;
            if found < 0 {
                let (message, value) = (message.clone(), value.clone());
                return Err(PlanError::Required {
                    message,
                    value,
                    found,
                });
            }
        }
        let layout = lay_out(program, bindings, threads)?;
        let span = |port: &Port| layout.span(port, bindings);
        let inputs = program.inputs.iter().map(|port| {
            let Span { shape, bytes, .. } = span(port)?;
            let dtype = port.ty.dtype;
            Ok(Expected {
                dtype,
                shape,
                bytes,
            })
        });
        let mut plan = Plan {
            report: layout.report,
            inputs: inputs.collect::<Result<_, BindError>>()?,
            outputs: program.outputs.iter().map(span).collect::<Result<_, _>>()?,
            steps: Vec::with_capacity(program.steps.len()),
            costs: Vec::with_capacity(program.steps.len()),
            pieces: Vec::new(),
            shares: Vec::new(),
            addresses: Vec::new(),
            sizes: Vec::new(),
            used: 0,
            spots: Vec::new(),
            feeds: Vec::new(),
            generation: None,
        };
        let cx = Context {
            loaded,
            bindings,
            layout: &layout,
            threads,
        };
        for (position, step) in program.steps.iter().enumerate() {
            let resolved = match step {
                Step::Kernel(parts) => {
                    let calls = parts.iter().map(|launch| cx.call(&mut plan, launch));
                    let calls = calls.collect::<Result<Vec<_>, _>>()?;
                    Some(Resolved::Kernel(cx.shares(&mut plan, &calls)))
                }
                Step::Product(product) => cx.product(&mut plan, product, position)?,
                Step::Convolution(convolution) => {
                    cx.convolution(&mut plan, convolution, position)?
                }
                Step::Guard(guard) => Some(Resolved::Guard {
                    condition: cx.spot(&mut plan, guard.condition, 0),
                    step: position,
                }),
            };
            if let Some(resolved) = resolved {
                plan.steps.push(resolved);
                plan.costs.push(cx.cost(step, position)?);
            }
        }
        plan.addresses = vec![Address::NONE; plan.spots.len()];
        Ok(plan)
    }

    /// Whether feeds have just the types and sizes of this plan.
    pub(crate) fn fits<'f>(&self, feed: &dyn Fn(usize) -> Feed<'f>) -> bool {
        self.inputs.iter().enumerate().all(|(index, expected)| {
            let feed = feed(index);
            feed.shape() == expected.shape && expected.takes(&feed)
        })
    }

    /// Takes the addresses from a store that has room for `report`, if they have moved.
    pub(crate) fn attach(&mut self, store: &mut Store, loaded: &Loaded) {
        if self.generation == Some(store.generation()) {
            return;
        }
        for (address, spot) in self.addresses.iter_mut().zip(&self.spots) {
            *address = store.address(*spot, &loaded.constants);
        }
        self.generation = Some(store.generation());
    }

    /// Puts the addresses of feeds into the table.
    ///
    /// # Errors
    /// [`PlanError::Unfit`] where a feed is not as large as its input. Feeds come out of a trait that anybody may implement, so that two
    /// calls need not give the same: what counts is checked on the very slice whose address is taken.
    pub(crate) fn feed<'f>(&mut self, feed: &dyn Fn(usize) -> Feed<'f>) -> Result<(), PlanError> {
        for (position, input) in &self.feeds {
            let feed = feed(*input);
            match (self.addresses.get_mut(*position), self.inputs.get(*input)) {
                (Some(address), Some(expected)) if expected.takes(&feed) => {
                    // Kernels only read inputs; a verified program says so.
                    *address = Address(feed.bytes().as_ptr().cast_mut());
                }
                (Some(_) | None, Some(_) | None) => return Err(PlanError::Unfit),
            }
        }
        Ok(())
    }
}

impl Expected {
    /// Whether a feed has the element type and the bytes of the input.
    fn takes(&self, feed: &Feed<'_>) -> bool {
        feed.dtype() == self.dtype && feed.bytes().len() == self.bytes
    }
}

/// What resolving looks at.
struct Context<'a> {
    loaded: &'a Loaded,
    bindings: &'a Bindings,
    layout: &'a Layout,
    threads: usize,
}

impl Context<'_> {
    fn cost(&self, step: &Step, position: usize) -> Result<Cost, BindError> {
        let accesses = step.phases().into_iter().flatten();
        let outside =
            accesses.filter(|(id, _)| !matches!(self.layout.location(*id), Location::Scratch(_)));
        let bytes = outside.map(|(id, access)| {
            let times = u64::from(access.reads()) + u64::from(access.writes());
            times * self.layout.bytes[id.index()] as u64
        });
        let mut flops = 0u64;
        if let Step::Convolution(c) = step {
            flops = 2;
            let spatial = c.axes.iter().flat_map(|axis| [&axis.window, &axis.output]);
            let features = [&c.batch, &c.groups, &c.features_in, &c.features_out];
            for dim in spatial.chain(features) {
                flops = flops.saturating_mul(dim.eval_size(self.bindings)? as u64);
            }
        }
        if let Step::Product(product) = step {
            flops = 2;
            for dim in product
                .batch
                .iter()
                .chain([&product.m, &product.n, &product.k])
            {
                flops *= dim.eval_size(self.bindings)? as u64;
            }
        }
        Ok(Cost {
            step: position,
            bytes: bytes.sum(),
            flops,
        })
    }

    fn spot(&self, plan: &mut Plan, buffer: BufferId, thread: usize) -> usize {
        let location = self.layout.location(buffer);
        let position = plan.spots.len();
        if let Location::Input(input) = location {
            plan.feeds.push((position, input));
        }
        plan.spots.push(Spot { location, thread });
        position
    }

    fn call(&self, plan: &mut Plan, launch: &Launch) -> Result<(Call, Extent), BindError> {
        let arguments = plan.spots.len();
        let scratch = |id: &BufferId| matches!(self.layout.location(*id), Location::Scratch(_));
        let apart = launch.arguments.iter().any(scratch);
        for thread in 0..if apart { self.threads } else { 1 } {
            for buffer in &launch.arguments {
                self.spot(plan, *buffer, thread);
            }
        }
        let sizes = plan.sizes.len();
        for dim in &launch.sizes {
            plan.sizes.push(dim.eval(self.bindings)?);
        }
        let call = Call {
            entry: self.loaded.entries[launch.kernel.index()],
            arguments,
            thread_stride: if apart { launch.arguments.len() } else { 0 },
            sizes,
        };
        let extent = Extent {
            total: launch.total.eval_size(self.bindings)?,
            grain: launch.grain,
            work: launch.work.eval_size(self.bindings)?,
        };
        Ok((call, extent))
    }

    /// An epilogue: what is called on the rows of a panel, and how it is shared out if it runs when all panels are done.
    fn epilogue(
        &self,
        plan: &mut Plan,
        launch: Option<&Launch>,
    ) -> Result<Option<(Call, Shares)>, BindError> {
        let Some(launch) = launch else {
            return Ok(None);
        };
        let call = self.call(plan, launch)?;
        Ok(Some((call.0, self.shares(plan, &[call]))))
    }

    /// Shares calls out that may run at the same time.
    fn shares(&self, plan: &mut Plan, calls: &[(Call, Extent)]) -> Shares {
        let extents: Vec<Extent> = calls.iter().map(|(_, extent)| *extent).collect();
        let first = plan.shares.len();
        for share in share_out(&extents, self.threads) {
            let begin = plan.pieces.len();
            plan.pieces.extend(share.into_iter().map(|piece| Piece {
                call: calls[piece.part].0,
                range: piece.range,
            }));
            plan.shares.push(begin..plan.pieces.len());
        }
        first..plan.shares.len()
    }

    /// `None` where the product has no element and its epilogue no row.
    fn product(
        &self,
        plan: &mut Plan,
        product: &Product,
        step: usize,
    ) -> Result<Option<Resolved>, PlanError> {
        let too_large = || PlanError::TooLarge {
            product: product.name.clone(),
            step,
        };
        let evaluated = evaluate(product, self.bindings)?;
        let matrices = evaluated.matrices();
        let Some(rows) = matrices.and_then(|count| count.checked_mul(evaluated.m)) else {
            return Err(too_large());
        };
        let Some(dtype) = self.loaded.products.get(step).copied().flatten() else {
            return Ok(None);
        };
        if rows == 0 {
            return Ok(None);
        }
        let Evaluated { batch, m, n, k, .. } = evaluated;
        let mut strided = |role, matrix: &Matrix, view: View, rows, cols| {
            let extents: Vec<usize> = batch.iter().copied().chain([rows, cols]).collect();
            let elements = self.layout.bytes[matrix.buffer.index()] / dtype.size();
            // Where another extent is 0 no element of an operand is read, so wherever it lies is well.
            let reach = if n == 0 || extents.contains(&0) {
                None
            } else {
                Some(reach(&view, &extents).ok_or_else(too_large)?)
            };
            let position = self.spot(plan, matrix.buffer, 0);
            match reach {
                None => Ok(Strided::unread(position, batch.len())),
                Some((first, last)) if first < 0 || last >= elements as i128 => {
                    Err(PlanError::OutOfBounds {
                        product: product.name.clone(),
                        step,
                        role,
                        first,
                        last,
                        elements,
                    })
                }
                Some(_) => Ok(Strided {
                    address: position,
                    offset: view.offset,
                    row_stride: view.strides[batch.len()],
                    col_stride: view.strides[batch.len() + 1],
                    batch_strides: view.strides[..batch.len()].to_vec(),
                }),
            }
        };
        let lhs = strided("lhs", &product.lhs, evaluated.lhs, m, k)?;
        let rhs = strided("rhs", &product.rhs, evaluated.rhs, k, n)?;
        let dst = strided("dst", &product.dst, evaluated.dst, m, n)?;
        if n > 0 && !is_row_major(&dst, &batch, m, n) {
            return Err(PlanError::Gaps {
                product: product.name.clone(),
                step,
            });
        }
        let method = self.layout.methods.get(step).and_then(Option::as_ref);
        let method = method.ok_or_else(too_large)?.clone();
        let scratch = plan.spots.len();
        for thread in 0..self.threads {
            let location = Location::Scratch(self.layout.product_scratch);
            plan.spots.push(Spot { location, thread });
        }
        let epilogue = self.epilogue(plan, product.epilogue.as_ref())?;
        Ok(Some(Resolved::Product(Box::new(ProductCall {
            method,
            size: dtype.size(),
            m,
            lhs,
            rhs,
            dst,
            batch,
            scratch,
            epilogue,
        }))))
    }
}

impl Strided {
    /// A matrix without elements.
    fn unread(address: usize, batch: usize) -> Strided {
        Strided {
            address,
            offset: 0,
            row_stride: 0,
            col_stride: 0,
            batch_strides: vec![0; batch],
        }
    }
}

/// The least and the greatest element that a view of extents above 0 touches; `None` where the numbers pass 128 bits.
fn reach(view: &View, extents: &[usize]) -> Option<(i128, i128)> {
    let (mut first, mut last) = (view.offset as i128, view.offset as i128);
    for (extent, stride) in extents.iter().zip(&view.strides) {
        let walk = (*extent as i128 - 1).checked_mul(*stride as i128)?;
        first = first.checked_add(walk.min(0))?;
        last = last.checked_add(walk.max(0))?;
    }
    Some((first, last))
}

/// Whether a result that lies inside its buffer is row-major without gaps.
fn is_row_major(dst: &Strided, batch: &[usize], m: usize, n: usize) -> bool {
    let extents = batch.iter().copied().chain([m, n]);
    let strides = dst.batch_strides.iter().copied();
    let axes: Vec<(usize, isize)> = extents
        .zip(strides.chain([dst.row_stride, dst.col_stride]))
        .collect();
    let mut expected = 1usize;
    for (extent, stride) in axes.into_iter().rev() {
        if extent != 1 && usize::try_from(stride) != Ok(expected) {
            return false;
        }
        expected = expected.saturating_mul(extent);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_counts_both_directions_and_does_not_overflow() {
        let view = |offset, strides: &[isize]| View {
            offset,
            strides: strides.to_vec(),
        };
        assert_eq!(reach(&view(0, &[4, 1]), &[3, 4]), Some((0, 11)));
        assert_eq!(reach(&view(11, &[-4, -1]), &[3, 4]), Some((0, 11)));
        assert_eq!(reach(&view(2, &[0, -1]), &[100, 3]), Some((0, 2)));
        let huge = isize::MAX;
        assert_eq!(
            reach(&view(huge, &[huge, huge, huge]), &[usize::MAX; 3]),
            None
        );
    }
}
