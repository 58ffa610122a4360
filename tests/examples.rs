//! The examples do what they promise, and say clearly what is wrong with bad input.
//!
//! They are run as a user runs them, through cargo, so that the test is right whatever was built before. Fashion-MNIST is not
//! part of the repository: in its place are a few pictures that any model tells apart.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn example(name: &str, arguments: &[&str]) -> Output {
    command(name, arguments).output().expect("cargo starts")
}

fn command(name: &str, arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--quiet", "--example", name, "--"])
        .args(arguments);
    for variable in ["KILN_DUMP", "KILN_DUMP_DIR", "KILN_STOP_AFTER", "KILN_TIME"] {
        cargo.env_remove(variable);
    }
    cargo
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of an example that succeeds.
fn success(name: &str, arguments: &[&str]) -> String {
    let output = example(name, arguments);
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {errors}");
    text(&output.stdout)
}

/// The number that follows `word` in its last occurrence.
fn number_after(text: &str, word: &str) -> f64 {
    let (_, rest) = text.rsplit_once(word).expect(word);
    let number = rest.split_whitespace().next().expect("a number follows");
    number
        .trim_end_matches(',')
        .parse()
        .expect("it is a number")
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn linear_regression_finds_the_line_and_draws_it() {
    let picture = scratch("linear_regression.svg");
    let path = picture.to_str().expect("a path in UTF-8");
    let found = success("linear_regression", &["--plot", path]);
    assert!(
        (number_after(&found, "weight ") - 2.0).abs() < 0.05,
        "{found}"
    );
    assert!(
        (number_after(&found, "bias ") - 1.0).abs() < 0.05,
        "{found}"
    );
    let error = number_after(&found, "predictions ");
    assert!((0.05..0.15).contains(&error), "{found}");
    let svg = std::fs::read_to_string(&picture).expect("the picture was written");
    assert!(svg.starts_with("<svg") && svg.contains("Loss of each epoch"));
}

#[test]
fn tabular_tells_tumours_apart_and_draws_how_well() {
    let (roc, confusion) = (scratch("roc.svg"), scratch("confusion.svg"));
    let plots = [&roc, &confusion].map(|path| path.to_str().expect("a path in UTF-8"));
    let found = success("tabular", &["--plot", plots[0], "--confusion", plots[1]]);
    assert!(number_after(&found, "f1 ") >= 0.93, "{found}");
    let svg = std::fs::read_to_string(&roc).expect("the picture was written");
    assert!(number_after(&svg, "ROC, area ") > 0.97, "{svg}");
    let svg = std::fs::read_to_string(&confusion).expect("the picture was written");
    assert!(svg.contains("malignant") && svg.contains("benign"));
}

#[test]
fn autoencoder_and_vae_draw_digits() {
    let picture = scratch("digits.png");
    let path = picture.to_str().expect("a path in UTF-8");
    let found = success("autoencoder", &["--epochs", "40", "--plot", path]);
    assert!(number_after(&found, "explained ") > 0.6, "{found}");
    let size = image::image_dimensions(&picture).expect("a picture");
    assert_eq!(size, (16 * 52 + 4, 2 * 52 + 4));
    let found = success("vae", &["--epochs", "21", "--plot", path]);
    let first = number_after(found.lines().next().expect("a line"), "loss ");
    assert!(number_after(&found, "loss ") < 0.75 * first, "{found}");
    assert_eq!(
        image::image_dimensions(&picture).expect("a picture").1,
        4 * 52 + 4
    );
}

#[test]
fn custom_parts_learn_the_spiral() {
    let found = success("custom", &[]);
    assert!(number_after(&found, "accuracy ") > 0.95, "{found}");
}

#[test]
fn finetune_onnx_teaches_a_model_what_it_does_not_know() {
    let folder = scratch("finetune_onnx");
    let folder = folder.to_str().expect("a path in UTF-8");
    let found = success("finetune_onnx", &["--folder", folder, "--epochs", "10"]);
    let before = number_after(&found, "before: accuracy ");
    // It names at most the half that it knows.
    assert!((0.3..0.6).contains(&before), "{found}");
    assert!(number_after(&found, "after: accuracy ") >= 0.95, "{found}");
    assert!(number_after(&found, "off by at most ") < 1e-4, "{found}");
    // What was written is a model like any other.
    let model = format!("{folder}/tuned.onnx");
    let kept = [
        "--model", &model, "--head", "keep", "--folder", folder, "--epochs", "1",
    ];
    let found = success("finetune_onnx", &kept);
    assert!(number_after(&found, "before: accuracy ") >= 0.95, "{found}");
    assert!(number_after(&found, "after: accuracy ") >= 0.95, "{found}");
}

/// Pictures of 28 x 28 whose brightness is the class, in the place of Fashion-MNIST.
fn stripes() -> PathBuf {
    let folder = scratch("stripes");
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    for (part, count) in [("train", 400u32), ("t10k", 100)] {
        let size = count.to_be_bytes();
        let labels = (0..count).map(|i| (i % 10) as u8);
        let pixels = labels.clone().flat_map(|label| [label * 25; 784]);
        let side = [0, 0, 0, 28];
        let images = [&[0, 0, 8, 3][..], &size, &side, &side].concat();
        let images: Vec<u8> = images.into_iter().chain(pixels).collect();
        let labels: Vec<u8> = [&[0, 0, 8, 1][..], &size]
            .concat()
            .into_iter()
            .chain(labels)
            .collect();
        for (name, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
            std::fs::write(folder.join(format!("{part}-{name}-ubyte")), bytes).expect("written");
        }
    }
    folder
}

#[test]
fn fashion_mnist_goes_on_from_its_checkpoint() {
    let (folder, runs) = (stripes(), scratch("runs"));
    let _ = std::fs::remove_dir_all(&runs);
    let (folder, runs) = (
        folder.to_str().expect("UTF-8"),
        runs.to_str().expect("UTF-8"),
    );
    let run = |epochs| {
        let common = [folder, "--runs", runs, "--resume", "--threads", "1"];
        success(
            "fashion_mnist",
            &[&common[..], &["--epochs", epochs]].concat(),
        )
    };
    run("2");
    let found = run("3");
    assert!(
        found.contains("goes on from ") && found.contains("epoch-0002.safetensors"),
        "{found}"
    );
    let last = found
        .lines()
        .rfind(|line| line.starts_with("epoch 3/3"))
        .expect("a third epoch");
    for name in [
        "history.csv",
        "curves.svg",
        "confusion.svg",
        "epoch-0003.safetensors",
    ] {
        assert!(PathBuf::from(runs).join(name).exists(), "no {name}\n{last}");
    }
}

/// Through an exec, which is how cargo runs a program on unix, so that the signal reaches the example.
#[cfg(unix)]
#[test]
fn fashion_mnist_goes_on_where_ctrl_c_stopped_it() {
    let (folder, runs) = (stripes(), scratch("stopped_runs"));
    let _ = std::fs::remove_dir_all(&runs);
    let paths = [&folder, &runs].map(|path| path.to_str().expect("a path in UTF-8"));
    let arguments = [paths[0], "--runs", paths[1], "--resume", "--threads", "1"];
    let mut cargo = command(
        "fashion_mnist",
        &[&arguments[..], &["--epochs", "1000000"]].concat(),
    );
    let child = cargo.stdout(Stdio::piped()).spawn().expect("cargo starts");
    while !runs.join("history.csv").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status();
    assert!(sent.expect("kill runs").success());
    let output = child.wait_with_output().expect("it ends");
    let found = text(&output.stdout);
    assert!(output.status.success(), "{found}");
    assert!(found.contains("stopped: Ctrl-C; saved in "), "{found}");
    let done = found
        .lines()
        .filter(|line| line.starts_with("epoch "))
        .count();
    let end = (done + 2).to_string();
    let found = success(
        "fashion_mnist",
        &[&arguments[..], &["--epochs", &end]].concat(),
    );
    let from = found.lines().find(|line| line.starts_with("goes on from "));
    assert!(
        from.expect("it goes on")
            .ends_with("interrupted.safetensors"),
        "{found}"
    );
    let epochs = found.lines().filter(|line| line.starts_with("epoch "));
    assert_eq!(epochs.count(), done + 2, "{found}");
}

#[test]
fn fsrs_comes_near_the_parameters_that_made_the_histories() {
    let found = success("fsrs", &[]);
    let start = number_after(&found, "log loss: ");
    let end = number_after(&found, "at the start, ");
    let best = number_after(&found, "found, ");
    assert!(best < start, "{found}");
    // Of what there is to gain by knowing the parameters.
    assert!((start - end) / (start - best) > 0.99, "{found}");
    let (errors, _) = found.split_once("log loss").expect("it follows");
    let expected = number_after(errors, "found, ");
    assert!(number_after(errors, "start, ") < 1.2 * expected, "{found}");
    assert_eq!(found.lines().filter(|l| l.starts_with('w')).count(), 21);
}

#[test]
fn digits_reads_what_it_has_not_seen() {
    let found = success("digits", &[]);
    assert!(number_after(&found, "accuracy ") >= 0.97, "{found}");
    for shown in [
        "dense_3",
        "17 226",
        "a step on 64 examples: ",
        "peak memory ",
        "compiled in ",
    ] {
        assert!(found.contains(shown), "no {shown:?} in\n{found}");
    }
    assert_eq!(
        found.lines().last(),
        success("digits", &["--threads", "2"]).lines().last(),
        "the result depends on the threads"
    );
}

#[test]
fn digits_dumps_the_training_graph_at_every_stage() {
    for (stage, shown) in [
        ("traced", "kiln 1\ngraph @training"),
        ("differentiated", "update %dense_1/w := "),
        ("optimized", "kiln 1\ngraph @training"),
        ("fused", "groups @training {"),
        ("kernels", "kernel "),
        ("program", "program @training<b> {"),
        ("clif", "function "),
        ("asm", "ret"),
    ] {
        let dump = success("digits", &["--dump", stage]);
        assert!(dump.contains(shown), "{stage}: no {shown:?} in\n{dump}");
    }
}

#[test]
fn bad_input_is_named_without_a_panic() {
    let damaged = scratch("damaged");
    std::fs::create_dir_all(&damaged).expect("a folder for the test");
    std::fs::write(damaged.join("train-images-idx3-ubyte"), b"\0\0\x08\x03\0\0").expect("written");
    std::fs::write(damaged.join("train-labels-idx1-ubyte"), b"").expect("written");
    let damaged = damaged.to_str().expect("a path in UTF-8");
    for (name, arguments, wanted) in [
        (
            "digits",
            &["--dump", "ast"][..],
            "unknown stage `ast`; the stages are traced,",
        ),
        ("digits", &["--nope"], "unexpected argument '--nope'"),
        ("digits", &["--batch", "0"], "error: a batch size of 0"),
        (
            "digits",
            &["--rate", "nan"],
            "the learning rate of the optimizer is NaN",
        ),
        ("autoencoder", &["--code", "0"], "0 is not in 1.."),
        (
            "vae",
            &["--epochs", "1", "--plot", "/nowhere/x.png"],
            "cannot write /nowhere/x.png: ",
        ),
        ("fsrs", &["--rate", "nan"], "--rate NaN is of no use"),
        ("char_lm", &["--text", "/nowhere"], "cannot read /nowhere: "),
        ("char_lm", &["--batch", "0"], "error: a batch size of 0"),
        (
            "gpt2",
            &["--weights", "/nowhere"],
            "weights belong to a tokenizer; give its file with --tokenizer",
        ),
        (
            "gpt2",
            &["--length", "2000"],
            "windows have 1 to 1024 tokens, not 2000",
        ),
        ("gpt2", &["--text", "/nowhere"], "cannot read /nowhere: "),
        (
            "fashion_mnist",
            &["/nowhere"],
            "apt-get install dataset-fashion-mnist",
        ),
        (
            "fashion_mnist",
            &[damaged],
            "train-images-idx3-ubyte: at byte ",
        ),
        (
            "finetune_onnx",
            &["--model", "/nowhere.onnx"],
            "cannot read /nowhere.onnx: ",
        ),
        (
            "linear_regression",
            &["--rate", "1e9"],
            "--rate 1000000000 is too large",
        ),
        (
            "tabular",
            &["--rate", "1e30"],
            "has a loss that is not finite",
        ),
        (
            "tabular",
            &["--plot", "/nowhere/x.svg"],
            "cannot write /nowhere/x.svg: ",
        ),
        (
            "vae",
            &["--plot", "x.xyz"],
            "error: x.xyz is no name of a .png or .jpg",
        ),
        (
            "linear_regression",
            &["--plot", "/nowhere/x.svg"],
            "cannot write /nowhere/x.svg: ",
        ),
    ] {
        let output = example(name, arguments);
        let errors = text(&output.stderr);
        assert!(!output.status.success(), "{name} {arguments:?} succeeds");
        assert!(errors.contains(wanted), "{name} {arguments:?}: {errors}");
        assert!(
            !errors.contains("panicked") && !errors.contains("error: error"),
            "{name} {arguments:?}: {errors}"
        );
    }
}
