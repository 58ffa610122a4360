//! What a name of an ONNX graph stands for while it is imported.

use super::elements::{Elements, integers};
use kiln_ir::ops::{Constant, Dense, DimSize, Iota};
use kiln_ir::{Builder, DType, Dim, Init, Shape, Tensor, TensorType};

/// A value: computed when the graph runs, or known already.
#[derive(Clone)]
pub(crate) enum Value<'g> {
    /// A tensor of the builder.
    Tensor(Tensor<'g>),
    /// A tensor whose elements are known: shape arithmetic, mostly.
    Known(Known),
    /// A floating initializer, or a constant that stands for one.
    Weight(Weight),
    /// Several values: ONNX's sequences, whose length must be known.
    Sequence(Vec<Value<'g>>),
    /// An optional input or output that is left out.
    Absent,
    /// The result of a node that is reported already.
    Failed,
}

/// A named tensor of the model. It becomes a param or a state once it is used as a tensor; until then it is data, so that scales and bounds
/// are neither.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    pub(crate) name: String,
    pub(crate) data: Elements,
    /// Whether it is a param. What a batch norm has seen is a state.
    pub(crate) learns: bool,
}

impl Weight {
    fn tensor<'g>(&self, builder: &'g Builder) -> Tensor<'g> {
        builder.find(&self.name).unwrap_or_else(|| {
            let _whole_graph = builder.root_scope();
            let shape: Shape = self.data.shape().iter().map(|d| Dim::from(*d)).collect();
            let dtype = self.data.dtype();
            if self.learns {
                builder.param_of(&self.name, dtype, shape, Init::zeros())
            } else {
                builder.state(&self.name, dtype, shape, Init::zeros())
            }
        })
    }
}

/// A tensor whose elements are known when the graph is built.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Numbers.
    Data(Elements),
    /// A tensor of extents, of which at least one is symbolic, in i64 or i32.
    Dims(Vec<usize>, Vec<Dim>, DType),
}

impl Known {
    /// An i64 tensor of extents.
    pub(crate) fn of_dims(shape: Vec<usize>, dims: Vec<Dim>) -> Self {
        Self::of_dims_in(DType::I64, shape, dims)
    }

    /// A tensor of extents in i64, or in i32 where `dtype` says so.
    pub(crate) fn of_dims_in(dtype: DType, shape: Vec<usize>, dims: Vec<Dim>) -> Self {
        let numbers: Option<Vec<i64>> = dims.iter().map(Dim::constant).collect();
        match numbers {
            None => Known::Dims(shape, dims, dtype),
            Some(numbers) if dtype == DType::I32 => Known::Data(Elements::of_i32(shape, &numbers)),
            Some(numbers) => Self::of_ints(shape, numbers),
        }
    }

    /// An i64 tensor.
    pub(crate) fn of_ints(shape: Vec<usize>, numbers: Vec<i64>) -> Self {
        Known::Data(Elements::of_i64(shape, &numbers))
    }

    /// A bool scalar.
    pub(crate) fn of_bool(holds: bool) -> Self {
        Known::Data(Elements::of_bool(holds))
    }

    /// The extents of each axis.
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Known::Data(data) => data.shape(),
            Known::Dims(shape, ..) => shape,
        }
    }

    /// The element type.
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Known::Data(data) => data.dtype(),
            Known::Dims(_, _, dtype) => *dtype,
        }
    }

    /// The elements as extents, where they are integers.
    pub(crate) fn dims(&self) -> Option<Vec<Dim>> {
        match self {
            Known::Data(data) => Some(integers(data)?.into_iter().map(Dim::from).collect()),
            Known::Dims(_, dims, _) => Some(dims.clone()),
        }
    }

    /// The tensor as one of the builder.
    pub(crate) fn tensor<'g>(&self, builder: &'g Builder) -> Tensor<'g> {
        match self {
            Known::Data(data) => constant(builder, data),
            Known::Dims(shape, dims, dtype) => {
                let part = |dim: &Dim| {
                    let size = builder.push(DimSize { dim: dim.clone() }, &[]);
                    size.convert(*dtype).reshape([1])
                };
                let parts: Vec<Tensor<'g>> = dims.iter().map(part).collect();
                let shape: Shape = shape.iter().map(|d| Dim::from(*d)).collect();
                builder.concat(&parts, 0).reshape(shape)
            }
        }
    }
}

impl<'g> Value<'g> {
    /// The value as a tensor of the builder; `None` where it is none.
    pub(crate) fn tensor(&self, builder: &'g Builder) -> Option<Tensor<'g>> {
        match self {
            Value::Tensor(tensor) => Some(*tensor),
            Value::Known(known) => Some(known.tensor(builder)),
            Value::Weight(weight) => Some(weight.tensor(builder)),
            Value::Sequence(_) | Value::Absent | Value::Failed => None,
        }
    }

    /// The type of a tensor, however it is given.
    pub(crate) fn ty(&self) -> Option<TensorType> {
        let of = |dtype, shape: &[usize]| {
            TensorType::new(
                dtype,
                shape.iter().map(|d| Dim::from(*d)).collect::<Shape>(),
            )
        };
        match self {
            Value::Tensor(tensor) => tensor.ty(),
            Value::Known(known) => Some(of(known.dtype(), known.shape())),
            Value::Weight(Weight { data, .. }) => Some(of(data.dtype(), data.shape())),
            Value::Sequence(_) | Value::Absent | Value::Failed => None,
        }
    }

    /// The elements, where they are known as numbers.
    pub(crate) fn data(&self) -> Option<&Elements> {
        match self {
            Value::Known(Known::Data(data)) | Value::Weight(Weight { data, .. }) => Some(data),
            Value::Known(Known::Dims(..))
            | Value::Tensor(_)
            | Value::Sequence(_)
            | Value::Absent
            | Value::Failed => None,
        }
    }

    /// The elements as extents, where they are known integers.
    pub(crate) fn dims(&self) -> Option<Vec<Dim>> {
        match self {
            Value::Known(known) => known.dims(),
            Value::Weight(_)
            | Value::Tensor(_)
            | Value::Sequence(_)
            | Value::Absent
            | Value::Failed => None,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Value::Absent)
    }
}

impl<'g> From<Tensor<'g>> for Value<'g> {
    fn from(tensor: Tensor<'g>) -> Self {
        Value::Tensor(tensor)
    }
}

impl From<Known> for Value<'_> {
    fn from(known: Known) -> Self {
        Value::Known(known)
    }
}

/// The constant of `data`.
pub(crate) fn constant<'g>(builder: &'g Builder, data: &Elements) -> Tensor<'g> {
    let shape: Shape = data.shape().iter().map(|d| Dim::from(*d)).collect();
    let ty = TensorType::new(data.dtype(), shape);
    let size = data.dtype().size();
    let mut elements = data.bytes().chunks(size);
    let first = elements.next();
    // A constant of equal elements stays a literal, of any type whose numbers f64 has.
    if let (Some(_), true) = (first, elements.all(|e| Some(e) == first))
        && let Ok(array) = data.to_array()
        && let Some(number) = array.as_f64(0)
        && number.abs() < 9e15
    {
        return builder.push(Constant::splat(ty, number), &[]);
    }
    builder.push(Constant::dense(ty, Dense::from_bytes(data.bytes())), &[])
}

/// 0, 1, 2, ... along `axis` of a tensor of `shape`, in i64.
pub(crate) fn iota(builder: &Builder, shape: impl Into<Shape>, axis: usize) -> Tensor<'_> {
    let ty = TensorType::new(DType::I64, shape);
    builder.push(Iota { ty, axis }, &[])
}
