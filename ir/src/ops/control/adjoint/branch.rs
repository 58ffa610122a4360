//! The adjoint of a `cond`: a `cond` on the same condition, whose branches pull the cotangents back through the old ones.

use super::super::prune::extract;
use super::super::{Cond, Region};
use super::{replay, zeros};
use crate::autodiff::pullback;
use crate::builder::Tensor;
use crate::ids::NodeId;
use crate::ops::{Source, Vjp};

pub(in crate::ops::control) fn cond<'g>(op: &Cond, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
    let builder = cx.result.builder();
    let none = vec![None; cx.operands.len()];
    let Some((condition, taken)) = cx.operands.split_first() else {
        return none;
    };
    let split = op.then.slots().len().min(taken.len());
    let wanted: Vec<usize> = (0..taken.len())
        .filter(|p| {
            let float = taken[*p].ty().is_some_and(|ty| ty.dtype.is_float());
            float && cx.wanted.get(p + 1).copied().unwrap_or(false)
        })
        .collect();
    let given: Vec<(usize, Tensor<'g>)> = (cx.cotangents.iter().enumerate())
        .filter_map(|(position, cotangent)| Some((position, (*cotangent)?)))
        .collect();
    if wanted.is_empty() || given.is_empty() {
        return none;
    }
    let mut operands = vec![*condition];
    let mut regions = Vec::new();
    for (region, range) in [(&op.then, 0..split), (&op.otherwise, split..taken.len())] {
        let nested = builder.nested_adjoint();
        let again = replay(&nested, region);
        let mut sources = again.sources.clone();
        operands.extend(&taken[range.clone()]);
        let mut seeds = Vec::new();
        for (position, cotangent) in &given {
            let (Some(value), Some(ty)) = (again.yielded.get(*position), cotangent.ty()) else {
                continue;
            };
            let source = nested.body_source("cotangent", Source { ty });
            seeds.push((*value, source));
            sources.push(source);
            operands.push(*cotangent);
        }
        let inside = |p: &usize| range.contains(p).then(|| again.sources[p - range.start]);
        let targets: Vec<Tensor<'_>> = wanted.iter().filter_map(inside).collect();
        let mut flows = pullback(&nested, &seeds, &targets).into_iter();
        let outputs: Vec<NodeId> = wanted
            .iter()
            .filter_map(|p| {
                let flow = inside(p).and_then(|_| flows.next()).flatten();
                let flow = flow.or_else(|| Some(zeros(&nested, &taken[*p].ty()?)));
                flow.and_then(Tensor::id)
            })
            .collect();
        let body = nested.snapshot();
        let named: Vec<(NodeId, String)> = sources
            .iter()
            .filter_map(|s| {
                let id = s.id()?;
                let slot = body.slots().iter().find(|slot| slot.node == id)?;
                Some((id, slot.name.clone()))
            })
            .collect();
        regions.push(Region::new(extract(&body, "adjoint", &named, &outputs)));
        builder.adopt(&nested);
    }
    let [then, otherwise] = regions.try_into().unwrap_or_else(|_| {
        // Two regions go in, so two come out.
        [op.then.clone(), op.otherwise.clone()]
    });
    let parts = builder.push_compound(Cond { then, otherwise }, &operands);
    let mut flows = none;
    for (position, part) in wanted.iter().zip(parts) {
        flows[position + 1] = Some(part);
    }
    flows
}
