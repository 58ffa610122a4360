//! The confusion matrix.

use super::Metric;
use super::classes::Chosen;
use kiln_ir::Tensor;

/// How many examples of each class were taken for each class: scores `[.., n]` and integer labels `[..]`.
///
/// The statistic is the matrix `[n, n]` itself, which [`ConfusionMatrix::rows`] cuts: a row for each class that an example is of and a
/// column for each that was chosen, as in scikit-learn. Labels outside the classes are not counted. A matrix is no number, so
/// there is no value.
///
/// ```
/// use kiln_nn::ConfusionMatrix;
///
/// let sums = [vec![8.0, 2.0, 1.0, 9.0]];
/// assert_eq!(ConfusionMatrix::rows(&sums), [[8.0, 2.0], [1.0, 9.0]]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfusionMatrix;

impl ConfusionMatrix {
    /// The matrix of summed statistics, row by row; empty for none.
    pub fn rows(sums: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let Some(all) = sums.first() else {
            return Vec::new();
        };
        let n = all.len().isqrt().max(1);
        all.chunks_exact(n).map(<[f64]>::to_vec).collect()
    }
}

impl Metric for ConfusionMatrix {
    fn name(&self) -> &str {
        "confusion_matrix"
    }

    #[track_caller]
    fn statistics<'g>(
        &self,
        prediction: Tensor<'g>,
        target: Tensor<'g>,
        weights: Option<Tensor<'g>>,
    ) -> Vec<Tensor<'g>> {
        match Chosen::of("confusion matrix", prediction, target, weights) {
            Some(chosen) => vec![chosen.actual.transpose(&[1, 0]).dot(chosen.predicted)],
            None => vec![prediction.builder().poison()],
        }
    }

    fn value(&self, _sums: &[Vec<f64>]) -> Option<f64> {
        None
    }
}
