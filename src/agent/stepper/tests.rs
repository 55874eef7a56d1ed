//! Runs played to their end by rules and stepper together, without a model, a tool or a clock.

use proptest::prelude::*;

use super::*;
use crate::domain::approval;
use crate::domain::command::Command;
use crate::domain::ids::RunId;
use crate::domain::limits;
use crate::domain::permission;
use crate::domain::record::DEFAULT_ORG;
use crate::domain::run::{self, Confirmed};
use crate::domain::testing::House;

const TOOLS: [&str; 5] = ["bash", "read_file", "write_file", QUESTION_TOOL, "no_such_tool"];

fn settings(house: &House) -> Settings {
    Settings {
        boot_id: house.boot_id,
        tools: TOOLS[..4].iter().map(|tool| (*tool).to_owned()).collect(),
        failures_per_turn: 3,
        attempts_per_turn: 8,
    }
}

fn state(house: &House, run: RunId) -> RunState {
    RunState::of(house.records.iter().filter(|record| record.stream.run() == Some(run)))
}

fn step(house: &House, run: RunId) -> Step {
    next(&state(house, run), &settings(house))
}

/// Carries one step out, as chance has it. Every step must be one that the rules accept.
fn carry_out(house: &mut House, run_id: RunId, step: Step, chance: u8) {
    let refusal_of = |what: &str, step: &Step| format!("{what}: {step:?}");
    let shown = refusal_of("refused", &step);
    match step {
        Step::Claim => house.start(run_id).map(drop),
        Step::CallModel { turn, attempt, .. } => {
            let live = &house.world.runs[&run_id];
            let expected = if live.turn == turn { (live.turn, live.attempt + 1) } else { (live.turn + 1, 1) };
            assert_eq!((turn, attempt), expected);
            house.ask_model(run_id).unwrap();
            if chance.is_multiple_of(5) {
                let code = if chance < 200 { Reason::ProviderUnavailable } else { Reason::ProviderRejected };
                let body =
                    turn::Failed { turn, code, detail: "gone".into(), partial: None, cost: None, duration_ms: 1 };
                house.act(Command::RecordTurnFailed(turn::Fail { run_id, body, heard_bytes: 0, usage: None })).map(drop)
            } else {
                let many = usize::from(chance % 4);
                let tools: Vec<&str> = TOOLS.iter().cycle().skip(usize::from(chance) % 7).take(many).copied().collect();
                house.model_answers(run_id, &tools).map(drop)
            }
        }
        Step::DecidePermission { call } => {
            house.act(Command::RecordPermission(permission::Judge { run_id, call_id: call })).map(drop)
        }
        Step::RequestApproval { call } => house.request_approval(run_id, call, "call").map(drop),
        Step::AskQuestion { call } => house
            .act(Command::AskQuestion(question::Ask {
                run_id,
                call_id: call,
                header: None,
                question: "Which?".into(),
                options: vec![],
                multi_select: false,
                freeform: true,
            }))
            .map(drop),
        Step::Dispatch { call, approved } => {
            house.dispatch(run_id, call, approved.as_deref().unwrap_or("call")).unwrap();
            house.finish_call(run_id, call).map(drop)
        }
        Step::FinishQuestion { call, .. } => house.finish_call(run_id, call).map(drop),
        Step::Refuse { call, code } => {
            let body = call::Refused { call_id: call, code, detail: String::new() };
            house.act(Command::RefuseCall(call::Refuse { run_id, body })).map(drop)
        }
        Step::Wait => {
            people_move(house, run_id, chance);
            Ok(())
        }
        Step::Complete { output } => house.act(Command::CompleteRun(run::Complete { run_id, output })).map(drop),
        Step::Fail { code, detail } => house.act(Command::FailRun(run::Fail { run_id, code, detail })).map(drop),
        Step::Stop => house.act(Command::StopRun(run::Confirm { run_id, why: Confirmed::Requested })).map(drop),
        Step::Settle => house.act(Command::SettleBoot).map(drop),
        Step::Ended => Ok(()),
    }
    .unwrap_or_else(|refusal| panic!("{shown}: {refusal}"));
}

fn people_move(house: &mut House, run_id: RunId, chance: u8) {
    let live = &house.world.runs[&run_id];
    if let Some(id) = live.approval {
        if chance.is_multiple_of(7) {
            house.now_ms += limits::APPROVAL_MS;
            house.act(Command::ExpireApprovals).unwrap();
        } else {
            let decision = if chance.is_multiple_of(3) { approval::Decision::Deny } else { approval::Decision::Allow };
            house.decide_approval(id, decision).unwrap();
        }
    } else if let Some(question_id) = live.question {
        let decline = question::Decline { org: DEFAULT_ORG.into(), question_id, note: None };
        house.act(Command::DeclineQuestion(decline)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_accept_every_step_and_every_run_comes_to_an_end(chances in prop::collection::vec(any::<u8>(), 1..400)) {
        let mut house = House::new();
        let session = house.session();
        let run = house.queued(session);
        let mut chances = chances.into_iter().cycle();
        // A turn takes a call of the model and at most three calls with five steps each; restarts add one step each.
        let most = usize::try_from(limits::TURNS_DEFAULT).unwrap() * (3 * 5 + 8) * 2;
        let mut restarts = 0;
        for taken in 0.. {
            prop_assert!(taken < most, "the run goes on for ever");
            let chance = chances.next().unwrap();
            // A daemon that is started anew before each step gets nowhere, whatever the rules say.
            if chance == 250 && restarts < 20 {
                restarts += 1;
                house.restart();
            }
            if chance == 251 && house.world.runs.contains_key(&run) {
                house.cancel(run).unwrap();
            }
            let step = step(&house, run);
            if step == Step::Ended {
                break;
            }
            carry_out(&mut house, run, step, chance);
        }
        prop_assert!(house.world.runs_ended.contains_key(&run));
    }
}

#[test]
fn calls_of_a_turn_are_made_in_order_and_then_the_next_turn_comes() {
    let mut house = House::new();
    let session = house.session();
    let run = house.started(session);
    house.ask_model(run).unwrap();
    house.model_answers(run, &["read_file", "bash"]).unwrap();
    let ids: Vec<CallId> = state(&house, run).calls().iter().map(|call| call.asked.call_id).collect();
    assert_eq!(step(&house, run), Step::DecidePermission { call: ids[0] });
    carry_out(&mut house, run, Step::DecidePermission { call: ids[0] }, 1);
    assert_eq!(step(&house, run), Step::Dispatch { call: ids[0], approved: None });
    carry_out(&mut house, run, Step::Dispatch { call: ids[0], approved: None }, 1);
    assert_eq!(step(&house, run), Step::DecidePermission { call: ids[1] });
    carry_out(&mut house, run, Step::DecidePermission { call: ids[1] }, 1);
    assert_eq!(step(&house, run), Step::RequestApproval { call: ids[1] });
    carry_out(&mut house, run, Step::RequestApproval { call: ids[1] }, 1);
    assert_eq!(step(&house, run), Step::Wait);
    let id = house.world.runs[&run].approval.unwrap();
    house.decide_approval(id, Decision::Deny).unwrap();
    assert_eq!(step(&house, run), Step::Refuse { call: ids[1], code: Reason::PermissionDenied });
    carry_out(&mut house, run, Step::Refuse { call: ids[1], code: Reason::PermissionDenied }, 1);
    assert_eq!(step(&house, run), Step::CallModel { turn: 2, attempt: 1, failures: 0 });
}

#[test]
fn an_approved_call_is_dispatched_with_the_hash_that_was_allowed() {
    let mut house = House::new();
    let session = house.session();
    let (run, call, id) = house.waiting(session);
    house.decide_approval(id, Decision::Allow).unwrap();
    assert_eq!(step(&house, run), Step::Dispatch { call, approved: Some("call".into()) });
}

#[test]
fn a_run_that_waited_for_the_model_goes_on_after_a_restart_and_one_with_an_open_call_does_not() {
    let mut house = House::new();
    let (one, two) = (house.session(), house.session());
    let asked = house.started(one);
    house.ask_model(asked).unwrap();
    let open = house.started(two);
    let (call, _) = house.judged(open, "read_file");
    house.dispatch(open, call, "call").unwrap();
    house.restart();
    assert_eq!(step(&house, asked), Step::Claim);
    house.start(asked).unwrap();
    assert_eq!(step(&house, asked), Step::CallModel { turn: 1, attempt: 2, failures: 0 });
    assert_eq!(step(&house, open), Step::Settle);
    house.act(Command::SettleBoot).unwrap();
    assert_eq!(step(&house, open), Step::Ended);
}

#[test]
fn a_failed_attempt_is_repeated_only_where_that_may_help_and_not_for_ever() {
    let mut house = House::new();
    let session = house.session();
    let run_id = house.started(session);
    let fail = |house: &mut House, code: Reason| {
        house.ask_model(run_id).unwrap();
        let body = turn::Failed { turn: 1, code, detail: "why".into(), partial: None, cost: None, duration_ms: 1 };
        house.act(Command::RecordTurnFailed(turn::Fail { run_id, body, heard_bytes: 0, usage: None })).unwrap();
    };
    fail(&mut house, Reason::ProviderUnavailable);
    assert_eq!(step(&house, run_id), Step::CallModel { turn: 1, attempt: 2, failures: 1 });
    fail(&mut house, Reason::ProviderUnavailable);
    fail(&mut house, Reason::ProviderUnavailable);
    let end = Step::Fail { code: Reason::ProviderUnavailable, detail: "why".into() };
    assert_eq!(step(&house, run_id), end);
    let other = house.session();
    let run_id = house.started(other);
    house.ask_model(run_id).unwrap();
    let code = Reason::ProviderRejected;
    let body = turn::Failed { turn: 1, code, detail: "no".into(), partial: None, cost: None, duration_ms: 1 };
    house.act(Command::RecordTurnFailed(turn::Fail { run_id, body, heard_bytes: 0, usage: None })).unwrap();
    assert_eq!(step(&house, run_id), Step::Fail { code, detail: "no".into() });
}

#[test]
fn the_limit_of_turns_ends_a_run_that_would_go_on() {
    let mut house = House::new();
    let session = house.session();
    let run = house.started(session);
    let mut state = state(&house, run);
    state.max_turns = 0;
    let detail = "The run has 0 turns.".to_owned();
    assert_eq!(next(&state, &settings(&house)), Step::Fail { code: Reason::RunTurnLimit, detail });
}

#[test]
fn a_request_to_stop_comes_before_everything_else() {
    let mut house = House::new();
    let session = house.session();
    let run = house.started(session);
    house.ask_model(run).unwrap();
    house.cancel(run).unwrap();
    assert_eq!(step(&house, run), Step::Stop);
    house.restart();
    assert_eq!(step(&house, run), Step::Stop);
}
