//! A question to a person: options, free text, or a decline.

use serde::{Deserialize, Serialize};

use super::approval::WithdrawnCause;
use super::ids::{CallId, QuestionId};
use super::personal::Personal;

/// One option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// What the answer names.
    pub id: String,
    /// What the person reads.
    pub label: Personal,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Personal>,
}

/// `question.asked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The question.
    pub question_id: QuestionId,
    /// The call that asks.
    pub call_id: CallId,
    /// A short title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Personal>,
    /// The question.
    pub question: Personal,
    /// Options; none means free text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Choice>,
    /// Whether several options may be chosen.
    pub multi_select: bool,
    /// Whether free text is taken.
    pub freeform: bool,
    /// When it lapses, Unix milliseconds.
    pub expires_at_ms: u64,
}

/// `question.answered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The question.
    pub question_id: QuestionId,
    /// Ids of the chosen options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selected: Vec<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeform: Option<Personal>,
}

/// `question.declined`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declined {
    /// The question.
    pub question_id: QuestionId,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `question.expired`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expired {
    /// The question.
    pub question_id: QuestionId,
}

/// `question.withdrawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// The question.
    pub question_id: QuestionId,
    /// Why.
    pub cause: WithdrawnCause,
}
