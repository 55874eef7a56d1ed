//! xAI: chat completions that count the tokens of thinking beside those of the answer.

use super::chat::Chat;

/// Its dialect.
pub(super) fn dialect() -> Chat {
    Chat { limit_key: "max_completion_tokens", headers: &[], thinking_apart: true, responses: true }
}
