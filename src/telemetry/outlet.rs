//! A bounded queue in front of a file, and the one thread that writes it.
//!
//! Invariants: [`Outlet::send`] never blocks, whatever the file does: what finds no room is dropped and counted, and so is what
//! the file does not take; lines are written whole and in order, and one that was written by half is ended before the next.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use prometheus::IntCounter;

use crate::seldom::Seldom;

/// Lines are gathered up to so many bytes for one write.
const GATHER: usize = 64 * 1024;
/// How often the program's log says that lines were dropped, at most.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How long a file that would block is left alone.
const NAP: Duration = Duration::from_millis(5);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, which is appended to.
    File(PathBuf),
}

impl Destination {
    /// Whether people read it as it comes.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
            Self::File(_) => false,
        }
    }

    /// Whether it may be coloured: a terminal whose user did not forbid it.
    pub fn takes_colours(&self) -> bool {
        self.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty())
    }

    /// A descriptor of its own, so that nobody's lock of the standard streams is held while it blocks.
    fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            Self::Stderr => io::stderr().as_fd().try_clone_to_owned().map(File::from),
            Self::File(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Counts what was dropped, and says so in the program's log, but not for each.
pub struct Losses {
    message: &'static str,
    counter: IntCounter,
    line: Seldom,
    unsaid: AtomicU64,
}

impl Losses {
    /// What the line says, and what counts.
    pub fn new(message: &'static str, counter: IntCounter) -> Self {
        Self { message, counter, line: Seldom::new(REPORT_EVERY), unsaid: AtomicU64::new(0) }
    }

    pub(super) fn count(&self, dropped: u64, why: &dyn fmt::Display) {
        self.counter.inc_by(dropped);
        self.unsaid.fetch_add(dropped, Ordering::Relaxed);
        self.report(why);
    }

    /// Says how many were dropped since it was last said, if a line is due.
    fn report(&self, why: &dyn fmt::Display) {
        if self.unsaid.load(Ordering::Relaxed) > 0 && self.line.is_due() {
            let count = self.unsaid.swap(0, Ordering::Relaxed);
            tracing::error!(count, why = %why, "{}", self.message);
        }
    }
}

/// The way to the writer. Dropped, it lets the writer end once the queue is empty, and does not wait for that.
pub struct Outlet<T> {
    sender: SyncSender<Message<T>>,
    /// Disconnected once the writer has ended.
    ended: Mutex<Receiver<()>>,
    shared: Arc<Shared>,
    most_bytes: usize,
}

struct Shared {
    stopping: AtomicBool,
    /// Bytes that wait.
    bytes: AtomicUsize,
    losses: Losses,
}

enum Message<T> {
    Line(T, usize),
    Reopen,
    End,
}

impl<T: Send + 'static> Outlet<T> {
    /// Opens a destination and starts its writer. `room` bounds what waits: its number and its bytes. `render` writes lines, each
    /// with its line break and no other.
    ///
    /// Errors: the file's, or the system's when it has no thread.
    pub fn open(
        name: &'static str,
        destination: &Destination,
        room: (usize, usize),
        losses: Losses,
        render: impl FnMut(&T, &mut Vec<u8>) + Send + 'static,
    ) -> io::Result<Self> {
        let file = destination.open()?;
        let (sender, receiver) = sync_channel(room.0.max(1));
        let (alive, ended) = sync_channel(1);
        let shared = Arc::new(Shared { stopping: AtomicBool::new(false), bytes: AtomicUsize::new(0), losses });
        let target = Target { destination: destination.clone(), file, torn: false };
        let writer = Writer { receiver, shared: Arc::clone(&shared), target, render, buffer: Vec::new() };
        Builder::new().name(name.to_owned()).spawn(move || {
            writer.run();
            drop(alive);
        })?;
        Ok(Self { sender, ended: Mutex::new(ended), shared, most_bytes: room.1 })
    }

    /// Queues what becomes a line; it takes about `weight` bytes until then. Never blocks: without room it is dropped and counted.
    pub fn send(&self, item: T, weight: usize) {
        let shared = &self.shared;
        let waiting = shared.bytes.fetch_add(weight, Ordering::Relaxed);
        let sent =
            if waiting > self.most_bytes { None } else { self.sender.try_send(Message::Line(item, weight)).ok() };
        if sent.is_none() {
            shared.bytes.fetch_sub(weight, Ordering::Relaxed);
            shared.losses.count(1, &"the queue is full");
        }
    }

    /// Opens the destination anew, behind what waits.
    pub fn reopen(&self) {
        // With a full queue the writer is stuck; the file it is stuck at is then the least of its worries.
        let _ = self.sender.try_send(Message::Reopen);
    }

    /// Lets the writer end, and waits until it has written what waits, but not longer than this. False when it has not.
    pub fn close(&self, patience: Duration) -> bool {
        self.let_end();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(ended.recv_timeout(patience), Err(RecvTimeoutError::Disconnected))
    }
}

impl<T> Outlet<T> {
    fn let_end(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // No room for it means that the writer is not waiting, and will see the flag.
        let _ = self.sender.try_send(Message::End);
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        self.let_end();
    }
}

/// The thread's state.
struct Writer<T, R> {
    receiver: Receiver<Message<T>>,
    shared: Arc<Shared>,
    target: Target,
    render: R,
    buffer: Vec<u8>,
}

impl<T, R: FnMut(&T, &mut Vec<u8>)> Writer<T, R> {
    /// Writes until it may end and nothing waits.
    fn run(mut self) {
        while let Ok(message) = self.receiver.recv() {
            self.take(message);
            while self.buffer.len() < GATHER
                && let Ok(message) = self.receiver.try_recv()
            {
                self.take(message);
            }
            self.flush();
            if self.shared.stopping.load(Ordering::Acquire) {
                return self.drain();
            }
        }
    }

    fn drain(&mut self) {
        while let Ok(message) = self.receiver.try_recv() {
            self.take(message);
            if self.buffer.len() >= GATHER {
                self.flush();
            }
        }
        self.flush();
    }

    fn take(&mut self, message: Message<T>) {
        match message {
            Message::Line(item, weight) => {
                (self.render)(&item, &mut self.buffer);
                self.shared.bytes.fetch_sub(weight, Ordering::Relaxed);
            }
            Message::Reopen => {
                self.flush();
                self.target.reopen();
            }
            Message::End => {}
        }
    }

    fn flush(&mut self) {
        if let Err((lost, cause)) = self.target.write(&self.buffer, &self.shared.stopping) {
            self.shared.losses.count(lost, &cause);
        } else {
            self.shared.losses.report(&"there was no room");
        }
        self.buffer.clear();
    }
}

/// The file.
struct Target {
    destination: Destination,
    file: File,
    /// The last line in it is not whole.
    torn: bool,
}

impl Target {
    fn reopen(&mut self) {
        if !matches!(self.destination, Destination::File(_)) {
            return;
        }
        match self.destination.open() {
            Ok(file) => (self.file, self.torn) = (file, false),
            Err(cause) => {
                tracing::error!(file = %self.destination, %cause, "the log could not be opened anew; the old file stays");
            }
        }
    }

    /// Writes lines. Errors: how many of them are not in the file as a whole, and why.
    fn write(&mut self, lines: &[u8], stopping: &AtomicBool) -> Result<(), (u64, io::Error)> {
        let mut rest = lines;
        if self.torn && !rest.is_empty() && self.file.write_all(b"\n").is_ok() {
            self.torn = false;
        }
        while !rest.is_empty() {
            let cause = match self.file.write(rest) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(count) => {
                    self.torn = rest.get(..count).is_some_and(|written| !written.ends_with(b"\n"));
                    rest = rest.get(count..).unwrap_or_default();
                    continue;
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock && !stopping.load(Ordering::Acquire) => {
                    std::thread::sleep(NAP);
                    continue;
                }
                Err(cause) => cause,
            };
            return Err((memchr::memchr_iter(b'\n', rest).count() as u64, cause));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
