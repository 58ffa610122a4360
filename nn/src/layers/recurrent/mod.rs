//! Recurrent layers: one [`Cell`] repeated over the steps of sequences `[b, t, features]`, as one `scan`.
//!
//! Sequences are batch first outside, since data, convolutions and attention are; inside the loop time comes first, so that a step reads
//! one stretch of memory. The product with the input's weight, `x wx + b`, does not depend on the loop: it is computed for all steps before
//! it, as one product of `b t` rows, where each step would have one of `b` rows only, too few to keep the weight busy. What stays inside is
//! the product with the recurrent weight. (The gradient of the weights is gathered the same way behind the loop, by the rules of `scan`.)

mod bidirectional;
mod cells;
mod sequence;

pub use bidirectional::{Bidirectional, Merge};
pub use cells::{Elman, GatedUnit, Gru, LongShortTerm, Lstm, SimpleRnn};
pub use sequence::{Given, Sequence};

use crate::initialisers::{GlorotUniform, Initialiser};
use crate::layer::{Context, Layer};
use kiln_ir::{Init, Tensor};
use std::sync::Arc;

/// What one step of a recurrent layer computes.
///
/// The weights of all gates lie side by side: `wx: [features, gates * units]` and `wh: [units, gates * units]`.
pub trait Cell {
    /// The name of the layer, one lower-case word.
    fn kind(&self) -> &'static str;
    /// How many blocks of `units` columns the weights have.
    fn gates(&self) -> i64;
    /// How many tensors `[b, units]` go from step to step. The first is the output.
    fn states(&self) -> usize;
    /// Where the recurrent bias, if there is one, is added.
    fn recurrent_bias(&self) -> RecurrentBias;
    /// The states behind the step, as many as before it.
    fn step<'b>(&self, step: &Step<'b>) -> Vec<Tensor<'b>>;
}

/// Where a cell adds the second bias, `bh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecurrentBias {
    /// To the other one, before the loop: only the sum of both counts.
    BesideOther,
    /// To the product with the recurrent weight, since the cell multiplies that sum. It is there unless the layer has no bias at all.
    InProduct,
}

/// One step of a cell, within the loop.
pub struct Step<'b> {
    units: i64,
    /// `x wx + b` of this step: `[b, gates * units]`.
    pub input: Tensor<'b>,
    /// The states behind the step before: `[b, units]` each.
    pub states: Vec<Tensor<'b>>,
    /// The first state as the recurrent weight sees it: after recurrent dropout.
    pub previous: Tensor<'b>,
    /// The recurrent weight, `[units, gates * units]`.
    pub weight: Tensor<'b>,
    /// The recurrent bias, `[gates * units]`, where it is added to the product.
    pub bias: Option<Tensor<'b>>,
}

impl<'b> Step<'b> {
    /// The columns of `count` gates from number `first` on.
    #[track_caller]
    pub fn gates(&self, of: Tensor<'b>, first: i64, count: i64) -> Tensor<'b> {
        let Some(ty) = of.ty() else { return of };
        let last = ty.rank().saturating_sub(1);
        of.slice_axis(last, first * self.units, (first + count) * self.units)
    }

    /// `previous wh`, with the recurrent bias where there is one.
    #[track_caller]
    pub fn recurrent(&self) -> Tensor<'b> {
        let product = self.previous.dot(self.weight);
        match self.bias {
            Some(bias) => product + bias,
            None => product,
        }
    }
}

/// How many biases a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Biases {
    None,
    One,
    Two,
}

/// A cell repeated over the steps of a sequence: `x: [b, t, features]` gives the last output, `[b, units]`, or all, `[b, t, units]`.
///
/// Params, of the element type of `x`: `wx: [features, gates * units]`, Glorot uniform, `wh: [units, gates * units]`, orthogonal (as in Keras;
/// PyTorch's is `Init::uniform(1.0 / sqrt(units))`), `b: [gates * units]` and where there are two biases `bh`, both zeros.
///
/// Any part of the shape may be symbolic but the features. Sequences of different lengths: [`Recurrent::sequence`].
///
/// ```
/// use kiln_nn::{Lstm, Sequential};
///
/// let model = Sequential::new([20, 8])
///     .layer(Lstm::new(32).return_sequences())
///     .layer(Lstm::new(16))
///     .dense(1);
/// let summary = model.summary().unwrap();
/// assert_eq!(summary.rows[0].output.to_string(), "f32[b, 20, 32]");
/// assert_eq!(summary.rows[1].output.to_string(), "f32[b, 16]");
/// ```
#[derive(Clone)]
pub struct Recurrent<C> {
    cell: C,
    units: i64,
    weight: Arc<dyn Initialiser + Send + Sync>,
    recurrent_weight: Arc<dyn Initialiser + Send + Sync>,
    bias: Arc<dyn Initialiser + Send + Sync>,
    biases: Biases,
    sequences: bool,
    backwards: bool,
    dropout: f64,
    recurrent_dropout: f64,
    anew: bool,
    checkpoint: Option<usize>,
}

impl<C: Cell> Recurrent<C> {
    /// The layer of a cell.
    pub fn of(cell: C, units: i64) -> Self {
        let biases = match cell.recurrent_bias() {
            RecurrentBias::BesideOther => Biases::One,
            RecurrentBias::InProduct => Biases::Two,
        };
        Self {
            cell,
            units,
            weight: Arc::new(GlorotUniform),
            recurrent_weight: Arc::new(Init::orthogonal(1.0)),
            bias: Arc::new(Init::zeros()),
            biases,
            sequences: false,
            backwards: false,
            dropout: 0.0,
            recurrent_dropout: 0.0,
            anew: false,
            checkpoint: None,
        }
    }

    /// Gives the outputs of all steps, `[b, t, units]`, not the last one only.
    pub fn return_sequences(mut self) -> Self {
        self.sequences = true;
        self
    }

    /// Goes from the last step to the first. The output of a step stands at its place, where Keras's stands in the order of computation.
    pub fn go_backwards(mut self) -> Self {
        self.backwards = true;
        self
    }

    /// How the input's weight starts.
    pub fn weight(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
        self.weight = Arc::new(initialiser);
        self
    }

    /// How the recurrent weight starts.
    pub fn recurrent_weight(
        mut self,
        initialiser: impl Initialiser + Send + Sync + 'static,
    ) -> Self {
        self.recurrent_weight = Arc::new(initialiser);
        self
    }

    /// How the biases start.
    pub fn bias(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
        self.bias = Arc::new(initialiser);
        self
    }

    /// Leaves all biases out.
    pub fn without_bias(mut self) -> Self {
        self.biases = Biases::None;
        self
    }

    /// A bias for each of the two products, as PyTorch has them. Where only their sum counts the model is the same, but not its training:
    /// each of the two takes the whole step.
    pub fn two_biases(mut self) -> Self {
        self.biases = Biases::Two;
        self
    }

    /// Drops the share `rate` of the input's features in training. One mask serves all steps of a sequence: Gal and Ghahramani, "A
    /// theoretically grounded application of dropout in recurrent neural networks" (2016), as Keras does.
    pub fn dropout(mut self, rate: f64) -> Self {
        self.dropout = rate;
        self
    }

    /// Drops the share `rate` of the state that the recurrent weight sees, in training, with one mask for all steps of a sequence.
    pub fn recurrent_dropout(mut self, rate: f64) -> Self {
        self.recurrent_dropout = rate;
        self
    }

    /// Draws the masks of both dropouts anew in each step.
    pub fn dropout_each_step(mut self) -> Self {
        self.anew = true;
        self
    }

    /// Keeps the states of every n-th step only for the gradient, and computes the others again; `n` divides the number of steps.
    pub fn checkpoint(mut self, every: usize) -> Self {
        self.checkpoint = Some(every);
        self
    }

    /// The cell.
    pub fn cell(&self) -> &C {
        &self.cell
    }
}

impl<C: Cell> Layer for Recurrent<C> {
    fn kind(&self) -> &str {
        self.cell.kind()
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.result(cx, x, &Given::default())
    }
}
