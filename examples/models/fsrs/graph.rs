//! The model as plain graph code: one `scan` over the reviews of many cards at once. No gradient is derived by hand.
//!
//! Cards are columns, `[t, b]`, time first, padded at the end. Both sizes are symbols, so one compilation serves all batches. What is
//! trained is the difference of the parameters from where they start.

use super::{DEVIATION, DIFFICULTY, INITIAL, PARAMETERS, RANGES, STABILITY};
use kiln::ir::{Operand, ScanOptions, Yield};
use kiln::{Builder, DType, Diagnostics, Graph, Init, Tensor, grad};
use std::f64::consts::PI;

/// The name of the param: `w` less its start, `f32[21]`.
pub(crate) const OFFSETS: &str = "offsets";

/// How the parameters learn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Training {
    /// The learning rate of the first step; it falls to 0 along half a cosine.
    pub(crate) rate: f64,
    /// How many steps there are.
    pub(crate) steps: usize,
    /// How many rows are scored in all batches of an epoch.
    pub(crate) predictions: usize,
}

/// The inputs of a batch, `f32[t, b]` each: ratings, 0 where there is padding; whole days since the review before; and the weight of the
/// row in the loss, 0 where it is not scored.
struct Inputs<'g> {
    rating: Tensor<'g>,
    elapsed: Tensor<'g>,
    weight: Tensor<'g>,
}

impl<'g> Inputs<'g> {
    fn of(g: &'g Builder) -> Self {
        let (t, b) = (g.dim("t"), g.dim("b"));
        let input = |name: &str| g.input(name, DType::F32, (t.clone(), b.clone()));
        Self {
            rating: input("rating"),
            elapsed: input("elapsed"),
            weight: input("weight"),
        }
    }
}

/// The step that learns: outputs the loss, updates the parameters by Adam, and clips them to their ranges.
pub(crate) fn training(settings: &Training) -> Result<Graph, Diagnostics> {
    let g = Builder::new("fsrs");
    let inputs = Inputs::of(&g);
    let offsets = g.param(OFFSETS, [PARAMETERS as i64], Init::zeros());
    let scored = inputs.weight.gt(0.0).convert(DType::F32).sum();
    let deviation = g.constant([PARAMETERS as i64], &DEVIATION.map(|d| d as f32));
    let prior = (offsets / deviation).square().sum();
    let loss = log_loss(offsets, &inputs) + prior * scored / settings.predictions as f64;
    g.output("loss", loss);
    let gradient = grad(loss, &[offsets])[0];
    descend(settings, offsets, gradient);
    g.finish()
}

/// The step that measures: outputs the weighted log loss of a batch and how many rows are scored.
pub(crate) fn evaluation() -> Result<Graph, Diagnostics> {
    let g = Builder::new("fsrs_evaluation");
    let inputs = Inputs::of(&g);
    let offsets = g.param(OFFSETS, [PARAMETERS as i64], Init::zeros());
    g.output("log_loss", log_loss(offsets, &inputs));
    g.output("weight", inputs.weight.sum());
    g.finish()
}

/// The step that tells how sharply the log loss of a batch is curved: outputs the product of its matrix of second derivatives with
/// `direction: f32[21]`.
pub(crate) fn curvature() -> Result<Graph, Diagnostics> {
    let g = Builder::new("fsrs_curvature");
    let inputs = Inputs::of(&g);
    let direction = g.input("direction", DType::F32, [PARAMETERS as i64]);
    let offsets = g.param(OFFSETS, [PARAMETERS as i64], Init::zeros());
    let slope = grad(log_loss(offsets, &inputs), &[offsets])[0];
    g.output("product", grad((slope * direction).sum(), &[offsets])[0]);
    g.finish()
}

/// Adam with betas of 0.9 and 0.999, along half a cosine, and then clipped.
fn descend<'g>(settings: &Training, offsets: Tensor<'g>, gradient: Tensor<'g>) {
    let g = offsets.builder();
    let state = |name: &str| g.state(name, DType::F32, [PARAMETERS as i64], Init::zeros());
    let (m, v, step) = (
        state("m"),
        state("v"),
        g.state("step", DType::F32, (), Init::zeros()),
    );
    let next_m = m * 0.9 + gradient * 0.1;
    let next_v = v * 0.999 + gradient.square() * 0.001;
    let time = step + 1.0;
    let power = |beta: f64| (time * beta.ln()).exp();
    let rate = ((step * (PI / settings.steps as f64)).cos() + 1.0) * (settings.rate / 2.0);
    let change =
        next_m * (rate / (1.0 - power(0.9))) / ((next_v / (1.0 - power(0.999))).sqrt() + 1e-8);
    let bound = |end: fn((f64, f64)) -> f64| -> [f32; PARAMETERS] {
        std::array::from_fn(|i| (end(RANGES[i]) - INITIAL[i]) as f32)
    };
    let low = g.constant([PARAMETERS as i64], &bound(|range| range.0));
    let high = g.constant([PARAMETERS as i64], &bound(|range| range.1));
    g.update(offsets, (offsets - change).maximum(low).minimum(high));
    g.update(m, next_m);
    g.update(v, next_v);
    g.update(step, time);
}

/// The sum of `-weight (y ln R + (1 - y) ln(1 - R))` over all rows but the first of each card, `y` whether the card was remembered.
fn log_loss<'g>(offsets: Tensor<'g>, inputs: &Inputs<'g>) -> Tensor<'g> {
    let later = |x: Tensor<'g>| rows(x, 1);
    let recalled = later(inputs.rating).gt(1.0);
    let r = clamped(retrievability(offsets, inputs), 1e-7, 1.0 - 1e-7);
    let probability = r.where_(recalled, 1.0 - r);
    -(later(inputs.weight) * probability.log()).sum()
}

/// All rows of a batch from number `first` on.
fn rows(x: Tensor<'_>, first: i64) -> Tensor<'_> {
    let Some(ty) = x.ty() else { return x };
    x.slice_axis(0, first, &ty.shape[0])
}

/// The parameters, each a scalar.
fn parameters(offsets: Tensor<'_>) -> [Tensor<'_>; PARAMETERS] {
    std::array::from_fn(|i| {
        let at = i as i64;
        let offset = offsets.slice_axis(0, at, at + 1);
        offset.reshape(()) + INITIAL[i]
    })
}

/// The probability of recall at each review but the first of each card: `[t - 1, b]`.
fn retrievability<'g>(offsets: Tensor<'g>, inputs: &Inputs<'g>) -> Tensor<'g> {
    let g = offsets.builder();
    let w = parameters(offsets);
    // R = (1 + F t / S)^decay, with F such that R = 0.9 at t = S.
    let decay = -w[20];
    let factor = (0.9_f64.ln() / decay).expm1();
    let easiest = w[4] - (w[5] * 3.0).exp() + 1.0;
    let hardest_after_lapse = (-(w[17] * w[18])).exp();

    let first = first_row(inputs.rating);
    let stability = w[0].broadcast_like(first);
    let stability = [w[1], w[2], w[3]]
        .iter()
        .zip([2.0, 3.0, 4.0])
        .fold(stability, |stability, (w, rating)| {
            w.broadcast_like(first).where_(first.eq(rating), stability)
        });
    let difficulty = w[4] - ((first - 1.0) * w[5]).exp() + 1.0;

    let begin = [
        bounded(stability, STABILITY),
        bounded(difficulty, DIFFICULTY),
    ];
    let scanned = [rows(inputs.rating, 1), rows(inputs.elapsed, 1)];
    let scanned = g.scan(&ScanOptions::default(), &begin, &scanned, |it| {
        let (rating, days) = (it.entry(0), it.entry(1));
        let s = bounded(it.carry(0), STABILITY);
        let d = bounded(it.carry(1), DIFFICULTY);
        let recalled = rating.ge(2.0);
        let r = ((days * factor / s + 1.0).log() * decay).exp();
        let log_s = s.log();

        // On the same day: S q, and no loss where the card was recalled.
        let q = ((rating - 3.0 + w[18]) * w[17] - log_s * w[19]).exp();
        let q = at_least(q, 1.0).where_(recalled, q);
        let same_day = s * q;

        // Forgotten: w11 D^-w12 ((S + 1)^w13 - 1) e^(w14 (1 - R)), and no gain.
        let forgotten =
            ((1.0 - r) * w[14] - d.log() * w[12]).exp() * ((s + 1.0).log() * w[13]).expm1() * w[11];
        let forgotten = forgotten.minimum(s * hardest_after_lapse);

        // Recalled: S (1 + e^w8 (11 - D) S^-w9 (e^(w10 (1 - R)) - 1) h e).
        let is = |grade: f64| rating.eq(grade).convert(DType::F32);
        let hard = is(2.0) * (w[15] - 1.0) + 1.0;
        let easy = is(4.0) * (w[16] - 1.0) + 1.0;
        let growth =
            (w[8] - log_s * w[9]).exp() * (11.0 - d) * ((1.0 - r) * w[10]).expm1() * (hard * easy);
        let remembered = s * (growth + 1.0);

        let later = remembered.where_(recalled, forgotten);
        let next_s = bounded(same_day.where_(days.le(0.0), later), STABILITY);

        let moved = d - (rating - 3.0) * (10.0 - d) * (w[6] / 9.0);
        let next_d = bounded(easiest * w[7] + moved * (1.0 - w[7]), DIFFICULTY);

        let real = rating.gt(0.0);
        Yield::new(
            &[
                next_s.where_(real, it.carry(0)),
                next_d.where_(real, it.carry(1)),
            ],
            &[r],
        )
    });
    scanned.stacked[0]
}

/// The first review of each card.
fn first_row(x: Tensor<'_>) -> Tensor<'_> {
    let Some(ty) = x.ty() else { return x };
    let columns = ty.shape[1].clone();
    x.slice_axis(0, 0, 1).reshape([columns])
}

fn bounded(x: Tensor<'_>, (low, high): (f64, f64)) -> Tensor<'_> {
    clamped(x, low, high)
}

/// `x` within a range; on its ends the gradient passes, outside it does not.
fn clamped<'g>(x: Tensor<'g>, low: f64, high: f64) -> Tensor<'g> {
    let x = at_least(x, low);
    high.against(x).where_(x.gt(high), x)
}

fn at_least(x: Tensor<'_>, low: f64) -> Tensor<'_> {
    low.against(x).where_(x.lt(low), x)
}

/// A scalar as a tensor of the shape of another one.
trait BroadcastLike<'g> {
    fn broadcast_like(self, like: Tensor<'g>) -> Tensor<'g>;
}

impl<'g> BroadcastLike<'g> for Tensor<'g> {
    fn broadcast_like(self, like: Tensor<'g>) -> Tensor<'g> {
        match like.ty() {
            Some(ty) => self.broadcast_to(ty.shape),
            None => self,
        }
    }
}
