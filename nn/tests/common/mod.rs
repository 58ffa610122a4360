//! A training loop on the interpreter: params and states go back in after each step.

// Each test file uses its part of this module.
#![allow(dead_code)]

pub(crate) mod reference;

use kiln_ir::{Array, DType, Graph, NodeId, Role, Values, eval};
use std::collections::{BTreeMap, BTreeSet};

/// A graph with the present values of its params and states.
#[derive(Clone)]
pub(crate) struct Loop {
    graph: Graph,
    values: BTreeMap<String, Array>,
}

impl Loop {
    /// All slots drawn from `seed`. Params and states have fixed shapes.
    pub(crate) fn new(graph: Graph, seed: u64) -> Self {
        let mut values = BTreeMap::new();
        for slot in graph.slots() {
            let (Role::Param(init) | Role::State(init)) = &slot.role else {
                continue;
            };
            let ty = &graph.node(slot.node).unwrap().ty;
            let shape = ty.shape.constants().unwrap();
            let drawn = init.draw(seed, &slot.name, ty.dtype, &shape).unwrap();
            values.insert(slot.name.clone(), drawn);
        }
        Self { graph, values }
    }

    /// One step: the outputs by name; params and states are those after it.
    pub(crate) fn step(&mut self, feeds: &[(&str, Array)]) -> BTreeMap<String, Array> {
        let step = eval(&self.graph, |slot| {
            let fed = feeds.iter().find(|(name, _)| *name == slot.name);
            let kept = self.values.get(&slot.name);
            fed.map(|(_, value)| value).or(kept).cloned()
        })
        .unwrap_or_else(|e| panic!("{e}"));
        for (target, value) in step.updates {
            let slot = self.graph.slots().iter().find(|s| s.node == target);
            self.values.insert(slot.unwrap().name.clone(), value);
        }
        let names = self.graph.outputs().iter().map(|o| o.name.clone());
        names.zip(step.outputs).collect()
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f64> {
        self.values[name].floats().unwrap().to_vec()
    }

    pub(crate) fn array(&self, name: &str) -> &Array {
        &self.values[name]
    }

    pub(crate) fn ints(&self, name: &str) -> Vec<i64> {
        self.values[name].ints().unwrap().to_vec()
    }

    pub(crate) fn set(&mut self, name: &str, value: Array) {
        let before = self.values.insert(name.to_owned(), value);
        assert!(before.is_some(), "no slot `{name}`");
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.values.keys().map(String::as_str).collect()
    }
}

pub(crate) fn floats(dtype: DType, shape: &[usize], values: &[f64]) -> Array {
    Array::new(dtype, shape.to_vec(), Values::Float(values.to_vec())).unwrap()
}

pub(crate) fn ints(dtype: DType, values: &[i64]) -> Array {
    Array::new(dtype, vec![values.len()], Values::Int(values.to_vec())).unwrap()
}

#[track_caller]
pub(crate) fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= tolerance * (1.0 + e.abs()),
            "[{i}]: {f} instead of {e}"
        );
    }
}

/// Compares the output `gradient` with central differences of the scalar output `value` by the param or state `slot`.
#[track_caller]
pub(crate) fn differences(
    run: &Loop,
    feeds: &[(&str, Array)],
    value: &str,
    slot: &str,
    gradient: &str,
    tolerance: f64,
) {
    let start = run.array(slot).clone();
    let found = run.clone().step(feeds);
    let at = |i: usize, by: f64| {
        let mut run = run.clone();
        let mut moved = start.floats().unwrap().to_vec();
        moved[i] += by;
        run.set(slot, floats(DType::F64, start.shape(), &moved));
        run.step(feeds)[value].floats().unwrap()[0]
    };
    let count = start.floats().unwrap().len();
    let differences: Vec<f64> = (0..count)
        .map(|i| (at(i, 1e-5) - at(i, -1e-5)) / 2e-5)
        .collect();
    close(found[gradient].floats().unwrap(), &differences, tolerance);
}

/// The names of the ops that `output` needs and `without` does not, sources and constants left out.
pub(crate) fn ops_between(graph: &Graph, output: &str, without: &str) -> Vec<&'static str> {
    let behind = |name: &str| {
        let root = graph.outputs().iter().find(|o| o.name == name).unwrap();
        let mut seen = BTreeSet::from([root.node]);
        let mut open: Vec<NodeId> = vec![root.node];
        while let Some(id) = open.pop() {
            for operand in &graph.node(id).unwrap().operands {
                if seen.insert(*operand) {
                    open.push(*operand);
                }
            }
        }
        seen
    };
    let (with, without) = (behind(output), behind(without));
    let names = with
        .difference(&without)
        .map(|id| graph.node(*id).unwrap().op.rules().name());
    names
        .filter(|n| !["const", "param", "input", "source"].contains(n))
        .collect()
}
