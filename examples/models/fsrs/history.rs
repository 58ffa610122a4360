//! Review histories of a person with known parameters, and batches of them.
//!
//! Every card is reviewed when its retrievability is about 0.9; it is forgotten with the probability that the model says. So what is
//! fitted to the histories can be compared with what made them.

use super::{DIFFICULTY, PARAMETERS, STABILITY};
use kiln::Column;
use kiln::ir::philox::Stream;
use std::error::Error;

/// The parameters of the person.
pub(crate) const TRUE: [f64; PARAMETERS] = [
    0.6, 2.2, 4.5, 14.0, 6.9, 0.6, 2.6, 0.05, 1.6, 0.25, 1.0, 1.8, 0.09, 0.33, 1.3, 0.45, 2.3, 0.7,
    0.15, 0.11, 0.2,
];

/// The most reviews of one card.
const LONGEST: usize = 57;

/// The days that a person reviews for.
const DAYS: f64 = 730.0;

/// The most rows of a batch that are scored.
const SCORED: usize = 512;

/// One card.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Card {
    /// Ratings from 1 to 4.
    pub(crate) ratings: Vec<u8>,
    /// Days since the review before, 0 for the first.
    pub(crate) elapsed: Vec<u32>,
    /// The day of the first review.
    start: u32,
}

/// Cards of similar length as columns, time first, padded at the end.
#[derive(Debug)]
pub(crate) struct Batch {
    /// `rating`, `elapsed` and `weight`, `f32[t, b]` each.
    pub(crate) columns: [Column; 3],
    /// How many reviews there are, padding left out.
    pub(crate) reviews: usize,
    /// How many are scored.
    pub(crate) scored: usize,
}

/// A row is scored where it is a later review and not on the same day.
fn is_scored(card: &Card, row: usize) -> bool {
    row > 0 && card.elapsed[row] > 0
}

/// From 0 to less than 1.
fn uniform(chance: &mut Stream) -> f64 {
    f64::from(chance.next_u32()) / 4_294_967_296.0
}

/// One of several values by their shares, which add up to 1.
fn one_of(chance: &mut Stream, shares: &[(u8, f64)]) -> u8 {
    let mut left = uniform(chance);
    for (value, share) in shares {
        if left < *share {
            return *value;
        }
        left -= share;
    }
    shares.last().map_or(0, |(value, _)| *value)
}

/// Histories with at least `scored` scored rows.
pub(crate) fn cards(seed: u64, scored: usize) -> Vec<Card> {
    let mut cards = Vec::new();
    let mut total = 0;
    while total < scored {
        let card = card(&mut Stream::new(seed, "card", cards.len() as u64));
        total += (0..card.ratings.len())
            .filter(|row| is_scored(&card, *row))
            .count();
        cards.push(card);
    }
    cards
}

fn card(chance: &mut Stream) -> Card {
    let start = (uniform(chance) * DAYS * 0.9) as u32;
    let first = one_of(chance, &[(1, 0.25), (2, 0.1), (3, 0.5), (4, 0.15)]);
    let mut card = Card {
        ratings: vec![first],
        elapsed: vec![0],
        start,
    };
    let mut state = begin(first);
    let mut day = f64::from(start);
    while card.ratings.len() < LONGEST {
        // Sometimes again on the same day, more often after a lapse.
        let lapsed = card.ratings.last() == Some(&1);
        let again = uniform(chance) < if lapsed { 0.6 } else { 0.05 };
        let days = if again {
            0.0
        } else {
            let noise = (uniform(chance) - 0.5) * 3.0;
            (state.0 * noise.exp()).round().clamp(1.0, 10_000.0)
        };
        day += days;
        if day > DAYS && card.ratings.len() > 1 {
            break;
        }
        let recalled = uniform(chance) < retrievability(days, state.0);
        let rating = if recalled {
            one_of(chance, &[(2, 0.15), (3, 0.7), (4, 0.15)])
        } else {
            1
        };
        state = after(state, rating, days);
        card.ratings.push(rating);
        card.elapsed.push(days as u32);
    }
    card
}

fn retrievability(days: f64, stability: f64) -> f64 {
    let decay = -TRUE[20];
    let factor = 0.9_f64.powf(1.0 / decay) - 1.0;
    (1.0 + factor * days / stability).powf(decay)
}

/// Stability and difficulty behind the first review.
fn begin(rating: u8) -> (f64, f64) {
    let w = &TRUE;
    let grade = f64::from(rating);
    let difficulty = w[4] - (w[5] * (grade - 1.0)).exp() + 1.0;
    (
        w[usize::from(rating) - 1],
        difficulty.clamp(DIFFICULTY.0, DIFFICULTY.1),
    )
}

/// Stability and difficulty behind a later one.
fn after((s, d): (f64, f64), rating: u8, days: f64) -> (f64, f64) {
    let w = &TRUE;
    let grade = f64::from(rating);
    let r = retrievability(days, s);
    let next = if days == 0.0 {
        let q = (w[17] * (grade - 3.0 + w[18])).exp() * s.powf(-w[19]);
        s * if rating >= 2 { q.max(1.0) } else { q }
    } else if rating == 1 {
        let lapse =
            w[11] * d.powf(-w[12]) * ((s + 1.0).powf(w[13]) - 1.0) * (w[14] * (1.0 - r)).exp();
        lapse.min(s * (-w[17] * w[18]).exp())
    } else {
        let hard = if rating == 2 { w[15] } else { 1.0 };
        let easy = if rating == 4 { w[16] } else { 1.0 };
        let growth = w[8].exp() * (11.0 - d) * s.powf(-w[9]) * ((w[10] * (1.0 - r)).exp() - 1.0);
        s * (1.0 + growth * hard * easy)
    };
    let easiest = w[4] - (3.0 * w[5]).exp() + 1.0;
    let moved = d - w[6] * (grade - 3.0) * (10.0 - d) / 9.0;
    let difficulty = w[7] * easiest + (1.0 - w[7]) * moved;
    (
        next.clamp(STABILITY.0, STABILITY.1),
        difficulty.clamp(DIFFICULTY.0, DIFFICULTY.1),
    )
}

/// All scored rows in the order of time, each a card and a row of it.
pub(crate) fn scored_in_order(cards: &[Card]) -> Vec<(usize, usize)> {
    let mut order: Vec<(u32, usize, usize)> = Vec::new();
    for (number, card) in cards.iter().enumerate() {
        let mut day = card.start;
        for (row, elapsed) in card.elapsed.iter().enumerate() {
            day += elapsed;
            if is_scored(card, row) {
                order.push((day, number, row));
            }
        }
    }
    order.sort_unstable();
    let places = order.into_iter();
    places.map(|(_, number, row)| (number, row)).collect()
}

/// Batches of cards sorted by length. The weight of a scored row grows with its time: `0.25 + 0.75 (i / (n - 1))^3` for the i-th of n.
pub(crate) fn batches(cards: &[Card]) -> Result<Vec<Batch>, Box<dyn Error>> {
    let order = scored_in_order(cards);
    let last = order.len().saturating_sub(1).max(1) as f64;
    let mut weights: Vec<Vec<f32>> = cards.iter().map(|c| vec![0.0; c.ratings.len()]).collect();
    for (i, (number, row)) in order.iter().enumerate() {
        weights[*number][*row] = (0.25 + 0.75 * (i as f64 / last).powi(3)) as f32;
    }
    let mut sorted: Vec<usize> = (0..cards.len()).collect();
    sorted.sort_by_key(|number| cards[*number].ratings.len());
    let mut batches = Vec::new();
    let mut group: Vec<usize> = Vec::new();
    let mut scored = 0;
    for number in sorted {
        let own = weights[number].iter().filter(|w| **w > 0.0).count();
        if scored + own > SCORED && !group.is_empty() {
            batches.push(batch(cards, &weights, &group, scored)?);
            group.clear();
            scored = 0;
        }
        group.push(number);
        scored += own;
    }
    if !group.is_empty() {
        batches.push(batch(cards, &weights, &group, scored)?);
    }
    Ok(batches)
}

fn batch(
    cards: &[Card],
    weights: &[Vec<f32>],
    group: &[usize],
    scored: usize,
) -> Result<Batch, Box<dyn Error>> {
    let lengths = group.iter().map(|number| cards[*number].ratings.len());
    let time = lengths.clone().max().unwrap_or(0);
    let columns = group.len();
    let filled = |value: &dyn Fn(usize, usize) -> f32| {
        let mut all = vec![0.0_f32; time * columns];
        for (column, number) in group.iter().enumerate() {
            for row in 0..cards[*number].ratings.len() {
                all[row * columns + column] = value(*number, row);
            }
        }
        all
    };
    let rating = filled(&|number, row| f32::from(cards[number].ratings[row]));
    let elapsed = filled(&|number, row| cards[number].elapsed[row] as f32);
    let weight = filled(&|number, row| weights[number][row]);
    Ok(Batch {
        columns: [
            Column::new("rating", [time, columns], rating)?,
            Column::new("elapsed", [time, columns], elapsed)?,
            Column::new("weight", [time, columns], weight)?,
        ],
        reviews: lengths.sum(),
        scored,
    })
}

/// The order of batches in an epoch.
pub(crate) fn shuffled(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    Stream::new(seed, "order", epoch).shuffle(&mut order);
    order
}
