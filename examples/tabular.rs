//! Tells malignant tumours from benign ones by 30 measures of their cells: a table from its text to a model, its F1 and its ROC.
//!
//! The table is part of this program (see `examples/data/README.md`). A quarter of each diagnosis is held out. Measures are standardised by the
//! part that is learned from, the rarer diagnosis counts more, and the training ends when the held-out part no longer gains.
//!
//! ```text
//! cargo run --release --example tabular -- --plot tabular.svg --confusion confusion.svg
//! ```

use clap::Parser;
use kiln::nn::metrics::{Average, ConfusionMatrix, F1};
use kiln::train::callbacks::EarlyStopping;
use kiln::train::data::{Standardise, Table};
use kiln::train::plot::{Confusion, Figure, can_write, roc_panel};
use kiln::{Accuracy, Adam, Dataset, Fit, Options, Sequential, SparseCrossEntropy, Trainer};
use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

const TUMOURS: &str = include_str!("data/breast_cancer.csv");
const DIAGNOSIS: &str = "diagnosis";
const HELD_OUT: f64 = 0.25;
const BATCH: usize = 32;

/// Tells malignant tumours from benign ones.
#[derive(Parser)]
struct Arguments {
    /// The most often that all examples are seen.
    #[arg(long, default_value_t = 200)]
    epochs: u64,
    /// Adam's learning rate.
    #[arg(long, default_value_t = 1e-3)]
    rate: f64,
    /// What the held-out part, the order, the weights and the dropout are drawn with.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Where the picture of the ROC goes, SVG or PNG.
    #[arg(long, default_value = "tabular.svg")]
    plot: PathBuf,
    /// Where the picture of the confusion matrix goes.
    #[arg(long, default_value = "tabular_confusion.svg")]
    confusion: PathBuf,
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
    can_write(&arguments.plot)?;
    can_write(&arguments.confusion)?;
    let table = Table::parse("breast_cancer.csv", TUMOURS)?;
    let measures: Vec<&str> = table.names().iter().map(String::as_str).collect();
    let measures: Vec<&str> = measures
        .into_iter()
        .filter(|name| *name != DIAGNOSIS)
        .collect();
    let (diagnoses, names) = table.classes("y", DIAGNOSIS)?;
    let data = Dataset::new([table.numbers("x", &measures)?, diagnoses])?;
    let (train, test) = data.split_stratified(HELD_OUT, "y", arguments.seed)?;
    let scale = Standardise::fit(&train, "x")?;
    let (train, test) = (scale.apply(train)?, scale.apply(test)?);

    // Both diagnoses weigh the same together.
    let labels: &[u32] = train.column("y")?.values()?;
    let malignant = labels.iter().filter(|label| **label == 1).count() as f64;
    let all = labels.len() as f64;
    let weights = [all / (2.0 * (all - malignant)), all / (2.0 * malignant)];

    let model = Sequential::new([measures.len() as i64])
        .dense(16)
        .relu()
        .dropout(0.2)
        .dense(2);
    let mut trainer = Trainer::new(model)
        .loss(SparseCrossEntropy)
        .metric(Accuracy)
        .metric(F1::of_classes(Average::Macro))
        .metric(ConfusionMatrix)
        .class_weights(weights)
        .optimizer(Adam::new(arguments.rate))
        .terminate_on_nan()
        .options(Options::from_env()?)
        .threads(NonZeroUsize::MIN)
        .seed(arguments.seed)
        .compile()?;
    // Whoever predicts with a checkpoint scales as it was scaled here.
    trainer.keep("scale", &scale)?;
    write!(out, "{}", trainer.summary(&train, BATCH)?)?;
    let stop = EarlyStopping::lowest("val_loss")
        .patience(20)
        .restore_best();
    let fit = Fit::epochs(arguments.epochs)
        .batch(BATCH)
        .validate(&test)
        .callback(stop)
        .quiet();
    let history = trainer.fit(&train, fit)?;
    writeln!(
        out,
        "{} epochs: {}",
        history.epochs().len(),
        history.stopped().unwrap_or("all of them")
    )?;

    let measured = trainer.evaluate(&test, test.len())?;
    writeln!(out, "held out: {measured}")?;
    let cells = trainer.statistics("confusion_matrix").unwrap_or_default();
    Confusion::new(ConfusionMatrix::rows(cells), names).write(&arguments.confusion)?;

    let logits = trainer.predict(&test, test.len())?;
    let logits: &[f32] = logits.column("y")?.values()?;
    let scores: Vec<f32> = logits
        .chunks_exact(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    let labels: &[u32] = test.column("y")?.values()?;
    let is_malignant: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
    let mut panels = vec![roc_panel(&scores, &is_malignant)];
    panels.extend(history.panel("loss"));
    Figure::new(panels).write(&arguments.plot)?;
    let pictures = (arguments.plot.display(), arguments.confusion.display());
    writeln!(out, "pictures in {} and {}", pictures.0, pictures.1)?;
    Ok(())
}
