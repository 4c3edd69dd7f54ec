//! Room for the open files of as many connections as the configuration allows, made before there is any.
//!
//! A soft limit is often 1,024, a relic of `select`, which nothing here uses. And Linux makes the table of a process that has threads
//! larger only once no processor looks at the old one any more: whoever opens the 256th file, the 512th and so on holds up its
//! whole thread for 10 to 30 milliseconds. A process without threads waits for nobody, and a table never becomes smaller.
//!
//! Not here: the hard limit, which is the operator's to raise.

use std::fs::File;
use std::io;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One from the client, one to the provider.
const OF_A_CONNECTION: usize = 2;
/// The largest table that is made at once, in files: 8 MB of the kernel's memory.
const MOST: u64 = 1 << 20;

/// Raises the soft limit to the hard one, and makes the table large enough for these connections, as far as the limit lets it.
pub(super) fn make_room(connections: usize) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let wanted = u64::try_from(connections.saturating_mul(OF_A_CONNECTION)).unwrap_or(MOST);
    let last = wanted.min(limit.maximum.unwrap_or(MOST)).min(MOST).saturating_sub(1);
    fcntl_dupfd_cloexec(File::open("/dev/null")?, i32::try_from(last).unwrap_or(i32::MAX))?;
    Ok(())
}
