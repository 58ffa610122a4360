//! How an [`Init`] is drawn: the one definition, for the runtime that fills its buffers and for whoever runs the interpreter, so that both
//! start from the same bits.
//!
//! A [`Sampler`] knows no element types: a value is an f64, which becomes one of the slot's type as by `convert`. [`Init::draw`] does so for
//! the interpreter; the runtime, which fills memory on many threads, does it element by element.

use crate::array::{Array, EvalError, Values};
use crate::dtype::DType;
use crate::init::Init;
use crate::ops::saturate;
use crate::orthogonal::Orthogonal;
use crate::philox::Stream;

impl Init {
    /// The elements that a session of `seed` gives to the slot called `name`.
    ///
    /// They come from the Philox stream of `seed`, `name` and ordinal 0 ([`Stream::new`]), so that a slot keeps its values when others
    /// are added, renamed or reordered, and element `i` is that of any thread. `shape` is looked at where elements depend on each other,
    /// by matrices alone; an orthogonal one is computed here, in f64, and is kept as long as the sampler.
    pub fn sampler(&self, seed: u64, name: &str, shape: &[usize]) -> Sampler {
        let columns = shape.last().copied().unwrap_or(1);
        // Of a tensor without elements no more is known than that its size is a number.
        let rows = shape
            .iter()
            .rev()
            .skip(1)
            .fold(1, |rows: usize, d| rows.saturating_mul(*d));
        let stream = Stream::new(seed, name, 0);
        Sampler {
            matrix: match self {
                Init::Orthogonal { .. } => Some(Orthogonal::of(&stream, rows, columns)),
                Init::Constant(_)
                | Init::Uniform { .. }
                | Init::Normal { .. }
                | Init::TruncatedNormal { .. }
                | Init::Identity { .. } => None,
            },
            init: *self,
            stream,
            columns: columns as u64,
        }
    }

    /// All elements that a session of `seed` gives to the slot called `name`, of type `dtype` and shape `shape`.
    ///
    /// # Errors
    /// [`EvalError::TooLarge`].
    ///
    /// ```
    /// use kiln_ir::{DType, Init};
    ///
    /// let identity = Init::identity().draw(42, "w", DType::F32, &[2, 2])?;
    /// assert_eq!(identity.floats()?, [1.0, 0.0, 0.0, 1.0]);
    /// # Ok::<(), kiln_ir::EvalError>(())
    /// ```
    pub fn draw(
        &self,
        seed: u64,
        name: &str,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Array, EvalError> {
        let mut drawn = vec![0.0; Array::room(dtype, shape)?];
        self.sampler(seed, name, shape)
            .fill(0, &mut drawn, |value| value);
        let values = if dtype.is_float() {
            Values::Float(drawn)
        } else {
            let whole = drawn.into_iter().map(|value| saturate(dtype, value));
            Values::Int(whole.collect())
        };
        Array::new(dtype, shape.to_vec(), values)
    }
}

/// The elements of one slot, each a pure function of its row-major index.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    init: Init,
    stream: Stream,
    /// The extent of the last axis.
    columns: u64,
    matrix: Option<Orthogonal>,
}

impl Sampler {
    /// Element `index`: the constant; `low + (high - low) u` with `u` from [`Stream::uniform_f64`], never `high` itself; `mean + deviation z`
    /// with `z` from [`Stream::normal`]; or the element of the matrix. The normal draws of an orthogonal one are those of `z`, in the order
    /// of its longer side first.
    pub fn at(&self, index: u64) -> f64 {
        self.pair(index / 2)[(index % 2) as usize]
    }

    /// Sets `out[i]` to `convert` of element `first + i`. Two elements cost little more than one call of [`Sampler::at`].
    pub fn fill<T>(&self, first: u64, out: &mut [T], mut convert: impl FnMut(f64) -> T) {
        if let Init::Constant(value) = self.init {
            out.fill_with(|| convert(value));
            return;
        }
        // An odd start takes the second half of its pair; from there on both halves are used.
        let lone = (first % 2) as usize;
        let (head, tail) = out.split_at_mut(lone.min(out.len()));
        for element in head {
            *element = convert(self.at(first));
        }
        for (elements, pair) in tail.chunks_mut(2).zip(first.div_ceil(2)..) {
            for (element, value) in elements.iter_mut().zip(self.pair(pair)) {
                *element = convert(value);
            }
        }
    }

    /// The elements `2 * pair` and `2 * pair + 1`.
    fn pair(&self, pair: u64) -> [f64; 2] {
        match self.init {
            Init::Constant(value) => [value; 2],
            Init::Uniform { low, high } => self
                .stream
                .uniform_pair(pair)
                .map(|u| below(low + (high - low) * u, low, high)),
            Init::Normal { mean, deviation } => {
                self.stream.normal_pair(pair).map(|z| mean + deviation * z)
            }
            Init::TruncatedNormal { mean, deviation } => {
                let z = |u| truncated(u).clamp(-2.0, 2.0);
                let uniform = self.stream.uniform_pair(pair);
                uniform.map(|u| mean + deviation * z(u))
            }
            Init::Orthogonal { gain } => {
                let element = |index| self.matrix.as_ref().map_or(0.0, |matrix| matrix.at(index));
                [2 * pair, 2 * pair + 1].map(|index| gain * element(index))
            }
            Init::Identity { gain } => [2 * pair, 2 * pair + 1].map(|index| {
                let columns = self.columns.max(1);
                if index / columns == index % columns {
                    gain
                } else {
                    0.0
                }
            }),
        }
    }
}

/// `value`, or the largest number below `high` where rounding took it there; an empty interval gives `low`.
fn below(value: f64, low: f64, high: f64) -> f64 {
    if value < high {
        value
    } else {
        high.next_down().max(low)
    }
}

/// The number below which the share `u`, from 0 to 1, of normal draws within two deviations lies: each draw needs one number, where drawing
/// again would need any count of them. Wichura, "Algorithm AS 241: the percentage points of the normal distribution" (Applied Statistics 37,
/// 1988), PPND16, which is right to 16 digits; its far tail is not met.
fn truncated(u: f64) -> f64 {
    /// The share of normal draws below -2.
    const BELOW: f64 = 0.022_750_131_948_179_21;
    const CENTRE: [[f64; 8]; 2] = [
        [
            3.387_132_872_796_366_5,
            133.141_667_891_784_38,
            1_971.590_950_306_551_3,
            13_731.693_765_509_46,
            45_921.953_931_549_87,
            67_265.770_927_008_7,
            33_430.575_583_588_13,
            2_509.080_928_730_122_7,
        ],
        [
            1.0,
            42.313_330_701_600_91,
            687.187_007_492_057_9,
            5_394.196_021_424_751,
            21_213.794_301_586_597,
            39_307.895_800_092_71,
            28_729.085_735_721_943,
            5_226.495_278_852_854,
        ],
    ];
    const SIDE: [[f64; 8]; 2] = [
        [
            1.423_437_110_749_683_5,
            4.630_337_846_156_546,
            5.769_497_221_460_691,
            3.647_848_324_763_204_5,
            1.270_458_252_452_368_4,
            0.241_780_725_177_450_6,
            0.022_723_844_989_269_184,
            7.745_450_142_783_414e-4,
        ],
        [
            1.0,
            2.053_191_626_637_759,
            1.676_384_830_183_803_8,
            0.689_767_334_985_1,
            0.148_103_976_427_480_08,
            0.015_198_666_563_616_457,
            5.475_938_084_995_345e-4,
            1.050_750_071_644_416_9e-9,
        ],
    ];
    let quotient = |[above, below]: &[[f64; 8]; 2], x: f64| {
        let value = |c: &[f64; 8]| c.iter().rev().fold(0.0, |sum, c| sum * x + c);
        value(above) / value(below)
    };
    let p = BELOW + u * (1.0 - 2.0 * BELOW);
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        return q * quotient(&CENTRE, 0.180_625 - q * q);
    }
    let root = libm::sqrt(-libm::log(p.min(1.0 - p)));
    quotient(&SIDE, root - 1.6).copysign(q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_those_of_the_named_stream() {
        let stream = Stream::new(42, "fc1/w", 0);
        let uniform = Init::uniform(0.5).sampler(42, "fc1/w", &[5]);
        let normal = Init::Normal {
            mean: 3.0,
            deviation: 2.0,
        }
        .sampler(42, "fc1/w", &[5]);
        for index in [0, 1, 2, 7, 1 << 40] {
            assert_eq!(uniform.at(index), -0.5 + stream.uniform_f64(index));
            assert_eq!(normal.at(index), 3.0 + 2.0 * stream.normal(index));
            assert_eq!(Init::ones().sampler(1, "x", &[]).at(index), 1.0);
        }
        assert_ne!(
            uniform.at(0),
            Init::uniform(0.5).sampler(42, "fc2/w", &[5]).at(0)
        );
        assert_ne!(
            uniform.at(0),
            Init::uniform(0.5).sampler(43, "fc1/w", &[5]).at(0)
        );
    }

    #[test]
    fn an_array_holds_the_elements_as_its_type_has_them() {
        let sampler = Init::normal(200.0).sampler(9, "w", &[3, 2]);
        let drawn = |dtype| Init::normal(200.0).draw(9, "w", dtype, &[3, 2]).unwrap();
        let single: Vec<f64> = (0..6).map(|i| f64::from(sampler.at(i) as f32)).collect();
        assert_eq!(drawn(DType::F32).floats().unwrap(), single);
        let whole: Vec<i64> = (0..6).map(|i| i64::from(sampler.at(i) as i8)).collect();
        assert_eq!(drawn(DType::I8).ints().unwrap(), whole);
        assert!(whole.contains(&127) || whole.contains(&-128), "{whole:?}");
        let large = Init::zeros().draw(9, "w", DType::F32, &[usize::MAX, 2]);
        assert!(matches!(large, Err(EvalError::TooLarge { .. })));
    }

    #[test]
    fn a_filled_slice_equals_its_elements_from_any_start() {
        for init in [
            Init::uniform(1.0),
            Init::normal(1.0),
            Init::Constant(7.0),
            Init::truncated_normal(2.0),
            Init::orthogonal(2.0),
            Init::Identity { gain: 3.0 },
        ] {
            let sampler = init.sampler(9, "w", &[5, 2]);
            for (first, count) in [(0, 0), (0, 1), (0, 6), (1, 1), (1, 4), (4, 5), (5, 5)] {
                let mut filled = vec![0.0; count];
                sampler.fill(first, &mut filled, |x| x);
                let single: Vec<f64> = (first..first + count as u64)
                    .map(|i| sampler.at(i))
                    .collect();
                assert_eq!(filled, single, "{init} from {first}");
            }
        }
    }

    /// The numbers are scipy's `truncnorm(-2, 2).ppf(u)`.
    #[test]
    fn truncated_draws_are_quantiles() {
        for (u, expected) in [
            (0.0, -2.0),
            (0.001, -1.9826256205020178),
            (0.04, -1.547012453126827),
            (0.06, -1.4049362625829145),
            (0.3, -0.4984028824219384),
            (0.5, 2.782916424671767e-16),
            (0.77, 0.6989710190703844),
            (0.98, 1.729720337191119),
            (0.9999, 1.9982352293163053),
        ] {
            assert!(
                (truncated(u) - expected).abs() < 1e-13,
                "{u}: {}",
                truncated(u)
            );
        }
        let sampler = Init::truncated_normal(0.5).sampler(1, "w", &[100_000]);
        let all: Vec<f64> = (0..100_000).map(|i| sampler.at(i)).collect();
        assert!(all.iter().all(|x| x.abs() <= 1.0));
        let square = all.iter().map(|x| x * x).sum::<f64>() / 1e5;
        let deviation = square.sqrt() / 0.5;
        assert!(
            (deviation - 0.879_625_661_034_239_8).abs() < 5e-3,
            "{deviation}"
        );
    }

    /// A uniform draw on `[0, 2^32)` truncates to an even 32-bit word, which is how a session's seed reaches the graph.
    #[test]
    fn the_upper_bound_is_never_reached() {
        assert_eq!(below(1.0, 0.0, 1.0), 1.0 - f64::EPSILON / 2.0);
        assert_eq!(below(2.0, 2.0, 2.0), 2.0);
        let words = Init::Uniform {
            low: 0.0,
            high: 4_294_967_296.0,
        }
        .sampler(42, "rng/seed", &[2]);
        let block = Stream::new(42, "rng/seed", 0).block(0);
        assert_eq!(words.at(0) as u32, block[1]);
        assert_eq!(words.at(1) as u32, block[3]);
    }
}
