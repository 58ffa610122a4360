//! Loops over axes, for kernels whose loops are part of an op's meaning: each loop walks some axes as one.

use super::count;
use crate::access::unravel;
use crate::kernel::{Index, Loop, LoopId, LoopKind, Stmt};
use kiln_ir::Dim;

/// Which loop walks which axes of a point.
pub(super) struct Walks {
    axes: Vec<Dim>,
    /// Loop `i` is at position `i`.
    loops: Vec<Vec<usize>>,
}

impl Walks {
    pub(super) fn new<const N: usize>(axes: &[Dim], loops: [Vec<usize>; N]) -> Self {
        Self {
            axes: axes.to_vec(),
            loops: loops.to_vec(),
        }
    }

    fn shape(&self, id: LoopId) -> Vec<Dim> {
        let axes = self.loops.get(id.index()).into_iter().flatten();
        axes.map(|a| self.axes[*a].clone()).collect()
    }

    /// Whether a loop walks any axis at all.
    pub(super) fn walks(&self, id: LoopId) -> bool {
        self.loops.get(id.index()).is_some_and(|of| !of.is_empty())
    }

    /// The trip count of a loop.
    pub(super) fn extent(&self, id: LoopId) -> Dim {
        count(&self.shape(id))
    }

    /// The counter of each axis within these loops; 0 where none of them walks it.
    pub(super) fn counters(&self, within: &[LoopId]) -> Vec<Index> {
        let known = |id: LoopId| Some(self.extent(id));
        let mut by_axis = vec![Index::constant(0); self.axes.len()];
        for id in within {
            let indices = unravel(&Index::counter(*id), &self.shape(*id), &known);
            for (axis, index) in self.loops[id.index()].iter().zip(indices) {
                by_axis[*axis] = index;
            }
        }
        by_axis
    }

    /// An index over axes as one over loops.
    pub(super) fn replaced(&self, index: &Index, by_axis: &[Index]) -> Index {
        let known = |id: LoopId| Some(self.extent(id));
        index.substitute(&|id| by_axis[id.index()].clone(), &known)
    }

    /// A loop of this kind without accumulators.
    pub(super) fn looped(&self, id: LoopId, kind: LoopKind, body: Vec<Stmt>) -> Stmt {
        looped(id, self.extent(id), kind, body)
    }
}

pub(super) fn looped(id: LoopId, extent: Dim, kind: LoopKind, body: Vec<Stmt>) -> Stmt {
    Stmt::Loop(Loop {
        id,
        extent,
        kind,
        accumulators: Vec::new(),
        body,
    })
}
