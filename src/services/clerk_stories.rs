//! The clerk with a real journal on a simulated disk.

use std::sync::Arc;
use std::sync::mpsc;

use super::clerk::Clerk;
use super::desk::{Committed, Lane, WritePath as _};
use super::opening::{Opened, Opening, open};
use crate::domain::command::{Answer, Command};
use crate::domain::event::Event;
use crate::domain::ids::BootId;
use crate::domain::permission::Mode;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{DEFAULT_ORG, Provenance};
use crate::domain::runtime::SetMode;
use crate::domain::session::{self, Created};
use crate::domain::testing::plain_session;
use crate::journal::writer::Options;
use crate::platform::clock::FakeClock;
use crate::platform::entropy::FakeEntropy;
use crate::platform::sim_disk::SimDisk;
use crate::projections::Bodies as _;

const NOW_MS: u64 = 1_800_000_000_000;

fn opened(disk: &SimDisk, clock: &Arc<FakeClock>, boot: u64) -> Opened {
    let options = Options { segment_bytes: 64 << 10, ahead_bytes: 16 << 10, background: false, ..Options::default() };
    open(Opening {
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(clock) as Arc<dyn crate::platform::clock::Clock>,
        entropy: Arc::new(FakeEntropy::default()),
        options,
        boot_id: BootId::from_ulid(ulid::Ulid::from_parts(boot, 1)),
        build: "test".to_owned(),
        encode: |_, _, line, out| {
            let at = out.len();
            out.extend_from_slice(line);
            at
        },
        observe: Arc::new(|_, _| {}),
    })
    .unwrap()
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
