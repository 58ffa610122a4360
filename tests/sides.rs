//! Reductions over rows that a kernel of rows folds in blocks on the side: the same bits as two passes over memory, for any number of
//! rows and threads, and a buffer of their own for the blocks.

mod common;

use common::Numbers;
use common::compare::bits_differ;
use common::data::{Fed, Kind, random};
use common::jit::{Results, VARIANTS, Variant, executable, inputs, program, session, step};
use kiln_ir::program::{Home, Program};
use kiln_ir::{Bindings, Builder, DType, Dim, Graph, Init, ReduceKind, Tensor, grad};

const FUSED: Variant = VARIANTS[1];
const UNFUSED: Variant = VARIANTS[2];

/// One block, whole blocks, one row more and less, and more blocks than a block has rows.
const ROWS: [i64; 8] = [0, 1, 127, 128, 129, 256, 1000, 128 * 130 + 5];

fn shape_of(tensor: Tensor<'_>) -> Vec<Dim> {
    tensor.ty().unwrap().shape.iter().cloned().collect()
}

/// A value for each row, over its columns.
fn spread<'g>(rows: Tensor<'g>, like: Tensor<'g>) -> Tensor<'g> {
    let shape: Vec<Dim> = shape_of(like);
    let mut column = shape.clone();
    if let Some(last) = column.last_mut() {
        *last = Dim::from(1);
    }
    rows.reshape(column).broadcast_to(shape)
}

/// A value for each column, over all rows.
fn across<'g>(columns: Tensor<'g>, like: Tensor<'g>) -> Tensor<'g> {
    let shape: Vec<Dim> = shape_of(like);
    let mut row = vec![Dim::from(1); shape.len()];
    row[shape.len() - 1] = shape[shape.len() - 1].clone();
    columns.reshape(row).broadcast_to(shape)
}

/// The backward step of a layer norm over rows of so many columns, with an update of `gamma` and the gradient of `beta` as an output.
fn layer_norm(rows: &[Dim], columns: i64) -> Graph {
    let g = Builder::new("layer_norm");
    let shape = [rows, &[Dim::from(columns)]].concat();
    let x = g.input("x", DType::F32, shape.clone());
    let dy = g.input("dy", DType::F32, shape);
    let gamma = g.param("gamma", (columns,), Init::uniform(1.0));
    let beta = g.param("beta", (columns,), Init::zeros());
    let (last, mean) = (rows.len(), 1.0 / columns as f64);
    let centred = x - spread(x.reduce(ReduceKind::Sum, &[last]) * mean, x);
    let variance = centred.square().reduce(ReduceKind::Sum, &[last]) * mean;
    let scale = (variance + 1e-5).rsqrt();
    let y = centred * spread(scale, x) * across(gamma, x) + across(beta, x);
    let gradients = grad((y * dy).sum(), &[x, gamma, beta]);
    g.output("dx", gradients[0]);
    g.output("dbeta", gradients[2]);
    g.update(gamma, gamma - gradients[1] * 0.1);
    g.finish().unwrap()
}

/// Every kind of reduction over the rows beside one over the columns.
fn kinds(dtype: DType) -> Graph {
    let g = Builder::new("kinds");
    let shape = (g.dim("b"), 19);
    let (x, y) = (
        g.input("x", dtype, shape.clone()),
        g.input("y", dtype, shape),
    );
    let kinds: &[ReduceKind] = if dtype == DType::Bool {
        &[ReduceKind::Any, ReduceKind::All]
    } else {
        &[
            ReduceKind::Sum,
            ReduceKind::Prod,
            ReduceKind::Max,
            ReduceKind::Min,
        ]
    };
    let total = x.reduce(kinds[0], &[1]);
    let total = spread(total, x);
    let (rows, both) = if dtype == DType::Bool {
        (y.and(total), x.or(y))
    } else {
        (y * total, x * y)
    };
    g.output("rows", rows);
    for (i, kind) in kinds.iter().enumerate() {
        g.output(&format!("kind{i}"), both.reduce(*kind, &[0]));
    }
    g.finish().unwrap()
}

/// A map that is stored, and its sum over the rows: the gradients of an activation and of the bias before it.
fn map() -> Graph {
    let g = Builder::new("map");
    let shape = (g.dim("b"), 300);
    let x = g.input("x", DType::F32, shape.clone());
    let dy = g.input("dy", DType::F32, shape);
    let dx = (dy * 0.0).where_(x.le(0.0), dy);
    g.output("dx", dx);
    g.output("db", dx.reduce(ReduceKind::Sum, &[0]));
    g.finish().unwrap()
}

/// The values of a step's inputs. Rows of negative zeros have a sum that is +0 in the definition.
fn feeds(graph: &Graph, bindings: &Bindings, kind: Kind) -> Vec<Fed> {
    let mut numbers = Numbers::new(7);
    let fed = inputs(graph).map(|slot| {
        let ty = &graph.node(slot.node).unwrap().ty;
        let shape = ty.shape.iter().map(|d| d.eval_size(bindings).unwrap());
        let shape: Vec<usize> = shape.collect();
        Fed::new(&random(&mut numbers, ty.dtype, &shape, kind), false)
    });
    fed.collect()
}

fn assert_same(name: &str, expected: &Results, found: &Results) {
    let pairs = expected.outputs.iter().zip(&found.outputs);
    for (e, f) in pairs.chain(expected.states.iter().zip(&found.states)) {
        if let Some(why) = bits_differ(e, f) {
            panic!("{name}: {why}");
        }
    }
}

/// The buffers of blocks.
fn blocks(program: &Program) -> usize {
    let blocks = program.buffers.iter();
    blocks.filter(|b| b.name.starts_with("blocks of")).count()
}

/// Fused and unfused, on several threads, for every number of rows.
fn check(graph: &Graph, sides: usize, rows: &[Bindings]) {
    assert_eq!(blocks(&program(graph)), sides, "{}", program(graph));
    let [fused, unfused] = [FUSED, UNFUSED].map(|v| executable(graph, v).unwrap());
    for bindings in rows {
        for kind in [Kind::Plain, Kind::Odd, Kind::Ties] {
            let fed = feeds(graph, bindings, kind);
            let expected = step(&mut session(&unfused, 1), &fed).unwrap();
            for threads in [1, 2, 3] {
                let mut session = session(&fused, threads);
                let found = step(&mut session, &fed).unwrap();
                let name = format!("{} on {threads} threads of {bindings:?}", graph.name);
                assert_same(&name, &expected, &found);
            }
        }
    }
}

fn batches() -> Vec<Bindings> {
    ROWS.iter().map(|b| Bindings::from([("b", *b)])).collect()
}

#[test]
fn a_layer_norm_of_any_batch() {
    let b = Dim::symbol("b");
    for columns in [1_i64, 5, 16, 70] {
        // A column alone is no column.
        let sides = if columns == 1 { 0 } else { 2 };
        check(
            &layer_norm(std::slice::from_ref(&b), columns),
            sides,
            &batches(),
        );
    }
}

#[test]
fn rows_of_two_axes() {
    let graph = layer_norm(&[Dim::symbol("b"), Dim::symbol("t")], 33);
    let sizes = [(0, 3), (1, 1), (3, 43), (7, 129), (300, 57)];
    let rows = sizes.map(|(b, t)| Bindings::from([("b", b), ("t", t)]));
    check(&graph, 2, &rows);
    check(
        &layer_norm(&[Dim::from(9), Dim::from(111)], 33),
        2,
        &[Bindings::new()],
    );
}

#[test]
fn constant_rows_pay_from_two_blocks() {
    for (rows, sides) in [
        (1, 0),
        (127, 0),
        (128, 0),
        (129, 0),
        (255, 0),
        (256, 2),
        (1000, 2),
    ] {
        check(
            &layer_norm(&[Dim::from(rows)], 24),
            sides,
            &[Bindings::new()],
        );
    }
}

#[test]
fn every_kind_in_every_type() {
    let dtypes = [
        DType::F32,
        DType::F64,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U32,
        DType::U64,
    ];
    for dtype in dtypes {
        check(&kinds(dtype), 4, &batches());
    }
    check(&kinds(DType::Bool), 2, &batches());
}

#[test]
fn a_map_is_cut_into_rows_for_its_sum() {
    check(&map(), 1, &batches());
}

#[test]
fn too_many_columns_take_two_passes() {
    let b = Dim::symbol("b");
    let wide = program(&layer_norm(std::slice::from_ref(&b), 1 << 14));
    assert_eq!(blocks(&wide), 0, "{wide}");
}

#[test]
fn the_epilogue_of_a_product_is_left_alone() {
    let g = Builder::new("epilogue");
    let x = g.input("x", DType::F32, (g.dim("b"), 64));
    let w = g.param("w", (64, 300), Init::uniform(0.1));
    let y = x.dot(w);
    let positive = y.maximum(y * 0.0);
    g.output("y", positive);
    g.output("sum", positive.reduce(ReduceKind::Sum, &[0]));
    let program = program(&g.finish().unwrap());
    assert_eq!(blocks(&program), 0, "{program}");
}

/// Whatever else a launch does in place, blocks have a buffer of their own from the launch that writes them to the one that reads them.
#[test]
fn blocks_are_never_shared() {
    let program = program(&layer_norm(&[Dim::symbol("b")], 70));
    let of_blocks = |name: &str| name.starts_with("blocks of");
    let mut touched = 0;
    for (position, buffer) in program.buffers.iter().enumerate() {
        if !of_blocks(&buffer.name) {
            continue;
        }
        let Home::Arena(live) = &buffer.home else {
            panic!("{program}");
        };
        let touches = |at: &usize| {
            let buffers = program.steps[*at].buffers();
            buffers.into_iter().any(|id| id.index() == position)
        };
        let steps: Vec<usize> = (0..program.steps.len()).filter(touches).collect();
        assert_eq!(steps, [live.first, live.last], "{program}");
        assert_ne!(live.first, live.last, "{program}");
        touched += 1;
    }
    assert_eq!(touched, 2, "{program}");
}
