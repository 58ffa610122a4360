//! What metrics of classification compare: decisions among classes, and decisions of yes or no.

use crate::labels::Classes;
use crate::last_axis::LastAxis;
use crate::weights::spread;
use kiln_ir::ops::{Iota, ReduceKind};
use kiln_ir::{DType, Kind, Refusal, Tensor, TensorType};

/// The class that was chosen and the one that is right, both as 0 or 1 for each class: `[examples, n]`, of the scores' element type.
pub(super) struct Chosen<'g> {
    pub(super) predicted: Tensor<'g>,
    /// Times the weight of the example.
    pub(super) actual: Tensor<'g>,
    /// The weights, `[examples, n]`, where there are any.
    weights: Option<Tensor<'g>>,
}

impl<'g> Chosen<'g> {
    /// Of scores `[.., n]` and integer labels `[..]`; the first of equal scores is the largest. A mistake is reported for `what`.
    #[track_caller]
    pub(super) fn of(
        what: &str,
        scores: Tensor<'g>,
        labels: Tensor<'g>,
        weights: Option<Tensor<'g>>,
    ) -> Option<Self> {
        let rows = LastAxis::of(what, scores)?;
        let classes = Classes::of(what, &rows, scores, labels)?;
        let dtype = rows.ty().dtype;
        let chosen = scores.argmax(rows.axis()).convert(DType::I32);
        let index = Iota {
            ty: TensorType::new(DType::I32, &rows.ty().shape),
            axis: rows.axis(),
        };
        let index = scores.builder().push(index, &[]);
        let n = rows.ty().shape[rows.axis()].clone();
        let examples = rows.row_ty().shape.elements();
        let flat = |x: Tensor<'g>| x.convert(dtype).reshape([examples.clone(), n.clone()]);
        let weights = weights.map(|weights| flat(spread(what, weights, scores)));
        let actual = flat(classes.one_hot(&rows));
        Some(Self {
            predicted: flat(index.eq(rows.spread(chosen))),
            actual: weights.map_or(actual, |weights| actual * weights),
            weights,
        })
    }

    /// For each class, `[n]`: the weight of what is of it and was said to be, of what was said to be, and of what is.
    #[track_caller]
    pub(super) fn counts(&self) -> Vec<Tensor<'g>> {
        let total = |x: Tensor<'g>| x.reduce(ReduceKind::Sum, &[0]);
        let predicted = self.weights.map_or(self.predicted, |w| self.predicted * w);
        vec![
            total(self.predicted * self.actual),
            total(predicted),
            total(self.actual),
        ]
    }
}

/// Scores and whether each is of the class in question, as 0 or 1 of the scores' element type: both of any one shape. Targets may be of any
/// type.
#[track_caller]
pub(super) fn yes_or_no<'g>(
    what: &str,
    scores: Tensor<'g>,
    target: Tensor<'g>,
) -> Option<Tensor<'g>> {
    let (given, wanted) = (target.ty()?, scores.ty()?);
    let refusal = if !wanted.dtype.is_float() {
        Refusal::new(Kind::Type, format!("`{what}` of {wanted}"))
            .help("scores are floating; convert them first")
    } else if given.shape != wanted.shape {
        let message = format!("`{what}` of {wanted} with targets {given}");
        Refusal::new(Kind::Shape, message).help(format!(
            "targets of shape {} fit; reshape them",
            wanted.shape
        ))
    } else {
        return Some(target.convert(wanted.dtype));
    };
    scores.builder().refuse(refusal, &[scores, target]);
    None
}
