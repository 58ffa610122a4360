//! Graphs with control ops that make no sense: each is refused, with its place.

use crate::common::{ty, with_nodes};
use kiln_ir::ops::{Op, Part, Region, Require, Scan, Source};
use kiln_ir::{
    Builder, DType, Graph, Init, Invariant, Node, NodeId, Output, Role, ScanOptions, Slot, Update,
    Yield, eval, verify,
};

/// A running sum; nodes: `xs`, zero, scan, its parts 0 and 1, and the sum of both.
fn sound() -> Graph {
    let g = Builder::new("sound");
    let xs = g.input("xs", DType::F32, (4, 2));
    let zero = g.input("zero", DType::F32, [2]);
    let scanned = g.scan(&ScanOptions::default(), &[zero], &[xs], |it| {
        let next = it.carry(0) + it.entry(0);
        Yield::new(&[next], &[next])
    });
    g.output("y", scanned.stacked[0] + scanned.carries[0]);
    g.finish().unwrap()
}

#[track_caller]
fn refused(graph: &Graph, invariant: Invariant, words: &str) {
    let violations = verify(graph).expect_err("the graph makes no sense");
    let found: Vec<String> = violations.0.iter().map(ToString::to_string).collect();
    let fits = |(v, text): (&kiln_ir::Violation, &String)| {
        v.invariant == invariant && text.contains(words)
    };
    assert!(violations.0.iter().zip(&found).any(fits), "{found:#?}");
    // Graphs that do not verify can be printed, hashed, drawn and put in order; the interpreter refuses what it cannot run.
    assert!(graph.to_string().starts_with("kiln 1\n"));
    assert_ne!(graph.structural_hash(), 0);
    assert!(graph.to_dot().starts_with("digraph"));
    let _ = graph.canonical();
    let _ = eval(graph, |_| None);
}

fn position(graph: &Graph, name: &str) -> usize {
    let mut nodes = graph.nodes();
    let found = nodes.find(|(_, node)| node.op.rules().name() == name);
    found.unwrap().0.index()
}

/// The sound graph with its first node of an op changed.
fn changed(name: &str, change: impl Fn(&mut Node)) -> Graph {
    let graph = sound();
    let at = position(&graph, name);
    with_nodes(&graph, |i, node| {
        let mut node = node.clone();
        if i == at {
            change(&mut node);
        }
        node
    })
}

fn scan_with(change: impl Fn(&mut Scan)) -> Graph {
    changed("scan", |node| {
        if let Op::Scan(scan) = &mut node.op {
            change(scan);
        }
    })
}

/// The scan with its body changed.
fn body_with(change: impl Fn(&mut Vec<Node>, &mut Vec<Slot>, &mut Vec<Output>)) -> Graph {
    scan_with(|scan| {
        let mut nodes: Vec<Node> = scan.body.nodes().map(|(_, n)| n.clone()).collect();
        let mut slots = scan.body.slots().to_vec();
        let mut outputs = scan.body.outputs().to_vec();
        change(&mut nodes, &mut slots, &mut outputs);
        let mut body = Graph::empty("body");
        nodes.into_iter().for_each(|n| {
            body.push(n);
        });
        slots.into_iter().for_each(|s| body.push_slot(s));
        outputs.into_iter().for_each(|o| body.push_output(o));
        scan.body = Region::new(body);
    })
}

#[test]
fn the_sound_one_verifies() {
    verify(&sound()).unwrap();
}

#[test]
fn an_op_of_several_results_is_no_value() {
    let graph = sound();
    let scan = NodeId::new(position(&graph, "scan"));
    let user = changed("add", |node| node.operands[0] = scan);
    refused(
        &user,
        Invariant::Parts,
        "uses an op of several results as a whole",
    );
    let mut output = sound();
    output.push_output(Output {
        name: "whole".into(),
        node: scan,
    });
    refused(&output, Invariant::Parts, "several results");
    let g = Builder::new("m");
    let w = g.param("w", [2], Init::zeros());
    let xs = g.input("xs", DType::F32, (4, 2));
    g.scan(&ScanOptions::default(), &[w], &[xs], |it| {
        Yield::new(&[it.carry(0) + it.entry(0)], &[])
    });
    let mut update = g.finish().unwrap();
    update.push_update(Update {
        target: NodeId::new(0),
        value: NodeId::new(position(&update, "scan")),
    });
    refused(&update, Invariant::Parts, "several results");
}

#[test]
fn a_part_is_a_result_of_such_an_op() {
    let of = |id: usize| changed("part", move |node| node.operands[0] = NodeId::new(id));
    refused(&of(0), Invariant::Parts, "no op of several results");
    let many = changed("part", |node| {
        node.op = Part {
            index: 7,
            ty: node.ty.clone(),
        }
        .into();
    });
    refused(&many, Invariant::Parts, "there is no result 7 of 2");
    let other = changed("part", |node| {
        node.op = Part {
            index: 1,
            ty: node.ty.clone(),
        }
        .into();
    });
    refused(
        &other,
        Invariant::Parts,
        "result 1 is f32[4, 2], not f32[2]",
    );
    let none = changed("part", |node| node.operands.clear());
    refused(&none, Invariant::Rule, "`part` takes one operand");
    let two = changed("part", |node| node.operands.push(NodeId::new(0)));
    refused(&two, Invariant::Rule, "`part` takes one operand");
    let lie = changed("part", |node| node.ty = ty(DType::F64, &["2"]));
    refused(&lie, Invariant::Rule, "f64[2]");
}

#[test]
fn counts_and_types_of_a_scan_fit() {
    let carries = |n: usize| scan_with(move |scan| scan.carries = n);
    refused(&carries(9), Invariant::Rule, "takes more than 2 operands");
    refused(&carries(usize::MAX), Invariant::Rule, "operands");
    refused(&carries(2), Invariant::Rule, "operands");
    refused(&carries(0), Invariant::Rule, "scan");
    let scanned = |n: usize| scan_with(move |scan| scan.scanned = n);
    refused(&scanned(usize::MAX), Invariant::Rule, "operands");
    refused(&scanned(0), Invariant::Rule, "`entry` in the body");
    for trip in ["5", "-1", "b"] {
        let graph = scan_with(|scan| scan.trip = trip.parse().unwrap());
        refused(&graph, Invariant::Rule, "`scan`");
    }
    let unbound = scan_with(|scan| scan.trip = "b".parse().unwrap());
    refused(&unbound, Invariant::Symbols, "`b` has no number");
    let none = changed("scan", |node| node.operands.clear());
    refused(&none, Invariant::Rule, "operands");
}

#[test]
fn a_body_is_a_graph_that_verifies() {
    let role = body_with(|_, slots, _| slots[0].role = Role::Param(Init::zeros()));
    refused(&role, Invariant::Rule, "params, state or updates");
    let missing = body_with(|_, slots, _| {
        slots.pop();
    });
    refused(&missing, Invariant::Rule, "does not verify");
    let yields = body_with(|_, _, outputs| outputs.clear());
    refused(&yields, Invariant::Rule, "yields 0 values");
    let nowhere = body_with(|_, _, outputs| outputs[1].node = NodeId::new(99));
    refused(&nowhere, Invariant::Rule, "does not exist");
    let later = body_with(|nodes, _, _| {
        let last = nodes.len();
        nodes[last - 1].operands[0] = NodeId::new(last);
    });
    refused(&later, Invariant::Rule, "does not exist");
    let carry = body_with(|nodes, _, _| {
        let last = nodes.len() - 1;
        nodes[last].ty = ty(DType::F32, &["3"]);
    });
    refused(&carry, Invariant::Rule, "the type is f32[3]");
    let more = body_with(|nodes, slots, _| {
        let ty = ty(DType::F32, &[]);
        let mut source = nodes[0].clone();
        source.op = Source { ty: ty.clone() }.into();
        source.ty = ty;
        nodes.push(source);
        slots.push(Slot {
            name: "more".into(),
            role: Role::Input,
            node: NodeId::new(nodes.len() - 1),
        });
    });
    refused(&more, Invariant::Rule, "takes 3 values, but gets 2");
    let fallible = body_with(|nodes, _, outputs| {
        let mut condition = nodes[0].clone();
        condition.op = kiln_ir::ops::Unary::IsFinite.into();
        condition.operands = vec![NodeId::new(0)];
        condition.ty = ty(DType::Bool, &["2"]);
        let mut guarded = nodes[0].clone();
        guarded.op = Require {
            message: "finite".into(),
        }
        .into();
        guarded.operands = vec![NodeId::new(0), NodeId::new(nodes.len())];
        nodes.push(condition);
        nodes.push(guarded);
        outputs[1].node = NodeId::new(nodes.len() - 1);
    });
    refused(&fallible, Invariant::Rule, "which may fail");
    let update = scan_with(|scan| {
        let mut body = (*scan.body).clone();
        body.push_update(Update {
            target: NodeId::new(0),
            value: NodeId::new(0),
        });
        scan.body = Region::new(body);
    });
    refused(&update, Invariant::Rule, "does not verify");
}

#[test]
fn symbols_within_regions_have_numbers_too() {
    let graph = body_with(|nodes, _, outputs| {
        let mut splat = nodes[0].clone();
        let of = ty(DType::F32, &["mystery"]);
        splat.op = kiln_ir::ops::Constant::splat(of.clone(), 0.0).into();
        splat.ty = of;
        nodes.push(splat);
        outputs[1].node = NodeId::new(nodes.len() - 1);
    });
    refused(&graph, Invariant::Symbols, "`mystery` has no number");
}

/// Scans within scans, each with as many parts.
fn deep(levels: usize, parts: usize) -> Graph {
    let scalar = ty(DType::F32, &[]);
    let base = sound();
    let provenance = base.node(NodeId::new(0)).unwrap().provenance.clone();
    let node = |op: Op, operands: Vec<NodeId>| Node {
        op,
        operands,
        ty: scalar.clone(),
        provenance: provenance.clone(),
    };
    let function = |inside: Option<Region>| {
        let mut graph = Graph::empty("body");
        let ty = scalar.clone();
        let x = graph.push(node(Source { ty }.into(), vec![]));
        graph.push_slot(Slot {
            name: "x".into(),
            role: Role::Input,
            node: x,
        });
        let mut y = x;
        if let Some(body) = inside {
            let scan = Scan {
                body,
                carries: 1,
                scanned: 0,
                trip: 1.into(),
                reverse: false,
                save: kiln_ir::ops::Save::Results,
            };
            let whole = graph.push(node(scan.into(), vec![x]));
            for _ in 0..parts {
                let ty = scalar.clone();
                y = graph.push(node(Part { index: 0, ty }.into(), vec![whole]));
            }
        }
        graph.push_output(Output {
            name: "0".into(),
            node: y,
        });
        graph
    };
    let mut graph = function(None);
    for _ in 0..levels {
        graph = function(Some(Region::new(graph)));
    }
    graph
}

/// Each region is verified once, not once for each part of each region around it: that would be 8^16 times.
#[test]
fn depth_is_bounded_and_so_is_the_work() {
    verify(&deep(16, 7)).unwrap();
    refused(&deep(17, 1), Invariant::Size, "more than 16 deep");
    refused(&deep(400, 1), Invariant::Size, "more than 16 deep");
}
