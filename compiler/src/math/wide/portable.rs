//! Strips on one lane, for machines without full-width functions.

use super::super::{Host32 as Narrow, Host64 as Wide, Machine};
use super::super::{erf, erf64, erfc, exp, exp64, log, log64, pow, pow64, root, trig, trig64};
use super::{COUNT, Vector, WideFn, functions, rows, staged};

rows!(functions! inline(never););

impl Vector for Narrow {
    const LANES: usize = 1;

    #[inline(always)]
    fn fetch(&mut self, _line: *const u8) {}

    #[inline(always)]
    unsafe fn load(&mut self, from: *const f32) -> f32 {
        // SAFETY: as the caller promises.
        unsafe { from.read() }
    }

    #[inline(always)]
    unsafe fn store(&mut self, to: *mut f32, lanes: f32) {
        // SAFETY: as the caller promises.
        unsafe { to.write(lanes) }
    }
}

impl Vector for Wide {
    const LANES: usize = 1;

    #[inline(always)]
    fn fetch(&mut self, _line: *const u8) {}

    #[inline(always)]
    unsafe fn load(&mut self, from: *const f64) -> f64 {
        // SAFETY: as the caller promises.
        unsafe { from.read() }
    }

    #[inline(always)]
    unsafe fn store(&mut self, to: *mut f64, lanes: f64) {
        // SAFETY: as the caller promises.
        unsafe { to.write(lanes) }
    }
}
