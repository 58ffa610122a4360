//! Layers one after the other.

use crate::layer::{Context, Layer};
use crate::layers::{
    Activation, AvgPool, BatchNorm, Conv, Dense, Dropout, Flatten, GlobalAvgPool, GlobalMaxPool,
    MaxPool, PerAxis,
};
use crate::summary::Summary;
use kiln_ir::{DType, Diagnostics, Dim, Kind, Location, Refusal, Shape, Tensor, TensorType};
use std::fmt;

/// A model in which each layer takes the result of the one before.
///
/// Layers are called by kind and number, `dense_1`, `relu_1`, `dense_2`, unless [`Sequential::named`] says otherwise, and their params
/// `dense_1/w`, `dense_1/b`. Nodes and mistakes of a layer point to the line that added it.
///
/// ```
/// use kiln_ir::{Builder, DType};
/// use kiln_nn::{Context, Layer, Sequential};
///
/// let model = Sequential::new([784]).dense(512).named("hidden").relu().dropout(0.5).dense(10);
/// let g = Builder::new("mlp");
/// let x = g.input("x", DType::F32, (g.dim("b"), 784));
/// let logits = model.apply(&Context::inference(&g), x);
/// assert_eq!(logits.ty().unwrap().to_string(), "f32[b, 10]");
/// println!("{}", model.summary().unwrap());
/// ```
pub struct Sequential {
    input: Shape,
    members: Vec<Member>,
}

struct Member {
    name: String,
    location: Location,
    layer: Box<dyn Layer + Send + Sync>,
}

impl Sequential {
    /// A model without layers for inputs of shape `[batch] ++ input`.
    pub fn new(input: impl Into<Shape>) -> Self {
        Self {
            input: input.into(),
            members: Vec::new(),
        }
    }

    /// The shape of an input without the batch.
    pub fn input(&self) -> &Shape {
        &self.input
    }

    /// Adds any layer.
    #[track_caller]
    pub fn layer(mut self, layer: impl Layer + Send + Sync + 'static) -> Self {
        let prefix = format!("{}_", layer.kind());
        let same = |m: &&Member| m.layer.kind() == layer.kind();
        let number = self.members.iter().filter(same).count() + 1;
        self.members.push(Member {
            name: format!("{prefix}{number}"),
            location: Location::caller(),
            layer: Box::new(layer),
        });
        self
    }

    /// Calls the layer added last `name`. Before there is any layer it does nothing.
    pub fn named(mut self, name: &str) -> Self {
        if let Some(last) = self.members.last_mut() {
            name.clone_into(&mut last.name);
        }
        self
    }

    /// Adds a [`Dense`] layer of `units` outputs with a bias.
    #[track_caller]
    pub fn dense(self, units: i64) -> Self {
        self.layer(Dense::new(units))
    }

    /// Adds an activation.
    #[track_caller]
    pub fn activation(self, activation: Activation) -> Self {
        self.layer(activation)
    }

    /// Adds [`relu`](crate::relu).
    #[track_caller]
    pub fn relu(self) -> Self {
        self.layer(Activation::relu())
    }

    /// Adds [`softmax`](crate::softmax). The losses take logits, so a model that is trained ends before it.
    #[track_caller]
    pub fn softmax(self) -> Self {
        self.layer(Activation::softmax())
    }

    /// Adds [`log_softmax`](crate::log_softmax).
    #[track_caller]
    pub fn log_softmax(self) -> Self {
        self.layer(Activation::log_softmax())
    }

    /// Adds [`Dropout`] of the share `rate`.
    #[track_caller]
    pub fn dropout(self, rate: f64) -> Self {
        self.layer(Dropout::new(rate))
    }

    /// Adds [`Flatten`].
    #[track_caller]
    pub fn flatten(self) -> Self {
        self.layer(Flatten)
    }

    /// Adds a [`Conv`] along one spatial axis, of `filters` features with a bias and without padding.
    #[track_caller]
    pub fn conv1d(self, filters: i64, window: impl Into<PerAxis<1>>) -> Self {
        self.layer(Conv::<1>::new(filters, window))
    }

    /// Adds a [`Conv`] along two spatial axes, of `filters` features with a bias and without padding.
    #[track_caller]
    pub fn conv2d(self, filters: i64, window: impl Into<PerAxis<2>>) -> Self {
        self.layer(Conv::<2>::new(filters, window))
    }

    /// Adds a [`Conv`] along three spatial axes, of `filters` features with a bias and without padding.
    #[track_caller]
    pub fn conv3d(self, filters: i64, window: impl Into<PerAxis<3>>) -> Self {
        self.layer(Conv::<3>::new(filters, window))
    }

    /// Adds a [`MaxPool`] over one spatial axis, of windows side by side.
    #[track_caller]
    pub fn max_pool1d(self, window: impl Into<PerAxis<1>>) -> Self {
        self.layer(MaxPool::<1>::new(window))
    }

    /// Adds a [`MaxPool`] over two spatial axes, of windows side by side.
    #[track_caller]
    pub fn max_pool2d(self, window: impl Into<PerAxis<2>>) -> Self {
        self.layer(MaxPool::<2>::new(window))
    }

    /// Adds a [`MaxPool`] over three spatial axes, of windows side by side.
    #[track_caller]
    pub fn max_pool3d(self, window: impl Into<PerAxis<3>>) -> Self {
        self.layer(MaxPool::<3>::new(window))
    }

    /// Adds a [`AvgPool`] over one spatial axis, of windows side by side.
    #[track_caller]
    pub fn avg_pool1d(self, window: impl Into<PerAxis<1>>) -> Self {
        self.layer(AvgPool::<1>::new(window))
    }

    /// Adds a [`AvgPool`] over two spatial axes, of windows side by side.
    #[track_caller]
    pub fn avg_pool2d(self, window: impl Into<PerAxis<2>>) -> Self {
        self.layer(AvgPool::<2>::new(window))
    }

    /// Adds a [`AvgPool`] over three spatial axes, of windows side by side.
    #[track_caller]
    pub fn avg_pool3d(self, window: impl Into<PerAxis<3>>) -> Self {
        self.layer(AvgPool::<3>::new(window))
    }

    /// Adds [`GlobalMaxPool`].
    #[track_caller]
    pub fn global_max_pool(self) -> Self {
        self.layer(GlobalMaxPool::new())
    }

    /// Adds [`GlobalAvgPool`].
    #[track_caller]
    pub fn global_avg_pool(self) -> Self {
        self.layer(GlobalAvgPool::new())
    }

    /// Adds [`BatchNorm`] with the settings of Keras.
    #[track_caller]
    pub fn batch_norm(self) -> Self {
        self.layer(BatchNorm::new())
    }

    /// The table of the layers for f32 inputs with the batch `b`, or the mistakes in the model.
    pub fn summary(&self) -> Result<Summary, Diagnostics> {
        Summary::of(self, &self.input_type(DType::F32))
    }

    /// The type of an input of element type `dtype` with the batch `b`.
    pub fn input_type(&self, dtype: DType) -> TensorType {
        let batch = [Dim::symbol("b")];
        let shape: Shape = batch
            .into_iter()
            .chain(self.input.iter().cloned())
            .collect();
        TensorType { dtype, shape }
    }
}

impl Layer for Sequential {
    fn kind(&self) -> &str {
        "sequential"
    }

    #[track_caller]
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let Some(ty) = x.ty() else { return x };
        if ty.shape.split_first().map(|(_, features)| features) != Some(&*self.input) {
            let _at = cx.at_application();
            let wanted = self.input_type(ty.dtype);
            let refusal = Refusal::new(
                Kind::Shape,
                format!("the model takes inputs of type {wanted}, not {ty}"),
            );
            let refusal = match ty.shape.split_first() {
                Some((_, features)) => refusal.help(format!(
                    "begin the model with `Sequential::new({})`, or reshape the input",
                    Shape::from(features)
                )),
                None => refusal.help("the first axis of an input is the batch"),
            };
            return cx.builder().refuse(refusal, &[x]);
        }
        self.members.iter().fold(x, |x, member| {
            cx.layer_from(member.location.clone(), &member.name, &*member.layer, x)
        })
    }
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequential({}", self.input)?;
        for member in &self.members {
            write!(f, " -> {}", member.name)?;
        }
        f.write_str(")")
    }
}
