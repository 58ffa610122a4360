//! Numbers of every element type: how they lie in memory, the ones that matter at the edges, and equality of bits.

use crate::support::Buffer;
use kiln_ir::{Array, Class, DType, Values};

/// The types that have machine code.
pub(crate) const TYPES: [DType; 11] = [
    DType::F32,
    DType::F64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
];

/// A sequence of numbers without pattern (xorshift64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A float between -1 and 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

const FLOATS: [f64; 34] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    3.7,
    -3.7,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    1.0e-40,
    -1.0e-310,
    1.2e-38,
    3.4e38,
    -1.7e308,
    88.7,
    -103.9,
    709.5,
    127.9,
    -128.5,
    255.9,
    32_768.0,
    65_535.7,
    2_147_483_648.0,
    -2_147_483_649.0,
    4_294_967_295.5,
    9.3e18,
    -9.3e18,
    1.9e19,
    200_000.0,
];

const INTS: [i64; 28] = [
    0,
    1,
    -1,
    2,
    3,
    -7,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    100,
    -128,
    127,
    255,
    i16::MIN as i64,
    i32::MIN as i64,
    i32::MAX as i64,
    u32::MAX as i64,
    i64::MIN,
    i64::MAX,
    -2,
];

/// Numbers of a type: the edges first, then some without pattern.
pub(crate) fn numbers(dtype: DType, count: usize, seed: u64) -> Array {
    let mut random = Random::new(seed);
    let values = if dtype.is_float() {
        let scales = [1.0, 30.0, 1.0e4];
        let more = std::iter::repeat_with(|| random.unit() * scales[(random.next() % 3) as usize]);
        Values::Float(FLOATS.into_iter().chain(more).take(count).collect())
    } else {
        let more = std::iter::repeat_with(|| random.next().cast_signed() >> (random.next() % 60));
        Values::Int(INTS.into_iter().chain(more).take(count).collect())
    };
    Array::new(dtype, vec![count], values).unwrap()
}

/// All pairs of the numbers of a type that matter at the edges.
pub(crate) fn pairs(dtype: DType) -> [Array; 2] {
    let edges = numbers(dtype, 40, 5);
    let side = |pick: fn(usize) -> usize| gather(&edges, 1600, pick);
    [side(|i| i / 40), side(|i| i % 40)]
}

pub(crate) fn encode(array: &Array) -> Buffer {
    macro_rules! ints {
        ($ty:ty) => {
            Buffer::of(
                &array
                    .ints()
                    .unwrap()
                    .iter()
                    .map(|x| *x as $ty)
                    .collect::<Vec<$ty>>(),
            )
        };
    }
    match array.dtype() {
        DType::F32 => Buffer::of(
            &array
                .floats()
                .unwrap()
                .iter()
                .map(|x| *x as f32)
                .collect::<Vec<_>>(),
        ),
        DType::F64 => Buffer::of(array.floats().unwrap()),
        DType::I8 => ints!(i8),
        DType::I16 => ints!(i16),
        DType::I32 => ints!(i32),
        DType::I64 => ints!(i64),
        DType::U8 | DType::Bool => ints!(u8),
        DType::U16 => ints!(u16),
        DType::U32 => ints!(u32),
        DType::U64 => ints!(u64),
        DType::BF16 | DType::F16 => unreachable!("no test stores these"),
    }
}

pub(crate) fn zeros(dtype: DType, count: usize) -> Buffer {
    Buffer::of(&vec![0_u8; count * dtype.size()])
}

pub(crate) fn decode(dtype: DType, buffer: &Buffer) -> Array {
    macro_rules! ints {
        ($ty:ty) => {
            Values::Int(
                buffer
                    .to_vec::<$ty>()
                    .into_iter()
                    .map(|x| x as i64)
                    .collect(),
            )
        };
    }
    let values = match dtype {
        DType::F32 => Values::Float(buffer.to_vec::<f32>().into_iter().map(f64::from).collect()),
        DType::F64 => Values::Float(buffer.to_vec()),
        DType::I8 => ints!(i8),
        DType::I16 => ints!(i16),
        DType::I32 => ints!(i32),
        DType::I64 => ints!(i64),
        DType::U8 => ints!(u8),
        DType::U16 => ints!(u16),
        DType::U32 => ints!(u32),
        DType::U64 => ints!(u64),
        DType::Bool => {
            let bytes = buffer.to_vec::<u8>();
            assert!(
                bytes.iter().all(|b| *b < 2),
                "a bool is a byte of 0 or 1: {bytes:?}"
            );
            Values::Int(bytes.into_iter().map(i64::from).collect())
        }
        DType::BF16 | DType::F16 => unreachable!("no test stores these"),
    };
    let count = match &values {
        Values::Float(v) => v.len(),
        Values::Int(v) => v.len(),
    };
    Array::new(dtype, vec![count], values).unwrap()
}

/// The bits of every element; all NaN are one.
pub(crate) fn bits(array: &Array) -> Vec<u64> {
    match array.values() {
        Values::Float(v) => v
            .iter()
            .map(|x| if x.is_nan() { u64::MAX } else { x.to_bits() })
            .collect(),
        Values::Int(v) => v.iter().map(|x| x.cast_unsigned()).collect(),
    }
}

pub(crate) fn assert_same(found: &Array, expected: &Array, operands: &[&Array], what: &str) {
    assert_eq!(found.dtype(), expected.dtype());
    let (f, e) = (bits(found), bits(expected));
    assert_eq!(f.len(), e.len());
    if let Some(i) = (0..f.len()).find(|i| f[*i] != e[*i]) {
        let show = |a: &Array| match a.dtype().class() {
            Class::Float => format!("{:e}", a.floats().unwrap()[i]),
            Class::Signed | Class::Unsigned | Class::Bool => a.ints().unwrap()[i].to_string(),
        };
        let operands: Vec<String> = operands.iter().map(|a| show(a)).collect();
        panic!(
            "{what}: element {i} of {}: {} instead of {} from {operands:?}",
            f.len(),
            show(found),
            show(expected)
        );
    }
}

/// `count` elements of a flat array, picked by position.
pub(crate) fn gather(array: &Array, count: usize, pick: impl Fn(usize) -> usize) -> Array {
    let values = match array.values() {
        Values::Float(v) => Values::Float((0..count).map(|i| v[pick(i)]).collect()),
        Values::Int(v) => Values::Int((0..count).map(|i| v[pick(i)]).collect()),
    };
    Array::new(array.dtype(), vec![count], values).unwrap()
}
