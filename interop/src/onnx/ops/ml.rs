//! Of the operators for classical models, `ai.onnx.ml`, those that are arithmetic on tensors.

use super::super::call::{Call, Results, one};
use super::super::error::Reason;
use super::indexing::{indices, out_of_range};
use super::{ML, Operator};
use kiln_ir::{Dim, Shape};

pub(super) const OPERATORS: &[Operator] = &[
    ml("ArrayFeatureExtractor", extract),
    ml("Binarizer", |c| {
        let threshold = c.float_or("threshold", 0.0)?;
        one(c.tensor(0)?.gt(threshold).convert(c.ty(0)?.dtype))
    }),
];

const fn ml(name: &'static str, import: super::Import) -> Operator {
    Operator {
        domain: ML,
        name,
        since: 1,
        import,
    }
}

/// Entries of the last axis; a vector counts as one row.
fn extract<'g>(c: &Call<'_, 'g>) -> Results<'g> {
    let own = c.shape(0)?;
    let Some((last, outer)) = own.split_last() else {
        return Err(Reason::new("of a scalar"));
    };
    let count = c.shape(1)?.elements();
    let at = indices(c, 1, last)?.reshape([count.clone()]);
    let picked = c.tensor(0)?.gather(outer.len(), at, out_of_range(c));
    let rows = match outer {
        [] => vec![Dim::from(1)],
        [..] => outer.to_vec(),
    };
    one(picked.reshape(Shape::from([rows, vec![count]].concat())))
}
