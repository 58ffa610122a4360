//! Whether a kernel may write a result over one of its operands.

use crate::kernel::{Atom, Expr, Index, Kernel, LoopId, LoopKind, ParamId, Stmt, gcd};
use kiln_ir::Dim;
use std::collections::BTreeMap;

/// A place where a parameter is touched: the loops around it from the outermost, and its position in the kernel.
struct Touch {
    loops: Vec<LoopId>,
    position: usize,
    index: Index,
    masked: bool,
}

/// Whether every element of `from` is read, in the unit that writes it, before it is written as the same element of `to`.
///
/// The loops of different sweeps over one unit count the same elements, so a load of an earlier sweep is compared with its counter
/// renamed to that of the store. So do the phases of strips: each touches an element in the strip that the element lies in, so that the
/// order of the phases is the order in which the element is touched, and the strips themselves count for nothing.
///
/// A result that is written in parts, as gates that are joined are, has several stores. A load of one part and a store of another have
/// nothing to do with each other: see [`apart()`].
pub(super) fn may_alias(kernel: &Kernel, from: ParamId, to: ParamId) -> bool {
    let mut loads = Vec::new();
    let mut stores = Vec::new();
    let mut position = 0;
    collect(
        &kernel.body,
        &mut Vec::new(),
        &mut position,
        &mut |touch, param, is_store| {
            if is_store && param == to {
                stores.push(touch);
            } else if !is_store && param == from {
                loads.push(touch);
            }
        },
    );
    let mut extents = BTreeMap::new();
    measure(&kernel.body, None, &mut extents);
    let before = |load: &Touch| {
        let mut stores = stores.iter();
        stores.all(|store| precedes(load, store) || apart(load, store, &extents))
    };
    !stores.is_empty() && stores.iter().all(|s| !s.masked) && loads.iter().all(before)
}

fn precedes(load: &Touch, store: &Touch) -> bool {
    if load.masked || load.position > store.position || load.loops.len() != store.loops.len() {
        return false;
    }
    match (load.loops.split_last(), store.loops.split_last()) {
        (None, None) => load.index == store.index,
        (Some((from, load_outer)), Some((to, store_outer))) => {
            load_outer == store_outer && renamed(&load.index, *from, *to) == store.index
        }
        (_, _) => false,
    }
}

/// An index with one counter in the place of another.
fn renamed(index: &Index, from: LoopId, to: LoopId) -> Index {
    let counter = |id| Index::counter(if id == from { to } else { id });
    index.substitute(&counter, &|_| None)
}

/// Whether a load and a store never touch the same element, in whatever iterations of the loops around them: both step through stretches
/// of rows, one element after the other, and the stretches lie apart within the rows.
fn apart(load: &Touch, store: &Touch, extents: &BTreeMap<LoopId, Dim>) -> bool {
    let stretch = |touch: &Touch| {
        let (inner, _) = touch.loops.split_last()?;
        let (mut row, mut adjacent) = (0, false);
        for (atom, c) in touch.index.terms() {
            match (atom, c.constant()?) {
                (Atom::Loop(id), 1) if id == inner => adjacent = true,
                (Atom::Loop(id), c) if id != inner => row = gcd(row, c),
                (_, _) => return None,
            }
        }
        let start = touch.index.base().constant()?;
        let end = start.checked_add(extents.get(inner)?.constant()?)?;
        (adjacent && start >= 0).then_some((start, end, row))
    };
    let (Some(load), Some(store)) = (stretch(load), stretch(store)) else {
        return false;
    };
    // The rows of both are multiples of this; without any, there is one row.
    let row = gcd(load.2, store.2);
    let within = row == 0 || load.1 <= row && store.1 <= row;
    within && (load.1 <= store.0 || store.1 <= load.0)
}

/// The extents of loops; functions over strips run as far as the strips do.
fn measure(body: &[Stmt], strips: Option<&Dim>, extents: &mut BTreeMap<LoopId, Dim>) {
    for stmt in body {
        match stmt {
            Stmt::Loop(inner) => {
                extents.insert(inner.id, inner.extent.clone());
                let strips = (inner.kind == LoopKind::Strips).then_some(&inner.extent);
                measure(&inner.body, strips, extents);
            }
            Stmt::Apply(apply) => {
                extents.extend(strips.map(|extent| (apply.id, extent.clone())));
            }
            Stmt::Let { .. } | Stmt::Store { .. } | Stmt::Sort(_) => {}
        }
    }
}

fn collect(
    body: &[Stmt],
    loops: &mut Vec<LoopId>,
    position: &mut usize,
    found: &mut dyn FnMut(Touch, ParamId, bool),
) {
    for stmt in body {
        *position += 1;
        let mut touch = |index: &Index, masked: bool, param: ParamId, is_store: bool| {
            let touch = Touch {
                loops: loops.clone(),
                position: *position,
                index: index.clone(),
                masked,
            };
            found(touch, param, is_store);
        };
        match stmt {
            Stmt::Let {
                expr:
                    Expr::Load {
                        param,
                        index,
                        predicate,
                    },
                ..
            } => touch(index, predicate.is_some(), *param, false),
            Stmt::Let { .. } => {}
            Stmt::Store {
                param,
                index,
                predicate,
                ..
            } => touch(index, predicate.is_some(), *param, true),
            Stmt::Loop(inner) if inner.kind == LoopKind::Strips => {
                collect(&inner.body, loops, position, found);
            }
            Stmt::Apply(apply) => {
                loops.push(apply.id);
                for element in apply.elements() {
                    let is_store = std::ptr::eq(element, &apply.target);
                    let touch = Touch {
                        loops: loops.clone(),
                        position: *position,
                        index: element.index.clone(),
                        masked: false,
                    };
                    found(touch, element.param, is_store);
                }
                loops.pop();
            }
            // It reads and writes rows, more than the one element that a touch is about: nothing shares memory with it.
            Stmt::Sort(sort) => {
                touch(&sort.target.index, true, sort.row, false);
                touch(&sort.target.index, true, sort.target.param, true);
            }
            Stmt::Loop(inner) => {
                loops.push(inner.id);
                collect(&inner.body, loops, position, found);
                loops.pop();
            }
        }
    }
}
