//! Imports an ONNX model, and says what became of it.
//!
//! `cargo run --release -p kiln-interop --example onnx_import -- MODEL.onnx [NAME=DIM]...`, where `NAME` is the symbol of an extent.

use kiln_interop::onnx::{ImportOptions, read};
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut given = std::env::args().skip(1);
    if let Some(path) = given.next() {
        let path = PathBuf::from(path);
        let mut options = ImportOptions::default();
        for pair in given {
            let (name, dim) = pair.split_once('=').ok_or("expected NAME=DIM")?;
            options.dims.insert(name.to_owned(), dim.parse()?);
        }
        let begin = Instant::now();
        let model = read(&path)?;
        let result = model.import(&options);
        let seconds = begin.elapsed().as_secs_f64();
        match result {
            Ok(import) => {
                println!(
                    "{}: {} nodes, {} params, {seconds:.3} s",
                    path.display(),
                    import.graph.len(),
                    import.params.len()
                );
                for slot in import.graph.slots() {
                    if let (kiln_ir::Role::Input, Some(node)) =
                        (&slot.role, import.graph.node(slot.node))
                    {
                        println!("  input {}: {}", slot.name, node.ty);
                    }
                }
                for output in import.graph.outputs() {
                    if let Some(node) = import.graph.node(output.node) {
                        println!("  output {}: {}", output.name, node.ty);
                    }
                }
            }
            Err(errors) => println!("{}: {errors}", path.display()),
        }
    }
    Ok(())
}
