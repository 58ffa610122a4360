//! The results of a step, borrowed from the session until the next one.

use crate::element::Element;
use crate::layout::Span;
use crate::view::{ReadError, TensorView};
use kiln_ir::program::Port;
use std::fmt;

/// Which output is meant: its position or its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKey<'k> {
    /// The position in the order of declaration.
    Index(usize),
    /// The name.
    Name(&'k str),
}

impl From<usize> for OutputKey<'_> {
    fn from(index: usize) -> Self {
        OutputKey::Index(index)
    }
}

impl<'k> From<&'k str> for OutputKey<'k> {
    fn from(name: &'k str) -> Self {
        OutputKey::Name(name)
    }
}

/// The results of a step.
#[derive(Clone, Copy)]
pub struct Outputs<'s> {
    ports: &'s [Port],
    spans: &'s [Span],
    bytes: &'s [u8],
}

impl<'s> Outputs<'s> {
    pub(crate) fn new(ports: &'s [Port], spans: &'s [Span], bytes: &'s [u8]) -> Outputs<'s> {
        Outputs {
            ports,
            spans,
            bytes,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// All of them, in the order of declaration.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TensorView<'s>> {
        let bytes = self.bytes;
        let all = self.ports.iter().zip(self.spans);
        all.map(move |(port, span)| {
            let bytes = &bytes[span.offset..span.offset + span.bytes];
            TensorView::new(&port.name, port.ty.dtype, &span.shape, bytes)
        })
    }

    /// One output, by position or name.
    ///
    /// # Errors
    /// [`ReadError::UnknownIndex`] and [`ReadError::UnknownName`].
    pub fn get<'k>(&self, key: impl Into<OutputKey<'k>>) -> Result<TensorView<'s>, ReadError> {
        match key.into() {
            OutputKey::Index(index) => self.iter().nth(index).ok_or(ReadError::UnknownIndex {
                index,
                count: self.len(),
            }),
            OutputKey::Name(name) => {
                let found = self.iter().find(|view| view.name() == name);
                let known = self.ports.iter().map(|port| port.name.as_str());
                found.ok_or_else(|| ReadError::unknown("output", name, known))
            }
        }
    }

    /// The only element of an output that has one, as a number.
    ///
    /// # Errors
    /// As [`Outputs::get`] and [`TensorView::scalar`].
    pub fn scalar<'k>(&self, key: impl Into<OutputKey<'k>>) -> Result<f64, ReadError> {
        self.get(key)?.scalar()
    }

    /// The elements of an output, row-major.
    ///
    /// # Errors
    /// As [`Outputs::get`] and [`TensorView::as_slice`].
    pub fn as_slice<'k, T: Element>(
        &self,
        key: impl Into<OutputKey<'k>>,
    ) -> Result<&'s [T], ReadError> {
        self.get(key)?.as_slice()
    }

    /// The extents of an output.
    ///
    /// # Errors
    /// As [`Outputs::get`].
    pub fn shape<'k>(&self, key: impl Into<OutputKey<'k>>) -> Result<&'s [usize], ReadError> {
        Ok(self.get(key)?.shape())
    }
}

impl fmt::Debug for Outputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
