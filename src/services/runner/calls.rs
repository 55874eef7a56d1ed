//! A tool call: judged, prepared, shown to a person where one must allow it, prepared again, recorded, made, recorded.

use std::sync::Arc;

use serde_json::json;

use super::drive::{Drive, Flow};
use super::pen;
use crate::agent::tools::{self, Prepared, RecordedTasks, Tool, ToolClass, ToolContext, ToolOutcome};
use crate::domain::approval;
use crate::domain::call::{self, Finished};
use crate::domain::canonical::{self, NotCanonical};
use crate::domain::command::Command;
use crate::domain::ids::{CallId, TaskId};
use crate::domain::limits::INLINE_PART_BYTES;
use crate::domain::permission;
use crate::domain::personal::Personal;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::run::Confirmed;
use crate::domain::task;
use crate::projections::Bodies as _;
use crate::services::debug_capture::ArtifactKind;

/// A call as it would be made now.
pub(super) struct Ready {
    pub(super) tool: &'static dyn Tool,
    pub(super) prepared: Prepared,
    pub(super) call: canonical::Call,
}

fn not_shown(fault: &NotCanonical) -> Refusal {
    Refusal::new(Reason::ToolLimitExceeded, format!("The call cannot be shown to a person: {fault}."))
}

impl Drive {
    /// A text as a record may hold it that has room for so many bytes of it.
    pub(super) async fn keep_within(&self, text: String, inline_bytes: usize) -> Result<Personal, Refusal> {
        self.house.pen.keep(text, inline_bytes, self.story.key).await
    }

    /// A text as a record may hold it.
    pub(super) async fn keep(&self, text: String) -> Result<Personal, Refusal> {
        self.keep_within(text, INLINE_PART_BYTES).await
    }

    /// A short text, which stands in the record itself.
    pub(super) async fn keep_short(&self, text: String) -> Result<Personal, Refusal> {
        self.keep_within(text, usize::MAX).await
    }

    /// A hash under the session's key, where it has one: what stays in clear must not tell the words to whoever guesses.
    pub(super) async fn keyed_hash(&self, text: String) -> Result<Option<String>, Refusal> {
        let Some(key) = self.story.key else { return Ok(None) };
        let subjects = self.house.published.blobs().subjects().clone();
        let hash = tokio::task::spawn_blocking(move || subjects.keyed_hash(key, &text)).await;
        hash.map_err(|_| Reason::InternalError)?.map(Some)
    }

    /// Prepares a call of the current turn. Changes nothing.
    pub(super) async fn ready(&self, id: CallId) -> Result<Ready, Refusal> {
        let asked = self.story.state.call(id).map(|call| call.asked.clone()).ok_or(Reason::RunStepOutOfOrder)?;
        let tool = tools::find(&asked.tool).ok_or(Reason::ToolUnknown)?;
        if tool.class() == ToolClass::Command {
            self.house.launcher.require()?;
        }
        let published = self.house.published.clone();
        let words = tokio::task::spawn_blocking(move || published.text(&asked.input)).await.ok().flatten();
        let words = words.ok_or_else(|| Refusal::new(Reason::ToolFailed, "Its arguments are no longer readable."))?;
        let salt = self.keyed_hash(id.to_string()).await?;
        let workspace = self.house.workspace.clone();
        let prepared = tools::prepare(tool, words, workspace.clone()).await?;
        let edits = prepared.edited_files.iter().map(|file| (file.path.clone(), file.sha256.clone())).collect();
        let call = canonical::Call {
            tool: prepared.tool.clone(),
            tool_version: prepared.version,
            arguments: prepared.arguments.clone(),
            cwd: workspace.path().display().to_string(),
            workspace_root: workspace.root_id().to_owned(),
            run: self.story.run,
            edits,
            salt,
        };
        Ok(Ready { tool, prepared, call })
    }

    /// Has a call judged. It is prepared only afterwards: what preparing says about the files of the workspace is for
    /// calls that are not denied.
    pub(super) async fn judge(&self, id: CallId) -> Result<Flow, Refusal> {
        let ask = permission::Judge { run_id: self.story.run, call_id: id };
        self.house.pen.intent(Command::RecordPermission(ask), self.by()).await.map(|_| Flow::On)
    }

    pub(super) async fn request_approval(&self, id: CallId) -> Result<Flow, Refusal> {
        match self.ready(id).await {
            Ok(ready) => self.show(id, &ready).await,
            Err(refusal) => self.refuse(id, refusal.reason, refusal.detail).await,
        }
    }

    /// Asks a person to allow exactly this call. One that was allowed in another form is withdrawn by that.
    async fn show(&self, id: CallId, ready: &Ready) -> Result<Flow, Refusal> {
        let (call, card) = match (ready.call.canonical(), ready.call.card()) {
            (Ok(call), Ok(card)) => (call, card),
            (Err(fault), _) | (_, Err(fault)) => {
                let refusal = not_shown(&fault);
                return self.refuse(id, refusal.reason, refusal.detail).await;
            }
        };
        let ask = approval::Request {
            run_id: self.story.run,
            call_id: id,
            call: self.keep(call.text).await?,
            call_hash: call.hash,
            card: self.keep(card.text).await?,
            card_hash: card.hash,
        };
        match self.house.pen.intent(Command::RequestApproval(ask), self.by()).await {
            Ok(_) => Ok(Flow::On),
            Err(refusal) if refusal.reason == Reason::ToolLimitExceeded => {
                self.refuse(id, refusal.reason, refusal.detail).await
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Makes a call: it is prepared once more, and if a person allowed another one, that person is asked again.
    pub(super) async fn dispatch(&self, id: CallId, approved: Option<String>) -> Result<Flow, Refusal> {
        let hashed = match self.ready(id).await {
            Ok(ready) => ready.call.canonical().map(|call| (ready, call.hash)).map_err(|fault| not_shown(&fault)),
            Err(refusal) => Err(refusal),
        };
        let (ready, call_hash) = match hashed {
            Ok(hashed) => hashed,
            Err(refusal) => return self.refuse(id, refusal.reason, refusal.detail).await,
        };
        if approved.is_some_and(|approved| approved != call_hash) {
            return self.show(id, &ready).await;
        }
        let sandbox = (ready.tool.class() == ToolClass::Command).then(|| self.house.launcher.label());
        let ask = call::Dispatch { run_id: self.story.run, call_id: id, call_hash, sandbox };
        match self.house.pen.intent(Command::DispatchCall(ask), self.by()).await {
            Ok(_) => self.perform(id, &ready).await,
            // Mode or rules changed since it was judged or approved: that is recorded, and decides.
            Err(refusal) if refusal.reason == Reason::PermissionDenied => self.judge(id).await,
            Err(refusal) => Err(refusal),
        }
    }

    async fn perform(&self, id: CallId, ready: &Ready) -> Result<Flow, Refusal> {
        let clock = self.house.published.clock().clone();
        let fresh_task_id = TaskId::from_ulid(ulid::Ulid::from_parts(clock.wall_ms(), self.house.entropy.u128()));
        let context = ToolContext {
            workspace: self.house.workspace.clone(),
            launcher: self.house.launcher.clone(),
            background: self.house.background.clone(),
            recorded: self.recorded_tasks(),
            call_id: id,
            session_id: self.story.session,
            erasable: self.story.key.is_some(),
            fresh_task_id,
            stop: self.stop.clone(),
            limits: self.story.configuration.tool_limits,
        };
        let (run, debug) = (self.story.run, &self.house.debug);
        let input = || json!({ "call_id": id, "tool": ready.prepared.tool, "arguments": ready.prepared.arguments });
        debug.keep(run, ArtifactKind::ToolInput, input).await;
        let began = clock.boot_ms();
        let outcome = ready.tool.perform(&ready.prepared, &context).await;
        let duration_ms = clock.boot_ms().saturating_sub(began);
        let said = || json!({ "call_id": id, "ok": outcome.ok, "code": outcome.code, "output": outcome.output });
        debug.keep(run, ArtifactKind::ToolOutput, said).await;
        if outcome.code == Some(Reason::RunOutcomeUnknown) {
            // What it did is not known, so it is not reported to a model that might repeat it.
            self.fail(
                Reason::RunOutcomeUnknown,
                format!("The outcome of {id} is not known: what watched over it was lost."),
            )
            .await?;
            return Ok(Flow::On);
        }
        let outcome = self.record_task(id, outcome.within(self.story.configuration.tool_limits)).await?;
        let output = self.keep(outcome.output).await?;
        let body = Finished {
            call_id: id,
            ok: outcome.ok,
            code: outcome.code,
            output,
            truncated: outcome.truncated,
            exit_code: outcome.exit_code,
            task_id: outcome.task.map(|task| task.task_id),
            duration_ms,
        };
        self.finish(body).await?;
        if self.house.hard.is_cancelled() && ready.tool.class() == ToolClass::Command && !outcome.ok {
            // The drain cut the command short; going on from there is a person's decision.
            self.confirm(Confirmed::Shutdown).await?;
        }
        Ok(Flow::On)
    }

    /// Tasks as the journal tells them.
    fn recorded_tasks(&self) -> RecordedTasks {
        let (published, org) = (self.house.published.clone(), self.story.org.clone());
        RecordedTasks(Arc::new(move |id| {
            let facts = published.models().task(&org, id).ok()?;
            Some(facts.view(&published))
        }))
    }

    /// Records a background task that a call started. One that cannot be recorded is stopped.
    async fn record_task(&self, call_id: CallId, outcome: ToolOutcome) -> Result<ToolOutcome, Refusal> {
        let Some(started) = &outcome.task else { return Ok(outcome) };
        let task_id = started.task_id;
        let recorded = async {
            let command = self.keep(started.command.clone()).await?;
            let ask = task::Start { task_id, run_id: self.story.run, call_id, command };
            self.house.pen.outcome(Command::StartTask(ask), self.by()).await
        };
        match recorded.await {
            Ok(_) => Ok(outcome),
            Err(refusal) => {
                // It may have ended by itself meanwhile.
                let _ = self.house.background.stop(task_id, task::TerminalReason::RunStopped);
                if refusal.reason.retry() { Err(refusal) } else { Ok(ToolOutcome::failed(refusal)) }
            }
        }
    }

    /// Records what came of a call.
    pub(super) async fn finish(&self, body: Finished) -> Result<(), Refusal> {
        let ask = call::Finish { run_id: self.story.run, body };
        self.house.pen.outcome(Command::FinishCall(ask), pen::agent(&self.story.org, self.story.run)).await.map(|_| ())
    }
}
