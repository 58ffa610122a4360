//! The instruction sets that products and convolutions have machine code for.

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// The instruction sets that there are micro-kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

impl Isa {
    /// All that this machine has, the best first.
    pub(crate) fn available() -> impl Iterator<Item = Isa> {
        [
            #[cfg(target_arch = "x86_64")]
            avx512::detected().then_some(Isa::Avx512),
            #[cfg(target_arch = "x86_64")]
            avx2::detected().then_some(Isa::Avx2),
            #[cfg(target_arch = "aarch64")]
            Some(Isa::Neon),
            Some(Isa::Portable),
        ]
        .into_iter()
        .flatten()
    }
}
