//! The three kinds of line: a segment's header, a record, a seal. Each has one spelling; what is written here is never
//! re-serialised, and readers hash the bytes they read.

use std::borrow::Cow;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::merkle::{Frontier, Hash};
use super::note::Note;
use crate::domain::actor::Actor;
use crate::domain::event::{DecodeError, Event};
use crate::domain::ids::{EpochId, RootId};
use crate::domain::record::{Record, RequestFacts};
use crate::domain::stream::Stream;

/// Version of the segment format.
pub const FORMAT: u32 = 1;

/// Why a line is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not JSON of the right shape.
    #[error("the line does not parse: {0}")]
    Shape(#[from] serde_json::Error),
    /// The shape is right, the spelling is not the one that the format prescribes.
    #[error("the line is not in its one permitted spelling")]
    Spelling,
    /// The event is not known.
    #[error(transparent)]
    Event(#[from] DecodeError),
    /// The format is newer than this program.
    #[error("the segment has format {0}, this program reads {FORMAT}")]
    TooNew(u32),
}

/// Keys of a record in their order, for writing.
#[derive(Serialize)]
struct RecordHead<'a> {
    seq: u64,
    at_ms: u64,
    mono_ms: u64,
    kind: &'static str,
    v: u32,
    org: &'a str,
    stream: Stream,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    actor: &'a Actor,
    #[serde(skip_serializing_if = "<[Actor]>::is_empty")]
    on_behalf_of: &'a [Actor],
    ctx: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a RequestFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// A record: one event with its place, its time and who caused it.
#[derive(Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Record")]
#[serde(deny_unknown_fields)]
struct RecordShape<'a> {
    seq: u64,
    at_ms: u64,
    mono_ms: u64,
    #[serde(borrow)]
    #[schemars(with = "String")]
    kind: Cow<'a, str>,
    v: u32,
    org: String,
    stream: Stream,
    project: Option<String>,
    subject: Option<String>,
    actor: Actor,
    #[serde(default)]
    on_behalf_of: Vec<Actor>,
    ctx: u64,
    request: Option<RequestFacts>,
    cause: Option<u64>,
    reason: Option<String>,
    #[serde(borrow)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    data: &'a RawValue,
}

/// Appends a record's line, without a newline.
pub fn render_record(record: &Record, out: &mut Vec<u8>) -> serde_json::Result<()> {
    serde_json::to_writer(
        &mut *out,
        &RecordHead {
            seq: record.seq,
            at_ms: record.at_ms,
            mono_ms: record.mono_ms,
            kind: record.event.kind(),
            v: record.event.version(),
            org: &record.org,
            stream: record.stream,
            project: record.project.as_deref(),
            subject: record.subject.as_deref(),
            actor: &record.actor,
            on_behalf_of: &record.on_behalf_of,
            ctx: record.ctx,
            request: record.request.as_ref(),
            cause: record.cause,
            reason: record.reason.as_deref(),
        },
    )?;
    out.pop();
    out.extend_from_slice(b",\"data\":");
    record.event.write_body(out)?;
    out.push(b'}');
    Ok(())
}

/// Reads a record's line. The spelling is not checked: [`check_record`] does.
pub fn parse_record(line: &[u8]) -> Result<Record, LineError> {
    let shape: RecordShape<'_> = serde_json::from_slice(line)?;
    let event = Event::decode(&shape.kind, shape.v, &shape.stream, shape.data)?;
    Ok(Record {
        seq: shape.seq,
        at_ms: shape.at_ms,
        mono_ms: shape.mono_ms,
        org: shape.org,
        stream: shape.stream,
        project: shape.project,
        subject: shape.subject,
        actor: shape.actor,
        on_behalf_of: shape.on_behalf_of,
        ctx: shape.ctx,
        request: shape.request,
        cause: shape.cause,
        reason: shape.reason,
        event,
    })
}

/// Reads a record's line and demands that it is in its one permitted spelling.
pub fn check_record(line: &[u8]) -> Result<Record, LineError> {
    let record = parse_record(line)?;
    let mut again = Vec::with_capacity(line.len());
    render_record(&record, &mut again)?;
    if again == line { Ok(record) } else { Err(LineError::Spelling) }
}

/// The line of a seal: `{"seq":N,"seal":"<note>"}`, without a newline.
pub fn render_seal(seq: u64, note: &Note) -> Vec<u8> {
    // A note holds no character that JSON must escape but its newlines.
    let text = note.render().replace('\n', "\\n");
    format!("{{\"seq\":{seq},\"seal\":\"{text}\"}}").into_bytes()
}

/// What the beginning of a line says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A record with this sequence number.
    Record(u64),
    /// A seal with this sequence number.
    Seal(u64),
}

/// Looks at the beginning of a line only.
pub fn shape(line: &[u8]) -> Option<Shape> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let digits = rest.iter().take(20).take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = rest.split_at_checked(digits)?;
    let seq = std::str::from_utf8(number).ok()?.parse().ok()?;
    if rest.starts_with(b",\"seal\":") {
        Some(Shape::Seal(seq))
    } else if rest.starts_with(b",\"at_ms\":") {
        Some(Shape::Record(seq))
    } else {
        None
    }
}

/// The stream of a record's line, as it is written, without reading the rest.
pub fn stream_text(line: &[u8]) -> Option<&str> {
    // Quotes within strings are escaped, so the key is found only where it is one.
    const KEY: &[u8] = b"\"stream\":\"";
    let at = memchr::memmem::find(line, KEY)?;
    let rest = line.get(at + KEY.len()..)?;
    std::str::from_utf8(rest.get(..memchr::memchr(b'"', rest)?)?).ok()
}

/// Reads a seal's line; it must be in its one permitted spelling.
pub fn parse_seal(line: &[u8]) -> Option<(u64, Note)> {
    let Some(Shape::Seal(seq)) = shape(line) else { return None };
    let text = std::str::from_utf8(line).ok()?;
    let (_, text) = text.split_once(",\"seal\":\"")?;
    let note = Note::parse(&text.strip_suffix("\"}")?.replace("\\n", "\n"))?;
    (render_seal(seq, &note) == line).then_some((seq, note))
}

/// A segment's first line: which root and epoch it belongs to, and the tree before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The state root.
    pub root_id: RootId,
    /// The epoch.
    pub epoch: EpochId,
    /// Sequence number of the first line behind the header.
    pub first_seq: u64,
    /// The note of the seal that ended the segment before; `None` in the first segment.
    pub checkpoint: Option<Note>,
    /// The tree that the checkpoint signs: all lines before that seal's own.
    pub frontier: Frontier,
}

/// A segment's first line.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    segment: HeaderBody,
}

/// Which root and epoch a segment belongs to, and the tree before it.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct HeaderBody {
    format: u32,
    root_id: RootId,
    epoch: EpochId,
    first_seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    frontier: Vec<String>,
}

/// A seal: the note over the tree of all lines before its own.
#[derive(schemars::JsonSchema)]
#[schemars(rename = "Seal", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used; a seal is rendered byte by byte")]
struct SealShape {
    /// Index of its own leaf, and the size of the tree that the note signs.
    seq: u64,
    /// The whole signed note.
    seal: String,
}

/// The schema of a record's envelope.
pub fn record_schema() -> schemars::Schema {
    schemars::schema_for!(RecordShape<'static>)
}

/// The schema of a seal's line.
pub fn seal_schema() -> schemars::Schema {
    schemars::schema_for!(SealShape)
}

/// The schema of a segment's first line.
pub fn header_schema() -> schemars::Schema {
    schemars::schema_for!(HeaderLine)
}

/// Only the format number, so that a newer header says "too new" and not "malformed".
#[derive(Deserialize)]
struct FormatProbe {
    segment: FormatNumber,
}

#[derive(Deserialize)]
struct FormatNumber {
    format: u32,
}

impl Header {
    /// The header's line, without a newline.
    pub fn render(&self) -> Vec<u8> {
        let line = HeaderLine {
            segment: HeaderBody {
                format: FORMAT,
                root_id: self.root_id,
                epoch: self.epoch,
                first_seq: self.first_seq,
                checkpoint: self.checkpoint.as_ref().map(Note::render),
                frontier: self.frontier.roots().iter().map(|root| BASE64.encode(root)).collect(),
            },
        };
        serde_json::to_vec(&line).unwrap_or_default()
    }

    /// Reads a header; it must be in its one permitted spelling, and its frontier must hash to its checkpoint's root.
    pub fn parse(line: &[u8]) -> Result<Self, LineError> {
        if let Ok(probe) = serde_json::from_slice::<FormatProbe>(line)
            && probe.segment.format > FORMAT
        {
            return Err(LineError::TooNew(probe.segment.format));
        }
        let body = serde_json::from_slice::<HeaderLine>(line)?.segment;
        let checkpoint = match &body.checkpoint {
            None => None,
            Some(text) => Some(Note::parse(text).ok_or(LineError::Spelling)?),
        };
        let roots: Option<Vec<Hash>> =
            body.frontier.iter().map(|text| BASE64.decode(text.as_bytes()).ok()?.try_into().ok()).collect();
        let size = checkpoint.as_ref().map_or(0, |note| note.size);
        let frontier = Frontier::new(size, roots.ok_or(LineError::Spelling)?).ok_or(LineError::Spelling)?;
        let header = Self { root_id: body.root_id, epoch: body.epoch, first_seq: body.first_seq, checkpoint, frontier };
        let follows = match &header.checkpoint {
            None => header.first_seq == 0,
            Some(note) => note.size.checked_add(1) == Some(header.first_seq) && note.root == header.frontier.root(),
        };
        if follows && header.render() == line { Ok(header) } else { Err(LineError::Spelling) }
    }

    /// The tree at the segment's beginning, the seal before it included.
    pub fn tree(&self) -> Frontier {
        let mut tree = self.frontier.clone();
        if let Some(note) = &self.checkpoint {
            tree.push(super::merkle::leaf_hash(&render_seal(note.size, note)));
        }
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::SessionId;
    use crate::domain::session;
    use crate::journal::note::Origin;
    use ed25519_dalek::SigningKey;

    fn record() -> Record {
        Record {
            seq: 12,
            at_ms: 1_700_000_000_000,
            mono_ms: 5,
            org: "default".to_owned(),
            stream: Stream::Session(SessionId::parse("session_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap()),
            project: None,
            subject: None,
            actor: Actor::system("test"),
            on_behalf_of: Vec::new(),
            ctx: 3,
            request: Some(RequestFacts { id: "r1".into(), key: None, scope: "s".into(), body_mac: None }),
            cause: None,
            reason: None,
            event: session::Ended { note: Some("ä\n".to_owned()) }.into(),
        }
    }

    #[test]
    fn a_record_line_is_these_bytes() {
        let mut line = Vec::new();
        render_record(&record(), &mut line).unwrap();
        let wanted = concat!(
            r#"{"seq":12,"at_ms":1700000000000,"mono_ms":5,"kind":"session.ended","v":1,"org":"default","#,
            r#""stream":"session/session_01ARZ3NDEKTSV4RRFFQ69G5FAV","actor":{"kind":"system","id":"test","via":"worker","verified":true},"#,
            r#""ctx":3,"request":{"id":"r1","scope":"s"},"data":{"note":"ä\n"}}"#
        );
        assert_eq!(String::from_utf8(line.clone()).unwrap(), wanted);
        assert_eq!(check_record(&line).unwrap(), record());
        assert_eq!(shape(&line), Some(Shape::Record(12)));
    }

    #[test]
    fn another_spelling_of_a_record_is_refused() {
        let mut line = Vec::new();
        render_record(&record(), &mut line).unwrap();
        let text = String::from_utf8(line).unwrap();
        for (from, to) in [
            ("{\"seq\":12,", "{\"seq\": 12,"),
            (",\"ctx\":3", ",\"ctx\":3,\"cause\":null"),
            ("\"verified\":true", "\"verified\":true,\"extra\":1"),
            ("\"ctx\":3", "\"ctx\":3,\"ctx\":3"),
            ("ä", "\\u00e4"),
            ("session.ended", "session.dreamed"),
            ("\"v\":1", "\"v\":2"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert!(check_record(changed.as_bytes()).is_err(), "{changed}");
        }
    }

    #[test]
    fn a_seal_and_a_header_read_back_and_have_one_spelling() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let root_id = RootId::parse("root_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        let epoch = EpochId::parse("epoch_01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
        let mut frontier = Frontier::default();
        (0..5_u8).for_each(|n| frontier.push([n; 32]));
        let note = Note::sign(Origin { root_id, epoch }, 5, frontier.root(), &[&key]);
        let seal = render_seal(5, &note);
        assert_eq!(parse_seal(&seal), Some((5, note.clone())));
        assert_eq!(parse_seal(&[seal.as_slice(), b" "].concat()), None);
        let header = Header { root_id, epoch, first_seq: 6, checkpoint: Some(note), frontier };
        let line = header.render();
        assert_eq!(Header::parse(&line).unwrap(), header);
        assert_eq!(header.tree().size(), 6);
        let newer = String::from_utf8(line).unwrap().replacen("\"format\":1", "\"format\":2", 1);
        assert!(matches!(Header::parse(newer.as_bytes()), Err(LineError::TooNew(2))));
    }
}
