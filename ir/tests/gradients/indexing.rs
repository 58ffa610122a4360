//! Gather and scatter, with repeated indices and indices out of range.

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
    all
}

fn name(kind: ScatterKind) -> &'static str {
    match kind {
        ScatterKind::Set => "scatter set",
        ScatterKind::Add => "scatter add",
        ScatterKind::Max => "scatter max",
    }
}
