//! Precision, recall and F1: how what was said to be of a class agrees with what is.

use super::classes::{Chosen, yes_or_no};
use super::{Metric, share};
use crate::weights::spread;
use kiln_ir::Tensor;

/// How the numbers of several classes become one, as in scikit-learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// The number of all decisions together, whatever their class. Where each example has one class this is the accuracy.
    Micro,
    /// The mean over the classes that were met, as a label or as a prediction; others have no number. (Keras counts them as 0.)
    Macro,
    /// The mean over classes weighted by how many examples are of each.
    Weighted,
}

/// What is decided of an example.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Decision {
    /// Yes or no: whether the score lies above a threshold.
    Binary(f64),
    /// One of several classes.
    Classes(Average),
}

/// Of one class: the weight of what is of it and was said to be, of what was said to be, and of what is.
#[derive(Clone, Copy)]
struct Counts {
    both: f64,
    predicted: f64,
    actual: f64,
}

macro_rules! agreement {
    ($(#[$doc:meta])* $name:ident, $label:literal, $of:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name {
            decision: Decision,
        }

        impl $name {
            /// For answers of yes or no: logits of any shape, yes where above 0, and targets 0 or 1 of the same shape and of any type.
            pub fn binary() -> Self {
                Self { decision: Decision::Binary(0.0) }
            }

            /// For answers of yes or no with another threshold than 0, such as 0.5 for probabilities.
            pub fn above(threshold: f64) -> Self {
                Self { decision: Decision::Binary(threshold) }
            }

            /// For scores of classes `[.., n]` and integer labels `[..]`.
            pub fn of_classes(average: Average) -> Self {
                Self { decision: Decision::Classes(average) }
            }
        }

        impl Metric for $name {
            fn name(&self) -> &str {
                $label
            }

            #[track_caller]
            fn statistics<'g>(
                &self,
                prediction: Tensor<'g>,
                target: Tensor<'g>,
                weights: Option<Tensor<'g>>,
            ) -> Vec<Tensor<'g>> {
                self.decision.statistics($label, prediction, target, weights)
            }

            fn value(&self, sums: &[Vec<f64>]) -> Option<f64> {
                Some(self.decision.value(sums, $of))
            }
        }
    };
}

agreement! {
    /// The share of what was said to be of a class that is: `true positives / predicted positives`, and 0 where nothing was said to be.
    Precision, "precision", |c: Counts| share(c.both, c.predicted)
}

agreement! {
    /// The share of what is of a class that was said to be: `true positives / actual positives`, and 0 where nothing is.
    ///
    /// ```
    /// use kiln_nn::{Metric, Recall};
    ///
    /// // Two of four were found, with one mistake.
    /// let sums = [vec![2.0], vec![3.0], vec![4.0]];
    /// assert_eq!(Recall::binary().value(&sums), Some(0.5));
    /// ```
    Recall, "recall", |c: Counts| share(c.both, c.actual)
}

agreement! {
    /// The harmonic mean of precision and recall, `2 tp / (predicted + actual)`; 0 where nothing is or was said to be.
    F1, "f1", |c: Counts| share(2.0 * c.both, c.predicted + c.actual)
}

impl Decision {
    /// The three counts, each one number for each class.
    #[track_caller]
    fn statistics<'g>(
        self,
        what: &str,
        prediction: Tensor<'g>,
        target: Tensor<'g>,
        weights: Option<Tensor<'g>>,
    ) -> Vec<Tensor<'g>> {
        let counts = match self {
            Decision::Classes(_) => {
                let chosen = Chosen::of(what, prediction, target, weights);
                chosen.map(|chosen| chosen.counts())
            }
            Decision::Binary(threshold) => {
                let pair = yes_or_no(what, prediction, target).zip(prediction.ty());
                pair.map(|(actual, ty)| {
                    let predicted = prediction.gt(threshold).convert(ty.dtype);
                    let weighted = |x: Tensor<'g>| match weights {
                        Some(weights) => (x * spread(what, weights, x)).sum(),
                        None => x.sum(),
                    };
                    let both = predicted * actual;
                    vec![weighted(both), weighted(predicted), weighted(actual)]
                })
            }
        };
        counts.unwrap_or_else(|| vec![prediction.builder().poison(); 3])
    }

    fn value(self, sums: &[Vec<f64>], of: impl Fn(Counts) -> f64) -> f64 {
        let [both, predicted, actual] = sums else {
            return f64::NAN;
        };
        let classes = both.iter().zip(predicted).zip(actual);
        let classes = classes.map(|((both, predicted), actual)| Counts {
            both: *both,
            predicted: *predicted,
            actual: *actual,
        });
        match self {
            Decision::Binary(_) | Decision::Classes(Average::Micro) => of(Counts {
                both: both.iter().sum(),
                predicted: predicted.iter().sum(),
                actual: actual.iter().sum(),
            }),
            Decision::Classes(Average::Macro) => {
                let met = classes.filter(|c| c.predicted > 0.0 || c.actual > 0.0);
                let (sum, count) = met.fold((0.0, 0.0), |(sum, n), c| (sum + of(c), n + 1.0));
                share(sum, count)
            }
            Decision::Classes(Average::Weighted) => {
                let weighted = classes.map(|c| c.actual * of(c)).sum();
                share(weighted, actual.iter().sum())
            }
        }
    }
}
