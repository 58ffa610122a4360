//! Texts to tokens and back: one token a character, or one a byte.
//!
//! A token is a number below the size of the vocabulary. A tokenizer never guesses: a character that the vocabulary lacks is an error with
//! its place, unless the vocabulary was given a token for such characters.

use kiln_interop::replace_file;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Turns texts into tokens and back.
pub trait Tokenizer {
    /// The number of tokens there are; each token is below it.
    fn vocabulary(&self) -> usize;

    /// The tokens of `text`.
    ///
    /// # Errors
    /// [`TokenizerError`] for what the vocabulary cannot express.
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError>;

    /// The text of `tokens`.
    ///
    /// # Errors
    /// [`TokenizerError::Token`] for a number that is no token.
    fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError>;
}

/// What cannot be encoded or decoded, and a vocabulary that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A character that the vocabulary does not have.
    #[error(
        "line {line}, column {column}: the character {character:?} is not among the {vocabulary} of the vocabulary; take it from a text that has it, or give it a token for unknown characters"
    )]
    Character {
        /// The character.
        character: char,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// A number that is no token.
    #[error("{token} is no token; the vocabulary has {vocabulary}, counted from 0")]
    Token {
        /// The number.
        token: u32,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// A file that the system cannot read or write.
    #[error("the vocabulary {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that holds no vocabulary.
    #[error("{} holds no vocabulary of this kind: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// What the library behind a tokenizer refuses.
    #[error("the tokenizer refuses: {0}")]
    Library(String),
}

/// One token for each of some characters, in their order as Unicode has them.
///
/// Its form in JSON, for [`save`](Self::save) and wherever serde puts it, is `{"kind": "characters", "characters": "abc", "unknown": false}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct Characters {
    /// Sorted, none twice; a character's place is its token.
    characters: Vec<char>,
    /// Whether the token behind the last character stands for all others.
    has_unknown: bool,
}

impl Characters {
    /// The characters that occur in `text`.
    pub fn of(text: &str) -> Self {
        let mut characters: Vec<char> = text.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        Self {
            characters,
            has_unknown: false,
        }
    }

    /// Adds a last token for all other characters, which decodes to U+FFFD, the replacement character.
    pub fn with_unknown(mut self) -> Self {
        self.has_unknown = true;
        self
    }

    /// The characters, each at the place of its token.
    pub fn characters(&self) -> &[char] {
        &self.characters
    }

    /// Replaces the file at `path`, whole or not at all, with the vocabulary as JSON.
    ///
    /// # Errors
    /// [`TokenizerError::Io`]; the file is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), TokenizerError> {
        let written = replace_file(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        });
        written.map_err(|source| TokenizerError::Io {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`TokenizerError::Io`], and [`TokenizerError::Malformed`] where it is no such vocabulary.
    pub fn load(path: &Path) -> Result<Self, TokenizerError> {
        let text = fs::read(path).map_err(|source| TokenizerError::Io {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|error| TokenizerError::Malformed {
            path: path.to_owned(),
            what: error.to_string(),
        })
    }

    /// The token of `character`, or that for unknown ones.
    fn token(&self, character: char) -> Option<u32> {
        let place = match self.characters.binary_search(&character) {
            Ok(place) => place,
            Err(_) if self.has_unknown => self.characters.len(),
            Err(_) => return None,
        };
        // There are fewer characters in Unicode than a u32 counts.
        Some(place as u32)
    }
}

impl Tokenizer for Characters {
    fn vocabulary(&self) -> usize {
        self.characters.len() + usize::from(self.has_unknown)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens = Vec::with_capacity(text.len());
        for (offset, character) in text.char_indices() {
            let Some(token) = self.token(character) else {
                let before = &text[..offset];
                let line = before.rsplit('\n').next().unwrap_or(before);
                return Err(TokenizerError::Character {
                    character,
                    line: before.matches('\n').count() + 1,
                    column: line.chars().count() + 1,
                    vocabulary: self.vocabulary(),
                });
            };
            tokens.push(token);
        }
        Ok(tokens)
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        let character = |token: &u32| {
            let place = *token as usize;
            match self.characters.get(place) {
                Some(character) => Ok(*character),
                None if place < self.vocabulary() => Ok(char::REPLACEMENT_CHARACTER),
                None => Err(TokenizerError::Token {
                    token: *token,
                    vocabulary: self.vocabulary(),
                }),
            }
        };
        tokens.iter().map(character).collect()
    }
}

/// [`Characters`] as they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    kind: Kind,
    characters: String,
    unknown: bool,
}

/// The only kind of vocabulary that is written here, so that a file of another is refused by name.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Characters,
}

impl From<Characters> for Stored {
    fn from(own: Characters) -> Self {
        Self {
            kind: Kind::Characters,
            characters: own.characters.into_iter().collect(),
            unknown: own.has_unknown,
        }
    }
}

impl TryFrom<Stored> for Characters {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let Kind::Characters = stored.kind;
        let characters: Vec<char> = stored.characters.chars().collect();
        match characters.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(format!(
                "{:?} stands before {:?}; characters are in the order of Unicode, none twice",
                pair[0], pair[1]
            )),
            None => Ok(Self {
                characters,
                has_unknown: stored.unknown,
            }),
        }
    }
}

/// One token for each byte of UTF-8: every text can be encoded, in a vocabulary of 256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes;

impl Bytes {
    /// The size of the vocabulary.
    const COUNT: usize = 256;

    /// The bytes of `tokens`, which need not be UTF-8.
    ///
    /// # Errors
    /// [`TokenizerError::Token`].
    pub fn bytes(&self, tokens: &[u32]) -> Result<Vec<u8>, TokenizerError> {
        let byte = |token: &u32| {
            u8::try_from(*token).map_err(|_| TokenizerError::Token {
                token: *token,
                vocabulary: Self::COUNT,
            })
        };
        tokens.iter().map(byte).collect()
    }
}

impl Tokenizer for Bytes {
    fn vocabulary(&self) -> usize {
        Self::COUNT
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(text.bytes().map(u32::from).collect())
    }

    /// What is no UTF-8, as a model may well write, becomes U+FFFD.
    fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        Ok(String::from_utf8_lossy(&self.bytes(tokens)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("kiln-tokenizer-{}-{name}", std::process::id()))
    }

    #[test]
    fn characters_are_numbered_in_order_and_come_back() {
        let tokenizer = Characters::of("banana\nçà");
        assert_eq!(tokenizer.characters(), ['\n', 'a', 'b', 'n', 'à', 'ç']);
        assert_eq!(tokenizer.vocabulary(), 6);
        assert_eq!(tokenizer.encode("bà\n").unwrap(), [2, 4, 0]);
        assert_eq!(tokenizer.decode(&[2, 4, 0]).unwrap(), "bà\n");
        assert!(tokenizer.encode("").unwrap().is_empty());
        assert_eq!(Characters::of("").vocabulary(), 0);
    }

    #[test]
    fn an_unknown_character_is_an_error_with_its_place_or_a_token() {
        let tokenizer = Characters::of("çab\n");
        let error = tokenizer.encode("ab\nçbxa").unwrap_err().to_string();
        assert!(
            error.starts_with("line 2, column 3: the character 'x' is not among the 4"),
            "{error}"
        );
        let tokenizer = tokenizer.with_unknown();
        assert_eq!(tokenizer.vocabulary(), 5);
        assert_eq!(tokenizer.encode("axb").unwrap(), [1, 4, 2]);
        assert_eq!(tokenizer.decode(&[1, 4, 2]).unwrap(), "a\u{fffd}b");
        let error = tokenizer.decode(&[1, 5]).unwrap_err().to_string();
        assert_eq!(error, "5 is no token; the vocabulary has 5, counted from 0");
    }

    #[test]
    fn bytes_take_any_text_and_give_any_bytes() {
        let text = "naïve 🜁";
        let tokens = Bytes.encode(text).unwrap();
        assert_eq!(tokens.len(), text.len());
        assert_eq!(Bytes.decode(&tokens).unwrap(), text);
        assert_eq!(Bytes.decode(&tokens[..3]).unwrap(), "na\u{fffd}");
        assert_eq!(Bytes.bytes(&[0, 255]).unwrap(), [0, 255]);
        let error = Bytes.decode(&[256]).unwrap_err().to_string();
        assert_eq!(
            error,
            "256 is no token; the vocabulary has 256, counted from 0"
        );
    }

    #[test]
    fn a_vocabulary_is_saved_as_json_and_loaded() {
        let path = scratch("saved.json");
        for tokenizer in [
            Characters::of("a\"b\\\n\u{1f701}é"),
            Characters::of("ab").with_unknown(),
            Characters::of(""),
        ] {
            tokenizer.save(&path).unwrap();
            assert_eq!(Characters::load(&path).unwrap(), tokenizer);
        }
        fs::remove_file(&path).unwrap();
        let error = Characters::load(&path).unwrap_err().to_string();
        assert!(error.contains("saved.json"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_vocabulary_is_refused_with_what_is_wrong() {
        let path = scratch("bad.json");
        for (json, wanted) in [
            (
                r#"{"kind":"characters","characters":"ba","unknown":false}"#,
                "'b' stands before 'a'",
            ),
            (
                r#"{"kind":"characters","characters":"aa","unknown":false}"#,
                "'a' stands before 'a'",
            ),
            (
                r#"{"kind":"words","characters":"ab","unknown":false}"#,
                "unknown variant `words`",
            ),
            (
                r#"{"kind":"characters","characters":"ab"}"#,
                "missing field `unknown`",
            ),
            (
                r#"{"kind":"characters","characters":"ab","unknown":false,"x":1}"#,
                "unknown field `x`",
            ),
            (r#""ab""#, "invalid type"),
            ("", "EOF"),
        ] {
            fs::write(&path, json).unwrap();
            let error = Characters::load(&path).unwrap_err().to_string();
            assert!(
                error.contains("bad.json holds no vocabulary of this kind"),
                "{error}"
            );
            assert!(error.contains(wanted), "{error}\nshould contain {wanted}");
        }
        fs::remove_file(path).unwrap();
    }
}
