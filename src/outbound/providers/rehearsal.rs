//! The driver that asks no model: it plays a script. Which turn it plays follows from the conversation alone, so that a
//! rehearsal that is restarted goes on where it was.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use super::script::{Script, Step};
use super::{Delta, Message, ModelAnswer, ModelRequest, ProviderError, RequestedCall, send_live};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::turn::{StopReason, Usage, UsageSource};
use crate::outbound::limits;
use crate::platform::bounded_read::bounded_read_text;

/// Stands before the words of every answer, so that none is taken for a model's.
pub const LABEL: &str = "[rehearsal] ";
/// Bytes that an estimate counts as one token.
const BYTES_PER_TOKEN: u64 = 4;

/// A script, ready to be played.
#[derive(Debug)]
pub(super) struct Rehearsal {
    script: Script,
}

/// An answer while it is played.
#[derive(Debug, Default)]
struct Played {
    text: String,
    reasoning: String,
    calls: Vec<RequestedCall>,
    stop: Option<StopReason>,
}

impl Rehearsal {
    /// Reads the script, or takes the built-in one.
    pub(super) fn load(path: Option<&Path>) -> Result<Self, Refusal> {
        let Some(path) = path else { return Ok(Self { script: Script::built_in() }) };
        let shown = path.display().to_string();
        let text = bounded_read_text(path, limits::SCRIPT_BYTES)
            .map_err(|error| Refusal::new(Reason::ProviderScriptInvalid, format!("{shown}: {error}")))?;
        Ok(Self { script: Script::parse(&text, &shown)? })
    }

    /// Plays the turn that comes next in this conversation.
    pub(super) async fn call(
        &self,
        request: &ModelRequest,
        deltas: Sender<Delta>,
        cancel: CancellationToken,
    ) -> Result<ModelAnswer, ProviderError> {
        let (message, position) = (message(request), request.answered);
        let over = [Step::Text(vec!["The script has no further turn.".into()])];
        let steps = self.script.turn(message, position).map_or(over.as_slice(), |turn| &turn.steps);
        let mut played = Played::default();
        for step in steps {
            if cancel.is_cancelled() {
                return Err(ProviderError::cancelled(played.text));
            }
            match step {
                Step::Text(pieces) => {
                    for piece in pieces {
                        played.say(piece, &deltas).await;
                    }
                }
                Step::Reasoning(words) => {
                    played.reasoning.push_str(words);
                    send_live(&deltas, Delta::Reasoning(words.clone())).await;
                }
                Step::Call { tool, input } => {
                    let provider_id = format!("rehearsal_{message}_{position}_{}", played.calls.len());
                    played.calls.push(RequestedCall { provider_id, tool: tool.clone(), input: input.clone() });
                }
                Step::Wait { milliseconds } => {
                    let pause = tokio::time::sleep(Duration::from_millis(*milliseconds));
                    if cancel.run_until_cancelled(pause).await.is_none() {
                        return Err(ProviderError::cancelled(played.text));
                    }
                }
                Step::Stop(stop) => played.stop = Some(*stop),
                Step::Error { reason, detail, retry_after_ms } => {
                    return Err(played.broken(*reason, detail, *retry_after_ms));
                }
            }
            played.check_size()?;
        }
        Ok(played.into_answer(request))
    }
}

/// Which message of the session is answered, from 1.
fn message(request: &ModelRequest) -> u64 {
    let told = request.messages.iter().filter(|one| matches!(one, Message::User { .. })).count() as u64;
    (request.earlier_messages + told).max(1)
}

impl Played {
    async fn say(&mut self, piece: &str, deltas: &Sender<Delta>) {
        let labelled = if self.text.is_empty() { format!("{LABEL}{piece}") } else { piece.to_owned() };
        self.text.push_str(&labelled);
        send_live(deltas, Delta::Text(labelled)).await;
    }

    fn broken(self, reason: Reason, detail: &str, retry_after_ms: Option<u64>) -> ProviderError {
        let begun = !(self.text.is_empty() && self.reasoning.is_empty() && self.calls.is_empty());
        let detail = format!("{LABEL}{detail}");
        let error = if begun {
            ProviderError::within(reason, detail, self.text)
        } else {
            ProviderError::before(reason, detail)
        };
        ProviderError { retry_after_ms, ..error }
    }

    fn check_size(&mut self) -> Result<(), ProviderError> {
        let inputs: usize = self.calls.iter().map(|call| call.input.len() + call.tool.len()).sum();
        let bytes = self.text.len() + self.reasoning.len() + inputs;
        super::check_size(bytes, self.calls.len(), &mut self.text)
    }

    fn into_answer(self, request: &ModelRequest) -> ModelAnswer {
        let usual = if self.calls.is_empty() { StopReason::EndTurn } else { StopReason::ToolUse };
        let inputs: usize = self.calls.iter().map(|call| call.input.len()).sum();
        let tokens = |bytes: usize| (bytes as u64).div_ceil(BYTES_PER_TOKEN);
        let input_tokens = tokens(request.words_bytes());
        let output_tokens = tokens(self.text.len() + self.reasoning.len() + inputs);
        let usage = Usage::new(input_tokens, output_tokens, UsageSource::Estimated);
        let filled = |words: String| Some(words).filter(|words| !words.is_empty());
        ModelAnswer {
            text: filled(self.text),
            reasoning: filled(self.reasoning),
            tool_calls: self.calls,
            stop: self.stop.unwrap_or(usual),
            usage: Some(usage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_that_is_answered_is_counted_with_those_that_are_not_told() {
        let user = || Message::user("u");
        let answer = || Message::Assistant { text: Some("a".into()), tool_calls: Vec::new() };
        let asks = |earlier_messages: u64, messages: Vec<Message>| {
            let (model, tools) = (String::new(), Vec::new());
            ModelRequest {
                model,
                system: None,
                messages,
                earlier_messages,
                answered: 0,
                tools,
                max_output_tokens: None,
            }
        };
        assert_eq!(message(&asks(0, vec![])), 1);
        assert_eq!(message(&asks(0, vec![user(), answer()])), 1);
        assert_eq!(message(&asks(0, vec![user(), answer(), user()])), 2);
        assert_eq!(message(&asks(70, vec![user(), answer(), user()])), 72);
    }
}
