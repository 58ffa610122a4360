//! The check of one gradient: analytic against central differences in f64, first and second order.
//!
//! The loss is a weighted sum of the op's result, so that no element can hide behind another. The second order differentiates the
//! weighted sum of squares of the first-order gradients once more and is checked in the same way.

use kiln_ir::ops::{Iota, Op};
use kiln_ir::{Array, Builder, DType, Graph, Init, Shape, Tensor, Value, Values, eval, grad};

const STEP: f64 = 1e-5;

type Build = Box<dyn for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g>>;

/// One expression around the op under test, and where it is differentiated.
pub(crate) struct Case {
    /// The op, as [`key`] names it; the graph must have it.
    pub(crate) op: &'static str,
    build: Build,
    declared: Vec<Shape>,
    sizes: Vec<Vec<i64>>,
    points: Vec<Vec<f64>>,
}

/// The name of an op, with its kind where it has one: `exp`, `reduce prod`.
pub(crate) fn key(op: &Op) -> String {
    let attributes = op.rules().attributes();
    let kind = attributes.iter().find(|(name, _)| *name == "kind");
    if let Some((_, Value::Word(kind))) = kind {
        format!("{} {kind}", op.rules().name())
    } else {
        op.rules().name().to_owned()
    }
}

impl Case {
    /// Params of the given sizes, with elements between `range.0` and `range.1`, spread and without ties.
    pub(crate) fn new(
        op: &'static str,
        sizes: &[&[i64]],
        range: (f64, f64),
        build: impl for<'g> Fn(&[Tensor<'g>]) -> Tensor<'g> + 'static,
    ) -> Self {
        let mut k = 0.0;
        let mut next = || {
            k += 0.618_033_988_749_895;
            range.0 + (range.1 - range.0) * f64::fract(k)
        };
        let points = sizes
            .iter()
            .map(|s| (0..s.iter().product()).map(|_| next()).collect())
            .collect();
        Self {
            op,
            build: Box::new(build),
            declared: sizes.iter().map(|s| Shape::from(*s)).collect(),
            sizes: sizes.iter().map(|s| s.to_vec()).collect(),
            points,
        }
    }

    /// The same with params that are declared with symbolic extents, which the sizes bind.
    pub(crate) fn declared(mut self, shapes: &[&[&str]]) -> Self {
        let shape = |dims: &&[&str]| -> Shape { dims.iter().map(|d| d.parse().unwrap()).collect() };
        self.declared = shapes.iter().map(shape).collect();
        self
    }

    /// The same at other points.
    pub(crate) fn at(mut self, points: &[&[f64]]) -> Self {
        self.points = points.iter().map(|p| p.to_vec()).collect();
        self
    }

    /// Checks both orders.
    pub(crate) fn check(&self) {
        self.check_order(1);
        self.check_order(2);
    }

    /// The graph of one order: outputs the loss and its gradients.
    fn graph(&self, order: usize) -> Graph {
        let g = Builder::new("gradient");
        let params: Vec<Tensor<'_>> = self
            .declared
            .iter()
            .enumerate()
            .map(|(i, s)| g.param_of(&format!("p{i}"), DType::F64, s, Init::zeros()))
            .collect();
        let result = (self.build)(&params);
        let mut loss = (result * weights(result)).sum();
        if order == 2 {
            let first = grad(loss, &params);
            loss = first
                .iter()
                .map(|t| (t.square() * weights(*t)).sum())
                .reduce(|a, b| a + b)
                .expect("params");
        }
        g.output("loss", loss);
        for (i, gradient) in grad(loss, &params).into_iter().enumerate() {
            assert_eq!(
                gradient.ty(),
                params[i].ty(),
                "{}, order {order}, p{i}",
                self.op
            );
            g.output(&format!("d{i}"), gradient);
        }
        g.finish()
            .unwrap_or_else(|e| panic!("{}, order {order}: {e}", self.op))
    }

    fn run(&self, graph: &Graph, points: &[Vec<f64>]) -> Vec<Vec<f64>> {
        run(graph, points, &self.sizes)
    }

    fn check_order(&self, order: usize) {
        let graph = self.graph(order);
        assert!(
            graph.nodes().any(|(_, n)| key(&n.op) == self.op),
            "the case of `{}` has no such op",
            self.op
        );
        let exact = self.run(&graph, &self.points);
        for (p, values) in self.points.iter().enumerate() {
            for i in 0..values.len() {
                let loss = |delta: f64| {
                    let mut moved = self.points.clone();
                    moved[p][i] += delta;
                    self.run(&graph, &moved)[0][0]
                };
                let central = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                let analytic = exact[1 + p][i];
                let scale = 1.0 + central.abs().max(exact[0][0].abs());
                assert!(
                    (central - analytic).abs() <= 1e-6 * scale,
                    "{}, order {order}, p{p}[{i}]: {analytic} but {central}",
                    self.op
                );
            }
        }
    }
}

/// Evaluates a graph whose params are `p0`, `p1`, ...; the values of its outputs.
pub(crate) fn run(graph: &Graph, points: &[Vec<f64>], sizes: &[Vec<i64>]) -> Vec<Vec<f64>> {
    let step = eval(graph, |slot| {
        let i: usize = slot.name[1..].parse().ok()?;
        let shape = sizes[i].iter().map(|d| *d as usize).collect();
        Array::new(DType::F64, shape, Values::Float(points[i].clone())).ok()
    });
    step.unwrap_or_else(|e| panic!("{e}"))
        .outputs
        .iter()
        .map(|a| a.floats().unwrap().to_vec())
        .collect()
}

/// A weight for each element: different, none zero.
fn weights<'g>(like: Tensor<'g>) -> Tensor<'g> {
    let ty = like.ty().expect("the op under test fits");
    let mut total = like.builder().splat(ty.dtype, &ty.shape, 0.7);
    for axis in 0..ty.rank() {
        let index = Iota {
            ty: ty.clone(),
            axis,
        };
        total = total + like.builder().push(index, &[]) * (0.3 + axis as f64);
    }
    total
}
