//! The running process, as the one that follows it sees it.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::forward::is_nobody;
use super::told;
use super::wire::{Addresses, Message, VERSION, Wire};
use crate::error::{Error, Result};

/// How long an answer may take; the store may have much to bring to the disk first.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a new process may take to start and to follow, for who waits for it.
const REPLACING: Duration = Duration::from_secs(300);

/// A running process that is to be followed.
pub struct Predecessor {
    wire: Wire,
}

impl Predecessor {
    /// Calls the process that listens at this path; none where there is no such process. Gives its listening sockets, too.
    ///
    /// Errors: it refuses, or does not answer.
    pub fn call(path: &Path) -> Result<Option<(Self, Vec<TcpListener>)>> {
        let wire = match Wire::connect(path) {
            Ok(wire) => wire,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return Err(unheard(&error)),
        };
        let mut predecessor = Self { wire };
        predecessor.wire.send(&Message::TakeOver { version: VERSION }).map_err(|error| unheard(&error))?;
        let (answer, sockets) = predecessor.wire.receive_with_sockets(PATIENCE).map_err(|error| unheard(&error))?;
        match answer {
            Message::Sockets => Ok(Some((predecessor, sockets.into_iter().map(TcpListener::from).collect()))),
            other => Err(refused(other)),
        }
    }

    /// Has it close its store. Errors: it does not; then it goes on as before.
    pub fn release(&mut self) -> Result<()> {
        match self.ask(&Message::Release)? {
            Message::Released => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// Says that this process has the store and serves at these addresses from now on. Errors: the old one goes on instead.
    pub fn opened(&mut self, addresses: Addresses) -> Result<()> {
        self.wire.send(&Message::Opened(addresses)).map_err(|error| unheard(&error))?;
        match self.wire.receive(Some(PATIENCE)) {
            Ok(Message::Go) => Ok(()),
            Ok(other) => Err(refused(other)),
            // It is gone, and nobody else will serve.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(unheard(&error)),
        }
    }

    /// Says that this process can't follow.
    pub fn failed(&mut self, why: &dyn std::fmt::Display) {
        // Whoever does not hear this sees the connection end.
        let _ = self.wire.send(&Message::Failed { why: why.to_string() });
    }

    /// The connection, over which the bookings of the old process come now.
    pub fn into_wire(self) -> Wire {
        self.wire
    }

    fn ask(&mut self, message: &Message) -> Result<Message> {
        let answer = self.wire.send(message).and_then(|()| self.wire.receive(Some(PATIENCE)));
        answer.map_err(|error| unheard(&error))
    }
}

/// Has the process that listens at this path start this program in its place; waits until that serves, and gives its number.
///
/// Errors: nobody listens there, or the running process goes on instead, and why.
pub fn replace(path: &Path, program: PathBuf) -> Result<u32> {
    let mut wire = Wire::connect(path).map_err(|error| match is_nobody(&error) {
        true => told(format!("No gateway is running here: nobody listens at {}.", path.display())),
        false => unheard(&error),
    })?;
    wire.send(&Message::Replace { program }).map_err(|error| unheard(&error))?;
    match wire.receive(Some(REPLACING)).map_err(|error| unheard(&error))? {
        Message::Replaced { process } => Ok(process),
        other => Err(refused(other)),
    }
}

fn unheard(error: &io::Error) -> Error {
    told(format!("The running gateway does not answer as it should: {error}. It goes on as before."))
}

fn refused(answer: Message) -> Error {
    match answer {
        Message::Refused { why } => told(format!("The running gateway goes on as before: {why}")),
        _ => told("The running gateway does not understand this one. It goes on as before."),
    }
}
