//! Kiln's layers, losses, metrics, initialisers and optimizers.
//!
//! Everything here is a graph builder on the public API of `kiln-ir`: the compiler has never heard of a layer, and one of your own has
//! the same standing. A model to train, in ten lines:
//!
//! ```
//! use kiln_ir::{Builder, DType};
//! use kiln_nn::{Accuracy, Adam, Context, Layer, Loss, MeanMetric, Optimizer, Sequential, SparseCrossEntropy};
//!
//! let model = Sequential::new([784]).dense(512).relu().dropout(0.5).dense(10);
//! let g = Builder::new("digits");
//! let b = g.dim("b");
//! let x = g.input("x", DType::F32, (b.clone(), 784));
//! let y = g.input("y", DType::U8, (b,));
//! let logits = model.apply(&Context::training(&g), x);
//! let loss = SparseCrossEntropy.mean(logits, y);
//! g.output("loss", loss);
//! g.output("accuracy", Accuracy.measure(logits, y));
//! Adam::new(1e-3).minimize(loss);
//! let graph = g.finish().unwrap();
//! assert_eq!(graph.outputs().len(), 2);
//! ```
//!
//! - [`Layer`] and [`Context`]: what a layer is, and how it declares params, opens scopes and learns the mode.
//! - [`Sequential`] for stacks; a plain struct of layers, applied with [`Context::layer`], for everything else.
//! - [`Loss`], [`Metric`], [`Optimizer`] and [`Initialiser`](initialisers::Initialiser): traits with one method to write.
//! - [`random_bits`]: where randomness in a graph comes from.

mod continuation;
pub mod initialisers;
mod labels;
mod last_axis;
mod layer;
pub mod layers;
pub mod losses;
pub mod metrics;
pub mod optimizers;
mod random;
mod range;
pub mod schedules;
mod sequential;
mod summary;
mod weights;

pub use continuation::Continuation;
pub use kiln_ir::ops::OutOfRange;
pub use kiln_ir::{Layout, Padding};
pub use layer::{Context, Layer, Mode};
pub use layers::{
    Activation, AttentionOptions, AttentionSchedule, AvgPool, AvgPool1d, AvgPool2d, AvgPool3d,
    BatchNorm, Bidirectional, BlockInputs, Cell, Conv, Conv1d, Conv2d, Conv3d, ConvTranspose,
    ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, Dense, DepthwiseConv, DepthwiseConv1d,
    DepthwiseConv2d, DepthwiseConv3d, Dropout, Elman, Embedding, FeedForward, Flatten, GatedUnit,
    GaussianNoise, Given, GlobalAvgPool, GlobalMaxPool, GroupNorm, Gru, InstanceNorm, LayerNorm,
    LearnedPositions, LongShortTerm, Lstm, MaxPool, MaxPool1d, MaxPool2d, MaxPool3d, Memory, Merge,
    MultiHeadAttention, PerAxis, Recurrent, RecurrentBias, RmsNorm, SeparableConv, SeparableConv1d,
    SeparableConv2d, SeparableConv3d, Sequence, SimpleRnn, SpatialDropout, Step, StochasticDepth,
    SwiGlu, TransformerBlock, Upsample, Upsample1d, Upsample2d, Upsample3d, ZeroPad, ZeroPad1d,
    ZeroPad2d, ZeroPad3d, attention, dropout, gelu, gelu_tanh, log_softmax, relu, rotary, silu,
    softmax,
};
pub use losses::{
    BinaryCrossEntropy, BinaryFocal, CategoricalFocal, CategoricalHinge, ClassWeighted,
    CosineSimilarity, CrossEntropy, Ctc, Hinge, Huber, KlDivergence, LogCosh, Loss,
    MeanAbsoluteError, MeanSquaredError, Poisson, Regularised, Smoothed, SparseCrossEntropy,
    SquaredHinge, ctc, triplet,
};
pub use metrics::{
    Accuracy, Average, BinaryAccuracy, CategoricalAccuracy, ConfusionMatrix, F1, LossMetric,
    MeanMetric, Metric, Perplexity, PrAuc, Precision, R2, Recall, RocAuc, RootMeanSquaredError,
    TopKAccuracy,
};
pub use optimizers::{
    AdaMax, Adadelta, Adafactor, Adagrad, Adam, AdamW, ClipByGlobalNorm, ClipByNorm, ClipByValue,
    Group, Lamb, Lion, NAdam, Optimizer, RAdam, RmsProp, Sgd, average_of,
};
pub use random::random_bits;
pub use schedules::{Cosine, Exponential, OneCycle, Piecewise, Polynomial, Schedule, Warmup};
pub use sequential::Sequential;
pub use summary::{Row, Summary};
