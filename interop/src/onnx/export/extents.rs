//! Extents that are no numbers: read from the inputs' shapes when the model runs, and computed from these.
//!
//! Each symbol is solved from an axis of an input that is linear in it: `b` itself where there is one, else `2*b + 1` and the like. All of it
//! stands before the other nodes, so that inner graphs can use it. An extent is a vector of one i64, which is what a target shape is joined
//! from.

use super::super::proto::{AttributeProto, NodeProto};
use super::attribute;
use super::body::{Model, Out, Value};
use kiln_ir::{DType, Dim, Expression, Symbol};
use std::collections::HashMap;

/// What is known of extents.
#[derive(Default)]
pub(super) struct Extents {
    /// The axes of inputs whose extents are not numbers.
    axes: Vec<(String, usize, Dim)>,
    known: HashMap<Dim, Value>,
    shapes: HashMap<Vec<Dim>, Value>,
    /// The nodes that compute all this.
    pub(super) nodes: Vec<NodeProto>,
    /// Symbols that are being solved, so that two axes that need each other are no endless search.
    solving: Vec<Symbol>,
}

impl Extents {
    /// Adds an input, whose axes may be asked for their extents.
    pub(super) fn declare(&mut self, input: &Value) {
        for (axis, dim) in input.shape().iter().enumerate() {
            if dim.constant().is_none() {
                self.axes.push((input.name.clone(), axis, dim.clone()));
            }
        }
    }
}

impl Model {
    fn extent_node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        count: usize,
    ) -> Value {
        let name = self.fresh("extent");
        self.extents.nodes.push(NodeProto {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: operator.to_owned(),
            attribute: attributes,
            ..NodeProto::default()
        });
        Value::new(&name, DType::I64, [Dim::from(count)])
    }

    fn arithmetic(&mut self, operator: &str, x: &Value, y: &Value) -> Value {
        self.extent_node(operator, &[&x.name, &y.name], Vec::new(), 1)
    }

    /// The value of an extent, a vector of one i64.
    pub(super) fn extent(&mut self, dim: &Dim) -> Out {
        if let Some(number) = dim.constant() {
            return Ok(self.integers(&[number]));
        }
        if let Some(value) = self.extents.known.get(dim) {
            return Ok(value.clone());
        }
        let own = self.extents.axes.iter().find(|(_, _, d)| d == dim);
        let value = match own.cloned() {
            Some((input, axis, _)) => self.axis(&input, axis),
            None => self.computed(dim)?,
        };
        self.extents.known.insert(dim.clone(), value.clone());
        Ok(value)
    }

    /// The extent of an axis of an input.
    fn axis(&mut self, input: &str, axis: usize) -> Value {
        let (start, end) = (axis as i64, axis as i64 + 1);
        let bounds = vec![attribute::int("start", start), attribute::int("end", end)];
        self.extent_node("Shape", &[input], bounds, 1)
    }

    fn computed(&mut self, dim: &Dim) -> Out {
        match dim.expression() {
            Expression::Constant(number) => Ok(self.integers(&[number])),
            Expression::Symbol(symbol) => self.solved(&symbol),
            Expression::Sum(terms) => self.folded("Add", &terms),
            Expression::Product(factors) => self.folded("Mul", &factors),
            Expression::FloorDiv(a, b) => self.quotient(&a, &b),
            Expression::Mod(a, b) => self.pair("Mod", &a, &b),
            Expression::Min(a, b) => self.pair("Min", &a, &b),
            Expression::Max(a, b) => self.pair("Max", &a, &b),
        }
    }

    fn pair(&mut self, operator: &str, a: &Dim, b: &Dim) -> Out {
        let (a, b) = (self.extent(a)?, self.extent(b)?);
        Ok(self.arithmetic(operator, &a, &b))
    }

    fn folded(&mut self, operator: &str, parts: &[Dim]) -> Out {
        let mut total: Option<Value> = None;
        for part in parts {
            let part = self.extent(part)?;
            total = Some(match total {
                Some(total) => self.arithmetic(operator, &total, &part),
                None => part,
            });
        }
        total.ok_or_else(|| "an extent without terms".into())
    }

    /// The floor of a quotient. ONNX's `Div` rounds to zero, which is the same where nothing is negative.
    fn quotient(&mut self, a: &Dim, b: &Dim) -> Out {
        if a.is_sum_of_sizes() && b.is_sum_of_sizes() {
            return self.pair("Div", a, b);
        }
        let (a, b) = (self.extent(a)?, self.extent(b)?);
        let rest = self.arithmetic("Mod", &a, &b);
        let whole = self.arithmetic("Sub", &a, &rest);
        Ok(self.arithmetic("Div", &whole, &b))
    }

    /// A symbol from an axis whose extent is `factor * symbol + rest`.
    fn solved(&mut self, symbol: &Symbol) -> Out {
        let unknown = || format!("no input has an axis from which the extent `{symbol}` follows");
        if self.extents.solving.contains(symbol) {
            return Err(unknown());
        }
        self.extents.solving.push(symbol.clone());
        let mut found = Err(unknown());
        for (input, axis, dim) in self.extents.axes.clone() {
            let Some((factor, rest)) = linear(&dim, symbol) else {
                continue;
            };
            let parts = self
                .extent(&factor)
                .and_then(|f| Ok((f, self.extent(&rest)?)));
            let Ok((divisor, rest_value)) = parts else {
                continue;
            };
            let mut value = self.axis(&input, axis);
            if rest.constant() != Some(0) {
                value = self.arithmetic("Sub", &value, &rest_value);
            }
            if factor.constant() != Some(1) {
                value = self.arithmetic("Div", &value, &divisor);
            }
            found = Ok(value);
            break;
        }
        self.extents.solving.pop();
        found
    }

    /// Extents as one vector, such as the shape that an `Expand` takes.
    pub(super) fn shape(&mut self, dims: &[Dim]) -> Out {
        let numbers: Option<Vec<i64>> = dims.iter().map(Dim::constant).collect();
        if let Some(numbers) = numbers {
            return Ok(self.integers(&numbers));
        }
        if let [dim] = dims {
            return self.extent(dim);
        }
        if let Some(value) = self.extents.shapes.get(dims) {
            return Ok(value.clone());
        }
        let mut parts = Vec::with_capacity(dims.len());
        for dim in dims {
            parts.push(self.extent(dim)?.name);
        }
        let names: Vec<&str> = parts.iter().map(String::as_str).collect();
        let axis = vec![attribute::int("axis", 0)];
        let value = self.extent_node("Concat", &names, axis, dims.len());
        self.extents.shapes.insert(dims.to_vec(), value.clone());
        Ok(value)
    }
}

/// `factor` and `rest` with `dim = factor * symbol + rest`, where neither has the symbol in it.
fn linear(dim: &Dim, symbol: &Symbol) -> Option<(Dim, Dim)> {
    let terms = match dim.expression() {
        Expression::Sum(terms) => terms,
        Expression::Constant(_)
        | Expression::Symbol(_)
        | Expression::Product(_)
        | Expression::FloorDiv(..)
        | Expression::Mod(..)
        | Expression::Min(..)
        | Expression::Max(..) => vec![dim.clone()],
    };
    let whole = Dim::symbol(symbol.name());
    let (mut factor, mut rest) = (Dim::from(0), Dim::from(0));
    for term in terms {
        match term.exact_div(&whole) {
            Some(quotient) => factor = &factor + &quotient,
            None => rest = &rest + &term,
        }
    }
    let free = |d: &Dim| !d.symbols().contains(symbol);
    let zero = factor.constant() == Some(0);
    (!zero && free(&factor) && free(&rest)).then_some((factor, rest))
}
