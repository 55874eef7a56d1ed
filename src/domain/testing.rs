//! A house for tests: a world, the records that made it, and short ways to the states that tests begin with.

use ulid::Ulid;

use super::actor::{Actor, ActorKind};
use super::approval::{self, Decision};
use super::call;
use super::command::{Answer, Command, Context, decide};
use super::ids::{ApprovalId, BootId, CallId, IdSource, ModelCallId, RunId, SessionId};
use super::ledger::{Name, Price, Quote, budget};
use super::model_call::{self, Dialect, Outcome, Taken};
use super::permission::{self, Behavior};
use super::reason::Refusal;
use super::record::{DEFAULT_ORG, Draft, Record, RequestFacts};
use super::run::{self, InputItem, RouteChoice};
use super::session;
use super::turn::{self, StopReason, Wanted};
use super::world::World;

/// A world with all its records.
pub(crate) struct House {
    pub(crate) world: World,
    pub(crate) records: Vec<Record>,
    pub(crate) now_ms: u64,
    pub(crate) boot_id: BootId,
    pub(crate) actor: Actor,
    ids: IdSource,
    chance: u128,
}

/// An actor of a kind.
pub(crate) fn actor(kind: ActorKind, id: &str) -> Actor {
    Actor { kind, id: id.to_owned(), via: "http".to_owned(), credential: None, verified: true }
}

/// A session that asks for nothing special.
pub(crate) fn plain_session() -> session::Created {
    session::Created {
        title: None,
        route: None,
        model: None,
        permission_mode: None,
        permission_rules: Vec::new(),
        metadata: std::collections::BTreeMap::new(),
        reply_targets: Vec::new(),
        subject_key: None,
    }
}

/// A price: 2 micro-units a token sent, 10 a token received.
pub(crate) fn price() -> Price {
    Price { table: "t".into(), input: 2_000_000, cached_input: 1_000_000, cache_write: 2_000_000, output: 10_000_000 }
}

/// A quote of so many tokens sent and received.
pub(crate) fn quote(input_tokens: u64, output_tokens: Option<u64>) -> Quote {
    Quote { input_tokens, output_tokens, answers: 1, price: Some((price(), 1_000)) }
}

/// A client's call that asks for nothing special.
pub(crate) fn plain_call(org: &str) -> model_call::Request {
    model_call::Request {
        org: org.to_owned(),
        route: "r".into(),
        driver: "openai".into(),
        model: "m".into(),
        dialect: Dialect::ChatCompletions,
        stream: false,
        body_sha256: String::new(),
        session_id: None,
        quote: quote(100, Some(10)),
        credential: None,
        route_decision: None,
    }
}

impl House {
    pub(crate) fn new() -> Self {
        Self {
            world: World::default(),
            records: Vec::new(),
            now_ms: 1_800_000_000_000,
            boot_id: BootId::from_ulid(Ulid::from_parts(1, 1)),
            actor: actor(ActorKind::Token, "admin"),
            ids: IdSource::after(Ulid::nil()),
            chance: 7,
        }
    }

    /// The same facts under a new start of the daemon.
    pub(crate) fn restart(&mut self) {
        self.boot_id = BootId::from_ulid(Ulid(self.boot_id.ulid().0 + 1));
    }

    /// Decides without folding anything.
    pub(crate) fn decide(&mut self, command: &Command) -> Result<super::command::Decided, Refusal> {
        let chance = &mut self.chance;
        let mut entropy = move || {
            *chance += 1;
            *chance
        };
        let mut context = Context {
            now_ms: self.now_ms,
            boot_id: self.boot_id,
            ids: &mut self.ids,
            entropy: &mut entropy,
            actor: &self.actor,
        };
        decide(&self.world, command, &mut context)
    }

    /// Decides and folds.
    #[expect(clippy::needless_pass_by_value, reason = "tests read better without ampersands")]
    pub(crate) fn act(&mut self, command: Command) -> Result<Answer, Refusal> {
        self.act_for(&command, None)
    }

    /// Decides and folds, for a request.
    pub(crate) fn act_for(&mut self, command: &Command, request: Option<RequestFacts>) -> Result<Answer, Refusal> {
        let decided = self.decide(command)?;
        let mut request = request;
        for draft in decided.drafts {
            self.fold(draft, request.take());
        }
        Ok(decided.answer)
    }

    fn fold(&mut self, draft: Draft, request: Option<RequestFacts>) {
        assert!(draft.event.belongs_on(&draft.stream), "{} on {}", draft.event.kind(), draft.stream);
        let record = Record {
            seq: 1 + self.records.len() as u64,
            at_ms: self.now_ms,
            mono_ms: 0,
            org: draft.org,
            stream: draft.stream,
            project: None,
            subject: None,
            actor: self.actor.clone(),
            on_behalf_of: Vec::new(),
            ctx: 0,
            request,
            cause: draft.cause,
            reason: draft.reason,
            event: draft.event,
        };
        self.world.apply(&record);
        self.records.push(record);
    }

    /// The kinds of the records from here on.
    pub(crate) fn kinds_from(&self, from: usize) -> Vec<&'static str> {
        self.records[from..].iter().map(|record| record.event.kind()).collect()
    }

    pub(crate) fn session(&mut self) -> SessionId {
        let ask = session::Create { org: DEFAULT_ORG.into(), body: plain_session() };
        match self.act(Command::CreateSession(ask)) {
            Ok(Answer::Session(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn queued(&mut self, session_id: SessionId) -> RunId {
        let ask = run::Queue {
            org: DEFAULT_ORG.into(),
            session_id,
            input: vec![InputItem::Text { text: "Do it.".into() }],
            route: None,
            model: None,
            max_turns: None,
            max_output_tokens: None,
            metadata: std::collections::BTreeMap::new(),
            reply_targets: None,
        };
        match self.act(Command::QueueRun(ask)) {
            Ok(Answer::Run(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn start(&mut self, run_id: RunId) -> Result<Answer, Refusal> {
        let session = self.world.runs.get(&run_id).and_then(|run| self.world.sessions.get(&run.session));
        let chosen_under = (self.world.runtime.revision, session.and_then(|session| session.policy_seq));
        self.act(Command::StartRun(run::Start {
            run_id,
            route: "rehearsal".into(),
            driver: "rehearsal".into(),
            model: "script".into(),
            chosen_by: RouteChoice::Default,
            rehearsal: true,
            chosen_under,
        }))
    }

    /// A run that works.
    pub(crate) fn started(&mut self, session_id: SessionId) -> RunId {
        let run = self.queued(session_id);
        self.start(run).unwrap();
        run
    }

    pub(crate) fn ask_model(&mut self, run_id: RunId) -> Result<Answer, Refusal> {
        let run = &self.world.runs[&run_id];
        let (turn, attempt) = match run.turn_stage {
            run::TurnStage::None | run::TurnStage::Answered => (run.turn + 1, 1),
            run::TurnStage::Requested | run::TurnStage::Failed => (run.turn, run.attempt + 1),
        };
        let body = turn::Requested {
            turn,
            attempt,
            route: "rehearsal".into(),
            model: "script".into(),
            ..turn::Requested::default()
        };
        self.act(Command::RecordTurnRequested(turn::Request { run_id, body, quote: None }))
    }

    /// The model answers with calls of these tools.
    pub(crate) fn model_answers(&mut self, run_id: RunId, tools: &[&str]) -> Result<Answer, Refusal> {
        let wanted = |tool: &&str| Wanted { provider_id: "c".into(), tool: (*tool).into(), input: "{}".into() };
        let turn = self.world.runs.get(&run_id).map_or(1, |run| run.turn);
        self.act(Command::RecordTurnAnswered(turn::Answer {
            run_id,
            turn,
            text: Some("words".into()),
            reasoning: None,
            calls: tools.iter().map(wanted).collect(),
            stop: if tools.is_empty() { StopReason::EndTurn } else { StopReason::ToolUse },
            usage: None,
            duration_ms: 1,
        }))
    }

    /// A run whose model wants a call of this tool, judged.
    pub(crate) fn judged(&mut self, run_id: RunId, tool: &str) -> (CallId, Behavior) {
        self.ask_model(run_id).unwrap();
        self.model_answers(run_id, &[tool]).unwrap();
        let call_id = *self.world.runs[&run_id].calls.keys().next().unwrap();
        self.act(Command::RecordPermission(permission::Judge { run_id, call_id })).unwrap();
        match self.world.runs[&run_id].calls[&call_id].stage {
            call::Stage::Judged(behavior) => (call_id, behavior),
            ref other => panic!("{other:?}"),
        }
    }

    pub(crate) fn request_approval(&mut self, run_id: RunId, call_id: CallId, hash: &str) -> Result<Answer, Refusal> {
        self.act(Command::RequestApproval(approval::Request {
            run_id,
            call_id,
            call: "{}".into(),
            call_hash: hash.into(),
            card: "card".into(),
            card_hash: "card".into(),
        }))
    }

    /// A run that waits for the approval of a `bash` call with the hash `call`.
    pub(crate) fn waiting(&mut self, session_id: SessionId) -> (RunId, CallId, ApprovalId) {
        let run_id = self.started(session_id);
        let (call_id, _) = self.judged(run_id, "bash");
        match self.request_approval(run_id, call_id, "call") {
            Ok(Answer::Approval(id)) => (run_id, call_id, id),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn decide_approval(&mut self, id: ApprovalId, decision: Decision) -> Result<Answer, Refusal> {
        self.act(Command::DecideApproval(approval::Decide {
            org: DEFAULT_ORG.into(),
            approval_id: id,
            decision,
            call_hash: "call".into(),
            card_hash: "card".into(),
            note: None,
        }))
    }

    pub(crate) fn dispatch(&mut self, run_id: RunId, call_id: CallId, hash: &str) -> Result<Answer, Refusal> {
        self.act(Command::DispatchCall(call::Dispatch { run_id, call_id, call_hash: hash.into(), sandbox: None }))
    }

    pub(crate) fn finish_call(&mut self, run_id: RunId, call_id: CallId) -> Result<Answer, Refusal> {
        let body = call::Finished {
            call_id,
            ok: true,
            code: None,
            output: "done".into(),
            truncated: false,
            exit_code: Some(0),
            task_id: None,
            duration_ms: 5,
        };
        self.act(Command::FinishCall(call::Finish { run_id, body }))
    }

    /// A client's call with this quote, on its way.
    pub(crate) fn call_model(&mut self, quote: Quote) -> Result<ModelCallId, Refusal> {
        let ask = model_call::Request { quote, ..plain_call(DEFAULT_ORG) };
        match self.act(Command::RequestModelCall(Box::new(ask)))? {
            Answer::ModelCall(id) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn settle_call(&mut self, model_call_id: ModelCallId, taken: Taken) -> Result<Answer, Refusal> {
        self.act(Command::SettleModelCall(model_call::Settle {
            model_call_id,
            outcome: Outcome::Answered,
            taken,
            status: Some(200),
            code: None,
            duration_ms: 1,
        }))
    }

    pub(crate) fn set_budget(&mut self, name: &str, limit_micros: u64) -> Result<Answer, Refusal> {
        let budget = Name::parse(name).unwrap();
        self.act(Command::SetBudget(budget::Set { org: DEFAULT_ORG.into(), budget, limit_micros }))
    }

    pub(crate) fn cancel(&mut self, run_id: RunId) -> Result<Answer, Refusal> {
        self.act(Command::CancelRun(run::Cancel { org: DEFAULT_ORG.into(), run_id, note: None }))
    }

    pub(crate) fn complete(&mut self, run_id: RunId) -> Result<Answer, Refusal> {
        self.act(Command::CompleteRun(run::Complete { run_id, output: "done".into() }))
    }
}
