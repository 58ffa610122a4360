//! Convolutions of f32, forward and both gradients, beside the machine's limit: `cargo bench --bench conv`.
//!
//! A line for each and nothing else on stdout:
//! `conv name=3x3/16-16@32 pass=forward threads=1 gflops=230.1 peak=0.80`. FLOPs are those of every position of the window, whether it
//! falls on padding or not, as MFU counts them; `peak` is the share of fused multiply-adds that as many cores could do, measured in
//! the same run. A figure is the best of several rounds. An argument selects the lines that contain it, as in
//! `cargo bench --bench conv -- pass=window threads=1`.

use kiln::runtime::convolution::{
    Axis, Form, ImageStrides, Method, Operands, ProductType, Summation, WindowStrides,
};
use kiln::runtime::machine::fma_peak;
use kiln::runtime::memory::AlignedBytes;
use kiln::runtime::pool::Pool;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// How long the rounds of a line take, at the least.
const TOTAL: Duration = Duration::from_millis(150);

/// Rounds of a line, at the least.
const ROUNDS: usize = 5;

/// A square convolution of images whose features come last.
struct Shape {
    name: &'static str,
    batch: usize,
    features: [usize; 2],
    groups: usize,
    size: usize,
    window: usize,
    stride: usize,
    padding: usize,
}

const fn shape(
    name: &'static str,
    batch: usize,
    features: [usize; 2],
    size: usize,
    window: usize,
    stride: usize,
    padding: usize,
) -> Shape {
    Shape {
        name,
        batch,
        features,
        groups: 1,
        size,
        window,
        stride,
        padding,
    }
}

const TABLE: &[Shape] = &[
    // ResNet-20 with a batch of 32.
    shape("3x3/3-16@32", 32, [3, 16], 32, 3, 1, 1),
    shape("3x3/16-16@32", 32, [16, 16], 32, 3, 1, 1),
    shape("3x3/16-32@32/2", 32, [16, 32], 32, 3, 2, 1),
    shape("1x1/16-32@32/2", 32, [16, 32], 32, 1, 2, 0),
    shape("3x3/32-32@16", 32, [32, 32], 16, 3, 1, 1),
    shape("3x3/32-64@16/2", 32, [32, 64], 16, 3, 2, 1),
    shape("1x1/32-64@16/2", 32, [32, 64], 16, 1, 2, 0),
    shape("3x3/64-64@8", 32, [64, 64], 8, 3, 1, 1),
    // Keras' convnet for MNIST with a batch of 128.
    shape("3x3/1-32@28", 128, [1, 32], 28, 3, 1, 0),
    shape("3x3/32-64@13", 128, [32, 64], 13, 3, 1, 0),
    // Larger ones.
    shape("3x3/64-64@56", 4, [64, 64], 56, 3, 1, 1),
    shape("3x3/64-64@28", 8, [64, 64], 28, 3, 1, 1),
    shape("3x3/64-64@14", 32, [64, 64], 14, 3, 1, 1),
    shape("3x3/512-512@7", 4, [512, 512], 7, 3, 1, 1),
    shape("3x3/128-128@4", 32, [128, 128], 4, 3, 1, 1),
    shape("1x1/64-64@56", 4, [64, 64], 56, 1, 1, 0),
    shape("1x1/256-64@28", 8, [256, 64], 28, 1, 1, 0),
    shape("7x7/3-64@112/2", 4, [3, 64], 112, 7, 2, 3),
    shape("5x5/32-32@28", 8, [32, 32], 28, 5, 1, 2),
    Shape {
        groups: 64,
        ..shape("depthwise/64@56", 4, [1, 1], 56, 3, 1, 1)
    },
    Shape {
        groups: 256,
        ..shape("depthwise/256@14", 8, [1, 1], 14, 3, 1, 1)
    },
];

/// Elements of the input, the window and the result.
struct Sizes {
    input: usize,
    window: usize,
    output: usize,
}

/// A pass as a convolution: where its operands are among input, window and result.
struct Pass {
    name: &'static str,
    form: Form,
    /// Elements of lhs, rhs and dst.
    elements: [usize; 3],
    /// Where the first element of rhs lies.
    rhs_start: usize,
}

fn main() {
    // cargo passes `--bench`.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    for threads in [1, 2] {
        if threads > cores {
            continue;
        }
        for shape in TABLE {
            for pass in passes(shape) {
                let name = format!(
                    "conv name={} pass={} threads={threads} ",
                    shape.name, pass.name
                );
                if wanted.iter().all(|part| name.contains(part.as_str())) {
                    let peak = fma_peak() / 1e9;
                    let rate = rate(&pass, threads);
                    let share = rate / (peak * threads as f64);
                    println!("{name}gflops={rate:.1} peak={share:.3}");
                }
            }
        }
    }
}

/// The three passes of a shape.
fn passes(shape: &Shape) -> [Pass; 3] {
    let Shape {
        batch,
        features: [fi, fo],
        groups,
        size,
        window,
        stride,
        padding,
        ..
    } = *shape;
    let output = (size + 2 * padding - window) / stride + 1;
    let sizes = Sizes {
        input: batch * size * size * groups * fi,
        window: window * window * groups * fi * fo,
        output: batch * output * output * groups * fo,
    };
    let image = |extent: usize, features: usize| ImageStrides {
        batch: (extent * extent * groups * features) as isize,
        group: features as isize,
        feature: 1,
        spatial: [0, extent * groups * features, groups * features].map(|s| s as isize),
    };
    let input = image(size, fi);
    let result = image(output, fo);
    // [window, window, feature_in, group, feature_out].
    let weights = WindowStrides {
        group: fo as isize,
        feature_in: (groups * fo) as isize,
        feature_out: 1,
        spatial: [0, window * fi * groups * fo, fi * groups * fo].map(|s| s as isize),
    };
    let axis = Axis {
        input: size,
        window,
        output,
        stride,
        padding: padding as isize,
        lhs_dilation: 1,
        rhs_dilation: 1,
    };
    let forward = Form {
        dtype: ProductType::F32,
        summation: Summation::Window,
        batch,
        groups,
        features_in: fi,
        features_out: fo,
        axes: [Axis::ONE, axis, axis],
        lhs: input,
        rhs: weights,
        dst: result,
    };
    let back = Axis {
        input: output,
        window,
        output: size,
        stride: 1,
        padding: window as isize - 1 - padding as isize,
        lhs_dilation: stride,
        rhs_dilation: 1,
    };
    let of_input = Form {
        features_in: fo,
        features_out: fi,
        axes: [Axis::ONE, back, back],
        lhs: result,
        rhs: WindowStrides {
            group: weights.group,
            feature_in: weights.feature_out,
            feature_out: weights.feature_in,
            spatial: weights.spatial.map(|s| -s),
        },
        dst: input,
        ..forward.clone()
    };
    let lines = Axis {
        input: size,
        window: output,
        output: window,
        stride: 1,
        padding: padding as isize,
        lhs_dilation: 1,
        rhs_dilation: stride,
    };
    let of_window = Form {
        summation: Summation::Lines,
        batch: fi,
        features_in: batch,
        features_out: fo,
        axes: [Axis::ONE, lines, lines],
        lhs: ImageStrides {
            batch: input.feature,
            feature: input.batch,
            ..input
        },
        rhs: WindowStrides {
            group: result.group,
            feature_in: result.batch,
            feature_out: result.feature,
            spatial: result.spatial,
        },
        dst: ImageStrides {
            batch: weights.feature_in,
            group: weights.group,
            feature: weights.feature_out,
            spatial: weights.spatial,
        },
        ..forward.clone()
    };
    let last = (window - 1) as isize * (weights.spatial[1] + weights.spatial[2]);
    [
        Pass {
            name: "forward",
            form: forward,
            elements: [sizes.input, sizes.window, sizes.output],
            rhs_start: 0,
        },
        Pass {
            name: "input",
            form: of_input,
            elements: [sizes.output, sizes.window, sizes.input],
            rhs_start: last as usize,
        },
        Pass {
            name: "window",
            form: of_window,
            elements: [sizes.input, sizes.output, sizes.window],
            rhs_start: 0,
        },
    ]
}

/// GFLOP/s. A position of a dilated input counts where it meets an element.
fn rate(pass: &Pass, threads: usize) -> f64 {
    let form = &pass.form;
    let positions = form.axes.iter().map(|axis| {
        let dilated = axis.window as f64 / axis.lhs_dilation as f64;
        axis.output as f64 * dilated
    });
    let features = (form.batch * form.groups * form.features_in * form.features_out) as f64;
    let flops = 2.0 * features * positions.product::<f64>();
    let method = Method::new(form.clone(), threads).expect("sizes that fit into memory");
    let [lhs, rhs, dst] = pass.elements;
    let (left, right) = (noise(lhs, 1), noise(rhs, 2));
    let mut out = zeros(4 * dst);
    let mut scratch: Vec<AlignedBytes> = (0..threads).map(|_| zeros(method.scratch())).collect();
    let scratch: Vec<usize> = scratch
        .iter_mut()
        .map(|block| block.as_mut_ptr() as usize)
        .collect();
    let mut pool = Pool::new(NonZeroUsize::new(threads).expect("a thread")).expect("threads");
    let [left, right, out] = [
        left.as_ptr() as usize,
        right.as_ptr() as usize + 4 * pass.rhs_start,
        out.as_mut_ptr() as usize,
    ];
    let mut run = || {
        for index in 0..method.passes() {
            pool.run(method.shares(index), &|share, thread| {
                let at = Operands {
                    dst: out as *mut u8,
                    lhs: left as *const u8,
                    rhs: right as *const u8,
                };
                let room = |thread: usize| scratch[thread] as *mut u8;
                // SAFETY: the operands have the extents and strides of the form, there is scratch for each thread, and the passes follow
                // one another.
                unsafe { method.run(index, share, thread, at, &room, &mut |_| {}) }
            });
        }
    };
    run();
    let mut best = f64::INFINITY;
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS || start.elapsed() < TOTAL {
        rounds += 1;
        let begun = Instant::now();
        run();
        best = best.min(begun.elapsed().as_secs_f64());
    }
    flops / best / 1e9
}

fn zeros(bytes: usize) -> AlignedBytes {
    AlignedBytes::zeroed(bytes).expect("memory")
}

/// Numbers between -1 and 1.
fn noise(elements: usize, seed: u32) -> AlignedBytes {
    let mut block = zeros(4 * elements);
    let mut state = seed;
    for value in block.view_mut::<f32>(0, elements).expect("a block") {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    block
}
