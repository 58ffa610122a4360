//! What the user keeps with a model: statistics of a preprocessing, names of classes.
//!
//! A value is stored in the form of `postcard`, which holds no names: some bytes make a value of many types. So its type is stored beside it,
//! and a value is read as the type that it was kept as and no other.

use super::CheckpointError;
use crate::trainer::{TrainError, Trainer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A value in a form that files hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    of: String,
    bytes: Vec<u8>,
}

impl Trainer {
    /// Keeps a value with the model: the statistics of a preprocessing, the names of classes. It is part of every checkpoint from now on.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] for a value that has no fixed form.
    pub fn keep<T: Serialize>(&mut self, name: &str, value: &T) -> Result<(), TrainError> {
        let bytes = postcard::to_stdvec(value).map_err(|error| CheckpointError::Keep {
            name: name.to_owned(),
            what: error.to_string(),
        })?;
        let of = type_name::<T>();
        self.kept.insert(name.to_owned(), Kept { of, bytes });
        Ok(())
    }

    /// The value that was kept under `name`; `None` where there is none. A `&str` is read as a `String`.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] for a value that was kept as another type, or whose type has changed since.
    ///
    /// ```
    /// # use kiln_nn::{MeanSquaredError, Sequential, Sgd};
    /// # use kiln_train::Trainer;
    /// # let trainer = Trainer::new(Sequential::new([1]).dense(1)).loss(MeanSquaredError);
    /// # let mut trainer = trainer.optimizer(Sgd::new(0.1)).compile()?;
    /// trainer.keep("classes", &vec!["cat", "dog"])?;
    /// let classes: Option<Vec<String>> = trainer.kept("classes")?;
    /// assert_eq!(classes.as_deref(), Some(&["cat".to_owned(), "dog".to_owned()][..]));
    /// assert!(trainer.kept::<Vec<u8>>("classes").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn kept<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, TrainError> {
        let Some(Kept { of, bytes }) = self.kept.get(name) else {
            return Ok(None);
        };
        let wrong = |what: String| CheckpointError::Keep {
            name: name.to_owned(),
            what,
        };
        let asked = type_name::<T>();
        if *of != asked {
            return Err(wrong(format!("it is `{of}`, and `{asked}` was asked for")).into());
        }
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(Some(value)),
            Ok(_) | Err(_) => {
                Err(wrong(format!("`{of}` was another type when it was kept")).into())
            }
        }
    }
}

/// The name of a type without the modules it is in, which may move between two versions of a program.
fn type_name<T>() -> String {
    let mut name = String::new();
    for word in
        std::any::type_name::<T>().split_inclusive(|c: char| !c.is_alphanumeric() && c != '_')
    {
        name.push_str(word);
        if name.ends_with("::") {
            name.truncate(name.len() - 2);
            let start = name.rfind(|c: char| !c.is_alphanumeric() && c != '_');
            name.truncate(start.map_or(0, |at| at + 1));
        }
    }
    name.replace("&str", "String")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart_wherever_they_are_defined() {
        assert_eq!(type_name::<Vec<&str>>(), "Vec<String>");
        assert_eq!(
            type_name::<Vec<(String, Option<f32>)>>(),
            "Vec<(String, Option<f32>)>"
        );
        assert_eq!(type_name::<crate::data::Standardise>(), "Standardise");
        assert_eq!(type_name::<[u8; 4]>(), "[u8; 4]");
    }
}
