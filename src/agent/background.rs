//! Background tasks: commands that go on while their run does other things. Output goes to a file that keeps the
//! newest part; the end is told once, over a bounded channel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::agent::sandbox::{Child, Command, Exit, How, Launcher, Stopper};
use crate::agent::tools::limits;
use crate::domain::ids::{SessionId, TaskId};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::task::{Status, TerminalReason};
use crate::platform::spool::{Piece, Spool, SpoolEnd, piece, prune, tail};
use crate::platform::tasks::Tasks;
use crate::vault::redaction::Redactor;

/// What background tasks are made of.
#[derive(Debug)]
pub struct Settings {
    /// Where output is written, one file a task.
    pub directory: PathBuf,
    /// Output that is kept of each task, bytes.
    pub keep_bytes: u64,
    /// Starts the commands.
    pub launcher: Arc<Launcher>,
    /// The daemon's own tasks; when they stop, so do these.
    pub tasks: Tasks,
    /// Hears of every end.
    pub ended: mpsc::Sender<TaskEnd>,
    /// Takes known secrets out of output before it is written.
    pub redactor: Redactor,
}

/// A task that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedTask {
    /// The task.
    pub task_id: TaskId,
    /// The command line that it runs.
    pub command: String,
}

/// The end of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEnd {
    /// The task.
    pub task_id: TaskId,
    /// Its session.
    pub session_id: SessionId,
    /// How it ended.
    pub status: Status,
    /// Why.
    pub terminal_reason: TerminalReason,
    /// Exit code, where the command ended by itself.
    pub exit_code: Option<i32>,
    /// Bytes it wrote in all.
    pub output_bytes: u64,
    /// Digest of the kept output, hex.
    pub output_sha256: Option<String>,
    /// How often its output was rotated.
    pub rotations: u32,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskView {
    /// The task.
    pub task_id: TaskId,
    /// Its session.
    pub session_id: SessionId,
    /// Its state.
    pub status: Status,
    /// Exit code, where the command ended by itself.
    pub exit_code: Option<i32>,
    /// Bytes it wrote so far.
    pub output_bytes: u64,
}

/// The newest part of a task's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOutput {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Kept bytes that come before them.
    pub bytes_before: u64,
}

/// Starts, shows and stops background tasks.
#[derive(Debug, Clone)]
pub struct Background(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    all: BTreeMap<TaskId, Entry>,
    /// Ended tasks, oldest first; the oldest are forgotten.
    ended: VecDeque<TaskId>,
}

impl Known {
    fn running(&self) -> impl Iterator<Item = TaskView> {
        self.all.values().map(|entry| entry.view).filter(|view| view.status == Status::InProgress)
    }
}

#[derive(Debug)]
struct Entry {
    view: TaskView,
    /// What stops it; nothing while it is being started and after its end.
    stopper: Option<Stopper>,
    /// Why it was told to stop.
    told: Option<TerminalReason>,
}

impl Background {
    /// No tasks yet.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, known: Mutex::default() }))
    }

    /// Starts a task and returns once its command runs. The command's time limit is the task's watchdog.
    pub async fn start(&self, id: TaskId, session_id: SessionId, command: Command) -> Result<StartedTask, Refusal> {
        let line = command.args.last().cloned().unwrap_or_default();
        self.0.reserve(id, session_id)?;
        match self.0.launch(id, command).await {
            Ok((child, spool)) => {
                let inner = self.0.clone();
                self.0.settings.tasks.spawn(async move { inner.follow(id, session_id, child, spool).await });
                Ok(StartedTask { task_id: id, command: line })
            }
            Err(refusal) => {
                self.0.known().all.remove(&id);
                Err(refusal)
            }
        }
    }

    /// Takes known secrets out of what commands write.
    pub fn redactor(&self) -> &Redactor {
        &self.0.settings.redactor
    }

    /// The tasks that run.
    pub fn running(&self) -> Vec<TaskId> {
        self.0.known().running().map(|view| view.task_id).collect()
    }

    /// Where a task stands, if this daemon has run it and not yet forgotten it.
    pub fn view(&self, task_id: TaskId) -> Result<TaskView, Refusal> {
        self.0.known().all.get(&task_id).map(|entry| entry.view).ok_or(Reason::TaskNotFound.into())
    }

    /// Where a task of this session stands; another session's task is as good as none.
    pub fn view_in(&self, task_id: TaskId, session_id: SessionId) -> Result<TaskView, Refusal> {
        self.view(task_id)
            .and_then(|view| if view.session_id == session_id { Ok(view) } else { Err(Reason::TaskNotFound.into()) })
    }

    /// The newest part of a task's output, at most so many bytes; also of tasks of an earlier daemon.
    pub async fn output(&self, task_id: TaskId, limit_bytes: u64) -> Result<KeptOutput, Refusal> {
        let path = self.0.path(task_id);
        match tokio::task::spawn_blocking(move || tail(&path, limit_bytes)).await {
            Ok(Ok((bytes, bytes_before))) => Ok(KeptOutput { bytes, bytes_before }),
            Ok(Err(fault)) if fault.kind() == std::io::ErrorKind::NotFound => Err(Reason::TaskNotFound.into()),
            Ok(Err(fault)) => Err(Refusal::new(Reason::ToolFailed, format!("The output cannot be read: {fault}."))),
            Err(_) => Err(Reason::InternalError.into()),
        }
    }

    /// A piece of a task's output, also of a task of an earlier daemon; none where no output is kept. `rotated` says
    /// whether older output may have been dropped.
    pub async fn piece(
        &self,
        task_id: TaskId,
        offset: u64,
        limit_bytes: u64,
        rotated: bool,
    ) -> Result<Option<Piece>, Refusal> {
        let path = self.0.path(task_id);
        match tokio::task::spawn_blocking(move || piece(&path, offset, limit_bytes, rotated)).await {
            Ok(Ok(piece)) => Ok(Some(piece)),
            Ok(Err(fault)) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Ok(Err(fault)) => Err(Refusal::new(Reason::InternalError, format!("The output cannot be read: {fault}."))),
            Err(_) => Err(Reason::InternalError.into()),
        }
    }

    /// Tells a task to stop; its end is told when it has. The first reason given is the one that counts.
    pub fn stop(&self, task_id: TaskId, why: TerminalReason) -> Result<(), Refusal> {
        let mut known = self.0.known();
        let entry = known.all.get_mut(&task_id).ok_or_else(|| Refusal::from(Reason::TaskNotFound))?;
        if entry.view.status != Status::InProgress {
            return Err(Reason::TaskTerminal.into());
        }
        entry.told.get_or_insert(why);
        if let Some(stopper) = &entry.stopper {
            stopper.stop();
        }
        Ok(())
    }

    /// Tells all running tasks of a session to stop. Says how many there are.
    pub fn stop_session(&self, session_id: SessionId, why: TerminalReason) -> usize {
        let own = |view: &TaskView| view.session_id == session_id;
        let running: Vec<TaskId> = self.0.known().running().filter(own).map(|view| view.task_id).collect();
        running.into_iter().filter(|id| self.stop(*id, why).is_ok()).count()
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Whoever panicked held a map in order: every change to it is one step.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, task_id: TaskId) -> PathBuf {
        self.settings.directory.join(format!("{task_id}.log"))
    }

    fn reserve(&self, task_id: TaskId, session_id: SessionId) -> Result<(), Refusal> {
        if self.settings.tasks.is_stopping() {
            return Err(Refusal::new(Reason::RequestOverloaded, "The daemon is about to stop."));
        }
        let mut known = self.known();
        let running = known.running().count();
        if running >= limits::TASKS_RUNNING {
            let detail = format!("{running} background tasks run already; stop one first.");
            return Err(Refusal::new(Reason::ToolLimitExceeded, detail));
        }
        let view = TaskView { task_id, session_id, status: Status::InProgress, exit_code: None, output_bytes: 0 };
        known.all.insert(task_id, Entry { view, stopper: None, told: None });
        Ok(())
    }

    /// Makes room for a task's output: what all tasks ever wrote would fill the disk that the journal lies on.
    async fn make_room(&self) {
        let directory = self.settings.directory.clone();
        let running: BTreeSet<String> = self.known().running().map(|view| view.task_id.to_string()).collect();
        let (files, bytes) = (limits::TASK_FILES - 1, limits::TASK_FILES_BYTES - self.settings.keep_bytes);
        let pruned =
            tokio::task::spawn_blocking(move || prune(&directory, files, bytes, &|stem| running.contains(stem)));
        if let Ok(Err(fault)) = pruned.await {
            tracing::warn!(%fault, "old output of tasks could not be removed");
        }
    }

    async fn launch(&self, task_id: TaskId, command: Command) -> Result<(Child, Spool), Refusal> {
        self.make_room().await;
        let spool = Spool::create(&self.path(task_id), self.settings.keep_bytes)
            .map_err(|fault| Refusal::new(Reason::ToolFailed, format!("The output cannot be kept: {fault}.")))?;
        let child = self.settings.launcher.start(command).await?;
        if let Some(entry) = self.known().all.get_mut(&task_id) {
            let stopper = child.stopper();
            // It was told to stop before there was something to stop.
            if entry.told.is_some() {
                stopper.stop();
            }
            entry.stopper = Some(stopper);
        }
        Ok((child, spool))
    }

    async fn follow(&self, task_id: TaskId, session_id: SessionId, mut child: Child, spool: Spool) {
        let spool = self.pump(task_id, &mut child, spool).await;
        let exit = child.wait().await;
        let finished = tokio::task::spawn_blocking(move || spool.and_then(|spool| spool.finish().ok())).await;
        let told = self.known().all.get(&task_id).and_then(|entry| entry.told);
        let end = self.end(task_id, session_id, &exit, told, finished.ok().flatten());
        self.record(&end);
        // Nobody listens any more: the daemon stops, and the next one finds the task open.
        let _ = self.settings.ended.send(end).await;
    }

    /// Moves output into the spool until there is no more. A spool that cannot be written is given up: the command is
    /// not the one to suffer from a full disk.
    async fn pump(&self, task_id: TaskId, child: &mut Child, spool: Spool) -> Option<Spool> {
        let mut spool = Some(spool);
        let mut clean = self.settings.redactor.stream();
        let mut stopping = false;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = tokio::select! {
                count = child.read(&mut buffer) => count,
                () = self.settings.tasks.stopping(), if !stopping => {
                    stopping = true;
                    if let Some(entry) = self.known().all.get_mut(&task_id) {
                        entry.told.get_or_insert(TerminalReason::DaemonRestarted);
                    }
                    child.stop();
                    continue;
                }
            };
            if count == 0 {
                return self.append(task_id, spool, clean.finish()).await;
            }
            spool = self.append(task_id, spool, clean.push(&buffer[..count]).into_owned()).await;
        }
    }

    async fn append(&self, task_id: TaskId, spool: Option<Spool>, bytes: Vec<u8>) -> Option<Spool> {
        if let Some(entry) = self.known().all.get_mut(&task_id) {
            entry.view.output_bytes += bytes.len() as u64;
        }
        let mut open = spool?;
        tokio::task::spawn_blocking(move || open.append(&bytes).is_ok().then_some(open)).await.ok().flatten()
    }

    fn end(
        &self,
        task_id: TaskId,
        session_id: SessionId,
        exit: &Exit,
        told: Option<TerminalReason>,
        kept: Option<SpoolEnd>,
    ) -> TaskEnd {
        let (status, terminal_reason) = match (exit.how, told) {
            (How::Exited, _) => (Status::Completed, TerminalReason::Exited),
            (How::TimeLimit, _) => (Status::Failed, TerminalReason::TimeLimit),
            (How::Processes, _) => (Status::Failed, TerminalReason::ProcessLimit),
            (How::Stopped, Some(TerminalReason::DaemonRestarted)) | (How::DaemonGone, _) => {
                (Status::Failed, TerminalReason::DaemonRestarted)
            }
            (How::Lost, _) => (Status::Failed, TerminalReason::Lost),
            (How::Stopped, why) => (Status::Cancelled, why.unwrap_or(TerminalReason::Stopped)),
        };
        let written = self.known().all.get(&task_id).map_or(0, |entry| entry.view.output_bytes);
        TaskEnd {
            task_id,
            session_id,
            status,
            terminal_reason,
            exit_code: exit.code,
            output_bytes: written,
            rotations: kept.as_ref().map_or(0, |kept| kept.rotations),
            output_sha256: kept.map(|kept| kept.sha256),
        }
    }

    fn record(&self, end: &TaskEnd) {
        let mut known = self.known();
        if let Some(entry) = known.all.get_mut(&end.task_id) {
            entry.view.status = end.status;
            entry.view.exit_code = end.exit_code;
            entry.stopper = None;
        }
        known.ended.push_back(end.task_id);
        while known.ended.len() > limits::TASKS_ENDED {
            if let Some(oldest) = known.ended.pop_front() {
                known.all.remove(&oldest);
            }
        }
    }
}
