//! ONNX models as graphs: what the command line says of their extents and inputs, what inputs that are there settle, and what is said where
//! neither is enough.

use super::{Reading, Source};
use crate::failure::Failure;
use crate::listed::listed;
use kiln_interop::onnx::{self, Elements, ImportErrors, ImportOptions, Model};
use kiln_interop::{TensorRef, Tensors};
use kiln_ir::{Array, Class, Dim, Shape, TensorType, Values};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The graph of an ONNX model; where that is not one for all inputs, one for the tensors of `files`.
pub(super) fn import(path: &Path, reading: &Reading, files: &[Tensors]) -> Result<Source, Failure> {
    let model = onnx::read(path).map_err(|error| Failure::Wrong(error.to_string()))?;
    let open = open_extents(&model);
    let (mut options, mut dims) = (ImportOptions::default(), Vec::new());
    for (name, dim) in &reading.dims {
        if open.contains(name) {
            options.dims.insert(name.clone(), dim.clone());
        } else {
            dims.push((name.clone(), dim.clone()));
        }
    }
    for (name, numbers) in &reading.fix {
        let refused = |what: String| Failure::Usage(format!("--fix {name}: {what}"));
        let value = value(&model, name, numbers).map_err(refused)?;
        if let Some(file) = files.iter().find(|file| file.get(name).is_some()) {
            return Err(refused(format!("{} has it too", file.file())));
        }
        options.fixed.insert(name.clone(), value);
    }
    let import = match model.import(&options) {
        Err(_) if !files.is_empty() => model.import_for(&given(&model, files)?, &options),
        import => import,
    };
    let import = import.map_err(|errors| {
        let advice = advice(path, &model, &options, files, &errors);
        Failure::at(path.display(), format!("{errors}{advice}"))
    })?;
    let slots = import.graph.slots();
    let is_input = |name: &str| slots.iter().any(|slot| slot.name == name);
    let settled = model.inputs().into_iter().filter(|name| !is_input(name));
    Ok(Source {
        weights: Some(import.weights()),
        settled: settled.map(str::to_owned).collect(),
        graph: import.graph,
        dims,
    })
}

/// The symbols of the extents that a model leaves open.
fn open_extents(model: &Model) -> BTreeSet<String> {
    let types = model.input_types().into_iter();
    types.flat_map(|(_, ty)| symbols(&ty)).collect()
}

/// The symbols of a type, in order.
fn symbols(ty: &TensorType) -> Vec<String> {
    let symbols = ty.shape.iter().flat_map(Dim::symbols);
    symbols.map(|symbol| symbol.name().to_owned()).collect()
}

/// The tensors of files that are inputs of the model.
fn given(model: &Model, files: &[Tensors]) -> Result<BTreeMap<String, Elements>, Failure> {
    let mut given = BTreeMap::new();
    for (name, ty) in model.input_types() {
        let found = files.iter().find_map(|file| Some((file, file.get(name)?)));
        let Some((file, tensor)) = found else {
            continue;
        };
        if let Some(what) = unfit(&tensor, &ty, "model") {
            return Err(Failure::at(file.file(), what));
        }
        let array = tensor.to_array();
        let array = array.map_err(|error| Failure::at(file.file(), error))?;
        given.insert(name.to_owned(), Elements::from_array(&array));
    }
    Ok(given)
}

/// Why a tensor cannot be what is of type `ty` in a graph or model; `None` where it can.
pub(crate) fn unfit(tensor: &TensorRef<'_>, ty: &TensorType, whole: &str) -> Option<String> {
    let fits = (tensor.dtype(), tensor.shape().len()) == (ty.dtype, ty.rank());
    (!fits).then(|| {
        let (name, dtype, shape) = (tensor.name(), tensor.dtype(), tensor.shape());
        format!("`{name}` is {dtype}{shape:?}, but in the {whole} it is {ty}")
    })
}

/// What may help where a model cannot be imported: inputs that are missing, else extents and values that the command line can give. It begins
/// with a line break, if there is any.
fn advice(
    path: &Path,
    model: &Model,
    options: &ImportOptions,
    files: &[Tensors],
    errors: &ImportErrors,
) -> String {
    let mut free = model.input_types();
    free.retain(|(name, _)| !options.fixed.contains_key(*name));
    let missing = free
        .iter()
        .filter(|(name, _)| files.iter().all(|file| file.get(name).is_none()));
    let missing: Vec<String> = missing
        .map(|(name, ty)| format!("\n  {name}: {ty}"))
        .collect();
    if !files.is_empty() && !missing.is_empty() {
        let what = "it may be one for the inputs that it is run on, but these are in no file of `--inputs`:";
        return format!("\n{what}{}", missing.concat());
    }
    let mut advice = String::new();
    let run = match files {
        [] => " `kiln run` takes them from `--inputs`; for other commands give them, as here",
        [..] => " Give them, as here",
    };
    let file = path.display();
    let open = example(model, options, errors);
    if !open.is_empty() {
        let of = free
            .iter()
            .filter(|(_, ty)| symbols(ty).iter().any(|s| open.contains_key(s)));
        let of: Vec<String> = of.map(|(name, ty)| format!("`{name}`, {ty}")).collect();
        let sizes: Vec<String> = open.iter().map(|(s, size)| format!("{s}={size}")).collect();
        advice += &format!(
            "\nIt may fit only some of the sizes that its inputs leave open: {}.{run}; `32*h` would be \
             all multiples of 32:\n  kiln check {file} --dims {}",
            of.join("; "),
            sizes.join(","),
        );
    }
    let integers = free.iter().filter(|(_, ty)| !ty.dtype.is_float());
    let integers: Vec<&str> = integers.map(|(name, _)| *name).collect();
    if let Some(first) = integers.first()
        && errors.0.iter().any(|error| error.unknown.is_some())
    {
        let inputs = listed(integers.iter().map(|name| format!("`{name}`")));
        advice += &format!(
            "\nNumbers that decide a shape or a branch must be known, of {inputs} perhaps.{run}:\n  kiln check {file} --fix {first}=1"
        );
    }
    advice
}

/// Sizes that are tried as an example, the likely ones first.
const TRIED: [i64; 6] = [64, 1, 48, 224, 256, 512];
/// For more open extents nothing is tried.
const MOST_OPEN: usize = 8;

/// Sizes of open extents with which the model can be imported, for as few as do; where none is found, one for each that the errors speak of.
fn example(model: &Model, options: &ImportOptions, errors: &ImportErrors) -> BTreeMap<String, i64> {
    let mut open = open_extents(model);
    open.retain(|symbol| !options.dims.contains_key(symbol));
    let sized = |size: i64| open.iter().map(move |symbol| (symbol.clone(), size));
    let fits = |sizes: &BTreeMap<String, i64>| {
        let mut options = options.clone();
        let dims = sizes.iter();
        let dims = dims.map(|(symbol, size)| (symbol.clone(), Dim::from(*size)));
        options.dims.extend(dims);
        model.import(&options).is_ok()
    };
    let mut tried = TRIED.into_iter().map(|size| sized(size).collect());
    let few = open.len() <= MOST_OPEN;
    let Some(mut sizes) = few.then(|| tried.find(fits)).flatten() else {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let reasons = errors.0.iter().map(|error| error.reason.as_str());
        let words: BTreeSet<&str> = reasons.flat_map(|r| r.split(|c| !is_name(c))).collect();
        let spoken_of = |(symbol, _): &(String, i64)| words.contains(symbol.as_str());
        return sized(TRIED[0]).filter(spoken_of).collect();
    };
    for symbol in &open {
        let size = sizes.remove(symbol);
        if !fits(&sizes) {
            sizes.extend(size.map(|size| (symbol.clone(), size)));
        }
    }
    sizes
}

/// Numbers as the tensor of an input: a vector has as many as are given.
fn value(model: &Model, name: &str, numbers: &[f64]) -> Result<Elements, String> {
    let known = || listed(model.inputs().iter().map(|name| format!("`{name}`")));
    let mut types = model.input_types().into_iter();
    let ty = types.find_map(|(input, ty)| (input == name).then_some(ty));
    let ty = ty.ok_or_else(|| format!("the model has no such input, but {}", known()))?;
    let TensorType { dtype, shape } = &ty;
    let shape = if shape.len() == 1 && shape[0].constant().is_none() {
        vec![numbers.len()]
    } else {
        constant(shape).ok_or_else(|| format!("its shape is open, {ty}"))?
    };
    let values = match dtype.class() {
        Class::Float => Values::Float(numbers.to_vec()),
        Class::Signed | Class::Unsigned | Class::Bool => {
            if let Some(x) = numbers.iter().find(|x| **x as i64 as f64 != **x) {
                return Err(format!("{x} is no element of {ty}"));
            }
            Values::Int(numbers.iter().map(|x| *x as i64).collect())
        }
    };
    let array = Array::new(*dtype, shape, values);
    let array = array.map_err(|_| format!("{} numbers for {ty}", numbers.len()))?;
    Ok(Elements::from_array(&array))
}

/// The numbers of a shape, if all are known.
fn constant(shape: &Shape) -> Option<Vec<usize>> {
    let sizes = shape.iter().map(|dim| dim.constant());
    sizes
        .map(|size| usize::try_from(size?).ok())
        .collect::<Option<Vec<usize>>>()
}
