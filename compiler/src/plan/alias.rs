//! Whether a kernel may write a result over one of its operands.

use crate::kernel::{Expr, Index, Kernel, LoopId, LoopKind, ParamId, Stmt};

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
    let [store] = stores.as_slice() else {
        return false;
    };
    !store.masked && loads.iter().all(|load| precedes(load, store))
}

fn precedes(load: &Touch, store: &Touch) -> bool {
    if load.masked || load.position > store.position || load.loops.len() != store.loops.len() {
        return false;
    }
    let Some((store_inner, store_outer)) = store.loops.split_last() else {
        return load.index == store.index;
    };
    let (load_inner, load_outer) = match load.loops.split_last() {
        Some(split) => split,
        None => return false,
    };
    let renamed = load.index.substitute(
        &|id| Index::counter(if id == *load_inner { *store_inner } else { id }),
        &|_| None,
    );
    load_outer == store_outer && renamed == store.index
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
