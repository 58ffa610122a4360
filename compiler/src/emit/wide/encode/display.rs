//! Instructions as text, for dumps.

use super::Instruction;
use std::fmt;

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instruction::Lanes {
                row,
                reg,
                second,
                place,
                mask,
                zeroing,
                immediate,
            } => {
                write!(f, "{} {reg}", row.name)?;
                if *mask != 0 {
                    write!(f, " {{k{mask}{}}}", if *zeroing { ", z" } else { "" })?;
                }
                write!(f, ", {second}, {place:?}")?;
                match immediate {
                    Some(immediate) => write!(f, ", {immediate:#x}"),
                    None => Ok(()),
                }
            }
            Instruction::Masks {
                op,
                reg,
                second,
                third,
            } => {
                write!(f, "k{op:?} k{reg}, k{second}, k{third}")
            }
            Instruction::SaveMask { reg, stack } => write!(f, "kmovw [rsp + {stack}], k{reg}"),
            Instruction::Prefetch { pointer, element } => {
                write!(f, "prefetcht0 {element:?} ahead of pointer {pointer}")
            }
            Instruction::RestoreMask { reg, stack } => write!(f, "kmovw k{reg}, [rsp + {stack}]"),
        }
    }
}
