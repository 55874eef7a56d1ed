//! An answer on its way from the provider to the client: a piece is read when the client takes one, is metered, and goes on
//! without the secrets that the daemon knows. A stream of events goes on event by event, so that what cuts it is told.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};

use super::events::{self, Events};
use super::meter::Event;
use super::open::Open;
use super::spelled::Spelled;
use super::{Parts, Withdrawn, words};
use crate::domain::model_call::{Dialect, Outcome};
use crate::domain::reason::Reason;
use crate::outbound::client::{Answer, SendFault};
use crate::outbound::limits::{ANSWER_RAW_BYTES, EVENT_BYTES};
use crate::services::credentials::Leased;
use crate::vault::redaction::StreamRedactor;

/// An answer broke off; the client is told by the end of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

/// Pieces of an answer, for the client.
pub type Pieces = BoxStream<'static, Result<Bytes, BrokenOff>>;

/// How an answer is framed.
enum Framing {
    /// As events.
    Events(Events),
    /// As one document, of which the beginning is kept to be read at the end.
    Document(Vec<u8>),
}

/// Resolves with what cuts a call that the provider would go on with.
type Cut = BoxFuture<'static, (Outcome, Reason, &'static str)>;

/// The cut of a call: its secret was revoked, its caller's token withdrawn, or the daemon drains.
fn cut(parts: &Arc<Parts>, leased: Option<&Leased>, withdrawn: Withdrawn) -> Cut {
    let revoked = leased.map(|leased| leased.revoked.clone());
    let tasks = parts.tasks.clone();
    Box::pin(async move {
        let revoked = async {
            match &revoked {
                Some(revoked) => revoked.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = revoked => (Outcome::Broken, Reason::VaultLeaseRevoked, "The secret of the route was revoked."),
            () = withdrawn => (Outcome::Broken, Reason::AuthInvalid, "The token of the request is no longer in force."),
            () = tasks.stopping() => (Outcome::Broken, Reason::RequestOverloaded, "The daemon is stopping."),
        }
    })
}

/// How far the end of the answer is.
#[derive(PartialEq, Eq)]
enum Stage {
    Flows,
    /// Everything was handed on once the client asks for more. What became of the call is known then, or is known already.
    Over,
}

/// One answer on its way.
pub(super) struct Relay {
    answer: Answer,
    parts: Arc<Parts>,
    /// Ends with the call.
    _leased: Option<Leased>,
    cut: Cut,
    dialect: Dialect,
    framing: Framing,
    /// Of the words of a stream's events.
    spelled: Spelled,
    /// Of the bytes.
    redactor: StreamRedactor,
    stage: Stage,
    open: Open,
}

/// What the provider sent next.
enum Next {
    Piece(Bytes),
    End,
    Fault(Outcome, Reason, &'static str),
}

impl Relay {
    pub(super) fn new(
        (answer, open): (Answer, Open),
        dialect: Dialect,
        is_stream: bool,
        (parts, leased, withdrawn): (Arc<Parts>, Option<Leased>, Withdrawn),
    ) -> Self {
        let framing = if is_stream { Framing::Events(Events::default()) } else { Framing::Document(Vec::new()) };
        let spelled = Spelled::new(parts.published.redactor(), dialect);
        let redactor = parts.published.redactor().stream();
        let cut = cut(&parts, leased.as_ref(), withdrawn);
        Self { answer, parts, _leased: leased, cut, dialect, framing, spelled, redactor, stage: Stage::Flows, open }
    }

    /// The pieces for the client. Dropped before their end, the call ends, and is settled with what was metered.
    pub(super) fn pieces(self) -> Pieces {
        Box::pin(stream::unfold(self, |mut relay| async move {
            let piece = relay.next().await?;
            Some((piece, relay))
        }))
    }

    async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        // The client has taken what came before: all that matters of an answer which says that it is over.
        if self.open.meter.ended && self.open.outcome == Outcome::Left {
            self.open.ends();
        }
        if self.stage == Stage::Over {
            return None;
        }
        loop {
            let passed = match self.read().await {
                Next::Piece(piece) => Ok(self.pass(&piece)),
                Next::End => Ok(self.end()),
                // The end of the connection after the end of the answer.
                Next::Fault(..) if self.open.meter.ended => Ok(self.end()),
                Next::Fault(outcome, reason, detail) => self.breaks(outcome, reason, detail),
            };
            match passed {
                Ok(bytes) if !bytes.is_empty() => return Some(Ok(bytes)),
                Ok(_) if self.stage == Stage::Flows => {}
                Ok(_) => {
                    if self.open.outcome == Outcome::Left {
                        self.open.ends();
                    }
                    return None;
                }
                Err(broken) => return Some(Err(broken)),
            }
        }
    }

    async fn read(&mut self) -> Next {
        let broken = |detail| Next::Fault(Outcome::Broken, Reason::ProviderStreamBroken, detail);
        let piece = tokio::select! {
            (outcome, reason, detail) = &mut self.cut => return Next::Fault(outcome, reason, detail),
            piece = self.answer.piece(ANSWER_RAW_BYTES) => piece,
        };
        match piece {
            Ok(Some(piece)) => Next::Piece(piece),
            Ok(None) => Next::End,
            Err(SendFault::TooLarge(_)) => {
                Next::Fault(Outcome::Broken, Reason::ProviderRejected, "The provider's answer is too large.")
            }
            Err(SendFault::TooSlow(_)) => broken("The provider's answer took too long."),
            Err(_) => broken("The provider's answer broke off."),
        }
    }

    /// Takes a piece, and gives what goes on of it.
    fn pass(&mut self, piece: &Bytes) -> Bytes {
        let events = match &mut self.framing {
            Framing::Document(kept) => {
                if kept.len() + piece.len() <= EVENT_BYTES {
                    kept.extend_from_slice(piece);
                }
                return self.redactor.push(piece).into_owned().into();
            }
            Framing::Events(events) => events,
        };
        events.push(piece);
        let (mut whole, mut is_beyond) = (BytesMut::new(), false);
        while let Some(event) = events.next_event() {
            let (goes_on, said) = self.open.meter.event(&events::data(&event));
            is_beyond = self.open.is_beyond();
            if is_beyond {
                break;
            }
            if goes_on == Event::Pass {
                self.spelled.pass(&event, said, &mut whole);
            }
        }
        let is_too_large = events.held_bytes() > EVENT_BYTES;
        let passed = self.redactor.push(&whole).into_owned();
        if is_too_large {
            let detail = "An event of the provider's answer is too large.";
            return self.told(passed, Outcome::Broken, Reason::ProviderRejected, detail);
        }
        if is_beyond {
            let detail = "The answer was cut where what is reserved for it ends.";
            return self.told(passed, Outcome::Cut, Reason::BudgetExceeded, detail);
        }
        passed.into()
    }

    /// The provider's answer is over.
    fn end(&mut self) -> Bytes {
        let mut passed = Vec::new();
        match &mut self.framing {
            Framing::Document(kept) => self.open.meter.document(kept),
            Framing::Events(events) => {
                let rest = events.rest();
                // An event that lacks only its end is one.
                let (goes_on, said) = self.open.meter.event(&events::data(&rest));
                if goes_on == Event::Pass && self.open.meter.ended {
                    let mut last = BytesMut::new();
                    self.spelled.pass(&rest, said, &mut last);
                    if self.spelled.is_holding() {
                        last.extend_from_slice(b"\n\n");
                    }
                    passed = self.redactor.push(&last).into_owned();
                }
            }
        }
        if !self.open.meter.ended {
            let detail = "The provider's answer ended before its end.";
            return self.told(passed, Outcome::Broken, Reason::ProviderStreamBroken, detail);
        }
        passed.extend(self.rest());
        self.stage = Stage::Over;
        passed.into()
    }

    /// Ends an answer that does not end by itself.
    fn breaks(&mut self, outcome: Outcome, reason: Reason, detail: &str) -> Result<Bytes, BrokenOff> {
        if let Framing::Document(kept) = &self.framing {
            self.open.meter.document(kept);
            self.open.fails(outcome, reason);
            self.stage = Stage::Over;
            return Err(BrokenOff);
        }
        Ok(self.told(Vec::new(), outcome, reason, detail))
    }

    /// Ends a stream of events with one that says why.
    fn told(&mut self, mut passed: Vec<u8>, outcome: Outcome, reason: Reason, detail: &str) -> Bytes {
        passed.extend(self.rest());
        passed.extend(words::ending(self.dialect, reason, detail).into_bytes());
        self.open.fails(outcome, reason);
        self.stage = Stage::Over;
        passed.into()
    }

    /// What is held back.
    fn rest(&mut self) -> Vec<u8> {
        let mut words = BytesMut::new();
        self.spelled.finish(&mut words);
        let mut passed = self.redactor.push(&words).into_owned();
        let fresh = self.parts.published.redactor().stream();
        passed.extend(std::mem::replace(&mut self.redactor, fresh).finish());
        passed
    }
}
