//! Windows over a text: batches of stretches of tokens, each with the stretch that begins one token later.
//!
//! The windows are gathered into buffers that are reused, as those of a [`Loader`](super::super::Loader) are, and nothing is held but the
//! tokens and one batch. Windows that learn begin at random places; windows that evaluate lie one behind the other, so that each token is
//! predicted once.

use super::super::order::{Purpose, stream};
use super::super::{Batch, Batches, Column, DataError};
use crate::graphs::{INPUT, TARGET};
use kiln_ir::philox::Stream;

/// Walks a text in batches of windows, with the columns `x`, the tokens, and `y`, the token that follows each: `[batch, length]` both, of
/// the type of the text's tokens.
///
/// Unless they are [`random`](Self::random), windows lie one behind the other, in order; what remains at the end of the text and fills no
/// window is left out, and the last batch may be shorter. Every token but the first is then predicted at most once.
#[derive(Debug)]
pub struct Windows<'d> {
    tokens: &'d Column,
    length: usize,
    batch: usize,
    random: Option<Random>,
    /// Where the windows of the batch begin.
    starts: Vec<usize>,
    /// How many batches this epoch has given out.
    next: usize,
    /// How much later than the window each column begins: by none for `x`, by one token for `y`.
    shifts: Vec<usize>,
    /// One for each of `shifts`, with room for the largest batch.
    buffers: Vec<Column>,
}

#[derive(Debug)]
struct Random {
    seed: u64,
    batches: usize,
    /// The numbers of this epoch, from where its next batch takes them.
    stream: Stream,
}

impl<'d> Windows<'d> {
    /// Batches of `batch` windows of `length` tokens. The tokens are one whole number an example, `[n]`.
    ///
    /// # Errors
    /// [`DataError::ZeroBatch`] and [`DataError::ZeroLength`]; [`DataError::NoWindow`] for a text of fewer than `length + 1` tokens;
    /// [`DataError::Shape`] and [`DataError::Type`] for a column that is no list of whole numbers.
    pub fn new(tokens: &'d Column, length: usize, batch: usize) -> Result<Self, DataError> {
        if batch == 0 {
            return Err(DataError::ZeroBatch);
        }
        if length == 0 {
            return Err(DataError::ZeroLength);
        }
        check_tokens(tokens)?;
        let count = tokens.examples();
        if count <= length {
            return Err(DataError::NoWindow {
                column: tokens.name().to_owned(),
                tokens: count,
                length,
            });
        }
        let mut windows = Self {
            tokens,
            length,
            batch,
            random: None,
            starts: Vec::new(),
            next: 0,
            shifts: vec![0, 1],
            buffers: Vec::new(),
        };
        windows.make_buffers();
        Ok(windows)
    }

    /// Draws the windows of `batches` full batches an epoch, each window beginning anywhere with the same probability, by `seed` and the
    /// epoch's number alone. Goes to the start of epoch 0.
    ///
    /// # Errors
    /// [`DataError::ZeroBatches`], and [`DataError::BatchSize`] where memory has no room for a batch.
    pub fn random(mut self, seed: u64, batches: usize) -> Result<Self, DataError> {
        if batches == 0 {
            return Err(DataError::ZeroBatches);
        }
        // Windows in order are at most as many as there are tokens; of random ones a batch has as many as it is told.
        let elements = self.batch.saturating_mul(self.length);
        if Vec::<u64>::new().try_reserve_exact(elements).is_err() {
            return Err(DataError::BatchSize {
                batch: self.batch,
                length: self.length,
            });
        }
        self.random = Some(Random {
            seed,
            batches,
            stream: stream(seed, Purpose::Windows(0)),
        });
        self.next = 0;
        self.make_buffers();
        Ok(self)
    }

    /// The number of tokens in a window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// From the next batch on, gives only the columns `names`, in this order. Allocates only where the choice changes.
    ///
    /// # Errors
    /// [`DataError::UnknownColumn`] for other names than `x` and `y`; the choice is then as it was.
    pub fn pick(&mut self, names: &[&str]) -> Result<(), DataError> {
        if self
            .buffers
            .iter()
            .map(Column::name)
            .eq(names.iter().copied())
        {
            return Ok(());
        }
        let shift = |name: &&str| match *name {
            INPUT => Ok(0),
            TARGET => Ok(1),
            other => Err(DataError::UnknownColumn {
                column: other.to_owned(),
                known: vec![INPUT.to_owned(), TARGET.to_owned()],
            }),
        };
        self.shifts = names.iter().map(shift).collect::<Result<_, _>>()?;
        self.make_buffers();
        Ok(())
    }

    /// The number of batches in an epoch.
    pub fn batches(&self) -> usize {
        match &self.random {
            Some(random) => random.batches,
            None => self.in_order().div_ceil(self.batch),
        }
    }

    /// Goes to the start of `epoch`, whose windows do not depend on the epochs before it.
    pub fn start_epoch(&mut self, epoch: u64) {
        self.next = 0;
        if let Some(random) = &mut self.random {
            random.stream = stream(random.seed, Purpose::Windows(epoch));
        }
    }

    /// The next batch of this epoch, or `None` at its end and until another epoch is started.
    pub fn next_batch(&mut self) -> Option<Batch<'_>> {
        if self.next == self.batches() {
            return None;
        }
        let in_order = self.in_order();
        self.starts.clear();
        match &mut self.random {
            Some(random) => {
                // A window and the token behind it fit from here on back: there is at least one such place.
                let places = (self.tokens.examples() - self.length) as u64;
                let draw = |_| random.stream.below(places) as usize;
                self.starts.extend((0..self.batch).map(draw));
            }
            None => {
                let first = self.next * self.batch;
                let end = first.saturating_add(self.batch).min(in_order);
                self.starts
                    .extend((first..end).map(|window| window * self.length));
            }
        }
        self.next += 1;
        for (buffer, shift) in self.buffers.iter_mut().zip(&self.shifts) {
            buffer.gather_stretches(self.tokens, &self.starts, *shift);
        }
        Some(Batch::new(&self.starts, &self.buffers))
    }

    /// The number of windows that lie one behind the other, each with a token behind it.
    fn in_order(&self) -> usize {
        (self.tokens.examples() - 1) / self.length
    }

    fn make_buffers(&mut self) {
        let room = match self.random {
            Some(_) => self.batch,
            None => self.batch.min(self.in_order()),
        };
        let names = self
            .shifts
            .iter()
            .map(|shift| if *shift == 0 { INPUT } else { TARGET });
        let buffer = |name| self.tokens.stretches(name, self.length, room);
        self.buffers = names.map(buffer).collect();
    }
}

impl Batches for Windows<'_> {
    fn pick(&mut self, names: &[&str]) -> Result<(), DataError> {
        self.pick(names)
    }

    fn batches(&self) -> usize {
        self.batches()
    }

    fn start_epoch(&mut self, epoch: u64) {
        self.start_epoch(epoch);
    }

    fn next_batch(&mut self) -> Option<Batch<'_>> {
        self.next_batch()
    }
}

/// Tokens are whole numbers, one an example.
fn check_tokens(tokens: &Column) -> Result<(), DataError> {
    if !tokens.example_shape().is_empty() {
        return Err(DataError::Shape {
            column: tokens.name().to_owned(),
            shape: vec![tokens.examples()],
            wanted: tokens.examples().to_string(),
            found: tokens.data().len(),
        });
    }
    if tokens.data().is_whole() {
        Ok(())
    } else {
        Err(DataError::Type {
            column: tokens.name().to_owned(),
            wanted: "whole numbers, which are tokens",
            found: tokens.data().type_name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens that are their own places.
    fn tokens(count: u32) -> Column {
        Column::new("tokens", [count as usize], (0..count).collect::<Vec<u32>>()).unwrap()
    }

    fn starts(windows: &mut Windows<'_>, epoch: u64) -> Vec<Vec<usize>> {
        windows.start_epoch(epoch);
        let mut starts = Vec::new();
        while let Some(batch) = windows.next_batch() {
            starts.push(batch.rows().to_vec());
        }
        starts
    }

    #[test]
    fn windows_in_order_predict_each_token_once() {
        let tokens = tokens(24);
        let mut windows = Windows::new(&tokens, 3, 4).unwrap();
        // 23 tokens follow another one: 7 windows of 3, and 2 are left out.
        assert_eq!(windows.batches(), 2);
        let mut predicted = Vec::new();
        let mut sizes = Vec::new();
        while let Some(batch) = windows.next_batch() {
            sizes.push(batch.len());
            assert_eq!(batch.columns()[0].shape(), [batch.len(), 3]);
            let (x, y) = (
                batch.values::<u32>("x").unwrap(),
                batch.values::<u32>("y").unwrap(),
            );
            assert!(x.iter().zip(y).all(|(x, y)| x + 1 == *y));
            predicted.extend_from_slice(y);
        }
        assert_eq!(sizes, [4, 3]);
        assert_eq!(predicted, (1..22).collect::<Vec<u32>>());
        assert!(windows.next_batch().is_none(), "an epoch stays at its end");
        assert_eq!(
            starts(&mut windows, 1),
            [vec![0, 3, 6, 9], vec![12, 15, 18]]
        );
    }

    #[test]
    fn random_windows_are_decided_by_seed_and_epoch_and_reach_every_place() {
        let tokens = tokens(12);
        let windows = |seed| {
            Windows::new(&tokens, 4, 8)
                .unwrap()
                .random(seed, 5)
                .unwrap()
        };
        let mut first = windows(1);
        assert_eq!(first.batches(), 5);
        let epochs = [0, 1].map(|epoch| starts(&mut first, epoch));
        assert!(epochs.iter().flatten().all(|batch| batch.len() == 8));
        assert_ne!(epochs[0], epochs[1]);
        assert_eq!(starts(&mut windows(1), 1), epochs[1], "a resumed run");
        assert_ne!(starts(&mut windows(2), 0), epochs[0]);
        // A window of 4 and the token behind it may begin at 8 places.
        let mut places: Vec<usize> = epochs.into_iter().flatten().flatten().collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places, (0..8).collect::<Vec<_>>());
        let mut fresh = windows(1);
        let batch = fresh.next_batch().unwrap();
        for (i, start) in batch.rows().iter().enumerate() {
            let y = &batch.values::<u32>("y").unwrap()[4 * i..4 * i + 4];
            let wanted: Vec<u32> = (1..5).map(|k| *start as u32 + k).collect();
            assert_eq!(y, wanted);
        }
    }

    #[test]
    fn columns_are_picked_and_keep_the_type_of_the_tokens() {
        let tokens = Column::new("t", [5], vec![9u8, 8, 7, 6, 5]).unwrap();
        let mut windows = Windows::new(&tokens, 4, 1).unwrap();
        windows.pick(&["y", "x"]).unwrap();
        let batch = windows.next_batch().unwrap();
        assert_eq!(batch.columns()[0].values::<u8>().unwrap(), [8, 7, 6, 5]);
        assert_eq!(batch.columns()[1].values::<u8>().unwrap(), [9, 8, 7, 6]);
        let error = windows.pick(&["x", "z"]).unwrap_err().to_string();
        assert_eq!(error, "there is no column `z`; there are `x`, `y`");
        windows.pick(&["x"]).unwrap();
        windows.start_epoch(0);
        assert_eq!(windows.next_batch().unwrap().columns().len(), 1);
    }

    #[test]
    fn the_buffers_are_reused() {
        let tokens = tokens(100);
        let mut windows = Windows::new(&tokens, 8, 3).unwrap().random(1, 9).unwrap();
        let mut places = Vec::new();
        while let Some(batch) = windows.next_batch() {
            places.push(batch.values::<u32>("x").unwrap().as_ptr());
        }
        assert!(
            places.windows(2).all(|pair| pair[0] == pair[1]),
            "{places:?}"
        );
    }

    #[test]
    fn what_makes_no_windows_is_refused() {
        let tokens = tokens(5);
        let refused = |length, batch| Windows::new(&tokens, length, batch).unwrap_err();
        assert!(matches!(refused(4, 0), DataError::ZeroBatch));
        assert!(matches!(refused(0, 4), DataError::ZeroLength));
        assert_eq!(
            refused(5, 4).to_string(),
            "column `tokens` has 5 tokens, too few for a window of 5 and the token that follows it"
        );
        assert!(matches!(refused(usize::MAX, 1), DataError::NoWindow { .. }));
        let one = Windows::new(&tokens, 4, usize::MAX).unwrap();
        assert_eq!(one.batches(), 1);
        assert!(matches!(one.random(1, 2), Err(DataError::BatchSize { .. })));
        let one = Windows::new(&tokens, 4, 1).unwrap();
        assert!(matches!(one.random(1, 0), Err(DataError::ZeroBatches)));
        let floats = Column::new("t", [5], vec![0f32; 5]).unwrap();
        let error = Windows::new(&floats, 2, 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "column `t` holds f32, not whole numbers, which are tokens"
        );
        let pairs = Column::new("t", [5, 2], vec![0u8; 10]).unwrap();
        assert!(matches!(
            Windows::new(&pairs, 2, 1),
            Err(DataError::Shape { .. })
        ));
    }
}
