//! One named, dense, typed array of a data set.
//!
//! The first axis counts the examples; what lies behind it is the shape of one example. The types
//! are those that plain Rust has: half-precision floats are storage formats of a graph, and data
//! is fed to them through a conversion in the graph.

use super::DataError;
use kiln_ir::{DType, Dim, Shape, TensorType};
use kiln_runtime::{Feed, ReadError, TensorView, ToFeed};

/// A named array whose first axis is the example. Its data always fills its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    name: String,
    shape: Vec<usize>,
    data: ColumnData,
}

impl Column {
    /// A column `name` of `shape` (examples first) over `data` in row-major order.
    ///
    /// # Errors
    /// [`DataError::NoExampleAxis`] for the shape `[]`; [`DataError::Shape`] if the shape's product
    /// is not the number of elements.
    pub fn new(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        data: impl Into<ColumnData>,
    ) -> Result<Self, DataError> {
        let (name, shape, data) = (name.into(), shape.into(), data.into());
        if shape.is_empty() {
            return Err(DataError::NoExampleAxis { column: name });
        }
        let product = product(&shape);
        if product != Some(data.len()) {
            let wanted = match product {
                Some(count) => count.to_string(),
                None => "more than memory can hold".to_owned(),
            };
            return Err(DataError::Shape {
                column: name,
                shape,
                wanted,
                found: data.len(),
            });
        }
        Ok(Self { name, shape, data })
    }

    /// The column's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shape, examples first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of examples.
    pub fn examples(&self) -> usize {
        self.shape[0]
    }

    /// The shape of one example; empty for a column of numbers.
    pub fn example_shape(&self) -> &[usize] {
        &self.shape[1..]
    }

    /// The elements with their type.
    pub fn data(&self) -> &ColumnData {
        &self.data
    }

    /// The elements as a slice of `T`, row-major.
    ///
    /// # Errors
    /// [`DataError::Type`] if the column holds another type.
    pub fn values<T: Element>(&self) -> Result<&[T], DataError> {
        T::view(&self.data).ok_or_else(|| DataError::Type {
            column: self.name.clone(),
            wanted: T::NAME,
            found: self.data.type_name(),
        })
    }

    /// The same elements under another shape of the example, as `[28, 28]` becomes `[784]`.
    ///
    /// # Errors
    /// [`DataError::Shape`] if the new shape has another number of elements.
    pub fn reshaped(self, example_shape: &[usize]) -> Result<Self, DataError> {
        let mut shape = vec![self.examples()];
        shape.extend_from_slice(example_shape);
        Self::new(self.name, shape, self.data)
    }

    /// A column of the same name and shape over other elements, one for each of this one.
    pub(super) fn with_data(self, data: ColumnData) -> Self {
        debug_assert_eq!(self.data.len(), data.len());
        Self { data, ..self }
    }

    /// An empty column like this one with room for `examples` examples.
    pub(super) fn buffer(&self, examples: usize) -> Self {
        let mut shape = self.shape.clone();
        shape[0] = 0;
        let data = self.data.empty(examples * self.elements_per_example());
        Self {
            name: self.name.clone(),
            shape,
            data,
        }
    }

    /// Replaces the contents by the examples `rows` of `source`, which must be the column this was
    /// made a buffer of. Allocates only where `rows` is longer than ever before.
    ///
    /// Every row must exist in `source`.
    pub(super) fn gather(&mut self, source: &Self, rows: &[usize]) {
        self.shape[0] = rows.len();
        let width = source.elements_per_example();
        let starts = rows.iter().map(|row| row * width);
        self.data.gather(&source.data, starts, width);
    }

    /// A column `name` of elements of this one's type, with room for `examples` stretches of `length` elements.
    pub(super) fn stretches(&self, name: &str, length: usize, examples: usize) -> Self {
        Self {
            name: name.to_owned(),
            shape: vec![0, length],
            data: self.data.empty(examples.saturating_mul(length)),
        }
    }

    /// Replaces the contents by the stretches of `source` that begin `shift` elements behind each of `starts`, as long as an example of
    /// this column. Stretches may overlap.
    ///
    /// Every stretch must end within `source`, of which this must have been made by [`Column::stretches`].
    pub(super) fn gather_stretches(&mut self, source: &Self, starts: &[usize], shift: usize) {
        self.shape[0] = starts.len();
        let width = self.elements_per_example();
        let starts = starts.iter().map(|start| start + shift);
        self.data.gather(&source.data, starts, width);
    }

    /// The elements, where they are f32.
    pub(super) fn f32_mut(&mut self) -> Option<&mut [f32]> {
        match &mut self.data {
            ColumnData::F32(values) => Some(values),
            ColumnData::F64(_)
            | ColumnData::I8(_)
            | ColumnData::I16(_)
            | ColumnData::I32(_)
            | ColumnData::I64(_)
            | ColumnData::U8(_)
            | ColumnData::U16(_)
            | ColumnData::U32(_)
            | ColumnData::U64(_)
            | ColumnData::Bool(_) => None,
        }
    }

    /// The type of a batch of examples, whose extent is `batch`.
    pub(crate) fn type_of_batch(&self, batch: Dim) -> TensorType {
        let extents = self
            .example_shape()
            .iter()
            .map(|extent| Dim::from(*extent as i64));
        let shape: Shape = [batch].into_iter().chain(extents).collect();
        TensorType::new(self.to_feed().dtype(), shape)
    }

    /// A column without examples for results like `view`.
    ///
    /// # Errors
    /// [`ReadError`] for a type that no column has.
    pub(crate) fn like(view: &TensorView<'_>) -> Result<Self, ReadError> {
        let mut shape = view.shape().to_vec();
        match shape.first_mut() {
            Some(examples) => *examples = 0,
            None => shape.push(0),
        }
        Ok(Self {
            name: view.name().to_owned(),
            shape,
            data: ColumnData::like(view)?,
        })
    }

    /// Adds the examples of `view` behind those that are there.
    ///
    /// # Errors
    /// [`ReadError`] for another type.
    pub(crate) fn append(&mut self, view: &TensorView<'_>) -> Result<(), ReadError> {
        self.data.append(view)?;
        self.shape[0] += view.shape().first().copied().unwrap_or(1);
        Ok(())
    }

    fn elements_per_example(&self) -> usize {
        // The constructor saw the whole product fit, except where an axis of length 0 hid the rest:
        // then the data is empty, and saturating keeps the arithmetic defined.
        self.shape[1..]
            .iter()
            .fold(1, |count, &axis| count.saturating_mul(axis))
    }
}

impl ToFeed for Column {
    /// The elements where they lie: nothing is copied.
    fn to_feed(&self) -> Feed<'_> {
        self.data.feed(&self.shape)
    }
}

/// An element type that a column can hold.
pub trait Element: Copy + sealed::Sealed {
    /// The type's name as Kiln spells it.
    const NAME: &'static str;
    /// The elements of `data`, if they are of this type.
    fn view(data: &ColumnData) -> Option<&[Self]>;
}

/// An element of any type, on its way to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// A floating number; every `f32` is one exactly.
    Real(f64),
    /// A whole number of any width.
    Whole(i128),
}

impl Number {
    /// The nearest `f64`.
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Self::Real(value) => value,
            Self::Whole(value) => value as f64,
        }
    }

    /// The nearest `f32`; infinite where it is too large.
    pub(super) fn to_f32(self) -> f32 {
        match self {
            Self::Real(value) => value as f32,
            Self::Whole(value) => value as f32,
        }
    }
}

mod sealed {
    /// Closes [`super::Element`]: a column is one of the variants of [`super::ColumnData`].
    pub trait Sealed {}
}

macro_rules! element_types {
    ($($(#[$doc:meta])* $variant:ident $type:ty, $name:literal, $number:expr;)*) => {
        /// The elements of a column, row-major, with their type.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ColumnData {
            $($(#[$doc])* $variant(Vec<$type>),)*
        }

        impl ColumnData {
            /// The number of elements.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(values) => values.len(),)* }
            }

            /// The element type as Kiln spells it, `f32` or `bool`.
            pub fn type_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// Each element as a number, in order.
            pub(super) fn for_each(&self, mut visit: impl FnMut(Number)) {
                match self {
                    $(Self::$variant(values) => {
                        values.iter().for_each(|&value| visit(value.into()));
                    })*
                }
            }

            fn feed<'a>(&'a self, shape: &'a [usize]) -> Feed<'a> {
                match self { $(Self::$variant(values) => Feed::new(values, shape),)* }
            }

            fn empty(&self, capacity: usize) -> Self {
                match self { $(Self::$variant(_) => Self::$variant(Vec::with_capacity(capacity)),)* }
            }

            /// One behind the other, the `width` elements of `source` from each of `starts` on.
            fn gather(&mut self, source: &Self, starts: impl Iterator<Item = usize>, width: usize) {
                match (self, source) {
                    $((Self::$variant(to), Self::$variant(from)) => {
                        to.clear();
                        for start in starts {
                            to.extend_from_slice(&from[start..start + width]);
                        }
                    })*
                    _ => unreachable!("a buffer has the type of the column it was made from"),
                }
            }
        }

        $(
            impl Element for $type {
                const NAME: &'static str = $name;
                fn view(data: &ColumnData) -> Option<&[Self]> {
                    if let ColumnData::$variant(values) = data { Some(values) } else { None }
                }
            }

            impl sealed::Sealed for $type {}

            impl From<$type> for Number {
                fn from(value: $type) -> Self {
                    let number: fn($type) -> Number = $number;
                    number(value)
                }
            }

            impl From<Vec<$type>> for ColumnData {
                fn from(values: Vec<$type>) -> Self {
                    Self::$variant(values)
                }
            }
        )*
    };
}

element_types! {
    /// 32-bit floats.
    F32 f32, "f32", |value| Number::Real(value.into());
    /// 64-bit floats.
    F64 f64, "f64", Number::Real;
    /// 8-bit signed integers.
    I8 i8, "i8", |value| Number::Whole(value.into());
    /// 16-bit signed integers.
    I16 i16, "i16", |value| Number::Whole(value.into());
    /// 32-bit signed integers.
    I32 i32, "i32", |value| Number::Whole(value.into());
    /// 64-bit signed integers.
    I64 i64, "i64", |value| Number::Whole(value.into());
    /// 8-bit unsigned integers.
    U8 u8, "u8", |value| Number::Whole(value.into());
    /// 16-bit unsigned integers.
    U16 u16, "u16", |value| Number::Whole(value.into());
    /// 32-bit unsigned integers.
    U32 u32, "u32", |value| Number::Whole(value.into());
    /// 64-bit unsigned integers.
    U64 u64, "u64", |value| Number::Whole(value.into());
    /// Truth values.
    Bool bool, "bool", |value| Number::Whole(value.into());
}

impl ColumnData {
    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the elements are whole numbers; truth values are no numbers.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::F32(_) | Self::F64(_) | Self::Bool(_) => false,
            Self::I8(_) | Self::I16(_) | Self::I32(_) | Self::I64(_) => true,
            Self::U8(_) | Self::U16(_) | Self::U32(_) | Self::U64(_) => true,
        }
    }
}

impl ColumnData {
    /// None yet of the elements of `view`.
    fn like(view: &TensorView<'_>) -> Result<Self, ReadError> {
        Ok(match view.dtype() {
            DType::F32 => Self::F32(Vec::new()),
            DType::F64 => Self::F64(Vec::new()),
            DType::I8 => Self::I8(Vec::new()),
            DType::I16 => Self::I16(Vec::new()),
            DType::I32 => Self::I32(Vec::new()),
            DType::I64 => Self::I64(Vec::new()),
            DType::U8 => Self::U8(Vec::new()),
            DType::U16 => Self::U16(Vec::new()),
            DType::U32 => Self::U32(Vec::new()),
            DType::U64 => Self::U64(Vec::new()),
            DType::Bool => Self::Bool(Vec::new()),
            DType::BF16 | DType::F16 => return Err(no_column(view)),
        })
    }

    fn append(&mut self, view: &TensorView<'_>) -> Result<(), ReadError> {
        match self {
            Self::F32(values) => values.extend_from_slice(view.as_slice()?),
            Self::F64(values) => values.extend_from_slice(view.as_slice()?),
            Self::I8(values) => values.extend_from_slice(view.as_slice()?),
            Self::I16(values) => values.extend_from_slice(view.as_slice()?),
            Self::I32(values) => values.extend_from_slice(view.as_slice()?),
            Self::I64(values) => values.extend_from_slice(view.as_slice()?),
            Self::U8(values) => values.extend_from_slice(view.as_slice()?),
            Self::U16(values) => values.extend_from_slice(view.as_slice()?),
            Self::U32(values) => values.extend_from_slice(view.as_slice()?),
            Self::U64(values) => values.extend_from_slice(view.as_slice()?),
            Self::Bool(values) => {
                let bytes = view.as_slice::<u8>()?;
                values.extend(bytes.iter().map(|byte| *byte != 0));
            }
        }
        Ok(())
    }
}

/// Half precision is a form of storage in a graph, and no column has it.
fn no_column(view: &TensorView<'_>) -> ReadError {
    ReadError::DType {
        name: view.name().to_owned(),
        found: view.dtype(),
        shape: view.shape().to_vec(),
        asked: DType::F32,
    }
}

/// The product of a shape, if it fits. A shape with an axis of length 0 has the product 0, however
/// large the others are.
pub(super) fn product(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(1usize, |count, &axis| count.checked_mul(axis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_must_hold_exactly_the_data() {
        assert!(Column::new("x", [2, 3], vec![0f32; 6]).is_ok());
        let error = Column::new("x", [2, 3], vec![0f32; 5])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "column `x`: shape [2, 3] wants 6 elements, but the data has 5"
        );
        let error = Column::new("x", [usize::MAX, 2], vec![0f32])
            .unwrap_err()
            .to_string();
        assert!(error.contains("more than memory can hold"), "{error}");
        assert!(matches!(
            Column::new("x", [], vec![0f32]),
            Err(DataError::NoExampleAxis { .. })
        ));
    }

    #[test]
    fn an_axis_of_length_zero_never_overflows() {
        let column = Column::new("x", [3, 0, usize::MAX, 2], Vec::<u8>::new()).unwrap();
        let mut buffer = column.buffer(2);
        buffer.gather(&column, &[2, 0]);
        assert_eq!(buffer.shape(), [2, 0, usize::MAX, 2]);
        assert!(buffer.data().is_empty());
    }

    #[test]
    fn values_are_given_only_as_their_own_type() {
        let column = Column::new("y", [2], vec![7u8, 9]).unwrap();
        assert_eq!(column.values::<u8>().unwrap(), [7, 9]);
        let error = column.values::<f32>().unwrap_err().to_string();
        assert_eq!(error, "column `y` holds u8, not f32");
    }

    #[test]
    fn a_column_is_fed_where_it_lies() {
        let column = Column::new("x", [2, 2], vec![1i16, 2, 3, 4]).unwrap();
        let feed = column.to_feed();
        assert_eq!(feed.dtype(), kiln_ir::DType::I16);
        assert_eq!(feed.shape(), [2, 2]);
        let values: &[i16] = column.values().unwrap();
        assert_eq!(feed.bytes().as_ptr(), values.as_ptr().cast());
        assert_eq!(feed.bytes().len(), 8);
    }

    #[test]
    fn a_reshape_keeps_the_elements_and_their_number() {
        let column = Column::new("x", [2, 2, 3], (0..12).collect::<Vec<i32>>()).unwrap();
        let flat = column.clone().reshaped(&[6]).unwrap();
        assert_eq!(flat.shape(), [2, 6]);
        assert_eq!(flat.data(), column.data());
        assert!(column.reshaped(&[5]).is_err());
    }
}
