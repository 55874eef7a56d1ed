//! The handover of the signing key on a disk that loses power.

use chancery::domain::event::Event;
use chancery::journal::error::OpenError;
use chancery::journal::keys::{KeyEntry, StateRoot};
use chancery::journal::note::Note;
use chancery::journal::proof::Receipt;
use chancery::journal::recovery::read_root;
use chancery::platform::entropy::Entropy;

use super::*;

/// Batches before the handover, and behind it.
const BEFORE: u64 = 5;
const BEHIND: u64 = 3;

/// Draws another key each time.
fn entropy(skip: u64) -> FakeEntropy {
    let entropy = FakeEntropy::default();
    (0..100 + skip * 2).for_each(|_| {
        entropy.u128();
    });
    entropy
}

/// A handover as the clerk does it.
pub(super) fn rotate(journal: &mut Journal, skip: u64) -> Result<(), WriteError> {
    let next = journal.next_key(&entropy(skip))?;
    let mut batch = journal.begin()?;
    let event: Event = next.announcement().into();
    let record = Record::by_system(batch.next_seq(), batch.ctx(), 1_700_000_000_000, Stream::Journal, event);
    batch.push(&record)?;
    let handed = journal.hand_over(batch, next)?;
    journal.finish_handover(handed)
}

/// A journal with some batches; then, under the fault, the handover, more batches and `acked`. Gives what was
/// acknowledged, and whether the handover was.
fn rotated(disk: &SimDisk, fault: Fault) -> (u64, bool) {
    let (mut journal, _) = start(disk).unwrap();
    assert_eq!(workload(&mut journal, BEFORE), BEFORE);
    disk.set_fault(fault);
    if rotate(&mut journal, 1).is_err() {
        return (BEFORE, false);
    }
    for number in BEFORE + 1..=BEFORE + BEHIND {
        if write(&mut journal, number, 1 + number % 4).is_err() {
            return (number - 1, true);
        }
        if journal.write_acked().is_err() {
            return (number, true);
        }
    }
    (BEFORE + BEHIND, true)
}

fn operations() -> u64 {
    let disk = SimDisk::new(1);
    assert_eq!(rotated(&disk, Fault::None), (BEFORE + BEHIND, true));
    disk.counts().0
}

/// Starts a disk that may have been cut in a handover, and demands all that a handover promises.
fn assert_settled(disk: &SimDisk, (acknowledged, handed): (u64, bool), context: &str) {
    let (mut journal, found) = start(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_prefix(&found, acknowledged, context);
    let keys = || read_root(disk).unwrap().0.keys.len();
    assert!(keys() == 2 || (keys() == 1 && !handed), "{context}: {} keys", keys());
    assert_eq!(disk.content(layout::SIGNING_KEY_NEXT), None, "{context}");
    let before = keys();
    rotate(&mut journal, 2).unwrap_or_else(|error| panic!("{context}: {error}"));
    write(&mut journal, 99, 2).unwrap();
    journal.close().unwrap();
    assert_eq!((verify(disk, false).verdict, keys()), (Verdict::Valid, before + 1), "{context}");
}

#[test]
fn a_handover_that_lacks_descriptors_is_refused_for_now_and_stops_nothing_else() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = start(&disk).unwrap();
    write(&mut journal, 1, 2).unwrap();
    // `state-root.json` is opened, then the next key's file.
    for opening in [1, 2] {
        disk.set_fault(Fault::OpenError(opening, Errno::MFILE));
        let refused = rotate(&mut journal, 1);
        assert!(matches!(refused, Err(WriteError::Exhausted(_))), "{opening}: {refused:?}");
        write(&mut journal, 1 + opening, 2).unwrap();
    }
    rotate(&mut journal, 1).unwrap();
    journal.close().unwrap();
    assert_eq!(verify(&disk, false).verdict, Verdict::Valid);
}

#[test]
fn a_start_finishes_or_drops_a_handover_that_was_cut_at_any_operation_and_loses_nothing() {
    let mut kept = [0, 0];
    for operation in 1..=operations() + 1 {
        for seed in 0..12 {
            let disk = SimDisk::new(seed * 1_000 + operation);
            let outcome = rotated(&disk, Fault::PowerCut(operation));
            let killed = disk.after_kill();
            let cuts = [("power", disk.after_power_cut()), ("kill", killed.copy()), ("both", killed.after_power_cut())];
            for (how, next) in cuts {
                // A kill that is followed by a power cut loses pages like a power cut alone.
                assert_settled(&next, outcome, &format!("{how} at operation {operation}, seed {seed}"));
                kept[read_root(&next).unwrap().0.keys.len() - 2] += 1;
            }
        }
    }
    assert!(kept[0] > 0 && kept[1] > 0, "handovers were both dropped and finished: {kept:?}");
}

#[test]
fn power_cuts_while_a_start_finishes_a_handover_change_nothing_about_its_end() {
    for operation in 1..=operations() {
        for cut in 1..16 {
            let disk = SimDisk::new(operation * 100 + cut);
            let outcome = rotated(&disk, Fault::PowerCut(operation));
            for mut torn in [disk.after_kill(), disk.after_power_cut()] {
                for again in 0..3 {
                    torn.set_fault(Fault::PowerCut(cut + again));
                    let _ = start(&torn);
                    torn = torn.after_power_cut();
                    torn.set_fault(Fault::None);
                }
                assert_settled(&torn, outcome, &format!("operation {operation}, cut {cut} of the start"));
            }
        }
    }
}

#[test]
fn a_failed_write_or_sync_behind_the_seal_poisons_and_the_next_start_finishes_the_handover() {
    let (syncs, writes) = {
        let disk = SimDisk::new(1);
        rotated(&disk, Fault::None);
        (disk.counts().1, disk.counts().2)
    };
    let mut poisoned = 0;
    for fault in (1..=syncs).map(Fault::SyncError).chain((1..=writes).map(Fault::WriteError)) {
        let disk = SimDisk::new(3);
        let (mut journal, _) = start(&disk).unwrap();
        workload(&mut journal, BEFORE);
        disk.set_fault(fault);
        let handed = rotate(&mut journal, 1).is_ok();
        if !handed {
            assert!(matches!(write(&mut journal, 99, 1), Err(WriteError::Poisoned(_))), "{fault:?}");
            poisoned += 1;
        }
        for next in [disk.after_kill(), disk.after_power_cut()] {
            let (_, found) = start(&next).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            assert_prefix(&found, BEFORE, &format!("{fault:?}"));
            assert!(read_root(&next).unwrap().0.keys.len() == 2 || !handed, "{fault:?}");
        }
    }
    assert!(poisoned >= 6, "{poisoned}");
}

#[test]
fn a_next_key_that_is_gone_or_torn_refuses_where_a_seal_hands_over_to_it_and_is_removed_where_none_does() {
    let (mut refused, mut removed) = (0, 0);
    for operation in 1..=operations() {
        let disk = SimDisk::new(operation);
        rotated(&disk, Fault::PowerCut(operation));
        let killed = disk.after_kill();
        if killed.content(layout::SIGNING_KEY_NEXT).is_none_or(|seed| seed.len() != 32) {
            continue;
        }
        let whole = killed.copy();
        drop(start(&whole).unwrap());
        let sealed = read_root(&whole).unwrap().0.keys.len() == 2;
        let torn = killed.copy();
        torn.tamper(layout::SIGNING_KEY_NEXT, |seed| seed.truncate(5));
        if sealed {
            let gone = killed.copy();
            gone.tamper_names(|names| {
                names.remove(layout::SIGNING_KEY_NEXT);
            });
            for changed in [&torn, &gone] {
                let error = start(changed).err().unwrap_or_else(|| panic!("operation {operation} starts"));
                assert!(matches!(error, OpenError::Keys(_)), "operation {operation}: {error}");
            }
            assert_eq!(torn.content(layout::SIGNING_KEY_NEXT).map(|seed| seed.len()), Some(5), "nothing was removed");
            refused += 1;
        } else {
            drop(start(&torn).unwrap_or_else(|error| panic!("operation {operation}: {error}")));
            assert_eq!(torn.content(layout::SIGNING_KEY_NEXT), None);
            removed += 1;
        }
    }
    assert!(refused > 0 && removed > 0, "{refused} {removed}");
}

#[test]
fn receipts_from_before_and_behind_a_handover_lead_back_to_the_pin_and_a_forged_entry_is_refused() {
    let disk = SimDisk::new(9);
    let (mut journal, _) = start(&disk).unwrap();
    workload(&mut journal, BEFORE);
    let old = journal.note().clone();
    rotate(&mut journal, 1).unwrap();
    let both = journal.note().clone();
    write(&mut journal, BEFORE + 1, 2).unwrap();
    let new = journal.note().clone();
    let (root, ring) = read_root(&disk).unwrap();
    let ((_, pin), (_, newest)) = (ring.pin().unwrap(), ring.newest().unwrap());
    let at = |seq: u64, note: &Note| Receipt::make(journal.reader(), seq, Some(note.size)).unwrap();
    assert!(at(1, &old).verify(&pin).is_ok() && at(1, &old).verify(&newest).is_err());
    // The record that hands over is proven to whoever has the pin, and names the key that proves what follows.
    let announced = at(both.size - 1, &both);
    assert!(announced.verify(&pin).is_ok() && announced.verify(&newest).is_ok());
    assert!(announced.line.contains(&root.keys[1].public_key), "{}", announced.line);
    assert!(at(1, &new).verify(&newest).is_ok() && at(1, &new).verify(&pin).is_err());
    assert!([&old, &both, &new].into_iter().all(|note| ring.accepts(note)));
    journal.close().unwrap();
    assert_eq!(verify(&disk, false).verdict, Verdict::Valid);
    let stranger = &root.keys[0].public_key;
    let entry = root.keys[1].clone();
    for forged in [
        KeyEntry { public_key: stranger.clone(), ..entry.clone() },
        KeyEntry { from_seq: entry.from_seq - 1, ..entry.clone() },
        KeyEntry { note: Some(new.render()), ..entry.clone() },
        KeyEntry { note: Some(old.render()), ..entry },
    ] {
        let changed = disk.copy();
        let forged = StateRoot { keys: vec![root.keys[0].clone(), forged], ..root.clone() };
        changed.tamper(layout::STATE_ROOT, |bytes| *bytes = forged.render());
        assert!(matches!(verify(&changed, false).verdict, Verdict::Invalid { .. }), "{forged:?}");
        assert!(matches!(start(&changed), Err(OpenError::Keys(_))), "{forged:?}");
    }
}
