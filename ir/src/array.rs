//! Dense arrays of the interpreter.
//!
//! Floating values are held in f64 and rounded to their type after each op; integers and truth values in i64, wrapped to their type
//! (u64 as its bit pattern). Slow and plain on purpose: this is the oracle.

use crate::dtype::{Class, DType};
use crate::ids::NodeId;
use crate::provenance::Location;
use std::sync::Arc;

/// The elements of an [`Array`], row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Elements of a floating type.
    Float(Vec<f64>),
    /// Elements of an integer type or `bool`.
    Int(Vec<i64>),
}

/// A dense array of any element type.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    dtype: DType,
    shape: Vec<usize>,
    values: Values,
}

/// Why the interpreter could not evaluate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// The number of elements does not fit the shape, or the values are of the wrong family.
    #[error("{0}")]
    Invalid(String),
    /// A symbol without a value, or a size out of range.
    #[error(transparent)]
    Bind(#[from] crate::dim::BindError),
    /// A `require` whose condition does not hold.
    #[error("{message} (the condition is false at {index:?})")]
    Required {
        /// The message of the guard.
        message: String,
        /// The index of the first element of the condition that is false.
        index: Vec<usize>,
    },
    /// An index out of range, of a `gather` or `scatter` that fails there.
    #[error("`{op}` at index {index} of an axis of size {extent}")]
    Index {
        /// The op.
        op: &'static str,
        /// The index.
        index: i128,
        /// The extent of the axis.
        extent: usize,
    },
    /// A custom op that failed.
    #[error("custom op `{name}`: {message}")]
    Call {
        /// The op.
        name: String,
        /// Its own words.
        message: String,
    },
    /// More elements than memory has room for.
    #[error("no room for a {dtype} array of shape {shape:?}")]
    TooLarge {
        /// The element type.
        dtype: DType,
        /// The extents.
        shape: Vec<usize>,
    },
    /// What went wrong in a node of a graph.
    #[error("{op} {node} at {location}{}: {source}", in_scope(.scope))]
    Node {
        /// The node.
        node: NodeId,
        /// Its op.
        op: &'static str,
        /// The user's line.
        location: Location,
        /// The scopes that were open there.
        scope: Arc<str>,
        /// What went wrong.
        source: Box<EvalError>,
    },
}

impl EvalError {
    /// What went wrong, without the node where it did.
    pub fn cause(&self) -> &EvalError {
        match self {
            EvalError::Node { source, .. } => source.cause(),
            EvalError::Invalid(_)
            | EvalError::Bind(_)
            | EvalError::Required { .. }
            | EvalError::Index { .. }
            | EvalError::Call { .. }
            | EvalError::TooLarge { .. } => self,
        }
    }
}

fn in_scope(scope: &str) -> String {
    if scope.is_empty() {
        String::new()
    } else {
        format!(" in \"{scope}\"")
    }
}

/// `value` rounded to a floating type; other types are not rounded.
pub(crate) fn round(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(value as f32),
        DType::BF16 => half::bf16::from_f32(value as f32).to_f64(),
        DType::F16 => half::f16::from_f32(value as f32).to_f64(),
        DType::F64
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::U8
        | DType::U16
        | DType::U32
        | DType::U64
        | DType::Bool => value,
    }
}

/// `value` wrapped to an integer type; `bool` is 0 or 1; floating types are left alone.
pub(crate) fn wrap(dtype: DType, value: i64) -> i64 {
    match dtype {
        DType::I8 => i64::from(value as i8),
        DType::I16 => i64::from(value as i16),
        DType::I32 => i64::from(value as i32),
        DType::U8 => i64::from(value as u8),
        DType::U16 => i64::from(value as u16),
        DType::U32 => i64::from(value as u32),
        DType::Bool => i64::from(value != 0),
        DType::I64 | DType::U64 | DType::F32 | DType::F64 | DType::BF16 | DType::F16 => value,
    }
}

impl Array {
    /// An array of `values`, rounded or wrapped to `dtype`.
    pub fn new(dtype: DType, shape: Vec<usize>, values: Values) -> Result<Self, EvalError> {
        let (len, float) = match &values {
            Values::Float(v) => (v.len(), true),
            Values::Int(v) => (v.len(), false),
        };
        if elements(&shape) != Some(len) || float != dtype.is_float() {
            return Err(EvalError::Invalid(format!(
                "{len} {} elements do not make a {dtype} array of shape {shape:?}",
                if float { "floating" } else { "integer" }
            )));
        }
        let values = match values {
            Values::Float(v) => Values::Float(v.into_iter().map(|x| round(dtype, x)).collect()),
            Values::Int(v) => Values::Int(v.into_iter().map(|x| wrap(dtype, x)).collect()),
        };
        Ok(Self {
            dtype,
            shape,
            values,
        })
    }

    /// An array whose element at row-major position `i` is that of `source` at `index(i)`.
    pub fn gather(
        source: &Array,
        shape: Vec<usize>,
        mut index: impl FnMut(usize) -> usize,
    ) -> Result<Self, EvalError> {
        let count = Array::room(source.dtype, &shape)?;
        let missing = || EvalError::Invalid("an index map left its operand".into());
        let values = match &source.values {
            Values::Float(v) => {
                let picked: Option<Vec<f64>> =
                    (0..count).map(|i| v.get(index(i)).copied()).collect();
                Values::Float(picked.ok_or_else(missing)?)
            }
            Values::Int(v) => {
                let picked: Option<Vec<i64>> =
                    (0..count).map(|i| v.get(index(i)).copied()).collect();
                Values::Int(picked.ok_or_else(missing)?)
            }
        };
        Array::new(source.dtype, shape, values)
    }

    /// The number of elements of an array of `shape`, where memory has room for them. Sizes are the graph's and the feeds', so they may
    /// be absurd; an allocation that fails outright would end the process.
    pub(crate) fn room(dtype: DType, shape: &[usize]) -> Result<usize, EvalError> {
        let count = elements(shape);
        count
            .filter(|n| Vec::<f64>::new().try_reserve_exact(*n).is_ok())
            .ok_or_else(|| EvalError::TooLarge {
                dtype,
                shape: shape.to_vec(),
            })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The elements of a floating array.
    pub fn floats(&self) -> Result<&[f64], EvalError> {
        match &self.values {
            Values::Float(v) => Ok(v),
            Values::Int(_) => Err(EvalError::Invalid(format!(
                "a {} array where a floating one is needed",
                self.dtype
            ))),
        }
    }

    /// The elements of an integer or `bool` array.
    pub fn ints(&self) -> Result<&[i64], EvalError> {
        match &self.values {
            Values::Int(v) => Ok(v),
            Values::Float(_) => Err(EvalError::Invalid(format!(
                "a {} array where integers are needed",
                self.dtype
            ))),
        }
    }

    /// The elements as they lie in memory and in files: little-endian, row-major, each as wide as its type, a `bool` as one byte.
    ///
    /// ```
    /// use kiln_ir::{Array, DType, Values};
    ///
    /// let array = Array::new(DType::I16, vec![2], Values::Int(vec![1, -1]))?;
    /// assert_eq!(array.to_bytes(), [1, 0, 255, 255]);
    /// # Ok::<(), kiln_ir::EvalError>(())
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.values {
            Values::Float(v) => match self.dtype {
                DType::F32 => v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
                DType::BF16 => {
                    let narrow = |x: &f64| half::bf16::from_f32(*x as f32).to_le_bytes();
                    v.iter().flat_map(narrow).collect()
                }
                DType::F16 => {
                    let narrow = |x: &f64| half::f16::from_f32(*x as f32).to_le_bytes();
                    v.iter().flat_map(narrow).collect()
                }
                DType::F64
                | DType::I8
                | DType::I16
                | DType::I32
                | DType::I64
                | DType::U8
                | DType::U16
                | DType::U32
                | DType::U64
                | DType::Bool => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            },
            // Elements are wrapped to their type, so the low bytes are all there is.
            Values::Int(v) => {
                let size = self.dtype.size();
                let low = |x: &i64| x.to_le_bytes().into_iter().take(size);
                v.iter().flat_map(low).collect()
            }
        }
    }

    /// The same elements in another shape of the same size.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Self, EvalError> {
        Array::new(self.dtype, shape, self.values.clone())
    }

    /// Row-major strides of `shape`, in elements.
    pub fn strides(shape: &[usize]) -> Vec<usize> {
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            // Only an array without elements can have strides that do not fit; they are then never used.
            strides[i - 1] = usize::saturating_mul(strides[i], shape[i]);
        }
        strides
    }

    /// The index along each axis of row-major position `i`.
    pub fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
        let mut index = vec![0; shape.len()];
        for (axis, extent) in shape.iter().enumerate().rev() {
            if *extent > 0 {
                index[axis] = i % extent;
                i /= extent;
            }
        }
        index
    }

    /// An element as f64, whatever its type; u64 by its value.
    pub fn as_f64(&self, i: usize) -> Option<f64> {
        match (&self.values, self.dtype.class()) {
            (Values::Float(v), _) => v.get(i).copied(),
            (Values::Int(v), Class::Unsigned) => v.get(i).map(|x| *x as u64 as f64),
            (Values::Int(v), Class::Signed | Class::Bool | Class::Float) => {
                v.get(i).map(|x| *x as f64)
            }
        }
    }
}

/// The number of elements of `shape`, unless it overflows.
fn elements(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}
