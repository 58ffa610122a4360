//! Models that only count: what a network must beat before it has learned anything from order.
//!
//! Of one token nothing is known but how often it occurs (unigram); of three, what followed the two before (trigram). Counts of rare
//! contexts say little, so each order is interpolated with the next lower one, after Witten and Bell (1991), in the form of Chen and
//! Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1999), section 2.6:
//!
//! ```text
//! p(w | h) = (c(hw) + t(h) p(w | h')) / (c(h) + t(h))
//! ```
//!
//! where `c` counts occurrences, `t(h)` is the number of different tokens that follow `h`, `h'` is `h` without its first token, and the
//! lowest order is interpolated with the same probability for each token of the vocabulary. So the probabilities of a context sum to 1,
//! no token has none, and there is no parameter to choose.

use std::collections::HashMap;

/// The most tokens that are looked at together.
const MAX_ORDER: usize = 4;

/// What cannot be counted or measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CountsError {
    /// No order, or one too high.
    #[error(
        "an order of {order} was asked for; 1 (unigram), 2, 3 (trigram) and {MAX_ORDER} can be counted"
    )]
    Order {
        /// The order.
        order: usize,
    },
    /// A number that is no token.
    #[error("token {position} is {token}, but the vocabulary has {vocabulary}, counted from 0")]
    Token {
        /// The place in the text, from 0.
        position: usize,
        /// The number.
        token: u32,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// A text in which no token follows another.
    #[error("a text of {tokens} tokens has none that follows another; there is nothing to measure")]
    Short {
        /// The tokens that there are.
        tokens: usize,
    },
}

/// A model of how often tokens follow one another.
///
/// ```
/// use kiln_train::data::text::{Bytes, Counts, Tokenizer, bits};
///
/// let train = Bytes.encode(&"the cat sat on the mat. ".repeat(20))?;
/// let held_out = Bytes.encode("the mat sat on the cat. ")?;
/// let unigram = Counts::of(&train, Bytes.vocabulary(), 1)?.nats(&held_out)?;
/// let trigram = Counts::of(&train, Bytes.vocabulary(), 3)?.nats(&held_out)?;
/// assert!(trigram < 0.5 * unigram);
/// println!("{trigram:.3} nats, {:.3} bits per character", bits(trigram));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Counts {
    vocabulary: usize,
    /// One for each length, from 1 on.
    orders: Vec<Order>,
}

/// The sequences of one length.
#[derive(Clone, Debug, Default)]
struct Order {
    /// How often each occurs. A key holds the tokens, 32 bits each, the last one lowest; all keys of an order hold as many.
    occurrences: HashMap<u128, u64>,
    /// What follows all but the last token of them.
    contexts: HashMap<u128, Context>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Context {
    /// How many tokens follow it.
    followed: u64,
    /// How many different ones.
    different: u64,
}

impl Counts {
    /// Counts sequences of up to `order` tokens: 1 makes a unigram model, 3 a trigram model. Tokens are below `vocabulary`.
    ///
    /// # Errors
    /// [`CountsError::Order`] but for 1 to 4, and [`CountsError::Token`].
    pub fn of(tokens: &[u32], vocabulary: usize, order: usize) -> Result<Self, CountsError> {
        if !(1..=MAX_ORDER).contains(&order) {
            return Err(CountsError::Order { order });
        }
        check(tokens, vocabulary)?;
        let mut orders = vec![Order::default(); order];
        for (length, order) in (1..).zip(&mut orders) {
            for sequence in tokens.windows(length) {
                let key = key(sequence);
                let occurrences = order.occurrences.entry(key).or_default();
                *occurrences += 1;
                let context = order.contexts.entry(key >> u32::BITS).or_default();
                context.followed += 1;
                context.different += u64::from(*occurrences == 1);
            }
        }
        Ok(Self { vocabulary, orders })
    }

    /// The most tokens that are looked at together, the one to come included.
    pub fn order(&self) -> usize {
        self.orders.len()
    }

    /// The probability that `token` follows `before`, of which only the last tokens are looked at. It is 0 for what is no token, and
    /// above 0 for every token.
    pub fn probability(&self, before: &[u32], token: u32) -> f64 {
        if token as usize >= self.vocabulary {
            return 0.0;
        }
        let mut probability = 1.0 / self.vocabulary as f64;
        for (known, order) in self.orders.iter().enumerate().take(before.len() + 1) {
            let history = key(&before[before.len() - known..]);
            // A longer context does not occur either.
            let Some(context) = order.contexts.get(&history) else {
                break;
            };
            let sequence = history << u32::BITS | u128::from(token);
            let occurrences = order.occurrences.get(&sequence).copied().unwrap_or(0);
            let (followed, different) = (context.followed as f64, context.different as f64);
            probability = (occurrences as f64 + different * probability) / (followed + different);
        }
        probability
    }

    /// The mean of `-ln p` over all tokens of a text but its first, each predicted from those before it: the cross-entropy, in nats for a
    /// token, of the same predictions as [`Windows`](super::Windows) ask of a network.
    ///
    /// # Errors
    /// [`CountsError::Token`] and [`CountsError::Short`].
    pub fn nats(&self, tokens: &[u32]) -> Result<f64, CountsError> {
        check(tokens, self.vocabulary)?;
        if tokens.len() < 2 {
            let tokens = tokens.len();
            return Err(CountsError::Short { tokens });
        }
        let predicted = 1..tokens.len();
        let surprise = |position: usize| {
            let before = &tokens[position.saturating_sub(self.order() - 1)..position];
            -libm::log(self.probability(before, tokens[position]))
        };
        let count = predicted.len() as f64;
        Ok(predicted.map(surprise).sum::<f64>() / count)
    }
}

/// Nats in bits: those of a token, or, where a token is a character, of a character. For tokens of other lengths multiply by the tokens
/// and divide by the characters of the text.
pub fn bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

fn check(tokens: &[u32], vocabulary: usize) -> Result<(), CountsError> {
    match tokens
        .iter()
        .position(|token| *token as usize >= vocabulary)
    {
        Some(position) => Err(CountsError::Token {
            position,
            token: tokens[position],
            vocabulary,
        }),
        None => Ok(()),
    }
}

/// At most [`MAX_ORDER`] tokens as one number.
fn key(tokens: &[u32]) -> u128 {
    let joined = tokens.iter();
    joined.fold(0, |key, token| key << u32::BITS | u128::from(*token))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "abracadabra", with a, b, c, d, r as 0 to 4.
    const ABRACADABRA: [u32; 11] = [0, 1, 4, 0, 2, 0, 3, 0, 1, 4, 0];

    #[test]
    fn unigrams_are_counts_shared_out_with_the_vocabulary() {
        let counts = Counts::of(&ABRACADABRA, 6, 1).unwrap();
        // 11 tokens, 5 different ones, and a vocabulary of 6: (c + 5/6) / 16.
        for (token, occurrences) in [(0, 5.0), (1, 2.0), (2, 1.0), (5, 0.0)] {
            let wanted = (occurrences + 5.0 / 6.0) / 16.0;
            assert!((counts.probability(&[4, 4], token) - wanted).abs() < 1e-15);
        }
        assert_eq!(counts.probability(&[], 6), 0.0, "no token");
    }

    #[test]
    fn higher_orders_are_interpolated_with_lower_ones() {
        let counts = Counts::of(&ABRACADABRA, 6, 3).unwrap();
        let unigram = |occurrences: f64| (occurrences + 5.0 / 6.0) / 16.0;
        // "a" is followed by b, c, d, b: 4 tokens, 3 different ones. "ra" by c alone, once.
        let bigram = |occurrences: f64, lower: f64| (occurrences + 3.0 * lower) / 7.0;
        let wanted = |c_ra: f64, c_a: f64, c: f64| (c_ra + bigram(c_a, unigram(c))) / 2.0;
        for (token, wanted) in [(2, wanted(1.0, 1.0, 1.0)), (1, wanted(0.0, 2.0, 2.0))] {
            assert!((counts.probability(&[4, 0], token) - wanted).abs() < 1e-15);
            assert_eq!(
                counts.probability(&[3, 4, 0], token),
                counts.probability(&[4, 0], token)
            );
        }
        // "ba" does not occur, so "a" alone says what follows.
        assert_eq!(counts.probability(&[1, 0], 1), counts.probability(&[0], 1));
        assert!((counts.probability(&[0], 1) - bigram(2.0, unigram(2.0))).abs() < 1e-15);
    }

    #[test]
    fn the_probabilities_of_every_context_sum_to_one() {
        for order in 1..=4 {
            let counts = Counts::of(&ABRACADABRA, 6, order).unwrap();
            assert_eq!(counts.order(), order);
            for a in 0..6 {
                for b in 0..6 {
                    let sum: f64 = (0..6)
                        .map(|token| counts.probability(&[3, a, b], token))
                        .sum();
                    assert!((sum - 1.0).abs() < 1e-12, "{order}: {a} {b} sum to {sum}");
                }
            }
        }
    }

    #[test]
    fn nats_are_the_mean_surprise_of_what_follows() {
        let counts = Counts::of(&ABRACADABRA, 6, 2).unwrap();
        let text = [0, 1, 5];
        let wanted = -(counts.probability(&[0], 1).ln() + counts.probability(&[1], 5).ln()) / 2.0;
        assert!((counts.nats(&text).unwrap() - wanted).abs() < 1e-15);
        // What was never counted is as likely as anything else.
        let nothing = Counts::of(&[], 256, 3).unwrap();
        assert!((bits(nothing.nats(&[1, 2, 3]).unwrap()) - 8.0).abs() < 1e-12);
    }

    #[test]
    fn an_order_more_tells_a_text_of_order_apart() {
        let tokens: Vec<u32> = (0..3000).map(|i| (i / 2 % 2) as u32).collect();
        let nats = |order| {
            Counts::of(&tokens, 2, order)
                .unwrap()
                .nats(&tokens)
                .unwrap()
        };
        // 0 0 1 1 0 0: one token says nothing, two say all.
        assert!((bits(nats(1)) - 1.0).abs() < 0.01);
        assert!((bits(nats(2)) - 1.0).abs() < 0.01);
        assert!(bits(nats(3)) < 0.02);
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        for order in [0, 5, usize::MAX] {
            let refused = Counts::of(&[0], 1, order).unwrap_err();
            assert_eq!(refused, CountsError::Order { order });
        }
        let error = Counts::of(&[0, 1, 7], 2, 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "token 2 is 7, but the vocabulary has 2, counted from 0"
        );
        let counts = Counts::of(&[0, 1], 2, 1).unwrap();
        assert!(matches!(
            counts.nats(&[0, 2]),
            Err(CountsError::Token { position: 1, .. })
        ));
        assert_eq!(counts.nats(&[0]), Err(CountsError::Short { tokens: 1 }));
    }
}
