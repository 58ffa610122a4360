//! The initial values of params and state.
//!
//! [`kiln_ir::Init`] defines every element as a pure function of seed, name and index; this file rounds elements to their type and lets
//! the pool fill large tensors, which therefore hold the same bits whatever the number of threads.

use crate::element::Element;
use crate::layout::Span;
use crate::memory::{AlignedBytes, ViewError};
use crate::pool::Pool;
use half::{bf16, f16};
use kiln_ir::program::Program;
use kiln_ir::{DType, Role, Sampler};
use std::sync::{Mutex, PoisonError};

/// The elements of one task.
const CHUNK: usize = 1 << 15;

/// Draws every param and state of `program` into its span of `block`.
///
/// # Errors
/// A span that does not lie in the block, which no layout gives.
pub(crate) fn draw(
    program: &Program,
    spans: &[Span],
    seed: u64,
    block: &mut AlignedBytes,
    pool: &mut Pool,
) -> Result<(), ViewError> {
    for (resident, span) in program.residents.iter().zip(spans) {
        let init = match resident.role {
            Role::Param(init) | Role::State(init) => init,
            Role::Input => continue,
        };
        let sampler = init.sampler(seed, &resident.name, &span.shape);
        macro_rules! fill {
            ($type:ty, $convert:expr) => {{
                let count = span.bytes / size_of::<$type>();
                fill(
                    &sampler,
                    block.view_mut::<$type>(span.offset, count)?,
                    pool,
                    $convert,
                )
            }};
        }
        // Integers truncate towards zero and saturate; 16-bit floats round by way of f32, as everywhere.
        match resident.ty.dtype {
            DType::F32 => fill!(f32, |x| x as f32),
            DType::F64 => fill!(f64, |x| x),
            DType::BF16 => fill!(bf16, |x| bf16::from_f32(x as f32)),
            DType::F16 => fill!(f16, |x| f16::from_f32(x as f32)),
            DType::I8 => fill!(i8, |x| x as i8),
            DType::I16 => fill!(i16, |x| x as i16),
            DType::I32 => fill!(i32, |x| x as i32),
            DType::I64 => fill!(i64, |x| x as i64),
            DType::U8 => fill!(u8, |x| x as u8),
            DType::U16 => fill!(u16, |x| x as u16),
            DType::U32 => fill!(u32, |x| x as u32),
            DType::U64 => fill!(u64, |x| x as u64),
            DType::Bool => fill!(u8, |x| u8::from(x != 0.0)),
        }
    }
    Ok(())
}

fn fill<T: Element>(
    sampler: &Sampler,
    elements: &mut [T],
    pool: &mut Pool,
    convert: impl Fn(f64) -> T + Sync,
) {
    if elements.len() <= CHUNK {
        sampler.fill(0, elements, convert);
        return;
    }
    // Each task takes a chunk of its own, so no lock is ever waited for; it hands out what the type system cannot.
    let chunks: Vec<Mutex<(u64, &mut [T])>> = (0u64..)
        .step_by(CHUNK)
        .zip(elements.chunks_mut(CHUNK))
        .map(Mutex::new)
        .collect();
    pool.run(chunks.len(), &|task, _| {
        let mut chunk = chunks[task].lock().unwrap_or_else(PoisonError::into_inner);
        let (first, elements) = &mut *chunk;
        sampler.fill(*first, elements, &convert);
    });
}
