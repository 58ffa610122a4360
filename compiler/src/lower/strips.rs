//! Lanes loops with transcendental functions become strips in phases.
//!
//! A phase computes what it can up to the operands of the next functions, which it stores to strips in L1; the functions run over the
//! strips at the full width of the machine ([`Apply`](crate::kernel::Apply)); the next phase reads the results. What a later phase needs
//! again is computed again if that is cheap, and kept in another strip if not. Folds stay in the last phase, whose order is that of the
//! whole lanes loop, so no bit changes.
//!
//! It happens between lowering and planning: all stores come last, so what could be computed in place still can, and the planner's
//! question is answered for the kernel that will run. A strip is per-thread scratch, shared by all loops of a kernel.
//!
//! Divisions and square roots take as long in 128 bits as in 512. They are functions too, but only where their operands are in memory
//! anyway: to store them first costs what is gained, as does every instruction that a phase repeats. A sum or product of operands in
//! memory joins the functions if it serves nothing but longer ones, or if functions can then do all that the loop does.
//!
//! Left as they are: loops known to be short, which a call would not pay for; loops around other loops (column reductions); loops that
//! load from what they store to; and loops that the emitter runs at full width as they are.

use super::{LoweredKernel, ParamSource};
use crate::emit::analysis::Facts;
use crate::kernel::{Access, LoopId, LoopKind, Param, ParamId, STRIP, Stmt, ValueId};
use kiln_ir::{DType, Dim};

mod build;
mod phases;

use phases::Phases;

/// Which lanes loops become strips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strips {
    /// None.
    None,
    /// All for which it pays.
    All,
    /// Those among them that the emitter does not run at full width as they are.
    Rest,
}

/// Cuts the lanes loops of a kernel for which it pays.
pub(super) fn cut(lowered: &mut LoweredKernel, strips: Strips) {
    if strips == Strips::None {
        return;
    }
    let facts = Facts::of(&lowered.kernel);
    let body = std::mem::take(&mut lowered.kernel.body);
    let mut next = 0;
    highest(&body, &mut next);
    let mut cutter = Cutter {
        lowered,
        facts,
        rest: strips == Strips::Rest,
        strips: Vec::new(),
        next,
    };
    let body = cutter.body(body);
    lowered.kernel.body = body;
}

/// Raises `next` above all loops of a body.
fn highest(body: &[Stmt], next: &mut u32) {
    for stmt in body {
        match stmt {
            Stmt::Loop(inner) => {
                *next = (*next).max(inner.id.0 + 1);
                highest(&inner.body, next);
            }
            Stmt::Apply(apply) => *next = (*next).max(apply.id.0 + 1),
            Stmt::Let { .. } | Stmt::Store { .. } | Stmt::Sort(_) => {}
        }
    }
}

struct Cutter<'l> {
    lowered: &'l mut LoweredKernel,
    facts: Facts,
    /// Whether loops that the emitter runs at full width stay as they are.
    rest: bool,
    /// The strips of the kernel, which every loop uses anew.
    strips: Vec<(DType, ParamId)>,
    /// The next free loop.
    next: u32,
}

impl Cutter<'_> {
    fn body(&mut self, body: Vec<Stmt>) -> Vec<Stmt> {
        let mut stmts = Vec::with_capacity(body.len());
        for stmt in body {
            stmts.push(match stmt {
                Stmt::Loop(inner) if inner.kind == LoopKind::Lanes => {
                    Stmt::Loop(match Phases::of(self, &inner) {
                        Some(phases) => phases.build(self),
                        None => inner,
                    })
                }
                Stmt::Loop(mut inner) => {
                    inner.body = self.body(inner.body);
                    Stmt::Loop(inner)
                }
                Stmt::Let { .. } | Stmt::Store { .. } | Stmt::Apply(_) | Stmt::Sort(_) => stmt,
            });
        }
        stmts
    }

    fn fresh_loop(&mut self) -> LoopId {
        self.next += 1;
        LoopId(self.next - 1)
    }

    fn fresh_value(&mut self, like: ValueId) -> ValueId {
        let dtype = self.dtype(like);
        let values = &mut self.lowered.kernel.values;
        values.push(dtype);
        ValueId(values.len() as u32 - 1)
    }

    fn dtype(&self, value: ValueId) -> DType {
        self.lowered.kernel.values[value.index()]
    }

    /// A strip that is not among those in use.
    fn strip(&mut self, dtype: DType, used: &mut Vec<ParamId>) -> ParamId {
        let free = self
            .strips
            .iter()
            .find(|(d, p)| *d == dtype && !used.contains(p));
        let param = match free {
            Some((_, param)) => *param,
            None => {
                self.lowered.kernel.params.push(Param {
                    dtype,
                    access: Access::ReadWrite,
                });
                let source = ParamSource::Scratch(dtype, Dim::from(STRIP));
                self.lowered.params.push(source);
                let param = ParamId(self.lowered.kernel.params.len() as u32 - 1);
                self.strips.push((dtype, param));
                param
            }
        };
        used.push(param);
        param
    }
}
