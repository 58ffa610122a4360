//! The verifier: each invariant broken, one at a time, on a graph that holds all of them.

mod common;

use common::{ty, with_nodes};
use kiln_ir::ops::{
    Binary, Broadcast, Constant, ConstantValue, Dense, DimSize, Dot, Iota, Literal, Op, Reduce,
    ReduceKind, Reshape, Select, Slice, Source, Transpose, Unary,
};
use kiln_ir::{
    Builder, DType, Dim, Graph, Init, Invariant, Node, NodeId, Output, Place, Role, Slot, Update,
    verify,
};

/// `x: f32[b, 3]`, `w: f32[3]`, a broadcast, a product and a sum; an output and an update.
fn sound() -> Graph {
    let g = Builder::new("sound");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b, 3));
    let w = g.param("w", [3], Init::uniform(0.1));
    let y = x * w;
    g.output("y", y);
    g.update(w, y.reduce(ReduceKind::Sum, &[0]));
    g.finish().unwrap()
}

/// What the verifier says, as `invariant subject: message`.
fn found(graph: &Graph) -> Vec<String> {
    let Err(violations) = verify(graph) else {
        return Vec::new();
    };
    assert!(!violations.0.is_empty());
    // A graph that does not verify can be printed, hashed and drawn all the same.
    assert!(graph.to_string().starts_with("kiln 1\n"));
    assert_ne!(graph.structural_hash(), 0);
    assert!(graph.to_dot().starts_with("digraph"));
    let _ = graph.canonical();
    let lines = violations
        .0
        .iter()
        .map(|v| format!("{:?} {}: {}", v.invariant, v.subject, v.message));
    lines.collect()
}

/// The sound graph with one node changed.
fn changed(at: usize, change: impl Fn(&mut Node)) -> Graph {
    with_nodes(&sound(), |i, node| {
        let mut node = node.clone();
        if i == at {
            change(&mut node);
        }
        node
    })
}

/// The sound graph with another signature.
fn signed(change: impl Fn(&mut Vec<Slot>, &mut Vec<Output>, &mut Vec<Update>)) -> Graph {
    let graph = sound();
    let mut slots = graph.slots().to_vec();
    let mut outputs = graph.outputs().to_vec();
    let mut updates = graph.updates().to_vec();
    change(&mut slots, &mut outputs, &mut updates);
    let mut signed = Graph::empty(&graph.name);
    graph.nodes().for_each(|(_, node)| {
        signed.push(node.clone());
    });
    slots.into_iter().for_each(|s| signed.push_slot(s));
    outputs.into_iter().for_each(|o| signed.push_output(o));
    updates.into_iter().for_each(|u| signed.push_update(u));
    signed
}

#[test]
fn the_sound_graph_holds_all() {
    let graph = sound();
    assert_eq!(found(&graph), [""; 0]);
    assert_eq!(verify(&Graph::empty("")), Ok(()));
    let names: Vec<&str> = graph.nodes().map(|(_, n)| n.op.rules().name()).collect();
    assert_eq!(names, ["source", "source", "broadcast", "mul", "reduce"]);
}

#[test]
fn operands_are_earlier_nodes() {
    let later = changed(2, |n| n.operands = vec![NodeId::new(3)]);
    assert_eq!(
        found(&later),
        [
            "Operands node %0 (broadcast): operand 0 is not an earlier node; nodes stand behind what they use"
        ]
    );
    let itself = changed(3, |n| n.operands[1] = NodeId::new(3));
    assert_eq!(
        found(&itself),
        [
            "Operands node %1 (mul): operand 1 is not an earlier node; nodes stand behind what they use"
        ]
    );
    let missing = changed(3, |n| n.operands[0] = NodeId::new(usize::MAX));
    assert_eq!(
        found(&missing),
        ["Operands node %1 (mul): operand 0 does not exist"]
    );
}

#[test]
fn types_are_bounded() {
    let say = |dims: &[&str]| {
        let list = found(&changed(3, |n| n.ty = ty(DType::F32, dims)));
        list[0].clone()
    };
    assert_eq!(
        say(&["-1"]),
        "Types node %1 (mul): the extent -1 is negative"
    );
    assert_eq!(
        say(&["4294967296", "4294967296"]),
        "Types node %1 (mul): it is larger than 2^63 bytes"
    );
    assert_eq!(
        say(&["1"; 33]),
        "Types node %1 (mul): 33 axes are more than 32"
    );
    let long: Vec<String> = (0..200).map(|i| format!("s{i}")).collect();
    let long = long.join(" + ");
    assert_eq!(
        say(&[&long, &long]),
        "Types node %1 (mul): its number of elements is too long a polynomial"
    );
    let power = (0..100).fold(Dim::from(1), |p, _| p * Dim::symbol("b"));
    let unreadable = changed(3, |n| n.ty.shape = [power.clone()].into());
    assert!(found(&unreadable)[0].contains("its degree is too high"));
    let symbol = changed(0, |n| {
        n.ty.shape = [Dim::symbol("a b"), Dim::from(3)].into()
    });
    assert!(found(&symbol)[0].contains("a symbol is not a name"));
    let attribute = changed(2, |n| n.op = DimSize { dim: power.clone() }.into());
    assert!(found(&attribute)[0].contains("its degree is too high"));
}

#[test]
fn types_are_those_of_the_rules() {
    let graph = changed(3, |n| n.ty = ty(DType::F64, &["b", "3"]));
    assert_eq!(
        found(&graph),
        [
            "Rule node %1 (mul): the type is f64[b, 3], but `mul` gives f32[b, 3]",
            // Each node is judged by the types that stand there, so one lie shows twice.
            "Rule node %2 (reduce): the type is f32[3], but `reduce` gives f64[3]",
        ]
    );
    let graph = changed(3, |n| n.op = Unary::Exp.into());
    assert_eq!(
        found(&graph),
        ["Rule node %1 (mul): `exp` takes 1 operands, not 2".replace("(mul)", "(exp)")]
    );
}

#[test]
fn the_rule_of_every_op_is_safe_to_ask() {
    let dims = |v: &[i64]| v.iter().map(|d| Dim::from(*d)).collect::<Vec<_>>();
    let huge = usize::MAX;
    let scalar = ty(DType::Bool, &[]);
    let ops: Vec<Op> = vec![
        Source { ty: scalar.clone() }.into(),
        Constant::splat(scalar.clone(), 1.0).into(),
        Constant {
            ty: scalar.clone(),
            value: ConstantValue::Splat(Literal::Int(2)),
        }
        .into(),
        Constant::dense(scalar.clone(), Dense::from_bytes([2])).into(),
        Constant::dense(scalar.clone(), Dense::from_bytes([])).into(),
        Constant::dense(ty(DType::F32, &["b"]), Dense::from_bytes([])).into(),
        Constant::dense(
            ty(DType::F64, &["9223372036854775807", "16"]),
            Dense::from_bytes([]),
        )
        .into(),
        Iota {
            ty: scalar.clone(),
            axis: huge,
        }
        .into(),
        DimSize {
            dim: Dim::from(i64::MIN),
        }
        .into(),
        Binary::Shl.into(),
        Select.into(),
        Broadcast {
            shape: [1].into(),
            axes: vec![huge, 0],
        }
        .into(),
        Broadcast {
            shape: ().into(),
            axes: vec![],
        }
        .into(),
        Reshape {
            shape: [i64::MAX, i64::MAX].into(),
        }
        .into(),
        Transpose {
            order: vec![huge, huge],
        }
        .into(),
        Slice {
            start: vec![],
            limit: dims(&[1]),
            stride: vec![0],
        }
        .into(),
        Slice {
            start: dims(&[i64::MIN, i64::MAX]),
            limit: dims(&[i64::MAX, i64::MIN]),
            stride: vec![i64::MIN, i64::MAX],
        }
        .into(),
        Reduce {
            kind: ReduceKind::Any,
            axes: vec![huge, 0],
            accumulate: None,
        }
        .into(),
        Dot {
            contract: (vec![huge], vec![]),
            batch: (vec![0], vec![0, 1]),
            accumulate: None,
        }
        .into(),
        Dot {
            contract: (vec![0], vec![]),
            batch: (vec![], vec![]),
            accumulate: None,
        }
        .into(),
    ];
    for op in ops {
        for count in [0, 1, 2, 3, 4] {
            let graph = changed(3, |n| {
                n.op = op.clone();
                n.operands = vec![NodeId::new(2); count];
            });
            assert!(!found(&graph).is_empty(), "{op:?} of {count}");
        }
    }
}

#[test]
fn sources_and_slots_belong_together() {
    let lost = signed(|slots, _, _| {
        slots.remove(0);
    });
    assert_eq!(
        found(&lost),
        [
            "Sources node %0 (source): a source that is no slot; it would never have a value",
            "Symbols node %0 (source): the symbol `b` has no number: an extent of some slot must be `b`, or a multiple of it plus a number",
        ]
    );
    let other = signed(|slots, _, _| slots[0].node = NodeId::new(2));
    assert_eq!(
        found(&other)[0],
        "Sources slot `x`: its node is a `broadcast`, not a source"
    );
    let missing = signed(|slots, _, _| slots[0].node = NodeId::new(99));
    assert_eq!(
        found(&missing)[0],
        "Sources slot `x`: its node does not exist"
    );
    let shared = signed(|slots, _, _| {
        let mut second = slots[0].clone();
        second.name = "second".into();
        slots.push(second);
    });
    assert_eq!(
        found(&shared),
        ["Sources slot `second`: another slot has the same source; each needs its own"]
    );
}

#[test]
fn names_are_given_once() {
    let slots = signed(|slots, _, _| slots[1].name = "x".into());
    assert_eq!(
        found(&slots),
        ["Names slot `x`: another slot has the name; a name is given once"]
    );
    let outputs = signed(|_, outputs, _| outputs.push(outputs[0].clone()));
    assert_eq!(
        found(&outputs),
        ["Names output `y`: another output has the name; a name is given once"]
    );
}

#[test]
fn initialisers_have_sensible_numbers() {
    for init in [
        Init::Uniform {
            low: 1.0,
            high: 0.0,
        },
        Init::uniform(f64::NAN),
        Init::normal(-1.0),
        Init::normal(f64::INFINITY),
        Init::orthogonal(f64::NAN),
        Init::Identity {
            gain: f64::INFINITY,
        },
    ] {
        let graph = signed(|slots, _, _| slots[1].role = Role::State(init));
        let list = verify(&graph).unwrap_err().0;
        assert_eq!(list.len(), 1, "{init}");
        assert_eq!(list[0].invariant, Invariant::Initialisers);
        assert_eq!(list[0].place, Place::Slot(1));
    }
}

#[test]
fn outputs_and_updates_name_nodes() {
    let output = signed(|_, outputs, _| outputs[0].node = NodeId::new(5));
    assert_eq!(
        found(&output),
        ["Outputs output `y`: its node does not exist"]
    );
    let value = signed(|_, _, updates| updates[0].value = NodeId::new(5));
    assert_eq!(
        found(&value),
        ["Updates update of %w: its value does not exist"]
    );
    let target = signed(|_, _, updates| updates[0].target = NodeId::new(4));
    assert_eq!(
        found(&target),
        ["Updates update of %2: the target is neither a param nor a state"]
    );
    let input = signed(|slots, _, _| slots[1].role = Role::Input);
    assert_eq!(
        found(&input),
        ["Updates update of %w: the target is neither a param nor a state"]
    );
    let twice = signed(|_, _, updates| updates.push(updates[0]));
    assert_eq!(
        found(&twice),
        ["Updates update of %w: the target is updated twice; one value remains"]
    );
    let types = signed(|_, _, updates| updates[0].value = NodeId::new(3));
    assert_eq!(
        found(&types),
        ["Updates update of %w: the value is f32[b, 3], the target f32[3]"]
    );
}

#[test]
fn symbols_have_numbers_from_slots() {
    let text = |dim: &str| {
        let wide = ty(DType::F32, &[dim, "3"]);
        found(&changed(0, |n| {
            n.op = Source { ty: wide.clone() }.into();
            n.ty = wide.clone();
        }))
        .into_iter()
        .filter(|m| m.starts_with("Symbols"))
        .count()
    };
    assert_eq!(text("b"), 0);
    assert_eq!(text("2*b + 1"), 0);
    assert_eq!(text("b*b"), 1);
    assert_eq!(text("floordiv(b, 2)"), 1);
    // Each symbol is reported once, where it occurs first.
    assert_eq!(text("b*t"), 2);
    let attribute = changed(2, |n| {
        n.op = DimSize {
            dim: Dim::symbol("t"),
        }
        .into()
    });
    assert!(
        found(&attribute)
            .iter()
            .any(|m| m.starts_with("Symbols node %0 (dim_size): the symbol `t`"))
    );
}

#[test]
fn all_violations_are_reported_with_the_users_lines() {
    let graph = with_nodes(&sound(), |i, node| {
        let mut node = node.clone();
        if i >= 2 {
            node.operands = vec![NodeId::new(9)];
        }
        node
    });
    let violations = verify(&graph).unwrap_err();
    assert_eq!(violations.0.len(), 3);
    let text = violations.to_string();
    assert_eq!(text.lines().count(), 3);
    let first = text.lines().next().unwrap();
    assert!(
        first
            .starts_with("node %0 (broadcast): operand 0 does not exist (from ir/tests/verify.rs:"),
        "{first}"
    );
}
