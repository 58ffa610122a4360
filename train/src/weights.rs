//! Weights of a session in files: what it holds, saved; and what a file holds, put into a session.
//!
//! A name in a file need not be the one in the graph: a function from one to the other comes with each call, and it also decides what
//! is saved or loaded at all. Nothing is converted: a tensor of another type or shape is refused, and everything is compared before
//! anything is written, so that a session never holds half of a file.

use kiln_interop::{FileError, SaveError, SizeError, TensorRef, Tensors, safetensors};
use kiln_ir::program::Resident;
use kiln_ir::{DType, Role};
use kiln_runtime::memory::{AlignedBytes, OutOfMemory};
use kiln_runtime::{Feed, FeedError, Session, SetError, TensorView};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// How many differences a message lists before it counts the rest.
const LISTED: usize = 10;

/// Chooses params and states alike, under their own names: all that a session needs to go on where it was.
pub fn everything(resident: &Resident) -> Option<String> {
    Some(resident.name.clone())
}

/// Chooses params alone, under their own names: what is learned, without an optimizer's moments, random keys or running averages.
pub fn params(resident: &Resident) -> Option<String> {
    match resident.role {
        Role::Param(_) => Some(resident.name.clone()),
        Role::State(_) | Role::Input => None,
    }
}

/// Why weights could not be loaded. The session is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadWeightsError {
    /// The file was damaged since it was written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file does not hold what the session needs.
    #[error("{file} does not fit `{graph}`, in which nothing has changed:{}", listed(.differences))]
    Differs {
        /// The file.
        file: String,
        /// The graph of the session.
        graph: String,
        /// What differs, in the order of the graph.
        differences: Vec<Difference>,
    },
    /// Elements of a type that do not begin where they may begin had to be copied, and there is no memory for it.
    #[error("no memory to load weights: {0}")]
    Memory(#[from] OutOfMemory),
    /// The session refused what had been found to fit, which is a bug.
    #[error(transparent)]
    Set(#[from] SetError),
    /// As above.
    #[error(transparent)]
    Feed(#[from] FeedError),
}

/// What a param or state of a session and a tensor of a file do not agree in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The file has no such tensor.
    Missing {
        /// The param or state.
        name: String,
        /// The name that the file lacks.
        stored: String,
    },
    /// The file has it with another element type or shape.
    Type {
        /// The param or state.
        name: String,
        /// Its element type and shape in the session.
        wanted: (DType, Vec<usize>),
        /// The name in the file.
        stored: String,
        /// The element type and shape in the file.
        found: (DType, Vec<usize>),
    },
    /// The session has no such param or state.
    Unknown {
        /// The name in the file.
        stored: String,
    },
    /// The elements are none of the type: a `bool` that is neither 0 nor 1.
    Elements {
        /// The name in the file.
        stored: String,
        /// What is wrong.
        source: FeedError,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { name, stored } if name == stored => {
                write!(f, "the file has no `{stored}`")
            }
            Difference::Missing { name, stored } => {
                write!(f, "the file has no `{stored}`, which is to become `{name}`")
            }
            Difference::Unknown { stored } => {
                write!(f, "the file has `{stored}`, which the model does not have")
            }
            Difference::Type {
                name,
                wanted: (dtype, shape),
                stored,
                found: (found_dtype, found_shape),
            } => {
                write!(
                    f,
                    "`{name}` is {dtype}{shape:?}, but `{stored}` in the file is {found_dtype}{found_shape:?}"
                )?;
                let turned = found_shape.iter().rev().eq(shape);
                if turned && dtype == found_dtype {
                    f.write_str(" (its transpose; PyTorch keeps dense weights that way)")?;
                }
                Ok(())
            }
            Difference::Elements { stored, source } => {
                write!(f, "`{stored}` in the file: {source}")
            }
        }
    }
}

fn listed(differences: &[Difference]) -> String {
    let shown = differences.iter().take(LISTED);
    let mut text: String = shown
        .map(|difference| format!("\n  {difference}"))
        .collect();
    if differences.len() > LISTED {
        text += &format!("\n  and {} more", differences.len() - LISTED);
    }
    text
}

/// Overwrites each param and state of `session` for which `stored` gives the name of a tensor, with that tensor of `tensors`; the others
/// stay as they are. Two may get the same tensor. Gives the names of the tensors that were not used, in order.
///
/// [`everything`] and [`params`] are such functions. The file's checksums are compared first, where it has any.
///
/// # Errors
/// [`LoadWeightsError`]: a damaged file, or all that differs in names, element types and shapes. Nothing is written then.
///
/// ```no_run
/// # fn example(mut session: kiln_runtime::Session) -> Result<(), Box<dyn std::error::Error>> {
/// use kiln_interop::safetensors;
/// use kiln_train::weights;
///
/// let file = safetensors::open("gpt2.safetensors".as_ref())?;
/// let unused = weights::load(&mut session, &file, |resident| {
///     Some(resident.name.replace('/', "."))
/// })?;
/// println!("the file has no use for {unused:?}");
/// weights::save(&session, "fine_tuned.safetensors".as_ref(), weights::everything)?;
/// # Ok(())
/// # }
/// ```
pub fn load(
    session: &mut Session,
    tensors: &Tensors,
    stored: impl FnMut(&Resident) -> Option<String>,
) -> Result<Vec<String>, LoadWeightsError> {
    load_but(session, tensors, stored, |_| true)
}

/// [`load`] of everything, where each tensor must find its param or state, but for those `beside` them.
pub(crate) fn load_all(
    session: &mut Session,
    tensors: &Tensors,
    beside: impl Fn(&str) -> bool,
) -> Result<(), LoadWeightsError> {
    load_but(session, tensors, everything, beside).map(|_| ())
}

/// [`load`], where the names of tensors that are not used must be `spare`.
fn load_but(
    session: &mut Session,
    tensors: &Tensors,
    mut stored: impl FnMut(&Resident) -> Option<String>,
    spare: impl Fn(&str) -> bool,
) -> Result<Vec<String>, LoadWeightsError> {
    tensors.verify()?;
    let mut differences = Vec::new();
    let mut chosen: Vec<(String, TensorRef<'_>)> = Vec::new();
    let mut asked = BTreeSet::new();
    for (resident, state) in session.program().residents.iter().zip(session.states()) {
        let Some(stored) = stored(resident) else {
            continue;
        };
        match compare(&state, &stored, tensors) {
            Ok(tensor) => chosen.push((resident.name.clone(), tensor)),
            Err(difference) => differences.push(difference),
        }
        asked.insert(stored);
    }
    let names = tensors.iter().map(|tensor| tensor.name().to_owned());
    let unused: Vec<String> = names.filter(|name| !asked.contains(name)).collect();
    let unknown = unused.iter().filter(|name| !spare(name));
    differences.extend(unknown.map(|stored| Difference::Unknown {
        stored: stored.clone(),
    }));
    if !differences.is_empty() {
        return Err(LoadWeightsError::Differs {
            file: tensors.file().to_owned(),
            graph: session.program().name.clone(),
            differences,
        });
    }
    let misaligned = chosen.iter().map(|(_, tensor)| tensor);
    let largest = misaligned
        .filter(|tensor| is_misaligned(tensor))
        .map(|tensor| tensor.bytes().len());
    let mut room = AlignedBytes::zeroed(largest.max().unwrap_or(0))?;
    for (name, tensor) in &chosen {
        let mut bytes = tensor.bytes();
        if is_misaligned(tensor) {
            let copy = &mut room.bytes_mut()[..bytes.len()];
            copy.copy_from_slice(bytes);
            bytes = copy;
        }
        let feed = Feed::from_bytes(tensor.dtype(), tensor.shape(), bytes)?;
        session.set_state(name, feed)?;
    }
    Ok(unused)
}

/// The params and states of a session as tensors under their own names, lent where they lie: what the writers of files take.
///
/// ```
/// use kiln_compiler::Options;
/// use kiln_interop::onnx::{self, ExportOptions};
/// use kiln_ir::{Builder, DType, Init};
/// use kiln_train::weights;
///
/// let g = Builder::new("scaled");
/// let (x, w) = (g.input("x", DType::F32, (g.dim("n"),)), g.param("w", (), Init::Constant(3.0)));
/// g.output("y", x * w);
/// let graph = g.finish()?;
/// let session = kiln_train::compile(&graph, &Options::default())?.session(0)?;
/// let model = onnx::export(&graph, weights::tensors(&session)?, &ExportOptions::default())?;
/// # assert!(!model.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// None in a session whose states fill their shapes, as all do.
pub fn tensors(session: &Session) -> Result<Vec<TensorRef<'_>>, SizeError> {
    let states = session.states();
    states
        .map(|state| TensorRef::new(state.name(), state.dtype(), state.shape(), state.bytes()))
        .collect()
}

/// Replaces the safetensors file at `path`, whole or not at all, with each param and state of `session` for which `stored` gives a name.
///
/// # Errors
/// [`SaveError`]: two of one name, or a system that cannot write. The file is then as it was.
pub fn save(
    session: &Session,
    path: &Path,
    stored: impl FnMut(&Resident) -> Option<String>,
) -> Result<(), SaveError> {
    save_beside(session, path, stored, &[])
}

/// [`save`] with further tensors in the file.
pub(crate) fn save_beside(
    session: &Session,
    path: &Path,
    mut stored: impl FnMut(&Resident) -> Option<String>,
    others: &[TensorRef<'_>],
) -> Result<(), SaveError> {
    let residents = session.program().residents.iter();
    let named = residents.zip(session.states());
    let named: Vec<(String, TensorView<'_>)> = named
        .filter_map(|(resident, state)| Some((stored(resident)?, state)))
        .collect();
    let tensors: Vec<TensorRef<'_>> = named
        .iter()
        .map(|(name, state)| TensorRef::new(name, state.dtype(), state.shape(), state.bytes()))
        .collect::<Result<_, _>>()?;
    let others = others.iter().copied();
    safetensors::save(path, tensors.into_iter().chain(others), &BTreeMap::new())
}

/// The tensor that is to become `state`, if it fits.
fn compare<'t>(
    state: &TensorView<'_>,
    stored: &str,
    tensors: &'t Tensors,
) -> Result<TensorRef<'t>, Difference> {
    let Some(tensor) = tensors.get(stored) else {
        return Err(Difference::Missing {
            name: state.name().to_owned(),
            stored: stored.to_owned(),
        });
    };
    if (tensor.dtype(), tensor.shape()) != (state.dtype(), state.shape()) {
        return Err(Difference::Type {
            name: state.name().to_owned(),
            wanted: (state.dtype(), state.shape().to_vec()),
            stored: stored.to_owned(),
            found: (tensor.dtype(), tensor.shape().to_vec()),
        });
    }
    // Truth values have an alignment of 1, so that their bytes are all there is to be wrong.
    if tensor.dtype() == DType::Bool {
        let elements = Feed::from_bytes(tensor.dtype(), tensor.shape(), tensor.bytes());
        elements.map_err(|source| Difference::Elements {
            stored: stored.to_owned(),
            source,
        })?;
    }
    Ok(tensor)
}

/// The sizes of elements are what they are aligned to, on every machine that Kiln runs on; more than needed would only cost a copy.
fn is_misaligned(tensor: &TensorRef<'_>) -> bool {
    !tensor
        .bytes()
        .as_ptr()
        .addr()
        .is_multiple_of(tensor.dtype().size())
}
