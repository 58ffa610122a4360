//! From a graph to a session, and one step of it.

use super::data::{Fed, array};
use kiln_compiler::{Options, compile};
use kiln_ir::program::Program;
use kiln_ir::{Array, Bindings, Graph, Role};
use kiln_runtime::{Executable, Session, SessionOptions, StepError};
use std::num::NonZeroUsize;

/// How a graph is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    pub optimize: bool,
    pub fuse: bool,
}

/// Every way to compile.
pub const VARIANTS: [Variant; 4] = [
    Variant {
        optimize: false,
        fuse: false,
    },
    Variant {
        optimize: true,
        fuse: true,
    },
    Variant {
        optimize: true,
        fuse: false,
    },
    Variant {
        optimize: false,
        fuse: true,
    },
];

/// What a step gives: the outputs, and the states behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    pub outputs: Vec<Array>,
    pub states: Vec<Array>,
}

/// The program with its code.
pub fn executable(graph: &Graph, variant: Variant) -> Result<Executable, String> {
    let options = Options {
        optimize: variant.optimize,
        fuse: variant.fuse,
        ..Options::default()
    };
    let compiled = compile(graph, &options).map_err(|e| chain(&e))?;
    // SAFETY: program and code come from one compilation.
    unsafe { Executable::new(compiled.program, Box::new(compiled.code)) }.map_err(|e| e.to_string())
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// The program alone, compiled as users do.
pub fn program(graph: &Graph) -> Program {
    compile(graph, &Options::default())
        .expect("it compiles")
        .program
}

/// A session on `threads` threads.
pub fn session(executable: &Executable, threads: usize) -> Session {
    session_at(executable, threads, Bindings::new())
}

/// A session in which symbols have fixed values.
pub fn session_at(executable: &Executable, threads: usize, bindings: Bindings) -> Session {
    let options = SessionOptions {
        seed: 1,
        threads: NonZeroUsize::new(threads),
        memory_limit: None,
        bindings,
    };
    executable.session_with(&options).expect("a session")
}

/// One step, with all that it leaves behind.
pub fn step(session: &mut Session, feeds: &[Fed]) -> Result<Results, StepError> {
    let feeds: Vec<_> = feeds.iter().map(Fed::feed).collect();
    let outputs = session.step(&feeds)?;
    let outputs = outputs.iter().map(|view| array(&view)).collect();
    Ok(Results {
        outputs,
        states: states(session),
    })
}

/// All params and states.
pub fn states(session: &Session) -> Vec<Array> {
    session.states().map(|view| array(&view)).collect()
}

/// The slots that are fed.
pub fn inputs(graph: &Graph) -> impl Iterator<Item = &kiln_ir::Slot> {
    graph.slots().iter().filter(|s| s.role == Role::Input)
}

/// The slots that stay.
pub fn residents(graph: &Graph) -> impl Iterator<Item = &kiln_ir::Slot> {
    graph.slots().iter().filter(|s| s.role != Role::Input)
}
