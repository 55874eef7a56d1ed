//! Approvals, permissions and questions: who decides about a call, and what that is worth later.

use super::code;
use crate::domain::actor::ActorKind;
use crate::domain::approval::Decision;
use crate::domain::command::{Answer, Command};
use crate::domain::event::Event;
use crate::domain::permission::{Behavior, Mode, Rule, RuleScope};
use crate::domain::reason::Reason;
use crate::domain::record::DEFAULT_ORG;
use crate::domain::run::Status;
use crate::domain::testing::{House, actor, plain_session};
use crate::domain::{approval, call, limits, permission, question, runtime, session};

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
fn an_approval_whose_call_was_seen_to_have_changed_is_taken_back_and_its_run_asks_anew() {
    let mut house = House::new();
    let session = house.session();
    let (run, call, approval_id) = house.waiting(session);
    let from = house.records.len();
    let withdraw = |org: &str| Command::WithdrawApproval(approval::Withdraw { org: org.into(), approval_id });
    assert_eq!(code(house.act(withdraw("other"))), "approval.not_found");
    house.act(withdraw(DEFAULT_ORG)).unwrap();
    assert_eq!(code(house.act(withdraw(DEFAULT_ORG))), "approval.call_changed");
    assert_eq!(code(house.decide_approval(approval_id, Decision::Allow)), "approval.call_changed");
    assert_eq!(code(house.dispatch(run, call, "call")), "run.step_out_of_order");
    house.request_approval(run, call, "changed").unwrap();
    assert_eq!(house.kinds_from(from), ["approval.withdrawn", "approval.requested"]);

    let session = house.session();
    let (_, _, approval_id) = house.waiting(session);
    house.decide_approval(approval_id, Decision::Allow).unwrap();
    let late = Command::WithdrawApproval(approval::Withdraw { org: DEFAULT_ORG.into(), approval_id });
    assert_eq!(code(house.act(late)), "approval.already_decided");
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
fn a_question_takes_its_options_and_one_answer() {
    let mut house = House::new();
    let session = house.session();
    let run_id = house.started(session);
    let (call_id, _) = house.judged(run_id, "ask_user_question");
    let option = |id: &str| question::Choice { id: id.into(), label: id.into(), description: None };
    let ask = Command::AskQuestion(question::Ask {
        run_id,
        call_id,
        header: None,
        question: "Which?".into(),
        options: vec![option("a"), option("b")],
        multi_select: false,
        freeform: false,
    });
    set_rule(&mut house, "ask_user_question", Behavior::Deny);
    assert_eq!(code(house.act(ask.clone())), "permission.denied", "it was allowed, and no longer is");
    set_rule(&mut house, "ask_user_question", Behavior::Allow);
    let asked = house.act(ask);
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
    let now_ms = house.now_ms;
    house.now_ms += limits::QUESTION_MS;
    assert_eq!(code(house.act(answer(&["b"], None))), "question.expired");
    house.now_ms = now_ms;
    house.act(answer(&["b"], None)).unwrap();
    assert_eq!(house.world.runs[&run_id].status, Status::Running);
    let refusal = house.act(answer(&["a"], None)).unwrap_err();
    assert_eq!((refusal.reason, refusal.detail.as_str()), (Reason::QuestionAlreadyAnswered, "admin answered before."));
    house.finish_call(run_id, call_id).unwrap();
}
