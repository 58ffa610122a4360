//! Pictures in folders, one for each class.

use super::{Column, DataError, Dataset};
use image::imageops::FilterType;
use std::path::{Path, PathBuf};

/// The channels of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One: the luminance.
    Grey,
    /// Three: red, green, blue.
    Rgb,
}

/// Reads the PNG and JPEG files below `folder`, where each folder is a class: `cats/1.png`. Gives the columns `x`, u8 of shape
/// `[n, height, width, channels]`, and `y`, u32 of shape `[n]`, and the names of the classes. Classes and files come in the order of the
/// alphabet; pictures of another size are scaled.
///
/// # Errors
/// [`DataError::Io`] for a folder that cannot be read, [`DataError::Image`] for a file that is no such picture, and [`DataError::Empty`]
/// where there is none.
pub fn image_folder(
    folder: impl AsRef<Path>,
    [height, width]: [u32; 2],
    channels: Channels,
) -> Result<(Dataset, Vec<String>), DataError> {
    let (mut pixels, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for class in entries(folder.as_ref())? {
        if !class.is_dir() {
            continue;
        }
        let label = names.len() as u32;
        for file in entries(&class)? {
            if !is_picture(&file) {
                continue;
            }
            let picture = image::open(&file).map_err(|error| DataError::Image {
                path: file.clone(),
                message: error.to_string(),
            })?;
            let fits = (picture.width(), picture.height()) == (width, height);
            let picture = if fits {
                picture
            } else {
                picture.resize_exact(width, height, FilterType::Triangle)
            };
            match channels {
                Channels::Grey => pixels.extend_from_slice(picture.into_luma8().as_raw()),
                Channels::Rgb => pixels.extend_from_slice(picture.into_rgb8().as_raw()),
            }
            labels.push(label);
        }
        let name = class.file_name().unwrap_or_default();
        names.push(name.to_string_lossy().into_owned());
    }
    let depth = match channels {
        Channels::Grey => 1,
        Channels::Rgb => 3,
    };
    let shape = [labels.len(), height as usize, width as usize, depth];
    let data = Dataset::new([
        Column::new("x", shape, pixels)?,
        Column::new("y", [labels.len()], labels)?,
    ])?;
    Ok((data, names))
}

fn is_picture(file: &Path) -> bool {
    let ending = file.extension().unwrap_or_default().to_ascii_lowercase();
    ["png", "jpg", "jpeg"].iter().any(|known| ending == *known)
}

/// What is in a folder, in order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder)?;
        entries.map(|entry| Ok(entry?.path())).collect()
    };
    let mut entries = read().map_err(|source| DataError::Io {
        path: folder.to_owned(),
        source,
    })?;
    entries.sort();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_classes_and_pictures_are_scaled() {
        let folder = std::env::temp_dir().join(format!("kiln-images-{}", std::process::id()));
        for (class, name, size, value) in [
            ("dogs", "b.png", 2, 200),
            ("cats", "a.PNG", 2, 10),
            ("cats", "c.png", 4, 30),
        ] {
            std::fs::create_dir_all(folder.join(class)).unwrap();
            let picture = image::RgbImage::from_pixel(size, size, image::Rgb([value; 3]));
            picture.save(folder.join(class).join(name)).unwrap();
        }
        std::fs::write(folder.join("cats").join("notes.txt"), "no picture").unwrap();
        let (data, names) = image_folder(&folder, [2, 2], Channels::Grey).unwrap();
        assert_eq!(names, ["cats", "dogs"]);
        assert_eq!(
            data.column("y").unwrap().values::<u32>().unwrap(),
            [0, 0, 1]
        );
        let x = data.column("x").unwrap();
        assert_eq!(x.shape(), [3, 2, 2, 1]);
        let wanted = [[10u8; 4], [30; 4], [200; 4]].concat();
        assert_eq!(x.values::<u8>().unwrap(), wanted);
        let (rgb, _) = image_folder(&folder, [2, 2], Channels::Rgb).unwrap();
        assert_eq!(rgb.column("x").unwrap().shape(), [3, 2, 2, 3]);
        std::fs::write(folder.join("dogs").join("broken.jpg"), "no picture").unwrap();
        let error = image_folder(&folder, [2, 2], Channels::Rgb).unwrap_err();
        assert!(error.to_string().contains("broken.jpg"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(
            image_folder(&folder, [2, 2], Channels::Rgb),
            Err(DataError::Io { .. })
        ));
    }
}
