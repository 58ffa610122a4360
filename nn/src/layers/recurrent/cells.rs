//! The cells: Elman's, the long short-term memory, and the gated recurrent unit.
//!
//! `*` is element by element, `h` and `c` are the states before the step, and each line's products are the blocks of `wx` and `wh` in the
//! order of the lines.

use super::{Cell, Recurrent, RecurrentBias, Step};
use crate::layers::activation::relu;
use kiln_ir::Tensor;

/// Elman, "Finding structure in time" (1990):
///
/// ```text
/// h' = tanh(x wx + b + h wh)
/// ```
///
/// PyTorch's `RNN` (with [`two_biases`](Recurrent::two_biases)) and Keras's `SimpleRNN`.
pub type SimpleRnn = Recurrent<Elman>;

/// Hochreiter and Schmidhuber, "Long short-term memory" (1997), with the forget gate of Gers, Schmidhuber and Cummins (2000):
///
/// ```text
/// i = logistic(x wx_i + b_i + h wh_i)
/// f = logistic(x wx_f + b_f + h wh_f + forget_bias)
/// g = tanh(x wx_g + b_g + h wh_g)
/// o = logistic(x wx_o + b_o + h wh_o)
/// c' = f * c + i * g
/// h' = o * tanh(c')
/// ```
///
/// The order of gates i, f, g, o is that of PyTorch's `LSTM` and of Keras's, whose weights are these; PyTorch's are transposed. Keras starts
/// the bias of the forget gate at 1, which `forget_bias` does here (1 unless told otherwise: Jozefowicz, Zaremba and Sutskever, "An
/// empirical exploration of recurrent network architectures", 2015); PyTorch has two biases and no forget bias:
/// `Lstm::new(256).two_biases().forget_bias(0.0)`.
pub type Lstm = Recurrent<LongShortTerm>;

/// Cho and others, "Learning phrase representations using RNN encoder-decoder" (2014), with the reset gate behind the product:
///
/// ```text
/// r = logistic(x wx_r + b_r + h wh_r + bh_r)
/// z = logistic(x wx_z + b_z + h wh_z + bh_z)
/// n = tanh(x wx_n + b_n + r * (h wh_n + bh_n))
/// h' = (1 - z) * n + z * h
/// ```
///
/// The order of gates r, z, n and the two biases are those of PyTorch's `GRU`. Keras's has the order z, r, h and is the same with its
/// `reset_after`; [`reset_before`](Recurrent::reset_before) is its other form, and the paper's: `n = tanh(x wx_n + b_n + (r * h) wh_n + bh_n)`.
pub type Gru = Recurrent<GatedUnit>;

/// The cell of [`SimpleRnn`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elman {
    rectified: bool,
}

/// The cell of [`Lstm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongShortTerm {
    forget_bias: f64,
}

/// The cell of [`Gru`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GatedUnit {
    reset_before: bool,
}

impl Recurrent<Elman> {
    /// A layer of `units` outputs with tanh.
    pub fn new(units: i64) -> Self {
        Self::of(Elman { rectified: false }, units)
    }

    /// With `max(x, 0)` in the place of tanh.
    pub fn relu(mut self) -> Self {
        self.cell.rectified = true;
        self
    }
}

impl Recurrent<LongShortTerm> {
    /// A layer of `units` outputs with one bias and a forget bias of 1.
    pub fn new(units: i64) -> Self {
        Self::of(LongShortTerm { forget_bias: 1.0 }, units)
    }

    /// What is added to the forget gate besides its bias.
    pub fn forget_bias(mut self, forget_bias: f64) -> Self {
        self.cell.forget_bias = forget_bias;
        self
    }
}

impl Recurrent<GatedUnit> {
    /// A layer of `units` outputs with the reset gate behind the product.
    pub fn new(units: i64) -> Self {
        let cell = GatedUnit {
            reset_before: false,
        };
        Self::of(cell, units)
    }

    /// With the reset gate before the product.
    pub fn reset_before(mut self) -> Self {
        self.cell.reset_before = true;
        self
    }
}

impl Cell for Elman {
    fn kind(&self) -> &'static str {
        "simple_rnn"
    }

    fn gates(&self) -> i64 {
        1
    }

    fn states(&self) -> usize {
        1
    }

    fn recurrent_bias(&self) -> RecurrentBias {
        RecurrentBias::BesideOther
    }

    #[track_caller]
    fn step<'b>(&self, step: &Step<'b>) -> Vec<Tensor<'b>> {
        let sum = step.input + step.recurrent();
        vec![if self.rectified {
            relu(sum)
        } else {
            sum.tanh()
        }]
    }
}

impl Cell for LongShortTerm {
    fn kind(&self) -> &'static str {
        "lstm"
    }

    fn gates(&self) -> i64 {
        4
    }

    fn states(&self) -> usize {
        2
    }

    fn recurrent_bias(&self) -> RecurrentBias {
        RecurrentBias::BesideOther
    }

    #[track_caller]
    fn step<'b>(&self, step: &Step<'b>) -> Vec<Tensor<'b>> {
        let [_, c] = step.states[..] else {
            return step.states.clone();
        };
        let sum = step.input + step.recurrent();
        let i = step.gates(sum, 0, 1).logistic();
        let f = step.gates(sum, 1, 1);
        let f = if self.forget_bias == 0.0 {
            f.logistic()
        } else {
            (f + self.forget_bias).logistic()
        };
        let g = step.gates(sum, 2, 1).tanh();
        let o = step.gates(sum, 3, 1).logistic();
        let c = f * c + i * g;
        vec![o * c.tanh(), c]
    }
}

impl Cell for GatedUnit {
    fn kind(&self) -> &'static str {
        "gru"
    }

    fn gates(&self) -> i64 {
        3
    }

    fn states(&self) -> usize {
        1
    }

    fn recurrent_bias(&self) -> RecurrentBias {
        RecurrentBias::InProduct
    }

    #[track_caller]
    fn step<'b>(&self, step: &Step<'b>) -> Vec<Tensor<'b>> {
        let [h] = step.states[..] else {
            return step.states.clone();
        };
        let (rz, n) = if self.reset_before {
            let of_gates = |first, count| {
                let bias = step.bias.map(|bias| step.gates(bias, first, count));
                (step.gates(step.weight, first, count), bias)
            };
            let product = |h: Tensor<'b>, (weight, bias): (Tensor<'b>, Option<Tensor<'b>>)| {
                let product = h.dot(weight);
                bias.map_or(product, |bias| product + bias)
            };
            let sum = step.gates(step.input, 0, 2) + product(step.previous, of_gates(0, 2));
            let rz = sum.logistic();
            let r = step.gates(rz, 0, 1);
            let candidate = product(r * step.previous, of_gates(2, 1));
            (rz, step.gates(step.input, 2, 1) + candidate)
        } else {
            let recurrent = step.recurrent();
            let sum = step.gates(step.input, 0, 2) + step.gates(recurrent, 0, 2);
            let rz = sum.logistic();
            let r = step.gates(rz, 0, 1);
            let candidate = r * step.gates(recurrent, 2, 1);
            (rz, step.gates(step.input, 2, 1) + candidate)
        };
        let (z, n) = (step.gates(rz, 1, 1), n.tanh());
        // (1 - z) n + z h, with one product.
        vec![n + z * (h - n)]
    }
}
