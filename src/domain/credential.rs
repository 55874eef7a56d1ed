//! Who uses secrets: subjects, and the leases by which one call gets one secret once. A lease is part of the record of
//! the call's intent, and ends with the call, with the secret's next version, or by being revoked.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::{Answer, Decided, invalid};
use super::context::ClockTrust;
use super::ids::LeaseId;
use super::limits::SUBJECTS_REVOKED;
use super::names::Name;
use super::reason::{Reason, Refusal};
use super::record::{Draft, Record};
use super::secret::{SlotState, Slots};
use super::stream::Stream;
use super::world::World;

/// The secret that a call uses, as the record of its intent names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialUse {
    /// The slot's dotted name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The version in force.
    pub version: u64,
    /// Its keyed fingerprint, hex.
    pub fp: String,
    /// The lease that serves this one call.
    pub lease_id: LeaseId,
}

/// `credential.subject_revoked`: the subject gets no lease any more, and its calls that have one are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectRevoked {
    /// `route/<id>`, `session/<id>`, `run/<id>` or `token/<name>`.
    pub subject: String,
    /// Leases that end with this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases_revoked: Vec<LeaseId>,
}

/// `credential.subject_reinstated`: the subject may have leases again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectReinstated {
    /// As it was revoked.
    pub subject: String,
}

/// `credential.lease_revoked`: the lease serves no call, and a call that has it is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRevoked {
    /// The lease.
    pub lease_id: LeaseId,
}

/// A lease whose call has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Its id.
    pub lease_id: LeaseId,
    /// Organisation.
    pub org: Name,
    /// The slot.
    pub reference: String,
    /// Which version of it.
    pub version: u64,
    /// Whom it serves, nearest first.
    pub subjects: Vec<String>,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// What rules know of the vault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// The value by which the master key is known, once there is one.
    pub check: Option<String>,
    /// Slots.
    pub slots: Slots,
    /// Subjects that get no lease, by organisation.
    pub subjects_revoked: BTreeMap<Name, BTreeSet<String>>,
    /// Leases whose call has not ended, by the stream of the call: it has one at a time.
    pub leases: BTreeMap<Stream, Lease>,
}

/// Names a subject, to be revoked or reinstated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSubject {
    /// The caller's organisation.
    pub org: String,
    /// `route/<id>`, `session/<id>`, `run/<id>` or `token/<name>`.
    pub subject: String,
}

/// Names a lease, to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLease {
    /// The caller's organisation.
    pub org: String,
    /// The lease.
    pub lease_id: LeaseId,
}

impl Vault {
    /// A call's intent is recorded: its lease begins.
    pub(super) fn lend(
        &mut self,
        org: Name,
        holder: Stream,
        credential: Option<&CredentialUse>,
        subjects: Vec<String>,
    ) {
        let Some(used) = credential else {
            self.leases.remove(&holder);
            return;
        };
        let (lease_id, reference, version) = (used.lease_id, used.reference.clone(), used.version);
        self.leases.insert(holder, Lease { lease_id, org, reference, version, subjects, revoked: false });
    }

    /// A call ended: so does its lease.
    pub(super) fn give_back(&mut self, holder: Stream) {
        self.leases.remove(&holder);
    }

    pub(super) fn end_leases(&mut self, ended: &[LeaseId]) {
        let hit = |lease: &&mut Lease| ended.contains(&lease.lease_id);
        self.leases.values_mut().filter(hit).for_each(|lease| lease.revoked = true);
    }
}

/// The subjects of a run's call.
pub(super) fn subjects_of_run(world: &World, holder: Stream, route: &str) -> Vec<String> {
    let run = holder.run().and_then(|id| world.runs.get(&id));
    let session = run.map(|run| Stream::Session(run.session).to_string());
    let token = run.map(|run| format!("token/{}", world.names.text(run.principal)));
    [Some(holder.to_string()), session, token, Some(format!("route/{route}"))].into_iter().flatten().collect()
}

impl World {
    /// Whether a call of these subjects may use this version of a slot.
    pub fn check_credential(&self, org: &str, used: &CredentialUse, subjects: &[String]) -> Result<(), Refusal> {
        if self.clock != ClockTrust::Trusted {
            return Err(Refusal::new(Reason::TimeUntrusted, "No lease is given while the clock is not trusted."));
        }
        let missing =
            || Refusal::new(Reason::RouteCredentialMissing, format!("There is no secret {}.", used.reference));
        let slot = self.slot(org, &used.reference).ok_or_else(missing)?;
        match slot.state {
            SlotState::Deleted => return Err(missing()),
            SlotState::Revoked => {
                let detail = format!("The secret {} was revoked; store another one.", used.reference);
                return Err(Refusal::new(Reason::VaultLeaseRevoked, detail));
            }
            SlotState::Active => {}
        }
        if slot.version != used.version {
            let detail = format!("The secret {} has version {} now.", used.reference, slot.version);
            return Err(Refusal::new(Reason::VaultLeaseRevoked, detail));
        }
        match subjects.iter().find(|subject| self.is_revoked(org, subject)) {
            Some(subject) => Err(Refusal::new(Reason::VaultLeaseRevoked, format!("{subject} was revoked."))),
            None => Ok(()),
        }
    }

    fn is_revoked(&self, org: &str, subject: &str) -> bool {
        let org = self.names.find(org).and_then(|org| self.vault.subjects_revoked.get(&org));
        org.is_some_and(|subjects| subjects.contains(subject))
    }

    fn leases_where(&self, org: &str, hit: impl Fn(&Lease) -> bool) -> Vec<LeaseId> {
        let Some(org) = self.names.find(org) else { return Vec::new() };
        let live = self.vault.leases.values().filter(|lease| lease.org == org && !lease.revoked && hit(lease));
        live.map(|lease| lease.lease_id).collect()
    }

    /// Leases on a slot.
    pub(super) fn leases_on(&self, org: &str, reference: &str) -> Vec<LeaseId> {
        self.leases_where(org, |lease| lease.reference == reference)
    }

    pub(super) fn fold_subject_revoked(&mut self, record: &Record, body: &SubjectRevoked) {
        let org = self.names.intern(&record.org);
        self.vault.subjects_revoked.entry(org).or_default().insert(body.subject.clone());
        self.vault.end_leases(&body.leases_revoked);
    }

    pub(super) fn fold_subject_reinstated(&mut self, record: &Record, body: &SubjectReinstated) {
        let org = self.names.intern(&record.org);
        if let Some(subjects) = self.vault.subjects_revoked.get_mut(&org) {
            subjects.remove(&body.subject);
        }
    }

    pub(super) fn fold_lease_revoked(&mut self, body: &LeaseRevoked) {
        self.vault.end_leases(&[body.lease_id]);
    }
}

fn check_subject(subject: &str) -> Result<(), Refusal> {
    let named = match subject.split_once('/') {
        Some(("route" | "token", name)) => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            (1..=super::limits::NAME_BYTES).contains(&name.len()) && name.bytes().all(plain)
        }
        Some(_) | None => matches!(Stream::parse(subject), Some(Stream::Run(_) | Stream::Session(_))),
    };
    if named {
        return Ok(());
    }
    Err(invalid("/subject", "A subject is route/<id>, session/<session_id>, run/<run_id> or token/<name>."))
}

pub(super) fn revoke_subject(world: &World, ask: &NamedSubject) -> Result<Decided, Refusal> {
    check_subject(&ask.subject)?;
    if world.is_revoked(&ask.org, &ask.subject) {
        return Ok(Decided::nothing(Answer::Nothing));
    }
    let org = world.names.find(&ask.org);
    let revoked = org.and_then(|org| world.vault.subjects_revoked.get(&org)).map_or(0, BTreeSet::len);
    if revoked >= SUBJECTS_REVOKED {
        let detail = format!("There are {SUBJECTS_REVOKED} revoked subjects already; reinstate some.");
        return Err(Refusal::new(Reason::RequestInvalid, detail));
    }
    let leases_revoked = world.leases_where(&ask.org, |lease| lease.subjects.contains(&ask.subject));
    let event = SubjectRevoked { subject: ask.subject.clone(), leases_revoked };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Vault, event.into()), Answer::Nothing))
}

pub(super) fn reinstate_subject(world: &World, ask: &NamedSubject) -> Result<Decided, Refusal> {
    check_subject(&ask.subject)?;
    if !world.is_revoked(&ask.org, &ask.subject) {
        return Ok(Decided::nothing(Answer::Nothing));
    }
    let event = SubjectReinstated { subject: ask.subject.clone() };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Vault, event.into()), Answer::Nothing))
}

pub(super) fn revoke_lease(world: &World, ask: &NamedLease) -> Result<Decided, Refusal> {
    let org = world.names.find(&ask.org);
    let lease = world.vault.leases.values().find(|lease| lease.lease_id == ask.lease_id && Some(lease.org) == org);
    match lease {
        None => Err(Reason::VaultLeaseNotFound.into()),
        Some(lease) if lease.revoked => Ok(Decided::nothing(Answer::Nothing)),
        Some(_) => {
            let event = LeaseRevoked { lease_id: ask.lease_id };
            Ok(Decided::one(Draft::new(&ask.org, Stream::Vault, event.into()), Answer::Nothing))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::command::Command;
    use crate::domain::ids::RunId;
    use crate::domain::record::DEFAULT_ORG;
    use crate::domain::secret::{Activate, Activated, Named, Provider};
    use crate::domain::testing::House;
    use crate::domain::turn;

    const REF: &str = "openai.prod";

    fn set(house: &mut House) {
        let version = house.world.slot(DEFAULT_ORG, REF).map_or(1, |slot| slot.version + 1);
        let (reference, fp) = (REF.to_owned(), format!("fp{version}"));
        let body =
            Activated { reference, provider: Provider::OpenAi, version, fp, last4: None, leases_revoked: Vec::new() };
        house.act(Command::ActivateSecret(Activate { org: DEFAULT_ORG.into(), body })).unwrap();
    }

    /// Asks for a turn that uses a version; the lease's number is the attempt.
    fn ask(house: &mut House, run_id: RunId, attempt: u32, version: u64) -> Result<LeaseId, Reason> {
        let lease_id = LeaseId::from_ulid(ulid::Ulid(u128::from(attempt)));
        let credential = Some(CredentialUse { reference: REF.into(), version, fp: String::new(), lease_id });
        let body = turn::Requested { turn: 1, attempt, route: "r".into(), credential, ..Default::default() };
        let asked = house.act(Command::RecordTurnRequested(turn::Request { run_id, body, quote: None }));
        asked.map(|_| lease_id).map_err(|refusal| refusal.reason)
    }

    fn subject(subject: &str) -> NamedSubject {
        NamedSubject { org: DEFAULT_ORG.into(), subject: subject.into() }
    }

    fn revoked(house: &House, run_id: RunId) -> bool {
        house.world.vault.leases[&Stream::Run(run_id)].revoked
    }

    #[test]
    fn a_call_gets_the_version_in_force_and_no_other() {
        let mut house = House::new();
        let session = house.session();
        let run = house.started(session);
        assert_eq!(ask(&mut house, run, 1, 1), Err(Reason::RouteCredentialMissing));
        set(&mut house);
        ask(&mut house, run, 1, 1).unwrap();
        set(&mut house);
        assert!(revoked(&house, run), "the next version ends the lease");
        assert_eq!(ask(&mut house, run, 2, 1), Err(Reason::VaultLeaseRevoked));
        ask(&mut house, run, 2, 2).unwrap();
        assert!(!revoked(&house, run));
        house.act(Command::RevokeSecret(Named { org: DEFAULT_ORG.into(), reference: REF.into() })).unwrap();
        assert!(revoked(&house, run));
        assert_eq!(ask(&mut house, run, 3, 2), Err(Reason::VaultLeaseRevoked));
    }

    #[test]
    fn a_revoked_subject_gets_nothing_until_it_is_reinstated() {
        let mut house = House::new();
        let session = house.session();
        let run = house.started(session);
        set(&mut house);
        let mut attempt = 1;
        let names =
            ["route/r".to_owned(), "token/admin".to_owned(), format!("run/{run}"), format!("session/{session}")];
        for name in names {
            ask(&mut house, run, attempt, 1).unwrap();
            attempt += 1;
            house.act(Command::RevokeSubject(subject(&name))).unwrap();
            assert!(revoked(&house, run), "{name}");
            assert_eq!(ask(&mut house, run, attempt, 1), Err(Reason::VaultLeaseRevoked), "{name}");
            house.act(Command::ReinstateSubject(subject(&name))).unwrap();
        }
        house.act(Command::RevokeSubject(subject("route/other"))).unwrap();
        ask(&mut house, run, attempt, 1).unwrap();
        for wrong in ["", "route/", "route", "run/x", "nobody/x", "route/a b"] {
            let refused = house.act(Command::RevokeSubject(subject(wrong))).unwrap_err();
            assert_eq!(refused.reason, Reason::RequestInvalid, "{wrong}");
        }
    }

    #[test]
    fn a_lease_ends_with_its_call() {
        let mut house = House::new();
        let session = house.session();
        let run = house.started(session);
        set(&mut house);
        let lease_id = ask(&mut house, run, 1, 1).unwrap();
        let named = |org: &str| Command::RevokeLease(NamedLease { org: org.into(), lease_id });
        assert_eq!(house.act(named("other")).unwrap_err().reason, Reason::VaultLeaseNotFound);
        house.act(named(DEFAULT_ORG)).unwrap();
        assert!(revoked(&house, run));
        house.model_answers(run, &[]).unwrap();
        assert!(house.world.vault.leases.is_empty());
        assert_eq!(house.act(named(DEFAULT_ORG)).unwrap_err().reason, Reason::VaultLeaseNotFound);
    }
}
