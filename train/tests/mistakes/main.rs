//! Mistakes that once went through in silence, or broke what came after them.

mod files;

use kiln_nn::{
    Accuracy, Adam, AdamW, Average, ConfusionMatrix, F1, MeanSquaredError, Metric, Sequential, Sgd,
    SparseCrossEntropy,
};
use kiln_train::callbacks::{EarlyStopping, ReduceLrOnPlateau};
use kiln_train::data::{
    Augment, Batch, Batches, Column, DataError, Dataset, Loader, MixUp, Pipeline, Standardise,
};
use kiln_train::{Fit, Position, TrainError, Trainer, TrainerBuilder};
use std::path::PathBuf;

/// Points of y = 2x + 1.
fn line(count: usize) -> Dataset {
    let xs: Vec<f32> = (0..count).map(|i| i as f32 / count as f32).collect();
    let ys: Vec<f32> = xs.iter().map(|x| 2.0 * x + 1.0).collect();
    let column = |name, values| Column::new(name, [count, 1], values).unwrap();
    Dataset::new([column("x", xs), column("y", ys)]).unwrap()
}

fn linear() -> Trainer {
    described().compile().unwrap()
}

fn described() -> TrainerBuilder {
    let model = Sequential::new([1]).dense(1).named("line");
    let trainer = Trainer::new(model).loss(MeanSquaredError).seed(1);
    trainer.optimizer(Sgd::new(0.1))
}

/// An empty folder.
fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mistakes-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn weight(trainer: &mut Trainer) -> f64 {
    trainer.state("line/w").unwrap().scalar().unwrap()
}

fn pictures(value: f32) -> Dataset {
    let x = Column::new("x", [4, 8, 8, 3], vec![value; 4 * 8 * 8 * 3]).unwrap();
    let y = Column::new("y", [4, 2], vec![0.5_f32; 8]).unwrap();
    Dataset::new([x, y]).unwrap()
}

fn first(batches: &mut dyn Batches, column: &str) -> Vec<f32> {
    batches.start_epoch(0);
    let batch = batches.next_batch().unwrap();
    batch.values::<f32>(column).unwrap().to_vec()
}

/// Batches of which there are none.
struct Nothing;

impl Batches for Nothing {
    fn pick(&mut self, _: &[&str]) -> Result<(), DataError> {
        Ok(())
    }

    fn batches(&self) -> usize {
        0
    }

    fn start_epoch(&mut self, _: u64) {}

    fn next_batch(&mut self) -> Option<Batch<'_>> {
        None
    }
}

#[test]
fn a_pass_without_a_batch_is_refused_and_the_next_one_learns() {
    let mut trainer = linear();
    let short = Pipeline::new(line(4), 8).unwrap().drop_short();
    let full = Pipeline::new(line(8), 8).unwrap().drop_short();
    assert!(
        matches!(
            short,
            Err(DataError::NoFullBatch {
                examples: 4,
                batch: 8
            })
        ) && full.is_ok()
    );
    let mut none = Nothing;
    assert!(trainer.evaluate(&mut none, 1).is_err());
    let error = trainer.fit(&mut none, Fit::epochs(1).quiet()).unwrap_err();
    assert!(error.to_string().contains("no batch"), "{error}");
    let before = weight(&mut trainer);
    trainer.fit(&line(16), Fit::epochs(1).quiet()).unwrap();
    assert_ne!(weight(&mut trainer), before);
}

#[test]
fn wrong_targets_leave_a_trainer_that_takes_the_right_ones() {
    let mut trainer = linear();
    let data = line(8);
    let x = data.column("x").unwrap().clone();
    let wide = Column::new("y", [8, 2], vec![0.0_f32; 16]).unwrap();
    let wrong = Dataset::new([x, wide]).unwrap();
    assert!(trainer.fit(&wrong, Fit::epochs(1).quiet()).is_err());
    trainer.fit(&data, Fit::epochs(1).quiet()).unwrap();
}

#[test]
fn wrong_validation_data_is_found_before_the_first_step() {
    let mut trainer = linear();
    let other = Dataset::new([Column::new("z", [4, 1], vec![0.0_f32; 4]).unwrap()]).unwrap();
    let fit = Fit::epochs(1).validate(&other).quiet();
    let error = trainer.fit(&line(16), fit).unwrap_err();
    assert!(error.to_string().contains("`x`"), "{error}");
    assert_eq!(trainer.position(), Position::default());
}

#[test]
fn each_class_has_a_weight() {
    let x = Column::new("x", [6, 2], vec![0.5_f32; 12]).unwrap();
    let y = Column::new("y", [6], vec![0_u8, 1, 2, 0, 1, 2]).unwrap();
    let data = Dataset::new([x, y]).unwrap();
    let trainer = Trainer::new(Sequential::new([2]).dense(3)).loss(SparseCrossEntropy);
    let trainer = trainer.metric(Accuracy).optimizer(Adam::new(0.01));
    let mut trainer = trainer.class_weights([1.0, 2.0]).compile().unwrap();
    assert!(trainer.fit(&data, Fit::epochs(1).quiet()).is_err());
}

#[test]
fn partners_of_a_mix_went_through_the_same_steps() {
    let pipeline = Pipeline::new(pictures(255.0), 4).unwrap().shuffled(3);
    let pipeline = pipeline
        .map("x", |values| {
            values.iter_mut().for_each(|value| *value /= 255.0)
        })
        .unwrap();
    let mut mixed = pipeline.with(MixUp::new("x", "y", 0.4)).unwrap();
    for value in first(&mut mixed, "x") {
        assert!((value - 1.0).abs() < 1e-6, "{value}");
    }
}

#[test]
fn settings_beyond_all_bounds_do_no_harm_or_are_refused() {
    let augmented = |augment| Pipeline::new(pictures(1.0), 4).unwrap().with(augment);
    for pixels in [12, usize::MAX] {
        let mut shifted = augmented(Augment::images("x").shift(pixels)).unwrap();
        assert_eq!(first(&mut shifted, "x").len(), 4 * 8 * 8 * 3);
    }
    for wrong in [
        Augment::images("x").zoom(f32::NAN),
        Augment::images("x").zoom(3.0),
        Augment::images("x").brightness(f32::INFINITY),
        Augment::images("x").contrast(5.0),
    ] {
        assert!(augmented(wrong).is_err());
    }
    let mut all = Pipeline::new(line(4), usize::MAX)
        .unwrap()
        .prefetch(usize::MAX);
    assert_eq!(first(&mut all, "x").len(), 4);
}

#[test]
fn large_numbers_are_standardised_before_they_are_rounded() {
    let times: Vec<f64> = (0..5).map(|i| 1.7e9 + 60.0 * f64::from(i)).collect();
    let same = vec![0.1_f64; 5];
    let values: Vec<f64> = times
        .iter()
        .zip(&same)
        .flat_map(|(t, s)| [*t, *s])
        .collect();
    let data = Dataset::new([Column::new("x", [5, 2], values).unwrap()]).unwrap();
    let data = Standardise::fit(&data, "x").unwrap().apply(data).unwrap();
    let mut loader = Loader::new(&data, 5).unwrap();
    let found = first(&mut loader, "x");
    let half = 0.5_f32.sqrt();
    let expected = [-2.0 * half, -half, 0.0, half, 2.0 * half];
    for (row, expected) in found.chunks(2).zip(expected) {
        assert!(
            (row[0] - expected).abs() < 1e-6 && row[1].abs() < 1e-6,
            "{row:?}"
        );
    }
}

#[test]
fn a_rate_below_the_least_is_not_raised() {
    let mut trainer = linear();
    let plateau = ReduceLrOnPlateau::lowest("loss").factor(0.5).patience(1);
    let plateau = plateau.min_delta(1e9).least(0.5);
    let fit = Fit::epochs(4).callback(plateau).quiet();
    trainer.fit(&line(8), fit).unwrap();
    let rates = trainer.learning_rates();
    assert!(
        rates.iter().all(|(_, rate)| (*rate - 0.1).abs() < 1e-7),
        "{rates:?}"
    );
}

/// What is refused of a description.
fn refused(described: TrainerBuilder) -> String {
    described.compile().unwrap_err().to_string()
}

#[test]
fn a_freeze_that_finds_no_param_is_refused_with_those_there_are() {
    assert_eq!(
        refused(described().freeze("lime/")),
        "no param has a name that begins with `lime/`; there are `line/w`, `line/b`"
    );
    let none = refused(described().freeze_if(|_| false));
    assert!(none.contains("that `freeze_if` chooses"), "{none}");
    assert!(described().freeze("line/b").compile().is_ok());
}

#[test]
fn each_value_of_the_logs_has_a_name_of_its_own() {
    let f1 = || F1::of_classes(Average::Macro);
    let model = || Trainer::new(Sequential::new([2]).dense(3)).loss(SparseCrossEntropy);
    let twice = model().metric(f1()).metric(f1()).optimizer(Sgd::new(0.1));
    assert_eq!(
        refused(twice),
        "`f1` is already the name of something in the logs; `.named(\"another\")` renames a metric"
    );
    let loss = model().metric(f1().named("loss")).optimizer(Sgd::new(0.1));
    assert!(refused(loss).starts_with("`loss` is already"));
    let other = model().metric(f1()).metric(f1().named("f1_too"));
    let other = other.metric(ConfusionMatrix).metric_on("y", Accuracy);
    let mut trainer = other.optimizer(Sgd::new(0.1)).compile().unwrap();
    let x = Column::new("x", [6, 2], vec![0.5_f32; 12]).unwrap();
    let y = Column::new("y", [6], vec![0_u8, 1, 2, 0, 1, 2]).unwrap();
    let data = Dataset::new([x, y]).unwrap();
    let logs = trainer.evaluate(&data, 6).unwrap();
    let names: Vec<&str> = logs.iter().map(|(name, _)| name).collect();
    // A matrix is no number.
    assert_eq!(names, ["loss", "f1", "f1_too", "y/accuracy"]);
    assert_eq!(logs.get("f1"), logs.get("f1_too"));
    assert!(trainer.statistics("confusion_matrix").is_some());
}

#[test]
fn rates_and_weights_that_are_no_numbers_are_refused() {
    let data = line(8);
    let quiet = || Fit::epochs(1).quiet();
    for rate in [f64::NAN, -0.1, f64::INFINITY] {
        let mut trainer = described().optimizer(Sgd::new(rate)).compile().unwrap();
        let error = trainer.fit(&data, quiet()).unwrap_err().to_string();
        assert!(error.contains("learning rate"), "{error}");
        let mut trainer = linear();
        trainer.train_on_batch(&data).unwrap();
        let error = trainer.set_learning_rate(rate).unwrap_err().to_string();
        assert!(error.ends_with("it lies at 0 or above"), "{error}");
        assert!((trainer.learning_rates()[0].1 - 0.1).abs() < 1e-7);
        let falls = ReduceLrOnPlateau::lowest("loss").factor(rate);
        let error = trainer.fit(&data, quiet().callback(falls)).unwrap_err();
        assert!(matches!(error, TrainError::Setting { .. }), "{error}");
        let stops = EarlyStopping::lowest("loss").min_delta(rate);
        let error = trainer.fit(&data, quiet().callback(stops)).unwrap_err();
        assert!(matches!(error, TrainError::Setting { .. }), "{error}");
    }
    let model = Trainer::new(Sequential::new([1]).dense(1)).optimizer(Sgd::new(0.1));
    let wrong = refused(model.loss_on("y", f64::NAN, MeanSquaredError));
    assert!(wrong.starts_with("the weight of a loss is NaN"), "{wrong}");

    let weights = Column::new("w", [8], [vec![1.0_f32; 7], vec![f32::NAN]].concat()).unwrap();
    let columns = data.columns().iter().cloned().chain([weights]);
    let data = Dataset::new(columns.collect::<Vec<_>>()).unwrap();
    let mut trainer = described().sample_weights("w").compile().unwrap();
    let before = weight(&mut trainer);
    let error = trainer.fit(&data, quiet()).unwrap_err().to_string();
    assert!(error.contains("a weight in `w` is not finite"), "{error}");
    assert_eq!(weight(&mut trainer), before);
    assert!(trainer.evaluate(&data, 8).is_err());
}

#[test]
fn predictions_of_shuffled_batches_are_refused() {
    let data = line(16);
    let mut trainer = linear();
    let mut shuffled = Loader::new(&data, 4).unwrap().shuffled(3);
    let error = trainer.predict(&mut shuffled, 4).unwrap_err().to_string();
    assert!(error.contains("these batches are shuffled"), "{error}");
    let mut in_order = Loader::new(&data, 4).unwrap();
    assert_eq!(trainer.predict(&mut in_order, 4).unwrap().len(), 16);
}

#[test]
fn patience_is_counted_as_in_keras() {
    // Nothing improves by so much: the first epoch is the best.
    let epochs = |stop: EarlyStopping| {
        let fit = Fit::epochs(9).callback(stop.min_delta(1e9)).quiet();
        let history = linear().fit(&line(8), fit).unwrap();
        (
            history.epochs().len(),
            history.stopped().unwrap_or_default().to_owned(),
        )
    };
    // Keras 3: EarlyStopping("loss", patience=p, min_delta=1e9) stops after 1 + max(p, 1) epochs.
    for (patience, wanted) in [(0, 2), (1, 2), (2, 3), (3, 4)] {
        let (count, why) = epochs(EarlyStopping::lowest("loss").patience(patience));
        assert_eq!(count, wanted, "{why}");
    }
    // And ReduceLROnPlateau lowers the rate after the same epoch, the third.
    let plateau = ReduceLrOnPlateau::lowest("loss")
        .factor(0.5)
        .patience(2)
        .min_delta(1e9);
    let history = linear()
        .fit(&line(8), Fit::epochs(4).callback(plateau).quiet())
        .unwrap();
    let rates = history
        .get("learning_rate")
        .into_iter()
        .map(|rate| rate as f32);
    assert_eq!(rates.collect::<Vec<_>>(), [0.1, 0.1, 0.1, 0.05]);
}

#[test]
fn class_weights_are_of_one_output() {
    struct Both;
    impl kiln_train::Model for Both {
        fn inputs(&self) -> Vec<(String, kiln_ir::TensorType)> {
            let shape = (kiln_ir::Dim::symbol("b"), 2);
            vec![(
                "x".to_owned(),
                kiln_ir::TensorType::new(kiln_ir::DType::F32, shape),
            )]
        }
        fn outputs<'g>(
            &self,
            cx: &kiln_nn::Context<'g>,
            inputs: &[kiln_ir::Tensor<'g>],
        ) -> Vec<(String, kiln_ir::Tensor<'g>)> {
            let part = |name: &str, units| {
                let dense = kiln_nn::Dense::new(units);
                (name.to_owned(), cx.layer(name, &dense, inputs[0]))
            };
            vec![part("kind", 3), part("size", 1)]
        }
    }
    let both = || {
        let trainer = Trainer::new(Both).optimizer(Sgd::new(0.1));
        let trainer = trainer.loss_on("kind", 1.0, SparseCrossEntropy);
        trainer.loss_on("size", 1.0, MeanSquaredError)
    };
    assert_eq!(
        refused(both().class_weights([1.0, 2.0, 3.0])),
        "class weights for output `the only one`, but the model has `kind`, `size`"
    );
    let twice = both()
        .class_weights_on("kind", [1.0])
        .class_weights_on("kind", [2.0]);
    assert!(refused(twice).ends_with("class weights for it already"));
    let x = Column::new("x", [3, 2], vec![0.5_f32; 6]).unwrap();
    let kind = Column::new("kind", [3], vec![0_u8, 1, 2]).unwrap();
    let size = Column::new("size", [3, 1], vec![0.1_f32, 0.2, 0.3]).unwrap();
    let data = Dataset::new([x, kind, size]).unwrap();
    let losses = |described: TrainerBuilder| {
        let logs = described.compile().unwrap().train_on_batch(&data).unwrap();
        ["kind/loss", "size/loss"].map(|name| logs.get(name).unwrap())
    };
    let [kind, size] = losses(both());
    let [weighted, same] = losses(both().class_weights_on("kind", [2.0; 3]));
    assert!(
        (weighted - 2.0 * kind).abs() < 1e-5 && same == size,
        "{weighted} {kind}"
    );
    let mut wrong = both().class_weights_on("size", [1.0]).compile().unwrap();
    let error = wrong.train_on_batch(&data).unwrap_err().to_string();
    assert!(error.contains("class weights for targets f32"), "{error}");
}

#[test]
fn averages_of_weights_measure_and_predict() {
    let data = line(16);
    let averaged = || described().optimizer(AdamW::new(0.1).averaged(0.5));
    let mut trainer = averaged().compile().unwrap();
    trainer.use_averages(true);
    // Before the first step there is nothing to average.
    trainer.evaluate(&data, 16).unwrap();
    trainer.fit(&data, Fit::epochs(3).quiet()).unwrap();
    let average: f64 = trainer
        .state("adamw/average/line/w")
        .unwrap()
        .scalar()
        .unwrap();
    let w = weight(&mut trainer);
    let predict = |trainer: &mut Trainer, averages: bool| {
        trainer.use_averages(averages);
        let y = trainer.predict(&data, 16).unwrap();
        let y = y.column("y").unwrap().values::<f32>().unwrap().to_vec();
        // The slope of the line.
        f64::from(y[15] - y[0]) * 16.0 / 15.0
    };
    assert!((predict(&mut trainer, true) - average).abs() < 1e-5 && average != w);
    assert!((predict(&mut trainer, false) - w).abs() < 1e-5);
    let plain = trainer.evaluate(&data, 16).unwrap();
    trainer.use_averages(true);
    let better = trainer.evaluate(&data, 16).unwrap();
    assert_ne!(plain, better);
    let history = trainer
        .fit(&data, Fit::epochs(1).validate(&data).quiet())
        .unwrap();
    assert_eq!(
        history.last("val_loss"),
        trainer.evaluate(&data, 16).unwrap().get("loss")
    );
    // What is saved for others is what predicts.
    let file = scratch("averages").join("weights.safetensors");
    trainer.save_weights(&file).unwrap();
    let mut other = linear();
    other.load_weights(&file).unwrap();
    let average = trainer
        .state("adamw/average/line/w")
        .unwrap()
        .scalar()
        .unwrap();
    assert_eq!(weight(&mut other), average);

    let mut without = linear();
    without.train_on_batch(&data).unwrap();
    without.use_averages(true);
    let error = without.predict(&data, 4).unwrap_err().to_string();
    assert!(
        error.starts_with("an average of the weights is missing"),
        "{error}"
    );
}
