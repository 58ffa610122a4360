//! Compilations with and without strips: the same bits, and nothing that worked in place no longer does.

use kiln_compiler::kernel::STRIP;
use kiln_compiler::math::wide::Width;
use kiln_compiler::{Compiled, FullWidth, Options, Stage, compile, stage_text};
use kiln_ir::ops::ReduceKind;
use kiln_ir::program::{Code, Home, Launch, Step};
use kiln_ir::{Bindings, Builder, DType, Graph, Init, OutOfRange, Symbol, Tensor};

/// Numbers in `-4..4` that differ from buffer to buffer.
fn number(buffer: usize, element: usize) -> f32 {
    let mixed = (element * 7919 + buffer * 104_729 + 13) % 8191;
    mixed as f32 / 1024.0 - 4.0
}

/// Runs the steps of a program, cut into ranges at `cut`, and gives the bytes of outputs and residents.
fn run(compiled: &Compiled, n: usize, cut: Option<i64>) -> Vec<Vec<u32>> {
    let mut bindings = Bindings::new();
    bindings.insert(Symbol::new("n"), n as i64);
    let program = &compiled.program;
    let mut memory: Vec<Vec<u32>> = Vec::new();
    for (number_of, buffer) in program.buffers.iter().enumerate() {
        let elements = buffer.bytes(&bindings).unwrap().div_ceil(4);
        let given = matches!(buffer.home, Home::Input | Home::Resident);
        let position = program
            .inputs
            .iter()
            .map(|p| p.buffer)
            .chain(program.residents.iter().map(|r| r.buffer))
            .position(|b| b.index() == number_of);
        let value = |i| match position {
            Some(p) if given => number(p, i).to_bits(),
            Some(_) | None => 0x7fc0_dead,
        };
        memory.push((0..elements).map(value).collect());
    }
    for step in &program.steps {
        let Step::Kernel(parts) = step else {
            panic!("only kernels here");
        };
        for launch in parts {
            launch_kernel(compiled, launch, &bindings, cut, &mut memory);
        }
    }
    let outputs = program.outputs.iter().map(|p| p.buffer);
    let kept = outputs.chain(program.residents.iter().map(|r| r.buffer));
    kept.map(|b| memory[b.index()].clone()).collect()
}

fn launch_kernel(
    compiled: &Compiled,
    launch: &Launch,
    bindings: &Bindings,
    cut: Option<i64>,
    memory: &mut [Vec<u32>],
) {
    let pointers: Vec<*mut u8> = launch
        .arguments
        .iter()
        .map(|b| memory[b.index()].as_mut_ptr().cast())
        .collect();
    let sizes: Vec<i64> = launch
        .sizes
        .iter()
        .map(|d| d.eval(bindings).unwrap())
        .collect();
    let total = launch.total.eval(bindings).unwrap();
    let grain = launch.grain as i64;
    let middle = cut.map_or(total, |c| (c.min(total) / grain * grain).max(0));
    for range in [0..middle, middle..total] {
        let entry = compiled.code.entry(launch.kernel).unwrap();
        // SAFETY: the memory has the sizes of the program under the bindings.
        unsafe {
            entry(
                pointers.as_ptr(),
                sizes.as_ptr(),
                range.start,
                range.end,
                compiled.code.helpers(),
            );
        }
    }
}

fn with(full_width: FullWidth, fuse: bool) -> Options {
    Options {
        full_width,
        fuse,
        ..Options::default()
    }
}

/// The graph gives the same bits with strips and without, however it is cut, and takes as many steps and buffers.
fn same(name: &str, graph: &Graph, pays: bool) {
    let kernels = stage_text(graph, Stage::Kernels, &with(FullWidth::Strips, true)).unwrap();
    let has = kernels.contains("strips");
    assert_eq!(has, pays && Width::native().is_full(), "{name}:\n{kernels}");
    for fuse in [true, false] {
        let strips = compile(graph, &with(FullWidth::Strips, fuse)).unwrap();
        let always = compile(graph, &with(FullWidth::Always, fuse)).unwrap();
        let inline = compile(graph, &with(FullWidth::Never, fuse)).unwrap();
        assert_eq!(
            strips.program.steps.len(),
            inline.program.steps.len(),
            "{name}"
        );
        let shared = |c: &Compiled| {
            let buffers = c.program.buffers.iter();
            buffers.filter(|b| !matches!(b.home, Home::Scratch)).count()
        };
        assert_eq!(
            shared(&strips),
            shared(&inline),
            "{name}: less is done in place"
        );
        let strip = STRIP as usize;
        for n in [0, 1, 3, 17, 64, strip - 1, strip, strip + 1, 2 * strip + 6] {
            let expected = run(&inline, n, None);
            for cut in [None, Some(1), Some(64), Some(strip as i64 + 70)] {
                assert_eq!(run(&always, n, cut), expected, "{name} of {n} at {cut:?}");
                assert_eq!(
                    run(&strips, n, cut),
                    expected,
                    "{name} of {n} at {cut:?}\n{kernels}"
                );
            }
        }
    }
}

fn map(f: impl for<'g> Fn(&'g Builder, Tensor<'g>) -> Tensor<'g>) -> Graph {
    let g = Builder::new("map");
    let x = g.input("x", DType::F32, (g.dim("n"),));
    g.output("y", f(&g, x));
    g.finish().unwrap()
}

#[test]
fn maps() {
    same("exp", &map(|_, x| x.exp()), true);
    same("gelu", &map(|_, x| x * 0.5 * ((x * 0.7).erf() + 1.0)), true);
    same(
        "twice",
        &map(|_, x| (x.exp() + x).tanh() / (x.sqrt() + x.exp())),
        true,
    );
    same("itself", &map(|_, x| x.exp().exp() * x.exp().log()), true);
    same(
        "power",
        &map(|_, x| (x.abs() + 1.0).pow(x.sin()).pow(1.5)),
        true,
    );
    same(
        "chosen",
        &map(|_, x| x.exp().where_(x.le(0.0), x.tanh())),
        true,
    );
    same("divided", &map(|_, x| x.exp() / 3.0 + 2.0 / x), true);
    same("plain", &map(|_, x| (x + 1.0).sqrt() * 0.5), false);
}

#[test]
fn several_results_and_updates_in_place() {
    let g = Builder::new("step");
    let x = g.input("x", DType::F32, (g.dim("n"),));
    let p = g.param("p", (g.dim("n"),), Init::zeros());
    let e = (x * p).exp();
    g.output("e", e);
    g.output("same", e);
    g.output("t", e.tanh() + p);
    g.update(p, p - e.log() * 0.1);
    same("step", &g.finish().unwrap(), true);
}

#[test]
fn an_update_that_is_a_function_itself() {
    let g = Builder::new("decay");
    let p = g.param("p", (g.dim("n"),), Init::zeros());
    g.update(p, p.tanh());
    same("decay", &g.finish().unwrap(), true);
}

fn over<'g>(g: &'g Builder, rows: Tensor<'g>, columns: i64) -> Tensor<'g> {
    rows.reshape((g.dim("n"), 1))
        .broadcast_to((g.dim("n"), columns))
}

fn softmax(columns: i64) -> Graph {
    let g = Builder::new("softmax");
    let x = g.input("x", DType::F32, (g.dim("n"), columns));
    let e = (x - over(&g, x.reduce(ReduceKind::Max, &[1]), columns)).exp();
    let sum = e.reduce(ReduceKind::Sum, &[1]);
    let y = e / over(&g, sum, columns);
    g.output("y", y);
    g.output("entropy", (y.log() * y).reduce(ReduceKind::Sum, &[1]));
    g.finish().unwrap()
}

#[test]
fn rows() {
    for (columns, pays) in [(10, false), (64, true), (100, true), (700, true)] {
        same("softmax", &softmax(columns), pays);
    }
}

#[test]
fn doubles() {
    let g = Builder::new("doubles");
    let x = g.input("x", DType::F32, (g.dim("n"),)).convert(DType::F64);
    g.output("y", (x.exp() + x.cos()).convert(DType::F32));
    same("doubles", &g.finish().unwrap(), true);
}

#[test]
fn scattered_operands() {
    let g = Builder::new("moved");
    let x = g.input("x", DType::F32, (100, g.dim("n")));
    g.output("t", x.transpose(&[1, 0]).exp());
    g.output("r", x.reverse(&[0]).tanh());
    same("moved", &g.finish().unwrap(), true);
}

/// The place of an element is computed in an earlier phase than the last, under another name.
#[test]
fn gathered_operands() {
    let g = Builder::new("gathered");
    let table = g.input("table", DType::F32, (7, 17));
    let rows = (g.input("rows", DType::F32, (g.dim("n"),)) * 3.0).convert(DType::I32);
    let gathered = table.gather(0, rows, OutOfRange::Clamp);
    g.output("s", gathered.tanh().sum());
    same("gathered", &g.finish().unwrap(), true);
}
