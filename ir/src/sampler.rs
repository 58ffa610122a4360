//! How an [`Init`] is drawn: the one definition, for the runtime that fills its buffers and for tests on the interpreter, so that both
//! start from the same bits.
//!
//! Nothing here knows element types: a value is an f64, which the caller rounds (or truncates and saturates, for integers) to the slot's
//! type.

use crate::init::Init;
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
                | Init::Identity { .. } => None,
            },
            init: *self,
            stream,
            columns: columns as u64,
        }
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
    fn a_filled_slice_equals_its_elements_from_any_start() {
        for init in [
            Init::uniform(1.0),
            Init::normal(1.0),
            Init::Constant(7.0),
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
