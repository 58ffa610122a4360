//! One node, as the function that imports it sees it: its inputs, its attributes, and the builder.

use super::elements::{Elements, integers};
use super::error::Reason;
use super::importer::{Context, Scope};
use super::proto::{AttributeProto, GraphProto, NodeProto, attribute_type};
use super::value::{Known, Value};
use kiln_ir::{Builder, DType, Dim, Shape, Tensor, TensorType};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// What a node gives: one value for each output that it has, trailing ones left out.
pub(crate) type Results<'g> = Result<Vec<Value<'g>>, Reason>;

/// The node being imported.
pub(crate) struct Call<'a, 'g> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) scope: &'a Scope<'g>,
    pub(crate) node: &'a NodeProto,
    /// The version of the operator's domain that the model was written for.
    pub(crate) version: i64,
    pub(crate) inputs: Vec<Value<'g>>,
    pub(crate) builder: &'g Builder,
    /// The attributes that were asked for.
    pub(crate) asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a, 'g> Call<'a, 'g> {
    /// The input at a position, absent where there is none.
    pub(crate) fn input(&self, position: usize) -> &Value<'g> {
        self.inputs.get(position).unwrap_or(&Value::Absent)
    }

    /// A tensor that must be there.
    pub(crate) fn tensor(&self, position: usize) -> Result<Tensor<'g>, Reason> {
        let optional = self.optional(position)?;
        optional.ok_or_else(|| Reason::new(format!("input {position} is missing")))
    }

    /// A tensor that may be left out.
    pub(crate) fn optional(&self, position: usize) -> Result<Option<Tensor<'g>>, Reason> {
        match self.input(position) {
            Value::Absent => Ok(None),
            value => value
                .tensor(self.builder)
                .map(Some)
                .ok_or_else(|| Reason::new(format!("input {position} is no tensor"))),
        }
    }

    /// All inputs, which must be tensors.
    pub(crate) fn tensors(&self) -> Result<Vec<Tensor<'g>>, Reason> {
        (0..self.inputs.len()).map(|i| self.tensor(i)).collect()
    }

    /// The type of an input that must be there.
    pub(crate) fn ty(&self, position: usize) -> Result<TensorType, Reason> {
        let ty = self.input(position).ty();
        ty.ok_or_else(|| Reason::new(format!("input {position} is missing or no tensor")))
    }

    /// The shape of an input that must be there.
    pub(crate) fn shape(&self, position: usize) -> Result<Shape, Reason> {
        Ok(self.ty(position)?.shape)
    }

    /// Integers that must be known when the graph is built; `None` where the input is left out.
    pub(crate) fn ints(&self, position: usize, what: &str) -> Result<Option<Vec<i64>>, Reason> {
        let Some(dims) = self.dims(position, what)? else {
            return Ok(None);
        };
        let numbers: Option<Vec<i64>> = dims.iter().map(Dim::constant).collect();
        let numbers = numbers.ok_or_else(|| Reason::new(format!("its {what} is symbolic")))?;
        Ok(Some(numbers))
    }

    /// Extents that must be known when the graph is built; `None` where the input is left out.
    pub(crate) fn dims(&self, position: usize, what: &str) -> Result<Option<Vec<Dim>>, Reason> {
        if self.input(position).is_absent() {
            return Ok(None);
        }
        let dims = self.input(position).dims();
        dims.map(Some).ok_or_else(|| self.unknown(position, what))
    }

    /// Numbers that must be known when the graph is built; `None` where the input is left out.
    pub(crate) fn floats(&self, position: usize, what: &str) -> Result<Option<Vec<f64>>, Reason> {
        if self.input(position).is_absent() {
            return Ok(None);
        }
        let data = self.input(position).data();
        let data = data.ok_or_else(|| self.unknown(position, what))?;
        Ok(Some(numbers(data)?))
    }

    /// Numbers, where they happen to be known.
    pub(crate) fn floats_if_known(&self, position: usize) -> Option<Vec<f64>> {
        match self.input(position) {
            Value::Known(Known::Data(data)) => numbers(data).ok(),
            Value::Known(Known::Dims(..))
            | Value::Weight(_)
            | Value::Tensor(_)
            | Value::Sequence(_)
            | Value::Absent
            | Value::Failed => None,
        }
    }

    /// The reason that an input is computed.
    pub(crate) fn unknown(&self, position: usize, what: &str) -> Reason {
        let name = self.node.input.get(position).map_or("", String::as_str);
        Reason::Unknown(
            position,
            format!("its {what}, `{name}`, is computed when the model runs, but decides a shape"),
        )
    }

    pub(crate) fn attribute(&self, name: &'static str) -> Option<&'a AttributeProto> {
        self.asked.borrow_mut().insert(name);
        self.node.attribute.iter().find(|a| a.name == name)
    }

    fn typed(&self, name: &'static str, wanted: i32) -> Result<Option<&'a AttributeProto>, Reason> {
        match self.attribute(name) {
            // Files of the first version have no types.
            Some(a) if a.r#type == wanted || a.r#type == 0 => Ok(Some(a)),
            Some(_) => Err(Reason::new(format!("attribute `{name}` has another type"))),
            None => Ok(None),
        }
    }

    pub(crate) fn int(&self, name: &'static str) -> Result<Option<i64>, Reason> {
        Ok(self
            .typed(name, attribute_type::INT)?
            .map(|a| a.i.unwrap_or(0)))
    }

    pub(crate) fn int_or(&self, name: &'static str, default: i64) -> Result<i64, Reason> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, Reason> {
        Ok(self.int_or(name, 0)? != 0)
    }

    pub(crate) fn float(&self, name: &'static str) -> Result<Option<f64>, Reason> {
        Ok(self
            .typed(name, attribute_type::FLOAT)?
            .map(|a| f64::from(a.f.unwrap_or(0.0))))
    }

    pub(crate) fn float_or(&self, name: &'static str, default: f64) -> Result<f64, Reason> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    pub(crate) fn text(&self, name: &'static str, default: &str) -> Result<String, Reason> {
        match self.typed(name, attribute_type::STRING)? {
            Some(a) => Ok(String::from_utf8_lossy(&a.s).into_owned()),
            None => Ok(default.to_owned()),
        }
    }

    pub(crate) fn texts(&self, name: &'static str) -> Result<Option<Vec<String>>, Reason> {
        let found = self.typed(name, attribute_type::STRINGS)?;
        let texts = |a: &AttributeProto| {
            let texts = a.strings.iter();
            texts
                .map(|s| String::from_utf8_lossy(s).into_owned())
                .collect()
        };
        Ok(found.map(texts))
    }

    pub(crate) fn int_list(&self, name: &'static str) -> Result<Option<Vec<i64>>, Reason> {
        Ok(self
            .typed(name, attribute_type::INTS)?
            .map(|a| a.ints.clone()))
    }

    pub(crate) fn float_list(&self, name: &'static str) -> Result<Option<Vec<f64>>, Reason> {
        let found = self.typed(name, attribute_type::FLOATS)?;
        Ok(found.map(|a| a.floats.iter().map(|x| f64::from(*x)).collect()))
    }

    pub(crate) fn data(&self, name: &'static str) -> Result<Option<Elements>, Reason> {
        let Some(a) = self.typed(name, attribute_type::TENSOR)? else {
            return Ok(None);
        };
        let tensor = a.t.as_ref();
        let tensor = tensor.ok_or_else(|| Reason::new(format!("attribute `{name}` is empty")))?;
        let read = Elements::read("the model", self.context.folder, tensor);
        read.map(Some).map_err(|e| Reason::new(e.to_string()))
    }

    pub(crate) fn graph(&self, name: &'static str) -> Result<&'a GraphProto, Reason> {
        let found = self.typed(name, attribute_type::GRAPH)?;
        let graph = found.and_then(|a| a.g.as_ref());
        graph.ok_or_else(|| Reason::new(format!("attribute `{name}` is missing")))
    }

    /// The element type that an attribute names by its number.
    pub(crate) fn dtype(&self, name: &'static str) -> Result<Option<DType>, Reason> {
        let Some(number) = self.int(name)? else {
            return Ok(None);
        };
        let number = i32::try_from(number).unwrap_or(-1);
        let dtype = super::elements::dtype(number);
        let unknown = || Reason::new(format!("to {}", super::elements::unknown_type(number)));
        dtype.map(Some).ok_or_else(unknown)
    }

    /// Axes from the attribute `axes`, or from an input since the version in which they became one.
    pub(crate) fn axes(
        &self,
        position: usize,
        input_since: i64,
    ) -> Result<Option<Vec<i64>>, Reason> {
        if self.version >= input_since {
            self.ints(position, "axes")
        } else {
            self.int_list("axes")
        }
    }

    /// How many outputs are asked for.
    pub(crate) fn outputs(&self) -> usize {
        self.node.output.len()
    }
}

/// The elements as f64.
pub(crate) fn numbers(data: &Elements) -> Result<Vec<f64>, Reason> {
    if let Some(integers) = integers(data) {
        return Ok(integers.into_iter().map(|x| x as f64).collect());
    }
    let array = data.to_array().map_err(|e| Reason::new(e.to_string()))?;
    let floats = array.floats().map_err(|e| Reason::new(e.to_string()))?;
    Ok(floats.to_vec())
}

/// An axis of a tensor of `rank` axes; a negative one counts from the end.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, Reason> {
    let signed = rank as i64;
    let at = if axis < 0 {
        axis.saturating_add(signed)
    } else {
        axis
    };
    if (0..signed).contains(&at) {
        return Ok(at as usize);
    }
    Err(Reason::new(format!(
        "axis {axis} of a tensor of {rank} axes"
    )))
}

/// Axes, as [`axis`]; each may be there once.
pub(crate) fn axes(given: &[i64], rank: usize) -> Result<Vec<usize>, Reason> {
    let found: Vec<usize> = given
        .iter()
        .map(|a| axis(*a, rank))
        .collect::<Result<_, _>>()?;
    let distinct: BTreeSet<usize> = found.iter().copied().collect();
    if distinct.len() < found.len() {
        return Err(Reason::new(format!("the axes {given:?} name one twice")));
    }
    Ok(found)
}

/// The single result.
pub(crate) fn one<'g>(value: impl Into<Value<'g>>) -> Results<'g> {
    Ok(vec![value.into()])
}
