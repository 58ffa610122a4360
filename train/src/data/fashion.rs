//! Fashion-MNIST from a folder of its four IDX files.
//!
//! Nothing is downloaded: where the files are missing, the error says how to get them. What is read
//! is checked against what the data set is known to be, so that another one of the same file names
//! is not trained on by mistake: 28 x 28 pixels and ten classes.

use std::path::{Path, PathBuf};

use super::idx::{self, Array};
use super::{Column, ColumnData, DataError, Dataset};

/// Where Debian's package `dataset-fashion-mnist` puts the files.
pub const FASHION_MNIST_DIR: &str = "/usr/share/datasets/fashion-mnist";

const SIDE: usize = 28;
const CLASSES: u8 = 10;

/// Reads Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017) from `folder`: the 60,000 examples to train
/// with and the 10,000 to test with.
///
/// The folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same two beginning
/// with `t10k`, each plain or with `.gz`; the plain one is read where there are both. The columns
/// are `x`, u8 of shape `[n, 28, 28]`, 0 for white to 255, and `y`, u8 of shape `[n]`, the class.
///
/// # Errors
/// [`DataError::NotInstalled`] where a file is missing; [`DataError::Io`] and [`DataError::Idx`] for
/// a file that cannot be read, is damaged, or holds something else.
pub fn fashion_mnist(folder: &Path) -> Result<(Dataset, Dataset), DataError> {
    Ok((part(folder, "train")?, part(folder, "t10k")?))
}

fn part(folder: &Path, prefix: &str) -> Result<Dataset, DataError> {
    let images = find(folder, &format!("{prefix}-images-idx3-ubyte"))?;
    let labels = find(folder, &format!("{prefix}-labels-idx1-ubyte"))?;
    dataset(&images, idx::read(&images)?, &labels, idx::read(&labels)?)
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, DataError> {
    let plain = folder.join(name);
    let packed = folder.join(format!("{name}.gz"));
    [plain, packed]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| DataError::NotInstalled {
            name: "Fashion-MNIST",
            folder: folder.to_owned(),
            missing: format!("{name} or {name}.gz"),
            help: format!(
                "on Debian and Ubuntu, `apt-get install dataset-fashion-mnist` puts the files in \
                 {FASHION_MNIST_DIR}; elsewhere, take the four files from \
                 https://github.com/zalandoresearch/fashion-mnist and name their folder"
            ),
        })
}

/// Joins the two arrays, naming the file and the byte of what does not fit.
fn dataset(
    images_path: &Path,
    images: Array,
    labels_path: &Path,
    labels: Array,
) -> Result<Dataset, DataError> {
    let wrong = |path: &Path, offset: usize, found: String, wanted: String| DataError::Idx {
        file: path.display().to_string(),
        offset: offset as u64,
        found,
        wanted,
    };
    let described =
        |array: &Array| format!("{} of shape {:?}", array.data.type_name(), array.shape);

    let ([count, SIDE, SIDE], ColumnData::U8(pixels)) = (&images.shape[..], &images.data) else {
        let wanted = "the images are u8 of shape [n, 28, 28]".to_owned();
        return Err(wrong(images_path, 2, described(&images), wanted));
    };
    let ([label_count], ColumnData::U8(classes)) = (&labels.shape[..], &labels.data) else {
        let wanted = "the labels are u8 of shape [n]".to_owned();
        return Err(wrong(labels_path, 2, described(&labels), wanted));
    };
    if label_count != count {
        let wanted = format!("{} holds {count} images", images_path.display());
        return Err(wrong(
            labels_path,
            4,
            format!("{label_count} labels"),
            wanted,
        ));
    }
    if let Some(position) = classes.iter().position(|&class| class >= CLASSES) {
        /// The magic number and one axis.
        const HEADER: usize = 8;
        let found = format!("class {}", classes[position]);
        let wanted = format!("the classes are 0 to {}", CLASSES - 1);
        return Err(wrong(labels_path, HEADER + position, found, wanted));
    }
    Dataset::new([
        Column::new("x", [*count, SIDE, SIDE], pixels.clone())?,
        Column::new("y", [*count], classes.clone())?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[usize], data: impl Into<ColumnData>) -> Array {
        Array {
            shape: shape.to_vec(),
            data: data.into(),
        }
    }

    fn joined(images: Array, labels: Array) -> Result<Dataset, String> {
        dataset(Path::new("images"), images, Path::new("labels"), labels)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn images_and_labels_are_joined() {
        let images = array(&[2, 28, 28], vec![7u8; 2 * 784]);
        let data = joined(images, array(&[2], vec![0u8, 9])).unwrap();
        assert_eq!(data.column("x").unwrap().shape(), [2, 28, 28]);
        assert_eq!(data.column("y").unwrap().values::<u8>().unwrap(), [0, 9]);
    }

    #[test]
    fn what_is_no_fashion_mnist_is_refused_by_file_and_byte() {
        let images = || array(&[2, 28, 28], vec![7u8; 2 * 784]);
        let labels = || array(&[2], vec![0u8, 9]);
        let cases = [
            (
                array(&[2], vec![0u8, 1]),
                labels(),
                "images: at byte 2: found u8 of shape [2]",
            ),
            (
                array(&[2, 28, 28], vec![0i8; 1568]),
                labels(),
                "images: at byte 2: found i8",
            ),
            (
                images(),
                array(&[2, 1], vec![0u8, 1]),
                "labels: at byte 2: found u8 of shape [2, 1]",
            ),
            (
                images(),
                array(&[1], vec![0u8]),
                "labels: at byte 4: found 1 labels, but images",
            ),
            (
                images(),
                array(&[2], vec![0u8, 10]),
                "labels: at byte 9: found class 10",
            ),
        ];
        for (images, labels, wanted) in cases {
            let error = joined(images, labels).unwrap_err();
            assert!(
                error.starts_with(wanted),
                "{error}\nshould start with {wanted}"
            );
        }
    }

    #[test]
    fn a_missing_folder_says_how_to_get_the_files() {
        let error = fashion_mnist(Path::new("/nowhere"))
            .unwrap_err()
            .to_string();
        for wanted in [
            "/nowhere",
            "train-images-idx3-ubyte",
            "dataset-fashion-mnist",
        ] {
            assert!(error.contains(wanted), "{error}");
        }
    }

    /// Where the package is installed, the whole set is read and its published shape is found.
    #[test]
    fn the_installed_set_is_whole() {
        let folder = Path::new(FASHION_MNIST_DIR);
        if !folder.is_dir() {
            return;
        }
        let (train, test) = fashion_mnist(folder).unwrap();
        for (data, examples) in [(train, 60_000), (test, 10_000)] {
            assert_eq!(data.len(), examples);
            let labels = data.column("y").unwrap().values::<u8>().unwrap();
            for class in 0..CLASSES {
                let count = labels.iter().filter(|&&label| label == class).count();
                assert_eq!(count, examples / 10, "class {class}");
            }
        }
    }
}
