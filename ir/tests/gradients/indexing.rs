//! Gather and scatter, with repeated indices and indices out of range; windows that move, and sorted rows.

use crate::check::Case;
use kiln_ir::ops::{Iota, OutOfRange, ScatterKind};
use kiln_ir::{Builder, DType, Tensor, TensorType};

const RANGE: (f64, f64) = (-1.0, 1.0);

/// `(i * factor + offset) rem modulus` for `i` below the product of `shape`, in that shape.
fn indices<'g>(
    g: &'g Builder,
    shape: &[i64],
    factor: f64,
    offset: f64,
    modulus: f64,
) -> Tensor<'g> {
    let count = Iota {
        ty: TensorType::new(DType::I64, [shape.iter().product::<i64>()]),
        axis: 0,
    };
    (g.push(count, &[]) * factor + offset)
        .rem(modulus)
        .reshape(shape)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for mode in OutOfRange::ALL {
        // In range: 0, 2, 1, 0 of 3, so that slice 0 is picked twice.
        all.push(Case::new("gather", &[&[2, 3, 2]], RANGE, move |p| {
            let at = indices(p[0].builder(), &[2, 2], 2.0, 0.0, 3.0);
            p[0].gather(1, at, mode).exp()
        }));
        all.push(
            Case::new("gather", &[&[3, 2]], RANGE, move |p| {
                let at = indices(p[0].builder(), &[], 1.0, 2.0, 3.0);
                p[0].gather(0, at, mode).exp()
            })
            .declared(&[&["v", "d"]]),
        );
        for kind in ScatterKind::ALL {
            all.push(Case::new(
                name(kind),
                &[&[2, 3, 2], &[2, 2, 2, 2]],
                RANGE,
                move |p| {
                    let at = indices(p[0].builder(), &[2, 2], 2.0, 0.0, 3.0);
                    p[0].scatter(kind, 1, at, p[1].exp(), mode).exp()
                },
            ));
            all.push(
                Case::new(name(kind), &[&[3, 2], &[4, 2]], RANGE, move |p| {
                    let at = indices(p[0].builder(), &[4], 2.0, 1.0, 3.0);
                    p[0].scatter(kind, 0, at, p[1], mode).exp()
                })
                .declared(&[&["v", "d"], &["4", "d"]]),
            );
        }
    }
    // Out of range on both sides: -1, 1, 3, 5 of 3.
    for mode in [OutOfRange::Clamp, OutOfRange::Skip] {
        all.push(Case::new("gather", &[&[3, 2]], RANGE, move |p| {
            let at = indices(p[0].builder(), &[4], 2.0, -1.0, 100.0);
            p[0].gather(0, at, mode).exp()
        }));
        for kind in ScatterKind::ALL {
            all.push(Case::new(
                name(kind),
                &[&[3, 2], &[4, 2]],
                RANGE,
                move |p| {
                    let at = indices(p[0].builder(), &[4], 2.0, -1.0, 100.0);
                    p[0].scatter(kind, 0, at, p[1], mode).exp()
                },
            ));
        }
    }
    all.extend(windows());
    all.extend(sorted());
    all
}

/// Windows in the middle and beyond both ends.
fn windows() -> Vec<Case> {
    let mut all = Vec::new();
    for at in [[1.0, 1.0], [-3.0, 9.0]] {
        all.push(
            Case::new("dynamic_slice", &[&[4, 3]], RANGE, move |p| {
                let starts = at.map(|at| p[0].builder().splat(DType::I32, (), at));
                p[0].dynamic_slice(&starts, [2, 1]).exp()
            })
            .declared(&[&["b", "3"]]),
        );
        all.push(
            Case::new(
                "dynamic_update_slice",
                &[&[4, 3], &[2, 2]],
                RANGE,
                move |p| {
                    let starts = at.map(|at| p[0].builder().splat(DType::I64, (), at));
                    p[0].dynamic_update_slice(p[1].exp(), &starts).exp()
                },
            )
            .declared(&[&["b", "3"], &["2", "2"]]),
        );
    }
    all
}

fn sorted() -> Vec<Case> {
    let mut all = Vec::new();
    for (axis, descending) in [(0, false), (1, true), (2, false)] {
        all.push(
            Case::new("sort", &[&[2, 3, 4]], RANGE, move |p| {
                p[0].sort(axis, descending).exp()
            })
            .declared(&[&["b", "3", "t"]]),
        );
        // What is taken by index takes its gradient along.
        all.push(Case::new("gather", &[&[2, 3, 4]], RANGE, move |p| {
            p[0].top_k(2, axis).0.exp()
        }));
    }
    all
}

fn name(kind: ScatterKind) -> &'static str {
    match kind {
        ScatterKind::Set => "scatter set",
        ScatterKind::Add => "scatter add",
        ScatterKind::Max => "scatter max",
    }
}
