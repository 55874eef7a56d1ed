//! `ask_user_question`: a question to a person. Only its declaration is here: the run waits for the answer, so the
//! runner makes the call itself.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Prepared, Tool, ToolClass, ToolContext, ToolOutcome, invalid, limits, parse, prepared, within};
use crate::agent::workspace::Workspace;
use crate::domain::reason::{Reason, Refusal};

pub(super) struct AskUserQuestion;

/// Arguments of `ask_user_question`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// A title of a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The question.
    pub question: String,
    /// Options to choose from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionArguments>,
    /// Whether several options may be chosen.
    #[serde(default)]
    pub multi_select: bool,
    /// Whether the person may answer in own words; always so where there are no options.
    #[serde(default)]
    pub freeform: bool,
}

/// One option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptionArguments {
    /// What the answer names; the option's number where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the person reads.
    pub label: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Tool for AskUserQuestion {
    fn name(&self) -> &'static str {
        "ask_user_question"
    }

    fn class(&self) -> ToolClass {
        ToolClass::Question
    }

    fn description(&self) -> &'static str {
        "Asks a person and waits for the answer. Give options where the answer is a choice. The person may decline."
    }

    fn schema(&self) -> serde_json::Value {
        super::schema_of::<Arguments>()
    }

    fn prepare(&self, input: &str, _: &Workspace) -> Result<Prepared, Refusal> {
        let mut arguments: Arguments = parse(input)?;
        within("The header", arguments.header.as_deref().unwrap_or(""), limits::OPTION_BYTES)?;
        within("The question", &arguments.question, limits::QUESTION_BYTES)?;
        if arguments.question.trim().is_empty() {
            return Err(invalid("The question is empty."));
        }
        if arguments.options.len() > limits::QUESTION_OPTIONS {
            let detail = format!("A question has at most {} options.", limits::QUESTION_OPTIONS);
            return Err(Refusal::new(Reason::ToolLimitExceeded, detail));
        }
        arguments.freeform |= arguments.options.is_empty();
        let mut ids = std::collections::BTreeSet::new();
        for (index, option) in arguments.options.iter_mut().enumerate() {
            let id = option.id.get_or_insert_with(|| (index + 1).to_string());
            within("The id of an option", id, limits::OPTION_BYTES)?;
            within("The label of an option", &option.label, limits::OPTION_BYTES)?;
            within("The description of an option", option.description.as_deref().unwrap_or(""), limits::OPTION_BYTES)?;
            if id.is_empty() || option.label.trim().is_empty() || !ids.insert(id.clone()) {
                return Err(invalid("Every option has a label, and an id of its own."));
            }
        }
        prepared(self, &arguments, Vec::new())
    }

    fn perform<'a>(&'a self, _: &'a Prepared, _: &'a ToolContext) -> BoxFuture<'a, ToolOutcome> {
        let refusal = Refusal::new(Reason::ToolFailed, "A question is answered by a person, not performed.");
        Box::pin(std::future::ready(ToolOutcome::failed(refusal)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_get_ids_and_a_question_without_options_takes_free_text() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(root.path()).unwrap();
        let prepare = |input: &str| AskUserQuestion.prepare(input, &workspace);
        let call =
            prepare(r#"{"question": "Which?", "options": [{"label": "A"}, {"id": "b", "label": "B"}]}"#).unwrap();
        let arguments: Arguments = serde_json::from_value(call.arguments).unwrap();
        let ids: Vec<_> = arguments.options.iter().map(|option| option.id.as_deref().unwrap()).collect();
        assert_eq!((ids, arguments.freeform), (vec!["1", "b"], false));
        let open = prepare(r#"{"question": "Why?"}"#).unwrap();
        assert_eq!(open.arguments["freeform"], true);
        let twice = r#"{"question": "?", "options": [{"id": "x", "label": "A"}, {"id": "x", "label": "B"}]}"#;
        for wrong in [r#"{"question": " "}"#, twice] {
            assert_eq!(prepare(wrong).unwrap_err().reason, Reason::RequestInvalid, "{wrong}");
        }
    }
}
