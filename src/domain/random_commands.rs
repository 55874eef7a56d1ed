//! Random commands to things that exist, for laws that hold for any sequence of them.

mod settings;

pub(crate) use self::settings::any_credential;
use self::settings::command_about_settings;
use super::approval::Decision;
use super::command::Command;
use super::ids::{ApprovalId, CallId, QuestionId, RunId, SessionId, SubjectKeyId, TaskId};
use super::permission::{Behavior, Mode};
use super::random_ledger::{command_of_ledger, quote};
use super::reason::Reason;
use super::record::{DEFAULT_ORG, Draft};
use super::run::{Confirmed, Status};
use super::stream::Stream;
use super::testing::{House, plain_session};
use super::{approval, call, context, erasure, permission, question, run, session, task, turn};

/// A step of a random story: what is done, to which of the things that exist, and how.
pub(crate) type Step = (u8, u8, u8);

pub(super) fn pick<T: Copy>(mut all: Vec<T>, at: u8, absent: T) -> T {
    all.push(absent);
    all[usize::from(at) % all.len()]
}

pub(super) fn any_session(house: &House, at: u8) -> SessionId {
    let all = house.world.sessions.keys().chain(house.world.sessions_ended.keys()).copied().collect();
    pick(all, at, SessionId::from_ulid(ulid::Ulid(9)))
}

fn any_run(house: &House, at: u8) -> RunId {
    let mut all: Vec<RunId> = house.world.runs.keys().copied().collect();
    // Runs that can still do something come twice, so that stories get somewhere.
    all.extend(house.world.runs.keys().chain(house.world.runs_ended.keys()));
    pick(all, at, RunId::from_ulid(ulid::Ulid(9)))
}

fn any_call(house: &House, run: RunId, at: u8) -> CallId {
    let calls = house.world.runs.get(&run).map(|run| run.calls.keys().copied().collect()).unwrap_or_default();
    pick(calls, at, CallId::from_ulid(ulid::Ulid(9)))
}

fn any_task(house: &House, at: u8) -> TaskId {
    let all = house.world.tasks.keys().chain(house.world.tasks_ended.keys()).copied().collect();
    pick(all, at, TaskId::from_ulid(ulid::Ulid(9)))
}

fn fresh_task(house: &House) -> TaskId {
    TaskId::from_ulid(ulid::Ulid(1_000 + house.records.len() as u128))
}

fn any_approval(house: &House, at: u8) -> ApprovalId {
    let all = house.world.approvals.keys().chain(house.world.approvals_ended.keys()).copied().collect();
    pick(all, at, ApprovalId::from_ulid(ulid::Ulid(9)))
}

fn any_question(house: &House, at: u8) -> QuestionId {
    let all = house.world.questions.keys().chain(house.world.questions_ended.keys()).copied().collect();
    pick(all, at, QuestionId::from_ulid(ulid::Ulid(9)))
}

const TOOLS: [&str; 5] = ["bash", "read_file", "write_file", "ask_user_question", "mcp__x__y"];

/// A command of the world's and a person's.
fn command_of_people(house: &House, (kind, at, how): Step) -> Option<Command> {
    let org = if how == 255 { "other".to_owned() } else { DEFAULT_ORG.to_owned() };
    let note = (how % 3 == 0).then(|| "words".to_owned());
    Some(match kind {
        0 | 1 => {
            let permission_mode = (how % 2 == 0).then_some(Mode::AcceptEdits);
            let subject_key = (how % 3 == 0).then(|| SubjectKeyId::from_ulid(ulid::Ulid(how.into())));
            let body = session::Created { permission_mode, subject_key, ..plain_session() };
            Command::CreateSession(session::Create { org, body })
        }
        2 => Command::InterruptSession(session::Interrupt { org, session_id: any_session(house, at), note }),
        3 if how < 60 => Command::EndSession(session::End { org, session_id: any_session(house, at), note }),
        3 if how < 120 => Command::EraseSession(erasure::Erase { org, session_id: any_session(house, at), note }),
        4..=6 => Command::QueueRun(run::Queue {
            org,
            session_id: any_session(house, at),
            input: vec![run::InputItem::Text { text: "Do it.".into() }],
            route: None,
            model: None,
            max_turns: (how % 2 == 0).then_some(u32::from(how % 5)),
            max_output_tokens: None,
            metadata: std::collections::BTreeMap::new(),
            reply_targets: None,
        }),
        7 => Command::CancelRun(run::Cancel { org, run_id: any_run(house, at), note }),
        8 | 9 => Command::DecideApproval(approval::Decide {
            org,
            approval_id: any_approval(house, at),
            decision: if how % 2 == 0 { Decision::Allow } else { Decision::Deny },
            call_hash: if how % 7 == 0 { "other" } else { "call" }.into(),
            card_hash: "card".into(),
            note,
        }),
        10 => Command::AnswerQuestion(question::Answer {
            org,
            question_id: any_question(house, at),
            selected: if how % 2 == 0 { vec!["a".into()] } else { vec![] },
            freeform: (how % 3 == 0).then(|| "words".into()),
        }),
        11 => Command::DeclineQuestion(question::Decline { org, question_id: any_question(house, at), note }),
        12 => Command::RequestTaskStop(task::Stop { org, task_id: any_task(house, at), note }),
        13..=16 | 20 | 21 | 38 | 39 => return command_about_settings(house, (kind, at, how)),
        _ => return None,
    })
}

/// What a claim that comes in time is chosen under.
fn chosen_under(house: &House, run_id: RunId) -> (u64, Option<u64>) {
    let world = &house.world;
    let session = world.runs.get(&run_id).and_then(|run| world.sessions.get(&run.session));
    (world.runtime.revision, session.and_then(|session| session.policy_seq))
}

/// A command of a worker about a run or its turns.
#[expect(clippy::too_many_lines, reason = "one arm a command")]
fn command_about_run(house: &House, run_id: RunId, (kind, _, how): Step) -> Option<Command> {
    let (turn, attempt) = house.world.runs.get(&run_id).map_or((1, 1), |run| (run.turn, run.attempt));
    let stage = house.world.runs.get(&run_id).map(|run| run.turn_stage);
    let again = matches!(stage, Some(run::TurnStage::Requested | run::TurnStage::Failed));
    Some(match kind {
        0 | 1 => Command::StartRun(run::Start {
            run_id,
            route: "r".into(),
            driver: "d".into(),
            model: "m".into(),
            chosen_by: run::RouteChoice::Default,
            rehearsal: false,
            chosen_under: chosen_under(house, run_id),
        }),
        2 => Command::StopRun(run::Confirm {
            run_id,
            why: if how < 200 { Confirmed::Requested } else { Confirmed::Shutdown },
        }),
        3 => Command::CompleteRun(run::Complete { run_id, output: "done".into() }),
        4 => Command::FailRun(run::Fail { run_id, code: Reason::RunTurnLimit, detail: "too many".into() }),
        5 | 6 => {
            let body = turn::Requested {
                turn: if again { turn } else { turn + 1 },
                attempt: if again { attempt + 1 } else { 1 + u32::from(how / 200) },
                route: "r".into(),
                model: "m".into(),
                credential: any_credential(house, how),
                ..turn::Requested::default()
            };
            Command::RecordTurnRequested(turn::Request {
                run_id,
                body,
                quote: (how % 3 > 0).then(|| Box::new(quote(how))),
            })
        }
        7 | 8 => {
            let wanted =
                |tool: &&str| turn::Wanted { provider_id: "c".into(), tool: (*tool).into(), input: "{}".into() };
            Command::RecordTurnAnswered(turn::Answer {
                run_id,
                turn,
                text: None,
                reasoning: None,
                calls: TOOLS.iter().cycle().skip(usize::from(how % 5)).take(usize::from(how % 4)).map(wanted).collect(),
                stop: turn::StopReason::Other,
                usage: None,
                duration_ms: 1,
            })
        }
        9 => {
            let body = turn::Failed {
                turn,
                code: Reason::ProviderTls,
                detail: String::new(),
                partial: None,
                cost: None,
                duration_ms: 1,
            };
            Command::RecordTurnFailed(turn::Fail { run_id, body, heard_bytes: 0, usage: None })
        }
        _ => return None,
    })
}

/// A command of a worker about a call or a task.
fn command_about_call(house: &House, (kind, at, how): Step) -> Command {
    let run_id = any_run(house, at);
    let call_id = any_call(house, run_id, how);
    match kind {
        10 => Command::RecordPermission(permission::Judge { run_id, call_id }),
        11 if how < 40 => Command::WithdrawApproval(approval::Withdraw {
            org: DEFAULT_ORG.into(),
            approval_id: any_approval(house, at),
        }),
        11 => Command::RequestApproval(approval::Request {
            run_id,
            call_id,
            call: "{}".into(),
            call_hash: if how % 5 == 0 { "changed".into() } else { "call".into() },
            card: "card".into(),
            card_hash: "card".into(),
        }),
        12 => Command::AskQuestion(question::Ask {
            run_id,
            call_id,
            header: None,
            question: "Which?".into(),
            options: vec![question::Choice { id: "a".into(), label: "A".into(), description: None }],
            multi_select: false,
            freeform: how % 2 == 0,
        }),
        13 => Command::DispatchCall(call::Dispatch { run_id, call_id, call_hash: "call".into(), sandbox: None }),
        14 => finish(run_id, call_id),
        15 => refuse(run_id, call_id),
        16 => {
            Command::StartTask(task::Start { task_id: fresh_task(house), run_id, call_id, command: "sleep 1".into() })
        }
        _ => {
            let body = task::Finished {
                task_id: any_task(house, at),
                status: task::Status::Completed,
                terminal_reason: task::TerminalReason::Exited,
                exit_code: Some(0),
                output_bytes: Some(0),
                output_sha256: None,
                rotations: Some(0),
            };
            Command::FinishTask(task::Finish { body })
        }
    }
}

/// What a worker or a person would most likely do next about a run, so that stories get somewhere.
fn natural_command(house: &House, (_, at, how): Step) -> Option<Command> {
    let ids: Vec<RunId> = house.world.runs.keys().copied().collect();
    let run_id = *ids.get(usize::from(at) % ids.len().max(1))?;
    let run = &house.world.runs[&run_id];
    let claimed = run.claim.as_ref().is_some_and(|claim| claim.boot_id == house.boot_id);
    let about_run = |kind| command_about_run(house, run_id, (kind, at, how));
    Some(match run.status {
        Status::WaitingForApproval => Command::DecideApproval(approval::Decide {
            org: DEFAULT_ORG.into(),
            approval_id: run.approval?,
            decision: if how % 3 == 0 { Decision::Deny } else { Decision::Allow },
            call_hash: "call".into(),
            card_hash: "card".into(),
            note: None,
        }),
        Status::WaitingForUserQuestion if how % 3 == 0 => Command::DeclineQuestion(question::Decline {
            org: DEFAULT_ORG.into(),
            question_id: run.question?,
            note: None,
        }),
        Status::WaitingForUserQuestion => Command::AnswerQuestion(question::Answer {
            org: DEFAULT_ORG.into(),
            question_id: run.question?,
            selected: vec!["a".into()],
            freeform: None,
        }),
        _ if !claimed => Command::StartRun(run::Start {
            run_id,
            route: "r".into(),
            driver: "d".into(),
            model: "m".into(),
            chosen_by: run::RouteChoice::Default,
            rehearsal: false,
            chosen_under: chosen_under(house, run_id),
        }),
        _ if run.stop.is_some() => Command::StopRun(run::Confirm { run_id, why: Confirmed::Requested }),
        _ => match run.calls.iter().find(|(_, call)| call.stage != call::Stage::Done) {
            Some((call_id, call)) => natural_call(house, run_id, *call_id, call, how),
            None if run.turn_stage == run::TurnStage::Requested => return about_run(7),
            None if run.turn > 0 && how % 4 == 0 => return about_run(3),
            None => return about_run(5),
        },
    })
}

fn finish(run_id: RunId, call_id: CallId) -> Command {
    let body = call::Finished {
        call_id,
        ok: true,
        code: None,
        output: "out".into(),
        truncated: false,
        exit_code: None,
        task_id: None,
        duration_ms: 1,
    };
    Command::FinishCall(call::Finish { run_id, body })
}

fn refuse(run_id: RunId, call_id: CallId) -> Command {
    let body = call::Refused { call_id, code: Reason::PermissionDenied, detail: String::new() };
    Command::RefuseCall(call::Refuse { run_id, body })
}

fn natural_call(house: &House, run_id: RunId, call_id: CallId, call: &call::Live, how: u8) -> Command {
    match call.stage {
        call::Stage::Asked => Command::RecordPermission(permission::Judge { run_id, call_id }),
        call::Stage::Judged(Behavior::Allow) if call.tool == "ask_user_question" => {
            Command::AskQuestion(question::Ask {
                run_id,
                call_id,
                header: None,
                question: "Which?".into(),
                options: vec![question::Choice { id: "a".into(), label: "A".into(), description: None }],
                multi_select: false,
                freeform: true,
            })
        }
        call::Stage::Judged(Behavior::Ask) => Command::RequestApproval(approval::Request {
            run_id,
            call_id,
            call: "{}".into(),
            call_hash: "call".into(),
            card: "card".into(),
            card_hash: "card".into(),
        }),
        call::Stage::Judged(Behavior::Deny) | call::Stage::Dropped => refuse(run_id, call_id),
        call::Stage::Dispatched if how.is_multiple_of(3) => {
            Command::StartTask(task::Start { task_id: fresh_task(house), run_id, call_id, command: "sleep 1".into() })
        }
        call::Stage::Judged(Behavior::Allow) | call::Stage::Approved { .. } => {
            Command::DispatchCall(call::Dispatch { run_id, call_id, call_hash: "call".into(), sandbox: None })
        }
        _ => finish(run_id, call_id),
    }
}

/// The command of a step; some steps move the clock or restart the daemon instead of asking for much.
pub(crate) fn command_of(house: &mut House, step: Step) -> Command {
    let (kind, at, how) = step;
    match kind {
        16 if how % 4 == 0 => {
            house.restart();
            Command::SettleBoot
        }
        17 => {
            house.now_ms += u64::from(how) * 700_000;
            if at % 2 == 0 { Command::ExpireApprovals } else { Command::ExpireQuestions }
        }
        18 => Command::ExpireQuestions,
        19 => {
            let body = context::TimeUntrusted { wall_ms: 1, boot_ms: 1, drift_ms: 1, at_start: at % 2 == 0 };
            Command::Note(Draft::new(DEFAULT_ORG, Stream::Daemon, body.into()))
        }
        _ => {
            let of_workers = (kind % 18, at, how);
            command_of_people(house, step)
                .or_else(|| command_of_ledger(house, step))
                .or_else(|| if kind >= 40 { natural_command(house, step) } else { None })
                .or_else(|| command_about_run(house, any_run(house, at), of_workers))
                .unwrap_or_else(|| command_about_call(house, of_workers))
        }
    }
}
