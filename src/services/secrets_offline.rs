//! Changes to secrets of a state root that no daemon holds: the same use cases over a journal that is opened for one
//! change, and the change of the master key.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BytesMut;
use ulid::Ulid;

use super::clerk::{Clerk, ClerkThread};
use super::credentials::Credentials;
use super::desk::{By, Desk, Done, Lane, WritePath as _};
use super::house_verify::verify;
use super::opening::{Opened, Opening, open_beside};
use super::secrets::{RevocationView, SecretList, Secrets, SetSecret, StoredSecret};
use super::vault;
use crate::config::routes::Routes;
use crate::domain::actor::{Actor, ActorKind};
use crate::domain::command::Command;
use crate::domain::context::DaemonStopped;
use crate::domain::ids::BootId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{DEFAULT_ORG, Draft, Provenance};
use crate::domain::secret::Key;
use crate::domain::stream::Stream;
use crate::journal::create::read_key;
use crate::journal::layout;
use crate::journal::verify::Verdict;
use crate::journal::writer::{Journal, Options};
use crate::platform::clock::Clock;
use crate::platform::disk::Disk;
use crate::platform::entropy::Entropy;
use crate::platform::keyed::FingerprintKey;
use crate::vault::master_key::MasterKey;
use crate::vault::redaction::Redactor;
use crate::vault::store::Store;
use crate::vault::subject;

/// Where an offline change happens. Whoever makes one holds the state root's lock.
pub struct Place {
    /// The state root.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Version of the program and digest of its binary.
    pub build: String,
}

/// A journal opened for one change.
struct House {
    clerk: Clerk,
    thread: ClerkThread,
    secrets: Secrets,
    boot_id: BootId,
    /// Whether a daemon had ended cleanly before.
    clean: bool,
}

/// What came of another master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Rekeyed {
    /// Versions that are encrypted under the new key.
    pub slots: usize,
    /// Whether an earlier attempt had done that and broke off before it was recorded.
    pub resumed: bool,
}

/// Nobody follows these events.
fn no_frame(_: u64, _: &'static str, line: &[u8], out: &mut BytesMut) -> usize {
    let at = out.len();
    out.extend_from_slice(line);
    at
}

fn by() -> By {
    let actor = Actor {
        kind: ActorKind::Human,
        id: "operator".to_owned(),
        via: "cli".to_owned(),
        credential: None,
        verified: false,
    };
    let provenance = Provenance { org: DEFAULT_ORG.to_owned(), actor, on_behalf_of: Vec::new(), request: None };
    By { org: DEFAULT_ORG.to_owned(), provenance }
}

impl Place {
    fn house(&self, store: Option<Store>) -> Result<House, Refusal> {
        let subjects = vault::subjects(store.as_ref())?;
        let boot_id = BootId::from_ulid(Ulid::from_parts(self.clock.wall_ms(), self.entropy.u128()));
        let opening = Opening {
            disk: Arc::clone(&self.disk),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            options: Options { background: false, ..Options::default() },
            boot_id,
            build: self.build.clone(),
            // No calls are made offline.
            price_table: None,
            encode: no_frame,
            observe: Arc::new(|_, _| {}),
            redactor: Redactor::default(),
            subjects,
        };
        let Opened { clerk, thread, published, found } = open_beside(opening, store.as_ref())?;
        let key = FingerprintKey::new(&read_key(self.disk.as_ref(), layout::FINGERPRINT_KEY)?);
        let credentials =
            Credentials::new(store, published.clone(), Arc::clone(&self.clock), Arc::clone(&self.entropy));
        // No routes are known offline.
        let routes = Arc::new(Routes::default());
        let desk = Desk::new(Arc::new(clerk.clone()), Arc::new(published), routes.clone());
        let secrets = Secrets::new(desk, credentials, key, routes);
        let clean = found.clean || found.last_at_ms.is_none();
        Ok(House { clerk, thread, secrets, boot_id, clean })
    }

    fn opened(&self, master: Option<MasterKey>) -> Result<Option<Store>, Refusal> {
        vault::open(&self.disk, self.clock.as_ref(), &self.entropy, master)
    }

    /// Stores a secret and puts it to use.
    pub async fn set(&self, master: Option<MasterKey>, ask: SetSecret) -> Result<Done<StoredSecret>, Refusal> {
        let house = self.house(self.opened(master)?)?;
        let done = house.secrets.set(by(), ask).await;
        house.close().await.and(done)
    }

    /// Every secret's metadata.
    pub async fn list(&self, master: Option<MasterKey>) -> Result<SecretList, Refusal> {
        let house = self.house(self.opened(master)?)?;
        let list = house.secrets.list(DEFAULT_ORG);
        house.close().await.map(|()| list)
    }

    /// Deletes a secret.
    pub async fn delete(&self, master: Option<MasterKey>, reference: String) -> Result<RevocationView, Refusal> {
        let house = self.house(self.opened(master)?)?;
        let done = house.secrets.delete(by(), reference).await;
        house.close().await.and(done.map(|done| done.view))
    }

    /// Encrypts everything under another master key: one file takes the other's place, so that at each moment either the
    /// old key opens all or the new one does. An attempt that broke off behind that moment is brought to its end.
    pub async fn rekey(&self, old: MasterKey, new: MasterKey) -> Result<Rekeyed, Refusal> {
        let check = new.clone();
        let (store, rekeyed) = match self.opened(Some(old.clone())) {
            Ok(Some(store)) => {
                let mut store = self.collected(store, old).await?;
                let slots = store.rekey(&new)?;
                (store, Rekeyed { slots, resumed: false })
            }
            Ok(None) => return Err(Reason::VaultLocked.into()),
            Err(refusal) if refusal.reason == Reason::StateRootMasterKeyMismatch => {
                // The old key opens nothing: either it is wrong, or this was done before and its record is missing.
                let store = self.opened(Some(check)).map_err(|_| refusal)?.ok_or(Reason::VaultLocked)?;
                store.subjects()?.wrap_only()?;
                let slots = store.reveal_all().len();
                (store, Rekeyed { slots, resumed: true })
            }
            Err(refusal) => return Err(refusal),
        };
        let check = store.check_value().to_owned();
        let house = self.house(Some(store))?;
        let recorded = house.clerk.submit(Command::KeyVault(Key { check }), by().provenance, Lane::Ordinary).await;
        house.close().await.and(recorded)?;
        Ok(rekeyed)
    }

    /// A vault from which went what does not open and no record puts to use.
    async fn collected(&self, store: Store, master: MasterKey) -> Result<Store, Refusal> {
        if store.all_open() {
            return Ok(store);
        }
        let house = self.house(Some(store))?;
        house.secrets.settle().await;
        house.close().await?;
        self.opened(Some(master))?.ok_or_else(|| Reason::VaultLocked.into())
    }

    /// Whether a copy of a state root verifies, and holds everything that this vault holds, under this key: what a restore
    /// would need.
    pub fn proves_copy(&self, copy: &Arc<dyn Disk>, master: &MasterKey) -> Result<(), Refusal> {
        let broken = match verify(copy.as_ref(), false).journal.verdict {
            Verdict::Valid => None,
            Verdict::Invalid { file, offset, why, .. } => Some(format!("{file}, byte {offset}: {why}")),
            Verdict::Unverifiable { why } => Some(why),
        };
        if let Some(broken) = broken {
            return Err(Refusal::new(Reason::RequestInvalid, format!("The copy does not verify: {broken}.")));
        }
        let places = |disk: &Arc<dyn Disk>| -> Result<BTreeSet<String>, Refusal> {
            let store = vault::open(disk, self.clock.as_ref(), &self.entropy, Some(master.clone()))?;
            let all = store.map(|store| store.reveal_all()).unwrap_or_default();
            let slots = all.iter().map(|(place, _)| format!("{}/{}/{}", place.org, place.reference, place.version));
            Ok(slots.chain(subject::names(disk.as_ref())?).collect())
        };
        let kept = places(copy)?;
        match places(&self.disk) {
            Ok(held) if held == kept => return Ok(()),
            // Where it was broken off behind the new file, the old key opens the copy alone: what is left is its record.
            Err(refusal) if refusal.reason == Reason::StateRootMasterKeyMismatch => return Ok(()),
            Ok(_) => {}
            Err(refusal) => return Err(refusal),
        }
        Err(Refusal::new(Reason::RequestInvalid, "The copy does not hold the secrets that this state root holds."))
    }
}

impl House {
    /// Ends the journal as a daemon does that was drained, if it had been before.
    async fn close(self) -> Result<(), Refusal> {
        if self.clean {
            let stopped = Draft::new(DEFAULT_ORG, Stream::Daemon, DaemonStopped { boot_id: self.boot_id }.into());
            let by = Provenance::system("secrets");
            self.clerk.submit(Command::Note(stopped), by, Lane::Reserved).await?;
        }
        let Self { thread, clerk, secrets, .. } = self;
        drop((clerk, secrets));
        let closed = tokio::task::spawn_blocking(move || thread.finish().map(Journal::close)).await;
        closed.map_err(|_| Refusal::from(Reason::InternalError))?.transpose()?;
        Ok(())
    }
}
