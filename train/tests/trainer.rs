//! Trainers from data to trained models: what they minimise, what they show, and what they refuse.

mod common;

use common::{blobs, classifier, column, line, linear, scratch, values};
use kiln_ir::{DType, Dim, Tensor, TensorType};
use kiln_nn::{
    ConfusionMatrix, Context, Dense, MeanSquaredError, Sam, Sequential, Sgd, SparseCrossEntropy,
};
use kiln_train::data::Dataset;
use kiln_train::{Fit, Logs, Model, Position, TrainError, Trainer, TrainerBuilder};
use std::num::NonZeroUsize;

#[test]
fn curves_are_drawn_as_svg_and_as_png() {
    let folder = scratch("trainer", "plots");
    let data = blobs();
    let mut trainer = classifier().compile().unwrap();
    let history = trainer
        .fit(&data, Fit::epochs(3).validate(&data).quiet())
        .unwrap();
    history.plot(folder.join("curves.svg")).unwrap();
    history.plot(folder.join("curves.png")).unwrap();
    let svg = std::fs::read_to_string(folder.join("curves.svg")).unwrap();
    for name in ["loss", "accuracy", "training", "validation"] {
        assert!(svg.contains(name), "no {name}");
    }
    let png = image::open(folder.join("curves.png")).unwrap();
    assert_eq!((png.width(), png.height()), (2 * 1120, 840));
    let ink = png
        .into_luma8()
        .pixels()
        .filter(|pixel| pixel.0[0] < 128)
        .count();
    assert!(ink > 1000, "{ink} dark pixels");
}

#[test]
fn a_classifier_learns_is_measured_and_predicts() {
    let data = blobs();
    let mut trainer = classifier().compile().unwrap();
    let before = trainer.evaluate(&data, 64).unwrap();
    let fit = Fit::epochs(20).batch(16).validate(&data).quiet();
    let history = trainer.fit(&data, fit).unwrap();
    assert_eq!(
        history.names(),
        [
            "loss",
            "accuracy",
            "val_loss",
            "val_accuracy",
            "learning_rate"
        ]
    );
    assert_eq!(history.epochs().len(), 20);
    assert_eq!(history.last("val_accuracy"), Some(1.0));
    let after = trainer.evaluate(&data, 7).unwrap();
    assert!(
        after.get("loss") < before.get("loss"),
        "{before} then {after}"
    );
    let cells = ConfusionMatrix::rows(trainer.statistics("confusion_matrix").unwrap());
    assert_eq!(cells, [[45.0, 0.0], [0.0, 45.0]]);
    // However the batches are cut.
    let validated = history.last("val_loss").unwrap();
    assert!((after.get("loss").unwrap() - validated).abs() < 1e-6);

    let predicted = trainer.predict(&data, 32).unwrap();
    let scores: &[f32] = predicted.column("y").unwrap().values().unwrap();
    assert_eq!(predicted.column("y").unwrap().shape(), [90, 2]);
    let labels: &[u8] = data.column("y").unwrap().values().unwrap();
    let right = scores
        .chunks(2)
        .zip(labels)
        .filter(|(s, y)| (s[1] > s[0]) == (**y == 1));
    assert_eq!(right.count(), 90);
    assert_eq!(
        trainer.position(),
        Position {
            epoch: 20,
            batch: 0
        }
    );
}

#[test]
fn a_batch_is_measured_before_it_is_learned_from() {
    let data = line(10);
    let mut trainer = linear().compile().unwrap();
    let evaluated = trainer.evaluate(&data, 10).unwrap();
    let first = trainer.train_on_batch(&data).unwrap();
    assert_eq!(evaluated, first);
    let second = trainer.train_on_batch(&data).unwrap();
    assert!(second.get("loss") < first.get("loss"));
}

/// One encoder for two inputs, and an output for each of two questions.
struct Twins;

impl Model for Twins {
    fn inputs(&self) -> Vec<(String, TensorType)> {
        let ty = TensorType::new(DType::F32, (Dim::symbol("b"), 1));
        ["left", "right"]
            .map(|name| (name.to_owned(), ty.clone()))
            .into()
    }

    fn outputs<'g>(&self, cx: &Context<'g>, inputs: &[Tensor<'g>]) -> Vec<(String, Tensor<'g>)> {
        let encoder = Dense::new(1);
        let left = cx.layer("encoder", &encoder, inputs[0]);
        let right = cx.sharing().layer("encoder", &encoder, inputs[1]);
        let sum = cx.layer("sum", &Dense::new(1), left + right);
        vec![("sum".to_owned(), sum), ("left_too".to_owned(), left)]
    }
}

fn twins() -> TrainerBuilder {
    Trainer::new(Twins)
        .loss_on("sum", 1.0, MeanSquaredError)
        .loss_on("left_too", 0.5, MeanSquaredError)
        .optimizer(Sgd::new(0.05))
        // Both weights begin above 0: one that has to cross it makes the other one very large.
        .seed(3)
        .threads(NonZeroUsize::MIN)
}

fn sides() -> Dataset {
    let left: Vec<f32> = (0..20).map(|i| i as f32 / 10.0 - 1.0).collect();
    let right: Vec<f32> = (0..20)
        .map(|i| ((i * 7) % 20) as f32 / 10.0 - 1.0)
        .collect();
    let sum = left.iter().zip(&right).map(|(l, r)| l + r).collect();
    let too = left.iter().map(|l| 3.0 * l).collect();
    Dataset::new([
        column("right", &[1], right),
        column("sum", &[1], sum),
        column("left", &[1], left),
        column("left_too", &[1], too),
    ])
    .unwrap()
}

#[test]
fn several_inputs_and_outputs_share_layers_and_weigh_their_losses() {
    let data = sides();
    let mut trainer = twins().compile().unwrap();
    let first = trainer.train_on_batch(&data).unwrap();
    let part = |name| first.get(name).unwrap();
    let total = part("sum/loss") + 0.5 * part("left_too/loss");
    assert!((part("loss") - total).abs() < 1e-6 * total, "{first}");
    let history = trainer
        .fit(&data, Fit::epochs(400).batch(5).quiet())
        .unwrap();
    assert!(
        history.last("loss") < Some(1e-4),
        "{:?}",
        history.last("loss")
    );
    assert!((values(&mut trainer, "encoder/w")[0] - 3.0).abs() < 0.05);
    let summary = trainer.summary(&data, 5).unwrap();
    assert_eq!(summary.trainable, 4);
    let shown = summary.to_string();
    for wanted in [
        "left",
        "right",
        "encoder",
        "trainable 4 of 4 parameters",
        "peak memory",
    ] {
        assert!(shown.contains(wanted), "no {wanted} in\n{shown}");
    }
}

#[test]
fn frozen_params_stay_and_the_others_learn() {
    let data = sides();
    let mut trainer = twins().freeze("encoder/").compile().unwrap();
    let before = values(&mut trainer, "encoder/w");
    let sum = values(&mut trainer, "sum/w");
    trainer.fit(&data, Fit::epochs(3).quiet()).unwrap();
    assert_eq!(values(&mut trainer, "encoder/w"), before);
    assert_ne!(values(&mut trainer, "sum/w"), sum);
    assert_eq!(trainer.summary(&data, 5).unwrap().trainable, 2);
}

#[test]
fn examples_and_classes_count_by_their_weights() {
    let xs = vec![1.0f32, 2.0];
    let data = Dataset::new([
        column("x", &[1], xs),
        column("y", &[1], vec![0.0f32, 0.0]),
        column("w", &[], vec![3.0f32, 0.5]),
    ])
    .unwrap();
    let mut trainer = linear().sample_weights("w").compile().unwrap();
    let w = values(&mut trainer, "line/w")[0];
    let loss = trainer.train_on_batch(&data).unwrap().get("loss").unwrap();
    let wanted = (3.0 * w * w + 0.5 * 4.0 * w * w) / 2.0;
    assert!((loss - f64::from(wanted)).abs() < 1e-6, "{loss} {wanted}");

    // Class weights count while learning, and not where it is measured.
    let data = blobs();
    let mut plain = classifier().compile().unwrap();
    let mut weighted = classifier().class_weights([2.0, 2.0]).compile().unwrap();
    let loss = |logs: Logs| logs.get("loss").unwrap();
    let measured = loss(weighted.evaluate(&data, 90).unwrap());
    assert!((measured - loss(plain.evaluate(&data, 90).unwrap())).abs() < 1e-6);
    let (one, two) = (
        loss(plain.train_on_batch(&data).unwrap()),
        loss(weighted.train_on_batch(&data).unwrap()),
    );
    assert!((two - 2.0 * one).abs() < 1e-5, "{one} {two}");
    // Only the first class counts: half of the examples have no loss.
    let mut first = classifier().class_weights([1.0, 0.0]).compile().unwrap();
    let mut second = classifier().class_weights([0.0, 1.0]).compile().unwrap();
    let sum =
        loss(first.train_on_batch(&data).unwrap()) + loss(second.train_on_batch(&data).unwrap());
    assert!((sum - one).abs() < 1e-5, "{sum} {one}");
}

#[test]
fn a_loss_that_is_no_number_names_the_tensor_that_went_bad_first() {
    // The root of a negative number, in the third layer.
    struct Root;
    impl kiln_nn::Layer for Root {
        fn kind(&self) -> &str {
            "root"
        }
        fn apply<'g>(&self, _cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
            (x - 1e6).sqrt()
        }
    }
    let model = Sequential::new([1]).dense(1).layer(Root).dense(1);
    let mut trainer = Trainer::new(model)
        .loss(MeanSquaredError)
        .optimizer(Sgd::new(0.1))
        .terminate_on_nan()
        .compile()
        .unwrap();
    let before = values(&mut trainer, "dense_1/w");
    let error = trainer
        .fit(&line(8), Fit::epochs(2).batch(4).quiet())
        .unwrap_err();
    let message = error.to_string();
    let TrainError::NotFinite(found) = error else {
        panic!("{message}");
    };
    assert_eq!((found.epoch, found.batch), (1, 1));
    let culprit = found.culprit.unwrap();
    assert_eq!(culprit.tensor, "result of `sqrt` in `root_1`");
    assert!(culprit.location.contains("trainer.rs"), "{culprit:?}");
    assert_eq!(
        values(&mut trainer, "dense_1/w"),
        before,
        "nothing was written"
    );

    // A rate that is too large ends in a bad loss or param, which is named too.
    let mut trainer = linear()
        .optimizer(Sgd::new(1e25))
        .terminate_on_nan()
        .compile()
        .unwrap();
    let error = trainer
        .fit(&line(8), Fit::epochs(9).quiet())
        .unwrap_err()
        .to_string();
    assert!(error.contains("went bad is the "), "{error}");
}

#[test]
fn what_does_not_fit_is_named() {
    let message = |builder: TrainerBuilder| builder.compile().unwrap_err().to_string();
    let bare = || Trainer::new(Sequential::new([1]).dense(1));
    assert_eq!(
        message(bare().loss(MeanSquaredError)),
        "an optimizer is missing: add `.optimizer(Adam::new(1e-3))`"
    );
    assert!(message(bare().optimizer(Sgd::new(0.1))).starts_with("a loss is missing"));
    assert_eq!(
        message(twins().loss_on("product", 1.0, MeanSquaredError)),
        "a loss for output `product`, but the model has `sum`, `left_too`"
    );
    assert_eq!(
        message(twins().metric(MeanSquaredError)),
        "a metric for output `the only one`, but the model has `sum`, `left_too`"
    );
    let line_of_model = line!() + 1;
    let wrong = Trainer::new(Sequential::new([1]).dense(-1)).loss(MeanSquaredError);
    let TrainError::Graph(found) = wrong.optimizer(Sgd::new(0.1)).compile().unwrap_err() else {
        panic!("the layer is wrong");
    };
    assert_eq!(found.0[0].location.line, line_of_model);

    let mut trainer = linear().compile().unwrap();
    let data = Dataset::new([column("x", &[1], vec![0f32; 4])]).unwrap();
    let error = trainer
        .fit(&data, Fit::epochs(1).quiet())
        .unwrap_err()
        .to_string();
    assert!(error.contains("`y`"), "{error}");
    let mut trainer = classifier().compile().unwrap();
    trainer.evaluate(&blobs(), 8).unwrap();
    let wide: Vec<i64> = vec![0; 90];
    let other = Dataset::new([blobs().column("x").unwrap().clone(), column("y", &[], wide)]);
    let error = trainer
        .fit(&other.unwrap(), Fit::epochs(1).quiet())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the target `y` was u8[b] in the data that came first, and is i64[b] now"
    );
}

#[test]
fn two_passes_share_their_masks_and_count_their_averages_once() {
    let model = || {
        let model = Sequential::new([2]).dense(8).batch_norm().relu();
        model.dropout(0.5).dense(2)
    };
    let trained = |optimizer: Box<dyn kiln_nn::Optimizer>| {
        let trainer = Trainer::new(model()).loss(SparseCrossEntropy).seed(7);
        let trainer = trainer.freeze("dense_1/b").optimizer(optimizer);
        trainer.compile().unwrap()
    };
    // So near that both gradients are the same: the steps are those without the wrapper.
    let mut plain = trained(Box::new(Sgd::new(0.1)));
    let mut near = trained(Box::new(Sam::new(1e-9, Sgd::new(0.1))));
    let mut far = trained(Box::new(Sam::new(0.5, Sgd::new(0.1))));
    let frozen = values(&mut far, "dense_1/b");
    for trainer in [&mut plain, &mut near, &mut far] {
        trainer.fit(&blobs(), Fit::epochs(2).quiet()).unwrap();
    }
    for name in ["dense_1/w", "dense_2/w", "batch_norm_1/mean"] {
        let (plain, near) = (values(&mut plain, name), values(&mut near, name));
        assert_ne!(values(&mut far, name), plain, "{name}");
        let close = plain.iter().zip(&near).all(|(p, n)| (p - n).abs() < 1e-5);
        assert!(close, "{name}: {plain:?} {near:?}");
    }
    assert_eq!(values(&mut far, "dense_1/b"), frozen);
}
