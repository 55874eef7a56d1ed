//! The way to one route's provider: addresses put together from parts, headers that nobody else sets, one request, and
//! what an answer that is refused means.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{ProviderError, faults};
use crate::config::base_url::BaseUrl;
use crate::domain::reason::Reason;
use crate::outbound::client::{Answer, Client};
use crate::outbound::{limits, retry};
use crate::platform::clock::Clock;
use crate::vault::secret::Secret;

/// An interface that clients speak and that is passed on as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `chat/completions`.
    ChatCompletions,
    /// `responses`.
    Responses,
    /// `messages`.
    Messages,
}

/// The error of a route whose driver does not speak an interface.
pub(super) fn not_spoken(endpoint: Endpoint) -> ProviderError {
    let detail = format!("the route's driver does not speak {endpoint:?}");
    ProviderError::before(Reason::RequestInvalid, detail)
}

/// Headers that only this file, or the connection, sets.
const OURS: [HeaderName; 10] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    header::COOKIE,
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONTENT_TYPE,
    header::ACCEPT_ENCODING,
];

/// One route's way out.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) client: Client,
    pub(super) base_url: BaseUrl,
    pub(super) call_time: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// A credential as a header, which no log of headers shows.
pub(super) fn credential_header(prefix: &str, credential: &Secret) -> Result<HeaderValue, ProviderError> {
    let text = Zeroizing::new(format!("{prefix}{}", credential.expose()));
    let unfit = |_| ProviderError::before(Reason::RouteNotReady, "the credential holds what no header can carry");
    let mut value = HeaderValue::from_str(&text).map_err(unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

impl Line {
    /// Sends a body to a path, and waits for the head of the answer. `path` begins with the base address's own.
    pub(super) async fn send(
        &self,
        path: &str,
        (given, secret): (&HeaderMap, Option<(HeaderName, HeaderValue)>),
        body: Bytes,
        until: Instant,
    ) -> Result<Answer, ProviderError> {
        let url = &self.base_url;
        let broken = |_| ProviderError::before(Reason::RouteNotReady, "the route's address makes no request");
        let uri = http::Uri::builder()
            .scheme(url.scheme())
            .authority(format!("{}:{}", url.host(), url.port()))
            .path_and_query(path)
            .build()
            .map_err(broken)?;
        let mut request = http::Request::post(uri).body(Full::new(body)).map_err(broken)?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("chancery/", env!("CARGO_PKG_VERSION"))));
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        for (name, value) in given.iter().filter(|(name, _)| !OURS.contains(name)) {
            headers.insert(name, value.clone());
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.extend(secret);
        let answer = self.client.send(request, until).await.map_err(|fault| faults::before_answer(&fault))?;
        if answer.header(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            let detail = "the provider compresses its answer although it was asked not to";
            // It was made, and paid for, all the same.
            return Err(ProviderError::before(Reason::ProviderStreamBroken, detail));
        }
        Ok(answer)
    }

    /// What an answer with another status than 200 means.
    pub(super) async fn refusal(&self, mut answer: Answer, credential: Option<&Secret>) -> ProviderError {
        let wall_ms = self.clock.wall_ms();
        let retry_after = answer.header(header::RETRY_AFTER);
        let retry_after_ms = retry_after.and_then(|header| retry::retry_after_ms(header, wall_ms));
        let status = answer.status().as_u16();
        let beginning = answer.beginning(limits::ERROR_BODY_BYTES).await;
        faults::of_status(status, &beginning, retry_after_ms, credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_log_of_headers_shows_a_credential() {
        let header = credential_header("Bearer ", &Secret::parse(b"the-key-of-the-route").unwrap()).unwrap();
        assert_eq!(
            (header.as_bytes(), format!("{header:?}").as_str()),
            (&b"Bearer the-key-of-the-route"[..], "Sensitive")
        );
    }
}
