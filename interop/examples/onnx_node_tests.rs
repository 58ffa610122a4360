//! Runs ONNX backend test folders with the interpreter: one line each, and a sum.
//!
//! `cargo run --release -p kiln-interop --example onnx_node_tests -- DIR`, where `DIR` holds the folders: `onnx/backend/test/data/node` of
//! the `onnx` wheel up to version 1.17, or of Debian's `libonnx-testdata`.

use kiln_interop::onnx::backend::{Outcome, interpret, run_folder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut counts = [0usize; 3];
    for root in std::env::args_os().skip(1) {
        let entries = std::fs::read_dir(root)?;
        let folders: std::io::Result<Vec<_>> = entries.map(|e| Ok(e?.path())).collect();
        let mut folders = folders?;
        folders.retain(|f| f.join("model.onnx").exists());
        folders.sort();
        for folder in folders {
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            match run_folder(&folder, &interpret) {
                Outcome::Pass => {
                    counts[0] += 1;
                    println!("pass {name}");
                }
                Outcome::Fail(reason) => {
                    counts[1] += 1;
                    println!("fail {name} {reason}");
                }
                Outcome::Unsupported(reason) => {
                    counts[2] += 1;
                    println!("unsupported {name} {reason}");
                }
            }
        }
    }
    let [pass, fail, unsupported] = counts;
    println!("{pass} pass, {fail} fail, {unsupported} unsupported");
    Ok(())
}
