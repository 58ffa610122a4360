//! The header of an array: magic, version, length, and a Python dictionary of three keys.

use kiln_ir::DType;

const MAGIC: &[u8] = b"\x93NUMPY";
/// What the length of magic and header is a multiple of, so that elements are aligned where the file is.
const ALIGNMENT: usize = 64;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) dtype: DType,
    pub(crate) is_big_endian: bool,
    pub(crate) is_fortran: bool,
    pub(crate) shape: Vec<usize>,
}

/// Why a header was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is not of the form.
    Form(String),
    /// Its element type is none of Kiln's.
    DType(String),
}

/// The header that `bytes` begin with, and what follows it.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Header, &[u8]), Wrong> {
    let form = |what: &str| Wrong::Form(what.to_owned());
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(form("it does not begin with the six bytes \\x93NUMPY"));
    };
    let short = || form("it ends before its header begins");
    let ([major, _minor], rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => {
            let what = format!("it is of version {major} of the form; 1, 2 and 3 can be read");
            return Err(Wrong::Form(what));
        }
    };
    let Some((header, data)) = rest.split_at_checked(length) else {
        let what = format!(
            "its header is said to have {length} bytes, but {} follow",
            rest.len()
        );
        return Err(Wrong::Form(what));
    };
    // Keys and values are ASCII in all versions; what is not could only be the name of a field.
    let text = std::str::from_utf8(header).map_err(|_| form("its header is no text"))?;
    Ok((Literal { text, position: 0 }.header()?, data))
}

/// The bytes of a header, magic included, in the first version that holds it.
pub(crate) fn print(dtype: DType, shape: &[usize]) -> Vec<u8> {
    let extents: String = match shape {
        [single] => format!("{single},"),
        [..] => {
            let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
            extents.join(", ")
        }
    };
    let descr = descr(dtype);
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({extents}), }}");
    let short = padded(&text, MAGIC.len() + 4);
    let mut bytes = MAGIC.to_vec();
    let text = match u16::try_from(short.len()) {
        Ok(length) => {
            bytes.extend([1, 0]);
            bytes.extend(length.to_le_bytes());
            short
        }
        Err(_) => {
            let long = padded(&text, MAGIC.len() + 6);
            bytes.extend([2, 0]);
            // A shape of so many axes that this saturates could not be held.
            let length = u32::try_from(long.len()).unwrap_or(u32::MAX);
            bytes.extend(length.to_le_bytes());
            long
        }
    };
    bytes.extend(text.bytes());
    bytes
}

/// The text, with blanks and a line end, so that it ends at a multiple of the alignment behind `before` bytes.
fn padded(text: &str, before: usize) -> String {
    let least = before + text.len() + 1;
    let blanks = least.next_multiple_of(ALIGNMENT) - least;
    format!("{text}{}\n", " ".repeat(blanks))
}

fn descr(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::BF16 => "<V2",
        DType::F16 => "<f2",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::Bool => "|b1",
    }
}

/// The type of a `descr`, and whether it is big-endian.
fn element_type(text: &str) -> Option<(DType, bool)> {
    let (is_big_endian, kind) = match text.split_at_checked(1)? {
        ("<" | "|" | "=", kind) => (false, kind),
        (">", kind) => (true, kind),
        _ => return None,
    };
    let dtype = DType::ALL
        .into_iter()
        .find(|own| &descr(*own)[1..] == kind)?;
    Some((dtype, is_big_endian))
}

/// A Python literal on its way to be read: a dictionary with the three keys of a header, in any order.
struct Literal<'t> {
    text: &'t str,
    position: usize,
}

impl<'t> Literal<'t> {
    fn header(mut self) -> Result<Header, Wrong> {
        let (mut descr, mut order, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.accept('}') {
            let key = self.string()?;
            self.expect(':')?;
            let is_new = match key {
                "descr" => descr.replace(self.descr()?).is_none(),
                "fortran_order" => order.replace(self.truth()?).is_none(),
                "shape" => shape.replace(self.shape()?).is_none(),
                _ => return Err(self.wrong("a key other than descr, fortran_order and shape")),
            };
            if !is_new {
                return Err(self.wrong("a key for the second time"));
            }
            if !self.accept(',') {
                self.expect('}')?;
                break;
            }
        }
        if !self.rest().is_empty() {
            return Err(self.wrong("more behind the dictionary"));
        }
        let missing = |key: &str| Wrong::Form(format!("its header has no `{key}`"));
        let (dtype, is_big_endian) = descr.ok_or_else(|| missing("descr"))?;
        Ok(Header {
            dtype,
            is_big_endian,
            is_fortran: order.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }

    fn descr(&mut self) -> Result<(DType, bool), Wrong> {
        // A list describes the fields of records.
        if self.rest().starts_with('[') {
            return Err(Wrong::DType("records".into()));
        }
        let text = self.string()?;
        element_type(text).ok_or_else(|| Wrong::DType(text.to_owned()))
    }

    fn truth(&mut self) -> Result<bool, Wrong> {
        for (word, value) in [("True", true), ("False", false)] {
            if self.rest().starts_with(word) {
                self.position += word.len();
                return Ok(value);
            }
        }
        Err(self.wrong("neither True nor False"))
    }

    /// A tuple, which with one element ends in a comma.
    fn shape(&mut self) -> Result<Vec<usize>, Wrong> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            let rest = self.rest();
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let extent = rest[..digits].parse();
            let extent = extent.map_err(|_| self.wrong("no extent that can be counted"))?;
            self.position += digits;
            // Python 2 marked its long integers.
            self.accept('L');
            shape.push(extent);
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }

    /// A string without escapes, of which no key and no element type has any.
    fn string(&mut self) -> Result<&'t str, Wrong> {
        let rest = self.rest();
        let quote = rest.chars().next().filter(|c| ['\'', '"'].contains(c));
        let Some(quote) = quote else {
            return Err(self.wrong("no string"));
        };
        let Some(length) = rest[1..].find(quote) else {
            return Err(self.wrong("a string without end"));
        };
        self.position += length + 2;
        Ok(&rest[1..1 + length])
    }

    fn expect(&mut self, wanted: char) -> Result<(), Wrong> {
        if self.accept(wanted) {
            Ok(())
        } else {
            Err(self.wrong(&format!("no `{wanted}`")))
        }
    }

    fn accept(&mut self, wanted: char) -> bool {
        let is_there = self.rest().starts_with(wanted);
        self.position += if is_there { wanted.len_utf8() } else { 0 };
        is_there
    }

    /// What is left to read, from the next character that is no blank.
    fn rest(&mut self) -> &'t str {
        let rest = &self.text[self.position..];
        let trimmed = rest.trim_ascii_start();
        self.position += rest.len() - trimmed.len();
        trimmed
    }

    fn wrong(&self, found: &str) -> Wrong {
        Wrong::Form(format!(
            "at byte {} of its header is {found}",
            self.position
        ))
    }
}
