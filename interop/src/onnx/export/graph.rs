//! The nodes of a graph of the IR, one after the other.
//!
//! Elements that are repeated, and constants of one number, are kept as they are before they are repeated, since operators on single elements
//! broadcast by themselves. Only where something else needs all elements is there an `Expand`.

use super::Unexported;
use super::body::{Body, Out, Value};
use super::{contraction, control, conv, elementwise, indexing, movement, random, reduce, window};
use kiln_ir::ops::{Constant, ConstantValue, Iota, Literal};
use kiln_ir::{Array, Graph, Labels, Node, NodeId, Op, Output, Values};

/// What a node has become.
#[derive(Clone)]
enum Made {
    /// Nothing: no output needs it, or it is reported, or something that it needs is.
    Nothing,
    /// Its results.
    Results(Vec<Value>),
    /// A value that broadcasts to its result, and the result where something asked for it.
    Spread(Value, Option<Value>),
}

/// The values of a region's outputs, where `inputs` are those of its slots.
pub(super) fn nodes(body: &mut Body<'_>, region: &Graph, inputs: Vec<Value>) -> Out<Vec<Value>> {
    let mut table = table(body, region, inputs, region.outputs(), false);
    let mut results = Vec::with_capacity(region.outputs().len());
    for output in region.outputs() {
        // Why it is missing is reported already.
        if table.is_missing(output.node) {
            return Err("its region has nodes that cannot be exported".into());
        }
        results.push(table.whole(body, output.node)?);
    }
    Ok(results)
}

/// The chosen outputs of the whole graph, under their names. What is missing is reported.
pub(super) fn outputs(
    body: &mut Body<'_>,
    graph: &Graph,
    inputs: Vec<Value>,
    chosen: &[Output],
) -> Vec<Value> {
    let mut table = table(body, graph, inputs, chosen, true);
    let mut results = Vec::with_capacity(chosen.len());
    for output in chosen {
        if table.is_missing(output.node) {
            continue;
        }
        match table.whole(body, output.node) {
            Ok(value) => {
                let named = table.named(body, value, &output.name, &results);
                results.push(named);
            }
            Err(reason) => table.report(body, output.node, reason),
        }
    }
    results
}

/// Exports the nodes that outputs need. Where names matter, nodes whose results are outputs get theirs.
fn table<'g>(
    body: &mut Body<'_>,
    graph: &'g Graph,
    inputs: Vec<Value>,
    outputs: &[Output],
    names_matter: bool,
) -> Table<'g> {
    let mut table = Table {
        graph,
        made: vec![Made::Nothing; graph.len()],
    };
    for (slot, value) in graph.slots().iter().zip(inputs) {
        table.made[slot.node.index()] = Made::Results(vec![value]);
    }
    let ids: Vec<NodeId> = outputs.iter().map(|o| o.node).collect();
    let needed = needed(graph, &ids);
    let outer = body.stem.clone();
    for (id, node) in graph.nodes() {
        if !needed[id.index()] || matches!(node.op, Op::Source(_)) {
            continue;
        }
        body.stem = match (outer.as_str(), &*node.provenance.scope) {
            ("", scope) => scope.to_owned(),
            (outer, "") => outer.to_owned(),
            (outer, scope) => format!("{outer}/{scope}"),
        };
        if node.operands.iter().any(|o| table.is_missing(*o)) {
            continue;
        }
        let before = body.nodes.len();
        match table.node(body, node) {
            Ok(made) => table.made[id.index()] = made,
            Err(reason) => table.report(body, id, reason),
        }
        let output = outputs.iter().find(|o| names_matter && o.node == id);
        let results = table.made[id.index()].clone();
        if let (Some(output), Made::Results(results)) = (output, results)
            && let [value] = results.as_slice()
            && body.nodes.len() > before
        {
            table.renamed(body, value, &output.name);
        }
    }
    body.stem = outer;
    table
}

/// Which nodes some output needs.
pub(super) fn needed(graph: &Graph, outputs: &[NodeId]) -> Vec<bool> {
    let mut needed = vec![false; graph.len()];
    for id in outputs {
        needed[id.index()] = true;
    }
    for (id, node) in graph.nodes().rev() {
        if needed[id.index()] {
            for operand in &node.operands {
                needed[operand.index()] = true;
            }
        }
    }
    needed
}

struct Table<'g> {
    graph: &'g Graph,
    made: Vec<Made>,
}

impl Table<'_> {
    fn is_missing(&self, id: NodeId) -> bool {
        matches!(self.made[id.index()], Made::Nothing)
    }

    /// Gives the result of the node that was just written another name; `false` where the value is none.
    fn renamed(&mut self, body: &mut Body<'_>, value: &Value, name: &str) -> bool {
        let last = body.nodes.last_mut();
        let Some(result) = last.and_then(|n| n.output.iter_mut().find(|o| **o == value.name))
        else {
            return false;
        };
        *result = name.to_owned();
        for made in &mut self.made {
            let values: &mut dyn Iterator<Item = &mut Value> = match made {
                Made::Nothing => continue,
                Made::Results(all) => &mut all.iter_mut(),
                Made::Spread(compact, whole) => &mut std::iter::once(compact).chain(whole),
            };
            for known in values {
                if known.name == value.name {
                    known.name = name.to_owned();
                }
            }
        }
        true
    }

    /// The value under the name of an output: as it is, renamed, or copied, as one is that is an output already.
    fn named(&mut self, body: &mut Body<'_>, value: Value, name: &str, outputs: &[Value]) -> Value {
        let named = Value {
            name: name.to_owned(),
            ty: value.ty.clone(),
        };
        let taken = outputs.iter().any(|output| output.name == value.name);
        if value.name != name && (taken || !self.renamed(body, &value, name)) {
            body.copy(&value, name);
        }
        named
    }

    fn report(&self, body: &mut Body<'_>, id: NodeId, reason: String) {
        let node = self.graph.node(id);
        body.model.problems.extend(node.map(|node| Unexported {
            node: Labels::of(self.graph).get(id).to_string(),
            op: node.op.rules().name().to_owned(),
            ty: node.ty.clone(),
            reason,
        }));
    }

    /// The result of a node with all its elements.
    fn whole(&mut self, body: &mut Body<'_>, id: NodeId) -> Out {
        let compact = match &self.made[id.index()] {
            Made::Nothing => return Err("an operand is missing".into()),
            Made::Results(all) => return all.first().cloned().ok_or_else(no_result),
            Made::Spread(_, Some(whole)) => return Ok(whole.clone()),
            Made::Spread(compact, None) => compact.clone(),
        };
        let ty = self.graph.node(id).map(|node| node.ty.clone());
        let ty = ty.ok_or("an operand is no node")?;
        let whole = body.expand(&compact, &ty.shape)?;
        self.made[id.index()] = Made::Spread(compact, Some(whole.clone()));
        Ok(whole)
    }

    /// A value that broadcasts to the result of a node.
    fn compact(&self, id: NodeId) -> Out {
        match &self.made[id.index()] {
            Made::Nothing => Err("an operand is missing".into()),
            Made::Results(all) => all.first().cloned().ok_or_else(no_result),
            Made::Spread(compact, _) => Ok(compact.clone()),
        }
    }

    fn node(&mut self, body: &mut Body<'_>, node: &Node) -> Out<Made> {
        let ty = &node.ty;
        let compact: Vec<Value> = match &node.op {
            Op::Source(_)
            | Op::Constant(_)
            | Op::Iota(_)
            | Op::DimSize(_)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Fma(_)
            | Op::Convert(_)
            | Op::Bitcast(_)
            | Op::StopGradient(_)
            | Op::Broadcast(_) => {
                let operands = node.operands.iter().map(|id| self.compact(*id));
                operands.collect::<Result<_, _>>()?
            }
            // A guard is left out: nothing in ONNX fails on purpose.
            Op::Require(_) => vec![self.compact(first(&node.operands)?)?],
            Op::Part(part) => return self.part(first(&node.operands)?, part.index),
            Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::Reverse(_)
            | Op::Reduce(_)
            | Op::Arg(_)
            | Op::Dot(_)
            | Op::Gather(_)
            | Op::Scatter(_)
            | Op::RngBits(_)
            | Op::Conv(_)
            | Op::ReduceWindow(_)
            | Op::ArgWindow(_)
            | Op::GatherWindow(_)
            | Op::ScatterWindow(_)
            | Op::Cumulative(_)
            | Op::Scan(_)
            | Op::While(_)
            | Op::Cond(_)
            | Op::DynamicSlice(_)
            | Op::DynamicUpdateSlice(_)
            | Op::Sort(_)
            | Op::Argsort(_) => return self.moving(body, node),
            Op::CustomCall(call) => {
                return Err(format!(
                    "custom op `{}` is code of this program",
                    call.target
                ));
            }
        };
        let made = match (&node.op, compact.as_slice()) {
            (Op::Constant(op), _) => constant(body, op)?,
            (Op::Iota(op), _) => iota(body, op)?,
            (Op::DimSize(op), _) => indexing::scalar(body, &op.dim)?,
            (Op::Unary(op), [x]) => elementwise::unary(body, *op, x),
            (Op::Binary(op), [x, y]) => elementwise::binary(body, *op, x, y),
            (Op::Compare(op), [x, y]) => elementwise::compare(body, *op, x, y),
            (Op::Select(_), [condition, yes, no]) => body.choose(condition, yes, no),
            (Op::Fma(_), [x, y, z]) => elementwise::fma(body, x, y, z),
            (Op::Convert(op), [x]) => elementwise::convert(body, x, op.to),
            (Op::Bitcast(op), [x]) => elementwise::bitcast(body, x, op.to)?,
            (Op::Broadcast(op), [x]) => {
                let operand = self.graph.node(first(&node.operands)?);
                let own = operand.map_or(0, |operand| operand.ty.rank());
                movement::compact(body, op, x, own)
            }
            (Op::Source(_) | Op::StopGradient(_) | Op::Require(_), [x]) => x.clone(),
            (_, all) => return Err(unfit(all)),
        };
        Ok(match made.ty.shape == ty.shape {
            true => Made::Results(vec![made]),
            false => Made::Spread(made, None),
        })
    }

    /// A result of a control op.
    fn part(&self, id: NodeId, index: usize) -> Out<Made> {
        match &self.made[id.index()] {
            Made::Results(all) => {
                let value = all.get(index).cloned().ok_or_else(no_result)?;
                Ok(Made::Results(vec![value]))
            }
            Made::Nothing | Made::Spread(..) => Err(no_result()),
        }
    }

    /// An op that needs all elements of its operands.
    fn moving(&mut self, body: &mut Body<'_>, node: &Node) -> Out<Made> {
        // One number stays one number wherever it is moved.
        if let (Op::Reshape(_) | Op::Transpose(_), [only]) = (&node.op, node.operands.as_slice())
            && let Made::Spread(compact, _) = &self.made[only.index()]
            && compact.rank() == 0
        {
            return Ok(Made::Spread(compact.clone(), None));
        }
        let ids = node.operands.clone();
        let operands: Vec<Value> = ids
            .into_iter()
            .map(|id| self.whole(body, id))
            .collect::<Result<_, _>>()?;
        let ty = &node.ty;
        let one = match (&node.op, operands.as_slice()) {
            (Op::Scan(op), all) => return Ok(Made::Results(control::scan(body, op, all)?)),
            (Op::While(op), all) => return Ok(Made::Results(control::repeat(body, op, all)?)),
            (Op::Cond(op), all) => return Ok(Made::Results(control::branch(body, op, all)?)),
            (Op::Reshape(_), [x]) => body.reshape(x, &ty.shape)?,
            (Op::Transpose(op), [x]) => body.transpose(x, &op.order),
            (Op::Slice(op), [x]) => movement::slice(body, op, x, ty)?,
            (Op::Pad(op), all) => movement::pad(body, op, all, ty)?,
            (Op::Concat(op), all) => movement::concat(body, op, all, ty),
            (Op::Reverse(op), [x]) => movement::reverse(body, op, x)?,
            (Op::Reduce(op), [x]) => reduce::reduce(body, op, x, ty)?,
            (Op::Arg(op), [x]) => reduce::arg(body, *op, x, ty),
            (Op::Cumulative(op), [x]) => reduce::cumulative(body, *op, x)?,
            (Op::Sort(op), [x]) => reduce::sort(body, *op, x)?,
            (Op::Argsort(op), [x]) => reduce::argsort(body, op, x)?,
            (Op::Dot(op), [x, y]) => contraction::dot(body, op, x, y, ty)?,
            (Op::Conv(op), [x, y]) => conv::conv(body, op, x, y, ty)?,
            (Op::Gather(op), [x, at]) => indexing::gather(body, *op, x, at, ty)?,
            (Op::Scatter(op), [x, at, y]) => indexing::scatter(body, *op, [x, at, y], ty)?,
            (Op::DynamicSlice(op), all) => indexing::dynamic_slice(body, op, all)?,
            (Op::DynamicUpdateSlice(_), all) => indexing::dynamic_update_slice(body, all)?,
            (Op::RngBits(_), [key, counter]) => random::words(body, key, counter, ty)?,
            (Op::ReduceWindow(op), [x]) => window::reduce(body, op, x, ty)?,
            (Op::ArgWindow(op), [x]) => window::arg(body, op, x, ty)?,
            (Op::GatherWindow(op), [x, at]) => window::gather(body, op, x, at, ty)?,
            (Op::ScatterWindow(op), [x, at]) => window::scatter(body, op, x, at)?,
            (_, all) => return Err(unfit(all)),
        };
        Ok(Made::Results(vec![one]))
    }
}

fn no_result() -> String {
    "an operand has no such result".into()
}

fn unfit(operands: &[Value]) -> String {
    format!("it has {} operands, which do not verify", operands.len())
}

fn first(operands: &[NodeId]) -> Out<NodeId> {
    operands.first().copied().ok_or_else(no_result)
}

fn constant(body: &mut Body<'_>, op: &Constant) -> Out {
    let dtype = op.ty.dtype;
    let values = match &op.value {
        ConstantValue::Dense(data) => {
            let shape = op.ty.shape.constants().ok_or("its shape is no number")?;
            let bytes = bytes::Bytes::copy_from_slice(data.bytes());
            return Ok(body.model.constant(dtype, &shape, bytes));
        }
        ConstantValue::Splat(Literal::Float(bits)) => Values::Float(vec![f64::from_bits(*bits)]),
        ConstantValue::Splat(Literal::Int(number)) => Values::Int(vec![*number]),
    };
    let one = Array::new(dtype, Vec::new(), values).map_err(|error| error.to_string())?;
    Ok(body.model.constant(dtype, &[], one.to_bytes().into()))
}

/// The numbers along one axis, which broadcast along the others.
fn iota(body: &mut Body<'_>, op: &Iota) -> Out {
    let numbers = body.range(&op.ty.shape[op.axis])?;
    let numbers = elementwise::convert(body, &numbers, op.ty.dtype);
    let behind: Vec<usize> = (1..op.ty.rank() - op.axis).collect();
    Ok(body.unsqueeze(&numbers, &behind))
}
