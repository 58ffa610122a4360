//! The micro-kernels and walks of convolutions, instantiated for each instruction set in functions that enable its features.

use super::method::Walks;
use super::tiles::{
    GroupsFn, GroupsTile, LinesFn, LinesTile, RowsFn, RowsTile, SETS, Tiles, WindowFn, WindowTile,
    across, group_lines, groups, lines, rows, straight,
};
use super::{depthwise, direct, lines as by_lines};
use crate::product::Isa;
#[cfg(target_arch = "aarch64")]
use crate::product::neon::{NeonF32, NeonF64};
use crate::product::portable::{PortableF32, PortableF64};
use crate::product::simd::Simd;
#[cfg(target_arch = "x86_64")]
use crate::product::{
    avx2::{Avx2F32, Avx2F64},
    avx512::{Avx512F32, Avx512F64},
};

/// A table of tiles: for each width, the function for each number of rows from 1 on.
macro_rules! table {
    ($pick:ident, $most:ident, $tile:ident: $function:ident, $($vectors:literal [$($rows:literal)*])*) => {
        fn $pick(rows: usize, vectors: usize) -> $function<Self::Element> {
            match vectors {
                $($vectors => {
                    let table = const { &[$(Self::$tile::<$rows, $vectors> as $function<Self::Element>),*] };
                    table[rows.clamp(1, table.len()) - 1]
                })*
                _ => Self::$pick(rows, 1),
            }
        }

        fn $most(vectors: usize) -> usize {
            match vectors {
                $($vectors => const { [$($rows),*].len() },)*
                _ => 0,
            }
        }
    };
}

/// The rows of tiles whose lanes are groups: as many sums as keep two units busy, which every instruction set has registers for.
const GROUPS: usize = 8;

/// The tiles of 1 to [`GROUPS`] rows.
macro_rules! by_rows {
    ($set:ident::$tile:ident $function:ty) => {
        [
            $set::$tile::<1> as $function,
            $set::$tile::<2>,
            $set::$tile::<3>,
            $set::$tile::<4>,
            $set::$tile::<5>,
            $set::$tile::<6>,
            $set::$tile::<7>,
            $set::$tile::<8>,
        ]
    };
}

macro_rules! instruction_set {
    ($simd:ident, [$($feature:literal)?], straight $straight:tt, across $across:tt, lines $lines:tt, sets $sets:tt) => {
        impl $simd {
            /// # Safety
            /// As [`straight`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn straight_tile<const ROWS: usize, const VECTORS: usize>(
                t: &WindowTile<<$simd as Simd>::Element>,
            ) {
                // SAFETY: the caller's promise is passed on; the features are enabled here.
                unsafe { straight::<$simd, ROWS, VECTORS>(t) }
            }

            /// # Safety
            /// As [`across`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn across_tile<const ROWS: usize, const VECTORS: usize>(
                t: &WindowTile<<$simd as Simd>::Element>,
            ) {
                // SAFETY: as above.
                unsafe { across::<$simd, ROWS, VECTORS>(t) }
            }

            /// # Safety
            /// As [`lines`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn lines_tile<const ROWS: usize, const VECTORS: usize>(
                t: &LinesTile<<$simd as Simd>::Element>,
            ) {
                // SAFETY: as above.
                unsafe { lines::<$simd, 1, ROWS, VECTORS>(t) }
            }

            /// # Safety
            /// As [`lines`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn sets_tile<const ROWS: usize, const VECTORS: usize>(
                t: &LinesTile<<$simd as Simd>::Element>,
            ) {
                // SAFETY: as above.
                unsafe { lines::<$simd, SETS, ROWS, VECTORS>(t) }
            }

            /// # Safety
            /// As [`groups`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn groups_tile<const ROWS: usize>(t: &GroupsTile<<$simd as Simd>::Element>) {
                // SAFETY: as above.
                unsafe { groups::<$simd, ROWS>(t) }
            }

            /// # Safety
            /// As [`rows`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn rows_tile<const OUTPUTS: usize, const TAPS: usize, const STRIDE: usize>(
                t: &RowsTile<<$simd as Simd>::Element>,
            ) {
                // SAFETY: as above.
                unsafe { rows::<$simd, OUTPUTS, TAPS, STRIDE>(t) }
            }

            /// # Safety
            /// As [`group_lines`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn group_lines_tile<const ROWS: usize>(
                t: &LinesTile<<$simd as Simd>::Element>,
            ) {
                // SAFETY: as above.
                unsafe { group_lines::<$simd, ROWS>(t) }
            }

            /// # Safety
            /// As [`depthwise::units`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn depthwise_units(
                plan: &depthwise::Depthwise,
                work: &depthwise::Work,
                done: &mut dyn FnMut(std::ops::Range<usize>),
            ) {
                // SAFETY: as above.
                unsafe { depthwise::units::<$simd>(plan, work, done) }
            }

            /// # Safety
            /// As [`direct::units`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn direct_units(
                plan: &direct::Direct,
                work: &direct::Work,
                done: &mut dyn FnMut(std::ops::Range<usize>),
            ) {
                // SAFETY: as above.
                unsafe { direct::units::<$simd>(plan, work, done) }
            }

            /// # Safety
            /// As [`by_lines::sums`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn lines_sums(plan: &by_lines::Lines, work: &by_lines::Work<'_>) {
                // SAFETY: as above.
                unsafe { by_lines::sums::<$simd>(plan, work) }
            }

            /// # Safety
            /// As [`by_lines::combine`].
            $(#[target_feature(enable = $feature)])?
            unsafe fn lines_combine(
                plan: &by_lines::Lines,
                work: &by_lines::Work<'_>,
                done: &mut dyn FnMut(std::ops::Range<usize>),
            ) {
                // SAFETY: as above.
                unsafe { by_lines::combine::<$simd>(plan, work, done) }
            }

            const WALKS: Walks = Walks {
                plan_direct: direct::Direct::new::<$simd>,
                direct: Self::direct_units,
                plan_depthwise: depthwise::Depthwise::new::<$simd>,
                depthwise: Self::depthwise_units,
                plan_lines: by_lines::Lines::new::<$simd>,
                sums: Self::lines_sums,
                combine: Self::lines_combine,
            };
        }

        impl Tiles for $simd {
            instruction_set!(@table straight most_straight straight_tile WindowFn $straight);
            instruction_set!(@table across most_across across_tile WindowFn $across);
            instruction_set!(@table lines most_lines lines_tile LinesFn $lines);
            instruction_set!(@table sets most_sets sets_tile LinesFn $sets);

            const MOST_GROUPS: usize = GROUPS;

            fn groups(rows: usize) -> GroupsFn<Self::Element> {
                let table = const { by_rows!(Self::groups_tile GroupsFn<Self::Element>) };
                table[rows.clamp(1, GROUPS) - 1]
            }

            fn rows(
                outputs: usize,
                taps: usize,
                stride: usize,
                dilation: usize,
            ) -> RowsFn<Self::Element> {
                match (outputs, taps, stride, dilation) {
                    (8, 3, 1, 1) => Self::rows_tile::<8, 3, 1>,
                    (8, 3, 2, 1) => Self::rows_tile::<8, 3, 2>,
                    (8, 5, 1, 1) => Self::rows_tile::<8, 5, 1>,
                    (8, 5, 2, 1) => Self::rows_tile::<8, 5, 2>,
                    (4, 3, 1, 1) => Self::rows_tile::<4, 3, 1>,
                    (4, 3, 2, 1) => Self::rows_tile::<4, 3, 2>,
                    (4, 5, 1, 1) => Self::rows_tile::<4, 5, 1>,
                    (4, 5, 2, 1) => Self::rows_tile::<4, 5, 2>,
                    (8, ..) => Self::rows_tile::<8, 0, 0>,
                    (4, ..) => Self::rows_tile::<4, 0, 0>,
                    _ => Self::rows_tile::<1, 0, 0>,
                }
            }

            fn group_lines(rows: usize) -> LinesFn<Self::Element> {
                let table = const { by_rows!(Self::group_lines_tile LinesFn<Self::Element>) };
                table[rows.clamp(1, GROUPS) - 1]
            }
        }
    };
    (@table $pick:ident $most:ident $tile:ident $function:ident {$($row:tt)*}) => {
        table!($pick, $most, $tile: $function, $($row)*);
    };
}

#[cfg(target_arch = "x86_64")]
macro_rules! avx512 {
    ($simd:ident) => {
        instruction_set!(
            $simd, ["avx512f,avx2,fma"],
            straight {
                1 [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28]
                2 [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
                4 [1 2 3 4 5 6]
                8 [1 2 3]
            },
            across {
                1 [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16]
                2 [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
                4 [1 2 3 4 5 6]
                8 [1 2 3]
            },
            lines {
                1 [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28]
                2 [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
                4 [1 2 3 4 5 6]
            },
            sets { 1 [1 2 3 4 5 6 7 8 9] 2 [1 2 3 4] 4 [1 2] }
        );
    };
}

#[cfg(target_arch = "x86_64")]
macro_rules! avx2 {
    ($simd:ident) => {
        instruction_set!(
            $simd, ["avx2,fma"],
            straight { 1 [1 2 3 4 5 6 7 8 9 10 11 12] 2 [1 2 3 4 5 6] 4 [1 2] },
            across { 1 [1 2 3 4 5 6 7 8] 2 [1 2 3 4 5 6] 4 [1 2] },
            lines { 1 [1 2 3 4 5 6 7 8 9 10 11 12] 2 [1 2 3 4 5 6] 4 [1 2] },
            sets { 1 [1 2 3 4] 2 [1 2] }
        );
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! neon {
    ($simd:ident) => {
        instruction_set!(
            $simd, [],
            straight { 1 [1 2 3 4 5 6 7 8] 2 [1 2 3 4 5 6 7 8] 4 [1 2 3 4 5 6] },
            across { 1 [1 2 3 4] 2 [1 2 3 4] 4 [1 2 3 4] },
            lines { 1 [1 2 3 4 5 6 7 8] 2 [1 2 3 4 5 6 7 8] 4 [1 2 3 4 5 6] },
            sets { 1 [1 2 3 4 5 6 7 8] 2 [1 2 3 4] 4 [1 2] }
        );
    };
}

macro_rules! portable {
    ($simd:ident) => {
        instruction_set!(
            $simd, [],
            straight { 1 [1 2 3 4] },
            across { 1 [1 2 3 4] },
            lines { 1 [1 2 3 4] },
            sets { 1 [1] }
        );
    };
}

#[cfg(target_arch = "x86_64")]
avx512!(Avx512F32);
#[cfg(target_arch = "x86_64")]
avx512!(Avx512F64);
#[cfg(target_arch = "x86_64")]
avx2!(Avx2F32);
#[cfg(target_arch = "x86_64")]
avx2!(Avx2F64);
#[cfg(target_arch = "aarch64")]
neon!(NeonF32);
#[cfg(target_arch = "aarch64")]
neon!(NeonF64);
portable!(PortableF32);
portable!(PortableF64);

/// The walks of an instruction set, for f32 (`single`) or f64.
pub(super) fn walks(isa: Isa, single: bool) -> Walks {
    match (isa, single) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, true) => Avx512F32::WALKS,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, false) => Avx512F64::WALKS,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, true) => Avx2F32::WALKS,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, false) => Avx2F64::WALKS,
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, true) => NeonF32::WALKS,
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, false) => NeonF64::WALKS,
        (Isa::Portable, true) => PortableF32::WALKS,
        (Isa::Portable, false) => PortableF64::WALKS,
    }
}
