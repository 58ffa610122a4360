//! One call of a custom op: what its code sees of the tensors.
//!
//! Interpreter and runtime lend the memory, as bytes; here it becomes slices of Rust types, by checked casts.

use super::{CallAttributes, CustomOp};
use crate::array::Array;
use crate::dtype::DType;
use crate::ops::Element;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A tensor of a call, once all sizes are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallTensor {
    /// The element type.
    pub dtype: DType,
    /// The extents.
    pub shape: Vec<usize>,
}

/// The operands and results of one call. Elements lie row-major without gaps.
pub struct Call<'a> {
    attributes: &'a CallAttributes,
    inputs: &'a [CallTensor],
    outputs: &'a [CallTensor],
    read: &'a dyn Fn(usize) -> Option<&'a [u8]>,
    take: &'a mut dyn FnMut(usize) -> Option<&'a mut [u8]>,
}

impl<'a> Call<'a> {
    /// A call over memory that `read` and `take` lend, by position: native-endian elements of the tensors, all zeros in outputs, each of
    /// which is taken once. Interpreter and runtime make calls; a test of an op's code may too.
    pub fn new(
        attributes: &'a CallAttributes,
        inputs: &'a [CallTensor],
        outputs: &'a [CallTensor],
        read: &'a dyn Fn(usize) -> Option<&'a [u8]>,
        take: &'a mut dyn FnMut(usize) -> Option<&'a mut [u8]>,
    ) -> Self {
        Self {
            attributes,
            inputs,
            outputs,
            read,
            take,
        }
    }

    /// Calls the op. A panic in its code becomes an error.
    ///
    /// # Errors
    /// The op's own message, or "panicked" with that of the panic.
    pub fn run(mut self, op: &dyn CustomOp) -> Result<(), String> {
        // What the code leaves half done are outputs that nobody will read.
        let called = catch_unwind(AssertUnwindSafe(|| op.evaluate(&mut self)));
        called.unwrap_or_else(|panic| Err(format!("panicked: {}", said(&*panic))))
    }

    /// The attributes of the call.
    pub fn attributes(&self) -> &'a CallAttributes {
        self.attributes
    }

    /// Types and extents of the operands.
    pub fn inputs(&self) -> &'a [CallTensor] {
        self.inputs
    }

    /// Types and extents of the results.
    pub fn outputs(&self) -> &'a [CallTensor] {
        self.outputs
    }

    /// The elements of an operand.
    ///
    /// # Errors
    /// A message for people: no such operand, another element type.
    pub fn input<T: Element>(&self, position: usize) -> Result<&'a [T], String> {
        check::<T>("input", self.inputs, position)?;
        let elements = (self.read)(position).and_then(T::view);
        elements.ok_or_else(|| format!("input {position} has no memory"))
    }

    /// The elements of a result, to be written; all are zero before. Each result is handed out once.
    ///
    /// # Errors
    /// A message for people: no such result, another element type, one that has been handed out.
    pub fn output<T: Element>(&mut self, position: usize) -> Result<&'a mut [T], String> {
        check::<T>("output", self.outputs, position)?;
        let elements = (self.take)(position).and_then(T::view_mut);
        elements.ok_or_else(|| format!("output {position} was asked for twice"))
    }
}

fn check<T: Element>(what: &str, tensors: &[CallTensor], position: usize) -> Result<(), String> {
    match tensors.get(position) {
        None => Err(format!(
            "there is no {what} {position}; the call has {}",
            tensors.len()
        )),
        Some(CallTensor { dtype, shape }) if *dtype != T::DTYPE => Err(format!(
            "{what} {position} is {dtype}{shape:?}, not {}",
            T::DTYPE
        )),
        Some(_) => Ok(()),
    }
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message")
}

/// Native-endian bytes at an address where an element of any type may begin.
pub(super) struct Aligned {
    words: Vec<u64>,
    bytes: usize,
}

impl Aligned {
    pub(super) fn zeroed(bytes: usize) -> Self {
        Self {
            words: vec![0; bytes.div_ceil(size_of::<u64>())],
            bytes,
        }
    }

    pub(super) fn of(array: &Array) -> Self {
        let bytes = native(array.dtype(), array.to_bytes());
        let mut aligned = Self::zeroed(bytes.len());
        aligned.bytes_mut().copy_from_slice(&bytes);
        aligned
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }

    pub(super) fn into_little_endian(self, dtype: DType) -> Vec<u8> {
        native(dtype, self.bytes().to_vec())
    }
}

/// Little-endian elements as native ones, or the other way about.
fn native(dtype: DType, mut bytes: Vec<u8>) -> Vec<u8> {
    if cfg!(target_endian = "big") {
        bytes
            .chunks_exact_mut(dtype.size())
            .for_each(<[u8]>::reverse);
    }
    bytes
}
