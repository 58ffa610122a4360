//! Products of f32 by way of bf16: [`ProductSummation::Split`](super::ProductSummation::Split).
//!
//! Every f32 is the sum of three bf16, of 8 bits each. A product of two numbers is then nine products of parts, of which the six largest
//! are taken; what the other three are worth is less than half a unit in the last place of a product on average (Henry, Tang and
//! Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations", 2019; `BF16_BF16_F32_X6` in StableHLO's
//! `dot_algorithm`). Units that multiply bf16 in tiles do sixteen times as much as vector units do in f32 and more, so that six products
//! take less than half as long as one.
//!
//! The sums are those of AMX's TDPBF16PS (Intel SDM): see [`definition`].

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod definition;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod pack;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod place;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) mod walk;

pub(super) use definition::definition;

/// The depths whose terms are summed among themselves before they are added to the sum. It is part of the definition of a product's bits.
pub(super) const CHUNK: usize = 32;

/// The parts of the left and of the right factor that are multiplied, in the order in which their sums are added.
pub(super) const PARTS: [[usize; 2]; 6] = [[0, 2], [0, 1], [1, 1], [1, 0], [2, 0], [0, 0]];

/// A number as the sum of three bf16.
#[derive(Clone, Copy)]
struct Parts([f32; 3]);

/// Whether this machine has a unit for split products; others compute them one element after the other.
pub(super) fn detected() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        amx::detected()
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    {
        false
    }
}
