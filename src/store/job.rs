//! Work beside the writers: one thread that is there while there is something to do.

use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// A kind of work, of which one piece is done at a time.
#[derive(Default)]
pub(super) struct Job(Mutex<Option<JoinHandle<()>>>);

impl Job {
    /// Whether a piece is being done.
    pub(super) fn is_running(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Begins a piece, if none is being done.
    pub(super) fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        match Builder::new().name(name.to_owned()).spawn(work) {
            Ok(thread) => *running = Some(thread),
            Err(error) => tracing::error!(%error, name, "the system has no thread for the ledger; it is tried again"),
        }
    }

    /// Waits until what is being done is done.
    pub(super) fn wait(&self) {
        let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ledger's work beside the writers ended by a panic");
        }
    }
}
