//! Random well-typed graphs, and comparison without provenance. Shared by the tests of several crates through `#[path]`.
//!
//! A graph is a function of a seed and a number of nodes, drawn from Philox, so a failure is named by two numbers and shrinks by one.
//! The generator goes through the public builder: it makes no graph that a user could not.

// Each test binary uses a part, and includes the file as a private module.
#![allow(dead_code, unreachable_pub)]

use kiln_ir::ops::{Iota, ReduceKind, Region, Unary};
use kiln_ir::philox::Stream;
use kiln_ir::{
    Builder, DType, Dim, Graph, Init, Location, Node, Origin, Provenance, Shape, Tensor, TensorType,
};

/// Choices from one stream.
pub struct Choices(Stream);

impl Choices {
    /// The choices of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Stream::new(seed, "random graph", 0))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.next_u32() as usize % bound.max(1)
    }

    /// One of `items`, which are not empty.
    pub fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

/// Names that need quotes, escapes and slashes among plain ones.
const NAMES: [&str; 10] = [
    "x",
    "w",
    "0",
    "a b",
    "say \"hi\"",
    "back\\slash",
    "line\nend",
    "é",
    "",
    "param",
];

/// A random graph of about `size` nodes.
pub fn random_graph(seed: u64, size: usize) -> Graph {
    let mut choices = Choices::new(seed);
    let name = choices.pick(&NAMES);
    let builder = Builder::new(name);
    let mut tensors = Vec::new();
    for i in 0..1 + choices.below(5) {
        tensors.push(slot(&builder, &mut choices, i));
    }
    for _ in 0..size {
        let _outer = builder.scope(&format!("layer{}", choices.below(3)));
        let _inner = (choices.below(8) == 0).then(|| builder.scope("odd \"scope\"; %x"));
        tensors.extend(step(&builder, &mut choices, &tensors));
    }
    for i in 0..choices.below(4) {
        let name = match choices.below(3) {
            0 => i.to_string(),
            1 => format!("out{i}"),
            _ => format!("{} {i}", choices.pick(&NAMES)),
        };
        builder.output(&name, choices.pick(&tensors));
    }
    for target in builder.params() {
        let fitting: Vec<Tensor<'_>> = tensors
            .iter()
            .filter(|t| t.ty() == target.ty())
            .copied()
            .collect();
        if choices.below(2) == 0 {
            builder.update(target, choices.pick(&fitting));
        }
    }
    builder
        .finish()
        .unwrap_or_else(|e| panic!("seed {seed}, size {size}: {e}"))
}

fn extent(choices: &mut Choices) -> Dim {
    let texts = [
        "1",
        "2",
        "3",
        "0",
        "b",
        "t",
        "2*b + 1",
        "floordiv(b + 1, 2)",
        "b*t",
    ];
    choices.pick(&texts).parse().expect("a dim")
}

fn slot<'g>(builder: &'g Builder, choices: &mut Choices, i: usize) -> Tensor<'g> {
    // The first slot binds the symbols.
    let shape: Shape = if i == 0 {
        vec![Dim::symbol("t"), Dim::symbol("b")].into()
    } else {
        (0..choices.below(4)).map(|_| extent(choices)).collect()
    };
    let dtype = if choices.below(2) == 0 {
        DType::F32
    } else {
        choices.pick(&DType::ALL)
    };
    let name = format!("{}{i}", choices.pick(&NAMES));
    let scope = (choices.below(3) == 0).then(|| builder.scope("encoder"));
    let init = choices.pick(&[
        Init::Constant(-0.0),
        Init::Constant(f64::INFINITY),
        Init::uniform(0.087),
        Init::normal(1e-12),
    ]);
    let made = match choices.below(3) {
        0 => builder.input(&name, dtype, shape),
        1 => builder.param_of(&name, dtype, shape, init),
        _ => builder.state(&name, dtype, shape, init),
    };
    drop(scope);
    made
}

/// A number that floats, small integers and `bool` all round in their own ways.
fn number(choices: &mut Choices) -> f64 {
    choices.pick(&[
        0.0,
        -0.0,
        1.0,
        0.1,
        -2.5,
        1e-30,
        1e300,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1.8e19,
        1.0 / 3.0,
    ])
}

/// A few new nodes over earlier tensors.
fn step<'g>(
    builder: &'g Builder,
    choices: &mut Choices,
    tensors: &[Tensor<'g>],
) -> Vec<Tensor<'g>> {
    let x = choices.pick(tensors);
    let Some(ty) = x.ty() else { return Vec::new() };
    let rank = ty.rank();
    let float = ty.dtype.is_float();
    let alike: Vec<Tensor<'g>> = tensors
        .iter()
        .filter(|t| t.ty().as_ref() == Some(&ty))
        .copied()
        .collect();
    let y = choices.pick(&alike);
    let literal = builder.splat(ty.dtype, &ty.shape, number(choices));
    let numeric = ty.dtype != DType::Bool;
    vec![match choices.below(16) {
        0 if float => builder.push(choices.pick(Unary::ALL_FLOAT), &[x]),
        1 if numeric => x.plus(literal),
        2 if numeric => literal.minus(x),
        3 if numeric => x.maximum(y),
        // A constant with two uses has a line of its own.
        4 if numeric => return vec![x.times(literal), literal.plus(literal), literal],
        5 => {
            let condition = x.le(literal);
            let other = builder.splat(ty.dtype, &ty.shape, number(choices));
            return vec![
                condition,
                y.where_(condition, other),
                other.where_(condition, y),
            ];
        }
        // Both choices are literals, whose type no operand gives.
        6 => {
            let other = builder.splat(ty.dtype, &ty.shape, number(choices));
            other.where_(x.eq(y), literal)
        }
        7 if rank > 0 && numeric => {
            let kind = choices.pick(&[ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min]);
            x.reduce(kind, &[choices.below(rank)])
        }
        8 if rank > 0 && numeric => {
            let axis = choices.below(rank);
            if choices.below(2) == 0 || rank == 1 {
                x.dot_general(y, &[axis], &[axis], &[], &[])
            } else {
                let batch = (axis + 1) % rank;
                x.dot_general(y, &[axis], &[axis], &[batch], &[batch])
            }
        }
        9 if rank < 4 => {
            let leading = [extent(choices)]
                .into_iter()
                .chain(ty.shape.iter().cloned());
            x.broadcast_to(leading.collect::<Shape>())
        }
        10 if rank > 0 => {
            let mut order: Vec<usize> = (0..rank).collect();
            order.rotate_left(choices.below(rank));
            x.transpose(&order)
        }
        11 => x.reshape(ty.shape.iter().rev().cloned().collect::<Shape>()),
        12 => x.convert(choices.pick(&DType::ALL)),
        13 if rank > 0 && numeric => builder.push(
            Iota {
                axis: choices.below(rank),
                ty,
            },
            &[],
        ),
        14 => constant(builder, choices),
        15 if rank > 0 => {
            let start = vec![Dim::from(0); rank];
            x.slice(&start, &ty.shape, &vec![1 + choices.below(2) as i64; rank])
        }
        _ => literal.stop_gradient(),
    }]
}

fn constant<'g>(builder: &'g Builder, choices: &mut Choices) -> Tensor<'g> {
    let pair = [number(choices), number(choices)];
    match choices.below(5) {
        0 => builder.constant([2], &pair.map(|x| x as f32)),
        1 => builder.constant([1, 2], &pair),
        2 => builder.constant([2, 1], &pair.map(|x| x as i64)),
        3 => builder.constant([2], &pair.map(|x| x > 0.0)),
        _ => builder.constant([0, 2], &[0u8; 0]),
    }
}

/// The floating unary ops without `not`, as a table of the generator.
trait FloatOps {
    const ALL_FLOAT: &'static [Unary];
}

impl FloatOps for Unary {
    const ALL_FLOAT: &'static [Unary] = &[
        Unary::Neg,
        Unary::Exp,
        Unary::Log1p,
        Unary::Tanh,
        Unary::IsFinite,
    ];
}

/// The same graph with one provenance for all nodes, those of its regions too.
pub fn without_provenance(graph: &Graph) -> Graph {
    let nowhere = Provenance {
        location: Location {
            file: "".into(),
            line: 1,
            column: 1,
        },
        scope: "".into(),
        origin: Origin::User,
    };
    with_nodes(graph, |_, node| {
        let mut node = node.clone();
        if let Some(control) = node.op.as_compound() {
            let regions = control.regions().into_iter();
            let regions = regions.map(|region| Region::new(without_provenance(region)));
            node.op = control.with_regions(regions.collect());
        }
        node.provenance = nowhere.clone();
        node
    })
}

/// The same graph with other nodes in the places of its own.
pub fn with_nodes(graph: &Graph, mut change: impl FnMut(usize, &Node) -> Node) -> Graph {
    let mut changed = Graph::empty(&graph.name);
    for (id, node) in graph.nodes() {
        changed.push(change(id.index(), node));
    }
    graph
        .slots()
        .iter()
        .for_each(|s| changed.push_slot(s.clone()));
    graph
        .outputs()
        .iter()
        .for_each(|o| changed.push_output(o.clone()));
    graph.updates().iter().for_each(|u| changed.push_update(*u));
    changed
}

/// A tensor type from its spelling, for short tests.
pub fn ty(dtype: DType, dims: &[&str]) -> TensorType {
    let dims: Shape = dims
        .iter()
        .map(|d| d.parse::<Dim>().expect("a dim"))
        .collect();
    TensorType::new(dtype, dims)
}
