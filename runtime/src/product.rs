//! Matrix products: the definition of their bits, and the way each one is computed.
//!
//! **Definition.** In a product of f32 or of f64, the contracted axis is cut into blocks of [`DEPTH`]; the last one may be short. Within
//! a block an element's sum is one chain of fused multiply-adds, `sum = fma(lhs, rhs, sum)`, in ascending order from 0; the sums of the
//! blocks are then added in ascending order to that of the first. So the bits of a result depend on nothing but the operands: not on
//! threads, panels, tiles or strides, nor on the instruction set (what has no fused multiply-add uses `mul_add`). Without anything to
//! contract all elements are 0.
//!
//! That is [`ProductSummation::Chain`]. In [`ProductSummation::Lanes`], for a vector times a matrix that lies along the contracted axis, an
//! element has [`PARTIALS`] sums, and term `k` goes to sum `k` modulo their number; each is a chain as above over its own terms, in blocks
//! of [`DEPTH`] of them. Zeros times zeros fill the contracted axis up to a multiple of their number. Then the upper half of the sums is
//! added to the lower one, sum by sum, until one is left. Who writes a program chooses; nothing here does.
//!
//! In [`ProductSummation::Split`], of f32, a factor is the sum of three bf16: the nearest one (halves away from 0), the nearest one to the
//! rest, and what is left. The contracted axis is cut into chunks of 32 depths, filled up with zeros. For each chunk in ascending order, six
//! sums are added to the total, which begins as 0: those of the first part of the left side times the third of the right, first times
//! second, second times second, second times first, third times first, and first times first. Each of them is the sum of two: one over the
//! first sixteen depths and one over the others, both chains of fused multiply-adds in ascending order from 0. Subnormal numbers are 0
//! throughout, and so is what is smaller than the smallest normal number when rounded to 24 bits. Where the total is not finite, the element
//! is that of [`ProductSummation::Chain`] (and any NaN is like another), as are all elements of a product that is not
//! [large](ProductSummation::is_large).
//!
//! Other types are defined where they are computed, in `plain`.
//!
//! A [`Method`] is how products of one [`Form`] (type, extents, strides) are computed by so many threads; it is made once for a binding.
//! It cuts the result into units, each computed by one call on one thread, and says how much scratch a thread needs; a call allocates
//! nothing, starts no thread and knows nothing of batches, epilogues or programs.

use std::ops::Range;

mod ahead;
mod apart;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod blocked;
mod chain;
mod choose;
mod fold;
mod isa;
mod lanes;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod pack;
pub(crate) mod plain;
pub(crate) mod portable;
pub(crate) mod simd;
mod split;
mod types;

pub(crate) use ahead::{LINE, Lines};
pub use blocked::DEPTH;
pub(crate) use isa::Isa;
pub use kiln_ir::program::ProductSummation;
pub use lanes::PARTIALS;
pub use types::ProductType;

use ahead::Ahead;
use blocked::{Blocked, Packing, Work};
use chain::ChainFn;
use choose::{Choice, choose};
use lanes::LanesFn;
use plain::{F32InF64, plain};
use simd::Simd;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use {
    choose::{SplitChoice, choose_split},
    split::walk::{Split, Work as SplitWork},
};

/// A product of no more multiplications than this is computed by the definition itself, one element after the other, as is a single
/// element: it is done before blocks would be set up.
const TINY: usize = 16;

/// A product of fewer multiplications than this stays on one thread: a fork and join costs about a microsecond, and a core takes five
/// for as many.
const PARALLEL_MULTIPLICATIONS: usize = 256 * 1024;

/// Whether this machine has a unit for [`ProductSummation::Split`]: it multiplies bf16 in tiles (AMX), and the system lets this process do
/// so. Without one, such products are computed one element after the other.
pub fn has_tiles() -> bool {
    split::detected()
}

/// From a row of a matrix to the next and from a column to the next, in elements.
///
/// A transposed matrix is the same memory with its strides exchanged; a stride of 0 repeats a row or column, a negative one walks
/// backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Strides {
    /// From a row to the next.
    pub row: isize,
    /// From a column to the next.
    pub col: isize,
}

/// What products have in common that are computed alike: `dst = lhs . rhs` with `lhs` `[m, k]`, `rhs` `[k, n]` and `dst` `[m, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// The types of elements and sums.
    pub dtype: ProductType,
    /// The order of the terms of f32 and f64.
    pub summation: ProductSummation,
    /// Rows of `lhs` and `dst`.
    pub m: usize,
    /// Columns of `rhs` and `dst`.
    pub n: usize,
    /// The contracted extent.
    pub k: usize,
    /// How `dst` lies; its elements do not overlap.
    pub dst: Strides,
    /// How `lhs` lies.
    pub lhs: Strides,
    /// How `rhs` lies.
    pub rhs: Strides,
}

/// Element (0, 0) of the three matrices of a product.
#[derive(Clone, Copy, Debug)]
pub struct Matrices {
    /// `[m, n]`, written.
    pub dst: *mut u8,
    /// `[m, k]`, read.
    pub lhs: *const u8,
    /// `[k, n]`, read.
    pub rhs: *const u8,
}

/// What is computed by one call: some rows of some columns of the result of one matrix of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The matrix of the batch.
    pub matrix: usize,
    /// Rows of its result.
    pub rows: Range<usize>,
    /// Columns of its result.
    pub cols: Range<usize>,
}

/// How products of one form are computed, a batch of them at a time.
#[derive(Clone, Debug)]
pub struct Method {
    form: Form,
    /// Rows of a unit, above 0.
    panel: usize,
    /// Units that share rows, above 0.
    parts: usize,
    /// Columns of a unit, but for the last.
    part: usize,
    units: usize,
    shares: usize,
    scratch: usize,
    walk: Walk,
}

/// How a unit is computed.
#[derive(Clone, Debug)]
enum Walk {
    /// One element after the other, by a definition of its own type.
    Plain,
    /// One element after the other.
    Chain(ChainFn),
    /// In partial sums.
    Lanes(LanesFn),
    /// In blocks.
    Blocked(Box<InBlocks>),
    /// In tiles of bf16.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Split(Box<InTiles>),
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[derive(Clone, Debug)]
struct InTiles {
    split: Split,
    /// Whether whoever calls has packed the lanes, by [`Method::pack`].
    apart: bool,
}

#[derive(Clone, Debug)]
struct InBlocks {
    blocked: Blocked,
    /// Whether the result's rows give the lanes.
    swapped: bool,
    multiply: unsafe fn(&Blocked, &Work),
    pack_whole: unsafe fn(&Blocked, *const u8, *mut u8),
    /// The lanes of a strip of full width.
    strip: usize,
    /// The bytes of all lanes when they are packed whole; `None` where they cannot be counted.
    packed: Option<usize>,
    /// Whether whoever calls has packed the lanes, by [`Method::pack`].
    apart: bool,
}

impl Method {
    /// The method for a batch of `batch` products on up to `threads` threads; `None` where the numbers are too large for any memory.
    pub fn new(form: Form, batch: usize, threads: usize) -> Option<Method> {
        let isa = Isa::available().next().unwrap_or(Isa::Portable);
        Method::on(isa, form, batch, threads)
    }

    fn on(isa: Isa, form: Form, batch: usize, threads: usize) -> Option<Method> {
        let size = form.m.checked_mul(form.n)?;
        let work = size.checked_mul(form.k.max(1))?.checked_mul(batch)?;
        let threads = if work < PARALLEL_MULTIPLICATIONS {
            1
        } else {
            threads.max(1)
        };
        let single = matches!(form.dtype, ProductType::F32);
        let floating = single || matches!(form.dtype, ProductType::F64);
        if floating && form.summation == ProductSummation::Lanes {
            return Method::in_lanes(isa, form, batch, threads);
        }
        let large = ProductSummation::is_large(form.m as u64, form.n as u64, form.k as u64);
        if single && form.summation == ProductSummation::Split && large {
            return Method::split(isa, form, batch, threads);
        }
        if !floating || size <= 1 || size.saturating_mul(form.k) <= TINY {
            let walk = match (floating, single) {
                (true, true) => Walk::Chain(chain::f32(isa)),
                (true, false) => Walk::Chain(chain::f64(isa)),
                (false, _) => Walk::Plain,
            };
            return Method::by_rows(form, batch, threads, walk);
        }
        match (isa, single) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, true) => in_blocks!(avx512::Avx512F32, form, batch, threads),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, false) => in_blocks!(avx512::Avx512F64, form, batch, threads),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, true) => in_blocks!(avx2::Avx2F32, form, batch, threads),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, false) => in_blocks!(avx2::Avx2F64, form, batch, threads),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, true) => in_blocks!(neon::NeonF32, form, batch, threads),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, false) => in_blocks!(neon::NeonF64, form, batch, threads),
            (Isa::Portable, true) => in_blocks!(portable::PortableF32, form, batch, threads),
            (Isa::Portable, false) => in_blocks!(portable::PortableF64, form, batch, threads),
        }
    }

    /// The method of a split product: in tiles where this machine has them.
    fn split(isa: Isa, form: Form, batch: usize, threads: usize) -> Option<Method> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if isa == Isa::Avx512 && split::detected() {
            let form = form.along_extents();
            let choice =
                choose_split::<avx512::Avx512F32>(&form, batch, threads, split::walk::STRIP);
            let SplitChoice {
                swapped,
                packing,
                panel,
                parts,
            } = choice;
            let part = form.n.div_ceil(parts).next_multiple_of(split::walk::STRIP);
            let (rows, cols) = (panel.min(form.m), part.min(form.n));
            let extents = if swapped { [cols, rows] } else { [rows, cols] };
            let split = Split::new(form, swapped, packing, extents)?;
            let scratch = split.scratch();
            let walk = Walk::Split(Box::new(InTiles {
                split,
                apart: false,
            }));
            return Method::cut(form, batch, threads, panel, parts, scratch, walk);
        }
        let walk = Walk::Chain(split::definition(isa));
        Method::by_rows(form, batch, threads, walk)
    }

    /// A walk over elements, of which each thread has as many rows.
    fn by_rows(form: Form, batch: usize, threads: usize, walk: Walk) -> Option<Method> {
        let panels = threads.div_ceil(batch.max(1)).min(form.m.max(1));
        let panel = form.m.div_ceil(panels).max(1);
        Method::cut(form, batch, threads, panel, 1, 0, walk)
    }

    /// A row is cut in its columns, and anything else in rows.
    fn in_lanes(isa: Isa, form: Form, batch: usize, threads: usize) -> Option<Method> {
        let single = matches!(form.dtype, ProductType::F32);
        let (one, lanes): (LanesFn, LanesFn) = match (isa, single) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, true) => (avx512::Avx512F32::one, avx512::Avx512F32::lanes),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, false) => (avx512::Avx512F64::one, avx512::Avx512F64::lanes),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, true) => (avx2::Avx2F32::one, avx2::Avx2F32::lanes),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, false) => (avx2::Avx2F64::one, avx2::Avx2F64::lanes),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, true) => (neon::NeonF32::one, neon::NeonF32::lanes),
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, false) => (neon::NeonF64::one, neon::NeonF64::lanes),
            (Isa::Portable, true) => (portable::PortableF32::one, portable::PortableF32::lanes),
            (Isa::Portable, false) => (portable::PortableF64::one, portable::PortableF64::lanes),
        };
        let walk = Walk::Lanes(match (form.m, form.n) {
            (1, 1) => one,
            (_, _) => lanes,
        });
        let shares = threads.div_ceil(batch.max(1));
        let (panels, parts) = match form.m {
            1 => (1, shares.min(form.n.div_ceil(64)).max(1)),
            m => (shares.min(m), 1),
        };
        let panel = form.m.div_ceil(panels.max(1)).max(1);
        Method::cut(form, batch, threads, panel, parts, 0, walk)
    }

    fn cut(
        form: Form,
        batch: usize,
        threads: usize,
        panel: usize,
        parts: usize,
        scratch: usize,
        walk: Walk,
    ) -> Option<Method> {
        let units = form
            .m
            .div_ceil(panel)
            .checked_mul(parts)?
            .checked_mul(batch)?;
        Some(Method {
            form,
            panel,
            parts,
            // Parts begin where strips and lines do.
            part: if parts > 1 {
                form.n.div_ceil(parts).next_multiple_of(32)
            } else {
                form.n
            },
            units,
            shares: threads.min(units),
            scratch,
            walk,
        })
    }

    /// The bytes of scratch that each thread needs.
    pub fn scratch(&self) -> usize {
        self.scratch
    }

    /// How many multiplications it takes, where its tiles can ask for other memory meanwhile.
    pub(crate) fn room_to_ask(&self) -> Option<usize> {
        match &self.walk {
            Walk::Blocked(walk) if !walk.blocked.folds => {
                let Form { m, n, k, .. } = self.form;
                m.checked_mul(n)?.checked_mul(k)
            }
            Walk::Blocked(_) | Walk::Plain | Walk::Chain(_) | Walk::Lanes(_) => None,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Walk::Split(_) => None,
        }
    }

    /// The number of units of the whole batch.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Into how many shares the units are worth cutting: 1 for a product that stays on one thread.
    pub fn shares(&self) -> usize {
        self.shares
    }

    /// Whether a unit has all columns of its rows, so that these are complete when it is done.
    pub fn has_whole_rows(&self) -> bool {
        self.parts == 1
    }

    /// What unit `index` computes. Units are in order of matrix, then rows, then columns.
    pub fn unit(&self, index: usize) -> Unit {
        if self.units == 1 {
            // Divisions take as long as a product of a few dozen elements.
            return Unit {
                matrix: 0,
                rows: 0..self.form.m,
                cols: 0..self.form.n,
            };
        }
        let panels = self.form.m.div_ceil(self.panel).max(1);
        let (above, part) = (index / self.parts, index % self.parts);
        let (matrix, panel) = (above / panels, above % panels);
        let span = |index: usize, each: usize, all: usize| {
            let cut = |index: usize| index.saturating_mul(each).min(all);
            cut(index)..cut(index + 1)
        };
        Unit {
            matrix,
            rows: span(panel, self.panel, self.form.m),
            cols: span(part, self.part, self.form.n),
        }
    }

    /// Computes `rows` and `cols` of a result. What it held there before is not read.
    ///
    /// `packed` is the right side whose packed form the scratch holds: null before the first call. While the scratch is left alone and
    /// calls follow one another with the same right side, it is packed once. Of a method [with its right side apart](Method::apart) it is
    /// where [`Method::pack`] put it.
    ///
    /// # Safety
    /// Where rows and columns are not empty:
    /// - `rows` and `cols` are those of a unit of this method;
    /// - their elements of `dst` are valid for writes of the type, aligned for it, distinct, and touched by no other thread and by
    ///   neither operand;
    /// - where `k` is above 0 too, all elements of `lhs` in these rows and of `rhs` are initialised, valid for reads of the type and
    ///   aligned for it, and nobody writes them meanwhile;
    /// - `scratch` is [`Method::scratch`] bytes, aligned to 64, that nobody else uses, and unchanged since `packed` was set.
    pub unsafe fn run(
        &self,
        rows: Range<usize>,
        cols: Range<usize>,
        at: Matrices,
        scratch: *mut u8,
        packed: &mut *const u8,
    ) {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.run_asking(rows, cols, at, scratch, packed, &[]) }
    }

    /// As [`Method::run`], and asks for other memory meanwhile, so that it is in L2 by the end; where it is computed in blocks.
    ///
    /// # Safety
    /// As [`Method::run`].
    // A call more is a tenth of the time of the smallest products.
    #[inline(always)]
    pub(crate) unsafe fn run_asking(
        &self,
        rows: Range<usize>,
        cols: Range<usize>,
        at: Matrices,
        scratch: *mut u8,
        packed: &mut *const u8,
        ahead: &[Lines],
    ) {
        if rows.is_empty() || cols.is_empty() {
            return;
        }
        match &self.walk {
            // SAFETY: the caller's promise is passed on, for the type of the form.
            Walk::Plain => unsafe { self.plain(&rows, &cols, at) },
            // SAFETY: as above; the function is the one of this machine.
            Walk::Chain(chain) => unsafe { chain(&self.form, &rows, &cols, at) },
            // SAFETY: as above.
            Walk::Lanes(lanes) => unsafe { lanes(&self.form, &rows, &cols, at) },
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Walk::Split(walk) => {
                let lanes_at = if walk.split.swapped { at.lhs } else { at.rhs };
                let (whole, first) = if walk.apart {
                    (packed.cast_mut(), false)
                } else {
                    let first = *packed != lanes_at;
                    if walk.split.packing == Packing::Whole {
                        *packed = lanes_at;
                    }
                    (scratch.wrapping_add(walk.split.whole()), first)
                };
                let (rows, lanes) = if walk.split.swapped {
                    (cols, rows)
                } else {
                    (rows, cols)
                };
                let work = SplitWork {
                    at,
                    rows,
                    lanes,
                    scratch,
                    whole,
                    first,
                };
                // SAFETY: as in the arm below.
                unsafe { split::walk::multiply(&walk.split, &work) }
            }
            Walk::Blocked(walk) => {
                let (rows_at, lanes_at) = if walk.swapped {
                    (at.rhs, at.lhs)
                } else {
                    (at.lhs, at.rhs)
                };
                let whole = scratch.wrapping_add(walk.blocked.room.whole);
                let (whole, first) = if walk.apart {
                    (packed.cast_mut(), false)
                } else {
                    let first = *packed != lanes_at;
                    if walk.blocked.packing == Packing::Whole {
                        *packed = lanes_at;
                    }
                    (whole, first)
                };
                let (rows, lanes) = if walk.swapped {
                    (cols, rows)
                } else {
                    (rows, cols)
                };
                let tiles = match ahead {
                    [] => 0,
                    [..] => {
                        let strips = lanes.len().div_ceil(walk.strip);
                        walk.blocked.tiles(rows.len(), strips)
                    }
                };
                let work = Work {
                    rows_at,
                    lanes_at,
                    out: at.dst,
                    rows,
                    lanes,
                    scratch,
                    whole,
                    first,
                    ahead: Ahead::new(ahead, tiles),
                };
                // SAFETY: the caller promises the matrices and the scratch; a unit has no more rows than the method was made for, and the
                // function is the one of this machine.
                unsafe { (walk.multiply)(&walk.blocked, &work) }
            }
        }
    }

    /// # Safety
    /// As [`Method::run`].
    unsafe fn plain(&self, rows: &Range<usize>, cols: &Range<usize>, at: Matrices) {
        let form = &self.form;
        // SAFETY: each arm passes on the caller's promise for the type it names.
        unsafe {
            match form.dtype {
                ProductType::F32InF64 => plain::<F32InF64>(form, rows, cols, at),
                ProductType::I8 => plain::<i8>(form, rows, cols, at),
                ProductType::I16 => plain::<i16>(form, rows, cols, at),
                ProductType::I32 => plain::<i32>(form, rows, cols, at),
                ProductType::I64 => plain::<i64>(form, rows, cols, at),
                ProductType::U8 => plain::<u8>(form, rows, cols, at),
                ProductType::U16 => plain::<u16>(form, rows, cols, at),
                ProductType::U32 => plain::<u32>(form, rows, cols, at),
                ProductType::U64 => plain::<u64>(form, rows, cols, at),
                // These have walks of their own.
                ProductType::F32 | ProductType::F64 => {}
            }
        }
    }
}

impl Form {
    /// The step along an axis of one element is never walked, so it may as well be the best one.
    fn along_extents(self) -> Form {
        let along = |step: isize, extent: usize| if extent == 1 { 1 } else { step };
        let Form { m, n, k, .. } = self;
        let lies = |strides: Strides, rows, cols| Strides {
            row: along(strides.row, rows),
            col: along(strides.col, cols),
        };
        Form {
            dst: lies(self.dst, m, n),
            lhs: lies(self.lhs, m, k),
            rhs: lies(self.rhs, k, n),
            ..self
        }
    }
}

/// The method in blocks for an instruction set.
macro_rules! in_blocks {
    ($simd:ty, $form:ident, $batch:ident, $threads:ident) => {
        blocks::<$simd>(
            $form,
            $batch,
            $threads,
            <$simd>::multiply,
            <$simd>::fold,
            <$simd>::pack_whole,
        )
    };
}
use in_blocks;

fn blocks<S: Simd>(
    form: Form,
    batch: usize,
    threads: usize,
    multiply: unsafe fn(&Blocked, &Work),
    fold: unsafe fn(&Blocked, &Work),
    pack_whole: unsafe fn(&Blocked, *const u8, *mut u8),
) -> Option<Method> {
    let form = form.along_extents();
    let Choice {
        mut blocked,
        swapped,
        panel,
        parts,
    } = choose::<S>(&form, batch, threads);
    blocked.room = blocked.room::<S>()?;
    let scratch = blocked.room.end;
    let strip = blocked.vectors * S::LANES;
    let packed = blocked
        .lanes
        .checked_next_multiple_of(S::LANES)
        .and_then(|lanes| {
            lanes
                .checked_mul(blocked.depth)?
                .checked_mul(size_of::<S::Element>())
        });
    let walk = Walk::Blocked(Box::new(InBlocks {
        multiply: if blocked.folds { fold } else { multiply },
        blocked,
        swapped,
        pack_whole,
        strip,
        packed,
        apart: false,
    }));
    Method::cut(form, batch, threads, panel, parts, scratch, walk)
}

#[cfg(test)]
mod tests;
