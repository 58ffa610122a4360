//! A convolution of a plan: its views checked against their buffers, and where everything that it touches is.

use super::{Call, Context, Plan, PlanError, Resolved, Shares, Spot};
use crate::convolution::Method;
use crate::form::convolution::{Placed, evaluate};
use crate::layout::Location;
use kiln_ir::BufferId;
use kiln_ir::program::Convolution;

/// What is wrong with a convolution under a binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvolutionProblem {
    /// A view leaves its buffer.
    #[error(
        "reaches outside of the buffer of its {role}: elements {first} to {last} of {elements}; the program is not valid"
    )]
    OutOfBounds {
        /// "lhs", "rhs" or "dst".
        role: &'static str,
        /// The least element.
        first: i128,
        /// The greatest element.
        last: i128,
        /// The number of elements of the buffer.
        elements: usize,
    },
    /// A number does not fit.
    #[error("has sizes that are too large")]
    TooLarge,
    /// The elements of the result might overlap, or leave gaps.
    #[error("has a result that does not fill its memory without gaps; the program is not valid")]
    Gaps,
}

/// A convolution under a binding.
pub(crate) struct ConvolutionCall {
    pub(crate) method: Method,
    pub(crate) lhs: Start,
    pub(crate) rhs: Start,
    pub(crate) dst: Start,
    /// Where the scratch of thread 0 is in the plan's addresses; those of the other threads follow.
    pub(crate) scratch: usize,
    pub(crate) epilogue: Option<(Call, Shares)>,
}

/// The first element of a view.
pub(crate) struct Start {
    /// The buffer, a position in the plan's addresses.
    pub(crate) address: usize,
    /// In bytes from the buffer's.
    pub(crate) offset: isize,
}

impl Context<'_> {
    /// `None` where the result has no row.
    pub(super) fn convolution(
        &self,
        plan: &mut Plan,
        convolution: &Convolution,
        step: usize,
    ) -> Result<Option<Resolved>, PlanError> {
        let refuse = |problem| PlanError::Convolution {
            name: convolution.name.clone(),
            step,
            problem,
        };
        let Some(dtype) = self.loaded.products.get(step).copied().flatten() else {
            return Ok(None);
        };
        let evaluated = evaluate(convolution, dtype, self.bindings)?;
        let spatial = evaluated.dst.axes.iter().skip(3);
        let mut rows = spatial.chain(evaluated.dst.axes.first());
        if rows.any(|(extent, _)| *extent == 0) {
            return Ok(None);
        }
        let mut start = |role, buffer: BufferId, placed: &Placed| {
            let elements = self.layout.bytes[buffer.index()] / dtype.size();
            let address = self.spot(plan, buffer, 0);
            // A view without elements is not touched, wherever it lies.
            if placed.axes.iter().any(|(extent, _)| *extent == 0) {
                return Ok(Start { address, offset: 0 });
            }
            let Some((first, last)) = reach(placed) else {
                return Err(refuse(ConvolutionProblem::TooLarge));
            };
            if first < 0 || last >= elements as i128 {
                return Err(refuse(ConvolutionProblem::OutOfBounds {
                    role,
                    first,
                    last,
                    elements,
                }));
            }
            Ok(Start {
                address,
                offset: placed.offset * dtype.size() as isize,
            })
        };
        let lhs = start("lhs", convolution.lhs.buffer, &evaluated.lhs)?;
        let rhs = start("rhs", convolution.rhs.buffer, &evaluated.rhs)?;
        let dst = start("dst", convolution.dst.buffer, &evaluated.dst)?;
        if !is_dense(&evaluated.dst.axes) {
            return Err(refuse(ConvolutionProblem::Gaps));
        }
        let method = self.layout.convolutions.get(step).and_then(Option::as_ref);
        let method = method
            .ok_or_else(|| refuse(ConvolutionProblem::TooLarge))?
            .clone();
        let scratch = plan.spots.len();
        for thread in 0..self.threads {
            let location = Location::Scratch(self.layout.product_scratch);
            plan.spots.push(Spot { location, thread });
        }
        let epilogue = self.epilogue(plan, convolution.epilogue.as_ref())?;
        Ok(Some(Resolved::Convolution(Box::new(ConvolutionCall {
            method,
            lhs,
            rhs,
            dst,
            scratch,
            epilogue,
        }))))
    }
}

/// The least and the greatest element that a view of extents above 0 touches; `None` where the numbers pass 128 bits.
fn reach(placed: &Placed) -> Option<(i128, i128)> {
    let (mut first, mut last) = (placed.offset as i128, placed.offset as i128);
    for (extent, stride) in &placed.axes {
        let walk = (*extent as i128 - 1).checked_mul(*stride as i128)?;
        first = first.checked_add(walk.min(0))?;
        last = last.checked_add(walk.max(0))?;
    }
    Some((first, last))
}

/// Whether axes of extents and strides fill memory without gaps, in whichever order.
fn is_dense(axes: &[(usize, isize)]) -> bool {
    if axes.iter().any(|(extent, _)| *extent == 0) {
        return true;
    }
    let mut left: Vec<(usize, isize)> = axes.iter().copied().filter(|(e, _)| *e > 1).collect();
    left.sort_unstable_by_key(|(_, stride)| *stride);
    let mut expected = 1usize;
    left.into_iter().all(|(extent, stride)| {
        let next = usize::try_from(stride) == Ok(expected);
        expected = expected.saturating_mul(extent);
        next
    })
}
