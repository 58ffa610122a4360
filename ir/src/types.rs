//! Shapes and tensor types.

use crate::dim::Dim;
use crate::dtype::DType;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::ops::Deref;

/// The extents of a tensor's axes, outermost first.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Shape(Vec<Dim>);

/// No tensor has more axes.
const MAX_RANK: usize = 32;
/// The number of elements is a polynomial with at most this many terms before it is simplified, so that a hostile file cannot make the
/// shape rules multiply polynomials for ever.
const MAX_ELEMENT_TERMS: usize = 4096;

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Axes;
        impl<'de> Visitor<'de> for Axes {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_RANK} extents")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut dims: A) -> Result<Shape, A::Error> {
                let mut shape = Shape::scalar();
                while let Some(dim) = dims.next_element()? {
                    shape.0.push(dim);
                    if shape.0.len() > MAX_RANK {
                        // Refused below; a hostile rest is not read.
                        break;
                    }
                }
                match shape.trouble() {
                    Some(why) => Err(A::Error::custom(why)),
                    None => Ok(shape),
                }
            }
        }
        deserializer.deserialize_seq(Axes)
    }
}

impl Shape {
    /// Why no tensor of a readable graph has this shape, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        if self.0.len() > MAX_RANK {
            return Some(format!("{} axes are more than {MAX_RANK}", self.0.len()));
        }
        for dim in &self.0 {
            if let Some(why) = dim.unreadable() {
                return Some(format!("an extent has no readable spelling: {why}"));
            }
            if dim.constant().is_some_and(|c| c < 0) {
                return Some(format!("the extent {dim} is negative"));
            }
        }
        let terms = self
            .0
            .iter()
            .try_fold(1usize, |n, d| n.checked_mul(d.term_count()));
        if terms.is_none_or(|n| n > MAX_ELEMENT_TERMS) {
            return Some("its number of elements is too long a polynomial".into());
        }
        None
    }

    /// The shape of a scalar: no axes, one element.
    pub fn scalar() -> Self {
        Self(Vec::new())
    }

    /// The number of elements, as a dim.
    pub fn elements(&self) -> Dim {
        self.0.iter().fold(Dim::from(1), |n, d| &n * d)
    }

    /// The extents as numbers, where none of them is symbolic.
    pub fn constants(&self) -> Option<Vec<usize>> {
        self.0
            .iter()
            .map(|d| d.constant().and_then(|c| usize::try_from(c).ok()))
            .collect()
    }
}

impl Deref for Shape {
    type Target = [Dim];

    fn deref(&self) -> &[Dim] {
        &self.0
    }
}

impl From<Vec<Dim>> for Shape {
    fn from(dims: Vec<Dim>) -> Self {
        Self(dims)
    }
}

impl From<&[Dim]> for Shape {
    fn from(dims: &[Dim]) -> Self {
        Self(dims.to_vec())
    }
}

impl From<&[i64]> for Shape {
    fn from(dims: &[i64]) -> Self {
        Self(dims.iter().map(|d| Dim::from(*d)).collect())
    }
}

impl<const N: usize> From<[i64; N]> for Shape {
    fn from(dims: [i64; N]) -> Self {
        Self(dims.into_iter().map(Dim::from).collect())
    }
}

impl<const N: usize> From<[Dim; N]> for Shape {
    fn from(dims: [Dim; N]) -> Self {
        Self(dims.into())
    }
}

impl From<()> for Shape {
    fn from((): ()) -> Self {
        Self::scalar()
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Self {
        shape.clone()
    }
}

macro_rules! shape_from_tuple {
    ($($t:ident),+) => {
        impl<$($t: Into<Dim>),+> From<($($t,)+)> for Shape {
            #[allow(non_snake_case)]
            fn from(($($t,)+): ($($t,)+)) -> Self {
                Self(vec![$($t.into()),+])
            }
        }
    };
}
shape_from_tuple!(A);
shape_from_tuple!(A, B);
shape_from_tuple!(A, B, C);
shape_from_tuple!(A, B, C, D);
shape_from_tuple!(A, B, C, D, E);

impl FromIterator<Dim> for Shape {
    fn from_iter<I: IntoIterator<Item = Dim>>(dims: I) -> Self {
        Self(dims.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The type of a value: element type and shape. A scalar prints as `f32[]`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The extents.
    pub shape: Shape,
}

impl TensorType {
    /// The type of `dtype` elements in `shape`.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self {
            dtype,
            shape: shape.into(),
        }
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Why no value of a readable graph has this type, if so: the shape's trouble, or more bytes than memory can have.
    pub(crate) fn trouble(&self) -> Option<String> {
        let extents = self.shape.iter().filter_map(Dim::constant);
        let mut extents = extents.map(|d| d.max(1));
        let bytes = extents.try_fold(self.dtype.size() as i64, i64::checked_mul);
        self.shape.trouble().or_else(|| {
            bytes
                .is_none()
                .then(|| "it is larger than 2^63 bytes".into())
        })
    }

    /// The same shape with another element type.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self {
            dtype,
            shape: self.shape.clone(),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
