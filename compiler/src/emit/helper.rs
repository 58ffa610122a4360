//! Functions that emitted code calls: what is rare, or what the machine has no instruction for.
//!
//! Kernels reach them through the table that they are called with, at positions that are part of the code's format: a position is never
//! given to another function. A helper gets a block of memory with one register for each operand, 16 bytes apart, and leaves its result
//! in place of the first. It must not unwind. Behind these lie the full-width functions of strips, which take pointers, and the function
//! that draws random words, whose block is described in `words.rs`, and the one that sorts a row, of `sort.rs`.

use super::sort::sort_row;
use super::words;
use crate::kernel::Function;
use crate::math::Rare;
use crate::math::wide::{self, WideFn, Width};
use kiln_ir::DType;

/// The size of the block, in bytes.
pub(super) const BLOCK: u32 = 48;

/// A helper as the code sees it.
pub type HelperFn = unsafe extern "C" fn(*mut u8);

macro_rules! helpers {
    ($($name:ident = $function:expr;)+) => {
        /// The helpers, by their position in the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Helper { $($name),+ }

        /// The number of helpers.
        const COUNT: usize = [$(Helper::$name),+].len();

        /// The helpers, which are the same on all machines of an architecture.
        const HELPERS: [HelperFn; COUNT] = [$($function),+];
    };
}

helpers! {
    Fma32 = fma32;
    Fma64 = fma64;
    Rem32 = rem32;
    Rem64 = rem64;
    Sin32 = sin32;
    Sin64 = sin64;
    Cos32 = cos32;
    Cos64 = cos64;
    Tan32 = tan32;
    Tan64 = tan64;
}

impl Helper {
    pub(super) fn position(self) -> usize {
        self as usize
    }

    pub(super) fn rare32(function: Rare) -> Helper {
        match function {
            Rare::Sin => Helper::Sin32,
            Rare::Cos => Helper::Cos32,
            Rare::Tan => Helper::Tan32,
        }
    }

    pub(super) fn rare64(function: Rare) -> Helper {
        match function {
            Rare::Sin => Helper::Sin64,
            Rare::Cos => Helper::Cos64,
            Rare::Tan => Helper::Tan64,
        }
    }
}

/// What kernels are handed: pointers to functions, one after the other.
#[repr(C)]
struct Table {
    helpers: [HelperFn; COUNT],
    wide: [WideFn; wide::COUNT],
    words: HelperFn,
    sort: HelperFn,
}

static TABLES: [Table; 3] = [
    Table::of(Width::Portable),
    Table::of(Width::Avx2),
    Table::of(Width::Avx512),
];

impl Table {
    const fn of(width: Width) -> Table {
        Table {
            helpers: HELPERS,
            wide: *width.functions(),
            words: match width {
                Width::Avx512 => words::full_width,
                Width::Portable | Width::Avx2 => words::portable,
            },
            sort: sort_row,
        }
    }
}

/// The table for this machine, in the form in which kernels are handed it.
pub fn table() -> *const *const u8 {
    let table = match Width::native() {
        Width::Portable => &TABLES[0],
        Width::Avx2 => &TABLES[1],
        Width::Avx512 => &TABLES[2],
    };
    std::ptr::from_ref(table).cast()
}

/// The place in the table of the function that draws random words.
pub(super) const WORDS: usize = COUNT + wide::COUNT;

/// The place in the table of the function that puts a row in order.
pub(super) const SORT: usize = WORDS + 1;

/// The place in the table of a function of strips.
pub(super) fn wide_position(function: Function, dtype: DType) -> Option<usize> {
    wide::position(function, dtype).map(|row| COUNT + row)
}

/// Applies `f` to the lanes of three operands.
///
/// # Safety
/// `block` points to three registers of `N` lanes each.
unsafe fn lanes<T: Copy, const N: usize>(block: *mut u8, f: impl Fn(T, T, T) -> T) {
    let block = block.cast::<[T; N]>();
    // SAFETY: the caller gives three registers; nothing is known of their alignment.
    let [a, b, c] = [0, 1, 2].map(|i| unsafe { block.add(i).read_unaligned() });
    let result: [T; N] = std::array::from_fn(|j| f(a[j], b[j], c[j]));
    // SAFETY: the first register is memory of the caller's.
    unsafe { block.write_unaligned(result) };
}

unsafe extern "C" fn fma32(block: *mut u8) {
    // SAFETY: emitted code passes its scratch block.
    unsafe { lanes::<f32, 4>(block, f32::mul_add) }
}

unsafe extern "C" fn fma64(block: *mut u8) {
    // SAFETY: emitted code passes its scratch block.
    unsafe { lanes::<f64, 2>(block, f64::mul_add) }
}

unsafe extern "C" fn rem32(block: *mut u8) {
    // SAFETY: emitted code passes its scratch block; the third register is not looked at.
    unsafe { lanes::<f32, 4>(block, |a, b, _| a % b) }
}

unsafe extern "C" fn rem64(block: *mut u8) {
    // SAFETY: emitted code passes its scratch block; the third register is not looked at.
    unsafe { lanes::<f64, 2>(block, |a, b, _| a % b) }
}

/// The usual result, but the exact one in the lanes of the mask.
///
/// # Safety
/// `block` points to the usual result, the operand and the mask.
unsafe fn rare32(block: *mut u8, function: Rare) {
    // SAFETY: as the caller promises.
    unsafe {
        lanes::<f32, 4>(block, |usual, x, mask| {
            if mask.to_bits() != 0 {
                function.f32(x)
            } else {
                usual
            }
        });
    }
}

/// [`rare32`] with 64-bit lanes.
///
/// # Safety
/// `block` points to the usual result, the operand and the mask.
unsafe fn rare64(block: *mut u8, function: Rare) {
    // SAFETY: as the caller promises.
    unsafe {
        lanes::<f64, 2>(block, |usual, x, mask| {
            if mask.to_bits() != 0 {
                function.f64(x)
            } else {
                usual
            }
        });
    }
}

unsafe extern "C" fn sin32(block: *mut u8) {
    // SAFETY: emitted code passes its scratch block.
    unsafe { rare32(block, Rare::Sin) }
}

unsafe extern "C" fn sin64(block: *mut u8) {
    // SAFETY: emitted code passes its scratch block.
    unsafe { rare64(block, Rare::Sin) }
}

unsafe extern "C" fn cos32(block: *mut u8) {
    // SAFETY: emitted code passes its scratch block.
    unsafe { rare32(block, Rare::Cos) }
}

unsafe extern "C" fn cos64(block: *mut u8) {
    // SAFETY: emitted code passes its scratch block.
    unsafe { rare64(block, Rare::Cos) }
}

unsafe extern "C" fn tan32(block: *mut u8) {
    // SAFETY: emitted code passes its scratch block.
    unsafe { rare32(block, Rare::Tan) }
}

unsafe extern "C" fn tan64(block: *mut u8) {
    // SAFETY: emitted code passes its scratch block.
    unsafe { rare64(block, Rare::Tan) }
}
