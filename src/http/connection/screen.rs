//! The screened stream: hands a request's bytes on only when its head is whole and strictly right, keeps the deadlines of
//! a connection, and reads a refused client's rest before it closes. A refused head is replaced by a stand-in request,
//! so that the answer is written in its turn and looks like every other refusal.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::body::InFlight;
use super::chunks::Chunks;
use super::head::{Framing, HeadFault, check};
use super::timer::Deadline;
use crate::http::limits::Limits;

/// Name of the header by which the stand-in request says which fault it stands for. A client that sends it itself is
/// refused as well.
pub const SCREEN_HEADER: &str = "x-chancery-screen";

/// Bytes read from the socket at a time.
const READ_BYTES: usize = 4 << 10;
/// Capacity of the buffer that an idle connection may keep, bytes.
const KEPT_BYTES: usize = 8 << 10;

enum State {
    /// A head is expected or partly here; this many of its bytes were looked at.
    Head { looked: usize },
    /// A checked head is handed on; then comes its body.
    Deliver { left: usize, then: Framing },
    /// This much of a body is left.
    Body { left: u64 },
    /// A chunked body.
    Chunked(Chunks),
    /// The stand-in is handed on; nothing comes after it.
    StandIn { left: usize },
    /// Nothing is handed on any more.
    Refused,
}

/// A socket behind the screen.
pub struct ScreenedStream<S> {
    socket: S,
    limits: Limits,
    in_flight: Arc<InFlight>,
    state: State,
    buffer: Vec<u8>,
    served: bool,
    skipped: bool,
    reading: Deadline,
    writing: Deadline,
    /// Since when an answer waits for its reader, and the bytes that were taken since.
    waiting: Option<(Instant, u64)>,
    closing: Deadline,
    lingered: usize,
    shut: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ScreenedStream<S> {
    /// Screens this socket. `in_flight` says whether a request is being answered, during which no read deadline runs.
    pub fn new(socket: S, limits: Limits, in_flight: Arc<InFlight>) -> Self {
        Self {
            socket,
            limits,
            in_flight,
            state: State::Head { looked: 0 },
            buffer: Vec::new(),
            served: false,
            skipped: false,
            reading: Deadline::default(),
            writing: Deadline::default(),
            waiting: None,
            closing: Deadline::default(),
            lingered: 0,
            shut: false,
        }
    }

    fn refuse(&mut self, fault: HeadFault) {
        let number = fault as u8;
        let head = format!("GET / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n{SCREEN_HEADER}: {number}\r\n\r\n");
        self.buffer = head.into_bytes();
        self.state = State::StandIn { left: self.buffer.len() };
    }

    /// Looks at new bytes of a head. Changes the state when the head is whole or wrong.
    fn look(&mut self, looked: usize) {
        if self.buffer.starts_with(b"\r\n") && !self.skipped {
            // One empty line before a request is tolerated.
            self.skipped = true;
            self.buffer.drain(..2);
            return self.look(0);
        }
        if self.buffer.first().is_some_and(|byte| !byte.is_ascii_alphabetic() && (*byte != b'\r' || self.skipped)) {
            return self.refuse(HeadFault::RequestLine);
        }
        let mut at = looked;
        while let Some(found) = self.buffer[at..].iter().position(|byte| *byte == b'\n') {
            let newline = at + found;
            if newline == 0 || self.buffer[newline - 1] != b'\r' {
                return self.refuse(HeadFault::LineEnd);
            }
            if newline >= 3 && self.buffer[newline - 2] == b'\n' {
                return self.judge(newline + 1);
            }
            if looked == 0 && at == 0 && newline > self.limits.request_line_bytes {
                return self.refuse(HeadFault::TargetTooLong);
            }
            at = newline + 1;
        }
        let in_request_line = !self.buffer[..at].contains(&b'\n');
        if in_request_line && self.buffer.len() > self.limits.request_line_bytes {
            return self.refuse(HeadFault::TargetTooLong);
        }
        if self.buffer.len() > self.limits.head_bytes {
            return self.refuse(HeadFault::TooLarge);
        }
        self.state = State::Head { looked: self.buffer.len() };
    }

    fn judge(&mut self, end: usize) {
        let line = self.buffer.iter().position(|byte| *byte == b'\n').unwrap_or(end);
        if line > self.limits.request_line_bytes {
            return self.refuse(HeadFault::TargetTooLong);
        }
        if end > self.limits.head_bytes {
            return self.refuse(HeadFault::TooLarge);
        }
        match check(&self.buffer[..end], self.limits.head_lines) {
            Ok(then) => {
                self.reading.clear();
                self.served = true;
                self.skipped = false;
                self.state = State::Deliver { left: end, then };
            }
            Err(fault) => self.refuse(fault),
        }
    }

    /// Reads from the socket behind what is buffered. Ready with 0 at the end of the stream.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = [0; READ_BYTES];
        let mut part = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut part))?;
        self.buffer.extend_from_slice(part.filled());
        Poll::Ready(Ok(part.filled().len()))
    }

    /// Hands on at most `limit` buffered bytes.
    fn hand_on(&mut self, limit: usize, out: &mut ReadBuf<'_>) -> usize {
        let count = limit.min(self.buffer.len()).min(out.remaining());
        out.put_slice(&self.buffer[..count]);
        if count == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_BYTES);
        } else {
            self.buffer.drain(..count);
        }
        count
    }

    /// More of a head is wanted. Ready where the stream ended or the state changed.
    fn await_head(&mut self, looked: usize, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if looked < self.buffer.len() {
            self.look(looked);
            return Poll::Ready(Ok(true));
        }
        let idle = self.buffer.is_empty();
        match self.fill(context) {
            Poll::Ready(count) => {
                if idle {
                    // The head's own deadline runs from its first byte.
                    self.reading.clear();
                }
                Poll::Ready(count.map(|count| count > 0))
            }
            Poll::Pending => self.head_deadline(context),
        }
    }

    fn head_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.in_flight.is_busy() {
            self.reading.clear();
            return Poll::Pending;
        }
        if self.in_flight.is_draining() {
            return Poll::Ready(Ok(false));
        }
        let partly = !self.buffer.is_empty();
        let first = if self.served { self.limits.idle_ms } else { self.limits.first_byte_ms };
        self.reading.start(if partly { self.limits.head_ms } else { first });
        ready!(self.reading.poll(context));
        self.reading.clear();
        if partly {
            self.refuse(HeadFault::TooSlow);
            return Poll::Ready(Ok(true));
        }
        Poll::Ready(Ok(false))
    }

    fn pass_body(&mut self, left: u64, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = if self.buffer.is_empty() {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.remaining());
            let mut part = ReadBuf::new(out.initialize_unfilled_to(most));
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut part))?;
            let count = part.filled().len();
            out.advance(count);
            count
        } else {
            self.hand_on(usize::try_from(left).unwrap_or(usize::MAX), out)
        };
        let left = left - count as u64;
        self.state = if left == 0 { State::Head { looked: 0 } } else { State::Body { left } };
        Poll::Ready(Ok(()))
    }

    fn pass_chunks(
        &mut self,
        mut chunks: Chunks,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() && ready!(self.fill(context))? == 0 {
            return Poll::Ready(Ok(()));
        }
        let most = self.buffer.len().min(out.remaining());
        match chunks.pass(&self.buffer[..most]) {
            Ok(count) => {
                self.hand_on(count, out);
                self.state = if chunks.is_done() { State::Head { looked: 0 } } else { State::Chunked(chunks) };
                Poll::Ready(Ok(()))
            }
            Err(fault) => {
                self.state = State::Refused;
                self.in_flight.linger();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)))
            }
        }
    }

    /// Counts the write deadline while the client takes nothing, and looks at the rate at which it takes an answer. Whoever
    /// takes nothing wakes nobody and meets the deadline; whoever takes a little is looked at each time.
    fn written(&mut self, context: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = &result {
            self.writing.clear();
            if let (Ok(written), Some((_, taken))) = (written, &mut self.waiting) {
                *taken += *written as u64;
            }
            return result;
        }
        if self.is_read_too_slowly() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads its answer too slowly")));
        }
        self.writing.start(self.limits.write_ms);
        ready!(self.writing.poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }

    fn is_read_too_slowly(&mut self) -> bool {
        if !self.in_flight.is_rated() {
            self.waiting = None;
            return false;
        }
        let (since, taken) = *self.waiting.get_or_insert_with(|| (Instant::now(), 0));
        let spent = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rated = spent.saturating_sub(self.limits.answer_grace_ms);
        taken < rated.saturating_mul(self.limits.answer_rate_bytes_per_s) / 1_000
    }

    /// Reads and drops what a refused client still sends, so that the machine does not throw the answer away.
    fn linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.closing.start(self.limits.linger_ms);
        loop {
            let mut scratch = [0; READ_BYTES];
            let mut part = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.socket).poll_read(context, &mut part) {
                Poll::Ready(Ok(())) if !part.filled().is_empty() && self.lingered < self.limits.linger_bytes => {
                    self.lingered += part.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.closing.poll(context),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ScreenedStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.state {
                State::Head { looked } => {
                    if !ready!(this.await_head(looked, context))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Deliver { left, then } => {
                    let left = left - this.hand_on(left, out);
                    this.state = match (left, then) {
                        (0, Framing::Length(0)) => State::Head { looked: 0 },
                        (0, Framing::Length(left)) => State::Body { left },
                        (0, Framing::Chunked) => State::Chunked(Chunks::new(this.limits.chunk_line_bytes)),
                        (left, then) => State::Deliver { left, then },
                    };
                    return Poll::Ready(Ok(()));
                }
                State::Body { left } => return this.pass_body(left, context, out),
                State::Chunked(chunks) => return this.pass_chunks(chunks, context, out),
                State::StandIn { left } => {
                    let left = left - this.hand_on(left, out);
                    this.state = if left == 0 { State::Refused } else { State::StandIn { left } };
                    this.in_flight.linger();
                    return Poll::Ready(Ok(()));
                }
                // The end of the stream would make the HTTP library drop the answer that is under way.
                State::Refused => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ScreenedStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.socket).poll_write(context, bytes);
        this.written(context, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.socket).poll_write_vectored(context, slices);
        this.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // It is called once everything is written: nothing waits for the client any more.
        this.waiting = None;
        Pin::new(&mut this.socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            ready!(Pin::new(&mut this.socket).poll_shutdown(context))?;
            this.shut = true;
        }
        if this.in_flight.lingers() {
            ready!(this.linger(context));
        }
        Poll::Ready(Ok(()))
    }
}
