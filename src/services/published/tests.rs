//! Readings of the journal: how much they take at a time, and in turns.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::domain::record::DEFAULT_ORG;
use crate::journal::layout;
use crate::platform::disk::{Disk as _, Open, read_bounded};
use crate::services::testing::{Root, create_session, queue_run, stop};
use crate::vault::redaction::Redactor;

fn everything() -> Arc<Filter> {
    Arc::new(Filter { org: DEFAULT_ORG.to_owned(), scope: Scope::All })
}

#[test]
fn replays_take_turns_a_few_at_a_time_and_end_with_the_step_once_nobody_waits() {
    static AT_WORK: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    let mut root = Root::new();
    let opened = root.start();
    for number in 0..20 {
        create_session(&opened, &number.to_string());
    }
    // The same journal, behind an encoding that takes its time.
    let encode: Encode = |_, _, line, out| {
        MOST.fetch_max(AT_WORK.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        STEPS.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        AT_WORK.fetch_sub(1, Ordering::SeqCst);
        let at = out.len();
        out.extend_from_slice(line);
        at
    };
    let (models, blobs) = (opened.published.models().clone(), opened.published.blobs().clone());
    let (reader, sides) = (opened.published.reader().clone(), (encode, Arc::new(|_, _| {}) as Observe));
    let slow = Published::new(models, reader, blobs, (root.clock.clone(), Redactor::default()), sides);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (end, filter) = (slow.head().next_seq, everything());
        let replay = || async {
            let mut from = 0;
            while from < end {
                from = slow.replay(&filter, (from, end), 1).await.unwrap().1;
            }
        };
        let all = futures_util::future::join_all((0..24).map(|_| replay()));
        let hung_up = tokio::time::timeout(Duration::from_millis(200), all).await;
        assert!(hung_up.is_err(), "there was more to replay");
        // The steps that had begun.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = STEPS.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(STEPS.load(Ordering::SeqCst), begun, "nobody works for those who hung up");
    });
    assert_eq!(MOST.load(Ordering::SeqCst), REPLAYS);
    stop(opened);
}

#[test]
fn one_reading_ends_at_its_bytes_and_looks_at_so_many_of_others_before_it_says_where_to_go_on() {
    let mut root = Root::roomy();
    let opened = root.start();
    let (busy, quiet) = (create_session(&opened, "busy"), create_session(&opened, "quiet"));
    let words = "w".repeat(60 << 10);
    for _ in 0..300 {
        queue_run(&opened, busy, &words);
    }
    let published = &opened.published;
    let end = published.head().next_seq;
    let of = |session| Filter { org: DEFAULT_ORG.to_owned(), scope: Scope::Session(session) };
    let (items, next) = published.read(&of(quiet), 0, end, 1_000).unwrap();
    assert_eq!(items.len(), 1, "the quiet session's creation");
    assert!(next < end, "one reading does not look at a whole journal");
    let (items, next) = published.read(&of(quiet), next, end, 1_000).unwrap();
    assert_eq!((items.len(), next), (0, end));
    let most = Most { items: 1_000, bytes: 256 << 10 };
    let (items, next) = published.read(&of(busy), 0, end, most).unwrap();
    assert_eq!(items.len(), 6, "its creation, and runs until 256 KiB are passed");
    assert_eq!(items.last().map(|item| item.seq + 1), Some(next));
    stop(opened);
}

#[test]
fn a_follower_keeps_no_more_in_memory_than_it_is_counted_for_however_large_the_batches_are() {
    let mut root = Root::roomy();
    let opened = root.start();
    let session = create_session(&opened, "s");
    queue_run(&opened, session, &"w".repeat(60 << 10));
    let published = &opened.published;
    let records: Vec<Record> = (0..published.head().next_seq)
        .filter_map(|seq| line::parse_record(&published.reader().line(seq).unwrap()?).ok())
        .collect();
    let batch: Vec<Record> = records.iter().cycle().take(400).cloned().collect();
    let lines: Vec<Vec<u8>> =
        batch.iter().map(|record| published.reader().line(record.seq).unwrap().unwrap()).collect();
    let events = published.encode(&batch, lines.iter().map(Vec::as_slice));
    assert_eq!(events.len(), batch.len());
    for (event, line) in events.iter().zip(&lines) {
        assert_eq!(event.line, line.as_slice());
        let room = BUFFER_BYTES.max(line.len() + FRAME_BYTES);
        assert!(event.buffer.bytes <= room, "{} bytes for a line of {}", event.buffer.bytes, line.len());
    }
    // Parts of one buffer stand one behind the other.
    let mut together = 0;
    for pair in events.windows(2) {
        let (frame, next) = (&pair[0].frame, &pair[1].frame);
        together = if frame.as_ptr_range().end == next.as_ptr() { together + frame.len() } else { 0 };
        assert!(together <= BUFFER_BYTES, "{together} bytes of frames in one buffer");
        assert_eq!(pair[0].buffer == pair[1].buffer, together > 0);
    }
    stop(opened);
}

#[test]
fn nobody_is_led_past_a_line_that_does_not_read() {
    let mut root = Root::new();
    let opened = root.start();
    for title in ["first", "second", "third"] {
        create_session(&opened, title);
    }
    let published = &opened.published;
    let end = published.head().next_seq;
    let (all, _) = published.read(&everything(), 0, end, 1_000).unwrap();
    let second = all.iter().find(|item| item.line.windows(8).any(|text| text == b"\"second\"")).unwrap();
    let path = layout::segment_path(0);
    let bytes = read_bounded(root.folder.as_ref(), &path, 64 << 20).unwrap();
    let at = bytes.windows(second.line.len()).position(|line| line == second.line).unwrap();
    root.folder.open(&path, Open::Write).unwrap().write_at(at as u64 + 1, b"x").unwrap();
    let (items, next) = published.read(&everything(), 0, end, 1_000).unwrap();
    assert_eq!((items.last().map(|item| item.seq < second.seq), next), (Some(true), second.seq));
    let error = published.read(&everything(), next, end, 1_000).unwrap_err();
    assert!(error.to_string().contains("does not read"), "{error}");
    stop(opened);
}
