//! Tokenizers of the `tokenizers` crate, as models of Hugging Face come with: words and pieces of words.
//!
//! Only the file `tokenizer.json` is read, and nothing is fetched or trained. Special tokens are neither added nor left out: a text gives
//! the tokens that it consists of, and tokens give their text.

use super::{Tokenizer, TokenizerError};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A tokenizer from a `tokenizer.json`. Needs the cargo feature `tokenizers`.
#[derive(Clone, Debug)]
pub struct HuggingFace {
    tokenizer: tokenizers::Tokenizer,
}

impl HuggingFace {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Io`], and [`TokenizerError::Malformed`] where it is no such file.
    pub fn load(path: &Path) -> Result<Self, TokenizerError> {
        let json = fs::read(path).map_err(|source| TokenizerError::Io {
            path: path.to_owned(),
            source,
        })?;
        let malformed = |what: String| TokenizerError::Malformed {
            path: path.to_owned(),
            what,
        };
        // The library panics where a value of some of its parts cannot be read.
        serde_json::from_slice::<serde_json::Value>(&json)
            .map_err(|error| malformed(error.to_string()))?;
        let tokenizer = guarded(|| tokenizers::Tokenizer::from_bytes(json)).map_err(malformed)?;
        Ok(Self { tokenizer })
    }
}

/// What the library gives. It panics on some files that are not as it expects them, which is an error like any other here; nothing that it
/// left half done is used.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_panic) => Err("the library `tokenizers` gave up on it".into()),
    }
}

impl Tokenizer for HuggingFace {
    /// One more than the largest token: files may leave numbers out.
    fn vocabulary(&self) -> usize {
        let tokens = self.tokenizer.get_vocab(true);
        tokens
            .values()
            .max()
            .map_or(0, |largest| *largest as usize + 1)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, false));
        let encoding = encoding.map_err(TokenizerError::Library)?;
        Ok(encoding.get_ids().to_vec())
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        // The library leaves out what is no token.
        let stranger = tokens
            .iter()
            .find(|token| self.tokenizer.id_to_token(**token).is_none());
        if let Some(token) = stranger {
            return Err(TokenizerError::Token {
                token: *token,
                vocabulary: self.vocabulary(),
            });
        }
        guarded(|| self.tokenizer.decode(tokens, false)).map_err(TokenizerError::Library)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as GPT-2 spells them, with its splitting into words, and the merges `t h`, `th e` and `Ġ the`.
    const GPT2_IN_SMALL: &str = r#"{
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{"id": 11, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": {"t": 0, "h": 1, "e": 2, "Ġ": 3, "a": 4, "Ã": 5, "©": 6, "th": 7, "the": 8, "Ġthe": 9, "Ċ": 10},
            "merges": ["t h", "th e", "Ġ the"]}
    }"#;

    fn scratch(name: &str, content: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("kiln-{}-{name}", std::process::id()));
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn pieces_of_words_are_found_and_come_back() {
        let path = scratch("tokenizer.json", GPT2_IN_SMALL);
        let tokenizer = HuggingFace::load(&path).unwrap();
        fs::remove_file(path).unwrap();
        assert_eq!(tokenizer.vocabulary(), 12);
        // Two spaces before a word: the splitting leaves the second one to the word, for which it looks ahead.
        let text = "the the  theat\né<|endoftext|>";
        let tokens = tokenizer.encode(text).unwrap();
        assert_eq!(tokens, [8, 9, 3, 9, 4, 0, 10, 5, 6, 11]);
        assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        let error = tokenizer.decode(&[8, 12]).unwrap_err().to_string();
        assert_eq!(
            error,
            "12 is no token; the vocabulary has 12, counted from 0"
        );
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_refused() {
        let path = scratch("bad.json", "{\"version\": \"1.0\"}");
        let error = HuggingFace::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("bad.json holds no vocabulary of this kind: "),
            "{error}"
        );
        // Found by fuzzing: the library panics within a decoder that is no JSON.
        let broken = GPT2_IN_SMALL.replace(r#""decoder": {"type": "#, r#""decoder": {"typ:"#);
        fs::write(&path, broken).unwrap();
        let error = HuggingFace::load(&path).unwrap_err().to_string();
        assert!(error.contains("expected `:` at line 6"), "{error}");
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            HuggingFace::load(&path),
            Err(TokenizerError::Io { .. })
        ));
    }
}
