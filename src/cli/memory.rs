//! What is in this process's memory, provider keys among it, stays there: no core dump, and no look at it by others of the same user.
//!
//! Not here: root, who can always look; swap, which is the operator's to encrypt.

/// Forbids core dumps and debuggers, for this process and for what it starts. Says what could not be forbidden.
#[cfg(target_os = "linux")]
pub(super) fn keep_private() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    let limited = limit_core();
    // A kernel that pipes its dumps to a program asks for this and not for the limit.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    limited
}

/// The same where the limit is all there is.
#[cfg(not(target_os = "linux"))]
pub(super) fn keep_private() -> std::io::Result<()> {
    limit_core()
}

fn limit_core() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}
