//! The table of a model's layers: what each makes of its input, and how many numbers it learns.
//!
//! It comes from building the model once in a graph that is thrown away, so it shows what is built and nothing else. FLOPs and memory
//! are the compiler's to say.

use crate::layer::{Context, Layer};
use kiln_ir::{Builder, Diagnostics, Dim, Tensor, TensorType};
use std::cell::RefCell;
use std::fmt;

/// One layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The scope: `encoder/fc1`.
    pub path: String,
    /// What the layer calls itself.
    pub kind: String,
    /// How many layers it lies in.
    pub depth: usize,
    /// The type of the result, with a symbolic batch.
    pub output: TensorType,
    /// The elements of its params, those of layers inside it included.
    pub parameters: Dim,
}

/// The layers of a model in the order in which they were applied, each above the layers inside it. `Display` is a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The inputs by name, with their types.
    pub inputs: Vec<(String, TensorType)>,
    /// One for each application of a layer.
    pub rows: Vec<Row>,
    /// The elements of all params.
    pub parameters: Dim,
}

impl Summary {
    /// The table of `model`, applied for training to an input of type `input`; or the mistakes in building it.
    ///
    /// ```
    /// use kiln_ir::{DType, Dim, TensorType};
    /// use kiln_nn::{Sequential, Summary};
    ///
    /// let model = Sequential::new([784]).dense(512).relu().dense(10);
    /// let input = TensorType::new(DType::F32, (Dim::symbol("b"), 784));
    /// let summary = Summary::of(&model, &input).unwrap();
    /// assert_eq!(summary.parameters.constant(), Some(784 * 512 + 512 + 512 * 10 + 10));
    /// ```
    pub fn of(model: &dyn Layer, input: &TensorType) -> Result<Summary, Diagnostics> {
        let inputs = [("x".to_owned(), input.clone())];
        Self::of_inputs(&inputs, |cx, inputs| {
            for x in inputs {
                model.apply(cx, *x);
            }
        })
    }

    /// The same for a model of any number of inputs, which `apply` builds from them, in order, for training.
    ///
    /// # Errors
    /// The mistakes in building it.
    pub fn of_inputs(
        inputs: &[(String, TensorType)],
        apply: impl for<'g> FnOnce(&Context<'g>, &[Tensor<'g>]),
    ) -> Result<Summary, Diagnostics> {
        let builder = Builder::new("summary");
        let rows = RefCell::new(Vec::new());
        let parameters = {
            let declare =
                |(name, ty): &(String, TensorType)| builder.input(name, ty.dtype, &ty.shape);
            let tensors: Vec<Tensor<'_>> = inputs.iter().map(declare).collect();
            let trace = Trace {
                rows: &rows,
                depth: 0,
            };
            apply(&Context::training(&builder).traced(trace), &tensors);
            parameters(builder.params())
        };
        builder.finish()?;
        Ok(Summary {
            inputs: inputs.to_vec(),
            rows: rows.into_inner(),
            parameters,
        })
    }
}

/// Where rows are collected, and at which depth.
#[derive(Clone, Copy)]
pub(crate) struct Trace<'g> {
    pub(crate) rows: &'g RefCell<Vec<Row>>,
    pub(crate) depth: usize,
}

impl Trace<'_> {
    pub(crate) fn deeper(self) -> Self {
        Self {
            depth: self.depth + 1,
            ..self
        }
    }
}

/// The elements of all `params`.
pub(crate) fn parameters<'g>(params: impl IntoIterator<Item = Tensor<'g>>) -> Dim {
    let sizes = params
        .into_iter()
        .filter_map(|p| Some(p.ty()?.shape.elements()));
    sizes.fold(Dim::from(0), |sum, size| &sum + &size)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["layer", "kind", "output", "parameters"].map(str::to_owned);
        let input = |(name, ty): &(String, TensorType)| {
            [
                name.clone(),
                "input".to_owned(),
                ty.to_string(),
                String::new(),
            ]
        };
        let total = [
            "total".to_owned(),
            String::new(),
            String::new(),
            count(&self.parameters),
        ];
        let row = |r: &Row| {
            let indent = "  ".repeat(r.depth);
            let (path, kind) = (format!("{indent}{}", r.path), r.kind.clone());
            [path, kind, r.output.to_string(), count(&r.parameters)]
        };
        let lines: Vec<[String; 4]> = [header]
            .into_iter()
            .chain(self.inputs.iter().map(input))
            .chain(self.rows.iter().map(row))
            .chain([total])
            .collect();
        let width = |column: usize| {
            let widths = lines.iter().map(|l| l[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths = [0, 1, 2, 3].map(width);
        let rule = "-".repeat(widths.iter().sum::<usize>() + 6);
        for (i, [path, kind, output, parameters]) in lines.iter().enumerate() {
            if i == 1 || i + 1 == lines.len() {
                writeln!(f, "{rule}")?;
            }
            write!(
                f,
                "{path:<0$}  {kind:<1$}  {output:<2$}",
                widths[0], widths[1], widths[2]
            )?;
            // A line without a number ends with its last word.
            if parameters.is_empty() {
                writeln!(f)?;
            } else {
                writeln!(f, "  {parameters:>0$}", widths[3])?;
            }
        }
        Ok(())
    }
}

/// A count with its digits in groups of three; a symbolic one as it is.
fn count(dim: &Dim) -> String {
    let Some(number) = dim.constant() else {
        return dim.to_string();
    };
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}
