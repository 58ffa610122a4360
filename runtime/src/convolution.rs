//! Convolutions: the definition of their bits, and the way each one is computed.
//!
//! **Definition.** Position `w` of the window of output `o` lies along each axis at `o * stride + w * rhs_dilation - padding` of the
//! dilated input. Where that is not a multiple of `lhs_dilation` along some axis, the position takes no part. Otherwise the quotient
//! names an element of the input, which is 0 if it lies outside: padding is multiplied like everything else, so an infinity in the window
//! is seen there. A *chain* is a sum of terms by fused multiply-adds in order, `sum = fma(lhs, rhs, sum)`, from 0.
//!
//! - [`Summation::Window`]: the features of the input are cut into blocks of [`DEPTH`]. A block is one chain, over the positions of the
//!   window in row-major order and, at each, over the features of the block. The sums of the blocks are added in order to the first.
//! - [`Summation::Lines`]: a line is the innermost axis of the window at one position of the others and one feature of the input, where
//!   axes of one position, one output and no padding do not count. Lines are in row-major order of `[feature, window..]` and cut into
//!   blocks of as many as have [`BLOCK_TERMS`] positions in all, rounded down, and of one at least. A block is one chain over its lines.
//!   The `n` blocks make up [`SECTIONS`] sections, or `n` if these are fewer, or one if the result has more than [`SECTION_ELEMENTS`]:
//!   section `i` of `s` has the blocks `i * n / s` to `(i + 1) * n / s`. The sums of a section's blocks are added in order to the first,
//!   and then those of the sections.
//!
//! So the bits of a result depend on nothing but the operands and the sizes: not on threads, tiles, strides or instruction sets, nor on
//! the way that is chosen. A window of one position with the first summation is a matrix product to the bit. Integers wrap, and f32 with
//! sums in f64 rounds once.
//!
//! **Ways.** [`Method`] picks one when sizes are bound: *direct* tiles over padded rows for the first summation, a matrix *product* where
//! the window has one position, *depthwise* where groups have one feature, *lines* for the second, and the *plain* definition for the
//! rest: other types and empty sums. A call allocates nothing and starts no thread.

use std::ops::Range;

mod axis;
mod copy;
mod depthwise;
mod direct;
mod lines;
mod method;
mod plain;
mod sets;
mod tiles;

pub use crate::product::{DEPTH, ProductType};
pub use axis::Axis;
pub use kiln_ir::program::Summation;
pub use method::Method;

/// The positions of the window in a block of lines, at most, where a line has no more. It is part of the definition.
///
/// The sums of a tile go to memory once for each block, which costs as much as two or three terms.
pub const BLOCK_TERMS: usize = 256;

/// Sections, at most. It is part of the definition, and the most threads that share out a gradient of a small window.
pub const SECTIONS: usize = 8;

/// Elements of the result, features counted in sixteens, beyond which there is one section: sections would take up too much memory, and
/// such a result has parts enough to be shared out. It is part of the definition.
pub const SECTION_ELEMENTS: usize = 64 * 1024;

/// From an element of an image to the next along each axis, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageStrides {
    /// From an image to the next.
    pub batch: isize,
    /// From a group to the next.
    pub group: isize,
    /// From a feature of a group to the next.
    pub feature: isize,
    /// Along the spatial axes, outermost first.
    pub spatial: [isize; 3],
}

/// From an element of the window to the next along each axis, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowStrides {
    /// From a group to the next.
    pub group: isize,
    /// From a feature of the input to the next.
    pub feature_in: isize,
    /// From a feature of the result to the next.
    pub feature_out: isize,
    /// Along the spatial axes, outermost first.
    pub spatial: [isize; 3],
}

/// What convolutions have in common that are computed alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// The types of elements and sums.
    pub dtype: ProductType,
    /// The order of the terms.
    pub summation: Summation,
    /// The number of images.
    pub batch: usize,
    /// The number of groups.
    pub groups: usize,
    /// The features of the input in a group.
    pub features_in: usize,
    /// The features of the result in a group.
    pub features_out: usize,
    /// The spatial axes, outermost first; those that a convolution lacks are [`Axis::ONE`].
    pub axes: [Axis; 3],
    /// How the input lies.
    pub lhs: ImageStrides,
    /// How the window lies.
    pub rhs: WindowStrides,
    /// How the result lies; its elements do not overlap.
    pub dst: ImageStrides,
}

/// The element of each operand whose indices are all 0.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// The result, written.
    pub dst: *mut u8,
    /// The input, read.
    pub lhs: *const u8,
    /// The window, read.
    pub rhs: *const u8,
}

/// How the second summation cuts its lines.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    /// All lines.
    lines: usize,
    /// The lines of a block, but for the last; above 0.
    lines_each: usize,
    /// The blocks.
    blocks: usize,
    /// The sections: above 0 where there is a block, and never more than blocks.
    sections: usize,
}

/// The order of a result's rows in memory. A row is all features of one image at one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowOrder {
    /// `[batch, output..]`.
    ImagesFirst,
    /// `[output.., batch]`.
    PositionsFirst,
}

impl Blocks {
    /// The blocks of a section.
    fn of(&self, section: usize) -> Range<usize> {
        let cut = |section: usize| section * self.blocks / self.sections.max(1);
        cut(section)..cut(section + 1)
    }
}

impl Form {
    /// How the second summation cuts the lines of a settled form.
    fn blocks(&self) -> Blocks {
        let [z, y, x] = self.axes.map(|axis| axis.window);
        let lines = self.features_in * z * y;
        let lines_each = (BLOCK_TERMS / x.max(1)).max(1);
        let blocks = lines.div_ceil(lines_each);
        let outputs = self.axes.iter().map(|axis| axis.output);
        let features = self.features_out.next_multiple_of(16);
        let elements = outputs.fold(self.batch * self.groups * features, usize::saturating_mul);
        let most = if elements <= SECTION_ELEMENTS {
            SECTIONS
        } else {
            1
        };
        Blocks {
            lines,
            lines_each,
            blocks,
            sections: blocks.min(most),
        }
    }

    /// Whether each group has one feature on either side, and those of the result follow one another.
    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.features_in == 1 && self.features_out == 1 && self.dst.group == 1
    }

    /// The positions of the result, if they can be counted.
    fn positions(&self) -> Option<usize> {
        let [z, y, x] = self.axes.map(|axis| axis.output);
        z.checked_mul(y)?.checked_mul(x)
    }

    /// All multiplications, if they and all positions can be counted.
    fn multiplications(&self) -> Option<usize> {
        let sizes = self.axes.iter().flat_map(|a| [a.window, a.output]);
        // Empty axes hide no others: what is counted must fit whichever of them is empty.
        sizes
            .chain([self.batch, self.groups, self.features_in, self.features_out])
            .try_fold(1usize, |n, size| n.checked_mul(size.max(1)))
            .filter(|n| *n <= isize::MAX.unsigned_abs() && self.axes.iter().all(Axis::fits))
    }

    /// The form with axes that change nothing put outermost, where they cost nothing either.
    fn settled(mut self) -> Form {
        let order = |form: &Form| {
            let (trivial, others): (Vec<usize>, Vec<usize>) =
                (0..3).partition(|axis| form.axes[*axis].is_trivial());
            [trivial, others].concat()
        };
        let from = order(&self);
        let old = self.clone();
        for (to, from) in from.into_iter().enumerate() {
            self.axes[to] = old.axes[from];
            self.lhs.spatial[to] = old.lhs.spatial[from];
            self.rhs.spatial[to] = old.rhs.spatial[from];
            self.dst.spatial[to] = old.dst.spatial[from];
        }
        self
    }

    /// The order of the result's rows, if a row lies together and rows follow one another in one of the two orders.
    fn row_order(&self) -> Option<RowOrder> {
        let dense = |axes: &[(usize, isize)]| {
            let mut expected = 1usize;
            axes.iter().rev().all(|(extent, stride)| {
                let next = *extent == 1 || usize::try_from(*stride) == Ok(expected);
                expected = expected.saturating_mul(*extent);
                next
            })
        };
        let [z, y, x] = [0, 1, 2].map(|i| (self.axes[i].output, self.dst.spatial[i]));
        let batch = (self.batch, self.dst.batch);
        let group = (self.groups, self.dst.group);
        let feature = (self.features_out, self.dst.feature);
        if dense(&[batch, z, y, x, group, feature]) {
            Some(RowOrder::ImagesFirst)
        } else if dense(&[z, y, x, batch, group, feature]) {
            Some(RowOrder::PositionsFirst)
        } else {
            None
        }
    }

    /// The image and the position of a row.
    fn outputs(&self, order: RowOrder, row: usize) -> (usize, [usize; 3]) {
        let [z, y, x] = self.axes.map(|axis| axis.output);
        let (image, position) = match order {
            RowOrder::ImagesFirst => (row / (z * y * x), row % (z * y * x)),
            RowOrder::PositionsFirst => (row % self.batch, row / self.batch),
        };
        (image, [position / x / y, position / x % y, position % x])
    }
}

/// Where indices lie along the spatial axes.
#[inline(always)]
fn along(indices: &[usize; 3], strides: &[isize; 3]) -> isize {
    let [z, y, x] = *indices;
    z as isize * strides[0] + y as isize * strides[1] + x as isize * strides[2]
}

#[cfg(test)]
mod tests;
