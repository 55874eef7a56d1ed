//! What others, and the machine, may do with this process's memory; and whose parent it becomes.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getppid, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit,
};

/// Lets this process be told to end as soon as the one that started it has ended, however that came. False where it has
/// already.
pub fn end_with(parent: i32) -> std::io::Result<bool> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    Ok(getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent))
}

/// Keeps this process's memory, which holds keys and tokens, from disks and from other processes of the same user: no
/// core is written, and nobody but root may trace it or read its memory. What it starts is dumpable again, as always
/// after `exec`, but inherits that no core is written.
pub fn close_memory() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whatever loses its parent among the descendants of this process becomes its child from here on, instead of the first
/// process's of the machine, where nobody would find it.
pub fn adopt_orphans() -> std::io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}
