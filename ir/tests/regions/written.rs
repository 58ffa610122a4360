//! Graphs with regions as text, JSON and bytes, and their hash.

use crate::common::without_provenance;
use kiln_ir::{Builder, DType, Graph, Init, ScanOptions, Yield, grad, verify};

/// Every control op, within others, with captured values, literals, dense constants and names that need quotes; and a gradient.
fn example() -> Graph {
    let g = Builder::new("every");
    let (t, b) = (g.dim("t"), g.dim("b"));
    let xs = g.input("an input", DType::F32, (t, b.clone(), 2));
    let w = g.param("w", (2, 2), Init::uniform(0.1));
    let zero = g.splat(DType::F32, (b, 2), 0.0);
    let options = ScanOptions {
        reverse: true,
        save: kiln_ir::ops::Save::Carries,
        ..ScanOptions::default()
    };
    let scanned = g.scan(&options, &[zero], &[xs], |it| {
        let body = it.builder();
        let next = (it.carry(0).dot(w) + it.entry(0) * 0.5).tanh();
        let chosen = body.cond(
            next.sum().gt(0.0),
            |_| vec![next],
            |branch| vec![next * branch.builder().constant([2], &[1.5f32, -2.0])],
        );
        Yield::new(
            &chosen,
            &[chosen[0].square(), it.number().convert(DType::F32)],
        )
    });
    let loss = scanned.carries[0].sum() + scanned.stacked[0].sum();
    let gradient = grad(loss, &[w])[0];
    g.update(w, w - gradient * 0.1);
    let halved = g.while_loop(
        &[loss],
        |it| it.carry(0).gt(1.0),
        |it| vec![it.carry(0) * 0.5],
    );
    g.output("halved", halved[0]);
    g.output("numbers", scanned.stacked[1]);
    g.finish().unwrap()
}

#[test]
fn text_reads_back_to_the_same_graph() {
    let graph = example();
    verify(&graph).unwrap();
    let text = graph.to_string();
    let read = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(read.to_string(), text);
    assert_eq!(
        without_provenance(&read),
        without_provenance(&graph.canonical())
    );
    let located = kiln_ir::TextOptions { locations: true };
    let text = graph.to_text(located);
    let read = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(read.to_text(located), text);
    // Lines within regions keep their places.
    let inside = text.lines().find(|l| l.contains("tanh")).unwrap();
    assert!(
        inside.contains("@ ir/tests/regions/written.rs:"),
        "{inside}"
    );
}

#[test]
fn regions_print_what_they_take_and_yield() {
    let g = Builder::new("sum");
    let xs = g.input("xs", DType::F32, [g.dim("t")]);
    let k = g.input("k", DType::F32, ());
    let zero = g.splat(DType::F32, (), 0.0);
    let scanned = g.scan(&ScanOptions::default(), &[zero], &[xs], |it| {
        let next = it.carry(0) + it.entry(0) * k;
        Yield::new(&[next], &[next])
    });
    g.output("all", scanned.stacked[0]);
    assert_eq!(
        g.finish().unwrap().to_string(),
        "\
kiln 1
graph @sum<t>(%xs: f32[t], %k: f32[]) {
  %0: f32[] = scan 0.0, %xs, %k {trip = [t], carries = [1], scanned = [1], body = ^(%carry: f32[], %entry: f32[], %k: f32[]) {
    %0: f32[] = mul %entry, %k
    %1: f32[] = add %carry, %0
    yield %1, %1
  }}
  %1: f32[] = part %0 {index = [0]}
  %2: f32[t] = part %0 {index = [1]}
  return all: %2
}
"
    );
}

#[test]
fn json_and_bytes_keep_everything() {
    let graph = example();
    assert_eq!(Graph::from_json(&graph.to_json().unwrap()).unwrap(), graph);
    assert_eq!(
        Graph::from_bytes(&graph.to_bytes().unwrap()).unwrap(),
        graph
    );
}

#[test]
fn damaged_bytes_are_refused_or_read_as_something_that_verifies() {
    let bytes = example().to_bytes().unwrap();
    for at in 6..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] = damaged[at].wrapping_add(1 + (at % 7) as u8);
        if let Ok(graph) = Graph::from_bytes(&damaged) {
            verify(&graph).unwrap();
        }
        if at % 16 == 0 {
            assert!(Graph::from_bytes(&bytes[..at]).is_err());
        }
    }
}

#[test]
fn the_hash_looks_into_regions() {
    let hash = |factor: f64, reverse: bool| {
        let g = Builder::new("m");
        let xs = g.input("xs", DType::F32, [4]);
        let zero = g.splat(DType::F32, (), 0.0);
        let options = ScanOptions {
            reverse,
            ..ScanOptions::default()
        };
        let scanned = g.scan(&options, &[zero], &[xs], |it| {
            Yield::new(&[it.carry(0) * factor + it.entry(0)], &[])
        });
        g.output("y", scanned.carries[0]);
        let graph = g.finish().unwrap();
        let hash = graph.structural_hash();
        let read = Graph::parse(&graph.to_string()).unwrap();
        assert_eq!(read.structural_hash(), hash);
        assert_eq!(without_provenance(&graph).structural_hash(), hash);
        hash
    };
    assert_eq!(hash(0.5, false), hash(0.5, false));
    assert_ne!(hash(0.5, false), hash(0.25, false));
    assert_ne!(hash(0.5, false), hash(0.5, true));
}

/// A region within a region, `levels` deep.
fn nested_text(levels: usize) -> String {
    let mut inner = "    %0: f32[] = exp %x\n    yield %0\n".to_owned();
    for _ in 1..levels {
        inner = format!(
            "    %0: f32[] = scan %x {{trip = [1], carries = [1], scanned = [0], body = ^(%x: f32[]) {{\n{inner}    }}}}\n    \
             %1: f32[] = part %0 {{index = [0]}}\n    yield %1\n"
        );
    }
    format!(
        "kiln 1\ngraph @deep(%x: f32[]) {{\n  %0: f32[] = scan %x {{trip = [1], carries = [1], scanned = [0], body = ^(%x: f32[]) {{\n\
         {inner}  }}}}\n  %1: f32[] = part %0 {{index = [0]}}\n  return %1\n}}\n"
    )
}

#[test]
fn deep_nesting_is_refused_in_every_form() {
    let sixteen = Graph::parse(&nested_text(16)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        Graph::from_json(&sixteen.to_json().unwrap()).unwrap(),
        sixteen
    );
    assert_eq!(
        Graph::from_bytes(&sixteen.to_bytes().unwrap()).unwrap(),
        sixteen
    );
    for levels in [17, 3_000] {
        let errors = Graph::parse(&nested_text(levels)).unwrap_err();
        let message = errors.to_string();
        assert!(
            message.contains("regions within regions, more than 16 deep"),
            "{message}"
        );
    }
    for levels in [64, 100_000] {
        let error = Graph::from_bytes(&deep_bytes(levels)).unwrap_err();
        // The format's errors carry no words.
        assert!(matches!(error, kiln_ir::SerialError::Binary(_)), "{error}");
    }
}

/// Bytes that open one region after the other, as a file might.
fn deep_bytes(levels: usize) -> Vec<u8> {
    let at = |levels: usize| {
        Graph::parse(&nested_text(levels))
            .unwrap()
            .to_bytes()
            .unwrap()
    };
    let (two, three, four) = (at(2), at(3), at(4));
    // Graphs that differ by one level part where the first one's innermost region begins.
    let part = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (first, second) = (part(&two, &three), part(&three, &four));
    let mut bytes = four[..first].to_vec();
    for _ in 0..levels {
        bytes.extend_from_slice(&four[first..second]);
    }
    bytes
}
