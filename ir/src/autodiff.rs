//! Reverse-mode differentiation as graph transformation.
//!
//! [`grad`] appends nodes: it walks the nodes behind the loss backwards and calls the vjp rule of each. The rules are written in the
//! public builder, so what they append can be differentiated again, to any order. A tensor that no path ties to the loss is a mistake
//! that is reported by name, because a severed gradient that reads as zero is the costliest silence of all.

use crate::builder::{Builder, Tensor};
use crate::diagnostic::{Kind, Refusal};
use crate::graph::Node;
use crate::ids::NodeId;
use crate::ops::{Op, Vjp};
use crate::provenance::Origin;
use std::collections::{BTreeMap, BTreeSet};

mod preaccumulate;

use preaccumulate::Gate;

/// The gradients of the scalar `loss` with respect to each tensor of `wrt`, in order, each of its tensor's type.
///
/// Reported as diagnostics: a loss that is not a floating scalar, a tensor of an integer type, and a tensor that no path ties to the
/// loss. The gradient of such a tensor is poisoned.
#[track_caller]
pub fn grad<'g>(loss: Tensor<'g>, wrt: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let builder = loss.builder();
    // The calls below sit in closures, which do not know the caller.
    let _line = builder.charged_to(builder.provenance().location);
    let poisoned = || wrt.iter().map(|_| builder.poison()).collect();
    let (Some(root), Some(ty)) = (loss.id(), loss.ty()) else {
        builder.lose("the loss of a gradient");
        return poisoned();
    };
    if ty.rank() != 0 || !ty.dtype.is_float() {
        let refusal = Refusal::new(
            Kind::Gradient,
            format!("the gradient of a loss of type {ty}"),
        )
        .help("a loss is a floating scalar; take the mean or the sum");
        builder.report(refusal, Vec::new());
        return poisoned();
    }
    // In a body, what comes from outside is captured first, so that it has a node here.
    let wrt: Vec<Tensor<'g>> = wrt.iter().map(|t| builder.import(*t)).collect();
    let targets: Vec<NodeId> = wrt.iter().filter_map(|t| t.id()).collect();
    let needed = depends_on(builder, root, &targets);
    let seed = builder.splat(ty.dtype, ty.shape, 1.0);
    let seeds = BTreeMap::from([(root, seed)]);
    let cotangents = backward(builder, root, seeds, &targets, &needed);
    wrt.iter().map(|t| pick(builder, *t, &cotangents)).collect()
}

/// The cotangents of `wrt`, given those of values computed from them; `None` where none flows. The pullback of the function from the one to
/// the other: what a control op needs of its body. All tensors belong to one builder.
#[track_caller]
pub(crate) fn pullback<'g>(
    builder: &'g Builder,
    seeds: &[(Tensor<'g>, Tensor<'g>)],
    wrt: &[Tensor<'g>],
) -> Vec<Option<Tensor<'g>>> {
    let mut cotangents: BTreeMap<NodeId, Tensor<'g>> = BTreeMap::new();
    for (value, cotangent) in seeds {
        if let Some(id) = value.id() {
            let sum = cotangents.get(&id).map(|before| *before + *cotangent);
            cotangents.insert(id, sum.unwrap_or(*cotangent));
        }
    }
    let Some(last) = cotangents.keys().next_back().copied() else {
        return vec![None; wrt.len()];
    };
    let targets: Vec<NodeId> = wrt.iter().filter_map(|t| t.id()).collect();
    let needed = depends_on(builder, last, &targets);
    let cotangents = backward(builder, last, cotangents, &targets, &needed);
    let found = |t: &Tensor<'g>| cotangents.get(&t.id()?).copied();
    wrt.iter().map(found).collect()
}

/// For each node up to `root`: whether any of `targets` is among what it is computed from.
pub(crate) fn depends_on(builder: &Builder, root: NodeId, targets: &[NodeId]) -> Vec<bool> {
    let mut needed = vec![false; root.index() + 1];
    for i in 0..=root.index() {
        let id = NodeId::new(i);
        let through = builder
            .node(id)
            .is_some_and(|n| n.operands.iter().any(|o| needed[o.index()]));
        needed[i] = through || targets.contains(&id);
    }
    needed
}

#[track_caller]
fn backward<'g>(
    builder: &'g Builder,
    last: NodeId,
    mut cotangents: BTreeMap<NodeId, Tensor<'g>>,
    targets: &[NodeId],
    needed: &[bool],
) -> BTreeMap<NodeId, Tensor<'g>> {
    let readers = readers(builder, needed);
    let targets: BTreeSet<NodeId> = targets.iter().copied().collect();
    // Of the results of compound ops, by the node of the op: all parts come behind it, so they are complete when the walk reaches it.
    let mut results: BTreeMap<NodeId, Vec<Option<Tensor<'g>>>> = BTreeMap::new();
    for i in (0..=last.index()).rev() {
        let id = NodeId::new(i);
        let (Some(node), true) = (builder.node(id), needed[i]) else {
            continue;
        };
        let on_behalf = |body: &mut dyn FnMut()| {
            builder.on_behalf(&node.provenance, Origin::Vjp(id), body);
        };
        if let (Op::Part(part), Some(cotangent)) = (&node.op, cotangents.get(&id)) {
            for operand in &node.operands {
                let all = results.entry(*operand).or_default();
                all.resize(all.len().max(part.index + 1), None);
                let mut sum = *cotangent;
                if let Some(before) = all[part.index] {
                    on_behalf(&mut || sum = before + *cotangent);
                }
                all[part.index] = Some(sum);
            }
            continue;
        }
        let bundle = results.remove(&id).unwrap_or_default();
        let first = bundle.iter().flatten().next().copied();
        let Some(cotangent) = cotangents.get(&id).copied().or(first) else {
            continue;
        };
        let asked = |id: NodeId| targets.contains(&id) || cotangents.contains_key(&id);
        if let Some(gate) = Gate::ending_at(builder, id, &node, needed, &readers, asked) {
            let mut flow = None;
            on_behalf(&mut || flow = gate.slope(builder).map(|slope| cotangent * slope));
            if let Some(flow) = flow {
                add(builder, &node, id, gate.of(), flow, &mut cotangents);
            }
            continue;
        }
        let needed = |id: NodeId| needed[id.index()];
        pull(
            builder,
            id,
            &node,
            cotangent,
            bundle,
            &needed,
            &mut cotangents,
        );
    }
    cotangents
}

/// For each node, how often those that the cotangents pass read it.
fn readers(builder: &Builder, needed: &[bool]) -> Vec<u32> {
    let mut readers = vec![0; needed.len()];
    for i in (0..needed.len()).filter(|i| needed[*i]) {
        for operand in builder
            .node(NodeId::new(i))
            .iter()
            .flat_map(|n| &n.operands)
        {
            readers[operand.index()] += 1;
        }
    }
    readers
}

/// Adds to the cotangents of the operands of a node what its rule gives for its own; `bundle` are those of the results of a compound op.
#[track_caller]
fn pull<'g>(
    builder: &'g Builder,
    id: NodeId,
    node: &Node,
    cotangent: Tensor<'g>,
    bundle: Vec<Option<Tensor<'g>>>,
    needed: &dyn Fn(NodeId) -> bool,
    cotangents: &mut BTreeMap<NodeId, Tensor<'g>>,
) {
    let cx = Vjp {
        operands: node.operands.iter().map(|o| builder.tensor(*o)).collect(),
        wanted: node.operands.iter().map(|o| needed(*o)).collect(),
        result: builder.tensor(id),
        cotangent,
        cotangents: bundle,
    };
    let flowing = builder.on_behalf(&node.provenance, Origin::Vjp(id), || {
        node.op.rules().vjp(&cx)
    });
    for (operand, flow) in node.operands.iter().zip(flowing) {
        if let (Some(flow), true) = (flow, needed(*operand)) {
            add(builder, node, id, *operand, flow, cotangents);
        }
    }
}

/// Adds to the cotangent of an operand of a node.
#[track_caller]
fn add<'g>(
    builder: &'g Builder,
    node: &Node,
    id: NodeId,
    operand: NodeId,
    flow: Tensor<'g>,
    cotangents: &mut BTreeMap<NodeId, Tensor<'g>>,
) {
    let sum = match cotangents.get(&operand) {
        Some(before) => builder.on_behalf(&node.provenance, Origin::Vjp(id), || *before + flow),
        None => flow,
    };
    cotangents.insert(operand, sum);
}

#[track_caller]
fn pick<'g>(
    builder: &'g Builder,
    target: Tensor<'g>,
    cotangents: &BTreeMap<NodeId, Tensor<'g>>,
) -> Tensor<'g> {
    let (Some(id), Some(ty)) = (target.id(), target.ty()) else {
        return builder.poison();
    };
    if let Some(gradient) = cotangents.get(&id)
        && ty.dtype.is_float()
    {
        return *gradient;
    }
    let name = builder
        .slot_name(id)
        .map_or_else(|| format!("the tensor {id}"), |n| format!("`{n}`"));
    let refusal = if ty.dtype.is_float() {
        Refusal::new(
            Kind::Gradient,
            format!("no path ties {name} to the loss, so it has no gradient"),
        )
        .help("use it in the loss, or leave it out of what is trained")
    } else {
        Refusal::new(
            Kind::Gradient,
            format!("the gradient with respect to {name}, whose type is {ty}"),
        )
        .help("only floating tensors have gradients")
    };
    builder.report(refusal, Vec::new());
    builder.poison()
}
