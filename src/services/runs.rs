//! What one can ask of runs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::blobs::{self, Kept};
use super::desk::{self, By, Desk, Done, Lane};
use super::past::{At, Shown};
use super::sessions::Stop;
use crate::domain::command::{Command, invalid};
use crate::domain::ids::{RunId, SessionId};
use crate::domain::personal::Personal;
use crate::domain::reason::Refusal;
use crate::domain::run::{self, InputItem, Status};
use crate::projections::replies::ReplyTo;
use crate::projections::runs::{Filter, RunView};
use crate::projections::{Models, Page, Paging, sessions};

/// One ordered part of a run's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Item {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
}

/// What a new run is asked: either `content` or `input_items`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// What is asked, as one text.
    #[serde(default)]
    pub content: Option<String>,
    /// What is asked, in ordered parts.
    #[serde(default)]
    pub input_items: Option<Vec<Item>>,
    /// Route id.
    #[serde(default)]
    pub route: Option<String>,
    /// Model.
    #[serde(default)]
    pub model: Option<String>,
    /// Model turns after which the run fails.
    #[serde(default)]
    pub max_turns: Option<u32>,
    /// Tokens after which a model shall stop, where the route does not say fewer.
    #[serde(default)]
    pub max_output_tokens: Option<NonZeroU32>,
    /// The creator's own notes.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Where its answer is to go instead of to the session's targets; empty for nowhere. Kept and shown, and not
    /// delivered to in this version.
    #[serde(default)]
    pub reply_targets: Option<Vec<ReplyTo>>,
}

/// The use cases.
#[derive(Clone)]
pub struct Runs {
    desk: Desk,
}

impl Runs {
    /// Use cases at a desk.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }

    /// Puts a run into its session's queue; the work is done later.
    pub async fn start(&self, by: By, session_id: SessionId, input: Start) -> Result<Done<RunView>, Refusal> {
        let (route, model) = self.desk.check_route(input.route.as_deref(), input.model.as_deref())?;
        let items = match (input.content, input.input_items) {
            (Some(text), None) if text.trim().is_empty() => {
                return Err(invalid("/content", "A run is asked something."));
            }
            (Some(text), None) => vec![Item::Text { text }],
            (None, Some(items)) => items,
            (Some(_), Some(_)) | (None, None) => {
                return Err(invalid("/content", "A run has either `content` or `input_items`."));
            }
        };
        // An ended session takes no run: what follows is a refusal, or the answer of a repeat, and needs no words on disk.
        let session = self.desk.look(|models| models.session(&by.org, session_id))?;
        let ended = session.status == sessions::Status::Ended;
        let key = session.subject_key.map(|key| key.id);
        let reply_targets = match input.reply_targets {
            Some(targets) => Some(self.desk.keep_targets(targets, key.filter(|_| !ended)).await?),
            None => None,
        };
        let mut kept: Vec<Kept> = Vec::with_capacity(items.len());
        for Item::Text { text } in items {
            let part = if ended { Ok(Personal::from(text).into()) } else { self.desk.keep(text, key).await };
            match part {
                Ok(part) => kept.push(part),
                Err(refusal) => {
                    blobs::refused(kept).await;
                    return Err(refusal);
                }
            }
        }
        let ask = run::Queue {
            org: by.org.clone(),
            session_id,
            input: kept.iter().map(|kept| InputItem::Text { text: kept.part.clone() }).collect(),
            route,
            model,
            max_turns: input.max_turns,
            max_output_tokens: input.max_output_tokens,
            metadata: input.metadata,
            reply_targets,
        };
        let committed = self.desk.submit_with(kept, Command::QueueRun(ask), by.provenance).await?;
        self.desk.shown(committed, by.org, desk::run, Models::run).await
    }

    /// Asks a run to stop. Repeating it changes nothing.
    pub async fn cancel(&self, by: By, run_id: RunId, input: Stop) -> Result<Done<RunView>, Refusal> {
        let ask = run::Cancel { org: by.org.clone(), run_id, note: input.reason };
        self.submit(Command::CancelRun(ask), by, Lane::Reserved).await
    }

    /// One run.
    pub async fn get(&self, org: &str, id: RunId) -> Result<RunView, Refusal> {
        let org = org.to_owned();
        self.desk.show(move |models| models.run(&org, id)).await
    }

    /// One run, as it is or as it was.
    pub async fn get_at(&self, org: &str, id: RunId, at: Option<At>) -> Result<Shown<RunView>, Refusal> {
        let org = org.to_owned();
        self.desk.show_at(at, move |models| models.run(&org, id)).await
    }

    /// One page of runs, newest first.
    pub async fn list(
        &self,
        org: &str,
        filter: Filter,
        (paging, at): (Paging, Option<At>),
    ) -> Result<Shown<Page<RunView>>, Refusal> {
        let org = org.to_owned();
        self.desk.page_at(at, move |models| models.run_page(&org, &filter, &paging)).await
    }

    /// Waits until a run has ended or waits for a person, at most so long; then shows it as it is.
    pub async fn settled(&self, org: &str, id: RunId, at_most: Duration) -> Result<RunView, Refusal> {
        let mut changes = self.desk.changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                match self.desk.look(|models| models.run(org, id))?.row.status {
                    Status::Queued | Status::Running => {}
                    Status::WaitingForApproval
                    | Status::WaitingForUserQuestion
                    | Status::Completed
                    | Status::Failed
                    | Status::Interrupted
                    | Status::Cancelled => return Ok::<(), Refusal>(()),
                }
                if changes.changed().await.is_err() {
                    return Ok(());
                }
            }
        };
        if let Ok(outcome) = tokio::time::timeout(at_most, wait).await {
            outcome?;
        }
        self.get(org, id).await
    }

    async fn submit(&self, command: Command, by: By, lane: Lane) -> Result<Done<RunView>, Refusal> {
        self.desk.submit(command, by, lane, desk::run, Models::run).await
    }
}
