//! The EVEX instructions that lanes need, a row each: name, opcode map, prefix, opcode, length, and what a short displacement counts in.

/// The opcode map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    M0F = 1,
    M0F38 = 2,
    M0F3A = 3,
}

/// The implied prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    None = 0,
    P66 = 1,
    PF3 = 2,
    PF2 = 3,
}

/// How wide the vectors of an instruction are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    L128 = 0,
    L512 = 2,
}

/// An EVEX instruction but for its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::emit::wide) struct Row {
    pub(in crate::emit::wide) name: &'static str,
    pub(super) map: Map,
    pub(super) prefix: Prefix,
    pub(super) opcode: u8,
    pub(super) length: Length,
    /// What a short displacement counts in, in bytes.
    pub(super) unit: u8,
}

macro_rules! rows {
    ($($constant:ident = $name:literal $map:ident $prefix:ident $opcode:literal $length:ident $unit:literal;)+) => {
        $(pub(in crate::emit::wide) const $constant: Row = Row {
            name: $name,
            map: Map::$map,
            prefix: Prefix::$prefix,
            opcode: $opcode,
            length: Length::$length,
            unit: $unit,
        };)+

        #[cfg(test)]
        pub(in crate::emit::wide) const ROWS: &[Row] = &[$($constant),+];
    };
}

rows! {
    ADD = "vaddps" M0F None 0x58 L512 64;
    MUL = "vmulps" M0F None 0x59 L512 64;
    SUB = "vsubps" M0F None 0x5c L512 64;
    MIN = "vminps" M0F None 0x5d L512 64;
    DIV = "vdivps" M0F None 0x5e L512 64;
    MAX = "vmaxps" M0F None 0x5f L512 64;
    SQRT = "vsqrtps" M0F None 0x51 L512 64;
    FMA132 = "vfmadd132ps" M0F38 P66 0x98 L512 64;
    FMA213 = "vfmadd213ps" M0F38 P66 0xa8 L512 64;
    FMA231 = "vfmadd231ps" M0F38 P66 0xb8 L512 64;
    INT_ADD = "vpaddd" M0F P66 0xfe L512 64;
    INT_SUB = "vpsubd" M0F P66 0xfa L512 64;
    INT_MUL = "vpmulld" M0F38 P66 0x40 L512 64;
    SIGNED_MIN = "vpminsd" M0F38 P66 0x39 L512 64;
    UNSIGNED_MIN = "vpminud" M0F38 P66 0x3b L512 64;
    SIGNED_MAX = "vpmaxsd" M0F38 P66 0x3d L512 64;
    UNSIGNED_MAX = "vpmaxud" M0F38 P66 0x3f L512 64;
    INT_ABS = "vpabsd" M0F38 P66 0x1e L512 64;
    AND = "vpandd" M0F P66 0xdb L512 64;
    OR = "vpord" M0F P66 0xeb L512 64;
    XOR = "vpxord" M0F P66 0xef L512 64;
    SHIFT_LEFT = "vpsllvd" M0F38 P66 0x47 L512 64;
    SHIFT_RIGHT = "vpsrlvd" M0F38 P66 0x45 L512 64;
    SHIFT_RIGHT_SIGNED = "vpsravd" M0F38 P66 0x46 L512 64;
    SHIFT_BY = "shift" M0F P66 0x72 L512 64;
    FROM_SIGNED = "vcvtdq2ps" M0F None 0x5b L512 64;
    FROM_UNSIGNED = "vcvtudq2ps" M0F PF2 0x7a L512 64;
    SCALE = "vscalefps" M0F38 P66 0x2c L512 64;
    RANGE = "vrangeps" M0F3A P66 0x50 L512 64;
    TERNARY = "vpternlogd" M0F3A P66 0x25 L512 64;
    ROUND = "vrndscaleps" M0F3A P66 0x08 L512 64;
    COMPARE = "vcmpps" M0F None 0xc2 L512 64;
    COMPARE_SIGNED = "vpcmpd" M0F3A P66 0x1f L512 64;
    COMPARE_UNSIGNED = "vpcmpud" M0F3A P66 0x1e L512 64;
    TEST = "vptestmd" M0F38 P66 0x27 L512 64;
    BLEND = "vblendmps" M0F38 P66 0x65 L512 64;
    LOAD = "vmovups" M0F None 0x10 L512 64;
    STORE = "vmovups" M0F None 0x11 L512 64;
    LOAD_FOUR = "vmovups" M0F None 0x10 L128 16;
    MOVE = "vmovaps" M0F None 0x28 L512 64;
    BROADCAST = "vbroadcastss" M0F38 P66 0x18 L512 4;
    BROADCAST_COUNTER = "vpbroadcastd" M0F38 P66 0x7c L512 4;
    LOAD_SIGNED_BYTES = "vpmovsxbd" M0F38 P66 0x21 L512 16;
    LOAD_BYTES = "vpmovzxbd" M0F38 P66 0x31 L512 16;
    LOAD_SIGNED_SHORTS = "vpmovsxwd" M0F38 P66 0x23 L512 32;
    LOAD_SHORTS = "vpmovzxwd" M0F38 P66 0x33 L512 32;
    STORE_BYTES = "vpmovdb" M0F38 PF3 0x31 L512 16;
    STORE_SHORTS = "vpmovdw" M0F38 PF3 0x33 L512 32;
}
