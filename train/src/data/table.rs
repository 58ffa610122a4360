//! Tables in comma-separated text.
//!
//! The `csv` crate reads quotes and escapes; here fields become columns. A table has a line of names. Its fields are texts until a column is
//! asked for, so that one file may hold numbers, names and what nobody needs.

use super::{Column, DataError};
use std::collections::BTreeMap;
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
    /// [`DataError::Io`] and [`DataError::Csv`]: a line with more or fewer fields than the first, or a text that is not UTF-8.
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
        let wrong = |error: csv::Error| DataError::Csv {
            file: file.to_owned(),
            line: error.position().map_or(1, |at| at.line() as usize),
            column: 1,
            found: "a line that cannot be read".to_owned(),
            wanted: error.to_string(),
        };
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let names = reader.headers().map_err(wrong)?;
        let names: Vec<String> = names.iter().map(str::to_owned).collect();
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
                    number => number.parse().map_err(|_| DataError::Csv {
                        file: self.file.clone(),
                        line: *line as usize,
                        column: place + 1,
                        found: format!("`{number}` in column `{}`", self.names[*place]),
                        wanted: "a number was expected; classes are read by `classes`".to_owned(),
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
        assert!(
            message("a,b\n1,2\n3\n").starts_with("t.csv:3:1: "),
            "{}",
            message("a,b\n1,2\n3\n")
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
        assert!(matches!(Table::read("/nowhere"), Err(DataError::Io { .. })));
    }
}
