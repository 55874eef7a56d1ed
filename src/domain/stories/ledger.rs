//! What the ledger promises: a budget is not passed, one number is enforced and shown, and no reservation is lost.

use proptest::prelude::*;

use super::code;
use crate::domain::command::{Answer, Command};
use crate::domain::event::Event;
use crate::domain::ids::{ModelCallId, RunId};
use crate::domain::ledger::refused::{Refused, refused};
use crate::domain::ledger::{Basis, Cost, Name, Period, Quote, Subject, Tokens, budget};
use crate::domain::model_call::{self, Outcome, Taken};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::DEFAULT_ORG;
use crate::domain::run::{self, Confirmed};
use crate::domain::session;
use crate::domain::stream::Stream;
use crate::domain::testing::{House, plain_call, quote};
use crate::domain::turn;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn took(input: u64, output: u64) -> Taken {
    Taken::Tokens(Tokens { input, output, ..Tokens::default() }, Basis::Reported)
}

fn of(house: &House, subject: impl std::borrow::Borrow<Subject>) -> (u64, u64) {
    let account = house.world.ledger.account(DEFAULT_ORG, subject.borrow());
    (account.total_micros, account.reserved_micros)
}

fn limit_of(house: &House, id: ModelCallId) -> Option<u64> {
    house.world.ledger.open(Stream::ModelCall(id)).unwrap().reservation.output_tokens
}

#[test]
fn a_call_reserves_the_worst_and_spends_what_it_took() {
    let mut house = House::new();
    let id = house.call_model(quote(100, Some(10))).unwrap();
    let everyone = [Subject::Organisation, Subject::Token("admin".into()), Subject::Route("r".into())];
    for subject in &everyone {
        assert_eq!(of(&house, subject), (0, 300), "{subject}");
    }
    house.settle_call(id, took(90, 3)).unwrap();
    for subject in &everyone {
        assert_eq!(of(&house, subject), (210, 0), "{subject}");
    }
    assert_eq!(code(house.settle_call(id, took(90, 3))), "model_call.not_found");
    assert_eq!(house.world.model_calls.len(), 0);
}

#[test]
fn the_answer_is_limited_to_the_smallest_of_what_is_asked_and_what_the_budget_buys() {
    let mut house = House::new();
    let whole = house.call_model(quote(100, None)).unwrap();
    assert_eq!(limit_of(&house, whole), None, "nobody limits it");
    assert_eq!(of(&house, Subject::Organisation), (0, 10_200), "as much as the model can answer");
    house.settle_call(whole, Taken::Nothing).unwrap();
    house.set_budget("organisation:total", 1_000).unwrap();
    let asked = house.call_model(quote(100, Some(20))).unwrap();
    assert_eq!((limit_of(&house, asked), of(&house, Subject::Organisation)), (Some(20), (0, 400)));
    let bought = house.call_model(quote(100, Some(90))).unwrap();
    assert_eq!((limit_of(&house, bought), of(&house, Subject::Organisation)), (Some(40), (0, 1_000)));
    house.settle_call(bought, Taken::Nothing).unwrap();
    let two = Quote { answers: 2, ..quote(100, None) };
    let two = house.call_model(two).unwrap();
    assert_eq!(limit_of(&house, two), Some(20), "each of two answers");
}

#[test]
fn a_budget_that_does_not_cover_a_call_refuses_it_and_says_whether_waiting_helps() {
    let mut house = House::new();
    house.set_budget("route:r:total", 400).unwrap();
    let open = house.call_model(quote(100, Some(10))).unwrap();
    let from = house.records.len();
    let refusal = house.call_model(quote(100, Some(10))).unwrap_err();
    assert_eq!((refusal.reason, house.records.len()), (Reason::BudgetReserved, from));
    assert!(refusal.detail.contains("route:r:total") && refusal.detail.contains("300 reserved"), "{}", refusal.detail);
    house.settle_call(open, took(100, 10)).unwrap();
    let refusal = house.call_model(quote(100, Some(10))).unwrap_err();
    assert_eq!(refusal.reason, Reason::BudgetExceeded);
    assert!(refusal.detail.contains("300 are spent in all"), "{}", refusal.detail);
    assert_eq!(code(house.call_model(Quote { price: None, ..quote(1, Some(1)) })), "budget.model_unpriced");
    let other = Name { subject: Subject::Route("other".into()), period: Period::Total };
    assert_eq!(
        code(house.act(Command::RemoveBudget(budget::Remove { org: DEFAULT_ORG.into(), budget: other }))),
        "budget.not_found"
    );
    let this = Name { subject: Subject::Route("r".into()), period: Period::Total };
    house.act(Command::RemoveBudget(budget::Remove { org: DEFAULT_ORG.into(), budget: this })).unwrap();
    let unknown = house.call_model(Quote { price: None, ..quote(1, Some(1)) }).unwrap();
    house.settle_call(unknown, took(5, 5)).unwrap();
    let account = house.world.ledger.account(DEFAULT_ORG, &Subject::Organisation);
    assert_eq!((account.total_micros, account.unpriced_calls), (300, 1), "a cost that is not known is counted as such");
}

#[test]
fn a_refused_call_names_every_budget_that_did_not_cover_it_as_it_stood() {
    let mut house = House::new();
    let budgets =
        [("route:r:total", 610), ("token:admin:day", 660), ("organisation:total", 811), ("token:other:day", 1)];
    for (budget, limit) in budgets {
        house.set_budget(budget, limit).unwrap();
    }
    let over = house.call_model(quote(100, Some(10))).unwrap();
    house.settle_call(over, took(90, 3)).unwrap();
    house.call_model(quote(100, Some(10))).unwrap();
    let ask = |quote: Quote| {
        let call = model_call::Request { quote, ..plain_call(DEFAULT_ORG) };
        refused(&house.world, &Command::RequestModelCall(Box::new(call)), "admin", house.now_ms).unwrap()
    };
    let names = |refused: &Refused| refused.budgets.iter().map(|way| way.budget.to_string()).collect::<Vec<_>>();
    let call = ask(quote(100, Some(10)));
    assert_eq!(names(&call), ["token:admin:day", "route:r:total"], "300 of 301 are left of the organisation's");
    assert_eq!((call.needed_micros, call.token.as_str()), (Some(300), "admin"));
    let way = &call.budgets[1];
    assert_eq!((way.limit_micros, way.spent_micros, way.reserved_micros), (610, 210, 300));
    let unpriced = ask(Quote { price: None, ..quote(100, Some(10)) });
    assert_eq!(names(&unpriced), ["organisation:total", "token:admin:day", "route:r:total"]);
    assert_eq!(unpriced.needed_micros, None);
    assert_eq!(refused(&house.world, &Command::ExpireApprovals, "admin", house.now_ms), None);
}

#[test]
fn a_day_s_budget_begins_anew_with_the_day_and_a_clock_that_was_wrong_neither_holds_it_nor_gives_it_again() {
    let mut house = House::new();
    house.set_budget("token:admin:day", 300).unwrap();
    house.set_budget("organisation:month", 100_000).unwrap();
    let begin = house.now_ms;
    let spend = |house: &mut House, day: u64| {
        house.now_ms = begin + day * DAY_MS;
        let id = house.call_model(quote(100, Some(10)))?;
        house.settle_call(id, took(100, 10))
    };
    // Day 4000 is one that a clock said which was far ahead; then it is day 2, and once more day 1.
    for day in [0, 1, 4_000, 2] {
        spend(&mut house, day).unwrap();
    }
    for day in [0, 1, 2, 4_000] {
        assert_eq!(code(spend(&mut house, day)), "budget.exceeded", "{day}: what was spent stays spent");
    }
    spend(&mut house, 3).unwrap();
    let account = house.world.ledger.account(DEFAULT_ORG, &Subject::Organisation);
    let in_month = |day: u64| account.spent(Period::Month, begin + day * DAY_MS);
    assert_eq!((in_month(4_000), in_month(2_000), account.total_micros), (300, 0, 1_500));
}

#[test]
fn what_a_crash_leaves_is_spent_in_full_at_the_next_start_and_says_so() {
    let mut house = House::new();
    let session = house.session();
    let run_id = house.started(session);
    ask(&mut house, run_id, 1).unwrap();
    let id = house.call_model(quote(100, Some(10))).unwrap();
    house.act(Command::SettleBoot).unwrap();
    assert!(house.world.ledger.open(Stream::ModelCall(id)).is_some(), "this start's own calls go on");
    let from = house.records.len();
    house.restart();
    house.act(Command::SettleBoot).unwrap();
    house.act(Command::SettleBoot).unwrap();
    assert_eq!(house.kinds_from(from), ["model_call.settled", "turn.reservation_settled"]);
    let Event::ModelCallSettled(body) = &house.records[from].event else { panic!() };
    assert_eq!((body.outcome, body.cost), (Outcome::Lost, Cost { micros: Some(300), basis: Basis::Crash }));
    assert_eq!(of(&house, Subject::Organisation), (600, 0));
    assert_eq!(of(&house, Subject::Session(session)), (300, 0));
}

fn ask(house: &mut House, run_id: RunId, attempt: u32) -> Result<Answer, Refusal> {
    let body = turn::Requested { turn: 1, attempt, route: "r".into(), model: "m".into(), ..turn::Requested::default() };
    house.act(Command::RecordTurnRequested(turn::Request { run_id, body, quote: Some(Box::new(quote(100, Some(10)))) }))
}

fn fail(house: &mut House, run_id: RunId, code: Reason, heard_bytes: usize) {
    let body = turn::Failed { turn: 1, code, detail: String::new(), partial: None, cost: None, duration_ms: 1 };
    house.act(Command::RecordTurnFailed(turn::Fail { run_id, body, heard_bytes, usage: None })).unwrap();
}

#[test]
fn turns_of_runs_are_charged_to_the_same_ledger_and_stop_at_the_same_budget() {
    let mut house = House::new();
    let session = house.session();
    let run_id = house.started(session);
    house.set_budget(&format!("session:{session}:total"), 1_000).unwrap();
    ask(&mut house, run_id, 1).unwrap();
    assert_eq!(of(&house, Subject::Token("admin".into())), (0, 300), "whoever started the run pays");
    fail(&mut house, run_id, Reason::ProviderUnavailable, 0);
    assert_eq!(of(&house, Subject::Session(session)), (0, 0), "what the provider did not take costs nothing");
    ask(&mut house, run_id, 2).unwrap();
    fail(&mut house, run_id, Reason::ProviderStreamBroken, 12);
    assert_eq!(of(&house, Subject::Session(session)), (240, 0), "100 tokens sent and 4 heard");
    ask(&mut house, run_id, 3).unwrap();
    let usage = turn::Usage::new(50, 40, turn::UsageSource::Reported);
    let answer = turn::Answer {
        run_id,
        turn: 1,
        text: None,
        reasoning: None,
        calls: vec![],
        stop: turn::StopReason::EndTurn,
        usage: Some(usage),
        duration_ms: 1,
    };
    house.act(Command::RecordTurnAnswered(answer)).unwrap();
    assert_eq!(of(&house, Subject::Session(session)), (740, 0));
    let Event::TurnAnswered(body) = &house.records.last().unwrap().event else { panic!() };
    assert_eq!(body.cost, Some(Cost { micros: Some(500), basis: Basis::Reported }));
    house.complete(run_id).unwrap();
    let next = house.started(session);
    assert_eq!(code(ask(&mut house, next, 1)), "budget.exceeded");
}

#[test]
fn an_attempt_costs_what_is_reported_of_it_and_all_that_was_set_aside_where_nothing_was_heard() {
    let mut house = House::new();
    let session = house.session();
    let run_id = house.started(session);
    ask(&mut house, run_id, 1).unwrap();
    fail(&mut house, run_id, Reason::ProviderStreamBroken, 0);
    assert_eq!(of(&house, Subject::Session(session)), (300, 0), "sent, and nobody knows what came of it");
    ask(&mut house, run_id, 2).unwrap();
    let (code, detail) = (Reason::ToolLimitExceeded, String::new());
    let body = turn::Failed { turn: 1, code, detail, partial: None, cost: None, duration_ms: 1 };
    let usage = Some(turn::Usage::new(50, 40, turn::UsageSource::Reported));
    house.act(Command::RecordTurnFailed(turn::Fail { run_id, body, heard_bytes: 12, usage })).unwrap();
    assert_eq!(of(&house, Subject::Session(session)), (800, 0));
    let Event::TurnFailed(body) = &house.records.last().unwrap().event else { panic!() };
    assert_eq!(body.cost, Some(Cost { micros: Some(500), basis: Basis::Reported }));
}

#[test]
fn a_run_that_is_given_up_within_a_turn_spends_what_was_set_aside_before_it_ends() {
    let mut house = House::new();
    let session = house.session();
    let run_id = house.started(session);
    ask(&mut house, run_id, 1).unwrap();
    let end = session::End { org: DEFAULT_ORG.into(), session_id: session, note: None };
    house.act(Command::EndSession(end)).unwrap();
    assert_eq!(of(&house, Subject::Session(session)), (0, 300));
    let from = house.records.len();
    house.act(Command::StopRun(run::Confirm { run_id, why: Confirmed::Shutdown })).unwrap();
    assert_eq!(house.kinds_from(from), ["turn.reservation_settled", "run.interrupted"]);
    assert_eq!(of(&house, Subject::Organisation), (300, 0));
    let kept = house.world.ledger.accounts(DEFAULT_ORG).filter(|(subject, _)| matches!(subject, Subject::Session(_)));
    assert_eq!(kept.count(), 0, "nothing is kept of a session that ended");
    assert_eq!(code(house.set_budget(&format!("session:{session}:day"), 1)), "session.ended");
}

proptest! {
    #[test]
    fn calls_that_take_no_more_than_they_reserved_never_pass_a_budget(
        limit in 0_u64..5_000,
        calls in prop::collection::vec((0_u64..200, prop::option::of(0_u64..200), 1_u64..4, 0_u64..100, any::<bool>()), 1..40),
    ) {
        let mut house = House::new();
        house.set_budget("organisation:total", limit).unwrap();
        let mut open = Vec::new();
        for (input, output, answers, share, end) in calls {
            if let Ok(id) = house.call_model(Quote { answers, ..quote(input, output) }) {
                let reservation = house.world.ledger.open(Stream::ModelCall(id)).unwrap().reservation.clone();
                let most = reservation.output_tokens.or(output).unwrap_or(1_000) * answers;
                open.push((id, took(input * share / 100, most * share / 100)));
            }
            if end && let Some((id, taken)) = open.pop() {
                house.settle_call(id, taken).unwrap();
            }
            let (spent, reserved) = of(&house, Subject::Organisation);
            prop_assert!(spent + reserved <= limit, "{spent} and {reserved} of {limit}");
        }
        for (id, taken) in open {
            house.settle_call(id, taken).unwrap();
        }
        prop_assert!(of(&house, Subject::Organisation).0 <= limit);
    }
}
