//! Calls of runs, judged by what binds them at this moment, and again before they are made.

use super::{Behavior, Decided, Judgement, Modes, Rules, assess};
use crate::domain::call::{self, Stage};
use crate::domain::command::{Answer, Context, Decided as Outcome};
use crate::domain::ids::{CallId, RunId};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::{Draft, Record};
use crate::domain::run::{self, out_of_order};
use crate::domain::stream::Stream;
use crate::domain::world::World;

/// What modes and rules say at this moment about a call of a run.
fn assess_now(world: &World, run: &run::Live, tool: &str) -> Result<Judgement, Refusal> {
    let claim = run.claim.as_ref().ok_or_else(|| out_of_order("The run is not claimed."))?;
    let session = world.sessions.get(&run.session);
    let own_mode = session.and_then(|session| session.permission_mode);
    let modes = Modes::of(claim.permission_mode, own_mode, world.runtime.permission_mode);
    let rules = Rules {
        session: session.map_or(&[], |session| &session.permission_rules),
        project: &world.runtime.project_rules,
        user: &world.runtime.user_rules,
    };
    Ok(assess(tool, modes, rules))
}

/// Refuses what was allowed, by mode and rules or by a person, and is no longer: both may have changed since.
pub(in crate::domain) fn check_still(
    world: &World,
    run: &run::Live,
    tool: &str,
    by_person: bool,
) -> Result<(), Refusal> {
    let judgement = assess_now(world, run, tool)?;
    match judgement.decision {
        Behavior::Allow => Ok(()),
        Behavior::Ask if by_person => Ok(()),
        Behavior::Ask | Behavior::Deny => Err(Refusal::new(Reason::PermissionDenied, judgement.why())),
    }
}

/// A worker has a call judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    /// The run.
    pub run_id: RunId,
    /// The call.
    pub call_id: CallId,
}

pub(in crate::domain) fn judge(world: &World, ask: &Judge, context: &Context<'_>) -> Result<Outcome, Refusal> {
    let run = run::working(world, ask.run_id, context)?;
    let call = call::of_run(run, ask.call_id)?;
    let judgement = assess_now(world, run, &call.tool)?;
    // What was allowed is judged anew only where it no longer would be.
    let open = match &call.stage {
        Stage::Asked => true,
        Stage::Judged(Behavior::Allow) => judgement.decision > Behavior::Allow,
        Stage::Approved { .. } => judgement.decision == Behavior::Deny,
        Stage::Judged(Behavior::Ask | Behavior::Deny)
        | Stage::AwaitsApproval(_)
        | Stage::Dropped
        | Stage::AwaitsAnswer(_)
        | Stage::Answered
        | Stage::Dispatched
        | Stage::Done => false,
    };
    if !open {
        return Err(out_of_order("The call was judged before."));
    }
    let event = Decided {
        call_id: ask.call_id,
        tool: call.tool.clone(),
        mode: judgement.mode,
        base: judgement.base,
        decision: judgement.decision,
        rule: judgement.rule,
    };
    let draft = Draft::new(world.names.text(run.org), Stream::Run(ask.run_id), event.into());
    Ok(Outcome::one(draft, Answer::Run(ask.run_id)))
}

impl World {
    pub(in crate::domain) fn fold_permission_decided(&mut self, record: &Record, body: &Decided) {
        self.set_stage(record, body.call_id, Stage::Judged(body.decision));
    }
}
