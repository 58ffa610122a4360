//! The picture of a confusion matrix: how many examples of each class were taken for each class.

use super::raster::save;
use super::{FONT, INK, PALETTE, PlotError, refused};
use plotters::backend::SVGBackend;
use plotters::drawing::IntoDrawingArea;
use plotters::prelude::{Color, IntoFont, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, FontTransform, WHITE};
use std::path::Path;

const CELL: i32 = 56;
/// Room for the names of classes, left and above.
const LEFT: i32 = 130;
const TOP: i32 = 90;
const MARGIN: i32 = 20;
/// As many classes as have room in a picture.
const MOST: usize = 100;

/// A confusion matrix, whose rows are what examples are and whose columns are what they were taken for: that of
/// [`ConfusionMatrix::rows`](kiln_nn::metrics::ConfusionMatrix::rows).
///
/// ```
/// use kiln_train::plot::Confusion;
///
/// let svg = Confusion::new(vec![vec![8.0, 2.0], vec![1.0, 9.0]], ["cat", "dog"]).svg()?;
/// assert!(svg.contains("dog"));
/// # Ok::<(), kiln_train::plot::PlotError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Confusion {
    rows: Vec<Vec<f64>>,
    names: Vec<String>,
}

impl Confusion {
    /// A matrix with the names of its classes.
    pub fn new<N: Into<String>>(rows: Vec<Vec<f64>>, names: impl IntoIterator<Item = N>) -> Self {
        Self {
            rows,
            names: names.into_iter().map(Into::into).collect(),
        }
    }

    /// The picture as the text of an SVG file. A cell is the darker the larger its share of its row.
    ///
    /// # Errors
    /// [`PlotError::Empty`] for no classes, more than a hundred, or rows and names that do not make a square.
    pub fn svg(&self) -> Result<String, PlotError> {
        let count = self.names.len();
        let square = self.rows.len() == count && self.rows.iter().all(|row| row.len() == count);
        if !square || !(1..=MOST).contains(&count) {
            return Err(PlotError::Empty {
                what: format!("a confusion matrix has 1 to {MOST} classes and a square of numbers"),
            });
        }
        let side = CELL * count as i32;
        let size = ((LEFT + side + MARGIN) as u32, (TOP + side + MARGIN) as u32);
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
            root.fill(&WHITE).map_err(refused)?;
            let style = |size: u32, h: HPos| {
                let font = (FONT, size).into_font().color(&INK);
                font.pos(Pos::new(h, VPos::Center))
            };
            let middle = LEFT + side / 2;
            let title = Text::new("taken for", (middle, 20), style(15, HPos::Center));
            root.draw(&title).map_err(refused)?;
            let font = (FONT, 15).into_font().transform(FontTransform::Rotate270);
            let font = font.color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
            let title = Text::new("examples of", (20, TOP + side / 2), font);
            root.draw(&title).map_err(refused)?;
            for (i, (name, row)) in self.names.iter().zip(&self.rows).enumerate() {
                let at = i as i32 * CELL + CELL / 2;
                let left = Text::new(name.clone(), (LEFT - 8, TOP + at), style(13, HPos::Right));
                let above = (LEFT + at, TOP - 14 - 18 * (i as i32 % 2));
                let above = Text::new(name.clone(), above, style(13, HPos::Center));
                root.draw(&left).map_err(refused)?;
                root.draw(&above).map_err(refused)?;
                let sum: f64 = row.iter().sum();
                for (j, value) in row.iter().enumerate() {
                    let share = if sum > 0.0 { value / sum } else { 0.0 };
                    let (x, y) = (LEFT + j as i32 * CELL, TOP + i as i32 * CELL);
                    let color = PALETTE[0].mix(share).filled();
                    let cell = Rectangle::new([(x, y), (x + CELL - 2, y + CELL - 2)], color);
                    root.draw(&cell).map_err(refused)?;
                    let ink = if share > 0.6 { WHITE } else { BLACK };
                    let style = (FONT, 13).into_font().color(&ink);
                    let style = style.pos(Pos::new(HPos::Center, VPos::Center));
                    let number = Text::new(format!("{value}"), (x + CELL / 2, y + CELL / 2), style);
                    root.draw(&number).map_err(refused)?;
                }
            }
            root.present().map_err(refused)?;
        }
        Ok(text)
    }

    /// Writes the picture to a file, as [`Figure::write`](super::Figure::write) does.
    ///
    /// # Errors
    /// As [`svg`](Self::svg), and [`PlotError::Write`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), PlotError> {
        save(&self.svg()?, path.as_ref())
    }
}
