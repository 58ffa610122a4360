//! The text form: what it looks like, that it round-trips, and what its mistakes say.

mod common;

use common::{random_graph, without_provenance};
use kiln_ir::{Builder, DType, Graph, Init, TextOptions, verify};
use proptest::prelude::*;

const FC1: &str = r#"kiln 1
graph @fc1<b>(%x: f32[b, 784], %g: f32[b, 10]; param %w: f32[784, 10] = uniform(-0.087, 0.087)) {
  %0: f32[b, 10] = dot %x, %w {contract = [1]x[0]}
  %1: f32[b, 10] = max %0, 0.0
  %2: bool[b, 10] = le %0, 0.0
  %3: f32[b, 10] = select %2, 0.0, %g
  %4: f32[784, 10] = dot %x, %3 {contract = [0]x[0]}
  return %1
  update %w := %4
}
"#;

fn messages(text: &str) -> Vec<String> {
    match Graph::parse(text) {
        Ok(_) => panic!("no mistake found in\n{text}"),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

/// The messages of a body in a graph with `%x: f32[2, 3]`; the first line of the body is line 3.
fn body_messages(body: &str) -> Vec<String> {
    messages(&format!(
        "kiln 1\ngraph @g<b>(%x: f32[2, 3], %s: f32[b]) {{\n{body}\n}}\n"
    ))
}

#[test]
fn the_example_of_the_design_prints_as_it_stands_there() {
    let g = Builder::new("fc1");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), 784));
    let gradient = g.input("g", DType::F32, (b, 10));
    let w = g.param("w", (784, 10), Init::uniform(0.087));
    let y = x.dot(w);
    g.output("0", y.maximum(0.0));
    let zero = g.splat(DType::F32, y.ty().unwrap().shape, 0.0);
    let masked = zero.where_(y.le(0.0), gradient);
    g.update(w, x.dot_general(masked, &[0], &[0], &[], &[]));
    let graph = g.finish().unwrap();
    assert_eq!(graph.to_string(), FC1);
    assert_eq!(Graph::parse(FC1).unwrap().to_string(), FC1);
}

#[test]
fn layout_and_comments_are_free() {
    let loose = "; a comment\n\n kiln 1 ; another\ngraph @fc1<b>(\n  %x: f32[ b,784 ],\n\n  %g: f32[b, 10],param %w : f32[784, 5*2]\n = uniform( -0.087,8.7e-2)\n) { ; body\r\n\
        \n%product: f32[b, 10] = dot %x,%w{contract=[1]x[0]};!\n\t%1: f32[10*1, 1]=const{value=1.0}\n\
        return\t\"0\": %product, second: %1\n}\n; the end";
    let graph = Graph::parse(loose).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        graph.to_string(),
        "kiln 1\ngraph @fc1<b>(%x: f32[b, 784], %g: f32[b, 10]; param %w: f32[784, 10] = uniform(-0.087, 0.087)) {\n\
         \x20 %0: f32[b, 10] = dot %x, %w {contract = [1]x[0]}\n  %1: f32[10, 1] = const {value = 1.0}\n  return %0, second: %1\n}\n"
    );
}

#[test]
fn locations_and_scopes_are_printed_and_read() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2]);
    let line = line!() + 3;
    let y = {
        let _scope = g.scope("fc1");
        x.exp()
    };
    g.output("y", y);
    let graph = g.finish().unwrap();
    let options = TextOptions { locations: true };
    let text = graph.to_text(options);
    let expected = format!("  %0: f32[2] = exp %x @ ir/tests/text.rs:{line}:11 \"fc1\"\n");
    assert!(text.contains(&expected), "{text}");
    let read = Graph::parse(&text).unwrap();
    assert_eq!(read.to_text(options), text);
    let (_, node) = read.nodes().last().unwrap();
    assert_eq!(&*node.provenance.scope, "fc1");
    // Without a place, a node comes from its line of the file.
    let read = Graph::parse_file("m.kir", &graph.to_string()).unwrap();
    let (_, node) = read.nodes().last().unwrap();
    assert_eq!(node.provenance.location.to_string(), "m.kir:3:3");
}

#[test]
fn files_of_any_name_can_be_places() {
    for file in ["C:\\x.rs", "a b.rs", "q\".rs", "", "x;y", "<text>"] {
        let quoted = format!("{file:?}");
        let text = format!(
            "kiln 1\ngraph @g(%x: f32[2]) {{\n  %0: f32[2] = exp %x @ {quoted}:7:8 \"s\"\n}}\n"
        );
        let graph = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}"));
        let printed = graph.to_text(TextOptions { locations: true });
        let again = Graph::parse(&printed).unwrap_or_else(|e| panic!("{printed}{e}"));
        let (_, node) = again.nodes().last().unwrap();
        assert_eq!(&*node.provenance.location.file, file);
        assert_eq!(node.provenance.location.line, 7);
    }
}

#[test]
fn constants_are_literals_only_where_that_reads_back() {
    let g = Builder::new("literals");
    let x = g.input("x", DType::U64, [2]);
    let flag = g.input("flag", DType::Bool, [2]);
    let shared = g.splat(DType::U64, [2], 7.0);
    g.output("a", x + shared);
    g.output("b", x * shared);
    g.output("c", x.minimum(1.8e19));
    g.output("d", 3.0 / x);
    g.output("e", flag.and(g.splat(DType::Bool, [2], 1.0)));
    // No operand has the type of the choices.
    let (yes, no) = (g.splat(DType::U64, [2], 1.0), g.splat(DType::U64, [2], 0.0));
    g.output("f", yes.where_(flag, no));
    let out = g.splat(DType::U64, [2], 5.0);
    g.output("g", out);
    let text = g.finish().unwrap().to_string();
    assert_eq!(
        text,
        "kiln 1\ngraph @literals(%x: u64[2], %flag: bool[2]) {\n  %0: u64[2] = const {value = 7}\n  %1: u64[2] = add %x, %0\n  \
         %2: u64[2] = mul %x, %0\n  %3: u64[2] = min %x, 18000000000000000000\n  %4: u64[2] = div 3, %x\n  \
         %5: bool[2] = and %flag, true\n  %6: u64[2] = const {value = 1}\n  %7: u64[2] = const {value = 0}\n  \
         %8: u64[2] = select %flag, %6, %7\n  %9: u64[2] = const {value = 5}\n  \
         return a: %1, b: %2, c: %3, d: %4, e: %5, f: %8, g: %9\n}\n"
    );
    assert_eq!(Graph::parse(&text).unwrap().to_string(), text);
}

#[test]
fn dense_data_stands_in_a_table_once() {
    let g = Builder::new("dense");
    g.output("a", g.constant([2], &[1.0f32, 2.0]));
    g.output("b", g.constant([1], &[-1i64]));
    g.output("c", g.constant([2, 1], &[1.0f32, 2.0]));
    let text = g.finish().unwrap().to_string();
    assert_eq!(
        text,
        "kiln 1\ngraph @dense() {\n  %0: f32[2] = const {data = @r0}\n  %1: i64[1] = const {data = @r1}\n  \
         %2: f32[2, 1] = const {data = @r0}\n  return a: %0, b: %1, c: %2\n}\nresources {\n  @r0 = 0x0000803f00000040\n  \
         @r1 = 0xffffffffffffffff\n}\n"
    );
    assert_eq!(Graph::parse(&text).unwrap().to_string(), text);
}

#[test]
fn long_signatures_stand_on_several_lines_in_their_order() {
    let g = Builder::new("long");
    for i in 0..3 {
        g.input(&format!("encoder/layers.{i}/input"), DType::F32, [2]);
        g.param(&format!("encoder/layers.{i}/weight"), [2], Init::zeros());
    }
    let text = g.finish().unwrap().to_string();
    assert!(text.starts_with(
        "kiln 1\ngraph @long(\n    %encoder/layers.0/input: f32[2];\n    param %encoder/layers.0/weight: f32[2] = constant(0.0);\n    \
         %encoder/layers.1/input: f32[2];\n"
    ));
    assert!(
        text.ends_with("weight: f32[2] = constant(0.0)\n) {\n}\n"),
        "{text}"
    );
    assert_eq!(Graph::parse(&text).unwrap().to_string(), text);
}

#[test]
fn every_line_with_a_mistake_is_reported() {
    assert_eq!(
        body_messages(
            "  %0: f32[2, 3] = exp %y\n  %1: f32[2, 3] = exp %0\n  %1: f32[2, 3] = exp %x\n  %2: f32[2 3] = exp %x\n  \
             %3: f32[2, 3] exp %x\n  %4: f32[2, 3] = explode %x\n  %5: f32[2] = reduce %x {kind = sum, axes = [1], keep = yes}\n  \
             %6: f32[2] = reduce %x {kind = average, axes = [1]}\n  %7: f32[2] = reduce %x {kind = sum}\n  return %6, %9"
        ),
        [
            "3:23: `%y` is not defined above",
            "5:3: `%1` is defined twice",
            "6:13: expected `,` or `]`, found `3`",
            "7:17: expected `=`, found `exp`",
            "8:19: no op is called `explode`",
            "9:51: `reduce` has no attribute `keep`",
            "10:27: `reduce`: attribute `kind`: expected sum, prod, max, min, any or all",
            "11:16: `reduce`: attribute `axes`: expected a list of dims",
            "12:14: `%9` is not defined above",
        ]
    );
}

#[test]
fn mistakes_name_their_place_and_what_would_be_right() {
    for (body, message) in [
        (
            "%0: f32[c] = exp %s",
            "3:9: the symbol `c` is not declared; declare it in angle brackets behind the graph's name",
        ),
        (
            "%0: f33[2] = exp %s",
            "3:5: expected an element type: f32, f64, bf16, f16, i8 to i64, u8 to u64 or bool, found `f33`",
        ),
        (
            "%0: f32[2, 3] = add %x, 1x",
            "3:25: expected a number that f32 holds, found `1x`",
        ),
        (
            "%0: f32[2, 3] = add 1.0, 1.0",
            "3:21: a literal takes its type from an operand that is no constant, and there is none; write the constant on a line of its own",
        ),
        (
            "%0: f32[2, 3] = add %x,",
            "3:24: expected an operand: a value such as `%0`, or a number, found the end of the line",
        ),
        (
            "%0: f32[2, 3] = exp %x ?",
            "3:24: expected the end of the line, found `?`",
        ),
        (
            "%0: f32[2, 3] = exp %x @ here",
            "3:26: expected a place such as `model.rs:12:15` behind `@`",
        ),
        (
            "%0: f32[-3] = const {value = 1.0}",
            "3:5: no tensor has this type: the extent -3 is negative",
        ),
        (
            "%0: u8[2] = const {value = 256}",
            "3:20: `const`: attribute `value`: expected a number that u8 holds",
        ),
        (
            "%0: f32[2] = const {data = @r0}",
            "3:28: no resource is called `@r0`; the table behind the graph holds them",
        ),
        (
            "%0: f32[2] = const {value = 1.0, value = 1.0}",
            "3:34: the attribute `value` is given twice",
        ),
        (
            "%\"a",
            "3:4: expected the closing quote, found the end of the line",
        ),
        (
            "%\"\\q\": f32[2] = exp %x",
            "3:3: expected one of the escapes \\\\, \\\", \\n, \\t and \\u{...}, found `\\`",
        ),
        (
            "%99999999999999999999: f32[2] = exp %x",
            "3:2: expected a number below 2^64 as the name of a value",
        ),
        (
            "hello",
            "3:1: expected a node such as `%0: f32[2] = exp %x`, `return`, `update` or `}`, found `hello`",
        ),
        (
            "return %x\nreturn %x",
            "4:1: a graph has one `return`; separate its outputs by commas",
        ),
        (
            "return %x\n%0: f32[2, 3] = exp %x",
            "4:1: nodes stand before `return` and `update`",
        ),
        ("update %x = %x", "3:11: expected `:=`, found `=`"),
        // The verifier's findings stand at the lines of what they are about.
        (
            "%0: f32[2, 2] = exp %x",
            "3:1: the type is f32[2, 2], but `exp` gives f32[2, 3]",
        ),
        (
            "return a: %x, a: %s",
            "3:15: another output has the name; a name is given once",
        ),
        (
            "update %x := %x",
            "3:8: the target is neither a param nor a state",
        ),
    ] {
        assert_eq!(body_messages(body), [message], "{body}");
    }
}

#[test]
fn mistakes_outside_of_the_body() {
    for (text, expected) in [
        (
            "",
            "1:1: expected `kiln 1`, which names the version of the text, found the end of the text",
        ),
        (
            "kiln 2\ngraph @g() {\n}\n",
            "1:6: this is a text of version 2; this Kiln reads versions up to 1, so a newer Kiln is needed",
        ),
        (
            "kiln one\n",
            "1:6: expected the number of a version from 1, found `one`",
        ),
        ("kiln 1\ngraph g() {\n}\n", "2:7: expected `@`, found `g`"),
        (
            "kiln 1\ngraph @g<b, b>() {\n}\n",
            "2:13: the symbol `b` is declared twice",
        ),
        (
            "kiln 1\ngraph @g(%x: f32[2], %x: f32[2]) {\n}\n",
            "2:22: the slot `x` is declared twice",
        ),
        (
            "kiln 1\ngraph @g(param %x: f32[2] = glorot(1)) {\n}\n",
            "2:29: expected an initialiser such as constant(0.0), uniform(-0.1, 0.1), normal(0.0, 0.02), truncated_normal(0.0, 0.02), orthogonal(1.0) or identity(1.0), found `glorot(1)`",
        ),
        (
            "kiln 1\ngraph @g(%x: f32[2]) {\n  return %x\n",
            "4:1: expected `}` behind the graph, found the end of the text",
        ),
        (
            "kiln 1\ngraph @g() {\n}\ngraph @h() {\n}\n",
            "4:1: expected the end of the text, found `graph`",
        ),
        (
            "kiln 1\ngraph @g() {\n}\nresources {\n  @r0 = 0x0\n}\n",
            "5:9: expected two hexadecimal digits for each byte behind `0x`",
        ),
        (
            "kiln 1\ngraph @g() {\n}\nresources {\n  @r0 = 0x00\n",
            "6:1: expected `}` behind the resources, found the end of the text",
        ),
        (
            "kiln 1\ngraph @g<b, t>(%x: f32[b*t]) {\n}\n",
            "2:16: the symbol `b` has no number: an extent of some slot must be `b`, or a multiple of it plus a number",
        ),
    ] {
        assert_eq!(messages(text)[0], expected, "{text}");
    }
    // A slot with a mistake poisons its users, and the slots behind it are read.
    assert_eq!(
        messages(
            "kiln 1\ngraph @g(%x: f32[2, %y: i99[3], %z: f32[é]) {\n  %0: f32[2] = add %x, %y\n  %1: f32[2] = exp %w\n}\n"
        ),
        [
            "2:21: expected a number or a name, found `%y`",
            "2:41: expected a number or a name, found `é`",
        ]
    );
}

#[test]
fn hostile_texts_are_refused_in_bounded_time_and_stack() {
    let head = "kiln 1\ngraph @g<b>(%x: f32[b]) {\n";
    let long = "a".repeat(4_000_000);
    let texts = [
        format!("{head}  %0: f32[{}", "max(".repeat(200_000)),
        format!("{head}  %0: f32[{}1]", "1, ".repeat(200_000)),
        format!("{head}  %0: f32[{}b]", "b*".repeat(200_000)),
        format!("{head}  %0: f32[{}b]", "b+".repeat(2_000_000)),
        format!(
            "{head}  %0: f32[b] = iota {{axis = [{}",
            "b,".repeat(2_000_000)
        ),
        format!("{head}  %0: f32[b] = {long} %x\n}}"),
        format!("{head}  %{long}: f32[b] = exp %y\n}}"),
        format!("{head}  %0: f32[b] = add %x, {}\n}}", "9".repeat(4_000_000)),
        format!("{head}  %0: f32[b] = exp {}%x\n}}", "%x, ".repeat(200_000)),
        format!("{head}{}", "{".repeat(4_000_000)),
        format!("{head}{}", "(\n".repeat(2_000_000)),
        format!("kiln 1\ngraph @g({}", "[".repeat(4_000_000)),
        format!("kiln 1\ngraph @g({}", "%x: f32[2], ".repeat(200_000)),
        format!("kiln {}", "1".repeat(4_000_000)),
        "\u{feff}kiln 1".to_owned(),
        "kiln 1\0".to_owned(),
    ];
    for text in texts {
        let errors = Graph::parse(&text).unwrap_err();
        assert!(errors.0.len() <= 64);
        assert!(
            errors.0.iter().all(|e| e.message.len() < 400),
            "{:?}",
            errors.0[0].message.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_graphs_round_trip(seed: u64, size in 0usize..40) {
        let graph = random_graph(seed, size);
        let text = graph.to_string();
        let read = Graph::parse(&text).unwrap_or_else(|e| panic!("{text}{e}"));
        prop_assert_eq!(read.to_string(), text.clone());
        let canonical = graph.canonical();
        prop_assert_eq!(without_provenance(&read), without_provenance(&canonical));
        prop_assert_eq!(&canonical.canonical(), &canonical);
        prop_assert!(verify(&canonical).is_ok());
        prop_assert_eq!(canonical.to_string(), text);
        let placed = graph.to_text(TextOptions { locations: true });
        let read = Graph::parse(&placed).unwrap_or_else(|e| panic!("{placed}{e}"));
        prop_assert_eq!(read.to_text(TextOptions { locations: true }), placed);
    }

    #[test]
    fn damaged_texts_do_not_panic(seed: u64, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let text = random_graph(seed, 10).to_string();
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let end = at + 1 + cut.index(bytes.len() - at);
        for damaged in [&bytes[..], &bytes[..end]] {
            if let Ok(graph) = Graph::parse(&String::from_utf8_lossy(damaged)) {
                prop_assert!(verify(&graph).is_ok());
            }
        }
    }
}
