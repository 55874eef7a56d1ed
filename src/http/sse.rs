//! Server-sent events: frames that are encoded once and shared by every subscriber, and the body that sends them. A
//! stream ends when the daemon drains or its token is no longer in force; a client that does not read is cut off by the
//! connection's write deadline.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::time::{Interval, MissedTickBehavior};

use super::cursor::StreamRequest;
use super::edge::Gate;
use super::limits::Limits;
use super::problem::Problem;
use crate::domain::reason::Refusal;
use crate::services::authority::{Authorized, Caller};

/// Media type of a stream.
pub const MEDIA: &str = "text/event-stream";

/// One event before it is encoded.
#[derive(Debug, Clone)]
pub struct SseItem {
    /// Its sequence number; none for events that cannot be replayed.
    pub id: Option<u64>,
    /// Its kind: a word without line ends.
    pub event: &'static str,
    /// Its text, any bytes that are UTF-8.
    pub data: Bytes,
}

/// Encodes an event as a whole frame. Line ends inside the text begin a new `data:` line, so that no text can forge
/// another field or event.
pub fn encode(id: Option<u64>, event: &str, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + event.len() + 48);
    put_head(id, event, &mut out);
    let mut rest = data;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        out.put_slice(b"data: ");
        out.put_slice(&rest[..end.unwrap_or(rest.len())]);
        out.put_u8(b'\n');
        let Some(end) = end else { break };
        let width = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + width..];
    }
    out.put_u8(b'\n');
    out.freeze()
}

/// Encodes a record's line, which holds no line ends, as the last frame of a buffer; gives where the line stands in it.
pub fn encode_record(seq: u64, kind: &'static str, line: &[u8], out: &mut BytesMut) -> usize {
    put_head(Some(seq), kind, out);
    out.put_slice(b"data: ");
    let at = out.len();
    out.put_slice(line);
    out.put_slice(b"\n\n");
    at
}

fn put_head(id: Option<u64>, event: &str, out: &mut BytesMut) {
    if let Some(id) = id {
        out.put_slice(b"id: ");
        out.put_slice(id.to_string().as_bytes());
        out.put_u8(b'\n');
    }
    out.put_slice(b"event: ");
    out.extend(event.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')));
    out.put_u8(b'\n');
}

impl From<SseItem> for Bytes {
    fn from(item: SseItem) -> Bytes {
        encode(item.id, item.event, &item.data)
    }
}

/// Answers with a stream of events, for as long as the caller's token is in force. `frames` yields encoded frames (see
/// [`encode`]) or [`SseItem`]s; its end ends the answer.
pub fn reply<S, F>(gate: &Arc<Gate>, right: &Authorized, request: &StreamRequest, frames: S) -> Response
where
    S: Stream<Item = F> + Send + 'static,
    F: Into<Bytes> + Send + 'static,
{
    if matches!(request.after, Ok(Some(_))) {
        gate.metrics.sse_reconnects.inc();
    }
    gate.metrics.sse_connections.inc();
    stream_response(Body::new(SseBody {
        frames: Box::pin(frames.map(Into::into).fuse()),
        stopping: Box::pin(gate.tasks.stopping()),
        ticks: ticks(&gate.limits),
        ticks_per_beat: (gate.limits.heartbeat_ms / gate.limits.recheck_ms.max(1)).max(1),
        quiet_ticks: 0,
        caller: right.caller().clone(),
        gate: gate.clone(),
        opened: false,
        ended: false,
    }))
}

/// Answers a wrong cursor: as a problem, or as an event `reset` for clients that asked for that.
pub fn refuse(request: &StreamRequest, refusal: Refusal) -> Result<Response, Problem> {
    if !request.errors_in_stream {
        return Err(Problem(refusal));
    }
    let text =
        serde_json::json!({ "code": refusal.reason.code(), "detail": refusal.detail, "next": refusal.reason.next() });
    Ok(stream_response(Body::from(encode(None, "reset", text.to_string().as_bytes()))))
}

fn stream_response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn ticks(limits: &Limits) -> Interval {
    let period = Duration::from_millis(limits.recheck_ms.max(1));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

struct SseBody {
    frames: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    stopping: Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
    ticks: Interval,
    ticks_per_beat: u64,
    quiet_ticks: u64,
    caller: Caller,
    gate: Arc<Gate>,
    opened: bool,
    ended: bool,
}

impl SseBody {
    fn end(&mut self, comment: &'static [u8]) -> Poll<Option<Bytes>> {
        self.ended = true;
        Poll::Ready(Some(Bytes::from_static(comment)))
    }

    /// All frames that are ready, up to a chunk's size. A single frame is passed on without a copy.
    fn ready_frames(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let first = match self.frames.as_mut().poll_next(context) {
            Poll::Ready(Some(frame)) => frame,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        let limit = self.gate.limits.stream_chunk_bytes;
        let mut many: Option<BytesMut> = None;
        while many.as_ref().map_or(first.len(), BytesMut::len) < limit {
            let Poll::Ready(Some(frame)) = self.frames.as_mut().poll_next(context) else { break };
            many.get_or_insert_with(|| {
                let mut buffer = BytesMut::with_capacity((first.len() + frame.len()) * 4);
                buffer.put_slice(&first);
                buffer
            })
            .put_slice(&frame);
        }
        Poll::Ready(Some(many.map_or(first, BytesMut::freeze)))
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.stopping.as_mut().poll(context).is_ready() {
            return self.end(b": the daemon is stopping\n\n");
        }
        if !self.gate.authentication.in_force(&self.caller) {
            return self.end(b": the token is no longer in force\n\n");
        }
        if !self.opened {
            self.opened = true;
            return Poll::Ready(Some(Bytes::from_static(b": open\n\n")));
        }
        if let Poll::Ready(frames) = self.ready_frames(context) {
            self.quiet_ticks = 0;
            return Poll::Ready(frames);
        }
        while self.ticks.poll_tick(context).is_ready() {
            if !self.gate.authentication.in_force(&self.caller) {
                return self.end(b": the token is no longer in force\n\n");
            }
            self.quiet_ticks += 1;
            if self.quiet_ticks >= self.ticks_per_beat {
                self.quiet_ticks = 0;
                return Poll::Ready(Some(Bytes::from_static(b": beat\n\n")));
            }
        }
        Poll::Pending
    }
}

impl hyper::body::Body for SseBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        self.get_mut().next(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for SseBody {
    fn drop(&mut self) {
        self.gate.metrics.sse_connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads frames the way the living standard says a client does.
    fn decode(text: &str) -> Vec<(Option<String>, String, String)> {
        let mut events = Vec::new();
        let (mut id, mut kind, mut data) = (None, String::new(), Vec::new());
        for line in text.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
            match line.split_once(": ") {
                _ if line.is_empty() => {
                    if !data.is_empty() {
                        events.push((id.clone(), std::mem::take(&mut kind), data.join("\n")));
                        data.clear();
                    }
                }
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("event", value)) => value.clone_into(&mut kind),
                Some(("data", value)) => data.push(value.to_owned()),
                _ => panic!("unknown field in {line:?}"),
            }
        }
        events
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_one_event_with_the_id_it_was_given(text in "(\r|\n|id: 9\n|data: x|\u{2028}|\u{feff}|[a-z :]){0,40}") {
            let frame = encode(Some(7), "note", text.as_bytes());
            let wanted = text.replace("\r\n", "\n").replace('\r', "\n");
            let got = decode(std::str::from_utf8(&frame).unwrap());
            prop_assert_eq!(got, vec![(Some("7".to_owned()), "note".to_owned(), wanted)]);
        }
    }

    #[test]
    fn a_frame_is_written_exactly_so() {
        assert_eq!(encode(Some(3), "run.started", b"{}"), "id: 3\nevent: run.started\ndata: {}\n\n");
        let mut buffer = BytesMut::from(&b"x"[..]);
        assert_eq!(encode_record(3, "run.started", b"{}", &mut buffer), 32);
        assert_eq!(buffer, "xid: 3\nevent: run.started\ndata: {}\n\n");
        assert_eq!(encode(None, "a\nid: 1", b"x\r\ny\rz\n"), "event: aid: 1\ndata: x\ndata: y\ndata: z\ndata: \n\n");
    }
}
