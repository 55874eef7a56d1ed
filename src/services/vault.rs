//! The vault of a start: opened before the journal is written, and compared with what the journal knows of it.

use std::sync::Arc;

use crate::domain::reason::{Reason, Refusal};
use crate::journal::error::OpenError;
use crate::journal::{create, recovery};
use crate::platform::clock::Clock;
use crate::platform::disk::Disk;
use crate::platform::entropy::Entropy;
use crate::projections::Models;
use crate::vault::master_key::{MasterKey, VARIABLE};
use crate::vault::store::{self, Store};
use crate::vault::subject::{self, Subjects};

/// Opens the vault of a state root, which is made where there is none. A key that does not fit, or none where secrets
/// are stored, refuses and changes nothing.
pub fn open(
    disk: &Arc<dyn Disk>,
    clock: &dyn Clock,
    entropy: &Arc<dyn Entropy>,
    master: Option<MasterKey>,
) -> Result<Option<Store>, Refusal> {
    let Some(master) = master else {
        if store::holds_secrets(disk.as_ref())? {
            let detail = format!("{} is encrypted and no master key was given: set {VARIABLE}_FILE.", store::PATH);
            return Err(Refusal::new(Reason::StateRootMasterKeyMismatch, detail));
        }
        if !subject::names(disk.as_ref())?.is_empty() {
            let detail = format!(
                "The keys in {} are encrypted and no master key was given: set {VARIABLE}_FILE.",
                subject::FOLDER
            );
            return Err(Refusal::new(Reason::StateRootMasterKeyMismatch, detail));
        }
        return Ok(None);
    };
    let root_id = if create::exists(disk.as_ref())? {
        recovery::read_root(disk.as_ref())?.0.id
    } else {
        create::create(disk.as_ref(), clock, entropy.as_ref()).map_err(|error: OpenError| Refusal::from(error))?.id
    };
    Store::open(disk, Arc::clone(entropy), &master, &root_id.to_string()).map(Some)
}

/// The keys of sessions' words, of which a vault without a master key has none.
pub fn subjects(store: Option<&Store>) -> Result<Subjects, Refusal> {
    store.map_or_else(|| Ok(Subjects::default()), Store::subjects)
}

/// Compares the vault with what the journal knows; writes nothing. A key that is not the recorded one is taken where it opens what is
/// stored, for then the record of a change of keys is what is missing; where nothing is stored, it is another key beside
/// secrets that were lost.
pub fn compare(models: &Models, store: Option<&Store>) -> Result<(), Refusal> {
    let vault = &models.vault;
    let kept = vault.in_force(&models.names).count();
    let Some(store) = store else { return Ok(()) };
    if kept > 0 && store.is_empty() && vault.check.as_deref().is_some_and(|check| check != store.check_value()) {
        let detail = format!(
            "The journal knows {kept} secrets under another master key, and {} holds none of them.",
            store::PATH
        );
        return Err(Refusal::new(Reason::StateRootMasterKeyMismatch, detail));
    }
    Ok(())
}
