//! Loops and branches: the methods of [`Builder`] that build the bodies of control ops from closures.
//!
//! A body may use tensors from around it; they are captured. Params and state that layers declare in a body belong to the whole graph.

use super::{Builder, Inner, Tensor};
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::graph::{Graph, Output};
use crate::ids::NodeId;
use crate::ops::{Cond, Op, Part, Region, Save, Scan, Source, While};
use crate::types::{Shape, TensorType};
use std::marker::PhantomData;

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
    builder: &'b Builder,
    carries: Vec<Tensor<'b>>,
    entries: Vec<Tensor<'b>>,
    around: PhantomData<&'b &'g ()>,
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

    #[track_caller]
    fn at(&self, all: &[Tensor<'b>], position: usize, what: &str) -> Tensor<'b> {
        all.get(position).copied().unwrap_or_else(|| {
            let message = format!("there is no {what} {position}; there are {}", all.len());
            self.builder
                .report(Refusal::new(Kind::Signature, message), Vec::new());
            self.builder.poison()
        })
    }
}

/// What an iteration of a scan yields.
pub struct Yield<'b> {
    carries: Vec<Tensor<'b>>,
    stacked: Vec<Tensor<'b>>,
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
    /// Repeats `body` over the entries, along axis 0, of the `scanned` tensors, with carried values that begin as `carries`.
    ///
    /// ```
    /// use kiln_ir::{Builder, DType, ScanOptions, Yield};
    ///
    /// let g = Builder::new("decay");
    /// let (t, b) = (g.dim("t"), g.dim("b"));
    /// let xs = g.input("xs", DType::F32, (t, b.clone()));
    /// let zero = g.splat(DType::F32, (b,), 0.0);
    /// let scanned = g.scan(&ScanOptions::default(), &[zero], &[xs], |it| {
    ///     let next = it.carry(0) * 0.9 + it.entry(0);
    ///     Yield::new(&[next], &[next])
    /// });
    /// g.output("last", scanned.carries[0]);
    /// g.output("all", scanned.stacked[0]);
    /// assert!(g.finish().is_ok());
    /// ```
    ///
    /// Mistakes are diagnostics: scanned tensors of different extents, a carry that changes its type, a body that may fail.
    #[track_caller]
    pub fn scan<'g>(
        &'g self,
        options: &ScanOptions,
        carries: &[Tensor<'g>],
        scanned: &[Tensor<'g>],
        body: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Yield<'b>,
    ) -> Scanned<'g> {
        let given = [carries, scanned].concat();
        let home = self.innermost(&given);
        if !home.is(self) {
            return home.scan(options, carries, scanned, body);
        }
        match options.checkpoint {
            Some(every) => self.scan_in_segments(options, every, carries, scanned, body),
            None => self.scan_plainly(options, carries, scanned, body),
        }
    }

    #[track_caller]
    fn scan_plainly<'g>(
        &'g self,
        options: &ScanOptions,
        carries: &[Tensor<'g>],
        scanned: &[Tensor<'g>],
        body: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Yield<'b>,
    ) -> Scanned<'g> {
        let nested = self.nested("body");
        let entry_type = |whole: &Tensor<'g>| {
            let ty = whole.ty()?;
            let rest = ty.shape.get(1..)?;
            Some(TensorType::new(ty.dtype, rest))
        };
        let source = |name: &str, ty: Option<TensorType>| match ty {
            Some(ty) => nested.body_source(name, Source { ty }),
            None => nested.poison(),
        };
        // A body is run even where an operand stands for a mistake, to learn how many values it yields.
        let yielded = body(Iteration {
            builder: &nested,
            carries: carries.iter().map(|t| source("carry", t.ty())).collect(),
            entries: scanned
                .iter()
                .map(|t| source("entry", entry_type(t)))
                .collect(),
            around: PhantomData,
        });
        let stacked = yielded.stacked.len();
        let whole = carries.iter().chain(scanned).all(|t| t.id.is_some());
        let first = scanned.iter().find_map(|t| t.ty()?.shape.first().cloned());
        let Some(trip) = options.trip.clone().or(first) else {
            if whole {
                let message =
                    "`scan` needs tensors whose axis 0 it goes over, or the number of iterations";
                let refusal = Refusal::new(Kind::Shape, message)
                    .help("scan something, or set `ScanOptions::trip`");
                self.report(refusal, Vec::new());
            }
            self.adopt(&nested);
            return self.poisoned_scan(carries.len(), stacked);
        };
        if yielded.carries.len() != carries.len() {
            let message = format!(
                "the body of `scan` yields {} carries, but takes {}",
                yielded.carries.len(),
                carries.len()
            );
            self.report(Refusal::new(Kind::Signature, message), Vec::new());
            self.adopt(&nested);
            return self.poisoned_scan(carries.len(), stacked);
        }
        let all = [yielded.carries, yielded.stacked].concat();
        let Some((region, captured)) = self.close(&nested, &all).filter(|_| whole) else {
            return self.poisoned_scan(carries.len(), stacked);
        };
        let scan = Scan {
            body: region,
            carries: carries.len(),
            scanned: scanned.len(),
            trip,
            reverse: options.reverse,
            save: options.save,
        };
        let operands: Vec<Tensor<'g>> = carries
            .iter()
            .chain(scanned)
            .map(|t| self.import(*t))
            .chain(captured)
            .collect();
        let parts = self.push_control(scan, &operands);
        let stacked = parts.get(carries.len()..).unwrap_or_default().to_vec();
        Scanned {
            carries: parts.into_iter().take(carries.len()).collect(),
            stacked,
        }
    }

    /// A scan over segments of `every` iterations, each of which is a scan: of the outer one only carries are kept.
    #[track_caller]
    fn scan_in_segments<'g>(
        &'g self,
        options: &ScanOptions,
        every: usize,
        carries: &[Tensor<'g>],
        scanned: &[Tensor<'g>],
        body: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Yield<'b>,
    ) -> Scanned<'g> {
        let first = scanned.iter().find_map(|t| t.ty()?.shape.first().cloned());
        let Some(trip) = options.trip.clone().or(first) else {
            let options = ScanOptions {
                checkpoint: None,
                ..options.clone()
            };
            return self.scan_plainly(&options, carries, scanned, body);
        };
        let length = Dim::from(every);
        let segments = trip.floor_div(&length);
        if every == 0 || &segments * &length != trip {
            let refusal = Refusal::new(
                Kind::Attribute,
                format!("segments of {every} iterations do not divide a scan of {trip}"),
            )
            .help("choose a divisor of the number of iterations");
            self.report(refusal, Vec::new());
            let options = ScanOptions {
                checkpoint: None,
                ..options.clone()
            };
            let results = self.scan_plainly(&options, carries, scanned, body);
            return self.poisoned_scan(carries.len(), results.stacked.len());
        }
        let cut = |whole: &Tensor<'g>| {
            let Some(ty) = whole.ty() else { return *whole };
            let extents = [segments.clone(), length.clone()];
            let rest = ty.shape.iter().skip(1).cloned();
            whole.reshape(extents.into_iter().chain(rest).collect::<Shape>())
        };
        let wholes: Vec<Tensor<'g>> = scanned.iter().map(cut).collect();
        let outer = ScanOptions {
            save: Save::Carries,
            trip: Some(segments.clone()),
            checkpoint: None,
            reverse: options.reverse,
        };
        let inner = ScanOptions {
            trip: Some(length.clone()),
            checkpoint: None,
            ..options.clone()
        };
        let results = self.scan_plainly(&outer, carries, &wholes, |segment| {
            let Iteration {
                builder,
                carries,
                entries,
                ..
            } = segment;
            let scanned = builder.scan_plainly(&inner, &carries, &entries, |it| {
                body(Iteration {
                    builder: it.builder,
                    carries: it.carries,
                    entries: it.entries,
                    around: PhantomData,
                })
            });
            Yield::new(&scanned.carries, &scanned.stacked)
        });
        let join = |stacked: &Tensor<'g>| {
            let Some(ty) = stacked.ty() else {
                return *stacked;
            };
            let rest = ty.shape.iter().skip(2).cloned();
            let whole = std::iter::once(trip.clone()).chain(rest);
            stacked.reshape(whole.collect::<Shape>())
        };
        Scanned {
            stacked: results.stacked.iter().map(join).collect(),
            carries: results.carries,
        }
    }

    /// Repeats `body` as long as `test` of the carries gives a `bool` that holds. There is no gradient through it.
    #[track_caller]
    pub fn while_loop<'g>(
        &'g self,
        carries: &[Tensor<'g>],
        test: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Tensor<'b>,
        body: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Vec<Tensor<'b>>,
    ) -> Vec<Tensor<'g>> {
        let home = self.innermost(carries);
        if !home.is(self) {
            return home.while_loop(carries, test, body);
        }
        let poisoned = || carries.iter().map(|_| self.poison()).collect();
        let test = self.region(carries, |it| vec![test(it)]);
        let body = self.region(carries, body);
        let (Some((test, tested)), Some((body, captured))) = (test, body) else {
            return poisoned();
        };
        let own = carries.iter().map(|t| self.import(*t));
        let operands: Vec<Tensor<'g>> = own.chain(tested).chain(captured).collect();
        let repeat = While {
            test,
            body,
            carries: carries.len(),
        };
        let parts = self.push_control(repeat, &operands);
        if parts.len() == carries.len() {
            parts
        } else {
            poisoned()
        }
    }

    /// What `then` yields where the scalar `bool` `condition` holds, else what `otherwise` yields: values of the same types. Only one of the
    /// two is computed when the step runs.
    #[track_caller]
    pub fn cond<'g>(
        &'g self,
        condition: Tensor<'g>,
        then: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Vec<Tensor<'b>>,
        otherwise: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Vec<Tensor<'b>>,
    ) -> Vec<Tensor<'g>> {
        let home = self.innermost(&[condition]);
        if !home.is(self) {
            return home.cond(condition, then, otherwise);
        }
        let mut count = 0;
        let then = self.region(&[], |it| {
            let yielded = then(it);
            count = yielded.len();
            yielded
        });
        let otherwise = self.region(&[], otherwise);
        let poisoned = || (0..count).map(|_| self.poison()).collect();
        let (Some((then, taken)), Some((otherwise, taken_else))) = (then, otherwise) else {
            return poisoned();
        };
        let operands = std::iter::once(condition).chain(taken).chain(taken_else);
        let operands: Vec<Tensor<'g>> = operands.collect();
        let parts = self.push_control(Cond { then, otherwise }, &operands);
        if parts.len() == count {
            parts
        } else {
            poisoned()
        }
    }

    /// A region over carries, and what it captures.
    #[track_caller]
    fn region<'g>(
        &'g self,
        carries: &[Tensor<'g>],
        body: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Vec<Tensor<'b>>,
    ) -> Option<(Region, Vec<Tensor<'g>>)> {
        let nested = self.nested("body");
        let source = |carry: &Tensor<'g>| match carry.ty() {
            Some(ty) => nested.body_source("carry", Source { ty }),
            None => nested.poison(),
        };
        let yielded = body(Iteration {
            builder: &nested,
            carries: carries.iter().map(source).collect(),
            entries: Vec::new(),
            around: PhantomData,
        });
        self.close(&nested, &yielded)
    }

    /// The finished body, and the values of this graph that it captures; `None` where it has a mistake.
    #[track_caller]
    fn close<'g>(
        &'g self,
        nested: &Builder,
        yielded: &[Tensor<'_>],
    ) -> Option<(Region, Vec<Tensor<'g>>)> {
        let nodes: Option<Vec<NodeId>> = yielded.iter().map(|t| nested.import(*t).id).collect();
        let finished = nested.inner.replace(Inner::new(""));
        let sound = finished.diagnostics.is_empty();
        self.inner
            .borrow_mut()
            .diagnostics
            .extend(finished.diagnostics);
        let nodes = nodes.filter(|_| sound)?;
        let mut graph = finished.graph;
        for (position, node) in nodes.into_iter().enumerate() {
            let name = position.to_string();
            graph.push_output(Output { name, node });
        }
        let captured = finished.captures.iter().map(|(of, _)| self.tensor(*of));
        Some((Region::new(graph), captured.collect()))
    }

    #[track_caller]
    fn poisoned_scan(&self, carries: usize, stacked: usize) -> Scanned<'_> {
        let poison = |count: usize| (0..count).map(|_| self.poison()).collect();
        Scanned {
            carries: poison(carries),
            stacked: poison(stacked),
        }
    }

    /// Appends a control op; its results in order, poisoned where it does not fit.
    #[track_caller]
    pub(crate) fn push_control<'g>(
        &'g self,
        op: impl Into<Op>,
        operands: &[Tensor<'g>],
    ) -> Vec<Tensor<'g>> {
        let op = op.into();
        let node = self.push(op.clone(), operands);
        let types: Option<Vec<TensorType>> = operands.iter().map(|t| t.ty()).collect();
        let results = op.as_control().zip(types).and_then(|(control, types)| {
            let types: Vec<&TensorType> = types.iter().collect();
            control.results(&types).ok()
        });
        let parts = results.unwrap_or_default().into_iter().enumerate();
        parts
            .map(|(index, ty)| self.push_part(node, Part { index, ty }))
            .collect()
    }

    /// One result of a control op of this graph.
    #[track_caller]
    pub(crate) fn push_part<'g>(&'g self, of: Tensor<'g>, part: Part) -> Tensor<'g> {
        self.push(part, &[of])
    }

    /// Puts another op in the place of a node's: one whose results begin with the old one's.
    pub(crate) fn replace_op(&self, id: NodeId, op: Op) {
        self.inner.borrow_mut().graph.replace_op(id, op);
    }

    /// The graph as it is now.
    pub(crate) fn snapshot(&self) -> Graph {
        self.inner.borrow().graph.clone()
    }

    /// Takes over the mistakes that were made in a body.
    pub(crate) fn adopt(&self, nested: &Builder) {
        let found = std::mem::take(&mut nested.inner.borrow_mut().diagnostics);
        self.inner.borrow_mut().diagnostics.extend(found);
    }
}
