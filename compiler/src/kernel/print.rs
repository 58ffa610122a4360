//! The text of kernels: one statement a line, loops as blocks. It is for people and snapshots and is never parsed.

use super::{
    Accumulator, Apply, Atom, Element, Expr, Fold, Function, Index, Kernel, Loop, LoopKind,
    Operand, SortRow, Stmt, ValueId,
};
use kiln_ir::Dim;
use kiln_ir::ops::{ReduceKind, Rules};
use std::fmt::{self, Formatter};

/// The spelling of an op in the text of graphs.
pub(crate) fn spell(op: &impl Rules) -> String {
    op.name().to_owned()
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}(", self.name)?;
        for (i, param) in self.params.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}p{i}: {} {}", param.access, param.dtype)?;
        }
        f.write_str(") {\n")?;
        body(f, self, &self.body, 1)?;
        f.write_str("}\n")
    }
}

impl fmt::Display for LoopKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoopKind::Grid => "grid",
            LoopKind::Lanes => "lanes",
            LoopKind::Serial => "serial",
            LoopKind::Strips => "strips",
        })
    }
}

fn body(f: &mut Formatter<'_>, kernel: &Kernel, stmts: &[Stmt], depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    for stmt in stmts {
        match stmt {
            Stmt::Let { value, expr } => {
                write!(f, "{indent}")?;
                typed(f, kernel, *value)?;
                writeln!(f, " = {expr}")?;
            }
            Stmt::Store {
                param,
                index,
                value,
                predicate,
            } => {
                write!(f, "{indent}store {param}[{index}] = {value}")?;
                condition(f, *predicate)?;
                f.write_str("\n")?;
            }
            Stmt::Loop(inner) => nested(f, kernel, inner, depth)?,
            Stmt::Apply(apply) => writeln!(f, "{indent}{apply}")?,
            Stmt::Sort(sort) => writeln!(f, "{indent}{sort}")?,
        }
    }
    Ok(())
}

fn nested(f: &mut Formatter<'_>, kernel: &Kernel, inner: &Loop, depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    writeln!(
        f,
        "{indent}{} {} < {} {{",
        inner.kind, inner.id, inner.extent
    )?;
    body(f, kernel, &inner.body, depth + 1)?;
    write!(f, "{indent}}}")?;
    for (i, accumulator) in inner.accumulators.iter().enumerate() {
        f.write_str(if i > 0 { ", " } else { " fold " })?;
        typed(f, kernel, accumulator.value)?;
        write!(f, " = {accumulator}")?;
    }
    f.write_str("\n")
}

fn typed(f: &mut Formatter<'_>, kernel: &Kernel, value: ValueId) -> fmt::Result {
    match kernel.values.get(value.index()) {
        Some(dtype) => write!(f, "{value}: {dtype}"),
        None => write!(f, "{value}: ?"),
    }
}

fn condition(f: &mut Formatter<'_>, predicate: Option<ValueId>) -> fmt::Result {
    match predicate {
        Some(predicate) => write!(f, " if {predicate}"),
        None => Ok(()),
    }
}

/// The spelling of a reduction.
pub(super) fn reduction(kind: ReduceKind) -> &'static str {
    kind.name()
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Function::Unary(op) => op.name(),
            Function::Binary(op) => op.name(),
        })
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.param, self.index)
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Element(element) => write!(f, "{element}"),
            Operand::Value(value) => write!(f, "{value}"),
        }
    }
}

impl fmt::Display for Apply {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "apply {}: {} = {}", self.id, self.target, self.function)?;
        for (i, operand) in self.operands.iter().enumerate() {
            write!(f, "{}{operand}", if i > 0 { ", " } else { " " })?;
        }
        for (i, element) in self.ahead.iter().enumerate() {
            write!(f, "{}{element}", if i > 0 { ", " } else { " ahead " })?;
        }
        Ok(())
    }
}

impl fmt::Display for SortRow {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = if self.positions { "argsort" } else { "sort" };
        let order = if self.descending { " descending" } else { "" };
        write!(
            f,
            "{what} {}[0..{}]{order} in {} to ",
            self.row, self.extent, self.room
        )?;
        write!(
            f,
            "{} by {}, {} of them",
            self.target, self.stride, self.count
        )
    }
}

impl fmt::Display for Accumulator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.fold {
            Fold::Reduce(kind) => write!(f, "{} {}", reduction(*kind), self.operand),
            Fold::ArgMax(position) => write!(f, "argmax {} at {position}", self.operand),
            Fold::ArgMin(position) => write!(f, "argmin {} at {position}", self.operand),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Load {
                param,
                index,
                predicate,
            } => {
                write!(f, "load {param}[{index}]")?;
                condition(f, *predicate)
            }
            Expr::Const(literal) => write!(f, "const {literal}"),
            Expr::Index(index) => write!(f, "index {index}"),
            Expr::Unary(op, a) => write!(f, "{} {a}", op.name()),
            Expr::Binary(op, a, b) => write!(f, "{} {a}, {b}", op.name()),
            Expr::Compare(op, a, b) => write!(f, "{} {a}, {b}", op.name()),
            Expr::Select(condition, yes, no) => write!(f, "select {condition}, {yes}, {no}"),
            Expr::Fma(a, b, c) => write!(f, "fma {a}, {b}, {c}"),
            Expr::Convert(a) => write!(f, "convert {a}"),
            Expr::Bitcast(a) => write!(f, "bitcast {a}"),
            Expr::Philox {
                key: [k0, k1],
                counter: [c0, c1],
                position,
            } => {
                write!(
                    f,
                    "philox key ({k0}, {k1}) counter ({c0}, {c1}) at {position}"
                )
            }
        }
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.terms().is_empty() {
            return write!(f, "{}", self.base());
        }
        for (i, (atom, c)) in self.terms().iter().enumerate() {
            match c.constant() {
                Some(c) if c < 0 => f.write_str(if i > 0 { " - " } else { "-" })?,
                Some(_) | None if i > 0 => f.write_str(" + ")?,
                Some(_) | None => {}
            }
            match c.constant() {
                Some(1 | -1) => {}
                Some(c) => write!(f, "{}*", c.unsigned_abs())?,
                None => {
                    factor(f, c)?;
                    f.write_str("*")?;
                }
            }
            write!(f, "{atom}")?;
        }
        match self.base().constant() {
            Some(0) => Ok(()),
            Some(c) if c < 0 => write!(f, " - {}", c.unsigned_abs()),
            Some(_) | None => write!(f, " + {}", self.base()),
        }
    }
}

/// A size, in parentheses where it is more than a name or a number.
fn factor(f: &mut Formatter<'_>, dim: &Dim) -> fmt::Result {
    if dim.constant().is_some() || dim.as_symbol().is_some() {
        write!(f, "{dim}")
    } else {
        write!(f, "({dim})")
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let division = |f: &mut Formatter<'_>, inner: &Index, word: &str, divisor: &Dim| {
            let single = inner.as_constant().is_some()
                || (inner.terms().len() == 1 && inner.base().constant() == Some(0));
            if single {
                write!(f, "({inner} {word} ")?;
            } else {
                write!(f, "(({inner}) {word} ")?;
            }
            factor(f, divisor)?;
            f.write_str(")")
        };
        match self {
            Atom::Loop(id) => write!(f, "{id}"),
            Atom::Value(id) => write!(f, "{id}"),
            Atom::FloorDiv(inner, divisor) => division(f, inner, "div", divisor),
            Atom::Mod(inner, divisor) => division(f, inner, "mod", divisor),
        }
    }
}
