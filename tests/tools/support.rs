//! A folder with a workspace in it, and commands run there.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chancery::agent::background::{self, Background, TaskEnd};
use chancery::agent::sandbox::{
    Child, Command, Confinement, Exit, LANDLOCK_ABI_FLOOR, Launcher, Profile, SandboxMode, Settings,
};
use chancery::agent::tools::{self, Prepared, RecordedTasks, ToolContext, ToolOutcome};
use chancery::agent::workspace::Workspace;
use chancery::domain::ids::{CallId, SessionId, TaskId};
use chancery::domain::reason::Refusal;
use chancery::platform::tasks::Tasks;
use tokio_util::sync::CancellationToken;

/// Whether this machine can confine. Where it cannot, the test fails, unless `CHANCERY_TEST_NO_SANDBOX=1` says that
/// this is known; then it says what it skips.
pub fn sandbox_or_skip(what: &str) -> bool {
    if Confinement::probe().is_enough() {
        return true;
    }
    assert!(
        std::env::var("CHANCERY_TEST_NO_SANDBOX").is_ok_and(|value| value == "1"),
        "no Landlock ABI {LANDLOCK_ABI_FLOOR} here; set CHANCERY_TEST_NO_SANDBOX=1 to go without this: {what}"
    );
    // Written past the test harness, which would keep it to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED, no sandbox on this machine: {what}");
    false
}

pub struct Place {
    pub root: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("work")).unwrap();
        Self { root }
    }

    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub fn scratch(&self) -> PathBuf {
        self.root.path().join("scratch")
    }

    pub fn settings(&self, mode: SandboxMode) -> Settings {
        Settings {
            exe: PathBuf::from(env!("CARGO_BIN_EXE_chancery")),
            mode,
            tool_network: false,
            confinement: Confinement::probe(),
            scratch: self.scratch(),
            protected: Vec::new(),
            read_only: Vec::new(),
        }
    }

    pub fn launcher(&self, mode: SandboxMode) -> Launcher {
        Launcher::new(self.settings(mode))
    }

    pub fn shell(&self, script: &str) -> Command {
        Command {
            program: PathBuf::from("/bin/sh"),
            args: vec!["-c".to_owned(), script.to_owned()],
            cwd: self.work(),
            workspace: self.work(),
            profile: Profile::Tool,
            time_limit: Some(Duration::from_secs(20)),
            environment: BTreeMap::new(),
        }
    }
}

/// Reads all output and waits for the end.
pub async fn finish(mut child: Child) -> (String, Exit) {
    let mut text = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match child.read(&mut buffer).await {
            0 => break,
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
    let exit = child.wait().await;
    (String::from_utf8_lossy(&text).into_owned(), exit)
}

pub async fn run(launcher: &Launcher, command: Command) -> (String, Exit) {
    finish(launcher.start(command).await.unwrap()).await
}

/// Whether a process lives; a zombie does not.
pub fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

/// Waits until the file holds a number, and gives it.
pub async fn number_in(path: &std::path::Path) -> i32 {
    for _ in 0..500 {
        if let Some(number) = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()) {
            return number;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} never held a number", path.display());
}

/// Waits until the process is gone. Says whether it went in time.
pub async fn gone(pid: i32) -> bool {
    for _ in 0..500 {
        if !lives(pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// Ids for one test.
pub fn ulid(number: u128) -> ulid::Ulid {
    ulid::Ulid::from_parts(1_700_000_000_000, number)
}

/// Everything that a call needs, and the channel on which ends of tasks are told.
pub struct House {
    pub place: Place,
    pub context: ToolContext,
    pub ended: tokio::sync::mpsc::Receiver<TaskEnd>,
    pub tasks: Tasks,
}

impl House {
    /// Confined where the machine can, so that the tools are tried as they are used.
    pub fn new() -> Self {
        Self::keeping(64 << 10)
    }

    pub fn keeping(keep_bytes: u64) -> Self {
        let place = Place::new();
        let confined = Confinement::probe().is_enough();
        let launcher = Arc::new(place.launcher(if confined { SandboxMode::On } else { SandboxMode::Off }));
        let directory = place.root.path().join("output");
        std::fs::create_dir(&directory).unwrap();
        let tasks = Tasks::new();
        let (sender, ended) = tokio::sync::mpsc::channel(16);
        let settings = background::Settings {
            directory,
            keep_bytes,
            launcher: launcher.clone(),
            tasks: tasks.clone(),
            ended: sender,
            redactor: chancery::vault::redaction::Redactor::default(),
        };
        let context = ToolContext {
            workspace: Arc::new(Workspace::open(&place.work()).unwrap()),
            launcher,
            background: Background::new(settings),
            recorded: RecordedTasks(Arc::new(|_| None)),
            call_id: CallId::from_ulid(ulid(3)),
            session_id: SessionId::from_ulid(ulid(1)),
            erasable: false,
            fresh_task_id: TaskId::from_ulid(ulid(2)),
            stop: CancellationToken::new(),
            limits: chancery::domain::runtime::ToolLimits::default(),
        };
        Self { place, context, ended, tasks }
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.place.work().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.place.work().join(path)).unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "so that a call reads as one line")]
    pub fn prepare(&self, tool: &str, arguments: serde_json::Value) -> Result<Prepared, Refusal> {
        tools::find(tool).unwrap().prepare(&arguments.to_string(), &self.context.workspace)
    }

    pub async fn perform(&self, prepared: &Prepared) -> ToolOutcome {
        tools::find(&prepared.tool).unwrap().perform(prepared, &self.context).await
    }

    pub async fn call(&self, tool: &str, arguments: serde_json::Value) -> ToolOutcome {
        let prepared = self.prepare(tool, arguments).unwrap();
        // What is performed after an approval came back from the journal as JSON.
        let prepared = serde_json::from_str(&serde_json::to_string(&prepared).unwrap()).unwrap();
        self.perform(&prepared).await
    }
}
