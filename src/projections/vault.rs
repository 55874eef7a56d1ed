//! Secrets and leases as people see them: metadata only, for nothing else is in the records.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::page::{Page, Paging, Viewed};
use super::{Bodies, Models};
use crate::domain::credential::{CredentialUse, LeaseRevoked, SubjectReinstated, SubjectRevoked};
use crate::domain::ids::LeaseId;
use crate::domain::limits::{LEASES_KEPT, SECRET_VERSIONS_KEPT};
use crate::domain::names::{Name, Names};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;
use crate::domain::secret::{Activated, Deleted, Keyed, Provider, Revoked, SlotState};
use crate::domain::stream::Stream;

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Counts from 1 for each secret.
    pub version: u64,
    /// Keyed fingerprint, hex.
    pub fp: String,
    /// Since when it was in use, Unix milliseconds.
    pub activated_at_ms: u64,
    /// Its record.
    pub seq: u64,
}

/// A slot, as far as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// What it is for.
    pub provider: Provider,
    /// How it stands.
    pub state: SlotState,
    /// Last four characters of the newest version, where it is long enough.
    pub last4: Option<String>,
    /// Newest versions, oldest first; never empty.
    pub versions: Vec<Version>,
    /// When it first had a secret, Unix milliseconds.
    pub created_at_ms: u64,
    /// When it last changed, Unix milliseconds.
    pub changed_at_ms: u64,
    /// When a call last had a lease on it, Unix milliseconds.
    pub last_used_at_ms: Option<u64>,
    /// Leases that it ever had.
    pub uses: u64,
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeaseStatus {
    /// Its call has not ended.
    Live,
    /// Its call ended.
    Returned,
    /// It was taken back.
    Revoked,
    /// The daemon ended before its call did.
    Abandoned,
}

/// A lease: one use of one secret by one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseView {
    /// Its id.
    pub lease_id: LeaseId,
    /// The secret's name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Which version of it.
    pub version: u64,
    /// Keyed fingerprint of that version, hex.
    pub fp: String,
    /// The call's run, or whatever else it belongs to.
    pub subject: Stream,
    /// The route that the call goes over.
    pub route: String,
    /// Where it stands.
    pub status: LeaseStatus,
    /// The record of the call's intent.
    pub issued_seq: u64,
    /// When it was issued, Unix milliseconds.
    pub issued_at_ms: u64,
    /// The record that ended it.
    pub ended_seq: Option<u64>,
}

/// A subject that gets no lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RevokedSubject {
    /// `route/<id>`, `session/<id>`, `run/<id>` or `token/<name>`.
    pub subject: String,
    /// Since when, Unix milliseconds.
    pub revoked_at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    org: Name,
    view: LeaseView,
}

/// Secrets and leases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// The value by which the master key is known, once there is one.
    pub check: Option<String>,
    slots: BTreeMap<Name, BTreeMap<String, Slot>>,
    subjects_revoked: BTreeMap<Name, BTreeMap<String, u64>>,
    live: BTreeMap<Stream, Lease>,
    /// The newest that ended, oldest first.
    past: VecDeque<Lease>,
}

impl Vault {
    pub(super) fn keyed(&mut self, body: &Keyed) {
        self.check = Some(body.check.clone());
    }

    pub(super) fn activated(&mut self, record: &Record, org: Name, body: &Activated) {
        self.end(&body.leases_revoked, record);
        let version =
            Version { version: body.version, fp: body.fp.clone(), activated_at_ms: record.at_ms, seq: record.seq };
        let slots = self.slots.entry(org).or_default();
        let slot = slots.entry(body.reference.clone()).or_insert_with(|| Slot {
            provider: body.provider,
            state: SlotState::Active,
            last4: None,
            versions: Vec::new(),
            created_at_ms: record.at_ms,
            changed_at_ms: record.at_ms,
            last_used_at_ms: None,
            uses: 0,
        });
        (slot.provider, slot.state, slot.changed_at_ms) = (body.provider, SlotState::Active, record.at_ms);
        slot.last4.clone_from(&body.last4);
        slot.versions.push(version);
        let surplus = slot.versions.len().saturating_sub(SECRET_VERSIONS_KEPT);
        slot.versions.drain(..surplus);
    }

    pub(super) fn revoked(&mut self, record: &Record, org: Name, body: &Revoked) {
        self.end(&body.leases_revoked, record);
        self.state(record, org, &body.reference, SlotState::Revoked);
    }

    pub(super) fn deleted(&mut self, record: &Record, org: Name, body: &Deleted) {
        self.end(&body.leases_revoked, record);
        self.state(record, org, &body.reference, SlotState::Deleted);
    }

    fn state(&mut self, record: &Record, org: Name, reference: &str, state: SlotState) {
        if let Some(slot) = self.slots.get_mut(&org).and_then(|slots| slots.get_mut(reference)) {
            (slot.state, slot.changed_at_ms) = (state, record.at_ms);
        }
    }

    pub(super) fn subject_revoked(&mut self, record: &Record, org: Name, body: &SubjectRevoked) {
        self.end(&body.leases_revoked, record);
        self.subjects_revoked.entry(org).or_default().insert(body.subject.clone(), record.at_ms);
    }

    pub(super) fn subject_reinstated(&mut self, org: Name, body: &SubjectReinstated) {
        if let Some(subjects) = self.subjects_revoked.get_mut(&org) {
            subjects.remove(&body.subject);
        }
    }

    pub(super) fn lease_revoked(&mut self, record: &Record, body: &LeaseRevoked) {
        self.end(&[body.lease_id], record);
    }

    /// A call's intent names a secret: its lease begins.
    pub(super) fn lend(&mut self, record: &Record, org: Name, route: &str, credential: Option<&CredentialUse>) {
        // An intent that stands there without an end is of an earlier start of the daemon.
        self.close(record, LeaseStatus::Abandoned);
        let Some(used) = credential else { return };
        if let Some(slot) = self.slots.get_mut(&org).and_then(|slots| slots.get_mut(&used.reference)) {
            slot.last_used_at_ms = Some(record.at_ms);
            slot.uses = slot.uses.saturating_add(1);
        }
        let view = LeaseView {
            lease_id: used.lease_id,
            reference: used.reference.clone(),
            version: used.version,
            fp: used.fp.clone(),
            subject: record.stream,
            route: route.to_owned(),
            status: LeaseStatus::Live,
            issued_seq: record.seq,
            issued_at_ms: record.at_ms,
            ended_seq: None,
        };
        self.live.insert(record.stream, Lease { org, view });
    }

    /// The call of a record's stream ended, and so does its lease.
    pub(super) fn give_back(&mut self, record: &Record) {
        self.close(record, LeaseStatus::Returned);
    }

    fn close(&mut self, record: &Record, status: LeaseStatus) {
        let Some(mut lease) = self.live.remove(&record.stream) else { return };
        if lease.view.status == LeaseStatus::Live {
            (lease.view.status, lease.view.ended_seq) = (status, Some(record.seq));
        }
        self.past.push_back(lease);
        if self.past.len() > LEASES_KEPT {
            self.past.pop_front();
        }
    }

    fn end(&mut self, ended: &[LeaseId], record: &Record) {
        for lease in self.live.values_mut().filter(|lease| ended.contains(&lease.view.lease_id)) {
            (lease.view.status, lease.view.ended_seq) = (LeaseStatus::Revoked, Some(record.seq));
        }
    }

    /// The first of these subjects that gets no lease.
    pub fn revoked_of<'s>(&self, org: Option<Name>, subjects: &'s [String]) -> Option<&'s str> {
        let revoked = self.subjects_revoked.get(&org?)?;
        subjects.iter().map(String::as_str).find(|subject| revoked.contains_key(*subject))
    }

    /// The lease of the call on this stream, where its call has not ended.
    pub fn lease_of(&self, holder: Stream) -> Option<&LeaseView> {
        self.live.get(&holder).map(|lease| &lease.view)
    }

    /// Every slot of every organisation with the version that is in use, or was until it was revoked.
    pub fn in_force<'a>(&'a self, names: &'a Names) -> impl Iterator<Item = (&'a str, &'a str, &'a Slot)> {
        self.slots.iter().flat_map(move |(org, slots)| {
            let live = slots.iter().filter(|(_, slot)| slot.state != SlotState::Deleted);
            live.map(move |(reference, slot)| (names.text(*org), reference.as_str(), slot))
        })
    }
}

impl Slot {
    /// The newest version.
    pub fn newest(&self) -> u64 {
        self.versions.last().map_or(0, |version| version.version)
    }

    /// Keyed fingerprint of the newest version, hex.
    pub fn fp(&self) -> &str {
        self.versions.last().map_or("", |version| version.fp.as_str())
    }
}

impl Viewed for LeaseView {
    type View = Self;

    fn id(&self) -> String {
        self.lease_id.to_string()
    }

    fn view(&self, _: &dyn Bodies) -> Self {
        self.clone()
    }
}

impl Models {
    /// A slot that has a secret, revoked or not.
    pub fn secret(&self, org: &str, reference: &str) -> Result<&Slot, Refusal> {
        let slot = self.names.find(org).and_then(|org| self.vault.slots.get(&org)?.get(reference));
        slot.filter(|slot| slot.state != SlotState::Deleted).ok_or_else(|| Reason::VaultSlotNotFound.into())
    }

    /// The newest version that a slot ever had, whatever became of it.
    pub fn newest_version(&self, org: &str, reference: &str) -> u64 {
        let slot = self.names.find(org).and_then(|org| self.vault.slots.get(&org)?.get(reference));
        slot.map_or(0, Slot::newest)
    }

    /// How many calls that go on have a lease on a secret over a route.
    pub fn live_leases(&self, org: &str, reference: &str, route: &str) -> usize {
        let org = self.names.find(org);
        let live = |lease: &&Lease| Some(lease.org) == org && lease.view.status == LeaseStatus::Live;
        let over = |lease: &&Lease| lease.view.reference == reference && lease.view.route == route;
        self.vault.live.values().filter(live).filter(over).count()
    }

    /// One page of the leases, newest first: those whose call goes on and the newest that ended.
    pub fn lease_page(&self, org: &str, reference: Option<&str>, paging: &Paging) -> Result<Page<LeaseView>, Refusal> {
        let org = self.names.find(org);
        let before = paging.before::<LeaseId>()?;
        let all = self.vault.live.values().chain(&self.vault.past);
        let wanted = all.filter(|lease| Some(lease.org) == org).map(|lease| &lease.view);
        let mut leases: BTreeMap<LeaseId, &LeaseView> = wanted
            .filter(|lease| reference.is_none_or(|reference| lease.reference == reference))
            .map(|lease| (lease.lease_id, lease))
            .collect();
        if let std::ops::Bound::Excluded(before) = before {
            leases.split_off(&before);
        }
        paging.take(leases.keys().rev().copied(), |id| leases.get(id).map(|lease| (*lease).clone()))
    }

    /// One lease, of those that are kept.
    pub fn lease(&self, org: &str, id: LeaseId) -> Result<LeaseView, Refusal> {
        let org = self.names.find(org);
        let mut all = self.vault.live.values().chain(&self.vault.past);
        let lease = all.find(|lease| Some(lease.org) == org && lease.view.lease_id == id);
        lease.map(|lease| lease.view.clone()).ok_or_else(|| Reason::VaultLeaseNotFound.into())
    }

    /// Subjects that get no lease.
    pub fn revoked_subjects(&self, org: &str) -> Vec<RevokedSubject> {
        let subjects = self.names.find(org).and_then(|org| self.vault.subjects_revoked.get(&org));
        let view =
            |(subject, at_ms): (&String, &u64)| RevokedSubject { subject: subject.clone(), revoked_at_ms: *at_ms };
        subjects.into_iter().flatten().map(view).collect()
    }
}
