//! Going on with a sequence: a step is given the tokens behind those of earlier steps, and its layers remember what they need of these.

use kiln_ir::ops::Iota;
use kiln_ir::{Builder, DType, Kind, Refusal, Tensor, TensorType};

/// Where the tokens of a step stand in a sequence of which earlier steps have seen the beginning.
///
/// Given to [`Context::continuing`](crate::Context::continuing), it makes the layers of a model for whole sequences those of a step that goes
/// on: [`MultiHeadAttention`](crate::MultiHeadAttention) keeps keys and values as states, and learned and rotary positions begin at
/// `position`. So one model description gives the graph that learns and the one that writes, and their params meet by name.
#[derive(Clone, Copy)]
pub struct Continuation<'g> {
    position: Tensor<'g>,
    tokens: i64,
    context: i64,
}

impl<'g> Continuation<'g> {
    /// Steps of `tokens` tokens, the first of them at `position`, an i32 scalar counted from 0, in sequences of up to `context` tokens. A new
    /// sequence begins at position 0; whatever was kept of the one before is not seen then.
    ///
    /// A step whose tokens would stand before the beginning or behind the context fails before it writes any state.
    ///
    /// Refused: a position of another type, no tokens, and a context that cannot hold them.
    ///
    /// ```
    /// use kiln_ir::{Builder, DType};
    /// use kiln_nn::{Context, Continuation, MultiHeadAttention};
    ///
    /// let g = Builder::new("writing");
    /// let x = g.input("x", DType::F32, (1, 1, 128));
    /// let at = Continuation::new(g.input("position", DType::I32, ()), 1, 64);
    /// let cx = Context::inference(&g).continuing(at);
    /// let y = cx.layer("attention", &MultiHeadAttention::new(4).kv_heads(2).causal(), x);
    /// assert_eq!(y.ty().unwrap().to_string(), "f32[1, 1, 128]");
    /// let keys = g.find("attention/keys").unwrap();
    /// assert_eq!(keys.ty().unwrap().to_string(), "f32[1, 2, 64, 32]");
    /// ```
    #[track_caller]
    pub fn new(position: Tensor<'g>, tokens: i64, context: i64) -> Self {
        let position = match Self::checked(position, tokens, context) {
            Ok(position) => position,
            Err(refusal) => position.builder().refuse(refusal, &[position]),
        };
        Self {
            position,
            tokens,
            context,
        }
    }

    #[track_caller]
    fn checked(position: Tensor<'g>, tokens: i64, context: i64) -> Result<Tensor<'g>, Refusal> {
        let Some(ty) = position.ty() else {
            return Ok(position);
        };
        if ty.dtype != DType::I32 || ty.rank() != 0 {
            let message = format!("a sequence goes on at a position of type {ty}");
            return Err(Refusal::new(Kind::Type, message).help("the position is one i32[]"));
        }
        if tokens < 1 || context < tokens {
            let message =
                format!("a sequence goes on by {tokens} tokens in a context of {context}");
            let help = "a step has one token or more, and the context has room for them";
            return Err(Refusal::new(Kind::Attribute, message).help(help));
        }
        let inside = position.ge(0.0).and(position.le((context - tokens) as f64));
        let message = format!(
            "the position of a step of {tokens} tokens is none of the {context} of the context; begin anew at 0"
        );
        Ok(position.require(inside, &message))
    }

    /// The position of the step's first token, an i32 scalar.
    pub fn position(&self) -> Tensor<'g> {
        self.position
    }

    /// The tokens of a step.
    pub fn tokens(&self) -> i64 {
        self.tokens
    }

    /// The most tokens of a sequence.
    pub fn context(&self) -> i64 {
        self.context
    }

    /// The positions of the step's tokens, `i32[tokens]`.
    #[track_caller]
    pub(crate) fn positions(&self) -> Tensor<'g> {
        let ty = TensorType::new(DType::I32, [self.tokens]);
        let along = self.builder().push(Iota { ty, axis: 0 }, &[]);
        along + self.position
    }

    /// The start of a window at the position, along `axis` of `rank`; at 0 along the others.
    #[track_caller]
    pub(crate) fn window(&self, axis: usize, rank: usize) -> Vec<Tensor<'g>> {
        let zero = self.builder().splat(DType::I32, (), 0.0);
        let mut starts = vec![zero; rank];
        if let Some(start) = starts.get_mut(axis) {
            *start = self.position;
        }
        starts
    }

    fn builder(&self) -> &'g Builder {
        self.position.builder()
    }
}
