//! The daemon's side: starts commands, hears how they end, stops them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::unix::pipe;

use super::child::{Child, Reports, Wires};
use super::confinement::{Confinement, SandboxMode};
use super::places::real;
use super::plan::{Plan, Report, Rules};
use super::supervisors::Supervisor;
use super::{VERB, limits};
use crate::domain::reason::{Reason, Refusal};
use crate::platform::entropy::SystemEntropy;
use crate::platform::scratch;

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A shell command or a hook: no network unless the operator lifts that.
    Tool,
    /// A helper that talks to others, such as a tool server: internet sockets are allowed.
    Service,
}

/// What a launcher is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our own binary; `/proc/self/exe` in a daemon.
    pub exe: PathBuf,
    /// Whether commands are confined.
    pub mode: SandboxMode,
    /// Whether the `tool` profile may use the network.
    pub tool_network: bool,
    /// What this machine offers.
    pub confinement: Confinement,
    /// Where private temporary folders are made; what a lost supervisor left there is removed with it.
    pub scratch: PathBuf,
    /// What no command may ever see, such as the state root and files with secrets: nothing is started if a readable folder holds it.
    pub protected: Vec<PathBuf>,
    /// What commands may read and execute besides the system's folders.
    pub read_only: Vec<PathBuf>,
}

/// One command.
#[derive(Debug, Clone)]
pub struct Command {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// What it may write.
    pub workspace: PathBuf,
    /// What it is for.
    pub profile: Profile,
    /// After this long it is ended; never where absent.
    pub time_limit: Option<Duration>,
    /// Variables besides the fixed ones.
    pub environment: BTreeMap<String, String>,
}

/// Starts commands.
#[derive(Debug)]
pub struct Launcher {
    settings: Settings,
}

impl Launcher {
    /// A launcher.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// What confines its commands: `landlock-abi-7+seccomp`, `off` or `unavailable`.
    pub fn label(&self) -> String {
        self.settings.confinement.label(self.settings.mode)
    }

    /// Refuses where no command could be started here, so that nobody is asked to allow one.
    pub fn require(&self) -> Result<(), Refusal> {
        self.settings.confinement.require(self.settings.mode)
    }

    /// Whether commands of this profile may make internet sockets.
    pub fn network(&self, profile: Profile) -> bool {
        self.settings.mode == SandboxMode::Off || profile == Profile::Service || self.settings.tool_network
    }

    /// Starts a command and returns once it runs. Its output is one stream, in the order of writing.
    pub async fn start(&self, command: Command) -> Result<Child, Refusal> {
        self.require()?;
        let folder = scratch::own(&self.settings.scratch)
            .and_then(|()| scratch::create(&self.settings.scratch, &SystemEntropy::default()))
            .map_err(|fault| unavailable(&format!("{}: {fault}", self.settings.scratch.display())))?;
        let mut unused = Folder(Some(folder.clone()));
        let started = self.start_in(command, &folder).await?;
        // From here on the supervisor sees to it.
        unused.0 = None;
        Ok(started)
    }

    async fn start_in(&self, command: Command, folder: &Path) -> Result<Child, Refusal> {
        let time_limit = command.time_limit;
        let plan = self.plan(command, folder)?;
        let mut line = serde_json::to_vec(&plan).map_err(|fault| refused(&fault))?;
        line.push(b'\n');
        if line.len() as u64 > limits::PLAN_BYTES {
            return Err(Refusal::new(Reason::ToolLimitExceeded, "The command and its environment are too long."));
        }
        let mut wires = self.spawn().map_err(|fault| unavailable(&fault))?;
        let limit = Duration::from_millis(limits::START_MS.saturating_mul(2));
        let report = tokio::time::timeout(limit, wires.give(&line)).await;
        match report {
            Ok(Ok(Some(Report::Started { pid }))) => Ok(wires.started(pid, time_limit)),
            Ok(Ok(Some(Report::NotConfined { detail }))) => Err(unavailable(&detail)),
            Ok(Ok(Some(Report::NotStarted { detail }))) => Err(refused(&detail)),
            Ok(Ok(Some(Report::Ended(_)) | None)) => Err(unavailable(&"the supervisor ended without a word")),
            Ok(Err(fault)) => Err(unavailable(&fault)),
            Err(_) => Err(unavailable(&"the supervisor did not answer in time")),
        }
    }

    fn spawn(&self) -> std::io::Result<Wires> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (reports, lifeline) = tokio::net::UnixStream::from_std(ours)?.into_split();
        let (output, ends) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let mut command = tokio::process::Command::new(&self.settings.exe);
        command
            .arg(VERB)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(ends.try_clone()?))
            .stderr(Stdio::from(ends))
            // A signal to the daemon's group, such as ^C, is the daemon's to handle.
            .process_group(0);
        let supervisor = Supervisor::start(&mut command)?;
        let output = pipe::Receiver::from_owned_fd(output)?;
        Ok(Wires { output, reports: Reports::new(reports), lifeline, supervisor })
    }

    fn plan(&self, command: Command, folder: &Path) -> Result<Plan, Refusal> {
        let rules = match self.settings.mode {
            SandboxMode::Off => None,
            SandboxMode::On => Some(self.rules(&command, folder)?),
        };
        Ok(Plan {
            environment: environment(&command, folder),
            program: command.program,
            args: command.args,
            cwd: command.cwd,
            scratch: folder.to_owned(),
            rules,
            time_limit_ms: command.time_limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            grace_ms: limits::GRACE_MS,
            file_bytes: limits::FILE_BYTES,
            daemon_pid: rustix::process::getpid().as_raw_nonzero().get(),
            daemon_group: rustix::process::getpgrp().as_raw_nonzero().get(),
            supervisor_pid: 0,
        })
    }

    fn rules(&self, command: &Command, folder: &Path) -> Result<Rules, Refusal> {
        let rules = Rules {
            landlock_abi: self.settings.confinement.landlock_abi.unwrap_or(0),
            network: self.network(command.profile),
            read_only: self.settings.readable().collect(),
            read_write: vec![command.workspace.clone(), folder.to_owned()],
        };
        for open in rules.read_only.iter().chain(&rules.read_write) {
            if let Some(shut) = self.settings.protected.iter().find(|shut| real(shut).starts_with(real(open))) {
                return Err(unavailable(&format!(
                    "{} lies in {}, which commands can read; move it",
                    shut.display(),
                    open.display()
                )));
            }
        }
        Ok(rules)
    }
}

/// The whole environment of a command: nothing of the daemon's own reaches it.
fn environment(command: &Command, folder: &Path) -> BTreeMap<String, String> {
    let folder = folder.to_string_lossy();
    let fixed = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", &folder),
        ("TMPDIR", &folder),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        ("USER", "agent"),
        ("LOGNAME", "agent"),
        ("SHELL", "/bin/sh"),
    ];
    let mut all: BTreeMap<_, _> = fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    all.extend(command.environment.clone());
    all
}

fn unavailable(fault: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Reason::ToolSandboxUnavailable, format!("The command was not started: {fault}."))
}

fn refused(fault: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Reason::ToolFailed, format!("The command was not started: {fault}."))
}

/// A private folder whose command does not run yet; goes if that is given up.
struct Folder(Option<PathBuf>);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = scratch::remove(path);
        }
    }
}
