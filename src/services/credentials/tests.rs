//! Leases from their offer to the end of their call, and what revokes them.

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
        let body =
            Activated { reference, provider: Provider::OpenAi, version, fp, last4: None, leases_revoked: Vec::new() };
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
