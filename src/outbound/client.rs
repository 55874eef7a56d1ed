//! An HTTP client on the guarded connector: one request, one answer read in bounded pieces, and a deadline for each
//! stage. Redirects are handed back as they are. A connection is vetted when it is made, and kept for a few seconds; a
//! request is sent again only where hyper says that nothing of it was sent, because a kept connection turned out closed.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use super::guard::{Fault, Guard};
use super::limits;
use super::secured::Secured;
use super::trust::Trust;

/// How long each stage of a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the request to the answer's head, connecting included.
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { first_byte: Duration::from_millis(limits::FIRST_BYTE_MS), idle: Duration::from_millis(limits::IDLE_MS) }
    }
}

/// Why a request has no answer, or an answer no end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendFault {
    /// The destination may not be reached.
    #[error("{0}")]
    Forbidden(String),
    /// No connection came about, so nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// The other side cannot prove who it is, so nothing was sent.
    #[error("{0}")]
    Untrusted(String),
    /// A connection stood, so the request may have been taken, and no answer came.
    #[error("{0}; the request may have been taken")]
    Unanswered(&'static str),
    /// A deadline passed.
    #[error("{0} took too long")]
    TooSlow(&'static str),
    /// The answer broke off.
    #[error("the answer broke off")]
    Broken,
    /// The answer is larger than the limit.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// A client whose connections follow one set of rules.
#[derive(Debug, Clone)]
pub struct Client {
    inner: legacy::Client<Secured, Full<Bytes>>,
    deadlines: Deadlines,
}

impl Client {
    /// A client on this connector, which believes these authorities.
    pub fn new(guard: Guard, trust: &Trust, deadlines: Deadlines) -> Self {
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(limits::CONNECTIONS_IDLE)
            .pool_idle_timeout(Duration::from_millis(limits::CONNECTION_IDLE_MS))
            .pool_timer(TokioTimer::new())
            .retry_canceled_requests(true)
            .http1_max_buf_size(limits::HEAD_BYTES)
            .build(Secured::new(guard, trust));
        Self { inner, deadlines }
    }

    /// Sends a request and waits for the head of the answer, not beyond the instant.
    pub async fn send(&self, mut request: Request<Full<Bytes>>, until: Instant) -> Result<Answer, SendFault> {
        let until_first = until.min(Instant::now() + self.deadlines.first_byte);
        let connection = capture_connection(&mut request);
        let response = match tokio::time::timeout_at(until_first, self.inner.request(request)).await {
            Err(_) if connection.connection_metadata().is_some() => {
                return Err(SendFault::Unanswered("the start of the answer took too long"));
            }
            Err(_) => return Err(SendFault::Unreachable("connecting took too long".to_owned())),
            Ok(Err(error)) => return Err(send_fault(&error)),
            Ok(Ok(response)) => response,
        };
        Ok(Answer { response, read_bytes: 0, until, idle: self.deadlines.idle })
    }
}

fn send_fault(error: &legacy::Error) -> SendFault {
    let mut cause = error.source();
    while let Some(one) = cause {
        match one.downcast_ref::<Fault>() {
            Some(Fault::Forbidden(_)) => return SendFault::Forbidden(one.to_string()),
            Some(Fault::Unreachable(_)) => return SendFault::Unreachable(one.to_string()),
            Some(Fault::Untrusted(_)) => return SendFault::Untrusted(one.to_string()),
            None => cause = one.source(),
        }
    }
    SendFault::Unanswered("the connection ended before an answer came")
}

/// An answer whose body is read piece by piece.
#[derive(Debug)]
pub struct Answer {
    response: Response<Incoming>,
    read_bytes: usize,
    until: Instant,
    idle: Duration,
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> http::StatusCode {
        self.response.status()
    }

    /// A header, where it is plain text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Its headers of these names, for whoever passes the answer on. Never those of the connection.
    pub fn headers(&self, names: &[HeaderName]) -> HeaderMap {
        let mut found = HeaderMap::new();
        for name in names {
            for value in self.response.headers().get_all(name) {
                found.append(name, value.clone());
            }
        }
        found
    }

    /// The body as a stream: a piece is read when it is asked for, so whoever is slow slows the other side. Ends with the
    /// fault where it breaks off.
    pub fn pieces(self, limit_bytes: usize) -> impl Stream<Item = Result<Bytes, SendFault>> + Send {
        futures_util::stream::unfold(Some(self), move |answer| async move {
            let mut answer = answer?;
            match answer.piece(limit_bytes).await {
                Ok(piece) => Some((Ok(piece?), Some(answer))),
                Err(fault) => Some((Err(fault), None)),
            }
        })
    }

    /// The next piece of the body, `None` at its end. Fails once more than the limit was read in all.
    pub async fn piece(&mut self, limit_bytes: usize) -> Result<Option<Bytes>, SendFault> {
        loop {
            let until = self.until.min(Instant::now() + self.idle);
            let frame = match tokio::time::timeout_at(until, self.response.body_mut().frame()).await {
                Err(_) => return Err(SendFault::TooSlow("the next piece of the answer")),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(SendFault::Broken),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(piece) = frame.into_data() else { continue };
            self.read_bytes += piece.len();
            if self.read_bytes > limit_bytes {
                return Err(SendFault::TooLarge(limit_bytes));
            }
            return Ok(Some(piece));
        }
    }

    /// What can be read of a body's beginning; where it breaks off or goes on too long, what came before that.
    pub async fn beginning(&mut self, limit_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < limit_bytes {
            match self.piece(limit_bytes).await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                Ok(None) | Err(_) => break,
            }
        }
        bytes
    }
}
