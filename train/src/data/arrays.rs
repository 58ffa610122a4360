//! Columns from the arrays of other programs: npy, npz and safetensors.

use super::{Column, ColumnData, DataError, Dataset};
use kiln_interop::{TensorRef, Tensors};
use kiln_ir::DType;

impl Dataset {
    /// A data set of all arrays of a file, each a column of its name, whose first axis counts the examples.
    ///
    /// # Errors
    /// As [`Dataset::new`] and [`Column::from_tensor`].
    ///
    /// ```no_run
    /// use kiln_interop::npz;
    /// use kiln_train::data::Dataset;
    ///
    /// let data = Dataset::from_tensors(&npz::open("train.npz".as_ref())?)?; // np.savez("train.npz", x=x, y=y)
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_tensors(tensors: &Tensors) -> Result<Self, DataError> {
        let columns = tensors.iter().map(|tensor| Column::from_tensor(&tensor));
        Self::new(columns.collect::<Result<Vec<_>, _>>()?)
    }
}

impl Column {
    /// A column with the name, the elements and the shape of `tensor`; half precision becomes f32.
    ///
    /// # Errors
    /// As [`Column::new`].
    pub fn from_tensor(tensor: &TensorRef<'_>) -> Result<Self, DataError> {
        macro_rules! elements {
            ($type:ty, $value:expr) => {{
                let (chunks, _) = tensor.bytes().as_chunks::<{ size_of::<$type>() }>();
                let value: fn([u8; size_of::<$type>()]) -> _ = $value;
                ColumnData::from(chunks.iter().map(|chunk| value(*chunk)).collect::<Vec<_>>())
            }};
        }
        let half = |values: Vec<f64>| -> Vec<f32> { values.iter().map(|v| *v as f32).collect() };
        let data = match tensor.dtype() {
            DType::F32 => elements!(f32, f32::from_le_bytes),
            DType::F64 => elements!(f64, f64::from_le_bytes),
            DType::I8 => elements!(i8, i8::from_le_bytes),
            DType::I16 => elements!(i16, i16::from_le_bytes),
            DType::I32 => elements!(i32, i32::from_le_bytes),
            DType::I64 => elements!(i64, i64::from_le_bytes),
            DType::U8 => elements!(u8, u8::from_le_bytes),
            DType::U16 => elements!(u16, u16::from_le_bytes),
            DType::U32 => elements!(u32, u32::from_le_bytes),
            DType::U64 => elements!(u64, u64::from_le_bytes),
            DType::Bool => elements!(u8, |byte| byte != [0]),
            DType::BF16 | DType::F16 => {
                let array = tensor.to_array();
                let floats = array
                    .ok()
                    .and_then(|array| Some(array.floats().ok()?.to_vec()));
                half(floats.unwrap_or_default()).into()
            }
        };
        Self::new(tensor.name(), tensor.shape(), data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_interop::npz;

    #[test]
    fn arrays_of_every_type_become_columns() {
        let x: Vec<u8> = [1.5f32, -2.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let y: Vec<u8> = [7i64, -1].iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensors = [
            TensorRef::new("x", DType::F32, &[2, 1], &x).unwrap(),
            TensorRef::new("y", DType::I64, &[2], &y).unwrap(),
            TensorRef::new("z", DType::Bool, &[2], &[1, 0]).unwrap(),
        ];
        let path = std::env::temp_dir().join(format!("kiln-arrays-{}.npz", std::process::id()));
        npz::save(&path, tensors).unwrap();
        let data = Dataset::from_tensors(&npz::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(data.column("x").unwrap().shape(), [2, 1]);
        assert_eq!(
            data.column("x").unwrap().values::<f32>().unwrap(),
            [1.5, -2.0]
        );
        assert_eq!(data.column("y").unwrap().values::<i64>().unwrap(), [7, -1]);
        assert_eq!(
            data.column("z").unwrap().values::<bool>().unwrap(),
            [true, false]
        );
        let half = TensorRef::new("h", DType::BF16, &[1], &[0x80, 0x3f]).unwrap();
        let half = Column::from_tensor(&half).unwrap();
        assert_eq!(half.values::<f32>().unwrap(), [1.0]);
    }
}
