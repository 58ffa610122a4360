//! Small grey pictures side by side in one file.

use image::{GrayImage, ImageFormat, Luma};
use kiln::train::plot;
use std::error::Error;
use std::path::Path;

/// How many pixels of the file are one of a picture.
const SCALE: u32 = 6;
/// Pixels of the file between two pictures.
const GAP: u32 = 4;

/// Whether a picture can be written at `path`, in the format that its ending says.
pub(crate) fn can_write(path: &Path) -> Result<(), Box<dyn Error>> {
    match ImageFormat::from_path(path) {
        Ok(format) if format.writing_enabled() => Ok(plot::can_write(path)?),
        Ok(_) | Err(_) => Err(format!("{} is no name of a .png or .jpg", path.display()).into()),
    }
}

/// Writes square pictures of `side` pixels, whose ink is given from 0 to 1, `columns` in a row.
pub(crate) fn write_grid(
    pixels: &[f32],
    side: usize,
    columns: usize,
    path: &Path,
) -> Result<(), Box<dyn Error>> {
    let count = pixels.len() / (side * side);
    let cell = side as u32 * SCALE + GAP;
    let rows = count.div_ceil(columns) as u32;
    let size = (columns as u32 * cell + GAP, rows * cell + GAP);
    let mut grid = GrayImage::from_pixel(size.0, size.1, Luma([200]));
    for (number, picture) in pixels.chunks_exact(side * side).enumerate() {
        let left = GAP + (number % columns) as u32 * cell;
        let top = GAP + (number / columns) as u32 * cell;
        for y in 0..side as u32 * SCALE {
            for x in 0..side as u32 * SCALE {
                let ink = picture[(y / SCALE) as usize * side + (x / SCALE) as usize];
                let grey = 255.0 * (1.0 - ink.clamp(0.0, 1.0));
                grid.put_pixel(left + x, top + y, Luma([grey as u8]));
            }
        }
    }
    let unwritten = |error: image::ImageError| format!("cannot write {}: {error}", path.display());
    Ok(grid.save(path).map_err(unwritten)?)
}
