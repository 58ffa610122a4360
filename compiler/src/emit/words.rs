//! Random words in a row: what a full-width loop that draws them reads.
//!
//! A block of Philox4x32-10 needs products of 64 bits, so that a register of 512 bits holds a word of eight blocks, one in the lower half of
//! each 64-bit lane; what is in the upper halves does not matter. The blocks are dealt to the lanes so that, at the end, two shuffles within
//! the quarters of a register put all words into the order of memory.
//!
//! The bits are those of [`kiln_ir::philox`], which the form for other machines calls.

use kiln_ir::philox::philox4x32;

/// What is asked for.
#[repr(C)]
pub(super) struct Draw {
    /// Where the words go.
    target: *mut u32,
    /// The number of the first block.
    first: u64,
    /// How many blocks are needed.
    blocks: u64,
    key: [u32; 2],
    /// The upper words of the counter.
    counter: [u32; 2],
}

/// Where the parts of a [`Draw`] lie, in bytes.
pub(super) const TARGET: i32 = 0;
pub(super) const FIRST: i32 = 8;
pub(super) const BLOCKS: i32 = 16;
pub(super) const KEY: i32 = 24;
pub(super) const COUNTER: i32 = 32;
/// Blocks are drawn in whole multiples of this many; so much memory behind the last one may be written.
pub(super) const AT_ONCE: usize = 16;

/// The words of the blocks of a [`Draw`], four a block, in order.
///
/// # Safety
/// The argument points to a [`Draw`] whose target has room for its blocks, rounded up to a multiple of [`AT_ONCE`].
pub(super) unsafe extern "C" fn portable(draw: *mut u8) {
    // SAFETY: as the caller promises; nothing is known of the alignment.
    let draw = unsafe { draw.cast::<Draw>().read_unaligned() };
    let [c2, c3] = draw.counter;
    for block in 0..draw.blocks {
        let number = draw.first.wrapping_add(block);
        let words = philox4x32([number as u32, (number >> 32) as u32, c2, c3], draw.key);
        // SAFETY: the target has room for all blocks.
        unsafe {
            let target = draw.target.add(4 * block as usize);
            target.cast::<[u32; 4]>().write_unaligned(words);
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use avx512::words as full_width;
#[cfg(not(target_arch = "x86_64"))]
pub(super) use portable as full_width;

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{AT_ONCE, Draw};
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi64, _mm512_mask_blend_epi32, _mm512_mul_epu32, _mm512_set_epi64,
        _mm512_set1_epi32, _mm512_set1_epi64, _mm512_slli_epi64, _mm512_srli_epi64,
        _mm512_storeu_epi32, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi64,
        _mm512_unpacklo_epi64,
    };

    /// The multipliers and the increments of the keys, as in [`kiln_ir::philox`].
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    const ROUNDS: usize = 10;
    /// The truth table of an exclusive or of three.
    const XOR: i32 = 0x96;

    /// [`portable`](super::portable) with AVX-512.
    ///
    /// # Safety
    /// As there, and the machine has AVX-512 F.
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe extern "C" fn words(draw: *mut u8) {
        // SAFETY: as the caller promises; nothing is known of the alignment.
        let draw = unsafe { draw.cast::<Draw>().read_unaligned() };
        let same = |word: u32| _mm512_set1_epi32(word.cast_signed());
        let multipliers = MULTIPLIERS.map(same);
        let counter = draw.counter.map(same);
        let [mut k0, mut k1] = draw.key;
        let keys: [[__m512i; 2]; ROUNDS] = std::array::from_fn(|_| {
            let keys = [same(k0), same(k1)];
            k0 = k0.wrapping_add(WEYL[0]);
            k1 = k1.wrapping_add(WEYL[1]);
            keys
        });
        // Lane 0 of each quarter has a block of the first four, lane 1 one of the next.
        let numbers = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
        let eight = _mm512_set1_epi64(8);
        let mut at = 0;
        while at < draw.blocks {
            let first = draw.first.wrapping_add(at).cast_signed();
            let low = _mm512_add_epi64(_mm512_set1_epi64(first), numbers);
            let mut states = [low, _mm512_add_epi64(low, eight)]
                .map(|n| [n, _mm512_srli_epi64::<32>(n), counter[0], counter[1]]);
            for key in &keys {
                for state in &mut states {
                    let [c0, c1, c2, c3] = *state;
                    let p0 = _mm512_mul_epu32(c0, multipliers[0]);
                    let p1 = _mm512_mul_epu32(c2, multipliers[1]);
                    let (high0, high1) = (_mm512_srli_epi64::<32>(p0), _mm512_srli_epi64::<32>(p1));
                    *state = [
                        _mm512_ternarylogic_epi32::<XOR>(high1, c1, key[0]),
                        p1,
                        _mm512_ternarylogic_epi32::<XOR>(high0, c3, key[1]),
                        p0,
                    ];
                }
            }
            for (half, [c0, c1, c2, c3]) in states.into_iter().enumerate() {
                // The lower half of the one, and the lower half of the other above it.
                let pair =
                    |low, high| _mm512_mask_blend_epi32(0xAAAA, low, _mm512_slli_epi64::<32>(high));
                let (c01, c23) = (pair(c0, c1), pair(c2, c3));
                // SAFETY: the target has room for sixteen blocks from here.
                unsafe {
                    let target = draw.target.add(4 * at as usize + 32 * half).cast::<i32>();
                    _mm512_storeu_epi32(target, _mm512_unpacklo_epi64(c01, c23));
                    _mm512_storeu_epi32(target.add(16), _mm512_unpackhi_epi64(c01, c23));
                }
            }
            at += AT_ONCE as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::wide::Width;

    /// Blocks of any number, where the number needs more than 32 bits, and where it wraps.
    #[test]
    fn full_width_draws_the_same_words() {
        if Width::native() != Width::Avx512 {
            return;
        }
        for first in [0, 1, 3, u64::from(u32::MAX) - 5, u64::MAX - 7] {
            for blocks in [1_usize, 2, 8, 15, 16, 17, 40] {
                let room = 4 * blocks.next_multiple_of(AT_ONCE);
                let drawn = [portable, full_width].map(|draw| {
                    let mut words = vec![0_u32; room];
                    let mut asked = Draw {
                        target: words.as_mut_ptr(),
                        first,
                        blocks: blocks as u64,
                        key: [0x1234_5678, 0xffff_fff0],
                        counter: [7, 0x8000_0001],
                    };
                    // SAFETY: there is room for whole multiples of blocks, and the machine has AVX-512.
                    unsafe { draw(std::ptr::from_mut(&mut asked).cast()) };
                    words.truncate(4 * blocks);
                    words
                });
                assert_eq!(drawn[0], drawn[1], "{blocks} blocks from {first}");
            }
        }
    }
}
