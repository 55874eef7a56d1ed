//! The use cases, told over a house that decides, folds and publishes in memory.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::approvals::{Approvals, Decide};
use super::blobs::Kept;
use super::desk::{By, Committed, Desk, Lane, ReadSide, WritePath, parse_filter, parse_id};
use super::questions::{Answer, Decline, Questions};
use super::runs::{Item, Runs, Start};
use super::runtime::{Runtime, SetMode};
use super::sessions::{Create, Sessions, Stop};
use super::tasks::Tasks;
use crate::agent::workspace::Workspace;
use crate::config::routes::Routes;
use crate::domain::actor::ActorKind;
use crate::domain::approval::Decision;
use crate::domain::command::Command;
use crate::domain::ids::{ApprovalId, QuestionId, RunId, SessionId, SubjectKeyId, TaskId};
use crate::domain::permission::Mode;
use crate::domain::personal::Personal;
use crate::domain::question;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{DEFAULT_ORG, Provenance, Record, RequestFacts};
use crate::domain::run::Status;
use crate::domain::testing::{House, actor};
use crate::projections::{Bodies, Models, Paging};

struct Memory {
    house: Mutex<House>,
    models: RwLock<Models>,
    head: watch::Sender<u64>,
    lanes: Mutex<Vec<Lane>>,
    kept: Mutex<u32>,
}

impl Memory {
    fn publish(&self, house: &House) {
        let mut models = self.models.write().unwrap();
        let seen = models.last_seq.unwrap_or(0);
        for record in house.records.iter().filter(|record| record.seq > seen) {
            models.apply(record);
        }
        self.head.send_replace(house.records.len() as u64);
    }

    /// Lets a worker do something.
    fn work<T>(&self, work: impl FnOnce(&mut House) -> T) -> T {
        let mut house = self.house.lock().unwrap();
        let done = work(&mut house);
        self.publish(&house);
        done
    }
}

impl WritePath for Memory {
    fn submit(
        &self,
        command: Command,
        provenance: Provenance,
        lane: Lane,
    ) -> BoxFuture<'_, Result<Committed, Refusal>> {
        self.lanes.lock().unwrap().push(lane);
        let outcome = self.work(|house| {
            house.actor = provenance.actor;
            let before = house.records.len();
            if let Some(request) = &provenance.request
                && let Some(key) = &request.key
                && let Some(receipt) = house.world.receipt(DEFAULT_ORG, &request.scope, key)
            {
                return Ok(Committed { answer: receipt.answer, seq: Some(receipt.seq), replayed: true });
            }
            let answer = house.act_for(&command, provenance.request)?;
            let seq = house.records.get(before).map(|record| record.seq);
            Ok(Committed { answer, seq, replayed: false })
        });
        Box::pin(std::future::ready(outcome))
    }

    fn keep(&self, text: String, _: usize, _: Option<SubjectKeyId>) -> BoxFuture<'_, Result<Kept, Refusal>> {
        *self.kept.lock().unwrap() += 1;
        Box::pin(std::future::ready(Ok(Personal::from(text).into())))
    }
}

impl Bodies for Memory {
    fn record(&self, seq: u64) -> Option<Record> {
        self.house.lock().unwrap().record(seq)
    }
}

impl ReadSide for Memory {
    fn models(&self) -> RwLockReadGuard<'_, Models> {
        self.models.read().unwrap()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }
}

fn memory() -> (Arc<Memory>, Desk) {
    let memory = Arc::new(Memory {
        house: Mutex::new(House::new()),
        models: RwLock::default(),
        head: watch::channel(0).0,
        lanes: Mutex::default(),
        kept: Mutex::default(),
    });
    (memory.clone(), Desk::new(memory.clone(), memory, Arc::new(Routes::default())))
}

fn approvals(desk: &Desk) -> Approvals {
    Approvals::new(desk.clone(), Arc::new(Workspace::open(&std::env::temp_dir()).unwrap()))
}

fn by() -> By {
    let actor = actor(ActorKind::Token, "admin");
    let provenance = Provenance { org: DEFAULT_ORG.to_owned(), actor, on_behalf_of: Vec::new(), request: None };
    By { org: DEFAULT_ORG.to_owned(), provenance }
}

fn by_with_key(key: &str) -> By {
    let request = RequestFacts {
        id: "req".into(),
        key: Some(key.into()),
        scope: "admin POST /v1/sessions".into(),
        body_mac: Some("mac".into()),
    };
    let mut by = by();
    by.provenance.request = Some(request);
    by
}

async fn session(desk: &Desk) -> SessionId {
    Sessions::new(desk.clone()).create(by(), Create::default()).await.unwrap().view.session_id
}

fn ask(text: &str) -> Start {
    Start { content: Some(text.into()), ..Start::default() }
}

#[tokio::test]
async fn a_session_is_shown_as_it_was_asked_for_and_a_repeat_makes_no_second_one() {
    let (memory, desk) = memory();
    let sessions = Sessions::new(desk);
    let input = Create { title: Some("Tidy up".into()), route: Some("rehearsal".into()), ..Create::default() };
    let first = sessions.create(by_with_key("k"), input.clone()).await.unwrap();
    assert_eq!((first.view.title.as_deref(), first.seq, first.replayed), (Some("Tidy up"), Some(1), false));
    let second = sessions.create(by_with_key("k"), input).await.unwrap();
    assert_eq!((second.view, second.seq, second.replayed), (first.view, Some(1), true));
    assert_eq!(memory.house.lock().unwrap().records.len(), 1);
    assert_eq!(sessions.list(DEFAULT_ORG, None, Default::default()).await.unwrap().view.items.len(), 1);
}

#[test]
fn handlers_may_move_a_use_case_between_threads() {
    fn movable<T: Send>(_: T) {}
    let (_, desk) = memory();
    let runs = Runs::new(desk);
    let run_id = RunId::from_ulid(ulid::Ulid(1));
    movable(runs.cancel(by(), run_id, Stop::default()));
    movable(runs.settled(DEFAULT_ORG, run_id, Duration::ZERO));
}

#[tokio::test]
async fn a_route_that_is_not_there_is_refused_by_name() {
    let (_, desk) = memory();
    let session_id = session(&desk).await;
    let route = Some("nowhere".to_owned());
    let create = Create { route: route.clone(), ..Create::default() };
    let refusals = [
        Sessions::new(desk.clone()).create(by(), create).await.unwrap_err(),
        Runs::new(desk).start(by(), session_id, Start { route, ..ask("Do it.") }).await.unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!((refusal.reason, refusal.pointer.as_deref()), (Reason::RouteNotFound, Some("/route")));
    }
}

#[tokio::test]
async fn words_for_a_session_that_is_absent_or_ended_are_not_put_on_disk() {
    let (memory, desk) = memory();
    let session_id = session(&desk).await;
    let runs = Runs::new(desk.clone());
    runs.start(by(), session_id, ask("Do it.")).await.unwrap();
    assert_eq!(*memory.kept.lock().unwrap(), 1);
    Sessions::new(desk).end(by(), session_id, Stop::default()).await.unwrap();
    let absent = SessionId::from_ulid(ulid::Ulid(1));
    for (session_id, reason) in [(session_id, Reason::SessionEnded), (absent, Reason::SessionNotFound)] {
        assert_eq!(runs.start(by(), session_id, ask("And this.")).await.unwrap_err().reason, reason);
    }
    assert_eq!(*memory.kept.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_run_takes_content_or_items_and_not_both() {
    let (_, desk) = memory();
    let session_id = session(&desk).await;
    let runs = Runs::new(desk);
    let items = Some(vec![Item::Text { text: "Do it.".into() }]);
    let wrong = [
        Start::default(),
        ask(" "),
        Start { input_items: items.clone(), ..ask("Do it.") },
        Start { input_items: Some(vec![]), ..Start::default() },
    ];
    for input in wrong {
        assert_eq!(runs.start(by(), session_id, input).await.unwrap_err().reason, Reason::RequestInvalid);
    }
    for input in [ask("Do it."), Start { input_items: items, ..Start::default() }] {
        let view = runs.start(by(), session_id, input).await.unwrap().view;
        assert_eq!((view.status, view.input_items.len()), (Status::Queued, 1));
    }
}

#[tokio::test]
async fn who_waits_for_a_run_is_told_when_a_person_is_needed_and_when_it_ends() {
    let (memory, desk) = memory();
    let session_id = session(&desk).await;
    let runs = Runs::new(desk.clone());
    let run_id = runs.start(by(), session_id, ask("Do it.")).await.unwrap().view.run_id;
    let long = Duration::from_mins(1);
    let waiting = runs.settled(DEFAULT_ORG, run_id, long);
    let work = async {
        tokio::task::yield_now().await;
        memory.work(|house| {
            house.start(run_id).unwrap();
            let (call, _) = house.judged(run_id, "bash");
            house.request_approval(run_id, call, "call").unwrap();
        });
    };
    let (view, ()) = tokio::join!(waiting, work);
    let view = view.unwrap();
    assert_eq!(view.status, Status::WaitingForApproval);

    let approval_id = view.approval_id.unwrap();
    let approvals = approvals(&desk);
    let shown = approvals.get(DEFAULT_ORG, approval_id).await.unwrap();
    let decide = Decide {
        decision: Decision::Allow,
        call_hash: shown.call_hash.unwrap(),
        card_hash: shown.card_hash.unwrap(),
        reason: Some("fine".into()),
    };
    let decided = approvals.decide(by(), approval_id, decide.clone()).await.unwrap();
    assert_eq!((decided.view.reason.as_deref(), decided.view.decided_by.unwrap().id.as_str()), (Some("fine"), "admin"));
    let again = approvals.decide(by(), approval_id, decide).await.unwrap_err();
    assert_eq!(again.reason, Reason::ApprovalAlreadyDecided);

    let still = runs.settled(DEFAULT_ORG, run_id, Duration::from_millis(1)).await.unwrap();
    assert_eq!(still.status, Status::Running, "after the time is up the run is shown as it is");
    runs.cancel(by(), run_id, Stop::default()).await.unwrap();
    let lanes = memory.lanes.lock().unwrap().clone();
    assert_eq!(lanes, [Lane::Ordinary, Lane::Ordinary, Lane::Reserved, Lane::Reserved, Lane::Reserved]);
}

#[tokio::test]
async fn a_question_is_answered_once() {
    let (memory, desk) = memory();
    let session_id = session(&desk).await;
    let run_id = Runs::new(desk.clone()).start(by(), session_id, ask("Do it.")).await.unwrap().view.run_id;
    memory.work(|house| {
        house.start(run_id).unwrap();
        let (call_id, _) = house.judged(run_id, "ask_user_question");
        let option = question::Choice { id: "a".into(), label: "A".into(), description: None };
        let ask = question::Ask {
            run_id,
            call_id,
            header: None,
            question: "Which?".into(),
            options: vec![option],
            multi_select: false,
            freeform: false,
        };
        house.act(Command::AskQuestion(ask)).unwrap();
    });
    let questions = Questions::new(desk);
    let listed = questions.list(DEFAULT_ORG, crate::projections::waits::Filter::default(), Paging::default());
    let id = listed.await.unwrap().items[0].question_id;
    let answer = Answer { selected: vec!["a".into()], freeform: None };
    let view = questions.answer(by(), id, answer).await.unwrap().view;
    assert_eq!((view.selected, view.answered_by.unwrap().id.as_str()), (vec!["a".to_owned()], "admin"));
    let late = questions.decline(by(), id, Decline::default()).await.unwrap_err();
    assert_eq!(late.reason, Reason::QuestionAlreadyAnswered);
}

#[tokio::test]
async fn interrupting_and_ending_a_session_show_it_afterwards() {
    let (_, desk) = memory();
    let session_id = session(&desk).await;
    let (sessions, runs) = (Sessions::new(desk.clone()), Runs::new(desk));
    let run_id = runs.start(by(), session_id, ask("Do it.")).await.unwrap().view.run_id;
    let stop = Stop { reason: Some("enough".into()) };
    sessions.interrupt(by(), session_id, stop.clone()).await.unwrap();
    let view = runs.get(DEFAULT_ORG, run_id).await.unwrap();
    assert_eq!((view.status, view.reason.as_deref()), (Status::Interrupted, Some("enough")));
    let idle = sessions.interrupt(by(), session_id, stop.clone()).await.unwrap();
    assert_eq!(idle.seq, None, "nothing was left to stop");
    let ended = sessions.end(by(), session_id, stop).await.unwrap().view;
    assert_eq!(ended.status, crate::projections::sessions::Status::Ended);
    assert_eq!(sessions.get(DEFAULT_ORG, session_id, None).await.unwrap().view, ended);
    let late = runs.start(by(), session_id, ask("More.")).await.unwrap_err();
    assert_eq!(late.reason, Reason::SessionEnded);
}

#[tokio::test]
async fn the_runtime_has_one_revision_a_change() {
    let (_, desk) = memory();
    let runtime = Runtime::new(desk);
    let set = |mode, expected_revision| SetMode { mode, expected_revision };
    assert_eq!(runtime.set_mode(by(), set(Mode::Plan, Some(0))).await.unwrap().view.revision, 1);
    let conflict = runtime.set_mode(by(), set(Mode::Default, Some(0))).await.unwrap_err();
    assert_eq!(conflict.reason, Reason::RuntimeRevisionConflict);
    assert_eq!(runtime.trust_clock(by()).await.unwrap().seq, None, "the clock is trusted");
    assert_eq!(runtime.get(None).await.unwrap().view.permission_mode, Mode::Plan);
}

#[tokio::test]
async fn what_is_not_there_is_named_by_its_noun() {
    let (_, desk) = memory();
    let (session_id, run_id) = (SessionId::from_ulid(ulid::Ulid(1)), RunId::from_ulid(ulid::Ulid(1)));
    let task_id = TaskId::from_ulid(ulid::Ulid(1));
    let tasks = Tasks::new(desk.clone());
    let refusals = [
        Sessions::new(desk.clone()).get(DEFAULT_ORG, session_id, None).await.unwrap_err(),
        Runs::new(desk.clone()).cancel(by(), run_id, Stop::default()).await.unwrap_err(),
        approvals(&desk).get(DEFAULT_ORG, ApprovalId::from_ulid(ulid::Ulid(1))).await.unwrap_err(),
        Questions::new(desk).get(DEFAULT_ORG, QuestionId::from_ulid(ulid::Ulid(1))).await.unwrap_err(),
        tasks.get(DEFAULT_ORG, task_id).await.unwrap_err(),
        tasks.stop(by(), task_id, Stop::default()).await.unwrap_err(),
        parse_id::<RunId>("run_1", Reason::RunNotFound).unwrap_err(),
    ];
    let codes = refusals.map(|refusal| refusal.reason.code());
    let expected = [
        "session.not_found",
        "run.not_found",
        "approval.not_found",
        "question.not_found",
        "task.not_found",
        "task.not_found",
        "run.not_found",
    ];
    assert_eq!(codes, expected);
    assert_eq!(parse_filter::<RunId>("/run_id", "x").unwrap_err().reason, Reason::RequestInvalid);
}

/// A read side whose disk takes its time, and that knows how many wait for it.
struct SlowDisk {
    memory: Arc<Memory>,
    at_work: AtomicUsize,
    most: AtomicUsize,
    /// Whether records are still in memory as well.
    kept: AtomicBool,
}

impl SlowDisk {
    fn over(memory: &Arc<Memory>) -> Arc<Self> {
        let [at_work, most] = [AtomicUsize::new(0), AtomicUsize::new(0)];
        Arc::new(Self { memory: memory.clone(), at_work, most, kept: AtomicBool::new(false) })
    }
}

impl Bodies for SlowDisk {
    fn record(&self, seq: u64) -> Option<Record> {
        self.most.fetch_max(self.at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        self.at_work.fetch_sub(1, Ordering::SeqCst);
        self.memory.record(seq)
    }
}

impl ReadSide for SlowDisk {
    fn models(&self) -> RwLockReadGuard<'_, Models> {
        self.memory.models()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.memory.changes()
    }

    fn recent(&self, seq: u64) -> Option<Record> {
        self.memory.record(seq).filter(|_| self.kept.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn what_is_in_memory_is_shown_without_the_disk_and_says_the_same() {
    let (memory, desk) = memory();
    let session_id = session(&desk).await;
    let disk = SlowDisk::over(&memory);
    let sessions = Sessions::new(Desk::new(memory, disk.clone(), Arc::new(Routes::default())));
    let read = sessions.get(DEFAULT_ORG, session_id, None).await.unwrap().view;
    assert_eq!(disk.most.swap(0, Ordering::SeqCst), 1, "the control: it is read from the disk");
    disk.kept.store(true, Ordering::SeqCst);
    assert_eq!(sessions.get(DEFAULT_ORG, session_id, None).await.unwrap().view, read);
    assert_eq!(disk.most.load(Ordering::SeqCst), 0, "the disk was asked");
}

#[tokio::test]
async fn views_and_pages_are_made_aside_a_few_at_a_time() {
    let (memory, desk) = memory();
    let session_id = session(&desk).await;
    let disk = SlowDisk::over(&memory);
    let sessions = Sessions::new(Desk::new(memory, disk.clone(), Arc::new(Routes::default())));
    let beats = AtomicUsize::new(0);
    let heart = async {
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            beats.fetch_add(1, Ordering::SeqCst);
        }
    };
    let shown = async {
        let gets = (0..40).map(|_| sessions.get(DEFAULT_ORG, session_id, None));
        let views = futures_util::future::join_all(gets).await;
        assert!(views.iter().all(Result::is_ok));
        let most_views = disk.most.swap(0, Ordering::SeqCst);
        let lists = (0..12).map(|_| sessions.list(DEFAULT_ORG, None, Default::default()));
        let pages = futures_util::future::join_all(lists).await;
        assert!(pages.iter().all(Result::is_ok));
        (most_views, disk.most.swap(0, Ordering::SeqCst))
    };
    let most = tokio::select! { most = shown => most, () = heart => unreachable!() };
    assert_eq!(most, (16, 4));
    let stops = sessions.interrupt(by(), session_id, Stop::default());
    let before = beats.load(Ordering::SeqCst);
    assert!(before > 5, "nobody else was served: {before}");
    let heart = async {
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            beats.fetch_add(1, Ordering::SeqCst);
        }
    };
    tokio::select! { stopped = stops => drop(stopped.unwrap()), () = heart => unreachable!() }
    assert!(beats.load(Ordering::SeqCst) > before, "the view after a mutation held up others");
}
