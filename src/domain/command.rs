//! Commands: everything that can be asked of the rules, and the one pure function that decides.

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::actor::Actor;
use super::event::Event;
use super::ids::{ApprovalId, BootId, IdSource, ModelCallId, QuestionId, RunId, SessionId, TaskId};
use super::ledger::budget;
use super::personal::Personal;
use super::reason::{Reason, Refusal};
use super::record::{Draft, Record};
use super::stream::Stream;
use super::world::World;
use super::{
    approval, boot, call, context, credential, erasure, model_call, permission, question, run, runtime, secret,
    session, task, turn,
};

/// What is asked. Commands of callers name the caller's organisation: another one's objects look absent.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Opens a session.
    CreateSession(session::Create),
    /// Stops what runs, waits or is queued in a session.
    InterruptSession(session::Interrupt),
    /// Stops everything in a session and takes no further run.
    EndSession(session::End),
    /// Destroys the key of a session's words.
    EraseSession(erasure::Erase),
    /// Puts a run into its session's queue.
    QueueRun(run::Queue),
    /// A worker claims a run.
    StartRun(run::Start),
    /// Asks a run to stop, or ends it at once where it does not work.
    CancelRun(run::Cancel),
    /// A worker confirms that a run has stopped, or gives it up at a drain.
    StopRun(run::Confirm),
    /// The last turn's answer is the run's.
    CompleteRun(run::Complete),
    /// A run cannot go on.
    FailRun(run::Fail),
    /// The intent to call the model.
    RecordTurnRequested(turn::Request),
    /// The model's answer.
    RecordTurnAnswered(turn::Answer),
    /// The model's call broke off.
    RecordTurnFailed(turn::Fail),
    /// Judges a call by mode and rules.
    RecordPermission(permission::Judge),
    /// Asks a person to allow a call.
    RequestApproval(approval::Request),
    /// A person allows or denies.
    DecideApproval(approval::Decide),
    /// Takes an approval back whose call has changed.
    WithdrawApproval(approval::Withdraw),
    /// Lets due approvals lapse.
    ExpireApprovals,
    /// Asks a person a question.
    AskQuestion(question::Ask),
    /// A person answers.
    AnswerQuestion(question::Answer),
    /// A person declines to answer.
    DeclineQuestion(question::Decline),
    /// Lets due questions lapse.
    ExpireQuestions,
    /// The intent to make a call.
    DispatchCall(call::Dispatch),
    /// The outcome of a call.
    FinishCall(call::Finish),
    /// The call is not made.
    RefuseCall(call::Refuse),
    /// A call started a background task.
    StartTask(task::Start),
    /// Asks a background task to stop.
    RequestTaskStop(task::Stop),
    /// A background task ended.
    FinishTask(task::Finish),
    /// Settles what an earlier start of the daemon left half done. Repeated until it changes nothing.
    SettleBoot,
    /// Sets the mode for sessions that set none.
    SetPermissionMode(runtime::SetMode),
    /// Sets the rules of one scope.
    SetPermissionRules(runtime::SetRules),
    /// Sets how much the daemon says in its log.
    SetDebugLevel(runtime::SetDebugLevel),
    /// Sets the model, the system prompt or the limits of tools.
    SetRuntimePart(runtime::SetPart),
    /// Sets the route and the model of a session's later runs.
    SetRoutePolicy(session::SetRoutePolicy),
    /// Goes back to an earlier revision of the runtime configuration.
    RollBackRuntime(runtime::RollBack),
    /// Sets a budget.
    SetBudget(budget::Set),
    /// Removes a budget.
    RemoveBudget(budget::Remove),
    /// The intent to make a client's model call.
    RequestModelCall(Box<model_call::Request>),
    /// What became of a client's model call.
    SettleModelCall(model_call::Settle),
    /// An operator trusts the machine's clock again.
    TrustClock,
    /// Says which master key the vault is encrypted under.
    KeyVault(secret::Key),
    /// A stored version of a secret is to be used from now on.
    ActivateSecret(secret::Activate),
    /// Nobody gets a secret until another version is stored.
    RevokeSecret(secret::Named),
    /// Empties a slot.
    DeleteSecret(secret::Named),
    /// A subject gets no lease any more.
    RevokeSubject(credential::NamedSubject),
    /// A subject may have leases again.
    ReinstateSubject(credential::NamedSubject),
    /// Takes a lease back.
    RevokeLease(credential::NamedLease),
    /// A fact of the daemon, the journal or the control plane.
    Note(Draft),
}

/// What a command takes beside its words, bytes, roughly.
const FRAME_BYTES: usize = 512;

impl Command {
    /// Whether it goes on with a request that was begun, whose key it may name without being a repeat.
    pub fn goes_on(&self) -> bool {
        matches!(self, Self::SettleModelCall(_))
            || matches!(self, Self::RequestModelCall(ask) if ask.route_decision.is_some())
    }

    /// Roughly what it takes in memory while it waits, bytes: callers' words, of which many may wait, are counted.
    #[expect(clippy::too_many_lines, reason = "one line a command: the list is the function")]
    pub fn weight_bytes(&self) -> usize {
        let notes = |notes: &std::collections::BTreeMap<String, String>| {
            notes.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
        };
        let clear = |text: &Personal| if matches!(text, Personal::Blob { .. }) { 0 } else { text.bytes() };
        FRAME_BYTES
            + match self {
                Self::CreateSession(ask) => notes(&ask.body.metadata) + ask.body.permission_rules.len() * FRAME_BYTES,
                Self::QueueRun(ask) => {
                    let words = |item: &run::InputItem| match item {
                        run::InputItem::Text { text } => clear(text),
                    };
                    notes(&ask.metadata) + ask.input.iter().map(words).sum::<usize>()
                }
                Self::AnswerQuestion(ask) => ask.freeform.as_ref().map_or(0, clear),
                Self::SetPermissionRules(ask) => ask.rules.len() * FRAME_BYTES,
                Self::SetRuntimePart(runtime::SetPart { part: runtime::Part::SystemPrompt(prompt), .. }) => {
                    prompt.text.len()
                }
                Self::SetRuntimePart(_)
                | Self::SetRoutePolicy(_)
                | Self::InterruptSession(_)
                | Self::EndSession(_)
                | Self::EraseSession(_)
                | Self::StartRun(_)
                | Self::CancelRun(_)
                | Self::StopRun(_)
                | Self::CompleteRun(_)
                | Self::FailRun(_)
                | Self::RecordTurnRequested(_)
                | Self::RecordTurnAnswered(_)
                | Self::RecordTurnFailed(_)
                | Self::RecordPermission(_)
                | Self::RequestApproval(_)
                | Self::DecideApproval(_)
                | Self::WithdrawApproval(_)
                | Self::ExpireApprovals
                | Self::AskQuestion(_)
                | Self::DeclineQuestion(_)
                | Self::ExpireQuestions
                | Self::DispatchCall(_)
                | Self::FinishCall(_)
                | Self::RefuseCall(_)
                | Self::StartTask(_)
                | Self::RequestTaskStop(_)
                | Self::FinishTask(_)
                | Self::SettleBoot
                | Self::SetPermissionMode(_)
                | Self::SetDebugLevel(_)
                | Self::RollBackRuntime(_)
                | Self::SetBudget(_)
                | Self::RemoveBudget(_)
                | Self::RequestModelCall(_)
                | Self::SettleModelCall(_)
                | Self::TrustClock
                | Self::KeyVault(_)
                | Self::ActivateSecret(_)
                | Self::RevokeSecret(_)
                | Self::DeleteSecret(_)
                | Self::RevokeSubject(_)
                | Self::ReinstateSubject(_)
                | Self::RevokeLease(_)
                | Self::Note(_) => 0,
            }
    }
}

/// What a decision may use besides the world; nothing is ambient.
pub struct Context<'a> {
    /// Wall clock, Unix milliseconds.
    pub now_ms: u64,
    /// This start of the daemon.
    pub boot_id: BootId,
    /// Fresh ids.
    pub ids: &'a mut IdSource,
    /// Fresh randomness.
    pub entropy: &'a mut dyn FnMut() -> u128,
    /// Who acts.
    pub actor: &'a Actor,
}

impl Context<'_> {
    /// A fresh ULID.
    pub fn ulid(&mut self) -> Ulid {
        self.ids.next(self.now_ms, (self.entropy)())
    }
}

/// The outcome of a decision: what happens, and what the caller is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// In order; empty where nothing changes.
    pub drafts: Vec<Draft>,
    /// The object concerned.
    pub answer: Answer,
}

impl Decided {
    /// Nothing changes.
    pub fn nothing(answer: Answer) -> Self {
        Self { drafts: Vec::new(), answer }
    }

    /// One event happens.
    pub fn one(draft: Draft, answer: Answer) -> Self {
        Self { drafts: vec![draft], answer }
    }
}

/// The object that a decision concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// None.
    Nothing,
    /// A session.
    Session(SessionId),
    /// A run.
    Run(RunId),
    /// An approval.
    Approval(ApprovalId),
    /// A question.
    Question(QuestionId),
    /// A task.
    Task(TaskId),
    /// A revision of the runtime configuration.
    Revision(u64),
    /// A client's model call.
    ModelCall(ModelCallId),
}

impl Answer {
    /// What the decision answered whose first record this is.
    pub fn of(record: &Record) -> Self {
        if let Event::ApprovalDecided(body) = &record.event {
            return Self::Approval(body.approval_id);
        }
        if let Event::QuestionAnswered(question::Answered { question_id, .. })
        | Event::QuestionDeclined(question::Declined { question_id, .. }) = &record.event
        {
            return Self::Question(*question_id);
        }
        if let Event::TaskStopRequested(body) = &record.event {
            return Self::Task(body.task_id);
        }
        if let Event::PermissionModeSet(runtime::PermissionModeSet { revision, .. })
        | Event::PermissionRulesSet(runtime::PermissionRulesSet { revision, .. })
        | Event::DebugLevelSet(runtime::DebugLevelSet { revision, .. })
        | Event::RuntimeModelSet(runtime::ModelSet { revision, .. })
        | Event::SystemPromptSet(runtime::SystemPromptSet { revision, .. })
        | Event::ToolLimitsSet(runtime::ToolLimitsSet { revision, .. })
        | Event::ErasureSet(runtime::ErasureSet { revision, .. })
        | Event::RuntimeRolledBack(runtime::RolledBack { revision, .. }) = &record.event
        {
            return Self::Revision(*revision);
        }
        match record.stream {
            Stream::Session(id) => Self::Session(id),
            Stream::Run(id) => Self::Run(id),
            Stream::ModelCall(id) => Self::ModelCall(id),
            Stream::Journal
            | Stream::Daemon
            | Stream::Runtime
            | Stream::ControlPlane
            | Stream::Vault
            | Stream::Ledger => Self::Nothing,
        }
    }
}

/// Decides one command against the world: events and an answer, or a refusal that changes nothing.
pub fn decide(world: &World, command: &Command, context: &mut Context<'_>) -> Result<Decided, Refusal> {
    match command {
        Command::CreateSession(ask) => session::create(world, ask, context),
        Command::InterruptSession(ask) => session::interrupt(world, ask),
        Command::EndSession(ask) => session::end(world, ask),
        Command::EraseSession(ask) => erasure::erase(world, ask),
        Command::QueueRun(ask) => run::queue::queue(world, ask, context),
        Command::StartRun(ask) => run::queue::start(world, ask, context),
        Command::CancelRun(ask) => run::stop::cancel(world, ask),
        Command::StopRun(ask) => run::stop::confirm(world, ask),
        Command::CompleteRun(ask) => run::stop::complete(world, ask, context),
        Command::FailRun(ask) => run::stop::fail(world, ask, context),
        Command::RecordTurnRequested(ask) => turn::request(world, ask, context),
        Command::RecordTurnAnswered(ask) => turn::answer(world, ask, context),
        Command::RecordTurnFailed(ask) => turn::fail(world, ask, context),
        Command::RecordPermission(ask) => permission::judge(world, ask, context),
        Command::RequestApproval(ask) => approval::request(world, ask, context),
        Command::DecideApproval(ask) => approval::decide(world, ask, context),
        Command::WithdrawApproval(ask) => approval::withdraw(world, ask, context),
        Command::ExpireApprovals => approval::expire(world, context),
        Command::AskQuestion(ask) => question::ask(world, ask, context),
        Command::AnswerQuestion(ask) => question::answer(world, ask, context),
        Command::DeclineQuestion(ask) => question::decline(world, ask, context),
        Command::ExpireQuestions => question::expire(world, context),
        Command::DispatchCall(ask) => call::dispatch(world, ask, context),
        Command::FinishCall(ask) => call::finish(world, ask, context),
        Command::RefuseCall(ask) => call::refuse(world, ask, context),
        Command::StartTask(ask) => task::start(world, ask, context),
        Command::RequestTaskStop(ask) => task::stop(world, ask),
        Command::FinishTask(ask) => task::finish(world, ask),
        Command::SettleBoot => Ok(boot::settle(world, context)),
        Command::SetPermissionMode(ask) => runtime::set_mode(world, ask),
        Command::SetPermissionRules(ask) => runtime::set_rules(world, ask),
        Command::SetDebugLevel(ask) => runtime::set_debug_level(world, ask),
        Command::SetRuntimePart(ask) => runtime::set_part(world, ask),
        Command::SetRoutePolicy(ask) => session::set_route_policy(world, ask),
        Command::RollBackRuntime(ask) => runtime::roll_back(world, ask),
        Command::SetBudget(ask) => budget::set(world, ask),
        Command::RemoveBudget(ask) => budget::remove(world, ask),
        Command::RequestModelCall(ask) => model_call::request(world, ask, context),
        Command::SettleModelCall(ask) => model_call::settle(world, ask),
        Command::TrustClock => Ok(context::trust_clock(world, context)),
        Command::KeyVault(ask) => Ok(secret::key(world, ask)),
        Command::ActivateSecret(ask) => secret::activate(world, ask),
        Command::RevokeSecret(ask) => secret::revoke(world, ask),
        Command::DeleteSecret(ask) => secret::delete(world, ask),
        Command::RevokeSubject(ask) => credential::revoke_subject(world, ask),
        Command::ReinstateSubject(ask) => credential::reinstate_subject(world, ask),
        Command::RevokeLease(ask) => credential::revoke_lease(world, ask),
        Command::Note(draft) => context::note(world, draft),
    }
}

/// A request that has the right shape but breaks a rule, at one place of its body.
pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::RequestInvalid, detail).at(pointer)
}

/// Checks the length of an operator's words.
pub(super) fn check_note(pointer: &str, note: Option<&str>) -> Result<(), Refusal> {
    match note {
        Some(note) if note.len() > super::limits::NOTE_BYTES => {
            Err(invalid(pointer, format!("A note has at most {} bytes.", super::limits::NOTE_BYTES)))
        }
        Some(_) | None => Ok(()),
    }
}
