//! Matrix products of f32 on one thread, beside those of the `gemm` crate:
//! `cargo run --release --manifest-path benches/gemm_rival/Cargo.toml`.
//!
//! A line for each shape and nothing else on stdout:
//! `product m=128 n=512 k=784 lhs=n rhs=n sums=chain kiln_gflops=200.1 peak=0.70 crate_gflops=180.2 ratio=1.11`. `t` is an operand that lies
//! transposed, and `batch=48` says that as many products follow one another in memory. `peak` is Kiln's share of the fused
//! multiply-adds that a core could do, measured beside it. Both sides compute the same matrices in turns; a figure is the best of several
//! rounds, so that what else the machine does spoils neither. An argument selects the lines that contain it, as in `-- n=10`.
//!
//! The operands stay in the caches that hold them, from call to call. In a training step they come from further away, so `--far` has each
//! call read operands that no call has touched for the last [`FAR`] bytes.
//!
//! Where the machine multiplies bf16 in tiles (AMX), large products run there, as they do in programs; `--chain` keeps them to multiply-adds.

use kiln_runtime::machine::fma_peak;
use kiln_runtime::memory::AlignedBytes;
use kiln_runtime::product::{
    Form, Matrices, Method, ProductSummation, ProductType, Strides, has_tiles,
};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long one side of a round runs: less than a scheduler lets a process run, so that some rounds are undisturbed on a busy machine.
const SLICE: Duration = Duration::from_millis(1);

/// How long all rounds of a shape take, at the least.
const TOTAL: Duration = Duration::from_millis(120);

/// How much lies between two uses of an operand that comes from far: more than any L2 holds.
const FAR: usize = 24 << 20;

/// Rounds of each shape, at the least.
const ROUNDS: usize = 5;

/// Matrices that follow one another, then m, n, k, lhs, rhs.
const TABLE: &[(usize, usize, usize, usize, char, char)] = &[
    // The mlp: forward, then dX = G . W^T, then dW = X^T . G.
    (1, 128, 512, 784, 'n', 'n'),
    (1, 128, 512, 512, 'n', 'n'),
    (1, 128, 10, 512, 'n', 'n'),
    (1, 128, 512, 10, 'n', 't'),
    (1, 128, 512, 512, 'n', 't'),
    (1, 512, 10, 128, 't', 'n'),
    (1, 512, 512, 128, 't', 'n'),
    (1, 784, 512, 128, 't', 'n'),
    // A recurrent layer: a step and its adjoint, 64 of which make a pass; the weights' gradients, which may be summed over all of them;
    // the inputs of all steps, and the classes.
    (1, 32, 1024, 256, 'n', 'n'),
    (1, 32, 1024, 256, 'n', 't'),
    (1, 32, 256, 1024, 'n', 't'),
    (1, 256, 1024, 32, 't', 'n'),
    (1, 2048, 1024, 128, 'n', 'n'),
    (1, 2048, 128, 1024, 'n', 't'),
    (1, 128, 1024, 2048, 't', 'n'),
    (1, 256, 1024, 2048, 't', 'n'),
    (1, 2048, 65, 256, 'n', 'n'),
    (1, 2048, 256, 65, 'n', 't'),
    (1, 256, 65, 2048, 't', 'n'),
    // Convolutions as products.
    (1, 32768, 16, 144, 'n', 'n'),
    (1, 32768, 16, 144, 'n', 't'),
    (1, 144, 16, 32768, 't', 'n'),
    (1, 8192, 32, 288, 'n', 'n'),
    (1, 2048, 64, 576, 'n', 'n'),
    (1, 73728, 64, 288, 'n', 'n'),
    // Attention: scores, values, and their adjoints.
    (1, 64, 64, 32, 'n', 't'),
    (1, 64, 32, 64, 'n', 'n'),
    (1, 64, 32, 64, 't', 'n'),
    (48, 64, 64, 32, 'n', 't'),
    (48, 64, 32, 64, 'n', 'n'),
    (48, 64, 32, 64, 't', 'n'),
    // A small transformer: each weight forward, then dX = G . W^T, then dW = X^T . G.
    (1, 768, 384, 128, 'n', 'n'),
    (1, 768, 128, 384, 'n', 't'),
    (1, 128, 384, 768, 't', 'n'),
    (1, 768, 128, 128, 'n', 'n'),
    (1, 768, 128, 128, 'n', 't'),
    (1, 128, 128, 768, 't', 'n'),
    (1, 768, 512, 128, 'n', 'n'),
    (1, 768, 128, 512, 'n', 't'),
    (1, 128, 512, 768, 't', 'n'),
    (1, 768, 128, 512, 'n', 'n'),
    (1, 768, 512, 128, 'n', 't'),
    (1, 512, 128, 768, 't', 'n'),
    (1, 768, 65, 128, 'n', 'n'),
    (1, 768, 128, 65, 'n', 't'),
    (1, 128, 65, 768, 't', 'n'),
    // A large one, and its vocabulary.
    (1, 768, 3072, 64, 't', 'n'),
    (1, 256, 2304, 768, 'n', 'n'),
    (1, 256, 768, 2304, 'n', 't'),
    (1, 768, 2304, 256, 't', 'n'),
    (1, 256, 768, 768, 'n', 'n'),
    (1, 256, 768, 768, 'n', 't'),
    (1, 768, 768, 256, 't', 'n'),
    (1, 256, 3072, 768, 'n', 'n'),
    (1, 256, 768, 3072, 'n', 't'),
    (1, 768, 3072, 256, 't', 'n'),
    (1, 256, 768, 3072, 'n', 'n'),
    (1, 256, 3072, 768, 'n', 't'),
    (1, 3072, 768, 256, 't', 'n'),
    (1, 256, 50257, 768, 'n', 'n'),
    (1, 256, 50257, 768, 'n', 't'),
    (1, 256, 768, 50257, 'n', 't'),
    (1, 256, 768, 50257, 'n', 'n'),
    (1, 768, 50257, 256, 't', 'n'),
    (1, 50257, 768, 256, 't', 'n'),
    // A row, a column, a number.
    (1, 1, 512, 512, 'n', 'n'),
    (1, 1, 512, 512, 'n', 't'),
    (1, 512, 1, 512, 'n', 'n'),
    (1, 512, 1, 512, 't', 'n'),
    (1, 8, 512, 512, 'n', 'n'),
    (1, 32, 1, 1, 'n', 'n'),
    (1, 1, 1, 32, 'n', 'n'),
    (1, 16, 16, 16, 'n', 'n'),
    // Odd ones and large ones.
    (1, 100, 100, 100, 'n', 'n'),
    (1, 257, 129, 65, 'n', 't'),
    (1, 512, 512, 512, 't', 't'),
    (1, 1000, 1000, 1000, 'n', 'n'),
    (1, 1000, 1000, 1000, 't', 'n'),
    (1, 1000, 1000, 1000, 'n', 't'),
    (1, 2048, 2048, 2048, 'n', 'n'),
    (1, 2048, 2048, 2048, 'n', 't'),
    (1, 2048, 2048, 2048, 't', 'n'),
];

fn main() {
    // cargo passes `--bench`.
    let arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let (flags, wanted): (Vec<String>, Vec<String>) = arguments.partition(|a| a.starts_with("--"));
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    let (far, tiles) = (has("--far"), has_tiles() && !has("--chain"));
    for &(batch, m, n, k, lhs, rhs) in TABLE {
        let name = match batch {
            1 => format!("product m={m} n={n} k={k} lhs={lhs} rhs={rhs} "),
            _ => format!("product batch={batch} m={m} n={n} k={k} lhs={lhs} rhs={rhs} "),
        };
        if wanted.iter().all(|part| name.contains(part.as_str())) {
            let summation = summation([m, n, k], [lhs, rhs], tiles);
            let [kiln, rival] = rates(batch, [m, n, k], [lhs, rhs], summation, far);
            let way = match summation {
                ProductSummation::Chain => "chain",
                ProductSummation::Lanes => "lanes",
                ProductSummation::Split => "split",
            };
            let ratio = kiln / rival;
            let peak = kiln / (fma_peak() / 1e9);
            println!(
                "{name}sums={way} kiln_gflops={kiln:.1} peak={peak:.2} crate_gflops={rival:.1} ratio={ratio:.2}"
            );
        }
    }
}

/// GFLOP/s of Kiln and of the crate.
fn rates(
    batch: usize,
    [m, n, k]: [usize; 3],
    [lhs, rhs]: [char; 2],
    summation: ProductSummation,
    far: bool,
) -> [f64; 2] {
    let strides = |rows: usize, cols: usize, lies: char| match lies {
        't' => Strides {
            row: 1,
            col: rows as isize,
        },
        _ => Strides {
            row: cols as isize,
            col: 1,
        },
    };
    let form = Form {
        dtype: ProductType::F32,
        summation,
        m,
        n,
        k,
        dst: strides(m, n, 'n'),
        lhs: strides(m, k, lhs),
        rhs: strides(k, n, rhs),
    };
    let method = Method::new(form, batch, 1).expect("sizes that fit into memory");
    let sizes = [m * k, k * n, m * n].map(|size| batch * size);
    let sets = if far {
        FAR.div_ceil(4 * sizes.iter().sum::<usize>())
    } else {
        1
    };
    let (left, right) = (noise(sets * sizes[0], 1), noise(sets * sizes[1], 2));
    let (mut own, mut other) = (zeros(sets * sizes[2]), zeros(sets * sizes[2]));
    let mut scratch = AlignedBytes::zeroed(method.scratch()).expect("memory");
    let scratch = scratch.as_mut_ptr();
    let (to, other_to) = (own.as_mut_ptr(), other.as_mut_ptr());
    let turn = Cell::new(0);
    let next = || {
        turn.set((turn.get() + 1) % sets);
        turn.get() * batch
    };
    let at = |to: *mut u8, matrix: usize| Matrices {
        dst: to.wrapping_add(4 * matrix * m * n),
        lhs: left.as_ptr().wrapping_add(4 * matrix * m * k),
        rhs: right.as_ptr().wrapping_add(4 * matrix * k * n),
    };
    let kiln = || {
        let mut packed = std::ptr::null();
        let first = next();
        for index in 0..method.units() {
            let unit = method.unit(index);
            // SAFETY: the matrices have the extents and strides of the form, the scratch is as large as the method says, and nobody else
            // uses them.
            unsafe {
                method.run(
                    unit.rows,
                    unit.cols,
                    at(to, first + unit.matrix),
                    scratch,
                    &mut packed,
                )
            }
        }
    };
    let (l, r, d) = (form.lhs, form.rhs, form.dst);
    let rival = || {
        let first = next();
        for at in (0..batch).map(|matrix| at(other_to, first + matrix)) {
            // SAFETY: as above.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    at.dst.cast::<f32>(),
                    d.col,
                    d.row,
                    false,
                    at.lhs.cast::<f32>(),
                    l.col,
                    l.row,
                    at.rhs.cast::<f32>(),
                    r.col,
                    r.row,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
        }
    };
    let calls = [calls(&kiln), calls(&rival)];
    let mut best = [f64::INFINITY; 2];
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS || start.elapsed() < TOTAL {
        rounds += 1;
        best[0] = best[0].min(time(&kiln, calls[0]));
        best[1] = best[1].min(time(&rival, calls[1]));
    }
    // The last turns of the two may differ, so that each makes all of its results.
    (0..sets).for_each(|_| kiln());
    (0..sets).for_each(|_| rival());
    let own: &[f32] = own.view(0, sets * sizes[2]).expect("a result");
    let other: &[f32] = other.view(0, sets * sizes[2]).expect("a result");
    for (a, b) in own.iter().zip(other) {
        // Sums of k products of numbers below 1.
        assert!((a - b).abs() <= 1e-6 * k as f32, "{a} and {b}");
    }
    best.map(|seconds| 2.0 * (batch * m * n * k) as f64 / seconds / 1e9)
}

/// The order of summation that the compiler chooses where an operand that lies transposed is contracted along its last axis, on a machine
/// with or without tiles of bf16.
fn summation([m, n, k]: [usize; 3], [lhs, rhs]: [char; 2], tiles: bool) -> ProductSummation {
    let along = m == 1 && (rhs == 't' || n == 1) || n == 1 && (lhs == 'n' || m == 1);
    if along && k >= 32 {
        ProductSummation::Lanes
    } else if tiles && ProductSummation::is_large(m as u64, n as u64, k as u64) {
        ProductSummation::Split
    } else {
        ProductSummation::Chain
    }
}

/// How many calls fill a slice.
fn calls(run: &impl Fn()) -> usize {
    run();
    let mut calls = 1;
    loop {
        let seconds = time(run, calls) * calls as f64;
        if seconds > SLICE.as_secs_f64() / 4.0 {
            return (calls as f64 * SLICE.as_secs_f64() / seconds).ceil() as usize;
        }
        calls *= 4;
    }
}

/// Seconds of one call.
fn time(run: &impl Fn(), calls: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        run();
    }
    start.elapsed().as_secs_f64() / calls as f64
}

fn zeros(elements: usize) -> AlignedBytes {
    AlignedBytes::zeroed(4 * elements).expect("memory")
}

/// Numbers between -1 and 1.
fn noise(elements: usize, seed: u32) -> AlignedBytes {
    let mut block = zeros(elements);
    let mut state = seed;
    for value in block.view_mut::<f32>(0, elements).expect("a block") {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    block
}
