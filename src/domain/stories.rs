//! What the rules promise, told as short stories.

use super::actor::ActorKind;
use super::approval::Decision;
use super::command::{Answer, Command};
use super::event::Event;
use super::ids::{SessionId, TaskId};
use super::permission::{Behavior, Mode, Rule, RuleScope};
use super::reason::Reason;
use super::record::{DEFAULT_ORG, Draft, RequestFacts};
use super::run::{Confirmed, Status};
use super::stream::Stream;
use super::testing::{House, actor, plain_session};
use super::{approval, call, context, limits, permission, question, run, runtime, session, task};

fn code<T: std::fmt::Debug>(result: Result<T, super::reason::Refusal>) -> &'static str {
    result.unwrap_err().reason.code()
}

#[test]
fn of_two_deciders_one_wins_and_the_other_is_told_who() {
    let mut house = House::new();
    let session = house.session();
    let (_, _, id) = house.waiting(session);
    house.actor = actor(ActorKind::Human, "ada");
    assert_eq!(house.decide_approval(id, Decision::Deny), Ok(Answer::Approval(id)));
    house.actor = actor(ActorKind::Human, "ben");
    let refusal = house.decide_approval(id, Decision::Allow).unwrap_err();
    assert_eq!(refusal.reason, Reason::ApprovalAlreadyDecided);
    assert_eq!(refusal.detail, "ada decided before: deny.");
}

#[test]
fn only_people_decide_and_answer() {
    let mut house = House::new();
    let session = house.session();
    let (_, _, id) = house.waiting(session);
    for kind in [ActorKind::Agent, ActorKind::Connector, ActorKind::Schedule, ActorKind::System] {
        house.actor = actor(kind, "x");
        assert_eq!(code(house.decide_approval(id, Decision::Allow)), "approval.not_permitted");
    }
}

#[test]
fn a_decision_on_other_hashes_an_expired_or_a_foreign_approval_is_refused() {
    let mut house = House::new();
    let session = house.session();
    let (_, _, approval_id) = house.waiting(session);
    let ask = |org: &str, call_hash: &str, card_hash: &str| {
        Command::DecideApproval(approval::Decide {
            org: org.into(),
            approval_id,
            decision: Decision::Allow,
            call_hash: call_hash.into(),
            card_hash: card_hash.into(),
            note: None,
        })
    };
    assert_eq!(code(house.act(ask(DEFAULT_ORG, "x", "card"))), "approval.call_changed");
    assert_eq!(code(house.act(ask(DEFAULT_ORG, "call", "x"))), "approval.call_changed");
    assert_eq!(code(house.act(ask("other", "call", "card"))), "approval.not_found");
    house.now_ms += limits::APPROVAL_MS;
    assert_eq!(code(house.act(ask(DEFAULT_ORG, "call", "card"))), "approval.expired");
    house.act(Command::ExpireApprovals).unwrap();
    assert_eq!(code(house.act(ask(DEFAULT_ORG, "call", "card"))), "approval.expired");
}

#[test]
fn an_approved_call_is_made_once_and_only_as_it_was_shown() {
    let mut house = House::new();
    let session = house.session();
    let (run, call, id) = house.waiting(session);
    assert_eq!(code(house.dispatch(run, call, "call")), "run.step_out_of_order");
    house.decide_approval(id, Decision::Allow).unwrap();
    assert_eq!(code(house.dispatch(run, call, "changed")), "approval.call_changed");
    house.dispatch(run, call, "call").unwrap();
    assert_eq!(code(house.dispatch(run, call, "call")), "run.step_out_of_order");
    house.finish_call(run, call).unwrap();
    assert_eq!(code(house.finish_call(run, call)), "run.step_out_of_order");
}

#[test]
fn a_changed_call_gets_a_new_approval_and_the_old_one_can_no_longer_be_decided() {
    let mut house = House::new();
    let session = house.session();
    let (run, call, id) = house.waiting(session);
    let from = house.records.len();
    assert_eq!(house.request_approval(run, call, "call"), Ok(Answer::Approval(id)), "the same call changes nothing");
    assert_eq!(house.kinds_from(from), [""; 0]);
    house.request_approval(run, call, "changed").unwrap();
    assert_eq!(house.kinds_from(from), ["approval.withdrawn", "approval.requested"]);
    assert_eq!(code(house.decide_approval(id, Decision::Allow)), "approval.call_changed");
    assert_eq!(house.world.runs[&run].status, Status::WaitingForApproval);
}

#[test]
fn a_denied_call_is_refused_and_the_run_goes_on() {
    let mut house = House::new();
    let session = house.session();
    let (run_id, call_id, id) = house.waiting(session);
    house.decide_approval(id, Decision::Deny).unwrap();
    assert_eq!(code(house.dispatch(run_id, call_id, "call")), "permission.denied");
    let body = call::Refused { call_id, code: Reason::PermissionDenied, detail: "denied".into() };
    house.act(Command::RefuseCall(call::Refuse { run_id, body })).unwrap();
    house.ask_model(run_id).unwrap();
    house.model_answers(run_id, &[]).unwrap();
    house.complete(run_id).unwrap();
    assert_eq!(house.world.runs_ended[&run_id].status, Status::Completed);
}

fn set_rule(house: &mut House, tool: &str, behavior: Behavior) {
    let rules = vec![Rule { tool: tool.into(), behavior }];
    let ask = runtime::SetRules { org: DEFAULT_ORG.into(), scope: RuleScope::User, rules, expected_revision: None };
    house.act(Command::SetPermissionRules(ask)).unwrap();
}

fn set_mode(house: &mut House, mode: Mode) {
    let ask = runtime::SetMode { org: DEFAULT_ORG.into(), mode, expected_revision: None };
    house.act(Command::SetPermissionMode(ask)).unwrap();
}

#[test]
fn a_denial_that_came_meanwhile_stops_calls_that_were_allowed_and_nobody_allows_them_any_more() {
    type Change = fn(&mut House);
    let changes: [(Change, &str, &str); 2] = [
        (|house| set_rule(house, "bash", Behavior::Deny), "default", "The rule `bash` of scope user denies it."),
        (|house| set_mode(house, Mode::DontAsk), "dont-ask", "The permission mode `dont-ask` does not allow it."),
    ];
    for (change, mode, words) in changes {
        let mut house = House::new();
        let (asking, allowed) = (house.session(), house.session());
        let (_, _, id) = house.waiting(asking);
        let (run_id, call_id, other) = house.waiting(allowed);
        house.decide_approval(other, Decision::Allow).unwrap();
        change(&mut house);
        let refusal = house.decide_approval(id, Decision::Allow).unwrap_err();
        assert_eq!((refusal.reason.code(), refusal.detail.as_str()), ("permission.denied", words));
        let refusal = house.dispatch(run_id, call_id, "call").unwrap_err();
        assert_eq!((refusal.reason.code(), refusal.detail.as_str()), ("permission.denied", words));
        house.act(Command::RecordPermission(permission::Judge { run_id, call_id })).unwrap();
        let Some(Event::PermissionDecided(body)) = house.records.last().map(|record| &record.event) else { panic!() };
        assert_eq!((body.decision, body.mode.word()), (Behavior::Deny, mode));
        assert_eq!(house.world.runs[&run_id].calls[&call_id].stage, call::Stage::Judged(Behavior::Deny));
        house.decide_approval(id, Decision::Deny).unwrap();
    }
}

#[test]
fn a_call_that_was_allowed_is_judged_anew_only_where_it_no_longer_would_be() {
    let mut house = House::new();
    set_rule(&mut house, "bash", Behavior::Allow);
    let session = house.session();
    let run_id = house.started(session);
    let (call_id, _) = house.judged(run_id, "bash");
    let again = || Command::RecordPermission(permission::Judge { run_id, call_id });
    assert_eq!(code(house.act(again())), "run.step_out_of_order");
    set_rule(&mut house, "bash", Behavior::Ask);
    assert_eq!(code(house.dispatch(run_id, call_id, "call")), "permission.denied");
    house.act(again()).unwrap();
    assert_eq!(house.world.runs[&run_id].calls[&call_id].stage, call::Stage::Judged(Behavior::Ask));
    set_rule(&mut house, "bash", Behavior::Allow);
    assert_eq!(code(house.act(again())), "run.step_out_of_order", "nothing is loosened afterwards");
}

#[test]
fn a_mode_that_contains_binds_runs_that_work_and_no_later_mode_widens_a_pinned_one() {
    let mut house = House::new();
    let session = |house: &mut House, permission_mode| {
        let body = session::Created { permission_mode, ..plain_session() };
        let ask = session::Create { org: DEFAULT_ORG.into(), body };
        let Ok(Answer::Session(id)) = house.act(Command::CreateSession(ask)) else { panic!() };
        house.started(id)
    };
    let own = session(&mut house, Some(Mode::BypassPermissions));
    let none = session(&mut house, None);
    let judged = |house: &mut House, run_id| {
        let (call_id, decision) = house.judged(run_id, "bash");
        let body = call::Refused { call_id, code: Reason::PermissionDenied, detail: String::new() };
        house.act(Command::RefuseCall(call::Refuse { run_id, body })).unwrap();
        decision
    };
    for (mode, decisions) in [
        (Mode::Default, [Behavior::Allow, Behavior::Ask]),
        (Mode::DontAsk, [Behavior::Deny, Behavior::Deny]),
        (Mode::Plan, [Behavior::Deny, Behavior::Deny]),
        (Mode::AcceptEdits, [Behavior::Allow, Behavior::Ask]),
        (Mode::BypassPermissions, [Behavior::Allow, Behavior::Ask]),
    ] {
        set_mode(&mut house, mode);
        assert_eq!([judged(&mut house, own), judged(&mut house, none)], decisions, "{mode:?}");
    }
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
fn a_question_takes_its_options_and_one_answer() {
    let mut house = House::new();
    let session = house.session();
    let run_id = house.started(session);
    let (call_id, _) = house.judged(run_id, "ask_user_question");
    let option = |id: &str| question::Choice { id: id.into(), label: id.into(), description: None };
    let asked = house.act(Command::AskQuestion(question::Ask {
        run_id,
        call_id,
        header: None,
        question: "Which?".into(),
        options: vec![option("a"), option("b")],
        multi_select: false,
        freeform: false,
    }));
    let Ok(Answer::Question(question_id)) = asked else { panic!("{asked:?}") };
    let answer = |selected: &[&str], freeform: Option<&str>| {
        Command::AnswerQuestion(question::Answer {
            org: DEFAULT_ORG.into(),
            question_id,
            selected: selected.iter().map(|id| (*id).to_owned()).collect(),
            freeform: freeform.map(Into::into),
        })
    };
    for wrong in [answer(&[], None), answer(&["c"], None), answer(&["a", "b"], None), answer(&["a"], Some("words"))] {
        assert_eq!(code(house.act(wrong)), "request.invalid");
    }
    house.act(answer(&["b"], None)).unwrap();
    assert_eq!(house.world.runs[&run_id].status, Status::Running);
    let refusal = house.act(answer(&["a"], None)).unwrap_err();
    assert_eq!((refusal.reason, refusal.detail.as_str()), (Reason::QuestionAlreadyAnswered, "admin answered before."));
    house.finish_call(run_id, call_id).unwrap();
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
    let before = house.world.runtime.policy_sha256();
    house.act(set(Mode::Plan)).unwrap();
    assert_ne!(house.world.runtime.policy_sha256(), before);
    house.act(set(Mode::Default)).unwrap();
    assert_eq!((house.world.runtime.policy_sha256(), house.world.runtime.revision), (before, 2));
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
