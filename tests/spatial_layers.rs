//! Layers with spatial axes, compiled: a training step of each gives the same bits in every variant and on every number of threads, and what
//! the interpreter gives within rounding.

mod common;

use common::Numbers;
use common::compare::bits_differ;
use common::data::{Fed, Kind, random};
use common::jit::{VARIANTS, executable, residents, session_at, states, step};
use kiln_ir::{Array, Bindings, Builder, DType, Graph, Init, Layout, Padding, Role, eval, grad};
use kiln_nn::{
    AvgPool2d, BatchNorm, Context, Conv1d, Conv2d, Conv3d, ConvTranspose2d, DepthwiseConv2d,
    GlobalAvgPool, GlobalMaxPool, GroupNorm, InstanceNorm, Layer, MaxPool2d, Optimizer,
    SeparableConv2d, Sequential, Sgd, Upsample2d, ZeroPad2d, initialisers::HeNormal,
};

const BATCH: usize = 5;

/// A step of `layer` on `x: [b, features..]`: the result, and the gradient by the input.
fn graph(layer: &dyn Layer, features: &[i64]) -> Graph {
    let g = Builder::new("layer");
    let shape: Vec<_> = [g.dim("b")]
        .into_iter()
        .chain(features.iter().map(|f| (*f).into()))
        .collect();
    let x = g.input("x", DType::F32, &shape[..]);
    let y = Context::training(&g).layer("l", layer, x);
    // A square would not do: its sum hardly changes where `y` is normalised.
    let loss = (y * y.logistic()).mean();
    g.output("y", y);
    g.output("dx", grad(loss, &[x])[0]);
    // Some layers have nothing to learn.
    let scale = g.param("scale", (), Init::ones());
    Sgd::new(0.1).minimize(loss * scale);
    g.finish()
        .unwrap_or_else(|e| panic!("{}: {e}", layer.kind()))
}

/// The norm of the difference is small beside the norm.
fn agrees(what: &str, found: &Array, expected: &Array) {
    let (Ok(f), Ok(e)) = (found.floats(), expected.floats()) else {
        return;
    };
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut f.iter().zip(e).map(|(f, e)| f - e));
    let size = norm(&mut e.iter().copied());
    assert!(
        difference <= 2e-5 * size + 1e-7,
        "{what}: {difference} of {size}"
    );
}

fn check(layer: &dyn Layer, features: &[i64]) {
    let kind = layer.kind();
    let graph = graph(layer, features);
    let shape: Vec<usize> = [BATCH]
        .into_iter()
        .chain(features.iter().map(|f| *f as usize))
        .collect();
    let x = random(&mut Numbers::new(7), DType::F32, &shape, Kind::Plain);
    let feeds = [Fed::new(&x, false)];
    let mut first = None;
    for variant in VARIANTS {
        let executable = executable(&graph, variant).unwrap_or_else(|e| panic!("{kind}: {e}"));
        for threads in [1, 2] {
            let mut session = session_at(&executable, threads, Bindings::new());
            let before = states(&session);
            let results = step(&mut session, &feeds).unwrap_or_else(|e| panic!("{kind}: {e}"));
            let (expected, _) = first.get_or_insert_with(|| (results.clone(), before));
            let pairs = results.outputs.iter().zip(&expected.outputs);
            for (a, b) in pairs.chain(results.states.iter().zip(&expected.states)) {
                assert_eq!(bits_differ(a, b), None, "{kind} {variant:?} {threads}");
            }
        }
    }
    let Some((found, before)) = first else { return };
    let slots: Vec<&str> = residents(&graph).map(|s| s.name.as_str()).collect();
    let plain = eval(&graph, |slot| match &slot.role {
        Role::Input => Some(x.clone()),
        Role::Param(_) | Role::State(_) => {
            let place = slots.iter().position(|name| *name == slot.name)?;
            before.get(place).cloned()
        }
    })
    .unwrap_or_else(|e| panic!("{kind}: {e}"));
    for ((output, found), expected) in graph
        .outputs()
        .iter()
        .zip(&found.outputs)
        .zip(&plain.outputs)
    {
        agrees(&format!("{kind}: {}", output.name), found, expected);
    }
    for (target, expected) in &plain.updates {
        let place = residents(&graph).position(|slot| slot.node == *target);
        let place = place.expect("an update has a slot");
        agrees(
            &format!("{kind}: {}", slots[place]),
            &found.states[place],
            expected,
        );
    }
}

#[test]
fn convolutions() {
    check(&Conv1d::new(5, 3).dilation(2).weight(HeNormal), &[9, 4]);
    check(
        &Conv2d::new(6, [3, 2])
            .stride([2, 1])
            .padding(Padding::Same)
            .groups(2),
        &[7, 6, 4],
    );
    check(&Conv3d::new(3, 2).padding(Padding::both(1)), &[3, 4, 3, 2]);
    check(&Conv2d::new(6, 3).layout(Layout::ChannelsFirst), &[3, 6, 5]);
    check(&DepthwiseConv2d::new(3).multiplier(2), &[6, 5, 3]);
    check(&SeparableConv2d::new(5, 3).stride(2), &[7, 7, 3]);
    check(
        &ConvTranspose2d::new(4, 3).stride(2).padding(Padding::Same),
        &[4, 3, 5],
    );
    check(&ConvTranspose2d::new(4, [2, 3]).stride([3, 1]), &[3, 4, 2]);
}

#[test]
fn pools() {
    check(&MaxPool2d::new(2), &[7, 6, 3]);
    check(
        &MaxPool2d::new(3).stride(2).padding(Padding::Same),
        &[7, 6, 3],
    );
    check(
        &AvgPool2d::new(3).stride(1).padding(Padding::Same),
        &[5, 6, 3],
    );
    check(&GlobalMaxPool::new(), &[5, 6, 3]);
    check(&GlobalAvgPool::new(), &[5, 6, 3]);
}

#[test]
fn sizes() {
    check(&ZeroPad2d::edges([(1, 0), (2, 3)]), &[3, 4, 2]);
    check(&Upsample2d::nearest([2, 3]), &[3, 4, 2]);
    check(&Upsample2d::linear([2, 3]), &[3, 4, 2]);
}

#[test]
fn norms() {
    check(&BatchNorm::new(), &[5, 4, 6]);
    check(&BatchNorm::new().layout(Layout::ChannelsFirst), &[6, 5, 4]);
    check(&BatchNorm::new(), &[6]);
    check(&GroupNorm::new(2), &[5, 4, 6]);
    check(&InstanceNorm::new(), &[5, 4, 6]);
}

/// What stands between layers is fused there, and must not move a bit either.
#[test]
fn blocks_of_layers() {
    let same = |filters| {
        Conv2d::new(filters, 3)
            .padding(Padding::Same)
            .without_bias()
    };
    let block = Sequential::new([8, 8, 3])
        .layer(same(8))
        .batch_norm()
        .relu()
        .max_pool2d(2)
        .layer(same(8))
        .layer(GroupNorm::new(4))
        .relu()
        .layer(Upsample2d::linear(2))
        .layer(same(4))
        .layer(InstanceNorm::new())
        .relu()
        .global_avg_pool()
        .dense(3);
    check(&block, &[8, 8, 3]);
}
