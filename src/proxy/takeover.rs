//! The door for the process that comes next: what a running gateway does when another one wants to follow it.
//!
//! Not here: what is said (`handover::wire`). The order, and why nothing is lost: the store is closed while requests of the admin API
//! wait and bookings queue, so what the next process opens is everything that was ever acknowledged; requests of applications need
//! no store and go on. Once the other process serves, this one passes on what still comes on its connections, and books what it
//! finishes with the other one. Until then it can take everything back.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use sd_notify::NotifyState;

use super::Gateway;
use super::life::{Phase, What};
use super::listeners::Listeners;
use super::server::tell_supervisor;
use crate::error::{Error, Result};
use crate::handover::wire::{Addresses, Message, VERSION, Wire};
use crate::handover::{Predecessor, Relay, relay};
use crate::store::Booking;

/// How long the next process may take to read its configuration and bind its addresses.
const SETTING_UP: Duration = Duration::from_secs(60);
/// How long it may take to open the store.
const OPENING: Duration = Duration::from_secs(120);
/// How long requests of the admin API, and whoever reads the store, may take to end.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a process that was started here may take to follow.
const FOLLOWING: Duration = Duration::from_secs(240);
/// How often a process that was started is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Why nobody can follow.
const NOT_NOW: &str = "it is starting, or ending, or being replaced already";

/// Starts a program in the place of this one.
pub type Start = Box<dyn Fn(&Path) -> io::Result<Child> + Send + Sync>;

/// The door, open as long as the process runs.
pub struct Takeover {
    gateway: Arc<Gateway>,
    relay: Arc<Relay>,
    listeners: Arc<Listeners>,
    path: PathBuf,
    start: Start,
    /// The number of the process that follows, once one does.
    successor: AtomicU32,
    /// One is started at a time.
    starting: Mutex<()>,
}

impl Takeover {
    /// Listens for the next process at this path, whoever did before. Where that can't be, this process can't be followed; the log
    /// says so.
    pub fn open(
        gateway: &Arc<Gateway>,
        relay: &Arc<Relay>,
        listeners: &Arc<Listeners>,
        path: PathBuf,
        start: Start,
    ) -> Arc<Self> {
        let (gateway, relay, listeners) = (Arc::clone(gateway), Arc::clone(relay), Arc::clone(listeners));
        let (successor, starting) = (AtomicU32::new(0), Mutex::new(()));
        let takeover = Arc::new(Self { gateway, relay, listeners, path, start, successor, starting });
        if let Err(error) = takeover.listen() {
            let path = takeover.path.display();
            tracing::warn!(%error, %path, "this process can't be upgraded while it runs: its socket can't be made");
        }
        takeover
    }

    fn listen(self: &Arc<Self>) -> io::Result<()> {
        // Renamed into its place, so that nobody sees it before only its owner can call.
        let fresh = self.set_aside();
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, &self.path)?;
        let keeper = Arc::clone(self);
        Builder::new().name("upgrade".into()).spawn(move || keeper.welcome(&listener)).map(drop)
    }

    /// Another name for the socket, of this process alone.
    fn set_aside(&self) -> PathBuf {
        self.path.with_extension(std::process::id().to_string())
    }

    /// Takes the bookings of the process before.
    pub fn hear(self: &Arc<Self>, predecessor: Predecessor) {
        self.talk(predecessor.into_wire());
    }

    /// Closes the door, when the process ends. The socket stays if it is another process's by now.
    pub fn close(&self) {
        if !matches!(self.gateway.life.phase(), Phase::Replaced(_)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn welcome(self: &Arc<Self>, listener: &UnixListener) {
        for caller in listener.incoming() {
            match caller.and_then(Wire::over) {
                Ok(wire) => self.talk(wire),
                Err(error) => tracing::warn!(%error, "a call for an upgrade was not taken"),
            }
        }
    }

    /// Talks in a thread of its own, as long as the other side does.
    fn talk(self: &Arc<Self>, wire: Wire) {
        let door = Arc::clone(self);
        let talking = Builder::new().name("handover".into()).spawn(move || {
            if let Err(error) = door.converse(wire) {
                tracing::debug!(%error, "a call for an upgrade broke off");
            }
        });
        if let Err(error) = talking {
            tracing::error!(%error, "a call for an upgrade was not taken");
        }
    }

    fn converse(&self, mut wire: Wire) -> io::Result<()> {
        let predecessor = self.gateway.life.count(What::Predecessors);
        loop {
            let answer = match wire.receive(None) {
                Ok(Message::Book { bookings, again }) => self.book(bookings, again),
                Ok(Message::TakeOver { version }) => {
                    drop(predecessor);
                    return self.hand_over(wire, version);
                }
                Ok(Message::Replace { program }) => {
                    // Counted until it is answered: this process may have nothing else left to do by then.
                    let answer = self.replace(&program);
                    return wire.send(&answer);
                }
                Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            };
            wire.send(&answer)?;
        }
    }

    fn book(&self, bookings: Vec<Booking>, again: bool) -> Message {
        match self.gateway.adopt(bookings, again) {
            Ok(()) => Message::Booked,
            Err(error) => refuse(&error),
        }
    }

    /// Starts a program, which then calls here to follow, and waits until it does or has ended.
    pub fn replace(&self, program: &Path) -> Message {
        let _alone = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.gateway.life.phase() != Phase::Serving {
            return refuse(&NOT_NOW);
        }
        tracing::info!(program = %program.display(), "starting a new process in the place of this one");
        let mut child = match (self.start)(program) {
            Ok(child) => child,
            Err(error) => return refuse(&format!("{} can't be started: {error}", program.display())),
        };
        let started = Instant::now();
        loop {
            let phase = self.gateway.life.phase();
            if matches!(phase, Phase::Replaced(_)) {
                return Message::Replaced { process: self.successor.load(Ordering::Acquire) };
            }
            match child.try_wait() {
                Ok(None) if phase == Phase::Serving && started.elapsed() > FOLLOWING => {
                    let _ = child.kill();
                }
                Ok(None) => std::thread::sleep(LOOK),
                Ok(Some(status)) => return refuse(&format!("the new process ended ({status}); its log says why")),
                Err(error) => return refuse(&error),
            }
        }
    }

    /// Lets another process follow.
    fn hand_over(&self, mut wire: Wire, version: u32) -> io::Result<()> {
        if version != VERSION {
            return wire.send(&refuse(&"it speaks another version of the hand-over; restart it instead"));
        }
        if self.gateway.life.phase() != Phase::Serving {
            return wire.send(&refuse(&NOT_NOW));
        }
        self.listeners.show(|sockets| wire.send_sockets(sockets))?;
        if !matches!(wire.receive(Some(SETTING_UP))?, Message::Release) {
            return Ok(());
        }
        if !self.gateway.life.parting() {
            return wire.send(&refuse(&NOT_NOW));
        }
        let started = Instant::now();
        let outcome = self.part(&mut wire);
        match outcome {
            Ok(addresses) => {
                let process = wire.peer();
                self.successor.store(process, Ordering::Release);
                self.relay.follow(wire, self.path.clone());
                self.gateway.life.replaced(addresses);
                tell_supervisor(&[NotifyState::MainPid(process)]);
                tracing::info!(process, took = ?started.elapsed(), "another process serves; this one finishes what it began");
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the other process does not follow; this one goes on");
                self.relay.take_back();
                self.gateway.life.staying();
                Ok(())
            }
        }
    }

    /// Up to the point of no return. Errors: the other process can't follow.
    fn part(&self, wire: &mut Wire) -> Result<Addresses> {
        wait(ADMIN_PATIENCE, self.gateway.life.none(What::Admin));
        if let Err(error) = self.relay.release(ADMIN_PATIENCE) {
            let _ = wire.send(&refuse(&error));
            return Err(error);
        }
        wire.send(&Message::Released).map_err(Error::internal)?;
        match wire.receive(Some(OPENING)) {
            Ok(Message::Opened(addresses)) => {
                // From here on the path is the other process's.
                let aside = self.set_aside();
                let _ = std::fs::rename(&self.path, &aside);
                if let Err(error) = wire.send(&Message::Go) {
                    let _ = std::fs::rename(&aside, &self.path);
                    return Err(Error::internal(error));
                }
                let _ = std::fs::remove_file(&aside);
                Ok(addresses)
            }
            Ok(Message::Failed { why }) => Err(Error::internal(why)),
            Ok(_) => Err(Error::internal("it does not say what it should")),
            Err(error) => {
                let _ = wire.send(&refuse(&"it waited too long"));
                Err(Error::internal(error))
            }
        }
    }
}

impl Gateway {
    /// Books what the process before finished.
    fn adopt(&self, bookings: Vec<Booking>, again: bool) -> Result<()> {
        let store = &*self.lasting.store;
        let bookings = if again { relay::missing(store, bookings)? } else { bookings };
        store.append(&bookings)?;
        for booking in &bookings {
            self.metrics.observe(booking);
            let day = booking.created_at.to_zoned(TimeZone::UTC).date();
            let directory = self.directory();
            if let Some(workspace) = directory.workspace(&booking.workspace) {
                workspace.account.spent_before(day, booking.cost());
            }
            if let Some(key) = directory.key(&booking.workspace, &booking.key) {
                key.account.spent_before(day, booking.cost());
            }
        }
        Ok(())
    }
}

fn refuse(why: &dyn std::fmt::Display) -> Message {
    Message::Refused { why: why.to_string() }
}

/// Waits for this, but not for ever.
fn wait(patience: Duration, future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    if let Ok(runtime) = runtime {
        let _ = runtime.block_on(async { tokio::time::timeout(patience, future).await });
    }
}
