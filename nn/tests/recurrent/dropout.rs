//! Dropout of inputs and of states.

use crate::common::{Loop, floats};
use crate::{graph, with_params, xs};
use kiln_ir::{Builder, DType};
use kiln_nn::{Context, Mode, Recurrent, SimpleRnn};

/// The graph of one layer with dropout, its params and key fixed; what one step gives.
fn dropped(layer: &Recurrent<kiln_nn::Elman>, mode: Mode, steps: usize) -> Vec<Vec<f64>> {
    let mut run = with_params(graph(layer, mode, false, false));
    let outputs = (0..steps).map(|_| run.step(&[("x", xs())])["outputs"].clone());
    outputs.map(|o| o.floats().unwrap().to_vec()).collect()
}

#[test]
fn dropout_drops_in_training_alone_and_anew_in_each_step() {
    let plain = dropped(&SimpleRnn::new(2), Mode::Training, 1);
    for layer in [
        SimpleRnn::new(2).dropout(0.5),
        SimpleRnn::new(2).recurrent_dropout(0.5),
        SimpleRnn::new(2).recurrent_dropout(0.5).dropout_each_step(),
        SimpleRnn::new(2).dropout(0.5).dropout_each_step(),
    ] {
        assert_eq!(dropped(&layer, Mode::Inference, 1), plain);
        let steps = dropped(&layer, Mode::Training, 3);
        assert_ne!(steps[0], plain[0]);
        assert!(steps[0] != steps[1] && steps[1] != steps[2]);
        // The same seed draws the same.
        assert_eq!(dropped(&layer, Mode::Training, 3), steps);
    }
}

/// With weights of one on the diagonal and a rectifier, a state that is not dropped stays, one that is dropped begins again, and the
/// outputs tell in which steps that was.
#[test]
fn masks_hold_for_a_sequence_or_for_a_step() {
    let resets = |layer: Recurrent<kiln_nn::Elman>| {
        let g = Builder::new("m");
        let x = g.input("x", DType::F64, (1, 40, 1));
        let layer = layer.relu().without_bias().return_sequences();
        g.output("y", Context::training(&g).layer("layer", &layer, x));
        let mut run = Loop::new(g.finish().unwrap(), 11);
        let mut eye = vec![0.0; 64];
        (0..8).for_each(|i| eye[i * 9] = 1.0);
        run.set("layer/wh", floats(DType::F64, &[8, 8], &eye));
        run.set("layer/wx", floats(DType::F64, &[1, 8], &[1.0; 8]));
        let ones = floats(DType::F64, &[1, 40, 1], &[1.0; 40]);
        let y = run.step(&[("x", ones)])["y"].floats().unwrap().to_vec();
        // Of each unit, in how many steps it began again at 1.
        let began = |unit: usize| (1..40).filter(|t| y[t * 8 + unit] == 1.0).count();
        (0..8).map(began).collect::<Vec<_>>()
    };
    let once = resets(SimpleRnn::new(8).recurrent_dropout(0.5));
    assert!(once.iter().all(|n| [0, 39].contains(n)), "{once:?}");
    assert!(once.contains(&0) && once.contains(&39), "{once:?}");
    let anew = resets(SimpleRnn::new(8).recurrent_dropout(0.5).dropout_each_step());
    assert!(anew.iter().all(|n| (6..34).contains(n)), "{anew:?}");
}
