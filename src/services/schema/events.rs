//! The schema and the sample line of each kind of event.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Files;
use super::samples::{SAMPLES, Sample};
use super::vectors::system_record;
use crate::domain::actor::{Actor, ActorKind, CredentialRef};
use crate::domain::event::Event;
use crate::domain::record::{Record, RequestFacts};
use crate::domain::stream::Stream;
use crate::journal::line::render_record;

/// One stream of each sort.
const STREAMS: &[&str] = &[
    "journal",
    "daemon",
    "runtime",
    "control_plane",
    "vault",
    "ledger",
    "model_call/mcall_01HF7YAT0000000000000CA115",
    "session/session_01HF7YAT00000000000000SE55",
    "run/run_01HF7YAT00000000000000R0N1",
];

/// The event of a sample.
pub(super) fn event_of(kind: &str) -> Result<(Stream, Event), String> {
    let sample = SAMPLES.iter().find(|sample| sample.kind == kind).ok_or(format!("{kind} has no sample"))?;
    decode(sample)
}

fn decode(sample: &Sample) -> Result<(Stream, Event), String> {
    let fault = |what: String| format!("the sample of {}: {what}", sample.kind);
    let stream = Stream::parse(sample.stream).ok_or_else(|| fault("no such stream".to_owned()))?;
    let body: Box<RawValue> = serde_json::from_str(sample.body).map_err(|error| fault(error.to_string()))?;
    let version = Event::KINDS.iter().find(|(kind, _)| *kind == sample.kind).map_or(0, |(_, version)| *version);
    let event = Event::decode(sample.kind, version, &stream, &body).map_err(|error| fault(error.to_string()))?;
    Ok((stream, event))
}

/// Adds `events/<kind>.v<version>.json` and `samples/<kind>.v<version>.json` for every kind.
pub(super) fn add(files: &mut Files) -> Result<(), String> {
    for (index, (kind, version, schema)) in Event::schemas().into_iter().enumerate() {
        let (stream, event) = event_of(kind)?;
        let mut schema = schema.to_value();
        super::formats::without_null(&mut schema);
        schema["title"] = json!(format!("{kind} v{version}"));
        schema["x-kind"] = json!(kind);
        schema["x-version"] = json!(version);
        let on = STREAMS.iter().filter(|text| Stream::parse(text).is_some_and(|stream| event.belongs_on(&stream)));
        schema["x-stream"] = on.filter_map(|text| text.split('/').next()).collect::<Value>();
        if schema["x-stream"] == json!([]) {
            return Err(format!("{kind} belongs on a stream that is not listed here"));
        }
        super::put_json(files, &format!("state-schema/events/{kind}.v{version}.json"), &schema);
        let mut line = Vec::new();
        render_record(&sample_record(index as u64, stream, event), &mut line).map_err(|error| error.to_string())?;
        line.push(b'\n');
        files.insert(format!("state-schema/samples/{kind}.v{version}.json"), line);
    }
    Ok(())
}

/// A record around a sample: every second one by a person's token in a request, so that each field of the envelope occurs.
fn sample_record(index: u64, stream: Stream, event: Event) -> Record {
    let own = matches!(event, Event::ContextSet(_));
    let seq = 100 + index;
    let mut record = system_record(seq, if own { seq } else { 90 }, stream, event);
    if index % 2 == 1 {
        let credential = CredentialRef { id: "admin".to_owned(), fp: "0011223344556677".to_owned() };
        let [kind, via] = [ActorKind::Token, ActorKind::Agent];
        record.on_behalf_of =
            vec![Actor { kind: via, id: "run_01".into(), via: "worker".into(), credential: None, verified: false }];
        record.actor = Actor {
            kind,
            id: "admin".to_owned(),
            via: "http".to_owned(),
            credential: Some(credential),
            verified: true,
        };
        record.request = Some(RequestFacts {
            id: "req_01HF7YAT0000000000000000RQ".to_owned(),
            key: Some("k-1".to_owned()),
            scope: "admin POST /v1/sessions".to_owned(),
            body_mac: Some("00112233445566778899aabbccddeeff".to_owned()),
        });
        record.cause = Some(seq - 1);
        record.reason = Some("as asked".to_owned());
    }
    record
}
