//! Files that are not what they claim: each gets a message and the exit code 1, never a panic.

use crate::folder::{Folder, STEP};
use kiln_ir::Graph;
use std::fs;

#[test]
fn every_mistake_of_a_text_has_its_line() {
    let folder = Folder::new("mistakes");
    for (good, bad) in [
        ("= mul", "= mull"),
        ("reduce %x", "reduce %x %0"),
        ("b, 4] = b", "b, 5] = b"),
    ] {
        assert!(STEP.contains(good), "{good}");
        folder.write("step.kir", STEP.replace(good, bad));
        let message = folder.kiln(&["check", "step.kir"]).wrong();
        let places = STEP
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains(good));
        for (line, _) in places {
            assert!(
                message.contains(&format!("step.kir:{}:", line + 1)),
                "{message}"
            );
        }
    }
}

#[test]
fn one_wrong_file_does_not_hide_the_others() {
    let folder = Folder::new("several");
    folder.write("good.kir", STEP);
    folder.write("bad.kir", "kiln 1\n");
    let ran = folder.kiln(&["check", "bad.kir", "missing.kir", "good.kir"]);
    assert!(ran.out.starts_with("good.kir: graph @step"), "{ran:?}");
    let message = ran.wrong();
    assert!(message.contains("bad.kir:2:1: "), "{message}");
    assert!(message.contains("missing.kir: No such file"), "{message}");
}

#[test]
fn paths_that_are_no_graphs_are_named() {
    let folder = Folder::new("paths");
    fs::create_dir(folder.path("folder.kir")).unwrap();
    folder.write("graph.txt", STEP);
    folder.write("graph", STEP);
    for command in ["check", "show"] {
        let message = folder.kiln(&[command, "folder.kir"]).wrong();
        assert!(message.contains("folder.kir: Is a directory"), "{message}");
        for name in ["graph.txt", "graph"] {
            let message = folder.kiln(&[command, name]).wrong();
            assert!(message.contains("graphs are in `.kir` (text)"), "{message}");
        }
        let message = folder.kiln(&[command, "/no/such/graph.kir"]).wrong();
        assert!(message.contains("/no/such/graph.kir: "), "{message}");
    }
}

#[test]
fn truncated_files_are_refused_at_every_length() {
    let folder = Folder::new("truncated");
    let graph = Graph::parse(STEP).unwrap();
    let forms = [
        ("cut.kir", STEP.trim_end().as_bytes().to_vec()),
        ("cut.json", graph.to_json().unwrap().into_bytes()),
        ("cut.kiln", graph.to_bytes().unwrap()),
    ];
    for (name, bytes) in forms {
        for part in 0..12 {
            folder.write(name, &bytes[..bytes.len() * part / 12]);
            let message = folder.kiln(&["check", name]).wrong();
            assert!(message.starts_with(&format!("error: {name}:")), "{message}");
        }
    }
}

#[test]
fn random_bytes_are_refused_in_every_form() {
    let folder = Folder::new("random");
    let mut state = 1u32;
    for (round, name) in ["noise.kir", "noise.json", "noise.kiln"]
        .iter()
        .cycle()
        .take(30)
        .enumerate()
    {
        let mut noise = Vec::new();
        for _ in 0..1000 {
            // Numerical Recipes' linear congruential generator; its upper bits are random enough for noise.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.push((state >> 24) as u8);
        }
        if round % 2 == 0 {
            noise.splice(..6, *b"KILN\x01\x00");
        }
        folder.write(name, &noise);
        folder.kiln(&["check", name]).wrong();
    }
}

#[test]
fn sizes_and_nesting_that_nobody_has_are_refused() {
    let folder = Folder::new("absurd");
    let absurd = [
        "f32[9223372036854775807, 9223372036854775807]".to_owned(),
        format!("f32[{}1{}]", "(".repeat(100_000), ")".repeat(100_000)),
        format!("f32[{}b{}]", "2*(".repeat(5000), ")".repeat(5000)),
        "f32[99999999999999999999999999]".to_owned(),
    ];
    for ty in absurd {
        folder.write(
            "absurd.kir",
            format!("kiln 1\ngraph @g<b>(%b: f32[b], %x: {ty}) {{\n  return %x\n}}\n"),
        );
        let message = folder.kiln(&["check", "absurd.kir"]).wrong();
        assert!(message.len() < 2000, "{message}");
    }
    folder.write("deep.json", "[".repeat(1_000_000));
    folder.kiln(&["check", "deep.json"]).wrong();
    let deep = "^(%x: f32[]) {\n %0: f32[] = while %x {body = ".repeat(10_000);
    folder.write(
        "deep.kir",
        format!("kiln 1\ngraph @g(%x: f32[]) {{\n%0: f32[] = while %x {{body = {deep}"),
    );
    folder.kiln(&["check", "deep.kir"]).wrong();
}

#[test]
fn a_graph_without_machine_code_is_checked_but_not_compiled() {
    let folder = Folder::new("half");
    folder.write(
        "half.kir",
        "kiln 1\ngraph @half<b>(%x: f16[b]) {\n  %0: f16[b] = exp %x\n  return %0\n}\n",
    );
    folder.kiln(&["check", "half.kir"]).good();
    let message = folder.kiln(&["show", "half.kir", "--stage", "asm"]).wrong();
    assert!(
        message.contains("`exp` at half.kir:3:3 computes with f16"),
        "{message}"
    );
}
