//! A scan whose carries are kept of every n-th iteration only: a scan over segments, each of which is a scan.

use super::super::{Builder, Tensor};
use super::iteration::{Iteration, ScanOptions, Scanned, Yield};
use crate::diagnostic::{Kind, Refusal};
use crate::dim::Dim;
use crate::ops::Save;
use crate::types::Shape;
use std::marker::PhantomData;

impl Builder {
    /// A scan over segments of `every` iterations, each of which is a scan: of the outer one only carries are kept.
    #[track_caller]
    pub(super) fn scan_in_segments<'g>(
        &'g self,
        options: &ScanOptions,
        every: usize,
        carries: &[Tensor<'g>],
        scanned: &[Tensor<'g>],
        body: impl for<'b> FnOnce(Iteration<'b, 'g>) -> Yield<'b>,
    ) -> Scanned<'g> {
        let plain = ScanOptions {
            checkpoint: None,
            ..options.clone()
        };
        let firsts: Option<Vec<Dim>> = scanned
            .iter()
            .map(|t| t.ty()?.shape.first().cloned())
            .collect();
        let trip = firsts.and_then(|firsts| {
            let trip = options.trip.clone().or_else(|| firsts.first().cloned())?;
            firsts.iter().all(|first| *first == trip).then_some(trip)
        });
        // What does not fit is for the plain scan to refuse.
        let Some(trip) = trip else {
            return self.scan_plainly(&plain, false, carries, scanned, body);
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
            let results = self.scan_plainly(&plain, false, carries, scanned, body);
            return self.poisoned_scan(carries.len(), results.stacked.len());
        }
        // What is made here is charged to the caller, but the body's nodes to their own lines.
        let before = self.inner.borrow().location.clone();
        let _line = self.charged_to(self.provenance().location);
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
            ..plain
        };
        let results = self.scan_plainly(&outer, false, carries, &wholes, |segment| {
            let Iteration {
                builder,
                carries,
                entries,
                ..
            } = segment;
            let scanned = builder.scan_plainly(&inner, true, &carries, &entries, |it| {
                it.builder.inner.borrow_mut().location = before;
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
}
