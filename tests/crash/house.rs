//! The whole write path on the simulated disk: sessions, rotations, snapshots and a handover of the signing key through
//! the clerk, killed and cut at each operation, and on a disk that fills up.

use std::collections::BTreeMap;

use chancery::domain::command::Command;
use chancery::domain::ids::BootId;

use chancery::domain::reason::{Reason, Refusal};
use chancery::domain::record::{DEFAULT_ORG, Provenance};
use chancery::domain::session::{Create, Created};
use chancery::journal::layout;
use chancery::platform::clock::Clock;
use chancery::platform::disk::Disk as _;
use chancery::services::desk::{By, Lane, WritePath as _};
use chancery::services::journal_keys::JournalKeys;
use chancery::services::opening::{Opened, Opening, open};
use chancery::services::snapshotter::Snapshotter;
use chancery::vault::redaction::Redactor;

use super::*;

fn opening(disk: &SimDisk) -> Opening {
    let clock: Arc<dyn Clock> = Arc::new(FakeClock::at(1_700_000_000_000, 1_000));
    Opening {
        disk: Arc::new(disk.clone()),
        clock,
        entropy: Arc::new(FakeEntropy::default()),
        options: OPTIONS,
        redactor: Redactor::default(),
        subjects: chancery::vault::subject::Subjects::default(),
        boot_id: BootId::from_ulid(ulid::Ulid(1)),
        build: "test".to_owned(),
        price_table: None,
        encode: |_, _, line, out| {
            let at = out.len();
            out.extend_from_slice(line);
            at
        },
        observe: Arc::new(|_, _| {}),
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn create(opened: &Opened, number: usize) -> Result<(), Refusal> {
    let body = Created {
        subject_key: None,
        title: Some(format!("<{number}>").into()),
        route: None,
        model: None,
        permission_mode: None,
        permission_rules: Vec::new(),
        metadata: BTreeMap::from([("pad".to_owned(), "x".repeat(700))]),
        reply_targets: Vec::new(),
    };
    let command = Command::CreateSession(Create { org: DEFAULT_ORG.to_owned(), body });
    wait(opened.clerk.submit(command, Provenance::system("test"), Lane::Ordinary)).map(drop)
}

fn snapshotter(disk: &SimDisk, opened: &Opened) -> Snapshotter {
    let found = opened.found.snapshot.clone();
    Snapshotter::new(opened.clerk.clone(), opened.published.clone(), Arc::new(disk.clone()), found)
}

fn close(opened: Opened) -> bool {
    let Opened { clerk, thread, published, .. } = opened;
    drop((clerk, published));
    thread.finish().is_some_and(|journal| journal.close().is_ok())
}

/// A life of a daemon: sessions over some segments, two snapshots, a handover, a drain. Gives how many sessions were
/// acknowledged before something failed.
fn live(disk: &SimDisk, opened: Opened) -> usize {
    let snapshots = snapshotter(disk, &opened);
    let keys = JournalKeys::new(opened.clerk.clone(), opened.published.clone());
    let by = || By { org: DEFAULT_ORG.to_owned(), provenance: Provenance::system("test") };
    let mut made = 0;
    for number in 0..12 {
        let fine = match number {
            4 => wait(snapshots.take_beside()).is_ok(),
            7 => wait(keys.rotate(by())).is_ok(),
            10 => wait(snapshots.take()).is_ok(),
            _ => true,
        };
        if !fine || create(&opened, number).is_err() {
            break;
        }
        made = number + 1;
    }
    drop((snapshots, keys));
    close(opened);
    made
}

/// The sessions that a start finds, by their numbers, in order.
fn found(opened: &Opened) -> Vec<usize> {
    let mut found = Vec::new();
    let mut look = |_, line: &[u8]| {
        let line = std::str::from_utf8(line).unwrap();
        if line.contains("\"session.created\"") {
            found.extend(
                line.split_once("\"<")
                    .and_then(|(_, rest)| rest.split_once('>'))
                    .map(|(n, _)| n.parse::<usize>().unwrap()),
            );
        }
        true
    };
    opened.published.reader().scan(0, u64::MAX, &mut look).unwrap();
    found
}

/// A start after a cut finds what was acknowledged, serves on, and leaves a journal that verifies.
fn assert_serves(disk: &SimDisk, made: usize, context: &str) {
    let opened = open(opening(disk)).unwrap_or_else(|refusal| panic!("{context}: {refusal:?}"));
    let there = found(&opened);
    let wanted = |count: usize| (0..count).collect::<Vec<_>>();
    assert!(there == wanted(made) || there == wanted(made + 1), "{context}: {made} were acknowledged, found {there:?}");
    create(&opened, 99).unwrap_or_else(|refusal| panic!("{context}: {refusal:?}"));
    assert!(close(opened), "{context}");
    assert_eq!(verify(disk, false).verdict, Verdict::Valid, "{context}");
}

fn operations() -> u64 {
    let disk = SimDisk::new(1);
    let opened = open(opening(&disk)).unwrap();
    disk.set_fault(Fault::None);
    assert_eq!(live(&disk, opened), 12);
    let segments = disk.list(layout::FOLDER).unwrap().iter().filter(|entry| entry.name.ends_with(".jsonl")).count();
    let kept = disk.list("snapshots").unwrap().len();
    assert!(segments > 2 && kept == 2, "{segments} segments, {kept} snapshots");
    disk.counts().0
}

#[test]
fn a_daemons_life_cut_at_any_operation_loses_nothing_and_so_does_a_start_that_is_cut_in_turn() {
    let operations = operations();
    assert!(operations > 80, "{operations}");
    for operation in 1..=operations {
        let disk = SimDisk::new(operation);
        let opened = open(opening(&disk)).unwrap();
        disk.set_fault(Fault::PowerCut(operation));
        let made = live(&disk, opened);
        for (how, next) in [("kill", disk.after_kill()), ("power cut", disk.after_power_cut())] {
            let context = format!("{how} at operation {operation}");
            let mut torn = next.copy();
            torn.set_fault(Fault::PowerCut(1 + operation % 24));
            drop(open(opening(&torn)).map(close));
            torn = if how == "kill" { torn.after_kill() } else { torn.after_power_cut() };
            assert_serves(&next, made, &context);
            assert_serves(&torn, made, &format!("{context}, and again in the start"));
        }
    }
}

#[test]
fn a_disk_that_fills_while_a_snapshot_is_written_keeps_the_old_one_and_nothing_half_written_and_work_goes_on() {
    let disk = SimDisk::new(1);
    let opened = open(opening(&disk)).unwrap();
    let snapshots = snapshotter(&disk, &opened);
    (0..4).for_each(|number| create(&opened, number).unwrap());
    let old = wait(snapshots.take_beside()).unwrap();
    (4..8).for_each(|number| create(&opened, number).unwrap());
    let used = |disk: &SimDisk| -> usize {
        let folders = ["", layout::FOLDER, layout::AUTH, layout::QUARANTINE, "snapshots", "artifacts/sha256"];
        let entries = folders.iter().flat_map(|folder| disk.list(folder).unwrap_or_default());
        entries.map(|entry| usize::try_from(entry.bytes).unwrap()).sum()
    };
    let before = disk.list("snapshots").unwrap();
    let mut refused = 0;
    loop {
        disk.set_fault(Fault::Full(used(&disk) + refused * 61));
        let taken = wait(snapshots.take_beside());
        disk.set_fault(Fault::None);
        match taken {
            Ok(seq) => break assert!(seq > old),
            Err(refusal) => assert_eq!(refusal.reason, Reason::StorageFull),
        }
        let there = disk.list("snapshots").unwrap();
        // Written whole, and then there was no room to name it: that may stay; half of one may not.
        assert!(there.iter().all(|entry| entry.name.ends_with(".zst")) && before.iter().all(|old| there.contains(old)));
        refused += 1;
    }
    assert!(refused > 5, "{refused}");
    create(&opened, 8).unwrap();
    drop(snapshots);
    // The newest one is torn: the old one is in force.
    let newest = disk.list("snapshots").unwrap().pop().unwrap();
    disk.tamper(&format!("snapshots/{}", newest.name), |bytes| bytes.truncate(bytes.len() / 2));
    assert!(close(opened));
    let opened = open(opening(&disk)).unwrap();
    assert_eq!((opened.found.snapshot_seq, found(&opened)), (Some(old), (0..9).collect()));
    assert!(close(opened));
}
