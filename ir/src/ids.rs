//! Index newtypes. The `Display` of each is its spelling in the text forms, so that a dump and a message never disagree.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u32);

        impl $name {
            /// The index `i`. Graphs and programs are limited to 2^32 - 1 entries of a kind; larger ones saturate and fail
            /// verification.
            pub fn new(i: usize) -> Self {
                Self(u32::try_from(i).unwrap_or(u32::MAX))
            }

            /// The position in the table that this index names.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

index!(
    /// A node of a [`Graph`](crate::Graph), which is also the value that it computes.
    NodeId,
    "%"
);
index!(
    /// An axis of a tensor, counted from the outermost.
    Axis,
    ""
);
index!(
    /// A buffer of a `Program`.
    BufferId,
    "$"
);
index!(
    /// A compiled kernel of a `Program`.
    KernelId,
    "k"
);
