//! The points of a compilation that a user can look at. Each has a name, a text and a file extension; nothing else is dumped.

use std::fmt;
use std::str::FromStr;

/// A point of the compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The part of the graph that is computed without any gradient.
    Traced,
    /// The whole graph as it was given: forward, backward and updates.
    Differentiated,
    /// The graph behind the passes.
    Optimized,
    /// The groups: what is computed together, and why not more.
    Fused,
    /// The loop nests.
    Kernels,
    /// Steps, buffers and offsets.
    Program,
    /// Cranelift's IR of the kernels.
    Clif,
    /// Machine code.
    Asm,
}

impl Stage {
    /// Every stage, in the order in which a compilation reaches them.
    pub const ALL: [Stage; 8] = [
        Stage::Traced,
        Stage::Differentiated,
        Stage::Optimized,
        Stage::Fused,
        Stage::Kernels,
        Stage::Program,
        Stage::Clif,
        Stage::Asm,
    ];

    /// The name in options, variables and file names.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Traced => "traced",
            Stage::Differentiated => "differentiated",
            Stage::Optimized => "optimized",
            Stage::Fused => "fused",
            Stage::Kernels => "kernels",
            Stage::Program => "program",
            Stage::Clif => "clif",
            Stage::Asm => "asm",
        }
    }

    /// The extension of its dump files: graphs are `.kir`, which the tools read back.
    pub fn extension(self) -> &'static str {
        match self {
            Stage::Traced | Stage::Differentiated | Stage::Optimized => "kir",
            Stage::Fused | Stage::Kernels | Stage::Program => "txt",
            Stage::Clif => "clif",
            Stage::Asm => "asm",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown stage `{0}`; the stages are traced, differentiated, optimized, fused, kernels, program, clif and asm"
)]
pub struct UnknownStage(pub String);

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(text: &str) -> Result<Self, UnknownStage> {
        Stage::ALL
            .into_iter()
            .find(|s| s.name() == text)
            .ok_or_else(|| UnknownStage(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_the_message_lists_them_all() {
        let message = UnknownStage("ast".into()).to_string();
        for stage in Stage::ALL {
            assert_eq!(stage.to_string().parse(), Ok(stage));
            assert!(message.contains(stage.name()), "{stage}");
        }
        assert_eq!("Fused".parse::<Stage>(), Err(UnknownStage("Fused".into())));
    }
}
