//! Convolutions alone, forward and both ways back, beside the FMA peak of the machine.
//!
//! ```text
//! conv shape=3x3_64to64_56 forward_gflops=180.0 forward=0.62 dx_gflops=170.0 dx=0.59 dw_gflops=190.0 dw=0.66
//! ```
//!
//! Batches of 8 pictures on one thread. `dx` is the gradient by the pictures, `dw` that by the kernel; each counts as many FLOPs as the
//! convolution forward, two for each multiply-add of its definition, padding included. The share is that of the peak measured in the same
//! run. Each is a session of its own that is fed its operands and returns its result, as a user would have it.

use super::block::Block;
use super::{Failure, seconds};
use kiln::ir::{ConvOptions, Op, Padding};
use kiln::runtime::machine;
use kiln::train::flops::multiply_adds;
use kiln::{Bindings, Builder, DType, Feed, Graph, Options, Session, SessionOptions, grad};
use std::fmt::Write as _;
use std::hint::black_box;
use std::num::NonZeroUsize;

const BATCH: i64 = 8;
const ROUNDS: usize = 15;
/// How long a turn lasts about, where a single run is shorter.
const TURN: f64 = 4e-3;

/// A convolution of square pictures, padded by half the window.
struct Shape {
    name: &'static str,
    side: i64,
    input: i64,
    output: i64,
    window: i64,
    stride: i64,
    groups: i64,
}

impl Shape {
    const fn square(name: &'static str, side: i64, features: i64) -> Self {
        Self {
            name,
            side,
            input: features,
            output: features,
            window: 3,
            stride: 1,
            groups: 1,
        }
    }
}

const SHAPES: [Shape; 6] = [
    Shape::square("3x3_64to64_56", 56, 64),
    Shape::square("3x3_64to64_28", 28, 64),
    Shape::square("3x3_64to64_14", 14, 64),
    Shape {
        input: 256,
        window: 1,
        ..Shape::square("1x1_256to64_56", 56, 64)
    },
    Shape {
        input: 3,
        window: 7,
        stride: 2,
        ..Shape::square("7x7s2_3to64_224", 224, 64)
    },
    Shape {
        groups: 128,
        ..Shape::square("3x3_depthwise128_56", 56, 128)
    },
];

/// What is computed.
#[derive(Clone, Copy)]
enum Way {
    Forward,
    ByPictures,
    ByKernel,
}

const WAYS: [(Way, &str); 3] = [
    (Way::Forward, "forward"),
    (Way::ByPictures, "dx"),
    (Way::ByKernel, "dw"),
];

/// Measures all shapes; `show` gets each line when it is known.
pub(crate) fn measure(options: &Options, mut show: impl FnMut(String)) -> Result<(), Failure> {
    for shape in &SHAPES {
        let flops = 2 * forward_multiply_adds(&graph(shape, Way::Forward)?)?;
        let mut runs = Vec::new();
        for (way, _) in WAYS {
            runs.push(Run::new(&graph(shape, way)?, options)?);
        }
        let mut best = [f64::INFINITY; WAYS.len()];
        let mut peak = 0.0_f64;
        for _ in 0..ROUNDS {
            peak = peak.max(machine::fma_peak());
            for (best, run) in best.iter_mut().zip(&mut runs) {
                *best = best.min(run.turn()?);
            }
        }
        let mut line = format!("conv shape={}", shape.name);
        for (time, (_, name)) in best.into_iter().zip(WAYS) {
            let rate = flops as f64 / time;
            let (gflops, share) = (rate / 1e9, rate / peak);
            write!(line, " {name}_gflops={gflops:.1} {name}={share:.2}")?;
        }
        show(line);
    }
    Ok(())
}

/// The graph of one way: the operands in, the result out.
fn graph(shape: &Shape, way: Way) -> Result<Graph, Failure> {
    let g = Builder::new("conv");
    let Shape { side, window, .. } = *shape;
    let pictures = [BATCH, side, side, shape.input];
    let kernel = [window, window, shape.input / shape.groups, shape.output];
    let x = g.input("x", DType::F32, pictures);
    let w = g.input("w", DType::F32, kernel);
    let y = x.conv(
        w,
        &ConvOptions {
            stride: vec![shape.stride],
            padding: Padding::both(window / 2),
            groups: shape.groups,
            ..ConvOptions::default()
        },
    );
    let result = match (way, y.ty()) {
        (Way::ByPictures | Way::ByKernel, Some(ty)) => {
            // The gradient of this sum is the convolution of `cotangent` alone.
            let cotangent = g.input("cotangent", ty.dtype, &ty.shape);
            let operand = if matches!(way, Way::ByPictures) { x } else { w };
            grad((y * cotangent).sum(), &[operand])[0]
        }
        (Way::Forward, _) | (_, None) => y,
    };
    g.output("result", result);
    Ok(g.finish()?)
}

fn forward_multiply_adds(graph: &Graph) -> Result<u64, Failure> {
    let mut nodes = graph.nodes().map(|(_, node)| node);
    let conv = nodes.find(|node| matches!(node.op, Op::Conv(_)));
    let conv = conv.ok_or("the graph has no convolution")?;
    Ok(multiply_adds(graph, conv, &Bindings::new())?)
}

/// A session with what it is fed.
struct Run {
    session: Session,
    inputs: Vec<(Block, Vec<usize>)>,
    repeats: u32,
}

impl Run {
    fn new(graph: &Graph, options: &Options) -> Result<Self, Failure> {
        let session = kiln::compile(graph, options)?.session_with(&SessionOptions {
            threads: Some(NonZeroUsize::MIN),
            ..SessionOptions::new(1)
        })?;
        let mut inputs = Vec::new();
        for input in &session.program().inputs {
            let extents = input.ty.shape.iter();
            let extents = extents.map(|d| d.eval_size(&Bindings::new()));
            let shape: Vec<usize> = extents.collect::<Result<_, _>>()?;
            inputs.push((Block::filled(shape.iter().product())?, shape));
        }
        let mut run = Self {
            session,
            inputs,
            repeats: 1,
        };
        run.turn()?;
        run.repeats = (TURN / run.turn()?).max(1.0) as u32;
        Ok(run)
    }

    /// The seconds of a step, the mean of those of a turn.
    fn turn(&mut self) -> Result<f64, Failure> {
        let inputs = self.inputs.iter();
        let feeds: Vec<Feed> = inputs
            .map(|(x, shape)| Feed::new(x.floats(), shape))
            .collect();
        let session = &mut self.session;
        let mut step = || {
            black_box(session.step(&feeds)?);
            Ok(())
        };
        seconds(&mut step, self.repeats)
    }
}
