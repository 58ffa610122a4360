//! Tiles of bf16 products on AMX: sixteen rows by sixteen lanes in a register, and thirty-two by thirty-two in four of them.
//!
//! The standard library has no stable intrinsics for it, so a tile's loop is written in assembly. Everything else is AVX-512, which all
//! machines with AMX have.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Rows, or lanes, of a register.
pub(super) const SIDE: usize = 16;

/// Depths of a chunk: the elements of a row of a register of bf16.
pub(super) const CHUNK: usize = super::CHUNK;

/// The bytes of a register.
pub(super) const TILE: usize = 1024;

/// The bytes of a chunk of one side: three parts of two registers.
pub(super) const CHUNK_BYTES: usize = 6 * TILE;

/// The number of `arch_prctl` among the system calls of Linux on x86-64.
const ARCH_PRCTL: isize = 158;
/// Its `ARCH_REQ_XCOMP_PERM`, which asks for the right to a part of the register state (the kernel's `Documentation/arch/x86/xstate.rst`).
const REQUEST_PERMISSION: usize = 0x1023;
/// The part that the tiles' data is.
const TILE_DATA: usize = 18;

/// Whether this machine multiplies bf16 in tiles and the system lets this process do so; asked once.
pub(super) fn detected() -> bool {
    static DETECTED: OnceLock<bool> = OnceLock::new();
    *DETECTED.get_or_init(|| has_tiles() && may_use_tiles())
}

/// Whether processor and system know tiles of bf16 and what packing needs.
fn has_tiles() -> bool {
    let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma");
    if !avx512 || __cpuid(0).eax < 7 {
        return false;
    }
    // CPUID leaf 7: bit 22 of EDX is AMX-BF16, bit 24 AMX-TILE (Intel SDM, volume 2A).
    let features = __cpuid_count(7, 0).edx;
    // SAFETY: AVX-512 was detected, so XGETBV is there and allowed.
    let enabled = unsafe { _xgetbv(0) };
    let has = |bits: u32, mask: u32| bits & mask == mask;
    // Bits 17 and 18 of XCR0 are the tiles' configuration and data.
    has(features, 1 << 22 | 1 << 24) && enabled >> 17 & 3 == 3
}

/// Asks the system for the right to the tiles, which holds for all threads of the process.
fn may_use_tiles() -> bool {
    let mut result = ARCH_PRCTL;
    // SAFETY: a system call that touches no memory of the process; RCX and R11 are what the instruction overwrites.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// What LDTILECFG reads (Intel SDM): palette 1, and the rows and bytes of a row of each register.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: Config = {
    let mut config = Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes: [0; 16],
        rows: [0; 16],
    };
    let mut register = 0;
    while register < 8 {
        config.bytes[register] = 64;
        config.rows[register] = 16;
        register += 1;
    }
    config
};

/// The tiles of this thread while it lives: eight registers of sixteen rows of 64 bytes.
pub(super) struct Registers(());

impl Registers {
    /// # Safety
    /// The machine has been [`detected`], and no other `Registers` of this thread lives.
    pub(super) unsafe fn new() -> Registers {
        // SAFETY: the configuration is a valid one; the registers belong to nobody else.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, readonly)) }
        Registers(())
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: the registers were configured by `new`. Without them threads are switched faster.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

/// What a tile multiplies, chunk by chunk.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// The rows' chunks, [`CHUNK_BYTES`] each.
    pub(super) rows: *const u8,
    /// The lanes' chunks.
    pub(super) lanes: *const u8,
    /// Chunks, above 0.
    pub(super) chunks: usize,
    /// The sums, written: lanes follow one another.
    pub(super) sums: *mut f32,
    /// From a row of the sums to the next, in bytes.
    pub(super) stride: isize,
    /// Whether what the sums hold is added to, rather than 0.
    pub(super) add: bool,
    /// Whether the rows are the product's right side.
    pub(super) swapped: bool,
    /// What is asked for on the way.
    pub(super) ahead: Option<Ahead>,
}

/// Lines that will be packed soon: for each chunk of a tile eight pairs of them are asked for, so that they arrive between loads of the tile.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// The first pair.
    pub(super) at: *const f32,
    /// From a pair to the next, in bytes.
    pub(super) stride: isize,
}

/// The loop of a tile: its registers' names by the parts that they hold.
///
/// Sums are in tmm0 (and tmm1 of the second lanes, tmm2 and tmm3 of the second rows), rows in tmm4 and tmm5, lanes in tmm6 and tmm7. From one
/// product of parts to the next one side stays where it is. Behind the first four of them come two pairs of lines each, if any are asked for.
macro_rules! tile_loop {
    ($t:ident, $ahead:ident, $clear:literal, $load:literal, $store:literal, rows $rows:tt, lanes $lanes:tt, $multiply:literal, $order:tt, $ask:literal) => {
        asm!(
            $clear,
            "test {add}, {add}",
            "jz 2f",
            $load,
            "2:",
            tile_loop!(@steps $rows, $lanes, $multiply, $order, $ask),
            "add {x}, 6144",
            "add {y}, 6144",
            "dec {chunks}",
            "jnz 2b",
            $store,
            x = inout(reg) $t.rows => _,
            y = inout(reg) $t.lanes => _,
            chunks = inout(reg) $t.chunks => _,
            c = in(reg) $t.sums,
            d = in(reg) $t.sums.wrapping_byte_offset(SIDE as isize * $t.stride),
            stride = in(reg) $t.stride,
            line = in(reg) 64_usize,
            add = in(reg) usize::from($t.add),
            ahead = inout(reg) $ahead.at => _,
            step = in(reg) $ahead.stride,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
    (@steps [$r1:literal $r2:literal $r3:literal], [$l1:literal $l2:literal $l3:literal], $multiply:literal, straight, $ask:literal) => {
        concat!(
            $r1, $l3, $multiply, $ask, $l2, $multiply, $ask, $r2, $multiply, $ask, $l1, $multiply, $ask, $r3, $multiply, $r1, $multiply
        )
    };
    (@steps [$r1:literal $r2:literal $r3:literal], [$l1:literal $l2:literal $l3:literal], $multiply:literal, swapped, $ask:literal) => {
        concat!(
            $r3, $l1, $multiply, $ask, $r2, $multiply, $ask, $l2, $multiply, $ask, $r1, $multiply, $ask, $l3, $multiply, $l1, $multiply
        )
    };
}

/// The loops of one size, for both orders, with and without something to ask for.
macro_rules! size {
    ($t:ident, $clear:literal, $load:literal, $store:literal, rows $rows:tt, lanes $lanes:tt, $multiply:literal) => {{
        const NOTHING: Ahead = Ahead {
            at: std::ptr::null(),
            stride: 0,
        };
        match ($t.swapped, $t.ahead) {
            (true, None) => tile_loop!(
                $t, NOTHING, $clear, $load, $store, rows $rows, lanes $lanes, $multiply, swapped,
                "/* {ahead} {step} */\n"
            ),
            (false, None) => tile_loop!(
                $t, NOTHING, $clear, $load, $store, rows $rows, lanes $lanes, $multiply, straight,
                "/* {ahead} {step} */\n"
            ),
            (true, Some(ahead)) => tile_loop!(
                $t, ahead, $clear, $load, $store, rows $rows, lanes $lanes, $multiply, swapped,
                "prefetcht1 [{ahead}]\nprefetcht1 [{ahead} + 64]\nadd {ahead}, {step}\nprefetcht1 [{ahead}]\nprefetcht1 [{ahead} + 64]\nadd {ahead}, {step}\n"
            ),
            (false, Some(ahead)) => tile_loop!(
                $t, ahead, $clear, $load, $store, rows $rows, lanes $lanes, $multiply, straight,
                "prefetcht1 [{ahead}]\nprefetcht1 [{ahead} + 64]\nadd {ahead}, {step}\nprefetcht1 [{ahead}]\nprefetcht1 [{ahead} + 64]\nadd {ahead}, {step}\n"
            ),
        }
    }};
}

/// `t.sums (+)= rows . lanes` for one or two registers of rows and of lanes.
///
/// # Safety
/// [`Registers`] live; as many chunks as `t` says are readable on both sides, and the sums of all registers writable (and readable if they are
/// added to), by nobody else.
#[inline]
pub(super) unsafe fn tile(t: &Tile, two_rows: bool, two_lanes: bool) {
    // SAFETY: the caller's promise; the labels of the loops are local.
    unsafe {
        match (two_rows, two_lanes) {
            (true, true) => size!(
                t,
                "tilezero tmm0\ntilezero tmm1\ntilezero tmm2\ntilezero tmm3",
                "tileloadd tmm0, [{c} + {stride}]\ntileloadd tmm1, [{c} + {stride} + 64]\ntileloadd tmm2, [{d} + {stride}]\ntileloadd tmm3, [{d} + {stride} + 64]",
                "tilestored [{c} + {stride}], tmm0\ntilestored [{c} + {stride} + 64], tmm1\ntilestored [{d} + {stride}], tmm2\ntilestored [{d} + {stride} + 64], tmm3",
                rows [
                    "tileloadd tmm4, [{x} + {line}]\ntileloadd tmm5, [{x} + {line} + 1024]\n"
                    "tileloadd tmm4, [{x} + {line} + 2048]\ntileloadd tmm5, [{x} + {line} + 3072]\n"
                    "tileloadd tmm4, [{x} + {line} + 4096]\ntileloadd tmm5, [{x} + {line} + 5120]\n"
                ],
                lanes [
                    "tileloadd tmm6, [{y} + {line}]\ntileloadd tmm7, [{y} + {line} + 1024]\n"
                    "tileloadd tmm6, [{y} + {line} + 2048]\ntileloadd tmm7, [{y} + {line} + 3072]\n"
                    "tileloadd tmm6, [{y} + {line} + 4096]\ntileloadd tmm7, [{y} + {line} + 5120]\n"
                ],
                "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm1, tmm4, tmm7\ntdpbf16ps tmm2, tmm5, tmm6\ntdpbf16ps tmm3, tmm5, tmm7\n"
            ),
            (true, false) => size!(
                t,
                "tilezero tmm0\ntilezero tmm2",
                "tileloadd tmm0, [{c} + {stride}]\ntileloadd tmm2, [{d} + {stride}]",
                "tilestored [{c} + {stride}], tmm0\ntilestored [{d} + {stride}], tmm2",
                rows [
                    "tileloadd tmm4, [{x} + {line}]\ntileloadd tmm5, [{x} + {line} + 1024]\n"
                    "tileloadd tmm4, [{x} + {line} + 2048]\ntileloadd tmm5, [{x} + {line} + 3072]\n"
                    "tileloadd tmm4, [{x} + {line} + 4096]\ntileloadd tmm5, [{x} + {line} + 5120]\n"
                ],
                lanes [
                    "tileloadd tmm6, [{y} + {line}]\n"
                    "tileloadd tmm6, [{y} + {line} + 2048]\n"
                    "tileloadd tmm6, [{y} + {line} + 4096]\n"
                ],
                "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm2, tmm5, tmm6\n"
            ),
            (false, true) => size!(
                t,
                "tilezero tmm0\ntilezero tmm1",
                "tileloadd tmm0, [{c} + {stride}]\ntileloadd tmm1, [{c} + {stride} + 64]",
                "tilestored [{c} + {stride}], tmm0\ntilestored [{c} + {stride} + 64], tmm1\n/* {d} */",
                rows [
                    "tileloadd tmm4, [{x} + {line}]\n"
                    "tileloadd tmm4, [{x} + {line} + 2048]\n"
                    "tileloadd tmm4, [{x} + {line} + 4096]\n"
                ],
                lanes [
                    "tileloadd tmm6, [{y} + {line}]\ntileloadd tmm7, [{y} + {line} + 1024]\n"
                    "tileloadd tmm6, [{y} + {line} + 2048]\ntileloadd tmm7, [{y} + {line} + 3072]\n"
                    "tileloadd tmm6, [{y} + {line} + 4096]\ntileloadd tmm7, [{y} + {line} + 5120]\n"
                ],
                "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm1, tmm4, tmm7\n"
            ),
            (false, false) => size!(
                t,
                "tilezero tmm0",
                "tileloadd tmm0, [{c} + {stride}]",
                "tilestored [{c} + {stride}], tmm0\n/* {d} */",
                rows [
                    "tileloadd tmm4, [{x} + {line}]\n"
                    "tileloadd tmm4, [{x} + {line} + 2048]\n"
                    "tileloadd tmm4, [{x} + {line} + 4096]\n"
                ],
                lanes [
                    "tileloadd tmm6, [{y} + {line}]\n"
                    "tileloadd tmm6, [{y} + {line} + 2048]\n"
                    "tileloadd tmm6, [{y} + {line} + 4096]\n"
                ],
                "tdpbf16ps tmm0, tmm4, tmm6\n"
            ),
        }
    }
}
