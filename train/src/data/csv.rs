//! The handwritten digits of the examples, read from their comma-separated text.
//!
//! This reads lines of whole numbers and nothing more: no quotes, no header, no missing values.
//! Every line is checked, and a mistake is reported with its line and character.

use super::{Column, DataError, Dataset};

const PIXELS: usize = 64;
const DARKEST: u8 = 16;
const DIGITS: u8 = 10;

/// Reads the UCI handwritten digits: a line holds 64 pixels, 0 to 16, and the digit.
///
/// Gives the columns `x`, u8 of shape `[n, 64]`, and `y`, u8 of shape `[n]`. `file` is the name used in
/// messages.
///
/// # Errors
/// [`DataError::Csv`] at the first field that is no such number, at a line with too few or too many
/// fields, and at an empty text.
pub fn digits(file: &str, text: &str) -> Result<Dataset, DataError> {
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = Place {
            file,
            line: number + 1,
        };
        let mut column = 1;
        let mut fields = 0;
        for field in line.split(',') {
            match fields {
                0..PIXELS => pixels.push(place.number(column, field, DARKEST, "a pixel")?),
                PIXELS => labels.push(place.number(column, field, DIGITS - 1, "the digit")?),
                _ => {
                    let found = "one more field".to_owned();
                    return Err(place.error(column, found, "a line ends after the 65th"));
                }
            }
            fields += 1;
            column += field.chars().count() + 1;
        }
        if fields <= PIXELS {
            let found = format!("the end of the line after {fields} fields");
            return Err(place.error(column - 1, found, "a line holds 64 pixels and the digit"));
        }
    }
    if labels.is_empty() {
        let place = Place { file, line: 1 };
        let found = "the end of the text".to_owned();
        return Err(place.error(1, found, "a line of 64 pixels and the digit was expected"));
    }
    let examples = labels.len();
    Dataset::new([
        Column::new("x", [examples, PIXELS], pixels)?,
        Column::new("y", [examples], labels)?,
    ])
}

struct Place<'t> {
    file: &'t str,
    line: usize,
}

impl Place<'_> {
    fn number(&self, column: usize, field: &str, most: u8, what: &str) -> Result<u8, DataError> {
        match field.parse::<u8>() {
            Ok(value) if value <= most => Ok(value),
            Ok(_) | Err(_) => {
                let wanted = format!("{what} is a whole number from 0 to {most}");
                Err(self.error(column, quoted(field), &wanted))
            }
        }
    }

    fn error(&self, column: usize, found: String, wanted: &str) -> DataError {
        DataError::Csv {
            file: self.file.to_owned(),
            line: self.line,
            column,
            found,
            wanted: wanted.to_owned(),
        }
    }
}

/// The field in quotation marks, cut short: a foreign file may be one line of a gigabyte.
fn quoted(field: &str) -> String {
    const SHOWN: usize = 20;
    match field.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &field[..end]),
        None => format!("{field:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMBEDDED: &str = include_str!("../../../examples/data/digits.csv");

    fn line(pixel: &str, label: &str) -> String {
        format!("{pixel},{}{label}\n", "0,".repeat(63))
    }

    #[test]
    fn the_embedded_set_is_whole() {
        let data = digits("digits.csv", EMBEDDED).unwrap();
        assert_eq!(data.len(), 1797);
        assert_eq!(data.column("x").unwrap().shape(), [1797, 64]);
        let labels = data.column("y").unwrap().values::<u8>().unwrap();
        let mut counts = [0; 10];
        labels
            .iter()
            .for_each(|&label| counts[usize::from(label)] += 1);
        // The class sizes that UCI publishes for the test set.
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let pixels = data.column("x").unwrap().values::<u8>().unwrap();
        assert_eq!(pixels[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
        assert_eq!(
            pixels.iter().map(|&ink| u32::from(ink)).sum::<u32>(),
            561_718
        );
    }

    #[test]
    fn mistakes_are_named_with_line_and_character() {
        let good = line("16", "9");
        let cases = [
            (
                good.clone() + &line("17", "0"),
                r#"d:2:1: found "17", but a pixel is"#,
            ),
            (
                good.clone() + &line("", "0"),
                r#"d:2:1: found "", but a pixel is"#,
            ),
            (line("1", "10"), r#"d:1:129: found "10", but the digit is"#),
            (line("1", "0,0"), "d:1:131: found one more field"),
            (line("-1", "0"), r#"d:1:1: found "-1""#),
            (
                good.clone() + "1,2\n",
                "d:2:4: found the end of the line after 2 fields",
            ),
            (good.clone() + "\n" + &good, r#"d:2:1: found """#),
            (String::new(), "d:1:1: found the end of the text"),
            (
                "é".repeat(1000),
                r#"d:1:1: found "éééééééééééééééééééé"..."#,
            ),
        ];
        for (text, wanted) in cases {
            let error = digits("d", &text).unwrap_err().to_string();
            assert!(
                error.starts_with(wanted),
                "{error}\nshould start with {wanted}"
            );
        }
    }

    #[test]
    fn windows_line_ends_and_a_missing_last_one_are_read() {
        let text = line("3", "4").replace('\n', "\r\n") + line("5", "6").trim_end();
        let data = digits("d", &text).unwrap();
        assert_eq!(data.column("y").unwrap().values::<u8>().unwrap(), [4, 6]);
    }
}
