//! Everything of one's own: an op, a layer, a loss, an optimizer, a metric and a callback, none of which Kiln knows, on a spiral of three arms.
//!
//! Each but the op is a few lines on the public builder, is differentiated, fused and compiled as what is built in, and has the same standing.
//! The op is Rust code that the compiled step calls; its gradient is written in the builder.
//!
//! ```text
//! cargo run --release --example custom
//! ```

use clap::Parser;
use kiln::ir::{Call, CallAttributes, CallVjp, CustomOp, ReduceKind, register};
use kiln::nn::losses::SparseCrossEntropy;
use kiln::nn::metrics::MeanMetric;
use kiln::train::TrainError;
use kiln::train::callbacks::{Callback, Flow, Moment};
use kiln::train::data::synthetic::spirals;
use kiln::{
    Accuracy, Builder, Context, DType, Fit, Init, Layer, Loss, Optimizer, Options, Sequential,
    Tensor, TensorType, Trainer,
};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::process::ExitCode;

/// Tells the arms of a spiral from one another.
#[derive(Parser)]
struct Arguments {
    /// The most often that all examples are seen.
    #[arg(long, default_value_t = 300)]
    epochs: u64,
    /// What data, order and weights are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// `sin(x s)`, with a scale `s` that is learned for each feature: Sitzmann et al., "Implicit Neural Representations with Periodic Activation
/// Functions" (2020), with their frequency as a parameter.
struct Sine;

impl Layer for Sine {
    fn kind(&self) -> &str {
        "sine"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let Some(ty) = x.ty() else { return x };
        let scale = cx.param("scale", ty.dtype, &ty.shape[1..], &Init::Constant(3.0));
        (x * scale).sin()
    }
}

/// `x + sin(x f)^2 / f` with a frequency `f`, in Rust: "snake" of Ziyin et al., "Neural Networks Fail to Learn Periodic Functions and How to
/// Fix It" (2020), equation 3. Its slope is `1 + sin(2 x f)`.
struct Snake;

impl CustomOp for Snake {
    fn name(&self) -> &str {
        "example/snake"
    }

    fn infer(
        &self,
        attributes: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        attributes.parse::<f32>("frequency")?;
        match operands {
            [x] if x.dtype == DType::F32 => Ok(vec![(*x).clone()]),
            _ => Err("it takes one f32 tensor".into()),
        }
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        let frequency: f32 = call.attributes().parse("frequency")?;
        let x = call.input::<f32>(0)?;
        for (y, x) in call.output::<f32>(0)?.iter_mut().zip(x) {
            *y = x + (x * frequency).sin().powi(2) / frequency;
        }
        Ok(())
    }

    fn vjp<'g>(&self, cx: &CallVjp<'g>) -> Option<Vec<Option<Tensor<'g>>>> {
        let frequency: f64 = cx.attributes.parse("frequency").ok()?;
        let slope = (cx.operands[0] * (2.0 * frequency)).sin() + 1.0;
        Some(vec![Some(cx.cotangent(0) * slope)])
    }
}

/// The layer that calls it.
struct Snaking(f32);

impl Layer for Snaking {
    fn kind(&self) -> &str {
        "snake"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let attributes = [("frequency", &*self.0.to_string())];
        let [y] = cx.builder().custom_call("example/snake", &attributes, &[x]);
        y
    }
}

/// The cross-entropy, with a price on logits that are large.
struct Modest(f64);

impl Loss for Modest {
    fn per_example<'g>(&self, logits: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
        let price = logits.square().reduce(ReduceKind::Sum, &[1]) * self.0;
        SparseCrossEntropy.per_example(logits, labels) + price
    }
}

/// Moves each param by its rate against the sign of a running gradient: Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex
/// Problems" (2018), algorithm 2.
struct SignSgd {
    rate: f64,
}

impl Optimizer for SignSgd {
    fn step<'g>(&self, builder: &'g Builder, pairs: &[(Tensor<'g>, Tensor<'g>)]) {
        let _scope = builder.scope("sign_sgd");
        let rate = builder.state("learning_rate", DType::F32, (), Init::Constant(self.rate));
        for (number, (param, gradient)) in pairs.iter().enumerate() {
            let Some(ty) = param.ty() else { continue };
            let name = format!("running/{number}");
            let running = builder.state(&name, ty.dtype, &ty.shape, Init::zeros());
            let next = running * 0.9 + *gradient * 0.1;
            builder.update(running, next);
            builder.update(*param, *param - next.sign() * rate);
        }
    }
}

/// The mean of the largest logit less the mean of all: how sure the model is.
struct Margin;

impl MeanMetric for Margin {
    fn name(&self) -> &str {
        "margin"
    }

    fn measure_each<'g>(&self, logits: Tensor<'g>, _labels: Tensor<'g>) -> Tensor<'g> {
        let largest = logits.reduce(ReduceKind::Max, &[1]);
        largest - logits.reduce(ReduceKind::Sum, &[1]) * (1.0 / 3.0)
    }
}

/// Ends the training when an accuracy is reached, and halves the rate every hundred epochs.
struct Reaches(f64);

impl Callback for Reaches {
    fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        if moment.trainer.position().epoch.is_multiple_of(100) {
            for (name, rate) in moment.trainer.learning_rates() {
                moment.trainer.set_learning_rate_of(&name, rate / 2.0)?;
            }
        }
        Ok(match moment.logs.get("accuracy") {
            Some(reached) if reached >= self.0 => Flow::Stop(format!("accuracy {reached:.3}")),
            Some(_) | None => Flow::Go,
        })
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", kiln::error_text(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // Unlike `println!`, this does not panic where nobody reads to the end.
    let mut out = std::io::stdout();
    register(Snake)?;
    let train = spirals(900, 3, 0.02, arguments.seed)?;
    let test = spirals(300, 3, 0.02, arguments.seed.wrapping_add(1))?;
    let model = Sequential::new([2])
        .dense(32)
        .layer(Sine)
        .dense(32)
        .layer(Snaking(1.0))
        .dense(3);
    let mut trainer = Trainer::new(model)
        .loss(Modest(1e-4))
        .metric(Accuracy)
        .metric(Margin)
        .optimizer(SignSgd { rate: 2e-3 })
        .options(Options::from_env()?)
        .threads(NonZeroUsize::MIN)
        .seed(arguments.seed)
        .compile()?;
    let fit = Fit::epochs(arguments.epochs)
        .batch(50)
        .callback(Reaches(0.99))
        .quiet();
    let history = trainer.fit(&train, fit)?;
    let why = history.stopped().unwrap_or("all of them");
    writeln!(out, "{} epochs: {why}", history.epochs().len())?;
    writeln!(out, "held out: {}", trainer.evaluate(&test, 300)?)?;
    Ok(())
}
