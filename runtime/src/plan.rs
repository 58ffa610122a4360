//! A program under one binding: plain numbers and a table of addresses that a step walks without looking anything up.
//!
//! Everything that could leave its buffer is checked here, once: sizes by the layout, strided matrices in checked arithmetic. What a
//! step has left to do is to put the addresses of its feeds into the table.

mod ahead;
mod control;
mod convolution;
mod custom;
mod error;
mod product;

pub(crate) use ahead::{Ask, MOST_ASKS};
pub(crate) use control::{CopyCall, LoopCall, Move, Parallel};
pub use convolution::ConvolutionProblem;
pub(crate) use convolution::{ConvolutionCall, Start};
pub(crate) use custom::CustomStep;
pub use error::PlanError;
pub(crate) use product::{ProductCall, Strided};

use crate::executable::Loaded;
use crate::feed::Feed;
use crate::layout::{Layout, Location, Span, lay_out};
use crate::profile::Cost;
use crate::report::MemoryReport;
use crate::share::{Extent, share_out};
use crate::store::{Address, Spot, Store};
use control::Mention;
use kiln_ir::program::{Home, KernelFn, Launch, Port, Requirement, Step};
use kiln_ir::{BindError, Bindings, BufferId, DType, Dim};
use std::ops::Range;

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
    /// The parameters of all launches, and the buffers of all other steps. Loops move those that are slices.
    pub(crate) addresses: Vec<Address>,
    /// The sizes of all launches.
    pub(crate) sizes: Vec<i64>,
    /// What all loops move.
    pub(crate) moves: Vec<Move>,
    /// The positions in `addresses` that all moves write.
    pub(crate) targets: Vec<usize>,
    /// When it was used last, on the session's own clock of steps.
    pub(crate) used: u64,
    /// What each address is the address of.
    spots: Vec<Spot>,
    /// The positions in `addresses` that take the address of a feed, with the input.
    feeds: Vec<(usize, usize)>,
    /// The positions in `addresses` that take the address of a slice whose loop is not resolved yet; none when the plan is made.
    mentions: Vec<Mention>,
    /// The generation of the store that `addresses` are of; `None` before the first.
    generation: Option<u64>,
}

/// The sizes that an input has under a binding.
pub(crate) struct Expected {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: usize,
}

/// A step as numbers. Positions are those of `addresses`, `sizes` and `shares` of the plan. A body follows its step, and its end is a
/// position in `steps`, which lacks the steps that have nothing to do.
pub(crate) enum Resolved {
    Kernel(Shares),
    Product(Box<ProductCall>),
    Convolution(Box<ConvolutionCall>),
    Guard {
        condition: usize,
        step: usize,
    },
    Copy(CopyCall),
    Custom(Box<CustomStep>),
    Loop(Box<LoopCall>),
    /// The steps up to `test` run and, while they set the condition, those up to `end` and the test again.
    While {
        condition: usize,
        test: usize,
        end: usize,
    },
    /// The steps up to `otherwise` run, or else those from there up to `end`.
    Branch {
        condition: usize,
        otherwise: usize,
        end: usize,
    },
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
            moves: Vec::new(),
            targets: Vec::new(),
            used: 0,
            spots: Vec::new(),
            feeds: Vec::new(),
            mentions: Vec::new(),
            generation: None,
        };
        let cx = Context {
            loaded,
            bindings,
            layout: &layout,
            threads,
        };
        cx.steps(&mut plan, 0..program.steps.len())?;
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
#[derive(Clone, Copy)]
struct Context<'a> {
    loaded: &'a Loaded,
    bindings: &'a Bindings,
    layout: &'a Layout,
    /// Those that share a step out: one in a parallel loop.
    threads: usize,
}

impl Context<'_> {
    /// Resolves steps, each with its bodies.
    fn steps(&self, plan: &mut Plan, range: Range<usize>) -> Result<(), PlanError> {
        let mut position = range.start;
        while position < range.end {
            let step = &self.loaded.program.steps[position];
            self.step(plan, step, position)?;
            position = step.bodies(position).all().end;
        }
        Ok(())
    }

    fn step(&self, plan: &mut Plan, step: &Step, position: usize) -> Result<(), PlanError> {
        self.check_apart(step, position)?;
        let bodies = step.bodies(position);
        let resolved = match step {
            Step::Kernel(parts) => {
                let calls = parts.iter().map(|launch| self.call(plan, launch));
                let calls = calls.collect::<Result<Vec<_>, _>>()?;
                Some(Resolved::Kernel(self.shares(plan, &calls)))
            }
            Step::Product(product) => self.product(plan, product, position)?,
            Step::Convolution(convolution) => self.convolution(plan, convolution, position)?,
            Step::Guard(guard) => Some(Resolved::Guard {
                condition: self.spot(plan, guard.condition, 0),
                step: position,
            }),
            Step::Copy(copy) => self.copy(plan, copy, position)?,
            Step::Custom(custom) => self.custom(plan, custom, position)?,
            Step::Loop(l) => return self.repeat(plan, l, bodies.first, position),
            Step::While(w) => return self.repeat_while(plan, w, bodies, position),
            Step::Branch(branch) => return self.branch(plan, branch, bodies, position),
        };
        if let Some(resolved) = resolved {
            plan.steps.push(resolved);
            plan.costs.push(self.cost(step, position)?);
        }
        Ok(())
    }

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
        match location {
            Location::Input(input) => plan.feeds.push((position, input)),
            Location::Slice => {
                if let Home::Slice(slice) = &self.loaded.program.buffers[buffer.index()].home {
                    let at = slice.at;
                    plan.mentions.push(Mention {
                        at,
                        buffer,
                        position,
                    });
                }
            }
            Location::Resident(_)
            | Location::Output(_)
            | Location::Constant(_)
            | Location::Arena(_)
            | Location::Scratch(_) => {}
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
}
