//! Which snapshots a start uses: those that a record names and that have the journal's tree. Of all others nothing is
//! believed, and as little as can be is read.

use super::*;
use crate::domain::command::Command;
use crate::domain::journal::SnapshotTaken;
use crate::domain::record::{DEFAULT_ORG, Draft};
use crate::domain::stream::Stream;
use crate::platform::disk::replace_atomically;
use crate::services::snapshotter::{Snapshotter, fold};
use crate::services::testing::{Root, act, cancel_run, create_session, queue_run, stop};

fn live(opened: &Opened) {
    let session = create_session(opened, "one");
    for text in ["do it", "and this", "and that"] {
        queue_run(opened, session, text);
    }
}

fn take(root: &Root, opened: &Opened) -> u64 {
    let worker = Snapshotter::new(opened.clerk.clone(), opened.published.clone(), root.folder.clone(), None);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(worker.take_beside()).unwrap()
}

/// Has the journal name a snapshot.
fn name(opened: &Opened, taken: SnapshotTaken) {
    act(opened, Command::Note(Draft::new(DEFAULT_ORG, Stream::Journal, taken.into()))).unwrap();
}

fn why(root: &Root, taken: &SnapshotTaken) -> String {
    let candidate = Candidate { seq: taken.seq, sha256: taken.sha256.clone() };
    read_over(root.folder.as_ref(), &candidate).unwrap().err().map_or("used".to_owned(), |why| why.to_string())
}

#[test]
fn a_snapshot_of_another_tree_is_not_used_although_a_record_names_it() {
    let mut root = Root::new();
    let opened = root.start();
    live(&opened);
    let good = take(&root, &opened);
    live(&opened);
    let right = fold(None, opened.published.reader()).unwrap();
    let mut foreign = right.clone();
    foreign.models = Models::default();
    let roots = foreign.frontier.len();
    let mut lies = Vec::new();
    for (root_of, with) in [(0, 7), (roots - 1, 9)] {
        foreign.frontier.clone_from(&right.frontier);
        foreign.frontier[root_of] = data_encoding::BASE64.encode(&[with; 32]);
        lies.push(snapshots::write(root.folder.as_ref(), &foreign).unwrap());
    }
    // The right tree of another place, and one that ends within a batch, where no seal is.
    foreign.frontier.clone_from(&right.frontier);
    for seq in [right.seq - 2, right.seq - 1, u64::MAX] {
        foreign.seq = seq;
        lies.push(snapshots::write(root.folder.as_ref(), &foreign).unwrap());
    }
    for lie in &lies {
        name(&opened, lie.clone());
    }
    let wanted = opened.published.models().digests();
    stop(opened);
    for lie in &lies {
        assert_eq!(why(&root, lie), "its tree is not the journal's", "{}", lie.seq);
    }
    let opened = root.start();
    assert_eq!(opened.found.snapshot_seq, Some(good));
    assert_eq!(opened.published.models().digests().get("runs"), wanted.get("runs"));
    // What is ahead of the journal does not push out what is taken from now on.
    let taken = take(&root, &opened);
    let kept = snapshots::candidates(root.folder.as_ref()).unwrap();
    assert_eq!(kept.iter().map(|kept| kept.seq).max(), Some(taken));
    stop(opened);
    assert_eq!(root.start().found.snapshot_seq, Some(taken));
}

#[test]
fn a_receipt_of_a_new_line_needs_none_of_the_segments_that_the_start_passed_over() {
    let mut root = Root::new();
    let opened = root.start();
    let session = create_session(&opened, "long");
    let work = |opened: &Opened| {
        for _ in 0..80 {
            cancel_run(opened, queue_run(opened, session, "w"));
        }
    };
    (0..4).for_each(|_| work(&opened));
    take(&root, &opened);
    let head = opened.published.head().next_seq;
    (0..2).for_each(|_| work(&opened));
    stop(opened);
    let opened = root.start();
    let reader = opened.published.reader();
    let begun = reader.tree_before_segment(head - 1).unwrap().size();
    assert!(begun > 1_024 && opened.found.snapshot_seq.is_some(), "{begun}");
    // The older segments rot on disk: whoever hashes them finds no proof.
    for first in reader.segments().into_iter().filter(|first| *first < begun) {
        let file = root.folder.open(&layout::segment_path(first), crate::platform::disk::Open::Write).unwrap();
        let bytes = file.bytes().unwrap();
        file.write_at(bytes / 2, b"rot").unwrap();
    }
    let newest = opened.published.head().note.size - 1;
    crate::journal::proof::Receipt::make(reader, newest, None).unwrap();
    stop(opened);
}

#[test]
fn contents_are_looked_at_only_where_a_record_names_their_digest_and_they_are_of_a_bearable_size() {
    let mut root = Root::new();
    let opened = root.start();
    live(&opened);
    let seq = opened.published.head().next_seq - 1;
    let folder = root.folder.clone();
    let put = |file: &[u8]| {
        let sha256 = data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(file));
        replace_atomically(folder.as_ref(), "snapshots", &format!("{seq:020}-{sha256}.zst"), file).unwrap();
        SnapshotTaken { seq, sha256, version: snapshots::VERSION, digests: std::collections::BTreeMap::new() }
    };
    root.folder.create_dir("snapshots").unwrap();
    let small = |text: String| zstd::bulk::compress(text.as_bytes(), 1).unwrap();
    let strange = put(&small("{".to_owned()));
    let older = put(&small(format!("{{\"version\":{},\"seq\":1}}", snapshots::VERSION - 1)));
    let torn = put(&small(format!("{{\"version\":{},\"seq\":1", snapshots::VERSION)));
    // A frame that says itself how much comes, and one that does not and wants a large window.
    let promising = put(&[0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0]);
    let mut endless = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    endless.window_log(27).unwrap();
    std::io::Write::write_all(&mut endless, b"{}").unwrap();
    let endless = put(&endless.finish().unwrap());
    let mut wide = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(27).unwrap();
    wide.set_pledged_src_size(Some(1 << 28)).unwrap();
    wide.include_contentsize(true).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b' '), 1 << 28), &mut wide).unwrap();
    let wide = put(&wide.finish().unwrap());
    let all = [&strange, &older, &torn, &promising, &endless, &wide];
    for taken in all {
        assert_eq!(why(&root, taken), "no verified record names it");
    }
    for taken in all {
        name(&opened, taken.clone());
    }
    let other = &format!("it is not of version {}", snapshots::VERSION);
    let large = "it would take more memory than a snapshot may";
    let said = all.map(|taken| why(&root, taken));
    assert_eq!([&said[0], &said[1], &said[3], &said[4]], [other, other, large, large]);
    assert!(said[2].starts_with("it cannot be read: EOF"), "{}", said[2]);
    assert!(said[5].starts_with("it cannot be read: Frame requires too much memory"), "{}", said[5]);
    replace_atomically(root.folder.as_ref(), "snapshots", &format!("{seq:020}-{}.zst", strange.sha256), b"x").unwrap();
    assert_eq!(why(&root, &strange), "its digest is not the one in its name");
    stop(opened);
}
