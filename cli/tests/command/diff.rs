//! `kiln diff`: executions and graphs, equal and not.

use crate::folder::{Folder, STEP};
use crate::run::{floats, save};
use kiln_ir::{Array, DType, Graph, Values};

/// What `kiln diff` says of two files that differ.
#[track_caller]
fn differ(folder: &Folder, arguments: &[&str]) -> String {
    let ran = folder.kiln(&[&["diff"], arguments].concat());
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{ran:?}");
    ran.out
}

#[test]
fn the_first_tensor_and_element_are_named_with_the_largest_difference() {
    let folder = Folder::new("diff");
    let same = floats(&[2], &[1.0, -0.0]);
    let a = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let b = floats(&[2, 2], &[1.0, 2.0, 3.5, 4.25]);
    save(&folder, "a.npz", &[("same", &same), ("y", &a), ("z", &a)]);
    save(
        &folder,
        "b.npz",
        &[("same", &floats(&[2], &[1.0, 0.0])), ("y", &b), ("z", &a)],
    );
    let said = differ(&folder, &["a.npz", "b.npz"]);
    assert_eq!(
        said,
        "`y` differs first at [1, 0]: 3 in a.npz and 3.5 in b.npz; 2 of its 4 elements differ\n\
         the largest difference is 5e-1, in `y`\n1 of 3 tensors differ\n"
    );
    let said = folder
        .kiln(&["diff", "a.npz", "b.npz", "--tolerance", "0.15"])
        .good();
    assert_eq!(said, "the largest difference is 5e-1, in `y`\n");
    let said = differ(&folder, &["a.npz", "b.npz", "--tolerance", "0.1"]);
    assert!(said.contains("1 of its 4 elements differ"), "{said}");
    assert_eq!(folder.kiln(&["diff", "a.npz", "a.npz"]).good(), "");
}

#[test]
fn nan_infinities_and_large_integers_are_compared_as_what_they_are() {
    let folder = Folder::new("diff-special");
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let pair = |a: &Array, b: &Array| {
        save(&folder, "a.npz", &[("y", a)]);
        save(&folder, "b.npz", &[("y", b)]);
        folder.kiln(&["diff", "a.npz", "b.npz", "--tolerance", "0.5"])
    };
    let three = |values: [f64; 3]| floats(&[3], &values);
    assert_eq!(
        pair(&three([nan, inf, -inf]), &three([nan, inf, -inf])).good(),
        ""
    );
    for (a, b, wanted) in [
        (
            [nan, 1.0, 1.0],
            [0.0, 1.0, 1.0],
            "at [0]: NaN in a.npz and 0 in b.npz",
        ),
        (
            [1.0, inf, 1.0],
            [1.0, -inf, 1.0],
            "at [1]: inf in a.npz and -inf in b.npz",
        ),
        (
            [1.0, 1.0, 1e30],
            [1.0, 1.0, inf],
            "at [2]: 1000000000000000000000000000000 in a.npz",
        ),
    ] {
        let ran = pair(&three(a), &three(b));
        assert!(ran.code == Some(1) && ran.out.contains(wanted), "{ran:?}");
    }
    let whole = |dtype, value| Array::new(dtype, vec![], Values::Int(vec![value])).unwrap();
    save(&folder, "a.npz", &[("k", &whole(DType::U64, -1))]);
    save(&folder, "b.npz", &[("k", &whole(DType::U64, -2))]);
    let said = differ(&folder, &["a.npz", "b.npz"]);
    assert!(
        said.contains("18446744073709551615 in a.npz and 18446744073709551614"),
        "{said}"
    );
}

#[test]
fn tensors_that_are_missing_or_of_other_types_differ() {
    let folder = Folder::new("diff-types");
    let x = floats(&[2], &[1.0, 2.0]);
    save(&folder, "a.npz", &[("x", &x), ("only_a", &x), ("y", &x)]);
    save(
        &folder,
        "b.npz",
        &[("x", &x), ("y", &floats(&[1, 2], &[1.0, 2.0]))],
    );
    let said = differ(&folder, &["a.npz", "b.npz"]);
    assert_eq!(
        said,
        "only in a.npz: `only_a`\n`y` is f32[2] in a.npz and f32[1, 2] in b.npz\n1 of 2 tensors differ\n"
    );
}

#[test]
fn the_compiled_step_is_compared_with_the_interpreter() {
    let folder = Folder::new("diff-oracle");
    folder.write("step.kir", STEP);
    save(
        &folder,
        "x.npz",
        &[("x", &floats(&[1, 4], &[0.1, 0.2, 0.3, 0.4]))],
    );
    let run = ["run", "step.kir", "--inputs", "x.npz", "--outputs"];
    folder.kiln(&[&run[..], &["a.npz"]].concat()).good();
    folder
        .kiln(&[&run[..], &["b.npz", "--interpret"]].concat())
        .good();
    folder
        .kiln(&["diff", "a.npz", "b.npz", "--tolerance", "1e-6"])
        .good();
}

#[test]
fn graphs_are_compared_whatever_their_form() {
    let folder = Folder::new("diff-graphs");
    folder.write("a.kir", STEP);
    let graph = Graph::parse(STEP).unwrap();
    folder.write("b.json", graph.to_json().unwrap());
    assert_eq!(folder.kiln(&["diff", "a.kir", "b.json"]).good(), "");
    folder.write("c.kir", STEP.replace("@step", "@pace"));
    let said = differ(&folder, &["a.kir", "c.kir"]);
    assert_eq!(
        said,
        "the graphs are the same but for their names, @step and @pace\n"
    );
    folder.write(
        "d.kir",
        STEP.replace("add %1, %2", "sub %1, %2")
            .replace("@step", "@pace"),
    );
    let said = differ(&folder, &["a.kir", "d.kir"]);
    assert_eq!(
        said,
        "the graphs differ first in line 6 of their texts:\n\
         < a.kir: %3: f32[b, 4] = add %1, %2\n> d.kir: %3: f32[b, 4] = sub %1, %2\n"
    );
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let folder = Folder::new("diff-refused");
    folder.write("a.kir", STEP);
    save(&folder, "a.npz", &[]);
    folder.kiln(&["diff", "a.kir", "a.npz"]).usage();
    folder
        .kiln(&["diff", "a.kir", "a.kir", "--tolerance", "1"])
        .usage();
    for bad in ["-1", "NaN", "inf", "x"] {
        folder
            .kiln(&["diff", "a.npz", "a.npz", &format!("--tolerance={bad}")])
            .usage();
    }
    folder.kiln(&["diff", "a.npz", "missing.npz"]).wrong();
    folder.kiln(&["diff", "a.kir", "missing.kir"]).wrong();
}
