//! Keys of subjects: what moved, cut or changed parts give, power cuts, other master keys, and changes of it.

use super::*;
use crate::platform::entropy::SystemEntropy;
use crate::platform::sim_disk::{Fault, SimDisk};
use crate::vault::seal::Place;
use crate::vault::secret::Secret;
use crate::vault::store::{self, Store};

const WORDS: &str = "What nobody shall read.";

fn master(digit: char) -> MasterKey {
    MasterKey::parse(&format!("{}{digit}", "0".repeat(63)), "here").unwrap()
}

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir(store::FOLDER).unwrap();
    disk.sync_dir("").unwrap();
    disk
}

fn store(disk: &SimDisk, digit: char) -> Result<Store, Refusal> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(&disk, Arc::new(SystemEntropy::default()), &master(digit), "root_a")
}

fn subjects(disk: &SimDisk, digit: char) -> Result<Subjects, Refusal> {
    store(disk, digit)?.subjects()
}

#[test]
fn a_key_is_on_disk_when_it_is_made_and_only_its_own_words_open_under_it() {
    let disk = disk();
    let made = subjects(&disk, '1').unwrap();
    let (one, other) = (made.make("default").unwrap(), made.make("default").unwrap());
    let part = made.seal(one, WORDS).unwrap();
    assert_ne!(part, made.seal(one, WORDS).unwrap(), "each nonce is fresh");
    let blob = made.seal_blob(one, WORDS).unwrap();
    let later = subjects(&disk.after_power_cut(), '1').unwrap();
    assert_eq!(later.open_part(&part).as_deref(), Some(WORDS));
    assert_eq!(later.open_blob(blob.clone()).as_deref(), Some(WORDS.as_bytes()));
    assert_eq!(later.open_blob(WORDS.into()).as_deref(), Some(WORDS.as_bytes()), "a clear blob is what it is");
    assert_eq!(crate::domain::personal::Personal::Sealed { sealed: part.clone() }.bytes(), WORDS.len());
    let moved = SealedPart { key: other.to_string(), ..part.clone() };
    let cut = SealedPart { ct: part.ct[4..].to_owned(), ..part.clone() };
    for wrong in [moved, cut, SealedPart { nonce: String::new(), ..part.clone() }] {
        assert_eq!(later.open_part(&wrong), None, "{wrong:?}");
    }
    for at in 0..blob.len() {
        let mut wrong = blob.clone();
        wrong[at] ^= 1;
        assert_ne!(later.open_blob(wrong).as_deref(), Some(WORDS.as_bytes()), "byte {at}");
    }
    assert_eq!(made.keyed_hash(one, WORDS), later.keyed_hash(one, WORDS));
    assert_ne!(made.keyed_hash(one, WORDS), made.keyed_hash(other, WORDS));
}

#[test]
fn a_key_file_opens_for_its_own_organisation_and_name_alone() {
    let disk = disk();
    let made = subjects(&disk, '1').unwrap();
    let (one, other) = (made.make("default").unwrap(), made.make("default").unwrap());
    let part = made.seal(one, WORDS).unwrap();
    let path = |id| join(FOLDER, &name_of(id));
    let good = read_bounded(&disk, &path(one), FILE_BYTES).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    for wrong in [
        text.replace("\"default\"", "\"elsewhere\""),
        String::from_utf8(read_bounded(&disk, &path(other), FILE_BYTES).unwrap()).unwrap(),
        String::from_utf8(read_bounded(&disk, &path(other), FILE_BYTES).unwrap())
            .unwrap()
            .replace(&other.to_string(), &one.to_string()),
    ] {
        replace_atomically(&disk, FOLDER, &name_of(one), wrong.as_bytes()).unwrap();
        assert_eq!(subjects(&disk, '1').unwrap().open_part(&part), None, "{wrong}");
    }
    replace_atomically(&disk, FOLDER, &name_of(one), &good).unwrap();
    assert!(subjects(&disk, '1').unwrap().open_part(&part).is_some());
}

#[test]
fn a_destroyed_key_is_gone_from_memory_and_disk_and_from_a_copy_that_is_put_back() {
    let disk = disk();
    let made = subjects(&disk, '1').unwrap();
    let (one, other) = (made.make("default").unwrap(), made.make("default").unwrap());
    let (part, kept) = (made.seal(one, WORDS).unwrap(), made.seal(other, WORDS).unwrap());
    let before = disk.copy();
    made.destroy(one).unwrap();
    made.destroy(one).unwrap();
    assert_eq!(made.open_part(&part), None);
    assert_eq!(made.seal(one, WORDS).unwrap_err().reason, Reason::VaultSlotCorrupt);
    assert!(made.open_part(&kept).is_some());
    let later = disk.after_power_cut();
    assert_eq!(names(&later).unwrap(), [name_of(other)]);
    // As where the start before died between the record and the file.
    let restored = subjects(&before, '1').unwrap();
    assert_eq!(restored.finish(|key| key == one), Ok(1));
    assert_eq!(restored.finish(|key| key == one), Ok(0));
    assert_eq!((restored.open_part(&part), restored.open_part(&kept).as_deref()), (None, Some(WORDS)));
}

#[test]
fn a_key_that_the_disk_does_not_let_go_opens_nothing_any_more() {
    let disk = disk();
    let made = subjects(&disk, '1').unwrap();
    let one = made.make("default").unwrap();
    let part = made.seal(one, WORDS).unwrap();
    disk.set_fault(Fault::ReadOnly);
    assert_eq!(made.destroy(one).unwrap_err().reason, Reason::StorageReadOnly);
    assert_eq!(made.open_part(&part), None, "its file is still there");
    disk.set_fault(Fault::None);
    made.destroy(one).unwrap();
    assert_eq!(names(&disk).unwrap(), Vec::<String>::new());
}

#[test]
fn without_the_master_key_nothing_is_made_and_another_one_is_refused() {
    let disk = disk();
    let none = Subjects::default();
    assert_eq!(none.make("default").unwrap_err().reason, Reason::VaultLocked);
    subjects(&disk, '1').unwrap().make("default").unwrap();
    assert_eq!(subjects(&disk, '2').err().unwrap().reason, Reason::StateRootMasterKeyMismatch);
}

#[test]
fn wherever_a_change_of_the_master_key_breaks_off_one_key_opens_everything() {
    let mut outcomes = std::collections::BTreeSet::new();
    for bytes in (0..4_000).step_by(16) {
        let disk = disk();
        let mut old = store(&disk, '1').unwrap();
        let place = Place { org: "default".into(), reference: "a.key".into(), version: 1 };
        old.put(place.clone(), &Secret::parse(b"sk-0123456789abcdef").unwrap()).unwrap();
        let made = old.subjects().unwrap();
        let parts: Vec<SealedPart> = (0..3).map(|_| made.seal(made.make("default").unwrap(), WORDS).unwrap()).collect();
        disk.set_fault(Fault::Full(bytes));
        let done = old.rekey(&master('2')).is_ok();
        disk.set_fault(Fault::None);
        let in_force = if store(&disk, '1').is_ok() { '1' } else { '2' };
        outcomes.insert((done, in_force));
        assert!(store(&disk, if in_force == '1' { '2' } else { '1' }).is_err(), "two keys are in force");
        let store = store(&disk, in_force).unwrap();
        assert!(store.reveal(&place).is_ok());
        let subjects = store.subjects().unwrap();
        assert!(parts.iter().all(|part| subjects.open_part(part).as_deref() == Some(WORDS)), "{bytes} bytes");
        subjects.wrap_only().unwrap();
        assert!(parts.iter().all(|part| subjects.open_part(part).is_some()));
    }
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [(false, '1'), (true, '2')]);
}

#[test]
fn a_change_of_the_master_key_that_died_behind_its_moment_is_brought_to_its_end() {
    let disk = disk();
    let mut store = store(&disk, '1').unwrap();
    let made = store.subjects().unwrap();
    let key = made.make("default").unwrap();
    let part = made.seal(key, WORDS).unwrap();
    let next = master('2').of_root("root_a");
    made.wrap_also((&next, &next.check_value("root_a"))).unwrap();
    let both = read_bounded(&disk, &join(FOLDER, &name_of(key)), FILE_BYTES).unwrap();
    store.rekey(&master('2')).unwrap();
    replace_atomically(&disk, FOLDER, &name_of(key), &both).unwrap();
    let subjects = subjects(&disk, '2').unwrap();
    subjects.wrap_only().unwrap();
    assert_eq!(subjects.open_part(&part).as_deref(), Some(WORDS));
    assert_eq!(subjects.inner().unwrap().read(key).unwrap().wraps.len(), 1, "the old key opens nothing any more");
}
