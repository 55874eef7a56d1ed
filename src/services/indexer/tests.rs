//! The index may be gone, torn, of another history or wrong; what is read stays the same.

#![allow(clippy::disallowed_methods, reason = "tests look at the disk themselves")]

use proptest::prelude::*;

use super::*;
use crate::domain::event::Event;
use crate::domain::ids::{RunId, SessionId};
use crate::journal::line;
use crate::projections::feed::{Filter, Scope};
use crate::services::index_offline::{self, Compared};
use crate::services::opening::Opened;
use crate::services::testing::{Root, cancel_run, create_session, end_session, queue_run, stop};

fn keeper(root: &Root, opened: &Opened) -> Keeper {
    let published = opened.published.clone();
    let root_id = published.head().note.origin.root_id;
    Keeper { place: Place::new(root.folder.clone(), root_id), published, failures: 0, cause: None }
}

/// Steps until nothing is left to do, and gives the causes of rebuilds that were to be recorded.
fn settle(keeper: &mut Keeper) -> Vec<String> {
    let mut causes = Vec::new();
    let mut idle = 0;
    while idle < 2 {
        match keeper.step() {
            Stepped::Added => idle = 0,
            Stepped::Rebuilt(event) => {
                let IndexState::Used(index, _) = keeper.published.index() else { panic!("there is an index") };
                index.set_cause(None).unwrap();
                causes.push(event.cause);
            }
            Stepped::Idle => idle += 1,
        }
    }
    causes
}

/// What happens in a house: sessions, their runs, and ends.
fn live(opened: &Opened, acts: &[(u8, u8)]) -> (Vec<SessionId>, Vec<RunId>) {
    let mut sessions = vec![create_session(opened, "the first")];
    let (mut runs, mut ended) = (Vec::new(), std::collections::BTreeSet::new());
    for (act, which) in acts {
        let session = sessions[usize::from(*which) % sessions.len()];
        match act % 6 {
            0 => sessions.push(create_session(opened, &"t".repeat(usize::from(*which)))),
            1..=3 if !ended.contains(&session) => {
                runs.push(queue_run(opened, session, &"w".repeat(usize::from(*which) * 2 + 1)));
            }
            4 if !runs.is_empty() => {
                let run = runs[usize::from(*which) % runs.len()];
                if opened.published.models().runs.queued_ids().any(|queued| queued == run) {
                    cancel_run(opened, run);
                }
            }
            5 if sessions.len() > 1 && ended.insert(session) => end_session(opened, session),
            _ => {}
        }
    }
    (sessions, runs)
}

type Read = (Vec<(u64, Vec<u8>)>, u64);

fn read(published: &Published, scope: Scope, from: u64, to: u64, most: usize) -> Read {
    let filter = Filter { org: DEFAULT_ORG.to_owned(), scope };
    let (items, next) = published.read(&filter, from, to, most).unwrap();
    (items.iter().map(|item| (item.seq, item.line.to_vec())).collect(), next)
}

#[test]
fn a_page_of_a_session_costs_the_same_look_ups_however_many_runs_the_session_has() {
    let mut root = Root::new();
    let opened = root.start();
    let (few, many) = (create_session(&opened, "few"), create_session(&opened, "many"));
    queue_run(&opened, few, "one");
    for number in 0..150 {
        cancel_run(&opened, queue_run(&opened, many, &number.to_string()));
    }
    let mut keeper = keeper(&root, &opened);
    settle(&mut keeper);
    let IndexState::Used(index, true) = opened.published.index() else { panic!("the index must be complete") };
    let covered = index.covered();
    let cost = |session, from| {
        let before = index.lookups();
        let (items, next) = read(&opened.published, Scope::Session(session), from, covered, 10);
        (index.lookups() - before, items.len(), next)
    };
    let (of_few, items, _) = cost(few, 0);
    assert_eq!(items, 2);
    let (mut from, mut seen) = (0, 0);
    while from < covered {
        let (of_many, items, next) = cost(many, from);
        // One more for each line whose place is looked up.
        assert!(of_many <= of_few + 10, "{of_many} look-ups for a page of the one, {of_few} for one of the other");
        (from, seen) = (next, seen + items);
    }
    assert!(seen > 250, "{seen}");
    drop((keeper, index));
    stop(opened);
}

#[test]
fn an_index_of_another_version_is_built_anew() {
    let mut root = Root::new();
    let opened = root.start();
    live(&opened, &many_acts(120));
    let mut one = keeper(&root, &opened);
    settle(&mut one);
    drop(one);
    stop(opened);
    let db = sled::open(root.folder.path().join("index")).unwrap();
    let mark = String::from_utf8(db.get("m").unwrap().unwrap().to_vec()).unwrap();
    assert!(mark.starts_with("{\"version\":2,"), "{mark}");
    db.insert("m", mark.replacen("\"version\":2", "\"version\":1", 1).as_bytes()).unwrap();
    drop(db);
    let opened = root.start();
    let mut two = keeper(&root, &opened);
    assert_eq!(settle(&mut two), ["other_version"]);
    drop(two);
    stop(opened);
}

fn many_acts(count: u8) -> Vec<(u8, u8)> {
    (0..count).map(|n| (n, n.wrapping_mul(37))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn what_is_read_through_the_index_is_what_scanning_gives(
        acts in proptest::collection::vec(any::<(u8, u8)>(), 150..260),
        asks in proptest::collection::vec(any::<(u8, u16, u16, u8)>(), 60),
    ) {
        let mut root = Root::new();
        let opened = root.start();
        let (sessions, runs) = live(&opened, &acts);
        let published = opened.published.clone();
        let mut keeper = keeper(&root, &opened);
        settle(&mut keeper);
        let used = published.index();
        let IndexState::Used(index, true) = &used else { panic!("the index must be complete") };
        let size = published.head().next_seq;
        prop_assert!(index.covered() > size / 2 && published.reader().segments().len() > 3);
        let unknown = RunId::from_ulid(ulid::Ulid(1));
        for (which, from, length, most) in asks {
            let scope = match which % 3 {
                0 => Scope::Session(sessions[usize::from(which) % sessions.len()]),
                1 if !runs.is_empty() => Scope::Run(runs[usize::from(which) % runs.len()]),
                2 => Scope::Run(unknown),
                _ => Scope::All,
            };
            let from = u64::from(from) % (size + 4);
            let to = if length % 5 == 0 { u64::MAX } else { from + u64::from(length) % size };
            let most = if most % 4 == 0 { usize::MAX } else { usize::from(most % 7) };
            published.set_index(used.clone());
            let through = read(&published, scope, from, to, most);
            let line = published.reader().line(from).unwrap();
            let proof = (from < size - 1).then(|| published.reader().inclusion(from, size - 1).unwrap());
            published.set_index(IndexState::None);
            prop_assert_eq!(through, read(&published, scope, from, to, most));
            prop_assert_eq!(line, published.reader().line(from).unwrap());
            let again = (from < size - 1).then(|| published.reader().inclusion(from, size - 1).unwrap());
            prop_assert_eq!(proof, again);
            published.reader().forget(index.covered());
        }
        drop((keeper, used));
        stop(opened);
    }
}

#[test]
fn an_index_that_is_deleted_while_stopped_or_while_running_is_built_anew_and_that_is_to_be_recorded() {
    let mut root = Root::new();
    let opened = root.start();
    let (sessions, _) = live(&opened, &many_acts(120));
    let first = keeper(&root, &opened).place.root_id;
    let mut one = keeper(&root, &opened);
    assert_eq!(settle(&mut one), ["missing"], "segments were closed before there was an index");
    assert_eq!(settle(&mut one), Vec::<String>::new());
    std::fs::remove_dir_all(root.folder.path().join("index")).unwrap();
    assert_eq!(settle(&mut one), ["missing"]);
    let wanted = read(&opened.published, Scope::Session(sessions[0]), 0, u64::MAX, usize::MAX);
    drop(one);
    stop(opened);
    std::fs::remove_dir_all(root.folder.path().join("index")).unwrap();
    let opened = root.start();
    let mut two = keeper(&root, &opened);
    assert_eq!(two.place.root_id, first);
    assert_eq!(settle(&mut two), ["missing"]);
    assert_eq!(read(&opened.published, Scope::Session(sessions[0]), 0, wanted.1, usize::MAX).0, wanted.0);
    drop(two);
    stop(opened);
    let opened = root.start();
    let mut three = keeper(&root, &opened);
    assert_eq!(settle(&mut three), Vec::<String>::new(), "a good index is taken as it is");
    drop(three);
    stop(opened);
}

#[test]
fn a_torn_or_flipped_index_never_stops_anything_and_never_changes_what_is_read() {
    let mut root = Root::new();
    let opened = root.start();
    let (sessions, _) = live(&opened, &many_acts(120));
    let mut one = keeper(&root, &opened);
    settle(&mut one);
    opened.published.set_index(IndexState::None);
    let wanted = read(&opened.published, Scope::Session(sessions[1]), 0, u64::MAX, usize::MAX);
    drop(one);
    stop(opened);
    let file = root.folder.path().join("index/db");
    let good = std::fs::read(&file).unwrap();
    let used = good.iter().rposition(|byte| *byte != 0).unwrap();
    for round in 0..24 {
        let mut bytes = good.clone();
        let at = used * (round / 2 + 1) / 13;
        if round % 2 == 0 {
            bytes.truncate(at);
        } else {
            bytes[at..at + 64].fill(0xa5);
        }
        std::fs::write(&file, &bytes).unwrap();
        let opened = root.start();
        let mut keeper = keeper(&root, &opened);
        settle(&mut keeper);
        let state = opened.published.index();
        assert!(matches!(&state, IndexState::Used(_, true)), "round {round}: it is built anew");
        let found = read(&opened.published, Scope::Session(sessions[1]), 0, wanted.1, usize::MAX);
        assert_eq!(found, wanted, "round {round}");
        drop((keeper, state));
        stop(opened);
        let compared = index_offline::verify(root.folder.path()).unwrap();
        assert!(matches!(compared, Compared::Same { missing: 0, .. }), "round {round}: {compared:?}");
    }
}

/// Reads something, and tells what it read.
type Ask<'a> = dyn Fn(&Published) -> String + 'a;

/// What an index that turns out bad while it is read must come to.
fn assert_dropped(mut keeper: Keeper) {
    assert_eq!(keeper.step(), Stepped::Idle);
    assert!(matches!(keeper.published.index(), IndexState::Unusable(_)));
    assert_eq!(settle(&mut keeper), ["unreadable"]);
}

#[test]
fn an_index_that_answers_an_error_is_dropped_and_the_journal_is_read_in_its_place() {
    let mut root = Root::new();
    let opened = root.start();
    let (sessions, _) = live(&opened, &many_acts(120));
    let published = opened.published.clone();
    let of_session =
        |published: &Published| format!("{:?}", read(published, Scope::Session(sessions[1]), 0, u64::MAX, usize::MAX));
    let one_line = |published: &Published| format!("{:?}", published.reader().line(40).unwrap());
    let asks: [(_, &Ask<'_>); 3] = [("last", &of_session), ("range", &of_session), ("last", &one_line)];
    for (reading, ask) in asks {
        let wanted = ask(&published);
        let mut keeper = keeper(&root, &opened);
        settle(&mut keeper);
        let IndexState::Used(index, true) = published.index() else { panic!("the index must be complete") };
        published.reader().forget(index.covered());
        index.fail(reading);
        drop(index);
        assert_eq!(ask(&published), wanted, "{reading}");
        assert_dropped(keeper);
    }
    stop(opened);
}

#[test]
fn an_index_with_an_entry_that_is_none_is_dropped_and_the_journal_is_read_in_its_place() {
    let mut root = Root::new();
    let opened = root.start();
    let (sessions, _) = live(&opened, &many_acts(120));
    let wanted = read(&opened.published, Scope::Session(sessions[0]), 0, u64::MAX, usize::MAX);
    settle(&mut keeper(&root, &opened));
    stop(opened);
    let key = [&b"ps"[..], &sessions[0].ulid().0.to_be_bytes(), &3_u64.to_be_bytes()].concat();
    let db = sled::open(root.folder.path().join("index")).unwrap();
    assert!(db.insert(&key, &[0x80_u8][..]).unwrap().is_some(), "the first session begins at number 3");
    drop(db);
    let opened = root.start();
    let mut keeper = keeper(&root, &opened);
    assert_eq!(settle(&mut keeper), Vec::<String>::new());
    assert_eq!(read(&opened.published, Scope::Session(sessions[0]), 0, wanted.1, usize::MAX), wanted);
    assert_dropped(keeper);
    stop(opened);
}

#[test]
fn nobody_is_led_by_the_index_past_a_line_that_does_not_read() {
    let mut root = Root::new();
    let opened = root.start();
    let (sessions, _) = live(&opened, &many_acts(120));
    settle(&mut keeper(&root, &opened));
    let published = &opened.published;
    let scope = Scope::Session(sessions[0]);
    let (mut all, _) = read(published, scope, 0, u64::MAX, usize::MAX);
    let (seq, line) = all[1].clone();
    let IndexState::Used(index, true) = published.index() else { panic!("the index must be complete") };
    assert!(seq < index.covered());
    let segment = published.reader().segments().into_iter().rfind(|first| *first <= seq).unwrap();
    let path = layout::segment_path(segment);
    let bytes = std::fs::read(root.folder.path().join(&path)).unwrap();
    let at = bytes.windows(line.len()).position(|text| text == line).unwrap();
    root.folder.open(&path, Open::Write).unwrap().write_at(at as u64 + 1, b"x").unwrap();
    published.reader().forget(index.covered());
    all.truncate(1);
    let (found, next) = read(published, scope, 0, u64::MAX, usize::MAX);
    assert!(found == all && next <= seq, "{next} is behind {seq}");
    let error = published.read(&Filter { org: DEFAULT_ORG.to_owned(), scope }, next, u64::MAX, usize::MAX).unwrap_err();
    assert!(error.to_string().contains("does not read"), "{error}");
    drop(index);
    stop(opened);
}

#[test]
fn where_no_index_can_be_everything_is_read_all_the_same_and_the_state_says_why() {
    let mut root = Root::new();
    let opened = root.start();
    let (sessions, _) = live(&opened, &many_acts(60));
    let wanted = read(&opened.published, Scope::Session(sessions[0]), 0, u64::MAX, usize::MAX);
    std::fs::write(root.folder.path().join("index"), "a file stands in its place").unwrap();
    let mut keeper = keeper(&root, &opened);
    for _ in 0..FAILURES + 3 {
        keeper.step();
    }
    assert!(matches!(opened.published.index(), IndexState::Unusable(_)));
    assert_eq!(keeper.failures, FAILURES);
    assert_eq!(read(&opened.published, Scope::Session(sessions[0]), 0, u64::MAX, usize::MAX), wanted);
    drop(keeper);
    stop(opened);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn an_index_of_another_history_of_the_same_root_is_thrown_away() {
    let mut root = Root::new();
    let opened = root.start();
    live(&opened, &many_acts(40));
    stop(opened);
    let early = root.keep.path().join("early");
    copy(root.folder.path(), &early);
    let opened = root.start();
    live(&opened, &many_acts(120));
    settle(&mut keeper(&root, &opened));
    stop(opened);
    // Back to the early state, as after a restore, and on from there in another way, with the index left in place.
    let state = root.folder.path().to_owned();
    std::fs::rename(state.join("index"), early.join("index")).unwrap();
    std::fs::remove_dir_all(state.join("journal")).unwrap();
    copy(&early, &state);
    let opened = root.start();
    live(&opened, &many_acts(200));
    let mut keeper = keeper(&root, &opened);
    assert_eq!(settle(&mut keeper), ["other_history"]);
    drop(keeper);
    stop(opened);
    assert!(matches!(index_offline::verify(&state).unwrap(), Compared::Same { missing: 0, .. }));
}

#[test]
fn offline_an_index_is_rebuilt_for_the_next_start_to_record_and_a_wrong_entry_is_found() {
    let mut root = Root::new();
    let opened = root.start();
    let (sessions, _) = live(&opened, &many_acts(120));
    let path = root.folder.path().to_owned();
    let lock = root.folder.try_lock(layout::LOCK).unwrap();
    assert_eq!(index_offline::rebuild(&path).unwrap_err().reason, crate::domain::reason::Reason::StateRootLocked);
    drop(lock);
    stop(opened);
    assert_eq!(index_offline::verify(&path).unwrap(), Compared::Absent);
    let built = index_offline::rebuild(&path).unwrap();
    assert!(built.segments > 3 && built.records > 60, "{built:?}");
    assert!(matches!(index_offline::verify(&path).unwrap(), Compared::Same { missing: 0, .. }));
    let opened = root.start();
    let mut keeper = keeper(&root, &opened);
    assert_eq!(settle(&mut keeper), ["operator"]);
    drop(keeper);
    stop(opened);
    let key = [&b"ps"[..], &sessions[0].ulid().0.to_be_bytes(), &3_u64.to_be_bytes()].concat();
    let db = sled::open(path.join("index")).unwrap();
    assert!(db.insert(&key, &[1_u8][..]).unwrap().is_some(), "the first session begins at number 3");
    drop(db);
    assert!(matches!(index_offline::verify(&path).unwrap(), Compared::Differs(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_recorded_once() {
    let mut root = Root::new();
    let (root, opened) = tokio::task::spawn_blocking(move || {
        let opened = root.start();
        live(&opened, &many_acts(120));
        (root, opened)
    })
    .await
    .unwrap();
    let tasks = Tasks::new();
    follow(&tasks, opened.clerk.clone(), opened.published.clone(), root.folder.clone());
    tokio::time::sleep(Duration::from_millis(START_MS + TICK_MS * 4)).await;
    tasks.stop();
    assert!(tasks.drained(Duration::from_secs(5)).await);
    let mut causes = Vec::new();
    let keep = |_, bytes: &[u8]| {
        if let Ok(record) = line::parse_record(bytes)
            && let Event::IndexRebuilt(body) = record.event
        {
            causes.push(body.cause);
        }
        true
    };
    opened.published.reader().scan(0, u64::MAX, keep).unwrap();
    assert_eq!(causes, ["missing"]);
    tokio::task::spawn_blocking(move || stop(opened)).await.unwrap();
}
