use crate::fusion::{Printed, form};
use crate::kernel::verify;
use kiln_ir::ops::ReduceKind;
use kiln_ir::{Builder, DType, Init, grad};

#[test]
fn a_training_step_of_two_layers() {
    let g = Builder::new("mlp");
    let b = g.dim("b");
    let x = g.input("x", DType::F32, (b.clone(), 784));
    let y = g.input("y", DType::F32, (b, 10));
    let w1 = g.param("w1", (784, 512), Init::uniform(0.1));
    let b1 = g.param("b1", (512,), Init::zeros());
    let w2 = g.param("w2", (512, 10), Init::uniform(0.1));
    let b2 = g.param("b2", (10,), Init::zeros());
    let h = x.dot(w1) + b1;
    let zero = h * 0.0;
    let h = zero.where_(h.le(0.0), h);
    let z = h.dot(w2) + b2;
    let m = z.reduce(ReduceKind::Max, &[1]).stop_gradient();
    let b = g.dim("b");
    let m = m.reshape((b.clone(), 1)).broadcast_to((b.clone(), 10));
    let e = (z - m).exp();
    let s = e.reduce(ReduceKind::Sum, &[1]).log();
    let lse = s.reshape((b.clone(), 1)).broadcast_to((b, 10));
    let loss = ((lse + m - z) * y).reduce(ReduceKind::Sum, &[1]).mean();
    let params = [w1, b1, w2, b2];
    for (p, d) in params.iter().zip(grad(loss, &params)) {
        g.update(*p, *p - d * 0.1);
    }
    g.output("loss", loss);
    let graph = g.finish().unwrap();
    let graph = crate::plan::separate_sinks(&graph);
    for fuse in [true, false] {
        let groups = form(&graph, fuse);
        println!(
            "{}",
            Printed {
                groups: &groups,
                graph: &graph
            }
        );
        let lowered = super::lower(&graph, &groups, true).unwrap();
        for l in &lowered {
            if let Some(k) = &l.kernel {
                println!("{}", k.kernel);
                verify(&k.kernel).unwrap();
            }
        }
        let planned = crate::plan::plan(&graph, &lowered);
        let start = std::time::Instant::now();
        let code = crate::jit::compile(&planned.kernels).unwrap();
        println!(
            "{} kernels {} functions {:?}",
            planned.kernels.len(),
            code.functions(),
            start.elapsed()
        );
        for s in &planned.program.steps {
            println!("{s:?}");
        }
    }
}
