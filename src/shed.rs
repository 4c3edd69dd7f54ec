//! Load shedding: bounded requests under way and bounded bytes of bodies, of the process and of each workspace.
//!
//! Not here: rate limits (`quota`), and what is not the data plane, which always gets through. Invariant: what was counted in
//! is counted out when its [`Permit`] is dropped, whatever happened between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::quota::Account;

/// When a shed request may come again: load of this kind passes in seconds.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How much is allowed at the same time.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Requests of the process.
    pub in_flight: u64,
    /// Requests of the workspace.
    pub workspace_in_flight: u64,
    /// Bytes of request bodies of the process.
    pub bytes: u64,
    /// Bytes of request bodies of the workspace.
    pub workspace_bytes: u64,
}

/// Why a request was shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// Whether the workspace has too much under way, or the process.
    pub scope: Scope,
    /// What there is too much of.
    pub resource: Resource,
}

/// Whose load is too high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The process is full: a 503.
    Process,
    /// The workspace has its share: a 429.
    Workspace,
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Requests under way.
    Requests,
    /// Bytes of bodies.
    Bytes,
    /// Connections of a listener; those are closed without an answer.
    Connections,
}

impl Shed {
    /// Every reason, for metrics that must start at zero.
    pub const ALL: [Self; 5] = [
        Self { scope: Scope::Process, resource: Resource::Connections },
        Self { scope: Scope::Process, resource: Resource::Requests },
        Self { scope: Scope::Process, resource: Resource::Bytes },
        Self { scope: Scope::Workspace, resource: Resource::Requests },
        Self { scope: Scope::Workspace, resource: Resource::Bytes },
    ];

    /// The labels `scope` and `resource`.
    pub const fn labels(self) -> [&'static str; 2] {
        let scope = match self.scope {
            Scope::Process => "process",
            Scope::Workspace => "workspace",
        };
        let resource = match self.resource {
            Resource::Requests => "requests",
            Resource::Bytes => "bytes",
            Resource::Connections => "connections",
        };
        [scope, resource]
    }
}

impl From<Shed> for Error {
    fn from(shed: Shed) -> Self {
        let what = match shed.resource {
            Resource::Requests => "requests",
            Resource::Bytes => "bytes of request bodies",
            Resource::Connections => "connections",
        };
        let error = match shed.scope {
            Scope::Process => Self::new(ErrorKind::Overloaded, format!("The gateway has too many {what} under way.")),
            Scope::Workspace => {
                let message = format!("This workspace has too many {what} under way.");
                Self::new(ErrorKind::RateLimited, message).with_code("rate_limit_exceeded").with_type("requests")
            }
        };
        error.with_retry_after(RETRY_AFTER)
    }
}

/// The load of the process.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicU64,
    bytes: AtomicU64,
}

impl Load {
    /// Bytes of request bodies that are held now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Lets a request of a workspace in, if there is room.
    pub fn enter(self: &Arc<Self>, workspace: &Arc<Account>, caps: Caps) -> Result<Permit, Shed> {
        let shed = |scope| Shed { scope, resource: Resource::Requests };
        add(&workspace.in_flight, 1, caps.workspace_in_flight).map_err(|()| shed(Scope::Workspace))?;
        if add(&self.in_flight, 1, caps.in_flight).is_err() {
            workspace.in_flight.fetch_sub(1, Relaxed);
            return Err(shed(Scope::Process));
        }
        Ok(Permit { load: Arc::clone(self), workspace: Arc::clone(workspace), caps, bytes: 0 })
    }
}

/// A request that was let in.
#[derive(Debug)]
pub struct Permit {
    load: Arc<Load>,
    workspace: Arc<Account>,
    caps: Caps,
    bytes: u64,
}

impl Permit {
    /// Makes room until the request holds so many bytes.
    pub fn hold(&mut self, bytes: u64) -> Result<(), Shed> {
        let more = bytes.saturating_sub(self.bytes);
        let shed = |scope| Shed { scope, resource: Resource::Bytes };
        add(&self.workspace.held_bytes, more, self.caps.workspace_bytes).map_err(|()| shed(Scope::Workspace))?;
        if add(&self.load.bytes, more, self.caps.bytes).is_err() {
            self.workspace.held_bytes.fetch_sub(more, Relaxed);
            return Err(shed(Scope::Process));
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.workspace.in_flight.fetch_sub(1, Relaxed);
        self.load.in_flight.fetch_sub(1, Relaxed);
        self.workspace.held_bytes.fetch_sub(self.bytes, Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// Adds to a counter unless that would pass the cap.
fn add(counter: &AtomicU64, more: u64, cap: u64) -> Result<(), ()> {
    let room = |now: u64| now.checked_add(more).filter(|sum| *sum <= cap);
    counter.fetch_update(Relaxed, Relaxed, room).map(drop).map_err(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { in_flight: 3, workspace_in_flight: 2, bytes: 100, workspace_bytes: 60 };

    fn shed(scope: Scope, resource: Resource) -> Shed {
        Shed { scope, resource }
    }

    #[test]
    fn one_workspace_has_its_share_and_the_process_its_bound() {
        let load = Arc::new(Load::default());
        let [one, two]: [Arc<Account>; 2] = Default::default();
        let held = [load.enter(&one, CAPS).unwrap(), load.enter(&one, CAPS).unwrap()];
        assert_eq!(load.enter(&one, CAPS).unwrap_err(), shed(Scope::Workspace, Resource::Requests));
        let _third = load.enter(&two, CAPS).unwrap();
        assert_eq!(load.enter(&two, CAPS).unwrap_err(), shed(Scope::Process, Resource::Requests));
        drop(held);
        assert!(load.enter(&two, CAPS).is_ok(), "what ended makes room");
    }

    #[test]
    fn bytes_are_counted_once_and_given_back() {
        let load = Arc::new(Load::default());
        let [one, two]: [Arc<Account>; 2] = Default::default();
        let mut first = load.enter(&one, CAPS).unwrap();
        first.hold(40).unwrap();
        first.hold(60).unwrap();
        assert_eq!(first.hold(61), Err(shed(Scope::Workspace, Resource::Bytes)));
        assert_eq!(load.bytes(), 60);
        let mut second = load.enter(&two, CAPS).unwrap();
        assert_eq!(second.hold(41), Err(shed(Scope::Process, Resource::Bytes)));
        drop(first);
        assert_eq!((second.hold(41), load.bytes()), (Ok(()), 41));
        drop(second);
        assert_eq!(load.bytes(), 0);
    }
}
