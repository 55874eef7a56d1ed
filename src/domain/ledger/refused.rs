//! A call that a budget refused, as somebody asks about it later. It is no event: whoever keeps it forgets it with the start.

use super::Name;
use super::reserve::{Payer, Quote, Standing, charged, needed};
use crate::domain::command::Command;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::turn;
use crate::domain::world::World;

/// What was asked, and what stood in its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Organisation.
    pub org: String,
    /// The run that asked.
    pub run_id: Option<RunId>,
    /// The session that was to pay as well.
    pub session_id: Option<SessionId>,
    /// Whose token was to pay.
    pub token: String,
    /// Route id.
    pub route: String,
    /// Model.
    pub model: String,
    /// Tokens sent, as estimated.
    pub input_tokens: u64,
    /// The smallest limit of the answer that anyone named, tokens.
    pub output_tokens: Option<u64>,
    /// The least that must be left of every budget, micro-units; not known without a price.
    pub needed_micros: Option<u64>,
    /// The budgets that do not cover it.
    pub budgets: Vec<InTheWay>,
}

/// A budget that does not cover a call, as it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTheWay {
    /// Its name.
    pub budget: Name,
    /// Most that may be spent in a period, micro-units.
    pub limit_micros: u64,
    /// Spent in this period.
    pub spent_micros: u64,
    /// Set aside for calls that had not ended.
    pub reserved_micros: u64,
}

/// What a refused command asked of the ledger; none where it asks nothing of it. The world must be the one that it was
/// decided against.
pub fn refused(world: &World, command: &Command, actor: &str, now_ms: u64) -> Option<Refused> {
    if let Command::RequestModelCall(ask) = command {
        let payer = Payer { org: &ask.org, principal: actor, route: &ask.route, session_id: ask.session_id };
        return Some(of(world, payer, (None, &ask.model, &ask.quote), now_ms));
    }
    let Command::RecordTurnRequested(turn::Request { run_id, body, quote }) = command else { return None };
    let run = world.runs.get(run_id)?;
    let (org, principal) = (world.names.text(run.org), world.names.text(run.principal));
    let payer = Payer { org, principal, route: &body.route, session_id: Some(run.session) };
    Some(of(world, payer, (Some(*run_id), &body.model, quote.as_deref()?), now_ms))
}

fn of(world: &World, payer: Payer<'_>, (run_id, model, quote): (Option<RunId>, &str, &Quote), now_ms: u64) -> Refused {
    let needed = quote.price.as_ref().map(|price| needed(quote, price));
    let in_the_way = |standing: &Standing<'_>| needed.is_none_or(|needed| needed > standing.left());
    let shown = |standing: Standing<'_>| InTheWay {
        budget: standing.name.clone(),
        limit_micros: standing.limit,
        spent_micros: standing.spent,
        reserved_micros: standing.reserved,
    };
    Refused {
        org: payer.org.to_owned(),
        run_id,
        session_id: payer.session_id,
        token: payer.principal.to_owned(),
        route: payer.route.to_owned(),
        model: model.to_owned(),
        input_tokens: quote.input_tokens,
        output_tokens: quote.output_tokens,
        needed_micros: needed,
        budgets: charged(world, payer, now_ms).filter(in_the_way).map(shown).collect(),
    }
}
