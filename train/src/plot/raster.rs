//! Pictures as files: an SVG as it is, or drawn as a PNG.

use super::PlotError;
use std::fs::File;
use std::path::Path;

/// Writes the text of an SVG to a file, drawn as a PNG where its name ends so.
pub(super) fn save(svg: &str, path: &Path) -> Result<(), PlotError> {
    let is_png = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
    let bytes = if is_png {
        png(svg)?
    } else {
        svg.as_bytes().to_vec()
    };
    std::fs::write(path, bytes).map_err(unwritten(path))
}

/// Whether a picture can be written at `path`, found out by opening the file: for those who train for hours before they draw. The file is as
/// it was afterwards.
///
/// # Errors
/// [`PlotError::Write`].
pub fn can_write(path: impl AsRef<Path>) -> Result<(), PlotError> {
    let path = path.as_ref();
    let is_new = !path.exists();
    let opened = File::options().append(true).create(true).open(path);
    opened.map_err(unwritten(path))?;
    if is_new {
        std::fs::remove_file(path).map_err(unwritten(path))?;
    }
    Ok(())
}

fn unwritten(path: &Path) -> impl FnOnce(std::io::Error) -> PlotError {
    move |source| PlotError::Write {
        path: path.to_owned(),
        source,
    }
}

/// How many pixels of a PNG are one of an SVG: as screens of today have them.
const SCALE: f32 = 2.0;

/// The picture of an SVG, drawn with the fonts of the machine, as a PNG file.
///
/// # Errors
/// [`PlotError::Draw`] for a text that is no SVG.
pub fn png(svg: &str) -> Result<Vec<u8>, PlotError> {
    use resvg::{tiny_skia, usvg};
    let refused = |message: String| PlotError::Draw { message };
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    if let Some(family) = sans_serif(fonts) {
        fonts.set_sans_serif_family(family);
    }
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| refused(error.to_string()))?;
    let size = tree.size().to_int_size();
    let (width, height) = (size.width() * SCALE as u32, size.height() * SCALE as u32);
    let mut pixels = tiny_skia::Pixmap::new(width, height)
        .ok_or_else(|| refused(format!("there is no picture of {width} x {height} pixels")))?;
    let scale = tiny_skia::Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    pixels
        .encode_png()
        .map_err(|error| refused(error.to_string()))
}

/// The family that stands for any without serifs: a usual one that the machine has, else the first.
fn sans_serif(fonts: &resvg::usvg::fontdb::Database) -> Option<String> {
    let families = || {
        fonts
            .faces()
            .flat_map(|face| &face.families)
            .map(|(name, _)| name)
    };
    let usual = USUAL
        .iter()
        .find(|usual| families().any(|name| name == *usual));
    usual
        .map(|name| (*name).to_owned())
        .or_else(|| families().next().cloned())
}

const USUAL: [&str; 5] = [
    "DejaVu Sans",
    "Liberation Sans",
    "Noto Sans",
    "Arial",
    "Helvetica",
];

#[cfg(test)]
mod tests {
    use super::super::{Figure, Panel};
    use super::*;

    #[test]
    fn a_png_shows_its_text_where_the_machine_has_a_font() {
        let mut fonts = resvg::usvg::fontdb::Database::new();
        fonts.load_system_fonts();
        let titled = |title| {
            let panel = Panel::new(title).line("fit", [(0.0, 1.0), (1.0, 3.0)]);
            png(&Figure::new([panel]).svg().unwrap()).unwrap()
        };
        assert_eq!(titled("one") != titled("two"), !fonts.is_empty());
        assert_eq!(titled("one")[1..4], *b"PNG");
        assert!(matches!(png("no picture"), Err(PlotError::Draw { .. })));
    }

    #[test]
    fn whether_a_picture_can_be_written_is_found_out_without_a_trace() {
        let path = std::env::temp_dir().join(format!("kiln-can-write-{}", std::process::id()));
        can_write(&path).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "before").unwrap();
        can_write(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        let below = can_write(path.join("below.svg")).unwrap_err();
        assert!(below.to_string().starts_with("cannot write "), "{below}");
        assert!(can_write(std::env::temp_dir()).is_err());
        std::fs::remove_file(path).unwrap();
    }
}
