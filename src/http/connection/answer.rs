//! Answers on their way out: one that lies ready as a whole holds its share of the memory for answers until its last byte is
//! written.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::body::Answering;
use super::budget::BodyShare;

/// An answer's body: keeps the connection's deadlines off while it is being sent.
pub struct AnswerBody {
    inner: axum::body::Body,
    held: Option<Arc<BodyShare>>,
    _answering: Answering,
}

impl AnswerBody {
    /// The body of an answer that is under way, and what it holds of the memory for answers.
    pub fn new(inner: axum::body::Body, answering: Answering, held: Option<BodyShare>) -> Self {
        Self { inner, held: held.map(Arc::new), _answering: answering }
    }
}

/// Bytes that give their share back when they are dropped: the HTTP library lets go of a body before its bytes are sent.
struct HeldBytes {
    bytes: Bytes,
    _held: Arc<BodyShare>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.inner).poll_frame(context);
        let Some(held) = &this.held else { return frame };
        let hold = |bytes| Bytes::from_owner(HeldBytes { bytes, _held: Arc::clone(held) });
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(hold))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
