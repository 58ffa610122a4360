//! Convolutions: the definition of their bits, and the way each one is computed.
//!
//! **Definition.** Position `w` of the window of output `o` lies along each axis at `o * stride + w * rhs_dilation - padding` of the
//! dilated input. Where that is not a multiple of `lhs_dilation` along some axis, the position takes no part. Otherwise the quotient
//! names an element of the input, which is 0 if it lies outside: padding is multiplied like everything else, so an infinity in the window
//! is seen there. A *chain* is a sum of terms by fused multiply-adds in order, `sum = fma(lhs, rhs, sum)`, from 0.
//!
//! - [`Summation::Window`]: the features of the input are cut into blocks of [`DEPTH`]. A block is one chain, over the positions of the
//!   window in row-major order and, at each, over the features of the block. The sums of the blocks are added in order to the first.
//! - [`Summation::Lines`]: a line is the innermost axis of the window at one position of the others and one feature of the input; lines are
//!   in row-major order of `[feature, window..]`. [`Blocks`] cuts them into blocks, each one chain over its lines, and the blocks into
//!   sections. The sums of a section's blocks are added in order to the first, and then those of the sections.
//!
//! So the bits of a result depend on nothing but the operands and the sizes: not on threads, tiles, strides or instruction sets, nor on
//! the way that is chosen. A window of one position with the first summation is a matrix product to the bit. Integers wrap, and f32 with
//! sums in f64 rounds once.
//!
//! **Ways.** [`Method`] picks one when sizes are bound: *direct* tiles over padded rows for the first summation, a matrix *product* where
//! the window has one position, *depthwise* where groups have one feature, *lines* for the second, and the *plain* definition for the rest: other types, empty sums, and a dilated
//! input in the second summation. A call allocates nothing and starts no thread.

use crate::product::{
    Form as ProductForm, Isa, Matrices, Method as ProductMethod, Strides, plain::F32InF64,
};
use plain::PlainFn;
use std::ops::Range;

mod axis;
mod copy;
mod depthwise;
mod direct;
mod lines;
mod plain;
mod sets;
mod tiles;

pub use crate::product::{DEPTH, ProductType};
pub use axis::Axis;
pub use kiln_ir::program::Summation;

use crate::pool::split;

/// Terms of a block of lines, at least, where there are so many. It is part of the definition.
///
/// The sums of a tile go to memory once for each block, which costs as much as two or three terms.
pub const BLOCK_TERMS: usize = 256;

/// Sections, at most. It is part of the definition, and the most threads that share out a gradient of a small window.
pub const SECTIONS: usize = 8;

/// Elements of the result, features counted in sixteens, beyond which there is one section: sections would take up too much memory, and
/// such a result has parts enough to be shared out. It is part of the definition.
pub const SECTION_ELEMENTS: usize = 64 * 1024;

/// A convolution of fewer multiplications than this stays on one thread, as a product does.
const PARALLEL_MULTIPLICATIONS: usize = 256 * 1024;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// All lines.
    pub lines: usize,
    /// The lines of a block, but for the last; above 0.
    pub lines_each: usize,
    /// The blocks.
    pub blocks: usize,
    /// The sections: above 0 where there is a block, and never more than blocks.
    pub sections: usize,
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
    pub fn of(&self, section: usize) -> Range<usize> {
        let cut = |section: usize| section * self.blocks / self.sections.max(1);
        cut(section)..cut(section + 1)
    }
}

impl Form {
    /// How the second summation cuts the lines.
    pub fn blocks(&self) -> Blocks {
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

/// What there is for each instruction set and type.
#[derive(Clone, Copy, Debug)]
struct Walks {
    plan_direct: fn(&Form, usize) -> Option<direct::Direct>,
    direct: unsafe fn(&direct::Direct, &direct::Work, &mut dyn FnMut(Range<usize>)),
    plan_depthwise: fn(&Form, usize) -> Option<depthwise::Depthwise>,
    depthwise: unsafe fn(&depthwise::Depthwise, &depthwise::Work, &mut dyn FnMut(Range<usize>)),
    plan_lines: fn(&Form, usize) -> Option<lines::Lines>,
    sums: unsafe fn(&lines::Lines, &lines::Work<'_>),
    combine: unsafe fn(&lines::Lines, &lines::Work<'_>, &mut dyn FnMut(Range<usize>)),
}

/// How convolutions of one form are computed.
///
/// A method has one or two passes; all shares of a pass are done before the next begins.
#[derive(Clone, Debug)]
pub struct Method {
    threads: usize,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    Plain {
        form: Box<Form>,
        /// The order in which rows are shared out, and whether it is that of the result.
        order: RowOrder,
        ordered: bool,
        rows: usize,
        function: PlainFn,
    },
    Product {
        method: Box<ProductMethod>,
        /// Rows of a matrix; images are matrices, or all of them together are one.
        rows: usize,
        /// From a matrix to the next, in bytes.
        lhs: isize,
        dst: isize,
        ordered: bool,
    },
    Direct {
        plan: Box<direct::Direct>,
        walks: Walks,
    },
    Depthwise {
        plan: Box<depthwise::Depthwise>,
        walks: Walks,
    },
    Lines {
        plan: Box<lines::Lines>,
        walks: Walks,
    },
}

impl Method {
    /// The method for up to `threads` threads; `None` where the numbers are too large for any memory.
    pub fn new(form: Form, threads: usize) -> Option<Method> {
        let isa = Isa::available().next().unwrap_or(Isa::Portable);
        Method::on(isa, form, threads)
    }

    fn on(isa: Isa, form: Form, threads: usize) -> Option<Method> {
        let work = form.multiplications()?;
        let form = form.settled();
        let threads = if work < PARALLEL_MULTIPLICATIONS {
            1
        } else {
            threads.max(1)
        };
        let sizes = form.axes.iter().flat_map(|a| [a.window, a.output]);
        let empty = sizes
            .chain([form.batch, form.groups, form.features_in, form.features_out])
            .any(|size| size == 0);
        let single = match form.dtype {
            ProductType::F32 => Some(true),
            ProductType::F64 => Some(false),
            _ => None,
        };
        let way = match (single, form.summation) {
            (Some(single), Summation::Window) if !empty => {
                let product = product(&form, threads);
                product.or_else(|| {
                    let walks = sets::walks(isa, single);
                    if form.is_depthwise() {
                        let plan = Box::new((walks.plan_depthwise)(&form, threads)?);
                        return Some(Way::Depthwise { plan, walks });
                    }
                    let plan = Box::new((walks.plan_direct)(&form, threads)?);
                    Some(Way::Direct { plan, walks })
                })
            }
            (Some(single), Summation::Lines)
                if !empty && form.axes.iter().all(|axis| axis.lhs_dilation == 1) =>
            {
                let walks = sets::walks(isa, single);
                let plan = (walks.plan_lines)(&form, threads).map(Box::new);
                plan.map(|plan| Way::Lines { plan, walks })
            }
            (_, _) => None,
        };
        let way = match way {
            Some(way) => way,
            None => {
                let order = form.row_order();
                Way::Plain {
                    order: order.unwrap_or(RowOrder::ImagesFirst),
                    ordered: order.is_some(),
                    rows: form.positions()?.checked_mul(form.batch)?,
                    function: plain_function(isa, form.dtype),
                    form: Box::new(form),
                }
            }
        };
        Some(Method { threads, way })
    }

    /// The bytes of scratch that each thread needs.
    pub fn scratch(&self) -> usize {
        match &self.way {
            Way::Plain { .. } => 0,
            Way::Product { method, .. } => method.scratch(),
            Way::Direct { plan, .. } => plan.scratch(),
            Way::Depthwise { plan, .. } => plan.scratch(),
            Way::Lines { plan, .. } => plan.scratch(),
        }
    }

    /// The number of passes.
    pub fn passes(&self) -> usize {
        match &self.way {
            Way::Plain { .. }
            | Way::Product { .. }
            | Way::Direct { .. }
            | Way::Depthwise { .. } => 1,
            Way::Lines { .. } => 2,
        }
    }

    /// Into how many shares a pass is cut: never more than threads.
    pub fn shares(&self, pass: usize) -> usize {
        match &self.way {
            Way::Plain { rows, .. } => self.threads.min(*rows),
            Way::Product { method, .. } => method.shares(),
            Way::Direct { plan, .. } => self.threads.min(plan.units()),
            Way::Depthwise { plan, .. } => self.threads.min(plan.units()),
            Way::Lines { plan, .. } if pass == 0 => plan.summing(),
            Way::Lines { plan, .. } => plan.combining(),
        }
    }

    /// Whether [`Method::run`] tells of every row of the result, in the order in which they lie in memory.
    pub fn completes_rows(&self) -> bool {
        match &self.way {
            Way::Plain { ordered, .. } => *ordered,
            Way::Product {
                method, ordered, ..
            } => *ordered && method.has_whole_rows(),
            Way::Direct { plan, .. } => plan.completes_rows(),
            Way::Depthwise { plan, .. } => plan.completes_rows(),
            Way::Lines { plan, .. } => plan.completes_rows(),
        }
    }

    /// Computes one share of a pass, and calls `done` with rows of the result as they are finished, if
    /// [`completes_rows`](Method::completes_rows). What the result held before is not read.
    ///
    /// # Safety
    /// - All shares of earlier passes are done, and no other call has the same share.
    /// - All elements of the operands are initialised, valid for reads of the type and aligned for it, and nobody writes them meanwhile.
    /// - The elements of the result are valid for writes, aligned, distinct, and touched by nobody but the shares of this run and `done`,
    ///   which touches those of its rows only; neither operand overlaps it.
    /// - `scratch` gives, for every thread that the method was made for, [`Method::scratch`] bytes aligned to 64 that nothing but this
    ///   run touches from its first share to its last; `thread` runs no other share at the time.
    pub unsafe fn run(
        &self,
        pass: usize,
        share: usize,
        thread: usize,
        at: Operands,
        scratch: &dyn Fn(usize) -> *mut u8,
        done: &mut dyn FnMut(Range<usize>),
    ) {
        let own = || scratch(thread);
        let shares = self.shares(pass);
        match &self.way {
            Way::Plain {
                form,
                order,
                ordered,
                rows,
                function,
            } => {
                let rows = split(*rows, shares, 1, share);
                // SAFETY: the caller's promise is passed on, for the type of the form.
                unsafe { function(form, *order, &rows, at) }
                if *ordered {
                    done(rows);
                }
            }
            Way::Product {
                method,
                rows,
                lhs,
                dst,
                ..
            } => {
                let mut packed = std::ptr::null();
                for index in split(method.units(), shares, 1, share) {
                    let unit = method.unit(index);
                    let matrix = unit.matrix as isize;
                    let at = Matrices {
                        dst: at.dst.wrapping_offset(matrix * dst),
                        lhs: at.lhs.wrapping_offset(matrix * lhs),
                        rhs: at.rhs,
                    };
                    let first = unit.matrix * rows;
                    let finished = first + unit.rows.start..first + unit.rows.end;
                    // SAFETY: the matrices are images of the operands, or all of them.
                    unsafe { method.run(unit.rows, unit.cols, at, own(), &mut packed) }
                    if self.completes_rows() {
                        done(finished);
                    }
                }
            }
            Way::Direct { plan, walks } => {
                let work = direct::Work {
                    at,
                    scratch: own(),
                    units: split(plan.units(), shares, 1, share),
                };
                // SAFETY: the caller's promise is passed on; units have results of their own.
                unsafe { (walks.direct)(plan, &work, done) }
            }
            Way::Depthwise { plan, walks } => {
                let work = depthwise::Work {
                    at,
                    scratch: own(),
                    units: split(plan.units(), shares, 1, share),
                };
                // SAFETY: as above.
                unsafe { (walks.depthwise)(plan, &work, done) }
            }
            Way::Lines { plan, walks } => {
                let work = lines::Work {
                    at,
                    scratch: own(),
                    all: scratch,
                    share,
                };
                // SAFETY: as above.
                unsafe {
                    if pass == 0 {
                        (walks.sums)(plan, &work);
                    } else {
                        (walks.combine)(plan, &work, done);
                    }
                }
            }
        }
    }
}

/// The convolution as a matrix product, where each output sees one element of the input and their rows are evenly apart.
fn product(form: &Form, threads: usize) -> Option<Way> {
    let alone = form.axes.iter().all(|axis| {
        let last = (axis.output - 1) * axis.stride;
        axis.window == 1 && axis.lhs_dilation == 1 && axis.padding == 0 && last < axis.input
    });
    if !alone || form.groups != 1 {
        return None;
    }
    // The steps from row to row of the input and of the result, where the axes fold into one; inner axes first.
    let fold = |axes: &[(usize, isize, isize)]| {
        let mut walked: Option<(usize, isize, isize)> = None;
        for (extent, lhs, dst) in axes.iter().rev().filter(|(extent, _, _)| *extent > 1) {
            walked = match walked {
                None => Some((*extent, *lhs, *dst)),
                Some((rows, left, out)) => {
                    let next = rows as isize;
                    let follows =
                        left.checked_mul(next) == Some(*lhs) && out.checked_mul(next) == Some(*dst);
                    if !follows {
                        return None;
                    }
                    Some((rows * extent, left, out))
                }
            };
        }
        Some(walked.unwrap_or((1, 0, 0)))
    };
    let axis = |index: usize| {
        let axis = form.axes[index];
        let lhs = form.lhs.spatial[index].checked_mul(axis.stride as isize)?;
        Some((axis.output, lhs, form.dst.spatial[index]))
    };
    let spatial = [axis(0)?, axis(1)?, axis(2)?];
    let images = (form.batch, form.lhs.batch, form.dst.batch);
    let all = [images, spatial[0], spatial[1], spatial[2]];
    let ((rows, lhs, dst), matrices) = match fold(&all) {
        Some(folded) => (folded, 1),
        None => (fold(&spatial)?, form.batch),
    };
    let form_of_matrix = ProductForm {
        dtype: form.dtype,
        m: rows,
        n: form.features_out,
        k: form.features_in,
        dst: Strides {
            row: dst,
            col: form.dst.feature,
        },
        lhs: Strides {
            row: lhs,
            col: form.lhs.feature,
        },
        rhs: Strides {
            row: form.rhs.feature_in,
            col: form.rhs.feature_out,
        },
    };
    let size = form.dtype.size() as isize;
    let method = ProductMethod::new(form_of_matrix, matrices, threads)?;
    Some(Way::Product {
        method: Box::new(method),
        rows,
        lhs: form.lhs.batch.checked_mul(size)?,
        dst: form.dst.batch.checked_mul(size)?,
        ordered: form.row_order() == Some(RowOrder::ImagesFirst),
    })
}

/// The definition for a type.
fn plain_function(isa: Isa, dtype: ProductType) -> PlainFn {
    match dtype {
        ProductType::F32 => plain::fused_function::<f32>(isa),
        ProductType::F64 => plain::fused_function::<f64>(isa),
        ProductType::F32InF64 => plain::function::<F32InF64>(),
        ProductType::I8 => plain::function::<i8>(),
        ProductType::I16 => plain::function::<i16>(),
        ProductType::I32 => plain::function::<i32>(),
        ProductType::I64 => plain::function::<i64>(),
        ProductType::U8 => plain::function::<u8>(),
        ProductType::U16 => plain::function::<u16>(),
        ProductType::U32 => plain::function::<u32>(),
        ProductType::U64 => plain::function::<u64>(),
    }
}

#[cfg(test)]
mod tests;
