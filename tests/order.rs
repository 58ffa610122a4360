//! The order of steps: it changes what is alive at once, and never a bit of a result.

use kiln_compiler::{Options, Order, compile, program};
use kiln_ir::program::place;
use kiln_ir::{Bindings, Builder, DType, Graph};
use kiln_nn::{Adam, Context, Layer, Loss, Optimizer, Sequential, SparseCrossEntropy};
use kiln_runtime::{Executable, Feed};

fn mlp() -> Graph {
    let model = Sequential::new([48])
        .dense(64)
        .relu()
        .dense(96)
        .relu()
        .dense(64)
        .relu()
        .dense(10);
    let g = Builder::new("mlp");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), 48));
    let y = g.input("y", DType::U8, (b,));
    let loss = SparseCrossEntropy.mean(model.apply(&Context::training(&g), x), y);
    g.output("loss", loss);
    Adam::new(1e-2).minimize(loss);
    g.finish().unwrap()
}

fn ordered(order: Order) -> Options {
    Options {
        order,
        ..Options::default()
    }
}

#[test]
fn gradients_die_into_their_updates() {
    let bindings = Bindings::from([("b", 32)]);
    let arena = |order| {
        let program = program(&mlp(), &ordered(order)).unwrap();
        place(&program.buffers, &bindings).unwrap()
    };
    let (least, plain) = (arena(Order::LeastMemory), arena(Order::Topological));
    assert!(least.live_peak <= plain.live_peak);
    // The offsets waste at most a twentieth of what is alive at once.
    assert!(least.arena * 20 <= least.live_peak * 21, "{least:?}");
}

#[test]
fn the_order_changes_no_bit() {
    let x: Vec<f32> = (0..32 * 48)
        .map(|i| ((i * 37) % 101) as f32 / 101.0)
        .collect();
    let y: Vec<u8> = (0..32).map(|i| (i % 10) as u8).collect();
    let losses = [Order::LeastMemory, Order::Topological].map(|order| {
        let compiled = compile(&mlp(), &ordered(order)).unwrap();
        // SAFETY: the code was made for this program.
        let executable =
            unsafe { Executable::new(compiled.program, Box::new(compiled.code)) }.unwrap();
        let mut session = executable.session(7).unwrap();
        let mut losses = Vec::new();
        for _ in 0..5 {
            let outputs = session
                .step(&[Feed::new(&x, &[32, 48]), Feed::new(&y, &[32])])
                .unwrap();
            losses.push(outputs.scalar("loss").unwrap().to_bits());
        }
        losses
    });
    assert_eq!(losses[0], losses[1]);
}
