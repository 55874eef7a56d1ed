//! Random commands about budgets and clients' calls, for laws that hold for any sequence of them.

use super::command::Command;
use super::ids::ModelCallId;
use super::ledger::{Basis, Name, Period, Quote, Subject, Tokens, budget};
use super::model_call;
use super::random_commands::{Step, any_credential, any_session, pick};
use super::record::DEFAULT_ORG;
use super::testing::{House, plain_call, price};

/// Some quote or other.
pub(super) fn quote(how: u8) -> Quote {
    Quote {
        input_tokens: u64::from(how) * 7,
        output_tokens: how.is_multiple_of(2).then(|| u64::from(how) * 5),
        answers: u64::from(how % 3),
        price: (!how.is_multiple_of(5)).then(|| (price(), 1_000)),
    }
}

/// A command about budgets and clients' calls.
pub(super) fn command_of_ledger(house: &House, (kind, at, how): Step) -> Option<Command> {
    let org = if how == 255 { "other".to_owned() } else { DEFAULT_ORG.to_owned() };
    let subjects = [
        Subject::Organisation,
        Subject::Token("admin".into()),
        Subject::Route("r".into()),
        Subject::Session(any_session(house, at)),
    ];
    let subject = subjects[usize::from(how % 4)].clone();
    let budget = Name { subject, period: Period::ALL[usize::from(at % 3)] };
    let calls = house.world.model_calls.keys().copied().collect();
    let model_call_id = pick(calls, at, ModelCallId::from_ulid(ulid::Ulid(9)));
    Some(match kind {
        24 => Command::SetBudget(budget::Set { org, budget, limit_micros: u64::from(how) * 1_000 }),
        33 => Command::RemoveBudget(budget::Remove { org, budget }),
        25 | 26 => Command::RequestModelCall(Box::new(model_call::Request {
            session_id: (how % 3 == 0).then(|| any_session(house, at)),
            quote: quote(how),
            credential: any_credential(house, how),
            ..plain_call(&org)
        })),
        36 | 37 => Command::SettleModelCall(model_call::Settle {
            model_call_id,
            outcome: model_call::Outcome::Answered,
            taken: match how % 3 {
                0 => model_call::Taken::Nothing,
                1 => model_call::Taken::Unknown,
                _ => model_call::Taken::Tokens(Tokens { input: 9, output: 9, ..Tokens::default() }, Basis::Reported),
            },
            status: Some(200),
            code: None,
            duration_ms: 1,
        }),
        _ => return None,
    })
}
