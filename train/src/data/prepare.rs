//! Statistics of the data that is learned from, and what is made of data with them.
//!
//! Each is fitted on one data set, that which is learned from, and applied to any: a scale that has seen the test data is a mistake that
//! this cannot make by itself. All of them can be [kept](crate::Trainer::keep) with a model, so that whoever predicts scales as whoever
//! trained did.

use super::{Column, ColumnData, DataError, Dataset};
use serde::{Deserialize, Serialize};

/// Makes each feature of a column have mean 0 and deviation 1 over the examples that it was fitted on. A feature is a place in an example.
///
/// ```
/// use kiln_train::data::{Column, Dataset, Standardise};
///
/// let data = |x: Vec<f32>| Dataset::new([Column::new("x", [x.len() / 2, 2], x)?]);
/// let (train, test) = (data(vec![1.0, 10.0, 3.0, 30.0])?, data(vec![2.0, 40.0])?);
/// let scale = Standardise::fit(&train, "x")?;
/// let test = scale.apply(test)?;
/// assert_eq!(test.column("x")?.values::<f32>()?, [0.0, 2.0]);
/// # Ok::<(), kiln_train::data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standardise {
    column: String,
    means: Vec<f64>,
    /// 1 where all values were equal.
    deviations: Vec<f64>,
}

impl Standardise {
    /// The mean and the deviation (that of a whole population) of each feature, missing values (`NaN`) left out.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`].
    pub fn fit(data: &Dataset, column: &str) -> Result<Self, DataError> {
        let features = Features::of(data, column)?;
        let means = features.map(|values| values.iter().sum::<f64>() / values.len() as f64);
        let moments = features.map_with(&means, |values, mean| {
            let squares = values.iter().map(|value| (value - mean) * (value - mean));
            squares.sum::<f64>() / values.len() as f64
        });
        // Equal values whose mean was rounded have a moment too, of the size of its error.
        let deviation = |(moment, mean): (f64, &f64)| {
            let deviation = moment.sqrt();
            let error = data.len() as f64 * f64::EPSILON * mean.abs();
            if deviation > error { deviation } else { 1.0 }
        };
        let deviations = moments.into_iter().zip(&means).map(deviation).collect();
        Ok(Self {
            column: column.to_owned(),
            means: means.into_iter().map(zero_if_none).collect(),
            deviations,
        })
    }

    /// The mean of each feature.
    pub fn means(&self) -> &[f64] {
        &self.means
    }

    /// The deviation of each feature, 1 where it has none.
    pub fn deviations(&self) -> &[f64] {
        &self.deviations
    }

    /// The data with the column scaled, as f32.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`], and [`DataError::Features`] for examples of another size.
    pub fn apply(&self, data: Dataset) -> Result<Dataset, DataError> {
        let scale = |feature: usize, value: f64| {
            ((value - self.means[feature]) / self.deviations[feature]) as f32
        };
        each_feature(data, &self.column, self.means.len(), scale)
    }
}

/// Makes each feature of a column reach from 0 to 1 over the examples that it was fitted on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinMax {
    column: String,
    lows: Vec<f64>,
    /// 1 where all values were equal.
    ranges: Vec<f64>,
}

impl MinMax {
    /// The least and the largest value of each feature, missing values (`NaN`) left out.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`].
    pub fn fit(data: &Dataset, column: &str) -> Result<Self, DataError> {
        let features = Features::of(data, column)?;
        let lows = features.map(|values| values.iter().copied().fold(f64::NAN, f64::min));
        let ranges = features.map_with(&lows, |values, low| {
            values.iter().copied().fold(f64::NAN, f64::max) - low
        });
        let range = |range: f64| if range > 0.0 { range } else { 1.0 };
        Ok(Self {
            column: column.to_owned(),
            lows: lows.into_iter().map(zero_if_none).collect(),
            ranges: ranges.into_iter().map(range).collect(),
        })
    }

    /// The data with the column scaled, as f32. What lies outside of the range that was fitted lies outside of 0 to 1.
    ///
    /// # Errors
    /// As [`Standardise::apply`].
    pub fn apply(&self, data: Dataset) -> Result<Dataset, DataError> {
        let scale = |feature: usize, value: f64| {
            ((value - self.lows[feature]) / self.ranges[feature]) as f32
        };
        each_feature(data, &self.column, self.lows.len(), scale)
    }
}

/// What takes the place of a missing value, which is a `NaN`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missing {
    /// The mean of the feature.
    Mean,
    /// The median of the feature: of an even number the mean of the two in the middle.
    Median,
    /// A number.
    Constant(f32),
}

/// Puts values in the places of those that are missing (`NaN`), feature by feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Impute {
    column: String,
    values: Vec<f32>,
}

impl Impute {
    /// What is put in, from the values that are there; 0 where a feature has none.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`].
    pub fn fit(data: &Dataset, column: &str, by: Missing) -> Result<Self, DataError> {
        let features = Features::of(data, column)?;
        let values = match by {
            Missing::Mean => {
                features.map(|values| values.iter().sum::<f64>() / values.len() as f64)
            }
            Missing::Median => features.map(|values| {
                let mut sorted = values.to_vec();
                sorted.sort_by(f64::total_cmp);
                let middle = sorted.len() / 2;
                match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
                    (Some(low), Some(high)) if sorted.len() % 2 == 0 => (low + high) / 2.0,
                    (_, Some(high)) => *high,
                    (_, None) => f64::NAN,
                }
            }),
            Missing::Constant(value) => features.map(|_| value.into()),
        };
        let values = values.into_iter().map(zero_if_none);
        Ok(Self {
            column: column.to_owned(),
            values: values.map(|value| value as f32).collect(),
        })
    }

    /// The data without missing values in the column, as f32.
    ///
    /// # Errors
    /// As [`Standardise::apply`].
    pub fn apply(&self, data: Dataset) -> Result<Dataset, DataError> {
        let fill = |feature: usize, value: f64| {
            if value.is_nan() {
                self.values[feature]
            } else {
                value as f32
            }
        };
        each_feature(data, &self.column, self.values.len(), fill)
    }
}

/// Makes a column of labels one of distributions: f32 of shape `[n, classes]`, 1 at the label and 0 elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OneHot {
    column: String,
    /// The labels, in order; a label's place here is its class.
    labels: Vec<i64>,
}

impl OneHot {
    /// The labels that occur.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`], and [`DataError::Type`] for labels that are no whole numbers.
    pub fn fit(data: &Dataset, column: &str) -> Result<Self, DataError> {
        let mut labels = labels(data, column)?;
        labels.sort_unstable();
        labels.dedup();
        Ok(Self {
            column: column.to_owned(),
            labels,
        })
    }

    /// The labels from 0 to `count - 1`, whether they occur or not.
    pub fn classes(column: &str, count: usize) -> Self {
        Self {
            column: column.to_owned(),
            labels: (0..count as i64).collect(),
        }
    }

    /// The data with the column replaced.
    ///
    /// # Errors
    /// As [`OneHot::fit`], and [`DataError::Label`] for a label that was not seen.
    pub fn apply(&self, data: Dataset) -> Result<Dataset, DataError> {
        let count = self.labels.len();
        let mut values = vec![0f32; data.len() * count];
        for (row, label) in labels(&data, &self.column)?.into_iter().enumerate() {
            let class = self.labels.binary_search(&label);
            let class = class.map_err(|_| DataError::Label {
                column: self.column.clone(),
                row,
                label,
            })?;
            values[row * count + class] = 1.0;
        }
        let examples = data.len();
        data.replace(&self.column, |column| {
            Column::new(column.name(), [examples, count], values)
        })
    }
}

/// The labels of a column of one whole number an example.
fn labels(data: &Dataset, column: &str) -> Result<Vec<i64>, DataError> {
    let classes = data.classes(column)?;
    // Every element type of a column but u64 fits; a label beyond is none that was meant as one.
    let label = |class: i128| i64::try_from(class).unwrap_or(i64::MAX);
    Ok(classes.into_iter().map(label).collect())
}

/// The values of each place in the examples of a column, without those that are missing.
struct Features(Vec<Vec<f64>>);

impl Features {
    fn of(data: &Dataset, column: &str) -> Result<Self, DataError> {
        let column = data.column(column)?;
        let count = column.data().len() / column.examples().max(1);
        let mut features = vec![Vec::with_capacity(column.examples()); count];
        let mut next = 0;
        column.data().for_each(|number| {
            let value = number.to_f64();
            if !value.is_nan() {
                features[next].push(value);
            }
            next = (next + 1) % count;
        });
        Ok(Self(features))
    }

    fn map(&self, of: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        self.0.iter().map(|values| of(values)).collect()
    }

    fn map_with(&self, others: &[f64], of: impl Fn(&[f64], f64) -> f64) -> Vec<f64> {
        let both = self.0.iter().zip(others);
        both.map(|(values, other)| of(values, *other)).collect()
    }
}

/// What a feature without any value has.
fn zero_if_none(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value }
}

/// Changes the elements of a column by their places in the examples, of which there must be `count`.
fn each_feature(
    data: Dataset,
    column: &str,
    count: usize,
    change: impl Fn(usize, f64) -> f32,
) -> Result<Dataset, DataError> {
    let found = data.column(column)?;
    let found = found.data().len() / found.examples().max(1);
    if found != count {
        return Err(DataError::Features {
            column: column.to_owned(),
            found,
            wanted: count,
        });
    }
    // In f64: an f32 has no room for a time stamp, whose mean is large and whose deviation is small.
    let (mut next, mut changed) = (0, Vec::new());
    data.replace(column, |column| {
        column.data().for_each(|number| {
            changed.push(change(next, number.to_f64()));
            next = (next + 1) % count;
        });
        Ok(column.with_data(ColumnData::F32(changed)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(values: &[f32]) -> Dataset {
        let labels: Vec<i32> = (0..values.len() as i32 / 2).map(|i| 10 * (i % 3)).collect();
        Dataset::new([
            Column::new("x", [values.len() / 2, 2], values.to_vec()).unwrap(),
            Column::new("y", [labels.len()], labels).unwrap(),
        ])
        .unwrap()
    }

    fn x(data: Dataset) -> Vec<f32> {
        data.column("x").unwrap().values().unwrap().to_vec()
    }

    #[test]
    fn scales_are_those_of_the_data_they_were_fitted_on() {
        let data = table(&[1.0, 5.0, 2.0, 5.0, 6.0, 5.0]);
        let standard = Standardise::fit(&data, "x").unwrap();
        assert_eq!(standard.means(), [3.0, 5.0]);
        // ((-2)^2 + (-1)^2 + 3^2) / 3, and a feature that does not vary is left as it is.
        assert!((standard.deviations()[0] - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(standard.deviations()[1], 1.0);
        let scaled = x(standard.apply(data.clone()).unwrap());
        assert!((scaled[4] - 3.0 / (14.0f32 / 3.0).sqrt()).abs() < 1e-6);
        assert_eq!(scaled[1], 0.0);
        let range = MinMax::fit(&data, "x").unwrap();
        assert_eq!(
            x(range.apply(data).unwrap()),
            [0.0, 0.0, 0.2, 0.0, 1.0, 0.0]
        );
        assert_eq!(x(range.apply(table(&[11.0, 6.0])).unwrap()), [2.0, 1.0]);
        let wide = Dataset::new([Column::new("x", [1, 3], vec![0f32; 3]).unwrap()]).unwrap();
        assert_eq!(
            range.apply(wide).unwrap_err().to_string(),
            "column `x` has 3 features; what was fitted has 2"
        );
    }

    #[test]
    fn missing_values_are_left_out_and_put_in() {
        let nan = f32::NAN;
        let data = table(&[1.0, nan, 2.0, nan, 6.0, nan, nan, nan]);
        let filled = |by| {
            x(Impute::fit(&data, "x", by)
                .unwrap()
                .apply(data.clone())
                .unwrap())
        };
        assert_eq!(filled(Missing::Mean)[6], 3.0);
        assert_eq!(filled(Missing::Median)[6], 2.0);
        assert_eq!(
            filled(Missing::Median)[1],
            0.0,
            "a feature without any value"
        );
        assert_eq!(filled(Missing::Constant(-1.0))[6..], [-1.0, -1.0]);
        let even = table(&[1.0, 0.0, 2.0, 0.0, 6.0, 0.0, 8.0, 0.0]);
        let median = Impute::fit(&even, "x", Missing::Median).unwrap();
        assert_eq!(x(median.apply(data.clone()).unwrap())[6], 4.0);
        assert_eq!(Standardise::fit(&data, "x").unwrap().means(), [3.0, 0.0]);
    }

    #[test]
    fn labels_become_distributions() {
        let data = table(&[0.0; 8]);
        let one_hot = OneHot::fit(&data, "y").unwrap();
        let y = one_hot.apply(data.clone()).unwrap();
        let y = y.column("y").unwrap();
        assert_eq!(y.shape(), [4, 3]);
        let wanted = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0];
        assert_eq!(y.values::<f32>().unwrap(), wanted);
        let few = OneHot::classes("y", 2).apply(data).unwrap_err().to_string();
        assert_eq!(
            few,
            "column `y`: example 1 has the label 10, which is none of those known"
        );
        assert!(OneHot::fit(&table(&[0.0; 2]), "x").is_err());
    }
}
