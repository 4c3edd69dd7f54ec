//! Bookings of a process that was followed by another one: the other one writes them, or nobody is there, and they are written here.
//!
//! Invariant: a booking is in the ledger once, though an answer may get lost. What may have been sent is looked up first.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::relay::{self, Open};
use super::told;
use super::wire::{Message, Wire};
use crate::error::{Error, Result};
use crate::store::Booking;

/// How long the other process may take for one batch.
const PATIENCE: Duration = Duration::from_secs(30);

/// The way to the process that follows.
pub(super) struct Forward {
    path: PathBuf,
    open: Open,
    line: Mutex<Line>,
}

struct Line {
    /// None after an error.
    wire: Option<Wire>,
    /// The batch that comes next may have been sent before.
    again: bool,
}

impl Forward {
    /// Over this connection, and where it breaks, over a new one to this path.
    pub(super) const fn new(wire: Wire, path: PathBuf, open: Open) -> Self {
        Self { path, open, line: Mutex::new(Line { wire: Some(wire), again: false }) }
    }

    /// Returns when the bookings are on disk. Errors: then they are to be given again.
    pub(super) fn append(&self, bookings: &[Booking]) -> Result<()> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let first = line.wire.is_some().then(|| line.tell(bookings));
        if let Some(Ok(outcome)) = first {
            return outcome;
        }
        match Wire::connect(&self.path) {
            Ok(wire) => {
                line.wire = Some(wire);
                line.tell(bookings).map_err(Error::internal)?
            }
            Err(error) if is_nobody(&error) => self.write(&mut line, bookings),
            Err(error) => Err(Error::internal(error)),
        }
    }

    /// Writes them here: the process that followed is gone, too.
    fn write(&self, line: &mut Line, bookings: &[Booking]) -> Result<()> {
        let store = (self.open)()?;
        let bookings = bookings.to_vec();
        let bookings = if line.again { relay::missing(&*store, bookings)? } else { bookings };
        store.append(&bookings)?;
        line.again = false;
        Ok(())
    }
}

impl Line {
    /// Errors: of the connection, which is then gone; or the other side's.
    fn tell(&mut self, bookings: &[Booking]) -> io::Result<Result<()>> {
        let mut wire = self.wire.take().ok_or(io::ErrorKind::NotConnected)?;
        let message = Message::Book { bookings: bookings.to_vec(), again: self.again };
        self.again = true;
        wire.send(&message)?;
        let answer = wire.receive(Some(PATIENCE))?;
        self.wire = Some(wire);
        Ok(match answer {
            Message::Booked => {
                self.again = false;
                Ok(())
            }
            Message::Refused { why } => Err(told(why)),
            _ => Err(told("The process that follows does not understand.")),
        })
    }
}

/// Whether an error of connecting says that there is no such process.
pub(super) fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
