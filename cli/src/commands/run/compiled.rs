//! A step of the compiled program.

use super::given::Given;
use super::{Arguments, Held, Results};
use kiln_compiler::Options;
use kiln_interop::TensorRef;
use kiln_ir::Graph;
use kiln_runtime::memory::AlignedBytes;
use kiln_runtime::{Feed, SessionOptions, TensorView};
use kiln_train::weights;
use std::error::Error;

pub(super) fn run(
    graph: &Graph,
    given: &Given,
    arguments: &Arguments,
) -> Result<Results, Box<dyn Error>> {
    let options = Options {
        fuse: !arguments.no_fuse,
        ..Options::default()
    };
    let mut session = kiln_train::compile(graph, &options)?.session_with(&SessionOptions {
        seed: arguments.seed,
        threads: arguments.threads,
        bindings: given.bindings.clone(),
        ..SessionOptions::default()
    })?;
    for file in given.files() {
        weights::load(&mut session, file, |resident| {
            file.get(&resident.name).map(|_| resident.name.clone())
        })?;
    }
    let inputs = session.program().inputs.iter();
    let aligned: Vec<(String, TensorRef<'_>, Option<AlignedBytes>)> = inputs
        .filter_map(|port| Some((port.name.clone(), given.tensor(&port.name)?)))
        .map(|(name, tensor)| Ok((name, tensor, moved(&tensor)?)))
        .collect::<Result<_, Box<dyn Error>>>()?;
    let mut feeds = Vec::new();
    for (name, tensor, moved) in &aligned {
        let bytes = moved.as_ref().map_or(tensor.bytes(), AlignedBytes::bytes);
        let feed = Feed::from_bytes(tensor.dtype(), tensor.shape(), bytes);
        feeds.push((name.as_str(), feed.map_err(|e| format!("`{name}`: {e}"))?));
    }
    session.record(arguments.profile);
    let outputs = session.step_named(&feeds)?;
    let outputs = outputs.iter().map(held).collect();
    let profile = arguments.profile.then(|| session.profile().to_string());
    Ok(Results {
        outputs,
        states: session.states().map(held).collect(),
        profile,
    })
}

/// A copy of the elements where they may begin, if the file has them elsewhere.
fn moved(tensor: &TensorRef<'_>) -> Result<Option<AlignedBytes>, Box<dyn Error>> {
    let bytes = tensor.bytes();
    if bytes.as_ptr().addr().is_multiple_of(tensor.dtype().size()) {
        return Ok(None);
    }
    let mut copy = AlignedBytes::zeroed(bytes.len())?;
    copy.bytes_mut().copy_from_slice(bytes);
    Ok(Some(copy))
}

fn held(view: TensorView<'_>) -> Held {
    Held {
        name: view.name().to_owned(),
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.bytes().to_vec(),
    }
}
