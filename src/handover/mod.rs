//! A new process in the place of a running one, without a moment in which nobody serves.
//!
//! Both talk over a Unix socket in the data directory ([`wire`]). The one that runs hands over its listening sockets, so that no
//! connection is refused, and its store, which belongs to one process at a time; it goes on serving meanwhile, and its bookings
//! wait. Then the new one serves, and the old one finishes what it began: its bookings go to the new one ([`relay`]).
//!
//! | new | old |
//! | --- | --- |
//! | `TakeOver` | `Sockets`, with the listening sockets |
//! | `Release`, once nothing is left that could fail but the store | closes the store: `Released` |
//! | opens the store: `Opened` | `Go`; from here on it is not asked any more, and there is no way back |
//!
//! Not here: what a gateway does with all this (`proxy::takeover`). Invariants: at every moment one process has the store, or is
//! about to open it; before `Go` every failure leaves the old process as it was; a booking is acknowledged by whoever has it on disk.

mod forward;
mod predecessor;
pub mod relay;
pub mod wire;

use std::path::{Path, PathBuf};

pub use predecessor::{Predecessor, replace};
pub use relay::Relay;

use crate::error::{Error, ErrorKind};

/// The socket's name in the data directory.
const SOCKET: &str = "upgrade.sock";

/// Where the process over this data directory listens for its successor.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// An error that the operator shall read as it is.
fn told(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Internal, text)
}
