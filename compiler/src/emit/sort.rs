//! Rows put in order: what the code of a [`SortRow`] asks for, and the function that it calls.
//!
//! Elements become keys that order as unsigned numbers do, beside their positions, which make every pair another one. So the order is
//! total, any sort gives the same result, and the standard library's unstable ones, which need no memory of their own, are stable here.
//! Where few are wanted of many, those are selected first.

use super::emitter::Emitter;
use super::helper::SORT;
use crate::kernel::{Index, SortRow};
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, Value};
use kiln_ir::DType;

/// What is asked for.
#[repr(C)]
struct Asked {
    row: *const u8,
    /// Aligned to its elements: scratch of the runtime.
    room: *mut u64,
    target: *mut u8,
    extent: u64,
    count: u64,
    /// The distance of the elements that are written, in elements.
    stride: u64,
    /// The position of the row's type in [`DType::ALL`], and the flags above it.
    what: u64,
}

/// The fields of [`Asked`], 8 bytes each.
const FIELDS: usize = size_of::<Asked>() / 8;
const DESCENDING: u64 = 1 << 8;
const POSITIONS: u64 = 1 << 9;

impl Emitter<'_, '_> {
    /// The call that puts a row in order.
    pub(super) fn sort_row(&mut self, sort: &SortRow) {
        let zero = Index::constant(0);
        let dtype = self.kernel.params[sort.row.index()].dtype;
        let code = DType::ALL.iter().position(|d| *d == dtype).unwrap_or(0) as i64;
        let flag = |set: bool, flag: u64| if set { flag.cast_signed() } else { 0 };
        let what = code | flag(sort.descending, DESCENDING) | flag(sort.positions, POSITIONS);
        let fields: [Value; FIELDS] = [
            self.uniform(Some(sort.row), &zero),
            self.uniform(Some(sort.room), &zero),
            self.uniform(Some(sort.target.param), &sort.target.index),
            self.size(&sort.extent, 1),
            self.size(&sort.count, 1),
            self.size(&sort.stride, 1),
            self.int(what),
        ];
        let size = size_of::<Asked>() as u32;
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, size, 3);
        let slot = self.b.create_sized_stack_slot(data);
        for (i, field) in fields.into_iter().enumerate() {
            self.b.ins().stack_store(I64, field, slot, 8 * i as i32);
        }
        let asked = self.b.ins().stack_addr(I64, slot, 0);
        let callee = self.helper(SORT);
        let signature = self.helper_signature();
        self.b.ins().call_indirect(signature, callee, &[asked]);
    }
}

/// Writes the first elements of a row in order, or their positions.
///
/// # Safety
/// The argument points to an [`Asked`]: a row of `extent` elements, fewer than 2^32 where they have less than 64 bits; room, aligned, of
/// [`SortRow::room`] words for each of them; and a target where every `stride`th element may be written, as many times as `count` and
/// `extent` say. None of them overlap.
pub(super) unsafe extern "C" fn sort_row(asked: *mut u8) {
    // SAFETY: as the caller promises; nothing is known of the alignment.
    let asked = unsafe { asked.cast::<Asked>().read_unaligned() };
    let Some(dtype) = DType::ALL.get((asked.what & 0xff) as usize) else {
        return;
    };
    // SAFETY: the row holds elements of this type, and the rest is as the caller promises. A truth value is a byte.
    unsafe {
        match dtype {
            DType::F32 => narrow::<f32>(&asked, key32),
            DType::F64 => wide::<f64>(&asked, key64),
            DType::I8 => narrow::<i8>(&asked, |x, d| signed32(i32::from(x), d)),
            DType::I16 => narrow::<i16>(&asked, |x, d| signed32(i32::from(x), d)),
            DType::I32 => narrow::<i32>(&asked, signed32),
            DType::I64 => wide::<i64>(&asked, |x, d| unsigned64(x.cast_unsigned() ^ 1 << 63, d)),
            DType::U8 | DType::Bool => narrow::<u8>(&asked, |x, d| unsigned32(u32::from(x), d)),
            DType::U16 => narrow::<u16>(&asked, |x, d| unsigned32(u32::from(x), d)),
            DType::U32 => narrow::<u32>(&asked, unsigned32),
            DType::U64 => wide::<u64>(&asked, unsigned64),
            // The verifier of kernels refuses them.
            DType::F16 | DType::BF16 => {}
        }
    }
}

fn unsigned32(x: u32, descending: bool) -> u32 {
    if descending { !x } else { x }
}

fn unsigned64(x: u64, descending: bool) -> u64 {
    if descending { !x } else { x }
}

fn signed32(x: i32, descending: bool) -> u32 {
    unsigned32(x.cast_unsigned() ^ 1 << 31, descending)
}

/// NaN has the largest key either way: the keys of numbers are those of the infinities and what lies between.
fn key32(x: f32, descending: bool) -> u32 {
    let bits = if x == 0.0 { 0 } else { x.to_bits() };
    let ordered = if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    };
    if x.is_nan() {
        u32::MAX
    } else {
        unsigned32(ordered, descending)
    }
}

fn key64(x: f64, descending: bool) -> u64 {
    let bits = if x == 0.0 { 0 } else { x.to_bits() };
    let ordered = if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    };
    if x.is_nan() {
        u64::MAX
    } else {
        unsigned64(ordered, descending)
    }
}

/// Rows whose keys have 32 bits: key and position share a word.
///
/// # Safety
/// As [`sort_row`], of a row of `T`.
unsafe fn narrow<T: Copy>(asked: &Asked, key: impl Fn(T, bool) -> u32) {
    // SAFETY: as the caller promises.
    unsafe {
        let pack = |x: T, descending, at: u64| u64::from(key(x, descending)) << 32 | at;
        ordered::<T, u64>(asked, pack, |packed| packed & u64::from(u32::MAX));
    }
}

/// Rows whose keys have 64 bits.
///
/// # Safety
/// As [`sort_row`], of a row of `T`.
unsafe fn wide<T: Copy>(asked: &Asked, key: impl Fn(T, bool) -> u64) {
    // SAFETY: as the caller promises; a pair of words is aligned as a word is.
    unsafe {
        let pack = |x: T, descending, at: u64| [key(x, descending), at];
        ordered::<T, [u64; 2]>(asked, pack, |[_, at]| at);
    }
}

/// # Safety
/// As [`sort_row`], of a row of `T`, with room for as many `P`.
unsafe fn ordered<T: Copy, P: Copy + Ord>(
    asked: &Asked,
    pack: impl Fn(T, bool, u64) -> P,
    position: impl Fn(P) -> u64,
) {
    let (row, room) = (asked.row.cast::<T>(), asked.room.cast::<P>());
    let descending = asked.what & DESCENDING != 0;
    let extent = asked.extent as usize;
    let count = extent.min(asked.count as usize);
    if count == 0 {
        return;
    }
    for at in 0..extent {
        // SAFETY: the row and the room have an element for each position.
        unsafe {
            let x = row.add(at).read_unaligned();
            room.add(at).write(pack(x, descending, at as u64));
        }
    }
    // SAFETY: the elements have just been written, and nothing else refers to them.
    let packed = unsafe { std::slice::from_raw_parts_mut(room, extent) };
    if count < extent {
        packed.select_nth_unstable(count);
    }
    packed[..count].sort_unstable();
    let positions = asked.what & POSITIONS != 0;
    for (i, packed) in packed[..count].iter().enumerate() {
        let (at, place) = (position(*packed), i * asked.stride as usize);
        // SAFETY: the target has these elements, and positions are those of the row.
        unsafe {
            if positions {
                asked.target.cast::<u64>().add(place).write_unaligned(at);
            } else {
                let x = row.add(at as usize).read_unaligned();
                asked.target.cast::<T>().add(place).write_unaligned(x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    /// What comes of a row, which begins at an odd address: positions and elements.
    fn sorted<T: Copy + Default>(
        row: &[T],
        dtype: DType,
        count: usize,
        stride: usize,
        descending: bool,
    ) -> (Vec<u64>, Vec<T>) {
        let size = size_of::<T>();
        let mut bytes = vec![0_u8; size_of_val(row) + 1];
        for (i, x) in row.iter().enumerate() {
            // SAFETY: the bytes behind the first have room for the row.
            unsafe {
                bytes
                    .as_mut_ptr()
                    .add(1 + i * size)
                    .cast::<T>()
                    .write_unaligned(*x)
            };
        }
        let mut room = vec![0_u64; row.len() * SortRow::room(dtype) as usize];
        let mut places = vec![u64::MAX; count * stride];
        let mut elements = vec![T::default(); count * stride];
        let code = DType::ALL.iter().position(|d| *d == dtype).unwrap() as u64;
        for positions in [true, false] {
            let target = if positions {
                places.as_mut_ptr().cast::<u8>()
            } else {
                elements.as_mut_ptr().cast::<u8>()
            };
            let mut asked = Asked {
                row: bytes.as_ptr().wrapping_add(1),
                room: room.as_mut_ptr(),
                target,
                extent: row.len() as u64,
                count: count as u64,
                stride: stride as u64,
                what: code
                    | if descending { DESCENDING } else { 0 }
                    | if positions { POSITIONS } else { 0 },
            };
            // SAFETY: row, room and target are as long as they should be.
            unsafe { sort_row(std::ptr::from_mut(&mut asked).cast()) };
        }
        // Nothing is written between the elements.
        let mut between = (0..count * stride).filter(|i| i % stride != 0);
        assert!(between.all(|i| places[i] == u64::MAX));
        let taken = |i: &usize| i.is_multiple_of(stride);
        let all: Vec<usize> = (0..count * stride).filter(taken).collect();
        (
            all.iter().map(|i| places[*i]).collect(),
            all.iter().map(|i| elements[*i]).collect(),
        )
    }

    fn check<T: Copy + Default + std::fmt::Debug>(
        row: &[T],
        dtype: DType,
        compare: impl Fn(T, T) -> Option<Ordering>,
        nan: impl Fn(T) -> bool,
    ) {
        for descending in [false, true] {
            let mut order: Vec<u64> = (0..row.len() as u64).collect();
            order.sort_by(|a, b| {
                let (a, b) = (row[*a as usize], row[*b as usize]);
                match compare(a, b) {
                    Some(order) if descending => order.reverse(),
                    Some(order) => order,
                    None => nan(a).cmp(&nan(b)),
                }
            });
            for (count, stride) in [(row.len(), 1), (row.len() / 2, 3), (1, 1), (0, 2)] {
                let count = count.min(row.len());
                let (places, elements) = sorted(row, dtype, count, stride, descending);
                assert_eq!(places, order[..count], "{dtype}, {row:?}");
                let wanted: Vec<T> = order[..count].iter().map(|p| row[*p as usize]).collect();
                assert_eq!(format!("{elements:?}"), format!("{wanted:?}"), "{dtype}");
            }
        }
    }

    #[test]
    fn rows_of_every_type_come_in_the_stable_order() {
        let floats = [
            0.0,
            -0.0,
            1.5,
            -1.5,
            f64::NAN,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e-300,
            -1e-300,
            1.5,
            0.0,
            f64::MAX,
            f64::MIN,
        ];
        check(&floats, DType::F64, |a, b| a.partial_cmp(&b), f64::is_nan);
        let narrow = floats.map(|x| x as f32);
        check(&narrow, DType::F32, |a, b| a.partial_cmp(&b), f32::is_nan);
        let words: Vec<u64> = (0..300_u64)
            .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 3 * 20))
            .chain([0, u64::MAX, 1 << 63, 0])
            .collect();
        macro_rules! integers {
            ($($t:ty => $dtype:ident),*) => { $(
                let row: Vec<$t> = words.iter().map(|w| *w as $t).collect();
                check(&row, DType::$dtype, |a, b| Some(a.cmp(&b)), |_| false);
                check(&row[..1], DType::$dtype, |a, b| Some(a.cmp(&b)), |_| false);
                check(&row[..0], DType::$dtype, |a, b| Some(a.cmp(&b)), |_| false);
            )* };
        }
        integers!(i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64);
        let truths = words.iter().map(|w| (w & 1) as u8).collect::<Vec<u8>>();
        check(&truths, DType::Bool, |a, b| Some(a.cmp(&b)), |_| false);
    }
}
