//! What a model shows to the outside: its inputs, initializers and outputs, and the symbols of its extents.

use super::elements::Elements;
use super::importer::{Context, Scope};
use super::proto::{DimensionProto, GraphProto, ModelProto, STATES, ValueInfoProto};
use super::value::{Known, Value, Weight};
use super::{ImportOptions, elements, signature};
use kiln_ir::{Builder, Dim, Shape, TensorType};
use std::collections::BTreeSet;

impl Context<'_> {
    /// An output of the graph, or one for each element of a sequence, whose name and length are the result.
    pub(super) fn output<'g>(
        &self,
        builder: &'g Builder,
        name: &str,
        value: Option<&Value<'g>>,
    ) -> Option<(String, usize)> {
        let put =
            |name: &str, value: Option<&Value<'g>>| match value.and_then(|v| v.tensor(builder)) {
                Some(tensor) => builder.output(name, tensor),
                None => self.problem(name, "the output is no tensor, or nothing makes it"),
            };
        match value {
            Some(Value::Failed) => None,
            Some(Value::Sequence(parts)) => {
                for (i, part) in parts.iter().enumerate() {
                    put(&format!("{name}.{i}"), Some(part));
                }
                Some((name.to_owned(), parts.len()))
            }
            value => {
                put(name, value);
                None
            }
        }
    }

    /// Initializers as values; those of floating types are params at the top.
    pub(super) fn initializers(&self, graph: &GraphProto, scope: &mut Scope<'_>) {
        if !graph.sparse_initializer.is_empty() {
            self.problem("sparse_initializer", "Kiln has no sparse tensors");
        }
        for tensor in &graph.initializer {
            let value = match Elements::read(&self.file, self.folder, tensor) {
                Ok(data) => self.weight(&tensor.name, data, scope.top),
                Err(error) => {
                    self.problem(&tensor.name, &error.to_string());
                    Value::Failed
                }
            };
            scope.values.insert(tensor.name.clone(), value);
        }
    }

    /// The data of an initializer, or of a constant that stands for one: a param or a state where it is floating.
    pub(super) fn weight<'g>(&self, name: &str, data: Elements, top: bool) -> Value<'g> {
        let mut weights = self.weights.borrow_mut();
        let constant = self.frozen || !top || self.constants.contains(name);
        if constant || !data.dtype().is_float() || weights.contains_key(name) {
            return Known::Data(data).into();
        }
        weights.insert(name.to_owned(), data.clone());
        Value::Weight(Weight {
            name: name.to_owned(),
            data,
            learns: !self.states.contains(name),
        })
    }

    /// An input of the model as one of the graph, or as a value that is fixed.
    pub(super) fn declare<'g>(
        &self,
        builder: &'g Builder,
        input: &ValueInfoProto,
        options: &ImportOptions,
    ) -> Value<'g> {
        let ty = input.r#type.as_ref();
        let Some(tensor) = ty.and_then(|t| t.tensor_type.as_ref()) else {
            return self.declare_parts(builder, input, options);
        };
        if let Some(data) = options.fixed.get(&input.name) {
            let said = tensor.shape.as_ref().map(|s| s.dim.as_slice());
            let fits = |(said, extent): (&DimensionProto, &usize)| {
                (said.dim_value).is_none_or(|n| n < 0 || n as u64 == *extent as u64)
            };
            let same = said.is_none_or(|dims| {
                dims.len() == data.shape().len() && dims.iter().zip(data.shape()).all(fits)
            });
            if elements::dtype(tensor.elem_type) == Some(data.dtype()) && same {
                return Known::Data(data.clone()).into();
            }
            let (found, own) = (data.dtype(), data.shape());
            let what =
                format!("it is fixed at {found} of shape {own:?}, which it is not declared to be");
            self.problem(&input.name, &what);
            return Value::Failed;
        }
        let ty = match signature::input_type(input, &self.symbols) {
            Ok(ty) => ty,
            Err(what) => {
                self.problem(&input.name, &what);
                return Value::Failed;
            }
        };
        let given = |dim: Dim| {
            let given = dim.as_symbol().and_then(|s| options.dims.get(s.name()));
            given.cloned().unwrap_or(dim)
        };
        let shape: Shape = ty.shape.iter().cloned().map(given).collect();
        builder.input(&input.name, ty.dtype, shape).into()
    }

    /// An input that is a sequence or an optional, as inputs of the graph for its elements.
    fn declare_parts<'g>(
        &self,
        builder: &'g Builder,
        input: &ValueInfoProto,
        options: &ImportOptions,
    ) -> Value<'g> {
        let name = &input.name;
        let refuse = |what: &str| {
            self.problem(name, what);
            Value::Failed
        };
        let ty = input.r#type.as_ref();
        let optional = ty.and_then(|t| t.optional_type.as_deref());
        let ty = optional.map_or(ty, |o| o.elem_type.as_deref());
        let sequence = ty.and_then(|t| t.sequence_type.as_deref());
        let ty = sequence.map_or(ty, |s| s.elem_type.as_deref());
        if ty.and_then(|t| t.tensor_type.as_ref()).is_none() {
            return refuse("the input is neither a tensor nor a sequence or optional of tensors");
        }
        let each = |(i, ty): (usize, &TensorType)| {
            builder
                .input(&format!("{name}.{i}"), ty.dtype, &ty.shape)
                .into()
        };
        match (options.parts.get(name), sequence.is_some()) {
            (Some(parts), true) => Value::Sequence(parts.iter().enumerate().map(each).collect()),
            (None, _) if optional.is_some() => Value::Absent,
            (None, _) => {
                refuse("the input is a sequence, whose elements `ImportOptions::parts` must tell")
            }
            (Some(parts), false) => match parts.as_slice() {
                [ty] => builder.input(name, ty.dtype, &ty.shape).into(),
                [] | [_, _, ..] => refuse("the input is an optional tensor, which has one element"),
            },
        }
    }
}

/// The initializers that do not learn: what batch norms have seen, and what Kiln wrote as states.
pub(super) fn states(model: &ModelProto) -> BTreeSet<String> {
    let nodes = model.graph.iter().flat_map(|graph| &graph.node);
    let norms = nodes.filter(|n| n.op_type == "BatchNormalization" && n.domain.is_empty());
    let seen = norms.flat_map(|n| n.input.iter().skip(3).take(2)).cloned();
    seen.chain(listed(model, STATES)).collect()
}

/// The names that the export listed under a key.
pub(super) fn listed(model: &ModelProto, key: &str) -> impl Iterator<Item = String> {
    let entries = model.metadata_props.iter().filter(move |e| e.key == key);
    entries.flat_map(|e| e.value.split('\n')).map(str::to_owned)
}
