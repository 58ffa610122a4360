//! The memory report of whole models: the arena stays near the bound that no plan can beat, and the order of steps saves memory.
//!
//! The graphs are training steps of the kinds that users write, at concrete sizes, and every graph of the file tests that plans at all.

use kiln::ir::ReduceKind;
use kiln::train::graphs::Task;
use kiln::{
    Adam, Bindings, Builder, DType, Dim, Graph, Init, Loss, MeanSquaredError, Optimizer, Options,
    PlanReport, Sequential, Sgd, SparseCrossEntropy, Tensor, TensorType, memory_report,
};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;

/// How far the arena may exceed the largest sum of live bytes.
const SLACK: f64 = 1.05;

fn report(graph: &Graph, bindings: &[(&str, i64)]) -> PlanReport {
    let mut all = Bindings::new();
    for (symbol, size) in bindings {
        all.insert(kiln::Symbol::new(symbol), *size);
    }
    memory_report(graph, &Options::default(), &all, NonZeroUsize::MIN)
        .unwrap_or_else(|error| panic!("{}: {error}", graph.name))
}

/// The batch for which orders are compared when a program is planned: below it, other buffers may be the large ones.
const LIKELY: i64 = 32;

/// The arena is near its bound.
fn assert_tight(name: &str, report: &PlanReport) {
    assert!(report.memory.arena >= report.memory.live_peak);
    assert!(report.ratio() <= SLACK, "{name}: {report}");
}

/// A training step over the batch `b`: near its bound at every batch, and no worse than in topological order.
fn assert_good_plan(graph: &Graph, batches: &[i64]) {
    for batch in batches {
        let report = report(graph, &[("b", *batch)]);
        assert!(report.memory.arena > 0, "{report}");
        assert!(
            *batch < LIKELY || report.memory.arena <= report.topological,
            "{report}"
        );
        assert_tight(&graph.name, &report);
    }
}

fn classifier(model: &Sequential) -> Graph {
    let task = Task {
        model,
        input: &model.input_type(DType::F32),
        target: &TensorType::new(DType::U8, (Dim::symbol("b"),)),
        loss: &SparseCrossEntropy,
        metrics: &[&kiln::Accuracy],
    };
    task.training(&Adam::new(1e-3)).unwrap()
}

fn linreg() -> Graph {
    let model = Sequential::new([1]).dense(1);
    let task = Task {
        model: &model,
        input: &model.input_type(DType::F32),
        target: &TensorType::new(DType::F32, (Dim::symbol("b"), 1)),
        loss: &MeanSquaredError,
        metrics: &[],
    };
    task.training(&Sgd::new(0.01)).unwrap()
}

#[test]
fn classifiers_stay_near_the_bound_at_every_batch() {
    let wide = || Sequential::new([784]).dense(512).relu().dense(512).relu();
    let models = [
        ("mlp", wide().dense(10)),
        ("dropout", wide().dropout(0.5).dense(10)),
        (
            "deep",
            (0..8).fold(Sequential::new([64]), |model, layer| {
                model.dense(32 + 24 * (layer % 5)).relu()
            }),
        ),
    ];
    for (name, model) in models {
        let mut graph = classifier(&model);
        graph.name = name.to_owned();
        assert_good_plan(&graph, &[1, 7, 32, 128, 1000]);
    }
}

#[test]
fn linear_regression_stays_near_the_bound() {
    assert_tight("linreg", &report(&linreg(), &[("b", 32)]));
}

/// A valid convolution with a square kernel, as the product of unfolded windows, with ReLU: `[b, h, w, c]` to `[b, h-k+1, w-k+1, out]`.
fn convolution<'g>(name: &str, x: Tensor<'g>, [side, channels]: [i64; 2], out: i64) -> Tensor<'g> {
    const KERNEL: i64 = 3;
    let g = x.builder();
    let b = g.dim("b");
    let left = side - KERNEL + 1;
    let windows: Vec<_> = (0..KERNEL * KERNEL)
        .map(|i| {
            let (row, column) = (i / KERNEL, i % KERNEL);
            let start = [0, row, column, 0].map(Dim::from);
            let limit = [
                b.clone(),
                (row + left).into(),
                (column + left).into(),
                channels.into(),
            ];
            x.slice(&start, &limit, &[1; 4])
        })
        .collect();
    let unfolded = KERNEL * KERNEL * channels;
    let w = g.param(&format!("{name}/w"), (unfolded, out), Init::uniform(0.1));
    let bias = g.param(&format!("{name}/b"), (out,), Init::zeros());
    let rows = b.clone() * (left * left);
    let windows = g.concat(&windows, 3).reshape((rows, unfolded));
    (windows.dot(w) + bias)
        .maximum(0.0)
        .reshape((b, left, left, out))
}

/// The greatest of each square of four: `[b, 2s, 2s, c]` to `[b, s, s, c]`.
fn pool<'g>(x: Tensor<'g>, [side, channels]: [i64; 2]) -> Tensor<'g> {
    let b = x.builder().dim("b");
    let split = x.reshape((b, side / 2, 2, side / 2, 2 * channels));
    let rows = split.reduce(ReduceKind::Max, &[2]);
    let b = x.builder().dim("b");
    rows.reshape((b, side / 2, side / 2, 2, channels))
        .reduce(ReduceKind::Max, &[3])
}

#[test]
fn a_convnet_of_products_stays_near_the_bound() {
    let g = Builder::new("convnet");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), 28, 28, 1));
    let y = g.input("y", DType::U8, (b.clone(),));
    let h = pool(convolution("conv1", x, [28, 1], 32), [26, 32]);
    let h = convolution("conv2", h, [13, 32], 64);
    let w = g.param("w", (11 * 11 * 64, 10), Init::uniform(0.01));
    let logits = h.reshape((b, 11 * 11 * 64)).dot(w);
    let loss = SparseCrossEntropy.mean(logits, y);
    g.output("loss", loss);
    Adam::new(1e-3).minimize(loss);
    assert_good_plan(&g.finish().unwrap(), &[1, 5, 32, 128]);
}

/// The mean of each row, as a column.
fn mean_of_rows(x: Tensor<'_>) -> Tensor<'_> {
    let b = x.builder().dim("b");
    (x.reduce(ReduceKind::Sum, &[1]) * (1.0 / WIDTH as f64)).reshape((b, 1))
}

const WIDTH: i64 = 48;

/// A residual layer under a layer norm, with a softmax between two products.
fn residual_block<'g>(x: Tensor<'g>, block: i32) -> Tensor<'g> {
    let g = x.builder();
    let b = g.dim("b");
    let weight = |name: &str, rows, columns| {
        let name = format!("{block}/{name}");
        g.param(&name, (rows, columns), Init::uniform(0.2))
    };
    let spread = |column: Tensor<'g>| column.broadcast_to((b.clone(), WIDTH));
    let centred = x - spread(mean_of_rows(x));
    let variance = mean_of_rows(centred.square());
    let norm = centred * spread((variance + 1e-5).rsqrt());
    let mixed = kiln::nn::softmax(norm.dot(weight("keys", WIDTH, 96)));
    let up = mixed.dot(weight("values", 96, 4 * WIDTH)).tanh();
    x + up.dot(weight("down", 4 * WIDTH, WIDTH))
}

#[test]
fn residual_blocks_stay_near_the_bound() {
    let g = Builder::new("blocks");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), WIDTH));
    let x = (0..4).fold(x, residual_block);
    let loss = x.square().mean();
    g.output("loss", loss);
    Sgd::new(0.1).momentum(0.9).minimize(loss);
    assert_good_plan(&g.finish().unwrap(), &[1, 64, 300]);
}

/// The symbols of a graph's signature.
fn symbols(graph: &Graph) -> BTreeSet<String> {
    let slots = graph
        .slots()
        .iter()
        .filter_map(|slot| graph.node(slot.node));
    let dims: Vec<Dim> = slots.flat_map(|node| node.ty.shape.to_vec()).collect();
    let symbols = dims.iter().flat_map(Dim::symbols);
    symbols.map(|symbol| symbol.name().to_owned()).collect()
}

#[test]
fn the_graphs_of_the_file_tests_stay_near_the_bound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests");
    let mut with_arena = 0;
    for stage in ["fused", "kernels", "optimized", "program"] {
        let entries = std::fs::read_dir(root.join(stage)).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let graph = std::fs::read_to_string(&file).map(|text| Graph::parse(&text));
            let Ok(Ok(graph)) = graph else { continue };
            for size in [3, 32, 1000] {
                let names = symbols(&graph);
                let bindings: Vec<_> = names.iter().map(|name| (name.as_str(), size)).collect();
                let report = report(&graph, &bindings);
                with_arena += usize::from(report.memory.arena > 0);
                assert_tight(&file.display().to_string(), &report);
            }
        }
    }
    assert!(with_arena > 20, "only {with_arena} plans have an arena");
}
