//! The worker of runs. Level-triggered: it looks at what the read models say is owed, drives each run step by step,
//! and counts a step as done only when its outcome is a record. A restart finds the same things owed.

mod beats;
mod calls;
mod drive;
mod keeper;
mod lanes;
pub mod limits;
mod live;
pub mod model;
mod pen;
mod questions;
mod roster;
mod story;
mod sweeps;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::lanes::Lanes;
use self::pen::Pen;
use super::debug_capture::DebugCapture;
use super::desk::WritePath;
use super::published::Published;
use crate::agent::background::{Background, TaskEnd};
use crate::agent::sandbox::Launcher;
use crate::agent::stepper;
use crate::agent::tools;
use crate::agent::transcript::Bounds;
use crate::agent::workspace::Workspace;
use crate::domain::ids::{BootId, TaskId};
use crate::domain::reason::Refusal;
use crate::domain::task::TerminalReason;
use crate::platform::entropy::Entropy;
use crate::platform::tasks::{Milestone, Tasks};
use crate::vault::redaction::Redactor;

pub use beats::{Beats, Worker};
pub use live::{Delta, LiveDeltas};
pub use model::{Choice, ModelAnswer, ModelCaller, ModelFailure, ModelRequest, Piece, RouteTerms, ToolText, Wish};

/// What the runner works with.
pub struct Parts {
    /// The write path.
    pub write: Arc<dyn WritePath>,
    /// The read side.
    pub published: Published,
    /// Speaks to models.
    pub models: Arc<dyn ModelCaller>,
    /// The workspace.
    pub workspace: Arc<Workspace>,
    /// Starts commands.
    pub launcher: Arc<Launcher>,
    /// Background tasks.
    pub background: Background,
    /// Where background tasks tell their ends.
    pub ended: mpsc::Receiver<TaskEnd>,
    /// Where artefacts are kept while the debug level asks for it.
    pub debug: DebugCapture,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// This start of the daemon.
    pub boot_id: BootId,
    /// When to begin: once the start is recorded, and what earlier ones left half done is settled.
    pub begun: Milestone,
}

/// What bounds the runner.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Runs that work at a time; one that waits for a person, for its model, for its next attempt, or for room at its route
    /// does not count. So many calls of models wait at one route at a time.
    pub runs_at_a_time: usize,
    /// How often owed work is looked for where nothing was published, milliseconds.
    pub tick_ms: u64,
    /// How often lapses are looked for, milliseconds.
    pub sweep_ms: u64,
    /// Pause before the second attempt at a turn, milliseconds; doubles with each failure.
    pub retry_ms: u64,
    /// Failed attempts at a turn after which the run fails.
    pub failures_per_turn: u32,
    /// What a model is told before the conversation.
    pub system: String,
    /// How long a conversation may be.
    pub bounds: Bounds,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            runs_at_a_time: limits::RUNS_AT_A_TIME,
            tick_ms: limits::TICK_MS,
            sweep_ms: limits::SWEEP_MS,
            retry_ms: limits::RETRY_MS,
            failures_per_turn: limits::FAILURES_PER_TURN,
            system: "You work in one folder, the workspace, with the tools you are given. Paths are relative to it. \
                     A call may need a person's approval, and may be denied; then find another way or say what you \
                     need."
                .to_owned(),
            bounds: Bounds { bytes: limits::CONVERSATION_BYTES, messages: limits::CONVERSATION_MESSAGES },
        }
    }
}

/// What all workers share.
struct House {
    pen: Pen,
    published: Published,
    models: Arc<dyn ModelCaller>,
    workspace: Arc<Workspace>,
    launcher: Arc<Launcher>,
    background: Background,
    debug: DebugCapture,
    entropy: Arc<dyn Entropy>,
    settings: Settings,
    stepper: stepper::Settings,
    tools: Vec<ToolText>,
    live: LiveDeltas,
    beats: Beats,
    /// A place for each run that works.
    places: Arc<Semaphore>,
    /// Calls of models under way.
    lanes: Lanes,
    /// Workers at runs.
    drives: Tasks,
    /// Everything else that goes on.
    others: Tasks,
    /// No further step is begun.
    draining: CancellationToken,
    /// What still works is stopped.
    hard: CancellationToken,
    /// What the journal does not take is given up.
    given_up: CancellationToken,
    /// The last of the runner's tasks ends.
    over: CancellationToken,
}

impl House {
    /// Has a worker begin once the start is recorded, unless the runner stops before.
    fn begin_with(&self, begun: &Milestone, worker: impl Future<Output = ()> + Send + 'static) {
        let (begun, draining) = (begun.reached(), self.draining.clone().cancelled_owned());
        self.others.spawn(async move {
            tokio::select! {
                biased;
                () = begun => worker.await,
                () = draining => {}
            }
        });
    }
}

/// The worker of runs, started.
#[derive(Clone)]
pub struct Runner {
    house: Arc<House>,
}

/// Settles what earlier starts of the daemon left half done. To be done once, before a runner is started; says how many
/// decisions that took.
pub async fn settle_boot(write: Arc<dyn WritePath>) -> Result<u32, Refusal> {
    let pen = Pen::new(write, CancellationToken::new(), Redactor::default());
    sweeps::settle(&pen).await
}

/// Removes from the workspace what earlier starts left half written. To be done once, before their calls are settled. Blocks.
pub fn sweep_half_written(published: &Published, workspace: &Workspace) {
    sweeps::half_written(published, workspace);
}

/// How many calls of a route may be under way, where its terms bound them.
fn bounds_of(models: &Arc<dyn ModelCaller>) -> lanes::OfTerms {
    let models = Arc::clone(models);
    Arc::new(move |route| models.terms(route).calls_at_a_time)
}

impl Runner {
    /// Starts the workers.
    pub fn start(parts: Parts, settings: Settings) -> Self {
        let given_up = CancellationToken::new();
        let stepper = stepper::Settings {
            boot_id: parts.boot_id,
            tools: tools::all().iter().map(|tool| tool.name().to_owned()).collect(),
            failures_per_turn: settings.failures_per_turn,
            attempts_per_turn: limits::ATTEMPTS_PER_TURN,
        };
        let beats = Beats::new(Arc::clone(parts.published.clock()));
        let house = Arc::new(House {
            pen: Pen::new(parts.write, given_up.clone(), parts.published.redactor().clone()),
            places: Arc::new(Semaphore::new(settings.runs_at_a_time)),
            lanes: Lanes::new(settings.runs_at_a_time, bounds_of(&parts.models), parts.models.lanes()),
            published: parts.published,
            models: parts.models,
            workspace: parts.workspace,
            launcher: parts.launcher,
            background: parts.background,
            debug: parts.debug,
            entropy: parts.entropy,
            settings,
            stepper,
            tools: turns::tool_texts(),
            live: LiveDeltas::default(),
            beats,
            drives: Tasks::new(),
            others: Tasks::new(),
            draining: CancellationToken::new(),
            hard: CancellationToken::new(),
            given_up,
            over: CancellationToken::new(),
        });
        house.begin_with(&parts.begun, roster::keep(house.clone()));
        house.begin_with(&parts.begun, sweeps::keep(house.clone()));
        let sweeping = house.debug.clone().sweep_again_and_again(house.draining.clone());
        house.begin_with(&parts.begun, sweeping);
        house.begin_with(&parts.begun, keeper::keep(house.clone(), parts.ended));
        Self { house }
    }

    /// Words of models while they arrive.
    pub fn live(&self) -> &LiveDeltas {
        &self.house.live
    }

    /// When each worker last looked for work.
    pub fn beats(&self) -> &Beats {
        &self.house.beats
    }

    /// Where runs work.
    pub fn workspace(&self) -> &Arc<Workspace> {
        &self.house.workspace
    }

    /// What is kept while the debug level asks for it.
    pub fn debug(&self) -> &DebugCapture {
        &self.house.debug
    }

    /// Background tasks.
    pub fn background(&self) -> &Background {
        &self.house.background
    }

    /// Drains: no further step is begun; what works may end until the deadline and is stopped then; then background
    /// tasks are stopped. A cut call of a model leaves its run to the next start of the daemon; a cut command ends its run. At
    /// `cut` at the latest the runner is left as it is. Says whether everything is recorded. The clerk must still work.
    pub async fn stop(&self, deadline: Duration, cut: Instant) -> bool {
        let house = &self.house;
        let grace = || Duration::from_millis(limits::STOPPED_MS).min(cut.saturating_duration_since(Instant::now()));
        house.draining.cancel();
        let mut complete = house.drives.drained(deadline).await;
        house.hard.cancel();
        if !complete {
            complete = house.drives.drained(grace()).await;
        }
        complete &= tokio::time::timeout(grace(), self.stop_tasks()).await.is_ok();
        house.given_up.cancel();
        house.over.cancel();
        house.others.drained(grace()).await && complete
    }

    /// Stops the background tasks and waits until their ends are recorded.
    async fn stop_tasks(&self) {
        let mut changes = self.house.published.feed().changes();
        loop {
            changes.borrow_and_update();
            let open: Vec<TaskId> = self.house.published.models().tasks.open_ids().collect();
            if open.is_empty() {
                return;
            }
            for id in open {
                // One that has ended meanwhile is about to be recorded.
                let _ = self.house.background.stop(id, TerminalReason::DaemonRestarted);
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}
