//! A start on a disk that takes no writes, and what it does when the disk takes them again.

use std::time::Duration;

use ulid::Ulid;

use super::*;
use crate::domain::reason::Reason;
use crate::journal::verify::{Verdict, look};
use crate::platform::clock::FakeClock;
use crate::platform::entropy::FakeEntropy;
use crate::platform::sim_disk::{Fault, SimDisk};
use crate::projections::feed::Filter;
use crate::services::testing::{NOW_MS, create_session, stop};
use crate::vault::redaction::Redactor;

fn start(disk: &SimDisk, boot: u128) -> Result<Opened, Refusal> {
    open(Opening {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(FakeClock::at(NOW_MS, 1_000_000)),
        entropy: Arc::new(FakeEntropy::default()),
        options: Options { segment_bytes: 8 << 10, ahead_bytes: 8 << 10, reserve_bytes: 8 << 10, background: false },
        redactor: Redactor::default(),
        subjects: crate::vault::subject::Subjects::default(),
        boot_id: BootId::from_ulid(Ulid::from_parts(NOW_MS, boot)),
        build: "test".to_owned(),
        price_table: None,
        encode: |_, _, line, out| {
            let at = out.len();
            out.extend_from_slice(line);
            at
        },
        observe: Arc::new(|_, _| {}),
    })
}

/// A state root with a session that a start acknowledged before it was killed.
fn killed() -> SimDisk {
    let disk = SimDisk::new(7);
    let opened = start(&disk, 1).unwrap();
    create_session(&opened, "before");
    stop(opened);
    disk.after_kill()
}

fn refused(opened: &Opened) -> Reason {
    use crate::domain::session;
    use crate::services::testing::act;
    let body = session::Created { title: None, ..crate::domain::testing::plain_session() };
    let ask = session::Create { org: crate::domain::record::DEFAULT_ORG.to_owned(), body };
    act(opened, crate::domain::command::Command::CreateSession(ask)).unwrap_err().reason
}

#[test]
fn a_start_on_a_disk_without_writes_shows_what_is_there_and_goes_on_when_it_can() {
    for (fault, reason) in [(Fault::Full(0), Reason::StorageFull), (Fault::ReadOnly, Reason::StorageReadOnly)] {
        let disk = killed();
        disk.set_fault(fault);
        let opened = start(&disk, 2).unwrap();
        let before = opened.published.head();
        assert_eq!(opened.published.models().sessions.count(), 1);
        assert_eq!((refused(&opened), opened.clerk.trouble().map(|why| why.reason)), (reason, Some(reason)));
        assert_eq!(opened.published.head().next_seq, before.next_seq);
        disk.set_fault(Fault::None);
        for _ in 0..1_000 {
            if opened.clerk.trouble().is_none() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        create_session(&opened, "after");
        // The records of the opening are published like all others, in order.
        let all =
            Filter { org: crate::domain::record::DEFAULT_ORG.to_owned(), scope: crate::projections::feed::Scope::All };
        let (items, _) = opened.published.read(&all, before.next_seq, u64::MAX, 100).unwrap();
        let kinds: Vec<&str> = items.iter().map(|item| item.kind).collect();
        assert_eq!(kinds, ["context.set", "session.created"], "{reason}");
        assert_eq!(opened.published.feed().next_seq(), opened.published.head().next_seq);
        stop(opened);
        assert!(matches!(look(&disk, false, &mut |_, _| {}).verdict, Verdict::Valid));
        let again = start(&disk.after_power_cut(), 3).unwrap();
        assert_eq!(again.published.models().sessions.count(), 2);
        stop(again);
    }
}

#[test]
fn a_first_start_on_a_full_disk_is_refused() {
    for bytes in (0..40_000).step_by(500) {
        let disk = SimDisk::new(3);
        disk.set_fault(Fault::Full(bytes));
        match start(&disk, 1) {
            Ok(opened) => return assert!(opened.clerk.trouble().is_none() && bytes > 16_000, "{bytes}"),
            Err(refusal) => assert_eq!(refusal.reason, Reason::StorageFull, "{bytes}"),
        }
    }
    panic!("it never fits");
}

#[test]
fn what_no_note_covers_is_not_shown_where_it_cannot_be_written_again() {
    let disk = SimDisk::new(7);
    let opened = start(&disk, 1).unwrap();
    create_session(&opened, "sealed, and no note says so");
    drop(opened.clerk);
    // As a kill leaves it: without the end that brings the newest note into `acked`.
    drop(opened.thread.finish());
    let disk = disk.after_kill();
    disk.set_fault(Fault::ReadOnly);
    assert_eq!(start(&disk, 2).err().map(|refusal| refusal.reason), Some(Reason::StorageReadOnly));
    disk.set_fault(Fault::Full(0));
    let opened = start(&disk, 2).unwrap();
    assert_eq!(opened.published.models().sessions.count(), 1);
    assert!(opened.thread.finish().is_none());
}
