//! `kiln show --format html`: what is on the page, and that nothing of a file gets out of its place there.

use crate::folder::{Folder, STEP};
use kiln_ir::Graph;

/// The page of a graph.
#[track_caller]
fn page(folder: &Folder, file: &str, more: &[&str]) -> String {
    let show = ["show", file, "--format", "html"];
    folder.kiln(&[&show[..], more].concat()).good()
}

#[test]
fn the_page_has_groups_memory_and_kernels_and_needs_no_other_file() {
    let folder = Folder::new("page");
    // Two products, so that there is something in the arena.
    folder.write(
        "two.kir",
        "kiln 1\ngraph @two<b>(%x: f32[b, 8]; param %w: f32[8, 8] = uniform(-0.1, 0.1)) {\n  \
         %0: f32[b, 8] = dot %x, %w {batch = []x[], contract = [1]x[0]}\n  %1: f32[b, 8] = exp %0\n  \
         %2: f32[b, 8] = dot %1, %w {batch = []x[], contract = [1]x[0]}\n  return y: %2\n}\n",
    );
    let text = page(&folder, "two.kir", &["--dims", "b=16"]);
    assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>\n"));
    for wanted in [
        "<h1>two</h1>",
        "With b = 16;",
        // 16 x 8 elements of 4 bytes.
        "two: arena 512 B",
        "<div id=\"g1\">",
        "<a href=\"#g0\">",
        "machine code",
        "Steps, buffers and offsets",
        "uniform(-0.1, 0.1)",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // The only addresses are the names of the SVG format, which nothing fetches.
    let addresses = text.matches("http").count();
    assert_eq!(
        addresses,
        text.matches("xmlns=\"http://www.w3.org/2000/svg\"").count()
    );
    for outside in ["<script", "<link", "src=", "url(", "@import"] {
        assert!(!text.contains(outside), "{outside}");
    }
    for tag in [
        "details", "pre", "svg", "section", "summary", "a", "text", "div",
    ] {
        let opened =
            text.matches(&format!("<{tag} ")).count() + text.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert!(page(&folder, "two.kir", &[]).contains("With b = 32;"));
}

#[test]
fn names_of_a_file_are_text_on_the_page() {
    let folder = Folder::new("page-names");
    let hostile = r#"</pre><script>'&"#;
    let text = STEP
        .replace("%x", &format!("%\"{hostile}\""))
        .replace("%w", &format!("%\"{hostile}w\""))
        .replace("loss:", &format!("\"{hostile}loss\":"))
        .replace("%4: f32[] = reduce %3 {kind = sum, axes = [0, 1]}", &format!("%4: f32[] = reduce %3 {{kind = sum, axes = [0, 1]}} @ \"{hostile}.rs\":1:1 \"{hostile}\""));
    let mut graph = Graph::parse(&text).unwrap();
    hostile.clone_into(&mut graph.name);
    folder.write("names.json", graph.to_json().unwrap());
    let text = page(&folder, "names.json", &[]);
    assert!(
        text.contains("&lt;/pre&gt;&lt;script&gt;&#39;&amp;"),
        "{text}"
    );
    assert!(!text.contains("<script"), "{text}");
    assert!(!text.contains("</pre><s"), "{text}");
}

#[test]
fn sizes_that_nothing_can_have_are_said_on_the_page() {
    let folder = Folder::new("page-sizes");
    folder.write("step.kir", STEP);
    page(&folder, "step.kir", &["--dims", "b=9223372036854775807"]);
    page(&folder, "step.kir", &["--dims", "b=0"]);
    let show = ["show", "step.kir", "--format", "html"];
    folder
        .kiln(&[&show[..], &["--dims", "c=1"]].concat())
        .usage();
    folder
        .kiln(&[&show[..], &["--stage", "fused"]].concat())
        .usage();
    folder.kiln(&["show", "step.kir", "--dims", "b=1"]).usage();
}
