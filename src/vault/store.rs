//! The vault over its file. Every change writes the whole file anew, beside the old one, and renames it over it; when a
//! method returns, the change is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::file::{FORMAT, Head, Slots};
use super::master_key::MasterKey;
use super::seal::{Place, Sealed};
use super::secret::Secret;
use super::subject::Subjects;
use crate::domain::reason::{Reason, Refusal};
use crate::platform::disk::{Disk, read_bounded, replace_atomically};
use crate::platform::entropy::Entropy;

/// The folder of the file.
pub const FOLDER: &str = "auth";
/// The file's name.
pub const NAME: &str = "global-slots.json";
/// The file, below the state root.
pub const PATH: &str = "auth/global-slots.json";
/// Where a file of which a part could not be read is put when it is written anew.
const DAMAGED: &str = "global-slots.damaged.json";
/// The same, below the state root.
pub const DAMAGED_PATH: &str = "auth/global-slots.damaged.json";
/// Largest file of slots, bytes.
const FILE_BYTES: u64 = 64 << 20;

/// The slots of a state root, with the key that opens them. Reading waits for no disk; changes take turns.
pub struct Store {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    master: MasterKey,
    head: Head,
    sealed: RwLock<Arc<Sealeds>>,
    turn: Mutex<Turn>,
}

type Sealeds = BTreeMap<Place, Slot>;

/// What is stored at a place.
#[derive(Clone)]
struct Slot {
    sealed: Sealed,
    /// Whether the key opens it, as was seen when it was read or written: whoever asks for that later decrypts nothing.
    opens: bool,
}

/// What whoever changes the file must know.
struct Turn {
    /// The file on disk holds bytes that could not be read; the next change puts it aside.
    damaged: bool,
    /// How many slots of it could not be read.
    unreadable: usize,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("slots", &self.sealed().len()).finish_non_exhaustive()
    }
}

/// Whether anything is encrypted here. A file that cannot be looked at counts.
pub fn holds_secrets(disk: &dyn Disk) -> Result<bool, Refusal> {
    Ok(look(disk)?.is_some_and(|slots| !slots.sealed.is_empty() || slots.unreadable > 0 || slots.head.is_none()))
}

/// What the file holds, as far as that can be told without a key; none where there is no file.
pub fn look(disk: &dyn Disk) -> Result<Option<Slots>, Refusal> {
    match read_bounded(disk, PATH, FILE_BYTES) {
        Ok(bytes) => Ok(Some(Slots::read(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Refusal::new(Reason::StorageAuditUnavailable, format!("reading {PATH}: {error}"))),
    }
}

impl Store {
    /// Opens the slots of this state root. A key that opens none of what is there is refused, and nothing is changed.
    pub fn open(
        disk: &Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        master: &MasterKey,
        root_id: &str,
    ) -> Result<Self, Refusal> {
        let master = master.of_root(root_id);
        let head = Head { format: FORMAT, root_id: root_id.to_owned(), check: master.check_value(root_id) };
        let known = master.clone();
        let store = |sealed, damaged, unreadable| Self {
            disk: Arc::clone(disk),
            entropy,
            master,
            head: head.clone(),
            sealed: RwLock::new(Arc::new(sealed)),
            turn: Mutex::new(Turn { damaged, unreadable }),
        };
        let Some(Slots { head: found, sealed, unreadable }) = look(disk.as_ref())? else {
            return Ok(store(BTreeMap::new(), false, 0));
        };
        if let Some(found) = found.as_ref().filter(|found| found.format > FORMAT) {
            let detail = format!("{PATH} has format {}; this Chancery reads up to {FORMAT}.", found.format);
            return Err(Refusal::new(Reason::StateRootVersionTooNew, detail));
        }
        let slot = |(place, sealed): (Place, Sealed)| {
            let opens = sealed.open(&known).is_some();
            (place, Slot { sealed, opens })
        };
        let store = store(sealed.into_iter().map(slot).collect(), unreadable > 0 || found.is_none(), unreadable);
        // A first line that was struck is mended by the next change, where the key proves itself on a slot.
        let proven = found.as_ref() == Some(&head) || store.sealed().values().any(|slot| slot.opens);
        if !proven {
            let detail = if found.is_none() && store.is_empty() {
                format!(
                    "{PATH} holds nothing that can be read: put a copy back, or remove it if no secret is to be kept."
                )
            } else {
                format!("No slot of {PATH} opens with this master key.")
            };
            return Err(Refusal::new(Reason::StateRootMasterKeyMismatch, detail));
        }
        Ok(store)
    }

    fn sealed(&self) -> Arc<Sealeds> {
        Arc::clone(&self.sealed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys of subjects that are kept beside the slots.
    pub fn subjects(&self) -> Result<Subjects, Refusal> {
        Subjects::open(&self.disk, &self.entropy, (&self.master, &self.head.check))
    }

    /// The check value of the key in use.
    pub fn check_value(&self) -> &str {
        &self.head.check
    }

    /// How many slots of the file cannot be read at all.
    pub fn unreadable(&self) -> usize {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner).unreadable
    }

    /// Whether any version of any slot is stored.
    pub fn is_empty(&self) -> bool {
        self.sealed().is_empty()
    }

    /// Whether every version that is stored opens. Decrypts nothing.
    pub fn all_open(&self) -> bool {
        self.sealed().values().all(|slot| slot.opens)
    }

    /// The secret of every version that is stored and opens, with its place.
    pub fn reveal_all(&self) -> Vec<(Place, Secret)> {
        let open = |(place, slot): (&Place, &Slot)| Some((place.clone(), slot.sealed.open(&self.master)?));
        self.sealed().iter().filter_map(open).collect()
    }

    /// Whether the secret at a place can be had. Decrypts nothing.
    pub fn opens(&self, place: &Place) -> Result<(), Refusal> {
        let slots = self.sealed();
        slots.get(place).filter(|slot| slot.opens).map(drop).ok_or_else(|| corrupt(place))
    }

    /// The secret at a place. Which version is in force, and who may have it, is decided before.
    pub fn reveal(&self, place: &Place) -> Result<Secret, Refusal> {
        let slots = self.sealed();
        slots.get(place).and_then(|slot| slot.sealed.open(&self.master)).ok_or_else(|| corrupt(place))
    }

    /// Stores a secret as a version of its slot. It is not in use until the journal says so.
    pub fn put(&self, place: Place, secret: &Secret) -> Result<(), Refusal> {
        let sealed = Sealed::new(&self.master, place.clone(), secret, self.entropy.as_ref()).ok_or_else(unencrypted)?;
        self.change(|all| {
            all.insert(place, Slot { sealed, opens: true });
            true
        })
    }

    /// Removes what is not in force: superseded and deleted versions, and those that were written but never activated.
    pub fn collect(&self, in_force: &BTreeSet<Place>) -> Result<(), Refusal> {
        self.change(|all| {
            let before = all.len();
            all.retain(|place, _| in_force.contains(place));
            all.len() < before
        })
    }

    /// Makes a change that is on disk when this returns, or none. A file of which a part cannot be read, or from which
    /// goes what does not open, is put aside before, for somebody to look at.
    fn change(&self, change: impl FnOnce(&mut Sealeds) -> bool) -> Result<(), Refusal> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sealed = Sealeds::clone(&self.sealed());
        if !change(&mut sealed) {
            return Ok(());
        }
        let lost = self.sealed().iter().any(|(place, slot)| !slot.opens && !sealed.contains_key(place));
        if turn.damaged || lost {
            // A copy, so that at no moment the folder looks as if it never held a secret.
            let bytes = read_bounded(self.disk.as_ref(), PATH, FILE_BYTES).map_err(|error| unwritten(&error))?;
            replace_atomically(self.disk.as_ref(), FOLDER, DAMAGED, &bytes).map_err(|error| unwritten(&error))?;
            (turn.damaged, turn.unreadable) = (false, 0);
        }
        self.write(&self.head, &sealed)?;
        *self.sealed.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sealed);
        Ok(())
    }

    /// Encrypts everything under another master key, all or nothing: until the new file stands in the old one's place, the
    /// old key opens it. What does not open refuses, for the new key would never open it; whoever calls has collected.
    pub fn rekey(&mut self, next: &MasterKey) -> Result<usize, Refusal> {
        if self.turn.lock().unwrap_or_else(PoisonError::into_inner).damaged {
            let detail =
                format!("{PATH} is damaged: store or delete a secret first, which puts the damaged file aside.");
            return Err(Refusal::new(Reason::VaultSlotCorrupt, detail));
        }
        let mut sealed = BTreeMap::new();
        let next = next.of_root(&self.head.root_id);
        for place in self.sealed().keys() {
            let secret = self.reveal(place).map_err(|refusal| {
                let detail = format!(
                    "{} does not open: store it again with `chancery secrets set`, or delete it with `chancery secrets delete`.",
                    refusal.detail
                );
                Refusal::new(refusal.reason, detail)
            })?;
            let again = Sealed::new(&next, place.clone(), &secret, self.entropy.as_ref()).ok_or_else(unencrypted)?;
            sealed.insert(place.clone(), Slot { sealed: again, opens: true });
        }
        let head = Head { check: next.check_value(&self.head.root_id), ..self.head.clone() };
        // The file of slots says which key is in force, so there is one, and until its place is taken both keys open every
        // subject's.
        self.write(&self.head, &self.sealed())?;
        self.subjects()?.wrap_also((&next, &head.check))?;
        self.write(&head, &sealed)?;
        let slots = sealed.len();
        (self.master, self.head, self.sealed) = (next, head, RwLock::new(Arc::new(sealed)));
        self.subjects()?.wrap_only()?;
        Ok(slots)
    }

    fn write(&self, head: &Head, sealed: &Sealeds) -> Result<(), Refusal> {
        let bytes = Slots::render(head, sealed.values().map(|slot| slot.sealed.clone()));
        if bytes.len() as u64 > FILE_BYTES {
            return Err(Refusal::new(
                Reason::RequestInvalid,
                format!("The secrets take more than {FILE_BYTES} bytes."),
            ));
        }
        replace_atomically(self.disk.as_ref(), FOLDER, NAME, &bytes).map_err(|error| unwritten(&error))
    }
}

fn corrupt(place: &Place) -> Refusal {
    Refusal::new(Reason::VaultSlotCorrupt, format!("{} version {}", place.reference, place.version))
}

pub(super) fn unencrypted() -> Refusal {
    Refusal::new(Reason::InternalError, "The secret could not be encrypted.")
}

pub(super) fn unwritten(error: &io::Error) -> Refusal {
    let reason = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::StorageFull,
        io::ErrorKind::ReadOnlyFilesystem => Reason::StorageReadOnly,
        _ => Reason::StorageAuditUnavailable,
    };
    Refusal::new(reason, format!("writing below {FOLDER}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::entropy::SystemEntropy;
    use crate::platform::files::Folder;
    use crate::platform::sim_disk::{Fault, SimDisk};

    struct House {
        folder: tempfile::TempDir,
    }

    impl House {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn disk(&self) -> Arc<dyn Disk> {
            let folder = Folder::create(self.folder.path()).unwrap();
            folder.create_dir(FOLDER).unwrap();
            Arc::new(folder)
        }

        fn open(&self, digit: char) -> Result<Store, Refusal> {
            Store::open(&self.disk(), Arc::new(SystemEntropy::default()), &master(digit), "root_x")
        }

        fn bytes(&self) -> Vec<u8> {
            read_bounded(self.disk().as_ref(), PATH, FILE_BYTES).unwrap()
        }

        fn overwrite(&self, bytes: &[u8]) {
            replace_atomically(self.disk().as_ref(), FOLDER, NAME, bytes).unwrap();
        }
    }

    fn master(digit: char) -> MasterKey {
        MasterKey::parse(&format!("{}{digit}", "0".repeat(63)), "here").unwrap()
    }

    fn place(reference: &str, version: u64) -> Place {
        Place { org: "default".into(), reference: reference.into(), version }
    }

    fn secret(text: &str) -> Secret {
        Secret::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_was_put_is_there_after_a_restart_and_only_for_the_same_key() {
        let house = House::new();
        house.open('1').unwrap().put(place("openai.prod", 1), &secret("sk-one")).unwrap();
        assert_eq!(house.open('1').unwrap().reveal(&place("openai.prod", 1)).unwrap().expose(), "sk-one");
        let before = house.bytes();
        assert_eq!(house.open('2').unwrap_err().reason, Reason::StateRootMasterKeyMismatch);
        assert_eq!(house.bytes(), before);
        assert!(holds_secrets(house.disk().as_ref()).unwrap());
    }

    #[test]
    fn only_versions_that_are_in_force_stay_and_what_does_not_open_is_put_aside() {
        let house = House::new();
        let store = house.open('1').unwrap();
        for version in 1..=3 {
            store.put(place("openai.prod", version), &secret("sk-one")).unwrap();
        }
        let broken = String::from_utf8(house.bytes()).unwrap().replacen("\"version\":2", "\"version\":4", 1);
        house.overwrite(broken.as_bytes());
        let store = house.open('1').unwrap();
        assert_eq!(store.reveal(&place("openai.prod", 4)).unwrap_err().reason, Reason::VaultSlotCorrupt);
        store.collect(&BTreeSet::from([place("openai.prod", 3)])).unwrap();
        let kept: Vec<u64> = house.open('1').unwrap().sealed().keys().map(|place| place.version).collect();
        assert_eq!(kept, [3]);
        let aside = read_bounded(house.disk().as_ref(), DAMAGED_PATH, FILE_BYTES).unwrap();
        assert_eq!(aside, broken.as_bytes());
    }

    #[test]
    fn a_damaged_file_keeps_what_opens_and_is_put_aside_by_the_next_change() {
        let house = House::new();
        let store = house.open('1').unwrap();
        store.put(place("a", 1), &secret("sk-one")).unwrap();
        store.put(place("b", 1), &secret("sk-two")).unwrap();
        let struck = String::from_utf8(house.bytes()).unwrap().replacen("\"check\":\"", "\"check\":\"~", 1);
        let struck = struck.replacen("{\"org\":\"default\",\"ref\":\"a\"", "{\"orh\":\"default\",\"ref\":\"a\"", 1);
        house.overwrite(struck.as_bytes());
        assert_eq!(house.open('2').unwrap_err().reason, Reason::StateRootMasterKeyMismatch);
        let store = house.open('1').unwrap();
        assert!(store.reveal(&place("a", 1)).is_err());
        assert_eq!(store.reveal(&place("b", 1)).unwrap().expose(), "sk-two");
        store.put(place("c", 1), &secret("sk-three")).unwrap();
        let aside = read_bounded(house.disk().as_ref(), DAMAGED_PATH, FILE_BYTES).unwrap();
        assert_eq!(aside, struck.as_bytes());
        assert_eq!(house.open('1').unwrap().sealed().len(), 2);
    }

    #[test]
    fn whether_a_slot_opens_is_known_from_when_it_was_read_or_written_and_asking_decrypts_nothing() {
        let house = House::new();
        house.open('1').unwrap().put(place("a", 1), &secret("sk-one")).unwrap();
        let struck = String::from_utf8(house.bytes()).unwrap().replacen("\"version\":1", "\"version\":2", 1);
        house.overwrite(struck.as_bytes());
        let mut store = house.open('1').unwrap();
        store.put(place("b", 1), &secret("sk-two")).unwrap();
        // With this key nothing could be decrypted any more.
        store.master = master('2').of_root("root_x");
        assert!(store.reveal(&place("b", 1)).is_err());
        store.opens(&place("b", 1)).unwrap();
        for (reference, version) in [("a", 2), ("a", 1), ("c", 1)] {
            assert_eq!(store.opens(&place(reference, version)).unwrap_err().reason, Reason::VaultSlotCorrupt);
        }
    }

    #[test]
    fn after_a_change_of_the_master_key_only_the_new_one_opens() {
        let house = House::new();
        let mut store = house.open('1').unwrap();
        store.put(place("a", 1), &secret("sk-one")).unwrap();
        assert_eq!(store.rekey(&master('2')).unwrap(), 1);
        assert_eq!(house.open('1').unwrap_err().reason, Reason::StateRootMasterKeyMismatch);
        assert_eq!(house.open('2').unwrap().reveal(&place("a", 1)).unwrap().expose(), "sk-one");
    }

    #[test]
    fn power_that_is_lost_at_any_moment_of_a_change_of_the_master_key_leaves_all_under_one_key() {
        let open = |disk: &SimDisk, digit| {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            Store::open(&disk, Arc::new(SystemEntropy::default()), &master(digit), "root_x")
        };
        let whole = |store: &Store| store.reveal_all().len() == 3;
        let (mut old, mut new) = (0, 0);
        for cut in 1.. {
            let disk = SimDisk::new(cut);
            disk.create_dir(FOLDER).unwrap();
            disk.sync_dir("").unwrap();
            let mut store = open(&disk, '1').unwrap();
            for version in 1..=3 {
                store.put(place("a", version), &secret("sk-one")).unwrap();
            }
            disk.set_fault(Fault::PowerCut(cut));
            let done = store.rekey(&master('2')).is_ok();
            let left = disk.after_power_cut();
            match (open(&left, '1'), open(&left, '2')) {
                (Ok(store), Err(_)) if whole(&store) && !done => old += 1,
                (Err(_), Ok(store)) if whole(&store) => new += 1,
                both => panic!("cut {cut}: {both:?}"),
            }
            if done && !disk.is_dead() {
                break;
            }
        }
        assert!(old > 0 && new > 0, "{old} cuts left the old key, {new} the new one");
    }
}
