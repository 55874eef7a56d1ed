//! Large parts beside the journal, as verification finds them.

#![allow(clippy::disallowed_methods, reason = "tests look at the disk themselves")]

use std::path::PathBuf;

use super::*;
use crate::domain::command::Command;
use crate::domain::journal::SnapshotTaken;
use crate::domain::limits;
use crate::domain::personal::Personal;
use crate::domain::record::{DEFAULT_ORG, Draft};
use crate::domain::run::{self, InputItem};
use crate::domain::stream::Stream;
use crate::services::opening::Opened;
use crate::services::snapshots::VERSION;
use crate::services::snapshotter::Snapshotter;
use crate::services::testing::{Root, act, create_session, stop};

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// Queues a run whose words are kept outside its record. Gives their file.
fn queue(root: &Root, opened: &Opened, letter: &str) -> PathBuf {
    let words = letter.repeat(limits::INLINE_PART_BYTES + 1);
    let part = wait(opened.published.blobs().keep(words, limits::INLINE_PART_BYTES, None)).unwrap().part;
    let Personal::Blob { blob } = &part else { panic!("a blob") };
    let path = root.folder.path().join(blobs::path(&blob.sha256));
    let ask = run::Queue {
        org: DEFAULT_ORG.to_owned(),
        session_id: create_session(opened, "s"),
        input: vec![
            InputItem::Text { text: "\"blob\":{\"sha256\":\"00\",\"bytes\":1}".into() },
            InputItem::Text { text: part },
        ],
        route: None,
        model: None,
        max_turns: None,
        max_output_tokens: None,
        metadata: BTreeMap::new(),
        reply_targets: None,
    };
    act(opened, Command::QueueRun(ask)).unwrap();
    path
}

fn verdict(root: &Root) -> (Verdict, usize) {
    let house = verify(root.folder.as_ref(), false);
    (house.journal.verdict, house.blobs)
}

#[test]
fn a_large_part_that_is_changed_is_invalid_and_one_that_is_gone_is_said_to_be_gone() {
    let mut root = Root::roomy();
    let opened = root.start();
    let (first, second) = (queue(&root, &opened, "a"), queue(&root, &opened, "b"));
    queue(&root, &opened, "b");
    stop(opened);
    assert_eq!(verdict(&root), (Verdict::Valid, 2));
    let good = std::fs::read(&first).unwrap();
    let name = first.strip_prefix(root.folder.path()).unwrap().to_str().unwrap().to_owned();
    let mut changed = good.clone();
    changed[60_000] = b'c';
    for bytes in [changed, good[1..].to_vec(), [good.as_slice(), b"a"].concat()] {
        std::fs::write(&first, &bytes).unwrap();
        let (verdict, _) = verdict(&root);
        assert!(matches!(&verdict, Verdict::Invalid { file, seq, .. } if *file == name && *seq > 0), "{verdict:?}");
    }
    std::fs::remove_file(&first).unwrap();
    let why = format!("1 parts that the journal names are not there, among them {name}");
    assert_eq!(verdict(&root), (Verdict::Unverifiable { why }, 1));
    std::fs::write(&first, &good).unwrap();
    std::fs::remove_file(&second).unwrap();
    assert!(matches!(verdict(&root), (Verdict::Unverifiable { .. }, 1)));
}

#[test]
fn digests_of_read_models_are_what_the_records_make_and_any_others_are_invalid() {
    let mut root = Root::new();
    let opened = root.start();
    let found = opened.found.snapshot.clone();
    let snapshots = Snapshotter::new(opened.clerk.clone(), opened.published.clone(), root.folder.clone(), found);
    let mut each = 0;
    for round in 0..10 {
        create_session(&opened, &round.to_string());
        wait(async { if round % 2 == 0 { snapshots.take().await } else { snapshots.take_beside().await } }).unwrap();
        each = opened.published.models().digests().len();
    }
    drop(snapshots);
    let said = |house: &HouseReport| (house.journal.verdict.clone(), house.digests, house.digests_passed_over);
    let name = |opened: &Opened, taken: SnapshotTaken| {
        let draft = Draft::new(DEFAULT_ORG, Stream::Journal, taken.into());
        act(opened, Command::Note(draft)).unwrap();
        opened.published.head().note.size - 1
    };
    // Held, as a daemon that runs is.
    assert_eq!(said(&verify(root.folder.as_ref(), true)), (Verdict::Valid, 8 * each, 2 * each));
    create_session(&opened, "unseen");
    let taken = SnapshotTaken {
        seq: opened.published.head().next_seq - 1,
        sha256: "00".repeat(32),
        version: VERSION,
        digests: opened.published.models().digests(),
    };
    // What another version says is not judged.
    let other = BTreeMap::from([("runs".to_owned(), "00".repeat(32))]);
    name(&opened, SnapshotTaken { version: VERSION - 1, digests: other, ..taken.clone() });
    name(&opened, taken.clone());
    assert_eq!(said(&verify(root.folder.as_ref(), true)), (Verdict::Valid, 8 * each, 3 * each + 1));
    let mut wrong = taken;
    wrong.digests.insert("sessions".to_owned(), "00".repeat(32));
    let seq = name(&opened, wrong);
    stop(opened);
    let (verdict, ..) = said(&verify(root.folder.as_ref(), false));
    let why = "the digest of the read model \"sessions\" is not the one that the records make".to_owned();
    let file = layout::segment_path(
        segments::list(root.folder.as_ref()).unwrap().iter().rfind(|file| file.first_seq <= seq).unwrap().first_seq,
    );
    assert_eq!(verdict, Verdict::Invalid { file, offset: 0, seq, why });
}
