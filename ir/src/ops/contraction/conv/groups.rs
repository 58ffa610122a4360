//! Groups of a convolution: independent convolutions of parts of the tensors.
//!
//! A group is one index more that all three tensors share, as a batch axis of `dot`; it has no axis of its own but is the slower part of
//! one of two axes of each tensor. Feature groups, the common ones, lie in the operand's features, the kernel's output features and the
//! result's features. StableHLO's batch groups lie in the operand's examples instead. The adjoints of either need other places still.

use crate::attributes::{AttributeError, Attributes, Value};
use crate::diagnostic::{Kind, Refusal};
use serde::{Deserialize, Serialize};

/// One of the two axes of operand or result that are not spatial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DataRole {
    /// Examples.
    Batch,
    /// Features.
    Feature,
}

impl DataRole {
    /// The other one.
    pub fn swapped(self) -> Self {
        match self {
            DataRole::Batch => DataRole::Feature,
            DataRole::Feature => DataRole::Batch,
        }
    }

    /// What the axis is of a tensor that becomes the kernel of its adjoint, which contracts the examples.
    pub(super) fn as_kernel(self) -> KernelRole {
        match self {
            DataRole::Batch => KernelRole::Input,
            DataRole::Feature => KernelRole::Output,
        }
    }

    fn letter(self) -> char {
        match self {
            DataRole::Batch => 'b',
            DataRole::Feature => 'f',
        }
    }

    fn of(letter: &str) -> Option<Self> {
        match letter {
            "b" => Some(DataRole::Batch),
            "f" => Some(DataRole::Feature),
            _ => None,
        }
    }
}

/// One of the two axes of the kernel that are not spatial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KernelRole {
    /// Input features.
    Input,
    /// Output features.
    Output,
}

impl KernelRole {
    /// The other one.
    pub fn swapped(self) -> Self {
        match self {
            KernelRole::Input => KernelRole::Output,
            KernelRole::Output => KernelRole::Input,
        }
    }

    fn letter(self) -> char {
        match self {
            KernelRole::Input => 'i',
            KernelRole::Output => 'o',
        }
    }

    fn of(letter: &str) -> Option<Self> {
        match letter {
            "i" => Some(KernelRole::Input),
            "o" => Some(KernelRole::Output),
            _ => None,
        }
    }
}

/// How many groups there are, and which axis of each tensor they divide. Index `j` of a divided axis of extent `count * size` belongs to
/// group `j / size`; within its group it is `j % size`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConvGroups {
    /// The number of groups, at least 1. With 1 the places below mean nothing and are the default.
    pub count: i64,
    /// The divided axis of the operand.
    pub lhs: DataRole,
    /// The divided axis of the kernel.
    pub rhs: KernelRole,
    /// The divided axis of the result.
    pub out: DataRole,
}

impl Default for ConvGroups {
    /// One group.
    fn default() -> Self {
        Self::features(1)
    }
}

impl ConvGroups {
    /// `count` groups of features: StableHLO's `feature_group_count`. As many as input features make a depthwise convolution.
    pub fn features(count: i64) -> Self {
        Self {
            count,
            lhs: DataRole::Feature,
            rhs: KernelRole::Output,
            out: DataRole::Feature,
        }
    }

    /// `count` groups of examples, each with its own part of the kernel: StableHLO's `batch_group_count`.
    pub fn batches(count: i64) -> Self {
        Self {
            lhs: DataRole::Batch,
            ..Self::features(count)
        }
    }

    /// The same groups; of one group there is one form.
    pub(super) fn normal(self) -> Self {
        if self.count == 1 {
            Self::default()
        } else {
            self
        }
    }

    pub(super) fn check(&self) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal::new(Kind::Attribute, format!("`conv` in {why}")));
        if self.count < 1 {
            return refuse(format!("{} groups", self.count))
                .map_err(|r| r.help("1 is a convolution without groups"));
        }
        if self.count == 1 && *self != Self::default() {
            return refuse(format!("one group that divides {}", self.places()))
                .map_err(|r| r.help("one group divides nothing; leave the places out"));
        }
        Ok(())
    }

    /// The divided axes as the text spells them: `f_o->f`.
    fn places(&self) -> String {
        let (lhs, rhs, out) = (self.lhs.letter(), self.rhs.letter(), self.out.letter());
        format!("{lhs}_{rhs}->{out}")
    }

    pub(super) fn parse(attributes: &mut Attributes) -> Result<Self, AttributeError> {
        let Some(count) = attributes.optional_word("groups")? else {
            return Ok(Self::default());
        };
        let count = count.parse().map_err(|_| AttributeError {
            name: "groups".into(),
            expected: "a number".into(),
        })?;
        let Some(places) = attributes.optional_word("grouped")? else {
            return Ok(Self::features(count));
        };
        let read = || {
            let (operands, out) = places.split_once("->")?;
            let (lhs, rhs) = operands.split_once('_')?;
            Some(Self {
                count,
                lhs: DataRole::of(lhs)?,
                rhs: KernelRole::of(rhs)?,
                out: DataRole::of(out)?,
            })
        };
        read().ok_or_else(|| AttributeError {
            name: "grouped".into(),
            expected: "the divided axes of operand, kernel and result, such as f_o->f".into(),
        })
    }

    pub(super) fn print(&self, attributes: Attributes) -> Attributes {
        if *self == Self::default() {
            return attributes;
        }
        let attributes = attributes.with("groups", Value::Word(self.count.to_string()));
        if *self == Self::features(self.count) {
            return attributes;
        }
        attributes.with("grouped", Value::Word(self.places()))
    }
}
