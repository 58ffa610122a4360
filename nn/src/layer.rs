//! What a layer is, and the context it is applied in.
//!
//! A layer is a description: sizes, rates, initialisers. It holds no tensors, so one model value gives the training graph, the
//! evaluation graph and the prediction graph, and their params meet by name. Everything here stands on the public API of `kiln-ir`; a
//! layer of your own needs nothing that the ones in this crate do not use.

use crate::continuation::Continuation;
use crate::initialisers::{Fans, Initialiser};
use crate::summary::{Row, Trace};
use kiln_ir::{
    Builder, DType, Init, Kind, Location, LocationGuard, Refusal, Shape, Tensor, TensorType,
};

/// A function of one tensor that may own params and draw random numbers.
///
/// ```
/// use kiln_ir::{Builder, DType, Init, Tensor};
/// use kiln_nn::{Context, Layer};
///
/// /// Multiplies each feature by a number that is learned.
/// struct Scale;
///
/// impl Layer for Scale {
///     fn kind(&self) -> &str {
///         "scale"
///     }
///
///     fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
///         let Some(ty) = x.ty() else { return x };
///         x * cx.param("gain", ty.dtype, &ty.shape[1..], &Init::ones())
///     }
/// }
///
/// let g = Builder::new("scaled");
/// let x = g.input("x", DType::F32, (g.dim("b"), 3));
/// let y = Context::training(&g).layer("scale", &Scale, x);
/// g.output("y", y);
/// assert_eq!(g.finish().unwrap().slots()[1].name, "scale/gain");
/// ```
pub trait Layer {
    /// One lower-case word: the stem of the names that [`Sequential`](crate::Sequential) gives, and a column of the summary.
    fn kind(&self) -> &str;

    /// The result for `x`. The caller has opened the layer's scope; params are declared through `cx`, so that a second application can
    /// share them. A poisoned `x` gives a poisoned result and no message.
    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g>;
}

/// What the graph is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Steps that learn: dropout drops, and batch normalisation looks at its batch.
    Training,
    /// Evaluation and prediction: every layer is a plain function of its input.
    Inference,
}

/// Where layers are applied: the builder, the mode, and whether params are declared or shared.
#[derive(Clone)]
pub struct Context<'g> {
    builder: &'g Builder,
    mode: Mode,
    sharing: bool,
    continuation: Option<Continuation<'g>>,
    location: Option<Location>,
    trace: Option<Trace<'g>>,
}

impl<'g> Context<'g> {
    /// A context for a graph that is trained.
    pub fn training(builder: &'g Builder) -> Self {
        Self::new(builder, Mode::Training)
    }

    /// A context for a graph that evaluates or predicts.
    pub fn inference(builder: &'g Builder) -> Self {
        Self::new(builder, Mode::Inference)
    }

    /// A context for either.
    pub fn new(builder: &'g Builder, mode: Mode) -> Self {
        Self {
            builder,
            mode,
            sharing: false,
            continuation: None,
            location: None,
            trace: None,
        }
    }

    /// The same context for a further application of layers already applied under the same names: their params are found, not declared.
    /// So a discriminator judges real and generated pictures in one graph, and a siamese network its two sides.
    pub fn sharing(&self) -> Self {
        Self {
            sharing: true,
            ..self.clone()
        }
    }

    /// The same context for a step that goes on with a sequence, which is one of inference: attentions within a sequence keep keys and
    /// values as states, and positions begin at that of the step.
    ///
    /// Other layers take what they are given for a whole sequence: those that look along time, recurrent layers and convolutions, have no
    /// place here.
    pub fn continuing(&self, continuation: Continuation<'g>) -> Self {
        Self {
            continuation: Some(continuation),
            mode: Mode::Inference,
            ..self.clone()
        }
    }

    /// Where the step goes on with a sequence; none where it is given whole ones.
    pub fn continuation(&self) -> Option<Continuation<'g>> {
        self.continuation
    }

    /// The builder of the graph.
    pub fn builder(&self) -> &'g Builder {
        self.builder
    }

    /// What the graph is for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether params and states are found instead of declared. What a layer updates, it updates in the application that declares.
    pub fn is_sharing(&self) -> bool {
        self.sharing
    }

    /// Applies `layer` to `x` in the scope `name`, so that its params are called `name/...`. The calling line is the one that mistakes
    /// and nodes of the layer are charged to.
    #[track_caller]
    pub fn layer<L: Layer + ?Sized>(&self, name: &str, layer: &L, x: Tensor<'g>) -> Tensor<'g> {
        self.layer_from(Location::caller(), name, layer, x)
    }

    /// [`Context::layer`] with the line to charge: for containers that were told of the layer before they are applied.
    pub fn layer_from<L: Layer + ?Sized>(
        &self,
        location: Location,
        name: &str,
        layer: &L,
        x: Tensor<'g>,
    ) -> Tensor<'g> {
        self.scoped(location, name, layer.kind(), |inner| layer.apply(inner, x))
    }

    /// Applies a layer of several tensors in the scope `name`, as [`Context::layer`] does one of a single tensor: an attention and its
    /// memory, a block and its masks. `kind` is what the summary calls it. In a [sharing](Context::sharing) context the scope is that of a
    /// layer applied before, so tied weights are found here.
    ///
    /// ```
    /// use kiln_ir::{Builder, DType};
    /// use kiln_nn::{Context, Embedding};
    ///
    /// let embedding = Embedding::new(65, 32);
    /// let g = Builder::new("tied");
    /// let cx = Context::training(&g);
    /// let x = cx.layer("tokens", &embedding, g.input("x", DType::I32, (g.dim("b"), 8)));
    /// let logits = cx.sharing().within("tokens", "head", |cx| embedding.logits(cx, x));
    /// assert_eq!(logits.ty().unwrap().to_string(), "f32[b, 8, 65]");
    /// assert_eq!(g.params().len(), 1);
    /// ```
    #[track_caller]
    pub fn within(
        &self,
        name: &str,
        kind: &str,
        apply: impl FnOnce(&Self) -> Tensor<'g>,
    ) -> Tensor<'g> {
        self.scoped(Location::caller(), name, kind, apply)
    }

    /// A layer inside the layer of this context, charged to the line that applied the outer one.
    #[track_caller]
    pub(crate) fn member<L: Layer + ?Sized>(
        &self,
        name: &str,
        layer: &L,
        x: Tensor<'g>,
    ) -> Tensor<'g> {
        let line = self.location.clone().unwrap_or_else(Location::caller);
        self.layer_from(line, name, layer, x)
    }

    /// [`Context::within`] inside the layer of this context, charged to the line that applied the outer one.
    #[track_caller]
    pub(crate) fn member_within(
        &self,
        name: &str,
        kind: &str,
        apply: impl FnOnce(&Self) -> Tensor<'g>,
    ) -> Tensor<'g> {
        let line = self.location.clone().unwrap_or_else(Location::caller);
        self.scoped(line, name, kind, apply)
    }

    fn scoped(
        &self,
        location: Location,
        name: &str,
        kind: &str,
        apply: impl FnOnce(&Self) -> Tensor<'g>,
    ) -> Tensor<'g> {
        let _scope = self.builder.scope(name);
        let inner = Self {
            location: Some(location),
            trace: self.trace.map(|t| t.deeper()),
            ..self.clone()
        };
        let Some(trace) = self.trace else {
            return apply(&inner);
        };
        // The row is written after the layer, but above the rows of the layers inside it.
        let place = trace.rows.borrow().len();
        let before = self.builder.params().len();
        let y = apply(&inner);
        if let Some(output) = y.ty() {
            let added = self.builder.params().into_iter().skip(before);
            let row = Row {
                path: self.builder.scope_path(),
                kind: kind.to_owned(),
                depth: trace.depth,
                output,
                parameters: crate::summary::parameters(added),
            };
            trace.rows.borrow_mut().insert(place, row);
        }
        y
    }

    /// A trainable tensor called `name` within the open scope, or the one declared before in a [sharing](Context::sharing) context.
    ///
    /// The initialiser learns the fans from the shape, by the convention of [`Fans::of`].
    #[track_caller]
    pub fn param(
        &self,
        name: &str,
        dtype: DType,
        shape: impl Into<Shape>,
        initialiser: &dyn Initialiser,
    ) -> Tensor<'g> {
        let shape = shape.into();
        if !self.sharing {
            let init = initialiser.resolve(Fans::of(&shape));
            return self.builder.param_of(name, dtype, shape, init);
        }
        self.shared(name, dtype, shape)
    }

    /// A tensor called `name` within the open scope that is kept from step to step and not trained, or the one declared before in a
    /// [sharing](Context::sharing) context.
    #[track_caller]
    pub fn state(
        &self,
        name: &str,
        dtype: DType,
        shape: impl Into<Shape>,
        init: Init,
    ) -> Tensor<'g> {
        if !self.sharing {
            return self.builder.state(name, dtype, shape, init);
        }
        self.shared(name, dtype, shape.into())
    }

    /// The param or state `name` of the open scope that was declared before.
    #[track_caller]
    fn shared(&self, name: &str, dtype: DType, shape: Shape) -> Tensor<'g> {
        let mut path = self.builder.scope_path();
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(name);
        let wanted = TensorType::new(dtype, shape);
        match self.builder.find(&path) {
            Some(found) if found.ty().as_ref() == Some(&wanted) => found,
            Some(found) => self.builder.refuse(
                Refusal::new(
                    Kind::Shape,
                    format!("`{path}` is shared as {wanted}, but it was declared otherwise"),
                )
                .help("a shared layer takes inputs with the same features each time"),
                &[found],
            ),
            None => self.builder.refuse(
                Refusal::new(Kind::Signature, format!("there is no `{path}` to share")).help(
                    "apply the layer once in a context that is not sharing, under the same name",
                ),
                &[],
            ),
        }
    }

    /// The line that applied the layer, for a layer that applies others in its place by [`Context::layer_from`]. None outside of any layer.
    pub fn location(&self) -> Option<Location> {
        self.location.clone()
    }

    /// Charges what follows to the line that applied the layer. Layers of this crate hold the guard while they build, for a reader
    /// wants to see the line with `.dense(10)`, not ours; a layer of your own may leave it out to show its own lines.
    pub fn at_application(&self) -> Option<LocationGuard<'g>> {
        self.location.clone().map(|l| self.builder.charged_to(l))
    }

    pub(crate) fn traced(mut self, trace: Trace<'g>) -> Self {
        self.trace = Some(trace);
        self
    }
}
