//! Tensors of ONNX files: their types, and their elements where they lie.
//!
//! Every size is checked against what the file holds before memory is taken. Strings, complex numbers, and floats and integers of 8 and
//! 4 bits are refused by name: Kiln has no such types.

use super::error::OnnxError;
use super::proto::TensorProto;
use crate::TensorRef;
use crate::bytes::Bytes as FileBytes;
use bytes::Bytes;
use kiln_ir::{Array, Class, DType, EvalError, Values};
use std::path::{Component, Path};

/// A tensor with its elements, row-major and little-endian.
#[derive(Clone, Debug, PartialEq)]
pub struct Elements {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl Elements {
    /// The tensor of `array`.
    pub fn from_array(array: &Array) -> Self {
        let dtype = array.dtype();
        let mut bytes = Vec::new();
        match array.values() {
            Values::Float(values) => {
                for x in values {
                    push_float(&mut bytes, dtype, *x);
                }
            }
            Values::Int(values) => {
                for x in values {
                    bytes.extend_from_slice(&x.to_le_bytes()[..dtype.size()]);
                }
            }
        }
        Self {
            dtype,
            shape: array.shape().to_vec(),
            bytes: bytes.into(),
        }
    }

    /// The i64 tensor of `numbers`.
    pub(super) fn of_i64(shape: Vec<usize>, numbers: &[i64]) -> Self {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self {
            dtype: DType::I64,
            shape,
            bytes: bytes.into(),
        }
    }

    /// The i32 tensor of `numbers`, which wrap.
    pub(super) fn of_i32(shape: Vec<usize>, numbers: &[i64]) -> Self {
        let bytes: Vec<u8> = (numbers.iter())
            .flat_map(|x| (*x as i32).to_le_bytes())
            .collect();
        Self {
            dtype: DType::I32,
            shape,
            bytes: bytes.into(),
        }
    }

    /// A bool scalar.
    pub(super) fn of_bool(holds: bool) -> Self {
        Self {
            dtype: DType::Bool,
            shape: Vec::new(),
            bytes: vec![u8::from(holds)].into(),
        }
    }

    /// The f32 tensor of `numbers`.
    pub(super) fn of_f32(shape: Vec<usize>, numbers: &[f32]) -> Self {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self {
            dtype: DType::F32,
            shape,
            bytes: bytes.into(),
        }
    }

    /// The bits of u16 elements as bf16.
    pub(super) fn into_bf16(self) -> Self {
        Self {
            dtype: DType::BF16,
            ..self
        }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, held together with others.
    pub(super) fn shared(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// The tensor as an array of the interpreter.
    ///
    /// # Errors
    /// Where memory has no room for it.
    pub fn to_array(&self) -> Result<Array, EvalError> {
        let tensor = TensorRef::new("tensor", self.dtype, &self.shape, &self.bytes)
            .map_err(|e| EvalError::Invalid(e.to_string()))?;
        tensor.to_array()
    }

    /// The elements of a message; `folder` is where external data lies.
    pub(super) fn read(
        file: &str,
        folder: Option<&Path>,
        tensor: &TensorProto,
    ) -> Result<Self, OnnxError> {
        let malformed = |what: String| OnnxError::Malformed {
            file: file.to_owned(),
            what: format!("tensor `{}` {what}", tensor.name),
        };
        let dtype = dtype(tensor.data_type)
            .ok_or_else(|| malformed(format!("has {}", unknown_type(tensor.data_type))))?;
        let mut count = 1usize;
        let mut shape = Vec::with_capacity(tensor.dims.len());
        for dim in &tensor.dims {
            let extent = usize::try_from(*dim).ok();
            let extent = extent.ok_or_else(|| malformed(format!("has an axis of size {dim}")))?;
            shape.push(extent);
        }
        if !shape.contains(&0) {
            for extent in &shape {
                let product = count.checked_mul(*extent);
                count = product.ok_or_else(|| malformed(format!("has shape {shape:?}")))?;
            }
        } else {
            count = 0;
        }
        let size = count.checked_mul(dtype.size());
        let size = size.ok_or_else(|| malformed(format!("has shape {shape:?}")))?;
        let bytes = if tensor.data_location == 1 {
            external(file, folder, tensor, size)?
        } else if tensor.raw_data.is_empty() {
            let typed = typed_data(tensor, dtype);
            if typed.0 != count {
                return Err(malformed(format!(
                    "has shape {shape:?}, but holds {} elements",
                    typed.0
                )));
            }
            typed.1.into()
        } else {
            tensor.raw_data.clone()
        };
        if bytes.len() != size {
            return Err(malformed(format!(
                "is {dtype} of shape {shape:?}, which is {size} bytes, but it holds {}",
                bytes.len()
            )));
        }
        if dtype == DType::Bool && bytes.iter().any(|b| *b > 1) {
            return Err(malformed("has bools that are neither 0 nor 1".into()));
        }
        Ok(Self {
            dtype,
            shape,
            bytes,
        })
    }
}

/// The element type of a number of `TensorProto.DataType`, where Kiln has it.
pub(super) fn dtype(number: i32) -> Option<DType> {
    Some(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        _ => return None,
    })
}

/// What to say of a type that Kiln does not have.
pub(super) fn unknown_type(number: i32) -> String {
    let name = match number {
        0 => return "no element type".into(),
        8 => "string",
        14 => "complex64",
        15 => "complex128",
        17 => "float8e4m3fn",
        18 => "float8e4m3fnuz",
        19 => "float8e5m2",
        20 => "float8e5m2fnuz",
        21 => "uint4",
        22 => "int4",
        23 => "float4e2m1",
        24 => "float8e8m0",
        25 => "uint2",
        26 => "int2",
        _ => return format!("elements of the unknown type {number}"),
    };
    format!("elements of type {name}, which Kiln does not have")
}

fn push_float(bytes: &mut Vec<u8>, dtype: DType, x: f64) {
    match dtype {
        DType::F64 => bytes.extend_from_slice(&x.to_le_bytes()),
        DType::F16 => bytes.extend_from_slice(&half::f16::from_f64(x).to_le_bytes()),
        DType::BF16 => bytes.extend_from_slice(&half::bf16::from_f64(x).to_le_bytes()),
        DType::F32
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::I64
        | DType::U8
        | DType::U16
        | DType::U32
        | DType::U64
        | DType::Bool => bytes.extend_from_slice(&(x as f32).to_le_bytes()),
    }
}

/// How many elements the typed fields hold, and their bytes. Halves are their bit patterns in `int32_data`.
fn typed_data(tensor: &TensorProto, dtype: DType) -> (usize, Vec<u8>) {
    fn all<T: Copy, const N: usize>(data: &[T], bytes: impl Fn(T) -> [u8; N]) -> (usize, Vec<u8>) {
        (data.len(), data.iter().flat_map(|x| bytes(*x)).collect())
    }
    match dtype {
        DType::F32 => all(&tensor.float_data, f32::to_le_bytes),
        DType::F64 => all(&tensor.double_data, f64::to_le_bytes),
        DType::I64 => all(&tensor.int64_data, i64::to_le_bytes),
        DType::U64 => all(&tensor.uint64_data, u64::to_le_bytes),
        DType::U32 => all(&tensor.uint64_data, |x| (x as u32).to_le_bytes()),
        DType::I32 => all(&tensor.int32_data, i32::to_le_bytes),
        DType::I16 | DType::U16 | DType::F16 | DType::BF16 => {
            all(&tensor.int32_data, |x| (x as u16).to_le_bytes())
        }
        DType::I8 | DType::U8 => all(&tensor.int32_data, |x| [x as u8]),
        DType::Bool => all(&tensor.int32_data, |x| [u8::from(x != 0)]),
    }
}

/// The bytes in another file, which must lie within the model's folder.
fn external(
    file: &str,
    folder: Option<&Path>,
    tensor: &TensorProto,
    size: usize,
) -> Result<Bytes, OnnxError> {
    let malformed = |what: String| OnnxError::Malformed {
        file: file.to_owned(),
        what: format!("tensor `{}` {what}", tensor.name),
    };
    let value = |key: &str| {
        let entry = tensor.external_data.iter().find(|e| e.key == key);
        entry.map(|e| e.value.as_str())
    };
    let number = |key: &str, default: usize| match value(key) {
        None => Ok(default),
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| malformed(format!("has external data with {key} `{text}`"))),
    };
    let location = value("location");
    let location = location.ok_or_else(|| malformed("has external data without a place".into()))?;
    let outside = || {
        malformed(format!(
            "has external data in `{location}`; it must lie in the model's folder"
        ))
    };
    let relative = Path::new(location);
    let inside = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    if !inside || location.is_empty() {
        return Err(outside());
    }
    let folder =
        folder.ok_or_else(|| malformed("has external data, but the model is no file".into()))?;
    let io = |source| OnnxError::Io {
        path: folder.join(relative),
        source,
    };
    // A link may lead out of the folder.
    let root = folder.canonicalize().map_err(io)?;
    let path = folder.join(relative).canonicalize().map_err(io)?;
    if !path.starts_with(&root) {
        return Err(outside());
    }
    let whole = Bytes::from_owner(FileBytes::map(&path).map_err(io)?);
    let offset = number("offset", 0)?;
    let length = number("length", size)?;
    let end = offset.checked_add(length).filter(|end| *end <= whole.len());
    let end = end.ok_or_else(|| {
        malformed(format!(
            "has external data of {length} bytes from {offset} in `{location}`, which has {}",
            whole.len()
        ))
    })?;
    Ok(whole.slice(offset..end))
}

/// The elements of a small integer tensor as i64; `None` where it is no integer.
pub(super) fn integers(elements: &Elements) -> Option<Vec<i64>> {
    match elements.dtype().class() {
        Class::Float => None,
        Class::Signed | Class::Unsigned | Class::Bool => {
            Some(elements.to_array().ok()?.ints().ok()?.to_vec())
        }
    }
}
