//! The hue of pictures.

/// Turns the colours of pixels of three channels around the axis on which all are equal, by `radians`: Rodrigues' formula for the axis
/// (1, 1, 1) / sqrt(3), on which the mean stays where it is.
pub(super) fn turn(picture: &mut [f32], radians: f32) {
    let (sine, cosine) = radians.sin_cos();
    let across = sine / 3f32.sqrt();
    for pixel in picture.chunks_exact_mut(3) {
        let [red, green, blue] = [pixel[0], pixel[1], pixel[2]];
        let mean = (red + green + blue) / 3.0;
        let turned = |own: f32, before: f32, after: f32| {
            mean + cosine * (own - mean) + across * (before - after)
        };
        pixel[0] = turned(red, blue, green);
        pixel[1] = turned(green, red, blue);
        pixel[2] = turned(blue, green, red);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_a_turn_moves_each_channel_to_the_next_and_grey_stays() {
        let mut pixels = [1.0, 0.25, 0.0, 0.5, 0.5, 0.5];
        turn(&mut pixels, 120f32.to_radians());
        let wanted = [0.0, 1.0, 0.25, 0.5, 0.5, 0.5];
        let close = pixels.iter().zip(wanted).all(|(p, w)| (p - w).abs() < 1e-6);
        assert!(close, "{pixels:?}");
        turn(&mut pixels, 40f32.to_radians());
        let (mean, distance) = (1.25 / 3.0, |pixel: &[f32], mean: f32| {
            pixel.iter().map(|p| (p - mean) * (p - mean)).sum::<f32>()
        });
        assert!((pixels[..3].iter().sum::<f32>() / 3.0 - mean).abs() < 1e-6);
        let before = distance(&wanted[..3], mean);
        assert!((distance(&pixels[..3], mean) - before).abs() < 1e-6);
    }
}
