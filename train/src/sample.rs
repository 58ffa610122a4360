//! Drawing a token from what a model expects to follow.
//!
//! A row of logits becomes a distribution (their softmax), which is sharpened or flattened by a temperature, cut to the likeliest tokens,
//! and drawn from. All of it runs in f64 on functions that are the same on every machine, so that a seed and the logits decide the text.
//! Nothing here knows where logits come from.

use kiln_ir::philox::{Stream, unit_f64};

/// How a token is chosen. The cuts are made in this order: temperature, `top_k`, `top_p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by: 1 leaves the model's distribution, less sharpens it, more flattens it. 0 takes the likeliest token.
    pub temperature: f64,
    /// Only this many of the likeliest tokens may be drawn; at least 1. `None` cuts nothing.
    pub top_k: Option<usize>,
    /// Only the fewest of the likeliest tokens whose probabilities sum to at least this may be drawn; above 0 and at most 1, and never
    /// fewer than one token. Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020). `None` cuts nothing.
    pub top_p: Option<f64>,
}

impl Default for Sampling {
    /// The model's own distribution: temperature 1, no cuts.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
        }
    }
}

/// Why no token can be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A temperature that is negative or no number.
    #[error(
        "a temperature of {0} is none; it is 0, which takes the likeliest token, or a finite number above"
    )]
    Temperature(f64),
    /// No token may be drawn.
    #[error("a top_k of 0 leaves no token to draw; use at least 1, or None to draw from all")]
    TopK,
    /// A sum of probabilities that is none.
    #[error("a top_p of {0} is no share of the probability; it lies above 0 and at most at 1")]
    TopP(f64),
    /// No logits.
    #[error("there are no logits, so there is no token to draw")]
    Empty,
    /// A logit that orders nothing.
    #[error(
        "logit {index} is {value}; logits are finite, or -inf for tokens that must not be drawn"
    )]
    Logit {
        /// The token.
        index: usize,
        /// Its logit.
        value: f64,
    },
    /// All logits are `-inf`.
    #[error("all {0} logits are -inf, so that no token may be drawn")]
    Impossible(usize),
}

/// Draws tokens, each from logits of its own, with the random numbers of a seed.
///
/// ```
/// use kiln_train::sample::{Sampler, Sampling};
///
/// let sampling = Sampling { temperature: 0.8, top_k: Some(40), top_p: Some(0.95) };
/// let mut sampler = Sampler::new(sampling, 42)?;
/// let logits = [0.1_f32, 2.0, -1.0, 1.5];
/// let token = sampler.draw(&logits)?;
/// assert!(token < logits.len());
/// assert_eq!(Sampler::new(sampling, 42)?.draw(&logits)?, token);
/// # Ok::<(), kiln_train::sample::SampleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    stream: Stream,
    /// The tokens that may be drawn, the likeliest first where they are cut. Kept, so that a draw allocates only at first.
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    token: usize,
    logit: f64,
    /// In proportion to the probability.
    weight: f64,
}

impl Sampler {
    /// A sampler that draws as `sampling` says.
    ///
    /// # Errors
    /// [`SampleError::Temperature`], [`SampleError::TopK`] and [`SampleError::TopP`].
    pub fn new(sampling: Sampling, seed: u64) -> Result<Self, SampleError> {
        let Sampling {
            temperature,
            top_k,
            top_p,
        } = sampling;
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Err(SampleError::Temperature(temperature));
        }
        if top_k == Some(0) {
            return Err(SampleError::TopK);
        }
        match top_p {
            Some(share) if !(share > 0.0 && share <= 1.0) => Err(SampleError::TopP(share)),
            Some(_) | None => Ok(Self {
                sampling,
                stream: Stream::new(seed, "sample", 0),
                candidates: Vec::new(),
            }),
        }
    }

    /// A token, which is the position of its logit. Of equal logits the first counts as the likelier.
    ///
    /// Each draw takes the next number of the seed's stream, whatever the logits; a temperature of 0 takes none.
    ///
    /// # Errors
    /// [`SampleError::Empty`], [`SampleError::Logit`] and [`SampleError::Impossible`]; no number is taken then.
    pub fn draw<T: Copy + Into<f64>>(&mut self, logits: &[T]) -> Result<usize, SampleError> {
        let likeliest = argmax(logits)?;
        let Sampling {
            temperature,
            top_k,
            top_p,
        } = self.sampling;
        if temperature == 0.0 {
            return Ok(likeliest);
        }
        let (low, high) = (self.stream.next_u32(), self.stream.next_u32());
        let drawn = unit_f64(low, high);

        let largest: f64 = logits[likeliest].into();
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend(logits.iter().enumerate().map(|(token, logit)| {
            let logit: f64 = (*logit).into();
            // The largest weight is 1, so that the sum is neither 0 nor infinite; -inf has none.
            let weight = libm::exp((logit - largest) / temperature);
            Candidate {
                token,
                logit,
                weight,
            }
        }));
        if let Some(count) = top_k.filter(|count| *count < candidates.len()) {
            candidates.select_nth_unstable_by(count, likelier);
            candidates.truncate(count);
        }
        if top_k.is_some() || top_p.is_some() {
            candidates.sort_unstable_by(likelier);
        }
        if let Some(share) = top_p {
            let wanted = share * sum(candidates);
            let mut reached = 0.0;
            let enough = candidates.iter().position(|candidate| {
                reached += candidate.weight;
                reached >= wanted
            });
            // Without a position rounding kept the sum below the whole, which is all of them.
            candidates.truncate(enough.map_or(candidates.len(), |last| last + 1));
        }

        let mut left = drawn * sum(candidates);
        let mut token = likeliest;
        for candidate in candidates.iter().filter(|candidate| candidate.weight > 0.0) {
            token = candidate.token;
            left -= candidate.weight;
            if left < 0.0 {
                break;
            }
        }
        // Where rounding left something over, it is the last one that may be drawn.
        Ok(token)
    }
}

/// The position of the largest logit, the first of equal ones: what a temperature of 0 draws.
///
/// # Errors
/// [`SampleError::Empty`], [`SampleError::Logit`] for `NaN` and `inf`, and [`SampleError::Impossible`] where all are `-inf`.
pub fn argmax<T: Copy + Into<f64>>(logits: &[T]) -> Result<usize, SampleError> {
    if logits.is_empty() {
        return Err(SampleError::Empty);
    }
    let mut largest = (f64::NEG_INFINITY, None);
    for (index, logit) in logits.iter().enumerate() {
        let value: f64 = (*logit).into();
        if value.is_nan() || value == f64::INFINITY {
            return Err(SampleError::Logit { index, value });
        }
        if value > largest.0 {
            largest = (value, Some(index));
        }
    }
    largest.1.ok_or(SampleError::Impossible(logits.len()))
}

/// The likelier first, and of equal ones the first.
fn likelier(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    // By logits, since weights that differ by too little or are too small are equal. No logit is NaN, and zeros of either sign are equal.
    let by_logit = b.logit.partial_cmp(&a.logit);
    by_logit
        .unwrap_or(std::cmp::Ordering::Equal)
        .then(a.token.cmp(&b.token))
}

fn sum(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> Sampler {
        let sampling = Sampling {
            temperature,
            top_k,
            top_p,
        };
        Sampler::new(sampling, 7).unwrap()
    }

    /// How often each of four tokens is drawn in 20,000 draws, as a share.
    fn shares(mut sampler: Sampler, logits: [f64; 4]) -> [f64; 4] {
        const DRAWS: u32 = 20_000;
        let mut counts = [0; 4];
        for _ in 0..DRAWS {
            counts[sampler.draw(&logits).unwrap()] += 1;
        }
        counts.map(|count: u32| f64::from(count) / f64::from(DRAWS))
    }

    fn assert_near(found: [f64; 4], wanted: [f64; 4]) {
        // Four deviations of a share of a half.
        let near = found.iter().zip(wanted).all(|(found, wanted)| {
            (found - wanted).abs() < 0.0142 && (wanted > 0.0 || *found == 0.0)
        });
        assert!(near, "{found:?} should be near {wanted:?}");
    }

    /// Logits of the probabilities 0.1, 0.4, 0.2 and 0.3.
    fn logits() -> [f64; 4] {
        [0.1f64, 0.4, 0.2, 0.3].map(|p| p.ln() + 3.0)
    }

    #[test]
    fn without_cuts_tokens_come_as_often_as_they_are_likely() {
        assert_near(
            shares(sampler(1.0, None, None), logits()),
            [0.1, 0.4, 0.2, 0.3],
        );
        // Cuts that leave everything.
        assert_near(
            shares(sampler(1.0, Some(4), Some(1.0)), logits()),
            [0.1, 0.4, 0.2, 0.3],
        );
        assert_near(
            shares(sampler(1.0, Some(usize::MAX), None), logits()),
            [0.1, 0.4, 0.2, 0.3],
        );
        let mut masked = logits();
        masked[1] = f64::NEG_INFINITY;
        let wanted = [1.0 / 6.0, 0.0, 2.0 / 6.0, 3.0 / 6.0];
        assert_near(shares(sampler(1.0, None, None), masked), wanted);
    }

    #[test]
    fn temperature_is_an_exponent_of_the_probabilities() {
        // Half the temperature squares them: 1, 16, 4 and 9 of 30.
        let wanted = [1.0, 16.0, 4.0, 9.0].map(|part| part / 30.0);
        assert_near(shares(sampler(0.5, None, None), logits()), wanted);
        let wanted = [0.25; 4];
        assert_near(shares(sampler(1e9, None, None), logits()), wanted);
        assert_near(
            shares(sampler(1e-9, None, None), logits()),
            [0.0, 1.0, 0.0, 0.0],
        );
        assert_near(
            shares(sampler(f64::MIN_POSITIVE, None, None), logits()),
            [0.0, 1.0, 0.0, 0.0],
        );
    }

    #[test]
    fn a_temperature_of_zero_takes_the_likeliest_and_no_random_number() {
        let mut sampler = sampler(0.0, Some(3), Some(0.5));
        let before = sampler.stream.clone();
        assert_eq!(
            sampler.draw(&[1.0f32, 3.0, 3.0, 2.0]).unwrap(),
            1,
            "the first of equals"
        );
        assert_eq!(sampler.draw(&[-1.0f32, f32::NEG_INFINITY]).unwrap(), 0);
        assert_eq!(sampler.stream, before);
        assert_eq!(argmax(&[0.0f32, -0.0]).unwrap(), 0);
    }

    #[test]
    fn top_k_leaves_the_likeliest() {
        assert_near(
            shares(sampler(1.0, Some(2), None), logits()),
            [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0],
        );
        assert_near(
            shares(sampler(1.0, Some(1), None), logits()),
            [0.0, 1.0, 0.0, 0.0],
        );
        // Of equal logits the first ones stay.
        assert_near(
            shares(sampler(1.0, Some(2), None), [1.0; 4]),
            [0.5, 0.5, 0.0, 0.0],
        );
    }

    #[test]
    fn top_p_leaves_the_fewest_that_reach_the_sum_and_at_least_one() {
        let shares = |p| shares(sampler(1.0, None, Some(p)), logits());
        assert_near(shares(1e-300), [0.0, 1.0, 0.0, 0.0]);
        assert_near(shares(0.39), [0.0, 1.0, 0.0, 0.0]);
        assert_near(shares(0.41), [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        assert_near(shares(0.71), [0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]);
        assert_near(shares(0.91), [0.1, 0.4, 0.2, 0.3]);
    }

    #[test]
    fn top_p_is_a_share_of_what_top_k_left() {
        // Of 4/7 and 3/7 the first reaches a half.
        assert_near(
            shares(sampler(1.0, Some(2), Some(0.5)), logits()),
            [0.0, 1.0, 0.0, 0.0],
        );
    }

    #[test]
    fn logits_of_any_size_are_drawn_from() {
        let large = [1e300, -1e300, 1e300, f64::NEG_INFINITY];
        assert_near(
            shares(sampler(1.0, None, None), large),
            [0.5, 0.0, 0.5, 0.0],
        );
        let extremes = [f64::MIN, f64::MAX, f64::MIN, f64::MIN];
        assert_near(
            shares(sampler(0.5, None, Some(0.9)), extremes),
            [0.0, 1.0, 0.0, 0.0],
        );
    }

    #[test]
    fn seed_and_logits_decide_and_each_draw_takes_the_next_number() {
        let text = |seed, logits: [f32; 4]| -> Vec<usize> {
            let mut sampler = Sampler::new(Sampling::default(), seed).unwrap();
            (0..50).map(|_| sampler.draw(&logits).unwrap()).collect()
        };
        let logits = [0.0, 0.5, 0.2, 0.1];
        assert_eq!(text(1, logits), text(1, logits));
        assert_ne!(text(1, logits), text(2, logits));
        // Draws do not hang on those before them, but on how many there were.
        let mut sampler = Sampler::new(Sampling::default(), 1).unwrap();
        sampler.draw(&[1.0f32]).unwrap();
        assert!(sampler.draw::<f32>(&[]).is_err());
        assert_eq!(sampler.draw(&logits).unwrap(), text(1, logits)[1]);
    }

    #[test]
    fn settings_and_logits_that_mean_nothing_are_refused() {
        let refused = |temperature, top_k, top_p| {
            let sampling = Sampling {
                temperature,
                top_k,
                top_p,
            };
            Sampler::new(sampling, 0).unwrap_err()
        };
        assert_eq!(refused(-1.0, None, None), SampleError::Temperature(-1.0));
        assert!(matches!(
            refused(f64::NAN, None, None),
            SampleError::Temperature(_)
        ));
        assert!(matches!(
            refused(f64::INFINITY, None, None),
            SampleError::Temperature(_)
        ));
        assert_eq!(refused(1.0, Some(0), None), SampleError::TopK);
        for share in [0.0, -0.5, 1.5] {
            assert_eq!(refused(1.0, None, Some(share)), SampleError::TopP(share));
        }
        assert!(matches!(
            refused(1.0, None, Some(f64::NAN)),
            SampleError::TopP(_)
        ));

        for temperature in [0.0, 1.0] {
            let mut sampler = sampler(temperature, Some(2), Some(0.9));
            let mut message = |logits: &[f32]| sampler.draw(logits).unwrap_err().to_string();
            assert_eq!(
                message(&[]),
                "there are no logits, so there is no token to draw"
            );
            assert_eq!(
                message(&[0.0, f32::NAN]),
                "logit 1 is NaN; logits are finite, or -inf for tokens that must not be drawn"
            );
            assert!(message(&[f32::INFINITY, 0.0]).starts_with("logit 0 is inf"));
            assert_eq!(
                message(&[f32::NEG_INFINITY; 3]),
                "all 3 logits are -inf, so that no token may be drawn"
            );
        }
    }
}
