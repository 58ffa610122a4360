//! The data of dense constants: row-major elements as little-endian bytes, shared and never copied by passes.

use super::Constant;
use crate::array::Values;
use crate::builder::{Builder, Tensor};
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::types::{Shape, TensorType};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// The bytes of a dense constant. Serde writes them as hexadecimal digits where a person may read, and as bytes elsewhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dense(Arc<[u8]>);

impl Dense {
    /// Elements already in little-endian bytes.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes of `values`, in order.
    pub fn from_elements<E: Element>(values: &[E]) -> Self {
        let mut bytes = Vec::with_capacity(values.len() * E::DTYPE.size());
        for value in values {
            value.write(&mut bytes);
        }
        Self(bytes.into())
    }

    /// The bytes, row-major, each element little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Lower-case hexadecimal digits, two a byte.
    pub(crate) fn write_hex(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut chunk = String::with_capacity(512);
        for bytes in self.0.chunks(256) {
            chunk.clear();
            for byte in bytes {
                chunk.push(char::from(DIGITS[usize::from(byte >> 4)]));
                chunk.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
            out.write_str(&chunk)?;
        }
        Ok(())
    }

    /// The bytes that hexadecimal digits spell; `None` for another character or half a byte.
    pub(crate) fn from_hex(digits: &str) -> Option<Self> {
        fn digit(c: u8) -> Option<u8> {
            match c {
                b'0'..=b'9' => Some(c - b'0'),
                b'a'..=b'f' => Some(c - b'a' + 10),
                b'A'..=b'F' => Some(c - b'A' + 10),
                _ => None,
            }
        }
        let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
            return None;
        };
        let bytes: Option<Vec<u8>> = pairs
            .iter()
            .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
            .collect();
        Some(Self(bytes?.into()))
    }

    /// Whether the bytes are the elements of a tensor of type `ty`.
    pub(super) fn check(&self, ty: &TensorType) -> Result<(), Refusal> {
        let Some(shape) = ty.shape.constants() else {
            return Err(Refusal::new(
                Kind::Shape,
                format!("a dense `const` of {ty}, whose size is not a number"),
            )
            .help("only a splat can have a symbolic shape"));
        };
        let size = shape
            .iter()
            .try_fold(ty.dtype.size(), |n, d| n.checked_mul(*d));
        if size != Some(self.0.len()) {
            let wanted = size.map_or_else(|| "more than fit in memory".into(), |n| n.to_string());
            return Err(Refusal::new(
                Kind::Shape,
                format!(
                    "a dense `const` of {ty} with {} bytes of data, not {wanted}",
                    self.0.len()
                ),
            ));
        }
        if ty.dtype == DType::Bool && self.0.iter().any(|b| *b > 1) {
            return Err(Refusal::new(
                Kind::Type,
                "a dense `const` of bool with bytes other than 0 and 1",
            ));
        }
        Ok(())
    }

    /// The elements as the interpreter holds them.
    pub(crate) fn values(&self, dtype: DType) -> Values {
        fn read<const N: usize, T>(bytes: &[u8], one: impl Fn([u8; N]) -> T) -> Vec<T> {
            bytes.as_chunks().0.iter().map(|b| one(*b)).collect()
        }
        let bytes = &*self.0;
        match dtype {
            DType::F32 => Values::Float(read(bytes, |b| f64::from(f32::from_le_bytes(b)))),
            DType::F64 => Values::Float(read(bytes, f64::from_le_bytes)),
            DType::BF16 => Values::Float(read(bytes, |b| half::bf16::from_le_bytes(b).to_f64())),
            DType::F16 => Values::Float(read(bytes, |b| half::f16::from_le_bytes(b).to_f64())),
            DType::I8 => Values::Int(read(bytes, |b| i64::from(i8::from_le_bytes(b)))),
            DType::I16 => Values::Int(read(bytes, |b| i64::from(i16::from_le_bytes(b)))),
            DType::I32 => Values::Int(read(bytes, |b| i64::from(i32::from_le_bytes(b)))),
            DType::I64 => Values::Int(read(bytes, i64::from_le_bytes)),
            DType::U8 | DType::Bool => Values::Int(read(bytes, |[b]| i64::from(b))),
            DType::U16 => Values::Int(read(bytes, |b| i64::from(u16::from_le_bytes(b)))),
            DType::U32 => Values::Int(read(bytes, |b| i64::from(u32::from_le_bytes(b)))),
            DType::U64 => Values::Int(read(bytes, |b| u64::from_le_bytes(b).cast_signed())),
        }
    }
}

impl fmt::Debug for Dense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dense({} bytes)", self.0.len())
    }
}

impl Serialize for Dense {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let mut hex = String::with_capacity(2 * self.0.len());
            self.write_hex(&mut hex)
                .map_err(serde::ser::Error::custom)?;
            serializer.serialize_str(&hex)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Dense {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Dense;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a dense constant")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Dense, E> {
                Ok(Dense::from_bytes(bytes))
            }

            fn visit_str<E: Error>(self, digits: &str) -> Result<Dense, E> {
                Dense::from_hex(digits)
                    .ok_or_else(|| E::custom("dense data needs two hexadecimal digits a byte"))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Reader)
        } else {
            deserializer.deserialize_bytes(Reader)
        }
    }
}

mod sealed {
    /// What makes [`Element`](super::Element) closed, and how its elements are seen through native-endian bytes, which hold as many of them
    /// as fit without a rest and begin where one may begin.
    pub trait Plain: Sized {
        fn view(bytes: &[u8]) -> Option<&[Self]>;
        fn view_mut(bytes: &mut [u8]) -> Option<&mut [Self]>;
    }
}

/// A Rust type that is an element type. Sealed: the element types are [`DType`]'s.
pub trait Element: Copy + sealed::Plain {
    /// The element type.
    const DTYPE: DType;

    /// Appends the little-endian bytes.
    fn write(self, bytes: &mut Vec<u8>);
}

macro_rules! plain {
    ($rust:ty) => {
        impl sealed::Plain for $rust {
            fn view(bytes: &[u8]) -> Option<&[Self]> {
                // An empty slice may begin anywhere.
                if bytes.is_empty() {
                    return Some(&[]);
                }
                bytemuck::checked::try_cast_slice(bytes).ok()
            }

            fn view_mut(bytes: &mut [u8]) -> Option<&mut [Self]> {
                if bytes.is_empty() {
                    return Some(&mut []);
                }
                bytemuck::checked::try_cast_slice_mut(bytes).ok()
            }
        }
    };
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),+ $(,)?) => {$(
        plain!($rust);

        impl Element for $rust {
            const DTYPE: DType = DType::$dtype;

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    )+};
}
elements! {
    f32 => F32, f64 => F64, half::bf16 => BF16, half::f16 => F16,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
}

plain!(bool);

impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self));
    }
}

impl Builder {
    /// A tensor of the elements `values`, row-major. A number of elements that the shape does not have is a diagnostic, and so is a
    /// symbolic shape.
    #[track_caller]
    pub fn constant<E: Element>(&self, shape: impl Into<Shape>, values: &[E]) -> Tensor<'_> {
        let ty = TensorType::new(E::DTYPE, shape);
        let wanted = ty.shape.elements();
        if wanted
            .constant()
            .is_some_and(|n| usize::try_from(n) != Ok(values.len()))
        {
            self.report(
                Refusal::new(
                    Kind::Shape,
                    format!(
                        "a `const` of {ty} from {} elements, not {wanted}",
                        values.len()
                    ),
                ),
                Vec::new(),
            );
            return self.poison();
        }
        self.push(Constant::dense(ty, Dense::from_elements(values)), &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::eval;

    #[test]
    fn constants_of_every_rust_type_are_evaluated() {
        let g = Builder::new("dense");
        g.output("a", g.constant([2, 2], &[1.5f32, -0.0, f32::INFINITY, 4.0]));
        g.output("b", g.constant([1], &[0.1f64]));
        g.output("c", g.constant([2], &[u64::MAX, 1]));
        g.output("d", g.constant([3], &[true, false, true]));
        g.output("e", g.constant((), &[half::f16::from_f32(0.5)]));
        g.output("f", g.constant([2, 0], &[0i16; 0]));
        let step = eval(&g.finish().unwrap(), |_| None).unwrap();
        let values: Vec<&Values> = step.outputs.iter().map(|a| a.values()).collect();
        assert_eq!(
            values,
            [
                &Values::Float(vec![1.5, -0.0, f64::INFINITY, 4.0]),
                &Values::Float(vec![0.1]),
                &Values::Int(vec![-1, 1]),
                &Values::Int(vec![1, 0, 1]),
                &Values::Float(vec![0.5]),
                &Values::Int(vec![]),
            ]
        );
    }

    #[test]
    fn wrong_sizes_are_diagnostics() {
        let g = Builder::new("dense");
        let b = g.dim("b");
        let _ = g.constant([2, 2], &[1.0f32; 3]);
        let _ = g.constant([b], &[1i32]);
        let messages: Vec<String> = g
            .finish()
            .unwrap_err()
            .0
            .into_iter()
            .map(|d| d.refusal.message)
            .collect();
        assert_eq!(
            messages,
            [
                "a `const` of f32[2, 2] from 3 elements, not 4",
                "a dense `const` of i32[b], whose size is not a number",
            ]
        );
    }

    #[test]
    fn hexadecimal_reads_back() {
        let data = Dense::from_elements(&[1u32, 0xdead_beef]);
        let mut hex = String::new();
        data.write_hex(&mut hex).unwrap();
        assert_eq!(hex, "01000000efbeadde");
        assert_eq!(Dense::from_hex(&hex), Some(data));
        assert_eq!(Dense::from_hex("0"), None);
        assert_eq!(Dense::from_hex("0g"), None);
        assert_eq!(Dense::from_hex("é"), None);
    }
}
