//! A step of compiled code allocates nothing once its binding has been seen. The graph has no product, within which the `gemm` crate
//! allocates, and the file holds one test, so that nothing else runs while allocations are counted.

use kiln_compiler::{Options, compile};
use kiln_ir::ops::CumulativeKind;
use kiln_ir::program::Step;
use kiln_ir::{
    Builder, Call, CallAttributes, CallVjp, CustomOp, DType, Init, OutOfRange, ReduceKind,
    ScatterKind, Tensor, TensorType, grad, register,
};
use kiln_runtime::{Executable, Feed, Session, SessionOptions};
use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Half of its operand.
struct Half;

impl CustomOp for Half {
    fn name(&self) -> &str {
        "allocations/half"
    }

    fn infer(
        &self,
        _: &CallAttributes,
        operands: &[&TensorType],
    ) -> Result<Vec<TensorType>, String> {
        Ok(operands.iter().map(|ty| (*ty).clone()).collect())
    }

    fn evaluate(&self, call: &mut Call<'_>) -> Result<(), String> {
        let x = call.input::<f32>(0)?;
        for (to, x) in call.output::<f32>(0)?.iter_mut().zip(x) {
            *to = 0.5 * x;
        }
        Ok(())
    }

    fn vjp<'g>(&self, cx: &CallVjp<'g>) -> Option<Vec<Option<Tensor<'g>>>> {
        let cotangent = [cx.cotangent(0)];
        let [half] = cx
            .builder()
            .custom_call("allocations/half", &[], &cotangent);
        Some(vec![Some(half)])
    }
}

/// An embedding with a softmax, dropout, a custom op and a guard, trained with momentum: every kind of kernel, some in one launch, and no product.
fn executable() -> Executable {
    let g = Builder::new("embedding");
    let b = g.dim("b");
    let tokens = g.input("tokens", DType::I32, (b.clone(), 16));
    let step = g.state("step", DType::U32, [2], Init::zeros());
    let table = g.param("table", (50, 64), Init::normal(0.1));
    let rows = table.gather(0, tokens, OutOfRange::Fail);
    let key = g.constant([2], &[1u32, 2]);
    let kept = g.rng_bits(key, step, (b, 16, 64)).unit_f32().lt(0.9);
    let rows = rows.where_(kept, 0.0);
    register(Half).expect("its own name");
    let [rows] = g.custom_call("allocations/half", &[], &[rows]);
    let loss = rows.exp().reduce(ReduceKind::Sum, &[2]).log().mean();
    let loss = loss.require(loss.is_finite(), "the loss is not finite");
    let gradient = grad(loss, &[table])[0];
    let moment = g.state("moment", DType::F32, (50, 64), Init::zeros());
    let next = moment * 0.9 + gradient;
    g.update(moment, next);
    g.update(table, table - next);
    let one = g.constant([2], &[1u32, 0]);
    g.update(step, step + one);
    let counts = g.splat(DType::I32, [50], 0.0).scatter(
        ScatterKind::Add,
        0,
        tokens,
        g.splat(DType::I32, (g.dim("b"), 16), 1.0),
        OutOfRange::Skip,
    );
    g.output("loss", loss);
    g.output("most", counts.argmax(0));
    g.output("commonest", counts.top_k(5, 0).1);
    let ranks = g.state("ranks", DType::I32, (4, 50), Init::zeros());
    let row = counts.sort(0, true).cumulative(CumulativeKind::Sum, 0);
    let at = tokens.reduce(ReduceKind::Max, &[0, 1]);
    g.update(
        ranks,
        ranks.dynamic_update_slice(row.reshape((1, 50)), &[at, at]),
    );
    let graph = g.finish().expect("a graph");
    let compiled = compile(&graph, &Options::default()).expect("it compiles");
    let joined = |step: &Step| matches!(step, Step::Kernel(parts) if parts.len() > 1);
    assert!(compiled.program.steps.iter().any(joined));
    let custom = |step: &&Step| matches!(step, Step::Custom(_));
    assert_eq!(compiled.program.steps.iter().filter(custom).count(), 2);
    // SAFETY: program and code come from one compilation.
    unsafe { Executable::new(compiled.program, Box::new(compiled.code)) }.expect("it loads")
}

fn run(session: &mut Session, tokens: &[i32]) -> f64 {
    let shape = [tokens.len() / 16, 16];
    let outputs = session.step(&[Feed::new(tokens, &shape)]).expect("a step");
    outputs.scalar("loss").expect("a scalar")
}

#[test]
fn a_step_allocates_nothing_after_the_first_of_its_binding() {
    let executable = executable();
    let tokens: Vec<i32> = (0..16 * 128).map(|i| i * 7 % 50).collect();
    let refused: Vec<i32> = vec![50; 16];
    for threads in [1, 3] {
        let options = SessionOptions {
            threads: NonZeroUsize::new(threads),
            ..SessionOptions::new(1)
        };
        let mut session = executable.session_with(&options).expect("a session");
        let sizes = [128, 4, 1];
        let all = |session: &mut Session| {
            for b in sizes {
                assert!(run(session, &tokens[..16 * b]).is_finite());
            }
        };
        all(&mut session);
        // The harness may allocate on a thread of its own, but not every time.
        let counts = (0..3).map(|_| {
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            all(&mut session);
            ALLOCATIONS.load(Ordering::SeqCst) - before
        });
        assert_eq!(counts.min(), Some(0), "{threads} threads");
        // The count sees what allocates: a refusal has a message.
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        assert!(session.step(&[Feed::new(&refused, &[1, 16])]).is_err());
        assert!(ALLOCATIONS.load(Ordering::SeqCst) > before);
    }
}
