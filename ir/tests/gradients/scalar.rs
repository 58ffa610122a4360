//! Element-wise ops, conversions and guards.

use crate::check::Case;
use kiln_ir::{DType, Tensor};

pub(crate) fn cases() -> Vec<Case> {
    let mut all = unary();
    all.extend(binary());
    all.extend(others());
    all
}

fn unary() -> Vec<Case> {
    type Row = (
        &'static str,
        for<'g> fn(Tensor<'g>) -> Tensor<'g>,
        (f64, f64),
    );
    let rows: [Row; 17] = [
        ("neg", |x| x.neg().square(), (-2.0, 2.0)),
        ("abs", |x| x.abs().exp(), (0.1, 2.0)),
        ("abs", |x| x.abs().exp(), (-2.0, -0.1)),
        ("exp", |x| x.exp(), (-2.0, 2.0)),
        ("expm1", |x| x.expm1(), (-2.0, 2.0)),
        ("log", |x| x.log(), (0.5, 3.0)),
        ("log1p", |x| x.log1p(), (-0.5, 3.0)),
        ("sqrt", |x| x.sqrt(), (0.5, 3.0)),
        ("rsqrt", |x| x.rsqrt(), (0.5, 3.0)),
        ("recip", |x| x.recip(), (0.5, 3.0)),
        ("sin", |x| x.sin(), (-3.0, 3.0)),
        ("cos", |x| x.cos(), (-3.0, 3.0)),
        ("tan", |x| x.tan(), (-1.0, 1.0)),
        ("tanh", |x| x.tanh(), (-2.0, 2.0)),
        ("logistic", |x| x.logistic(), (-3.0, 3.0)),
        ("erf", |x| x.erf(), (-2.0, 2.0)),
        ("erfc", |x| x.erfc(), (-2.0, 2.0)),
    ];
    rows.into_iter()
        .map(|(name, op, range)| Case::new(name, &[&[2, 3]], range, move |p| op(p[0])))
        .collect()
}

fn binary() -> Vec<Case> {
    type Row = (
        &'static str,
        for<'g> fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
    );
    let rows: [Row; 9] = [
        ("add", |x, y| (x + y).square()),
        ("sub", |x, y| (x - y).square()),
        ("mul", |x, y| x * y),
        ("div", |x, y| x / y),
        ("rem", |x, y| x.rem(y * 0.4).square()),
        ("pow", |x, y| x.pow(y)),
        ("atan2", |x, y| x.atan2(y)),
        ("max", |x, y| x.maximum(y).square()),
        ("min", |x, y| x.minimum(y).square()),
    ];
    let shapes: [[&[i64]; 2]; 2] = [[&[2, 3], &[2, 3]], [&[2, 3], &[3]]];
    let case =
        |(name, op): Row, s: &[&[i64]; 2]| Case::new(name, s, (0.5, 2.5), move |p| op(p[0], p[1]));
    rows.into_iter()
        .flat_map(|row| shapes.iter().map(move |s| case(row, s)))
        .collect()
}

fn others() -> Vec<Case> {
    vec![
        Case::new("select", &[&[5], &[5]], (-1.0, 1.0), |p| {
            p[0].square().where_(p[0].gt(0.2), p[1].exp())
        }),
        Case::new("fma", &[&[2, 3], &[3], &[2, 1]], (-1.0, 1.0), |p| {
            p[0].fma(p[1], p[2]).exp()
        }),
        Case::new("fma", &[&[4]], (-1.0, 1.0), |p| p[0].fma(p[0], 0.5).exp()),
        // In f64 the conversion to f64 is left out by the method, so the op is pushed by hand.
        Case::new("convert", &[&[3]], (-1.0, 1.0), |p| {
            let convert = kiln_ir::ops::Convert { to: DType::F64 };
            p[0].builder().push(convert, &[p[0]]).exp()
        }),
        Case::new("require", &[&[3], &[2]], (-1.0, 1.0), |p| {
            p[0].exp()
                .require(p[1].is_finite(), "p1 is not finite")
                .square()
                * p[1].sum()
        }),
    ]
}
