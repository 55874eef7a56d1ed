//! What one can ask of sessions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::desk::{self, By, Desk, Done, Lane};
use super::past::{At, Shown};
use crate::domain::command::Command;
use crate::domain::ids::SessionId;
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
        let body = session::Created {
            title: input.title.map(Into::into),
            route,
            model,
            permission_mode: input.permission_mode,
            permission_rules: input.permission_rules,
            metadata: input.metadata,
            reply_targets: input.reply_targets.into_iter().map(Into::into).collect(),
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
