//! A recurrent layer in both directions.

use super::{Cell, Given, Recurrent, Sequence};
use crate::layer::{Context, Layer};
use kiln_ir::Tensor;

/// What becomes of the outputs of both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Side by side: forward, then backward.
    Concat,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// Their product, element by element.
    Product,
}

/// Two layers of one kind, one in each direction: Schuster and Paliwal, "Bidirectional recurrent neural networks" (1997).
///
/// `x: [b, t, features]` gives `[b, 2 units]`, the last output of each direction, or `[b, t, 2 units]` where the layer returns sequences.
/// Params: those of the layer, in the scopes `forward` and `backward`.
///
/// ```
/// use kiln_nn::{Bidirectional, Lstm, Sequential};
///
/// let model = Sequential::new([20, 8]).layer(Bidirectional::new(Lstm::new(32)));
/// assert_eq!(model.summary().unwrap().rows[0].output.to_string(), "f32[b, 64]");
/// ```
#[derive(Clone)]
pub struct Bidirectional<C> {
    forward: Recurrent<C>,
    backward: Recurrent<C>,
    merge: Merge,
}

impl<C: Cell + Clone> Bidirectional<C> {
    /// The layer as it is, and the same in the other direction, with outputs side by side.
    pub fn new(layer: Recurrent<C>) -> Self {
        let mut backward = layer.clone();
        backward.backwards = !layer.backwards;
        Self {
            forward: layer,
            backward,
            merge: Merge::Concat,
        }
    }

    /// What becomes of the outputs of both directions.
    pub fn merge(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }
}

impl<C: Cell> Bidirectional<C> {
    /// All outputs, merged, and the states of the forward layer and then of the backward one. Initial states are given in the same order.
    #[track_caller]
    pub fn sequence<'g>(&self, cx: &Context<'g>, x: Tensor<'g>, given: &Given<'g>) -> Sequence<'g> {
        let [forward, backward] = self.shares(given);
        let mut states = Vec::new();
        let mut run = |name: &str, layer: &Recurrent<C>, given: &Given<'g>| {
            cx.member_within(name, layer.kind(), |cx| {
                let sequence = layer.sequence(cx, x, given);
                states.extend(sequence.states);
                sequence.outputs
            })
        };
        let forward = run("forward", &self.forward, &forward);
        let backward = run("backward", &self.backward, &backward);
        let _at = cx.at_application();
        Sequence {
            outputs: self.merged(forward, backward),
            states,
        }
    }

    /// What each direction is told. Too few or too many initial states are for the layers to refuse.
    fn shares<'g>(&self, given: &Given<'g>) -> [Given<'g>; 2] {
        let split = self.forward.cell().states();
        let share = |backward: bool| Given {
            initial: given.initial.as_ref().map(|all| {
                let (forward, rest) = all.split_at(split.min(all.len()));
                if backward { rest } else { forward }.to_vec()
            }),
            ..given.clone()
        };
        [share(false), share(true)]
    }

    #[track_caller]
    fn merged<'g>(&self, forward: Tensor<'g>, backward: Tensor<'g>) -> Tensor<'g> {
        match self.merge {
            Merge::Concat => {
                let last = forward.ty().map_or(0, |ty| ty.rank().saturating_sub(1));
                forward.builder().concat(&[forward, backward], last)
            }
            Merge::Sum => forward + backward,
            Merge::Mean => (forward + backward) * 0.5,
            Merge::Product => forward * backward,
        }
    }
}

impl<C: Cell> Layer for Bidirectional<C> {
    fn kind(&self) -> &str {
        "bidirectional"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let forward = cx.member("forward", &self.forward, x);
        let backward = cx.member("backward", &self.backward, x);
        let _at = cx.at_application();
        self.merged(forward, backward)
    }
}
