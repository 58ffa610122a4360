//! The passes: from graph to graph.
//!
//! The pipeline is one ordered list in two parts. The *mandatory* part always runs and defines the numbers: what it rewrites may round
//! differently, as a sum in another order does. Behind it lies the equality point: the *exact* part, on or off, changes no result by a
//! single bit. (A NaN stays a NaN; which of the NaNs it is carries no meaning in Kiln.)
//!
//! To add a pass: a file here that implements [`Pass`], and its place in [`Pipeline::standard`].

use crate::options::Options;
use kiln_ir::{Graph, NodeId};

mod canonicalize;
mod contract;
mod cse;
mod dce;
mod fold;
mod hoist;
mod join_kept;
mod layout;
mod legalize;
mod literal;
mod matrices;
mod pads;
mod regions;
mod rewrite;
mod strength;

pub use canonicalize::Canonicalize;
pub use contract::AbsorbTransposes;
pub use cse::Cse;
pub use dce::{Dce, live_part};
pub use fold::Fold;
pub use hoist::Hoist;
pub use join_kept::JoinKept;
pub use layout::Layout;
pub use legalize::Legalize;
pub use matrices::OrderMatrices;
pub(crate) use regions::map_regions;
pub use strength::ReduceStrength;

/// What a pass does to numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numerics {
    /// Every result keeps its bits.
    Exact,
    /// Results may be rounded differently; the pass stands before the equality point.
    Reorders,
}

/// What a pass sees besides the graph.
#[derive(Clone, Copy, Debug)]
pub struct PassCx<'a> {
    /// The options of the compilation.
    pub options: &'a Options,
}

/// Why a pass gave up. It is always a defect of the pass, since it was given a valid graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at {node}{}: {message}", rule.map(|r| format!(", in the rule `{r}`")).unwrap_or_default())]
pub struct PassError {
    /// The node of the input graph at which it happened.
    pub node: NodeId,
    /// The rewriting rule at work, if any.
    pub rule: Option<&'static str>,
    /// What went wrong.
    pub message: String,
}

/// A transformation of graphs that keeps their meaning and signature.
pub trait Pass {
    /// The name, in messages, timings and for replay.
    fn name(&self) -> &'static str;
    /// What it does to numbers.
    fn numerics(&self) -> Numerics;
    /// The transformed graph.
    fn run(&self, graph: &Graph, cx: &PassCx<'_>) -> Result<Graph, PassError>;
}

/// The passes in the order in which they run.
pub struct Pipeline {
    /// Always run, before the equality point.
    pub mandatory: Vec<Box<dyn Pass>>,
    /// Run on request, behind the equality point; all are [`Numerics::Exact`].
    pub exact: Vec<Box<dyn Pass>>,
}

impl Pipeline {
    /// The pipeline of every compilation.
    pub fn standard() -> Self {
        Self {
            mandatory: vec![
                Box::new(Legalize),
                Box::new(Hoist),
                Box::new(ReduceStrength),
                Box::new(Layout),
                Box::new(AbsorbTransposes),
                Box::new(OrderMatrices),
            ],
            exact: vec![
                Box::new(Canonicalize),
                Box::new(Fold),
                Box::new(Cse),
                Box::new(JoinKept),
                Box::new(Dce),
            ],
        }
    }

    fn passes(self) -> impl Iterator<Item = Box<dyn Pass>> {
        self.mandatory.into_iter().chain(self.exact)
    }
}

/// The pass of the standard pipeline called `name`.
pub fn by_name(name: &str) -> Option<Box<dyn Pass>> {
    Pipeline::standard().passes().find(|p| p.name() == name)
}

/// The names of all passes, in the order in which they run.
pub fn names() -> Vec<&'static str> {
    Pipeline::standard().passes().map(|p| p.name()).collect()
}
