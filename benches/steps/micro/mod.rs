//! Micro workloads: one op or one update at four levels of the memory hierarchy, beside a loop written by hand for the same work.
//!
//! The loop uses the widest registers of the machine (AVX-512, else AVX2, else what the compiler makes of plain code), ordinary stores and
//! one thread. It does the arithmetic of the graph as a person would write it for speed: multiply-adds are contracted, a division by the
//! same number is a product with its reciprocal, sums have several chains, and NaN and signed zeros are not cared for. It asks for no
//! memory ahead of its loads, so a kernel that does can be faster than the loop in DRAM.
//!
//! Kiln's side is a whole `Session::step`: feeds, params and state as users have them, the fixed cost of a step included. That cost is a
//! few tens of nanoseconds, which at the level `l1` is a large part of the whole: the operands take up 24 KiB, so that they really lie in
//! an L1 of 32 KiB or more.
//!
//! Before anything is timed, the results of one step of both are compared, at a small size those of the narrower loops too.

mod adam;
pub(crate) mod attention;
mod bias_grad;
mod block;
pub(crate) mod convolution;
mod layernorm;
mod maps;
mod math;
mod softmax;
mod vector;

use block::Block;
use kiln::runtime::machine;
use kiln::{Bindings, DType, Feed, Graph, Options, Session, SessionOptions};
use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

pub(crate) type Failure = Box<dyn Error>;

/// The bytes of an element.
const F32: usize = size_of::<f32>();

/// A loop written by hand: the inputs, and what it owns: residents, then outputs, in the order of the graph.
pub(crate) type Rival = fn(&[Block], &mut [Block]);

/// A workload at one level.
pub(crate) struct Case {
    graph: Graph,
    bindings: Bindings,
    /// The loops that the machine can run, widest first; there is always one.
    rivals: Vec<Rival>,
}

impl Case {
    /// A graph over `n` elements or rows.
    fn of(graph: Graph, n: usize, rivals: Vec<Rival>) -> Case {
        let bindings = Bindings::from([("n", i64::try_from(n).unwrap_or(i64::MAX))]);
        Case {
            graph,
            bindings,
            rivals,
        }
    }

    /// The loop that is the rival.
    fn widest(&self) -> Rival {
        self.rivals[0]
    }
}

/// One kind of line: its name, and its case for a number of bytes that all operands together take up.
pub(crate) struct Micro {
    name: &'static str,
    case: fn(usize) -> Result<Case, Failure>,
}

const fn micro(name: &'static str, case: fn(usize) -> Result<Case, Failure>) -> Micro {
    Micro { name, case }
}

pub(crate) const ADD: &[Micro] = &[micro("add", maps::add)];
pub(crate) const AXPBY: &[Micro] = &[micro("axpby", maps::axpby)];
pub(crate) const EXP: &[Micro] = &[micro("exp", maps::exponential)];
pub(crate) const GELU: &[Micro] = &[micro("gelu", maps::gelu)];
pub(crate) const SOFTMAX: &[Micro] = &[micro("softmax", softmax::softmax)];
pub(crate) const LAYERNORM: &[Micro] = &[
    micro("layernorm", layernorm::forward),
    micro("layernorm_dx", layernorm::by_rows),
    micro("layernorm_backward", layernorm::backward),
];
pub(crate) const BIAS_GRAD: &[Micro] = &[micro("bias_grad", bias_grad::bias_grad)];
pub(crate) const ADAM: &[Micro] = &[micro("adam", adam::adam)];

/// The levels, with the bytes of all operands of one side.
const LEVELS: [(&str, usize); 4] = [
    ("l1", 24 << 10),
    ("l2", 512 << 10),
    ("l3", 8 << 20),
    ("dram", DRAM),
];
const DRAM: usize = 256 << 20;
/// A size that no register divides, at which all loops are compared with Kiln, those of narrower instruction sets too.
const CHECKED: usize = 20_012;
/// Loop and Kiln take turns, so that the machine's other work meets both alike; the best of each counts.
const ROUNDS: usize = 25;
/// How long a turn lasts about, where a single run is shorter.
const TURN: Duration = Duration::from_millis(4);
/// The least share of the triad's bandwidth at which the loop `add` is a fair rival in DRAM.
const FAIR: f64 = 0.95;

/// Measures workloads; `show` gets each line when it is known.
pub(crate) fn measure(
    workloads: &[Micro],
    options: &Options,
    mut show: impl FnMut(String),
) -> Result<(), Failure> {
    show(triad_line()?);
    for micro in workloads {
        let at = |size: &str, error: Failure| format!("{} at {size}: {error}", micro.name);
        let small = (micro.case)(CHECKED)?;
        for rival in &small.rivals {
            checked(&small, *rival, &mut open(&small, options)?)
                .map_err(|e| at("a small size", e))?;
        }
        for (level, footprint) in LEVELS {
            let case = (micro.case)(footprint)?;
            let figures = compare(&case, options).map_err(|e| at(&format!("level {level}"), e))?;
            show(format!(
                "{} level={level} gbps={:.1} ratio={:.2}",
                micro.name,
                figures.bytes as f64 / figures.kiln / 1e9,
                figures.rival / figures.kiln,
            ));
        }
    }
    Ok(())
}

/// The bandwidth of memory, and the share of it that the loop `add` reaches, in turns.
fn triad_line() -> Result<String, Failure> {
    let rival = maps::add(DRAM)?.widest();
    let elements = DRAM / (3 * F32);
    let inputs = [Block::filled(elements)?, Block::filled(elements)?];
    let mut own = [Block::new(elements * F32)?];
    let (mut triad, mut add) = (0.0_f64, 0.0_f64);
    for _ in 0..5 {
        triad = triad.max(machine::triad());
        for _ in 0..5 {
            let start = Instant::now();
            rival(&inputs, &mut own);
            black_box(&mut own);
            add = add.max((3 * F32 * elements) as f64 / start.elapsed().as_secs_f64());
        }
    }
    let share = add / triad;
    if share < FAIR {
        eprintln!(
            "warning: the loop `add` reaches {share:.2} of the triad's bandwidth and should reach {FAIR}: ratios of this run say little"
        );
    }
    Ok(format!("triad gbps={:.1} add_loop={share:.2}", triad / 1e9))
}

/// What one comparison found.
struct Figures {
    /// The bytes that a step reads and writes at least.
    bytes: usize,
    /// Seconds of Kiln's step.
    kiln: f64,
    /// Seconds of the loop.
    rival: f64,
}

fn compare(case: &Case, options: &Options) -> Result<Figures, Failure> {
    let rival = case.widest();
    let mut session = open(case, options)?;
    let Operands {
        inputs,
        shapes,
        mut own,
        bytes,
    } = checked(case, rival, &mut session)?;
    let feeds = feeds(&inputs, &shapes);
    let mut rival = || {
        rival(&inputs, &mut own);
        black_box(&mut own);
        Ok(())
    };
    let mut kiln = || {
        black_box(session.step(&feeds)?);
        Ok(())
    };
    let repeats = [repeats(&mut rival)?, repeats(&mut kiln)?];
    let mut best = [f64::INFINITY; 2];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(seconds(&mut rival, repeats[0])?);
        best[1] = best[1].min(seconds(&mut kiln, repeats[1])?);
    }
    Ok(Figures {
        bytes,
        rival: best[0],
        kiln: best[1],
    })
}

fn open(case: &Case, options: &Options) -> Result<Session, Failure> {
    let executable = kiln::compile(&case.graph, options)?;
    Ok(executable.session_with(&SessionOptions {
        threads: Some(NonZeroUsize::MIN),
        ..SessionOptions::new(1)
    })?)
}

fn feeds<'a>(inputs: &'a [Block], shapes: &'a [Vec<usize>]) -> Vec<Feed<'a>> {
    let pairs = inputs.iter().zip(shapes);
    pairs
        .map(|(input, shape)| Feed::new(input.floats(), shape))
        .collect()
}

/// How many runs make a turn.
fn repeats(run: &mut impl FnMut() -> Result<(), Failure>) -> Result<u32, Failure> {
    run()?;
    let one = seconds(run, 1)?;
    Ok((TURN.as_secs_f64() / one).max(1.0) as u32)
}

/// The seconds of one of several runs.
fn seconds(run: &mut impl FnMut() -> Result<(), Failure>, runs: u32) -> Result<f64, Failure> {
    let start = Instant::now();
    for _ in 0..runs {
        run()?;
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(runs))
}

/// The operands of a case: inputs for both sides, and what the loop owns, which begins as the session's does.
struct Operands {
    inputs: Vec<Block>,
    /// The extents of each input.
    shapes: Vec<Vec<usize>>,
    own: Vec<Block>,
    /// Inputs and residents count once for reading, outputs and updated residents once for writing.
    bytes: usize,
}

impl Operands {
    fn new(case: &Case, session: &Session) -> Result<Operands, Failure> {
        let program = session.program();
        let mut found = Operands {
            inputs: Vec::new(),
            shapes: Vec::new(),
            own: Vec::new(),
            bytes: 0,
        };
        for input in &program.inputs {
            if input.ty.dtype != DType::F32 {
                return Err(format!("the input `{}` is not f32", input.name).into());
            }
            let extents = input.ty.shape.iter().map(|d| d.eval_size(&case.bindings));
            let shape: Vec<usize> = extents.collect::<Result<_, _>>()?;
            let elements = shape.iter().product();
            found.inputs.push(Block::filled(elements)?);
            found.shapes.push(shape);
            found.bytes += elements * F32;
        }
        for state in session.states() {
            found.own.push(Block::copied(state.bytes())?);
            found.bytes += state.bytes().len();
        }
        for update in case.graph.updates() {
            let slots = case.graph.slots().iter();
            for slot in slots.filter(|slot| slot.node == update.target) {
                found.bytes += session.state(&slot.name)?.bytes().len();
            }
        }
        for output in &program.outputs {
            let bytes = program.bytes(output.buffer, &case.bindings)?;
            found.own.push(Block::new(bytes)?);
            found.bytes += bytes;
        }
        Ok(found)
    }
}

/// Runs one step of a fresh session and of a loop and compares all f32 results, so that no time is compared with that of other work.
fn checked(case: &Case, rival: Rival, session: &mut Session) -> Result<Operands, Failure> {
    let mut operands = Operands::new(case, session)?;
    rival(&operands.inputs, &mut operands.own);
    let residents = session.program().residents.len();
    let (residents, results) = operands.own.split_at(residents);
    let outputs = session.step(&feeds(&operands.inputs, &operands.shapes))?;
    for (output, block) in outputs.iter().zip(results) {
        agree(output.name(), output.as_slice()?, block.floats())?;
    }
    for (state, block) in session.states().zip(residents) {
        if state.dtype() == DType::F32 {
            agree(state.name(), state.as_slice()?, block.floats())?;
        }
    }
    Ok(operands)
}

/// The norm of the difference is at most a thousandth of the norm: both sum in f32, in orders of their own.
fn agree(name: &str, kiln: &[f32], rival: &[f32]) -> Result<(), Failure> {
    let squares = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        let pairs = kiln.iter().zip(rival);
        pairs
            .map(|(k, r)| f(f64::from(*k), f64::from(*r)).powi(2))
            .sum()
    };
    let (difference, norm) = (squares(&|k, r| k - r), squares(&|_, r| r));
    if kiln.len() == rival.len() && difference.sqrt() <= 1e-3 * norm.sqrt() {
        return Ok(());
    }
    Err(
        format!("`{name}` differs from the loop's result: what is timed is not the same work")
            .into(),
    )
}
