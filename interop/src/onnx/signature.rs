//! The types of a model's inputs: what it names, and names for what it leaves open.

use super::elements;
use super::proto::{DimensionProto, ValueInfoProto};
use kiln_ir::{Dim, TensorType};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The type of an input. An extent is a number or a symbol; one without a name is `INPUT_AXIS`.
pub(super) fn input_type(input: &ValueInfoProto, symbols: &Symbols) -> Result<TensorType, String> {
    let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let tensor = tensor.ok_or("the input is no tensor, but a sequence, an optional or a map")?;
    let dtype = elements::dtype(tensor.elem_type)
        .ok_or_else(|| format!("the input has {}", elements::unknown_type(tensor.elem_type)))?;
    let shape = tensor.shape.as_ref();
    let shape = shape.ok_or("the input has no shape, and so no known number of axes")?;
    let extent = |(axis, dim): (usize, &DimensionProto)| match dim {
        DimensionProto {
            dim_value: Some(n), ..
        } if *n >= 0 => Dim::from(*n),
        DimensionProto {
            dim_param: Some(name),
            ..
        } if name.chars().any(char::is_alphanumeric) => symbols.symbol(name, name),
        DimensionProto { .. } => {
            let name = &input.name;
            symbols.symbol(&format!("{name}_{axis}"), &format!("axis {axis} of {name}"))
        }
    };
    let extents: Vec<Dim> = shape.dim.iter().enumerate().map(extent).collect();
    Ok(TensorType::new(dtype, extents))
}

/// The symbols of extents, and what each stands for in the model.
#[derive(Default)]
pub(super) struct Symbols(RefCell<BTreeMap<String, String>>);

impl Symbols {
    /// The symbol of an extent that a model calls `original`. Names that are spelled alike, such as `a.b` and `a-b`, get symbols of their own:
    /// the second `a_b_2`. A name that is spelled as the text form spells an extent, such as `2*b + 1`, is that extent: exporters name
    /// extents so that follow from others.
    fn symbol(&self, name: &str, original: &str) -> Dim {
        if name.len() <= 1000
            && let Ok(dim) = name.parse::<Dim>()
            && dim.constant().is_none()
            && dim.as_symbol().is_none()
            && dim.to_string() == name
        {
            return dim;
        }
        let spelling = spelled(name);
        let mut symbols = self.0.borrow_mut();
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
