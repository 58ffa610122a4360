//! The receiver operating characteristic: how many of the positive examples are found for how many negative ones that are taken for them.

use super::Panel;

/// The curve of `scores` against what is true of each example: a point for each score as a threshold, false positives on x and true
/// positives on y, each as a share; from (0, 0) to (1, 1). Empty where one of both kinds of examples is missing.
///
/// Fawcett, "An introduction to ROC analysis" (2006), algorithm 1: equal scores make one point.
///
/// ```
/// use kiln_train::plot::roc_curve;
///
/// let curve = roc_curve(&[0.9, 0.4, 0.6, 0.1], &[true, true, false, false]);
/// assert_eq!(curve, [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]);
/// ```
pub fn roc_curve(scores: &[f32], is_positive: &[bool]) -> Vec<(f64, f64)> {
    let mut examples: Vec<(f32, bool)> = scores
        .iter()
        .copied()
        .zip(is_positive.iter().copied())
        .collect();
    examples.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = examples.iter().filter(|(_, positive)| *positive).count();
    let negatives = examples.len() - positives;
    if positives == 0 || negatives == 0 {
        return Vec::new();
    }
    let (mut yes, mut no) = (0, 0);
    let mut curve = vec![(0.0, 0.0)];
    for (index, (score, positive)) in examples.iter().enumerate() {
        if *positive {
            yes += 1;
        } else {
            no += 1;
        }
        if examples.get(index + 1).is_none_or(|next| next.0 != *score) {
            curve.push((
                f64::from(no) / negatives as f64,
                f64::from(yes) / positives as f64,
            ));
        }
    }
    curve
}

/// The area below a curve of [`roc_curve`]: the chance that a positive example has a higher score than a negative one.
pub fn area_below(curve: &[(f64, f64)]) -> f64 {
    let trapezoid = |pair: &[(f64, f64)]| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0;
    curve.windows(2).map(trapezoid).sum()
}

/// A panel with the curve, its area, and the line of chance.
pub fn roc_panel(scores: &[f32], is_positive: &[bool]) -> Panel {
    let curve = roc_curve(scores, is_positive);
    let title = format!("ROC, area {:.4}", area_below(&curve));
    Panel::new(title)
        .axes(
            "share of negatives that were taken for positives",
            "share of positives that were found",
        )
        .line("model", curve)
        .line("chance", [(0.0, 0.0), (1.0, 1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_the_right_order() {
        let scores = [0.1, 0.4, 0.35, 0.8, 0.4];
        let truth = [false, false, true, true, true];
        // Six pairs: 0.35 beats 0.1 alone, 0.8 both, and 0.4 one and a half.
        let curve = roc_curve(&scores, &truth);
        assert!(
            (area_below(&curve) - (1.0 + 2.0 + 1.5) / 6.0).abs() < 1e-12,
            "{curve:?}"
        );
        assert!(roc_curve(&scores, &[true; 5]).is_empty());
    }
}
