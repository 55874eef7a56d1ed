//! Chat completions: what OpenAI began and most others speak. One dialect, and what each speaker does otherwise.

mod reader;
mod request;

use http::header::{HeaderName, HeaderValue};
use serde_json::Value;

use self::reader::ChatReader;
use super::ModelRequest;
use super::exchange::{Dialect, Reader};
use super::line::Endpoint;

/// The dialect, and one speaker's differences.
#[derive(Debug)]
pub(super) struct Chat {
    /// What the limit of tokens is called.
    pub(super) limit_key: &'static str,
    /// Headers of every request.
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// Whether tokens of thinking are counted beside the others, not among them.
    pub(super) thinking_apart: bool,
    /// Whether it speaks responses, too.
    pub(super) responses: bool,
}

/// As OpenAI speaks; its own models refuse what all compatible servers call the limit of tokens.
pub(super) fn openai(own_address: bool) -> Chat {
    let limit_key = if own_address { "max_completion_tokens" } else { "max_tokens" };
    Chat { limit_key, headers: &[], thinking_apart: false, responses: true }
}

/// The path of an interface of OpenAI's.
pub(super) fn endpoint(base: &str, endpoint: Endpoint) -> Option<String> {
    match endpoint {
        Endpoint::ChatCompletions => Some(format!("{base}/chat/completions")),
        Endpoint::Responses => Some(format!("{base}/responses")),
        Endpoint::Messages => None,
    }
}

impl Dialect for Chat {
    fn path(&self, base: &str, _: &ModelRequest) -> String {
        format!("{base}/chat/completions")
    }

    fn endpoint(&self, base: &str, wanted: Endpoint) -> Option<String> {
        endpoint(base, wanted).filter(|_| self.responses || wanted != Endpoint::Responses)
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let header = |&(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        self.headers.iter().map(header).collect()
    }

    fn body(&self, request: &ModelRequest) -> Value {
        request::body(request, self.limit_key)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(ChatReader { thinking_apart: self.thinking_apart })
    }
}
