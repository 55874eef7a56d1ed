//! Request bodies with limits: counted and timed while they are read; and what a connection knows of its requests.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::domain::reason::{Reason, Refusal};
use crate::http::limits::Limits;
use crate::http::passage::Passage;

/// Whether a connection is answering, and whether its client's rest must be read at the end.
#[derive(Debug, Default)]
pub struct InFlight {
    answers: AtomicUsize,
    linger: AtomicBool,
    draining: AtomicBool,
    unread: AtomicBool,
    rated: AtomicBool,
}

impl InFlight {
    /// Whether the present answer must be read at a least rate: one that lies ready as a whole, not a stream of events.
    pub(crate) fn rate(&self, rated: bool) {
        self.rated.store(rated, Ordering::Relaxed);
    }

    pub(super) fn is_rated(&self) -> bool {
        self.rated.load(Ordering::Relaxed)
    }

    /// Whether the present request's body is not read to its end. Requests of a connection come one after the other.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// No further request is taken from this connection.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.answers.load(Ordering::Relaxed) > 0
    }

    /// After the answer, what the client still sends is read and dropped before the connection closes.
    pub fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    pub(super) fn lingers(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }

    /// Counts an answer until the value is dropped.
    pub fn begin(self: &Arc<Self>) -> Answering {
        self.answers.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }
}

/// An answer that is under way.
#[derive(Debug)]
pub struct Answering(Arc<InFlight>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's body: refuses what is larger, slower or otherwise framed than it may be. Trailers are dropped.
pub struct RequestBody {
    inner: Incoming,
    limits: Limits,
    passage: Arc<Passage>,
    in_flight: Arc<InFlight>,
    taken: u64,
    timer: Option<Timer>,
}

struct Timer {
    since: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl RequestBody {
    /// Watches over this body. The connection knows it as unread until its end was seen.
    pub fn new(inner: Incoming, passage: Arc<Passage>, in_flight: Arc<InFlight>) -> Self {
        in_flight.unread.store(!inner.is_end_stream(), Ordering::Relaxed);
        Self { inner, limits: passage.gate().limits, passage, in_flight, taken: 0, timer: None }
    }

    /// Whether the body is late: looked at only while the client keeps the daemon waiting.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let limits = self.limits;
        let timer = self.timer.get_or_insert_with(|| Timer {
            since: Instant::now(),
            sleep: Box::pin(tokio::time::sleep(Duration::from_millis(limits.body_grace_ms))),
        });
        while timer.sleep.as_mut().poll(context).is_ready() {
            let spent = u64::try_from(timer.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            let wanted = spent.saturating_sub(limits.body_grace_ms) / 1_000 * limits.body_rate_bytes_per_s;
            if spent >= limits.body_ms || self.taken <= wanted {
                return true;
            }
            let pause = Duration::from_millis(limits.body_grace_ms.min(1_000));
            timer.sleep.as_mut().reset(Instant::now() + pause);
        }
        false
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let this = self.get_mut();
        loop {
            match Pin::new(&mut this.inner).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    this.taken += data.len() as u64;
                    if this.taken > this.passage.body_bytes() {
                        return Poll::Ready(Some(Err(too_large(this.passage.body_bytes()))));
                    }
                    if !this.passage.held.take(data.len() as u64) {
                        let detail = "the bodies of other requests take all the memory that there is for bodies";
                        return Poll::Ready(Some(Err(Refusal::new(Reason::RequestOverloaded, detail))));
                    }
                    if this.inner.is_end_stream() {
                        this.in_flight.unread.store(false, Ordering::Relaxed);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(_))) => {
                    let detail = "the body ended early or its chunks are not framed as they must be";
                    return Poll::Ready(Some(Err(Refusal::new(Reason::RequestMalformed, detail))));
                }
                Poll::Ready(None) => {
                    this.in_flight.unread.store(false, Ordering::Relaxed);
                    return Poll::Ready(None);
                }
                Poll::Pending if this.is_late(context) => {
                    let detail = "the body did not come in time";
                    return Poll::Ready(Some(Err(Refusal::new(Reason::RequestTimeout, detail))));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The refusal of a body over the limit.
pub(crate) fn too_large(limit_bytes: u64) -> Refusal {
    Refusal::new(Reason::RequestTooLarge, format!("the body is larger than {limit_bytes} bytes"))
}

/// Reads a whole body, at most as long as its guard allows. Pieces are joined as they come: kept apart, a body of single
/// bytes would take many times its size.
pub(crate) async fn whole(mut body: axum::body::Body) -> Result<Bytes, Refusal> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(refusal_of)?.into_data() else { continue };
        if read.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// The refusal that a guarded body failed with; its error type is hidden behind the router's.
fn refusal_of(fault: axum::Error) -> Refusal {
    let fault = fault.into_inner();
    match fault.downcast::<Refusal>() {
        Ok(refusal) => *refusal,
        Err(_) => Refusal::new(Reason::RequestMalformed, "the body could not be read"),
    }
}
