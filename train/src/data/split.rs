//! Holding out a part of a data set, plainly or class by class, or the end of a column.
//!
//! All splits give first the remainder and then the part held out, each in the order of the
//! original. Which examples of a data set are held out depends on the seed alone.

use std::collections::BTreeMap;

use super::column::Number;
use super::order::{Purpose, shuffle};
use super::{Column, DataError, Dataset};

impl Column {
    /// Holds out the end: the nearest whole number of examples to `fraction`. Gives the rest and the part held out. A text is split so,
    /// since examples drawn from all over it would have been read from both sides.
    ///
    /// # Errors
    /// [`DataError::Fraction`] unless both parts get at least one example.
    pub fn split_end(&self, fraction: f64) -> Result<(Self, Self), DataError> {
        let examples = self.examples();
        let rest = examples - held_out(examples, fraction)?;
        let rows: Vec<usize> = (0..examples).collect();
        let part = |rows: &[usize]| {
            let mut part = self.buffer(rows.len());
            part.gather(self, rows);
            part
        };
        Ok((part(&rows[..rest]), part(&rows[rest..])))
    }
}

impl Dataset {
    /// Holds out the nearest whole number of examples to `fraction`, chosen by `seed`: gives the
    /// rest and the part held out, each in the order of the original.
    ///
    /// # Errors
    /// [`DataError::Fraction`] unless both parts get at least one example.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self), DataError> {
        let count = held_out(self.len(), fraction)?;
        let mut rows: Vec<usize> = (0..self.len()).collect();
        shuffle(&mut rows, seed, Purpose::Split);
        self.parts(&rows[..count])
    }

    /// As [`split`](Self::split), but holds out the same share of every class, to within one
    /// example. Column `labels` holds one whole number an example: its class.
    ///
    /// The number held out is the same as that of the plain split. Each class first gives its whole
    /// share, rounded down; the examples still missing come one each from the classes with the
    /// largest remainder, the smaller label first where remainders are equal.
    ///
    /// # Errors
    /// [`DataError::Fraction`] unless both parts get at least one example;
    /// [`DataError::UnknownColumn`]; [`DataError::Type`] if the labels are floats, and
    /// [`DataError::Shape`] if they are not one number an example.
    pub fn split_stratified(
        &self,
        fraction: f64,
        labels: &str,
        seed: u64,
    ) -> Result<(Self, Self), DataError> {
        let count = held_out(self.len(), fraction)?;
        let classes = self.classes(labels)?;
        let mut order: Vec<usize> = (0..self.len()).collect();
        shuffle(&mut order, seed, Purpose::Split);

        let mut members: BTreeMap<i128, Vec<usize>> = BTreeMap::new();
        for row in order {
            members.entry(classes[row]).or_default().push(row);
        }
        let mut held = Vec::with_capacity(count);
        let mut leftovers: Vec<(f64, Option<usize>)> = Vec::with_capacity(members.len());
        for rows in members.values() {
            let share = rows.len() as f64 * fraction;
            let whole = share.floor() as usize;
            held.extend_from_slice(&rows[..whole]);
            leftovers.push((share - share.floor(), rows.get(whole).copied()));
        }
        // The sort is stable, so equal remainders keep the order of the labels.
        leftovers.sort_by(|(left, _), (right, _)| right.total_cmp(left));
        let missing = count.saturating_sub(held.len());
        held.extend(
            leftovers
                .into_iter()
                .filter_map(|(_, row)| row)
                .take(missing),
        );
        self.parts(&held)
    }

    fn parts(&self, held: &[usize]) -> Result<(Self, Self), DataError> {
        let mut is_held = vec![false; self.len()];
        for &row in held {
            is_held[row] = true;
        }
        let (held, rest): (Vec<usize>, Vec<usize>) = (0..self.len()).partition(|&row| is_held[row]);
        Ok((self.select(&rest)?, self.select(&held)?))
    }

    pub(super) fn classes(&self, labels: &str) -> Result<Vec<i128>, DataError> {
        let column = self.column(labels)?;
        if column.data().len() != self.len() {
            return Err(DataError::Shape {
                column: labels.to_owned(),
                shape: vec![self.len()],
                wanted: self.len().to_string(),
                found: column.data().len(),
            });
        }
        let mut classes = Vec::with_capacity(self.len());
        column.data().for_each(|number| match number {
            Number::Whole(class) => classes.push(class),
            Number::Real(_) => {}
        });
        if classes.len() == self.len() {
            Ok(classes)
        } else {
            Err(DataError::Type {
                column: labels.to_owned(),
                wanted: "whole numbers, which name classes",
                found: column.data().type_name(),
            })
        }
    }
}

/// The number of examples that `fraction` stands for, if it leaves some on both sides.
fn held_out(examples: usize, fraction: f64) -> Result<usize, DataError> {
    let count = (examples as f64 * fraction).round();
    // A NaN is compared false and refused with the rest.
    if fraction > 0.0 && fraction < 1.0 && count >= 1.0 && count < examples as f64 {
        Ok(count as usize)
    } else {
        Err(DataError::Fraction { fraction, examples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 examples numbered in `x`: 70 of class 3, 20 of class 1 and 10 of class 250.
    fn uneven() -> Dataset {
        let class = |row: u32| match row % 10 {
            0..7 => 3u8,
            7 | 8 => 1,
            _ => 250,
        };
        Dataset::new([
            Column::new("x", [100], (0..100).collect::<Vec<u32>>()).unwrap(),
            Column::new("y", [100], (0..100).map(class).collect::<Vec<u8>>()).unwrap(),
        ])
        .unwrap()
    }

    fn numbers(data: &Dataset) -> Vec<u32> {
        data.column("x").unwrap().values().unwrap().to_vec()
    }

    fn count(data: &Dataset, class: u8) -> usize {
        data.column("y")
            .unwrap()
            .values::<u8>()
            .unwrap()
            .iter()
            .filter(|&&y| y == class)
            .count()
    }

    #[test]
    fn the_parts_are_disjoint_whole_and_in_order() {
        for (rest, held) in [
            uneven().split(0.2, 7).unwrap(),
            uneven().split_stratified(0.2, "y", 7).unwrap(),
        ] {
            assert_eq!((rest.len(), held.len()), (80, 20));
            assert!(numbers(&rest).is_sorted() && numbers(&held).is_sorted());
            let mut all = [numbers(&rest), numbers(&held)].concat();
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn the_seed_alone_decides() {
        let held = |seed| numbers(&uneven().split(0.2, seed).unwrap().1);
        assert_eq!(held(1), held(1));
        assert_ne!(held(1), held(2));
        assert_ne!(
            held(1),
            (0..20).collect::<Vec<u32>>(),
            "the first fifth is no random fifth"
        );
    }

    #[test]
    fn strata_keep_their_shares() {
        let (rest, held) = uneven().split_stratified(0.2, "y", 7).unwrap();
        assert_eq!(
            [count(&held, 3), count(&held, 1), count(&held, 250)],
            [14, 4, 2]
        );
        assert_eq!(
            [count(&rest, 3), count(&rest, 1), count(&rest, 250)],
            [56, 16, 8]
        );
        // 17.5 and 2.5 leave remainders of a half; classes 3, 1 and 250 would give 17 + 5 + 2, so
        // one is missing, and it comes from the smaller label.
        let (_, held) = uneven().split_stratified(0.25, "y", 7).unwrap();
        assert_eq!(
            [count(&held, 3), count(&held, 1), count(&held, 250)],
            [18, 5, 2]
        );
    }

    #[test]
    fn fractions_that_leave_a_side_empty_are_refused() {
        for fraction in [0.0, 1.0, -0.5, 1.5, 0.001, 0.999, f64::NAN, f64::INFINITY] {
            let error = uneven().split(fraction, 0).unwrap_err();
            assert!(
                matches!(error, DataError::Fraction { examples: 100, .. }),
                "{fraction}"
            );
        }
    }

    #[test]
    fn the_end_of_a_column_is_held_out_in_order() {
        let column = Column::new("x", [5, 2], (0..10).collect::<Vec<u16>>()).unwrap();
        let (rest, end) = column.split_end(0.4).unwrap();
        assert_eq!((rest.shape(), end.shape()), (&[3, 2][..], &[2, 2][..]));
        assert_eq!(rest.values::<u16>().unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(end.values::<u16>().unwrap(), [6, 7, 8, 9]);
        assert_eq!(end.name(), "x");
        for fraction in [0.0, 0.05, 0.95, 1.0, f64::NAN] {
            let error = column.split_end(fraction).unwrap_err();
            assert!(
                matches!(error, DataError::Fraction { examples: 5, .. }),
                "{fraction}"
            );
        }
    }

    #[test]
    fn labels_must_be_one_whole_number_an_example() {
        let data = uneven().map_f32("y", |y| y).unwrap();
        let error = data.split_stratified(0.2, "y", 0).unwrap_err().to_string();
        assert_eq!(
            error,
            "column `y` holds f32, not whole numbers, which name classes"
        );
        let pairs = Column::new("y", [2, 2], vec![0u8; 4]).unwrap();
        let data = Dataset::new([pairs]).unwrap();
        assert!(matches!(
            data.split_stratified(0.5, "y", 0),
            Err(DataError::Shape { .. })
        ));
    }
}
