//! A model imported for inputs that are there. A graph's shapes are known when it is built, while those of a model may hang on the values of
//! its inputs, and some models fit only some extents. Both are taken from the inputs, where the import fails without.

use super::elements::Elements;
use super::error::ImportErrors;
use super::{Import, ImportOptions, Model};
use kiln_ir::Dim;
use std::collections::BTreeMap;

/// Inputs with no more elements may be fixed, whatever their type, where something that is computed decides a shape.
const FEW: usize = 16;

impl Model {
    /// The model as a graph that is right for the inputs `given`, by name, and others like them.
    ///
    /// What [`Model::import`] makes of `options` comes first. Where that fails, inputs that decide shapes or branches become
    /// [`ImportOptions::fixed`]: those that the errors name; where what they name is computed, all integers, then all with few elements. At
    /// last [`ImportOptions::dims`] are the extents that `given` has. Inputs that are fixed are no inputs of the graph.
    ///
    /// # Errors
    /// As [`Model::import`], with what is left when all that is taken.
    pub fn import_for(
        &self,
        given: &BTreeMap<String, Elements>,
        options: &ImportOptions,
    ) -> Result<Import, ImportErrors> {
        let mut options = options.clone();
        let mut with_extents = false;
        loop {
            let errors = match self.import(&options) {
                Ok(import) => return Ok(import),
                Err(errors) => errors,
            };
            if fix(&mut options, given, &errors) {
                continue;
            }
            if with_extents {
                return Err(errors);
            }
            with_extents = true;
            for (symbol, extent) in self.extents(given) {
                options.dims.entry(symbol).or_insert(extent);
            }
        }
    }

    /// The extents that the model's inputs leave open, by symbol, as tensors have them that are given for these inputs.
    fn extents(&self, given: &BTreeMap<String, Elements>) -> BTreeMap<String, Dim> {
        let mut found = BTreeMap::new();
        for (name, ty) in self.input_types() {
            let shape = given.get(name).map_or(&[][..], Elements::shape);
            for (dim, extent) in ty.shape.iter().zip(shape) {
                if let Some(symbol) = dim.as_symbol() {
                    found.insert(symbol.name().to_owned(), Dim::from(*extent));
                }
            }
        }
        found
    }
}

/// Fixes inputs whose values the errors ask for. Whether there are such inputs that were not fixed before.
fn fix(
    options: &mut ImportOptions,
    given: &BTreeMap<String, Elements>,
    errors: &ImportErrors,
) -> bool {
    let named: Vec<&String> = errors.0.iter().filter_map(|e| e.unknown.as_ref()).collect();
    if named.is_empty() {
        return false;
    }
    let before = options.fixed.len();
    for step in 0..3 {
        let chosen = given.iter().filter(|(name, data)| match step {
            0 => named.contains(name),
            1 => !data.dtype().is_float(),
            _ => data.count() <= FEW,
        });
        for (name, data) in chosen {
            let fixed = options.fixed.entry(name.clone());
            fixed.or_insert_with(|| data.clone());
        }
        if options.fixed.len() > before {
            return true;
        }
    }
    false
}
