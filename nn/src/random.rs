//! Random bits inside a graph.
//!
//! Random numbers do not move when the graph is edited elsewhere, recomputed, split or threaded. So the bits of one draw are a pure
//! function of (seed, scope path, ordinal within the scope) by the key and of (step, scan iteration, element) by the counter:
//!
//! - The key is the state `rng/key/SCOPE/ORDINAL: u32[2]`, one for each draw. Its initialiser is uniform on `[0, 2^32)`; a session draws
//!   states from its seed and their names, which makes the key a function of just what it should depend on. Nothing in the step
//!   computes it, and checkpoints carry it like any other state.
//! - The counter is (step, iteration). The step is the first word of the state `rng/counter: u32[2]`, one for the whole graph, made by the
//!   first draw; each step adds one to it, and after 2^32 steps the draws begin again. The second word is 0 in the state; in the body of a
//!   scan it is the number of the iteration (`Builder::iteration`), so each iteration draws anew. That number belongs to the entry, not to
//!   the order of computation: a gradient that computes the iteration again draws the same bits.
//!
//! This is the only place in the crate that makes these states.

use kiln_ir::ops::Iota;
use kiln_ir::{Builder, DType, Init, Shape, Tensor, TensorType};

/// The name of the state that counts steps for all draws of a graph.
const COUNTER: &str = "rng/counter";

/// u32 words of `shape`, all equally likely, new in each step and independent of any other draw.
///
/// The draw belongs to the open scope of the builder; the first one in a scope has ordinal 0, the next 1, and so on. In the body of a scan
/// the words are new in each iteration too; in that of a `while`, whose iterations have no numbers, a draw is a mistake.
///
/// ```
/// use kiln_ir::{Builder, DType};
///
/// let g = Builder::new("noise");
/// let b = g.dim("b");
/// let noise = {
///     let _scope = g.scope("noise");
///     kiln_nn::random_bits(&g, (b, 3)).unit_f32()
/// };
/// g.output("noise", noise);
/// let graph = g.finish().unwrap();
/// let names: Vec<&str> = graph.slots().iter().map(|s| s.name.as_str()).collect();
/// assert_eq!(names, ["rng/key/noise/0", "rng/counter"]);
/// ```
#[track_caller]
pub fn random_bits<'g>(builder: &'g Builder, shape: impl Into<Shape>) -> Tensor<'g> {
    let mut name = "rng/key/".to_owned();
    let path = builder.scope_path();
    if !path.is_empty() {
        name.push_str(&path);
        name.push('/');
    }
    name.push_str(&builder.next_ordinal().to_string());
    let words = Init::Uniform {
        low: 0.0,
        high: 4_294_967_296.0,
    };
    let (key, counter) = {
        let _root = builder.root_scope();
        let key = builder.state(&name, DType::U32, [2], words);
        (key, counter(builder))
    };
    let counter = match builder.iteration() {
        // The words are [0, 1] times the number, beside [step, 0].
        Some(iteration) => counter + words_of(builder) * iteration.convert(DType::U32),
        None => counter,
    };
    builder.rng_bits(key, counter, shape)
}

/// The counter of the graph, made and advanced by the first who asks. It belongs to the graph around all bodies, which have no updates.
#[track_caller]
fn counter(builder: &Builder) -> Tensor<'_> {
    if builder.find(COUNTER).is_none() {
        let whole = builder.outermost();
        let _root = whole.root_scope();
        let counter = whole.state(COUNTER, DType::U32, [2], Init::zeros());
        // 1 - [0, 1] is [1, 0]: the step goes on.
        whole.update(counter, counter + (1.0 - words_of(whole)));
    }
    builder.find(COUNTER).unwrap_or_else(|| builder.poison())
}

/// The numbers of the two words: `[0, 1]`.
#[track_caller]
fn words_of(builder: &Builder) -> Tensor<'_> {
    let ty = TensorType::new(DType::U32, [2]);
    builder.push(Iota { ty, axis: 0 }, &[])
}
