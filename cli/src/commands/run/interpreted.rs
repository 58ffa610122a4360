//! A step of the interpreter, which shares no code with the compiler.

use super::given::Given;
use super::{Held, Results};
use kiln_ir::{Array, DType, Graph, Init, NodeId, Role, TensorType, Values, eval};
use std::collections::BTreeMap;
use std::error::Error;

pub(super) fn run(graph: &Graph, given: &Given, seed: u64) -> Result<Results, Box<dyn Error>> {
    let mut feeds: BTreeMap<NodeId, Array> = BTreeMap::new();
    for slot in graph.slots() {
        let node = graph.node(slot.node).ok_or("a slot has no node")?;
        let array = match (given.tensor(&slot.name), &slot.role) {
            (Some(tensor), _) => tensor.to_array()?,
            (None, Role::Param(init) | Role::State(init)) => {
                let shape = node
                    .ty
                    .shape
                    .iter()
                    .map(|dim| dim.eval_size(&given.bindings));
                let shape = shape
                    .collect::<Result<Vec<usize>, _>>()
                    .map_err(|error| format!("`{}`, {}: {error}", slot.name, node.ty))?;
                drawn(init, seed, &slot.name, &node.ty, shape)?
            }
            (None, Role::Input) => continue,
        };
        feeds.insert(slot.node, array);
    }
    let step = eval(graph, |slot| feeds.get(&slot.node).cloned())?;
    feeds.extend(step.updates);
    let names = graph.outputs().iter().map(|output| output.name.as_str());
    let residents = graph.slots().iter();
    let residents = residents.filter(|slot| !matches!(slot.role, Role::Input));
    let states = residents.filter_map(|slot| Some(held(&slot.name, feeds.get(&slot.node)?)));
    Ok(Results {
        outputs: names.zip(&step.outputs).map(|(n, a)| held(n, a)).collect(),
        states: states.collect(),
        profile: None,
    })
}

/// The initial values that a session would draw: integers truncate towards zero and saturate.
fn drawn(
    init: &Init,
    seed: u64,
    name: &str,
    ty: &TensorType,
    shape: Vec<usize>,
) -> Result<Array, Box<dyn Error>> {
    let sizes = shape.iter();
    let count = sizes.fold(1usize, |count, size| count.saturating_mul(*size));
    let mut numbers: Vec<f64> = Vec::new();
    numbers
        .try_reserve_exact(count)
        .map_err(|_| format!("there is no room for `{name}` of shape {shape:?}"))?;
    numbers.resize(count, 0.0);
    let sampler = init.sampler(seed, name, &shape);
    sampler.fill(0, &mut numbers, |number| number);
    let whole: fn(f64) -> i64 = match ty.dtype {
        DType::I8 => |x| i64::from(x as i8),
        DType::I16 => |x| i64::from(x as i16),
        DType::I32 => |x| i64::from(x as i32),
        DType::I64 => |x| x as i64,
        DType::U8 => |x| i64::from(x as u8),
        DType::U16 => |x| i64::from(x as u16),
        DType::U32 => |x| i64::from(x as u32),
        DType::U64 => |x| (x as u64).cast_signed(),
        DType::Bool => |x| i64::from(x != 0.0),
        DType::F32 | DType::F64 | DType::BF16 | DType::F16 => {
            return Ok(Array::new(ty.dtype, shape, Values::Float(numbers))?);
        }
    };
    let numbers = numbers.into_iter().map(whole).collect();
    Ok(Array::new(ty.dtype, shape, Values::Int(numbers))?)
}

fn held(name: &str, array: &Array) -> Held {
    Held {
        name: name.to_owned(),
        dtype: array.dtype(),
        shape: array.shape().to_vec(),
        bytes: array.to_bytes(),
    }
}
