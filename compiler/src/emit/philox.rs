//! Philox4x32-10 in four lanes, each of which computes its own block and picks its word: the bits of [`kiln_ir::philox`].

use super::emitter::Emitter;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I32X4;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The multipliers of the first and second pair of words (Salmon and others 2011).
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What is added to the key words from round to round.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

impl Emitter<'_, '_> {
    /// The words at `position` (i64 lanes) of the stream of a key and an upper counter (u32 lanes).
    pub(super) fn philox(
        &mut self,
        key: [Value; 2],
        counter: [Value; 2],
        position: [Value; 2],
    ) -> Value {
        let block = position.map(|p| self.b.ins().ushr_imm_s(p, 2));
        let [mut c0, mut c1] = [
            self.low_words(block[0], block[1]),
            self.high_words(block[0], block[1]),
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
