//! Conversations told from records.

use super::*;
use crate::domain::approval::Decision;
use crate::domain::command::Command;
use crate::domain::ids::SessionId;
use crate::domain::question::{Answered, Asked, Choice, Declined};
use crate::domain::testing::House;

const WIDE: Bounds = Bounds { bytes: 1 << 20, messages: 1_000 };

fn clear(part: &Personal) -> Option<String> {
    part.clear().map(str::to_owned)
}

fn transcript(house: &House, bounds: Bounds) -> Transcript {
    let mut transcript = Transcript::within(bounds);
    for record in &house.records {
        transcript.apply(record, &clear);
    }
    transcript
}

fn bytes_of(messages: &[Message]) -> usize {
    messages.iter().map(Message::bytes).sum()
}

fn user() -> Message {
    Message::User { text: "Do it.".into() }
}

fn said(tools: &[&str]) -> Message {
    let call = |tool: &&str| CallText { provider_id: "c".into(), tool: (*tool).into(), input: "{}".into() };
    Message::Assistant { text: Some("words".into()), calls: tools.iter().map(call).collect() }
}

fn result(tool: &str, ok: bool, text: &str) -> Message {
    Message::Result { provider_id: "c".into(), tool: tool.into(), ok, text: text.into() }
}

/// A run that reads a file and ends.
fn finished_run(house: &mut House, session: SessionId) -> RunId {
    let run = house.started(session);
    let (call, _) = house.judged(run, "read_file");
    house.dispatch(run, call, "call").unwrap();
    house.finish_call(run, call).unwrap();
    house.ask_model(run).unwrap();
    house.model_answers(run, &[]).unwrap();
    house.complete(run).unwrap();
    run
}

#[test]
fn earlier_runs_come_first_and_every_call_has_its_result() {
    let mut house = House::new();
    let session = house.session();
    finished_run(&mut house, session);
    let (run, call, id) = house.waiting(session);
    let never_begun = house.queued(session);
    house.decide_approval(id, Decision::Deny).unwrap();
    let body = call::Refused { call_id: call, code: Reason::PermissionDenied, detail: "A person denied it.".into() };
    let refuse = call::Refuse { run_id: run, body };
    house.act(Command::RefuseCall(refuse)).unwrap();
    let conversation = transcript(&house, WIDE).conversation(run);
    let expected = vec![
        user(),
        said(&["read_file"]),
        result("read_file", true, "done"),
        said(&[]),
        user(),
        said(&["bash"]),
        result("bash", false, "Not done: A person denied it."),
    ];
    assert_eq!(conversation, Conversation { messages: expected, left_out: LeftOut::default() });
    house.cancel(never_begun).unwrap();
    assert_eq!(transcript(&house, WIDE).begun.len(), 2);
}

#[test]
fn a_call_whose_run_ended_before_it_was_made_says_so() {
    let mut house = House::new();
    let session = house.session();
    let (run, _, _) = house.waiting(session);
    house.cancel(run).unwrap();
    let next = house.started(session);
    let messages = transcript(&house, WIDE).conversation(next).messages;
    assert_eq!(messages[2], result("bash", false, "Not done: the run ended before."));
    let mark = Message::Assistant { text: Some("(No answer: the run was cancelled.)".into()), calls: vec![] };
    assert_eq!(messages[3..], [mark, user()]);
}

#[test]
fn an_answer_that_broke_off_stands_between_the_messages() {
    for (partial, text) in [
        (Some("half a".into()), "half a\n(The answer broke off here: the run failed: "),
        (None, "(No answer: the run failed: "),
    ] {
        let mut house = House::new();
        let session = house.session();
        let run = house.started(session);
        house.ask_model(run).unwrap();
        let (code, detail) = (Reason::ProviderStreamBroken, String::new());
        let body = turn::Failed { turn: 1, code, detail: detail.clone(), partial, cost: None, duration_ms: 1 };
        house.act(Command::RecordTurnFailed(turn::Fail { run_id: run, body, heard_bytes: 0, usage: None })).unwrap();
        house.act(Command::FailRun(crate::domain::run::Fail { run_id: run, code, detail })).unwrap();
        let next = house.started(session);
        let messages = transcript(&house, WIDE).conversation(next).messages;
        let mark = Message::Assistant { text: Some(format!("{text}{})", code.title())), calls: vec![] };
        assert_eq!(messages, [user(), mark, user()]);
    }
}

#[test]
fn the_oldest_runs_are_left_out_first_and_whole() {
    let mut house = House::new();
    let session = house.session();
    for _ in 0..5 {
        finished_run(&mut house, session);
    }
    let run = house.started(session);
    let wide = transcript(&house, WIDE);
    let of_one = bytes_of(&wide.conversation(wide.begun[0]).messages);
    let own = user().bytes();
    for kept in 1..5 {
        let bounds = Bounds { bytes: own + of_one * kept + of_one / 2, ..WIDE };
        let narrow = transcript(&house, bounds);
        let conversation = narrow.conversation(run);
        let left_out = conversation.left_out.runs as usize;
        assert_eq!((left_out, conversation.messages.len()), (5 - kept, kept * 4 + 1));
        assert!(narrow.runs.len() <= kept + 2, "what no conversation has room for is forgotten");
        let bounds = Bounds { messages: kept * 4 + 1, ..WIDE };
        assert_eq!(transcript(&house, bounds).conversation(run).left_out.runs as usize, 5 - kept);
    }
}

#[test]
fn of_an_earlier_run_that_fills_the_bounds_a_part_is_told_beside_a_small_one() {
    let failed = Message::Assistant {
        text: Some(format!("(No answer: the run failed: {})", Reason::RunTurnLimit.title())),
        calls: vec![],
    };
    // The mark of one that failed comes on top of what filled the bounds.
    for (last, room) in [(said(&[]), 22), (failed, 21)] {
        let mut house = House::new();
        let session = house.session();
        let first = house.started(session);
        for _ in 0..10 {
            let (call, _) = house.judged(first, "read_file");
            house.dispatch(first, call, "call").unwrap();
            house.finish_call(first, call).unwrap();
        }
        if last == said(&[]) {
            house.ask_model(first).unwrap();
            house.model_answers(first, &[]).unwrap();
            house.complete(first).unwrap();
        } else {
            let (code, detail) = (Reason::RunTurnLimit, String::new());
            house.act(Command::FailRun(crate::domain::run::Fail { run_id: first, code, detail })).unwrap();
        }
        let next = house.started(session);
        let whole = transcript(&house, WIDE).conversation(next);
        assert_eq!((whole.messages.len(), whole.left_out), (23, LeftOut::default()));
        let told = transcript(&house, Bounds { messages: room, ..WIDE }).conversation(next);
        let end = [last, user()];
        assert_eq!((told.messages.len(), &told.messages[0], &told.messages[9..]), (11, &user(), &end[..]));
        assert_eq!(told.left_out, LeftOut { turns: 6, ..LeftOut::default() });
        // Where there is no room even for that it is left out whole.
        let told = transcript(&house, Bounds { messages: 2, ..WIDE }).conversation(next);
        assert_eq!((told.messages, told.left_out.runs), (vec![user()], 1));
    }
}

#[test]
fn a_model_is_told_what_it_is_not_told() {
    assert_eq!(LeftOut::default().line(), None);
    let line = LeftOut { runs: 2, turns: 0, parts: 3 }.line().unwrap();
    assert_eq!(
        line,
        "Left out of the conversation, because it is too long: earlier messages of the session with what came of \
         them (2); the ends of long texts, which say so (3)."
    );
}

#[test]
fn a_reason_is_told_once() {
    let body = |code: Reason, detail: &str| call::Refused {
        call_id: CallId::from_ulid(ulid::Ulid(1)),
        code,
        detail: detail.to_owned(),
    };
    let title = Reason::ToolUnknown.title();
    assert_eq!(refused(&body(Reason::ToolUnknown, title)), format!("Not done: {title}"));
    assert_eq!(refused(&body(Reason::PermissionDenied, "A person denied it.")), "Not done: A person denied it.");
    let limit = format!("Not done: {} 65 calls.", Reason::ToolLimitExceeded.title());
    assert_eq!(refused(&body(Reason::ToolLimitExceeded, "65 calls.")), limit);
}

#[test]
fn words_that_cannot_be_read_are_named_as_such() {
    let mut house = House::new();
    let session = house.session();
    let run = house.started(session);
    let mut transcript = Transcript::within(WIDE);
    for record in &house.records {
        transcript.apply(record, &|_| None);
    }
    let messages = transcript.conversation(run).messages;
    assert_eq!(messages, [Message::User { text: UNAVAILABLE.into() }]);
}

#[test]
fn the_model_is_told_the_answer_with_its_label_or_that_there_is_none() {
    let question_id = QuestionId::from_ulid(ulid::Ulid(1));
    let asked = Asked {
        question_id,
        call_id: CallId::from_ulid(ulid::Ulid(2)),
        header: None,
        question: "Which?".into(),
        options: vec![Choice { id: "a".into(), label: "The first".into(), description: None }],
        multi_select: false,
        freeform: true,
        expires_at_ms: 0,
    };
    let answered = Answered { question_id, selected: vec!["a".into()], freeform: Some("soon".into()) };
    assert_eq!(answer_text(&asked, &answered.into(), &clear), "Chosen: a: The first\nAnswer: soon");
    let declined = Declined { question_id, note: Some("Not now.".into()) };
    assert_eq!(answer_text(&asked, &declined.into(), &clear), "The person declined to answer. Not now.");
}
