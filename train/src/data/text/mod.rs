//! Texts: tokens for characters, bytes or words, windows over them, and what a model of counts makes of them.
//!
//! ```
//! use kiln_train::data::Column;
//! use kiln_train::data::text::{Characters, Tokenizer, Windows};
//!
//! let text = "to be, or not to be: that is the question";
//! let tokenizer = Characters::of(text);
//! let tokens = tokenizer.encode(text)?;
//! let (train, validation) = Column::new("tokens", [tokens.len()], tokens)?.split_end(0.2)?;
//! let mut windows = Windows::new(&train, 8, 4)?.random(42, 100)?; // 100 batches of 4 windows of 8 tokens
//! while let Some(batch) = windows.next_batch() {
//!     let (x, y) = (batch.values::<u32>("x")?, batch.values::<u32>("y")?);
//!     assert_eq!(x[1..8], y[..7]); // what follows each token
//! }
//! # assert_eq!(validation.examples(), 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod counts;
#[cfg(feature = "tokenizers")]
mod hugging_face;
mod tokenizer;
mod windows;

pub use counts::{Counts, CountsError, bits};
#[cfg(feature = "tokenizers")]
pub use hugging_face::HuggingFace;
pub use tokenizer::{Bytes, Characters, Tokenizer, TokenizerError};
pub use windows::Windows;
