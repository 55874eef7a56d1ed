//! What one can ask of approvals.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::desk::{self, By, Desk, Done, Lane};
use crate::agent::workspace::Workspace;
use crate::domain::approval::{self, Decision};
use crate::domain::command::Command;
use crate::domain::ids::ApprovalId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Provenance;
use crate::projections::approvals::{self, ApprovalView, Status};
use crate::projections::waits::Filter;
use crate::projections::{Bodies, Models, Page, Paging};

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
    /// Where the calls work that are decided on.
    workspace: Arc<Workspace>,
}

impl Approvals {
    /// Use cases at a desk.
    pub fn new(desk: Desk, workspace: Arc<Workspace>) -> Self {
        Self { desk, workspace }
    }

    /// Allows or denies a call. What would no longer be the call that was shown is not allowed but taken back.
    pub async fn decide(&self, by: By, approval_id: ApprovalId, input: Decide) -> Result<Done<ApprovalView>, Refusal> {
        if input.decision == Decision::Allow && self.is_stale(&by.org, approval_id, &input).await? {
            let ask = approval::Withdraw { org: by.org, approval_id };
            let by = By { org: String::new(), provenance: Provenance::system("approvals") };
            self.desk.submit_plain(Command::WithdrawApproval(ask), by, Lane::Reserved, |_| ()).await?;
            let detail = "A file that the call edits has changed since it was shown; the run asks anew.";
            return Err(Refusal::new(Reason::ApprovalCallChanged, detail));
        }
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

    /// Whether this decides on a call that was shown as it is no longer. Reads the files that the call edits.
    async fn is_stale(&self, org: &str, id: ApprovalId, input: &Decide) -> Result<bool, Refusal> {
        let (org, workspace) = (org.to_owned(), Arc::clone(&self.workspace));
        let (call, card) = (Some(input.call_hash.clone()), Some(input.card_hash.clone()));
        let find = move |models: &Models| models.approval(&org, id);
        let words = move |facts: approvals::Facts, bodies: &dyn Bodies| {
            let view = facts.view(bodies);
            // Whatever else is wrong with a decision is found where it is made.
            let decides = view.status == Status::Pending && (view.call_hash, view.card_hash) == (call, card);
            Ok(decides && view.call.is_some_and(|call| has_changed(&call, &workspace)))
        };
        self.desk.recall(find, words).await
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

/// Whether a canonical call would have another hash by now: its files have other digests, or its workspace is another.
fn has_changed(call: &str, workspace: &Workspace) -> bool {
    let Ok(call) = serde_json::from_str::<serde_json::Value>(call) else { return false };
    let edits = call["edits"].as_object().into_iter().flatten();
    // Where a file cannot be looked at, nobody knows whether it changed; the call looks again before it is made.
    let differs = |(path, digest): (&String, &serde_json::Value)| {
        workspace.digest(path).is_ok_and(|now| now.as_deref() != digest.as_str())
    };
    call["workspace_root"].as_str().is_some_and(|root| root != workspace.root_id()) || edits.into_iter().any(differs)
}
