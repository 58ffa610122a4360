//! What a step is fed: borrowed elements with a shape. Nothing here copies or allocates.
//!
//! A [`Feed`] is made from a typed slice, whose alignment and truth values the type guarantees, or from bytes, which are checked once
//! when it is made. Whether it fits an input of the program is the session's question.

use crate::element::{Fed, alignment};
use kiln_ir::DType;
use std::fmt;

/// Borrowed elements, row-major, with their type and shape.
#[derive(Clone, Copy)]
pub struct Feed<'a> {
    dtype: DType,
    extents: Extents<'a>,
    bytes: &'a [u8],
}

#[derive(Clone, Copy)]
enum Extents<'a> {
    Given(&'a [usize]),
    /// One axis, held here so that a plain slice needs no shape from elsewhere.
    Vector(usize),
}

/// Why bytes are not the elements of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The number of bytes is not that of the shape.
    #[error("{found} bytes do not make {dtype}{shape:?}, which has {}", size(.expected))]
    Length {
        /// The element type.
        dtype: DType,
        /// The shape.
        shape: Vec<usize>,
        /// The bytes of the shape; `None` where no memory could hold it.
        expected: Option<usize>,
        /// The bytes that were given.
        found: usize,
    },
    /// The bytes do not begin where an element may begin.
    #[error(
        "bytes at an address that is not a multiple of {alignment} cannot be {dtype} elements; copy them into an aligned place"
    )]
    Misaligned {
        /// The element type.
        dtype: DType,
        /// What the address must be a multiple of.
        alignment: usize,
    },
    /// A truth value is neither 0 nor 1.
    #[error("byte {index} of the bool elements is {value}; truth values are 0 and 1")]
    NotBool {
        /// The element.
        index: usize,
        /// What it holds.
        value: u8,
    },
}

fn size(expected: &Option<usize>) -> String {
    match expected {
        Some(bytes) => bytes.to_string(),
        None => "more than memory can hold".into(),
    }
}

impl Feed<'static> {
    /// The feeds of a program that has no inputs.
    pub const NONE: &'static [Feed<'static>] = &[];

    /// No elements.
    pub(crate) const EMPTY: Feed<'static> = Feed {
        dtype: DType::U8,
        extents: Extents::Vector(0),
        bytes: &[],
    };
}

impl<'a> Feed<'a> {
    /// The elements of `data`, row-major in `shape`. A shape that does not fit is refused by the step that is fed.
    pub fn new<T: Fed>(data: &'a [T], shape: &'a [usize]) -> Feed<'a> {
        Feed {
            dtype: T::DTYPE,
            extents: Extents::Given(shape),
            bytes: as_bytes(data),
        }
    }

    /// One element without axes.
    pub fn scalar<T: Fed>(value: &'a T) -> Feed<'a> {
        Feed::new(std::slice::from_ref(value), &[])
    }

    /// Native-endian elements of `dtype`, row-major in `shape`. The bytes of `bool` are read through once.
    ///
    /// # Errors
    /// [`FeedError`] where the length does not fit the shape, the bytes are not aligned for the type, or a `bool` is neither 0 nor 1.
    pub fn from_bytes(
        dtype: DType,
        shape: &'a [usize],
        bytes: &'a [u8],
    ) -> Result<Feed<'a>, FeedError> {
        let expected = bytes_of(dtype, shape);
        if expected != Some(bytes.len()) {
            return Err(FeedError::Length {
                dtype,
                shape: shape.to_vec(),
                expected,
                found: bytes.len(),
            });
        }
        let alignment = alignment(dtype);
        if !bytes.as_ptr().addr().is_multiple_of(alignment) {
            return Err(FeedError::Misaligned { dtype, alignment });
        }
        let stray = bytes.iter().position(|b| *b > 1);
        if let (DType::Bool, Some(index)) = (dtype, stray) {
            let value = bytes[index];
            return Err(FeedError::NotBool { index, value });
        }
        Ok(Feed {
            dtype,
            extents: Extents::Given(shape),
            bytes,
        })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        match &self.extents {
            Extents::Given(shape) => shape,
            Extents::Vector(extent) => std::slice::from_ref(extent),
        }
    }

    /// The elements as native-endian bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there are as many elements as the shape says.
    pub(crate) fn is_whole(&self) -> bool {
        bytes_of(self.dtype, self.shape()) == Some(self.bytes.len())
    }
}

impl fmt::Debug for Feed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feed({}{:?})", self.dtype, self.shape())
    }
}

impl<'a, T: Fed> From<&'a [T]> for Feed<'a> {
    /// A vector.
    fn from(data: &'a [T]) -> Self {
        Feed {
            dtype: T::DTYPE,
            extents: Extents::Vector(data.len()),
            bytes: as_bytes(data),
        }
    }
}

impl<'a, T: Fed> From<&'a Vec<T>> for Feed<'a> {
    /// A vector.
    fn from(data: &'a Vec<T>) -> Self {
        Feed::from(data.as_slice())
    }
}

impl<'a, T: Fed, const N: usize> From<&'a [T; N]> for Feed<'a> {
    /// A vector.
    fn from(data: &'a [T; N]) -> Self {
        Feed::from(data.as_slice())
    }
}

/// What can be fed: a [`Feed`], and any tensor of another crate that can lend its elements as one.
pub trait ToFeed {
    /// The elements, borrowed.
    fn to_feed(&self) -> Feed<'_>;
}

impl ToFeed for Feed<'_> {
    fn to_feed(&self) -> Feed<'_> {
        *self
    }
}

impl<T: ToFeed + ?Sized> ToFeed for &T {
    fn to_feed(&self) -> Feed<'_> {
        (**self).to_feed()
    }
}

impl<T: Fed> ToFeed for [T] {
    fn to_feed(&self) -> Feed<'_> {
        Feed::from(self)
    }
}

impl<T: Fed> ToFeed for Vec<T> {
    fn to_feed(&self) -> Feed<'_> {
        Feed::from(self)
    }
}

/// The bytes of a shape; `None` where they cannot be counted. A shape with an extent of 0 has none, however large the others are.
pub(crate) fn bytes_of(dtype: DType, shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(dtype.size(), |bytes, extent| bytes.checked_mul(*extent))
}

fn as_bytes<T: Fed>(data: &[T]) -> &[u8] {
    // SAFETY: the types of `Fed` are numbers and `bool`: all their bytes are initialised, and any byte is a u8. The length is that of
    // the slice itself.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_vectors_and_shapes_are_borrowed() {
        let data = vec![1.0_f32, 2.0, 3.0, 4.0];
        let vector = Feed::from(&data);
        assert_eq!((vector.dtype(), vector.shape()), (DType::F32, &[4][..]));
        let matrix = Feed::new(&data, &[2, 2]);
        assert_eq!((matrix.shape(), matrix.bytes().len()), (&[2, 2][..], 16));
        assert!(matrix.is_whole() && !Feed::new(&data, &[3]).is_whole());
        let yes = Feed::scalar(&true);
        assert_eq!((yes.dtype(), yes.bytes()), (DType::Bool, &[1][..]));
        assert_eq!(format!("{matrix:?}"), "Feed(f32[2, 2])");
    }

    #[test]
    fn bytes_are_checked_when_they_become_elements() {
        let words = [0x3F80_0000_u32, 0];
        let bytes = Feed::from(&words).bytes();
        assert!(Feed::from_bytes(DType::F32, &[2], bytes).is_ok());
        let message = |r: Result<Feed, FeedError>| r.unwrap_err().to_string();
        assert_eq!(
            message(Feed::from_bytes(DType::F32, &[3], bytes)),
            "8 bytes do not make f32[3], which has 12"
        );
        assert_eq!(
            message(Feed::from_bytes(DType::F32, &[usize::MAX, 2], bytes)),
            "8 bytes do not make f32[18446744073709551615, 2], which has more than memory can hold"
        );
        assert_eq!(
            message(Feed::from_bytes(DType::F32, &[1], &bytes[1..5])),
            "bytes at an address that is not a multiple of 4 cannot be f32 elements; copy them into an aligned place"
        );
        assert_eq!(
            message(Feed::from_bytes(DType::Bool, &[3], &[0, 1, 2])),
            "byte 2 of the bool elements is 2; truth values are 0 and 1"
        );
        assert_eq!(bytes_of(DType::F64, &[usize::MAX, 0, 2]), Some(0));
    }
}
