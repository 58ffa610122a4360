//! What a trainer trains: a function of named inputs to named outputs.
//!
//! A model is a description, as a layer is: it holds no tensors, and it is built once for each graph that the trainer needs. Models of one
//! input and one output are a [`Sequential`] or any layer beside the type of its input. Those of several, or whose layers are shared, are a
//! plain struct of layers that implements [`Model`].

use crate::graphs::{INPUT, TARGET};
use kiln_ir::{DType, Tensor, TensorType};
use kiln_nn::{Context, Layer, Sequential};

/// A function of named inputs to named outputs.
///
/// An input is fed the data's column of its name, and an output is compared with the column of its name.
///
/// ```
/// use kiln_ir::{DType, Dim, Tensor, TensorType};
/// use kiln_nn::{Context, Dense};
/// use kiln_train::Model;
///
/// /// Judges two pictures by one encoder: are they the same, and how bright is the first?
/// struct Twins {
///     encoder: Dense,
///     same: Dense,
///     bright: Dense,
/// }
///
/// impl Model for Twins {
///     fn inputs(&self) -> Vec<(String, TensorType)> {
///         let picture = TensorType::new(DType::F32, (Dim::symbol("b"), 64));
///         ["left", "right"].map(|name| (name.to_owned(), picture.clone())).into()
///     }
///
///     fn outputs<'g>(&self, cx: &Context<'g>, inputs: &[Tensor<'g>]) -> Vec<(String, Tensor<'g>)> {
///         let left = cx.layer("encoder", &self.encoder, inputs[0]).tanh();
///         // The second application finds the params of the first.
///         let right = cx.sharing().layer("encoder", &self.encoder, inputs[1]).tanh();
///         let same = cx.layer("same", &self.same, (left - right).square());
///         let bright = cx.layer("bright", &self.bright, left);
///         vec![("same".to_owned(), same), ("bright".to_owned(), bright)]
///     }
/// }
/// ```
pub trait Model {
    /// The inputs by name, with their types. The batch is the first axis of each, by one symbol.
    fn inputs(&self) -> Vec<(String, TensorType)>;

    /// The outputs by name, from the inputs in the order of [`Model::inputs`]. The batch is the first axis of each.
    fn outputs<'g>(&self, cx: &Context<'g>, inputs: &[Tensor<'g>]) -> Vec<(String, Tensor<'g>)>;
}

/// The input `x` of f32, and the output `y`.
impl Model for Sequential {
    fn inputs(&self) -> Vec<(String, TensorType)> {
        vec![(INPUT.to_owned(), self.input_type(DType::F32))]
    }

    fn outputs<'g>(&self, cx: &Context<'g>, inputs: &[Tensor<'g>]) -> Vec<(String, Tensor<'g>)> {
        single(self, cx, inputs)
    }
}

/// A layer with the type of its input, which is called `x`; the output is `y`.
impl<L: Layer> Model for (L, TensorType) {
    fn inputs(&self) -> Vec<(String, TensorType)> {
        vec![(INPUT.to_owned(), self.1.clone())]
    }

    fn outputs<'g>(&self, cx: &Context<'g>, inputs: &[Tensor<'g>]) -> Vec<(String, Tensor<'g>)> {
        single(&self.0, cx, inputs)
    }
}

fn single<'g>(
    layer: &impl Layer,
    cx: &Context<'g>,
    inputs: &[Tensor<'g>],
) -> Vec<(String, Tensor<'g>)> {
    let outputs = inputs.iter().map(|x| layer.apply(cx, *x));
    outputs.map(|y| (TARGET.to_owned(), y)).collect()
}
