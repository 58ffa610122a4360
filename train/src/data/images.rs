//! Pictures in folders, one for each class.

use super::error::quoted;
use super::{Column, DataError, Dataset};
use image::imageops::FilterType;
use image::{DynamicImage, ImageError, ImageReader};
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
/// alphabet; pictures of another size are scaled. Files and folders whose names begin with a dot are left out.
///
/// # Errors
/// [`DataError::Io`] for a folder that cannot be read; [`DataError::Image`] for anything in the folder of a class that is no such picture, and
/// for pictures beside the folders; [`DataError::Setting`] for a size of 0, and [`DataError::Empty`] where there is no picture.
pub fn image_folder(
    folder: impl AsRef<Path>,
    size: [u32; 2],
    channels: Channels,
) -> Result<(Dataset, Vec<String>), DataError> {
    let found = classes(folder.as_ref())?;
    let names: Vec<String> = found.iter().map(|(name, _)| name.clone()).collect();
    let numbered = (0..).zip(&found).map(|(number, (_, path))| (number, path));
    Ok((read(numbered, size, channels)?, names))
}

/// As [`image_folder`], with the classes that another folder gave: a model that learned from one tests on the other. A class may lack a
/// folder here.
///
/// # Errors
/// As [`image_folder`], and [`DataError::Image`] for a folder that is none of the classes.
///
/// ```no_run
/// use kiln_train::data::{Channels, image_folder, image_folder_as};
///
/// let (train, names) = image_folder("pictures/train", [32, 32], Channels::Rgb)?;
/// let test = image_folder_as("pictures/test", [32, 32], Channels::Rgb, &names)?;
/// # Ok::<(), kiln_train::data::DataError>(())
/// ```
pub fn image_folder_as(
    folder: impl AsRef<Path>,
    size: [u32; 2],
    channels: Channels,
    names: &[String],
) -> Result<Dataset, DataError> {
    let found = classes(folder.as_ref())?;
    let numbered = found.iter().map(|(name, path)| {
        let number = names.iter().position(|known| known == name);
        let number = number.ok_or_else(|| DataError::Image {
            path: path.clone(),
            message: format!("it is none of the classes, which are {}", quoted(names)),
        })?;
        Ok((number as u32, path))
    });
    let numbered: Vec<_> = numbered.collect::<Result<_, DataError>>()?;
    read(numbered.into_iter(), size, channels)
}

/// The folders of classes with their names.
fn classes(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut classes = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default();
            classes.push((name.to_string_lossy().into_owned(), path));
        } else if is_picture(&path) {
            return Err(DataError::Image {
                path,
                message: "it lies in the folder of no class; pictures are read as CLASS/NAME.png"
                    .to_owned(),
            });
        }
    }
    Ok(classes)
}

/// The pictures in folders, each with the number of its class.
fn read<'p>(
    classes: impl Iterator<Item = (u32, &'p PathBuf)>,
    [height, width]: [u32; 2],
    channels: Channels,
) -> Result<Dataset, DataError> {
    for (what, value) in [("the height of pictures", height), ("their width", width)] {
        if value == 0 {
            return Err(DataError::Setting {
                what,
                value: 0.0,
                wanted: "at 1 or above",
            });
        }
    }
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for (label, class) in classes {
        for file in entries(class)? {
            let picture = open(&file)?;
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
    }
    let depth = match channels {
        Channels::Grey => 1,
        Channels::Rgb => 3,
    };
    let shape = [labels.len(), height as usize, width as usize, depth];
    Dataset::new([
        Column::new("x", shape, pixels)?,
        Column::new("y", [labels.len()], labels)?,
    ])
}

/// Reads a picture by what it holds: many a JPEG file is called `.png`.
fn open(file: &Path) -> Result<DynamicImage, DataError> {
    let refused = |message: String| DataError::Image {
        path: file.to_owned(),
        message,
    };
    if !is_picture(file) {
        let message = "the folder of a class holds files that end in .png, .jpg or .jpeg";
        return Err(refused(message.to_owned()));
    }
    let reader = ImageReader::open(file).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|source| DataError::Io {
        path: file.to_owned(),
        source,
    })?;
    let unfit = |error: ImageError| refused(format!("it is no picture: {error}"));
    reader.decode().map_err(unfit)
}

fn is_picture(file: &Path) -> bool {
    let ending = file.extension().unwrap_or_default().to_ascii_lowercase();
    file.is_file() && ["png", "jpg", "jpeg"].iter().any(|known| ending == *known)
}

/// What is in a folder, in order, but for what is hidden.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder)?;
        let named = entries.map(|entry| entry.map(|entry| (entry.file_name(), entry.path())));
        let shown = named.filter(|entry| match entry {
            Ok((name, _)) => !name.as_encoded_bytes().starts_with(b"."),
            Err(_) => true,
        });
        shown.map(|entry| Ok(entry?.1)).collect()
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
        // A system's own folders and files are no classes and no pictures.
        std::fs::create_dir_all(folder.join(".cache")).unwrap();
        std::fs::write(folder.join("cats").join(".thumbs"), "no picture").unwrap();
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
        // The classes of one folder number those of another.
        let more = ["ants", "cats", "dogs"].map(str::to_owned);
        let data = image_folder_as(&folder, [2, 2], Channels::Grey, &more).unwrap();
        let y = data.column("y").unwrap();
        assert_eq!(y.values::<u32>().unwrap(), [1, 1, 2]);
        let refused = |names: &[String], size: [u32; 2]| {
            let read = image_folder_as(&folder, size, Channels::Rgb, names);
            read.unwrap_err().to_string()
        };
        let error = refused(&more[..2], [2, 2]);
        assert!(
            error.ends_with("dogs: it is none of the classes, which are `ants`, `cats`"),
            "{error}"
        );
        assert_eq!(
            refused(&more, [2, 0]),
            "their width is 0; it lies at 1 or above"
        );
        // A JPEG file is one whatever it is called.
        let file = folder.join("dogs").join("b.png");
        let picture = image::RgbImage::from_pixel(2, 2, image::Rgb([200; 3]));
        picture
            .save_with_format(&file, image::ImageFormat::Jpeg)
            .unwrap();
        assert!(image_folder(&folder, [2, 2], Channels::Rgb).is_ok());
        for (place, wrong) in [
            ("dogs/broken.jpg", "broken.jpg: it is no picture"),
            ("cats/notes.txt", "notes.txt: the folder of a class holds"),
            ("alone.png", "alone.png: it lies in the folder of no class"),
        ] {
            let file = folder.join(place);
            std::fs::write(&file, "no picture").unwrap();
            let error = refused(&more, [2, 2]);
            assert!(error.contains(wrong), "{error}");
            std::fs::remove_file(&file).unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(
            image_folder(&folder, [2, 2], Channels::Rgb),
            Err(DataError::Io { .. })
        ));
    }
}
