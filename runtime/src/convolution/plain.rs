//! The definition as it is written, one element after the other: for types whose speed no model depends on, for sums of nothing, and
//! for what the other ways leave out.
//!
//! It does not block, pack or vectorise; it is shared out by rows of the result.

use super::{Form, Operands, RowOrder};
use crate::product::plain::Arithmetic;
use crate::product::{DEPTH, Isa};
use kiln_ir::program::Summation;
use std::ops::Range;

/// Computes some rows of the result.
///
/// # Safety
/// As [`plain`]; the machine has what the function was made for.
pub(super) type PlainFn = unsafe fn(&Form, RowOrder, &Range<usize>, Operands);

/// The function for arithmetic without fused multiply-adds.
pub(super) fn function<A: Arithmetic>() -> PlainFn {
    plain::<A>
}

/// The function for arithmetic whose multiply-add is an instruction of the set, if it has one.
pub(super) fn fused_function<A: Arithmetic>(isa: Isa) -> PlainFn {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => fused::<A>,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => plain::<A>,
        Isa::Portable => plain::<A>,
    }
}

/// [`plain`] where a fused multiply-add is an instruction.
///
/// # Safety
/// As [`plain`]; the machine has FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,fma")]
unsafe fn fused<A: Arithmetic>(form: &Form, order: RowOrder, rows: &Range<usize>, at: Operands) {
    // SAFETY: the caller's promise is passed on.
    unsafe { plain::<A>(form, order, rows, at) }
}

/// # Safety
/// All elements of the operands are initialised, valid for reads of the type and aligned; those of the result in these rows are valid for
/// writes, distinct, and touched by nobody else.
#[inline(always)]
unsafe fn plain<A: Arithmetic>(form: &Form, order: RowOrder, rows: &Range<usize>, at: Operands) {
    for row in rows.clone() {
        let (image, outputs) = form.outputs(order, row);
        for group in 0..form.groups {
            for feature in 0..form.features_out {
                let sums = Element {
                    form,
                    at,
                    image,
                    group,
                    feature,
                    outputs,
                };
                // SAFETY: the caller's promise is passed on.
                let sum = unsafe {
                    match form.summation {
                        Summation::Window => sums.over_window::<A>(),
                        Summation::Lines => sums.over_lines::<A>(),
                    }
                };
                let to = image as isize * form.dst.batch
                    + group as isize * form.dst.group
                    + feature as isize * form.dst.feature
                    + super::along(&outputs, &form.dst.spatial);
                // SAFETY: the element is the row's.
                unsafe {
                    at.dst.cast::<A::Element>().offset(to).write(A::finish(sum));
                }
            }
        }
    }
}

/// One element of the result.
struct Element<'a> {
    form: &'a Form,
    at: Operands,
    image: usize,
    group: usize,
    feature: usize,
    outputs: [usize; 3],
}

impl Element<'_> {
    /// # Safety
    /// As [`plain`].
    #[inline(always)]
    unsafe fn over_window<A: Arithmetic>(&self) -> A::Sum {
        let form = self.form;
        let [z, y, x] = form.axes.map(|axis| axis.window);
        let mut total = A::ZERO;
        for first in (0..form.features_in).step_by(DEPTH) {
            let mut sum = A::ZERO;
            for w in 0..z * y * x {
                let window = [w / x / y, w / x % y, w % x];
                let Some(elements) = self.elements(window) else {
                    continue;
                };
                for feature in first..form.features_in.min(first + DEPTH) {
                    // SAFETY: the caller's promise is passed on.
                    unsafe { self.term::<A>(&mut sum, feature, window, elements) }
                }
            }
            total = if first == 0 { sum } else { A::add(total, sum) };
        }
        total
    }

    /// # Safety
    /// As [`plain`].
    #[inline(always)]
    unsafe fn over_lines<A: Arithmetic>(&self) -> A::Sum {
        let form = self.form;
        let blocks = form.blocks();
        let [z, y, x] = form.axes.map(|axis| axis.window);
        let mut total = A::ZERO;
        for section in 0..blocks.sections {
            let range = blocks.of(section);
            let mut partial = A::ZERO;
            for block in range.clone() {
                let mut sum = A::ZERO;
                let first = block * blocks.lines_each;
                for line in first..blocks.lines.min(first + blocks.lines_each) {
                    for w in 0..x {
                        let window = [line / y % z, line % y, w];
                        if let Some(elements) = self.elements(window) {
                            let feature = line / y / z;
                            // SAFETY: the caller's promise is passed on.
                            unsafe { self.term::<A>(&mut sum, feature, window, elements) }
                        }
                    }
                }
                partial = if block == range.start {
                    sum
                } else {
                    A::add(partial, sum)
                };
            }
            total = if section == 0 {
                partial
            } else {
                A::add(total, partial)
            };
        }
        total
    }

    /// The element of the input at a position of the window along each axis; `None` where it takes no part.
    #[inline(always)]
    fn elements(&self, window: [usize; 3]) -> Option<[isize; 3]> {
        let mut elements = [0; 3];
        for (axis, element) in elements.iter_mut().enumerate() {
            *element = self.form.axes[axis].element(self.outputs[axis], window[axis])?;
        }
        Some(elements)
    }

    /// Adds one term.
    ///
    /// # Safety
    /// As [`plain`].
    #[inline(always)]
    unsafe fn term<A: Arithmetic>(
        &self,
        sum: &mut A::Sum,
        feature: usize,
        window: [usize; 3],
        elements: [isize; 3],
    ) {
        let form = self.form;
        let inside = elements
            .iter()
            .zip(&form.axes)
            .all(|(at, axis)| *at >= 0 && (*at as usize) < axis.input);
        let left = self.image as isize * form.lhs.batch
            + self.group as isize * form.lhs.group
            + feature as isize * form.lhs.feature
            + elements
                .iter()
                .zip(&form.lhs.spatial)
                .map(|(at, step)| at * step)
                .sum::<isize>();
        let right = self.group as isize * form.rhs.group
            + feature as isize * form.rhs.feature_in
            + self.feature as isize * form.rhs.feature_out
            + super::along(&window, &form.rhs.spatial);
        // SAFETY: both elements are inside their operands.
        unsafe {
            let left = if inside {
                self.at.lhs.cast::<A::Element>().offset(left).read()
            } else {
                A::PADDING
            };
            let right = self.at.rhs.cast::<A::Element>().offset(right).read();
            *sum = A::multiply_add(*sum, left, right);
        }
    }
}
