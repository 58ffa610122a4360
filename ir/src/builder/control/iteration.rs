//! What the body of a control op sees and yields, and how it learns the number of its iteration.
//!
//! The number is the entry of one more scanned tensor, `0, 1, 2, ...`. It is made only for a body that asks, so others pay nothing.

use super::super::{Builder, Tensor};
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ids::NodeId;
use crate::ops::{DimSize, Save, Source};
use crate::types::TensorType;
use std::marker::PhantomData;

/// What a builder builds, seen from whoever asks for the number of the iteration.
#[derive(Clone)]
pub(in crate::builder) enum Surround {
    /// No body, but the whole graph.
    Graph,
    /// A body that runs at most once for each time the graph around it does. `begins` has, for each builder around it, outermost first,
    /// how many nodes there were before.
    Branch { begins: Vec<usize> },
    /// The body of a `while`, or its test.
    Repeat,
    /// The body of a scan.
    Scan(Around),
}

/// The scan around a body.
#[derive(Clone)]
pub(in crate::builder) struct Around {
    /// How many iterations there are; `None` where a mistake hides it.
    pub(super) trip: Option<Dim>,
    /// Whether the scan around this one goes over segments of the same loop.
    pub(super) in_segment: bool,
    /// The source of the number, once somebody asked.
    pub(super) number: Option<NodeId>,
}

/// How a scan runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanOptions {
    /// From the last entry to the first.
    pub reverse: bool,
    /// What the forward pass keeps for the gradient.
    pub save: Save,
    /// The number of iterations, where nothing is scanned that tells it.
    pub trip: Option<Dim>,
    /// Keeps the carries of every n-th iteration only, and computes the others again for the gradient: with `n` near the square root of
    /// the number of iterations, memory grows with the square root (Chen et al. 2016). `n` must divide the number of iterations.
    pub checkpoint: Option<usize>,
}

impl Default for ScanOptions {
    /// Forward, over as many iterations as there are entries, with results kept.
    fn default() -> Self {
        Self {
            reverse: false,
            save: Save::Results,
            trip: None,
            checkpoint: None,
        }
    }
}

/// What the body of a control op sees. `'g` is the lifetime of the graph around it, whose tensors the body may use.
pub struct Iteration<'b, 'g: 'b> {
    pub(super) builder: &'b Builder,
    pub(super) carries: Vec<Tensor<'b>>,
    pub(super) entries: Vec<Tensor<'b>>,
    pub(super) around: PhantomData<&'b &'g ()>,
}

impl<'b> Iteration<'b, '_> {
    /// The builder of the body.
    pub fn builder(&self) -> &'b Builder {
        self.builder
    }

    /// The carries, as the iteration before left them.
    pub fn carries(&self) -> &[Tensor<'b>] {
        &self.carries
    }

    /// The entry of each scanned tensor.
    pub fn entries(&self) -> &[Tensor<'b>] {
        &self.entries
    }

    /// The carry at a position; one that is not there is a mistake.
    #[track_caller]
    pub fn carry(&self, position: usize) -> Tensor<'b> {
        self.at(&self.carries, position, "carry")
    }

    /// The entry of the scanned tensor at a position; one that is not there is a mistake.
    #[track_caller]
    pub fn entry(&self, position: usize) -> Tensor<'b> {
        self.at(&self.entries, position, "scanned tensor")
    }

    /// The number of the iteration, `i64`: the position along axis 0 of its entries, whether the scan goes forward or in reverse. In a branch
    /// it is that of the scan around it; the body of a `while` has none, which carries a count if it needs one.
    #[track_caller]
    pub fn number(&self) -> Tensor<'b> {
        self.builder.number_in_loop()
    }

    #[track_caller]
    fn at(&self, all: &[Tensor<'b>], position: usize, what: &str) -> Tensor<'b> {
        if let Some(found) = all.get(position) {
            return *found;
        }
        let message = format!("there is no {what} {position}; there are {}", all.len());
        self.builder
            .report(Refusal::new(Kind::Signature, message), Vec::new());
        self.builder.poison()
    }
}

/// What an iteration of a scan yields.
pub struct Yield<'b> {
    pub(super) carries: Vec<Tensor<'b>>,
    pub(super) stacked: Vec<Tensor<'b>>,
}

impl<'b> Yield<'b> {
    /// The carries of the next iteration, and values that are stacked.
    pub fn new(carries: &[Tensor<'b>], stacked: &[Tensor<'b>]) -> Self {
        Self {
            carries: carries.to_vec(),
            stacked: stacked.to_vec(),
        }
    }
}

/// The results of a scan.
pub struct Scanned<'g> {
    /// The carries behind the last iteration.
    pub carries: Vec<Tensor<'g>>,
    /// What the iterations yielded, stacked along a new axis 0.
    pub stacked: Vec<Tensor<'g>>,
}

impl Builder {
    /// The number of the iteration of all scans around this body, `i64`, counted through: the numbers of one scan within another are those
    /// of the inner one, then those for the next iteration of the outer one, and so on. `None` outside of any body.
    ///
    /// Together with a key it makes random bits that are new in each iteration. The body of a `while` has no number, which is a mistake.
    #[track_caller]
    pub fn iteration(&self) -> Option<Tensor<'_>> {
        let outer = self.outer.as_deref()?;
        let around = self.inner.borrow().surround.clone();
        match around {
            Surround::Graph => None,
            Surround::Branch { .. } => Some(self.import(outer.iteration()?)),
            Surround::Repeat => Some(self.no_number("the body of a `while`")),
            Surround::Scan(around) => {
                let own = self.own_number(&around);
                Some(match outer.iteration() {
                    Some(number) => self.counted_through(number, &around, own),
                    None => own,
                })
            }
        }
    }

    /// The number of the iteration of the one loop that this builder builds the body of.
    #[track_caller]
    fn number_in_loop(&self) -> Tensor<'_> {
        let around = self.inner.borrow().surround.clone();
        match (around, self.outer.as_deref()) {
            (Surround::Branch { .. }, Some(outer)) => self.import(outer.number_in_loop()),
            (Surround::Scan(around), Some(outer)) => {
                let own = self.own_number(&around);
                if around.in_segment {
                    self.counted_through(outer.number_in_loop(), &around, own)
                } else {
                    own
                }
            }
            (Surround::Repeat, _) => self.no_number("the body of a `while`"),
            (Surround::Graph | Surround::Branch { .. } | Surround::Scan(_), _) => {
                self.no_number("a graph outside of any scan")
            }
        }
    }

    /// `outer * trip + own`.
    #[track_caller]
    fn counted_through<'b>(
        &'b self,
        outer: Tensor<'_>,
        around: &Around,
        own: Tensor<'b>,
    ) -> Tensor<'b> {
        let Some(dim) = around.trip.clone() else {
            return self.poison();
        };
        self.import(outer) * self.push(DimSize { dim }, &[]) + own
    }

    /// The source of the number, made for the first who asks.
    #[track_caller]
    fn own_number(&self, around: &Around) -> Tensor<'_> {
        if let Some(known) = around.number {
            return self.tensor(known);
        }
        if around.trip.is_none() {
            return self.poison();
        }
        let ty = TensorType::new(DType::I64, ());
        let source = self.body_source("iteration", Source { ty });
        if let Surround::Scan(around) = &mut self.inner.borrow_mut().surround {
            around.number = source.id();
        }
        source
    }

    #[track_caller]
    fn no_number(&self, place: &str) -> Tensor<'_> {
        let refusal = Refusal::new(
            Kind::Signature,
            format!("{place} has no number of the iteration"),
        )
        .help("use a `scan`, or carry a count");
        self.report(refusal, Vec::new());
        self.poison()
    }
}
