//! Where a stream begins and how much it holds.

use futures_util::StreamExt as _;

use super::*;
use crate::domain::command::Command;
use crate::domain::ids::SessionId;
use crate::domain::permission::Mode;
use crate::domain::record::DEFAULT_ORG;
use crate::domain::runtime;
use crate::services::runner::LiveDeltas;
use crate::services::testing::{Root, act, create_session, queue_run, stop};

fn follow(published: &Published, session: SessionId) -> Follower {
    let filter = Filter { org: DEFAULT_ORG.to_owned(), scope: Scope::Session(session) };
    Follower::new(published.clone(), (filter, Sight::Whole), 0, Words::new(LiveDeltas::default()))
}

/// Gathers until so many events were in line; the most bytes that were held at a time.
async fn gather(mut follower: Follower, events: usize) -> usize {
    let (mut seen, mut most) = (0, 0);
    while seen < events {
        follower.gather().await.unwrap();
        most = most.max(follower.ready.iter().map(Bytes::len).sum::<usize>());
        seen += follower.ready.drain(..).len();
    }
    assert_eq!(seen, events);
    most
}

#[test]
fn a_stream_begins_where_its_session_does_and_holds_little_of_what_comes() {
    let mut root = Root::roomy();
    let opened = root.start();
    for number in 0..9 {
        create_session(&opened, &number.to_string());
    }
    let session = create_session(&opened, "followed");
    let words = "w".repeat(60 << 10);
    for _ in 0..40 {
        queue_run(&opened, session, &words);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let held = limits::SUBSCRIBER_BYTES..limits::SUBSCRIBER_BYTES + (64 << 10);
    let follower = follow(&opened.published, session);
    let created = opened.published.models().session(DEFAULT_ORG, session).unwrap().created_seq;
    assert_eq!(follower.from, created);
    assert!(held.contains(&runtime.block_on(gather(follower, 41))), "out of memory");
    stop(opened);
    // After a restart nothing of it is in memory.
    let opened = root.start();
    let follower = follow(&opened.published, session);
    assert!(held.contains(&runtime.block_on(gather(follower, 41))), "off the disk");
    let frames = runtime.block_on(follow(&opened.published, session).frames().take(41).collect::<Vec<_>>());
    assert_eq!(frames.len(), 41);
    stop(opened);
}

#[test]
fn a_reader_to_whom_a_whole_page_means_nothing_is_shown_what_is_behind_it() {
    let mut root = Root::new();
    let opened = root.start();
    let from = opened.published.feed().next_seq();
    for number in 0..PAGE.items {
        let mode = if number % 2 == 0 { Mode::Plan } else { Mode::Default };
        let ask = runtime::SetMode { org: DEFAULT_ORG.to_owned(), mode, expected_revision: None };
        act(&opened, Command::SetPermissionMode(ask)).unwrap();
    }
    let session = create_session(&opened, "behind");
    let filter = Filter { org: DEFAULT_ORG.to_owned(), scope: Scope::All };
    let words = Words::new(LiveDeltas::default());
    let follower = Follower::new(opened.published.clone(), (filter, Sight::Part), from, words);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime.block_on(async {
        let mut frames = Box::pin(follower.frames());
        tokio::time::timeout(Duration::from_secs(5), frames.next()).await
    });
    let text = String::from_utf8(first.expect("nothing more has to happen").unwrap().to_vec()).unwrap();
    assert!(text.starts_with("id: ") && text.contains(&session.to_string()), "{text}");
    stop(opened);
}
