//! Those about checkpoints, logs and other files.

use super::{described, line, linear, scratch, weight};
use kiln_nn::{MeanSquaredError, Sequential, Sgd};
use kiln_train::callbacks::{
    Checkpoint, CsvLog, EarlyStopping, Flow, ReduceLrOnPlateau, after_batch,
};
use kiln_train::data::Standardise;
use kiln_train::{Fit, Position, TrainError, Trainer};

#[test]
fn an_epoch_goes_on_with_the_batches_it_began_with() {
    let data = line(16);
    let file = scratch("within").join("within.safetensors");
    let mut trainer = linear();
    let stop = after_batch(|moment| {
        let within = moment.trainer.position().batch == 3;
        Ok(if within {
            Flow::Stop("enough".into())
        } else {
            Flow::Go
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
}

#[test]
fn what_would_fail_after_an_epoch_fails_before_the_first_step() {
    let folder = scratch("early");
    let file = folder.join("file");
    std::fs::write(&file, "no folder").unwrap();
    let mut trainer = linear();
    let data = line(16);
    let mut fails = |fit: Fit<'_>| {
        let error = trainer.fit(&data, fit.quiet()).unwrap_err().to_string();
        assert_eq!(trainer.position(), Position::default(), "{error}");
        error
    };
    let fit = || Fit::epochs(1);
    let wrong = "there is no `val_loss` to watch; there are `loss`, `learning_rate`";
    assert_eq!(
        fails(fit().callback(EarlyStopping::lowest("val_loss"))),
        wrong
    );
    assert_eq!(
        fails(fit().callback(ReduceLrOnPlateau::lowest("val_loss"))),
        wrong
    );
    let best = Checkpoint::lowest("val_loss", folder.join("best"));
    assert_eq!(fails(fit().callback(best)), wrong);
    let below = file.join("below");
    for error in [
        fails(fit().callback(CsvLog::new(below.join("log.csv")))),
        fails(fit().callback(Checkpoint::every_epoch(&below))),
        fails(fit().save_on_ctrl_c(below.join("last.safetensors"))),
        fails(fit().save_on_ctrl_c(&folder)),
    ] {
        assert!(error.starts_with("cannot write"), "{error}");
    }
    // Folders that are not there are made.
    let log = folder.join("new").join("log.csv");
    let last = folder.join("newer").join("last.safetensors");
    let fit = fit().callback(CsvLog::new(&log)).save_on_ctrl_c(&last);
    trainer.fit(&data, fit.validate(&data).quiet()).unwrap();
    assert!(
        std::fs::read_to_string(log)
            .unwrap()
            .starts_with("epoch,seconds,loss,val_loss,")
    );
    assert!(last.parent().unwrap().is_dir() && !last.exists());
}

#[test]
fn a_run_that_goes_on_comes_back_to_the_best_epoch_before_it() {
    let folder = scratch("best");
    // From epoch 1 on the rate is too large, so the first is the best.
    let grows = || described().optimizer(Sgd::new(1.2));
    let stop = || EarlyStopping::lowest("loss").patience(9).restore_best();
    let data = line(16);
    let fit = |end: u64| Fit::until(end).batch(16).callback(stop()).quiet();
    let mut whole = grows().compile().unwrap();
    whole.fit(&data, fit(4)).unwrap();
    let mut first = grows().compile().unwrap();
    let saves = Checkpoint::every_epoch(&folder);
    first.fit(&data, fit(2).callback(saves)).unwrap();
    let mut second = grows().compile().unwrap();
    second.load(folder.join("epoch-0002.safetensors")).unwrap();
    second.fit(&data, fit(4)).unwrap();
    assert_eq!(second.history().epochs().len(), 4);
    assert_eq!(weight(&mut second), weight(&mut whole));
    // One that ended holds the best epoch itself, and may be gone on with from there.
    let file = scratch("ended").join("ended.safetensors");
    second.save(&file).unwrap();
    let mut third = grows().compile().unwrap();
    third.load(&file).unwrap();
    third.fit(&data, fit(5)).unwrap();
    assert_eq!(weight(&mut third), weight(&mut whole));
    // A run that kept no best epoch cannot be gone on with as one that did.
    let folder = scratch("no-best");
    let mut plain = grows().compile().unwrap();
    let saves = Fit::until(2)
        .batch(16)
        .callback(Checkpoint::every_epoch(&folder));
    plain.fit(&data, saves.quiet()).unwrap();
    let mut resumed = grows().compile().unwrap();
    resumed.load(folder.join("epoch-0002.safetensors")).unwrap();
    let again = Fit::until(4).batch(16).callback(stop()).quiet();
    let error = resumed.fit(&data, again).unwrap_err().to_string();
    assert!(error.contains("saved without `restore_best`"), "{error}");
}

#[test]
fn checkpoints_of_another_run_are_neither_removed_nor_mixed_with() {
    let folder = scratch("stale");
    let data = line(8);
    let saves = || Checkpoint::lowest("loss", &folder).keep(2);
    let names = || {
        let entries = std::fs::read_dir(&folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let mut first = linear();
    first
        .fit(&data, Fit::epochs(3).callback(saves()).quiet())
        .unwrap();
    let before = names();
    assert_eq!(before, ["epoch-0002.safetensors", "epoch-0003.safetensors"]);
    let refused = |trainer: &mut Trainer| {
        let fit = Fit::epochs(2).callback(saves()).quiet();
        let error = trainer.fit(&data, fit).unwrap_err();
        assert!(matches!(error, TrainError::Stale { .. }), "{error}");
        error.to_string()
    };
    let error = refused(&mut linear());
    assert!(
        error.contains("is of another run: load it to go on"),
        "{error}"
    );
    // Back to an earlier epoch: the later ones would be taken for those of the new course.
    let mut back = linear();
    back.load(folder.join("epoch-0002.safetensors")).unwrap();
    assert!(refused(&mut back).contains("epoch-0003.safetensors is ahead of this run"));
    assert_eq!(names(), before);
    let mut on = linear();
    on.load(Checkpoint::latest(&folder).unwrap().unwrap())
        .unwrap();
    on.fit(&data, Fit::epochs(1).callback(saves()).quiet())
        .unwrap();
    assert_eq!(
        names(),
        ["epoch-0003.safetensors", "epoch-0004.safetensors"]
    );
    let stranger = folder.join("epoch-0001.safetensors");
    std::fs::write(&stranger, "no checkpoint").unwrap();
    assert!(refused(&mut on).contains("is no checkpoint that can be read"));
}

#[test]
fn a_kept_value_is_read_as_what_it_was_kept_as() {
    /// Bytes of `postcard` that fit both.
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Own {
        column: String,
        means: Vec<f64>,
        deviations: Vec<f64>,
    }
    let mut trainer = linear();
    let scale = Standardise::fit(&line(8), "x").unwrap();
    trainer.keep("scale", &scale).unwrap();
    let file = scratch("kept").join("kept.safetensors");
    trainer.save(&file).unwrap();
    let mut loaded = linear();
    loaded.load(&file).unwrap();
    assert_eq!(loaded.kept("scale").unwrap(), Some(scale));
    assert!(loaded.kept::<Standardise>("other").unwrap().is_none());
    let error = loaded.kept::<Own>("scale").err().unwrap().to_string();
    assert_eq!(
        error,
        "`scale` is kept with the model: it is `Standardise`, and `Own` was asked for"
    );
}

#[test]
fn a_checkpoint_that_does_not_fit_tells_all_that_differs() {
    let file = scratch("differs").join("two.safetensors");
    let two = Sequential::new([1]).dense(2).named("line").dense(1);
    let two = Trainer::new(two).loss(MeanSquaredError);
    let mut two = two.optimizer(Sgd::new(0.1)).compile().unwrap();
    two.save(&file).unwrap();
    let error = linear().load(&file).unwrap_err().to_string();
    for wanted in [
        "`line/w` is f32[1, 1], but `line/w` in the file is f32[1, 2]",
        "the file has `dense_2/w`, which the model does not have",
    ] {
        assert!(error.contains(wanted), "no {wanted} in {error}");
    }
}
