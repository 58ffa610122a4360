//! The written forms of convolutions and windows: what they look like, that they round-trip, and what their mistakes say.

use kiln_ir::ops::{Conv, ConvAxes, ConvGroups, DataRole, KernelRole, WindowAxis, WindowKind};
use kiln_ir::{
    Builder, ConvOptions, DType, Dim, Graph, Init, Layout, Padding, PoolOptions, grad, verify,
};

const POOLED: &str = "kiln 1
graph @pooled<b, h>(%x: f32[b, 28, h, 1]; param %w: f32[3, 3, 1, 8] = constant(0.0)) {
  %0: f32[b, 14, floordiv(h - 1, 2), 8] = conv %x, %w {dims = b01f_01io->b01f, stride = 2x2, pad = 1_1x0_0}
  %1: f32[b, 7, floordiv(floordiv(h - 1, 2), 2), 8] = reduce_window %0 {kind = max, window = 1x2x2x1, stride = 1x2x2x1}
  return %1
}
";

#[test]
fn windows_are_spelled_as_xla_does() {
    let g = Builder::new("pooled");
    let x = g.input("x", DType::F32, (g.dim("b"), 28, g.dim("h"), 1));
    let w = g.param("w", [3, 3, 1, 8], Init::zeros());
    let options = ConvOptions {
        stride: vec![2],
        padding: Padding::Explicit(vec![(1.into(), 1.into()), (0.into(), 0.into())]),
        ..ConvOptions::default()
    };
    g.output("0", x.conv(w, &options).max_pool(&PoolOptions::of(&[2])));
    assert_eq!(g.finish().unwrap().to_string(), POOLED);
    assert_eq!(Graph::parse(POOLED).unwrap().to_string(), POOLED);
}

/// The lines of a graph's body, without types and operands.
fn attributes(graph: &Graph, op: &str) -> Vec<String> {
    let text = graph.to_string();
    let lines = text.lines().filter(|l| l.contains(&format!("= {op} ")));
    lines
        .map(|l| l[l.find('{').unwrap()..].to_owned())
        .collect()
}

#[test]
fn both_adjoints_of_a_convolution_are_convolutions_and_nothing_else() {
    let g = Builder::new("adjoints");
    let x = g.param("x", (g.dim("b"), 8, 8, 4), Init::zeros());
    let w = g.param("w", [3, 3, 2, 6], Init::zeros());
    let options = ConvOptions {
        stride: vec![2, 1],
        padding: Padding::Same,
        groups: 2,
        ..ConvOptions::default()
    };
    let y = x.conv(w, &options);
    for (i, d) in grad(y.square().sum(), &[x, w]).into_iter().enumerate() {
        g.output(&i.to_string(), d);
    }
    let graph = g.finish().unwrap();
    assert_eq!(
        attributes(&graph, "conv"),
        [
            "{dims = b01f_01io->b01f, stride = 2x1, pad = 0_1x1_1, groups = 2}",
            "{dims = b01f_01oi->b01f, pad = 2_1x1_1, lhs_dilation = 2x1, reverse = true, groups = 2, grouped = f_i->f}",
            "{dims = f01b_i01o->01bf, pad = 0_1x1_1, rhs_dilation = 2x1, groups = 2, grouped = b_o->f}",
        ]
    );
    // The sum's own adjoint repeats a number; nothing else moves.
    let moves = ["transpose", "reverse", "pad", "slice", "concat"];
    let moved = graph
        .nodes()
        .find(|(_, n)| moves.contains(&n.op.rules().name()));
    assert_eq!(moved, None);
}

/// Convolutions and pools of many kinds with their gradients, over constant and symbolic extents.
fn many() -> Graph {
    let g = Builder::new("many");
    let mut results = Vec::new();
    for (layout, padding) in [
        (Layout::ChannelsLast, Padding::Same),
        (Layout::ChannelsFirst, Padding::Valid),
        (
            Layout::ChannelsLast,
            Padding::Explicit(vec![(g.dim("h"), Dim::from(-1))]),
        ),
        (Layout::ChannelsFirst, Padding::both(2)),
    ] {
        let _scope = g.scope(&format!("part{}", results.len()));
        let last = layout == Layout::ChannelsLast;
        let (h, w) = (g.dim("h") + 8, g.dim("w") + 9);
        let (x, k) = if last {
            (
                g.param("x", (2, h, w, 4), Init::zeros()),
                g.param("k", [3, 2, 2, 6], Init::zeros()),
            )
        } else {
            (
                g.param("x", (2, 4, h, w), Init::zeros()),
                g.param("k", [6, 2, 3, 2], Init::zeros()),
            )
        };
        let conv = ConvOptions {
            stride: vec![2, 1],
            padding: padding.clone(),
            lhs_dilation: vec![1, 2],
            rhs_dilation: vec![2, 1],
            groups: 2,
            layout,
            reverse: !last,
            accumulate: Some(DType::F64),
        };
        let pool = PoolOptions {
            padding,
            layout,
            ..PoolOptions::of(&[2, 3])
        };
        let y = x.conv(k, &conv);
        let pools = [
            y.max_pool(&pool),
            y.mean_pool(&pool),
            y.pool(WindowKind::Min, &pool),
        ];
        let loss = pools
            .map(|p| p.square().sum())
            .into_iter()
            .reduce(|a, b| a + b)
            .unwrap();
        let first = grad(loss, &[x, k]);
        let second = grad(
            (first[0].square().sum() + first[1].square().sum()).sin(),
            &[x, k],
        );
        results.extend(second);
    }
    for (i, result) in results.into_iter().enumerate() {
        g.output(&i.to_string(), result);
    }
    let bound = g.input("bound", DType::F32, (g.dim("h"), g.dim("w")));
    g.output("bound", bound);
    g.finish().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_written_form_of_many_windows_reads_back() {
    let graph = many();
    assert_eq!(verify(&graph), Ok(()));
    let text = graph.to_string();
    for part in [
        "low = [",
        "argmax_window",
        "argmin_window",
        "gather_window",
        "scatter_window",
        "accumulate = f64",
    ] {
        assert!(text.contains(part), "{part}");
    }
    let read = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(read.to_string(), text);
    assert_eq!(read.structural_hash(), graph.structural_hash());
    assert_eq!(Graph::from_json(&graph.to_json().unwrap()).unwrap(), graph);
    assert_eq!(
        Graph::from_bytes(&graph.to_bytes().unwrap()).unwrap(),
        graph
    );
    assert!(graph.to_dot().contains("conv"));
}

#[test]
fn every_place_of_groups_has_a_spelling() {
    let data = [DataRole::Batch, DataRole::Feature];
    let mut texts = std::collections::BTreeSet::new();
    for (lhs, out) in data.into_iter().flat_map(|l| data.map(|o| (l, o))) {
        for rhs in [KernelRole::Input, KernelRole::Output] {
            let g = Builder::new("g");
            let groups = ConvGroups {
                count: 2,
                lhs,
                rhs,
                out,
            };
            let (mut x, mut k) = ([2, 4, 2], [3, 2, 2]);
            x[if lhs == DataRole::Batch { 0 } else { 2 }] = 4;
            k[if rhs == KernelRole::Input { 1 } else { 2 }] = 4;
            let operands = [g.input("x", DType::F32, x), g.input("k", DType::F32, k)];
            let conv = Conv {
                axes: ConvAxes::channels_last(1),
                window: vec![WindowAxis::default()],
                reverse: false,
                groups,
                accumulate: None,
            };
            g.output("0", g.push(conv, &operands));
            let graph = g.finish().unwrap();
            let text = graph.to_string();
            assert_eq!(Graph::parse(&text).unwrap().to_string(), text);
            texts.insert(attributes(&graph, "conv").remove(0));
        }
    }
    assert_eq!(texts.len(), 8);
    assert!(texts.contains("{dims = b0f_0io->b0f, groups = 2}"));
    assert!(texts.contains("{dims = b0f_0io->b0f, groups = 2, grouped = b_o->f}"));
}

fn message(attributes: &str) -> String {
    let text = format!(
        "kiln 1\ngraph @g<b>(%x: f32[b, 5, 2], %w: f32[3, 2, 4]) {{\n  %0: f32[b, 3, 4] = {attributes}\n}}\n"
    );
    match Graph::parse(&text) {
        Ok(_) => "none".into(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn mistakes_in_the_text_name_what_would_be_right() {
    let dims = "dims = b0f_0io->b0f";
    for (attributes, expected) in [
        (
            "conv %x, %w {}".to_owned(),
            "3:22: `conv`: attribute `dims`: expected a word",
        ),
        (
            "conv %x, %w {dims = b0f_0io}".into(),
            "3:35: `conv`: attribute `dims`: expected the axes of operand, kernel and result, such as b01f_01io->b01f",
        ),
        (
            format!("conv %x, %w {{{dims}, stride = 1x1}}"),
            "3:56: `conv`: attribute `stride`: expected 1 numbers, such as 2",
        ),
        (
            format!("conv %x, %w {{{dims}, stride = [1]}}"),
            "3:56: `conv`: attribute `stride`: expected a word",
        ),
        (
            format!("conv %x, %w {{{dims}, pad = 1}}"),
            "3:56: `conv`: attribute `pad`: expected low_high for each of 1 axes, such as 1_1",
        ),
        (
            format!("conv %x, %w {{{dims}, low = [1]}}"),
            "3:22: `conv`: attribute `high`: expected a list of dims",
        ),
        (
            format!("conv %x, %w {{{dims}, low = [1, 2], high = [1, 2]}}"),
            "3:56: `conv`: attribute `low`: expected a list of 1 dims",
        ),
        (
            format!("conv %x, %w {{{dims}, pad = 1_1, low = [1], high = [1]}}"),
            "3:67: `conv` has no attribute `low`",
        ),
        (
            format!("conv %x, %w {{{dims}, reverse = yes}}"),
            "3:56: `conv`: attribute `reverse`: expected true, or no such attribute",
        ),
        (
            format!("conv %x, %w {{{dims}, groups = two}}"),
            "3:56: `conv`: attribute `groups`: expected a number",
        ),
        (
            format!("conv %x, %w {{{dims}, groups = 2, grouped = f_f->f}}"),
            "3:68: `conv`: attribute `grouped`: expected the divided axes of operand, kernel and result, such as f_o->f",
        ),
        (
            format!("conv %x, %w {{{dims}, groups = 1, grouped = b_o->f}}"),
            "3:3: `conv` in one group that divides b_o->f; one group divides nothing; leave the places out",
        ),
        (
            format!("conv %x, %w {{{dims}, stride = 99999999999999999999}}"),
            "3:56: `conv`: attribute `stride`: expected 1 numbers, such as 2",
        ),
        (
            "reduce_window %x {kind = prod, window = 1x2x1}".into(),
            "3:40: `reduce_window`: attribute `kind`: expected sum, max or min",
        ),
        (
            "reduce_window %x {kind = max, window = 1xx1}".into(),
            "3:52: `reduce_window`: attribute `window`: expected numbers, one for each axis, such as 1x2x2x1",
        ),
        (
            "reduce_window %x {kind = max, window = 1x3x1, accumulate = f64}".into(),
            "3:3: `reduce_window` to the max accumulates nothing that is rounded; leave `accumulate` out",
        ),
        (format!("conv %x, %w {{{dims}}}"), "none"),
    ] {
        assert_eq!(message(&attributes), expected, "{attributes}");
    }
}

#[test]
fn hostile_numbers_and_lists_are_refused_in_bounded_time() {
    let dims = "dims = b0f_0io->b0f";
    let huge = i64::MAX;
    let least = i64::MIN;
    for attributes in [
        format!("conv %x, %w {{{dims}, stride = {huge}}}"),
        format!("conv %x, %w {{{dims}, lhs_dilation = {huge}}}"),
        format!("conv %x, %w {{{dims}, rhs_dilation = {huge}}}"),
        format!("conv %x, %w {{{dims}, pad = {huge}_{huge}}}"),
        format!("conv %x, %w {{{dims}, pad = {least}_{huge}}}"),
        format!("conv %x, %w {{{dims}, groups = {huge}}}"),
        format!(
            "conv %x, %w {{{dims}, stride = {}}}",
            "1x".repeat(1_000_000)
        ),
        format!("conv %x, %w {{{dims}, pad = {}}}", "1_1x".repeat(1_000_000)),
        format!("conv %x, %w {{dims = {}}}", "b0f_0io->".repeat(500_000)),
        format!("conv %x, %w {{dims = {}->b0f}}", "0".repeat(4_000_000)),
        format!(
            "reduce_window %x {{kind = sum, window = {}}}",
            "9x".repeat(1_000_000)
        ),
        format!("reduce_window %x {{kind = sum, window = {huge}x{huge}x{huge}}}"),
        format!("argmax_window %x {{window = 1x1x1, pad = 0_{huge}x0_0x0_0}}"),
        format!("scatter_window %x, %x {{window = 1x{huge}x1, base_dilation = 1x{huge}x1}}"),
    ] {
        let said = message(&attributes);
        assert!(said != "none" && said.len() < 800, "{said}");
    }
}
