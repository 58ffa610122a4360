//! Tables of vectors: one for each token, one for each position.

use crate::initialisers::Initialiser;
use crate::layer::{Context, Layer};
use kiln_ir::ops::OutOfRange;
use kiln_ir::{DType, Dim, Init, Kind, Refusal, Tensor};
use std::sync::Arc;

/// A vector for each of `count` numbers: integers `[..]` give `[.., width]`.
///
/// One param, `w: [count, width]`, f32 unless told otherwise, normal with a deviation of 0.02 (GPT-2's). Its gradient adds what came to each
/// row, in the order of the tokens.
///
/// A number below 0 or not below `count` fails the step before it writes any state, unless [`Embedding::out_of_range`] says otherwise: with
/// `Clamp` it stands for the nearest number in range, with `Skip` for a vector of zeros that does not learn.
///
/// [`Embedding::logits`] is the way back with the same table.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, Embedding};
///
/// let g = Builder::new("words");
/// let x = g.input("x", DType::I64, (g.dim("b"), g.dim("t")));
/// let y = Context::training(&g).layer("words", &Embedding::new(1000, 64), x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, t, 64]");
/// ```
#[derive(Clone)]
pub struct Embedding {
    count: i64,
    width: i64,
    dtype: DType,
    weight: Arc<dyn Initialiser + Send + Sync>,
    out_of_range: OutOfRange,
}

impl Embedding {
    /// A table of `count` vectors of `width` f32 numbers.
    pub fn new(count: i64, width: i64) -> Self {
        Self {
            count,
            width,
            dtype: DType::F32,
            weight: Arc::new(Init::normal(0.02)),
            out_of_range: OutOfRange::Fail,
        }
    }

    /// How the table starts.
    pub fn weight(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
        self.weight = Arc::new(initialiser);
        self
    }

    /// The element type of the table.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// What a number outside the table means.
    pub fn out_of_range(mut self, out_of_range: OutOfRange) -> Self {
        self.out_of_range = out_of_range;
        self
    }

    /// The product of `x: [.., width]` with each vector of the table, `[.., count]`: the output head of a language model with tied weights.
    /// Press and Wolf, "Using the output embedding to improve language models" (EACL 2017).
    ///
    /// To find the table of the embedding, `cx` shares and is within its scope: `cx.sharing().within("tokens", "head", |cx|
    /// embedding.logits(cx, x))`.
    #[track_caller]
    pub fn logits<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(ty) = x.ty() else { return x };
        if ty.shape.last().and_then(Dim::constant) != Some(self.width) || ty.dtype != self.dtype {
            let (dtype, width) = (self.dtype.name(), self.width);
            let message = format!(
                "the table of an embedding has vectors of type {dtype}[{width}], and its head is given {ty}"
            );
            let refusal = Refusal::new(Kind::Shape, message).help(format!(
                "the last axis holds {width} features of type {dtype}; a `Dense` layer before the head brings them there"
            ));
            return cx.builder().refuse(refusal, &[x]);
        }
        x.dot_general(self.table(cx), &[ty.rank() - 1], &[1], &[], &[])
    }

    #[track_caller]
    fn table<'g>(&self, cx: &Context<'g>) -> Tensor<'g> {
        cx.param("w", self.dtype, (self.count, self.width), &*self.weight)
    }
}

impl Layer for Embedding {
    fn kind(&self) -> &str {
        "embedding"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(ty) = x.ty() else { return x };
        let refusal = if !ty.dtype.is_integer() {
            Refusal::new(Kind::Type, format!("`embedding` of {ty}")).help(
                "it takes the numbers of tokens, integers of any width; features go to `Dense`",
            )
        } else if !self.dtype.is_float() {
            let dtype = self.dtype.name();
            Refusal::new(Kind::Type, format!("`embedding` with a table of {dtype}"))
                .help("its vectors are learned, so they are floating")
        } else {
            return self.table(cx).gather(0, x, self.out_of_range);
        };
        cx.builder().refuse(refusal, &[x])
    }
}

/// A learned vector for each position, added to the input: `x: [b, t, features]` keeps its shape. Gehring, Auli, Grangier, Yarats and
/// Dauphin, "Convolutional sequence to sequence learning" (ICML 2017), section 3.1, as GPT-2 has it.
///
/// One param, of the element type of `x`: `w: [length, features]`, normal with a deviation of 0.02. Of a sequence shorter than `length` the
/// first positions are used; a longer one is refused, when the graph is built if its length is fixed, else when it is fed. In a context that
/// goes on with a sequence ([`Context::continuing`]) positions begin at that of the step.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, LearnedPositions};
///
/// let g = Builder::new("positions");
/// let x = g.input("x", DType::F32, (g.dim("b"), 64, 32));
/// let y = Context::training(&g).layer("positions", &LearnedPositions::new(1024), x);
/// assert_eq!(y.ty().unwrap().to_string(), "f32[b, 64, 32]");
/// ```
#[derive(Clone)]
pub struct LearnedPositions {
    length: i64,
    weight: Arc<dyn Initialiser + Send + Sync>,
}

impl LearnedPositions {
    /// Vectors for sequences of up to `length` positions.
    pub fn new(length: i64) -> Self {
        Self {
            length,
            weight: Arc::new(Init::normal(0.02)),
        }
    }

    /// How the vectors start.
    pub fn weight(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
        self.weight = Arc::new(initialiser);
        self
    }
}

impl Layer for LearnedPositions {
    fn kind(&self) -> &str {
        "learned_positions"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(ty) = x.ty() else { return x };
        let refusal = match &*ty.shape {
            [_, time, features] if ty.dtype.is_float() => {
                let last = match cx.continuation() {
                    Some(from) => Some(from.context()),
                    None => time.constant(),
                };
                let too_long = last.is_some_and(|last| last > self.length);
                match features.constant() {
                    Some(features) if !too_long => {
                        let shape = (self.length, features);
                        let w = cx.param("w", ty.dtype, shape, &*self.weight);
                        let limit = [time.clone(), features.into()];
                        return x + match cx.continuation() {
                            Some(from) => w.dynamic_slice(&from.window(0, 2), limit),
                            None => w.slice(&[0.into(), 0.into()], &limit, &[1, 1]),
                        };
                    }
                    Some(_) => Refusal::new(
                        Kind::Shape,
                        format!("`learned_positions` of {} vectors for {ty}", self.length),
                    )
                    .help("there must be a vector for each position of axis 1, and of the context in which a sequence goes on"),
                    None => Refusal::new(
                        Kind::Shape,
                        format!("`learned_positions` needs a fixed number of features on the last axis of {ty}"),
                    )
                    .help("only batch and time may be symbolic"),
                }
            }
            _ => Refusal::new(Kind::Shape, format!("`learned_positions` of {ty}"))
                .help("it takes floating sequences [b, t, features]"),
        };
        cx.builder().refuse(refusal, &[x])
    }
}
