//! Reductions and contractions.

use crate::check::Case;
use kiln_ir::DType;
use kiln_ir::ops::{CumulativeKind, ReduceKind};

const RANGE: (f64, f64) = (-1.0, 1.0);

pub(crate) fn cases() -> Vec<Case> {
    let mut all = products();
    all.extend(contractions());
    for axes in [&[0_usize][..], &[1], &[0, 1], &[]] {
        let rows = [
            ("reduce sum", ReduceKind::Sum, (0.1, 1.0)),
            ("reduce max", ReduceKind::Max, RANGE),
            ("reduce min", ReduceKind::Min, RANGE),
            ("reduce prod", ReduceKind::Prod, (0.5, 1.5)),
        ];
        for (name, kind, range) in rows {
            all.push(Case::new(name, &[&[3, 4]], range, move |p| {
                p[0].reduce(kind, axes).exp()
            }));
        }
    }
    all.extend(cumulative());
    all.push(Case::new("reduce sum", &[&[3, 4]], RANGE, |p| {
        p[0].mean().exp()
    }));
    all
}

/// A product of several factors, with none, one and two zeros among them.
fn products() -> Vec<Case> {
    let rows: [&[f64]; 3] = [
        &[0.5, 2.0, -1.5, 0.7, 1.1, -0.3],
        &[0.5, 0.0, -1.5, 0.7, 1.1, 0.0],
        &[0.0, 0.0, -1.5, 0.0, 0.0, 0.0],
    ];
    let mut all: Vec<Case> = rows
        .iter()
        .map(|row| {
            Case::new("reduce prod", &[&[2, 3]], RANGE, |p| {
                p[0].reduce(ReduceKind::Prod, &[1]).exp()
            })
            .at(&[row])
        })
        .collect();
    all.push(
        Case::new("reduce prod", &[&[2, 2, 2]], (0.5, 1.5), |p| {
            p[0].reduce(ReduceKind::Prod, &[0, 2]).exp()
        })
        .declared(&[&["b", "2", "t"]]),
    );
    all
}

fn cumulative() -> Vec<Case> {
    let mut all = Vec::new();
    for axis in [0, 1, 2] {
        for (name, kind) in [
            ("cumulative sum", CumulativeKind::Sum),
            ("cumulative prod", CumulativeKind::Prod),
            ("cumulative max", CumulativeKind::Max),
        ] {
            let sizes: &[&[i64]] = &[&[2, 3, 2]];
            all.push(Case::new(name, sizes, RANGE, move |p| {
                p[0].cumulative(kind, axis).exp()
            }));
            all.push(
                Case::new(name, sizes, RANGE, move |p| {
                    p[0].cumulative_from_end(kind, axis).exp()
                })
                .declared(&[&["a", "b", "c"]]),
            );
        }
    }
    // No zero, one zero and two of them.
    for row in [
        [0.5, 2.0, -1.5, 0.7],
        [0.5, 0.0, -1.5, 0.7],
        [0.0, 2.0, 0.0, 0.7],
    ] {
        all.push(
            Case::new("cumulative prod", &[&[4]], RANGE, |p| {
                p[0].cumulative(CumulativeKind::Prod, 0).exp()
            })
            .at(&[&row]),
        );
    }
    all
}

fn contractions() -> Vec<Case> {
    vec![
        Case::new("dot", &[&[2, 3], &[3, 2]], RANGE, |p| p[0].dot(p[1])),
        Case::new("dot", &[&[3], &[3]], RANGE, |p| p[0].dot(p[1])),
        Case::new("dot", &[&[3, 2], &[4, 3]], RANGE, |p| {
            p[0].dot_general(p[1], &[0], &[1], &[], &[])
        }),
        Case::new("dot", &[&[2, 3, 2], &[2, 2, 2]], RANGE, |p| {
            p[0].dot_general(p[1], &[2], &[0], &[0], &[2])
        }),
        Case::new("dot", &[&[2, 3, 2], &[2, 2, 2]], RANGE, |p| {
            p[0].dot_general(p[1], &[0, 2], &[2, 0], &[], &[])
        }),
        Case::new("dot", &[&[2, 3], &[3, 2]], RANGE, |p| {
            p[0].dot_in(p[1], (&[1], &[0]), (&[], &[]), DType::F64)
        }),
    ]
}
