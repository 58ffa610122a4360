//! Mistakes that once went through in silence, or broke what came after them.

use kiln_nn::{Accuracy, Adam, MeanSquaredError, Sequential, Sgd, SparseCrossEntropy};
use kiln_train::callbacks::ReduceLrOnPlateau;
use kiln_train::data::{Augment, Batches, Column, Dataset, Loader, MixUp, Pipeline, Standardise};
use kiln_train::{Fit, Position, Trainer};

/// Points of y = 2x + 1.
fn line(count: usize) -> Dataset {
    let xs: Vec<f32> = (0..count).map(|i| i as f32 / count as f32).collect();
    let ys: Vec<f32> = xs.iter().map(|x| 2.0 * x + 1.0).collect();
    let column = |name, values| Column::new(name, [count, 1], values).unwrap();
    Dataset::new([column("x", xs), column("y", ys)]).unwrap()
}

fn linear() -> Trainer {
    let model = Sequential::new([1]).dense(1).named("line");
    let trainer = Trainer::new(model).loss(MeanSquaredError).seed(1);
    trainer.optimizer(Sgd::new(0.1)).compile().unwrap()
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

#[test]
fn a_pass_without_a_batch_is_refused_and_the_next_one_learns() {
    let mut trainer = linear();
    let mut none = Pipeline::new(line(4), 8).unwrap().drop_short();
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
fn an_epoch_goes_on_with_the_batches_it_began_with() {
    let data = line(16);
    let folder = std::env::temp_dir().join(format!("kiln-mistakes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("within.safetensors");
    let mut trainer = linear();
    let stop = kiln_train::callbacks::after_batch(|moment| {
        let within = moment.trainer.position().batch == 3;
        Ok(if within {
            kiln_train::callbacks::Flow::Stop("enough".into())
        } else {
            kiln_train::callbacks::Flow::Go
        })
    });
    let fit = Fit::epochs(1).batch(4).callback(stop).quiet();
    trainer.fit(&data, fit).unwrap();
    trainer.save(&file).unwrap();
    let mut resumed = linear();
    resumed.load(&file).unwrap();
    let error = resumed
        .fit(&data, Fit::epochs(1).batch(2).quiet())
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("12 examples") && message.contains("6"),
        "{message}"
    );
    resumed.fit(&data, Fit::epochs(1).batch(4).quiet()).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
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
