//! Data that is made up: to try a model on, and to see one fail. The same seed gives the same data.

use super::column::ColumnData;
use super::{Column, DataError, Dataset};
use kiln_ir::philox::Stream;
use std::f64::consts::{PI, TAU};

/// Points around centres: `x`, f32 of shape `[n, features]`, and the number of the centre, `y`, u32 of shape `[n]`. Centres are drawn evenly
/// from the cube from -10 to 10, and points normally around them.
///
/// # Errors
/// [`DataError::Empty`] for no examples.
pub fn blobs(
    examples: usize,
    features: usize,
    classes: usize,
    deviation: f64,
    seed: u64,
) -> Result<Dataset, DataError> {
    let classes = classes.max(1);
    let centres = Stream::new(seed, "synthetic/blobs/centres", 0);
    let noise = Stream::new(seed, "synthetic/blobs/noise", 0);
    let point = |i: usize, class: usize| -> Vec<f64> {
        let of = |feature: usize| {
            let centre = 20.0 * centres.uniform_f64((class * features + feature) as u64) - 10.0;
            centre + deviation * noise.normal((i * features + feature) as u64)
        };
        (0..features).map(of).collect()
    };
    labelled(examples, features, |i| (point(i, i % classes), i % classes))
}

/// Two half circles that reach into one another, with normal noise: `x`, f32 of shape `[n, 2]`, and `y`, u32 of shape `[n]`.
///
/// # Errors
/// [`DataError::Empty`] for no examples.
pub fn moons(examples: usize, noise: f64, seed: u64) -> Result<Dataset, DataError> {
    let stream = Stream::new(seed, "synthetic/moons", 0);
    labelled(examples, 2, |i| {
        let class = i % 2;
        let angle = PI * (i / 2) as f64 / (examples / 2).max(1) as f64;
        let (x, y) = if class == 0 {
            (libm::cos(angle), libm::sin(angle))
        } else {
            (1.0 - libm::cos(angle), 0.5 - libm::sin(angle))
        };
        let by = stream.normal_pair(i as u64);
        (vec![x + noise * by[0], y + noise * by[1]], class)
    })
}

/// Arms of a spiral, one for each class, with normal noise: `x`, f32 of shape `[n, 2]`, and `y`, u32 of shape `[n]`.
///
/// # Errors
/// [`DataError::Empty`] for no examples.
pub fn spirals(
    examples: usize,
    classes: usize,
    noise: f64,
    seed: u64,
) -> Result<Dataset, DataError> {
    let classes = classes.max(1);
    let stream = Stream::new(seed, "synthetic/spirals", 0);
    labelled(examples, 2, |i| {
        let class = i % classes;
        let radius = (i / classes) as f64 / (examples / classes).max(1) as f64;
        let angle = TAU * (radius + class as f64 / classes as f64);
        let by = stream.normal_pair(i as u64);
        let x = radius * libm::cos(angle) + noise * by[0];
        (vec![x, radius * libm::sin(angle) + noise * by[1]], class)
    })
}

/// A linear function of normal features with normal noise: `x`, f32 of shape `[n, features]`, and `y`, f32 of shape `[n, 1]`. Weights and bias
/// are normal too.
///
/// # Errors
/// [`DataError::Empty`] for no examples.
pub fn regression(
    examples: usize,
    features: usize,
    noise: f64,
    seed: u64,
) -> Result<Dataset, DataError> {
    let stream = |name: &str| Stream::new(seed, name, 0);
    let weights = stream("synthetic/regression/weights");
    let inputs = stream("synthetic/regression/inputs");
    let errors = stream("synthetic/regression/noise");
    let x: Vec<f64> = (0..examples * features)
        .map(|i| inputs.normal(i as u64))
        .collect();
    let target = |i: usize| {
        let terms = (0..features).map(|f| weights.normal(f as u64) * x[i * features + f]);
        terms.sum::<f64>() + weights.normal(features as u64) + noise * errors.normal(i as u64)
    };
    let y: Vec<f32> = (0..examples).map(|i| target(i) as f32).collect();
    let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
    Dataset::new([
        Column::new("x", [examples, features], x)?,
        Column::new("y", [examples, 1], y)?,
    ])
}

fn labelled(
    examples: usize,
    features: usize,
    point: impl Fn(usize) -> (Vec<f64>, usize),
) -> Result<Dataset, DataError> {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for i in 0..examples {
        let (place, class) = point(i);
        x.extend(place.iter().map(|x| *x as f32));
        y.push(class as u32);
    }
    Dataset::new([
        Column::new("x", [examples, features], x)?,
        Column::new("y", [examples], y)?,
    ])
}

impl Dataset {
    /// The data with as many examples of every class as the most frequent one has. A new example of a class lies, in the f32 column `inputs`,
    /// at a random place between an example of it and one of that example's `neighbours` nearest of the class; what other columns it has
    /// are those of the first: Chawla et al., "SMOTE: Synthetic Minority Over-sampling Technique" (2002). A class of one example is repeated.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`] and [`DataError::Type`]: inputs that are not f32, labels that are no whole numbers.
    pub fn oversample(
        &self,
        inputs: &str,
        labels: &str,
        neighbours: usize,
        seed: u64,
    ) -> Result<Self, DataError> {
        let column = self.column(inputs)?;
        let values = column.values::<f32>()?;
        let width = values.len() / self.len();
        let example = |row: usize| &values[row * width..][..width];
        let mut members = std::collections::BTreeMap::<i128, Vec<usize>>::new();
        for (row, class) in self.classes(labels)?.into_iter().enumerate() {
            members.entry(class).or_default().push(row);
        }
        let most = members.values().map(Vec::len).max().unwrap_or(0);
        let mut stream = Stream::new(seed, "data/oversample", 0);
        let mut rows: Vec<usize> = (0..self.len()).collect();
        let mut made = Vec::new();
        for of_class in members.values() {
            for _ in of_class.len()..most {
                let own = of_class[stream.below(of_class.len() as u64) as usize];
                let distance = |other: usize| -> f32 {
                    let pairs = example(own).iter().zip(example(other));
                    pairs.map(|(a, b)| (a - b) * (a - b)).sum()
                };
                let mut others: Vec<(f32, usize)> = of_class
                    .iter()
                    .filter(|other| **other != own)
                    .map(|other| (distance(*other), *other))
                    .collect();
                others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                others.truncate(neighbours.max(1));
                rows.push(own);
                let other = match others.len() as u64 {
                    0 => own,
                    count => others[stream.below(count) as usize].1,
                };
                let share = kiln_ir::philox::unit_f32(stream.next_u32());
                let between = example(own).iter().zip(example(other));
                made.extend(between.map(|(a, b)| a + share * (b - a)));
            }
        }
        let all: Vec<f32> = values.iter().copied().chain(made).collect();
        let grown = self.select(&rows)?;
        grown.replace(inputs, |column| Ok(column.with_data(ColumnData::F32(all))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_classes_and_seeds_are_those_asked_for() {
        for make in [
            |seed| blobs(30, 2, 3, 0.5, seed).unwrap(),
            |seed| moons(30, 0.1, seed).unwrap(),
            |seed| spirals(30, 3, 0.01, seed).unwrap(),
            |seed| regression(30, 2, 0.1, seed).unwrap(),
        ] {
            let data = make(1);
            assert_eq!(data.column("x").unwrap().shape(), [30, 2]);
            assert_eq!(data, make(1));
            assert_ne!(data, make(2));
        }
        let y = blobs(6, 1, 3, 0.0, 1).unwrap();
        assert_eq!(
            y.column("y").unwrap().values::<u32>().unwrap(),
            [0, 1, 2, 0, 1, 2]
        );
        let x = y.column("x").unwrap().values::<f32>().unwrap();
        assert_eq!(x[..3], x[3..], "without noise a class is a point");
        // Without noise the outer moon lies on the unit circle.
        let moons = moons(10, 0.0, 1).unwrap();
        let x = moons.column("x").unwrap().values::<f32>().unwrap();
        assert!(
            x.chunks(4)
                .all(|p| (p[0] * p[0] + p[1] * p[1] - 1.0).abs() < 1e-6)
        );
        assert!(matches!(
            blobs(0, 1, 1, 1.0, 1),
            Err(DataError::Empty { .. })
        ));
    }

    #[test]
    fn rare_classes_get_examples_between_their_own() {
        let x = vec![0.0f32, 10.0, 11.0, 12.0, 1.0, 13.0, 100.0];
        let y = vec![0u8, 1, 1, 1, 0, 1, 2];
        let data = Dataset::new([
            Column::new("x", [7, 1], x.clone()).unwrap(),
            Column::new("y", [7], y).unwrap(),
        ])
        .unwrap();
        let grown = data.oversample("x", "y", 2, 3).unwrap();
        let labels = grown.column("y").unwrap().values::<u8>().unwrap();
        let values = grown.column("x").unwrap().values::<f32>().unwrap();
        for class in 0..3 {
            assert_eq!(labels.iter().filter(|label| **label == class).count(), 4);
        }
        assert_eq!(values[..7], x);
        for (label, value) in labels.iter().zip(values).skip(7) {
            let within = match label {
                0 => (0.0..=1.0).contains(value),
                _ => *value == 100.0,
            };
            assert!(within, "{label} {value}");
        }
        assert!(matches!(
            data.oversample("y", "y", 2, 3),
            Err(DataError::Type { .. })
        ));
    }
}
