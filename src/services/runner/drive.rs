//! One run, driven: look what comes next, commit the intent, carry it out, commit the outcome, look again. A step that
//! turns out to be out of date is dropped; a side effect is never repeated.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::model::{Choice, Wish};
use super::story::{Story, Wishes};
use super::{House, limits, pen};
use crate::agent::stepper::{self, Step};
use crate::domain::call;
use crate::domain::command::Command;
use crate::domain::ids::{CallId, RunId};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Provenance;
use crate::domain::run::{self, Confirmed};
use crate::domain::runtime::ModelChoice;

/// Whether the worker stays with the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flow {
    /// Look what comes next.
    On,
    /// Someone else moves next.
    Leave,
    /// Nothing can be done for a while; others have the place meanwhile.
    Later(Later),
}

/// Until when a run has no use for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Later {
    /// So many milliseconds, which is the pause before the next attempt at a turn.
    Pause(u64),
    /// Until fewer runs call models over this route.
    Room(String),
}

/// A worker at one run.
pub(super) struct Drive {
    pub(super) house: Arc<House>,
    pub(super) story: Story,
    /// Its place among those that work; none while it waits for its model, and from then on until it needs one again.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// Resolves when what works should end: the run was asked to stop, or the drain is over.
    pub(super) stop: CancellationToken,
    /// How long the provider wants to be left alone after its last failure, milliseconds.
    pub(super) leave_alone_ms: u64,
    /// Whether the pause before the next attempt is over.
    pub(super) paused: bool,
}

/// Reasons that say that the story has moved on.
fn out_of_date(reason: Reason) -> bool {
    [
        Reason::RunStepOutOfOrder,
        Reason::RunStopping,
        Reason::RunTerminal,
        Reason::ApprovalCallChanged,
        Reason::SessionEnded,
        // Another version of the secret came between; the next offer tells what holds.
        Reason::VaultLeaseRevoked,
    ]
    .contains(&reason)
}

fn wish(choice: &ModelChoice) -> Wish<'_> {
    Wish { route: choice.route.as_deref(), model: choice.model.as_deref() }
}

/// Whether something works in this step, other than the model; the others only record what is known already.
fn needs_place(step: &Step) -> bool {
    !matches!(
        step,
        Step::CallModel { .. }
            | Step::Refuse { .. }
            | Step::Wait
            | Step::Complete { .. }
            | Step::Fail { .. }
            | Step::Stop
            | Step::Settle
            | Step::Ended
    )
}

/// Drives a run until it ends, waits for a person, has to be left for a while, or the daemon drains. `paused` says that it
/// was left for its pause, and that this is over.
pub(super) async fn drive(
    house: Arc<House>,
    run: RunId,
    (stop, place): (CancellationToken, OwnedSemaphorePermit),
    paused: bool,
) -> Result<Option<Later>, Refusal> {
    let (published, bounds) = (house.published.clone(), house.settings.bounds);
    let story = blocking(move || Story::read(published, run, bounds)).await?;
    let mut drive = Drive { house, story, place: Some(place), stop, leave_alone_ms: 0, paused };
    let mut stale = 0;
    loop {
        let step = stepper::next(&drive.story.state, &drive.house.stepper);
        if step == Step::Ended {
            drive.house.live.close(run);
            return Ok(None);
        }
        if step != Step::Stop && drive.house.draining.is_cancelled() {
            return Ok(None);
        }
        if !drive.has_place(&step).await {
            drive = drive.caught_up().await?;
            continue;
        }
        match drive.take(step).await {
            Ok(Flow::On) => stale = 0,
            Ok(Flow::Leave) => return Ok(None),
            Ok(Flow::Later(later)) => return Ok(Some(later)),
            Err(refusal) if out_of_date(refusal.reason) && stale < limits::STALE_STEPS => stale += 1,
            // The journal takes nothing at the moment; the run stays owed.
            Err(refusal) if refusal.reason.retry() => return Err(refusal),
            Err(refusal) => drive.fail(refusal.reason, refusal.detail).await?,
        }
        drive = drive.caught_up().await?;
    }
}

/// Reads where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let broken = |_| Err(Refusal::new(Reason::InternalError, "The reader of the run's records broke off."));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(broken)
}

impl Drive {
    async fn caught_up(self) -> Result<Self, Refusal> {
        let Self { house, mut story, place, stop, leave_alone_ms, paused } = self;
        let story = blocking(move || story.catch_up().map(|()| story)).await?;
        Ok(Self { house, story, place, stop, leave_alone_ms, paused })
    }

    /// Whether the run may take a step. Where it gave its place away and others have them all, it waits with what it knows
    /// until it has one again, or is to stop; what comes next may be another step then.
    async fn has_place(&mut self, step: &Step) -> bool {
        if self.place.is_some() || !needs_place(step) {
            return true;
        }
        let places = self.house.places.clone();
        self.place = places.clone().try_acquire_owned().ok();
        if self.place.is_some() {
            return true;
        }
        tokio::select! {
            place = places.acquire_owned() => self.place = place.ok(),
            () = self.stop.cancelled() => {}
            () = self.house.draining.cancelled() => {}
        }
        false
    }

    /// On whose behalf the run's steps are recorded.
    pub(super) fn by(&self) -> Provenance {
        pen::agent(&self.story.org, self.story.run)
    }

    async fn take(&mut self, step: Step) -> Result<Flow, Refusal> {
        match step {
            Step::Claim => self.claim().await,
            Step::CallModel { turn, attempt, failures } => self.call_model(turn, attempt, failures).await,
            Step::DecidePermission { call } => self.judge(call).await,
            Step::RequestApproval { call } => self.request_approval(call).await,
            Step::AskQuestion { call } => self.ask(call).await,
            Step::FinishQuestion { call, question } => self.finish_question(call, question).await,
            Step::Dispatch { call, approved } => self.dispatch(call, approved).await,
            Step::Refuse { call, code } => {
                let denied = code == Reason::PermissionDenied;
                let detail = if denied { self.story.denial(call) } else { code.title().to_owned() };
                self.refuse(call, code, detail).await
            }
            Step::Wait | Step::Ended => Ok(Flow::Leave),
            Step::Complete { output } => {
                let ask = run::Complete { run_id: self.story.run, output };
                self.house.pen.outcome(Command::CompleteRun(ask), self.by()).await.map(|_| Flow::On)
            }
            Step::Fail { code, detail } => match self.elsewhere() {
                Some((turn, attempt, way)) => {
                    tracing::warn!(run = %self.story.run, route = way.0, code = code.code(), "another route is asked");
                    self.ask_model(turn, attempt, way).await
                }
                None => self.fail(code, detail).await.map(|()| Flow::On),
            },
            Step::Stop => self.confirm(Confirmed::Requested).await,
            Step::Settle => self.house.pen.outcome(Command::SettleBoot, pen::runner()).await.map(|_| Flow::On),
        }
    }

    /// Chooses the route, or fails the run where there is none. What an earlier claim pinned stays.
    async fn claim(&mut self) -> Result<Flow, Refusal> {
        let (published, org, session) = (self.house.published.clone(), self.story.org.clone(), self.story.session);
        let wishes = blocking(move || Wishes::read(&published, &org, session)).await?;
        let choice = match self.choose(&wishes) {
            Ok(choice) => choice,
            Err(refusal) => {
                self.fail(refusal.reason, refusal.detail).await?;
                return Ok(Flow::On);
            }
        };
        // A run of a full route stays in its queue.
        if self.story.claim.is_none() && self.house.lanes.full(&choice.route) {
            return Ok(Flow::Later(Later::Room(choice.route)));
        }
        let Choice { route, driver, model, chosen_by, rehearsal } = choice;
        let (run_id, chosen_under) = (self.story.run, wishes.under);
        let start = run::Start { run_id, route, driver, model, chosen_by, rehearsal, chosen_under };
        match self.house.pen.intent(Command::StartRun(start), pen::runner()).await {
            Ok(_) => Ok(Flow::On),
            // What it was chosen by has changed meanwhile: it is chosen anew.
            Err(refusal) if refusal.reason == Reason::RuntimeRevisionConflict => Ok(Flow::On),
            // Another run of the session came first, or someone ended this one: the roster will see.
            Err(refusal) if out_of_date(refusal.reason) => Ok(Flow::Leave),
            Err(refusal) => Err(refusal),
        }
    }

    fn choose(&self, wishes: &Wishes) -> Result<Choice, Refusal> {
        if let Some(pinned) = &self.story.claim {
            return Ok(Choice {
                route: pinned.route.clone(),
                driver: pinned.driver.clone(),
                model: pinned.model.clone(),
                chosen_by: pinned.chosen_by,
                rehearsal: pinned.rehearsal,
            });
        }
        let run = self.story.queued.as_ref();
        let run = Wish {
            route: run.and_then(|body| body.route.as_deref()),
            model: run.and_then(|body| body.model.as_deref()),
        };
        self.house.models.choose(run, wish(&wishes.session), wish(&wishes.runtime))
    }

    /// Why something was refused or failed, as a record tells it in clear: without what it may quote of words that can be
    /// erased.
    pub(super) fn told(&self, code: Reason, detail: String) -> String {
        if self.story.key.is_some() { code.title().to_owned() } else { self.house.pen.clean(detail) }
    }

    /// Does not make a call, and says why.
    pub(super) async fn refuse(&self, call_id: CallId, code: Reason, detail: String) -> Result<Flow, Refusal> {
        let body = call::Refused { call_id, code, detail: self.told(code, detail) };
        let ask = call::Refuse { run_id: self.story.run, body };
        self.house.pen.outcome(Command::RefuseCall(ask), self.by()).await.map(|_| Flow::On)
    }

    pub(super) async fn fail(&self, code: Reason, detail: String) -> Result<(), Refusal> {
        let ask = run::Fail { run_id: self.story.run, code, detail: self.told(code, detail) };
        self.house.pen.outcome(Command::FailRun(ask), pen::runner()).await.map(|_| ())
    }

    /// Confirms that nothing of the run works any more.
    pub(super) async fn confirm(&self, why: Confirmed) -> Result<Flow, Refusal> {
        let ask = run::Confirm { run_id: self.story.run, why };
        self.house.pen.outcome(Command::StopRun(ask), pen::runner()).await.map(|_| Flow::On)
    }
}
