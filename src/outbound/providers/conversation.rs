//! What a model is asked and what it answers, in one form for all providers.

use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::domain::turn::{StopReason, Usage};

/// What a model is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelRequest {
    /// The model.
    pub model: String,
    /// Standing instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Messages of the session before the first one that is told.
    pub earlier_messages: u64,
    /// Answers that the newest message had already, whether they are told or not.
    pub answered: usize,
    /// What it may ask for.
    pub tools: Vec<ToolSpec>,
    /// Tokens after which it shall stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
}

impl ModelRequest {
    /// SHA-256 of the request, hex; the same for equal requests.
    pub fn digest(&self) -> String {
        // Every part serialises: the maps have text keys and no number is a fraction without a value.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        HEXLOWER.encode(&Sha256::digest(&bytes))
    }

    /// Bytes of all its words, for estimates.
    pub(super) fn words_bytes(&self) -> usize {
        let of_message = |message: &Message| match message {
            Message::User { text, .. } => text.len(),
            Message::Assistant { text, tool_calls } => {
                let inputs: usize = tool_calls.iter().map(|call| call.input.len()).sum();
                text.as_ref().map_or(0, String::len) + inputs
            }
            Message::ToolResult { output, .. } => output.len(),
        };
        let of_messages: usize = self.messages.iter().map(of_message).sum();
        self.system.as_ref().map_or(0, String::len) + of_messages
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// What a person said.
    User {
        /// The words.
        text: String,
        /// What is shown along with them.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        images: Vec<Image>,
    },
    /// What the model said and wanted called.
    Assistant {
        /// The words, if there were any.
        text: Option<String>,
        /// In order.
        tool_calls: Vec<RequestedCall>,
    },
    /// What came of a call.
    ToolResult {
        /// The provider's name for the call.
        provider_id: String,
        /// Whether it did what it says.
        ok: bool,
        /// What the model is shown.
        output: String,
    },
}

impl Message {
    /// Words of a person, without images.
    pub fn user(text: impl Into<String>) -> Self {
        Self::User { text: text.into(), images: Vec::new() }
    }
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Its kind, such as `image/png`.
    pub media_type: String,
    /// Its bytes, base64.
    pub base64: String,
}

impl Image {
    /// As an address that holds the image itself.
    pub(super) fn data_url(&self) -> String {
        format!("data:{};base64,{}", self.media_type, self.base64)
    }
}

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub schema: serde_json::Value,
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestedCall {
    /// The provider's name for it; never empty, unique within the answer.
    pub provider_id: String,
    /// Name of the tool.
    pub tool: String,
    /// Arguments as the model wrote them: JSON text, possibly invalid.
    pub input: String,
}

impl RequestedCall {
    /// The arguments as an object. Servers refuse a whole conversation for arguments that are none; the model sees what
    /// it wrote.
    pub(super) fn arguments(&self) -> Value {
        match serde_json::from_str(&self.input) {
            Ok(Value::Object(object)) => Value::Object(object),
            _ => json!({ "invalid_json": self.input }),
        }
    }
}

/// A piece of an answer, for people who watch. Whoever takes the pieces takes them all: a driver waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Words.
    Text(String),
    /// Thinking aloud.
    Reasoning(String),
    /// So many bytes of a call that it asks for.
    Call(usize),
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelAnswer {
    /// What it said.
    pub text: Option<String>,
    /// What it thought aloud.
    pub reasoning: Option<String>,
    /// What it wants called, in order.
    pub tool_calls: Vec<RequestedCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What it took, where that is known.
    pub usage: Option<Usage>,
}
