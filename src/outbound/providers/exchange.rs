//! One exchange with a provider over HTTP. What is said and heard is the dialect's; when to stop, how much to read and
//! what a fault means is the same for all of them.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::assembly::Assembly;
use super::line::{self, Endpoint, Line};
use super::{Delta, ModelAnswer, ModelRequest, ProviderError};
use crate::domain::reason::Reason;
use crate::domain::turn::StopReason;
use crate::outbound::client::{Answer, SendFault};
use crate::outbound::{limits, sse};
use crate::vault::secret::Secret;

/// How a provider spells requests and answers.
pub(super) trait Dialect: std::fmt::Debug + Send + Sync {
    /// Path and query of a request; `base` is the path of the route's address.
    fn path(&self, base: &str, request: &ModelRequest) -> String;

    /// Path of an interface that it can be handed requests of as they are.
    fn endpoint(&self, base: &str, endpoint: Endpoint) -> Option<String>;

    /// The header that carries the credential, and what stands before it there.
    fn credential(&self) -> (HeaderName, &'static str) {
        (http::header::AUTHORIZATION, "Bearer ")
    }

    /// Headers of every request.
    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        Vec::new()
    }

    /// The request's body.
    fn body(&self, request: &ModelRequest) -> Value;

    /// What reads one answer.
    fn reader(&self) -> Box<dyn Reader>;
}

/// Puts what a provider sends where it belongs. Lenient: fields and kinds that it does not know are passed over.
pub(super) trait Reader: Send {
    /// Takes an event of a stream. Says whether it was the last.
    fn event(&mut self, value: &Value, assembly: &mut Assembly) -> Result<bool, ProviderError>;

    /// Takes a whole answer, of a server that does not stream. Says whether it is one.
    fn document(&mut self, value: &Value, assembly: &mut Assembly) -> Result<bool, ProviderError>;
}

/// The driver of one route.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) line: Line,
    pub(super) dialect: Box<dyn Dialect>,
}

impl Exchange {
    /// Asks the model, once: whoever records the calls decides about another one.
    pub(super) async fn call(
        &self,
        request: &ModelRequest,
        credential: Option<Secret>,
        deltas: Sender<Delta>,
        cancel: CancellationToken,
    ) -> Result<ModelAnswer, ProviderError> {
        let digest = request.digest();
        let mut assembly = Assembly::new(deltas, digest.get(..8).unwrap_or_default(), credential.clone());
        let attempt = self.attempt(request, credential.as_ref(), &mut assembly);
        let outcome = cancel.run_until_cancelled(attempt).await;
        if outcome.is_some() {
            assembly.pass_on().await;
        }
        match outcome {
            None => Err(ProviderError::cancelled(assembly.into_words())),
            Some(Ok(())) => assembly.into_answer(),
            Some(Err(error)) => Err(error),
        }
    }

    async fn attempt(
        &self,
        request: &ModelRequest,
        credential: Option<&Secret>,
        assembly: &mut Assembly,
    ) -> Result<(), ProviderError> {
        let until = Instant::now() + self.line.call_time;
        let body = Bytes::from(self.dialect.body(request).to_string());
        let path = self.dialect.path(self.line.base_url.path(), request);
        let headers = (&self.dialect.headers().into_iter().collect(), self.secret(credential)?);
        let mut answer = self.line.send(&path, headers, body, until).await?;
        if answer.status() != http::StatusCode::OK {
            return Err(self.line.refusal(answer, credential).await);
        }
        read(&mut answer, self.dialect.reader().as_mut(), assembly).await
    }

    /// Whether requests of this interface can be passed on.
    pub(super) fn passes(&self, endpoint: Endpoint) -> bool {
        self.dialect.endpoint("", endpoint).is_some()
    }

    /// Passes a request on as it is.
    pub(super) async fn pass(
        &self,
        endpoint: Endpoint,
        (given, body): (HeaderMap, Bytes),
        credential: Option<&Secret>,
    ) -> Result<Answer, ProviderError> {
        let base = self.line.base_url.path();
        let path = self.dialect.endpoint(base, endpoint).ok_or_else(|| line::not_spoken(endpoint))?;
        let mut headers: HeaderMap = self.dialect.headers().into_iter().collect();
        headers.extend(given);
        let until = Instant::now() + self.line.call_time;
        self.line.send(&path, (&headers, self.secret(credential)?), body, until).await
    }

    fn secret(&self, credential: Option<&Secret>) -> Result<Option<(HeaderName, HeaderValue)>, ProviderError> {
        let Some(credential) = credential else { return Ok(None) };
        let (name, prefix) = self.dialect.credential();
        Ok(Some((name, line::credential_header(prefix, credential)?)))
    }
}

/// Reads an answer that begins well: a stream of events, or one JSON document from a server that does not stream.
async fn read(answer: &mut Answer, reader: &mut dyn Reader, assembly: &mut Assembly) -> Result<(), ProviderError> {
    let mut start: Vec<u8> = Vec::new();
    let is_document = loop {
        let Some(piece) = next_piece(answer, assembly).await? else { break false };
        let first = piece.iter().copied().find(|byte| !byte.is_ascii_whitespace());
        start.extend_from_slice(&piece);
        if let Some(first) = first {
            break first == b'{';
        }
        // Some servers send empty lines to keep a connection alive; one that sends nothing else is not waited for.
        if start.len() > limits::EVENT_BYTES {
            return Err(document_too_large());
        }
    };
    if is_document {
        while let Some(piece) = next_piece(answer, assembly).await? {
            start.extend_from_slice(&piece);
            if start.len() > limits::EVENT_BYTES {
                return Err(document_too_large());
            }
        }
        document(&start, reader, assembly)?;
        return assembly.end();
    }
    let mut parser = sse::Parser::new(limits::EVENT_BYTES);
    let mut piece = Bytes::from(start);
    let mut events = Vec::new();
    loop {
        let pushed = parser.push(&piece, &mut events);
        for event in events.drain(..) {
            if take(&event.data, reader, assembly)? {
                return Ok(());
            }
        }
        pushed.map_err(|fault| assembly.broken(fault.to_string()))?;
        assembly.pass_on().await;
        match next_piece(answer, assembly).await? {
            Some(next) => piece = next,
            None => break,
        }
    }
    let last = parser.finish().map_err(|fault| assembly.broken(fault.to_string()))?;
    if let Some(event) = last
        && take(&event.data, reader, assembly)?
    {
        return Ok(());
    }
    assembly.end()
}

fn document_too_large() -> ProviderError {
    let detail = format!("the answer passes a limit: {} bytes that are no stream of events", limits::EVENT_BYTES);
    ProviderError::within(Reason::ProviderStreamBroken, detail, String::new())
}

async fn next_piece(answer: &mut Answer, assembly: &mut Assembly) -> Result<Option<Bytes>, ProviderError> {
    answer.piece(limits::ANSWER_RAW_BYTES).await.map_err(|fault| match fault {
        SendFault::TooLarge(_) => {
            super::too_large(format!("{} bytes as sent", limits::ANSWER_RAW_BYTES), assembly.take_words())
        }
        other => assembly.broken(other.to_string()),
    })
}

/// Takes one event of a stream. Says whether it was the last.
fn take(data: &str, reader: &mut dyn Reader, assembly: &mut Assembly) -> Result<bool, ProviderError> {
    let data = data.trim();
    if data == "[DONE]" {
        assembly.finish_at_least(StopReason::EndTurn);
        return Ok(true);
    }
    if data.is_empty() {
        return Ok(false);
    }
    let Ok(value) = serde_json::from_str::<Value>(data) else {
        return Err(assembly.broken("an event of the stream is not JSON".to_owned()));
    };
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Err(assembly.error_object(error));
    }
    let last = reader.event(&value, assembly)?;
    assembly.check()?;
    Ok(last)
}

/// Takes a whole answer in one document.
fn document(bytes: &[u8], reader: &mut dyn Reader, assembly: &mut Assembly) -> Result<(), ProviderError> {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return Err(assembly.broken("the answer is not JSON".to_owned()));
    };
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return Err(assembly.error_object(error));
    }
    if !reader.document(&value, assembly)? {
        let detail = "the answer holds no message: is the address that of a server which speaks as the driver does?";
        return Err(ProviderError::before(Reason::ProviderRejected, detail));
    }
    assembly.finish_at_least(StopReason::EndTurn);
    assembly.check()
}
