//! Text in, dump out: every `tests/filetests/<stage>/*.kir` goes through its stage, and what comes out is an insta snapshot that holds
//! the input too.
//!
//! A mistake that is the expected result is annotated in the input: `; error: text` at the end of the line where the mistake is reported,
//! or on lines of its own before it. The text is a part of the message. A file with annotations must fail with exactly those mistakes, and
//! a file without must not fail; the snapshot holds the whole messages. A bug becomes a file `issue-NN.kir`.
//!
//! To add a stage: a folder, and one line in [`STAGES`]. To accept new output: `INSTA_UPDATE=always cargo test --test filetests`, and
//! read the difference.

use kiln_compiler::{FullWidth, Options, compile, stage_text};
use kiln_ir::program;
use kiln_ir::{Bindings, Graph, Symbol};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// From the text of a file to a dump, or to mistakes, one a line: `line:column: message`, or a message alone where no place is known.
type Stage = fn(&str) -> Result<String, String>;

/// Each folder of files, and what is done with them.
const STAGES: &[(&str, Stage)] = &[
    ("parse", parse),
    ("verify", verify),
    ("optimized", optimized),
    ("fused", fused),
    ("kernels", kernels),
    ("program", program),
];

/// The default options without strips, which only some machines have: snapshots are for all.
fn options() -> Options {
    Options {
        full_width: FullWidth::Never,
        ..Options::default()
    }
}

/// The canonical text, which must read back to itself.
fn parse(text: &str) -> Result<String, String> {
    let graph = Graph::parse(text).map_err(|e| e.to_string())?;
    let printed = graph.to_string();
    let again = Graph::parse(&printed).map_err(|e| format!("the printed text: {e}"))?;
    if again.to_string() != printed {
        return Err(format!(
            "the text changes when it is printed again:\n{again}"
        ));
    }
    Ok(printed)
}

/// The counts and the structural hash of a graph that verifies, in every written form.
fn verify(text: &str) -> Result<String, String> {
    let graph = Graph::parse(text).map_err(|e| e.to_string())?;
    let json = graph.to_json().and_then(|json| Graph::from_json(&json));
    let bytes = graph.to_bytes().and_then(|bytes| Graph::from_bytes(&bytes));
    for read in [json, bytes] {
        if read.map_err(|e| e.to_string())? != graph {
            return Err("a written form reads back to another graph".into());
        }
    }
    Ok(format!(
        "{} nodes, {} slots, {} outputs, {} updates\nhash {:032x}\n",
        graph.len(),
        graph.slots().len(),
        graph.outputs().len(),
        graph.updates().len(),
        graph.structural_hash(),
    ))
}

fn optimized(text: &str) -> Result<String, String> {
    dump(text, kiln_compiler::Stage::Optimized)
}

fn fused(text: &str) -> Result<String, String> {
    dump(text, kiln_compiler::Stage::Fused)
}

fn kernels(text: &str) -> Result<String, String> {
    dump(text, kiln_compiler::Stage::Kernels)
}

/// The dump of a stage of the compiler, with its default options.
fn dump(text: &str, stage: kiln_compiler::Stage) -> Result<String, String> {
    let graph = verified(text)?;
    stage_text(&graph, stage, &options()).map_err(|e| e.to_string())
}

/// The program, and where its buffers lie under each binding that a directive `; bind: b = 32, t = 5` asks for.
fn program(text: &str) -> Result<String, String> {
    let graph = verified(text)?;
    let compiled = compile(&graph, &options()).map_err(|e| e.to_string())?;
    let mut dump = compiled.program.to_string();
    for directive in text.lines().filter_map(|l| l.strip_prefix("; bind:")) {
        let mut bindings = Bindings::new();
        for pair in directive.split(',') {
            let (symbol, value) = pair.split_once('=').ok_or("a binding is `symbol = size`")?;
            let value = value.trim().parse::<i64>().map_err(|e| e.to_string())?;
            bindings.insert(Symbol::new(symbol.trim()), value);
        }
        let buffers = &compiled.program.buffers;
        let placement = program::place(buffers, &bindings).map_err(|e| e.to_string())?;
        let _ = writeln!(
            dump,
            "with{directive}: arena {} of which {} live at once, scratch {}",
            placement.arena, placement.live_peak, placement.scratch
        );
        for (id, offset) in placement.offsets.iter().enumerate() {
            if let Some(offset) = offset {
                let _ = writeln!(dump, "  ${id} at {offset}, {} bytes", placement.bytes[id]);
            }
        }
    }
    Ok(dump)
}

fn verified(text: &str) -> Result<Graph, String> {
    let graph = Graph::parse(text).map_err(|e| e.to_string())?;
    kiln_ir::verify(&graph).map_err(|e| e.to_string())?;
    Ok(graph)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests")
}

/// The names in a folder that end with `suffix`, without it, in order.
fn names(folder: &Path, suffix: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a folder's entry").file_name())
        .filter_map(|name| Some(name.to_str()?.strip_suffix(suffix)?.to_owned()))
        .collect();
    names.sort();
    names
}

/// The annotations: the line on which each expects a mistake, and a part of its message.
fn annotations(text: &str) -> Vec<(usize, String)> {
    let mut waiting: Vec<String> = Vec::new();
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in (1..).zip(lines.iter().copied().chain([""])) {
        let split = line.split_once("; error: ");
        if let Some((before, message)) = split
            && before.trim().is_empty()
        {
            waiting.push(message.to_owned());
            continue;
        }
        found.extend(waiting.drain(..).map(|message| (number, message)));
        found.extend(split.map(|(_, message)| (number, message.to_owned())));
    }
    found
}

/// The line of a mistake, where it names one, and the whole of it.
fn place(mistake: &str) -> (Option<usize>, &str) {
    let line = mistake.split(':').next().and_then(|n| n.parse().ok());
    (line, mistake)
}

/// Whether the mistakes are those that the annotations expect; the difference if not.
fn compare(expected: &[(usize, String)], mistakes: &str) -> Result<(), String> {
    let mut left: Vec<(Option<usize>, &str)> = mistakes.lines().map(place).collect();
    let mut missing = Vec::new();
    for (line, message) in expected {
        let at = left
            .iter()
            .position(|(on, m)| on.is_none_or(|on| on == *line) && m.contains(message));
        match at {
            Some(at) => {
                left.remove(at);
            }
            None => missing.push(format!("expected on line {line}: {message}")),
        }
    }
    let surplus = left.iter().map(|(_, m)| format!("not annotated: {m}"));
    missing.extend(surplus);
    if missing.is_empty() {
        Ok(())
    } else {
        Err(missing.join("\n"))
    }
}

/// Runs one file; the reason if it fails.
fn run(folder: &str, stage: Stage, name: &str) -> Result<(), String> {
    let path = root().join(folder).join(format!("{name}.kir"));
    let text = fs::read_to_string(&path).map_err(|e| e.to_string())?;
    let expected = annotations(&text);
    let output = match stage(&text) {
        Ok(output) if expected.is_empty() => output,
        Ok(_) => return compare(&expected, ""),
        Err(mistakes) => {
            compare(&expected, &mistakes)?;
            format!("{mistakes}\n")
        }
    };
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let whole = format!("{text}==== {folder}\n{output}");
    catch_unwind(AssertUnwindSafe(|| {
        settings.bind(|| insta::assert_snapshot!(format!("{folder}-{name}"), whole));
    }))
    .map_err(|_| "the snapshot differs".to_owned())
}

#[test]
fn every_file_gives_its_snapshot() {
    let mut failures = Vec::new();
    for (folder, stage) in STAGES {
        let names = names(&root().join(folder), ".kir");
        assert!(!names.is_empty(), "no file in the folder {folder}");
        for name in names {
            if let Err(why) = run(folder, *stage, &name) {
                failures.push(format!("{folder}/{name}.kir: {why}"));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

#[test]
fn folders_stages_and_snapshots_belong_together() {
    let mut folders: BTreeSet<String> = names(&root(), "").into_iter().collect();
    assert!(folders.remove("snapshots"));
    let stages: BTreeSet<String> = STAGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(folders, stages);
    let files: BTreeSet<String> = STAGES
        .iter()
        .flat_map(|(folder, _)| {
            let names = names(&root().join(folder), ".kir");
            names
                .into_iter()
                .map(move |name| format!("{folder}-{name}"))
        })
        .collect();
    let snapshots: BTreeSet<String> = names(&root().join("snapshots"), ".snap")
        .into_iter()
        .collect();
    assert_eq!(
        snapshots, files,
        "a snapshot without a file, or a file without one"
    );
}

#[test]
fn annotations_are_held_to_their_lines() {
    let text = "; error: first\n; error: second\nline\nother ; error: third\n; error: last\n";
    let found = annotations(text);
    let expected = [(3, "first"), (3, "second"), (4, "third"), (6, "last")];
    assert_eq!(found, expected.map(|(line, m)| (line, m.to_owned())));
    let all = "3:1: second\n3:2: the first\n4:1: third\nlast";
    assert_eq!(compare(&found, all), Ok(()));
    let moved = compare(
        &found,
        "2:1: second\n3:2: the first\n4:1: third\nlast\n9:9: more",
    );
    assert_eq!(
        moved,
        Err(
            "expected on line 3: second\nnot annotated: 2:1: second\nnot annotated: 9:9: more"
                .into()
        )
    );
    assert_eq!(
        compare(&found[3..], ""),
        Err("expected on line 6: last".into())
    );
}
