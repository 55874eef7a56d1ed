//! What one can ask of secrets: store, list, look at, delete, revoke. Only metadata comes out.
//!
//! Two stores keep one truth: a version's ciphertext is on disk, unused, before its record puts it to use; what no
//! record knows is collected. A secret is deleted by its record first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

mod views;

pub use self::views::{
    CredentialGrant, GrantList, Health, RevocationView, SecretList, SecretView, StoredSecret, SubjectList,
};
use super::credentials::Credentials;
use super::desk::{By, Desk, Done, Lane};
use super::routing::RouteBook;
use crate::config::base_url::BaseUrl;
use crate::config::routes::Route;
use crate::domain::command::{Command, invalid};
use crate::domain::credential::{NamedLease, NamedSubject};
use crate::domain::event::Event;
use crate::domain::ids::LeaseId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{DEFAULT_ORG, Provenance};
use crate::domain::secret::{Activate, Activated, Key, Named, Provider, SlotState, check_reference};
use crate::platform::keyed::FingerprintKey;
use crate::projections::vault::{LeaseView, Slot};
use crate::projections::{Models, Page, Paging};
use crate::vault::redaction::Redactor;
use crate::vault::seal::Place;
use crate::vault::secret::Secret;

/// A secret's text on its way in; wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Given(Zeroizing<String>);

impl From<String> for Given {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Given(hidden)")
    }
}

/// A secret to be stored, as another version where the slot has one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// The slot's dotted name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What it is for: `anthropic`, `google`, `openai`, `openrouter`, `xai` or `generic`.
    pub provider: String,
    /// The secret.
    #[schemars(with = "String")]
    pub value: Given,
}

impl SetSecret {
    /// A secret from the command line's side.
    pub fn new(reference: String, provider: String, value: &str) -> Self {
        Self { reference, provider, value: value.to_owned().into() }
    }

    /// The body that asks a daemon for it.
    pub fn body(&self) -> serde_json::Value {
        serde_json::json!({ "ref": self.reference, "provider": self.provider, "value": *self.value.0 })
    }
}

/// Use cases of secrets. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    desk: Desk,
    credentials: Credentials,
    fingerprint: FingerprintKey,
    routes: Arc<dyn RouteBook>,
    /// One change at a time, so that no two ciphertexts have one place.
    turn: Arc<Mutex<()>>,
}

fn provider(name: &str) -> Result<Provider, Refusal> {
    let known = serde_json::from_value(serde_json::Value::String(name.to_owned()));
    // What was given instead may be the secret.
    known.map_err(|_| invalid("/provider", "One of anthropic, google, openai, openrouter, xai, generic."))
}

impl Secrets {
    /// Use cases over a desk and the vault.
    pub fn new(desk: Desk, credentials: Credentials, fingerprint: FingerprintKey, routes: Arc<dyn RouteBook>) -> Self {
        Self { desk, credentials, fingerprint, routes, turn: Arc::default() }
    }

    /// The door of the vault.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Once the daemon may write: records which master key is in force where the journal names another, and removes
    /// what no record puts to use.
    pub async fn settle(&self) {
        let Ok(store) = self.credentials.store() else { return };
        let known = self.desk.look(|models| models.vault.check.clone());
        if known.is_some_and(|check| check != store.check_value()) {
            let by = By { org: DEFAULT_ORG.to_owned(), provenance: Provenance::system("vault") };
            if let Err(refusal) = self.key(&by).await {
                tracing::warn!(code = refusal.reason.code(), "the change of the master key is not recorded yet");
            }
        }
        let _turn = self.turn.lock().await;
        self.collect().await;
    }

    /// Records which master key is in force, if the journal does not know.
    async fn key(&self, by: &By) -> Result<(), Refusal> {
        let check = self.credentials.store()?.check_value().to_owned();
        let provenance = Provenance { request: None, ..by.provenance.clone() };
        let by = By { org: by.org.clone(), provenance };
        self.desk.submit_plain(Command::KeyVault(Key { check }), by, Lane::Ordinary, |_| ()).await.map(drop)
    }

    /// Stores a secret and puts it to use.
    pub async fn set(&self, by: By, ask: SetSecret) -> Result<Done<StoredSecret>, Refusal> {
        check_reference("/ref", &ask.reference)?;
        let provider = provider(&ask.provider)?;
        let secret = Secret::parse(ask.value.0.as_bytes()).map_err(|fault| invalid("/value", fault.to_string()))?;
        if Redactor::knowing(&ask.reference, &secret).found(ask.reference.as_bytes()).is_some() {
            return Err(invalid("/value", "The secret stands in its own name, which every record of its use tells."));
        }
        let _turn = self.turn.lock().await;
        self.key(&by).await?;
        let version = self.desk.look(|models| models.newest_version(&by.org, &ask.reference)).saturating_add(1);
        let place = Place { org: by.org.clone(), reference: ask.reference.clone(), version };
        let body = Activated {
            reference: ask.reference.clone(),
            provider,
            version,
            fp: self.fingerprint.fingerprint(secret.expose().as_bytes()),
            last4: secret.last4(),
            leases_revoked: Vec::new(),
        };
        self.put(place, secret).await?;
        let (org, reference) = (by.org.clone(), ask.reference);
        let command = Command::ActivateSecret(Activate { org: org.clone(), body });
        let done = self.desk.submit_plain(command, by, Lane::Ordinary, |_| ()).await?;
        self.collect().await;
        let secret = self.view(&org, &reference)?;
        let leases_revoked = self.ended_by(done.seq).await;
        Ok(Done { view: StoredSecret { secret, leases_revoked }, seq: done.seq, replayed: done.replayed })
    }

    async fn put(&self, place: Place, secret: Secret) -> Result<(), Refusal> {
        let credentials = self.credentials.clone();
        on_disk(move || credentials.put(place, &secret)).await
    }

    /// Removes ciphertexts that no record puts to use, in the turn of whoever calls: what another one has stored and not
    /// yet recorded would be among them. What cannot be removed is tried again by the next change.
    async fn collect(&self) {
        let mut used = BTreeSet::new();
        self.desk.look(|models| {
            for (org, reference, slot) in models.vault.in_force(&models.names) {
                let (org, reference, version) = (org.to_owned(), reference.to_owned(), slot.newest());
                used.insert(Place { org, reference, version });
            }
        });
        let credentials = self.credentials.clone();
        if let Err(refusal) = on_disk(move || credentials.collect(&used)).await {
            tracing::warn!(code = refusal.reason.code(), detail = refusal.detail, "unused secrets were not removed");
        }
    }

    /// The leases that a record ended.
    async fn ended_by(&self, seq: Option<u64>) -> Vec<LeaseId> {
        let Some(seq) = seq else { return Vec::new() };
        let read = self.desk.recall(move |_| Ok(seq), |seq, bodies| Ok(bodies.record(seq)));
        match read.await.ok().flatten().map(|record| record.event) {
            Some(Event::SecretActivated(body)) => body.leases_revoked,
            Some(Event::SecretRevoked(body)) => body.leases_revoked,
            Some(Event::SecretDeleted(body)) => body.leases_revoked,
            Some(Event::SubjectRevoked(body)) => body.leases_revoked,
            Some(Event::LeaseRevoked(body)) => vec![body.lease_id],
            Some(_) | None => Vec::new(),
        }
    }

    /// Every secret of an organisation.
    pub fn list(&self, org: &str) -> SecretList {
        let slots: BTreeMap<String, Slot> = self.desk.look(|models| {
            let all = models.vault.in_force(&models.names).filter(|(of, _, _)| *of == org);
            all.map(|(_, reference, slot)| (reference.to_owned(), slot.clone())).collect()
        });
        let items = slots.into_iter().map(|(reference, slot)| self.shown(org, reference, slot)).collect();
        let unreadable = self.credentials.store().map_or(0, crate::vault::store::Store::unreadable);
        SecretList { items, open: self.credentials.is_open(), unreadable }
    }

    /// One secret.
    pub fn get(&self, org: &str, reference: &str) -> Result<SecretView, Refusal> {
        self.view(org, reference)
    }

    fn view(&self, org: &str, reference: &str) -> Result<SecretView, Refusal> {
        let slot = self.desk.look(|models: &Models| models.secret(org, reference).cloned())?;
        Ok(self.shown(org, reference.to_owned(), slot))
    }

    fn shown(&self, org: &str, reference: String, slot: Slot) -> SecretView {
        let (version, fingerprint) = (slot.newest(), slot.fp().to_owned());
        let place = Place { org: org.to_owned(), reference: reference.clone(), version };
        let health = match self.credentials.store() {
            Err(_) => Health::Locked,
            Ok(_) if slot.state == SlotState::Revoked => Health::Revoked,
            Ok(store) if store.opens(&place).is_ok() => Health::Ok,
            Ok(_) => Health::Corrupt,
        };
        SecretView {
            routes: {
                let routes = self.routes.routes();
                let named = routes.iter().filter(|(_, route)| route.terms.auth_ref.as_ref() == Some(&reference));
                named.map(|(id, _)| id.to_owned()).collect()
            },
            reference,
            provider: slot.provider,
            status: slot.state,
            health,
            version,
            fingerprint,
            last4: slot.last4,
            created_at_ms: slot.created_at_ms,
            updated_at_ms: slot.changed_at_ms,
            last_used_at_ms: slot.last_used_at_ms,
            uses: slot.uses,
            versions: slot.versions,
        }
    }

    /// Empties a slot: its record first, then what is stored.
    pub async fn delete(&self, by: By, reference: String) -> Result<Done<RevocationView>, Refusal> {
        let command = Command::DeleteSecret(Named { org: by.org.clone(), reference: reference.clone() });
        let done = self.end_slot(by, command, reference).await?;
        let _turn = self.turn.lock().await;
        self.collect().await;
        Ok(done)
    }

    /// Lets nobody have a secret until another version of it is stored.
    pub async fn revoke_slot(&self, by: By, reference: String) -> Result<Done<RevocationView>, Refusal> {
        let command = Command::RevokeSecret(Named { org: by.org.clone(), reference: reference.clone() });
        self.end_slot(by, command, reference).await
    }

    async fn end_slot(&self, by: By, command: Command, reference: String) -> Result<Done<RevocationView>, Refusal> {
        let _turn = self.turn.lock().await;
        let org = by.org.clone();
        let newest = |models: &Models| models.newest_version(&org, &reference);
        let done = self.desk.submit_plain(command, by, Lane::Reserved, newest).await?;
        // A repeat of what was done before says nothing about the calls of now.
        if !done.replayed {
            self.credentials.cut_slot(&org, &reference);
        }
        let leases_revoked = self.ended_by(done.seq).await;
        let (version, reference) = (Some(done.view), Some(reference));
        let view = RevocationView { reference, version, subject: None, revoked: true, leases_revoked };
        Ok(Done { view, seq: done.seq, replayed: done.replayed })
    }

    /// Gives a subject no lease any more, or again.
    pub async fn revoke_subject(
        &self,
        by: By,
        subject: String,
        revoked: bool,
    ) -> Result<Done<RevocationView>, Refusal> {
        let org = by.org.clone();
        let named = NamedSubject { org: org.clone(), subject: subject.clone() };
        let command = if revoked { Command::RevokeSubject(named) } else { Command::ReinstateSubject(named) };
        let done = self.desk.submit_plain(command, by, Lane::Reserved, |_| ()).await?;
        if revoked && !done.replayed {
            self.credentials.cut_subject(&org, &subject);
        }
        let leases_revoked = self.ended_by(done.seq).await;
        let view = RevocationView { reference: None, version: None, subject: Some(subject), revoked, leases_revoked };
        Ok(Done { view, seq: done.seq, replayed: done.replayed })
    }

    /// Takes a lease back.
    pub async fn revoke_lease(&self, by: By, lease_id: LeaseId) -> Result<Done<LeaseView>, Refusal> {
        let org = by.org.clone();
        let command = Command::RevokeLease(NamedLease { org: org.clone(), lease_id });
        let done = self.desk.submit_plain(command, by, Lane::Reserved, |models| models.lease(&org, lease_id)).await?;
        if !done.replayed {
            self.credentials.cut_lease(&org, lease_id);
        }
        Ok(Done { view: done.view?, seq: done.seq, replayed: done.replayed })
    }

    /// Subjects that get no lease.
    pub fn subjects(&self, org: &str) -> SubjectList {
        SubjectList { items: self.desk.look(|models| models.revoked_subjects(org)) }
    }

    /// Which routes may use which secret.
    pub fn grants(&self, org: &str) -> GrantList {
        let routes = self.routes.routes();
        let items = self.desk.look(|models| {
            let grant = |(id, route): (&str, &Route)| {
                let (reference, subject) = (route.terms.auth_ref.clone()?, format!("route/{id}"));
                Some(CredentialGrant {
                    provider: models.secret(org, &reference).ok().map(|slot| slot.provider),
                    audience: route.base_url.as_ref().map(BaseUrl::origin),
                    source: "routes_file",
                    state: self.credentials.standing(models, org, &reference, std::slice::from_ref(&subject)),
                    active_leases: models.live_leases(org, &reference, id),
                    reference,
                    subject,
                })
            };
            routes.iter().filter_map(grant).collect()
        });
        GrantList { items }
    }

    /// One page of the leases, newest first.
    pub async fn leases(&self, org: &str, of: Option<String>, paging: Paging) -> Result<Page<LeaseView>, Refusal> {
        let org = org.to_owned();
        self.desk.page(move |models| models.lease_page(&org, of.as_deref(), &paging)).await
    }

    /// One lease.
    pub fn lease(&self, org: &str, lease_id: LeaseId) -> Result<LeaseView, Refusal> {
        self.desk.look(|models| models.lease(org, lease_id))
    }
}

/// Work that waits for the disk, on a thread of its own.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::from(Reason::InternalError))?
}
