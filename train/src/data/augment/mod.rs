//! Pictures that are a little different each time.

mod colours;
mod geometry;
mod mix;

pub use mix::{CutMix, MixUp};

use super::transform::{Examples, Transform};
use super::{DataError, Dataset};
use geometry::{Warp, warp};
use kiln_ir::philox::Stream;

/// Changes pictures of an f32 column of shape `[h, w]` or `[h, w, channels]`: each setting is a range of which every example draws its own
/// value, evenly. Pixels from outside of a picture are 0.
///
/// The order is: flip, turn and zoom, shift, light and colours, cutout.
#[derive(Clone, Debug, PartialEq)]
pub struct Augment {
    column: String,
    flips: bool,
    flips_rows: bool,
    degrees: f32,
    zoom: f32,
    shift: usize,
    brightness: f32,
    contrast: f32,
    saturation: f32,
    hue: f32,
    cutout: usize,
}

impl Augment {
    /// Changes nothing yet of the pictures in `column`.
    pub fn images(column: &str) -> Self {
        Self {
            column: column.to_owned(),
            flips: false,
            flips_rows: false,
            degrees: 0.0,
            zoom: 0.0,
            shift: 0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue: 0.0,
            cutout: 0,
        }
    }

    /// Mirrors every other picture, left to right.
    pub fn flip(mut self) -> Self {
        self.flips = true;
        self
    }

    /// Mirrors every other picture, top to bottom.
    pub fn flip_upside_down(mut self) -> Self {
        self.flips_rows = true;
        self
    }

    /// Turns around the centre, by up to `degrees` in either direction. Pixels are interpolated bilinearly.
    pub fn rotate(mut self, degrees: f32) -> Self {
        self.degrees = degrees;
        self
    }

    /// Scales around the centre, by `1 - share` to `1 + share`. Pixels are interpolated bilinearly.
    pub fn zoom(mut self, share: f32) -> Self {
        self.zoom = share;
        self
    }

    /// Moves by up to `pixels` along each axis in either direction: a random crop of the picture with as many zeros around it.
    pub fn shift(mut self, pixels: usize) -> Self {
        self.shift = pixels;
        self
    }

    /// Adds up to `amount`, in either direction, to all pixels.
    pub fn brightness(mut self, amount: f32) -> Self {
        self.brightness = amount;
        self
    }

    /// Moves pixels away from the mean of their picture or towards it, by `1 - share` to `1 + share`.
    pub fn contrast(mut self, share: f32) -> Self {
        self.contrast = share;
        self
    }

    /// Moves the channels of a pixel away from their mean or towards it, by `1 - share` to `1 + share`.
    pub fn saturation(mut self, share: f32) -> Self {
        self.saturation = share;
        self
    }

    /// Turns the colours of pictures with three channels around grey, by up to `degrees` in either direction; 120 makes red green, green blue
    /// and blue red. The mean of a pixel's channels stays, and so does the distance from it.
    pub fn hue(mut self, degrees: f32) -> Self {
        self.hue = degrees;
        self
    }

    /// Blackens a square of `pixels` a side, of which parts may lie outside: DeVries and Taylor, "Improved Regularization of Convolutional
    /// Neural Networks with Cutout" (2017).
    pub fn cutout(mut self, pixels: usize) -> Self {
        self.cutout = pixels;
        self
    }

    fn change(&self, picture: &mut [f32], size: Size, stream: &mut Stream, copy: &mut Vec<f32>) {
        let mut even = |range: f32| range * (2.0 * unit(stream) - 1.0);
        let (turn, zoom) = (even(self.degrees), even(self.zoom));
        let (dx, dy) = (even(self.shift as f32 + 0.5), even(self.shift as f32 + 0.5));
        let (light, contrast) = (even(self.brightness), even(self.contrast));
        let saturation = even(self.saturation);
        let (x, y) = (unit(stream), unit(stream));
        let flips = self.flips && unit(stream) < 0.5;
        let flips_rows = self.flips_rows && unit(stream) < 0.5;
        let hue = if self.hue == 0.0 {
            0.0
        } else {
            self.hue * (2.0 * unit(stream) - 1.0)
        };

        if flips {
            geometry::flip(picture, size);
        }
        if flips_rows {
            geometry::flip_rows(picture, size);
        }
        if self.degrees != 0.0 || self.zoom != 0.0 {
            let by = Warp {
                radians: turn.to_radians(),
                scale: 1.0 + zoom,
            };
            warp(picture, size, by, copy);
        }
        if self.shift != 0 {
            geometry::shift(
                picture,
                size,
                dx.round() as isize,
                dy.round() as isize,
                copy,
            );
        }
        if self.contrast != 0.0 {
            let mean = picture.iter().sum::<f32>() / picture.len().max(1) as f32;
            for pixel in picture.iter_mut() {
                *pixel = mean + (*pixel - mean) * (1.0 + contrast);
            }
        }
        if self.saturation != 0.0 {
            for pixel in picture.chunks_mut(size.channels.max(1)) {
                let mean = pixel.iter().sum::<f32>() / pixel.len() as f32;
                for channel in pixel {
                    *channel = mean + (*channel - mean) * (1.0 + saturation);
                }
            }
        }
        if self.hue != 0.0 && size.channels == 3 {
            colours::turn(picture, hue.to_radians());
        }
        if self.brightness != 0.0 {
            picture.iter_mut().for_each(|pixel| *pixel += light);
        }
        if self.cutout != 0 {
            let half = self.cutout as isize / 2;
            let (left, top) = (
                (x * size.width as f32) as isize - half,
                (y * size.height as f32) as isize - half,
            );
            geometry::for_rectangle(size, left, top, self.cutout, self.cutout, |range| {
                picture[range].fill(0.0);
            });
        }
    }
}

impl Transform for Augment {
    fn check(&self, data: &Dataset) -> Result<(), DataError> {
        let shares = 0.0..=1.0;
        for (what, value, fits, wanted) in [
            (
                "the turn of a picture",
                self.degrees,
                self.degrees.is_finite(),
                "among the finite numbers",
            ),
            (
                "the zoom of a picture",
                self.zoom,
                (0.0..1.0).contains(&self.zoom),
                "from 0 to below 1",
            ),
            (
                "the brightness of a picture",
                self.brightness,
                self.brightness.is_finite(),
                "among the finite numbers",
            ),
            (
                "the contrast of a picture",
                self.contrast,
                shares.contains(&self.contrast),
                "from 0 to 1",
            ),
            (
                "the saturation of a picture",
                self.saturation,
                shares.contains(&self.saturation),
                "from 0 to 1",
            ),
            (
                "the hue of a picture",
                self.hue,
                self.hue.is_finite(),
                "among the finite numbers",
            ),
        ] {
            if !fits {
                let value = value.into();
                return Err(DataError::Setting {
                    what,
                    value,
                    wanted,
                });
            }
        }
        Size::of(data, &self.column).map(|_| ())
    }

    fn apply(&self, examples: &mut Examples<'_>) {
        let Ok(size) = Size::of(examples.data(), &self.column) else {
            return;
        };
        let mut copy = Vec::new();
        for position in 0..examples.len() {
            let mut stream = examples.stream(position);
            if let Some((values, width)) = examples.f32(&self.column) {
                let picture = &mut values[position * width..][..width];
                self.change(picture, size, &mut stream, &mut copy);
            }
        }
    }
}

/// The extents of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    height: usize,
    width: usize,
    channels: usize,
}

impl Size {
    fn of(data: &Dataset, column: &str) -> Result<Self, DataError> {
        let column = data.column(column)?;
        column.values::<f32>()?;
        let (height, width, channels) = match *column.example_shape() {
            [height, width] => (height, width, 1),
            [height, width, channels] => (height, width, channels),
            _ => {
                return Err(DataError::Picture {
                    column: column.name().to_owned(),
                    shape: column.shape().to_vec(),
                });
            }
        };
        Ok(Self {
            height,
            width,
            channels,
        })
    }
}

/// The next number of the stream in `[0, 1)`.
fn unit(stream: &mut Stream) -> f32 {
    kiln_ir::philox::unit_f32(stream.next_u32())
}

#[cfg(test)]
mod tests {
    use super::super::{Batches, Column, Pipeline};
    use super::*;

    fn data(count: usize) -> Dataset {
        let pixels: Vec<f32> = (0..count * 48).map(|i| (i % 97) as f32 / 97.0).collect();
        let labels: Vec<f32> = (0..count * 2).map(|i| (i % 2) as f32).collect();
        Dataset::new([
            Column::new("x", [count, 4, 4, 3], pixels).unwrap(),
            Column::new("y", [count, 2], labels).unwrap(),
            Column::new("id", [count], (0..count as i32).collect::<Vec<_>>()).unwrap(),
        ])
        .unwrap()
    }

    fn everything() -> Augment {
        let augment = Augment::images("x").flip().rotate(20.0).zoom(0.2).shift(1);
        augment
            .brightness(0.1)
            .contrast(0.2)
            .saturation(0.2)
            .hue(30.0)
            .flip_upside_down()
            .cutout(2)
    }

    /// The pictures and labels of an epoch by the numbers of the examples.
    fn epoch(pipeline: &mut Pipeline, number: u64) -> Vec<(i32, Vec<f32>, Vec<f32>)> {
        pipeline.start_epoch(number);
        let mut found = Vec::new();
        while let Some(batch) = pipeline.next_batch() {
            let ids = batch.values::<i32>("id").unwrap();
            let pictures = batch.values::<f32>("x").unwrap().chunks(48);
            let labels = batch.values::<f32>("y").unwrap().chunks(2);
            for ((id, picture), label) in ids.iter().zip(pictures).zip(labels) {
                found.push((*id, picture.to_vec(), label.to_vec()));
            }
        }
        found.sort_by_key(|(id, _, _)| *id);
        found
    }

    #[test]
    fn what_an_example_becomes_hangs_on_seed_epoch_and_its_number_alone() {
        let make = |batch: usize, seed: u64| {
            let pipeline = Pipeline::new(data(23), batch).unwrap().shuffled(seed);
            let pipeline = pipeline.with(everything()).unwrap();
            pipeline.with(MixUp::new("x", "y", 0.4)).unwrap()
        };
        let wanted = epoch(&mut make(5, 1), 3);
        assert_eq!(wanted.len(), 23);
        assert_eq!(epoch(&mut make(8, 1), 3), wanted, "another batch size");
        assert_eq!(epoch(&mut make(5, 1).prefetch(2), 3), wanted, "prefetched");
        let mut twice = make(4, 1).prefetch(3);
        assert_ne!(epoch(&mut twice, 2), wanted, "another epoch");
        assert_eq!(epoch(&mut twice, 3), wanted, "after another epoch");
        assert_ne!(epoch(&mut make(5, 2), 3), wanted, "another seed");
        // Left in its midst, and begun there.
        let mut left = make(5, 1).prefetch(2);
        left.start_epoch(3);
        left.next_batch().unwrap();
        assert_eq!(epoch(&mut left, 3), wanted);
        let (mut whole, mut rest) = (make(5, 1), make(5, 1).prefetch(1));
        whole.start_epoch(3);
        rest.start_epoch(3);
        whole.next_batch();
        whole.next_batch();
        rest.skip(2);
        let picture =
            |p: &mut Pipeline| p.next_batch().unwrap().values::<f32>("x").unwrap().to_vec();
        assert_eq!(picture(&mut rest), picture(&mut whole));
    }

    #[test]
    fn picked_columns_are_those_that_were_changed() {
        let plain = Pipeline::new(data(6), 4).unwrap();
        let mut changed = Pipeline::new(data(6), 4)
            .unwrap()
            .map("x", |x| x.fill(2.0))
            .unwrap();
        for _ in 0..2 {
            changed.pick(&["y", "x"]).unwrap();
            changed.start_epoch(0);
            let batch = changed.next_batch().unwrap();
            let names: Vec<&str> = batch.columns().iter().map(Column::name).collect();
            assert_eq!(names, ["y", "x"]);
            assert!(batch.values::<f32>("x").unwrap().iter().all(|x| *x == 2.0));
            changed.next_batch().unwrap();
            assert!(changed.next_batch().is_none());
            changed.pick(&["x"]).unwrap();
        }
        assert!(matches!(
            changed.pick(&["z"]),
            Err(DataError::UnknownColumn { .. })
        ));
        assert!(
            plain
                .with(Augment::images("y"))
                .unwrap_err()
                .to_string()
                .contains("[n, h, w]")
        );
        assert!(matches!(
            Pipeline::new(data(6), 0),
            Err(DataError::ZeroBatch)
        ));
    }

    #[test]
    fn nothing_asked_for_changes_nothing_and_each_setting_does_what_it_says() {
        let size = Size {
            height: 3,
            width: 3,
            channels: 1,
        };
        let picture: Vec<f32> = (1..10).map(|i| i as f32).collect();
        let changed = |augment: Augment, ordinal: u64| {
            let mut copy = picture.clone();
            let mut stream = Stream::new(1, "test", ordinal);
            augment.change(&mut copy, size, &mut stream, &mut Vec::new());
            copy
        };
        let plain = || Augment::images("x");
        assert_eq!(changed(plain(), 0), picture);
        let flipped = [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0];
        let both: Vec<Vec<f32>> = (0..20).map(|i| changed(plain().flip(), i)).collect();
        assert!(both.contains(&picture) && both.contains(&flipped.to_vec()));
        let upside_down = [7.0, 8.0, 9.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0];
        let both: Vec<Vec<f32>> = (0..20)
            .map(|i| changed(plain().flip_upside_down(), i))
            .collect();
        assert!(both.contains(&picture) && both.contains(&upside_down.to_vec()));
        for i in 0..20 {
            let shifted = changed(plain().shift(1), i);
            // What is left lies at one distance from where it was.
            let of = |value: f32| shifted.iter().position(|v| *v == value);
            assert!(of(5.0).is_some(), "the centre stays within");
            let cut = changed(plain().cutout(1), i);
            assert_eq!(cut.iter().filter(|v| **v == 0.0).count(), 1);
            let light = changed(plain().brightness(0.5), i);
            let by = light[0] - picture[0];
            assert!(
                by.abs() <= 0.5
                    && light
                        .iter()
                        .zip(&picture)
                        .all(|(l, p)| (l - p - by).abs() < 1e-5)
            );
            let contrast = changed(plain().contrast(0.5), i);
            assert!((contrast.iter().sum::<f32>() - 45.0).abs() < 1e-3);
        }
        // A turn by nothing and a scale of one are what they were.
        let still = Warp {
            radians: 0.0,
            scale: 1.0,
        };
        let mut copy = picture.clone();
        warp(&mut copy, size, still, &mut Vec::new());
        assert_eq!(copy, picture);
        let quarter = Warp {
            radians: std::f32::consts::FRAC_PI_2,
            scale: 1.0,
        };
        warp(&mut copy, size, quarter, &mut Vec::new());
        let turned = [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0];
        let other = [7.0, 4.0, 1.0, 8.0, 5.0, 2.0, 9.0, 6.0, 3.0];
        let near = |wanted: [f32; 9]| copy.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(near(turned) || near(other), "{copy:?}");
    }

    #[test]
    fn mixtures_keep_the_sum_of_labels_and_lie_between() {
        let data = data(12);
        for cut in [false, true] {
            let pipeline = Pipeline::new(data.clone(), 12).unwrap();
            let mut pipeline = if cut {
                pipeline.with(CutMix::new("x", "y", 1.0)).unwrap()
            } else {
                pipeline.with(MixUp::new("x", "y", 1.0)).unwrap()
            };
            let mixed = epoch(&mut pipeline, 0);
            assert!(mixed.iter().all(|(_, x, y)| {
                (y.iter().sum::<f32>() - 1.0).abs() < 1e-5
                    && x.iter().all(|v| (0.0..=1.0).contains(v))
            }));
            let plain = data.column("x").unwrap().values::<f32>().unwrap();
            let changed = mixed
                .iter()
                .filter(|(id, x, _)| x[..] != plain[*id as usize * 48..][..48]);
            assert!(changed.count() > 6);
        }
    }
}
