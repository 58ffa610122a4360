//! What is written: nodes with names that nobody else has, constants once each, and the casts around operators.
//!
//! A [`Body`] is a graph of ONNX under construction: the model's own, or one within a node. Such an inner graph sees the names around it, so
//! constants and the arithmetic of extents are all written at the top.

use super::super::proto::{
    AttributeProto, DimensionProto, GraphProto, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::Unexported;
use super::attribute;
use super::extents::Extents;
use super::types::{computed_in, number};
use bytes::Bytes;
use kiln_ir::{Array, DType, Dim, Shape, TensorType, Values};
use std::collections::{BTreeSet, HashMap};

/// A value or the reason why there is none.
pub(super) type Out<T = Value> = Result<T, String>;

/// A name in the model, with the type of what it stands for.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) ty: TensorType,
}

impl Value {
    pub(super) fn new(name: &str, dtype: DType, shape: impl Into<Shape>) -> Self {
        Self {
            name: name.to_owned(),
            ty: TensorType::new(dtype, shape),
        }
    }

    pub(super) fn dtype(&self) -> DType {
        self.ty.dtype
    }

    pub(super) fn shape(&self) -> &[Dim] {
        &self.ty.shape
    }

    pub(super) fn rank(&self) -> usize {
        self.ty.rank()
    }
}

/// What all graphs of the model share.
#[derive(Default)]
pub(super) struct Model {
    names: BTreeSet<String>,
    numbers: HashMap<String, usize>,
    pub(super) initializers: Vec<TensorProto>,
    constants: HashMap<(DType, Vec<usize>, Bytes), Value>,
    pub(super) extents: Extents,
    pub(super) problems: Vec<Unexported>,
}

impl Model {
    /// Takes a name that is given; `false` where something has it.
    pub(super) fn take(&mut self, name: &str) -> bool {
        self.names.insert(name.to_owned())
    }

    /// A name that nothing has, which begins like this.
    pub(super) fn fresh(&mut self, stem: &str) -> String {
        let number = self.numbers.entry(stem.to_owned()).or_insert(0);
        loop {
            let name = format!("{stem}_{number}");
            *number += 1;
            if self.names.insert(name.clone()) {
                return name;
            }
        }
    }

    /// A tensor of the model under a name that was taken.
    pub(super) fn initializer(&mut self, name: &str, dtype: DType, shape: &[usize], bytes: Bytes) {
        self.initializers.push(TensorProto {
            name: name.to_owned(),
            dims: shape.iter().map(|d| *d as i64).collect(),
            data_type: number(dtype),
            raw_data: bytes,
            ..TensorProto::default()
        });
    }

    /// A constant; equal ones are one tensor.
    pub(super) fn constant(&mut self, dtype: DType, shape: &[usize], bytes: Bytes) -> Value {
        let key = (dtype, shape.to_vec(), bytes.clone());
        if let Some(value) = self.constants.get(&key) {
            return value.clone();
        }
        let name = self.fresh("constant");
        self.initializer(&name, dtype, shape, bytes);
        let dims: Shape = shape.iter().map(|d| Dim::from(*d)).collect();
        let value = Value::new(&name, dtype, dims);
        self.constants.insert(key, value.clone());
        value
    }

    /// A vector of i64.
    pub(super) fn integers(&mut self, numbers: &[i64]) -> Value {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(DType::I64, &[numbers.len()], bytes.into())
    }
}

/// A graph under construction.
pub(super) struct Body<'m> {
    pub(super) model: &'m mut Model,
    pub(super) nodes: Vec<NodeProto>,
    /// What the names of values begin with.
    pub(super) stem: String,
}

impl Body<'_> {
    /// A graph within a node of this one.
    pub(super) fn inner(&mut self) -> Body<'_> {
        Body {
            model: self.model,
            nodes: Vec::new(),
            stem: self.stem.clone(),
        }
    }

    /// A node with results of these types.
    pub(super) fn node(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
        results: Vec<TensorType>,
    ) -> Vec<Value> {
        let names: Vec<&str> = inputs.iter().map(|v| v.name.as_str()).collect();
        self.node_of_names(operator, &names, attributes, results)
    }

    /// As [`node`](Self::node); an empty name leaves an input out.
    pub(super) fn node_of_names(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        results: Vec<TensorType>,
    ) -> Vec<Value> {
        let stem = match self.stem.as_str() {
            "" => operator.to_owned(),
            stem => format!("{stem}/{operator}"),
        };
        let results: Vec<Value> = results
            .into_iter()
            .map(|ty| Value {
                name: self.model.fresh(&stem),
                ty,
            })
            .collect();
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: results.iter().map(|v| v.name.clone()).collect(),
            name: results.first().map(|v| v.name.clone()).unwrap_or_default(),
            op_type: operator.to_owned(),
            attribute: attributes,
            ..NodeProto::default()
        });
        results
    }

    /// A node of one result.
    pub(super) fn one(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
        ty: TensorType,
    ) -> Value {
        let mut results = self.node(operator, inputs, attributes, vec![ty.clone()]);
        // As many results as types were asked for.
        results.pop().unwrap_or(Value {
            name: String::new(),
            ty,
        })
    }

    /// The value once more, under a name.
    pub(super) fn copy(&mut self, value: &Value, name: &str) {
        self.nodes.push(NodeProto {
            input: vec![value.name.clone()],
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: "Identity".into(),
            ..NodeProto::default()
        });
    }

    /// The element type changed as ONNX's `Cast` does it, which is exact or wraps where it is used.
    pub(super) fn cast(&mut self, x: &Value, to: DType) -> Value {
        if x.dtype() == to {
            return x.clone();
        }
        let attributes = vec![attribute::int("to", i64::from(number(to)))];
        self.one("Cast", &[x], attributes, x.ty.with_dtype(to))
    }

    /// A scalar, rounded or wrapped to its type.
    pub(super) fn number(&mut self, dtype: DType, value: f64) -> Value {
        let values = if dtype.is_float() {
            Values::Float(vec![value])
        } else {
            Values::Int(vec![value as i64])
        };
        self.scalar(dtype, values)
    }

    /// A scalar integer of any width; of u64 its bits.
    pub(super) fn integer(&mut self, dtype: DType, value: i64) -> Value {
        self.scalar(dtype, Values::Int(vec![value]))
    }

    fn scalar(&mut self, dtype: DType, values: Values) -> Value {
        // One element fits a scalar.
        let bytes = Array::new(dtype, Vec::new(), values).map(|a| a.to_bytes());
        self.model
            .constant(dtype, &[], bytes.unwrap_or_default().into())
    }

    /// An operator on elements of one type, computed in a type for which there is a kernel; the result has the type of the operands, and
    /// the shape to which theirs broadcast.
    pub(super) fn same(&mut self, operator: &str, operands: &[&Value]) -> Value {
        self.same_with(operator, operands, Vec::new())
    }

    /// As [`same`](Self::same), with attributes.
    pub(super) fn same_with(
        &mut self,
        operator: &str,
        operands: &[&Value],
        attributes: Vec<AttributeProto>,
    ) -> Value {
        let shape = joined(operands);
        self.typed(operator, operands, &[], attributes, shape)
    }

    /// An operator whose first operands have one element type, which the result of this shape has too, followed by others.
    pub(super) fn typed(
        &mut self,
        operator: &str,
        operands: &[&Value],
        others: &[&Value],
        attributes: Vec<AttributeProto>,
        shape: impl Into<Shape>,
    ) -> Value {
        let dtype = operands.first().map_or(DType::F32, |x| x.dtype());
        let within = computed_in(operator, dtype);
        let cast: Vec<Value> = operands.iter().map(|x| self.cast(x, within)).collect();
        let inputs: Vec<&Value> = cast.iter().chain(others.iter().copied()).collect();
        let ty = TensorType::new(within, shape);
        let result = self.one(operator, &inputs, attributes, ty);
        self.cast(&result, dtype)
    }

    /// A comparison, or another operator of one or two operands whose result is `bool`.
    pub(super) fn test(&mut self, operator: &str, operands: &[&Value]) -> Value {
        let dtype = operands.first().map_or(DType::F32, |x| x.dtype());
        let within = computed_in(operator, dtype);
        let cast: Vec<Value> = operands.iter().map(|x| self.cast(x, within)).collect();
        let inputs: Vec<&Value> = cast.iter().collect();
        let ty = TensorType::new(DType::Bool, joined(operands));
        self.one(operator, &inputs, Vec::new(), ty)
    }

    /// `yes` where the condition holds, `no` elsewhere.
    pub(super) fn choose(&mut self, condition: &Value, yes: &Value, no: &Value) -> Value {
        let dtype = yes.dtype();
        let within = computed_in("Where", dtype);
        let (a, b) = (self.cast(yes, within), self.cast(no, within));
        let ty = TensorType::new(within, joined(&[condition, yes, no]));
        let chosen = self.one("Where", &[condition, &a, &b], Vec::new(), ty);
        self.cast(&chosen, dtype)
    }

    /// The graph of an inner body; every output must be a value that a node of it makes.
    pub(super) fn into_graph(self, name: &str, inputs: &[Value], outputs: &[Value]) -> GraphProto {
        GraphProto {
            name: name.to_owned(),
            node: self.nodes,
            input: inputs.iter().map(info).collect(),
            output: outputs.iter().map(info).collect(),
            ..GraphProto::default()
        }
    }
}

/// The shape to which operands broadcast, axes matched from the last.
pub(super) fn joined(operands: &[&Value]) -> Shape {
    let rank = operands.iter().map(|x| x.rank()).max().unwrap_or(0);
    let mut shape = vec![Dim::from(1); rank];
    for x in operands {
        let skipped = rank - x.rank();
        for (dim, own) in shape[skipped..].iter_mut().zip(x.shape()) {
            if own.constant() != Some(1) {
                *dim = own.clone();
            }
        }
    }
    shape.into()
}

/// A value of the signature. Extents that are no numbers are named by their text.
pub(super) fn info(value: &Value) -> ValueInfoProto {
    let dimension = |d: &Dim| match d.constant() {
        Some(number) => DimensionProto {
            dim_value: Some(number),
            dim_param: None,
        },
        None => DimensionProto {
            dim_value: None,
            dim_param: Some(d.to_string()),
        },
    };
    let shape = TensorShapeProto {
        dim: value.shape().iter().map(dimension).collect(),
    };
    ValueInfoProto {
        name: value.name.clone(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: number(value.dtype()),
                shape: Some(shape),
            }),
            ..TypeProto::default()
        }),
    }
}
