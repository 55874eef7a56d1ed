//! The driver for chat completions over HTTP, and for the many servers that speak them more or less.

mod answer;
mod faults;
mod request;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use http_body_util::Full;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::answer::Assembly;
use super::{Delta, ModelAnswer, ModelRequest, ProviderError};
use crate::config::base_url::BaseUrl;
use crate::domain::reason::Reason;
use crate::outbound::client::{Answer, Client, SendFault};
use crate::outbound::{limits, retry, sse};
use crate::platform::clock::Clock;

/// The driver of one route.
#[derive(Clone)]
pub(super) struct OpenAi {
    pub(super) client: Client,
    pub(super) base_url: BaseUrl,
    pub(super) call_time: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenAi").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl OpenAi {
    /// Asks the model, once: whoever records the calls decides about another one.
    pub(super) async fn call(
        &self,
        request: &ModelRequest,
        deltas: Sender<Delta>,
        cancel: CancellationToken,
    ) -> Result<ModelAnswer, ProviderError> {
        let until = Instant::now() + self.call_time;
        let body = Bytes::from(request::body(request).to_string());
        let digest = request.digest();
        let mut assembly = Assembly::new(deltas, digest.get(..8).unwrap_or_default());
        let outcome = cancel.run_until_cancelled(self.attempt(body, until, &mut assembly)).await;
        if outcome.is_some() {
            assembly.pass_on().await;
        }
        match outcome {
            None => Err(ProviderError::cancelled(assembly.into_words())),
            Some(Ok(())) => assembly.into_answer(),
            Some(Err(error)) => Err(error),
        }
    }

    async fn attempt(&self, body: Bytes, until: Instant, assembly: &mut Assembly) -> Result<(), ProviderError> {
        let request = self.request(body)?;
        let mut answer = self.client.send(request, until).await.map_err(|fault| faults::before_answer(&fault))?;
        if answer.status() != http::StatusCode::OK {
            let wall_ms = self.clock.wall_ms();
            let retry_after = answer.header(header::RETRY_AFTER);
            let retry_after_ms = retry_after.and_then(|header| retry::retry_after_ms(header, wall_ms));
            let status = answer.status().as_u16();
            let beginning = answer.beginning(limits::ERROR_BODY_BYTES).await;
            return Err(faults::of_status(status, &beginning, retry_after_ms));
        }
        if answer.header(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            let detail = "the provider compresses its answer although it was asked not to";
            return Err(ProviderError::before(Reason::ProviderRejected, detail));
        }
        read(&mut answer, assembly).await
    }

    fn request(&self, body: Bytes) -> Result<http::Request<Full<Bytes>>, ProviderError> {
        let url = &self.base_url;
        let broken = |_| ProviderError::before(Reason::RouteNotReady, "the route's address makes no request");
        let uri = http::Uri::builder()
            .scheme("http")
            .authority(format!("{}:{}", url.host(), url.port()))
            .path_and_query(format!("{}/chat/completions", url.path()))
            .build()
            .map_err(broken)?;
        http::Request::post(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream, application/json")
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::USER_AGENT, concat!("chancery/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(broken)
    }
}

/// Reads an answer that begins well: a stream of events, or one JSON document from a server that does not stream.
async fn read(answer: &mut Answer, assembly: &mut Assembly) -> Result<(), ProviderError> {
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
        assembly.document(&start)?;
        return assembly.end();
    }
    let mut parser = sse::Parser::new(limits::EVENT_BYTES);
    let mut piece = Bytes::from(start);
    let mut events = Vec::new();
    loop {
        let pushed = parser.push(&piece, &mut events);
        for event in events.drain(..) {
            if assembly.event(&event.data)? {
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
        && assembly.event(&event.data)?
    {
        return Ok(());
    }
    assembly.end()
}

fn document_too_large() -> ProviderError {
    super::too_large(format!("{} bytes that are no stream of events", limits::EVENT_BYTES), String::new())
}

async fn next_piece(answer: &mut Answer, assembly: &mut Assembly) -> Result<Option<Bytes>, ProviderError> {
    answer.piece(limits::ANSWER_RAW_BYTES).await.map_err(|fault| match fault {
        SendFault::TooLarge(_) => {
            super::too_large(format!("{} bytes as sent", limits::ANSWER_RAW_BYTES), assembly.take_words())
        }
        other => assembly.broken(other.to_string()),
    })
}
