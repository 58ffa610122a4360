//! Ops that move elements.

use crate::check::Case;
use kiln_ir::Dim;

fn dims<const N: usize>(list: [i64; N]) -> [Dim; N] {
    list.map(Dim::from)
}

fn parsed<const N: usize>(list: [&str; N]) -> [Dim; N] {
    list.map(|d| d.parse().unwrap())
}

const RANGE: (f64, f64) = (-1.0, 1.0);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("broadcast", &[&[2, 1]], RANGE, |p| {
            p[0].broadcast_to([4, 2, 3]).exp()
        }),
        Case::new("reshape", &[&[2, 3]], RANGE, |p| p[0].reshape([3, 2]).exp()),
        Case::new("transpose", &[&[2, 3, 2]], RANGE, |p| {
            p[0].transpose(&[2, 0, 1]).exp()
        }),
        // The window leaves a remainder behind its last step on the first axis and ends before the axis does on the second.
        Case::new("slice", &[&[6, 4]], RANGE, |p| {
            p[0].slice(&dims([1, 0]), &dims([5, 3]), &[3, 2]).exp()
        }),
        Case::new("slice", &[&[6, 4]], RANGE, |p| {
            p[0].slice(&dims([0, 1]), &dims([6, 4]), &[4, 1]).exp()
        }),
        // An empty window: the gradient is zero, not an error.
        Case::new("slice", &[&[3, 2]], RANGE, |p| {
            p[0].slice(&dims([2, 0]), &dims([2, 2]), &[2, 1]).sum() + p[0].exp().sum()
        }),
        Case::new("slice", &[&[7, 2]], RANGE, |p| {
            p[0].slice(&parsed(["1", "0"]), &parsed(["n", "2"]), &[2, 1])
                .exp()
        })
        .declared(&[&["n", "2"]]),
        Case::new("pad", &[&[2, 3], &[]], RANGE, |p| {
            p[0].pad(p[1], &dims([1, 0]), &dims([0, 2]), &[2, 1]).exp()
        }),
        Case::new("pad", &[&[2], &[]], RANGE, |p| {
            p[0].pad(p[1], &dims([0]), &dims([0]), &[0]).exp() * p[1]
        }),
        Case::new("pad", &[&[0, 2], &[]], RANGE, |p| {
            p[0].pad(p[1], &dims([1, 1]), &dims([0, 0]), &[3, 0]).exp()
        }),
        // Extents that are no numbers: the adjoint's slice must find them back through the interior padding.
        Case::new("pad", &[&[3, 2], &[]], RANGE, |p| {
            p[0].pad(p[1], &parsed(["b", "1"]), &parsed(["0", "t"]), &[2, 1])
                .exp()
        })
        .declared(&[&["b", "t"], &[]]),
        Case::new("pad", &[&[0, 2], &[]], RANGE, |p| {
            p[0].pad(p[1], &parsed(["0", "1"]), &parsed(["1", "t"]), &[2, 1])
                .exp()
        })
        .declared(&[&["b", "t"], &[]]),
        Case::new("concat", &[&[2, 1], &[2, 3], &[2, 0]], RANGE, |p| {
            p[0].builder().concat(&[p[0], p[1], p[2], p[0]], 1).exp()
        }),
        Case::new("concat", &[&[3, 2], &[1, 2]], RANGE, |p| {
            p[0].concat(p[1], 0).exp()
        })
        .declared(&[&["a", "2"], &["b", "2"]]),
        Case::new("reverse", &[&[2, 3, 2]], RANGE, |p| {
            p[0].reverse(&[2, 0]).exp()
        }),
    ]
}
