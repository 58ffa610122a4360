//! Philox4x32-10 in four lanes: the bits of [`kiln_ir::philox`].
//!
//! Anywhere, each lane computes its own block and picks its word. Where the positions of an iteration are sixteen in a row, as those of a
//! tensor's elements are, four blocks serve all of them ([`Emitter::philox_in_a_row`]), which is a quarter of the work.

use super::EmitError;
use super::emitter::{Emitter, Trips, memory};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, Value};

/// The multipliers of the first and second pair of words (Salmon and others 2011).
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What is added to the key words from round to round.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;
/// The bytes of four blocks.
const FOUR_BLOCKS: i64 = 64;

impl Emitter<'_, '_> {
    /// The words at `position` (i64 lanes) of the stream of a key and an upper counter (u32 lanes).
    pub(super) fn philox(
        &mut self,
        key: [Value; 2],
        counter: [Value; 2],
        position: [Value; 2],
    ) -> Value {
        let block = position.map(|p| self.b.ins().ushr_imm_s(p, 2));
        let [c0, c1, c2, c3] = self.blocks(key, counter, block);
        let words = self.low_words(position[0], position[1]);
        let three = self.splat32(I32X4, 3);
        let word = self.b.ins().band(words, three);
        let mut picked = c3;
        for (number, candidate) in [(2, c2), (1, c1), (0, c0)] {
            let number = self.splat32(I32X4, number);
            let here = self.b.ins().icmp(IntCC::Equal, word, number);
            picked = self.choose(here, candidate, picked);
        }
        picked
    }

    /// The memory that holds the words at `first`, `first + 1`, ... to `first + 15`, of a key and counter that are the same in all lanes.
    ///
    /// Sixteen words lie in four blocks, or in five if the first one is not a block's first; then the next four blocks are computed too.
    pub(super) fn philox_in_a_row(
        &mut self,
        key: [Value; 2],
        counter: [Value; 2],
        first: Value,
    ) -> Result<Value, EmitError> {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 2 * FOUR_BLOCKS as u32, 4);
        let slot = self.b.create_sized_stack_slot(data);
        let words = self.b.ins().stack_addr(I64, slot, 0);
        let block = self.b.ins().ushr_imm_s(first, 2);
        let skipped = self.b.ins().band_imm_s(first, 3);
        let (one, two) = (self.int(FOUR_BLOCKS), self.int(2 * FOUR_BLOCKS));
        let bytes = self.b.ins().select(skipped, two, one);
        let zero = self.int(0);
        let numbers = [1_u128 << 64, 2 | 3_u128 << 64].map(|n| self.constant(I64X2, n));
        self.counted(
            [zero, bytes],
            FOUR_BLOCKS,
            Trips::AtLeastOne,
            Vec::new(),
            &mut |e, offset, _| {
                let further = e.b.ins().ushr_imm_s(offset, 4);
                let from = e.b.ins().iadd(block, further);
                let from = e.b.ins().splat(I64X2, from);
                let blocks = numbers.map(|n| e.b.ins().iadd(from, n));
                let [a, b, c, d] = e.blocks(key, counter, blocks);
                let to = e.b.ins().iadd(words, offset);
                // From a register for each word of four blocks to a register for each block.
                for (half, interleaved) in [[0, 4, 1, 5], [2, 6, 3, 7]].into_iter().enumerate() {
                    let ab = e.shuffle32(a, b, interleaved);
                    let cd = e.shuffle32(c, d, interleaved);
                    for (which, pair) in [[0, 1, 4, 5], [2, 3, 6, 7]].into_iter().enumerate() {
                        let block = e.shuffle32(ab, cd, pair);
                        e.b.ins()
                            .store(memory(), block, to, 16 * (2 * half + which) as i32);
                    }
                }
                Ok(Vec::new())
            },
        )?;
        let skipped = self.b.ins().ishl_imm_s(skipped, 2);
        Ok(self.b.ins().iadd(words, skipped))
    }

    /// The four words of four blocks, by the numbers of the blocks (i64 lanes).
    fn blocks(&mut self, key: [Value; 2], counter: [Value; 2], number: [Value; 2]) -> [Value; 4] {
        let [mut c0, mut c1] = [
            self.low_words(number[0], number[1]),
            self.high_words(number[0], number[1]),
        ];
        let [mut c2, mut c3] = counter;
        let [mut k0, mut k1] = key;
        let multipliers = MULTIPLIERS.map(|m| self.splat32(I32X4, m));
        let weyl = WEYL.map(|w| self.splat32(I32X4, w));
        for round in 0..ROUNDS {
            if round > 0 {
                k0 = self.b.ins().iadd(k0, weyl[0]);
                k1 = self.b.ins().iadd(k1, weyl[1]);
            }
            let (high0, low0) = self.product(c0, multipliers[0]);
            let (high1, low1) = self.product(c2, multipliers[1]);
            let a = self.b.ins().bxor(high1, c1);
            let b = self.b.ins().bxor(high0, c3);
            c0 = self.b.ins().bxor(a, k0);
            c1 = low1;
            c2 = self.b.ins().bxor(b, k1);
            c3 = low0;
        }
        [c0, c1, c2, c3]
    }

    /// The upper and lower halves of 32-bit products.
    fn product(&mut self, a: Value, b: Value) -> (Value, Value) {
        // Cranelift makes one widening multiplication of each of these.
        let (a_low, b_low) = (self.b.ins().uwiden_low(a), self.b.ins().uwiden_low(b));
        let low = self.b.ins().imul(a_low, b_low);
        let (a_high, b_high) = (self.b.ins().uwiden_high(a), self.b.ins().uwiden_high(b));
        let high = self.b.ins().imul(a_high, b_high);
        (self.high_words(low, high), self.low_words(low, high))
    }
}
