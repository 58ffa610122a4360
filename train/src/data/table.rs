//! Tables in comma-separated text.
//!
//! The `csv` crate reads quotes and escapes; here fields become columns. A table has a line of names. Its fields are texts until a column is
//! asked for, so that one file may hold numbers, names and what nobody needs.

use super::error::quoted;
use super::{Column, DataError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A table of texts with named columns.
///
/// ```
/// use kiln_train::data::{DataError, Dataset, Table};
///
/// let text = "height,weight,species\n1.5,,cat\n2.5,7,dog\n3.5,9,cat\n";
/// let table = Table::parse("animals.csv", text)?;
/// let (species, names) = table.classes("y", "species")?;
/// let data = Dataset::new([table.numbers("x", &["height", "weight"])?, species])?;
/// assert_eq!(names, ["cat", "dog"]);
/// assert_eq!(data.column("y")?.values::<u32>()?, [0, 1, 0]);
/// assert!(data.column("x")?.values::<f32>()?[1].is_nan());
/// # Ok::<(), DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    file: String,
    names: Vec<String>,
    /// The fields, line by line, with the line in the text from 1.
    rows: Vec<(u64, Vec<String>)>,
}

impl Table {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`DataError::Io`], also for a text that is not UTF-8; [`DataError::Csv`]: a line with more or fewer fields than there are names, or two
    /// columns of one name.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a text, which messages call `file`.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub fn parse(file: &str, text: &str) -> Result<Self, DataError> {
        let at = |line: u64, column: usize, found: String, wanted: String| DataError::Csv {
            file: file.to_owned(),
            line: line as usize,
            column,
            found,
            wanted,
        };
        let wrong = |error: csv::Error| {
            let line = error.position().map_or(1, csv::Position::line);
            match error.kind() {
                csv::ErrorKind::UnequalLengths {
                    expected_len, len, ..
                } => {
                    let found = format!("a line of {len} fields");
                    at(
                        line,
                        1,
                        found,
                        format!("the table has {expected_len} columns"),
                    )
                }
                // The reader is not exhaustive, and of a text in memory nothing else can be wrong.
                _ => at(
                    line,
                    1,
                    "a line that cannot be read".to_owned(),
                    error.to_string(),
                ),
            }
        };
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let names = reader.headers().map_err(wrong)?;
        let names: Vec<String> = names.iter().map(str::to_owned).collect();
        let mut seen = BTreeSet::new();
        if let Some(place) = names.iter().position(|name| !seen.insert(name)) {
            let found = format!("a second column `{}`", names[place]);
            return Err(at(
                1,
                place + 1,
                found,
                "names tell the columns apart".to_owned(),
            ));
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(wrong)?;
            let line = record.position().map_or(0, csv::Position::line);
            rows.push((line, record.iter().map(str::to_owned).collect()));
        }
        Ok(Self {
            file: file.to_owned(),
            names,
            rows,
        })
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of lines below the names.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty table makes no column"
    )]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// A column `name` of f32, `[n, k]`, from `k` columns of numbers; an empty field, `NA` and `?` are missing: `NaN`.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`], and [`DataError::Csv`] at a field that is no number.
    pub fn numbers(&self, name: &str, columns: &[&str]) -> Result<Column, DataError> {
        let places = columns.iter().map(|column| self.place(column));
        let places: Vec<usize> = places.collect::<Result<_, _>>()?;
        let mut values = Vec::with_capacity(self.rows.len() * places.len());
        for (line, fields) in &self.rows {
            for place in &places {
                let field = &fields[*place];
                let value = match field.as_str() {
                    "" | "NA" | "?" => f32::NAN,
                    number => number.parse().map_err(|_| {
                        let found = format!("`{number}` in column `{}`", self.names[*place]);
                        let wanted = "a number was expected; classes are read by `classes`";
                        self.wrong(*line, *place, found, wanted.to_owned())
                    })?,
                };
                values.push(value);
            }
        }
        Column::new(name, [self.rows.len(), places.len()], values)
    }

    /// A column `name` of u32, `[n]`, with the class of each line: the place of the field of `column` among all that occur, in the order of
    /// the alphabet. Gives these as well.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`].
    pub fn classes(&self, name: &str, column: &str) -> Result<(Column, Vec<String>), DataError> {
        let place = self.place(column)?;
        let fields = self.rows.iter().map(|(_, fields)| fields[place].as_str());
        let mut known: BTreeMap<&str, u32> = fields.clone().map(|field| (field, 0)).collect();
        for (class, number) in known.values_mut().zip(0..) {
            *class = number;
        }
        let classes: Vec<u32> = fields.map(|field| known[field]).collect();
        let names = known.into_keys().map(str::to_owned).collect();
        Ok((Column::new(name, [classes.len()], classes)?, names))
    }

    /// As [`Table::classes`], with the classes that another table gave: a model that learned from one tests on the other.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`], and [`DataError::Csv`] at a field that is none of the classes.
    ///
    /// ```
    /// use kiln_train::data::{DataError, Table};
    ///
    /// let train = Table::parse("train.csv", "species\ndog\ncat\n")?;
    /// let test = Table::parse("test.csv", "species\ndog\n")?;
    /// let (_, names) = train.classes("y", "species")?;
    /// assert_eq!(test.classes_as("y", "species", &names)?.values::<u32>()?, [1]);
    /// # Ok::<(), DataError>(())
    /// ```
    pub fn classes_as(
        &self,
        name: &str,
        column: &str,
        classes: &[String],
    ) -> Result<Column, DataError> {
        let place = self.place(column)?;
        let numbers = self.rows.iter().map(|(line, fields)| {
            let field = &fields[place];
            let number = classes.iter().position(|class| class == field);
            number.map(|number| number as u32).ok_or_else(|| {
                let wanted = format!("the classes are {}", quoted(classes));
                let found = format!("`{field}` in column `{column}`");
                self.wrong(*line, place, found, wanted)
            })
        });
        let numbers: Vec<u32> = numbers.collect::<Result<_, _>>()?;
        Column::new(name, [numbers.len()], numbers)
    }

    fn wrong(&self, line: u64, place: usize, found: String, wanted: String) -> DataError {
        DataError::Csv {
            file: self.file.clone(),
            line: line as usize,
            column: place + 1,
            found,
            wanted,
        }
    }

    fn place(&self, column: &str) -> Result<usize, DataError> {
        let place = self.names.iter().position(|name| name == column);
        place.ok_or_else(|| DataError::UnknownColumn {
            column: column.to_owned(),
            known: self.names.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        let message = |text: &str| Table::parse("t.csv", text).unwrap_err().to_string();
        assert_eq!(
            message("a,b\n1,2\n3\n"),
            "t.csv:3:1: found a line of 1 fields, but the table has 2 columns"
        );
        assert_eq!(
            message("a,b,a\n1,2,3\n"),
            "t.csv:1:3: found a second column `a`, but names tell the columns apart"
        );
        let table = Table::parse("t.csv", "a,\"b, c\"\n 1 ,\"x\"\"y\"\n\n2,z\n").unwrap();
        assert_eq!(
            (table.len(), table.names()),
            (2, &["a".to_owned(), "b, c".to_owned()][..])
        );
        assert_eq!(
            table.numbers("x", &["a"]).unwrap().values::<f32>().unwrap(),
            [1.0, 2.0]
        );
        assert_eq!(table.classes("y", "b, c").unwrap().1, ["x\"y", "z"]);
        assert_eq!(
            table.numbers("x", &["a", "b, c"]).unwrap_err().to_string(),
            "t.csv:2:2: found `x\"y` in column `b, c`, but a number was expected; classes are read by `classes`"
        );
        assert!(matches!(
            table.numbers("x", &["d"]),
            Err(DataError::UnknownColumn { .. })
        ));
        let classes = ["z".to_owned()];
        assert_eq!(
            table
                .classes_as("y", "b, c", &classes)
                .unwrap_err()
                .to_string(),
            "t.csv:2:2: found `x\"y` in column `b, c`, but the classes are `z`"
        );
        assert!(matches!(Table::read("/nowhere"), Err(DataError::Io { .. })));
    }
}
