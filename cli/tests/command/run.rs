//! `kiln run`: compiled and interpreted steps, gradients, states, and what is said where something is missing.

use crate::folder::{Folder, STEP};
use kiln_interop::{TensorRef, npz};
use kiln_ir::{Array, DType, Values};

/// An array of f32.
pub(crate) fn floats(shape: &[usize], values: &[f64]) -> Array {
    Array::new(DType::F32, shape.to_vec(), Values::Float(values.to_vec())).unwrap()
}

/// Writes arrays as npz.
pub(crate) fn save(folder: &Folder, name: &str, arrays: &[(&str, &Array)]) {
    let bytes: Vec<Vec<u8>> = arrays.iter().map(|(_, array)| array.to_bytes()).collect();
    let tensors = arrays.iter().zip(&bytes).map(|((name, array), bytes)| {
        TensorRef::new(name, array.dtype(), array.shape(), bytes).unwrap()
    });
    npz::save(&folder.path(name), tensors).unwrap();
}

/// An array of an npz file.
fn load(folder: &Folder, file: &str, name: &str) -> Array {
    let tensors = npz::open(&folder.path(file)).unwrap();
    tensors.get(name).unwrap().to_array().unwrap()
}

/// A folder with the graph `STEP` and two rows for it.
fn step(test: &str) -> Folder {
    let folder = Folder::new(test);
    folder.write("step.kir", STEP);
    let x = floats(&[2, 4], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    save(&folder, "x.npz", &[("x", &x)]);
    folder
}

#[test]
fn a_step_gives_outputs_and_states_in_each_way_to_run_it() {
    let folder = step("ways");
    let run = [
        "run",
        "step.kir",
        "--inputs",
        "x.npz",
        "--outputs",
        "out.npz",
        "--states",
        "after.npz",
    ];
    for way in [
        &[][..],
        &["--interpret"],
        &["--no-fuse"],
        &["--threads", "2"],
    ] {
        // The sum of 2 * x * 0.5 is 36, and the column sums of x are taken from 0.5.
        let told = folder.kiln(&[&run[..], way].concat()).good();
        assert_eq!(told, "loss: f32[] = 36\n", "{way:?}");
        assert_eq!(load(&folder, "out.npz", "loss"), floats(&[], &[36.0]));
        let w = floats(&[4], &[-5.5, -7.5, -9.5, -11.5]);
        assert_eq!(load(&folder, "after.npz", "w"), w);
    }
    // The states of one step are what the next one begins with.
    let told = folder.kiln(&[
        "run",
        "step.kir",
        "--inputs",
        "x.npz",
        "--inputs",
        "after.npz",
    ]);
    // 2 * (6 * -5.5 + 8 * -7.5 + 10 * -9.5 + 12 * -11.5)
    assert_eq!(told.good(), "loss: f32[] = -652\n");
}

#[test]
fn gradients_are_further_outputs() {
    let folder = step("gradients");
    for way in [&[][..], &["--interpret"]] {
        let run = [
            "run",
            "step.kir",
            "--inputs",
            "x.npz",
            "--grad",
            "loss",
            "--outputs",
            "g.npz",
        ];
        folder.kiln(&[&run[..], way].concat()).good();
        let by_w = floats(&[4], &[12.0, 16.0, 20.0, 24.0]);
        assert_eq!(
            load(&folder, "g.npz", "grad/w"),
            by_w,
            "all params by default"
        );
        folder
            .kiln(&[&run[..], way, &["--wrt", "x,w"]].concat())
            .good();
        assert_eq!(load(&folder, "g.npz", "grad/w"), by_w);
        assert_eq!(load(&folder, "g.npz", "grad/x"), floats(&[2, 4], &[1.0; 8]));
    }
    let run = ["run", "step.kir", "--inputs", "x.npz", "--grad"];
    let message = folder.kiln(&[&run[..], &["los"]].concat()).wrong();
    assert!(
        message.contains("no output `los`; there are `loss`"),
        "{message}"
    );
    let message = folder
        .kiln(&[&run[..], &["loss", "--wrt", "v"]].concat())
        .wrong();
    assert!(
        message.contains("no input, param or state `v`; there are `x`, `w`"),
        "{message}"
    );
    folder.kiln(&["run", "step.kir", "--wrt", "w"]).usage();
}

#[test]
fn draws_are_those_of_a_session_whichever_way_it_runs() {
    let folder = Folder::new("draws");
    folder.write(
        "draw.kir",
        "kiln 1\ngraph @draw<b>(param %w: f32[b, 3] = normal(0.0, 1.0); state %i: i8[b] = constant(-3.7); state %k: u64[] = constant(9.0)) {\n  \
         %0: f32[b, 3] = exp %w\n  return y: %0\n}\n",
    );
    let run = [
        "run", "draw.kir", "--dims", "b=4", "--seed", "7", "--states",
    ];
    folder.kiln(&[&run[..], &["compiled.npz"]].concat()).good();
    folder
        .kiln(&[&run[..], &["interpreted.npz", "--interpret"]].concat())
        .good();
    for name in ["w", "i", "k"] {
        let compiled = load(&folder, "compiled.npz", name);
        assert_eq!(compiled, load(&folder, "interpreted.npz", name));
    }
    assert_eq!(load(&folder, "compiled.npz", "i").ints().unwrap(), [-3; 4]);
}

#[test]
fn the_interpreter_runs_types_that_have_no_machine_code() {
    let folder = Folder::new("half");
    folder.write(
        "half.kir",
        "kiln 1\ngraph @half<b>(%x: f16[b]) {\n  %0: f16[b] = add %x, %x\n  return y: %0\n}\n",
    );
    let x = Array::new(
        DType::F16,
        vec![3],
        Values::Float(vec![1.5, -2.0, f64::NAN]),
    )
    .unwrap();
    save(&folder, "x.npz", &[("x", &x)]);
    let run = ["run", "half.kir", "--inputs", "x.npz", "--outputs", "y.npz"];
    let told = folder.kiln(&[&run[..], &["--interpret"]].concat()).good();
    assert_eq!(told, "y: f16[3] from -4 to 3, 1 NaN\n");
    assert_eq!(
        load(&folder, "y.npz", "y").floats().unwrap()[..2],
        [3.0, -4.0]
    );
    let message = folder.kiln(&run).wrong();
    assert!(message.contains("no machine code"), "{message}");
}

#[test]
fn what_is_missing_unknown_or_twice_is_named() {
    let folder = step("missing");
    let message = folder.kiln(&["run", "step.kir"]).wrong();
    assert!(message.contains("x: f32[b, 4]"), "{message}");
    let refused = |arrays: &[(&str, &Array)], wanted: &str| {
        save(&folder, "bad.npz", arrays);
        for way in [&[][..], &["--interpret"]] {
            let run = ["run", "step.kir", "--inputs", "bad.npz"];
            let message = folder.kiln(&[&run[..], way].concat()).wrong();
            assert!(message.contains(wanted), "{message}");
        }
    };
    let row = floats(&[1, 4], &[0.0; 4]);
    refused(
        &[("x", &row), ("v", &row)],
        "bad.npz: `v` is no input, param or state of @step",
    );
    refused(
        &[("x", &floats(&[4], &[0.0; 4]))],
        "`x` is f32[4], but in the graph it is f32[b, 4]",
    );
    refused(
        &[("x", &floats(&[1, 3], &[0.0; 3]))],
        "axis 1 of `x` has size 3, but 4 is declared",
    );
    let wide = Array::new(DType::F64, vec![1, 4], Values::Float(vec![0.0; 4])).unwrap();
    refused(
        &[("x", &wide)],
        "`x` is f64[1, 4], but in the graph it is f32[b, 4]",
    );
    let twice = ["run", "step.kir", "--inputs", "x.npz", "--inputs", "x.npz"];
    let message = folder.kiln(&twice).wrong();
    assert!(message.contains("x.npz: `x` is in x.npz too"), "{message}");
}

#[test]
fn dims_that_contradict_do_not_exist_or_are_absurd_are_refused() {
    let folder = step("dims");
    let run = ["run", "step.kir", "--inputs", "x.npz", "--dims"];
    assert_eq!(
        folder.kiln(&[&run[..], &["b=2"]].concat()).good(),
        "loss: f32[] = 36\n"
    );
    let message = folder.kiln(&[&run[..], &["b=3"]].concat()).wrong();
    assert!(
        message.contains("axis 0 of `x` has size 2, but `b` is 3 there"),
        "{message}"
    );
    let message = folder.kiln(&[&run[..], &["c=3"]].concat()).usage();
    assert!(message.contains("no dim `c`; it has `b`"), "{message}");
    for bad in ["b", "b=", "b=-1", "b=1.5", "=", "b=99999999999999999999"] {
        folder.kiln(&[&run[..], &[bad]].concat()).usage();
    }
    folder.write(
        "vast.kir",
        "kiln 1\ngraph @vast<b>(param %w: f32[b, b] = constant(1.0)) {\n  %0: f32[] = reduce %w {kind = sum, axes = [0, 1]}\n  return %0\n}\n",
    );
    for way in [&[][..], &["--interpret"]] {
        for size in ["b=2000000000", "b=9223372036854775807"] {
            folder
                .kiln(&[&["run", "vast.kir", "--dims", size], way].concat())
                .wrong();
        }
        let message = folder.kiln(&[&["run", "vast.kir"], way].concat()).wrong();
        assert!(message.contains("`b`"), "{message}");
    }
}

#[test]
fn files_that_are_no_npz_are_refused() {
    let folder = step("no-npz");
    folder.write("noise.npz", [7; 1000]);
    let whole = std::fs::read(folder.path("x.npz")).unwrap();
    folder.write("cut.npz", &whole[..whole.len() / 2]);
    let mut flipped = whole.clone();
    // An element lies behind the headers of the archive and of the array.
    let at = whole
        .windows(4)
        .position(|w| w == 2.0f32.to_le_bytes())
        .unwrap();
    flipped[at] ^= 1;
    folder.write("flipped.npz", flipped);
    for name in ["noise.npz", "cut.npz", "flipped.npz", "missing.npz", "."] {
        let message = folder.kiln(&["run", "step.kir", "--inputs", name]).wrong();
        assert!(message.contains(name), "{message}");
    }
    let nowhere = [
        "run",
        "step.kir",
        "--inputs",
        "x.npz",
        "--outputs",
        "no/folder/y.npz",
    ];
    let message = folder.kiln(&nowhere).wrong();
    assert!(
        message.contains("cannot write no/folder/y.npz"),
        "{message}"
    );
}

#[test]
fn a_profile_has_a_line_for_each_launch() {
    let folder = step("profile");
    let told = folder
        .kiln(&["run", "step.kir", "--inputs", "x.npz", "--profile"])
        .good();
    assert!(
        told.contains("us a call") && told.contains("reduce"),
        "{told}"
    );
    let both = [
        "run",
        "step.kir",
        "--inputs",
        "x.npz",
        "--profile",
        "--interpret",
    ];
    folder.kiln(&both).usage();
}
