//! The reservation: what a call may cost at most, compared with every budget in force before the call is made.

use super::{Name, Period, Price, Reservation, Subject};
use crate::domain::ids::SessionId;
use crate::domain::limits::OUTPUT_TOKENS_LEAST;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::world::World;

/// What is known about a call before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Tokens sent, as estimated.
    pub input_tokens: u64,
    /// The smallest limit of the answer that anyone named, tokens.
    pub output_tokens: Option<u64>,
    /// How many answers are asked for.
    pub answers: u64,
    /// The model's price, and the most tokens that it answers with.
    pub price: Option<(Price, u64)>,
}

/// Who pays for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payer<'a> {
    /// The organisation.
    pub org: &'a str,
    /// The token.
    pub principal: &'a str,
    /// The route.
    pub route: &'a str,
    /// The session.
    pub session_id: Option<SessionId>,
}

/// A budget that a call is charged to, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing<'w> {
    pub(super) name: &'w Name,
    pub(super) limit: u64,
    pub(super) spent: u64,
    pub(super) reserved: u64,
}

impl Standing<'_> {
    pub(super) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.spent).saturating_sub(self.reserved)
    }
}

fn pays(payer: Payer<'_>, subject: &Subject) -> bool {
    match subject {
        Subject::Organisation => true,
        Subject::Token(id) => id == payer.principal,
        Subject::Route(id) => id == payer.route,
        Subject::Session(id) => Some(*id) == payer.session_id,
    }
}

/// The budgets that a call is charged to.
pub(super) fn charged<'w>(world: &'w World, payer: Payer<'w>, now_ms: u64) -> impl Iterator<Item = Standing<'w>> {
    let budgets = world.ledger.budgets(payer.org).filter(move |(name, _)| pays(payer, &name.subject));
    budgets.map(move |(name, limit)| {
        let account = world.ledger.account(payer.org, &name.subject);
        Standing { name, limit, spent: account.spent(name.period, now_ms), reserved: account.reserved_micros }
    })
}

/// The least that must be left of a budget for the call to be made, micro-units.
pub(super) fn needed(quote: &Quote, (price, most): &(Price, u64)) -> u64 {
    let output = quote.output_tokens.unwrap_or(*most).min(OUTPUT_TOKENS_LEAST);
    price.worst(quote.input_tokens, output.saturating_mul(quote.answers.max(1)))
}

/// Sets aside what a call may cost at most, or says which budget does not cover it.
pub(in crate::domain) fn reserve(
    world: &World,
    payer: Payer<'_>,
    quote: &Quote,
    now_ms: u64,
) -> Result<Reservation, Refusal> {
    let mut reservation = Reservation {
        micros: 0,
        input_tokens: quote.input_tokens,
        output_tokens: quote.output_tokens,
        price: None,
        principal: payer.principal.to_owned(),
        session_id: payer.session_id,
    };
    // The one of which least is left.
    let budget = charged(world, payer, now_ms).min_by_key(Standing::left);
    let Some(priced @ (price, most)) = &quote.price else {
        return match budget {
            None => Ok(reservation),
            Some(budget) => Err(unpriced(budget.name)),
        };
    };
    let answers = quote.answers.max(1);
    let wanted = quote.output_tokens.unwrap_or(*most);
    let worst = |output: u64| price.worst(quote.input_tokens, output.saturating_mul(answers));
    let output = match budget {
        None => wanted,
        Some(budget) => {
            let needed = needed(quote, priced);
            let left = budget.left();
            if needed > left {
                return Err(not_covered(budget, needed));
            }
            let bought = price.bought(left.saturating_sub(worst(0)), answers);
            wanted.min(bought.unwrap_or(wanted))
        }
    };
    if output < wanted {
        reservation.output_tokens = Some(output);
    }
    reservation.micros = worst(output);
    reservation.price = Some(price.clone());
    Ok(reservation)
}

fn unpriced(budget: &Name) -> Refusal {
    let detail = format!("The budget {budget} is in force, and the price table does not name the model.");
    Refusal::new(Reason::BudgetModelUnpriced, detail)
}

fn not_covered(budget: Standing<'_>, needed: u64) -> Refusal {
    let Standing { name, limit, spent, reserved } = budget;
    let of = match name.period {
        Period::Day => "today",
        Period::Month => "this month",
        Period::Total => "in all",
    };
    let detail = format!(
        "The budget {name} is {limit} micro-units: {spent} are spent {of} and {reserved} reserved for calls that have not \
         ended; this call needs {needed}."
    );
    let reason = if needed > limit.saturating_sub(spent) { Reason::BudgetExceeded } else { Reason::BudgetReserved };
    Refusal::new(reason, detail)
}
