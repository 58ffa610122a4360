//! A data set: named columns with one number of examples, and what is done to it as a whole.
//!
//! The operations take the data set and give a new one, so a pipeline reads from top to bottom and
//! no half-changed data set can be observed.

use super::{Column, ColumnData, DataError, Element};

/// An ordered list of columns of distinct names and equal length, with at least one example.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    columns: Vec<Column>,
}

impl Dataset {
    /// A data set of these columns, in this order.
    ///
    /// # Errors
    /// [`DataError::Empty`] without columns or without examples, [`DataError::Length`] where the
    /// columns differ in their number of examples, [`DataError::DuplicateColumn`].
    pub fn new(columns: impl Into<Vec<Column>>) -> Result<Self, DataError> {
        let columns = columns.into();
        let Some(first) = columns.first() else {
            return Err(DataError::Empty {
                what: "it has no column".to_owned(),
            });
        };
        for (position, column) in columns.iter().enumerate() {
            if columns[..position]
                .iter()
                .any(|earlier| earlier.name() == column.name())
            {
                return Err(DataError::DuplicateColumn {
                    column: column.name().to_owned(),
                });
            }
            if column.examples() != first.examples() {
                return Err(DataError::Length {
                    column: column.name().to_owned(),
                    found: column.examples(),
                    first: first.name().to_owned(),
                    wanted: first.examples(),
                });
            }
        }
        if first.examples() == 0 {
            let what = format!("column `{}` has no example", first.name());
            return Err(DataError::Empty { what });
        }
        Ok(Self { columns })
    }

    /// The number of examples, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a data set is never empty")]
    pub fn len(&self) -> usize {
        self.columns[0].examples()
    }

    /// The columns in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column `name`.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`], which lists the names there are.
    pub fn column(&self, name: &str) -> Result<&Column, DataError> {
        Ok(&self.columns[position(&self.columns, name)?])
    }

    /// The examples `rows`, in that order; a row may occur more than once.
    ///
    /// # Errors
    /// [`DataError::Row`] for an example that does not exist, [`DataError::Empty`] for no rows.
    pub fn select(&self, rows: &[usize]) -> Result<Self, DataError> {
        let examples = self.len();
        if let Some(&index) = rows.iter().find(|&&row| row >= examples) {
            return Err(DataError::Row { index, examples });
        }
        let columns = self.columns.iter().map(|column| {
            let mut selected = column.buffer(rows.len());
            selected.gather(column, rows);
            selected
        });
        Self::new(columns.collect::<Vec<_>>())
    }

    /// The examples whose values in the column `name` are such as `keeps` wants them, in order.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`], [`DataError::Type`], and [`DataError::Empty`] where none is left.
    pub fn filter<T: Element>(
        &self,
        name: &str,
        keeps: impl Fn(&[T]) -> bool,
    ) -> Result<Self, DataError> {
        let values = self.column(name)?.values::<T>()?;
        let width = values.len() / self.len();
        let kept = |row: &usize| keeps(&values[row * width..][..width]);
        let rows: Vec<usize> = (0..self.len()).filter(kept).collect();
        self.select(&rows)
    }

    /// The first `count` examples, or all where there are fewer.
    ///
    /// # Errors
    /// [`DataError::Empty`] for none.
    pub fn take(&self, count: usize) -> Result<Self, DataError> {
        let rows: Vec<usize> = (0..self.len().min(count)).collect();
        self.select(&rows)
    }

    /// The examples behind the first `count`.
    ///
    /// # Errors
    /// [`DataError::Empty`] where none is left.
    pub fn skip(&self, count: usize) -> Result<Self, DataError> {
        let rows: Vec<usize> = (count.min(self.len())..self.len()).collect();
        self.select(&rows)
    }

    /// All examples, in the order that belongs to `seed`.
    pub fn shuffle(&self, seed: u64) -> Result<Self, DataError> {
        let mut rows: Vec<usize> = (0..self.len()).collect();
        super::order::shuffle(&mut rows, seed, super::order::Purpose::Shuffle);
        self.select(&rows)
    }

    /// The data with a further column.
    ///
    /// # Errors
    /// As [`Dataset::new`].
    pub fn with(mut self, column: Column) -> Result<Self, DataError> {
        self.columns.push(column);
        Self::new(self.columns)
    }

    /// Applies `function` to every element of column `name`, of whatever type, and makes the result
    /// an f32 column. This is how pixels are scaled: `data.map_f32("x", |ink| ink / 16.0)`.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`].
    pub fn map_f32(
        self,
        name: &str,
        mut function: impl FnMut(f32) -> f32,
    ) -> Result<Self, DataError> {
        self.replace(name, |column| {
            let mut values = Vec::with_capacity(column.data().len());
            column
                .data()
                .for_each(|number| values.push(function(number.to_f32())));
            Ok(column.with_data(ColumnData::F32(values)))
        })
    }

    /// Gives the examples of column `name` another shape with as many elements.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`], [`DataError::Shape`].
    pub fn reshape(self, name: &str, example_shape: &[usize]) -> Result<Self, DataError> {
        self.replace(name, |column| column.reshaped(example_shape))
    }

    pub(super) fn replace(
        mut self,
        name: &str,
        change: impl FnOnce(Column) -> Result<Column, DataError>,
    ) -> Result<Self, DataError> {
        let position = position(&self.columns, name)?;
        let column = self.columns.remove(position);
        self.columns.insert(position, change(column)?);
        Ok(self)
    }
}

/// Where column `name` stands; shared with batches, whose columns are of the same form.
pub(super) fn position(columns: &[Column], name: &str) -> Result<usize, DataError> {
    columns
        .iter()
        .position(|column| column.name() == name)
        .ok_or_else(|| DataError::UnknownColumn {
            column: name.to_owned(),
            known: columns
                .iter()
                .map(|column| column.name().to_owned())
                .collect(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, examples: usize) -> Column {
        Column::new(name, [examples], vec![1f32; examples]).unwrap()
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        let error = Dataset::new([column("x", 3), column("y", 4)])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("column `y` has 4 examples, but column `x` has 3"),
            "{error}"
        );
        let error = Dataset::new([column("x", 3), column("x", 3)])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("two columns are named `x`"), "{error}");
        assert!(matches!(Dataset::new([]), Err(DataError::Empty { .. })));
        assert!(matches!(
            Dataset::new([column("x", 0)]),
            Err(DataError::Empty { .. })
        ));
    }

    #[test]
    fn an_unknown_name_lists_those_there_are() {
        let data = Dataset::new([column("x", 3), column("y", 3)]).unwrap();
        let error = data.column("z").unwrap_err().to_string();
        assert_eq!(error, "there is no column `z`; there are `x`, `y`");
        assert!(data.map_f32("z", |v| v).is_err());
    }

    #[test]
    fn select_takes_whole_examples_in_the_order_given() {
        let x = Column::new("x", [3, 2], vec![0i64, 1, 10, 11, 20, 21]).unwrap();
        let data = Dataset::new([x, column("y", 3)]).unwrap();
        let picked = data.select(&[2, 0, 2]).unwrap();
        assert_eq!(
            picked.column("x").unwrap().values::<i64>().unwrap(),
            [20, 21, 0, 1, 20, 21]
        );
        assert_eq!(picked.len(), 3);
        assert!(matches!(
            data.select(&[3]),
            Err(DataError::Row {
                index: 3,
                examples: 3
            })
        ));
        assert!(matches!(data.select(&[]), Err(DataError::Empty { .. })));
    }

    #[test]
    fn map_f32_converts_and_leaves_the_other_columns_in_place() {
        let x = Column::new("x", [2, 2], vec![0u8, 8, 16, 4]).unwrap();
        let data = Dataset::new([x, column("y", 2)]).unwrap();
        let data = data.map_f32("x", |ink| ink / 16.0).unwrap();
        let x = data.column("x").unwrap();
        assert_eq!(x.values::<f32>().unwrap(), [0.0, 0.5, 1.0, 0.25]);
        assert_eq!(x.shape(), [2, 2]);
        assert_eq!(data.columns()[0].name(), "x");
        assert_eq!(
            data.reshape("x", &[4]).unwrap_err().to_string(),
            "column `x`: shape [2, 4] wants 8 elements, but the data has 4"
        );
    }
}
