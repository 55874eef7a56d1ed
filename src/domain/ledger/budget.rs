//! Budgets: how much one payer may spend in a period. A budget's name says both: `organisation:month`, `token:admin:day`,
//! `route:claude:total`, `session:session_01J…:total`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::command::{Answer, Decided, invalid};
use crate::domain::ids::SessionId;
use crate::domain::limits::{BUDGET_MICROS, BUDGETS, NAME_BYTES};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Draft;
use crate::domain::session;
use crate::domain::stream::Stream;
use crate::domain::world::World;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How long a budget lasts before it begins anew, by the calendar of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// A day.
    Day,
    /// A month.
    Month,
    /// It never does.
    Total,
}

impl Period {
    /// Every period.
    pub const ALL: [Self; 3] = [Self::Day, Self::Month, Self::Total];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }
}

/// A moment's place in the calendar of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Days since 1970 began.
    pub(super) day: u64,
    /// Months since the year 0 began.
    pub(super) month: u64,
}

impl Moment {
    pub(super) fn of(at_ms: u64) -> Self {
        let day = at_ms / DAY_MS;
        // Eras of 400 years that begin with March of the year 0, so that the day of a leap year comes last.
        let since = day.saturating_add(719_468);
        let (era, of_era) = (since / 146_097, since % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        Self { day, month: (era * 400 + year) * 12 + month + 2 }
    }
}

/// Who pays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The organisation, for all calls.
    Organisation,
    /// The token that a call was made with, or with which its run was started.
    Token(String),
    /// The route that a call takes.
    Route(String),
    /// The session that a call belongs to.
    Session(SessionId),
}

impl Subject {
    fn parse(text: &str) -> Option<Self> {
        let name = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            ((1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(plain)).then(|| name.to_owned())
        };
        match text.split_once(':') {
            None if text == "organisation" => Some(Self::Organisation),
            Some(("token", id)) => name(id).map(Self::Token),
            Some(("route", id)) => name(id).map(Self::Route),
            Some(("session", id)) => SessionId::parse(id).ok().map(Self::Session),
            Some(_) | None => None,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Organisation => f.write_str("organisation"),
            Self::Token(id) => write!(f, "token:{id}"),
            Self::Route(id) => write!(f, "route:{id}"),
            Self::Session(id) => write!(f, "session:{id}"),
        }
    }
}

/// Which budget: who pays, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Who pays.
    pub subject: Subject,
    /// For how long.
    pub period: Period,
}

impl Name {
    /// Reads the written form.
    pub fn parse(text: &str) -> Option<Self> {
        let (subject, word) = text.rsplit_once(':')?;
        let period = Period::ALL.into_iter().find(|period| period.word() == word)?;
        Some(Self { subject: Subject::parse(subject)?, period })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.subject, self.period.word())
    }
}

/// Writes and reads as text, so that it can be a key.
macro_rules! as_text {
    ($name:ident, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom(concat!("not a ", stringify!($name))))
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                concat!("Budget", stringify!($name)).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

as_text!(Subject, "^(organisation|(token|route):[A-Za-z0-9._-]{1,200}|session:session_[0-7][0-9A-HJKMNP-TV-Z]{25})$");
as_text!(
    Name,
    "^(organisation|(token|route):[A-Za-z0-9._-]{1,200}|session:session_[0-7][0-9A-HJKMNP-TV-Z]{25}):(day|month|total)$"
);

/// `budget.set`: so much may be spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetSet {
    /// The budget.
    pub budget: Name,
    /// Most that may be spent in a period, micro-units.
    pub limit_micros: u64,
}

/// `budget.removed`: nothing bounds it any longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetRemoved {
    /// The budget.
    pub budget: Name,
}

/// Asks for a budget, or for another limit of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The caller's organisation.
    pub org: String,
    /// The budget.
    pub budget: Name,
    /// Most that may be spent in a period, micro-units.
    pub limit_micros: u64,
}

/// Asks for a budget to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remove {
    /// The caller's organisation.
    pub org: String,
    /// The budget.
    pub budget: Name,
}

pub(in crate::domain) fn set(world: &World, ask: &Set) -> Result<Decided, Refusal> {
    if ask.limit_micros > BUDGET_MICROS {
        return Err(invalid("/limit_micros", format!("A budget has at most {BUDGET_MICROS} micro-units.")));
    }
    if let Subject::Session(id) = ask.budget.subject {
        session::live(world, &ask.org, id)?;
    }
    let mut budgets = world.ledger.budgets(&ask.org);
    let present = budgets.find(|(name, _)| **name == ask.budget).map(|(_, limit)| limit);
    if present == Some(ask.limit_micros) {
        return Ok(Decided::nothing(Answer::Nothing));
    }
    if present.is_none() && world.ledger.budgets(&ask.org).count() >= BUDGETS {
        return Err(Refusal::new(Reason::RequestInvalid, format!("There are at most {BUDGETS} budgets.")));
    }
    let event = BudgetSet { budget: ask.budget.clone(), limit_micros: ask.limit_micros };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Ledger, event.into()), Answer::Nothing))
}

pub(in crate::domain) fn remove(world: &World, ask: &Remove) -> Result<Decided, Refusal> {
    if !world.ledger.budgets(&ask.org).any(|(name, _)| *name == ask.budget) {
        return Err(Reason::BudgetNotFound.into());
    }
    let event = BudgetRemoved { budget: ask.budget.clone() };
    Ok(Decided::one(Draft::new(&ask.org, Stream::Ledger, event.into()), Answer::Nothing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_written_and_nothing_else_is_one() {
        let session = format!("session:{}:total", SessionId::from_ulid(ulid::Ulid(7)));
        for text in ["organisation:day", "token:admin:month", "route:open.router-1:total", &session] {
            assert_eq!(Name::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "organisation", "organisation:year", "token::day", "route:a/b:day", "session:x:day", "x:y:day"]
        {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_and_months_begin_when_the_calendar_says_so() {
        let month = |year: u64, month: u64| year * 12 + month - 1;
        for (at_s, day, expected) in [
            (0, 0, month(1970, 1)),
            (951_782_399, 11_015, month(2000, 2)), // 2000-02-28 23:59:59
            (951_868_800, 11_017, month(2000, 3)), // 2000-03-01
            (951_782_400, 11_016, month(2000, 2)), // 2000-02-29
            (1_798_761_599, 20_818, month(2026, 12)),
            (1_798_761_600, 20_819, month(2027, 1)),
            (4_107_542_399, 47_540, month(2100, 2)), // 2100 has no 29 February
            (4_107_542_400, 47_541, month(2100, 3)),
        ] {
            assert_eq!(Moment::of(at_s * 1_000), Moment { day, month: expected }, "{at_s}");
        }
    }
}
