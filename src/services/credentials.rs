//! How a call gets the secret of its route: an offer names the version in force and a fresh lease, the record of the
//! call's intent names both, and once that record is published the lease is redeemed, once. Whoever revokes ends calls
//! that go on.

mod standing;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::domain::credential::CredentialUse;
use crate::domain::ids::LeaseId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::stream::Stream;
use crate::platform::clock::Clock;
use crate::platform::entropy::Entropy;
use crate::projections::Models;
use crate::projections::vault::LeaseStatus;
use crate::services::numbers::{LeaseFault, VaultNumbers};
use crate::services::published::Published;
use crate::vault::seal::Place;
use crate::vault::secret::Secret;
use crate::vault::store::Store;

pub use standing::Standing;
use standing::{granted, in_force};

/// How long an offer may wait for its record and its call, milliseconds.
const LEASE_MS: u64 = 60_000;

/// A lease from its offer to the end of its call.
#[derive(Debug)]
struct Lease {
    org: String,
    used: CredentialUse,
    subjects: Vec<String>,
    /// When it lapses unredeemed, by the clock that never goes back.
    until_boot_ms: u64,
    redeemed: bool,
    revoked: CancellationToken,
}

struct Shared {
    /// None where the daemon has no master key.
    store: Option<Store>,
    published: Published,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    leases: Mutex<HashMap<LeaseId, Lease>>,
    numbers: VaultNumbers,
}

/// The door of the vault for calls. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
}

/// A secret in the hands of one call.
#[derive(Debug)]
pub struct Leased {
    /// The secret.
    pub secret: Secret,
    /// Resolves when the lease is revoked: the call is to be cut.
    pub revoked: CancellationToken,
    _end: End,
}

/// Forgets the lease when its call has ended.
struct End {
    shared: Arc<Shared>,
    lease_id: LeaseId,
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("End").field(&self.lease_id).finish()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.leases().remove(&self.lease_id);
    }
}

impl Shared {
    fn leases(&self) -> MutexGuard<'_, HashMap<LeaseId, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Credentials {
    /// Over a store, or without one where the daemon has no master key. What is stored is searched from now on in
    /// everything that leaves.
    pub fn new(store: Option<Store>, published: Published, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let (leases, numbers) = (Mutex::default(), VaultNumbers::default());
        let credentials = Self { shared: Arc::new(Shared { store, published, clock, entropy, leases, numbers }) };
        credentials.tell_redactor();
        credentials
    }

    /// Stores a secret, which is searched in everything that leaves before it is anywhere.
    pub(super) fn put(&self, place: Place, secret: &Secret) -> Result<(), Refusal> {
        self.shared.published.redactor().add(&place.reference, secret);
        self.store()?.put(place, secret)
    }

    /// Removes what is not in force.
    pub(super) fn collect(&self, in_force: &BTreeSet<Place>) -> Result<(), Refusal> {
        self.store()?.collect(in_force)?;
        self.tell_redactor();
        Ok(())
    }

    fn tell_redactor(&self) {
        let all = self.shared.store.as_ref().map(Store::reveal_all).unwrap_or_default();
        let named = all.into_iter().map(|(place, secret)| (place.reference, secret));
        self.shared.published.redactor().set_secrets(named);
    }

    /// The store, or the refusal of a vault without a master key.
    pub(super) fn store(&self) -> Result<&Store, Refusal> {
        self.shared.store.as_ref().ok_or_else(|| Reason::VaultLocked.into())
    }

    /// What is counted of secrets that were not given.
    pub fn numbers(&self) -> &VaultNumbers {
        &self.shared.numbers
    }

    /// Whether the daemon has a master key.
    pub fn is_open(&self) -> bool {
        self.shared.store.is_some()
    }

    /// Whether a call could use this secret now. Decrypts nothing.
    pub fn check(&self, org: &str, reference: &str) -> Result<(), Refusal> {
        let (version, _) = in_force(&self.shared.published.models(), org, reference).map_err(|(_, refusal)| refusal)?;
        self.opens(org, reference, version)
    }

    fn opens(&self, org: &str, reference: &str, version: u64) -> Result<(), Refusal> {
        self.store()?.opens(&Place { org: org.to_owned(), reference: reference.to_owned(), version })
    }

    /// The secrets in force that cannot be opened. Decrypts nothing; none without a master key, for that refuses a start.
    pub fn corrupt(&self) -> Vec<String> {
        let Ok(store) = self.store() else { return Vec::new() };
        let models = self.shared.published.models();
        let broken = models.vault.in_force(&models.names).filter(|(org, reference, slot)| {
            let (org, reference) = ((*org).to_owned(), (*reference).to_owned());
            store.opens(&Place { org, reference, version: slot.newest() }).is_err()
        });
        broken.map(|(_, reference, _)| reference.to_owned()).collect()
    }

    /// How a secret stands for these subjects, by the rule that leases are given by. Decrypts nothing.
    pub(super) fn standing(&self, models: &Models, org: &str, reference: &str, subjects: &[String]) -> Standing {
        if !self.is_open() {
            return Standing::Locked;
        }
        match granted(models, org, reference, subjects) {
            Err((standing, _)) => standing,
            Ok((version, _)) if self.opens(org, reference, version).is_err() => Standing::SlotCorrupt,
            Ok(_) => Standing::Allowed,
        }
    }

    /// A use of the version in force, for the record of a call's intent. `subjects` are whom it serves, nearest first.
    pub fn offer(&self, org: &str, reference: &str, subjects: Vec<String>) -> Result<CredentialUse, Refusal> {
        self.counted(self.store(), reference)?;
        let granted = granted(&self.shared.published.models(), org, reference, &subjects);
        let (version, fp) = granted.map_err(|(_, refusal)| refusal)?;
        let lease_id = LeaseId::from_ulid(Ulid::from_parts(self.shared.clock.wall_ms(), self.shared.entropy.u128()));
        let used = CredentialUse { reference: reference.to_owned(), version, fp, lease_id };
        let now = self.shared.clock.boot_ms();
        let lease = Lease {
            org: org.to_owned(),
            used: used.clone(),
            subjects,
            until_boot_ms: now.saturating_add(LEASE_MS),
            redeemed: false,
            revoked: CancellationToken::new(),
        };
        let mut leases = self.shared.leases();
        // One minute longer, so that who comes late is told from who comes twice.
        leases.retain(|_, lease| lease.redeemed || now < lease.until_boot_ms.saturating_add(LEASE_MS));
        leases.insert(lease_id, lease);
        Ok(used)
    }

    /// Forgets an offer that no record will name.
    pub fn withdraw(&self, lease_id: LeaseId) {
        self.shared.leases().remove(&lease_id);
    }

    /// The secret of a lease, for the call on this stream whose intent is recorded. Once.
    pub fn redeem(&self, lease_id: LeaseId, holder: Stream) -> Result<Leased, Refusal> {
        let (place, revoked) = self.take(lease_id, holder).map_err(|fault| {
            tracing::warn!(%lease_id, %holder, cause = fault.word(), "a lease gave no secret");
            self.shared.numbers.refused(fault);
            fault.reason()
        })?;
        let end = End { shared: Arc::clone(&self.shared), lease_id };
        let secret = self.counted(self.store().and_then(|store| store.reveal(&place)), &place.reference)?;
        Ok(Leased { secret, revoked, _end: end })
    }

    /// Counts what a call needed and could not be opened.
    fn counted<T>(&self, opened: Result<T, Refusal>, reference: &str) -> Result<T, Refusal> {
        opened.inspect_err(|refusal| {
            tracing::warn!(code = refusal.reason.code(), reference, "a secret could not be opened for a call");
            self.shared.numbers.unopened();
        })
    }

    fn take(&self, lease_id: LeaseId, holder: Stream) -> Result<(Place, CancellationToken), LeaseFault> {
        // What is published is on disk: no secret leaves before the record that says so.
        let recorded =
            self.shared.published.models().vault.lease_of(holder).map(|lease| (lease.lease_id, lease.status));
        let status = recorded.filter(|(recorded, _)| *recorded == lease_id).map(|(_, status)| status);
        let mut leases = self.shared.leases();
        let lease = leases.get_mut(&lease_id).ok_or(LeaseFault::Used)?;
        match status {
            Some(LeaseStatus::Live) if !lease.revoked.is_cancelled() => {}
            Some(LeaseStatus::Live | LeaseStatus::Revoked) => return Err(LeaseFault::Revoked),
            Some(LeaseStatus::Returned | LeaseStatus::Abandoned) => return Err(LeaseFault::Used),
            None => return Err(LeaseFault::Unrecorded),
        }
        if lease.redeemed {
            return Err(LeaseFault::Used);
        }
        if self.shared.clock.boot_ms() >= lease.until_boot_ms {
            return Err(LeaseFault::Lapsed);
        }
        lease.redeemed = true;
        let (reference, version) = (lease.used.reference.clone(), lease.used.version);
        Ok((Place { org: lease.org.clone(), reference, version }, lease.revoked.clone()))
    }

    fn cut(&self, org: &str, hit: impl Fn(&Lease) -> bool) {
        let leases = self.shared.leases();
        leases.values().filter(|lease| lease.org == org && hit(lease)).for_each(|lease| lease.revoked.cancel());
    }

    /// Cuts every call that uses this secret, whichever version of it.
    pub(super) fn cut_slot(&self, org: &str, reference: &str) {
        self.cut(org, |lease| lease.used.reference == reference);
    }

    /// Cuts every call of this subject that uses a secret.
    pub(super) fn cut_subject(&self, org: &str, subject: &str) {
        self.cut(org, |lease| lease.subjects.iter().any(|served| served == subject));
    }

    /// Cuts the call that has this lease.
    pub(super) fn cut_lease(&self, org: &str, lease_id: LeaseId) {
        self.cut(org, |lease| lease.used.lease_id == lease_id);
    }
}

#[cfg(test)]
mod tests;
