//! From a form to the way it is computed, and the calls of it.

use super::plain::{self, PlainFn};
use super::{Form, Operands, ProductType, RowOrder, Summation, depthwise, direct, lines, sets};
use crate::pool::split;
use crate::product::{
    Form as ProductForm, Isa, Matrices, Method as ProductMethod, ProductSummation, Strides,
    plain::F32InF64,
};
use std::ops::Range;

/// A convolution of fewer multiplications than this stays on one thread, as a product does.
const PARALLEL_MULTIPLICATIONS: usize = 256 * 1024;

/// What there is for each instruction set and type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walks {
    pub(super) plan_direct: fn(&Form, usize) -> Option<direct::Direct>,
    pub(super) direct: unsafe fn(&direct::Direct, &direct::Work, &mut dyn FnMut(Range<usize>)),
    pub(super) plan_depthwise: fn(&Form, usize) -> Option<depthwise::Depthwise>,
    pub(super) depthwise:
        unsafe fn(&depthwise::Depthwise, &depthwise::Work, &mut dyn FnMut(Range<usize>)),
    pub(super) plan_lines: fn(&Form, usize) -> Option<lines::Lines>,
    pub(super) sums: unsafe fn(&lines::Lines, &lines::Work<'_>),
    pub(super) combine: unsafe fn(&lines::Lines, &lines::Work<'_>, &mut dyn FnMut(Range<usize>)),
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

    pub(super) fn on(isa: Isa, form: Form, threads: usize) -> Option<Method> {
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
        let tables = !empty && form.has_small_tables();
        let way = match (single, form.summation) {
            (Some(single), Summation::Window) if tables => {
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
            (Some(single), Summation::Lines) if tables => {
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
        // A convolution's own definition has one chain.
        summation: ProductSummation::Chain,
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
