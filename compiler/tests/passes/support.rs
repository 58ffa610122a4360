//! What the tests share: expressions as text, feeds with odd values, and equality of bits.

use kiln_ir::ops::Op;
use kiln_ir::{Array, DType, Graph, NodeId, Slot, Step, Values, eval};

/// The output called `name` as an expression over the slots' names.
pub(crate) fn show(graph: &Graph, name: &str) -> String {
    let output = graph.outputs().iter().find(|o| o.name == name);
    expression(graph, output.expect("the output exists").node)
}

fn expression(graph: &Graph, id: NodeId) -> String {
    if let Some(slot) = graph.slots().iter().find(|s| s.node == id) {
        return slot.name.clone();
    }
    let node = graph.node(id).expect("the node exists");
    let attributes: Vec<String> = node
        .op
        .rules()
        .attributes()
        .iter()
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    let attributes = attributes.join(", ");
    match &node.op {
        Op::Constant(_) => format!("{} of {}", attributes.replace("value = ", ""), node.ty),
        Op::Reshape(_) | Op::Broadcast(_) | Op::Convert(_) | Op::Bitcast(_) => format!(
            "{}{{{}{attributes}}}({})",
            node.op.rules().name(),
            node.ty,
            arguments(graph, &node.operands)
        ),
        _ if attributes.is_empty() => format!(
            "{}({})",
            node.op.rules().name(),
            arguments(graph, &node.operands)
        ),
        _ => format!(
            "{}{{{attributes}}}({})",
            node.op.rules().name(),
            arguments(graph, &node.operands)
        ),
    }
}

fn arguments(graph: &Graph, operands: &[NodeId]) -> String {
    let operands: Vec<String> = operands.iter().map(|o| expression(graph, *o)).collect();
    operands.join(", ")
}

/// A generator of numbers; the same seed gives the same ones.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Which values a feed has.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Feed {
    /// Between -2 and 2.
    Moderate,
    /// NaN, infinities, zeros of both signs, subnormals, extremes, and a few plain ones.
    Odd,
}

/// A value for each slot of a graph whose only symbol is `b`.
pub(crate) fn feed(kind: Feed, seed: u64, b: i64) -> impl FnMut(&Slot, &Graph) -> Option<Array> {
    let mut numbers = Numbers(seed);
    move |slot, graph| {
        let ty = &graph.node(slot.node)?.ty;
        let size = |d: &kiln_ir::Dim| {
            if d.as_symbol().is_some() {
                Some(b)
            } else {
                d.constant()
            }
        };
        let shape: Vec<usize> = ty
            .shape
            .iter()
            .map(|d| size(d).map(|s| s as usize))
            .collect::<Option<_>>()?;
        let count: usize = shape.iter().product();
        let odd = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -0.0,
            1e-45,
            -1e-40,
            1.0,
            -1.0,
            3e38,
            -0.5,
            2.0,
        ];
        let odd_ints = [
            0,
            1,
            -1,
            i64::MIN,
            i64::MAX,
            i64::from(i32::MIN),
            255,
            3,
            64,
            7,
        ];
        let values = if ty.dtype.is_float() {
            Values::Float(
                (0..count)
                    .map(|_| match kind {
                        Feed::Moderate => numbers.below(4001) as f64 / 1000.0 - 2.0,
                        Feed::Odd => numbers.pick(&odd),
                    })
                    .collect(),
            )
        } else {
            Values::Int(
                (0..count)
                    .map(|_| match kind {
                        Feed::Moderate => numbers.below(7) as i64 - 3,
                        Feed::Odd => numbers.pick(&odd_ints),
                    })
                    .collect(),
            )
        };
        Array::new(ty.dtype, shape, values).ok()
    }
}

/// One step of a graph on the feed.
pub(crate) fn run(graph: &Graph, kind: Feed, seed: u64, b: i64) -> Step {
    let mut feed = feed(kind, seed, b);
    eval(graph, |slot| feed(slot, graph)).unwrap_or_else(|e| panic!("{e}"))
}

/// All results of a step, outputs first.
pub(crate) fn results(step: &Step) -> Vec<&Array> {
    let updates = step.updates.iter().map(|(_, a)| a);
    step.outputs.iter().chain(updates).collect()
}

/// Panics unless both graphs compute the same bits; a NaN is a NaN.
pub(crate) fn assert_same_bits(
    what: &str,
    before: &Graph,
    after: &Graph,
    kind: Feed,
    seed: u64,
    b: i64,
) {
    let (before, after) = (run(before, kind, seed, b), run(after, kind, seed, b));
    let (before, after) = (results(&before), results(&after));
    assert_eq!(before.len(), after.len(), "{what}");
    for (i, (x, y)) in before.iter().zip(&after).enumerate() {
        assert_eq!(
            (x.dtype(), x.shape()),
            (y.dtype(), y.shape()),
            "{what}, result {i}"
        );
        match (x.values(), y.values()) {
            (Values::Float(x), Values::Float(y)) => {
                let same =
                    |(x, y): (&f64, &f64)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
                assert!(
                    x.iter().zip(y).all(same),
                    "{what}, result {i}: {x:?} became {y:?}"
                );
            }
            (x, y) => assert_eq!(x, y, "{what}, result {i}"),
        }
    }
}

/// The element types whose arithmetic passes know.
pub(crate) const FLOATS: [DType; 2] = [DType::F32, DType::F64];
