//! Each op against the interpreter, on the operands that the machine code itself had.

use super::*;
use kiln_ir::Values;
use kiln_ir::ops::{Part, Region, Scan};

/// A graph that shows every value.
struct Shown {
    graph: Graph,
    /// For each node that is a single value, its output.
    value: Vec<Option<usize>>,
    /// For each scan whose body can be followed, the output of its first result; the others follow it, and then the stacks of all nodes of the
    /// body.
    loops: Vec<(NodeId, Scan, usize)>,
}

impl Shown {
    fn new(graph: &Graph) -> Self {
        let mut shown = Self {
            graph: Graph::empty(&graph.name),
            value: Vec::new(),
            loops: Vec::new(),
        };
        for (id, node) in graph.nodes() {
            let mut node = node.clone();
            if let Op::Scan(scan) = &node.op
                && scan.body.nodes().all(|(_, n)| is_value(&n.op))
            {
                let scan = scan.clone();
                node.op = stacking_all(&scan).into();
                shown.loops.push((id, scan, 0));
            }
            shown.graph.push(node);
        }
        for slot in graph.slots() {
            shown.graph.push_slot(slot.clone());
        }
        for (id, node) in graph.nodes() {
            let single = node.op.as_compound().is_none();
            shown
                .value
                .push(single.then(|| shown.graph.outputs().len()));
            if single {
                shown.output(id.to_string(), id);
            }
        }
        for at in 0..shown.loops.len() {
            let (id, scan, first) = &mut shown.loops[at];
            *first = shown.graph.outputs().len();
            let (id, results) = (*id, results(&stacking_all(scan)));
            let provenance = graph.node(id).expect("a loop").provenance.clone();
            for (index, ty) in results.into_iter().enumerate() {
                let node = shown.graph.push(Node {
                    op: Part {
                        index,
                        ty: ty.clone(),
                    }
                    .into(),
                    operands: vec![id],
                    ty,
                    provenance: provenance.clone(),
                });
                shown.output(format!("{id}.{index}"), node);
            }
        }
        shown
    }

    fn output(&mut self, name: String, node: NodeId) {
        self.graph.push_output(Output { name, node });
    }
}

/// Whether what an op gives can be looked at: it is one value, of a type that has machine code.
fn is_value(op: &Op) -> bool {
    op.as_compound().is_none() && !matches!(op, Op::Part(_))
}

/// The scan with all nodes of its body stacked behind its results.
fn stacking_all(scan: &Scan) -> Scan {
    let mut body: Graph = (*scan.body).clone();
    for (id, _) in scan.body.nodes() {
        body.push_output(Output {
            name: format!("all {id}"),
            node: id,
        });
    }
    Scan {
        body: Region::new(body),
        ..scan.clone()
    }
}

/// The types of the results of a scan.
fn results(scan: &Scan) -> Vec<TensorType> {
    let outputs = scan.body.outputs().iter().enumerate();
    let ty = |(position, output): (usize, &Output)| {
        let ty = &scan.body.node(output.node).expect("a node").ty;
        match position < scan.carries {
            true => ty.clone(),
            false => scan.whole(ty),
        }
    };
    outputs.map(ty).collect()
}

/// Every node as an output, each checked against the interpreter on the operands that the machine code gave, the nodes of loops in each
/// iteration; but other control ops, which `control.rs` checks as wholes. In the first step the outputs have the bits that they have without all
/// that.
pub(crate) fn each_op(
    graph: &Graph,
    fixed: &Bindings,
    sequence: &[Feeds],
    initial: &[Array],
    expected: &[Result<Results, StepError>],
) -> Result<(), String> {
    let shown = Shown::new(graph);
    let executable = executable(&shown.graph, VARIANTS[0])?;
    let mut session = session_at(&executable, 1, fixed.clone());
    start(&shown.graph, &mut session, initial)?;
    for (position, feeds) in sequence.iter().enumerate() {
        let fed: Vec<Fed> = feeds.inputs.iter().map(|a| Fed::new(a, false)).collect();
        let before = states(&session);
        let found = match step(&mut session, &fed) {
            Ok(found) => found.outputs,
            Err(error) => {
                interpreter_refuses(graph, feeds, &before, &error)?;
                continue;
            }
        };
        if let (0, Some(Err(error))) = (position, expected.first()) {
            return Err(format!("refused without all nodes as outputs: {error}"));
        }
        let value = |id: NodeId| {
            let at = shown.value[id.index()];
            at.map(|at| (&graph.node(id).expect("a node").ty, &found[at]))
        };
        // Nothing is updated here, so that later steps have other states.
        if let (0, Some(Ok(expected))) = (position, expected.first()) {
            for (output, wanted) in graph.outputs().iter().zip(&expected.outputs) {
                let differs = value(output.node).and_then(|(_, found)| bits_differ(found, wanted));
                if let Some(why) = differs {
                    return Err(format!("`{}` with all values shown: {why}", output.name));
                }
            }
        }
        let at = |id: NodeId, op: &Op, why: String| {
            let name = op.rules().name();
            format!(
                "step {position}, {id} `{name}` under {:?}: {why}",
                feeds.bindings
            )
        };
        for (id, node) in graph.nodes() {
            if !is_value(&node.op) || matches!(node.op, Op::Source(_)) {
                continue;
            }
            let operands: Vec<_> = node.operands.iter().filter_map(|o| value(*o)).collect();
            let (ty, computed) = value(id).expect("a single value");
            if let Some(why) = op_differs(&node.op, &operands, ty, &feeds.bindings, computed) {
                return Err(at(id, &node.op, why));
            }
        }
        for (id, scan, first) in &shown.loops {
            let node = graph.node(*id).expect("a loop");
            let operands: Vec<_> = node.operands.iter().filter_map(|o| value(*o)).collect();
            let operands: Vec<&Array> = operands.into_iter().map(|(_, array)| array).collect();
            let (results, stacks) = found[*first..].split_at(scan.body.outputs().len());
            let stacks = &stacks[..scan.body.len()];
            if let Some(why) = loop_differs(scan, &operands, results, stacks, &feeds.bindings) {
                return Err(at(*id, &node.op, why));
            }
        }
    }
    Ok(())
}

/// What is wrong with a loop, if anything, of which the stack of each node of the body is known: each op in each iteration is the interpreter's
/// on what it got, and what one iteration leaves is what the next one finds.
fn loop_differs(
    scan: &Scan,
    operands: &[&Array],
    results: &[Array],
    stacks: &[Array],
    bindings: &Bindings,
) -> Option<String> {
    let body = &scan.body;
    let trip = scan
        .trip
        .eval_size(bindings)
        .expect("a number of iterations");
    let (last, stacked) = results.split_at(scan.carries);
    let (yielded, outputs) = body.outputs().split_at(scan.carries);
    let mut carries: Vec<Array> = operands[..scan.carries]
        .iter()
        .map(|a| (*a).clone())
        .collect();
    for number in 0..trip {
        let at = if scan.reverse {
            trip - 1 - number
        } else {
            number
        };
        let all: Vec<Array> = stacks.iter().map(|stack| entry(stack, at)).collect();
        let value = |id: NodeId| &all[id.index()];
        let here = |id: NodeId, why: String| {
            let op = &body.node(id).expect("a node").op;
            Some(format!(
                "entry {at} of {trip}, {id} `{}`: {why}",
                op.rules().name()
            ))
        };
        for (position, source) in body.inputs().enumerate() {
            let given = match position.checked_sub(scan.carries) {
                None => carries[position].clone(),
                Some(scanned) if scanned < scan.scanned => entry(operands[position], at),
                Some(_) => operands[position].clone(),
            };
            if let Some(why) = bits_differ(value(source), &given) {
                return here(source, why);
            }
        }
        for (id, node) in body.nodes() {
            if matches!(node.op, Op::Source(_)) {
                continue;
            }
            let ty = |id: &NodeId| &body.node(*id).expect("a node").ty;
            let operands: Vec<_> = node.operands.iter().map(|o| (ty(o), value(*o))).collect();
            if let Some(why) = op_differs(&node.op, &operands, &node.ty, bindings, value(id)) {
                return here(id, why);
            }
        }
        for (result, output) in stacked.iter().zip(outputs) {
            if let Some(why) = bits_differ(&entry(result, at), value(output.node)) {
                return here(output.node, format!("stacked as {why}"));
            }
        }
        carries = yielded.iter().map(|o| value(o.node).clone()).collect();
    }
    let mut pairs = last.iter().zip(&carries).enumerate();
    pairs.find_map(|(carry, (found, wanted))| {
        let why = bits_differ(found, wanted)?;
        Some(format!("the last value of carry {carry}: {why}"))
    })
}

/// An entry along axis 0.
fn entry(stack: &Array, at: usize) -> Array {
    let shape = stack.shape()[1..].to_vec();
    let elements: usize = shape.iter().product();
    let range = at * elements..(at + 1) * elements;
    let values = match stack.values() {
        Values::Float(v) => Values::Float(v[range].to_vec()),
        Values::Int(v) => Values::Int(v[range].to_vec()),
    };
    Array::new(stack.dtype(), shape, values).expect("an entry")
}

/// The interpreter refuses the step too, for a guard or an index.
fn interpreter_refuses(
    graph: &Graph,
    feeds: &Feeds,
    states: &[Array],
    error: &StepError,
) -> Result<(), String> {
    let guard = matches!(error, StepError::Guard { .. });
    let sizes = matches!(error, StepError::Plan(_));
    if !guard && !sizes {
        return Err(format!("a step is refused: {error}"));
    }
    let mut values = feeds.inputs.iter();
    let mut kept = states.iter();
    let mut given = |slot: &Slot| {
        if slot.role == kiln_ir::Role::Input {
            values.next().cloned()
        } else {
            kept.next().cloned()
        }
    };
    match eval(graph, &mut given) {
        Err(_) if sizes => Ok(()),
        Err(e)
            if matches!(
                e.cause(),
                EvalError::Required { .. } | EvalError::Index { .. }
            ) =>
        {
            Ok(())
        }
        Err(e) => Err(format!("the interpreter refuses otherwise: {e}")),
        Ok(_) => Err(format!("only the machine code refuses: {error}")),
    }
}
