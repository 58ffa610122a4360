//! Philox4x32-10: the one source of random numbers in Kiln.
//!
//! Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011). A block of four
//! 32-bit words is a pure function of a 128-bit counter and a 64-bit key, so any element of any stream can be
//! computed on its own, by any thread, in any order, always with the same result. Parameter initialisers, data
//! shuffling, the interpreter and the op `rng_bits` all draw from here.
//!
//! This file keeps no state but a position inside a [`Stream`]. It refuses to read a clock or the system's
//! entropy, and it is not fit for cryptography.

/// The multiplier of the first pair of words (`PHILOX_M4x32_0` in Random123).
const MULTIPLIER_0: u32 = 0xD251_1F53;
/// The multiplier of the second pair of words (`PHILOX_M4x32_1`).
const MULTIPLIER_1: u32 = 0xCD9E_8D57;
/// The increment of the first key word: the golden ratio (`PHILOX_W32_0`).
const WEYL_0: u32 = 0x9E37_79B9;
/// The increment of the second key word: the square root of three, less one (`PHILOX_W32_1`).
const WEYL_1: u32 = 0xBB67_AE85;
/// The number of rounds that the paper recommends.
const ROUNDS: usize = 10;

/// One block of Philox4x32-10: four words that depend on nothing but `counter` and `key`.
///
/// The word order is Random123's: `counter[0]` and `key[0]` are the words that its known answers print first.
#[inline]
pub const fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    let mut round = 0;
    while round < ROUNDS {
        let product0 = MULTIPLIER_0 as u64 * c0 as u64;
        let product1 = MULTIPLIER_1 as u64 * c2 as u64;
        (c0, c1, c2, c3) = (
            (product1 >> 32) as u32 ^ c1 ^ k0,
            product1 as u32,
            (product0 >> 32) as u32 ^ c3 ^ k1,
            product0 as u32,
        );
        k0 = k0.wrapping_add(WEYL_0);
        k1 = k1.wrapping_add(WEYL_1);
        round += 1;
    }
    [c0, c1, c2, c3]
}

/// The 64-bit FNV-1a hash of `bytes` (Fowler, Noll, Vo): offset basis `0xcbf29ce484222325`, prime
/// `0x100000001b3`. It is part of the definition of every stream and will not change.
pub const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0000_0100_0000_01B3);
        index += 1;
    }
    hash
}

/// The 24-bit uniform number in `[0, 1)` that a word stands for: its upper 24 bits times 2^-24.
#[inline]
pub const fn unit_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// The 53-bit uniform number in `[0, 1)` that two words stand for: the upper 53 bits of
/// `high * 2^32 + low`, times 2^-53.
#[inline]
pub const fn unit_f64(low: u32, high: u32) -> f64 {
    let bits = (high as u64) << 32 | low as u64;
    (bits >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// The key of the stream named by a seed, a path and an ordinal.
///
/// It is the first two words of `philox4x32([h, h >> 32, o, o >> 32], [s, s >> 32])`, where `h` is
/// [`fnv1a`] of the path's UTF-8 bytes, `o` the ordinal, `s` the seed, and each word the low 32 bits of what is
/// written. The seed is a key and the path a counter, so a seed and a path cannot cancel one another.
pub const fn stream_key(seed: u64, path: &str, ordinal: u64) -> [u32; 2] {
    let (hash_low, hash_high) = halves(fnv1a(path.as_bytes()));
    let (ordinal_low, ordinal_high) = halves(ordinal);
    let (seed_low, seed_high) = halves(seed);
    let block = philox4x32(
        [hash_low, hash_high, ordinal_low, ordinal_high],
        [seed_low, seed_high],
    );
    [block[0], block[1]]
}

/// A named sequence of 2^66 random words.
///
/// Word `i` is word `i mod 4` of the block with counter `(i/4, i/4 >> 32, c2, c3)` under the key of
/// [`stream_key`]; `c2` and `c3` are 0 unless [`Stream::at`] sets them. The methods that take an index are pure
/// and define one tensor element each, whatever was drawn before; [`Stream::next_u32`] and what is built on it
/// ([`Stream::below`], [`Stream::shuffle`]) move a cursor over the same words, beginning at word 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    high: [u32; 2],
    position: u64,
}

impl Stream {
    /// The stream of `seed`, `path` (a parameter's name, a scope) and `ordinal` (which of the streams of that
    /// path), as [`stream_key`] defines it.
    pub const fn new(seed: u64, path: &str, ordinal: u64) -> Stream {
        Stream {
            key: stream_key(seed, path, ordinal),
            high: [0, 0],
            position: 0,
        }
    }

    /// The same key with the upper counter words `c2` and `c3` (an epoch, a step, a scan iteration) and the
    /// cursor at word 0: as many independent streams as there are pairs.
    pub const fn at(&self, c2: u32, c3: u32) -> Stream {
        Stream {
            key: self.key,
            high: [c2, c3],
            position: 0,
        }
    }

    /// The key of the stream's blocks.
    pub const fn key(&self) -> [u32; 2] {
        self.key
    }

    /// The four words `4 * index .. 4 * index + 4`.
    #[inline]
    pub const fn block(&self, index: u64) -> [u32; 4] {
        let (low, high) = halves(index);
        philox4x32([low, high, self.high[0], self.high[1]], self.key)
    }

    /// Word `index`.
    #[inline]
    pub const fn word(&self, index: u64) -> u32 {
        self.block(index / 4)[(index % 4) as usize]
    }

    /// Element `index` of the f32 uniform sequence over `[0, 1)`: [`unit_f32`] of word `index`.
    #[inline]
    pub const fn uniform_f32(&self, index: u64) -> f32 {
        unit_f32(self.word(index))
    }

    /// Element `index` of the f64 uniform sequence over `[0, 1)`: [`unit_f64`] of the words `2 * index` and
    /// `2 * index + 1`, both of block `index / 2`.
    #[inline]
    pub const fn uniform_f64(&self, index: u64) -> f64 {
        self.uniform_pair(index / 2)[(index % 2) as usize]
    }

    /// Element `index` of the standard normal sequence, by Box and Muller (1958).
    ///
    /// With the block `w` at `index / 2`, `u = 1 - unit_f64(w[0], w[1])` in `(0, 1]` and
    /// `v = unit_f64(w[2], w[3])`, the elements are `sqrt(-2 ln u) cos(2 pi v)` at even and
    /// `sqrt(-2 ln u) sin(2 pi v)` at odd indices. All of it is f64 through the `libm` crate, so it does not
    /// depend on the platform's mathematical library. A value never exceeds 8.6 in magnitude.
    pub fn normal(&self, index: u64) -> f64 {
        self.normal_pair(index / 2)[(index % 2) as usize]
    }

    /// Elements `2 * pair` and `2 * pair + 1` of the standard normal sequence, for the price of one: they share a block,
    /// a logarithm and a square root.
    pub fn normal_pair(&self, pair: u64) -> [f64; 2] {
        let block = self.block(pair);
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit_f64(block[0], block[1])));
        let angle = core::f64::consts::TAU * unit_f64(block[2], block[3]);
        [radius * libm::cos(angle), radius * libm::sin(angle)]
    }

    /// Elements `2 * pair` and `2 * pair + 1` of the f64 uniform sequence, which share a block.
    #[inline]
    pub const fn uniform_pair(&self, pair: u64) -> [f64; 2] {
        let block = self.block(pair);
        [unit_f64(block[0], block[1]), unit_f64(block[2], block[3])]
    }

    /// The word under the cursor; the cursor moves on by one.
    #[inline]
    pub const fn next_u32(&mut self) -> u32 {
        let word = self.word(self.position);
        self.position = self.position.wrapping_add(1);
        word
    }

    /// The next two words, the first being the lower half.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        let low = self.next_u32() as u64;
        low | (self.next_u32() as u64) << 32
    }

    /// A number below `bound`, every one equally likely; 0 where `bound` is 0.
    ///
    /// The upper half of the 128-bit product of [`Stream::next_u64`] and `bound`, drawn again while the lower half is
    /// below `2^64 mod bound` (Lemire, "Fast Random Integer Generation in an Interval", 2019). A bound of 0 or 1
    /// consumes nothing.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound <= 1 {
            return 0;
        }
        let rejected = bound.wrapping_neg() % bound;
        loop {
            let product = self.next_u64() as u128 * bound as u128;
            if product as u64 >= rejected {
                return (product >> 64) as u64;
            }
        }
    }

    /// Puts `items` in a random order, every order equally likely: Fisher and Yates, from the last item down,
    /// item `i` changing places with item `below(i + 1)`.
    pub const fn shuffle<T>(&mut self, items: &mut [T]) {
        let mut index = items.len();
        while index > 1 {
            let other = self.below(index as u64) as usize;
            index -= 1;
            items.swap(index, other);
        }
    }
}

/// The lower and the upper 32 bits.
const fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three lines `philox4x32 10` of `kat_vectors` in the Random123 distribution.
    #[test]
    fn known_answers_of_random123() {
        let zeros = philox4x32([0; 4], [0; 2]);
        assert_eq!(zeros, [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
        let ones = philox4x32([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
        let pi = philox4x32(
            [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344],
            [0xA409_3822, 0x299F_31D0],
        );
        assert_eq!(pi, [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]);
    }

    #[test]
    fn known_answers_of_fnv1a() {
        assert_eq!(fnv1a(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_F739_67E8);
    }

    /// The definition of a stream is a promise to saved runs: these words may not change.
    #[test]
    fn stream_is_its_documented_definition() {
        let hash = fnv1a(b"encoder/fc1");
        let block = philox4x32([hash as u32, (hash >> 32) as u32, 3, 0], [42, 1]);
        let stream = Stream::new((1 << 32) + 42, "encoder/fc1", 3);
        assert_eq!(stream.key(), [block[0], block[1]]);
        let far = (5_u64 << 32) + 7;
        let high = stream.at(11, 12);
        for lane in 0..4 {
            let expected = philox4x32([7, 5, 11, 12], stream.key())[lane as usize];
            assert_eq!(high.word(4 * far + lane), expected);
        }
        let mut cursor = stream.clone();
        let drawn: Vec<u32> = (0..9).map(|_| cursor.next_u32()).collect();
        let indexed: Vec<u32> = (0..9).map(|index| stream.word(index)).collect();
        assert_eq!(drawn, indexed);
    }

    #[test]
    fn seed_path_and_ordinal_each_change_the_stream() {
        let base = Stream::new(1, "b", 0);
        for other in [
            Stream::new(0, "c", 0),
            Stream::new(1, "b", 1),
            Stream::new(1, "a", 0),
            base.at(1, 0),
        ] {
            assert_ne!(base.block(0), other.block(0));
        }
    }

    #[test]
    fn unit_numbers_stay_below_one() {
        assert_eq!(unit_f32(0), 0.0);
        assert_eq!(unit_f32(u32::MAX), 1.0 - f32::EPSILON / 2.0);
        assert_eq!(unit_f64(0, 0), 0.0);
        assert_eq!(unit_f64(u32::MAX, u32::MAX), 1.0 - f64::EPSILON / 2.0);
    }

    /// Mean and variance within five standard errors, and the fraction beyond 1.96 sigma as it should be.
    #[test]
    fn moments_of_uniform_and_normal() {
        let stream = Stream::new(7, "moments", 0);
        let count = 100_000;
        let tolerance = 5.0 / (count as f64).sqrt();
        let mean = |f: &dyn Fn(u64) -> f64| (0..count).map(f).sum::<f64>() / count as f64;
        assert!((mean(&|i| f64::from(stream.uniform_f32(i))) - 0.5).abs() < tolerance * 0.29);
        assert!((mean(&|i| stream.uniform_f64(i)) - 0.5).abs() < tolerance * 0.29);
        assert!((mean(&|i| stream.uniform_f64(i).powi(2)) - 1.0 / 3.0).abs() < tolerance * 0.3);
        assert!(mean(&|i| stream.normal(i)).abs() < tolerance);
        assert!((mean(&|i| stream.normal(i).powi(2)) - 1.0).abs() < tolerance * 1.42);
        let pairs = mean(&|i| stream.normal(2 * i) * stream.normal(2 * i + 1));
        assert!(
            pairs.abs() < tolerance,
            "the two halves of a pair are correlated: {pairs}"
        );
        let outside = mean(&|i| f64::from(u8::from(stream.normal(i).abs() > 1.959_963_985)));
        assert!((outside - 0.05).abs() < tolerance * 0.22);
    }

    /// Chi-squared of 6 cells at 60,000 draws; 5 degrees of freedom exceed 30 once in 10^5 seeds.
    #[test]
    fn below_is_even_and_in_range() {
        let mut stream = Stream::new(3, "below", 0);
        let mut cells = [0_i64; 6];
        for _ in 0..60_000 {
            cells[stream.below(6) as usize] += 1;
        }
        let chi: f64 = cells
            .iter()
            .map(|&c| (c - 10_000).pow(2) as f64 / 10_000.0)
            .sum();
        assert!(chi < 30.0, "{cells:?}");
        let before = stream.clone();
        assert_eq!((stream.below(0), stream.below(1)), (0, 0));
        assert_eq!(stream, before);
        // 2^64 is four thirds of this bound: without the rejection half of the numbers would be multiples of three.
        let bound = 3 << 62;
        let multiples = (0..30_000)
            .filter(|_| stream.below(bound).is_multiple_of(3))
            .count();
        assert!((9_500..10_500).contains(&multiples), "{multiples}");
        assert!((0..1000).all(|_| stream.below(bound) < bound));
    }

    #[test]
    fn shuffle_reaches_every_order_evenly() {
        let mut stream = Stream::new(9, "shuffle", 0);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            stream.shuffle(&mut items);
            *seen.entry(items).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 24);
        assert!(
            seen.values().all(|count| (830..1170).contains(count)),
            "{seen:?}"
        );
    }
}
