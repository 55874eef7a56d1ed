//! Secrets as the journal knows them: which version of which slot is in force. Never the secret itself.
//!
//! The ciphertext of a version is on disk before its record; a version without a record was never in force.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::command::{Answer, Decided, invalid};
use super::ids::LeaseId;
use super::limits::{SECRET_REF_BYTES, SECRET_SLOTS};
use super::names::Name;
use super::reason::{Reason, Refusal};
use super::record::{DEFAULT_ORG, Draft, Record};
use super::stream::Stream;
use super::world::World;

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// A key of Anthropic's interface.
    Anthropic,
    /// A key of Google's interface.
    Google,
    /// A key of `OpenAI`'s interface, or of one that is compatible with it.
    OpenAi,
    /// A key of `OpenRouter`'s interface.
    OpenRouter,
    /// A key of xAI's interface.
    Xai,
    /// Anything else: tokens of connectors, signing secrets.
    Generic,
}

/// `vault.keyed`: the vault is encrypted under another master key than before, or for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keyed {
    /// The value by which that master key is known, hex.
    pub check: String,
}

/// `secret.activated`: from here on this version of the slot is the one in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Activated {
    /// The slot's dotted name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What it is for.
    pub provider: Provider,
    /// One more than any version that the slot ever had.
    pub version: u64,
    /// Keyed fingerprint, hex.
    pub fp: String,
    /// Its last four characters, where it is long enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last4: Option<String>,
    /// Leases of earlier versions that end with this; a call that has the secret already may finish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases_revoked: Vec<LeaseId>,
}

/// `secret.revoked`: nobody gets the slot's secret until another version is stored, and calls that use it are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// The slot's dotted name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The version that was in force.
    pub version: u64,
    /// Leases that end with this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases_revoked: Vec<LeaseId>,
}

/// `secret.deleted`: the slot has no secret any more, and calls that use it are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deleted {
    /// The slot's dotted name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The version that was in force, or revoked.
    pub version: u64,
    /// Leases that end with this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases_revoked: Vec<LeaseId>,
}

/// How a slot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Its newest version is in use.
    Active,
    /// Nobody gets its secret until another one is stored.
    Revoked,
    /// It has no secret.
    Deleted,
}

/// What rules know of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// The newest version it ever had.
    pub version: u64,
    /// What it is for.
    pub provider: Provider,
    /// Keyed fingerprint of the newest version, hex.
    pub fp: String,
    /// How it stands.
    pub state: SlotState,
}

/// Slots, by organisation and name.
pub type Slots = BTreeMap<Name, BTreeMap<String, Slot>>;

/// Says which master key the vault is encrypted under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its check value.
    pub check: String,
}

/// Asks for a version that is on disk to be used from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activate {
    /// The caller's organisation.
    pub org: String,
    /// What is to be recorded; which leases end is decided.
    pub body: Activated,
}

/// Names a slot, to be revoked or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The caller's organisation.
    pub org: String,
    /// The slot's dotted name.
    pub reference: String,
}

/// Checks a slot's name: words of lower-case letters, digits, `_` and `-`, joined by dots.
pub fn check_reference(pointer: &str, reference: &str) -> Result<(), Refusal> {
    let word = |word: &str| {
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        !word.is_empty() && word.bytes().all(fine)
    };
    if reference.len() <= SECRET_REF_BYTES && reference.split('.').all(word) {
        return Ok(());
    }
    let detail = format!(
        "A secret's name is words of a-z, 0-9, _ and -, joined by dots, of {SECRET_REF_BYTES} bytes at most, such as openai.prod."
    );
    Err(invalid(pointer, detail))
}

pub(super) fn key(world: &World, ask: &Key) -> Decided {
    if world.vault.check.as_ref() == Some(&ask.check) {
        return Decided::nothing(Answer::Nothing);
    }
    Decided::one(Draft::new(DEFAULT_ORG, Stream::Vault, Keyed { check: ask.check.clone() }.into()), Answer::Nothing)
}

pub(super) fn activate(world: &World, ask: &Activate) -> Result<Decided, Refusal> {
    check_reference("/ref", &ask.body.reference)?;
    let newest = world.slot(&ask.org, &ask.body.reference).map_or(0, |slot| slot.version);
    if ask.body.version != newest.saturating_add(1) {
        let detail = format!("The newest version is {newest}; somebody else stored another one meanwhile.");
        return Err(Refusal::new(Reason::RuntimeRevisionConflict, detail));
    }
    if newest == 0 && world.slots_of(&ask.org).is_some_and(|slots| slots.len() >= SECRET_SLOTS) {
        return Err(Refusal::new(Reason::RequestInvalid, format!("There are at most {SECRET_SLOTS} secrets.")));
    }
    let leases_revoked = world.leases_on(&ask.org, &ask.body.reference);
    let event = Activated { leases_revoked, ..ask.body.clone() };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Vault, event.into()), Answer::Nothing))
}

fn present<'w>(world: &'w World, ask: &Named) -> Result<&'w Slot, Refusal> {
    let slot = world.slot(&ask.org, &ask.reference).filter(|slot| slot.state != SlotState::Deleted);
    slot.ok_or_else(|| Reason::VaultSlotNotFound.into())
}

pub(super) fn revoke(world: &World, ask: &Named) -> Result<Decided, Refusal> {
    let slot = present(world, ask)?;
    if slot.state == SlotState::Revoked {
        return Ok(Decided::nothing(Answer::Nothing));
    }
    let leases_revoked = world.leases_on(&ask.org, &ask.reference);
    let event = Revoked { reference: ask.reference.clone(), version: slot.version, leases_revoked };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Vault, event.into()), Answer::Nothing))
}

pub(super) fn delete(world: &World, ask: &Named) -> Result<Decided, Refusal> {
    let slot = present(world, ask)?;
    let leases_revoked = world.leases_on(&ask.org, &ask.reference);
    let event = Deleted { reference: ask.reference.clone(), version: slot.version, leases_revoked };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Vault, event.into()), Answer::Nothing))
}

impl World {
    /// Every slot of an organisation, deleted ones among them.
    pub fn slots_of(&self, org: &str) -> Option<&BTreeMap<String, Slot>> {
        self.vault.slots.get(&self.names.find(org)?)
    }

    /// What is known of a slot, if it ever held a secret.
    pub fn slot(&self, org: &str, reference: &str) -> Option<&Slot> {
        self.slots_of(org)?.get(reference)
    }

    pub(super) fn fold_vault_keyed(&mut self, body: &Keyed) {
        self.vault.check = Some(body.check.clone());
    }

    pub(super) fn fold_secret_activated(&mut self, record: &Record, body: &Activated) {
        let org = self.names.intern(&record.org);
        let (version, provider, fp) = (body.version, body.provider, body.fp.clone());
        let slot = Slot { version, provider, fp, state: SlotState::Active };
        self.vault.slots.entry(org).or_default().insert(body.reference.clone(), slot);
        self.vault.end_leases(&body.leases_revoked);
    }

    pub(super) fn fold_secret_revoked(&mut self, record: &Record, body: &Revoked) {
        self.fold_slot_state(record, &body.reference, SlotState::Revoked);
        self.vault.end_leases(&body.leases_revoked);
    }

    pub(super) fn fold_secret_deleted(&mut self, record: &Record, body: &Deleted) {
        self.fold_slot_state(record, &body.reference, SlotState::Deleted);
        self.vault.end_leases(&body.leases_revoked);
    }

    fn fold_slot_state(&mut self, record: &Record, reference: &str, state: SlotState) {
        let org = self.names.intern(&record.org);
        if let Some(slot) = self.vault.slots.get_mut(&org).and_then(|slots| slots.get_mut(reference)) {
            slot.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::command::Command;
    use crate::domain::testing::House;

    fn set(version: u64) -> Command {
        let body = Activated {
            reference: "openai.prod".into(),
            provider: Provider::OpenAi,
            version,
            fp: format!("fp{version}"),
            last4: None,
            leases_revoked: Vec::new(),
        };
        Command::ActivateSecret(Activate { org: DEFAULT_ORG.into(), body })
    }

    fn named(org: &str) -> Named {
        Named { org: org.into(), reference: "openai.prod".into() }
    }

    fn state(house: &House) -> (u64, SlotState) {
        let slot = house.world.slot(DEFAULT_ORG, "openai.prod").unwrap();
        (slot.version, slot.state)
    }

    #[test]
    fn versions_rise_by_one_and_are_never_used_again() {
        let mut house = House::new();
        assert_eq!(house.act(set(2)).unwrap_err().reason, Reason::RuntimeRevisionConflict);
        house.act(set(1)).unwrap();
        assert_eq!(house.act(set(1)).unwrap_err().reason, Reason::RuntimeRevisionConflict);
        house.act(Command::DeleteSecret(named(DEFAULT_ORG))).unwrap();
        assert_eq!(house.act(set(1)).unwrap_err().reason, Reason::RuntimeRevisionConflict);
        house.act(set(2)).unwrap();
        assert_eq!(state(&house), (2, SlotState::Active));
    }

    #[test]
    fn a_revoked_slot_is_used_again_only_with_another_version() {
        let mut house = House::new();
        house.act(set(1)).unwrap();
        house.act(Command::RevokeSecret(named(DEFAULT_ORG))).unwrap();
        assert_eq!(state(&house), (1, SlotState::Revoked));
        let before = house.records.len();
        house.act(Command::RevokeSecret(named(DEFAULT_ORG))).unwrap();
        assert_eq!(house.records.len(), before);
        house.act(set(2)).unwrap();
        assert_eq!(state(&house), (2, SlotState::Active));
    }

    #[test]
    fn another_organisations_secret_looks_absent() {
        let mut house = House::new();
        house.act(set(1)).unwrap();
        for command in [Command::DeleteSecret(named("other")), Command::RevokeSecret(named("other"))] {
            assert_eq!(house.act(command).unwrap_err().reason, Reason::VaultSlotNotFound);
        }
        house.act(Command::DeleteSecret(named(DEFAULT_ORG))).unwrap();
        let again = house.act(Command::DeleteSecret(named(DEFAULT_ORG)));
        assert_eq!(again.unwrap_err().reason, Reason::VaultSlotNotFound);
    }

    #[test]
    fn a_name_is_words_joined_by_dots() {
        for good in ["openai.prod", "a", "connectors.http.in-box.bearer_token"] {
            assert!(check_reference("/ref", good).is_ok(), "{good}");
        }
        let long = "a".repeat(SECRET_REF_BYTES + 1);
        for bad in ["", ".", "a.", "A", "a b", "a/b", "../a", "ä", "a\n", long.as_str()] {
            assert!(check_reference("/ref", bad).is_err(), "{bad:?}");
        }
    }
}
