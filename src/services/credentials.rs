//! How a call gets the secret of its route: an offer names the version in force and a fresh lease, the record of the
//! call's intent names both, and once that record is published the lease is redeemed, once. Whoever revokes ends calls
//! that go on.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::domain::context::ClockTrust;
use crate::domain::credential::CredentialUse;
use crate::domain::ids::LeaseId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::secret::SlotState;
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

/// Whether a secret may be used, and otherwise what stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may.
    Allowed,
    /// The daemon has no master key.
    Locked,
    /// The clock is not trusted.
    ClockUntrusted,
    /// The subject was revoked.
    SubjectRevoked,
    /// There is no such secret.
    SlotMissing,
    /// The secret was revoked.
    SlotRevoked,
    /// What is stored does not open.
    SlotCorrupt,
}

/// What stands in the way, and what whoever asks for a lease is told.
type Hindrance = (Standing, Refusal);

/// The version in force and its fingerprint, from what is published.
fn in_force(models: &Models, org: &str, reference: &str) -> Result<(u64, String), Hindrance> {
    let missing = || Refusal::new(Reason::RouteCredentialMissing, format!("There is no secret {reference}."));
    let slot = models.secret(org, reference).map_err(|_| (Standing::SlotMissing, missing()))?;
    if slot.state == SlotState::Revoked {
        let detail = format!("The secret {reference} was revoked; store another one.");
        return Err((Standing::SlotRevoked, Refusal::new(Reason::VaultLeaseRevoked, detail)));
    }
    Ok((slot.newest(), slot.fp().to_owned()))
}

/// The same, where these subjects may use it; the decision looks again.
fn granted(models: &Models, org: &str, reference: &str, subjects: &[String]) -> Result<(u64, String), Hindrance> {
    if models.clock.trust != ClockTrust::Trusted {
        let refusal = Refusal::new(Reason::TimeUntrusted, "No lease is given while the clock is not trusted.");
        return Err((Standing::ClockUntrusted, refusal));
    }
    if let Some(subject) = models.vault.revoked_of(models.names.find(org), subjects) {
        let refusal = Refusal::new(Reason::VaultLeaseRevoked, format!("{subject} was revoked."));
        return Err((Standing::SubjectRevoked, refusal));
    }
    in_force(models, org, reference)
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
mod tests {
    use super::*;
    use crate::domain::command::Command;
    use crate::domain::ids::RunId;
    use crate::domain::record::DEFAULT_ORG;
    use crate::domain::run::{self, RouteChoice};
    use crate::domain::secret::{Activate, Activated, Named, Provider};
    use crate::domain::turn;
    use crate::platform::entropy::SystemEntropy;
    use crate::services::opening::Opened;
    use crate::services::testing::{Root, act, create_session, queue_run, stop};
    use crate::vault::master_key::MasterKey;

    const REF: &str = "openai.prod";

    struct House {
        root: Root,
        opened: Opened,
        credentials: Credentials,
        run: RunId,
        turns: u32,
    }

    impl House {
        fn new() -> Self {
            let mut root = Root::new();
            let opened = root.start();
            let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
            let master = MasterKey::parse(&"0123456789abcdef".repeat(4), "here").unwrap();
            let disk: Arc<dyn crate::platform::disk::Disk> = root.folder.clone();
            let store = Store::open(&disk, Arc::clone(&entropy), &master, "root_x").unwrap();
            let clock: Arc<dyn Clock> = root.clock.clone();
            let credentials = Credentials::new(Some(store), opened.published.clone(), clock, entropy);
            let run = queue_run(&opened, create_session(&opened, "s"), "Do it.");
            let [route, driver, model] = ["r"; 3].map(str::to_owned);
            let chosen_by = RouteChoice::Default;
            let start =
                run::Start { run_id: run, route, driver, model, chosen_by, chosen_under: (0, None), rehearsal: false };
            act(&opened, Command::StartRun(start)).unwrap();
            let house = Self { root, opened, credentials, run, turns: 0 };
            house.set(1, "sk-first");
            house
        }

        fn set(&self, version: u64, text: &str) {
            let place = Place { org: DEFAULT_ORG.into(), reference: REF.into(), version };
            self.credentials.put(place, &Secret::parse(text.as_bytes()).unwrap()).unwrap();
            let (reference, fp) = (REF.to_owned(), format!("fp{version}"));
            let body = Activated {
                reference,
                provider: Provider::OpenAi,
                version,
                fp,
                last4: None,
                leases_revoked: Vec::new(),
            };
            act(&self.opened, Command::ActivateSecret(Activate { org: DEFAULT_ORG.into(), body })).unwrap();
        }

        fn offer(&self) -> CredentialUse {
            self.credentials.offer(DEFAULT_ORG, REF, vec![format!("run/{}", self.run), "route/r".into()]).unwrap()
        }

        /// Records the intent of a call that uses this.
        fn record(&mut self, used: &CredentialUse) -> Result<(), Reason> {
            let attempt = self.turns + 1;
            let credential = Some(used.clone());
            let body = turn::Requested { turn: 1, attempt, route: "r".into(), credential, ..Default::default() };
            let ask = turn::Request { run_id: self.run, body, quote: None };
            act(&self.opened, Command::RecordTurnRequested(ask)).map_err(|refusal| refusal.reason)?;
            self.turns = attempt;
            Ok(())
        }

        fn refused(&self) -> [u64; 4] {
            LeaseFault::ALL.map(|fault| self.credentials.numbers().leases_refused(fault))
        }

        fn redeem(&self, used: &CredentialUse) -> Result<Leased, Reason> {
            let holder = Stream::Run(self.run);
            self.credentials.redeem(used.lease_id, holder).map_err(|refusal| refusal.reason)
        }
    }

    #[test]
    fn a_secret_is_had_only_once_its_use_is_recorded_and_only_once() {
        let mut house = House::new();
        let used = house.offer();
        assert_eq!(house.redeem(&used).unwrap_err(), Reason::VaultLeaseUsed, "no record names it");
        house.record(&used).unwrap();
        let live = |route| house.opened.published.models().live_leases(DEFAULT_ORG, REF, route);
        assert_eq!((live("r"), live("another")), (1, 0));
        let other = Stream::Run(RunId::from_ulid(Ulid(7)));
        let foreign = house.credentials.redeem(used.lease_id, other).unwrap_err();
        assert_eq!(foreign.reason, Reason::VaultLeaseUsed, "another call's lease");
        let results: Vec<Result<Leased, Reason>> = std::thread::scope(|scope| {
            let redeem = || house.redeem(&used);
            let racing: Vec<_> = (0..100).map(|_| scope.spawn(redeem)).collect();
            racing.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let had: Vec<&Leased> = results.iter().flatten().collect();
        assert_eq!(had.len(), 1);
        assert_eq!(had[0].secret.expose(), "sk-first");
        assert!(results.iter().filter_map(|one| one.as_ref().err()).all(|reason| *reason == Reason::VaultLeaseUsed));
        drop(results);
        assert_eq!(house.redeem(&used).unwrap_err(), Reason::VaultLeaseUsed, "its call has ended");
        assert_eq!(house.refused(), [100, 2, 0, 0], "each is counted by its cause");
        stop(house.opened);
    }

    #[test]
    fn a_lease_lapses_after_a_minute() {
        let mut house = House::new();
        let used = house.offer();
        house.record(&used).unwrap();
        house.root.clock.advance(LEASE_MS);
        assert_eq!(house.redeem(&used).unwrap_err(), Reason::VaultLeaseUsed);
        house.offer();
        assert_eq!(house.redeem(&used).unwrap_err(), Reason::VaultLeaseUsed);
        assert_eq!(house.refused(), [0, 0, 2, 0], "late is not twice, also after the next offer");
        let kept = house.credentials.shared.leases().len();
        let refused = house.offer();
        house.credentials.withdraw(refused.lease_id);
        assert_eq!(house.credentials.shared.leases().len(), kept, "a refused call leaves nothing behind");
        stop(house.opened);
    }

    #[test]
    fn a_secret_that_does_not_open_is_counted_each_time_that_a_call_needs_it() {
        let mut house = House::new();
        let missing = Place { org: DEFAULT_ORG.into(), reference: REF.into(), version: 1 };
        house.credentials.collect(&BTreeSet::new()).unwrap();
        assert_eq!(house.credentials.store().unwrap().reveal(&missing).unwrap_err().reason, Reason::VaultSlotCorrupt);
        for failures in 1..3 {
            let used = house.offer();
            house.record(&used).unwrap();
            assert_eq!(house.redeem(&used).unwrap_err(), Reason::VaultSlotCorrupt);
            assert_eq!(house.credentials.numbers().reveal_failures(), failures);
        }
        let published = house.opened.published.clone();
        let locked = Credentials::new(None, published, house.root.clock.clone(), Arc::new(SystemEntropy::default()));
        assert_eq!(locked.offer(DEFAULT_ORG, REF, Vec::new()).unwrap_err().reason, Reason::VaultLocked);
        assert_eq!((locked.numbers().reveal_failures(), house.refused()), (1, [0; 4]));
        stop(house.opened);
    }

    #[test]
    fn another_version_ends_leases_that_wait_and_lets_calls_finish() {
        let mut house = House::new();
        let used = house.offer();
        house.record(&used).unwrap();
        let going_on = house.redeem(&used).unwrap();
        let late = house.offer();
        house.set(2, "sk-second");
        assert!(!going_on.revoked.is_cancelled());
        assert_eq!(house.record(&late), Err(Reason::VaultLeaseRevoked));
        let fresh = house.offer();
        house.record(&fresh).unwrap();
        house.set(3, "sk-third");
        assert_eq!(house.redeem(&fresh).unwrap_err(), Reason::VaultLeaseRevoked);
        assert_eq!(house.refused(), [0, 0, 0, 1]);
        let newest = house.offer();
        house.record(&newest).unwrap();
        assert_eq!(house.redeem(&newest).unwrap().secret.expose(), "sk-third");
        stop(house.opened);
    }

    #[test]
    fn a_revoked_secret_subject_or_lease_cuts_the_calls_that_use_it_and_no_others() {
        let mut house = House::new();
        let used = house.offer();
        house.record(&used).unwrap();
        let cut = |house: &House, leased: &Leased, cut: &dyn Fn(&Credentials, &str)| {
            cut(&house.credentials, "other");
            assert!(!leased.revoked.is_cancelled());
            cut(&house.credentials, DEFAULT_ORG);
            assert!(leased.revoked.is_cancelled());
        };
        cut(&house, &house.redeem(&used).unwrap(), &|all, org| all.cut_slot(org, REF));
        for subject in ["route/r".to_owned(), format!("run/{}", house.run)] {
            let used = house.offer();
            house.record(&used).unwrap();
            let leased = house.redeem(&used).unwrap();
            house.credentials.cut_subject(DEFAULT_ORG, "route/else");
            cut(&house, &leased, &|all, org| all.cut_subject(org, &subject));
        }
        let used = house.offer();
        house.record(&used).unwrap();
        let leased = house.redeem(&used).unwrap();
        cut(&house, &leased, &|all, org| all.cut_lease(org, used.lease_id));
        act(&house.opened, Command::RevokeSecret(Named { org: DEFAULT_ORG.into(), reference: REF.into() })).unwrap();
        let refused = house.credentials.offer(DEFAULT_ORG, REF, Vec::new()).unwrap_err();
        assert_eq!(refused.reason, Reason::VaultLeaseRevoked);
        stop(house.opened);
    }
}
