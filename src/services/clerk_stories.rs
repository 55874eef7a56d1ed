//! The clerk with a real journal on a simulated disk.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::clerk::Clerk;
use super::cold_check::{ColdCheck, Pass};
use super::desk::{Committed, Lane, WritePath as _};
use super::opening::{Opened, Opening, open};
use super::segment_watch::SegmentWatch;
use super::snapshotter::Snapshotter;
use crate::domain::command::{Answer, Command};
use crate::domain::event::Event;
use crate::domain::ids::BootId;
use crate::domain::limits;
use crate::domain::permission::Mode;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{DEFAULT_ORG, Provenance};
use crate::domain::runtime::SetMode;
use crate::domain::session::{self, Created};
use crate::domain::testing::plain_session;
use crate::journal::cold::Damage;
use crate::journal::layout;
use crate::journal::writer::Options;
use crate::platform::clock::FakeClock;
use crate::platform::entropy::FakeEntropy;
use crate::platform::sim_disk::{Fault, SimDisk};
use crate::platform::tasks::Tasks;
use crate::projections::{Bodies as _, Paging};
use crate::vault::redaction::Redactor;

const NOW_MS: u64 = 1_800_000_000_000;

fn opened(disk: &SimDisk, clock: &Arc<FakeClock>, boot: u64) -> Opened {
    open(opening(disk, clock, boot)).unwrap()
}

fn opening(disk: &SimDisk, clock: &Arc<FakeClock>, boot: u64) -> Opening {
    let options = Options { segment_bytes: 64 << 10, ahead_bytes: 16 << 10, background: false, ..Options::default() };
    Opening {
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(clock) as Arc<dyn crate::platform::clock::Clock>,
        entropy: Arc::new(FakeEntropy::default()),
        options,
        redactor: Redactor::default(),
        subjects: crate::vault::subject::Subjects::default(),
        boot_id: BootId::from_ulid(ulid::Ulid::from_parts(boot, 1)),
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

fn create() -> Command {
    let body: Created = plain_session();
    Command::CreateSession(session::Create { org: DEFAULT_ORG.to_owned(), body })
}

async fn submit(clerk: &Clerk, command: Command) -> Result<Committed, Refusal> {
    clerk.submit(command, Provenance::system("test"), Lane::Ordinary).await
}

#[tokio::test]
async fn when_the_clerks_thread_ends_everyone_is_told() {
    let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
    let house = opened(&SimDisk::new(1), &clock, NOW_MS);
    submit(&house.clerk, create()).await.unwrap();
    let (hold, held) = mpsc::sync_channel::<()>(1);
    house.clerk.errand(Box::new(move |_| {
        let _ = held.recv();
        panic!("on purpose");
    }));
    let waiting = submit(&house.clerk, create());
    drop(hold);
    assert_eq!(waiting.await.unwrap_err().reason, Reason::StorageJournalUnavailable);
    assert_eq!(submit(&house.clerk, create()).await.unwrap_err().reason, Reason::StorageJournalUnavailable);
    assert_eq!(house.clerk.trouble().unwrap().reason, Reason::StorageJournalUnavailable);
    assert!(house.thread.finish().is_none());
}

#[tokio::test]
async fn what_is_unhurried_goes_with_the_next_batch_and_alone_if_none_comes() {
    let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
    let house = opened(&SimDisk::new(1), &clock, NOW_MS);
    let unhurried = || house.clerk.submit(create(), Provenance::system("test"), Lane::Unhurried);
    let mut first = unhurried();
    assert!(futures_util::poll!(&mut first).is_pending());
    let hurried = submit(&house.clerk, create()).await.unwrap();
    let std::task::Poll::Ready(Ok(first)) = futures_util::poll!(&mut first) else { panic!("it was left out") };
    assert_eq!(first.seq.unwrap() + 1, hurried.seq.unwrap(), "no seal lies between two records of a batch");
    let alone = unhurried().await.unwrap();
    assert!(alone.seq > hurried.seq);
    assert_eq!(house.clerk.queue().0, 0);
}

/// Has commands wait behind a disk that hangs until one is refused; lets it go on, and gives how many were done.
async fn crowd(ask: impl Fn() -> Command) -> usize {
    let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
    let house = opened(&SimDisk::new(1), &clock, NOW_MS);
    let seq = submit(&house.clerk, create()).await.unwrap().seq.unwrap();
    let (hold, held) = mpsc::sync_channel::<()>(1);
    house.clerk.errand(Box::new(move |_| {
        let _ = held.recv();
    }));
    let by = || Provenance::system("test");
    let mut waiting = tokio::task::JoinSet::new();
    let refused = loop {
        let clerk = house.clerk.clone();
        let (command, by) = (ask(), by());
        let mut asked = Box::pin(async move { clerk.submit(command, by, Lane::Ordinary).await });
        // The first look puts it into the queue.
        match futures_util::poll!(&mut asked) {
            std::task::Poll::Ready(answer) => break answer.unwrap_err(),
            std::task::Poll::Pending => drop(waiting.spawn(asked)),
        }
        assert!(waiting.len() <= limits::QUEUED_COMMANDS + limits::BATCH_RECORDS, "nothing is refused");
    };
    assert_eq!((refused.reason, refused.retry_after_ms), (Reason::RequestOverloaded, Some(1_000)));
    let urgent = house.clerk.clone();
    let mut urgent = Box::pin(urgent.submit(create(), by(), Lane::Reserved));
    assert!(futures_util::poll!(&mut urgent).is_pending(), "the reserved lane has room of its own");
    // Nobody who reads waits for it.
    assert!(house.published.record(seq).is_some() && house.published.head().next_seq > seq);
    assert_eq!(house.published.models().session_page(DEFAULT_ORG, None, &Paging::default()).unwrap().items.len(), 1);
    assert!(house.clerk.queue().0 >= waiting.len().saturating_sub(limits::BATCH_RECORDS));
    drop(hold);
    urgent.await.unwrap();
    let done = waiting.len();
    while let Some(answer) = waiting.join_next().await {
        answer.unwrap().unwrap();
    }
    submit(&house.clerk, ask()).await.unwrap();
    assert_eq!(house.clerk.queue().0, 0);
    done
}

#[tokio::test]
async fn a_disk_that_hangs_fills_a_bounded_queue_refuses_more_and_holds_up_no_reader() {
    let done = crowd(create).await;
    assert!((limits::QUEUED_COMMANDS..=limits::QUEUED_COMMANDS + limits::BATCH_RECORDS).contains(&done), "{done}");
    let large = || {
        let metadata =
            (0..30).map(|number| (format!("note{number}"), "x".repeat(limits::METADATA_VALUE_BYTES))).collect();
        let body = Created { metadata, ..plain_session() };
        Command::CreateSession(session::Create { org: DEFAULT_ORG.to_owned(), body })
    };
    let (done, most) = (crowd(large).await, limits::QUEUED_BYTES / large().weight_bytes());
    assert!((most..=most + limits::BATCH_RECORDS + 1).contains(&done), "{done} of {most}");
}

#[tokio::test]
async fn what_is_decided_after_a_change_of_policy_names_the_new_context_also_in_one_rush() {
    let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
    let house = opened(&SimDisk::new(1), &clock, NOW_MS);
    let (hold, held) = mpsc::sync_channel::<()>(1);
    house.clerk.errand(Box::new(move |_| {
        let _ = held.recv();
    }));
    let set =
        Command::SetPermissionMode(SetMode { org: DEFAULT_ORG.to_owned(), mode: Mode::Plan, expected_revision: None });
    let before = submit(&house.clerk, create());
    let change = submit(&house.clerk, set);
    let after = submit(&house.clerk, create());
    drop(hold);
    let (before, change, after) = tokio::join!(before, change, after);
    let record = |done: Result<Committed, Refusal>| house.published.record(done.unwrap().seq.unwrap()).unwrap();
    let revision = |ctx: u64| match house.published.record(ctx).unwrap().event {
        Event::ContextSet(set) => set.config_revision,
        other => panic!("{other:?}"),
    };
    let revisions = [record(before), record(change), record(after)].map(|record| revision(record.ctx));
    assert_eq!(revisions, [0, 0, 1]);
}

#[tokio::test]
async fn ids_rise_over_a_start_whose_clock_has_gone_back() {
    let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
    let disk = SimDisk::new(1);
    let house = opened(&disk, &clock, NOW_MS);
    let Answer::Session(first) = submit(&house.clerk, create()).await.unwrap().answer else { panic!("a session") };
    drop(house.clerk);
    house.thread.finish().unwrap().close().unwrap();
    clock.jump_to(NOW_MS - 86_400_000);
    let house = opened(&disk, &clock, NOW_MS - 86_400_000);
    let Answer::Session(second) = submit(&house.clerk, create()).await.unwrap().answer else { panic!("a session") };
    assert!(first < second, "{first} {second}");
}

/// Writes sessions until some segments are closed.
async fn some_segments(house: &Opened) {
    while house.published.reader().segments().len() < 4 {
        submit(&house.clerk, create()).await.unwrap();
    }
}

#[tokio::test]
async fn rot_in_a_closed_segment_stops_writing_is_kept_for_the_next_start_and_forgotten_when_it_verifies_again() {
    let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
    let disk = SimDisk::new(1);
    let house = opened(&disk, &clock, NOW_MS);
    some_segments(&house).await;
    let check = ColdCheck::new(house.clerk.clone(), house.published.clone(), Arc::new(disk.clone()));
    let pass = check.pass(&|| false).unwrap();
    assert_eq!((pass.segments, pass.rot.len(), pass.stopped), (3, 0, false));
    assert_eq!(check.pass(&|| true).unwrap(), Pass { segments: 0, rot: Vec::new(), stopped: true });
    let path = layout::segment_path(house.published.reader().segments()[1]);
    let good = disk.content(&path).unwrap();
    let middle = good.len() / 2;
    disk.tamper(&path, |bytes| bytes[middle] ^= 1);
    let pass = check.pass(&|| false).unwrap();
    let [range] = pass.rot.as_slice() else { panic!("{pass:?}") };
    assert!(range.file == path && (range.from_byte..range.to_byte).contains(&(middle as u64)), "{range}");
    assert_eq!((pass.segments, range.to_byte), (2, good.len() as u64));
    let refused = submit(&house.clerk, create()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::StorageJournalUnavailable);
    assert!(house.clerk.trouble().unwrap().detail.contains(&range.to_string()), "{}", refused.detail);
    drop(house.clerk);
    let _ = house.thread.finish().unwrap().close();
    let damage: Damage = serde_json::from_slice(&disk.content(layout::DAMAGE).unwrap()).unwrap();
    assert_eq!((damage.format, damage.ranges.as_slice()), (1, pass.rot.as_slice()));
    let refusal = open(opening(&disk, &clock, NOW_MS)).err().unwrap();
    assert_eq!(refusal.reason, Reason::StateRootJournalCorrupt);
    assert!(refusal.detail.contains(&path) && disk.content(layout::DAMAGE).is_some(), "{}", refusal.detail);
    disk.tamper(&path, |bytes| *bytes = good);
    let house = opened(&disk, &clock, NOW_MS);
    assert_eq!(disk.content(layout::DAMAGE), None);
    submit(&house.clerk, create()).await.unwrap();
}

#[tokio::test]
async fn a_segment_that_goes_missing_or_loses_something_stops_writing_also_where_nobody_writes() {
    type Harm = fn(&SimDisk, &str);
    let remove: Harm = |disk, path| {
        disk.tamper_names(|names| {
            names.remove(path);
        });
    };
    let shorten: Harm = |disk, path| disk.tamper(path, |bytes| bytes.truncate(bytes.len() - 5));
    let last_newline: Harm = |disk, path| disk.tamper(path, |bytes| bytes.truncate(bytes.len() - 1));
    let empty: Harm = |disk, path| disk.tamper(path, Vec::clear);
    for (closed, harm) in
        [(true, remove), (true, shorten), (true, last_newline), (true, empty), (false, remove), (false, empty)]
    {
        let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
        let disk = SimDisk::new(1);
        let house = opened(&disk, &clock, NOW_MS);
        some_segments(&house).await;
        let check = ColdCheck::new(house.clerk.clone(), house.published.clone(), Arc::new(disk.clone()));
        let mut watch = SegmentWatch::new(check);
        assert_eq!(watch.look().unwrap(), 0);
        submit(&house.clerk, create()).await.unwrap();
        let segments = house.published.reader().segments();
        let path = layout::segment_path(if closed { segments[1] } else { segments[3] });
        harm(&disk, &path);
        watch.look().unwrap();
        let refused = submit(&house.clerk, create()).await.unwrap_err();
        assert_eq!(refused.reason, Reason::StorageJournalUnavailable);
        let said = house.clerk.trouble().unwrap().detail;
        assert!(said.contains(&path), "{said}");
        drop(house.clerk);
        let _ = house.thread.finish().unwrap().close();
        if closed {
            let damage: Damage = serde_json::from_slice(&disk.content(layout::DAMAGE).unwrap()).unwrap();
            let [range] = damage.ranges.as_slice() else { panic!("{damage:?}") };
            assert_eq!((range.from_seq, range.to_seq), (segments[1], segments[2] - 1));
        }
        let refusal = open(opening(&disk, &clock, NOW_MS)).err().unwrap();
        assert!(refusal.reason.code().starts_with("state_root.journal_"), "{}", refusal.detail);
    }
}

#[tokio::test]
async fn rot_in_the_header_of_the_active_segment_is_found_and_each_bad_header_is_named_once() {
    let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
    for rotten in [2, 3] {
        let disk = SimDisk::new(1);
        let house = opened(&disk, &clock, NOW_MS);
        some_segments(&house).await;
        let path = layout::segment_path(house.published.reader().segments()[rotten]);
        disk.tamper(&path, |bytes| bytes[10] ^= 1);
        let check = ColdCheck::new(house.clerk.clone(), house.published.clone(), Arc::new(disk.clone()));
        let pass = check.pass(&|| false).unwrap();
        let found: Vec<_> = pass.rot.iter().map(|range| (range.file.as_str(), range.from_byte)).collect();
        assert_eq!(found, [(path.as_str(), 0)], "{rotten}");
        assert!(is_frozen(&house.clerk), "{rotten}");
    }
}

/// Whether nothing more is written, once all is done that the clerk was asked for before.
fn is_frozen(clerk: &Clerk) -> bool {
    let (sender, frozen) = mpsc::sync_channel(1);
    clerk.errand(Box::new(move |scribe| sender.send(scribe.journal().poison().is_some()).unwrap()));
    frozen.recv().unwrap()
}

#[tokio::test]
async fn a_check_that_lacks_descriptors_finds_nothing_and_one_that_the_disk_answers_an_error_finds_rot() {
    let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
    for (errno, rotten) in [(rustix::io::Errno::MFILE, false), (rustix::io::Errno::IO, true)] {
        let disk = SimDisk::new(1);
        let house = opened(&disk, &clock, NOW_MS);
        some_segments(&house).await;
        let check = ColdCheck::new(house.clerk.clone(), house.published.clone(), Arc::new(disk.clone()));
        // The first opening is that of `state-root.json`.
        disk.set_fault(Fault::OpenError(2, errno));
        assert_eq!(check.pass(&|| false).map(|pass| pass.rot.len()).ok(), rotten.then_some(1), "{errno}");
        assert_eq!((is_frozen(&house.clerk), disk.content(layout::DAMAGE).is_some()), (rotten, rotten), "{errno}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_failed_for_a_passing_reason_is_made_again_after_ten_minutes() {
    let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
    let disk = SimDisk::new(1);
    let house = opened(&disk, &clock, NOW_MS);
    some_segments(&house).await;
    let tasks = Tasks::new();
    disk.set_fault(Fault::OpenError(2, rustix::io::Errno::MFILE));
    ColdCheck::new(house.clerk.clone(), house.published.clone(), Arc::new(disk.clone())).follow(&tasks);
    tokio::time::sleep(Duration::from_secs(1)).await;
    disk.tamper(&layout::segment_path(0), |bytes| bytes[10] ^= 1);
    tokio::time::sleep(Duration::from_mins(9)).await;
    assert!(!is_frozen(&house.clerk), "nobody has looked since");
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(is_frozen(&house.clerk));
    tasks.stop();
}

#[tokio::test]
async fn damage_that_is_named_by_a_torn_file_or_lies_before_a_snapshot_refuses_the_start() {
    let clock = Arc::new(FakeClock::at(NOW_MS, 1_000));
    let disk = SimDisk::new(1);
    let house = opened(&disk, &clock, NOW_MS);
    some_segments(&house).await;
    let shared: Arc<dyn crate::platform::disk::Disk> = Arc::new(disk.clone());
    Snapshotter::new(house.clerk.clone(), house.published.clone(), shared, None).take().await.unwrap();
    let path = layout::segment_path(house.published.reader().segments()[1]);
    drop(house.clerk);
    house.thread.finish().unwrap().close().unwrap();
    let middle = disk.content(&path).unwrap().len() / 2;
    disk.tamper(&path, |bytes| bytes[middle] ^= 1);
    assert!(open(opening(&disk.copy(), &clock, NOW_MS)).is_ok(), "a start from a snapshot does not read that far back");
    crate::platform::disk::replace_atomically(&disk, "", layout::DAMAGE, b"{").unwrap();
    assert_eq!(open(opening(&disk, &clock, NOW_MS)).err().unwrap().reason, Reason::StateRootJournalCorrupt);
}
