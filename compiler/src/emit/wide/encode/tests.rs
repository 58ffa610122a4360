//! What is encoded is read back by a decoder that is not ours.

use super::row::*;
use super::*;
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

/// The instructions of some code, in Intel's syntax.
fn decoded(bytes: &[u8]) -> Vec<String> {
    let mut formatter = IntelFormatter::new();
    let mut lines = Vec::new();
    for instruction in Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE) {
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        lines.push(line);
    }
    lines
}

fn one(write: impl FnOnce(&mut Assembler)) -> String {
    let mut assembler = Assembler::default();
    write(&mut assembler);
    let lines = decoded(&assembler.bytes);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.concat()
}

fn lanes(row: Row, reg: u8, second: u8, place: Place) -> Instruction {
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

/// Every row is the instruction of its name, with registers from all four eights.
#[test]
fn rows_are_what_their_names_say() {
    for row in ROWS {
        // One has a number in the place of a register, the other the counter.
        if [SHIFT_BY, BROADCAST_COUNTER].contains(row) {
            continue;
        }
        let immediate = [ROUND, RANGE, TERNARY].contains(row)
            || [COMPARE, COMPARE_SIGNED, COMPARE_UNSIGNED].contains(row);
        let memory = [LOAD, STORE, LOAD_FOUR, LOAD_BYTES, STORE_BYTES].contains(row);
        let unary = memory
            || [
                SQRT,
                ROUND,
                FROM_SIGNED,
                FROM_UNSIGNED,
                INT_ABS,
                MOVE,
                BROADCAST,
            ]
            .contains(row)
            || [
                LOAD_SIGNED_BYTES,
                LOAD_SIGNED_SHORTS,
                LOAD_SHORTS,
                STORE_SHORTS,
            ]
            .contains(row);
        let to_mask = [COMPARE, COMPARE_SIGNED, COMPARE_UNSIGNED, TEST].contains(row);
        for (reg, second, third) in [(1, 2, 3), (7, 10, 17), (5, 29, 11), (3, 0, 31)] {
            let reg = if to_mask { reg } else { reg * 4 };
            let second = if unary { 0 } else { second };
            let Instruction::Lanes { place, .. } = lanes(*row, reg, second, Place::Register(third))
            else {
                unreachable!()
            };
            let line = one(|a| {
                a.instruction(&Instruction::Lanes {
                    row: *row,
                    reg,
                    second,
                    place,
                    mask: 0,
                    zeroing: false,
                    immediate: immediate.then_some(7),
                });
            });
            let name = line.split(' ').next().unwrap();
            // Comparisons by an immediate have names of their own.
            let stem = row.name.trim_end_matches("ps").trim_end_matches('d');
            assert!(
                name == row.name || (immediate && name.starts_with(stem.trim_end_matches('u'))),
                "{line} for {}",
                row.name
            );
            let has = |register: String| line.split([' ', ',']).any(|part| part == register);
            let file = if to_mask { "k" } else { "mm" };
            assert!(line.contains(&format!("{file}{reg}")), "{line}");
            assert!(line.contains(&format!("mm{third}")), "{line}");
            if !unary {
                assert!(has(format!("zmm{second}")), "{line}");
            }
        }
    }
}

#[test]
fn operands_in_memory() {
    let mut a = Assembler::default();
    a.instruction(&lanes(ADD, 1, 2, Place::Uniform(16)));
    a.instruction(&lanes(ADD, 1, 2, Place::Uniform(10_000)));
    a.instruction(&lanes(STORE, 30, 0, Place::Block(128)));
    a.instruction(&lanes(LOAD, 17, 0, Place::Stack(64)));
    a.instruction(&lanes(LOAD_FOUR, 17, 0, Place::Stack(80)));
    a.instruction(&lanes(LOAD, 9, 0, Place::Element(0.into(), Element::Word)));
    a.instruction(&lanes(LOAD, 9, 0, Place::Element(7.into(), Element::Word)));
    a.instruction(&lanes(
        LOAD_BYTES,
        9,
        0,
        Place::Element(8.into(), Element::Byte),
    ));
    a.ahead = 48;
    a.instruction(&lanes(LOAD, 9, 0, Place::Element(10.into(), Element::Word)));
    a.instruction(&lanes(
        STORE_SHORTS,
        9,
        0,
        Place::Element(1.into(), Element::Short),
    ));
    a.instruction(&lanes(BROADCAST, 20, 0, Place::Uniform(4)));
    for behind in [16, -1, 1 << 20] {
        let at = At { pointer: 9, behind };
        a.instruction(&lanes(LOAD, 9, 0, Place::Element(at, Element::Word)));
    }
    a.instruction(&lanes(BROADCAST_COUNTER, 20, 0, Place::Counter));
    for pointer in [1, 9] {
        let element = Element::Word;
        a.instruction(&Instruction::Prefetch { pointer, element });
    }
    assert_eq!(
        decoded(&a.bytes),
        [
            "vaddps zmm1,zmm2,[rdi+10h]{1to16}",
            "vaddps zmm1,zmm2,[rdi+2710h]{1to16}",
            "vmovups [rdi+80h],zmm30",
            "vmovups zmm17,[rsp+40h]",
            "vmovups xmm17,[rsp+50h]",
            "vmovups zmm9,[rax+rcx*4]",
            "vmovups zmm9,[r12+rcx*4]",
            "vpmovzxbd zmm9,[r13+rcx]",
            "vmovups zmm9,[r15+rcx*4+0C0h]",
            "vpmovdw [rdx+rcx*2+60h],zmm9",
            "vbroadcastss zmm20,[rdi+4]",
            "vmovups zmm9,[r14+rcx*4+100h]",
            "vmovups zmm9,[r14+rcx*4+0BCh]",
            "vmovups zmm9,[r14+rcx*4+4000C0h]",
            "vpbroadcastd zmm20,ecx",
            "prefetcht0 [rdx+rcx*4+8C0h]",
            "prefetcht0 [r14+rcx*4+8C0h]",
        ]
    );
}

#[test]
fn constants_lie_behind_the_code() {
    let mut a = Assembler::default();
    a.instruction(&lanes(MUL, 3, 4, Place::Word(0x3f80_0000)));
    a.instruction(&Instruction::Lanes {
        row: COMPARE,
        reg: 2,
        second: 3,
        place: Place::Word(0x4000_0000),
        mask: 0,
        zeroing: false,
        immediate: Some(0x11),
    });
    a.instruction(&lanes(MUL, 3, 4, Place::Word(0x3f80_0000)));
    let bytes = a.finish();
    let code = bytes.len() - 8;
    assert_eq!(bytes[code..], [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]);
    let lines = decoded(&bytes[..code]);
    assert_eq!(lines[0], format!("vmulps zmm3,zmm4,[{code:X}h]{{1to16}}"));
    assert_eq!(
        lines[1],
        format!("vcmplt_oqps k2,zmm3,[{:X}h]{{1to16}}", code + 4)
    );
    assert_eq!(lines[2], lines[0]);
}

#[test]
fn masks_and_shifts() {
    let masked = |mask, zeroing| Instruction::Lanes {
        row: LOAD,
        reg: 8,
        second: 0,
        place: Place::Element(0.into(), Element::Word),
        mask,
        zeroing,
        immediate: None,
    };
    let shift = |field, by| Instruction::Lanes {
        row: SHIFT_BY,
        reg: field,
        second: 25,
        place: Place::Register(18),
        mask: 0,
        zeroing: false,
        immediate: Some(by),
    };
    let masks = |op| Instruction::Masks {
        op,
        reg: 1,
        second: 2,
        third: 3,
    };
    let mut a = Assembler::default();
    a.instruction(&masked(1, true));
    a.instruction(&masked(7, false));
    a.instruction(&shift(6, 23));
    a.instruction(&shift(2, 1));
    for op in [
        MaskOp::And,
        MaskOp::Or,
        MaskOp::Xor,
        MaskOp::AndNot,
        MaskOp::Not,
    ] {
        a.instruction(&masks(op));
    }
    a.instruction(&Instruction::SaveMask { reg: 5, stack: 192 });
    a.instruction(&Instruction::RestoreMask { reg: 5, stack: 192 });
    a.mask_from(1, RSI);
    a.shift_mask(3, 1, 12);
    assert_eq!(
        decoded(&a.bytes),
        [
            "vmovups zmm8{k1}{z},[rax+rcx*4]",
            "vmovups zmm8{k7},[rax+rcx*4]",
            "vpslld zmm25,zmm18,17h",
            "vpsrld zmm25,zmm18,1",
            "kandw k1,k2,k3",
            "korw k1,k2,k3",
            "kxorw k1,k2,k3",
            "kandnw k1,k2,k3",
            "knotw k1,k3",
            "kmovw [rsp+0C0h],k5",
            "kmovw k5,[rsp+0C0h]",
            "kmovw k1,esi",
            "kshiftrw k3,k1,0Ch",
        ]
    );
}

#[test]
fn scalar_instructions() {
    let mut a = Assembler::default();
    a.push(RBP);
    a.push(Scalar(12));
    a.copy(RBP, RSP);
    a.copy(Scalar(9), Scalar(3));
    a.load(Scalar(2), 8);
    a.load(Scalar(15), 264);
    a.add(RSP, -64);
    a.align(RSP, -64);
    a.add_from(Scalar(13), 24);
    a.subtract_in(0, RSI);
    a.least(RSI, 0);
    a.subtract(RSI, RCX);
    a.compare(RCX, RSI);
    a.set(RCX, 0);
    a.pop(Scalar(12));
    a.pop(RBP);
    let again = a.label();
    a.place(again);
    a.jump(Condition::LessEqual, again);
    a.leave();
    let code = a.bytes.len();
    let lines = decoded(&a.finish()[..code]);
    assert_eq!(
        lines[..17],
        [
            "push rbp",
            "push r12",
            "mov rbp,rsp",
            "mov r9,rbx",
            "mov rdx,[rdi+8]",
            "mov r15,[rdi+108h]",
            "add rsp,0FFFFFFFFFFFFFFC0h",
            "and rsp,0FFFFFFFFFFFFFFC0h",
            "add r13,[rdi+18h]",
            "sub [rdi],rsi",
            "cmp rsi,[rdi]",
            "cmovg rsi,[rdi]",
            "sub rsi,rcx",
            "cmp rcx,rsi",
            "mov ecx,0",
            "pop r12",
            "pop rbp",
        ]
    );
    assert!(lines[17].starts_with("jle "), "{lines:?}");
    assert_eq!(lines[18..], ["vzeroupper", "ret"]);
    let bits = one(|a| a.low_bits(RSI, RSI));
    assert!(
        bits.starts_with("bzhi esi,[") && bits.ends_with(",esi"),
        "{bits}"
    );
}
