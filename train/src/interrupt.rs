//! Ctrl-C, for those who asked to be told.
//!
//! A process has one handler, which this installs at the first request and never before. The first Ctrl-C is left to be found between two
//! steps; a second one, before it was found, ends the process as without a handler.

use crate::trainer::TrainError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

static PENDING: AtomicBool = AtomicBool::new(false);
/// Whether somebody looks for it; if not, the first Ctrl-C ends the process.
static WANTED: AtomicBool = AtomicBool::new(false);
static LISTENING: Mutex<bool> = Mutex::new(false);

/// The exit status of a process that Ctrl-C ended, as shells have it.
const STATUS: i32 = 130;

/// Somebody looks for Ctrl-C. Where nobody does any more, it ends the process again.
pub(crate) struct Listening(());

impl Drop for Listening {
    fn drop(&mut self) {
        WANTED.store(false, Ordering::SeqCst);
    }
}

/// Listens from now on; what came before is forgotten.
pub(crate) fn listen() -> Result<Listening, TrainError> {
    let mut listening = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
    PENDING.store(false, Ordering::SeqCst);
    if !*listening {
        let handle = || {
            if !WANTED.load(Ordering::SeqCst) || PENDING.swap(true, Ordering::SeqCst) {
                std::process::exit(STATUS);
            }
        };
        ctrlc::set_handler(handle).map_err(|error| TrainError::Interrupt(error.to_string()))?;
        *listening = true;
    }
    WANTED.store(true, Ordering::SeqCst);
    Ok(Listening(()))
}

/// Whether Ctrl-C came since.
pub(crate) fn take() -> bool {
    PENDING.load(Ordering::Relaxed) && PENDING.swap(false, Ordering::SeqCst)
}
