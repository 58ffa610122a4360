//! Holds the imports between Kiln's crates to one direction.
//!
//! The layers are worth something only while nobody reaches upwards or sideways: the compiler and
//! the runtime must never see each other, so that an application can ship the runtime alone. This
//! test reads every `Cargo.toml` of the workspace and compares each edge between Kiln's crates with
//! the table below. It knows nothing of what the crates do with their imports, and it refuses a
//! crate that the table does not name, so that a new crate has to be given its place.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

/// What each crate may import. The lines follow the layers from the top to the bottom.
///
/// `train` names `ir` although design.md reaches it through `nn`: the edge points the same way, and
/// a training loop speaks of shapes, dtypes and random streams, which are all types of `ir`.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "kiln-cli",
        &[
            "kiln",
            "kiln-train",
            "kiln-interop",
            "kiln-nn",
            "kiln-compiler",
            "kiln-runtime",
            "kiln-ir",
        ],
    ),
    (
        "kiln",
        &[
            "kiln-train",
            "kiln-interop",
            "kiln-nn",
            "kiln-compiler",
            "kiln-runtime",
            "kiln-ir",
        ],
    ),
    (
        "kiln-train",
        &[
            "kiln-interop",
            "kiln-nn",
            "kiln-compiler",
            "kiln-runtime",
            "kiln-ir",
        ],
    ),
    ("kiln-interop", &["kiln-ir"]),
    ("kiln-nn", &["kiln-ir"]),
    ("kiln-compiler", &["kiln-ir"]),
    ("kiln-runtime", &["kiln-ir"]),
    ("kiln-ir", &[]),
];

/// The tables of a manifest that create edges. Those for development count as well: a test that
/// imports a higher layer ties the two crates together just the same.
const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

#[test]
fn imports_run_one_way_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = manifest(&root.join("Cargo.toml"));
    let members = workspace["workspace"]["members"]
        .as_array()
        .expect("`members` is an array");
    let mut manifests = vec![workspace.clone()];
    for member in members {
        let folder = member.as_str().expect("a member is a path");
        assert!(
            !folder.contains('*'),
            "member `{folder}`: list the crates one by one"
        );
        manifests.push(manifest(&root.join(folder).join("Cargo.toml")));
    }
    let found = violations(&manifests);
    assert!(
        found.is_empty(),
        "the layers are broken:\n{}",
        found.join("\n")
    );
}

#[test]
fn a_sideways_edge_is_named_with_its_section() {
    let compiler = r#"
        [package]
        name = "kiln-compiler"
        [dependencies]
        kiln-ir.workspace = true
        serde = "1"
        [dev-dependencies]
        kiln-runtime = { path = "../runtime" }
    "#;
    let found = violations(&[parse(compiler)]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("kiln-compiler imports kiln-runtime in [dev-dependencies]"),
        "{found:?}"
    );
}

#[test]
fn edges_hidden_by_a_new_name_or_a_target_are_found() {
    let ir = r#"
        [package]
        name = "kiln-ir"
        [dependencies]
        layers = { package = "kiln-nn", path = "../nn" }
        [target.'cfg(unix)'.build-dependencies]
        kiln-runtime = { path = "../runtime" }
    "#;
    let found = violations(&[parse(ir)]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("kiln-nn in [dependencies]"), "{found:?}");
    assert!(
        found[1].contains("[target.cfg(unix).build-dependencies]"),
        "{found:?}"
    );
}

#[test]
fn an_unknown_crate_must_be_given_a_place() {
    let found = violations(&[parse("[package]\nname = \"kiln-cloud\"")]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("`kiln-cloud` has no line in ALLOWED"),
        "{found:?}"
    );
}

#[test]
fn the_table_itself_has_no_cycle() {
    // Each crate may import only crates further down, which rules out a cycle.
    for (position, (name, imports)) in ALLOWED.iter().enumerate() {
        for import in *imports {
            let below = ALLOWED[position + 1..]
                .iter()
                .any(|(other, _)| other == import);
            assert!(
                below,
                "{name} may import {import}, which does not lie below it in the table"
            );
        }
    }
}

/// Every edge that the table does not allow and every crate it does not know, in manifest order.
fn violations(manifests: &[Table]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut found = Vec::new();
    for manifest in manifests {
        let name = manifest["package"]["name"]
            .as_str()
            .expect("a package has a name");
        let Some(imports) = allowed.get(name) else {
            found.push(format!(
                "`{name}` has no line in ALLOWED of tests/layers.rs: decide its layer and add it"
            ));
            continue;
        };
        for (section, dependency) in edges(manifest) {
            let is_ours = dependency == "kiln" || dependency.starts_with("kiln-");
            if is_ours && !imports.contains(&dependency.as_str()) {
                found.push(format!(
                    "{name} imports {dependency} in [{section}]; it may import only [{}] (design: \
                     layers, section 2)",
                    imports.join(", ")
                ));
            }
        }
    }
    found
}

/// All dependencies of one manifest as (section, package name), those for a target included.
fn edges(manifest: &Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(manifest, "", &mut found);
    if let Some(Value::Table(targets)) = manifest.get("target") {
        for (target, tables) in targets {
            let tables = tables.as_table().expect("a target is a table");
            collect(tables, &format!("target.{target}."), &mut found);
        }
    }
    found
}

fn collect(tables: &Table, prefix: &str, found: &mut Vec<(String, String)>) {
    for section in SECTIONS {
        let Some(Value::Table(dependencies)) = tables.get(section) else {
            continue;
        };
        for (key, value) in dependencies {
            let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
            found.push((format!("{prefix}{section}"), package.to_owned()));
        }
    }
}

fn manifest(path: &Path) -> Table {
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    parse(&text)
}

fn parse(text: &str) -> Table {
    text.parse()
        .unwrap_or_else(|error| panic!("not a manifest: {error}\n{text}"))
}
