//! Pictures mirrored, moved, turned and scaled.

use super::Size;
use std::ops::Range;

/// Mirrors left to right.
pub(super) fn flip(picture: &mut [f32], size: Size) {
    let Size {
        width, channels, ..
    } = size;
    for row in picture.chunks_mut((width * channels).max(1)) {
        for left in 0..width / 2 {
            let right = width - 1 - left;
            for channel in 0..channels {
                row.swap(left * channels + channel, right * channels + channel);
            }
        }
    }
}

/// Mirrors top to bottom.
pub(super) fn flip_rows(picture: &mut [f32], size: Size) {
    let width = size.width * size.channels;
    for top in 0..size.height / 2 {
        let bottom = size.height - 1 - top;
        let (above, below) = picture.split_at_mut(bottom * width);
        above[top * width..][..width].swap_with_slice(&mut below[..width]);
    }
}

/// Moves by whole pixels, right and down; zeros come in.
pub(super) fn shift(picture: &mut [f32], size: Size, dx: isize, dy: isize, copy: &mut Vec<f32>) {
    let Size {
        height,
        width,
        channels,
    } = size;
    copy.clear();
    copy.extend_from_slice(picture);
    picture.fill(0.0);
    // Farther than its own extent is as far as that.
    let (dx, dy) = (
        dx.clamp(-(width as isize), width as isize),
        dy.clamp(-(height as isize), height as isize),
    );
    // The part of the old picture that is still seen.
    let (left, right) = seen(width, dx);
    if left == right {
        return;
    }
    for y in 0..height {
        let Some(from) = y.checked_add_signed(-dy).filter(|from| *from < height) else {
            continue;
        };
        let to = (y * width).wrapping_add_signed(left as isize + dx) * channels;
        let row = &copy[(from * width + left) * channels..(from * width + right) * channels];
        if !row.is_empty() {
            picture[to..to + row.len()].copy_from_slice(row);
        }
    }
}

/// Which part of an axis is still within it when it has moved.
fn seen(extent: usize, by: isize) -> (usize, usize) {
    let gone = by.unsigned_abs().min(extent);
    if by < 0 {
        (gone, extent)
    } else {
        (0, extent - gone)
    }
}

/// A turn around the centre and a scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Warp {
    pub(super) radians: f32,
    pub(super) scale: f32,
}

/// Turns and scales, with bilinear interpolation; pixels from outside are 0.
pub(super) fn warp(picture: &mut [f32], size: Size, by: Warp, copy: &mut Vec<f32>) {
    let Size {
        height,
        width,
        channels,
    } = size;
    copy.clear();
    copy.extend_from_slice(picture);
    let (sin, cos) = by.radians.sin_cos();
    // Each pixel looks for where it came from, so the turn and the scale are the inverse ones.
    let (sin, cos) = (sin / by.scale, cos / by.scale);
    let (cx, cy) = ((width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0);
    let pixel = |x: isize, y: isize, channel: usize| {
        let within = x >= 0 && y >= 0 && x < width as isize && y < height as isize;
        if within {
            copy[(y as usize * width + x as usize) * channels + channel]
        } else {
            0.0
        }
    };
    for y in 0..height {
        for x in 0..width {
            let (dx, dy) = (x as f32 - cx, y as f32 - cy);
            let (from_x, from_y) = (cos * dx + sin * dy + cx, cos * dy - sin * dx + cy);
            let (left, top) = (from_x.floor(), from_y.floor());
            let (u, v) = (from_x - left, from_y - top);
            let (left, top) = (left as isize, top as isize);
            for channel in 0..channels {
                let above =
                    pixel(left, top, channel) * (1.0 - u) + pixel(left + 1, top, channel) * u;
                let below = pixel(left, top + 1, channel) * (1.0 - u)
                    + pixel(left + 1, top + 1, channel) * u;
                picture[(y * width + x) * channels + channel] = above * (1.0 - v) + below * v;
            }
        }
    }
}

/// Visits the elements of each row of a rectangle, as far as it lies in the picture.
pub(super) fn for_rectangle(
    size: Size,
    left: isize,
    top: isize,
    width: usize,
    height: usize,
    mut visit: impl FnMut(Range<usize>),
) {
    let within = |start: isize, length: usize, extent: usize| {
        let end = start.saturating_add_unsigned(length).max(0) as usize;
        (start.max(0) as usize, end.min(extent))
    };
    let (left, right) = within(left, width, size.width);
    let (top, bottom) = within(top, height, size.height);
    for y in top..bottom {
        if left < right {
            let start = y * size.width;
            visit((start + left) * size.channels..(start + right) * size.channels);
        }
    }
}
