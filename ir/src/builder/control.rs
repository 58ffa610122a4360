//! Loops and branches: the methods of [`Builder`] that build the bodies of control ops from closures.
//!
//! A body may use tensors from around it; they are captured. Params and state that layers declare in a body belong to the whole graph.

use super::{Builder, Inner, Tensor};
use crate::diagnostic::{Kind, Refusal};
use crate::dtype::DType;
use crate::graph::{Graph, Output};
use crate::ids::NodeId;
use crate::ops::{Cond, DEEPEST_REGION, Iota, Op, Part, Region, Scan, Source, While};
use crate::types::TensorType;
use std::marker::PhantomData;

mod iteration;
mod segments;

use iteration::Around;
pub(super) use iteration::Surround;
pub use iteration::{Iteration, ScanOptions, Scanned, Yield};

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
            None => self.scan_plainly(options, false, carries, scanned, body),
        }
    }

    /// A scan as one op. `in_segment` says that the scan around it goes over segments of the same loop.
    #[track_caller]
    fn scan_plainly<'g>(
        &'g self,
        options: &ScanOptions,
        in_segment: bool,
        carries: &[Tensor<'g>],
        scanned: &[Tensor<'g>],
        body: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Yield<'b>,
    ) -> Scanned<'g> {
        let first = scanned.iter().find_map(|t| t.ty()?.shape.first().cloned());
        let trip = options.trip.clone().or(first);
        let nested = self.nested(
            "body",
            Surround::Scan(Around {
                trip: trip.clone(),
                in_segment,
                number: None,
            }),
        );
        let entries = scanned.iter().map(|whole| {
            let ty = whole.ty()?;
            let rest = ty.shape.get(1..)?;
            Some(TensorType::new(ty.dtype, rest))
        });
        // A body is run even where an operand stands for a mistake, to learn how many values it yields.
        let yielded = body(Iteration {
            builder: &nested,
            carries: self.sources_in(&nested, "carry", carries.iter().map(|t| t.ty())),
            entries: self.sources_in(&nested, "entry", entries),
            around: PhantomData,
        });
        let stacked = yielded.stacked.len();
        let whole = carries.iter().chain(scanned).all(|t| t.id.is_some());
        let Some(trip) = trip else {
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
        let scalar = scanned
            .iter()
            .filter_map(|t| t.ty())
            .find(|ty| ty.rank() == 0);
        if let Some(ty) = scalar {
            let message = format!("`scan` over {trip} entries of a tensor {ty}");
            self.report(Refusal::new(Kind::Shape, message), Vec::new());
            self.adopt(&nested);
            return self.poisoned_scan(carries.len(), stacked);
        }
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
        let numbered = nested.number_last(carries.len() + scanned.len());
        let Some((region, captured)) = self.close(&nested, &all).filter(|_| whole) else {
            return self.poisoned_scan(carries.len(), stacked);
        };
        let number = numbered.then(|| {
            let ty = TensorType::new(DType::I64, [trip.clone()]);
            self.push(Iota { ty, axis: 0 }, &[])
        });
        let scan = Scan {
            body: region,
            carries: carries.len(),
            scanned: scanned.len() + usize::from(numbered),
            trip,
            reverse: options.reverse,
            save: options.save,
        };
        let mut operands = self.import_all(&[carries, scanned].concat());
        operands.extend(number);
        operands.extend(captured);
        let parts = self.push_compound(scan, &operands);
        if parts.len() != carries.len() + stacked {
            return self.poisoned_scan(carries.len(), stacked);
        }
        let stacked = parts.get(carries.len()..).unwrap_or_default().to_vec();
        Scanned {
            carries: parts.into_iter().take(carries.len()).collect(),
            stacked,
        }
    }

    /// Sources of a body, charged to the caller; those of mistakes are poisoned.
    #[track_caller]
    fn sources_in<'b>(
        &self,
        nested: &'b Builder,
        name: &str,
        types: impl Iterator<Item = Option<TensorType>>,
    ) -> Vec<Tensor<'b>> {
        // Closures do not know the caller.
        let _line = nested.charged_to(self.provenance().location);
        types
            .map(|ty| match ty {
                Some(ty) => nested.body_source(name, Source { ty }),
                None => nested.poison(),
            })
            .collect()
    }

    /// Makes the source of the iteration's number, if there is one, that of the last scanned entry: number `position` of all.
    fn number_last(&self, position: usize) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let Surround::Scan(Around {
            number: Some(number),
            ..
        }) = inner.surround
        else {
            return false;
        };
        inner.graph.move_slot(number, position);
        true
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
        let test = self.region(Surround::Repeat, carries, |it| vec![test(it)]);
        let body = self.region(Surround::Repeat, carries, body);
        let (Some((test, tested)), Some((body, captured))) = (test, body) else {
            return poisoned();
        };
        let mut operands = self.import_all(carries);
        operands.extend(tested);
        operands.extend(captured);
        let repeat = While {
            test,
            body,
            carries: carries.len(),
        };
        let parts = self.push_compound(repeat, &operands);
        if parts.len() == carries.len() {
            parts
        } else {
            poisoned()
        }
    }

    /// What `then` yields where the scalar `bool` `condition` holds, else what `otherwise` yields: values of the same types. Only one of the
    /// two is computed when the step runs: what a closure makes of tensors from around it belongs to its branch too.
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
        let begins = self.lengths();
        let branch = || Surround::Branch {
            begins: begins.clone(),
        };
        let then = self.region(branch(), &[], |it| {
            let yielded = then(it);
            count = yielded.len();
            yielded
        });
        let otherwise = self.region(branch(), &[], otherwise);
        let poisoned = || (0..count).map(|_| self.poison()).collect();
        let (Some((then, taken)), Some((otherwise, taken_else))) = (then, otherwise) else {
            return poisoned();
        };
        let operands = std::iter::once(condition).chain(taken).chain(taken_else);
        let operands: Vec<Tensor<'g>> = operands.collect();
        let parts = self.push_compound(Cond { then, otherwise }, &operands);
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
        surround: Surround,
        carries: &[Tensor<'g>],
        body: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Vec<Tensor<'b>>,
    ) -> Option<(Region, Vec<Tensor<'g>>)> {
        let nested = self.nested("body", surround);
        let yielded = body(Iteration {
            builder: &nested,
            carries: self.sources_in(&nested, "carry", carries.iter().map(|t| t.ty())),
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
        let own = nested.import_all(yielded);
        let nodes: Option<Vec<NodeId>> = own.iter().map(|t| t.id).collect();
        if nested.depth() > DEEPEST_REGION {
            let message = format!("regions within regions, more than {DEEPEST_REGION} deep");
            self.report(Refusal::new(Kind::Signature, message), Vec::new());
            return None;
        }
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
    pub(crate) fn push_compound<'g>(
        &'g self,
        op: impl Into<Op>,
        operands: &[Tensor<'g>],
    ) -> Vec<Tensor<'g>> {
        let op = op.into();
        let node = self.push(op.clone(), operands);
        let types: Option<Vec<TensorType>> = operands.iter().map(|t| t.ty()).collect();
        let results = op.as_compound().zip(types).and_then(|(control, types)| {
            let types: Vec<&TensorType> = types.iter().collect();
            control.results(&types).ok()
        });
        // Closures do not know the caller.
        let _line = self.charged_to(self.provenance().location);
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
