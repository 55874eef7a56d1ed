//! OpenRouter: chat completions of many providers through one. Errors of a provider behind it come within the choice.

use super::chat::Chat;

/// Its dialect. The header tells OpenRouter which program asks.
pub(super) fn dialect() -> Chat {
    Chat { limit_key: "max_tokens", headers: &[("x-title", "Chancery")], thinking_apart: false, responses: false }
}
