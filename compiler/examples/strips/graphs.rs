//! The workloads as graphs over `n` elements or rows.

use super::rivals;
use kiln_ir::ops::ReduceKind;
use kiln_ir::{Builder, DType, Graph, Init, Tensor, grad};

/// Something to measure.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) graph: fn() -> Graph,
    /// Inputs, residents and outputs, in this order, and `n`.
    pub(crate) rival: unsafe fn(&[*mut f32], usize),
    /// Elements of one of the `n`.
    pub(crate) elements: usize,
    /// Bytes of one of the `n`, all buffers together.
    pub(crate) bytes: usize,
}

/// The columns of a softmax.
pub(crate) const SOFTMAX: usize = 1024;
/// The columns of a layer norm, and of a column sum.
pub(crate) const NORM: usize = 768;

pub(crate) const WORKLOADS: [Workload; 10] = [
    Workload {
        name: "exp",
        graph: || map(|x| x.exp()),
        rival: rivals::exp,
        elements: 1,
        bytes: 8,
    },
    Workload {
        name: "gelu",
        graph: || map(|x| x * 0.5 * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0)),
        rival: rivals::gelu,
        elements: 1,
        bytes: 8,
    },
    Workload {
        name: "softmax",
        graph: softmax,
        rival: rivals::softmax,
        elements: SOFTMAX,
        bytes: 8 * SOFTMAX,
    },
    Workload {
        name: "layernorm",
        graph: layernorm,
        rival: rivals::layernorm,
        elements: NORM,
        bytes: 8 * NORM,
    },
    Workload {
        name: "norm_back",
        graph: norm_back,
        rival: rivals::norm_back,
        elements: NORM,
        bytes: 12 * NORM,
    },
    Workload {
        name: "adam",
        graph: adam,
        rival: rivals::adam,
        elements: 1,
        bytes: 16,
    },
    Workload {
        name: "add",
        graph: || zip(|x, y| x + y),
        rival: rivals::add,
        elements: 1,
        bytes: 12,
    },
    Workload {
        name: "axpby",
        graph: || zip(|x, y| x * 0.9 + y * 0.1),
        rival: rivals::axpby,
        elements: 1,
        bytes: 12,
    },
    Workload {
        name: "columns",
        graph: || columns(NORM),
        rival: rivals::columns,
        elements: NORM,
        bytes: 4 * NORM,
    },
    Workload {
        name: "columns512",
        graph: || columns(512),
        rival: rivals::columns512,
        elements: 512,
        bytes: 4 * 512,
    },
];

fn map(f: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g>) -> Graph {
    let g = Builder::new("map");
    let x = g.input("x", DType::F32, (g.dim("n"),));
    g.output("y", f(x));
    g.finish().unwrap()
}

fn zip(f: impl for<'g> Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>) -> Graph {
    let g = Builder::new("zip");
    let x = g.input("x", DType::F32, (g.dim("n"),));
    let y = g.input("y", DType::F32, (g.dim("n"),));
    g.output("z", f(x, y));
    g.finish().unwrap()
}

/// A number for each row, over its columns.
fn spread<'g>(g: &'g Builder, rows: Tensor<'g>, columns: usize) -> Tensor<'g> {
    let columns = columns as i64;
    rows.reshape((g.dim("n"), 1))
        .broadcast_to((g.dim("n"), columns))
}

fn softmax() -> Graph {
    let g = Builder::new("softmax");
    let x = g.input("x", DType::F32, (g.dim("n"), SOFTMAX as i64));
    let max = x.reduce(ReduceKind::Max, &[1]);
    let e = (x - spread(&g, max, SOFTMAX)).exp();
    let sum = e.reduce(ReduceKind::Sum, &[1]);
    g.output("y", e / spread(&g, sum, SOFTMAX));
    g.finish().unwrap()
}

fn normalised<'g>(g: &'g Builder, x: Tensor<'g>) -> Tensor<'g> {
    let scale = 1.0 / NORM as f64;
    let mean = x.reduce(ReduceKind::Sum, &[1]) * scale;
    let centred = x - spread(g, mean, NORM);
    let variance = centred.square().reduce(ReduceKind::Sum, &[1]) * scale;
    centred * spread(g, (variance + 1e-5).rsqrt(), NORM)
}

fn row<'g>(g: &'g Builder, v: Tensor<'g>) -> Tensor<'g> {
    v.reshape((1, NORM as i64))
        .broadcast_to((g.dim("n"), NORM as i64))
}

fn layernorm() -> Graph {
    let g = Builder::new("layernorm");
    let x = g.input("x", DType::F32, (g.dim("n"), NORM as i64));
    let gamma = g.param("gamma", (NORM as i64,), Init::zeros());
    let beta = g.param("beta", (NORM as i64,), Init::zeros());
    g.output("y", normalised(&g, x) * row(&g, gamma) + row(&g, beta));
    g.finish().unwrap()
}

/// The gradient by the rows, of a layer norm whose output has a given cotangent.
fn norm_back() -> Graph {
    let g = Builder::new("norm_back");
    let x = g.input("x", DType::F32, (g.dim("n"), NORM as i64));
    let dy = g.input("dy", DType::F32, (g.dim("n"), NORM as i64));
    let gamma = g.param("gamma", (NORM as i64,), Init::zeros());
    let y = normalised(&g, x) * row(&g, gamma);
    let gradients = grad((y * dy).sum(), &[x]);
    g.output("dx", gradients[0]);
    g.finish().unwrap()
}

fn adam() -> Graph {
    let g = Builder::new("adam");
    let d = g.input("d", DType::F32, (g.dim("n"),));
    let p = g.param("p", (g.dim("n"),), Init::zeros());
    let m = g.param("m", (g.dim("n"),), Init::zeros());
    let v = g.param("v", (g.dim("n"),), Init::zeros());
    let next_m = m * 0.9 + d * 0.1;
    let next_v = v * 0.999 + d.square() * 0.001;
    g.update(m, next_m);
    g.update(v, next_v);
    g.update(p, p - next_m * 1e-3 / (next_v.sqrt() * 1.5 + 1e-8));
    g.finish().unwrap()
}

fn columns(columns: usize) -> Graph {
    let g = Builder::new("columns");
    let x = g.input("x", DType::F32, (g.dim("n"), columns as i64));
    g.output("y", x.reduce(ReduceKind::Sum, &[0]));
    g.finish().unwrap()
}
