//! A running command as the daemon sees it: its output, its end, and the ways to bring that about.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::limits;
use super::plan::{Ended, How, Report, STOP};
use super::supervisors::{self, Supervisor, Whose};
use crate::platform::tasks::Milestone;

/// A supervisor and everything that connects it with the daemon.
pub(super) struct Wires {
    pub(super) output: pipe::Receiver,
    pub(super) reports: Reports,
    pub(super) lifeline: OwnedWriteHalf,
    pub(super) supervisor: Supervisor,
}

impl Wires {
    /// Hands the plan over and takes the first report.
    pub(super) async fn give(&mut self, plan: &[u8]) -> std::io::Result<Option<Report>> {
        self.lifeline.write_all(plan).await?;
        self.reports.next().await
    }

    /// The command, once it runs.
    pub(super) fn started(self, pid: i32, time_limit: Option<Duration>) -> Child {
        let Self { output, reports, lifeline, supervisor } = self;
        let overdue_at = time_limit.and_then(|limit| Instant::now().checked_add(limit + patience()));
        Child {
            pid,
            output,
            quiet_at: None,
            watch: Watch { reports, supervisor, ended: None, overdue_at, sweep: None, swept: false },
            lifeline: Arc::new(Lifeline { line: lifeline, stopped_at: OnceLock::new(), stopped: Milestone::default() }),
        }
    }
}

/// How long a supervisor is waited for after an end is due.
fn patience() -> Duration {
    Duration::from_millis(limits::GRACE_MS + limits::KILL_MS + limits::LATE_MS)
}

/// What a supervisor says.
#[derive(Debug)]
pub(super) struct Reports {
    from: BufReader<OwnedReadHalf>,
    /// What has come of the next line; kept here so that a wait can be given up and taken up again.
    line: Vec<u8>,
}

impl Reports {
    pub(super) fn new(from: OwnedReadHalf) -> Self {
        Self { from: BufReader::new(from), line: Vec::new() }
    }

    async fn next(&mut self) -> std::io::Result<Option<Report>> {
        (&mut self.from).take(limits::PLAN_BYTES).read_until(b'\n', &mut self.line).await?;
        let line = std::mem::take(&mut self.line);
        if line.is_empty() { Ok(None) } else { serde_json::from_slice(&line).map(Some).map_err(std::io::Error::other) }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// What ended it.
    pub how: How,
    /// Its exit code, where it exited.
    pub code: Option<i32>,
    /// The signal, where one ended it.
    pub signal: Option<i32>,
    /// Processes that even a kill did not end in time; zero but for a broken machine.
    pub survivors: u32,
}

impl Exit {
    const LOST: Self = Self { how: How::Lost, code: None, signal: None, survivors: 0 };
}

/// The line to a supervisor.
#[derive(Debug)]
struct Lifeline {
    line: OwnedWriteHalf,
    /// When the command was first asked to end.
    stopped_at: OnceLock<Instant>,
    stopped: Milestone,
}

impl Lifeline {
    fn stop(&self) {
        self.stopped_at.get_or_init(Instant::now);
        self.stopped.reach();
        // The socket holds at most a few such bytes, so it has room; an error means that the supervisor is gone.
        let _ = self.line.try_write(&[STOP]);
    }

    /// Resolves when a supervisor that was told to end the command should have done so.
    async fn overdue(&self) {
        self.stopped.reached().await;
        let stopped_at = self.stopped_at.get().copied().unwrap_or_else(Instant::now);
        sleep_until(stopped_at + patience()).await;
    }
}

/// Waits for the end of a command.
#[derive(Debug)]
struct Watch {
    reports: Reports,
    supervisor: Supervisor,
    ended: Option<Exit>,
    /// When the time limit should have ended it.
    overdue_at: Option<Instant>,
    /// Ends what a lost supervisor left.
    sweep: Option<JoinHandle<(usize, usize)>>,
    swept: bool,
}

impl Watch {
    /// May be dropped and called again: what has come of it is kept at once.
    async fn end(&mut self, lifeline: &Lifeline) -> Exit {
        let exit = if let Some(exit) = &self.ended { exit.clone() } else { self.report(lifeline).await };
        self.ended = Some(exit.clone());
        if exit.how == How::Lost && !self.swept {
            self.sweep().await;
        }
        self.supervisor.wait().await;
        exit
    }

    async fn report(&mut self, lifeline: &Lifeline) -> Exit {
        let limit = self.overdue_at;
        let overdue = async {
            match limit {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            report = self.reports.next() => match report {
                Ok(Some(Report::Ended(Ended { how, code, signal, survivors }))) => Exit { how, code, signal, survivors },
                _ => Exit::LOST,
            },
            // A supervisor that is stopped itself sees to nothing: it counts as lost.
            () = overdue => Exit::LOST,
            () = lifeline.overdue() => Exit::LOST,
        }
    }

    /// Without their supervisor a command's processes have come back to this process.
    async fn sweep(&mut self) {
        let supervisor = &mut self.supervisor;
        let sweep = match &mut self.sweep {
            Some(sweep) => sweep,
            none => {
                supervisor.kill();
                supervisor.wait().await;
                none.insert(tokio::task::spawn_blocking(|| supervisors::end(Whose::Lost)))
            }
        };
        let (killed, left) = sweep.await.unwrap_or_default();
        self.swept = true;
        tracing::warn!(killed, left, "the supervisor of a command was lost; what the command left was killed");
    }
}

/// A running command. Dropping it kills the command and everything it started.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    output: pipe::Receiver,
    /// When output is no longer waited for, once the end is known.
    quiet_at: Option<Instant>,
    watch: Watch,
    lifeline: Arc<Lifeline>,
}

impl Child {
    /// The command's process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Reads the next of what it writes; zero where there is no more, because the command and all that it started have
    /// ended, or because they could not be ended. May be dropped and called again.
    pub async fn read(&mut self, buffer: &mut [u8]) -> usize {
        loop {
            if let Some(at) = self.quiet_at {
                return timeout_at(at, self.output.read(buffer)).await.ok().and_then(Result::ok).unwrap_or(0);
            }
            // Whoever holds the output keeps it open: its end alone would be waited for without end.
            tokio::select! {
                read = self.output.read(buffer) => return read.unwrap_or(0),
                _ = self.watch.end(&self.lifeline) => {
                    self.quiet_at = Some(Instant::now() + Duration::from_millis(limits::QUIET_MS));
                }
            }
        }
    }

    /// Asks the command to end; what has not ended after the grace is killed.
    pub fn stop(&self) {
        self.lifeline.stop();
    }

    /// Something to stop it with from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::downgrade(&self.lifeline))
    }

    /// Waits for the end of the command and of everything it started. May be dropped and called again.
    pub async fn wait(&mut self) -> Exit {
        self.watch.end(&self.lifeline).await
    }
}

/// Stops a command.
#[derive(Debug, Clone)]
pub struct Stopper(Weak<Lifeline>);

impl Stopper {
    /// Asks the command to end; what has not ended after the grace is killed. Does nothing where it has ended.
    pub fn stop(&self) {
        if let Some(lifeline) = self.0.upgrade() {
            lifeline.stop();
        }
    }
}
