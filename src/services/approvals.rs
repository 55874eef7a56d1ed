//! What one can ask of approvals.

use serde::{Deserialize, Serialize};

use super::desk::{self, By, Desk, Done, Lane};
use crate::domain::approval::{self, Decision};
use crate::domain::command::Command;
use crate::domain::ids::ApprovalId;
use crate::domain::reason::Refusal;
use crate::projections::approvals::{ApprovalView, Status};
use crate::projections::waits::Filter;
use crate::projections::{Models, Page, Paging};

/// A decision, bound to what the decider saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// Allow or deny.
    pub decision: Decision,
    /// `call_hash` of the approval.
    pub call_hash: String,
    /// `card_hash` of the approval.
    pub card_hash: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The use cases.
#[derive(Clone)]
pub struct Approvals {
    desk: Desk,
}

impl Approvals {
    /// Use cases at a desk.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }

    /// Allows or denies a call.
    pub async fn decide(&self, by: By, approval_id: ApprovalId, input: Decide) -> Result<Done<ApprovalView>, Refusal> {
        let ask = approval::Decide {
            org: by.org.clone(),
            approval_id,
            decision: input.decision,
            call_hash: input.call_hash,
            card_hash: input.card_hash,
            note: input.reason,
        };
        let command = Command::DecideApproval(ask);
        self.desk.submit(command, by, Lane::Reserved, desk::approval, Models::approval).await
    }

    /// One approval.
    pub async fn get(&self, org: &str, id: ApprovalId) -> Result<ApprovalView, Refusal> {
        let org = org.to_owned();
        self.desk.show(move |models| models.approval(&org, id)).await
    }

    /// One page of approvals, newest first.
    pub async fn list(&self, org: &str, filter: Filter<Status>, paging: Paging) -> Result<Page<ApprovalView>, Refusal> {
        let org = org.to_owned();
        self.desk.page(move |models| models.approval_page(&org, &filter, &paging)).await
    }
}
