//! Mistakes of users: one message each, with their own line, and a way out.

use kiln_ir::{Builder, DType, Diagnostics, Init, grad};

fn mistakes(g: Builder) -> Diagnostics {
    g.finish().expect_err("the graph has a mistake")
}

#[test]
fn a_shape_error_names_both_sides_and_the_users_line() {
    let g = Builder::new("m");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b, 1568));
    let w = g.param("w", (1600, 10), Init::zeros());
    let line = line!() + 3;
    let y = {
        let _scope = g.scope("dense");
        x.dot(w)
    };
    let text = mistakes({
        // Poison spreads in silence: the ops behind the mistake add no message.
        g.output("y", y.exp() + 1.0);
        g
    })
    .to_string();
    let column = "        x.".len();
    assert_eq!(
        text,
        format!(
            "error[shape]: `dot` contracts axes of different size: 1568 and 1600\n  --> ir/tests/diagnostics.rs:{line}:{}   in \"dense\"\n   \
             = lhs: f32[b, 1568] from ir/tests/diagnostics.rs:{}:15\n   = rhs: f32[1600, 10] from ir/tests/diagnostics.rs:{}:15\n   \
             = help: a right side of shape [1568, 10] fits",
            column + 1,
            line - 5,
            line - 4,
        )
    );
}

#[test]
fn operators_report_the_users_line_too() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2, 3]);
    let y = g.input("y", DType::F32, [4]);
    let line = line!() + 1;
    let _ = x + y;
    let found = mistakes(g);
    assert_eq!(found.0.len(), 1);
    assert_eq!(found.0[0].location.line, line);
    assert_eq!(&*found.0[0].location.file, "ir/tests/diagnostics.rs");
}

#[test]
fn every_mistake_has_one_message() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2, 3]);
    let i = g.input("i", DType::I32, [2, 3]);
    let _ = x + i;
    let _ = i.exp();
    let _ = x.reshape([7]);
    let _ = x.transpose(&[0, 0]);
    let _ = x.reduce(kiln_ir::ops::ReduceKind::Sum, &[2]);
    let _ = g.input("x", DType::F32, ());
    g.update(x, x);
    g.output("o", x);
    g.output("o", x);
    let messages: Vec<String> = mistakes(g)
        .0
        .into_iter()
        .map(|d| d.refusal.message)
        .collect();
    assert_eq!(
        messages,
        [
            "`add` of different element types: f32 and i32",
            "`exp` takes floating types, not i32",
            "`reshape` of [2, 3] (6 elements) to [7] (7 elements)",
            "`transpose` of f32[2, 3] by [0, 0], which is no permutation of its axes",
            "`reduce` of f32[2, 3] over the axes [2]",
            "the name `x` is taken by another source",
            "only a param or a state can be updated",
            "the output `o` is declared twice",
        ]
    );
}

#[test]
fn gradients_that_do_not_exist() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [3]);
    let lost = g.param("lost", [3], Init::zeros());
    let stopped = g.param("stopped", [3], Init::zeros());
    let count = g.input("count", DType::I32, [3]);
    let loss = (x * stopped.stop_gradient() + count.convert(DType::F32)).sum();
    let _ = grad(loss, &[lost, stopped, count]);
    let _ = grad(x, &[x]);
    let messages: Vec<String> = mistakes(g)
        .0
        .into_iter()
        .map(|d| d.refusal.message)
        .collect();
    assert_eq!(
        messages,
        [
            "no path ties `lost` to the loss, so it has no gradient",
            "no path ties `stopped` to the loss, so it has no gradient",
            "the gradient with respect to `count`, whose type is i32[3]",
            "the gradient of a loss of type f32[3]",
        ]
    );
}

#[test]
fn what_a_gradient_appends_has_the_line_and_scope_of_its_node() {
    let g = Builder::new("m");
    let w = g.param("w", [3], Init::ones());
    let line = line!() + 3;
    let y = {
        let _scope = g.scope("head");
        w.exp()
    };
    let gradient = grad(y.sum(), &[w])[0];
    let at = gradient.id().unwrap();
    g.output("d", gradient);
    let graph = g.finish().unwrap();
    let provenance = &graph.node(at).unwrap().provenance;
    assert_eq!(provenance.location.line, line);
    assert_eq!(&*provenance.scope, "head");
}

#[test]
fn a_missing_path_is_reported_where_the_gradient_is_asked_for() {
    let g = Builder::new("m");
    let w = g.param("w", [3], Init::ones());
    let line = line!() + 1;
    let _ = grad(g.param("v", [3], Init::ones()).sum(), &[w]);
    let found = mistakes(g);
    assert_eq!(found.0[0].location.line, line);
    assert_eq!(&*found.0[0].location.file, "ir/tests/diagnostics.rs");
}

#[test]
fn literals_types_and_initialisers_that_do_not_exist_are_mistakes() {
    let g = Builder::new("m");
    let i = g.input("i", DType::I32, [2]);
    let u = g.input("u", DType::U8, [2]);
    let _ = i * 0.5;
    let _ = u + 300.0;
    let _ = u - -1.0;
    let _ = g.splat(DType::F32, [-3], 1.0);
    let _ = g.splat(DType::F32, [i64::MAX, 2], 1.0);
    let _ = i.broadcast_to(vec![kiln_ir::Dim::from(2); 40]);
    let _ = g.input("x", DType::F32, (g.dim("not a name"),));
    let _ = g.param("w", [2], Init::normal(f64::NAN));
    let first = line!() - 8;
    // Whole numbers in range are what the type has.
    let _ = u + 255.0;
    let _ = i - -1.0;
    let found = mistakes(g);
    let lines: Vec<u32> = found.0.iter().map(|d| d.location.line).collect();
    assert_eq!(lines, (first..first + 8).collect::<Vec<_>>(), "{found}");
    let text = found.to_string();
    for words in [
        "the literal 0.5 is no i32",
        "the literal 300.0 is no u8",
        "the literal -1.0 is no u8",
        "`const` of type f32[-3]: the extent -3 is negative",
        "it is larger than 2^63 bytes",
        "40 axes are more than 32",
        "a symbol is not a name of letters, digits and `_`",
        "`w`: normal needs a finite mean",
    ] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
}

#[test]
fn a_kernel_that_is_too_large_is_reported_at_the_users_line() {
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, (g.dim("b"), 5, 5, 1));
    let w = g.param("w", [7, 7, 1, 8], Init::zeros());
    let line = line!() + 3;
    let pooled = {
        let _scope = g.scope("stem");
        let y = x.conv(w, &kiln_ir::ConvOptions::default());
        // Poison spreads in silence, through pools and gradients too.
        y.mean_pool(&kiln_ir::PoolOptions::of(&[2]))
    };
    let _ = grad(pooled.sum(), &[w]);
    let found = mistakes(g);
    assert_eq!(
        found.to_string(),
        format!(
            "error[shape]: `conv` along spatial axis 0: a window of 7 is larger than the operand of 5\n  \
             --> ir/tests/diagnostics.rs:{line}:19   in \"stem\"\n   \
             = lhs: f32[b, 5, 5, 1] from ir/tests/diagnostics.rs:{}:15\n   \
             = rhs: f32[7, 7, 1, 8] from ir/tests/diagnostics.rs:{}:15\n   \
             = help: pad by 2 more, or take a window of at most 5",
            line - 5,
            line - 4,
        )
    );
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2, 5, 1]);
    let options = kiln_ir::ConvOptions {
        stride: vec![1, 2],
        ..kiln_ir::ConvOptions::default()
    };
    let line = line!() + 1;
    let _ = x.conv(x, &options);
    let found = mistakes(g);
    assert_eq!(found.0[0].location.line, line);
    assert_eq!(&*found.0[0].location.file, "ir/tests/diagnostics.rs");
}

#[test]
fn a_poisoned_result_that_nobody_explains_is_named() {
    let g = Builder::new("m");
    let w = g.param("w", (1,), Init::zeros());
    let line = line!() + 1;
    g.output("y", g.poison() + w);
    g.update(w, g.poison());
    grad(g.poison(), &[w]);
    let found = mistakes(g);
    let messages: Vec<&str> = found.0.iter().map(|d| &*d.refusal.message).collect();
    let wanted = [
        "the output `y`",
        "the update of `w`",
        "the loss of a gradient",
    ];
    assert_eq!(
        messages,
        wanted.map(|what| format!("{what} is a poisoned tensor, and nobody reported why"))
    );
    assert_eq!(found.0[0].location.line, line);
    // One that leads nowhere does no harm, and one that was explained has its own message alone.
    let g = Builder::new("m");
    let _ = g.poison().exp();
    assert!(g.finish().is_ok());
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2]);
    g.output("y", x.reshape([3]));
    assert_eq!(mistakes(g).0.len(), 1);
}
