//! Going on with a finished graph: what is built then is what would have been built at once.

use kiln_ir::ops::{Op, Source};
use kiln_ir::{Builder, DType, Graph, Init, Node, ScanOptions, Tensor, Yield, grad};

/// A scan over rows, whose loss is an output.
fn recurrent(g: &Builder) -> (Tensor<'_>, Tensor<'_>) {
    let x = g.input("x", DType::F32, (g.dim("t"), 4));
    let w = g.param("w", (4,), Init::ones());
    let start = g.splat(DType::F32, (4,), 0.0);
    let scanned = g.scan(&ScanOptions::default(), &[start], &[x], |at| {
        let next = (at.carry(0) + at.entry(0)).tanh() * w;
        Yield::new(&[next], &[])
    });
    let loss = scanned.carries[0].sum();
    g.output("loss", loss);
    (loss, w)
}

#[test]
fn a_graph_that_was_read_is_differentiated_as_one_that_was_built() {
    let at_once = Builder::new("g");
    let (loss, w) = recurrent(&at_once);
    at_once.output("dw", grad(loss, &[w])[0]);
    let at_once = at_once.finish().unwrap();

    let first = Builder::new("g");
    recurrent(&first);
    let read = Graph::from_bytes(&first.finish().unwrap().to_bytes().unwrap()).unwrap();
    let g = Builder::resume(read).unwrap();
    let (loss, w) = (g.find_output("loss").unwrap(), g.find("w").unwrap());
    assert!(g.find_output("w").is_none(), "a source is no output");
    g.output("dw", grad(loss, &[w])[0]);
    assert_eq!(g.finish().unwrap().to_string(), at_once.to_string());
}

#[test]
fn a_graph_that_does_not_verify_is_refused() {
    let g = Builder::new("g");
    g.output("x", g.input("x", DType::F32, (2,)));
    let mut graph = g.finish().unwrap();
    let provenance = graph.nodes().next().unwrap().1.provenance.clone();
    let ty = graph.nodes().next().unwrap().1.ty.clone();
    // A source without a slot.
    graph.push(Node {
        op: Op::Source(Source { ty: ty.clone() }),
        operands: Vec::new(),
        ty,
        provenance,
    });
    let violations = Builder::resume(graph).err().unwrap();
    assert!(violations.to_string().contains("source"), "{violations}");
}
