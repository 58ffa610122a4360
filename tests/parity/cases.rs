//! What is trained: two small models and the two of the benches, with their weights and batches.

use super::STEPS;
use kiln::ir::philox::Stream;
use kiln::ir::{Diagnostics, grad};
use kiln::nn::{AdamW, Embedding, Lstm, Optimizer};
use kiln::train::graphs::Task;
use kiln::{
    Adam, Builder, Context, DType, Dim, Graph, Layer, Loss, Options, SparseCrossEntropy, Tensor,
    TensorType,
};
use std::collections::BTreeMap;
use std::error::Error;

// The parts that write texts are not used here.
#[allow(dead_code)]
#[path = "../../examples/models/char_lstm.rs"]
mod char_lstm;
#[allow(dead_code)]
#[path = "../../examples/models/gpt.rs"]
mod gpt;

use char_lstm::CharLstm;
use gpt::Gpt;

/// What drawn weights are drawn with.
pub(crate) const SEED: u64 = 1;

/// The names of a batch's tensors, in the order in which a step is fed.
pub(crate) const BATCH_STREAMS: [&str; 2] = ["x", "y"];

/// Shapes and elements by the names of params.
pub(crate) type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A model, how it is trained and on what.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    model: Box<dyn Layer>,
    /// `gpt` or `lstm`, and what the script cannot see in the weights.
    about: [(&'static str, String); 2],
    optimizer: Rule,
    vocabulary: i64,
    pub(crate) batch: usize,
    pub(crate) time: usize,
    /// Weights are drawn by this file, biases and gains too, so that no change of a default changes them.
    own_weights: bool,
}

/// An optimizer, in words that the script understands too.
enum Rule {
    Adam { rate: f64 },
    AdamW { rate: f64, decay_vectors: bool },
}

/// AdamW's other settings, those of the bench.
const BETAS: (f64, f64) = (0.9, 0.99);
const DECAY: f64 = 0.1;

/// Models that train in a moment: biases everywhere, decay of matrices alone, and an LSTM with two biases.
pub(crate) fn small() -> Vec<Case> {
    let gpt = Gpt {
        vocabulary: 13,
        context: 12,
        layers: 2,
        heads: 2,
        width: 16,
        bias: true,
    };
    let small = |name, model, about, optimizer| Case {
        name,
        model,
        about,
        optimizer,
        vocabulary: 13,
        batch: 4,
        time: 12,
        own_weights: true,
    };
    let decaying = Rule::AdamW {
        rate: 3e-3,
        decay_vectors: false,
    };
    let lstm = CharLstm {
        vocabulary: 13,
        features: 8,
        units: 16,
    };
    let adam = || Rule::Adam { rate: 2e-2 };
    vec![
        small("small_gpt", Box::new(gpt), about_gpt(&gpt), decaying),
        small("small_lstm", Box::new(lstm), about_lstm(1.0), adam()),
        small(
            "small_lstm_two_biases",
            Box::new(TwoBiases),
            about_lstm(0.0),
            adam(),
        ),
    ]
}

/// The sizes of the benches `gpt` and `lstm`, with weights as Kiln draws them.
pub(crate) fn benched() -> Vec<Case> {
    let gpt = Gpt {
        vocabulary: 65,
        context: 64,
        layers: 4,
        heads: 4,
        width: 128,
        bias: false,
    };
    let lstm = CharLstm {
        vocabulary: 65,
        features: 128,
        units: 256,
    };
    let case = |name, model, about, optimizer, batch| Case {
        name,
        model,
        about,
        optimizer,
        vocabulary: 65,
        batch,
        time: 64,
        own_weights: false,
    };
    let decaying = Rule::AdamW {
        rate: 1e-3,
        decay_vectors: true,
    };
    vec![
        case("gpt", Box::new(gpt), about_gpt(&gpt), decaying, 12),
        case(
            "lstm",
            Box::new(lstm),
            about_lstm(1.0),
            Rule::Adam { rate: 1e-3 },
            32,
        ),
    ]
}

fn about_gpt(model: &Gpt) -> [(&'static str, String); 2] {
    [("model", "gpt".into()), ("heads", model.heads.to_string())]
}

fn about_lstm(forget_bias: f64) -> [(&'static str, String); 2] {
    [
        ("model", "lstm".into()),
        ("forget_bias", forget_bias.to_string()),
    ]
}

/// The small LSTM with PyTorch's two biases and no forget bias.
struct TwoBiases;

impl Layer for TwoBiases {
    fn kind(&self) -> &str {
        "two_biases"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let lstm = Lstm::new(16).two_biases().forget_bias(0.0);
        let x = cx.layer("tokens", &Embedding::new(13, 8), x);
        let x = cx.layer("lstm", &lstm.return_sequences(), x);
        cx.layer("head", &kiln::nn::Dense::new(13), x)
    }
}

impl Case {
    fn input(&self) -> TensorType {
        TensorType::new(DType::I32, (Dim::symbol("b"), self.time))
    }

    fn optimizer(&self) -> Box<dyn Optimizer> {
        match self.optimizer {
            Rule::Adam { rate } => Box::new(Adam::new(rate)),
            Rule::AdamW {
                rate,
                decay_vectors,
            } => {
                let rule = AdamW::new(rate).betas(BETAS.0, BETAS.1).weight_decay(DECAY);
                Box::new(if decay_vectors {
                    rule.decay_vectors()
                } else {
                    rule
                })
            }
        }
    }

    /// The step that learns.
    pub(crate) fn training(&self) -> Result<Graph, Diagnostics> {
        let tokens = self.input();
        let task = Task {
            model: &*self.model,
            input: &tokens,
            target: &tokens,
            loss: &SparseCrossEntropy,
            metrics: &[],
        };
        task.training(&*self.optimizer())
    }

    /// The gradients of the loss, each under the name of its param.
    pub(crate) fn gradients(&self) -> Result<Graph, Diagnostics> {
        let g = Builder::new("gradients");
        let ty = self.input();
        let [x, y] = BATCH_STREAMS.map(|name| g.input(name, ty.dtype, &ty.shape));
        let prediction = self.model.apply(&Context::training(&g), x);
        let params = g.params();
        let gradients = grad(SparseCrossEntropy.mean(prediction, y), &params);
        for (param, gradient) in params.iter().zip(gradients) {
            let name = param.id().and_then(|id| g.slot_name(id));
            g.output(&name.unwrap_or_default(), gradient);
        }
        g.finish()
    }

    /// All weights before the first step.
    pub(crate) fn weights(&self) -> Result<Weights, Box<dyn Error>> {
        let session = kiln::compile(&self.gradients()?, &Options::default())?.session(SEED)?;
        let drawn = session.states().map(|state| {
            let mut values = state.to_vec::<f32>()?;
            if self.own_weights {
                let stream = Stream::new(SEED, state.name(), 0);
                let middle = if state.name().ends_with("gain") {
                    1.0
                } else {
                    0.0
                };
                for (i, value) in (0..).zip(&mut values) {
                    *value = middle + 0.3 * stream.normal(i) as f32;
                }
            }
            Ok((state.name().to_owned(), (state.shape().to_vec(), values)))
        });
        drawn.collect()
    }

    /// The tokens of all batches, `x` or `y`, `[steps, batch, time]`: one of four tokens follows each, all four equally likely, so that there
    /// is something to learn. `y` is a token ahead of `x`.
    pub(crate) fn tokens(&self, name: &str) -> Vec<i32> {
        let stream = Stream::new(SEED, "tokens", 0);
        let ahead = usize::from(name == BATCH_STREAMS[1]);
        let mut tokens = Vec::with_capacity(STEPS * self.batch * self.time);
        let mut draws = 0..;
        for row in 0..(STEPS * self.batch) as i64 {
            let mut token = row % self.vocabulary;
            for (i, draw) in (0..=self.time).zip(&mut draws) {
                token = (5 * token + 7 + i64::from(stream.word(draw) >> 30)) % self.vocabulary;
                if (ahead..ahead + self.time).contains(&i) {
                    tokens.push(token as i32);
                }
            }
        }
        tokens
    }

    /// What the script has to know.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        let mut add = |key: &str, value: String| texts.insert(key.to_owned(), value);
        for (key, value) in &self.about {
            add(key, value.clone());
        }
        let (name, rate, betas) = match self.optimizer {
            Rule::Adam { rate } => ("adam", rate, (0.9, 0.999)),
            Rule::AdamW {
                rate,
                decay_vectors,
            } => {
                add("decay", DECAY.to_string());
                add("decay_vectors", decay_vectors.to_string());
                ("adamw", rate, BETAS)
            }
        };
        add("optimizer", name.into());
        add("rate", rate.to_string());
        add("beta1", betas.0.to_string());
        add("beta2", betas.1.to_string());
        texts
    }
}
