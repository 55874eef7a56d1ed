//! What one can ask of sessions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::desk::{self, By, Desk, Done, Lane};
use super::past::{At, Shown};
use crate::domain::command::Command;
use crate::domain::erasure;
use crate::domain::ids::{SessionId, SubjectKeyId};
use crate::domain::permission::{Mode, Rule};
use crate::domain::reason::Refusal;
use crate::domain::runtime::ModelChoice;
use crate::domain::session;
use crate::projections::replies::ReplyTo;
use crate::projections::sessions::{SessionView, Status};
use crate::projections::{Models, Page, Paging};

/// What a new session is to be; nothing is required.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// A name for people.
    #[serde(default)]
    pub title: Option<String>,
    /// Route id for its runs.
    #[serde(default)]
    pub route: Option<String>,
    /// Model for its runs.
    #[serde(default)]
    pub model: Option<String>,
    /// Mode for its runs; the runtime's where absent.
    #[serde(default)]
    pub permission_mode: Option<Mode>,
    /// Rules of scope `session`.
    #[serde(default)]
    pub permission_rules: Vec<Rule>,
    /// The creator's own notes.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Where the answers of its runs are to go; kept and shown, and not delivered to in this version.
    #[serde(default)]
    pub reply_targets: Vec<ReplyTo>,
}

/// The route and the model of a session's later runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutePolicy {
    /// Route id; without it and without a selector, the runtime's.
    #[serde(default)]
    pub route: Option<String>,
    /// Model, or a selector `<route_id>/<model>`; without it, the route's default.
    #[serde(default)]
    pub model: Option<String>,
}

/// Words that may go with a stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The use cases.
#[derive(Clone)]
pub struct Sessions {
    desk: Desk,
}

impl Sessions {
    /// Use cases at a desk.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }

    /// Opens a session.
    pub async fn create(&self, by: By, input: Create) -> Result<Done<SessionView>, Refusal> {
        let (route, model) = self.desk.check_route(input.route.as_deref(), input.model.as_deref())?;
        let key = self.desk.fresh_key(&by.org).await?;
        let done = self.create_under(by, input, (route, model), key).await;
        let unused = match &done {
            Ok(done) => done.replayed,
            Err(refusal) => refusal.reason.surely_no_effect(),
        };
        if let Some(key) = key.filter(|_| unused) {
            self.desk.with_keys(move |subjects| subjects.destroy(key)).await?;
        }
        done
    }

    async fn create_under(
        &self,
        by: By,
        input: Create,
        (route, model): (Option<String>, Option<String>),
        key: Option<SubjectKeyId>,
    ) -> Result<Done<SessionView>, Refusal> {
        let body = session::Created {
            title: self.desk.keep_short(input.title, key).await?,
            route,
            model,
            permission_mode: input.permission_mode,
            permission_rules: input.permission_rules,
            metadata: input.metadata,
            reply_targets: self.desk.keep_targets(input.reply_targets, key).await?,
            subject_key: key,
        };
        let command = Command::CreateSession(session::Create { org: by.org.clone(), body });
        self.submit(command, by, Lane::Ordinary).await
    }

    /// Sets the route and the model of its later runs; neither for those of the runtime.
    pub async fn set_route_policy(
        &self,
        by: By,
        session_id: SessionId,
        input: RoutePolicy,
    ) -> Result<Done<SessionView>, Refusal> {
        let (route, model) = self.desk.check_route(input.route.as_deref(), input.model.as_deref())?;
        let choice = ModelChoice { route, model };
        let ask = session::SetRoutePolicy { org: by.org.clone(), session_id, choice };
        self.submit(Command::SetRoutePolicy(ask), by, Lane::Ordinary).await
    }

    /// Stops what runs, waits or is queued in a session.
    pub async fn interrupt(&self, by: By, session_id: SessionId, input: Stop) -> Result<Done<SessionView>, Refusal> {
        let ask = session::Interrupt { org: by.org.clone(), session_id, note: input.reason };
        self.submit(Command::InterruptSession(ask), by, Lane::Reserved).await
    }

    /// Erases a session's words: the record of it first, then the key. Ends the session, if it has not ended.
    pub async fn erase(&self, by: By, session_id: SessionId, input: Stop) -> Result<Done<SessionView>, Refusal> {
        let ask = erasure::Erase { org: by.org.clone(), session_id, note: input.reason };
        let org = by.org.clone();
        let done = self.submit(Command::EraseSession(ask), by, Lane::Reserved).await?;
        // Also where that was asked before: then this brings it to its end.
        if let Some(key) = self.desk.look(|models| models.subjects.of(session_id)) {
            self.desk.with_keys(move |subjects| subjects.destroy(key.id)).await?;
        }
        let view = self.desk.show(move |models| models.session(&org, session_id)).await?;
        Ok(Done { view, ..done })
    }

    /// Ends a session.
    pub async fn end(&self, by: By, session_id: SessionId, input: Stop) -> Result<Done<SessionView>, Refusal> {
        let ask = session::End { org: by.org.clone(), session_id, note: input.reason };
        self.submit(Command::EndSession(ask), by, Lane::Reserved).await
    }

    /// One session, as it is or as it was.
    pub async fn get(&self, org: &str, id: SessionId, at: Option<At>) -> Result<Shown<SessionView>, Refusal> {
        let org = org.to_owned();
        self.desk.show_at(at, move |models| models.session(&org, id)).await
    }

    /// One page of sessions, newest first.
    pub async fn list(
        &self,
        org: &str,
        status: Option<Status>,
        (paging, at): (Paging, Option<At>),
    ) -> Result<Shown<Page<SessionView>>, Refusal> {
        let org = org.to_owned();
        self.desk.page_at(at, move |models| models.session_page(&org, status, &paging)).await
    }

    async fn submit(&self, command: Command, by: By, lane: Lane) -> Result<Done<SessionView>, Refusal> {
        self.desk.submit(command, by, lane, desk::session, Models::session).await
    }
}
