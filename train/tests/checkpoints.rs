//! Checkpoints: a run that goes on is the run that never stopped, and a file is whole or refused.

use kiln_nn::{Accuracy, Adam, Sequential, SparseCrossEntropy};
use kiln_train::callbacks::{Checkpoint, Flow, Moment, after_batch};
use kiln_train::data::{Column, Dataset};
use kiln_train::{Fit, Position, TrainError, Trainer};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Set in the child process that saves until it is killed.
const CHILD: &str = "KILN_TEST_SAVES";

fn trainer(units: i64) -> Trainer {
    let model = Sequential::new([2])
        .dense(units)
        .relu()
        .batch_norm()
        .dropout(0.3)
        .dense(2);
    let trainer = Trainer::new(model)
        .loss(SparseCrossEntropy)
        .metric(Accuracy);
    let trainer = trainer
        .optimizer(Adam::new(0.02))
        .threads(NonZeroUsize::MIN);
    trainer.seed(7).compile().unwrap()
}

fn data() -> Dataset {
    let stream = kiln_ir::philox::Stream::new(1, "points", 0);
    let labels: Vec<u8> = (0..70).map(|i| (i % 2) as u8).collect();
    let points: Vec<f32> = (0..140).map(|i| stream.normal(i) as f32).collect();
    Dataset::new([
        Column::new("x", [70, 2], points).unwrap(),
        Column::new("y", [70], labels).unwrap(),
    ])
    .unwrap()
}

fn fit<'f>(end: u64) -> Fit<'f> {
    Fit::until(end).batch(16).quiet()
}

fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("checkpoints-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

type Everything = (Vec<(String, Vec<u8>)>, Vec<Vec<u64>>);

/// Every param and state, and the history without its times.
fn everything(trainer: &mut Trainer) -> Everything {
    let epochs = trainer.history().epochs().iter();
    let values = epochs.map(|epoch| epoch.logs.iter().map(|(_, v)| v.to_bits()).collect());
    let values = values.collect();
    let states = trainer.master().unwrap().states();
    let states = states.map(|state| (state.name().to_owned(), state.bytes().to_vec()));
    (states.collect(), values)
}

#[test]
fn three_epochs_and_two_more_are_five_bit_for_bit() {
    let (folder, data) = (scratch("resume"), data());
    let mut whole = trainer(8);
    whole.fit(&data, fit(5)).unwrap();

    let mut first = trainer(8);
    let saves = Checkpoint::every(3, &folder);
    first.fit(&data, fit(3).callback(saves)).unwrap();
    let path = Checkpoint::latest(&folder).unwrap().unwrap();
    assert!(path.ends_with("epoch-0003.safetensors"));
    let mut second = trainer(8);
    second.load(&path).unwrap();
    assert_eq!(second.position(), Position { epoch: 3, batch: 0 });
    second.fit(&data, fit(5)).unwrap();
    assert_eq!(everything(&mut second), everything(&mut whole));
}

#[test]
fn an_epoch_that_was_stopped_in_its_midst_goes_on_bit_for_bit() {
    let (folder, data) = (scratch("midst"), data());
    let path = folder.join("stopped.safetensors");
    let mut whole = trainer(8);
    whole.fit(&data, fit(3)).unwrap();

    let stop = after_batch(|moment: &mut Moment<'_>| {
        let here = moment.trainer.position() == Position { epoch: 1, batch: 3 };
        Ok(if here {
            Flow::Stop("here".into())
        } else {
            Flow::Go
        })
    });
    let mut first = trainer(8);
    first.fit(&data, fit(3).callback(stop)).unwrap();
    first.keep("classes", &vec!["a", "b"]).unwrap();
    first.save(&path).unwrap();

    let mut second = trainer(8);
    second.load(&path).unwrap();
    let classes = second.kept::<Vec<String>>("classes").unwrap();
    assert_eq!(classes.unwrap(), ["a", "b"]);
    second.fit(&data, fit(3)).unwrap();
    assert_eq!(everything(&mut second), everything(&mut whole));
}

#[test]
fn a_file_that_is_wrong_short_or_damaged_is_refused_and_changes_nothing() {
    let (folder, data) = (scratch("refused"), data());
    let (good, bad) = (folder.join("good"), folder.join("bad"));
    let mut trained = trainer(8);
    trained.fit(&data, fit(2)).unwrap();
    trained.save(&good).unwrap();
    let bytes = std::fs::read(&good).unwrap();
    let before = everything(&mut trained);
    let mut refused = |bytes: &[u8]| {
        std::fs::write(&bad, bytes).unwrap();
        let error = trained.load(&bad).unwrap_err().to_string();
        assert_eq!(everything(&mut trained), before, "{error}");
        error
    };
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        refused(&bytes[..length]);
    }
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for at in (header..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let message = refused(&damaged);
        assert!(message.contains("damaged"), "byte {at}: {message}");
    }
    for at in 0..header {
        for bit in [0x01, 0x20] {
            let mut damaged = bytes.clone();
            damaged[at] ^= bit;
            refused(&damaged);
        }
    }

    let mut other = trainer(9);
    let message = other.load(&good).unwrap_err().to_string();
    assert!(
        message.contains("`dense_1/w` is f32[2, 9], but"),
        "{message}"
    );
    let weights = folder.join("weights");
    trained.save_weights(&weights).unwrap();
    let message = trained.load(&weights).unwrap_err().to_string();
    assert!(message.contains("is no checkpoint"), "{message}");
    let mut fresh = trainer(8);
    fresh.load_weights(&weights).unwrap();
    assert_eq!(
        fresh.evaluate(&data, 70).unwrap().get("accuracy").is_some(),
        trained
            .evaluate(&data, 70)
            .unwrap()
            .get("accuracy")
            .is_some()
    );
    let w = |trainer: &mut Trainer| trainer.state("dense_1/w").unwrap().bytes().to_vec();
    assert_eq!(w(&mut fresh), w(&mut trained));
    let missing = trained.save(folder.join("no such folder").join("x"));
    assert!(matches!(missing, Err(TrainError::Checkpoint(_))));
}

#[test]
fn the_best_files_stay() {
    let (folder, data) = (scratch("best"), data());
    let mut trained = trainer(8);
    let saves = Checkpoint::lowest("loss", &folder).keep(2);
    let history = trained.fit(&data, fit(6).callback(saves)).unwrap();
    let mut ranked: Vec<(f64, usize)> = history.get("loss").into_iter().zip(1..).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut wanted: Vec<String> = ranked[..2]
        .iter()
        .map(|(_, n)| format!("epoch-{n:04}.safetensors"))
        .collect();
    wanted.sort();
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut found: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, wanted);
    assert_eq!(Checkpoint::latest(folder.join("nowhere")).unwrap(), None);
}

/// Kills a process that saves two checkpoints in turn, at 200 moments, and loads what is there each time.
#[test]
fn a_process_that_is_killed_while_it_saves_leaves_the_old_or_the_new_file_whole() {
    if let Ok(path) = std::env::var(CHILD) {
        return save_forever(Path::new(&path));
    }
    let folder = scratch("killed");
    let path = folder.join("checkpoint.safetensors");
    let mut reader = trainer(64);
    reader.train_on_batch(&data()).unwrap();
    reader.set_state("dense_1/b", vec![1.0f32; 64]).unwrap();
    reader.save(&path).unwrap();
    let mut seen = [0; 2];
    for round in 0..200u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_process_that_is_killed_while_it_saves_leaves_the_old_or_the_new_file_whole",
            ])
            .env(CHILD, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Not before it has begun: it says so by a file.
        let begun = folder.join(format!("begun-{}", child.id()));
        while !begun.exists() {
            std::thread::sleep(Duration::from_micros(200));
        }
        // Spread over some savings, by steps that no period of the child divides.
        std::thread::sleep(Duration::from_micros(round * 7919 % 9973));
        child.kill().unwrap();
        child.wait().unwrap();
        reader
            .load(&path)
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        let mark = reader.state("dense_1/b").unwrap().to_vec::<f32>().unwrap();
        assert!(mark.iter().all(|v| *v == mark[0]), "half of each");
        seen[usize::from(mark[0] == 1.0)] += 1;
        std::fs::remove_file(begun).unwrap();
    }
    assert!(
        seen[0] > 0 && seen[1] > 0,
        "both files were found: {seen:?}"
    );
}

#[test]
fn a_run_goes_on_where_it_has_come_the_furthest() {
    let (folder, data) = (scratch("furthest"), data());
    let saves = || Checkpoint::every_epoch(&folder).keep(2);
    let mut whole = trainer(8);
    whole.fit(&data, fit(4)).unwrap();
    let stop = |epoch: u64| {
        after_batch(move |moment: &mut Moment<'_>| {
            let here = moment.trainer.position() == Position { epoch, batch: 3 };
            Ok(if here {
                Flow::Stop("here".into())
            } else {
                Flow::Go
            })
        })
    };
    let interrupted = Checkpoint::interrupted(&folder);
    let mut first = trainer(8);
    let until = fit(4).callback(saves()).callback(stop(2));
    first.fit(&data, until).unwrap();
    first.save(&interrupted).unwrap();
    let latest = || Checkpoint::latest(&folder).unwrap().unwrap();
    assert_eq!(latest(), interrupted);
    let mut second = trainer(8);
    second.load(latest()).unwrap();
    second.fit(&data, fit(4).callback(saves())).unwrap();
    assert_eq!(everything(&mut second), everything(&mut whole));
    assert!(latest().ends_with("epoch-0004.safetensors"));

    // A run that begins anew does not go on one day with what another has left, not even of its first epoch.
    let folder = scratch("first-epoch");
    let interrupted = Checkpoint::interrupted(&folder);
    let mut first = trainer(8);
    first.fit(&data, fit(4).callback(stop(0))).unwrap();
    first.save(&interrupted).unwrap();
    let saves = || Checkpoint::every_epoch(&folder);
    let error = trainer(8).fit(&data, fit(4).callback(saves())).unwrap_err();
    assert!(matches!(error, TrainError::Stale { .. }), "{error}");
    let mut second = trainer(8);
    second.load(&interrupted).unwrap();
    second.fit(&data, fit(4).callback(saves())).unwrap();
    std::fs::write(&interrupted, b"no checkpoint").unwrap();
    let error = Checkpoint::latest(&folder).unwrap_err().to_string();
    assert!(error.contains("interrupted.safetensors"), "{error}");
}

/// Set in the child process that trains until Ctrl-C comes.
const TRAINS: &str = "KILN_TEST_TRAINS";

#[cfg(unix)]
#[test]
fn ctrl_c_finishes_the_step_saves_and_returns() {
    const NAME: &str = "ctrl_c_finishes_the_step_saves_and_returns";
    if let Ok(path) = std::env::var(TRAINS) {
        let mut trained = trainer(8);
        let begun = after_batch(|moment: &mut Moment<'_>| {
            let begun = format!("{path}-begun");
            if moment.trainer.position() == (Position { epoch: 2, batch: 1 }) {
                std::fs::write(begun, b"").unwrap();
            }
            Ok(Flow::Go)
        });
        let fit = fit(u64::MAX).callback(begun).save_on_ctrl_c(&path);
        let history = trained.fit(&data(), fit).unwrap();
        assert!(history.stopped().unwrap().starts_with("Ctrl-C; saved in "));
        return;
    }
    let path = scratch("interrupted").join("checkpoint");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME])
        .env(TRAINS, &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = PathBuf::from(format!("{}-begun", path.display()));
    while !begun.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert!(child.wait().unwrap().success());
    let mut saved = trainer(8);
    saved.load(&path).unwrap();
    let Position { epoch, .. } = saved.position();
    assert!(epoch >= 2);
    // As if it had never stopped.
    let end = epoch + 1;
    saved.fit(&data(), fit(end)).unwrap();
    let mut whole = trainer(8);
    whole.fit(&data(), fit(end)).unwrap();
    assert_eq!(everything(&mut saved), everything(&mut whole));
}

/// Saves with a bias of ones and one of twos, in turn.
fn save_forever(path: &Path) {
    let mut writer = trainer(64);
    writer.train_on_batch(&data()).unwrap();
    let begun = path.with_file_name(format!("begun-{}", std::process::id()));
    std::fs::write(begun, b"").unwrap();
    loop {
        for value in [1.0f32, 2.0] {
            let bias = vec![value; 64];
            writer.set_state("dense_1/b", &bias).unwrap();
            writer.save(path).unwrap();
        }
    }
}
