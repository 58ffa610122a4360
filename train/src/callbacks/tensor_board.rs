//! Event files for TensorBoard.
//!
//! A file is a row of TFRecords: the length, its checksum, the data, its checksum, little-endian; checksums are CRC-32C, masked
//! (<https://www.tensorflow.org/tutorials/load_data/tfrecord>). The data is an `Event` of
//! <https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto>, of which four fields are written here; so it is
//! encoded by hand.

use super::{Callback, Flow, Moment};
use crate::trainer::{TrainError, can_write};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes losses and metrics after each epoch as scalars, in an event file of its own in a folder. The step of a value is its epoch.
///
/// The file is made when the first epoch is over, so that a training that does not begin leaves none. A run that goes on begins a further
/// file, and TensorBoard shows both as one.
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl TensorBoard {
    /// Event files in `folder`, which is made if it is not there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            file: None,
        }
    }

    /// The path of a file that begins now.
    fn path(&self) -> PathBuf {
        // Runs that begin in one second are told apart by their processes.
        let (now, process) = (now() as u64, std::process::id());
        let name = format!("events.out.tfevents.{now:010}.kiln.{process}");
        self.folder.join(name)
    }

    fn open(path: PathBuf) -> Result<(PathBuf, BufWriter<File>), TrainError> {
        let file = File::options().append(true).create(true).open(&path);
        let mut file = BufWriter::new(file.map_err(TrainError::write(&path))?);
        let version = event(now(), 0, &Content::Version("brain.Event:2"));
        write_record(&mut file, &version).map_err(TrainError::write(&path))?;
        Ok((path, file))
    }
}

impl Callback for TensorBoard {
    fn train_begin(&mut self, _moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        can_write(&self.path())?;
        Ok(Flow::Go)
    }

    fn epoch_end(&mut self, moment: &mut Moment<'_>) -> Result<Flow, TrainError> {
        let (path, file) = match &mut self.file {
            Some(open) => open,
            None => {
                let path = self.path();
                self.file.insert(Self::open(path)?)
            }
        };
        let step = moment.trainer.position().epoch;
        let now = now();
        for (name, value) in moment.logs.iter() {
            write_record(
                file,
                &event(now, step, &Content::Scalar(name, value as f32)),
            )
            .map_err(TrainError::write(&*path))?;
        }
        // TensorBoard reads while the training goes on.
        file.flush().map_err(TrainError::write(&*path))?;
        Ok(Flow::Go)
    }

    fn train_end(&mut self, _moment: &mut Moment<'_>) -> Result<(), TrainError> {
        match self.file.take() {
            Some((path, mut file)) => file.flush().map_err(TrainError::write(path)),
            None => Ok(()),
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

/// What an event says.
enum Content<'c> {
    /// The version of the file, which comes first.
    Version(&'c str),
    /// A value by name.
    Scalar(&'c str, f32),
}

/// How protocol buffers write a field.
const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const BYTES: u32 = 2;
const FIXED_32: u32 = 5;

/// `Event { wall_time = 1; step = 2; file_version = 3 | summary = 5 }`, where a summary is `{ repeated Value value = 1 }` and a value
/// `{ tag = 1; simple_value = 2 }`.
fn event(time: f64, step: u64, content: &Content<'_>) -> Vec<u8> {
    let mut event = Vec::new();
    field(&mut event, 1, FIXED_64);
    event.extend_from_slice(&time.to_le_bytes());
    field(&mut event, 2, VARINT);
    varint(&mut event, step);
    match content {
        Content::Version(version) => bytes(&mut event, 3, version.as_bytes()),
        Content::Scalar(name, number) => {
            let mut value = Vec::new();
            bytes(&mut value, 1, name.as_bytes());
            field(&mut value, 2, FIXED_32);
            value.extend_from_slice(&number.to_le_bytes());
            let mut summary = Vec::new();
            bytes(&mut summary, 1, &value);
            bytes(&mut event, 5, &summary);
        }
    }
    event
}

fn field(out: &mut Vec<u8>, number: u32, kind: u32) {
    varint(out, u64::from(number << 3 | kind));
}

fn bytes(out: &mut Vec<u8>, number: u32, data: &[u8]) {
    field(out, number, BYTES);
    varint(out, data.len() as u64);
    out.extend_from_slice(data);
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn write_record(out: &mut impl Write, data: &[u8]) -> std::io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked(&length).to_le_bytes())?;
    out.write_all(data)?;
    out.write_all(&masked(data).to_le_bytes())
}

/// The checksum as TFRecords hold it: turned by 15 bits, plus a constant, since a checksum over data with checksums in it is weak.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written out by the rules of protocol buffers and of TFRecords. TensorBoard 2.21's own reader, which compares the checksums, reads the
    /// files of `tests/trainer.rs` as they are meant.
    #[test]
    fn records_and_events_are_those_of_the_format() {
        let wanted = [
            &[0x09][..],
            &1.5f64.to_le_bytes(),
            &[0x10, 0xac, 0x02, 0x2a, 0x0d, 0x0a, 0x0b, 0x0a, 0x04],
            b"loss",
            &[0x15],
            &0.25f32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(event(1.5, 300, &Content::Scalar("loss", 0.25)), wanted);
        let mut record = Vec::new();
        write_record(&mut record, &[]).unwrap();
        assert_eq!(crc32c::crc32c(&[0; 8]), 0x8c28_b28a);
        assert_eq!(record[..8], [0; 8]);
        let masked = 0x8c28_b28a_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(record[8..12], masked.to_le_bytes());
        // Nothing sums to nothing.
        assert_eq!(record[12..], 0xa282_ead8_u32.to_le_bytes());
    }
}
