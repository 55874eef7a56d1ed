//! How each provider spells what the list of cases says. A new driver adds a file here and a line to [`all`].

use chancery::domain::turn::{StopReason, Usage};
use serde_json::Value;

mod anthropic;
mod chat;
mod google;
mod responses;

/// One answer, whoever says it.
#[derive(Debug, Clone, Copy)]
pub struct Spoken {
    pub think: &'static [&'static str],
    pub text: &'static [&'static str],
    /// Id, tool, and the arguments in pieces.
    pub calls: &'static [(&'static str, &'static str, &'static [&'static str])],
    /// The provider's word for why it stops.
    pub stop: &'static str,
}

/// A provider's spelling.
pub trait Wire {
    fn name(&self) -> &'static str;
    /// The lines of the routes file that choose the driver.
    fn route(&self) -> &'static str;
    /// Path of the base address.
    fn base(&self) -> &'static str {
        "/v1"
    }
    /// Path of a request for the model `m`.
    fn path(&self) -> &'static str;
    /// The credential's header, and what stands before the credential.
    fn credential(&self) -> (&'static str, &'static str) {
        ("authorization", "Bearer ")
    }
    /// Further lines of the head of every request.
    fn head(&self) -> &'static [&'static str] {
        &[]
    }
    /// Words for the ends of answers without and with calls, and for all others.
    fn stops(&self) -> &'static [(&'static str, StopReason)];
    /// The word for an end with calls.
    fn stop_of_calls(&self) -> &'static str {
        self.stops()[0].0
    }
    /// The answer's events, each as its data, and the last one's mark where there is one.
    fn events(&self, spoken: &Spoken) -> Vec<Value>;
    /// The mark behind the events.
    fn mark(&self) -> &'static str {
        ""
    }
    /// The answer in one document.
    fn document(&self, spoken: &Spoken) -> Value;
    /// What each answer takes: 100 in and 50 out, and what is known besides.
    fn usage(&self) -> Usage;
    /// The body of the request for [`crate::conformance::conversation`].
    fn request(&self) -> Value;
    /// The body of an error.
    fn error(&self, message: &str) -> Value {
        serde_json::json!({ "error": { "message": message, "type": "invalid_request_error" } })
    }
    /// An event within a stream that says that the provider is too busy.
    fn busy(&self) -> Value;

    /// The whole stream.
    fn stream(&self, spoken: &Spoken) -> String {
        self.events(spoken).iter().map(|one| self.event(one)).collect::<String>() + self.mark()
    }
    /// One event as it is sent.
    fn event(&self, value: &Value) -> String {
        match value.get("type").and_then(Value::as_str) {
            Some(name) => format!("event: {name}\ndata: {value}\n\n"),
            None => format!("data: {value}\n\n"),
        }
    }
}

/// Every spelling.
pub fn all() -> Vec<Box<dyn Wire>> {
    let mut all: Vec<Box<dyn Wire>> =
        vec![Box::new(anthropic::Anthropic), Box::new(google::Google), Box::new(responses::Responses)];
    all.extend(chat::all().map(|one| Box::new(one) as Box<dyn Wire>));
    all
}
