//! `kiln check`, `kiln show` and `kiln opt` on good graphs.

use crate::folder::{Folder, STEP, command};
use kiln_ir::Graph;
use std::io::Read;
use std::process::Stdio;

#[test]
fn a_good_graph_is_summed_up_in_a_line_in_every_form() {
    let folder = Folder::new("check");
    let graph = Graph::parse(STEP).unwrap();
    folder.write("step.kir", STEP);
    folder.write("step.json", graph.to_json().unwrap());
    folder.write("step.kiln", graph.to_bytes().unwrap());
    let out = folder.kiln(&["check", "step.kir", "step.json", "step.kiln"]);
    let summary = "graph @step, 9 nodes, 1 input, 1 param, 0 states, 1 output, 1 update";
    let wanted = ["step.kir", "step.json", "step.kiln"].map(|f| format!("{f}: {summary}\n"));
    assert_eq!(out.good(), wanted.concat());
}

#[test]
fn what_show_writes_is_read_back() {
    let folder = Folder::new("show");
    folder.write("step.kir", STEP);
    let text = folder.kiln(&["show", "step.kir"]).good();
    assert_eq!(text, STEP);
    let json = folder
        .kiln(&["show", "step.kir", "--format", "json"])
        .good();
    folder.write("step.json", json);
    assert_eq!(folder.kiln(&["show", "step.json"]).good(), STEP);
    let places = folder.kiln(&["show", "step.json", "--locations"]).good();
    assert!(places.contains("= mul %x, %0 @ step.kir:4:3\n"), "{places}");
}

#[test]
fn every_stage_has_a_text() {
    let folder = Folder::new("stages");
    folder.write("step.kir", STEP);
    for (stage, wanted) in [
        ("traced", "return loss: %4"),
        ("differentiated", "update %w := %6"),
        ("optimized", "graph @step<b>"),
        ("fused", "groups @step {"),
        ("kernels", "kernel reduce.sub("),
        ("program", "program @step"),
        ("clif", "function"),
        ("asm", ""),
    ] {
        let text = folder.kiln(&["show", "step.kir", "--stage", stage]).good();
        assert!(text.len() > 50 && text.contains(wanted), "{stage}: {text}");
    }
    let fused = folder
        .kiln(&["show", "step.kir", "--stage", "fused"])
        .good();
    let apart = folder
        .kiln(&["show", "step.kir", "--stage", "fused", "--no-fuse"])
        .good();
    let groups = |text: &str| text.matches(" over ").count();
    assert!(groups(&fused) < groups(&apart), "{fused}\n{apart}");
}

#[test]
fn graphs_have_all_formats_and_what_lies_behind_them_has_one() {
    let folder = Folder::new("formats");
    folder.write("step.kir", STEP);
    for stage in ["traced", "differentiated", "optimized"] {
        let show = ["show", "step.kir", "--stage", stage, "--format"];
        let dot = folder.kiln(&[&show[..], &["dot"]].concat()).good();
        assert!(dot.starts_with("digraph"), "{dot}");
        let json = folder.kiln(&[&show[..], &["json"]].concat()).good();
        let text = folder.kiln(&[&show[..], &["text"]].concat()).good();
        assert_eq!(Graph::from_json(&json).unwrap().to_string(), text);
    }
    let message = folder.kiln(&["show", "step.kir", "--stage", "fused", "--format", "dot"]);
    let message = message.usage();
    assert!(
        message.contains("at the stage fused there is no graph any more"),
        "{message}"
    );
    let message = folder.kiln(&["show", "step.kir", "--stage", "ast"]).usage();
    assert!(
        message.contains("traced, differentiated, optimized, fused"),
        "{message}"
    );
}

#[test]
fn passes_run_in_the_order_in_which_they_are_named() {
    let folder = Folder::new("opt");
    folder.write("step.kir", STEP);
    let products = |text: &str| text.matches("= mul").count();
    let shared = folder.kiln(&["opt", "step.kir", "--pass", "cse"]).good();
    assert_eq!((products(STEP), products(&shared)), (2, 1), "{shared}");
    folder.write("shared.kir", &shared);
    let again = folder
        .kiln(&["opt", "shared.kir", "--pass", "cse,dce"])
        .good();
    assert_eq!(again, shared);
    let groups = folder
        .kiln(&["opt", "step.kir", "--pass", "cse,fuse"])
        .good();
    assert!(groups.starts_with("groups @step {"), "{groups}");
}

#[test]
fn passes_that_do_not_exist_or_cannot_follow_are_refused() {
    let folder = Folder::new("passes");
    folder.write("step.kir", STEP);
    let message = folder
        .kiln(&["opt", "step.kir", "--pass", "cse,inline"])
        .usage();
    assert!(
        message.contains("'inline'") && message.contains("legalize, "),
        "{message}"
    );
    let message = folder
        .kiln(&["opt", "step.kir", "--pass", "fuse,cse"])
        .usage();
    assert!(message.contains("no pass can come behind it"), "{message}");
    folder.kiln(&["opt", "step.kir"]).usage();
}

#[test]
fn the_command_describes_itself_in_help_completions_and_pages() {
    let folder = Folder::new("itself");
    let all = folder.kiln(&["--help"]).good();
    for command in ["check", "show", "opt", "run", "diff", "completions", "man"] {
        assert!(all.contains(&format!("\n  {command} ")), "{all}");
        let help = folder.kiln(&[command, "--help"]).good();
        assert!(
            help.contains(&format!("Examples:\n  kiln {command} ")),
            "{help}"
        );
        let page = folder.kiln(&["man", command]).good();
        assert!(
            page.contains(".SH SYNOPSIS") && page.contains("Examples:"),
            "{page}"
        );
    }
    for shell in ["bash", "fish", "zsh", "elvish", "powershell"] {
        let script = folder.kiln(&["completions", shell]).good();
        // The last two complete no values.
        let wanted = match shell {
            "bash" | "fish" | "zsh" => "differentiated",
            _ => "no-fuse",
        };
        assert!(script.contains(wanted), "{shell}: {script}");
    }
    assert!(folder.kiln(&["man"]).good().contains(r"kiln\-show(1)"));
    let message = folder.kiln(&["man", "bake"]).usage();
    assert!(
        message.contains("no command `bake`; the commands are check, show, opt"),
        "{message}"
    );
}

#[test]
fn a_reader_that_leaves_early_is_no_mistake() {
    let folder = Folder::new("pipe");
    // More than a pipe holds, so that the writer meets the closed end.
    let lines: String = (1..8000)
        .map(|i| format!("  %{i}: f32[b] = exp %{}\n", i - 1))
        .collect();
    let text = format!(
        "kiln 1\ngraph @long<b>(%x: f32[b]) {{\n  %0: f32[b] = exp %x\n{lines}  return %7999\n}}\n"
    );
    let path = folder.write("long.kir", text);
    let mut child = command(path.parent().unwrap())
        .args(["show", "long.kir"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 6];
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_exact(&mut first).unwrap();
    drop(pipe);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(&first, b"kiln 1");
    assert_eq!(
        (ended.status.code(), ended.stderr.as_slice()),
        (Some(0), &[][..])
    );
}
