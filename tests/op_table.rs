//! The table of ops in `docs/ops.md`: made here by asking the code, and compared with the page.
//!
//! Element types are those that an op's shape rule takes, gradients are built, and names of ONNX are read from an exported model. After a
//! change: `UPDATE_DOCS=1 cargo test --test op_table`, and read the difference.

mod common;

use common::custom::register_all;
use common::ops::{COMPOUND, Case, cases};
use kiln::interop::onnx::{ExportOptions, Model, export};
use kiln::ir::ops::Op;
use kiln::ir::{ScanOptions, Value, Yield};
use kiln::{Builder, DType, Graph, Tensor, TensorType, grad};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

const HEAD: &str = "| op | element types | vjp | second order | ONNX |\n|---|---|---|---|---|\n";

/// The name of an op, with its kind where it has one: `exp`, `reduce sum`.
fn called(op: &Op) -> String {
    let attributes = op.rules().attributes();
    let kind = attributes.iter().find(|(name, _)| *name == "kind");
    match kind {
        Some((_, Value::Word(kind))) => format!("{} {kind}", op.rules().name()),
        Some(_) | None => op.rules().name().to_owned(),
    }
}

/// A use of an op: what it makes of its operands.
enum Use {
    Case(Case),
    /// A compound op, by its name, which takes one tensor.
    Compound(&'static str, TensorType),
}

impl Use {
    fn operands(&self) -> &[TensorType] {
        match self {
            Use::Case(case) => &case.operands,
            Use::Compound(_, ty) => std::slice::from_ref(ty),
        }
    }

    fn apply<'g>(&self, g: &'g Builder, operands: &[Tensor<'g>]) -> Tensor<'g> {
        let x = operands.first().copied();
        match (self, x) {
            (Use::Case(case), first) => match (&case.op, first) {
                (Op::Source(source), _) => g.input("source", source.ty.dtype, &source.ty.shape),
                (op, _) => g.push(op.clone(), operands),
            },
            (Use::Compound("scan", _), Some(x)) => {
                let options = ScanOptions::default();
                let scanned = g.scan(&options, &[], &[x], |it| {
                    Yield::new(&[], &[it.entry(0).reverse(&[0])])
                });
                scanned.stacked[0]
            }
            (Use::Compound("while", _), Some(x)) => g.while_loop(
                &[x],
                |it| it.builder().splat(DType::Bool, (), 0.0),
                |it| vec![it.carry(0).reverse(&[0])],
            )[0],
            (Use::Compound("cond", _), Some(x)) => {
                let condition = g.input("condition", DType::Bool, ());
                g.cond(condition, |_| vec![x.reverse(&[0])], |_| vec![x])[0]
            }
            (Use::Compound("custom_call", _), Some(x)) => {
                let [y] = g.custom_call("tests/scale", &[], &[x, x]);
                y
            }
            (Use::Compound(name, _), _) => panic!("{name} is no compound op of this table"),
        }
    }

    /// The use alone, with its operands as inputs, and what `behind` makes of operands and result as output.
    fn graph(
        &self,
        behind: impl for<'g> FnOnce(&[Tensor<'g>], Tensor<'g>) -> Tensor<'g>,
    ) -> Option<Graph> {
        let g = Builder::new("op");
        // Binds the symbol also where no operand has it.
        g.input("b", DType::F32, (g.dim("b"),));
        let operands: Vec<Tensor<'_>> = (self.operands().iter().enumerate())
            .map(|(i, ty)| g.input(&format!("x{i}"), ty.dtype, &ty.shape))
            .collect();
        let result = self.apply(&g, &operands);
        g.output("y", behind(&operands, result));
        g.finish().ok()
    }

    /// Whether there is a gradient of an order by operand number `position`. What lies behind the result is curved, so that a linear op has a
    /// second order too.
    fn has_gradient(&self, position: usize, order: usize) -> bool {
        let floats = self.operands()[position].dtype.is_float();
        let graph = self.graph(|operands, result| {
            let mut loss = (result * result * result).sum();
            for _ in 1..order {
                loss = grad(loss, &[operands[position]])[0].square().sum();
            }
            grad(loss, &[operands[position]])[0]
        });
        floats && graph.is_some()
    }
}

/// The uses of an op on an element type that its shape rule takes.
fn uses(op: &Op, dtype: DType) -> Vec<Use> {
    let name = op.rules().name();
    if let Some(compound) = COMPOUND.iter().find(|c| **c == name) {
        let ty = TensorType::new(dtype, [3, 2]);
        let one = Use::Compound(compound, ty);
        return match one.graph(|_, result| result) {
            Some(_) => vec![one],
            None => Vec::new(),
        };
    }
    let taken = |case: &Case| {
        let types: Vec<&TensorType> = case.operands.iter().collect();
        case.op.rules().infer(&types).is_ok()
    };
    let all = cases(op, dtype).into_iter().filter(taken);
    all.map(Use::Case).collect()
}

/// The name of the family of an element type.
fn family(dtype: DType) -> &'static str {
    if dtype.is_float() {
        "floats"
    } else if dtype == DType::Bool {
        "bool"
    } else {
        "integers"
    }
}

/// Element types in few words.
fn words(types: &[DType]) -> String {
    if types.len() == DType::ALL.len() {
        return "all".into();
    }
    let mut found = Vec::new();
    for name in ["floats", "integers", "bool"] {
        let belongs = |dtype: &DType| family(*dtype) == name;
        let all: Vec<DType> = DType::ALL.into_iter().filter(belongs).collect();
        let some: Vec<DType> = types.iter().copied().filter(belongs).collect();
        if some == all {
            found.push(name.to_owned());
        } else {
            found.extend(some.iter().map(DType::to_string));
        }
    }
    found.join(", ")
}

/// The operators of ONNX that the plainest use is written as.
fn operators(uses: &[Use]) -> Option<Vec<String>> {
    let written = uses.iter().filter_map(|one| {
        let graph = one.graph(|_, result| result)?;
        let bytes = export(&graph, [], &ExportOptions::default()).ok()?;
        let model = Model::from_bytes("op", bytes).ok()?;
        // Copies under another name, and uses that are nothing else, say nothing of the op.
        let names = model.operators().into_iter().filter(|n| *n != "Identity");
        let names: Vec<String> = names.map(str::to_owned).collect();
        (!names.is_empty()).then_some(names)
    });
    written.min_by_key(|names: &Vec<String>| (names.len(), names.clone()))
}

fn row(op: &Op) -> String {
    let name = called(op);
    if name == "part" {
        return format!(
            "| `{name}` | those of the op whose result it is | as that op | as that op | |\n"
        );
    }
    let all: Vec<(DType, Vec<Use>)> = DType::ALL.map(|d| (d, uses(op, d))).into();
    let taken: Vec<DType> = all
        .iter()
        .filter(|(_, uses)| !uses.is_empty())
        .map(|(dtype, _)| *dtype)
        .collect();
    let types = match name.as_str() {
        "custom_call" => "those of the user's op".into(),
        _ => words(&taken),
    };
    let of = |dtype: DType| {
        all.iter()
            .find(|(d, _)| *d == dtype)
            .map_or(&[][..], |(_, u)| u)
    };
    let gradient = |order: usize| {
        let mut uses = of(DType::F32).iter();
        let found = uses
            .any(|one| (0..one.operands().len()).any(|position| one.has_gradient(position, order)));
        match (found, name.as_str()) {
            (true, "custom_call") => "the user's",
            (true, _) => "yes",
            (false, _) => "no",
        }
    };
    let preferred = [DType::F32, DType::I64, DType::U32, DType::Bool];
    let names = preferred.iter().find_map(|dtype| operators(of(*dtype)));
    let names = match (names, op) {
        (_, Op::Source(_)) => "an input or initializer".into(),
        (_, Op::Constant(_)) => "an initializer".into(),
        (_, Op::StopGradient(_) | Op::Require(_)) => "`Identity`".into(),
        (_, Op::CustomCall(_)) => "refused".into(),
        (Some(names), _) => {
            let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
            quoted.join(", ")
        }
        (None, _) => "refused".into(),
    };
    let (first, second) = (gradient(1), gradient(2));
    format!("| `{name}` | {types} | {first} | {second} | {names} |\n")
}

fn table() -> String {
    register_all();
    let mut text = HEAD.to_owned();
    let mut seen = BTreeSet::new();
    for op in Op::representatives() {
        if seen.insert(called(&op)) {
            // Writing to a `String` does not fail.
            let _infallible = write!(text, "{}", row(&op));
        }
    }
    text
}

#[test]
fn the_documentation_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ops.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (above, _) = page.split_once(HEAD).expect("the page has a table");
    let made = format!("{above}{HEAD}{}", &table()[HEAD.len()..]);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).expect("it is written");
        return;
    }
    for (line, (found, expected)) in page.lines().zip(made.lines()).enumerate() {
        let line = line + 1;
        assert_eq!(
            found, expected,
            "docs/ops.md:{line} is not what the code says; `UPDATE_DOCS=1 cargo test --test op_table` writes it anew"
        );
    }
    assert_eq!(page, made, "docs/ops.md has lines too many or too few");
}
