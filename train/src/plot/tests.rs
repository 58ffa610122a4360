//! Figures as text, and what is refused.

use super::*;

fn two_panels() -> Figure {
    let points: Vec<(f64, f64)> = (0..100)
        .map(|i| f64::from(i) / 49.5 - 1.0)
        .map(|x| (x, wobble(x)))
        .collect();
    let fit = Panel::new("y = 2x + 1")
        .points("data", points)
        .line("fit", [(-1.0, -1.0), (1.0, 3.0)]);
    let losses = (0..1000).map(|i| 0.01 + 2.0 * (-f64::from(i) / 40.0).exp());
    let loss = Panel::new("Loss")
        .axes("epoch", "mean squared error")
        .log_y();
    Figure::new([fit, loss.curve("train", losses)])
}

fn wobble(x: f64) -> f64 {
    2.0 * x + 1.0 + 0.15 * (40.0 * x).sin()
}

#[test]
fn a_figure_holds_every_point_line_and_name() {
    let svg = two_panels().svg().unwrap();
    // A hundred points and the one in the legend.
    assert_eq!(svg.matches("<circle").count(), 101);
    for text in [
        "y = 2x + 1",
        "data",
        "fit",
        "Loss",
        "epoch",
        "mean squared error",
        "train",
    ] {
        assert!(svg.contains(text), "no `{text}`");
    }
    assert_eq!(svg, two_panels().svg().unwrap());
}

#[test]
fn what_has_no_place_on_the_axes_is_refused_by_name() {
    assert!(matches!(
        Figure::new([]).svg(),
        Err(PlotError::Empty { .. })
    ));
    let error = Figure::new([Panel::new("p")])
        .svg()
        .unwrap_err()
        .to_string();
    assert_eq!(error, "there is nothing to draw: panel `p` has no point");
    let nan = Panel::new("p").curve("loss", [1.0, f64::NAN]);
    let error = Figure::new([nan]).svg().unwrap_err().to_string();
    assert!(
        error.starts_with("panel `p`, series `loss`: point 1 is (2, NaN)"),
        "{error}"
    );
    let zero = Panel::new("p").log_y().curve("loss", [1.0, 0.0]);
    assert!(matches!(
        Figure::new([zero]).svg(),
        Err(PlotError::Value { index: 1, .. })
    ));
}

#[test]
fn extreme_ranges_are_drawn() {
    for values in [
        vec![3.0],
        vec![0.0, 0.0],
        vec![f64::MAX, f64::MIN],
        vec![1e-300, 2e-300],
        vec![1e15, 1e15 + 1.0],
    ] {
        let panel = Panel::new("p").curve("c", values.clone());
        let svg = Figure::new([panel]).svg().unwrap();
        assert!(svg.ends_with("</svg>\n"), "{values:?}");
    }
    for values in [
        vec![1e-323, 2e-323],
        vec![f64::MAX, f64::MAX / 1.5],
        vec![1e-320, 1e300],
    ] {
        let panel = Panel::new("p").log_y().curve("c", values.clone());
        assert!(Figure::new([panel]).svg().is_ok(), "{values:?}");
    }
}

#[test]
fn ticks_are_short() {
    let cases = [
        (0.0, "0"),
        (0.5, "0.5"),
        (-1.25, "-1.25"),
        (1000.0, "1000"),
        (0.01, "0.01"),
        (2.5e-6, "2.5e-6"),
        (1e6, "1e6"),
    ];
    for (value, wanted) in cases {
        assert_eq!(number(value), wanted);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let error = two_panels()
        .write(Path::new("/nowhere/a.svg"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nowhere/a.svg"), "{error}");
}
