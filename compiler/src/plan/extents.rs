//! Kernels that differ in nothing but how many elements they walk become one, which takes the number as an argument.
//!
//! An optimizer's update of sixty tensors is sixty flat loops over as many extents. A loop whose range is given with the call does not
//! depend on its extent, so one function serves them all. Kernels that nothing is gained for stay as they are, so that dumps show their
//! extents. Nests of several loops are left alone: there an extent is a stride too, or the trip count of an inner loop.

use crate::kernel::{Kernel, Loop, LoopKind, Param, Stmt};
use kiln_ir::program::Step;
use kiln_ir::{DType, Dim};
use std::collections::HashMap;

/// What the extent is called in a kernel that serves several.
const ELEMENTS: &str = "elements";

/// Everything of a kernel but its name.
type Structure = (Vec<Param>, Vec<DType>, Vec<Stmt>);

/// A kernel that takes its extent as an argument, and the argument.
struct General {
    body: Vec<Stmt>,
    extent: Dim,
}

/// Replaces kernels by more general ones where that makes them equal. Each launch has a kernel of its own in the list, whose sizes are the
/// launch's in its own order.
pub(super) fn share_kernels(kernels: &mut [Kernel], steps: &mut [Step]) {
    let general: Vec<Option<General>> = kernels.iter().map(general).collect();
    // Kernels that become equal are a class. Where their extents are equal too, they were one before.
    let mut classes: HashMap<Structure, Vec<usize>> = HashMap::new();
    for (position, (kernel, general)) in kernels.iter().zip(&general).enumerate() {
        if let Some(general) = general {
            let structure = (
                kernel.params.clone(),
                kernel.values.clone(),
                general.body.clone(),
            );
            classes.entry(structure).or_default().push(position);
        }
    }
    let mut shared = vec![false; kernels.len()];
    for class in classes.values() {
        let extent = |at: &usize| general[*at].as_ref().map(|g| &g.extent);
        if class.iter().any(|at| extent(at) != extent(&class[0])) {
            class.iter().for_each(|at| shared[*at] = true);
        }
    }
    let launches = steps.iter_mut().flat_map(Step::calls_mut);
    for launch in launches {
        let at = launch.kernel.index();
        if let (true, Some(general)) = (shared[at], &general[at]) {
            kernels[at].body.clone_from(&general.body);
            launch.sizes = sizes(&kernels[at], general);
        }
    }
}

/// The arguments of a general kernel, in its order.
fn sizes(kernel: &Kernel, general: &General) -> Vec<Dim> {
    let elements = Dim::symbol(ELEMENTS);
    let sizes = kernel.sizes().into_iter();
    sizes
        .map(|dim| {
            if dim == elements {
                general.extent.clone()
            } else {
                dim
            }
        })
        .collect()
}

/// The kernel with its extent as an argument, if it is one flat loop whose range is given with the call.
fn general(kernel: &Kernel) -> Option<General> {
    let shared = kernel.partition()?;
    let elements = Dim::symbol(ELEMENTS);
    let taken = |dim: &Dim| dim.symbols().iter().any(|s| s.name() == ELEMENTS);
    if kernel.sizes().iter().any(taken) {
        return None;
    }
    let replaced = replaced(shared, &shared.extent, &elements)?;
    let mut body = kernel.body.clone();
    *body.last_mut()? = Stmt::Loop(replaced);
    Some(General {
        body,
        extent: shared.extent.clone(),
    })
}

/// A flat loop with another extent: lanes, or strips with the lanes of their phases.
fn replaced(flat: &Loop, extent: &Dim, by: &Dim) -> Option<Loop> {
    if flat.extent != *extent || !matches!(flat.kind, LoopKind::Lanes | LoopKind::Strips) {
        return None;
    }
    let body = flat.body.iter().map(|stmt| match stmt {
        Stmt::Loop(phase) if flat.kind == LoopKind::Strips => {
            replaced(phase, extent, by).map(Stmt::Loop)
        }
        Stmt::Loop(_) => None,
        Stmt::Let { .. } | Stmt::Store { .. } | Stmt::Apply(_) | Stmt::Sort(_) => {
            Some(stmt.clone())
        }
    });
    Some(Loop {
        extent: by.clone(),
        body: body.collect::<Option<_>>()?,
        ..flat.clone()
    })
}
