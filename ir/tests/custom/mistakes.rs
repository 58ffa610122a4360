//! Mistakes: each has its message, and the user's line.

use crate::{Repeat, f64s, repeated};
use kiln_ir::ops::{CallTensor, CustomCall, RegisterError};
use kiln_ir::{
    Builder, Call, CallAttributes, CallVjp, CustomOp, DType, Diagnostics, EvalError, Graph, Init,
    Tensor, TensorType, Value, eval, grad, register, verify,
};

/// Two operands to one result of the first's type. Its code and vjp do what the attribute `do` says.
struct Wrong;

impl CustomOp for Wrong {
    fn name(&self) -> &str {
        "custom/wrong"
    }

    fn infer(
        &self,
        _: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        Ok(vec![operands[0].clone()])
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        match call.attributes().get("do") {
            Some("fail") => return Err("it is Sunday".into()),
            Some("panic") => panic!("there is no element {}", 7),
            Some("type") => drop(call.input::<f32>(0)?),
            Some("missing") => drop(call.input::<f64>(2)?),
            Some("twice") => {
                call.output::<f64>(0)?;
                call.output::<f64>(0)?;
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    fn vjp<'g>(&self, cx: &CallVjp<'g>) -> Option<Vec<Option<Tensor<'g>>>> {
        match cx.attributes.get("do") {
            Some("count") => Some(vec![Some(cx.cotangent(0))]),
            Some("shape") => Some(vec![Some(cx.cotangent(0).sum()), None]),
            Some("none flows") => Some(vec![None, None]),
            Some(_) | None => None,
        }
    }
}

fn wrong(what: &str, differentiated: usize) -> Result<Graph, Diagnostics> {
    register(Wrong).expect("its own name");
    let g = Builder::new("wrong");
    let x = g.param_of("x", DType::F64, [2], Init::zeros());
    let w = g.param_of("w", DType::F64, [2], Init::zeros());
    let [y] = g.custom_call("custom/wrong", &[("do", what)], &[x, w]);
    let loss = (y + x.stop_gradient() * w).sum();
    if differentiated > 0 {
        g.output("d", grad(loss, &[[x, w][differentiated - 1]])[0]);
    }
    g.output("loss", loss);
    g.finish()
}

#[track_caller]
fn message(found: Result<Graph, Diagnostics>) -> String {
    let found = found.expect_err("a mistake").0;
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].to_string()
}

#[test]
fn an_op_that_is_not_registered_is_named_with_the_users_line() {
    register(Repeat).expect("its own name");
    let g = Builder::new("m");
    let x = g.input("x", DType::F64, [2]);
    let line = line!() + 1;
    let [y] = g.custom_call("custom/nobody", &[], &[x]);
    // What hangs on it adds no message.
    g.output("y", y.exp());
    let text = message(g.finish());
    assert!(
        text.starts_with(
            "error[signature]: custom op `custom/nobody` is not registered in this program; "
        ),
        "{text}"
    );
    assert!(text.contains("custom/repeat"), "{text}");
    assert!(text.contains(&format!("mistakes.rs:{line}:")), "{text}");
}

#[test]
fn operands_attributes_and_results_that_do_not_fit_are_refused() {
    register(Repeat).expect("its own name");
    let refused = |attributes: &[(&str, &str)], expected: &str| {
        let g = Builder::new("m");
        let x = g.input("x", DType::F64, [2, 3]);
        let [_, _] = g.custom_call("custom/repeat", attributes, &[x]);
        let text = message(g.finish());
        assert!(text.contains(expected), "{text}");
    };
    refused(&[], "custom op `custom/repeat`: attribute `by` is missing");
    refused(
        &[("by", "two")],
        "attribute `by` is \"two\": invalid float literal",
    );
    refused(
        &[("by", "1"), ("by", "1")],
        "the attribute `by` is given twice",
    );
    refused(
        &[("by", "1"), ("results", "1")],
        "`results` is the node's own",
    );
    refused(&[("by", "1"), ("é", "1")], "letters, digits and `_`");
    let g = Builder::new("m");
    let x = g.input("x", DType::F32, [2, 3]);
    let [_, _] = g.custom_call("custom/repeat", &[("by", "1")], &[x]);
    let text = message(g.finish());
    assert!(
        text.contains("it takes an f64 matrix, not f32[2, 3]"),
        "{text}"
    );
    assert!(text.contains("operand: f32[2, 3] from"), "{text}");
    let g = Builder::new("m");
    let x = g.input("x", DType::F64, [2, 3]);
    let [_] = g.custom_call("custom/repeat", &[("by", "1")], &[x]);
    let text = message(g.finish());
    assert!(
        text.contains("custom op `custom/repeat` gives 2 results, not 1"),
        "{text}"
    );
}

#[test]
fn a_gradient_that_does_not_exist_is_a_mistake_where_it_is_needed() {
    for (what, differentiated, expected) in [
        (
            "nothing",
            1,
            "the gradient through custom op `custom/wrong`, which has none",
        ),
        (
            "count",
            1,
            "the vjp of custom op `custom/wrong` gives 1 cotangents for 2 operands",
        ),
        (
            "shape",
            2,
            "gives a cotangent f64[] for operand 0, which is f64[2]",
        ),
    ] {
        let text = message(wrong(what, differentiated));
        assert!(text.starts_with("error[gradient]: "), "{text}");
        assert!(text.contains(expected), "{text}");
        // The line of the call, not that of `grad`.
        assert!(text.contains("custom/mistakes.rs:"), "{text}");
        let line = text
            .split("mistakes.rs:")
            .nth(1)
            .and_then(|t| t.split(':').next());
        let mut source = include_str!("mistakes.rs").lines();
        let line: usize = line.and_then(|l| l.parse().ok()).expect("a line");
        let at = source.nth(line - 1).expect("the line");
        assert!(at.contains("g.custom_call(\"custom/wrong\""), "{at}");
    }
    assert!(wrong("nothing", 0).is_ok());
    // `w` reaches the loss beside the call too.
    assert!(wrong("none flows", 2).is_ok());
}

#[test]
fn no_vjp_is_needed_where_no_cotangent_is() {
    register(Wrong).expect("its own name");
    let g = Builder::new("m");
    let x = g.param_of("x", DType::F64, [2], Init::zeros());
    let w = g.param_of("w", DType::F64, [2], Init::zeros());
    let [y] = g.custom_call("custom/wrong", &[], &[x, x]);
    let whole = x.convert(DType::I64);
    let [z] = g.custom_call("custom/wrong", &[], &[whole, whole]);
    let loss = (y * w).sum() + (x * z.convert(DType::F64)).sum();
    let stopped = (y.stop_gradient() * x).sum();
    // `w` is no part of the calls; what goes through integers has no cotangent.
    g.output("dw", grad(loss, &[w])[0]);
    g.output("dx", grad(stopped, &[x])[0]);
    g.output("dz", grad((x * z.convert(DType::F64)).sum(), &[x])[0]);
    assert!(g.finish().is_ok());
}

#[test]
fn what_the_code_does_wrong_is_an_error_of_the_interpreter() {
    for (what, expected) in [
        ("fail", "it is Sunday"),
        ("panic", "panicked: there is no element 7"),
        ("type", "input 0 is f64[2], not f32"),
        ("missing", "there is no input 2; the call has 2"),
        ("twice", "output 0 was asked for twice"),
    ] {
        let graph = wrong(what, 0).expect("a graph");
        let error = eval(&graph, |_| Some(f64s(&[2], &[1.0, 2.0]))).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("custom_call %"), "{text}");
        assert!(text.contains("custom/mistakes.rs:"), "{text}");
        let message = expected.to_owned();
        let name = "custom/wrong".to_owned();
        assert_eq!(error.cause(), &EvalError::Call { name, message });
    }
}

#[test]
fn a_graph_that_says_otherwise_than_the_op_is_not_interpreted() {
    let graph = repeated().to_string();
    let x = || Some(f64s(&[1, 3], &[1.0, 2.0, 3.0]));
    for (from, to, expected) in [
        (
            "custom/repeat",
            "custom/gone",
            "custom op `custom/gone` is not registered",
        ),
        (
            "by =",
            "bye =",
            "custom op `custom/repeat`: attribute `by` is missing",
        ),
        (
            "results = (f64[2*b, 3], i64[])",
            "results = (f64[2*b, 3], i64[], f64[b])",
            "gives (f64[2, 3], i64[]), but the graph says (f64[2, 3], i64[], f64[1])",
        ),
    ] {
        let other = Graph::parse(&graph.replace(from, to)).expect("a text");
        assert!(verify(&other).is_ok());
        let text = eval(&other, |_| x()).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_gradient_needs_the_op() {
    let text = repeated()
        .to_string()
        .replace("custom/repeat", "custom/gone");
    let g = Builder::resume(Graph::parse(&text).expect("a text")).expect("a graph");
    let (x, y) = (g.find("x").expect("x"), g.find_output("y").expect("y"));
    g.output("dx", grad(y.sum(), &[x])[0]);
    let text = message(g.finish());
    assert!(
        text.contains("a gradient: custom op `custom/gone` is not registered"),
        "{text}"
    );
}

#[test]
fn a_name_stands_for_one_op() {
    struct Named(&'static str);
    impl CustomOp for Named {
        fn name(&self) -> &str {
            self.0
        }

        fn infer(&self, _: &CallAttributes, _: &[&TensorType]) -> Result<Vec<TensorType>, String> {
            Err("it takes nothing".into())
        }

        fn evaluate(&self, _: &mut Call<'_>) -> Result<(), String> {
            Ok(())
        }
    }
    assert_eq!(register(Named("")), Err(RegisterError::Nameless));
    assert_eq!(register(Named("custom/named")), Ok(()));
    // Two values of a type with fields may be two ops.
    let taken = Err(RegisterError::Taken("custom/named".into()));
    assert_eq!(register(Named("custom/named")), taken);
    register(Repeat).expect("its own name");
    assert_eq!(register(Repeat), Ok(()));
    let taken = Err(RegisterError::Taken("custom/repeat".into()));
    assert_eq!(register(Named("custom/repeat")), taken);
}

/// A graph with a call that no builder makes.
fn malformed(change: impl FnOnce(&mut CustomCall)) -> String {
    let mut call = CustomCall {
        target: "custom/any".into(),
        attributes: CallAttributes::default(),
        results: vec![TensorType::new(DType::F64, [2])],
    };
    change(&mut call);
    let g = Builder::new("m");
    let x = g.input("x", DType::F64, [2]);
    g.push(call, &[x]);
    message(g.finish())
}

#[test]
fn calls_that_cannot_be_written_down_are_refused() {
    let text = malformed(|call| call.target.clear());
    assert!(
        text.contains("`custom_call` of an op without a name"),
        "{text}"
    );
    let text = malformed(|call| call.results.clear());
    assert!(text.contains("`custom/any`, which has no result"), "{text}");
    let text = malformed(|call| call.results[0] = TensorType::new(DType::F64, [-1]));
    assert!(
        text.contains("a result of custom op `custom/any`: "),
        "{text}"
    );
    let text = malformed(|call| call.attributes = CallAttributes::of(&[("target", "x")]));
    assert!(text.contains("`target` is the node's own"), "{text}");
}

#[test]
fn the_text_refuses_what_is_no_call() {
    let text = |attributes: &str| {
        format!(
            "kiln 1\ngraph @m(%x: f64[2]) {{\n  %0: f64[2] = custom_call %x {{{attributes}}}\n  %1: f64[2] = part %0 {{index = [0]}}\n  return %1\n}}\n"
        )
    };
    for (attributes, expected) in [
        (
            "results = (f64[2])",
            "attribute `target`: expected a quoted text",
        ),
        (
            "target = \"t\"",
            "attribute `results`: expected a list of types",
        ),
        (
            "target = \"t\", results = [2]",
            "attribute `results`: expected a list of types",
        ),
        (
            "target = \"t\", results = (f64[2], [3])",
            "expected a type such as",
        ),
        (
            "target = \"t\", results = (f64[2] f64[2])",
            "expected `,` or `)`",
        ),
        (
            "target = \"t\", by = 0.5, results = (f64[2])",
            "attribute `by`: expected a quoted text",
        ),
        ("target = \"t\", results = ()", "which has no result"),
        (
            "target = \"t\", results = (f64[3])",
            "the type is f64[2], but `custom_call` gives f64[3]",
        ),
    ] {
        let parsed = Graph::parse(&text(attributes)).map_err(|e| e.to_string());
        let verified = parsed.and_then(|graph| verify(&graph).map_err(|e| e.to_string()));
        let found = verified.expect_err(attributes);
        assert!(found.contains(expected), "{attributes}: {found}");
    }
    let types = Value::Types(vec![TensorType::new(DType::F64, [2])]);
    assert_eq!(types.to_string(), "(f64[2])");
}

#[test]
fn a_call_can_be_made_by_hand() {
    let tensor = |shape: &[usize], dtype| CallTensor {
        dtype,
        shape: shape.to_vec(),
    };
    let inputs = [tensor(&[1, 2], DType::F64)];
    let outputs = [tensor(&[2, 2], DType::F64), tensor(&[], DType::I64)];
    let attributes = CallAttributes::of(&[("by", "2")]);
    // Words, so that any element may begin there.
    let x = [1.0_f64.to_bits(), 3.0_f64.to_bits()];
    let bytes = |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|w| w.to_ne_bytes()).collect() };
    assert_eq!(bytes(&x).len(), 16);
    let read = |_: usize| None;
    let mut take = |_: usize| None;
    let call = Call::new(&attributes, &inputs, &outputs, &read, &mut take);
    let said = call.run(&Repeat);
    assert_eq!(said, Err("input 0 has no memory".into()));
}
