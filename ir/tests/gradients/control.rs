//! Scans, also within scans, and branches.

use crate::check::Case;
use kiln_ir::ops::Save;
use kiln_ir::{ScanOptions, Tensor, Yield};

const RANGE: (f64, f64) = (-0.9, 0.9);

/// Everything that a scan gives, as one tensor.
fn joined<'g>(parts: &[Tensor<'g>]) -> Tensor<'g> {
    let flat = |t: &Tensor<'g>| {
        let elements = t.ty().map(|ty| ty.shape.elements());
        t.reshape([elements.unwrap()])
    };
    let flat: Vec<Tensor<'g>> = parts.iter().map(flat).collect();
    flat[0].builder().concat(&flat, 0)
}

/// An Elman network: `h' = tanh(x W + h U + b)`, every `h` and the last one.
fn recurrent<'g>(p: &[Tensor<'g>], options: &ScanOptions) -> Tensor<'g> {
    let [x, h, w, u, b] = [p[0], p[1], p[2], p[3], p[4]];
    let scanned = x.builder().scan(options, &[h], &[x], |it| {
        let next = (it.entry(0).dot(w) + it.carry(0).dot(u) + b).tanh();
        Yield::new(&[next], &[next, it.carry(0)])
    });
    joined(&[scanned.carries[0], scanned.stacked[0], scanned.stacked[1]])
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let sizes: &[&[i64]] = &[&[4, 2, 3], &[2, 2], &[3, 2], &[2, 2], &[2]];
    for save in Save::ALL {
        for reverse in [false, true] {
            for checkpoint in [None, Some(2)] {
                let options = ScanOptions {
                    save,
                    reverse,
                    checkpoint,
                    trip: None,
                };
                all.push(Case::new("scan", sizes, RANGE, move |p| {
                    recurrent(p, &options)
                }));
            }
        }
    }
    let options = ScanOptions::default();
    all.push(
        Case::new("scan", sizes, RANGE, move |p| recurrent(p, &options)).declared(&[
            &["t", "b", "d"],
            &["b", "h"],
            &["d", "h"],
            &["h", "h"],
            &["h"],
        ]),
    );
    // No carries; a captured value that is used by element, and one entry of a captured vector.
    all.push(Case::new("scan", &[&[3, 2], &[2], &[]], RANGE, |p| {
        let [x, w, s] = [p[0], p[1], p[2]];
        let scanned = x.builder().scan(&ScanOptions::default(), &[], &[x], |it| {
            let first = w.slice(&[0.into()], &[1.into()], &[1]).reshape(());
            let y = (it.entry(0) * w * s).sin() * first.exp();
            Yield::new(&[], &[y])
        });
        scanned.stacked[0]
    }));
    // A carry that the loss sees only through the stacked values, a number of iterations without entries, and a loop in a loop.
    all.push(Case::new("scan", &[&[2], &[2]], RANGE, |p| {
        let [x, w] = [p[0], p[1]];
        let options = ScanOptions {
            trip: Some(3.into()),
            ..ScanOptions::default()
        };
        let scanned = x.builder().scan(&options, &[x], &[], |it| {
            let inner = it.builder().scan(&options, &[it.carry(0)], &[], |it| {
                let next = (it.carry(0) * w + 0.3).sin();
                Yield::new(&[next], &[next])
            });
            Yield::new(&[inner.carries[0]], &[inner.stacked[0]])
        });
        scanned.stacked[0]
    }));
    for holds in [1.0, -1.0] {
        all.push(Case::new("cond", &[&[2], &[2], &[2]], RANGE, move |p| {
            let [x, y, z] = [p[0], p[1], p[2]];
            let condition = x.builder().splat(kiln_ir::DType::F64, (), holds).gt(0.0);
            let chosen = x.builder().cond(
                condition,
                |_| vec![x.sin() * y, y.exp()],
                |_| vec![x * x * x, z.exp()],
            );
            joined(&chosen) + joined(&[x + y * z, x])
        }));
    }
    all
}
