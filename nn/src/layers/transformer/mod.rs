//! Transformer blocks, and the feed-forward layers inside them.

mod block;
mod feed_forward;

pub use block::{BlockInputs, TransformerBlock};
pub use feed_forward::{FeedForward, SwiGlu};
