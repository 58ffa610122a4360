//! Arrays of the interpreter as bytes of the machine and back, and random ones.

use super::Numbers;
use kiln_ir::{Array, DType, Values};
use kiln_runtime::{Feed, TensorView};

/// Bytes that begin at a multiple of the element's size and, where `shift` is set, of nothing more.
pub struct Bytes {
    words: Vec<u64>,
    start: usize,
    len: usize,
}

/// An array in the form in which it is fed.
pub struct Fed {
    pub dtype: DType,
    pub shape: Vec<usize>,
    bytes: Bytes,
}

impl Fed {
    /// The elements of `array`, with `shift` at an address that is aligned for one element only.
    pub fn new(array: &Array, shift: bool) -> Self {
        let dtype = array.dtype();
        let elements = bytes(array);
        let start = if shift { dtype.size() } else { 0 };
        let mut words = vec![0u64; (start + elements.len()).div_ceil(8) + 1];
        let all = words.iter_mut().zip(padded(start, &elements));
        all.for_each(|(word, value)| *word = value);
        Self {
            dtype,
            shape: array.shape().to_vec(),
            bytes: Bytes {
                words,
                start,
                len: elements.len(),
            },
        }
    }

    /// The feed.
    pub fn feed(&self) -> Feed<'_> {
        let Bytes { words, start, len } = &self.bytes;
        // SAFETY: the words are initialised memory, and any byte is a u8.
        let all =
            unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), words.len() * 8) };
        Feed::from_bytes(self.dtype, &self.shape, &all[*start..start + len]).expect("a feed")
    }
}

fn padded(start: usize, elements: &[u8]) -> impl Iterator<Item = u64> {
    let mut all = vec![0u8; start];
    all.extend_from_slice(elements);
    all.resize(all.len().next_multiple_of(8), 0);
    let words: Vec<u64> = all
        .chunks_exact(8)
        .map(|c| u64::from_ne_bytes(c.try_into().expect("eight bytes")))
        .collect();
    words.into_iter()
}

/// The elements in native byte order.
pub fn bytes(array: &Array) -> Vec<u8> {
    let size = array.dtype().size();
    match array.values() {
        Values::Float(v) if array.dtype() == DType::F32 => {
            v.iter().flat_map(|x| (*x as f32).to_ne_bytes()).collect()
        }
        Values::Float(v) => v.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Values::Int(v) => v
            .iter()
            .flat_map(|x| x.to_le_bytes()[..size].to_vec())
            .collect(),
    }
}

/// The array that a session shows.
pub fn array(view: &TensorView<'_>) -> Array {
    let (dtype, raw) = (view.dtype(), view.bytes());
    let chunks = raw.chunks_exact(dtype.size());
    let values = match dtype {
        DType::F32 => Values::Float(
            chunks
                .map(|c| f64::from(f32::from_ne_bytes(c.try_into().expect("four bytes"))))
                .collect(),
        ),
        DType::F64 => Values::Float(
            chunks
                .map(|c| f64::from_ne_bytes(c.try_into().expect("eight bytes")))
                .collect(),
        ),
        _ => Values::Int(
            chunks
                .map(|c| {
                    let mut wide = [0u8; 8];
                    wide[..c.len()].copy_from_slice(c);
                    i64::from_le_bytes(wide)
                })
                .collect(),
        ),
    };
    Array::new(dtype, view.shape().to_vec(), values).expect("an array")
}

/// Which values a random array has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Small numbers, of which few are equal.
    Plain,
    /// Extremes, zeros of both signs, subnormals, infinities and NaN among small numbers.
    Odd,
    /// Whole numbers of few values, so that there are ties.
    Ties,
}

/// A random array.
pub fn random(numbers: &mut Numbers, dtype: DType, shape: &[usize], kind: Kind) -> Array {
    let count: usize = shape.iter().product();
    let values = if dtype.is_float() {
        Values::Float((0..count).map(|_| float(numbers, kind)).collect())
    } else {
        Values::Int((0..count).map(|_| integer(numbers, kind)).collect())
    };
    Array::new(dtype, shape.to_vec(), values).expect("an array")
}

fn float(numbers: &mut Numbers, kind: Kind) -> f64 {
    let plain = (numbers.bits() >> 11) as f64 / (1u64 << 53) as f64 * 4.0 - 2.0;
    match kind {
        Kind::Plain => plain,
        Kind::Ties => plain.round(),
        Kind::Odd => match numbers.below(28) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            3 => 0.0,
            4 => -0.0,
            5 => 1e-45,
            6 => -1e-40,
            7 => 3e38,
            8 => -1.0,
            9 => 88.5 * plain,
            10 => 1e9 * plain,
            11 => 4_294_967_296.0,
            12 => 0.5,
            13 => -2.5,
            _ => plain,
        },
    }
}

fn integer(numbers: &mut Numbers, kind: Kind) -> i64 {
    let small = numbers.below(9) as i64 - 3;
    match kind {
        Kind::Plain => small,
        Kind::Ties => numbers.below(3) as i64,
        Kind::Odd => match numbers.below(12) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => i64::from(i32::MIN),
            3 => 255,
            4 => 128,
            5 => 32_768,
            6 => -1,
            7 => numbers.bits() as i64,
            _ => small,
        },
    }
}
