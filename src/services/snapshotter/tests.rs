//! A start from a snapshot is the start from zero, only quicker; and a snapshot that nobody vouches for is none.

#![allow(clippy::disallowed_methods, reason = "tests look at the disk themselves")]

use std::collections::BTreeMap;

use super::*;
use crate::services::opening::Opened;
use crate::services::testing::{Root, cancel_run, create_session, end_session, queue_run, stop};

fn live(opened: &Opened, rounds: usize) {
    for round in 0..rounds {
        let session = create_session(opened, &format!("session {round}"));
        let runs: Vec<_> = (0..3).map(|n| queue_run(opened, session, &format!("run {n}"))).collect();
        cancel_run(opened, runs[round % 3]);
        if round % 2 == 0 {
            end_session(opened, session);
        }
    }
}

fn snapshotter(root: &Root, opened: &Opened) -> Snapshotter {
    let found = opened.found.snapshot.clone();
    Snapshotter::new(opened.clerk.clone(), opened.published.clone(), root.folder.clone(), found)
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn digests(opened: &Opened) -> BTreeMap<String, String> {
    opened.published.models().digests()
}

fn files(root: &Root) -> Vec<std::path::PathBuf> {
    let folder = root.folder.path().join("snapshots");
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn a_start_from_a_snapshot_gives_the_models_of_a_start_from_zero() {
    let mut root = Root::new();
    let opened = root.start();
    live(&opened, 12);
    let seq = wait(snapshotter(&root, &opened).take_beside()).unwrap();
    live(&opened, 5);
    let wanted = digests(&opened);
    stop(opened);
    let opened = root.start();
    assert_eq!(opened.found.snapshot_seq, Some(seq));
    assert_eq!(digests(&opened), wanted);
    let records = opened.found.folded;
    stop(opened);
    std::fs::remove_dir_all(root.folder.path().join("snapshots")).unwrap();
    let opened = root.start();
    assert_eq!((opened.found.snapshot_seq, digests(&opened)), (None, wanted));
    assert!(opened.found.folded > records + 20, "a start from zero folds everything");
    stop(opened);
}

#[test]
fn a_snapshot_folded_beside_the_clerk_is_the_copy_of_its_state() {
    let mut root = Root::new();
    let opened = root.start();
    let snapshots = snapshotter(&root, &opened);
    for _ in 0..3 {
        live(&opened, 4);
        let base = snapshots.base.lock().unwrap().clone();
        let base = base.and_then(|base| snapshots::read(root.folder.as_ref(), &base).ok());
        let folded = fold(base, opened.published.reader()).unwrap();
        let (sender, copied) = oneshot::channel();
        opened.clerk.errand(Box::new(move |scribe| drop(sender.send(scribe.copy()))));
        let (world, models, tree) = wait(copied).unwrap();
        assert_eq!(folded, snapshot(world, models, &tree));
        wait(snapshots.take_beside()).unwrap();
    }
    drop(snapshots);
    stop(opened);
}

#[test]
fn the_two_newest_snapshots_are_kept_and_a_changed_byte_or_a_missing_record_makes_one_worthless() {
    let mut root = Root::new();
    let opened = root.start();
    let snapshots = snapshotter(&root, &opened);
    let mut taken = Vec::new();
    for round in 0..3 {
        live(&opened, 3);
        let took = if round == 1 { wait(snapshots.take()) } else { wait(snapshots.take_beside()) };
        taken.push(took.unwrap());
    }
    let wanted = digests(&opened);
    // A right snapshot of the present state that no record names.
    live(&opened, 1);
    let after = digests(&opened);
    let unnamed = fold(None, opened.published.reader()).unwrap();
    assert!(unnamed.seq > taken[2] && wanted != after);
    drop(snapshots);
    stop(opened);
    assert_eq!(files(&root).len(), 2);
    snapshots::write(root.folder.as_ref(), &unnamed).unwrap();
    let opened = root.start();
    assert_eq!((opened.found.snapshot_seq, digests(&opened)), (Some(taken[2]), after.clone()));
    stop(opened);
    let newest = files(&root).into_iter().find(|path| path.to_string_lossy().contains(&taken[2].to_string())).unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, &bytes).unwrap();
    let opened = root.start();
    assert_eq!((opened.found.snapshot_seq, digests(&opened)), (Some(taken[1]), after));
    stop(opened);
}
