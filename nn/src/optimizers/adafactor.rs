//! Adafactor.

use super::Optimizer;
use super::settings::{Range, Settings, common_settings};
use kiln_ir::ops::ReduceKind;
use kiln_ir::{Builder, Dim, Init, Shape, Tensor};

/// What is added to each square, so that no row of zeros divides by 0; the paper's first epsilon.
const TINY: f64 = 1e-30;

/// Adafactor, whose second moment of a matrix is one number a row and one a column: Shazeer and Stern, "Adafactor: adaptive learning rates
/// with sublinear memory cost" (ICML 2018), algorithm 4.
///
/// ```text
/// b = t^-0.8      r := (1 - b) r + b mean(g^2 of the row)      c := (1 - b) c + b mean(g^2 of the column)
/// u = g / sqrt(r c / mean r)      u := u / max(1, rms u)
/// w := w - max(0.001, rms w) min(rate, 1 / sqrt(t)) u
/// ```
///
/// Params of more than two axes are matrices in their last two, and those of fewer have a second moment of their own size. There is no
/// first moment. States: `adafactor/learning_rate`, `adafactor/step`, and `adafactor/rows/NAME` and `adafactor/columns/NAME`, or
/// `adafactor/v/NAME`.
#[derive(Clone, Debug)]
pub struct Adafactor {
    settings: Settings,
    decay_power: f64,
}

impl Adafactor {
    /// Adafactor at a relative rate of `rate` at most; the paper's is 0.01.
    pub fn new(rate: f64) -> Self {
        Self {
            settings: Settings::new("adafactor", rate),
            decay_power: 0.8,
        }
    }

    /// The power of `t`, above 0, by which what a step adds to the second moment shrinks: 0.8 in the paper.
    pub fn decay_power(mut self, power: f64) -> Self {
        self.decay_power = power;
        self
    }
}

common_settings!(Adafactor, settings);

impl Optimizer for Adafactor {
    #[track_caller]
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let ranges = [("power of the decay", self.decay_power, Range::Positive)];
        let Some(run) = self.settings.begin(builder, pairs, &ranges) else {
            return;
        };
        let time = run.time(run.scalar);
        let added = (time.log() * -self.decay_power).exp();
        let rate = run.rate.minimum(time.rsqrt());
        for one in &run.params {
            let added = added.convert(one.dtype);
            let squares = one.gradient.square() + TINY;
            let mixed = |name: &str, shape: Shape, new: Tensor<'g>| {
                let state = builder.state(
                    &format!("{name}/{}", one.name),
                    one.dtype,
                    shape,
                    Init::zeros(),
                );
                let next = state * (1.0 - added) + new * added;
                run.update(state, next);
                next
            };
            let Some(ty) = one.param.ty() else { continue };
            let dims: Vec<Dim> = ty.shape.to_vec();
            let scale = match dims.as_slice() {
                [before @ .., height, width] => {
                    let shape = |last: &Dim| before.iter().chain([last]).cloned().collect();
                    let mean = |x: Tensor<'g>, axis: usize| {
                        let count = crate::weights::size(
                            x,
                            x.ty().map_or(1.into(), |t| t.shape[axis].clone()),
                        );
                        x.reduce(ReduceKind::Sum, &[axis]) / count
                    };
                    let matrix = before.len();
                    let rows = mixed("rows", shape(height), mean(squares, matrix + 1));
                    let columns = mixed("columns", shape(width), mean(squares, matrix));
                    // The quotient first: the product of two tiny means would be 0 in f32.
                    let average: Shape = before.iter().cloned().chain([1.into()]).collect();
                    let rows = rows / mean(rows, matrix).reshape(average);
                    let upright: Shape = before
                        .iter()
                        .chain([height])
                        .cloned()
                        .chain([1.into()])
                        .collect();
                    let flat: Shape = before
                        .iter()
                        .cloned()
                        .chain([1.into(), width.clone()])
                        .collect();
                    rows.reshape(upright) * columns.reshape(flat)
                }
                [] | [_] => mixed("v", ty.shape.clone(), squares),
            };
            let update = one.gradient * scale.rsqrt();
            let clipped = update / root_mean_square(update).maximum(1.0);
            let relative = root_mean_square(one.param).maximum(1e-3);
            run.descend(one, clipped * (run.rate_of(one, rate) * relative));
        }
    }
}

/// The root of the mean of squares of all elements.
#[track_caller]
fn root_mean_square(x: Tensor<'_>) -> Tensor<'_> {
    x.square().mean().sqrt()
}
