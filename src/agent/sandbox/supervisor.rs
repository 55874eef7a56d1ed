//! First half of the hidden verb: starts the command, waits, and leaves nothing of it running.
//!
//! The supervisor is the subreaper of everything the command starts, so that whatever detaches itself comes back to
//! it. Its end of a socket to the daemon is its life line: the kernel closes the other end however the daemon dies.

use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal, WaitStatus};

use super::enter::take_channel;
use super::limits;
use super::plan::{Ended, How, Plan, Report, STOP, receive, send};
use crate::platform::clock::{Clock, SystemClock};
use crate::platform::processes::{self, Reaped};
use crate::platform::scratch;

/// Reads a plan, sees the command through, reports how it ended.
pub(super) fn supervise() -> std::io::Result<()> {
    let mut lifeline = take_channel()?;
    let Some(mut plan) = receive::<Plan>(&mut lifeline)? else { return Ok(()) };
    plan.supervisor_pid = rustix::process::getpid().as_raw_nonzero().get();
    let report = match start(&plan) {
        Ok(main) => {
            send(&mut lifeline, &Report::Started { pid: main.as_raw_nonzero().get() })?;
            Report::Ended(Watch::new(&plan, &lifeline, main).run())
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
fn start(plan: &Plan) -> Result<Pid, Report> {
    let fault = |fault: &dyn std::fmt::Display| Report::NotConfined { detail: format!("supervisor: {fault}") };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|error| fault(&error))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| fault(&error))?;
    processes::descendants(rustix::process::getpid()).map_err(|error| fault(&error))?;
    let (mut ours, theirs) = UnixStream::pair().map_err(|error| fault(&error))?;
    ours.set_read_timeout(Some(Duration::from_millis(limits::START_MS))).map_err(|error| fault(&error))?;
    let child = std::process::Command::new("/proc/self/exe")
        .args([super::VERB, super::ENTER])
        .env_clear()
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn()
        .map_err(|error| fault(&error))?;
    send(&mut ours, plan).map_err(|error| fault(&error))?;
    match receive::<Report>(&mut ours) {
        // The socket closed without a word: it was executed over.
        Ok(None) => Ok(Pid::from_child(&child)),
        Ok(Some(report)) => Err(report),
        Err(error) => Err(fault(&error)),
    }
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
}

impl<'a> Watch<'a> {
    fn new(plan: &'a Plan, lifeline: &'a UnixStream, main: Pid) -> Self {
        let clock = SystemClock;
        let time_limit_at_ms = plan.time_limit_ms.map(|limit| clock.boot_ms().saturating_add(limit));
        Self { plan, lifeline, main, clock, status: None, childless: false, ending: None, time_limit_at_ms }
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
            let readable = self.wait(now, pidfd.as_ref());
            if readable && !self.listen() {
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

    /// Asks everything to end, and sets the time after which nobody is asked.
    fn end(&mut self, how: How) {
        let _ = processes::signal_descendants(Signal::TERM);
        self.ending = Some((how, self.clock.boot_ms().saturating_add(self.plan.grace_ms)));
    }

    /// Sleeps until something may have happened. Says whether the daemon's end has something.
    fn wait(&self, now: u64, pidfd: Option<&std::os::fd::OwnedFd>) -> bool {
        // While it is being ended, what the command left behind has to be reaped soon; its own end wakes us anyway.
        let tick = if self.ending.is_some() { 10 } else { limits::REAP_EVERY_MS };
        let deadline = self.ending.map(|(_, at)| at).or(self.time_limit_at_ms);
        let sleep = deadline.map_or(tick, |at| at.saturating_sub(now).min(tick)).max(1);
        let timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(sleep).unwrap_or(1).saturating_mul(1_000_000).min(999_999_999),
        };
        let mut watched = vec![PollFd::new(self.lifeline, PollFlags::IN)];
        watched.extend(pidfd.filter(|_| self.status.is_none()).map(|fd| PollFd::new(fd, PollFlags::IN)));
        let _ = rustix::event::poll(&mut watched, Some(&timeout));
        !watched[0].revents().is_empty()
    }

    /// Takes one word of the daemon. Says whether the daemon is still there.
    fn listen(&mut self) -> bool {
        use std::io::Read as _;
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
        let left = processes::kill_descendants().unwrap_or(0);
        loop {
            match processes::reap() {
                Reaped::Ended(pid, status) => ended(pid, status),
                Reaped::Quiet => break,
                Reaped::NoChildren => return 0,
            }
        }
        if clock.boot_ms() >= give_up_at_ms {
            return u32::try_from(left).unwrap_or(u32::MAX);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
