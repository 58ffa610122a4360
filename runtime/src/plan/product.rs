//! A product of a plan: its matrices checked against their buffers, and where everything that it touches is.

use super::ahead::Ask;
use super::{Call, Context, Plan, PlanError, Resolved, Shares, Spot};
use crate::form::{Evaluated, View, evaluate};
use crate::layout::{Hoist, Location};
use crate::product::Method;
use kiln_ir::program::{Matrix, Product};

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
    /// The right side packed, where a loop has done it.
    pub(crate) packed: Option<Packed>,
    pub(crate) epilogue: Option<(Call, Shares)>,
    /// What it asks for on behalf of other steps of the loop around it.
    pub(crate) asks: Vec<Ask>,
}

/// A right side that is packed before the first iteration of a loop.
#[derive(Clone, Copy)]
pub(crate) struct Packed {
    /// The loop's position in the program.
    pub(crate) at: usize,
    /// A position in the plan's addresses.
    pub(crate) address: usize,
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

impl Context<'_> {
    /// `None` where the product has no element and its epilogue no row.
    pub(super) fn product(
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
        let hoist = self.layout.hoists.get(step).copied().flatten();
        let packed = hoist.map(|Hoist { at, offset }| {
            let location = Location::Arena(self.layout.hoisted + offset);
            let address = plan.spots.len();
            plan.spots.push(Spot {
                location,
                thread: 0,
            });
            Packed { at, address }
        });
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
            packed,
            epilogue,
            asks: Vec::new(),
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
