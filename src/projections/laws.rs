//! Laws of the read models, and what their views show.

use proptest::prelude::*;

use super::page::Paging;
use super::{Bodies, Models, approvals, questions, runs, sessions, tasks, waits};
use crate::domain::approval::Decision;
use crate::domain::command::{Answer, Command};
use crate::domain::ids::{RunId, SessionId, TaskId};
use crate::domain::random_commands::command_of;
use crate::domain::reason::Reason;
use crate::domain::record::{DEFAULT_ORG, Record};
use crate::domain::run::{self, Status};
use crate::domain::session;
use crate::domain::testing::House;

impl Bodies for House {
    fn record(&self, seq: u64) -> Option<Record> {
        self.records.iter().find(|record| record.seq == seq).cloned()
    }
}

fn folded(house: &House) -> Models {
    let mut models = Models::default();
    for record in &house.records {
        models.apply(record);
    }
    models
}

/// Read models and world must tell the same story.
fn compare(house: &House, models: &Models) {
    let world = &house.world;
    for (id, run) in &world.runs {
        let facts = models.runs.get(*id).unwrap();
        let open = facts.open.unwrap();
        assert_eq!((facts.row.status, facts.row.session, facts.row.turns), (run.status, run.session, run.turn));
        assert_eq!((open.approval, open.question), (run.approval, run.question));
        assert_eq!(open.stop, run.stop.as_ref().map(|stop| stop.how));
    }
    for (id, past) in &world.runs_ended {
        let facts = models.runs.get(*id).unwrap();
        assert_eq!((facts.row.status, facts.open), (past.status, None));
    }
    for (id, session) in &world.sessions {
        assert_eq!(models.sessions.active(*id), session.active);
    }
    let startable: Vec<RunId> = models.startable().map(|facts| facts.id).collect();
    let mut owed: Vec<RunId> = world
        .sessions
        .values()
        .filter(|session| session.active.is_none())
        .filter_map(|session| session.queue.front().copied())
        .collect();
    owed.sort();
    assert_eq!(startable, owed);
    assert!(models.approvals.open_ids().eq(world.approvals.keys().copied()));
    assert!(models.questions.open_ids().eq(world.questions.keys().copied()));
    assert!(models.tasks.open_ids().eq(world.tasks.keys().copied()));
    let stopping = world.tasks.iter().filter(|(_, task)| task.stop_requested).map(|(id, _)| *id);
    assert!(models.tasks.stopping_ids().eq(stopping));
    assert_eq!(models.runtime.configuration, world.runtime);
    assert_eq!(models.ledger.books, world.ledger, "one number is enforced and shown");
    for status in Status::ALL {
        let live = world.runs.values().filter(|run| run.status == status).count();
        let ended = world.runs_ended.values().filter(|past| past.status == status).count();
        assert_eq!(models.runs.count(status), (live + ended) as u64, "{status:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_from_zero_equals_a_snapshot_and_the_rest(
        steps in prop::collection::vec((0_u8..64, any::<u8>(), any::<u8>()), 0..160),
        cut in any::<u16>(),
    ) {
        let mut house = House::new();
        for step in steps {
            let command = command_of(&mut house, step);
            let _ = house.act(command);
        }
        let whole = folded(&house);
        compare(&house, &whole);
        let cut = usize::from(cut) % (house.records.len() + 1);
        let mut before = Models::default();
        house.records[..cut].iter().for_each(|record| before.apply(record));
        let snapshot = serde_json::to_string(&before).unwrap();
        let mut rest: Models = serde_json::from_str(&snapshot).unwrap();
        prop_assert_eq!(before.digests(), rest.digests());
        house.records[cut..].iter().for_each(|record| rest.apply(record));
        prop_assert_eq!(whole.digests(), rest.digests());
        prop_assert_eq!(&whole, &rest);
        for id in whole.runs.rows().map(|(id, _)| *id) {
            let view = whole.runs.get(id).unwrap().view(&house);
            prop_assert_eq!(view.ended_at_ms.is_some(), view.status.terminal());
            prop_assert_eq!(view.error.is_some(), view.status == Status::Failed);
            prop_assert_eq!(view.output.is_some(), view.status == Status::Completed);
            prop_assert_eq!(view.input_items.len(), 1);
        }
    }
}

#[test]
fn a_digest_tells_any_two_states_apart() {
    let mut house = House::new();
    let session = house.session();
    let mut seen = vec![folded(&house).digests()["runs"].clone()];
    let run = house.started(session);
    for turn in 1..4 {
        house.ask_model(run).unwrap();
        house.model_answers(run, &[]).unwrap();
        seen.push(folded(&house).digests()["runs"].clone());
        assert_eq!(seen.len(), turn + 1);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

#[test]
fn what_is_kept_of_an_ended_thing_is_small() {
    assert!(size_of::<runs::Row>() <= 80, "{}", size_of::<runs::Row>());
    assert!(size_of::<waits::Row<approvals::Status>>() <= 64);
    assert!(size_of::<waits::Row<questions::Status>>() <= 64);
    let mut house = House::new();
    let session = house.session();
    let run = house.started(session);
    house.ask_model(run).unwrap();
    house.model_answers(run, &[]).unwrap();
    house.complete(run).unwrap();
    let models = folded(&house);
    assert_eq!(models.runs.open().count(), 0);
    let text = serde_json::to_string(&models).unwrap();
    assert!(!text.contains("words") && !text.contains("Do it."), "no words are kept: {text}");
}

#[test]
fn the_view_of_a_failed_run_says_why_and_what_next() {
    let mut house = House::new();
    let session = house.session();
    let run_id = house.started(session);
    let code = Reason::ProviderUnavailable;
    house.act(Command::FailRun(run::Fail { run_id, code, detail: "no route to host".into() })).unwrap();
    let view = folded(&house).run(DEFAULT_ORG, run_id).unwrap().view(&house);
    assert_eq!(
        serde_json::to_value(&view.error).unwrap(),
        serde_json::json!({
            "code": "provider.unavailable",
            "title": code.title(),
            "detail": "no route to host",
            "next": code.next(),
        })
    );
    assert_eq!((view.status, view.rehearsal, view.route.as_deref()), (Status::Failed, Some(true), Some("rehearsal")));
}

#[test]
fn a_run_says_whether_it_is_a_rehearsal_once_its_route_is_chosen_and_nothing_before() {
    let mut house = House::new();
    let session = house.session();
    let (working, queued) = (house.started(session), house.queued(session));
    let models = folded(&house);
    let label = |run| models.run(DEFAULT_ORG, run).unwrap().view(&house).rehearsal;
    assert_eq!([label(working), label(queued)], [Some(true), None]);
}

#[test]
fn an_approval_shows_its_card_and_then_who_decided() {
    let mut house = House::new();
    let session = house.session();
    let (run_id, _, id) = house.waiting(session);
    let view = folded(&house).approval(DEFAULT_ORG, id).unwrap().view(&house);
    assert_eq!((view.status, view.rehearsal), (approvals::Status::Pending, true));
    assert_eq!((view.card.as_deref(), view.card_hash.as_deref(), view.decided_by), (Some("card"), Some("card"), None));
    assert_eq!(folded(&house).run(DEFAULT_ORG, run_id).unwrap().view(&house).approval_id, Some(id));
    house.decide_approval(id, Decision::Deny).unwrap();
    let view = folded(&house).approval(DEFAULT_ORG, id).unwrap().view(&house);
    assert_eq!(view.status, approvals::Status::Denied);
    assert_eq!(view.decided_by.unwrap().id, "admin");
    assert_eq!(view.ended_seq, Some(house.records.last().unwrap().seq));
}

#[test]
fn another_organisation_s_objects_look_absent() {
    let mut house = House::new();
    let session_id = house.session();
    let (run, _, approval) = house.waiting(session_id);
    let models = folded(&house);
    assert_eq!(models.session("other", session_id).unwrap_err().reason, Reason::SessionNotFound);
    assert_eq!(models.run("other", run).unwrap_err().reason, Reason::RunNotFound);
    assert_eq!(models.approval("other", approval).unwrap_err().reason, Reason::ApprovalNotFound);
    let paging = Paging::default();
    assert_eq!(models.session_page("other", None, &paging).unwrap().items, []);
    assert_eq!(models.run_page("other", &runs::Filter::default(), &paging).unwrap().items, []);
    let of_session = waits::Filter { session: Some(session_id), ..waits::Filter::default() };
    assert_eq!(models.approval_page("other", &of_session, &paging).unwrap_err().reason, Reason::SessionNotFound);
    assert_eq!(models.task_page("other", &waits::Filter::default(), &paging).unwrap().items, []);
    assert_eq!(models.question_page("other", &waits::Filter::default(), &paging).unwrap().items, []);
}

fn all_sessions(models: &Models, limit: usize, status: Option<sessions::Status>) -> Vec<SessionId> {
    let mut ids = Vec::new();
    let mut cursor = None;
    loop {
        let page = models.session_page(DEFAULT_ORG, status, &Paging { limit: Some(limit), cursor }).unwrap();
        assert!(page.items.len() <= limit);
        ids.extend(page.items.iter().map(|facts| facts.id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return ids;
        }
    }
}

#[test]
fn pages_together_hold_everything_once_and_newest_first() {
    let mut house = House::new();
    let mut made: Vec<SessionId> = (0..7).map(|_| house.session()).collect();
    let ended = made[2];
    let end = session::End { org: DEFAULT_ORG.into(), session_id: ended, note: Some("over".into()) };
    house.act(Command::EndSession(end)).unwrap();
    let busy = made[4];
    house.queued(busy);
    let models = folded(&house);
    made.reverse();
    for limit in 1..9 {
        assert_eq!(all_sessions(&models, limit, None), made);
        assert_eq!(all_sessions(&models, limit, Some(sessions::Status::Ended)), [ended]);
        assert_eq!(all_sessions(&models, limit, Some(sessions::Status::Active)), [busy]);
    }
    let view = models.session(DEFAULT_ORG, ended).unwrap().view(&house);
    assert_eq!((view.status, view.reason.as_deref()), (sessions::Status::Ended, Some("over")));
}

#[test]
fn runs_are_listed_by_session_and_status() {
    let mut house = House::new();
    let (one, two) = (house.session(), house.session());
    let (working, queued) = (house.started(one), house.queued(one));
    let other = house.queued(two);
    let models = folded(&house);
    let list = |session, status, cursor| {
        let paging = Paging { limit: Some(1), cursor };
        let page = models.run_page(DEFAULT_ORG, &runs::Filter { session, status }, &paging).unwrap();
        (page.items.iter().map(|facts| facts.id).collect::<Vec<_>>(), page.next_cursor)
    };
    assert_eq!(list(None, None, None).0, [other]);
    let (first, cursor) = list(Some(one), None, None);
    assert_eq!(first, [queued]);
    assert_eq!(list(Some(one), None, cursor), (vec![working], None));
    assert_eq!(list(None, Some(Status::Running), None), (vec![working], None));
    let (none, cursor) = list(None, Some(Status::Completed), None);
    assert_eq!((none, cursor), (vec![], None));
}

#[test]
fn a_cursor_of_another_kind_is_malformed_and_a_limit_has_bounds() {
    let models = Models::default();
    let of_run = data_encoding::BASE64URL_NOPAD.encode(RunId::from_ulid(ulid::Ulid(5)).to_string().as_bytes());
    for cursor in ["%", "YWJj", "_w", of_run.as_str()] {
        let paging = Paging { limit: None, cursor: Some(cursor.to_owned()) };
        assert_eq!(models.session_page(DEFAULT_ORG, None, &paging).unwrap_err().reason, Reason::CursorMalformed);
    }
    for limit in [0, crate::domain::limits::PAGE_MAX + 1] {
        let paging = Paging { limit: Some(limit), cursor: None };
        assert_eq!(models.session_page(DEFAULT_ORG, None, &paging).unwrap_err().reason, Reason::RequestInvalid);
    }
}

#[test]
fn counts_tell_how_old_the_queue_is_and_how_long_nothing_moved() {
    let mut house = House::new();
    let session_id = house.session();
    house.started(session_id);
    house.now_ms += 1_000;
    house.queued(session_id);
    house.now_ms += 500;
    let counts = folded(&house).run_counts(house.now_ms);
    assert_eq!((counts.running, counts.queued), (1, 1));
    assert_eq!((counts.oldest_queued_run_age_ms, counts.oldest_non_terminal_run_idle_ms), (500, 1_500));
}

#[test]
fn a_run_s_records_belong_to_its_session() {
    let mut house = House::new();
    let session_id = house.session();
    let run_id = house.started(session_id);
    let models = folded(&house);
    let of = |at: usize| models.topics(&house.records[at]);
    assert_eq!((of(0).session, of(0).run), (Some(session_id), None));
    assert_eq!((of(2).session, of(2).run), (Some(session_id), Some(run_id)));
}

#[test]
fn a_task_is_shown_with_its_command_and_its_end() {
    let mut house = House::new();
    let session_id = house.session();
    let run_id = house.started(session_id);
    let (call_id, _) = house.judged(run_id, "read_file");
    house.dispatch(run_id, call_id, "call").unwrap();
    let task_id = TaskId::from_ulid(ulid::Ulid(7));
    let start = crate::domain::task::Start { task_id, run_id, call_id, command: "sleep 1".into() };
    assert_eq!(house.act(Command::StartTask(start)), Ok(Answer::Task(task_id)));
    let view = folded(&house).task(DEFAULT_ORG, task_id).unwrap().view(&house);
    assert_eq!((view.command.as_deref(), view.stop_requested, view.ended_at_ms), (Some("sleep 1"), false, None));
    house.restart();
    house.act(Command::SettleBoot).unwrap();
    let facts: tasks::Facts = folded(&house).task(DEFAULT_ORG, task_id).unwrap();
    assert_eq!(facts.view(&house).terminal_reason, Some(crate::domain::task::TerminalReason::DaemonRestarted));
}
