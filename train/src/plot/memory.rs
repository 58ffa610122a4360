//! The picture of a memory plan: which bytes of the arena belong to which buffer, step by step.
//!
//! Time runs to the right, offsets upwards; a buffer is a rectangle over its live range. What overlaps here would overlap in memory, and
//! what is white is wasted.

use super::{INK, PALETTE, PlotError, refused};
use kiln_ir::program::{Home, Placement, Program};
use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea;
use plotters::prelude::{ChartBuilder, Color, IntoFont, Rectangle, Text};
use plotters::style::WHITE;

const SIZE: (u32, u32) = (960, 540);
/// A buffer that takes less than this part of the picture's height has no room for its name.
const NAMED: f64 = 0.04;

/// The arena of a program under a placement, as the text of an SVG file.
///
/// ```
/// use kiln_compiler::{Options, program};
/// use kiln_ir::{Bindings, Builder, DType, program::place};
///
/// let g = Builder::new("m");
/// let x = g.input("x", DType::F32, (g.dim("b"), 8));
/// let w = g.param("w", (8, 8), kiln_ir::Init::uniform(0.1));
/// g.output("y", x.dot(w).dot(w).exp());
/// let program = program(&g.finish().unwrap(), &Options::default()).unwrap();
/// let placement = place(&program.buffers, &Bindings::from([("b", 32)])).unwrap();
/// let svg = kiln_train::plot::memory_plan(&program, &placement)?;
/// assert!(svg.contains("live at once"));
/// # Ok::<(), kiln_train::plot::PlotError>(())
/// ```
///
/// # Errors
/// [`PlotError::Empty`] for a program without an arena.
pub fn memory_plan(program: &Program, placement: &Placement) -> Result<String, PlotError> {
    let steps = program.steps.len();
    if placement.arena == 0 || steps == 0 {
        return Err(PlotError::Empty {
            what: format!("the program `{}` has no arena", program.name),
        });
    }
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(refused)?;
        let title = format!(
            "{}: arena {} B, of which {} B live at once",
            program.name, placement.arena, placement.live_peak
        );
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .caption(title, (super::FONT, 16).into_font().color(&INK))
            .x_label_area_size(36)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..steps as f64, 0.0..placement.arena as f64)
            .map_err(refused)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc("step")
            .y_desc("offset, bytes")
            .draw()
            .map_err(refused)?;
        for (i, buffer) in program.buffers.iter().enumerate() {
            let (Home::Arena(live), Some(offset)) = (&buffer.home, placement.offsets[i]) else {
                continue;
            };
            let (low, high) = (offset as f64, (offset + placement.bytes[i]) as f64);
            let corners = [(live.first as f64, low), (live.last as f64 + 1.0, high)];
            let colour = PALETTE[i % PALETTE.len()];
            let shapes = [
                Rectangle::new(corners, colour.mix(0.55).filled()),
                Rectangle::new(corners, INK.stroke_width(1)),
            ];
            chart.draw_series(shapes).map_err(refused)?;
            if high - low >= NAMED * placement.arena as f64 {
                let at = (live.first as f64 + 0.1, (low + high) / 2.0);
                let label = Text::new(buffer.name.clone(), at, (super::FONT, 11).into_font());
                chart.draw_series([label]).map_err(refused)?;
            }
        }
        root.present().map_err(refused)?;
    }
    Ok(text)
}
