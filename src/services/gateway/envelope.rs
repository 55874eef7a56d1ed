//! A client's request as it came: what the gateway must know of it, and the few fields of it that it changes. Everything else
//! is passed on byte for byte, in its order.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::domain::model_call::Dialect;
use crate::domain::reason::{Reason, Refusal};

const MODEL: &str = "model";
const STREAM_OPTIONS: &str = "stream_options";

/// The fields of an object, in order, each as it is written.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object).map(Fields)
    }
}

/// A request of a client.
pub(super) struct Envelope<'a> {
    dialect: Dialect,
    fields: Vec<(String, &'a RawValue)>,
    /// The model that is asked for, which may be a selector.
    pub(super) model: String,
    /// Whether the answer is to be streamed.
    pub(super) stream: bool,
    /// The client's own limit of an answer, tokens.
    pub(super) output_tokens: Option<u64>,
    /// How many answers are asked for.
    pub(super) answers: u64,
    /// Whether the client wants to be told the usage of a stream.
    pub(super) wants_usage: bool,
}

/// The fields that limit an answer.
fn limit_keys(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::ChatCompletions => &["max_completion_tokens", "max_tokens"],
        Dialect::Responses => &["max_output_tokens"],
        Dialect::Messages => &["max_tokens"],
    }
}

fn malformed(key: &str, rule: &str) -> Refusal {
    Refusal::new(Reason::RequestMalformed, format!("`{key}` is not {rule}")).at(format!("/{key}"))
}

impl<'a> Envelope<'a> {
    /// Reads a body that is one JSON object without repeated keys.
    pub(super) fn read(raw: &'a [u8], dialect: Dialect) -> Result<Self, Refusal> {
        let Fields(fields) = serde_json::from_slice(raw)
            .map_err(|_| Refusal::new(Reason::RequestMalformed, "the body must be an object").at(""))?;
        let field = |key: &str| fields.iter().find(|(name, _)| name == key).map(|(_, raw)| raw.get());
        let number = |key: &str| match field(key) {
            None | Some("null") => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| malformed(key, "a number of tokens or answers")),
        };
        let truth = |key: &str| match field(key) {
            None | Some("null" | "false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(malformed(key, "true or false")),
        };
        let model = field(MODEL).and_then(|text| serde_json::from_str::<String>(text).ok());
        let model = model.ok_or_else(|| malformed(MODEL, "the name of a model"))?;
        let limits: Result<Vec<Option<u64>>, Refusal> = limit_keys(dialect).iter().map(|key| number(key)).collect();
        let answers = if dialect == Dialect::ChatCompletions { number("n")?.unwrap_or(1) } else { 1 };
        if dialect == Dialect::Responses && truth("background")? {
            let detail = "An answer that is made in the background is not seen here: what it costs would not be known.";
            return Err(Refusal::new(Reason::RequestInvalid, detail).at("/background"));
        }
        let options = field(STREAM_OPTIONS).and_then(|text| serde_json::from_str::<Value>(text).ok());
        Ok(Self {
            dialect,
            model,
            stream: truth("stream")?,
            output_tokens: limits?.into_iter().flatten().min(),
            answers,
            wants_usage: options.is_some_and(|options| options["include_usage"] == true),
            fields,
        })
    }

    /// Whether the provider needs a capability of this name for it.
    pub(super) fn needs(&self, capability: &str) -> bool {
        let field = |key: &str| {
            let raw = self.fields.iter().find(|(name, _)| name == key).map(|(_, raw)| raw.get());
            raw.and_then(|text| serde_json::from_str::<Value>(text).ok()).unwrap_or_default()
        };
        let lists = |key: &str| field(key).as_array().is_some_and(|list| !list.is_empty());
        match capability {
            "images" => ["messages", "input"].iter().any(|key| shows(&field(key))),
            "tools" => ["tools", "functions"].iter().any(|key| lists(key)),
            "streaming" => self.stream,
            "reasoning" => {
                let off = |asked: &Value| asked == "none" || asked == "disabled" || asked == false;
                let asks = |asked: &Value| {
                    !(asked.is_null() || off(asked) || ["type", "effort", "enabled"].iter().any(|key| off(&asked[key])))
                };
                ["reasoning", "reasoning_effort", "thinking"].iter().any(|key| asks(&field(key)))
            }
            "web_search" => {
                let searches = |tool: &Value| tool["type"].as_str().is_some_and(|kind| kind.starts_with("web_search"));
                field("web_search_options").is_object() || field("tools").as_array().into_iter().flatten().any(searches)
            }
            _ => false,
        }
    }

    /// The request for the provider: with this model and limit, and with the wish to be told the usage. `spare_key` names the
    /// limit where the client named none.
    pub(super) fn written(&self, model: &str, output_tokens: Option<u64>, spare_key: &str) -> Vec<u8> {
        let tells_usage = self.dialect == Dialect::ChatCompletions && self.stream;
        let mut fields: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(self.fields.len() + 2);
        let mut limited = false;
        for (key, raw) in &self.fields {
            let value = match (key.as_str(), output_tokens) {
                (MODEL, _) => Cow::Owned(json!(model).to_string()),
                (STREAM_OPTIONS, _) if tells_usage => Cow::Owned(with_usage(raw.get())),
                (key, Some(limit)) if limit_keys(self.dialect).contains(&key) && raw.get() != "null" => {
                    limited = true;
                    Cow::Owned(limit.to_string())
                }
                _ => Cow::Borrowed(raw.get()),
            };
            fields.push((key, value));
        }
        if let Some(limit) = output_tokens.filter(|_| !limited) {
            fields.retain(|(key, _)| *key != spare_key);
            fields.push((spare_key, Cow::Owned(limit.to_string())));
        }
        if tells_usage && !fields.iter().any(|(key, _)| *key == STREAM_OPTIONS) {
            fields.push((STREAM_OPTIONS, Cow::Owned(with_usage("null"))));
        }
        let texts: Vec<String> = fields.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
        format!("{{{}}}", texts.join(",")).into_bytes()
    }
}

/// Whether a picture is within a conversation.
fn shows(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(shows),
        Value::Object(fields) => {
            let kind = fields.get("type").and_then(Value::as_str);
            matches!(kind, Some("image" | "image_url" | "input_image")) || fields.values().any(shows)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Options of a stream with the wish to be told the usage.
fn with_usage(options: &str) -> String {
    let mut options: Map<String, Value> = serde_json::from_str(options).unwrap_or_default();
    options.insert("include_usage".to_owned(), Value::Bool(true));
    Value::Object(options).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(raw: &str, limit: Option<u64>) -> String {
        let envelope = Envelope::read(raw.as_bytes(), Dialect::ChatCompletions).unwrap();
        String::from_utf8(envelope.written("m", limit, "max_tokens")).unwrap()
    }

    #[test]
    fn only_model_limit_and_usage_change_and_everything_else_stays_as_it_was_written() {
        let raw = r#"{ "x" : [1.0,  1e2],"model":"far/m","max_tokens":9,"messages":[{"a":"\u00e9"}]}"#;
        let same = r#"{"x":[1.0,  1e2],"model":"m","max_tokens":9,"messages":[{"a":"\u00e9"}]}"#;
        assert_eq!(written(raw, None), same);
        assert_eq!(written(raw, Some(5)), same.replace(":9", ":5"));
        let stream = r#"{"model":"m","stream":true,"stream_options":{"x":1}}"#;
        assert_eq!(
            written(stream, Some(7)),
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"x":1},"max_tokens":7}"#
        );
        assert_eq!(
            written(r#"{"stream":true,"model":"m","max_tokens":null}"#, Some(7)),
            r#"{"stream":true,"model":"m","max_tokens":7,"stream_options":{"include_usage":true}}"#
        );
        assert_eq!(
            written(r#"{"model":"m","max_completion_tokens":8,"max_tokens":9}"#, Some(7)),
            r#"{"model":"m","max_completion_tokens":7,"max_tokens":7}"#
        );
    }

    #[test]
    fn what_must_be_known_is_read_or_refused() {
        let read = |raw: &str| {
            let envelope = Envelope::read(raw.as_bytes(), Dialect::ChatCompletions).map_err(|refusal| refusal.pointer);
            envelope.map(|one| (one.model, one.stream, one.output_tokens, one.answers, one.wants_usage))
        };
        let all = r#"{"model":"a/b","stream":true,"max_tokens":5,"max_completion_tokens":4,"n":2,"stream_options":{"include_usage":true}}"#;
        assert_eq!(read(all), Ok(("a/b".into(), true, Some(4), 2, true)));
        assert_eq!(read(r#"{"model":"m"}"#), Ok(("m".into(), false, None, 1, false)));
        for (raw, pointer) in [
            ("[]", ""),
            ("{}", "/model"),
            (r#"{"model":"m","stream":1}"#, "/stream"),
            (r#"{"model":"m","n":-1}"#, "/n"),
        ] {
            assert_eq!(read(raw), Err(Some(pointer.to_owned())), "{raw}");
        }
        let raw = br#"{"model":"m","background":true}"#;
        let refused = Envelope::read(raw, Dialect::Responses).map(|_| ()).unwrap_err();
        assert_eq!((refused.reason, refused.pointer.as_deref()), (Reason::RequestInvalid, Some("/background")));
        assert!(Envelope::read(raw, Dialect::ChatCompletions).is_ok(), "a name of another interface");
    }

    #[test]
    fn reasoning_that_is_switched_off_needs_nobody_who_can() {
        for (field, needs) in [
            (r#""reasoning_effort":"low""#, true),
            (r#""reasoning_effort":"none""#, false),
            (r#""reasoning":{"effort":"high"}"#, true),
            (r#""reasoning":{"effort":"none"}"#, false),
            (r#""reasoning":{"enabled":false}"#, false),
            (r#""reasoning":{"enabled":true,"effort":null}"#, true),
            (r#""thinking":{"type":"enabled","budget_tokens":9}"#, true),
            (r#""thinking":{"type":"disabled"}"#, false),
        ] {
            let raw = format!(r#"{{"model":"m",{field}}}"#);
            let envelope = Envelope::read(raw.as_bytes(), Dialect::ChatCompletions).unwrap();
            assert_eq!(envelope.needs("reasoning"), needs, "{field}");
        }
    }
}
