//! The script of a rehearsal: which turns it plays, read strictly and with every problem at once.
//!
//! ```toml
//! version = 1
//!
//! [[turns]]                  # the n-th answer to a message plays the n-th turn
//! steps = [
//!   { reasoning = "Let me look." },
//!   { text = "I read the notes first." },
//!   { call = "read_file", input = { path = "notes.txt" } },   # or input = '{"path":"notes.txt"}'
//! ]
//!
//! [[turns]]
//! message = 2                # only for the second message of the session; such turns go before those without
//! steps = [
//!   { chunks = ["piece ", "by ", "piece"] },
//!   { wait_ms = 200 },
//!   { stop = "max_tokens" },                                   # the word for the end, where it is not the usual one
//!   { error = "provider.rate_limited", detail = "busy", retry_after_ms = 1000 },
//! ]
//! ```

use toml::Spanned;
use toml::de::DeValue;

use crate::config::strict_toml::{Fields, Problems, kind};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::turn::StopReason;
use crate::outbound::limits;

/// One thing that a turn does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Says words, piece by piece.
    Text(Vec<String>),
    /// Thinks aloud.
    Reasoning(String),
    /// Asks for a call.
    Call { tool: String, input: String },
    /// Waits.
    Wait { milliseconds: u64 },
    /// Ends with another word than the usual one.
    Stop(StopReason),
    /// Breaks off.
    Error { reason: Reason, detail: String, retry_after_ms: Option<u64> },
}

/// One answer of the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    /// Counts from 1; none: any message.
    pub(super) message: Option<u64>,
    /// In order.
    pub(super) steps: Vec<Step>,
}

/// A script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    turns: Vec<Turn>,
}

impl Script {
    /// What is played where no script is named.
    pub(super) fn built_in() -> Self {
        let words = "This is a rehearsal: no model was asked. Name a route in a routes file to talk to one.";
        Self { turns: vec![Turn { message: None, steps: vec![Step::Text(vec![words.into()])] }] }
    }

    /// The turn for the `position`-th answer (from 0) to the `message`-th message (from 1) of a session.
    pub(super) fn turn(&self, message: u64, position: usize) -> Option<&Turn> {
        let own = self.turns.iter().any(|turn| turn.message == Some(message)).then_some(message);
        self.turns.iter().filter(|turn| turn.message == own).nth(position)
    }

    /// Reads a script; `source` names it in messages.
    pub(super) fn parse(text: &str, source: &str) -> Result<Self, Refusal> {
        let (table, mut problems) = Problems::parse(text);
        let mut top = Fields::new(table.get_ref(), 0, "the script");
        if top.integer("version", 1..=1, &mut problems).is_none() && !top.has("version") {
            top.missing("version", &mut problems);
        }
        let listed = top.list("turns", &mut problems);
        if !top.has("turns") {
            top.missing("turns", &mut problems);
        }
        let listed = listed.unwrap_or_default();
        if listed.len() > limits::SCRIPT_TURNS {
            problems.add(0, format!("the script has more than {} turns", limits::SCRIPT_TURNS));
        }
        let turns = listed.iter().filter_map(|value| read_turn(value, &mut problems)).collect();
        top.finish(&mut problems);
        match problems.refusal(Reason::ProviderScriptInvalid, source) {
            Some(refusal) => Err(refusal),
            None => Ok(Self { turns }),
        }
    }
}

fn read_turn<'a>(value: &'a Spanned<DeValue<'a>>, problems: &mut Problems<'_>) -> Option<Turn> {
    let offset = value.span().start;
    let Some(table) = value.get_ref().as_table() else {
        problems.add(offset, format!("a turn is a table, not {}", kind(value)));
        return None;
    };
    let mut fields = Fields::new(table, offset, "the turn");
    let message = fields.integer("message", 1..=u64::from(u32::MAX), problems);
    let listed = fields.list("steps", problems);
    if !fields.has("steps") {
        fields.missing("steps", problems);
    }
    let listed = listed.unwrap_or_default();
    if listed.len() > limits::SCRIPT_STEPS {
        problems.add(offset, format!("the turn has more than {} steps", limits::SCRIPT_STEPS));
    }
    let steps = listed.iter().filter_map(|value| read_step(value, problems)).collect();
    fields.finish(problems);
    Some(Turn { message, steps })
}

fn read_step<'a>(value: &'a Spanned<DeValue<'a>>, problems: &mut Problems<'_>) -> Option<Step> {
    const KINDS: [&str; 7] = ["text", "chunks", "reasoning", "call", "wait_ms", "stop", "error"];
    let offset = value.span().start;
    let Some(table) = value.get_ref().as_table() else {
        problems.add(offset, format!("a step is a table, not {}", kind(value)));
        return None;
    };
    let mut fields = Fields::new(table, offset, "the step");
    let named: Vec<&str> = KINDS.into_iter().filter(|kind| fields.has(kind)).collect();
    let step = match named.as_slice() {
        ["text"] => fields.text("text", problems).map(|text| Step::Text(vec![text.value.into()])),
        ["chunks"] => fields
            .texts("chunks", problems)
            .map(|texts| Step::Text(texts.into_iter().map(|text| text.value.into()).collect())),
        ["reasoning"] => fields.text("reasoning", problems).map(|text| Step::Reasoning(text.value.into())),
        ["call"] => read_call(&mut fields, problems),
        ["wait_ms"] => fields
            .integer("wait_ms", 0..=limits::SCRIPT_WAIT_MS, problems)
            .map(|milliseconds| Step::Wait { milliseconds }),
        ["stop"] => read_stop(&mut fields, problems),
        ["error"] => read_error(&mut fields, problems),
        _ => {
            problems.add(offset, format!("a step has exactly one of: {}", KINDS.join(", ")));
            return None;
        }
    };
    fields.finish(problems);
    step
}

fn read_call(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<Step> {
    let tool = fields.text("call", problems)?.value.to_owned();
    let input = match fields.take("input") {
        None => "{}".to_owned(),
        Some(value) => match value.get_ref() {
            DeValue::String(text) => text.clone().into_owned(),
            _ => to_json(value, limits::SCRIPT_INPUT_DEPTH, problems)?.to_string(),
        },
    };
    Some(Step::Call { tool, input })
}

fn to_json(value: &Spanned<DeValue<'_>>, depth: usize, problems: &mut Problems<'_>) -> Option<serde_json::Value> {
    use serde_json::Value;
    if depth == 0 {
        problems.add(value.span().start, format!("the input is nested deeper than {}", limits::SCRIPT_INPUT_DEPTH));
        return None;
    }
    let json = match value.get_ref() {
        DeValue::String(text) => Some(Value::String(text.clone().into_owned())),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::from),
        DeValue::Float(number) => {
            number.as_str().parse().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
        }
        DeValue::Boolean(yes) => Some(Value::Bool(*yes)),
        DeValue::Datetime(_) => None,
        DeValue::Array(items) => {
            return items
                .iter()
                .map(|item| to_json(item, depth - 1, problems))
                .collect::<Option<_>>()
                .map(Value::Array);
        }
        DeValue::Table(table) => {
            let entry = |(key, item): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                Some((key.get_ref().clone().into_owned(), to_json(item, depth - 1, problems)?))
            };
            return table.iter().map(entry).collect::<Option<_>>().map(Value::Object);
        }
    };
    if json.is_none() {
        problems.add(value.span().start, format!("{} has no form in JSON here", kind(value)));
    }
    json
}

fn read_stop(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<Step> {
    let word = fields.text("stop", problems)?;
    let stop = match word.value {
        "end_turn" => StopReason::EndTurn,
        "max_tokens" => StopReason::MaxTokens,
        "content_filter" => StopReason::ContentFilter,
        "other" => StopReason::Other,
        _ => {
            problems.add(word.offset, "`stop` is one of: end_turn, max_tokens, content_filter, other");
            return None;
        }
    };
    Some(Step::Stop(stop))
}

fn read_error(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<Step> {
    let code = fields.text("error", problems);
    let detail = fields.text("detail", problems).map(|detail| detail.value.to_owned());
    let retry_after_ms = fields.integer("retry_after_ms", 0..=limits::RETRY_AFTER_MOST_MS, problems);
    let code = code?;
    let Some(reason) = Reason::from_code(code.value).filter(|reason| reason.code().starts_with("provider.")) else {
        problems.add(code.offset, format!("{:?} is not a code of a provider's error", code.value));
        return None;
    };
    let detail = detail.unwrap_or_else(|| "the script says so".into());
    Some(Step::Error { reason, detail, retry_after_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_with_every_step_is_read() {
        let text = r#"
version = 1
[[turns]]
steps = [
  { reasoning = "hm" }, { text = "a" }, { chunks = ["b", "c"] }, { wait_ms = 5 },
  { call = "bash", input = { command = "ls", deep = [1, true, 0.5] } }, { call = "x", input = "{no json" },
]
[[turns]]
message = 2
steps = [{ stop = "max_tokens" }, { error = "provider.rate_limited", detail = "busy", retry_after_ms = 10 }]
"#;
        let script = Script::parse(text, "s").unwrap();
        let call = |tool: &str, input: &str| Step::Call { tool: tool.into(), input: input.into() };
        let expected = [
            Step::Reasoning("hm".into()),
            Step::Text(vec!["a".into()]),
            Step::Text(vec!["b".into(), "c".into()]),
            Step::Wait { milliseconds: 5 },
            call("bash", r#"{"command":"ls","deep":[1,true,0.5]}"#),
            call("x", "{no json"),
        ];
        assert_eq!(script.turn(1, 0).unwrap().steps, expected);
        assert_eq!(script.turn(1, 1), None);
        assert_eq!(script.turn(2, 0).unwrap().steps.len(), 2);
    }

    #[test]
    fn all_problems_are_named_with_their_lines() {
        let text = "version = 1\nmore = 1\n[[turns]]\nsteps = [\n{ text = 1 },\n{ text = \"a\", call = \"b\" },\n\
                    { error = \"session.ended\" },\n{ wait_ms = 999999999 },\n{ stop = \"now\" },\n\
                    { call = \"a\", input = 1979-05-27 },\n{ text = \"a\", odd = 1 },\n]\n";
        let refusal = Script::parse(text, "s").unwrap_err();
        assert_eq!(refusal.reason, Reason::ProviderScriptInvalid);
        for line in [2, 5, 6, 7, 8, 9, 10, 11] {
            assert!(refusal.detail.contains(&format!("s, line {line}: ")), "{line}: {}", refusal.detail);
        }
        assert_eq!(refusal.detail.matches("s, line ").count(), 8, "{}", refusal.detail);
    }
}
