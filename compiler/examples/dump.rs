//! Dump.
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(&a[1]).unwrap();
    let g = kiln_ir::Graph::parse(&text).unwrap();
    let o = kiln_compiler::Options {
        fuse: a.get(3).is_none(),
        optimize: a.get(3).is_none(),
        ..Default::default()
    };
    println!(
        "{}",
        kiln_compiler::stage_text(&g, a[2].parse().unwrap(), &o).unwrap()
    );
}
