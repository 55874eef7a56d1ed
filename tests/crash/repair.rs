//! Repair of a journal that refuses to open, on a disk that loses power.

use std::collections::BTreeSet;

use chancery::domain::event::Event;
use chancery::domain::ids::EpochId;
use chancery::journal::recovery::read_root;
use chancery::journal::repair;
use chancery::platform::clock::Clock;
use chancery::services::repair::{Outcome, repair as repair_root};
use sha2::{Digest as _, Sha256};

use super::*;

/// Repairs as the command does.
fn run(disk: &SimDisk, accepted: Option<u64>) -> Result<Outcome, chancery::domain::reason::Refusal> {
    let clock: Arc<dyn Clock> = Arc::new(FakeClock::at(1_700_000_100_000, 1_000));
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    repair_root(&disk, &clock, &FakeEntropy::default(), "0.1.0+test".to_owned(), accepted)
}

fn loss(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::WouldLose { lost, .. } | Outcome::Repaired { lost, .. } => *lost,
        Outcome::NotNeeded => panic!("a repair is needed"),
    }
}

/// All bytes of the journal's folder and of the quarantine, cut into lines.
fn lines(disk: &SimDisk) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    for folder in [layout::FOLDER, layout::QUARANTINE] {
        for entry in disk.list(folder).unwrap().into_iter().filter(|entry| entry.plain) {
            let bytes = disk.content(&format!("{folder}/{}", entry.name)).unwrap();
            all.extend(bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
    }
    all
}

fn repaired_record(disk: &SimDisk) -> chancery::domain::journal::Repaired {
    let mut found = Vec::new();
    recovery::read(disk, None, &mut |record: Record| {
        if let Event::JournalRepaired(body) = record.event {
            found.push(body);
        }
    })
    .unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// What holds after every repair: it starts, verifies, keeps a prefix, and nothing that stood there is gone.
fn assert_repaired(disk: &SimDisk, before: &SimDisk, whole: &Found, context: &str) {
    assert!(repair::begun(disk).unwrap().is_none(), "{context}");
    let report = verify(disk, false);
    assert_eq!(report.verdict, Verdict::Valid, "{context}");
    let (mut journal, found) = start(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(whole.starts_with(&found), "{context}: not a prefix");
    write(&mut journal, 99, 2).unwrap();
    journal.close().unwrap();
    assert_eq!(verify(disk, false).verdict, Verdict::Valid, "{context}");
    let (body, (root, _)) = (repaired_record(disk), read_root(disk).unwrap());
    assert_eq!(root.keys.last().map(|entry| (entry.epoch, entry.from_seq)), Some((body.epoch, body.lost_from_seq)));
    for file in &body.files {
        let bytes = disk.content(&format!("{}/{}", layout::QUARANTINE, file.file)).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes)), file.sha256, "{context}");
    }
    // `acked` is made anew; every line of the segments is still somewhere.
    let (was, is) = (lines(before), lines(disk));
    let gone: Vec<_> = was.difference(&is).filter(|line| line.starts_with(b"{")).collect();
    assert!(gone.is_empty(), "{context}: {} lines are gone", gone.len());
    assert_eq!(run(disk, None), Ok(Outcome::NotNeeded), "{context}");
}

/// A drained journal with this byte changed, counted over all of its segments' data.
fn rotten(disk: &SimDisk, segment: usize, part: usize) -> SimDisk {
    let changed = disk.copy();
    let names: Vec<String> =
        disk.list(layout::FOLDER).unwrap().into_iter().filter(|e| e.name.ends_with(".jsonl")).map(|e| e.name).collect();
    changed.tamper(&format!("{}/{}", layout::FOLDER, names[segment]), |bytes| {
        let data = bytes.iter().rposition(|byte| *byte != b'\n').unwrap();
        let at = (data - 1) * part / 10;
        bytes[at] ^= 0x01;
    });
    changed
}

#[test]
fn a_journal_with_a_changed_byte_is_repaired_to_the_last_batch_that_verifies_and_names_what_was_lost() {
    let (disk, found) = drained();
    let mut repaired = 0;
    for segment in 0..3 {
        for part in 0..10 {
            let changed = rotten(&disk, segment, part);
            let context = format!("segment {segment}, part {part}");
            let Ok(would) = run(&changed, None) else {
                assert_eq!(segment, 0, "{context}: only where not even the first batch verifies");
                continue;
            };
            let lost = loss(&would);
            assert!(matches!(would, Outcome::WouldLose { .. }) && lost > 0, "{context}: {would:?}");
            let untouched = changed.copy();
            assert_eq!(run(&changed, Some(lost + 1)), Ok(would), "{context}: another number is not accepted");
            assert_eq!((lines(&changed), changed.counts().2), (lines(&untouched), 0), "{context}");
            assert!(matches!(run(&changed, Some(lost)), Ok(Outcome::Repaired { .. })), "{context}");
            assert_repaired(&changed, &untouched, &found, &context);
            repaired += 1;
        }
    }
    assert!(repaired > 20, "{repaired}");
}

#[test]
fn a_repair_that_moves_hundreds_of_files_has_room_for_the_record_that_names_them() {
    let (disk, found) = drained();
    disk.tamper_names(|names| {
        let segment = names.keys().find(|name| name.ends_with(".jsonl")).unwrap().clone();
        let content = names[&segment];
        names.extend((0..500).map(|number| (format!("{}/stray-{number}", layout::FOLDER), content)));
    });
    let before = disk.copy();
    assert!(matches!(run(&disk, Some(0)), Ok(Outcome::Repaired { lost: 0, .. })));
    assert_eq!(repaired_record(&disk).files.len(), 500);
    assert_repaired(&disk, &before, &found, "hundreds of files");
}

#[test]
fn missing_segments_strays_and_a_lost_acked_are_repaired_and_a_sound_journal_is_left_alone() {
    let (disk, found) = drained();
    disk.set_fault(Fault::None);
    assert_eq!(run(&disk, Some(0)), Ok(Outcome::NotNeeded));
    assert_eq!(disk.counts().0, 0, "nothing was written");
    let names: Vec<String> =
        disk.list(layout::FOLDER).unwrap().into_iter().filter(|e| e.name.ends_with(".jsonl")).map(|e| e.name).collect();
    let path = |index: usize| format!("{}/{}", layout::FOLDER, names[index]);
    let missing = disk.copy();
    missing.tamper_names(|names| {
        names.remove(&path(1));
    });
    let stray = disk.copy();
    stray.tamper_names(|names| {
        let copy = names[&path(0)];
        names.insert(format!("{}/stray", layout::FOLDER), copy);
    });
    let acked = disk.copy();
    acked.tamper(acked::PATH, |bytes| bytes.fill(b'\n'));
    for (changed, lossless) in [(missing, false), (stray, true), (acked, true)] {
        let before = changed.copy();
        let lost = loss(&run(&changed, None).unwrap());
        assert_eq!(lost == 0, lossless, "{lost}");
        assert!(matches!(run(&changed, Some(lost)), Ok(Outcome::Repaired { .. })));
        assert_repaired(&changed, &before, &found, "a file");
    }
}

#[test]
fn a_repair_that_is_cut_at_any_operation_and_repeated_ends_the_same() {
    let (disk, found) = drained();
    for (segment, part) in [(1, 5), (2, 0), (0, 9)] {
        let changed = rotten(&disk, segment, part);
        let lost = loss(&run(&changed, None).unwrap());
        let whole = changed.copy();
        whole.set_fault(Fault::None);
        run(&whole, Some(lost)).unwrap();
        let operations = whole.counts().0;
        let wanted = repaired_record(&whole);
        assert!(operations > 20, "{operations}");
        for operation in 1..=operations {
            for seed in [operation % 2, 2 + operation % 3] {
                let torn = changed.copy();
                (0..seed).for_each(|_| drop(torn.after_power_cut()));
                torn.set_fault(Fault::PowerCut(operation));
                let _ = run(&torn, Some(lost));
                let mut next = if seed % 2 == 0 { torn.after_power_cut() } else { torn.after_kill() };
                let context = format!("segment {segment}, operation {operation}, seed {seed}");
                // Cut again, further on.
                next.set_fault(Fault::PowerCut(operation / 2 + seed));
                let _ = run(&next, Some(lost));
                next = next.after_power_cut();
                match run(&next, Some(lost)) {
                    Ok(Outcome::Repaired { .. } | Outcome::NotNeeded) => {}
                    other => panic!("{context}: {other:?}"),
                }
                let is = repaired_record(&next);
                assert_eq!(
                    (is.lost_from_seq, is.lost_to_seq, &is.files),
                    (wanted.lost_from_seq, wanted.lost_to_seq, &wanted.files)
                );
                assert_repaired(&next, &changed, &found, &context);
            }
        }
    }
}

#[test]
fn a_repair_behind_a_handover_of_the_key_and_one_that_loses_a_handover_both_verify() {
    let disk = SimDisk::new(5);
    let (mut journal, _) = start(&disk).unwrap();
    workload(&mut journal, 3);
    super::handover::rotate(&mut journal, 1).unwrap();
    for number in 4..=8 {
        write(&mut journal, number, 1 + number % 4).unwrap();
    }
    journal.close().unwrap();
    let (journal, found) = start(&disk.copy()).unwrap();
    drop(journal);
    let mut keys = BTreeSet::new();
    let segments = disk.list(layout::FOLDER).unwrap().iter().filter(|entry| entry.name.ends_with(".jsonl")).count();
    for (segment, part) in (0..segments).flat_map(|segment| (2..10).map(move |part| (segment, part))) {
        let changed = rotten(&disk, segment, part);
        let before = changed.copy();
        let lost = loss(&run(&changed, None).unwrap());
        run(&changed, Some(lost)).unwrap();
        assert_repaired(&changed, &before, &found, &format!("segment {segment}, part {part}"));
        keys.insert(read_root(&changed).unwrap().0.keys.len());
    }
    assert_eq!(keys, BTreeSet::from([2, 3]), "the handover was lost in some, and kept in others");
}

#[test]
fn a_state_root_whose_repair_is_not_done_does_not_start() {
    let (disk, _) = drained();
    let changed = rotten(&disk, 1, 5);
    let plan = repair::plan(&changed, EpochId::from_ulid(ulid::Ulid(7))).unwrap();
    repair::execute(&changed, &plan).unwrap();
    assert!(matches!(repair::refuse_begun(&changed), Err(OpenError::Corrupt { .. })));
    assert_eq!(verify(&changed, false).verdict, Verdict::Valid, "what its plan names is no stray");
    assert!(matches!(run(&changed, None), Ok(Outcome::Repaired { .. })), "its loss was accepted when it began");
    assert!(repair::refuse_begun(&changed).is_ok());
}

#[test]
fn a_repair_knows_of_lost_batches_that_acked_does_not_name_and_moves_only_what_it_has_looked_at() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = start(&disk).unwrap();
    // `acked` names the batch before the last.
    assert_eq!(workload(&mut journal, BATCHES + 1), BATCHES + 1);
    let last = journal.note().size;
    let changed = rotten(&disk.after_kill(), 1, 5);
    let plan = repair::plan(&changed, EpochId::from_ulid(ulid::Ulid(7))).unwrap();
    assert_eq!(plan.repaired().lost_to_seq, last);
    let end = plan.repaired().files.iter().find(|file| file.offset > 0).unwrap();
    changed.tamper(&format!("{}/{}", layout::FOLDER, end.segment), |bytes| bytes[end.offset as usize + 5] ^= 1);
    assert!(repair::execute(&changed, &plan).is_err(), "the end of a segment has changed since");
}
