//! What the user keeps with a model: statistics of a preprocessing, names of classes.
//!
//! A value is stored as CBOR (RFC 8949), with the names of its fields and the name of its type beside it, and is read as a type of that name
//! with these fields and no other. The modules of the type are not compared: they may move between two versions of a program, and the program
//! that predicts may be another one than the one that trained. Two types of one name with the same fields are one for a file.

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
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).map_err(|error| CheckpointError::Keep {
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
    /// [`TrainError::Checkpoint`] for a value that was kept as a type of another name, or with other fields.
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
        let mut rest = bytes.as_slice();
        let another = match ciborium::from_reader(&mut rest) {
            Ok(value) if rest.is_empty() => return Ok(Some(value)),
            Ok(_) => "it is longer".to_owned(),
            Err(ciborium::de::Error::Semantic(_, what)) => what,
            Err(error) => error.to_string(),
        };
        Err(wrong(format!("it was another `{of}` when it was kept: {another}")).into())
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

    mod before {
        #[derive(serde::Serialize)]
        pub(super) struct Scale {
            pub(super) means: Vec<f64>,
        }
    }

    mod after {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        pub(super) struct Scale {
            pub(super) means: Vec<f64>,
        }
    }

    mod elsewhere {
        #[derive(Debug, serde::Deserialize)]
        pub(super) struct Scale {
            #[expect(dead_code, reason = "it cannot be read")]
            lows: Vec<f64>,
        }
    }

    #[test]
    fn a_type_that_has_moved_is_read_and_one_of_its_name_with_other_fields_is_not() {
        let model = kiln_nn::Sequential::new([1]).dense(1);
        let trainer = Trainer::new(model).loss(kiln_nn::MeanSquaredError);
        let mut trainer = trainer.optimizer(kiln_nn::Sgd::new(0.1)).compile().unwrap();
        let means = vec![0.1, f64::INFINITY, 1e-320];
        let kept = before::Scale {
            means: means.clone(),
        };
        trainer.keep("scale", &kept).unwrap();
        let moved = trainer.kept("scale").unwrap();
        assert_eq!(moved, Some(after::Scale { means }));
        let error = trainer.kept::<elsewhere::Scale>("scale").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`scale` is kept with the model: it was another `Scale` when it was kept: missing field `lows`"
        );
        let error = trainer.kept::<Vec<f64>>("scale").unwrap_err().to_string();
        assert!(error.contains("it is `Scale`, and `Vec<f64>` was asked for"));
    }
}
