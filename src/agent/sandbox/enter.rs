//! Second half of the hidden verb: confines itself by a plan and becomes the command.
//!
//! It is a process of its own, between supervisor and command, because the supervisor must stay outside of the
//! sandbox: what is inside may not signal it, and it has a folder to remove at the end.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;

use rustix::process::{Resource, Rlimit, Signal};

use super::plan::{LISTENER, Plan, Report, receive, send};
use super::{limits, restrict};

/// Takes standard input as a socket of our own and leaves nothing to read in its place.
pub(super) fn take_channel() -> std::io::Result<UnixStream> {
    let channel: OwnedFd = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    let nothing = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(nothing)?;
    Ok(UnixStream::from(channel))
}

/// Reads the plan and executes it. Comes back only where that failed, after the supervisor was told.
pub(super) fn enter() -> std::io::Result<()> {
    let mut channel = take_channel()?;
    let Some(plan) = receive::<Plan>(&mut channel)? else { return Ok(()) };
    let report = match prepare(&plan) {
        Ok(listener) => match hand_over(&channel, listener) {
            Ok(()) => Report::NotStarted { detail: execute(&plan) },
            Err(fault) => Report::NotConfined { detail: format!("listener: {fault}") },
        },
        Err(report) => report,
    };
    send(&mut channel, &report)
}

/// Everything between the plan and the command. The order matters: what needs rights comes first.
fn prepare(plan: &Plan) -> Result<Option<OwnedFd>, Report> {
    let confine =
        |what: &str, fault: &dyn std::fmt::Display| Report::NotConfined { detail: format!("{what}: {fault}") };
    // Whatever was inherited without the daemon's doing, from a shell or a service manager, ends at the command.
    close_fds::set_fds_cloexec(3, &[]);
    rustix::process::setsid().map_err(|fault| confine("session", &fault))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|fault| confine("parent death signal", &fault))?;
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(plan.supervisor_pid) {
        return Err(confine("parent", &"the supervisor is gone"));
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    volunteer_for_the_memory_killer();
    resources(plan).map_err(|fault| confine("resource limits", &fault))?;
    rustix::process::chdir(&plan.cwd)
        .map_err(|fault| Report::NotStarted { detail: format!("{}: {fault}", plan.cwd.display()) })?;
    // Also without a sandbox: a command that gains another user's rights could not be killed any more.
    rustix::thread::set_no_new_privs(true).map_err(|fault| confine("no new privileges", &fault))?;
    match &plan.rules {
        Some(rules) => restrict::apply(plan, rules).map_err(|detail| Report::NotConfined { detail }),
        None => Ok(None),
    }
}

/// Gives the supervisor the descriptor at which calls of the command will wait for it.
fn hand_over(channel: &UnixStream, listener: Option<OwnedFd>) -> rustix::io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let Some(listener) = listener else { return Ok(()) };
    let rights = [listener.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&rights));
    sendmsg(channel, &[std::io::IoSlice::new(&[LISTENER])], &mut control, SendFlags::empty())?;
    Ok(())
}

/// If memory runs out, the command goes before its supervisor and the daemon do. A wish, not a condition.
fn volunteer_for_the_memory_killer() {
    use rustix::fs::{Mode, OFlags, open};
    if let Ok(file) = open("/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(file, b"500");
    }
}

fn resources(plan: &Plan) -> rustix::io::Result<()> {
    let limits = [
        (Resource::Core, 0),
        (Resource::Fsize, plan.file_bytes),
        (Resource::Nproc, limits::PROCESSES),
        (Resource::Nofile, limits::OPEN_FILES),
    ];
    for (resource, wanted) in limits {
        let ceiling = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let value = Some(wanted.min(ceiling));
        rustix::process::setrlimit(resource, Rlimit { current: value, maximum: value })?;
    }
    Ok(())
}

fn execute(plan: &Plan) -> String {
    let mut command = std::process::Command::new(&plan.program);
    command.args(&plan.args).env_clear().envs(&plan.environment);
    format!("{}: {}", plan.program.display(), command.exec())
}
