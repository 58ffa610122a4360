//! The fully connected layer.

use crate::initialisers::{GlorotUniform, Initialiser};
use crate::layer::{Context, Layer};
use kiln_ir::{Init, Kind, Refusal, Tensor};
use std::sync::Arc;

/// `x w + b`: a product over the last axis of `x: [.., features]`, giving `[.., units]`.
///
/// Params, of the element type of `x`: `w: [features, units]`, Glorot uniform unless told otherwise, and `b: [units]`, zeros.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, Dense, initialisers::HeNormal};
///
/// let g = Builder::new("hidden");
/// let x = g.input("x", DType::F32, (g.dim("b"), 8));
/// let h = Context::training(&g).layer("fc1", &Dense::new(16).weight(HeNormal), x);
/// assert_eq!(h.ty().unwrap().to_string(), "f32[b, 16]");
/// ```
#[derive(Clone)]
pub struct Dense {
    pub(super) units: i64,
    pub(super) weight: Arc<dyn Initialiser + Send + Sync>,
    pub(super) bias: Option<Arc<dyn Initialiser + Send + Sync>>,
}

impl Dense {
    /// A layer of `units` outputs, with a bias.
    pub fn new(units: i64) -> Self {
        Self {
            units,
            weight: Arc::new(GlorotUniform),
            bias: Some(Arc::new(Init::zeros())),
        }
    }

    /// How the weight starts.
    pub fn weight(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
        self.weight = Arc::new(initialiser);
        self
    }

    /// How the bias starts.
    pub fn bias(mut self, initialiser: impl Initialiser + Send + Sync + 'static) -> Self {
        self.bias = Some(Arc::new(initialiser));
        self
    }

    /// Leaves the bias out.
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }
}

impl Layer for Dense {
    fn kind(&self) -> &str {
        "dense"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let _at = cx.at_application();
        let Some(ty) = x.ty() else { return x };
        let features = ty.shape.last().and_then(|d| d.constant());
        let Some(features) = features else {
            let refusal = Refusal::new(
                Kind::Shape,
                format!("`dense` needs a fixed number of features on the last axis of {ty}"),
            )
            .help("only the axes before the last may be symbolic, and there must be a last one");
            return cx.builder().refuse(refusal, &[x]);
        };
        let w = cx.param("w", ty.dtype, (features, self.units), &*self.weight);
        let y = x.dot(w);
        if y.id().is_none() {
            // What is wrong with the weight is wrong with the bias too, and once is enough to say it.
            return y;
        }
        match &self.bias {
            Some(bias) => y + cx.param("b", ty.dtype, [self.units], &**bias),
            None => y,
        }
    }
}
