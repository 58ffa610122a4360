//! Examples that are mixed with others, and their labels with them.

use super::super::transform::{Examples, Transform};
use super::super::{DataError, Dataset};
use super::{Size, geometry, unit};
use kiln_ir::philox::Stream;

/// Mixes each example with another one of the data set, `share` of its own to `1 - share`, and the labels alike: Zhang et al., "mixup: Beyond
/// Empirical Risk Minimization" (2018). The share is drawn from the beta distribution of `alpha` and `alpha`.
///
/// Both columns are f32; labels are distributions over the classes, as [`OneHot`](super::super::OneHot) makes them.
#[derive(Clone, Debug, PartialEq)]
pub struct MixUp {
    pairs: Pairs,
}

/// Puts a rectangle of another example's picture in the place of the own, and mixes the labels by the areas: Yun et al., "CutMix:
/// Regularization Strategy to Train Strong Classifiers with Localizable Features" (2019).
///
/// Both columns are f32; labels are distributions over the classes.
#[derive(Clone, Debug, PartialEq)]
pub struct CutMix {
    pairs: Pairs,
}

#[derive(Clone, Debug, PartialEq)]
struct Pairs {
    input: String,
    target: String,
    alpha: f64,
}

impl MixUp {
    /// Mixes columns `input` and `target`; an `alpha` of 0.2 leaves most examples nearly as they are, 1 draws all shares alike.
    pub fn new(input: &str, target: &str, alpha: f64) -> Self {
        Self {
            pairs: Pairs::new(input, target, alpha),
        }
    }
}

impl CutMix {
    /// Mixes columns `input` and `target`.
    pub fn new(input: &str, target: &str, alpha: f64) -> Self {
        Self {
            pairs: Pairs::new(input, target, alpha),
        }
    }
}

impl Pairs {
    fn new(input: &str, target: &str, alpha: f64) -> Self {
        Self {
            input: input.to_owned(),
            target: target.to_owned(),
            alpha,
        }
    }

    fn check(&self, data: &Dataset) -> Result<(), DataError> {
        data.column(&self.input)?.values::<f32>()?;
        data.column(&self.target)?.values::<f32>()?;
        if self.alpha > 0.0 && self.alpha.is_finite() {
            Ok(())
        } else {
            Err(DataError::Setting {
                what: "the alpha of a mixture",
                value: self.alpha,
                wanted: "above 0",
            })
        }
    }

    /// Mixes each example of a batch by `mix`, which gets the own input, that of the other, the share of the own that was drawn, and random
    /// numbers, and gives the share that it took.
    fn apply(
        &self,
        examples: &mut Examples<'_>,
        mut mix: impl FnMut(&mut [f32], &[f32], f64, &mut Stream) -> f64,
    ) {
        let count = examples.data().len() as u64;
        let mut streams: Vec<Stream> = (0..examples.len()).map(|i| examples.stream(i)).collect();
        let others: Vec<usize> = streams
            .iter_mut()
            .map(|s| s.below(count) as usize)
            .collect();
        // As the steps before left them, as the own ones are.
        let others = examples.others(&others);
        let values = |name: &str| {
            let column = others.iter().find(|column| column.name() == name);
            column.and_then(|column| column.values::<f32>().ok())
        };
        let (Some(inputs), Some(targets)) = (values(&self.input), values(&self.target)) else {
            return;
        };
        for (position, mut stream) in streams.into_iter().enumerate() {
            let drawn = beta(self.alpha, &mut stream);
            let mut share = drawn;
            if let Some((values, width)) = examples.f32(&self.input) {
                let own = &mut values[position * width..][..width];
                share = mix(
                    own,
                    &inputs[position * width..][..width],
                    drawn,
                    &mut stream,
                );
            }
            if let Some((values, width)) = examples.f32(&self.target) {
                let own = &mut values[position * width..][..width];
                blend(own, &targets[position * width..][..width], share as f32);
            }
        }
    }
}

impl Transform for MixUp {
    fn check(&self, data: &Dataset) -> Result<(), DataError> {
        self.pairs.check(data)
    }

    fn apply(&self, examples: &mut Examples<'_>) {
        self.pairs.apply(examples, |own, other, share, _| {
            blend(own, other, share as f32);
            share
        });
    }
}

impl Transform for CutMix {
    fn check(&self, data: &Dataset) -> Result<(), DataError> {
        Size::of(data, &self.pairs.input)?;
        self.pairs.check(data)
    }

    fn apply(&self, examples: &mut Examples<'_>) {
        let Ok(size) = Size::of(examples.data(), &self.pairs.input) else {
            return;
        };
        self.pairs.apply(examples, |own, other, share, stream| {
            let side = (1.0 - share).sqrt();
            let width = (size.width as f64 * side).round() as usize;
            let height = (size.height as f64 * side).round() as usize;
            let place = |at: f32, extent: usize, length: usize| {
                (at * extent as f32) as isize - length as isize / 2
            };
            let left = place(unit(stream), size.width, width);
            let top = place(unit(stream), size.height, height);
            let mut replaced = 0;
            geometry::for_rectangle(size, left, top, width, height, |range| {
                replaced += range.len();
                own[range.clone()].copy_from_slice(&other[range]);
            });
            // Of what lies within the picture.
            1.0 - replaced as f64 / own.len().max(1) as f64
        });
    }
}

fn blend(own: &mut [f32], other: &[f32], share: f32) {
    for (own, other) in own.iter_mut().zip(other) {
        *own = share * *own + (1.0 - share) * other;
    }
}

/// A number from the beta distribution of `alpha` and `alpha`: Jöhnk, "Erzeugung von betaverteilten und gammaverteilten Zufallszahlen" (1964).
fn beta(alpha: f64, stream: &mut Stream) -> f64 {
    // Two uniform numbers fit more and more rarely the larger alpha is; the bound leaves a half, which is then the likeliest by far.
    for _ in 0..100 {
        let x = libm::pow(f64::from(unit(stream)), 1.0 / alpha);
        let y = libm::pow(f64::from(unit(stream)), 1.0 / alpha);
        if x + y > 0.0 && x + y <= 1.0 {
            return x / (x + y);
        }
    }
    0.5
}
