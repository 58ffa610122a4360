//! Recipes over memory at the full width of the machine: what kernels call for a strip of elements in L1.
//!
//! Cranelift emits 128-bit vectors only. A recipe that costs dozens of instructions an element is bound by that width, so kernels hand
//! strips of operands to a [`WideFn`], which runs the very recipe on registers of 512 or 256 bits: lane by lane the same operations, hence
//! the same bits as the inlined polynomial. The portable form runs it on one lane; it is there so that a kernel with strips is right on
//! any machine, but not a reason to make one ([`Width::is_full`]).
//!
//! The functions of one width are in the order of [`ROWS`]. They read and write nothing but the elements they are given.

use super::Machine;
use crate::kernel::Function;
use kiln_ir::DType;
use kiln_ir::ops::{Binary, Unary};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

/// `target[i] = f(first[i], second[i])` for `count` elements of the function's type; a function of one operand ignores `second`.
///
/// # Safety
/// The pointers are of `count` elements each, aligned to their size. The target may be one of the operands, but not overlap it otherwise.
/// The machine has the instructions of the function's [`Width`].
pub type WideFn =
    unsafe extern "C" fn(target: *mut u8, first: *const u8, second: *const u8, count: usize);

/// A set of instructions that strips are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One lane, on any machine.
    Portable,
    /// 256 bits: AVX2 and FMA.
    Avx2,
    /// 512 bits: AVX-512 F, DQ, BW and VL.
    Avx512,
}

impl Width {
    /// The widest that this machine has.
    pub fn native() -> Width {
        #[cfg(target_arch = "x86_64")]
        {
            let all = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            if all {
                return Width::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Width::Avx2;
            }
        }
        Width::Portable
    }

    /// Those that this machine can run, narrowest first.
    pub fn available() -> Vec<Width> {
        let all = [Width::Portable, Width::Avx2, Width::Avx512];
        let native = all.iter().position(|w| *w == Width::native());
        all[..=native.unwrap_or(0)].to_vec()
    }

    /// Whether it is wider than what kernels do in line.
    pub fn is_full(self) -> bool {
        match self {
            Width::Portable => false,
            Width::Avx2 | Width::Avx512 => true,
        }
    }

    /// The functions, in the order of [`ROWS`].
    pub const fn functions(self) -> &'static [WideFn; COUNT] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 => &avx512::FUNCTIONS,
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => &avx2::FUNCTIONS,
            #[cfg(not(target_arch = "x86_64"))]
            Width::Avx512 | Width::Avx2 => &portable::FUNCTIONS,
            Width::Portable => &portable::FUNCTIONS,
        }
    }
}

/// The place of a function in [`ROWS`]; `None` for what is no recipe, or as short as a call.
pub fn position(function: Function, dtype: DType) -> Option<usize> {
    ROWS.iter().position(|row| *row == (function, dtype))
}

/// Hands the rows to a macro: name, op, element type, operands, machine, recipe. A row's place is part of the format of compiled code.
macro_rules! rows {
    ($callback:ident! $($argument:tt)*) => {
        $callback! { $($argument)*
            exp_32 = Unary Exp F32 unary Narrow exp::exp_f32;
            expm1_32 = Unary Expm1 F32 unary Narrow exp::expm1_f32;
            log_32 = Unary Log F32 unary Narrow log::log_f32;
            log1p_32 = Unary Log1p F32 unary Narrow log::log1p_f32;
            sin_32 = Unary Sin F32 unary Narrow trig::sin_f32;
            cos_32 = Unary Cos F32 unary Narrow trig::cos_f32;
            tan_32 = Unary Tan F32 unary Narrow trig::tan_f32;
            tanh_32 = Unary Tanh F32 unary Narrow exp::tanh_f32;
            logistic_32 = Unary Logistic F32 unary Narrow exp::logistic_f32;
            erf_32 = Unary Erf F32 unary Narrow erf::erf_f32;
            erfc_32 = Unary Erfc F32 unary Narrow erfc::erfc_f32;
            pow_32 = Binary Pow F32 binary Narrow pow::pow_f32;
            atan2_32 = Binary Atan2 F32 binary Narrow root::atan2_f32;
            exp_64 = Unary Exp F64 unary Wide exp64::exp_f64;
            expm1_64 = Unary Expm1 F64 unary Wide exp64::expm1_f64;
            log_64 = Unary Log F64 unary Wide log64::log_f64;
            log1p_64 = Unary Log1p F64 unary Wide log64::log1p_f64;
            sin_64 = Unary Sin F64 unary Wide trig64::sin_f64;
            cos_64 = Unary Cos F64 unary Wide trig64::cos_f64;
            tan_64 = Unary Tan F64 unary Wide trig64::tan_f64;
            tanh_64 = Unary Tanh F64 unary Wide exp64::tanh_f64;
            logistic_64 = Unary Logistic F64 unary Wide exp64::logistic_f64;
            erf_64 = Unary Erf F64 unary Wide erf64::erf_f64;
            erfc_64 = Unary Erfc F64 unary Wide erf64::erfc_f64;
            pow_64 = Binary Pow F64 binary Wide pow64::pow_f64;
            atan2_64 = Binary Atan2 F64 binary Wide root::atan2_f64;
        }
    };
}

macro_rules! row_table {
    ($($name:ident = $kind:ident $op:ident $dtype:ident $arity:ident $machine:ident $recipe:path;)+) => {
        /// The number of functions.
        pub const COUNT: usize = [$(DType::$dtype),+].len();

        /// The functions and their element types.
        pub static ROWS: [(Function, DType); COUNT] =
            [$((Function::$kind($kind::$op), DType::$dtype)),+];
    };
}
rows!(row_table!);

/// The functions of a width, each compiled with an attribute; `Narrow` and `Wide` are its machines for f32 and f64.
///
/// The loop is a macro rather than a function that is given the recipe, since a closure in between would be compiled on its own, for the
/// instructions that every machine has. The elements behind the last whole register go through blocks of their own, so that no lane is
/// outside of the caller's memory.
macro_rules! functions {
    ($attribute:meta; $($name:ident = $kind:ident $op:ident $dtype:ident $arity:ident $machine:ident $recipe:path;)+) => {
        $(
            #[$attribute]
            unsafe extern "C" fn $name(
                target: *mut u8,
                first: *const u8,
                second: *const u8,
                count: usize,
            ) {
                type Scalar = <$machine as Machine>::Scalar;
                const LANES: usize = <$machine as Vector>::LANES;
                let machine = &mut <$machine>::default();
                let mut blocks = [[Scalar::default(); LANES]; 2];
                let mut at = 0;
                while at < count {
                    let left = count - at;
                    // SAFETY: the caller's memory has `left` elements from `at` on, and a block has room for all lanes.
                    unsafe {
                        let all = [first, second, target.cast_const()];
                        let mut places = all.map(|p| p.cast::<Scalar>().add(at));
                        if left < LANES {
                            functions!(@stage $arity places, blocks, left);
                        }
                        let result = functions!(@call $arity $recipe, machine, places);
                        machine.store(places[2].cast_mut(), result);
                        if left < LANES {
                            let to = target.cast::<Scalar>().add(at);
                            std::ptr::copy_nonoverlapping(places[2], to, left);
                        }
                    }
                    at += LANES;
                }
            }
        )+

        pub(super) static FUNCTIONS: [WideFn; COUNT] = [$($name),+];
    };
    (@stage unary $places:ident, $blocks:ident, $left:ident) => {
        $places[0] = staged($places[0], &mut $blocks[0], $left);
        $places[2] = $places[0];
    };
    (@stage binary $places:ident, $blocks:ident, $left:ident) => {
        $places[0] = staged($places[0], &mut $blocks[0], $left);
        $places[1] = staged($places[1], &mut $blocks[1], $left);
        $places[2] = $places[0];
    };
    (@call unary $recipe:path, $machine:ident, $places:ident) => {{
        let x = $machine.load($places[0]);
        $recipe($machine, x)
    }};
    (@call binary $recipe:path, $machine:ident, $places:ident) => {{
        let x = $machine.load($places[0]);
        let y = $machine.load($places[1]);
        $recipe($machine, x, y)
    }};
}

use {functions, rows};

/// A machine whose lanes are loaded from memory and stored there.
trait Vector: Machine<Scalar: Default> + Default {
    /// The number of lanes, 64 at most.
    const LANES: usize;

    /// # Safety
    /// `from` points to as many elements as there are lanes.
    unsafe fn load(&mut self, from: *const Self::Scalar) -> Self::F;

    /// # Safety
    /// `to` points to as many elements as there are lanes.
    unsafe fn store(&mut self, to: *mut Self::Scalar, lanes: Self::F);
}

/// Copies elements to a block, whose other lanes stay as they are, and says where it is.
///
/// # Safety
/// `from` points to `count` elements, `N` at most.
#[inline(always)]
unsafe fn staged<T: Copy, const N: usize>(
    from: *const T,
    block: &mut [T; N],
    count: usize,
) -> *const T {
    let to = block.as_mut_ptr();
    // SAFETY: as the caller promises; the block is on the stack.
    unsafe { std::ptr::copy_nonoverlapping(from, to, count) };
    to.cast_const()
}

/// The masks of several registers as one, that of the first in the lowest bits.
fn joined<const N: usize>(masks: [u64; N], lanes: usize) -> u64 {
    let shifted = masks.iter().enumerate().map(|(i, m)| m << (i * lanes));
    shifted.fold(0, |all, mask| all | mask)
}

/// The exact results of a function in the lanes of a mask, bit `i` for lane `i`.
#[cold]
#[inline(never)]
fn exact<T: Copy, const N: usize>(
    mask: u64,
    results: &mut [T; N],
    operands: &[T; N],
    function: impl Fn(T) -> T,
) {
    for (lane, (result, x)) in results.iter_mut().zip(operands).enumerate() {
        if mask >> lane & 1 != 0 {
            *result = function(*x);
        }
    }
}
