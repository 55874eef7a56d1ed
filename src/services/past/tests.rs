//! What is said of the past is the fold of the records up to there, from whatever snapshot it begins.

use super::*;
use crate::domain::command::Command;
use crate::domain::record::{DEFAULT_ORG, Draft};
use crate::services::opening::Opened;
use crate::services::snapshotter;
use crate::services::testing::{NOW_MS, Root, act, cancel_run, create_session, end_session, queue_run, stop};

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn past(root: &Root, opened: &Opened) -> Past {
    let found = opened.found.snapshot.clone();
    let snapshots = Snapshotter::new(opened.clerk.clone(), opened.published.clone(), root.folder.clone(), found);
    Past::new(opened.published.clone(), root.folder.clone(), snapshots)
}

fn live(root: &Root, opened: &Opened) {
    for round in 0..6 {
        root.clock.advance(1_000);
        let session = create_session(opened, &format!("session {round}"));
        let run = queue_run(opened, session, "do it");
        queue_run(opened, session, "and this");
        root.clock.advance(1_000);
        cancel_run(opened, run);
        end_session(opened, session);
    }
}

fn folds(past: &Past, mut each: impl FnMut(u64, &Models)) {
    let mut models = Models::default();
    let reader = past.published.reader();
    let all = reader.scan(0, u64::MAX, |seq, bytes| {
        if let Ok(record) = line::parse_record(bytes) {
            models.apply(&record);
        }
        each(seq, &models);
        true
    });
    all.unwrap();
}

fn staying() -> AtomicBool {
    AtomicBool::new(false)
}

#[test]
fn each_moment_is_the_fold_of_the_records_up_to_it() {
    let mut root = Root::new();
    let opened = root.start();
    let asked = past(&root, &opened);
    let mut taken = Vec::new();
    for _ in 0..3 {
        live(&root, &opened);
        taken.push(wait(asked.snapshots.take_beside()).unwrap());
    }
    live(&root, &opened);
    let present = opened.published.models().clone();
    let bases = |seq: u64| asked.base(seq, &staying()).unwrap().map(|(_, base)| base);
    assert_eq!([bases(taken[1] - 1), bases(taken[1]), bases(taken[2] - 1)], [None, Some(taken[1]), Some(taken[1])]);
    assert_eq!(bases(u64::MAX), Some(taken[2]));
    let mut looked = 0;
    folds(&asked, |seq, wanted| {
        looked += 1;
        assert_eq!(asked.moment(At::Seq(seq), &staying()).unwrap().models, *wanted, "as of {seq}");
    });
    assert!(looked > 80, "{looked}");
    assert_eq!(*opened.published.models(), present, "the models in force are as they were");
    drop(asked);
    stop(opened);
}

#[test]
fn a_snapshot_that_no_record_names_tells_nothing_of_the_past() {
    let mut root = Root::new();
    let opened = root.start();
    live(&root, &opened);
    let asked = past(&root, &opened);
    let mut lie = snapshotter::fold(None, opened.published.reader()).unwrap();
    lie.models = Models::default();
    snapshots::write(root.folder.as_ref(), &lie).unwrap();
    live(&root, &opened);
    folds(&asked, |seq, wanted| {
        assert_eq!(asked.moment(At::Seq(seq), &staying()).unwrap().models, *wanted, "as of {seq}");
    });
    drop(asked);
    stop(opened);
}

#[test]
fn a_time_means_the_last_record_at_or_before_it() {
    let mut root = Root::new();
    let opened = root.start();
    for _ in 0..4 {
        live(&root, &opened);
    }
    root.clock.advance(60_000);
    let asked = past(&root, &opened);
    assert!(asked.published.reader().segments().len() > 2, "the records are in several segments");
    let mut times = Vec::new();
    folds(&asked, |seq, models| times.extend((models.last_seq == Some(seq)).then_some((models.last_at_ms, seq))));
    let last = |at_ms: u64| times.iter().rev().find(|(time, _)| *time <= at_ms).map(|(_, seq)| *seq);
    let moment = |at_ms| asked.moment(At::Time(at_ms), &staying());
    for at_ms in (NOW_MS..NOW_MS + 50_000).step_by(500) {
        let found = moment(at_ms).unwrap();
        assert_eq!((Some(found.seq), found.at_ms), (last(at_ms), at_ms));
        assert_eq!(found.models.last_seq, last(at_ms));
    }
    assert_eq!(moment(NOW_MS - 1).unwrap_err().reason, Reason::RequestInvalid);
    let now_ms = asked.published.clock().wall_ms();
    assert_eq!(moment(now_ms).unwrap().seq, times.last().unwrap().1);
    assert_eq!(moment(now_ms + 1).unwrap_err().reason, Reason::CursorAhead);
    let next = opened.published.head().next_seq;
    assert!(asked.moment(At::Seq(next - 1), &staying()).is_ok());
    assert_eq!(asked.moment(At::Seq(next), &staying()).unwrap_err().reason, Reason::CursorAhead);
    drop(asked);
    stop(opened);
}

#[test]
fn two_are_answered_at_a_time_and_who_left_is_folded_for_no_longer() {
    let mut root = Root::new();
    let opened = root.start();
    live(&root, &opened);
    let asked = past(&root, &opened);
    let sessions = |moment: &Moment| Ok(moment.models.sessions.count());
    let seq = opened.published.head().next_seq - 1;
    wait(async {
        let turns = [asked.turn().unwrap(), asked.turn().unwrap()];
        let refused = asked.show(At::Seq(seq), sessions).await.unwrap_err();
        assert_eq!((refused.reason, refused.retry_after_ms), (Reason::RequestOverloaded, Some(BUSY_MS)));
        drop(turns);
        let shown = asked.show(At::Seq(seq), sessions).await.unwrap();
        assert_eq!(shown, Shown { view: 6, as_of: Some(seq) });
        assert_eq!(asked.turns.available_permits(), FOLDS);
    });
    drop(asked);
    stop(opened);
}

#[test]
fn every_walk_ends_with_the_line_at_which_the_caller_has_left() {
    let mut root = Root::new();
    let opened = root.start();
    live(&root, &opened);
    let asked = past(&root, &opened);
    for _ in 0..2 {
        wait(asked.snapshots.take_beside()).unwrap();
        live(&root, &opened);
    }
    let (seq, older) =
        (opened.published.head().next_seq - 1, snapshots::candidates(asked.disk.as_ref()).unwrap()[1].clone());
    let snapshot = snapshots::read::<IgnoredAny>(asked.disk.as_ref(), &older).unwrap();
    assert!(asked.fits(&snapshot, &staying()).unwrap() && asked.vouched(&older, &staying()).unwrap());
    let left = AtomicBool::new(true);
    let walks = [
        asked.fold(seq, &left).err(),
        asked.last_before(NOW_MS, &left).err(),
        asked.vouched(&older, &left).err(),
        asked.fits(&snapshot, &left).err(),
    ];
    for error in walks {
        assert_eq!(error.map(|error| error.to_string()).as_deref(), Some("nobody waits for the answer any more"));
    }
    let (leaving, mut seen) = (staying(), 0);
    let walked = asked.scan((0, u64::MAX), &leaving, |_, _| {
        seen += 1;
        leaving.store(seen == 5, Ordering::Relaxed);
        true
    });
    assert_eq!((walked.is_err(), seen), (true, 5));
    drop(asked);
    stop(opened);
}

#[test]
fn a_snapshot_of_another_tree_tells_nothing_of_the_past_although_a_record_names_it() {
    let mut root = Root::new();
    let opened = root.start();
    live(&root, &opened);
    let asked = past(&root, &opened);
    let good = wait(asked.snapshots.take_beside()).unwrap();
    live(&root, &opened);
    let mut lie = snapshotter::fold(None, opened.published.reader()).unwrap();
    lie.models = Models::default();
    lie.frontier[0] = data_encoding::BASE64.encode(&[7; 32]);
    let taken = snapshots::write(root.folder.as_ref(), &lie).unwrap();
    act(&opened, Command::Note(Draft::new(DEFAULT_ORG, Stream::Journal, taken.into()))).unwrap();
    assert_eq!(asked.base(u64::MAX, &staying()).unwrap().map(|(_, base)| base), Some(good));
    folds(&asked, |seq, wanted| {
        assert_eq!(asked.moment(At::Seq(seq), &staying()).unwrap().models, *wanted, "as of {seq}");
    });
    drop(asked);
    stop(opened);
}
