//! A tensor that a session holds, lent to be read: an output, a param or a state.

use crate::element::Element;
use half::{bf16, f16};
use kiln_ir::DType;
use std::fmt;

/// Borrowed elements of a named tensor of a session.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    name: &'a str,
    dtype: DType,
    shape: &'a [usize],
    bytes: &'a [u8],
}

/// Why a tensor could not be read as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No tensor of this name.
    #[error("there is no {what} `{name}`; known are {known}")]
    UnknownName {
        /// What was looked for: "output", "param or state".
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// No output at this position.
    #[error("there is no output {index}; there are {count}")]
    UnknownIndex {
        /// The position that was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The tensor has another element type.
    #[error("`{name}` is {found}{shape:?} and cannot be read as {asked}")]
    DType {
        /// The tensor.
        name: String,
        /// Its element type.
        found: DType,
        /// Its shape.
        shape: Vec<usize>,
        /// The type that was asked for.
        asked: DType,
    },
    /// The tensor has more or fewer elements than one.
    #[error("`{name}` is {dtype}{shape:?}, and not a single number")]
    NotScalar {
        /// The tensor.
        name: String,
        /// Its element type.
        dtype: DType,
        /// Its shape.
        shape: Vec<usize>,
    },
}

impl ReadError {
    pub(crate) fn unknown<'n>(
        what: &'static str,
        name: &str,
        known: impl Iterator<Item = &'n str>,
    ) -> ReadError {
        ReadError::UnknownName {
            what,
            name: name.to_owned(),
            known: list(known),
        }
    }
}

/// Names as a message lists them.
pub(crate) fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() {
        "none".into()
    } else {
        quoted.join(", ")
    }
}

impl<'a> TensorView<'a> {
    pub(crate) fn new(
        name: &'a str,
        dtype: DType,
        shape: &'a [usize],
        bytes: &'a [u8],
    ) -> TensorView<'a> {
        TensorView {
            name,
            dtype,
            shape,
            bytes,
        }
    }

    /// The name in the signature.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The elements as native-endian bytes, row-major.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements, row-major. `bool` elements are read as `u8`, 0 or 1.
    ///
    /// # Errors
    /// [`ReadError::DType`] where the tensor holds another type; nothing is converted.
    pub fn as_slice<T: Element>(&self) -> Result<&'a [T], ReadError> {
        let truth = self.dtype == DType::Bool && T::DTYPE == DType::U8;
        let aligned = self.bytes.as_ptr().addr().is_multiple_of(align_of::<T>());
        if (self.dtype != T::DTYPE && !truth) || !aligned {
            return Err(ReadError::DType {
                name: self.name.to_owned(),
                found: self.dtype,
                shape: self.shape.to_vec(),
                asked: T::DTYPE,
            });
        }
        let count = self.bytes.len() / size_of::<T>();
        // SAFETY: the bytes are borrowed for 'a, `count` elements lie within them and begin aligned, and any bits are an `Element`.
        Ok(unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().cast(), count) })
    }

    /// A copy of the elements.
    ///
    /// # Errors
    /// As [`TensorView::as_slice`].
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, ReadError> {
        self.as_slice().map(<[T]>::to_vec)
    }

    /// The only element of a tensor that has one, as a number, whatever its type; 64-bit integers round beyond 2^53.
    ///
    /// # Errors
    /// [`ReadError::NotScalar`] where there are more elements, or none.
    pub fn scalar(&self) -> Result<f64, ReadError> {
        let refused = || ReadError::NotScalar {
            name: self.name.to_owned(),
            dtype: self.dtype,
            shape: self.shape.to_vec(),
        };
        fn only<T: Element>(view: &TensorView<'_>) -> Option<T> {
            match view.as_slice::<T>() {
                Ok([value]) => Some(*value),
                Ok(_) | Err(_) => None,
            }
        }
        let value = match self.dtype {
            DType::F32 => only::<f32>(self).map(f64::from),
            DType::F64 => only::<f64>(self),
            DType::BF16 => only::<bf16>(self).map(f64::from),
            DType::F16 => only::<f16>(self).map(f64::from),
            DType::I8 => only::<i8>(self).map(f64::from),
            DType::I16 => only::<i16>(self).map(f64::from),
            DType::I32 => only::<i32>(self).map(f64::from),
            DType::I64 => only::<i64>(self).map(|v| v as f64),
            DType::U8 | DType::Bool => only::<u8>(self).map(f64::from),
            DType::U16 => only::<u16>(self).map(f64::from),
            DType::U32 => only::<u32>(self).map(f64::from),
            DType::U64 => only::<u64>(self).map(|v| v as f64),
        };
        value.ok_or_else(refused)
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{:?}", self.name, self.dtype, self.shape)
    }
}
