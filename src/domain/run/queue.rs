//! A run's way into its session's queue and out of it: queueing, and the claim of a worker.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::{InputItem, Queued, RouteChoice, Started, live, out_of_order};
use crate::domain::command::{Answer, Context, Decided, invalid};
use crate::domain::ids::{RunId, SessionId};
use crate::domain::limits::{INPUT_BYTES, INPUT_ITEMS, QUEUED_RUNS_PER_SESSION, TURNS_DEFAULT, TURNS_MAX};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Draft;
use crate::domain::reply::{ReplyTarget, check_targets};
use crate::domain::session::{self, check_metadata, check_name};
use crate::domain::stream::Stream;
use crate::domain::world::World;

/// Asks for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The caller's organisation.
    pub org: String,
    /// The session.
    pub session_id: SessionId,
    /// What is asked, in order.
    pub input: Vec<InputItem>,
    /// Route id asked for.
    pub route: Option<String>,
    /// Model asked for.
    pub model: Option<String>,
    /// Model turns after which the run fails.
    pub max_turns: Option<u32>,
    /// Tokens after which a model shall stop.
    pub max_output_tokens: Option<NonZeroU32>,
    /// The creator's own notes.
    pub metadata: BTreeMap<String, String>,
    /// Where its answer goes instead of to the session's targets.
    pub reply_targets: Option<Vec<ReplyTarget>>,
}

/// A worker claims a run. The first claim pins route and mode; a later start of the daemon claims it anew and keeps
/// what is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The run.
    pub run_id: RunId,
    /// Route id.
    pub route: String,
    /// Driver of the route.
    pub driver: String,
    /// Model.
    pub model: String,
    /// Which level chose the route.
    pub chosen_by: RouteChoice,
    /// Whether the answers come from a script instead of a model.
    pub rehearsal: bool,
    /// What it was chosen by: the runtime's revision, and the session's route policy, if it has one.
    pub chosen_under: (u64, Option<u64>),
}

fn check_input(input: &[InputItem]) -> Result<(), Refusal> {
    if input.is_empty() || input.len() > INPUT_ITEMS {
        return Err(invalid("/input_items", format!("A run's input has 1 to {INPUT_ITEMS} items.")));
    }
    let mut total = 0_usize;
    for (at, item) in input.iter().enumerate() {
        match item {
            InputItem::Text { text } => {
                if text.clear().is_some_and(|words| words.trim().is_empty()) {
                    return Err(invalid(format!("/input_items/{at}/text"), "A text says something."));
                }
                total = total.saturating_add(text.bytes());
            }
        }
    }
    if total > INPUT_BYTES {
        return Err(invalid("/input_items", format!("A run's input has at most {INPUT_BYTES} bytes.")));
    }
    Ok(())
}

pub(in crate::domain) fn queue(world: &World, ask: &Queue, context: &mut Context<'_>) -> Result<Decided, Refusal> {
    check_input(&ask.input)?;
    check_name("/route", ask.route.as_deref())?;
    check_name("/model", ask.model.as_deref())?;
    check_metadata(&ask.metadata)?;
    check_targets(ask.reply_targets.as_deref().unwrap_or_default())?;
    let max_turns = ask.max_turns.unwrap_or(TURNS_DEFAULT);
    if max_turns == 0 || max_turns > TURNS_MAX {
        return Err(invalid("/max_turns", format!("A run has 1 to {TURNS_MAX} turns.")));
    }
    let session = session::live(world, &ask.org, ask.session_id)?;
    if session.queue.len() >= QUEUED_RUNS_PER_SESSION {
        let detail = format!("A session's queue has at most {QUEUED_RUNS_PER_SESSION} runs.");
        return Err(Refusal::new(Reason::RequestOverloaded, detail).retry_after_ms(1_000));
    }
    let id = RunId::from_ulid(context.ulid());
    let event = Queued {
        session_id: ask.session_id,
        input: ask.input.clone(),
        route: ask.route.clone(),
        model: ask.model.clone(),
        max_turns,
        max_output_tokens: ask.max_output_tokens,
        metadata: ask.metadata.clone(),
        reply_targets: ask.reply_targets.clone(),
    };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Run(id), event.into()), Answer::Run(id)))
}

pub(in crate::domain) fn start(world: &World, ask: &Start, context: &Context<'_>) -> Result<Decided, Refusal> {
    let run = live(world, ask.run_id)?;
    if run.stop.is_some() {
        return Err(Reason::RunStopping.into());
    }
    let session = world.sessions.get(&run.session).ok_or(Reason::SessionNotFound)?;
    if session.ended && run.claim.is_none() {
        return Err(Reason::SessionEnded.into());
    }
    let event = match &run.claim {
        Some(claim) if claim.boot_id == context.boot_id => {
            return Err(out_of_order("The run is claimed already."));
        }
        Some(claim) => Started { boot_id: context.boot_id, ..claim.clone() },
        None if session.active.is_some() || session.queue.front() != Some(&ask.run_id) => {
            return Err(out_of_order("Another run of the session comes first."));
        }
        None if ask.chosen_under != (world.runtime.revision, session.policy_seq) => {
            let detail = "The runtime configuration or the session's route policy has changed meanwhile.";
            return Err(Refusal::new(Reason::RuntimeRevisionConflict, detail));
        }
        None => Started {
            boot_id: context.boot_id,
            route: ask.route.clone(),
            driver: ask.driver.clone(),
            model: ask.model.clone(),
            chosen_by: ask.chosen_by,
            rehearsal: ask.rehearsal,
            permission_mode: session.permission_mode.unwrap_or(world.runtime.permission_mode),
            runtime_revision: world.runtime.revision,
        },
    };
    let draft = Draft::new(world.names.text(run.org), Stream::Run(ask.run_id), event.into());
    Ok(Decided::one(draft, Answer::Run(ask.run_id)))
}
