//! Going on with a text, a token a step.
//!
//! The step is that of [`graphs::continuation`](crate::graphs::continuation): what the model needs of earlier tokens it keeps as states, so
//! a token costs the same wherever it stands. Only when the context is full is anything read again.

use crate::graphs::{INPUT, POSITION, PREDICTION};
use kiln_runtime::{Feed, ReadError, Session, StepError};

/// Reads a text token by token, and knows after each what may follow.
///
/// Where the context is full, positions begin anew: the last half of the context is read again from position 0, and the text goes on behind
/// it. So of a long text a token sees at least half a context and at most a whole one, and a token costs two steps on average. (Reading the
/// last whole context again for each token, as nanoGPT's `generate` does, costs a context of steps.)
///
/// ```no_run
/// # fn example(learner: &kiln_runtime::Session, session: kiln_runtime::Session) -> Result<(), Box<dyn std::error::Error>> {
/// use kiln_train::sample::{Sampler, Sampling};
/// use kiln_train::{Writer, hand_over};
///
/// // `session` runs `graphs::continuation(&model, 64)`.
/// let mut writer = Writer::new(session, 64);
/// hand_over(learner, writer.session_mut())?;
/// let mut sampler = Sampler::new(Sampling::default(), 42)?;
/// let mut token = 0;
/// for _ in 0..100 {
///     token = sampler.draw(writer.read(token)?)? as u32;
///     print!("{token} ");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Writer {
    session: Session,
    context: usize,
    /// What was read since positions began.
    window: Vec<u32>,
}

/// Why a token could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// The session refused the step: it runs another graph, or the token is none of the model.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The prediction is none in f32.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Writer {
    /// A writer at the beginning of a text, with a session that runs [`graphs::continuation`](crate::graphs::continuation) of this
    /// context.
    pub fn new(session: Session, context: usize) -> Self {
        Self {
            session,
            context,
            window: Vec::new(),
        }
    }

    /// The session, for its params.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Forgets what was read; the next token begins a text.
    pub fn begin(&mut self) {
        self.window.clear();
    }

    /// Reads a token; the logits of the one behind it.
    ///
    /// # Errors
    /// [`WriterError`]. The token is not part of the text then.
    pub fn read(&mut self, token: u32) -> Result<&[f32], WriterError> {
        if self.window.len() >= self.context {
            let gone = self.window.len() - self.context / 2;
            for (position, token) in self.window[gone..].iter().enumerate() {
                step(&mut self.session, *token, position)?;
            }
            self.window.drain(..gone);
        }
        let logits = step(&mut self.session, token, self.window.len())?;
        self.window.push(token);
        Ok(logits)
    }
}

fn step(session: &mut Session, token: u32, position: usize) -> Result<&[f32], WriterError> {
    // A position that no i32 holds is behind every context, which the step refuses.
    let position = i32::try_from(position).unwrap_or(i32::MAX);
    let token = [token];
    let feeds = [
        (INPUT, Feed::new(&token, &[1, 1])),
        (POSITION, Feed::scalar(&position)),
    ];
    Ok(session.step_named(&feeds)?.as_slice::<f32>(PREDICTION)?)
}
