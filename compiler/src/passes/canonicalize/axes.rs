//! How the axes of two shapes with the same elements in the same order correspond, where only axes of size 1 come and go.

use kiln_ir::Dim;

/// Whether the axis has one element, whatever the binding.
pub(super) fn is_unit(dim: &Dim) -> bool {
    dim.constant() == Some(1)
}

/// The positions of the axes that are not units.
fn wide(shape: &[Dim]) -> Vec<usize> {
    (0..shape.len()).filter(|a| !is_unit(&shape[*a])).collect()
}

/// For each axis of `from`, the axis of `to` that it is; `None` for units. The whole is `None` where more than units differ.
pub(super) fn correspondence(from: &[Dim], to: &[Dim]) -> Option<Vec<Option<usize>>> {
    let (wide_from, wide_to) = (wide(from), wide(to));
    let same = wide_from.len() == wide_to.len()
        && wide_from
            .iter()
            .zip(&wide_to)
            .all(|(f, t)| from[*f] == to[*t]);
    if !same {
        return None;
    }
    let mut map = vec![None; from.len()];
    for (f, t) in wide_from.into_iter().zip(wide_to) {
        map[f] = Some(t);
    }
    Some(map)
}

/// Where the axes of `small` are in `large`, ascending, if `large` is `small` with more units.
pub(super) fn embedding(small: &[Dim], large: &[Dim]) -> Option<Vec<usize>> {
    let mut places = Vec::new();
    for (axis, dim) in large.iter().enumerate() {
        if small.get(places.len()) == Some(dim) {
            places.push(axis);
        } else if !is_unit(dim) {
            return None;
        }
    }
    (places.len() == small.len()).then_some(places)
}

/// Whether the permutation leaves the order of all axes but units as it is.
pub(super) fn moves_only_units(shape: &[Dim], order: &[usize]) -> bool {
    let wide: Vec<usize> = order
        .iter()
        .copied()
        .filter(|a| !is_unit(&shape[*a]))
        .collect();
    wide.is_sorted()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(sizes: &[i64]) -> Vec<Dim> {
        sizes.iter().map(|s| Dim::from(*s)).collect()
    }

    #[test]
    fn units_come_and_go() {
        let (a, b) = (shape(&[1, 2, 3]), shape(&[2, 1, 3, 1]));
        assert_eq!(correspondence(&a, &b), Some(vec![None, Some(0), Some(2)]));
        assert_eq!(correspondence(&a, &shape(&[3, 2])), None);
        assert_eq!(correspondence(&a, &shape(&[6])), None);
        assert_eq!(embedding(&shape(&[2, 3]), &a), Some(vec![1, 2]));
        assert_eq!(embedding(&a, &shape(&[2, 3])), None);
        assert_eq!(embedding(&shape(&[1, 2]), &shape(&[2, 1])), None);
        assert_eq!(embedding(&[], &shape(&[1, 1])), Some(vec![]));
        assert!(moves_only_units(&a, &[1, 0, 2]));
        assert!(!moves_only_units(&a, &[0, 2, 1]));
    }
}
