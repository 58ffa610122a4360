//! Callbacks: what they see of a training, when they end it, and what they leave behind.

mod common;

use common::{line, linear, scratch, values};
use kiln_nn::Sgd;
use kiln_train::callbacks::{
    Callback, Checkpoint, CsvLog, EarlyStopping, Flow, Moment, ReduceLrOnPlateau, TensorBoard,
    after_batch, after_epoch,
};
use kiln_train::{Fit, Position, TrainError};
use std::cell::RefCell;

#[test]
fn a_training_that_does_not_improve_is_stopped_and_put_back() {
    let data = line(16);
    let mut trainer = linear().optimizer(Sgd::new(1.2)).compile().unwrap();
    let watched = RefCell::new(Vec::new());
    let note = after_epoch(|moment: &mut Moment<'_>| {
        let w = moment.trainer.state("line/w")?.scalar()?;
        let loss = moment.logs.get("val_loss");
        watched.borrow_mut().push((loss, w as f32));
        Ok(Flow::Go)
    });
    let stop = EarlyStopping::lowest("val_loss").patience(2).restore_best();
    let fit = Fit::epochs(50)
        .batch(16)
        .validate(&data)
        .callback(note)
        .callback(stop);
    let history = trainer.fit(&data, fit.quiet()).unwrap();
    assert!(
        history
            .stopped()
            .unwrap()
            .starts_with("`val_loss` has not improved for 2 epochs")
    );
    let watched = watched.into_inner();
    let best = watched
        .iter()
        .min_by(|a, b| a.0.partial_cmp(&b.0).unwrap())
        .unwrap();
    assert_eq!(watched.len(), history.epochs().len());
    assert_eq!(values(&mut trainer, "line/w"), [best.1]);
    // Another run has a patience of its own.
    let stop = EarlyStopping::lowest("loss").patience(2);
    let again = trainer
        .fit(&data, Fit::epochs(2).callback(stop).quiet())
        .unwrap();
    assert_eq!(again.stopped(), None);
}

#[test]
fn the_learning_rate_falls_on_a_plateau() {
    let mut trainer = linear().optimizer(Sgd::new(0.0)).compile().unwrap();
    assert!(matches!(
        trainer.set_learning_rate(0.1),
        Err(TrainError::Missing { .. })
    ));
    trainer.train_on_batch(&line(4)).unwrap();
    trainer.set_learning_rate(1e-9).unwrap();
    let plateau = ReduceLrOnPlateau::lowest("loss")
        .factor(0.5)
        .patience(2)
        .least(4e-10);
    let fit = Fit::epochs(6).callback(plateau).quiet();
    let history = trainer.fit(&line(4), fit).unwrap();
    let rates: Vec<f32> = history
        .get("learning_rate")
        .iter()
        .map(|r| *r as f32)
        .collect();
    assert_eq!(rates, [1e-9, 1e-9, 1e-9, 5e-10, 5e-10, 4e-10]);
}

#[test]
fn batches_are_watched_and_may_end_a_training() {
    let mut seen = Vec::new();
    let watch = after_batch(|moment: &mut Moment<'_>| {
        seen.push(moment.logs.get("loss").unwrap());
        let enough = moment.trainer.position().batch == 3;
        Ok(if enough {
            Flow::Stop("enough".into())
        } else {
            Flow::Go
        })
    });
    let mut trainer = linear().compile().unwrap();
    let history = trainer
        .fit(&line(50), Fit::epochs(2).batch(10).callback(watch).quiet())
        .unwrap();
    assert_eq!(history.stopped(), Some("enough"));
    assert_eq!(trainer.position(), Position { epoch: 0, batch: 3 });
    assert!(history.epochs().is_empty());
    assert!(seen.len() == 3 && seen[2] < seen[0], "{seen:?}");
    // What is left of the epoch is the first epoch of the next run.
    let history = trainer
        .fit(&line(50), Fit::epochs(1).batch(10).quiet())
        .unwrap();
    assert_eq!(trainer.position(), Position { epoch: 1, batch: 0 });
    assert_eq!(history.epochs().len(), 1);
}

#[test]
fn logs_are_written_for_other_programs() {
    struct Broken;
    impl Callback for Broken {
        fn epoch_begin(&mut self, _: &mut Moment<'_>) -> Result<Flow, TrainError> {
            Err(TrainError::Callback("no".into()))
        }
    }
    let folder = scratch("callbacks", "logs");
    let csv = folder.join("log.csv");
    let mut trainer = linear().compile().unwrap();
    let fit = Fit::epochs(2).callback(CsvLog::new(&csv)).quiet();
    let history = trainer
        .fit(
            &line(8),
            fit.callback(TensorBoard::new(folder.join("board"))),
        )
        .unwrap();
    let text = std::fs::read_to_string(&csv).unwrap();
    assert_eq!(text, history.csv());
    assert!(
        text.starts_with("epoch,seconds,loss,learning_rate\n1,"),
        "{text}"
    );
    let mut board = std::fs::read_dir(folder.join("board")).unwrap();
    let events = std::fs::read(board.next().unwrap().unwrap().path()).unwrap();
    // A version, and two values for each of two epochs.
    let (mut at, mut records) = (0, 0);
    while at < events.len() {
        let length = u64::from_le_bytes(events[at..at + 8].try_into().unwrap());
        at += 16 + usize::try_from(length).unwrap();
        records += 1;
    }
    assert_eq!((at, records), (events.len(), 5));

    let error = trainer
        .fit(&line(8), Fit::epochs(1).callback(Broken).quiet())
        .unwrap_err();
    assert_eq!(error.to_string(), "no");
    let missing = EarlyStopping::highest("val_acuracy");
    let error = trainer
        .fit(&line(8), Fit::epochs(1).callback(missing).quiet())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no `val_acuracy` to watch; there are `loss`, `learning_rate`"
    );
}

#[test]
fn callbacks_that_watch_one_value_in_two_ways_have_a_best_epoch_each() {
    let folder = scratch("callbacks", "best-each");
    let weights = RefCell::new(Vec::new());
    let data = line(16);
    // Each epoch is a little better than the one before, and only the third by so much that it counts for whoever asks for more.
    let rates = [1e-3, 1e-3, 0.2, 1e-3, 1e-3];
    let note = || {
        after_epoch(|moment: &mut Moment<'_>| {
            let w = moment.trainer.state("line/w")?.scalar()?;
            weights.borrow_mut().push(w as f32);
            let epoch = moment.trainer.position().epoch as usize;
            let next = rates.get(epoch).copied().unwrap_or(1e-3);
            moment.trainer.set_learning_rate(next)?;
            Ok(Flow::Go)
        })
    };
    let any = || EarlyStopping::lowest("val_loss").patience(9);
    let much = || any().min_delta(0.3).restore_best();
    let described = || linear().optimizer(Sgd::new(rates[0])).compile().unwrap();
    let fit = |end: u64| Fit::until(end).batch(16).validate(&data).quiet();
    // The one that was added last is the last to put back; one that does not put back is in nobody's way.
    let mut trained = described();
    let all = fit(5).callback(note()).callback(any().restore_best());
    trained
        .fit(&data, all.callback(much()).callback(any()))
        .unwrap();
    let seen = weights.take();
    assert_eq!(seen.len(), 5);
    assert_eq!(values(&mut trained, "line/w"), [seen[2]]);
    let mut trained = described();
    let all = fit(5).callback(note()).callback(much());
    trained
        .fit(&data, all.callback(any().restore_best()).callback(any()))
        .unwrap();
    assert_eq!(weights.take(), seen);
    assert_eq!(values(&mut trained, "line/w"), [seen[4]]);
    // And so in a run that goes on, in its midst or after its end.
    for end in [4, 5] {
        let path = folder.join(format!("{end}.safetensors"));
        let mut first = described();
        let callbacks = fit(end).callback(note()).callback(much());
        let saves = Checkpoint::every(4, folder.join(format!("{end}")));
        let callbacks = callbacks.callback(any().restore_best()).callback(saves);
        first.fit(&data, callbacks).unwrap();
        first.save(&path).unwrap();
        let saved = Checkpoint::latest(folder.join(format!("{end}"))).unwrap();
        for path in [path, saved.unwrap()] {
            let mut second = described();
            second.load(path).unwrap();
            let callbacks = fit(5).callback(note()).callback(any().restore_best());
            second.fit(&data, callbacks.callback(much())).unwrap();
            assert_eq!(values(&mut second, "line/w"), [seen[2]], "{end}");
        }
    }
}

#[test]
fn a_training_that_is_refused_at_its_beginning_leaves_nothing_behind() {
    let folder = scratch("callbacks", "refused");
    let board = folder.join("board");
    let data = line(8);
    let mut whole = linear().compile().unwrap();
    let stop = || EarlyStopping::lowest("loss").patience(9).restore_best();
    let fit = |end: u64| Fit::until(end).batch(4).callback(stop()).quiet();
    whole.fit(&data, fit(4)).unwrap();
    let mut first = linear().compile().unwrap();
    first.fit(&data, fit(2)).unwrap();
    first.save(folder.join("second")).unwrap();
    let mut resumed = linear().compile().unwrap();
    resumed.load(folder.join("second")).unwrap();
    let unknown = EarlyStopping::lowest("los");
    let refused = fit(4).callback(TensorBoard::new(&board)).callback(unknown);
    assert!(matches!(
        resumed.fit(&data, refused),
        Err(TrainError::Unwatched { .. })
    ));
    assert_eq!(std::fs::read_dir(&board).unwrap().count(), 0);
    // The run that was to go on still does.
    resumed.fit(&data, fit(4)).unwrap();
    assert_eq!(values(&mut resumed, "line/w"), values(&mut whole, "line/w"));
    assert_eq!(resumed.history().epochs().len(), 4);
}
