//! Which instruction an op of a tape is.

use super::encode::row::{self, Row};
use super::encode::{Instruction, Place};
use super::tape::Op;

pub(super) fn lanes(row: Row, reg: u8, second: u8, place: Place) -> Instruction {
    Instruction::Lanes {
        row,
        reg,
        second,
        place,
        mask: 0,
        zeroing: false,
        immediate: None,
    }
}

pub(super) fn moved(reg: u8, place: Place, mask: u8, zeroing: bool) -> Instruction {
    let row = match place {
        Place::Register(_) => row::MOVE,
        Place::Counter => row::BROADCAST_COUNTER,
        Place::Word(_) | Place::Uniform(_) => row::BROADCAST,
        Place::Block(_) | Place::Element(..) | Place::Stack(_) | Place::Counts => row::LOAD,
    };
    Instruction::Lanes {
        row,
        reg,
        second: 0,
        place,
        mask,
        zeroing,
        immediate: None,
    }
}

pub(super) fn unary(op: Op, reg: u8, place: Place) -> Option<Instruction> {
    // A shift by an immediate has its result where others have their second operand, and a number that belongs to the opcode in its place.
    let shift = |field: u8, by: u8| Instruction::Lanes {
        row: row::SHIFT_BY,
        reg: field,
        second: reg,
        place,
        mask: 0,
        zeroing: false,
        immediate: Some(by),
    };
    Some(match op {
        Op::Sqrt => lanes(row::SQRT, reg, 0, place),
        Op::IntAbs => lanes(row::INT_ABS, reg, 0, place),
        Op::FromSigned => lanes(row::FROM_SIGNED, reg, 0, place),
        Op::FromUnsigned => lanes(row::FROM_UNSIGNED, reg, 0, place),
        Op::Round(immediate) => Instruction::Lanes {
            row: row::ROUND,
            reg,
            second: 0,
            place,
            mask: 0,
            zeroing: false,
            immediate: Some(immediate),
        },
        Op::ShiftLeftBy(by) => shift(6, by),
        Op::ShiftRightBy(by) => shift(2, by),
        _ => return None,
    })
}

pub(super) fn binary(op: Op) -> Option<(Row, Option<u8>)> {
    Some(match op {
        Op::Add => (row::ADD, None),
        Op::Sub => (row::SUB, None),
        Op::Mul => (row::MUL, None),
        Op::Div => (row::DIV, None),
        Op::Min => (row::MIN, None),
        Op::Max => (row::MAX, None),
        // Bits 0 and 1: which one; bits 2 and 3: with its own sign.
        Op::Lesser => (row::RANGE, Some(0b0100)),
        Op::Greater => (row::RANGE, Some(0b0101)),
        Op::Scale => (row::SCALE, None),
        Op::IntAdd => (row::INT_ADD, None),
        Op::IntSub => (row::INT_SUB, None),
        Op::IntMul => (row::INT_MUL, None),
        Op::SignedMin => (row::SIGNED_MIN, None),
        Op::SignedMax => (row::SIGNED_MAX, None),
        Op::UnsignedMin => (row::UNSIGNED_MIN, None),
        Op::UnsignedMax => (row::UNSIGNED_MAX, None),
        Op::And => (row::AND, None),
        Op::Or => (row::OR, None),
        Op::Xor => (row::XOR, None),
        Op::ShiftLeft => (row::SHIFT_LEFT, None),
        Op::ShiftRight => (row::SHIFT_RIGHT, None),
        Op::ShiftRightSigned => (row::SHIFT_RIGHT_SIGNED, None),
        Op::Compare(by) => (row::COMPARE, Some(by)),
        Op::CompareSigned(by) => (row::COMPARE_SIGNED, Some(by)),
        Op::CompareUnsigned(by) => (row::COMPARE_UNSIGNED, Some(by)),
        Op::Test => (row::TEST, None),
        _ => return None,
    })
}

/// Whether the operands may change places. Of two NaN the sum is the first, but which NaN a NaN is carries no meaning.
pub(super) fn is_symmetric(op: Op) -> bool {
    matches!(
        op,
        Op::Add
            | Op::Mul
            | Op::IntAdd
            | Op::IntMul
            | Op::And
            | Op::Or
            | Op::Xor
            | Op::SignedMin
            | Op::SignedMax
            | Op::UnsignedMin
            | Op::UnsignedMax
            | Op::Test
    )
}
