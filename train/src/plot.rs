//! Charts of points, fitted lines and loss curves, confusion matrices and ROC curves, as SVG or PNG.
//!
//! A [`Figure`] is a row of [`Panel`]s; a panel draws series over common axes. This is a thin layer
//! over `plotters`: it chooses ranges, colours and labels so that a call is a line, and it is no
//! drawing library. An SVG holds its text as text, so no font is needed to write one; a PNG is a drawing of the SVG with the fonts
//! of the machine, and one without any has no text.

mod axis;
mod confusion;
mod memory;
mod raster;
mod roc;

pub use confusion::Confusion;
pub use memory::memory_plan;
pub use raster::{can_write, png};
pub use roc::{area_below, roc_curve, roc_panel};

use axis::Axis;
use raster::save;
use std::path::{Path, PathBuf};

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::prelude::{
    ChartBuilder, Circle, Color, IntoFont, LineSeries, PathElement, RGBColor, SeriesLabelPosition,
};
use plotters::style::{BLACK, ShapeStyle, WHITE};

const PANEL_WIDTH: u32 = 560;
const HEIGHT: u32 = 420;
const INK: RGBColor = RGBColor(60, 60, 60);
const GRID: RGBColor = RGBColor(225, 225, 225);
const FONT: &str = "sans-serif";

/// Paul Tol's "bright" qualitative scheme, which readers with any colour vision can tell apart.
const PALETTE: [RGBColor; 6] = [
    RGBColor(0x44, 0x77, 0xAA),
    RGBColor(0xEE, 0x66, 0x77),
    RGBColor(0x22, 0x88, 0x33),
    RGBColor(0xCC, 0xBB, 0x44),
    RGBColor(0x66, 0xCC, 0xEE),
    RGBColor(0xAA, 0x33, 0x77),
];

/// A chart that cannot be drawn or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// A figure without a panel, or a panel without a point.
    #[error("there is nothing to draw: {what}")]
    Empty {
        /// What there is none of.
        what: String,
    },
    /// A value that has no place on the axes.
    #[error("panel `{panel}`, series `{series}`: point {index} is ({x}, {y}), but {wanted}")]
    Value {
        /// The panel's title.
        panel: String,
        /// The series' name.
        series: String,
        /// The point, from 0.
        index: usize,
        /// Its first coordinate.
        x: f64,
        /// Its second coordinate.
        y: f64,
        /// What the axes can show.
        wanted: &'static str,
    },
    /// A file that cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The drawing library refused.
    #[error("cannot draw: {message}")]
    Draw {
        /// Its reason.
        message: String,
    },
}

/// Panels in a row.
///
/// ```
/// use kiln_train::plot::{Figure, Panel};
///
/// let fit = Panel::new("y = 2x + 1")
///     .points("data", [(0.0, 1.1), (1.0, 2.9)])
///     .line("fit", [(0.0, 1.0), (1.0, 3.0)]);
/// let loss = Panel::new("Loss").axes("epoch", "loss").log_y().curve("train", [1.0, 0.1, 0.01]);
/// let svg = Figure::new([fit, loss]).svg()?;
/// assert!(svg.starts_with("<svg"));
/// # Ok::<(), kiln_train::plot::PlotError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Figure {
    panels: Vec<Panel>,
}

impl Figure {
    /// A figure of these panels, left to right.
    pub fn new(panels: impl Into<Vec<Panel>>) -> Self {
        Self {
            panels: panels.into(),
        }
    }

    /// The figure as the text of an SVG file; the same figure gives the same text.
    ///
    /// # Errors
    /// [`PlotError::Empty`] without panels or with a panel that has no point; [`PlotError::Value`]
    /// for a point that is not finite, or not positive on a logarithmic axis.
    pub fn svg(&self) -> Result<String, PlotError> {
        let count = u32::try_from(self.panels.len())
            .ok()
            .filter(|count| (1..=64).contains(count));
        let Some(count) = count else {
            return Err(PlotError::Empty {
                what: "a figure has 1 to 64 panels".to_owned(),
            });
        };
        let mut text = String::new();
        let root =
            SVGBackend::with_string(&mut text, (PANEL_WIDTH * count, HEIGHT)).into_drawing_area();
        root.fill(&WHITE).map_err(refused)?;
        for (panel, area) in self
            .panels
            .iter()
            .zip(root.split_evenly((1, self.panels.len())))
        {
            panel.draw(&area)?;
        }
        root.present().map_err(refused)?;
        drop(root);
        Ok(text)
    }

    /// Writes the figure to a file: PNG where its name ends so, else SVG.
    ///
    /// # Errors
    /// As [`svg`](Self::svg), and [`PlotError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), PlotError> {
        save(&self.svg()?, path)
    }
}

/// Series over common axes, with a title.
#[derive(Clone, Debug)]
pub struct Panel {
    title: String,
    x: String,
    y: String,
    log_y: bool,
    series: Vec<Series>,
}

#[derive(Clone, Debug)]
struct Series {
    name: String,
    mark: Mark,
    points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    Points,
    Line,
}

impl Panel {
    /// An empty panel with axes `x` and `y`.
    pub fn new(title: impl Into<String>) -> Self {
        let (x, y) = ("x".to_owned(), "y".to_owned());
        Self {
            title: title.into(),
            x,
            y,
            log_y: false,
            series: Vec::new(),
        }
    }

    /// Names the axes.
    pub fn axes(self, x: impl Into<String>, y: impl Into<String>) -> Self {
        Self {
            x: x.into(),
            y: y.into(),
            ..self
        }
    }

    /// Makes the y axis logarithmic; every y must then be positive.
    pub fn log_y(self) -> Self {
        Self {
            log_y: true,
            ..self
        }
    }

    /// Adds separate points.
    pub fn points(self, name: impl Into<String>, points: impl Into<Vec<(f64, f64)>>) -> Self {
        self.with(name.into(), Mark::Points, points.into())
    }

    /// Adds a line through points, in the order given.
    pub fn line(self, name: impl Into<String>, points: impl Into<Vec<(f64, f64)>>) -> Self {
        self.with(name.into(), Mark::Line, points.into())
    }

    /// Adds a line over 1, 2, 3 and so on: a loss of each epoch, say.
    pub fn curve(self, name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let points = (1..).map(f64::from).zip(values).collect();
        self.with(name.into(), Mark::Line, points)
    }

    fn with(mut self, name: String, mark: Mark, points: Vec<(f64, f64)>) -> Self {
        self.series.push(Series { name, mark, points });
        self
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), PlotError> {
        let series = self.placed()?;
        let all = || series.iter().flatten();
        let (Some(x), Some(y)) = (
            padded(all().map(|point| point.0)),
            padded(all().map(|point| point.1)),
        ) else {
            return Err(PlotError::Empty {
                what: format!("panel `{}` has no point", self.title),
            });
        };

        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 20).into_font().color(&INK))
            .margin(14)
            .x_label_area_size(42)
            .y_label_area_size(62)
            .build_cartesian_2d(x.0..x.1, Axis::new(y, self.log_y))
            .map_err(refused)?;
        let log_y = self.log_y;
        chart
            .configure_mesh()
            .x_desc(&self.x)
            .y_desc(&self.y)
            .x_labels(7)
            .x_label_formatter(&|&value| number(value))
            .y_label_formatter(&|&value| number(if log_y { 10f64.powf(value) } else { value }))
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .label_style((FONT, 13).into_font().color(&INK))
            .axis_desc_style((FONT, 14).into_font().color(&INK))
            .draw()
            .map_err(refused)?;

        for (index, (series, points)) in self.series.iter().zip(&series).enumerate() {
            let color = PALETTE[index % PALETTE.len()];
            let stroke = color.stroke_width(2);
            match series.mark {
                Mark::Points => {
                    let fill = ShapeStyle::from(color.mix(0.65)).filled();
                    let dots = points.iter().map(|&point| Circle::new(point, 3, fill));
                    chart
                        .draw_series(dots)
                        .map_err(refused)?
                        .label(&series.name)
                        .legend(move |(x, y)| Circle::new((x + 10, y), 3, fill));
                }
                Mark::Line => {
                    chart
                        .draw_series(LineSeries::new(points.iter().copied(), stroke))
                        .map_err(refused)?
                        .label(&series.name)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], stroke));
                }
            }
        }
        chart
            .configure_series_labels()
            .position(emptier_corner(all(), x, y))
            .background_style(WHITE.mix(0.9))
            .border_style(GRID)
            .label_font((FONT, 13).into_font().color(&BLACK))
            .draw()
            .map_err(refused)
    }

    /// The points of each series on the axes: y as its decimal logarithm where the axis is one.
    fn placed(&self) -> Result<Vec<Vec<(f64, f64)>>, PlotError> {
        self.series
            .iter()
            .map(|series| {
                let place = |(index, &(x, y)): (usize, &(f64, f64))| {
                    let refuse = |wanted| PlotError::Value {
                        panel: self.title.clone(),
                        series: series.name.clone(),
                        index,
                        x,
                        y,
                        wanted,
                    };
                    if !x.is_finite() || !y.is_finite() {
                        return Err(refuse("only finite numbers have a place"));
                    }
                    if !self.log_y {
                        return Ok((x, y));
                    }
                    if y <= 0.0 {
                        return Err(refuse("only positive numbers have a logarithm"));
                    }
                    Ok((x, y.log10()))
                };
                series.points.iter().enumerate().map(place).collect()
            })
            .collect()
    }
}

/// The range of the values with some room on both sides, never empty; `None` without values.
fn padded(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })?;
    let room = (high - low) * 0.05;
    // Equal values have no spread to take a part of, and a spread over the whole of f64 overflows.
    let room = if room > 0.0 && room.is_finite() {
        room
    } else {
        low.abs().max(1.0) * 0.5
    };
    let widest = f64::MAX / 4.0;
    Some((
        (low - room).clamp(-widest, widest),
        (high + room).clamp(-widest, widest),
    ))
}

/// The corner with the fewest points in it, where the names of the series hide the least; of equal ones an upper one.
fn emptier_corner<'p>(
    points: impl Iterator<Item = &'p (f64, f64)>,
    x: (f64, f64),
    y: (f64, f64),
) -> SeriesLabelPosition {
    let middle = |range: (f64, f64)| range.0 / 2.0 + range.1 / 2.0;
    let mut counts = [0; 4];
    for point in points {
        let (right, lower) = (point.0 >= middle(x), point.1 <= middle(y));
        counts[usize::from(right) + 2 * usize::from(lower)] += 1;
    }
    let corners = [
        SeriesLabelPosition::UpperLeft,
        SeriesLabelPosition::UpperRight,
        SeriesLabelPosition::LowerLeft,
        SeriesLabelPosition::LowerRight,
    ];
    let emptiest = corners
        .into_iter()
        .zip(counts)
        .min_by_key(|(_, count)| *count);
    emptiest.map_or(SeriesLabelPosition::UpperLeft, |(corner, _)| corner)
}

/// A tick's value, as short as three digits allow: `0.5`, `1000`, `2.5e-6`.
fn number(value: f64) -> String {
    let size = value.abs();
    if size < 1e-12 {
        return "0".to_owned();
    }
    if !(1e-3..1e5).contains(&size) {
        let text = format!("{value:.1e}");
        return text.replace(".0e", "e");
    }
    let decimals = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn refused<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> PlotError {
    PlotError::Draw {
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
