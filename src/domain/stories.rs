//! What the rules promise, told as short stories.

use super::approval::Decision;
use super::command::{Answer, Command};
use super::ids::{SessionId, TaskId};
use super::permission::{Behavior, Mode};
use super::reason::Reason;
use super::record::{DEFAULT_ORG, Draft, RequestFacts};
use super::run::{Confirmed, Status};
use super::stream::Stream;
use super::testing::{House, plain_session};
use super::{context, limits, run, runtime, session, task};

mod decisions;
mod ledger;

fn code<T: std::fmt::Debug>(result: Result<T, super::reason::Refusal>) -> &'static str {
    result.unwrap_err().reason.code()
}

#[test]
fn cancelling_a_waiting_run_ends_it_at_once_and_withdraws_its_approval() {
    let mut house = House::new();
    let session = house.session();
    let (run, _, id) = house.waiting(session);
    let from = house.records.len();
    house.cancel(run).unwrap();
    assert_eq!(house.kinds_from(from), ["approval.withdrawn", "run.cancelled"]);
    assert_eq!(code(house.decide_approval(id, Decision::Allow)), "run.terminal");
    assert_eq!(code(house.cancel(run)), "run.terminal");
}

#[test]
fn a_working_run_is_asked_to_stop_once_and_ends_when_its_worker_confirms() {
    let mut house = House::new();
    let session = house.session();
    let run_id = house.started(session);
    let from = house.records.len();
    house.cancel(run_id).unwrap();
    house.cancel(run_id).unwrap();
    assert_eq!(house.kinds_from(from), ["run.stop_requested"]);
    assert_eq!(code(house.ask_model(run_id)), "run.stopping");
    house.act(Command::StopRun(run::Confirm { run_id, why: Confirmed::Requested })).unwrap();
    assert_eq!(house.kinds_from(from), ["run.stop_requested", "run.cancelled"]);
}

#[test]
fn a_run_that_was_asked_to_stop_is_not_completed() {
    let mut house = House::new();
    let session = house.session();
    let run_id = house.started(session);
    house.ask_model(run_id).unwrap();
    house.cancel(run_id).unwrap();
    house.model_answers(run_id, &[]).unwrap();
    house.complete(run_id).unwrap();
    assert_eq!(house.world.runs_ended[&run_id].status, Status::Cancelled);
}

#[test]
fn one_run_of_a_session_works_at_a_time_and_the_first_in_the_queue_comes_first() {
    let mut house = House::new();
    let session = house.session();
    let (first, second, third) = (house.queued(session), house.queued(session), house.queued(session));
    assert_eq!(code(house.start(second)), "run.step_out_of_order");
    house.start(first).unwrap();
    assert_eq!(code(house.start(second)), "run.step_out_of_order");
    house.cancel(second).unwrap();
    house.act(Command::StopRun(run::Confirm { run_id: first, why: Confirmed::Shutdown })).unwrap();
    house.start(third).unwrap();
}

#[test]
fn interrupting_a_session_stops_its_active_run_and_every_queued_one() {
    let mut house = House::new();
    let session_id = house.session();
    house.started(session_id);
    let (second, third) = (house.queued(session_id), house.queued(session_id));
    let from = house.records.len();
    let ask = || Command::InterruptSession(session::Interrupt { org: DEFAULT_ORG.into(), session_id, note: None });
    house.act(ask()).unwrap();
    assert_eq!(
        house.kinds_from(from),
        ["session.interrupted", "run.stop_requested", "run.interrupted", "run.interrupted"]
    );
    assert!(house.world.runs_ended.contains_key(&second) && house.world.runs_ended.contains_key(&third));
    house.act(ask()).unwrap();
    assert_eq!(house.kinds_from(from).len(), 4, "a second interrupt finds nothing left to stop");
}

#[test]
fn an_ended_session_takes_nothing_and_is_told_from_an_absent_one() {
    let mut house = House::new();
    let session_id = house.session();
    let run = house.started(session_id);
    house.act(Command::EndSession(session::End { org: DEFAULT_ORG.into(), session_id, note: None })).unwrap();
    let queue = |org: &str| {
        Command::QueueRun(run::Queue {
            org: org.into(),
            session_id,
            input: vec![run::InputItem::Text { text: "Do it.".into() }],
            route: None,
            model: None,
            max_turns: None,
            max_output_tokens: None,
            metadata: std::collections::BTreeMap::new(),
            reply_targets: None,
        })
    };
    assert_eq!(code(house.act(queue(DEFAULT_ORG))), "session.ended");
    house.act(Command::StopRun(run::Confirm { run_id: run, why: Confirmed::Requested })).unwrap();
    assert!(house.world.sessions.is_empty() && house.world.sessions_ended.contains_key(&session_id));
    assert_eq!(code(house.act(queue(DEFAULT_ORG))), "session.ended");
    assert_eq!(code(house.act(queue("other"))), "session.not_found");
}

#[test]
fn a_boot_settles_open_calls_and_leaves_what_can_go_on() {
    let mut house = House::new();
    let sessions: Vec<SessionId> = (0..4).map(|_| house.session()).collect();
    let asked_model = house.started(sessions[0]);
    house.ask_model(asked_model).unwrap();
    let open_call = house.started(sessions[1]);
    let (call, behavior) = house.judged(open_call, "read_file");
    assert_eq!(behavior, Behavior::Allow);
    house.dispatch(open_call, call, "call").unwrap();
    house
        .act(Command::StartTask(task::Start {
            task_id: TaskId::from_ulid(ulid::Ulid(7)),
            run_id: open_call,
            call_id: call,
            command: "sleep 9".into(),
        }))
        .unwrap();
    let (waiting, _, approval) = house.waiting(sessions[2]);
    let queued = house.queued(sessions[3]);

    house.restart();
    let from = house.records.len();
    while !house.decide(&Command::SettleBoot).unwrap().drafts.is_empty() {
        house.act(Command::SettleBoot).unwrap();
    }
    assert_eq!(house.kinds_from(from), ["task.finished", "call.outcome_unknown", "run.interrupted"]);
    assert_eq!(house.world.runs_ended[&open_call].status, Status::Interrupted);
    assert_eq!(house.world.runs[&waiting].status, Status::WaitingForApproval);
    assert_eq!(house.world.runs[&queued].status, Status::Queued);

    assert_eq!(code(house.ask_model(asked_model)), "run.step_out_of_order", "the claim is of the boot before");
    house.start(asked_model).unwrap();
    house.ask_model(asked_model).unwrap();
    assert_eq!(house.world.runs[&asked_model].attempt, 2);
    house.decide_approval(approval, Decision::Allow).unwrap();
    house.start(waiting).unwrap();
}

#[test]
fn a_run_has_no_more_turns_than_it_was_given() {
    let mut house = House::new();
    let session = house.session();
    let run = house.started(session);
    house.world.runs.get_mut(&run).unwrap().max_turns = 1;
    house.ask_model(run).unwrap();
    house.model_answers(run, &[]).unwrap();
    assert_eq!(code(house.ask_model(run)), "run.turn_limit");
}

#[test]
fn input_that_breaks_a_rule_is_named_by_its_place() {
    let mut house = House::new();
    let session_id = house.session();
    let queue = |input: Vec<run::InputItem>, max_turns| {
        Command::QueueRun(run::Queue {
            org: DEFAULT_ORG.into(),
            session_id,
            input,
            route: None,
            model: None,
            max_turns,
            max_output_tokens: None,
            metadata: std::collections::BTreeMap::new(),
            reply_targets: None,
        })
    };
    let text = |text: &str| run::InputItem::Text { text: text.into() };
    let cases = [
        (queue(vec![], None), "/input_items"),
        (queue(vec![text("a"), text(" \n")], None), "/input_items/1/text"),
        (queue(vec![text(&"a".repeat(limits::INPUT_BYTES + 1))], None), "/input_items"),
        (queue(vec![text("a")], Some(0)), "/max_turns"),
        (queue(vec![text("a")], Some(limits::TURNS_MAX + 1)), "/max_turns"),
    ];
    for (command, pointer) in cases {
        let refusal = house.act(command).unwrap_err();
        assert_eq!((refusal.reason, refusal.pointer.as_deref()), (Reason::RequestInvalid, Some(pointer)));
    }
    let mut body = plain_session();
    body.title = Some("a".repeat(limits::TITLE_BYTES + 1).into());
    let refusal = house.act(Command::CreateSession(session::Create { org: DEFAULT_ORG.into(), body })).unwrap_err();
    assert_eq!(refusal.pointer.as_deref(), Some("/title"));
}

#[test]
fn another_revision_than_the_expected_one_is_a_conflict() {
    let mut house = House::new();
    let set = |mode, expected_revision| {
        Command::SetPermissionMode(runtime::SetMode { org: DEFAULT_ORG.into(), mode, expected_revision })
    };
    assert_eq!(house.act(set(Mode::Plan, Some(0))), Ok(Answer::Revision(1)));
    assert_eq!(code(house.act(set(Mode::Default, Some(0)))), "runtime.revision_conflict");
    assert_eq!(house.act(set(Mode::Plan, None)), Ok(Answer::Revision(1)), "the same mode makes no revision");
}

#[test]
fn the_digest_of_the_policy_changes_with_the_policy_and_not_with_its_revision() {
    let mut house = House::new();
    let set =
        |mode| Command::SetPermissionMode(runtime::SetMode { org: DEFAULT_ORG.into(), mode, expected_revision: None });
    let before = house.world.runtime.policy_digest();
    house.act(set(Mode::Plan)).unwrap();
    assert_ne!(house.world.runtime.policy_digest(), before);
    house.act(set(Mode::Default)).unwrap();
    assert_eq!((house.world.runtime.policy_digest(), house.world.runtime.revision), (before, 2));
}

#[test]
fn a_drain_lets_go_of_working_runs_only() {
    let mut house = House::new();
    let (one, two) = (house.session(), house.session());
    let (waiting, _, _) = house.waiting(one);
    let queued = house.queued(two);
    for run_id in [waiting, queued] {
        let ask = run::Confirm { run_id, why: Confirmed::Shutdown };
        assert_eq!(code(house.act(Command::StopRun(ask))), "run.step_out_of_order");
    }
}

#[test]
fn nothing_lapses_while_the_clock_is_not_trusted() {
    let mut house = House::new();
    let session = house.session();
    let (_, _, id) = house.waiting(session);
    let body = context::TimeUntrusted { wall_ms: 1, boot_ms: 1, drift_ms: 9, at_start: true };
    house.act(Command::Note(Draft::new(DEFAULT_ORG, Stream::Daemon, body.into()))).unwrap();
    house.now_ms += limits::APPROVAL_MS * 2;
    assert_eq!(code(house.act(Command::ExpireApprovals)), "time.untrusted");
    let quiet = context::TimeTrusted { wall_ms: 1, by_operator: false };
    let quiet = Command::Note(Draft::new(DEFAULT_ORG, Stream::Daemon, quiet.into()));
    assert_eq!(code(house.act(quiet)), "time.untrusted");
    house.decide_approval(id, Decision::Allow).unwrap();
    house.act(Command::TrustClock).unwrap();
    house.act(Command::ExpireApprovals).unwrap();
}

#[test]
fn a_receipt_answers_a_repeat_for_a_day_and_no_longer() {
    let mut house = House::new();
    let request = RequestFacts {
        id: "req".into(),
        key: Some("key".into()),
        scope: "admin POST /v1/sessions".into(),
        body_mac: Some("mac".into()),
    };
    let ask = session::Create { org: DEFAULT_ORG.into(), body: plain_session() };
    let answer = house.act_for(&Command::CreateSession(ask), Some(request.clone())).unwrap();
    let receipt = house.world.receipt(DEFAULT_ORG, &request.scope, "key").unwrap();
    assert_eq!((receipt.answer, receipt.seq, receipt.body_mac.as_str()), (answer, 1, "mac"));
    assert_eq!(house.world.receipt("other", &request.scope, "key"), None);
    house.now_ms += limits::IDEMPOTENCY_MS;
    house.session();
    assert!(house.world.receipt(DEFAULT_ORG, &request.scope, "key").is_some());
    house.now_ms += 1;
    house.session();
    assert_eq!(house.world.receipt(DEFAULT_ORG, &request.scope, "key"), None);
}

#[test]
fn facts_of_nouns_cannot_be_noted() {
    let mut house = House::new();
    let event = session::Ended { note: None };
    let stream = Stream::Session(SessionId::from_ulid(ulid::Ulid(9)));
    assert_eq!(code(house.act(Command::Note(Draft::new(DEFAULT_ORG, stream, event.into())))), "internal.error");
}
