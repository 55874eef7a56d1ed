//! The real journal on a simulated disk: power is lost at every operation, syncs and writes fail, the disk fills, and
//! every byte of a small journal is changed in turn. What was acknowledged is all there, or the damage is named.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    clippy::range_plus_one,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::unused_self,
    reason = "a test may fail loudly and looks at the machine directly"
)]

#[path = "crash/handover.rs"]
mod handover;
#[path = "crash/house.rs"]
mod house;
#[path = "crash/missing.rs"]
mod missing;
#[path = "crash/repair.rs"]
mod repair;
#[path = "crash/running.rs"]
mod running;

use std::sync::Arc;

use chancery::domain::context;
use chancery::domain::ids::{BootId, SessionId};
use chancery::domain::record::Record;
use chancery::domain::session;
use chancery::domain::stream::Stream;
use chancery::journal::create;
use chancery::journal::error::{OpenError, WriteError};
use chancery::journal::recovery;
use chancery::journal::verify::{Verdict, look, verify};
use chancery::journal::writer::{Journal, Options};
use chancery::journal::{acked, layout, open};
use chancery::platform::clock::FakeClock;
use chancery::platform::disk::Disk;
use chancery::platform::entropy::FakeEntropy;
use chancery::platform::sim_disk::{Fault, SimDisk};
use rustix::io::Errno;

const OPTIONS: Options = Options { segment_bytes: 6_000, ahead_bytes: 4_096, reserve_bytes: 4_096, background: false };

fn context() -> context::Set {
    context::Set {
        boot_id: BootId::from_ulid(ulid::Ulid(1)),
        wall_ms: 0,
        boot_ms: 0,
        build: "0.1.0+test".to_owned(),
        config_revision: 0,
        policy_sha256: "00".to_owned(),
        price_table: None,
    }
}

/// Notes of the `session.ended` records in order: what the workload wrote.
type Found = Vec<String>;

fn start(disk: &SimDisk) -> Result<(Journal, Found), OpenError> {
    let clock = Arc::new(FakeClock::at(1_700_000_000_000, 1_000));
    if !create::exists(disk)? {
        create::create(disk, clock.as_ref(), &FakeEntropy::default())?;
    }
    let mut found = Vec::new();
    let recovered = recovery::read(disk, None, &mut |record: Record| {
        if let chancery::domain::event::Event::SessionEnded(body) = record.event {
            found.push(body.note.unwrap_or_default());
        }
    })?;
    let (journal, _) = open::open(recovered, Arc::new(disk.clone()), clock, OPTIONS, context())?;
    Ok((journal, found))
}

/// Writes one batch of `records` numbered records.
fn write(journal: &mut Journal, batch_number: u64, records: u64) -> Result<(), WriteError> {
    let mut batch = journal.begin()?;
    for n in 0..records {
        let stream = Stream::Session(SessionId::from_ulid(ulid::Ulid(u128::from(batch_number))));
        let note = format!("{batch_number}.{n}.{records}.{}", "x".repeat((batch_number as usize * 131) % 700));
        let event = session::Ended { note: Some(note) };
        let record = Record::by_system(batch.next_seq(), batch.ctx(), 1_700_000_000_000, stream, event.into());
        batch.push(&record)?;
    }
    journal.commit(batch)
}

/// Batches 1 to `batches`, with `acked` written at varying distance. Returns how many were acknowledged.
fn workload(journal: &mut Journal, batches: u64) -> u64 {
    for number in 1..=batches {
        if write(journal, number, 1 + number % 4).is_err() {
            return number - 1;
        }
        if number % 3 == 0 && journal.write_acked().is_err() {
            return number;
        }
    }
    batches
}

/// Every acknowledged batch is there, whole and in order; of the next at most all, and nothing else.
fn assert_prefix(found: &Found, acknowledged: u64, context: &str) {
    let wanted = |batches: u64| -> Vec<String> {
        (1..=batches).flat_map(|b| (0..1 + b % 4).map(move |n| format!("{b}.{n}.{}", 1 + b % 4))).collect()
    };
    let short: Vec<String> =
        found.iter().map(|note| note.splitn(4, '.').take(3).collect::<Vec<_>>().join(".")).collect();
    assert!(
        short == wanted(acknowledged) || short == wanted(acknowledged + 1),
        "{context}: {acknowledged} batches were acknowledged, found {short:?}"
    );
}

const BATCHES: u64 = 24;

fn operations_of_a_whole_run() -> u64 {
    let disk = SimDisk::new(1);
    let (mut journal, _) = start(&disk).unwrap();
    disk.set_fault(Fault::None);
    assert_eq!(workload(&mut journal, BATCHES), BATCHES);
    assert!(journal.reader().segments().len() > 3, "the workload must rotate");
    disk.counts().0
}

#[test]
fn after_a_power_cut_at_any_operation_every_acknowledged_batch_is_there_and_the_journal_starts_by_itself() {
    let operations = operations_of_a_whole_run();
    let mut states = 0;
    for seed in 0..40 {
        for operation in 1..=operations {
            let disk = SimDisk::new(seed * 1_000 + operation);
            let (mut journal, _) = start(&disk).unwrap();
            disk.set_fault(Fault::PowerCut(operation));
            let acknowledged = workload(&mut journal, BATCHES);
            let context = format!("seed {seed}, operation {operation}");
            let next = disk.after_power_cut();
            let (_, found) = start(&next).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_prefix(&found, acknowledged, &context);
            states += 1;
        }
    }
    assert!(states >= 5_000, "{states} crash states");
}

#[test]
fn after_power_cuts_during_creation_and_recovery_the_next_start_gives_the_same() {
    for operation in 1..60 {
        let disk = SimDisk::new(operation);
        disk.set_fault(Fault::PowerCut(operation));
        let _ = start(&disk);
        let next = disk.after_power_cut();
        let (_, found) = start(&next).unwrap_or_else(|error| panic!("creation, operation {operation}: {error}"));
        assert!(found.is_empty());
    }
    let operations = operations_of_a_whole_run();
    for seed in 0..12 {
        for operation in (1..=operations).step_by(29) {
            let disk = SimDisk::new(seed * 7_919 + operation);
            let (mut journal, _) = start(&disk).unwrap();
            disk.set_fault(Fault::PowerCut(operation));
            let acknowledged = workload(&mut journal, BATCHES);
            let mut torn = disk.after_power_cut();
            for recovery_operation in 1..8 {
                torn.set_fault(Fault::PowerCut(recovery_operation));
                let _ = start(&torn);
                torn = torn.after_power_cut();
                torn.set_fault(Fault::None);
            }
            let context = format!("seed {seed}, operation {operation}");
            let (_, found) = start(&torn).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_prefix(&found, acknowledged, &context);
        }
    }
}

#[test]
fn after_a_kill_nothing_that_was_written_is_lost_and_a_later_power_cut_loses_nothing_acknowledged() {
    let operations = operations_of_a_whole_run();
    for operation in 1..=operations {
        let disk = SimDisk::new(operation);
        let (mut journal, _) = start(&disk).unwrap();
        disk.set_fault(Fault::PowerCut(operation));
        let acknowledged = workload(&mut journal, BATCHES);
        let killed = disk.after_kill();
        let (journal, found) = start(&killed).unwrap();
        assert_prefix(&found, acknowledged, &format!("kill at {operation}"));
        // What the restarted journal showed is durable from here on, though its pages may never have been synced.
        drop(journal);
        let (_, again) = start(&killed.after_power_cut()).unwrap();
        assert_eq!(again, found, "power cut after the restart that followed a kill at {operation}");
    }
}

#[test]
fn after_a_failed_sync_or_write_nothing_more_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let (syncs, writes) = {
        let disk = SimDisk::new(1);
        let (mut journal, _) = start(&disk).unwrap();
        disk.set_fault(Fault::None);
        workload(&mut journal, BATCHES);
        let (_, syncs, writes) = disk.counts();
        (syncs, writes)
    };
    let faults = (1..=syncs).map(Fault::SyncError).chain((1..=writes).map(Fault::WriteError));
    for (index, fault) in faults.enumerate() {
        let disk = SimDisk::new(index as u64);
        let (mut journal, _) = start(&disk).unwrap();
        disk.set_fault(fault);
        let acknowledged = workload(&mut journal, BATCHES);
        assert!(acknowledged < BATCHES || journal.poison().is_some(), "{fault:?} must stop the journal");
        disk.set_fault(Fault::None);
        assert!(matches!(write(&mut journal, 99, 1), Err(WriteError::Poisoned(_))), "{fault:?}");
        for next in [disk.after_kill(), disk.after_power_cut()] {
            let (_, found) = start(&next).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            assert_prefix(&found, acknowledged, &format!("{fault:?}"));
        }
    }
}

#[test]
fn a_full_disk_refuses_before_anything_is_decided_and_writing_goes_on_when_there_is_room() {
    let faults = (15_000..60_000).step_by(977).flat_map(|capacity| {
        let others = [Errno::DQUOT, Errno::FBIG, Errno::ROFS].map(|errno| Fault::Capped(capacity, errno));
        std::iter::once((capacity, Fault::Full(capacity))).chain(others.map(|fault| (capacity, fault)))
    });
    for (capacity, fault) in faults {
        let disk = SimDisk::new(capacity as u64);
        let (mut journal, _) = start(&disk).unwrap();
        disk.set_fault(fault);
        let acknowledged = workload(&mut journal, 60);
        if acknowledged == 60 {
            continue;
        }
        let refused = write(&mut journal, acknowledged + 1, 1 + (acknowledged + 1) % 4);
        let as_told = match fault {
            Fault::Capped(_, Errno::ROFS) => matches!(refused, Err(WriteError::ReadOnly(_))),
            _ => matches!(refused, Err(WriteError::Full(_))),
        };
        assert!(as_told, "{fault:?}: {refused:?}");
        disk.set_fault(Fault::None);
        write(&mut journal, acknowledged + 1, 1 + (acknowledged + 1) % 4).unwrap();
        let (_, found) = start(&disk.after_power_cut()).unwrap();
        assert_prefix(&found, acknowledged + 1, &format!("capacity {capacity}"));
    }
}

/// A small closed journal: a drain wrote `acked` into both slots.
fn drained() -> (SimDisk, Found) {
    drained_after(8)
}

fn drained_after(batches: u64) -> (SimDisk, Found) {
    let disk = SimDisk::new(5);
    let (mut journal, _) = start(&disk).unwrap();
    assert_eq!(workload(&mut journal, batches), batches);
    journal.close().unwrap();
    let (journal, found) = start(&disk.copy()).unwrap();
    drop(journal);
    (disk, found)
}

#[test]
fn every_changed_byte_of_the_acknowledged_past_is_refused_or_repaired_in_the_open() {
    let (disk, found) = drained();
    let names: Vec<String> =
        disk.list(layout::FOLDER).unwrap().into_iter().filter(|e| e.plain).map(|e| e.name).collect();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let path = format!("{}/{name}", layout::FOLDER);
        for index in 0..disk.content(&path).unwrap().len() {
            let changed = disk.copy();
            changed.tamper(&path, |bytes| bytes[index] ^= 0x01);
            match start(&changed) {
                Err(OpenError::Corrupt { .. } | OpenError::Rollback { .. } | OpenError::TooNew(_)) => {}
                Err(error) => panic!("{path} byte {index}: unexpected {error}"),
                Ok((journal, again)) => {
                    assert_eq!(again, found);
                    // A slot of `acked` has a twin; padding where a sector begins looks like a crash. Both are recorded.
                    let wanted =
                        if path == acked::PATH { "journal.acked_rewritten" } else { "journal.tail_quarantined" };
                    let mut recorded = false;
                    let visit = |_, line: &[u8]| {
                        recorded |= std::str::from_utf8(line).unwrap().contains(wanted);
                        true
                    };
                    journal.reader().scan(0, u64::MAX, visit).unwrap();
                    assert!(recorded, "byte {index} of {path} was changed and nobody noticed");
                    assert!(path == acked::PATH || index % 512 <= 1, "byte {index} of {path}");
                }
            }
        }
    }
}

#[test]
fn what_a_lying_device_dropped_of_the_acknowledged_end_refuses_the_start_and_no_verifier_passes_it() {
    let (disk, _) = drained();
    let last = disk.list(layout::FOLDER).unwrap().into_iter().rfind(|entry| entry.name.ends_with(".jsonl")).unwrap();
    let path = format!("{}/{}", layout::FOLDER, last.name);
    let content = disk.content(&path).unwrap();
    let data_end = content.iter().rposition(|byte| *byte != b'\n').unwrap() + 1;
    let (mut lost, mut refused) = (0, 0);
    for start_of in (0..data_end).step_by(512) {
        let one = start_of..(start_of + 512).min(content.len());
        for (range, filler) in
            [(one.clone(), b'\n'), (one, 0), (start_of..content.len(), b'\n'), (start_of..content.len(), 0)]
        {
            let changed = disk.copy();
            changed.tamper(&path, |bytes| bytes[range.clone()].fill(filler));
            lost += 1;
            let error = start(&changed).err().unwrap_or_else(|| panic!("{range:?} of {path} is lost, and it starts"));
            refused += usize::from(matches!(error, OpenError::Corrupt { .. } | OpenError::Rollback { .. }));
            for held in [false, true] {
                let verdict = look(&changed, held, &mut |_, _| {}).verdict;
                assert!(matches!(verdict, Verdict::Invalid { .. }), "{range:?}, held {held}: {verdict:?}");
            }
        }
        let short = disk.copy();
        short.tamper(&path, |bytes| bytes.truncate(start_of));
        lost += 1;
        refused += usize::from(matches!(start(&short), Err(OpenError::Corrupt { .. } | OpenError::Rollback { .. })));
    }
    assert!(refused == lost && lost >= 10, "{refused} of {lost}");
}

#[test]
fn a_changed_byte_of_what_acked_names_is_found_also_while_a_daemon_holds_the_journal() {
    let (disk, _) = drained();
    assert_eq!(verify(&disk, true).verdict, Verdict::Valid);
    for entry in disk.list(layout::FOLDER).unwrap().into_iter().filter(|e| e.plain && e.name.ends_with(".jsonl")) {
        let path = format!("{}/{}", layout::FOLDER, entry.name);
        let content = disk.content(&path).unwrap();
        let data = content.iter().rposition(|byte| *byte != b'\n').unwrap();
        for index in (0..=data).step_by(29) {
            let changed = disk.copy();
            changed.tamper(&path, |bytes| bytes[index] ^= 0x01);
            let Verdict::Invalid { file, offset, .. } = look(&changed, true, &mut |_, _| {}).verdict else {
                panic!("byte {index} of {path} was changed and nobody noticed")
            };
            assert!(file == path || file.ends_with(".jsonl"), "{file} at {offset} for byte {index} of {path}");
        }
    }
    disk.tamper(acked::PATH, |bytes| bytes.fill(b'\n'));
    assert!(matches!(verify(&disk, true).verdict, Verdict::Invalid { .. }), "no slot is left");
}

#[test]
fn a_batch_behind_the_acknowledged_note_whose_seal_is_not_signed_by_the_key_refuses_the_start() {
    let disk = SimDisk::new(5);
    let (mut journal, _) = start(&disk).unwrap();
    assert_eq!(workload(&mut journal, 8), 8);
    let segments = journal.reader().segments();
    drop(journal);
    let killed = disk.after_kill();
    assert_eq!(start(&killed.copy()).unwrap().1.len(), 20, "nothing is wrong with it yet");
    let slots = killed.content(acked::PATH).unwrap();
    let noted = slots.chunks(acked::SLOT_BYTES).filter_map(acked::parse_slot).map(|note| note.size).max().unwrap();
    let mut refused = 0;
    for path in segments.into_iter().map(layout::segment_path) {
        let content = String::from_utf8(killed.content(&path).unwrap()).unwrap();
        for (at, _) in content.match_indices(",\"seal\":\"") {
            let line = content[..at].rfind('\n').unwrap() + 1;
            let seq: u64 = content[line..at].trim_start_matches("{\"seq\":").parse().unwrap();
            let end = at + content[at..].find("\\n\"}").unwrap();
            // Letters of the signature; the last one bears loose bits, which is another fault.
            for index in (end - 84..end - 2).filter(|_| seq > noted).step_by(9) {
                let changed = killed.copy();
                changed.tamper(&path, |bytes| bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' });
                match start(&changed).err() {
                    Some(OpenError::Corrupt { seq: from, why, .. }) if why == "the seal's signature is not valid" => {
                        assert!(from < seq, "{from} of the seal {seq}");
                    }
                    other => panic!("byte {index} of the seal {seq}: {other:?}"),
                }
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 20, "two seals stand behind what was acknowledged");
}

#[test]
fn missing_swapped_renamed_and_foreign_segments_are_refused_by_name() {
    let (disk, _) = drained();
    let segments: Vec<String> =
        disk.list(layout::FOLDER).unwrap().into_iter().filter(|e| e.name.ends_with(".jsonl")).map(|e| e.name).collect();
    let path = |index: usize| format!("{}/{}", layout::FOLDER, segments[index]);
    let last = segments.len() - 1;
    for missing in 0..segments.len() {
        let changed = disk.copy();
        changed.tamper_names(|names| {
            names.remove(&path(missing));
        });
        let error = start(&changed).err().unwrap_or_else(|| panic!("segment {missing} is missing, and it starts"));
        assert!(matches!(error, OpenError::Rollback { .. } | OpenError::Corrupt { .. }), "{error}");
    }
    let swapped = disk.copy();
    swapped.tamper_names(|names| {
        let (a, b) = (names[&path(0)], names[&path(1)]);
        names.insert(path(0), b);
        names.insert(path(1), a);
    });
    assert!(matches!(start(&swapped), Err(OpenError::Corrupt { .. })));
    let extra = disk.copy();
    extra.tamper_names(|names| {
        let copy = names[&path(0)];
        names.insert(format!("{}/stray", layout::FOLDER), copy);
    });
    assert!(matches!(start(&extra), Err(OpenError::Corrupt { .. })));
    let cut = disk.copy();
    cut.tamper(&path(last), |bytes| bytes.truncate(bytes.iter().position(|b| *b == b'\n').unwrap() + 1));
    assert!(matches!(start(&cut), Err(OpenError::Rollback { .. })));
    let foreign = SimDisk::new(77);
    let clock = FakeClock::at(1_800_000_000_000, 1);
    let entropy = FakeEntropy::default();
    for _ in 0..9 {
        chancery::platform::entropy::Entropy::u128(&entropy);
    }
    create::create(&foreign, &clock, &entropy).unwrap();
    let body = foreign.content(&layout::segment_path(0)).unwrap();
    let changed = disk.copy();
    changed.tamper(&path(0), |bytes| *bytes = body);
    assert!(start(&changed).is_err());
}
