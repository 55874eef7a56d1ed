//! First half of the hidden verb: starts the command, waits, and leaves nothing of it running.
//!
//! The supervisor is the subreaper of everything the command starts, so that whatever detaches itself comes back to
//! it. Its end of a socket to the daemon is its life line: the kernel closes the other end however the daemon dies.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal, WaitStatus};

use super::enter::take_channel;
use super::limits;
use super::ownership::Keeper;
use super::plan::{Ended, How, LISTENER, Plan, Report, STOP, receive, send};
use crate::platform::clock::{Clock, SystemClock};
use crate::platform::processes::{self, Reaped};
use crate::platform::scratch;

/// Reads a plan, sees the command through, reports how it ended.
pub(super) fn supervise() -> std::io::Result<()> {
    let mut lifeline = take_channel()?;
    let Some(mut plan) = receive::<Plan>(&mut lifeline)? else { return Ok(()) };
    plan.supervisor_pid = rustix::process::getpid().as_raw_nonzero().get();
    let report = match start(&plan) {
        Ok((main, keeper)) => {
            // A daemon that has gone meanwhile hears nothing; the watch finds that out and ends the command.
            let _ = send(&mut lifeline, &Report::Started { pid: main.as_raw_nonzero().get() });
            Report::Ended(Watch::new(&plan, &lifeline, main, keeper).run())
        }
        Err(report) => {
            let _ = kill_all(&SystemClock);
            report
        }
    };
    let _ = scratch::remove(&plan.scratch);
    send(&mut lifeline, &report)
}

/// Starts the second half and waits until it has become the command or says why not.
fn start(plan: &Plan) -> Result<(Pid, Option<Keeper>), Report> {
    let fault = |fault: &dyn std::fmt::Display| Report::NotConfined { detail: format!("supervisor: {fault}") };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|error| fault(&error))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| fault(&error))?;
    processes::descendants(rustix::process::getpid()).map_err(|error| fault(&error))?;
    let (mut ours, theirs) = UnixStream::pair().map_err(|error| fault(&error))?;
    ours.set_read_timeout(Some(Duration::from_millis(limits::START_MS))).map_err(|error| fault(&error))?;
    let child = std::process::Command::new("/proc/self/exe")
        .args([super::VERB, super::ENTER])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .map_err(|error| fault(&error))?;
    send(&mut ours, plan).map_err(|error| fault(&error))?;
    let (first, listener) = first_word(&ours).map_err(|error| fault(&error))?;
    let report = match first {
        // The socket closed without a word: it was executed over.
        None => Ok(None),
        Some(LISTENER) => receive::<Report>(&mut ours),
        Some(byte) => receive::<Report>(&mut [byte].as_slice().chain(&mut ours)),
    };
    match report {
        Ok(None) => {
            let roots = plan.rules.as_ref().map_or(&[] as &[_], |rules| &rules.read_write);
            Ok((Pid::from_child(&child), listener.map(|listener| Keeper::new(listener, roots))))
        }
        Ok(Some(report)) => Err(report),
        Err(error) => Err(fault(&error)),
    }
}

/// The first byte that the second half sends, and the descriptor that came with it.
fn first_word(ours: &UnixStream) -> rustix::io::Result<(Option<u8>, Option<OwnedFd>)> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut byte = [0];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut byte)];
    let count = rustix::io::retry_on_intr(|| recvmsg(ours, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC))?.bytes;
    let listener = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    Ok(((count > 0).then_some(byte[0]), listener))
}

/// One command under watch.
struct Watch<'a> {
    plan: &'a Plan,
    lifeline: &'a UnixStream,
    main: Pid,
    clock: SystemClock,
    status: Option<WaitStatus>,
    childless: bool,
    /// Why it is being ended, and when it is killed at the latest.
    ending: Option<(How, u64)>,
    time_limit_at_ms: Option<u64>,
    /// When its processes are counted next.
    count_at_ms: u64,
    /// Changes modes and owners for the command, as long as any of it lives.
    keeper: Option<Keeper>,
}

/// What woke the watch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Woken {
    /// The daemon's end has something.
    daemon: bool,
    /// A call waits to be done.
    call: bool,
}

impl<'a> Watch<'a> {
    fn new(plan: &'a Plan, lifeline: &'a UnixStream, main: Pid, keeper: Option<Keeper>) -> Self {
        let clock = SystemClock;
        let time_limit_at_ms = plan.time_limit_ms.map(|limit| clock.boot_ms().saturating_add(limit));
        let (status, childless, ending, count_at_ms) = (None, false, None, 0);
        Self { plan, lifeline, main, clock, status, childless, ending, time_limit_at_ms, count_at_ms, keeper }
    }

    fn run(mut self) -> Ended {
        let pidfd = rustix::process::pidfd_open(self.main, PidfdFlags::empty()).ok();
        loop {
            self.reap();
            let now = self.clock.boot_ms();
            if self.childless || (self.status.is_some() && self.ending.is_none()) {
                break;
            }
            match self.ending {
                Some((_, kill_at_ms)) if now >= kill_at_ms => break,
                None if self.time_limit_at_ms.is_some_and(|at| now >= at) => self.end(How::TimeLimit),
                _ => {}
            }
            if self.has_too_many(now) {
                // Nobody is asked: while there is time to answer there would be more of them.
                self.ending = self.ending.or(Some((How::Processes, now)));
                break;
            }
            let woken = self.wait(now, pidfd.as_ref());
            if woken.call
                && let Some(keeper) = &self.keeper
            {
                keeper.attend();
            }
            if woken.daemon && !self.listen() {
                self.ending = Some((How::DaemonGone, now));
            }
        }
        let survivors = kill_all_recording(&self.clock, |pid, status| {
            if pid == self.main {
                self.status = Some(status);
            }
        });
        Ended {
            how: self.ending.map_or(How::Exited, |(how, _)| how),
            code: self.status.and_then(WaitStatus::exit_status),
            signal: self.status.and_then(WaitStatus::terminating_signal),
            survivors,
        }
    }

    fn reap(&mut self) {
        loop {
            match processes::reap() {
                Reaped::Ended(pid, status) if pid == self.main => self.status = Some(status),
                Reaped::Ended(..) => {}
                Reaped::Quiet => return,
                Reaped::NoChildren => {
                    self.childless = true;
                    return;
                }
            }
        }
    }

    /// The limit that the kernel keeps counts all processes of a user, and does not bind root at all.
    fn has_too_many(&mut self, now: u64) -> bool {
        let due = now >= self.count_at_ms;
        if due {
            self.count_at_ms = now.saturating_add(limits::LOOK_EVERY_MS);
        }
        due && processes::descendants_exceed(limits::COMMAND_PROCESSES)
    }

    /// Asks everything to end, and sets the time after which nobody is asked.
    fn end(&mut self, how: How) {
        let _ = processes::signal_descendants(Signal::TERM);
        self.ending = Some((how, self.clock.boot_ms().saturating_add(self.plan.grace_ms)));
    }

    /// Sleeps until something may have happened, and says what.
    fn wait(&mut self, now: u64, pidfd: Option<&OwnedFd>) -> Woken {
        // While it is being ended, what the command left behind has to be reaped soon; its own end wakes us anyway.
        let tick = if self.ending.is_some() { 10 } else { limits::LOOK_EVERY_MS };
        let deadline = self.ending.map(|(_, at)| at).or(self.time_limit_at_ms);
        let sleep = deadline.map_or(tick, |at| at.saturating_sub(now).min(tick)).max(1);
        let timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(sleep).unwrap_or(1).saturating_mul(1_000_000).min(999_999_999),
        };
        let mut watched = vec![PollFd::new(self.lifeline, PollFlags::IN)];
        watched.extend(self.keeper.as_ref().map(|keeper| PollFd::new(keeper, PollFlags::IN)));
        watched.extend(pidfd.filter(|_| self.status.is_none()).map(|fd| PollFd::new(fd, PollFlags::IN)));
        if rustix::event::poll(&mut watched, Some(&timeout)).is_err() {
            return Woken::default();
        }
        let daemon = !watched[0].revents().is_empty();
        let calls = if self.keeper.is_some() { watched[1].revents() } else { PollFlags::empty() };
        if calls.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            // Nothing is left that could call.
            self.keeper = None;
        }
        Woken { daemon, call: calls.contains(PollFlags::IN) }
    }

    /// Takes one word of the daemon. Says whether the daemon is still there.
    fn listen(&mut self) -> bool {
        let mut byte = [0];
        match (&mut &*self.lifeline).read(&mut byte) {
            Ok(0) => false,
            Ok(_) => {
                if byte == [STOP] && self.ending.is_none() {
                    self.end(How::Stopped);
                }
                true
            }
            Err(fault) => fault.kind() == std::io::ErrorKind::Interrupted,
        }
    }
}

fn kill_all(clock: &dyn Clock) -> u32 {
    kill_all_recording(clock, |_, _| {})
}

/// Kills whatever lives below this process until nothing does. Gives up on what even the kernel cannot end, and says
/// how many those are.
fn kill_all_recording(clock: &dyn Clock, mut ended: impl FnMut(Pid, WaitStatus)) -> u32 {
    let give_up_at_ms = clock.boot_ms().saturating_add(limits::KILL_MS);
    loop {
        if processes::kill_descendants(&mut ended).unwrap_or(false) {
            return 0;
        }
        if clock.boot_ms() >= give_up_at_ms {
            let left = processes::descendants(rustix::process::getpid()).map_or(0, |left| left.len());
            return u32::try_from(left).unwrap_or(u32::MAX);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
