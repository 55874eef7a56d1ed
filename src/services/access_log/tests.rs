//! A closed chunk is in the journal, and a changed one is found.

#![allow(clippy::disallowed_methods, reason = "tests look at the disk themselves")]

use std::time::Duration;

use super::*;
use crate::domain::event::Event;
use crate::journal::line;
use crate::journal::verify::Verdict;
use crate::platform::rotated_log::RotatedLog;
use crate::services::house_verify::{self, HouseReport};
use crate::services::opening::Opened;
use crate::services::testing::{Root, stop};

fn named(opened: &Opened) -> Vec<AccessLogClosed> {
    let mut found = Vec::new();
    let keep = |_, bytes: &[u8]| {
        if let Ok(record) = line::parse_record(bytes)
            && let Event::AccessLogClosed(body) = record.event
        {
            found.push(body);
        }
        true
    };
    opened.published.reader().scan(0, u64::MAX, keep).unwrap();
    found
}

/// Names chunks for a while: those on disk, and these.
fn work(opened: &Opened, log: &Path, chunks: Vec<ClosedChunk>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks = Tasks::new();
        let (sender, receiver) = mpsc::channel(WAITING);
        follow(&tasks, opened.clerk.clone(), opened.published.clone(), log.to_owned(), receiver);
        for chunk in chunks {
            sender.send(chunk).await.unwrap();
        }
        drop(sender);
        assert!(tasks.drained(Duration::from_secs(10)).await);
    });
}

fn verify(root: &Root) -> HouseReport {
    house_verify::verify(root.folder.as_ref(), false)
}

#[test]
fn closed_chunks_are_named_once_and_a_changed_chunk_is_invalid_while_a_dropped_one_is_fine() {
    let mut root = Root::new();
    let opened = root.start();
    let path = root.folder.path().join(FOLDER).join(FILE);
    let mut log = RotatedLog::open(&path, 64, 3).unwrap();
    let mut write = |from: u32, to: u32| -> Vec<ClosedChunk> {
        (from..to).filter_map(|n| log.append(format!("{{\"line\":{n:020}}}").as_bytes()).unwrap()).collect()
    };
    let first = write(0, 4);
    assert_eq!(first.len(), 1);
    // The first chunk is closed while nobody listens; the others are told.
    let told = write(4, 8);
    work(&opened, &path, told.clone());
    work(&opened, &path, told.clone());
    let files: Vec<_> = named(&opened).into_iter().map(|body| (body.file, body.sha256, body.lines)).collect();
    let wanted: Vec<_> = first
        .iter()
        .chain(&told)
        .map(|chunk| (name(&chunk.path).unwrap().to_owned(), chunk.sha256.clone(), chunk.lines))
        .collect();
    assert_eq!(files, wanted);
    let later = write(8, 11);
    assert!(!first[0].path.exists(), "the oldest chunk is dropped");
    stop(opened);
    let report = verify(&root);
    assert_eq!(
        (&report.journal.verdict, report.chunks, report.unnamed),
        (&Verdict::Valid, 3 - later.len(), later.len())
    );
    let changed = &told[told.len() - 1].path;
    let good = std::fs::read_to_string(changed).unwrap();
    std::fs::write(changed, good.replacen('0', "1", 1)).unwrap();
    let file = format!("{FOLDER}/{}", name(changed).unwrap());
    match verify(&root).journal.verdict {
        Verdict::Invalid { file: found, .. } => assert_eq!(found, file),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(changed).unwrap();
    assert_eq!(verify(&root).journal.verdict, Verdict::Valid);
}
