//! Takes an ONNX model, teaches it what it does not know yet, and writes it back as an ONNX model.
//!
//! Without a model of yours it makes one: a convnet that is trained on the digits 0 to 4 only, and exported. That file is then imported as any
//! other would be: its head, which can name five digits, gives way to one for ten, and all params go on learning from all digits. The result
//! is exported and imported once more, and must give what it gave.
//!
//! ```text
//! cargo run --release --example finetune_onnx
//! cargo run --release --example finetune_onnx -- --model yours.onnx --head keep
//! ```
//!
//! A model of yours takes pictures of 8 x 8 pixels from 0 to 1, as `[batch, 64]` or with further axes of size 1 in any place, and gives
//! logits `[batch, classes]`.

use clap::{Parser, ValueEnum};
use kiln::interop::onnx::{self, ExportOptions, Import, ImportOptions};
use kiln::ir::{Graph, NodeId, Op, Output, Role};
use kiln::nn::metrics::MeanMetric as _;
use kiln::nn::{Conv2d, Dense, Mode, Padding};
use kiln::train::data::digits;
use kiln::train::{hand_over, weights};
use kiln::{
    Accuracy, Adam, Builder, Column, Context, DType, Dataset, Dim, Feed, Fit, Loader, Loss as _,
    Optimizer as _, Options, Sequential, Session, SparseCrossEntropy, Tensor, Trainer, epoch,
};
use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const DIGITS: &str = include_str!("data/digits.csv");
const PIXELS: usize = 64;
const CLASSES: i64 = 10;
const HELD_OUT: f64 = 0.2;
/// The digits below this one are all that the model knows which is made here.
const KNOWN: u8 = 5;

/// The target beside what the model declares.
const LABEL: &str = "label";
/// What the head of the imported model takes.
const FEATURES: &str = "features";
/// How far the written model may be from the one that was trained.
const TOLERANCE: f32 = 1e-4;

/// Teaches an ONNX model all ten digits.
#[derive(Parser)]
struct Arguments {
    /// The model; without it one is made that knows the digits 0 to 4.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// What becomes of the last dense layer.
    #[arg(long, value_enum, default_value_t = Head::New)]
    head: Head,
    /// Where models are written.
    #[arg(long, value_name = "FOLDER", default_value = "target/finetune_onnx")]
    folder: PathBuf,
    /// How often all examples are seen.
    #[arg(long, default_value_t = 20)]
    epochs: u64,
    /// Adam's learning rate.
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// What the held-out part, the order and the new head are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Head {
    /// It stays, and must have ten outputs.
    Keep,
    /// A new one for ten classes takes its place.
    New,
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
    let mut out = std::io::stdout();
    std::fs::create_dir_all(&arguments.folder)?;
    let path = match &arguments.model {
        Some(path) => path.clone(),
        None => {
            let path = arguments.folder.join("base.onnx");
            make(&path, arguments.seed)?;
            writeln!(
                out,
                "made {}, which knows the digits 0 to {}",
                path.display(),
                KNOWN - 1
            )?;
            path
        }
    };

    let import = onnx::read(&path)?.import(&ImportOptions::default())?;
    let base = Base::of(import, arguments.head)?;
    let data = base.data()?;
    let (train, test) = data.split_stratified(HELD_OUT, LABEL, arguments.seed)?;
    writeln!(
        out,
        "{}: {} nodes, {} params; {} examples to learn from, {} held out",
        path.display(),
        base.import.graph.len(),
        base.import.params.len(),
        train.len(),
        test.len()
    )?;

    let options = Options::from_env()?;
    let open = |graph: &Graph| -> Result<Session, Box<dyn Error>> {
        let mut session = kiln::compile(graph, &options)?.session(arguments.seed)?;
        adopt(&mut session, &base.import)?;
        Ok(session)
    };
    let own = measure(&mut open(&base.alone()?)?, &test)?;
    writeln!(out, "before: accuracy {own:.3} on all ten digits")?;

    let mut learner = open(&base.training(arguments.rate)?)?;
    let graph = base.evaluation()?;
    let mut judge = open(&graph)?;
    let mut loader = Loader::new(&train, 64)?.shuffled(arguments.seed);
    for number in 0..arguments.epochs {
        let means = epoch(&mut learner, &mut loader, number, |_| {})?;
        if (number + 1).is_multiple_of(5) {
            writeln!(out, "epoch {}: {means}", number + 1)?;
        }
    }
    hand_over(&learner, &mut judge)?;
    let tuned = measure(&mut judge, &test)?;
    writeln!(out, "after: accuracy {tuned:.3}")?;

    let written = arguments.folder.join("tuned.onnx");
    let logits = base.logits();
    let only = ExportOptions {
        outputs: vec![logits.clone()],
    };
    onnx::save(&written, &graph, weights::tensors(&judge)?, &only)?;
    let wanted = predict(&mut judge, &test, &logits)?;
    let again = onnx::read(&written)?.import(&ImportOptions::default())?;
    let mut session = kiln::compile(&again.graph, &options)?.session(0)?;
    adopt(&mut session, &again)?;
    let found = predict(&mut session, &test, &logits)?;
    let pairs = wanted.iter().zip(&found);
    let off = pairs.map(|(a, b)| (a - b).abs());
    let off = off.fold(0.0, |most, off| if off <= most { most } else { off });
    if wanted.len() != found.len() || off.is_nan() || off > TOLERANCE {
        return Err(format!("the written model gives other logits, off by {off}").into());
    }
    writeln!(
        out,
        "wrote {}, which imported again gives the same {} logits, off by at most {off:e}",
        written.display(),
        found.len()
    )?;
    Ok(())
}

/// Trains a convnet on some digits and exports it.
fn make(path: &Path, seed: u64) -> Result<(), Box<dyn Error>> {
    let same = |filters| Conv2d::new(filters, 3).padding(Padding::Same);
    let model = Sequential::new([8, 8, 1])
        .layer(same(16))
        .batch_norm()
        .relu()
        .max_pool2d(2)
        .layer(same(32))
        .relu()
        .max_pool2d(2)
        .flatten()
        .dense(i64::from(KNOWN));
    let data = digits("digits.csv", DIGITS)?
        .filter("y", |y: &[u8]| y.iter().all(|digit| *digit < KNOWN))?
        .reshape("x", &[8, 8, 1])?
        .map_f32("x", |ink| ink / 16.0)?;
    let mut trainer = Trainer::new(model)
        .loss(SparseCrossEntropy)
        .optimizer(Adam::new(3e-3))
        .seed(seed)
        .compile()?;
    trainer.fit(&data, Fit::epochs(10).batch(64).quiet())?;
    Ok(trainer.export_onnx(path)?)
}

/// An imported model, and where its head begins.
struct Base {
    import: Import,
    input: String,
    output: String,
    head: Head,
    /// What the head takes.
    features: NodeId,
    /// The params of the head.
    own: BTreeSet<String>,
}

impl Base {
    fn of(import: Import, head: Head) -> Result<Self, Box<dyn Error>> {
        let graph = &import.graph;
        let inputs = graph.slots().iter().filter(|s| s.role == Role::Input);
        let (&[input], [output]) = (inputs.collect::<Vec<_>>().as_slice(), graph.outputs()) else {
            return Err("the model must have one input and one output".into());
        };
        let (features, own) = before_head(graph, output.node)
            .ok_or("the model does not end in a dense layer, whose head could be replaced")?;
        Ok(Self {
            input: input.name.clone(),
            output: output.name.clone(),
            head,
            features,
            own,
            import,
        })
    }

    /// The output of the model that is written: that of the imported one, or one beside it.
    fn logits(&self) -> String {
        match self.head {
            Head::Keep => self.output.clone(),
            Head::New => format!("{}/tuned", self.output),
        }
    }

    /// The digits in the shape that the model takes.
    fn data(&self) -> Result<Dataset, Box<dyn Error>> {
        let graph = &self.import.graph;
        let slot = graph.slots().iter().find(|s| s.name == self.input);
        let ty = slot.and_then(|s| graph.node(s.node)).map(|n| &n.ty);
        let ty = ty.ok_or("the input has no type")?;
        let example = ty.shape.iter().skip(1).map(Dim::constant);
        let example: Option<Vec<i64>> = example.collect();
        let fits = example.as_ref().map(|e| e.iter().product()) == Some(PIXELS as i64);
        let free = ty.shape.first().is_some_and(|b| b.as_symbol().is_some());
        let (true, true, DType::F32, Some(example)) = (fits, free, ty.dtype, example) else {
            return Err(
                format!("the model takes {ty}; the digits are f32[batch, {PIXELS}]").into(),
            );
        };
        // Ink is counted from 0 to 16.
        let data = digits("digits.csv", DIGITS)?.map_f32("x", |ink| ink / 16.0)?;
        let mut shape = vec![data.len()];
        shape.extend(example.iter().map(|n| *n as usize));
        let x: &[f32] = data.column("x")?.values()?;
        let y: &[u8] = data.column("y")?.values()?;
        let columns = [
            Column::new(&self.input, shape, x.to_vec())?,
            Column::new(LABEL, [data.len()], y.to_vec())?,
        ];
        Ok(Dataset::new(columns)?)
    }

    /// The imported graph with the accuracy of what it gives.
    fn alone(&self) -> Result<Graph, Box<dyn Error>> {
        let g = Builder::resume(self.import.graph.clone())?;
        let logits = g.find_output(&self.output).ok_or("no output")?;
        accuracy(&g, logits)?;
        Ok(g.finish()?)
    }

    fn training(&self, rate: f64) -> Result<Graph, Box<dyn Error>> {
        let g = Builder::resume(self.open()?)?;
        let (logits, label) = self.measured(&g, Mode::Training)?;
        let loss = SparseCrossEntropy.mean(logits, label);
        g.output("loss", loss);
        // A head that is gone has nothing to learn.
        let gone = |param: &Tensor<'_>| {
            let name = param.id().and_then(|id| g.slot_name(id));
            self.head == Head::New && name.is_some_and(|name| self.own.contains(&name))
        };
        let learning: Vec<Tensor<'_>> = g.params().into_iter().filter(|p| !gone(p)).collect();
        Adam::new(rate).minimize_over(loss, &learning);
        Ok(g.finish()?)
    }

    fn evaluation(&self) -> Result<Graph, Box<dyn Error>> {
        let g = Builder::resume(self.open()?)?;
        self.measured(&g, Mode::Inference)?;
        Ok(g.finish()?)
    }

    /// The imported graph with what its head takes as an output, by which a builder finds it.
    fn open(&self) -> Result<Graph, Box<dyn Error>> {
        let mut graph = self.import.graph.clone();
        graph.push_output(Output {
            name: FEATURES.to_owned(),
            node: self.features,
        });
        Ok(graph)
    }

    /// The logits, with their accuracy as an output, and the labels.
    fn measured<'g>(
        &self,
        g: &'g Builder,
        mode: Mode,
    ) -> Result<(Tensor<'g>, Tensor<'g>), Box<dyn Error>> {
        let logits = match self.head {
            Head::Keep => g.find_output(&self.output).ok_or("no output")?,
            Head::New => {
                let features = g.find_output(FEATURES).ok_or("no features")?;
                Context::new(g, mode).layer("head", &Dense::new(CLASSES), features)
            }
        };
        let label = accuracy(g, logits)?;
        if self.head == Head::New {
            g.output(&self.logits(), logits);
        }
        Ok((logits, label))
    }
}

/// Adds the accuracy of logits; gives the labels.
fn accuracy<'g>(g: &'g Builder, logits: Tensor<'g>) -> Result<Tensor<'g>, Box<dyn Error>> {
    let ty = logits.ty().ok_or("the logits have no type")?;
    let [batch, _] = &*ty.shape else {
        return Err(format!("the model gives {ty}, not logits of [batch, classes]").into());
    };
    let label = g.input(LABEL, DType::U8, (batch.clone(),));
    g.output("accuracy", Accuracy.measure(logits, label));
    Ok(label)
}

/// The tensor that the last dense layer takes, and the params of that layer.
fn before_head(graph: &Graph, output: NodeId) -> Option<(NodeId, BTreeSet<String>)> {
    let param = |id: NodeId| graph.slots().iter().find(|s| s.node == id);
    let mut own = BTreeSet::new();
    let mut open = vec![output];
    let mut features = None;
    while let Some(id) = open.pop() {
        let node = graph.node(id)?;
        match &node.op {
            Op::Dot(_) if features.is_none() => {
                let (x, w) = (node.operands.first()?, node.operands.get(1)?);
                features = Some(*x);
                open.push(*w);
            }
            Op::Source(_) => own.extend(param(id).map(|slot| slot.name.clone())),
            Op::Binary(_) | Op::Broadcast(_) | Op::Reshape(_) | Op::Transpose(_) => {
                open.extend(&node.operands);
            }
            _ => return None,
        }
    }
    Some((features?, own))
}

/// Puts the values of an imported model into a session.
fn adopt(session: &mut Session, import: &Import) -> Result<(), Box<dyn Error>> {
    for (name, data) in &import.params {
        if data.dtype() != DType::F32 {
            return Err(format!("`{name}` is {}; this example trains f32", data.dtype()).into());
        }
        let array = data.to_array()?;
        let values: Vec<f32> = array.floats()?.iter().map(|x| *x as f32).collect();
        session.set_state(name, Feed::new(&values, data.shape()))?;
    }
    Ok(())
}

fn measure(session: &mut Session, data: &Dataset) -> Result<f64, Box<dyn Error>> {
    let means = epoch(session, &mut Loader::new(data, data.len())?, 0, |_| {})?;
    Ok(means.get("accuracy").ok_or("no accuracy")?)
}

/// The logits of all examples.
fn predict(
    session: &mut Session,
    data: &Dataset,
    logits: &str,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let inputs = session
        .program()
        .inputs
        .iter()
        .map(|port| port.name.clone());
    let inputs: Vec<String> = inputs.collect();
    let columns = inputs.iter().map(|name| data.column(name));
    let columns: Vec<&Column> = columns.collect::<Result<_, _>>()?;
    let outputs = session.step(&columns)?;
    Ok(outputs.as_slice::<f32>(logits)?.to_vec())
}
