//! FSRS-6 trained by Kiln and by the crate `fsrs` 6.6.2, whose gradients are derived by hand, on the same synthetic histories.
//!
//! ```text
//! cargo run --release --manifest-path benches/fsrs_rival/Cargo.toml
//! ```
//!
//! Both run on one thread, turn by turn, with the crate's settings: 5 epochs, batches of 512 scored rows, Adam at 0.04 along half a cosine.
//! The crate is run by its own `benchmark`, which fits the first four parameters before it trains; an epoch of it is timed as the difference
//! of 25 epochs and 5, so that this and the packing of batches do not count. `ns_per_row` divides the time of an epoch by the reviews that are
//! computed, padding left out; the crate leaves out what follows the last scored row of a card. The losses of all parameters are taken by
//! Kiln's graph, and by the crate's `evaluate_with_card_ids` beside it, as a check that the two mean the same.

use fsrs::{ComputeParametersInput, FSRS, FSRSItem, FSRSReview, TrainingConfig, benchmark};
use kiln::{Executable, Options, Session, SessionOptions};
use std::error::Error;
use std::num::NonZeroUsize;
use std::time::Instant;

#[path = "../../../examples/models/fsrs/mod.rs"]
mod model;

use model::graph::{OFFSETS, Training, evaluation, training};
use model::history::{Batch, Card, TRUE, batches, cards, scored_in_order, shuffled};
use model::{INITIAL, PARAMETERS};

const SEED: u64 = 42;
const SCORED: usize = 30_158;
const EPOCHS: usize = 5;
const MORE_EPOCHS: usize = 25;
const ROUNDS: usize = 7;

/// Histories in the crate's form: a prefix of a card for each scored row, in the order of time, and the card's number.
struct Items {
    items: Vec<FSRSItem>,
    cards: Vec<i64>,
}

impl Items {
    fn of(cards: &[Card]) -> Self {
        let order = scored_in_order(cards);
        let item = |(number, row): &(usize, usize)| {
            let card = &cards[*number];
            let reviews = card.ratings.iter().zip(&card.elapsed).take(row + 1);
            let review = |(rating, days): (&u8, &u32)| FSRSReview {
                rating: u32::from(*rating),
                delta_t: *days,
            };
            FSRSItem {
                reviews: reviews.map(review).collect(),
            }
        };
        Self {
            items: order.iter().map(item).collect(),
            cards: order.iter().map(|(number, _)| *number as i64).collect(),
        }
    }

    /// The parameters behind so many epochs, and the seconds that all of it took.
    fn trained(&self, epochs: usize) -> (Vec<f32>, f64) {
        let input = ComputeParametersInput {
            train_set: self.items.clone(),
            card_ids: Some(self.cards.clone()),
            training_config: Some(TrainingConfig {
                num_epochs: epochs,
                ..TrainingConfig::default()
            }),
            ..ComputeParametersInput::default()
        };
        let start = Instant::now();
        let found = benchmark(input);
        (found, start.elapsed().as_secs_f64())
    }

    /// The reviews up to the last scored one of each card.
    fn rows(&self) -> usize {
        let mut longest = std::collections::BTreeMap::new();
        for (card, item) in self.cards.iter().zip(&self.items) {
            let rows: &mut usize = longest.entry(card).or_default();
            *rows = (*rows).max(item.reviews.len());
        }
        longest.values().sum()
    }

    fn loss(&self, parameters: &[f32]) -> Result<f32, Box<dyn Error>> {
        let model = FSRS::new(parameters)?;
        let (items, cards) = (self.items.clone(), self.cards.clone());
        Ok(model
            .evaluate_with_card_ids(items, cards, |_| true)?
            .log_loss)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let cards = cards(SEED, SCORED);
    let batches = batches(&cards)?;
    let items = Items::of(&cards);
    let rows: usize = batches.iter().map(|batch| batch.reviews).sum();
    println!(
        "{} cards, {} scored rows, {} batches; {rows} reviews, {} up to the last scored one of each card",
        cards.len(),
        items.items.len(),
        batches.len(),
        items.rows()
    );
    let settings = Training {
        rate: 0.04,
        steps: batches.len() * EPOCHS,
        predictions: items.items.len(),
    };
    let learner = kiln::compile(&training(&settings)?, &Options::default())?;
    let (mut kiln_best, mut crate_best) = (f64::INFINITY, f64::INFINITY);
    let (mut by_kiln, mut by_crate) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (found, time) = trained(&learner, &batches)?;
        kiln_best = kiln_best.min(time);
        by_kiln = found;
        let (_, long) = items.trained(MORE_EPOCHS);
        let (found, short) = items.trained(EPOCHS);
        crate_best = crate_best.min((long - short) / (MORE_EPOCHS - EPOCHS) as f64);
        by_crate = found;
    }
    let line = |name: &str, time: f64, rows: usize| {
        println!(
            "{name}: epoch_us={:.0} step_us={:.1} ns_per_row={:.1}",
            1e6 * time,
            1e6 * time / batches.len() as f64,
            1e9 * time / rows as f64
        );
    };
    line("kiln", kiln_best, rows);
    line("fsrs", crate_best, items.rows());
    println!(
        "kiln takes {:.2} of the crate's time for an epoch",
        kiln_best / crate_best
    );
    let mut judge = kiln::compile(&evaluation()?, &Options::default())?.session_with(&one())?;
    for (name, w) in [
        ("start", INITIAL.map(|w| w as f32).to_vec()),
        ("kiln", by_kiln),
        ("fsrs", by_crate),
        ("truth", TRUE.map(|w| w as f32).to_vec()),
    ] {
        let loss = measured(&mut judge, &w, &batches)?;
        println!(
            "loss of {name}: {loss:.5}, by the crate {:.5}",
            items.loss(&w)?
        );
    }
    Ok(())
}

fn one() -> SessionOptions {
    SessionOptions {
        threads: Some(NonZeroUsize::MIN),
        ..SessionOptions::new(SEED)
    }
}

/// The parameters behind all epochs, and the seconds of one, the first not counted: it meets every shape for the first time.
fn trained(executable: &Executable, batches: &[Batch]) -> Result<(Vec<f32>, f64), Box<dyn Error>> {
    let mut session = executable.session_with(&one())?;
    let mut time = 0.0;
    for epoch in 0..EPOCHS {
        let start = Instant::now();
        for number in shuffled(SEED, epoch as u64, batches.len()) {
            session.step(&batches[number].columns)?;
        }
        if epoch > 0 {
            time += start.elapsed().as_secs_f64() / (EPOCHS - 1) as f64;
        }
    }
    let offsets = session.state(OFFSETS)?.to_vec::<f32>()?;
    let found = offsets.iter().zip(INITIAL);
    Ok((
        found.map(|(offset, start)| offset + start as f32).collect(),
        time,
    ))
}

/// The weighted mean log loss of parameters over all batches.
fn measured(judge: &mut Session, w: &[f32], batches: &[Batch]) -> Result<f64, Box<dyn Error>> {
    let offsets: Vec<f32> = w
        .iter()
        .zip(INITIAL)
        .map(|(w, start)| w - start as f32)
        .collect();
    assert_eq!(offsets.len(), PARAMETERS);
    judge.set_state(OFFSETS, offsets.as_slice())?;
    let (mut loss, mut weight) = (0.0, 0.0);
    for batch in batches {
        let outputs = judge.step(&batch.columns)?;
        loss += outputs.scalar("log_loss")?;
        weight += outputs.scalar("weight")?;
    }
    Ok(loss / weight)
}
