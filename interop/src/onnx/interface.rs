//! What a model shows to the outside: its inputs, initializers and outputs, and the symbols of its extents.

use super::elements::Elements;
use super::importer::{Context, Scope};
use super::proto::{DimensionProto, GraphProto, ValueInfoProto};
use super::value::{Known, Value};
use super::{ImportOptions, elements};
use kiln_ir::{Builder, Dim, Shape, TensorType};

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

    /// Initializers as values; those of floating types are params at the top, and their data is given back.
    pub(super) fn initializers(
        &self,
        graph: &GraphProto,
        scope: &mut Scope<'_>,
        top: bool,
    ) -> Vec<(String, Elements)> {
        let mut params = Vec::new();
        if !graph.sparse_initializer.is_empty() {
            self.problem("sparse_initializer", "Kiln has no sparse tensors");
        }
        for tensor in &graph.initializer {
            let value = match Elements::read(&self.file, self.folder, tensor) {
                Ok(data) if data.dtype().is_float() && top => {
                    params.push((tensor.name.clone(), data.clone()));
                    Value::Param(tensor.name.clone(), data)
                }
                Ok(data) => Known::Data(data).into(),
                Err(error) => {
                    self.problem(&tensor.name, &error.to_string());
                    Value::Failed
                }
            };
            scope.values.insert(tensor.name.clone(), value);
        }
        params
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
        let Some(dtype) = elements::dtype(tensor.elem_type) else {
            let what = format!("the input has {}", elements::unknown_type(tensor.elem_type));
            self.problem(&input.name, &what);
            return Value::Failed;
        };
        if let Some(data) = options.fixed.get(&input.name) {
            let said = tensor.shape.as_ref().map(|s| s.dim.as_slice());
            let fits = |(said, extent): (&DimensionProto, &usize)| {
                (said.dim_value).is_none_or(|n| n < 0 || n as u64 == *extent as u64)
            };
            let same = said.is_none_or(|dims| {
                dims.len() == data.shape().len() && dims.iter().zip(data.shape()).all(fits)
            });
            if data.dtype() == dtype && same {
                return Known::Data(data.clone()).into();
            }
            let (found, own) = (data.dtype(), data.shape());
            let what =
                format!("it is fixed at {found} of shape {own:?}, which it is not declared to be");
            self.problem(&input.name, &what);
            return Value::Failed;
        }
        let Some(shape) = &tensor.shape else {
            self.problem(
                &input.name,
                "the input has no shape, and so no known number of axes",
            );
            return Value::Failed;
        };
        let extent = |(axis, dim): (usize, &DimensionProto)| match dim {
            DimensionProto {
                dim_value: Some(n), ..
            } if *n >= 0 => Dim::from(*n),
            DimensionProto {
                dim_param: Some(name),
                ..
            } if name.chars().any(char::is_alphanumeric) => self.symbol(name, name),
            DimensionProto { .. } => {
                let name = &input.name;
                self.symbol(&format!("{name}_{axis}"), &format!("axis {axis} of {name}"))
            }
        };
        let given = |dim: Dim| {
            let given = dim.as_symbol().and_then(|s| options.dims.get(s.name()));
            given.cloned().unwrap_or(dim)
        };
        let extents = shape.dim.iter().enumerate().map(extent);
        let shape: Shape = extents.map(given).collect();
        builder.input(&input.name, dtype, shape).into()
    }

    /// The symbol of an extent that a model calls `original`. Names that are spelled alike, such as `a.b` and `a-b`, get symbols of their own:
    /// the second `a_b_2`.
    fn symbol(&self, name: &str, original: &str) -> Dim {
        let spelling = spelled(name);
        let mut symbols = self.symbols.borrow_mut();
        let mut symbol = spelling.clone();
        let mut number = 1;
        while symbols.get(&symbol).is_some_and(|o| o != original) {
            number += 1;
            symbol = format!("{spelling}_{number}");
        }
        let dim = Dim::symbol(&symbol);
        symbols.insert(symbol, original.to_owned());
        dim
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

/// The spelling of a symbol: letters, digits and `_`, which is what the text form reads.
fn spelled(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut plain: String = name.chars().map(plain).take(60).collect();
    let begins = plain.chars().next().is_some_and(|c| c.is_ascii_digit());
    if begins || ["floordiv", "mod", "min", "max"].contains(&plain.as_str()) {
        plain.insert(0, '_');
    }
    plain
}
