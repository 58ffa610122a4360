//! Random matrices with orthonormal columns or rows.
//!
//! Of a matrix of normal draws, as many rows as the longer side has elements, the factor Q with a positive diagonal of R. That Q is unique,
//! so Gram and Schmidt find it as well as Householder, and their columns need no change of sign. Each column is made orthogonal to those
//! before it twice, which is enough to bring what rounding left to the size of rounding: Giraud, Langou and Rozloznik, "The loss of
//! orthogonality in the Gram-Schmidt orthogonalization process" (2005). All sums have one order and no function of a library is called, so
//! the bits are the same on every machine.

use crate::philox::Stream;

/// The partial sums of an inner product, as many as two of the widest registers hold.
const LANES: usize = 16;

/// A matrix of `rows` and `columns`; the shorter side counts orthonormal vectors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Orthogonal {
    /// The vectors, one behind the other.
    vectors: Vec<f64>,
    rows: usize,
    columns: usize,
}

impl Orthogonal {
    /// The matrix that the normal draws of `stream` give.
    pub(crate) fn of(stream: &Stream, rows: usize, columns: usize) -> Self {
        let (long, short) = (rows.max(columns), rows.min(columns));
        let mut vectors = vec![0.0; long * short];
        for (index, pair) in (0..long * short).step_by(2).zip(0..) {
            for (index, z) in (index..long * short).zip(stream.normal_pair(pair)) {
                vectors[index % short * long + index / short] = z;
            }
        }
        for number in 0..short {
            let (before, rest) = vectors.split_at_mut(number * long);
            let vector = &mut rest[..long];
            for _ in 0..2 {
                for other in before.chunks_exact(long) {
                    let along = inner(other, vector);
                    for (x, y) in vector.iter_mut().zip(other) {
                        *x -= along * y;
                    }
                }
            }
            let norm = inner(vector, vector).sqrt();
            vector.iter_mut().for_each(|x| *x /= norm);
        }
        Self {
            vectors,
            rows,
            columns,
        }
    }

    /// Element `index` in row-major order; 0 behind the last.
    pub(crate) fn at(&self, index: u64) -> f64 {
        let Ok(index) = usize::try_from(index) else {
            return 0.0;
        };
        let columns = self.columns.max(1);
        let (row, column) = (index / columns, index % columns);
        let place = if self.rows >= self.columns {
            column * self.rows + row
        } else {
            index
        };
        let element = self.vectors.get(place);
        element.copied().filter(|_| row < self.rows).unwrap_or(0.0)
    }
}

/// The sum of products of two vectors of one length.
fn inner(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += x * y;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Init;

    fn matrix(shape: &[usize]) -> Vec<f64> {
        let sampler = Init::orthogonal(1.5).sampler(3, "w", shape);
        let count: usize = shape.iter().product();
        (0..count as u64).map(|i| sampler.at(i)).collect()
    }

    #[test]
    fn the_shorter_side_counts_orthonormal_vectors() {
        for shape in [
            &[40, 40][..],
            &[7, 64],
            &[65, 3],
            &[3, 3, 4, 20],
            &[1, 5],
            &[4, 0],
            &[0, 4],
        ] {
            let (rows, columns) = (
                shape[..shape.len() - 1].iter().product::<usize>(),
                shape[shape.len() - 1],
            );
            let w = matrix(shape);
            let vectors: Vec<Vec<f64>> = if rows >= columns {
                let column = |j| (0..rows).map(|i| w[i * columns + j]).collect();
                (0..columns).map(column).collect()
            } else {
                w.chunks(columns).map(<[f64]>::to_vec).collect()
            };
            assert_eq!(vectors.len(), rows.min(columns));
            for (i, a) in vectors.iter().enumerate() {
                for (j, b) in vectors.iter().enumerate() {
                    let product: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
                    let wanted = if i == j { 2.25 } else { 0.0 };
                    assert!(
                        (product - wanted).abs() < 1e-13,
                        "{shape:?} {i} {j}: {product}"
                    );
                }
            }
        }
    }

    /// R = Q^T A, of the draws A, is upper triangular with a positive diagonal: the convention that makes Q unique.
    #[test]
    fn the_other_factor_is_triangular_and_its_diagonal_positive() {
        let (rows, columns) = (9, 5);
        let stream = Stream::new(3, "w", 0);
        let q = matrix(&[rows, columns]);
        for i in 0..columns {
            for j in 0..columns {
                let term =
                    |k: usize| q[k * columns + i] / 1.5 * stream.normal((k * columns + j) as u64);
                let r: f64 = (0..rows).map(term).sum();
                assert!(
                    if i == j {
                        r > 0.1
                    } else {
                        i < j || r.abs() < 1e-13
                    },
                    "{i} {j}: {r}"
                );
            }
        }
    }

    /// Haar's distribution has no preferred sign: without the convention the first column of Householder's Q would.
    #[test]
    fn no_direction_is_preferred() {
        let draws = 2000;
        let sum: f64 = (0..draws)
            .map(|seed| Init::orthogonal(1.0).sampler(seed, "w", &[3, 3]).at(0))
            .sum();
        // The variance of an element is 1 / 3.
        let deviations = sum / (draws as f64 / 3.0).sqrt();
        assert!(deviations.abs() < 4.0, "{deviations}");
    }

    #[test]
    fn identities_may_be_wide_and_high() {
        for (shape, wanted) in [
            ([2, 3], &[2.0, 0.0, 0.0, 0.0, 2.0, 0.0][..]),
            ([3, 2], &[2.0, 0.0, 0.0, 2.0, 0.0, 0.0]),
        ] {
            let sampler = Init::Identity { gain: 2.0 }.sampler(1, "w", &shape);
            let found: Vec<f64> = (0..6).map(|i| sampler.at(i)).collect();
            assert_eq!(found, wanted);
        }
    }
}
