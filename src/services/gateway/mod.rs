//! The model gateway: clients that speak to a model provider speak to the daemon instead. Each call is recorded with what is
//! set aside for it before anything is sent, uses the secret of its route, passes through as it comes, and is settled.

mod choice;
mod envelope;
mod events;
mod meter;
mod open;
mod relay;
mod spelled;
mod words;

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, Shared};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use self::choice::{choose, endpoint, fallbacks, spare_key};
use self::envelope::Envelope;
use self::meter::Meter;
use self::open::Open;
use self::relay::Relay;
use super::credentials::{Credentials, Leased};
use super::desk::{self, By, WritePath};
use super::lanes::{Bounds, Lane, Side};
use super::published::Published;
use super::routing::{InForce, Routing};
use crate::config::prices::PriceTable;
use crate::config::routes::ResolvedRoute;
use crate::domain::command::Command;
use crate::domain::ids::{ModelCallId, SessionId};
use crate::domain::ledger::Quote;
use crate::domain::limits::TOKEN_BYTES;
use crate::domain::model_call::{self, Dialect, Outcome};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::stream::Stream;
use crate::domain::turn::{Payer, RouteDecision, RouteReason};
use crate::outbound::client::Answer;
use crate::outbound::limits::ERROR_BODY_BYTES;
use crate::outbound::providers::{ProviderError, reason_of_status};
use crate::platform::tasks::Tasks;

pub use choice::{ModelView, ModelsView};
pub use relay::{BrokenOff, Pieces};
pub use words::error;

/// Headers of a client that its provider is told.
const TOLD: [&str; 3] = ["anthropic-version", "anthropic-beta", "openai-beta"];
/// Tells clients' libraries whether to ask again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Headers of a provider that its client is told.
const ANSWERED: [HeaderName; 9] = [
    RETRY_AFTER,
    HeaderName::from_static("retry-after-ms"),
    SHOULD_RETRY,
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// After how long a client may ask again for a route that takes no further call, milliseconds.
const FULL_ROUTE_MS: u64 = 1_000;

/// Resolves when the caller's token is no longer in force.
pub type Withdrawn = Shared<BoxFuture<'static, ()>>;

/// What the gateway works with.
pub struct Parts {
    /// The routes in force.
    pub routing: Arc<Routing>,
    /// Secrets of routes.
    pub credentials: Credentials,
    /// Prices.
    pub prices: Arc<PriceTable>,
    /// Writes for requests.
    pub door: Arc<dyn WritePath>,
    /// Writes the ends of calls, also while the daemon winds down.
    pub clerk: Arc<dyn WritePath>,
    /// The read side.
    pub published: Published,
    /// The daemon's tasks.
    pub tasks: Tasks,
}

/// The use cases. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Parts>);

/// About how many tokens a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct TokenCount {
    /// Tokens sent.
    pub input_tokens: u64,
}

/// A client's call.
pub struct Ask {
    /// On whose behalf.
    pub by: By,
    /// How the client speaks.
    pub dialect: Dialect,
    /// The session that pays as well.
    pub session_id: Option<SessionId>,
    /// The client's headers.
    pub headers: HeaderMap,
    /// The body: one JSON object without repeated keys.
    pub raw: bytes::Bytes,
    /// Resolves when the caller's token is no longer in force.
    pub withdrawn: Withdrawn,
}

/// The provider's answer.
pub struct Passed {
    /// The call.
    pub model_call_id: ModelCallId,
    /// The route that answers and the model, `<route>/<model>`.
    pub route: String,
    /// Status.
    pub status: http::StatusCode,
    /// Headers for the client.
    pub headers: HeaderMap,
    /// The body.
    pub pieces: Pieces,
}

impl Gateway {
    /// A gateway that works with these.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The models that clients can ask for.
    pub fn models(&self) -> ModelsView {
        ModelsView::of(&self.0.routing.now())
    }

    /// About how many tokens a request has, by the rule that sets them aside. Nothing is sent or recorded.
    pub fn count_tokens(&self, dialect: Dialect, raw: &[u8]) -> Result<TokenCount, Refusal> {
        choose(&self.0.routing.now(), dialect, &Envelope::read(raw, dialect)?)?;
        Ok(TokenCount { input_tokens: input_tokens(raw) })
    }

    /// Makes a call: records it, sends it, and hands the answer back as it comes. Where a provider cannot be had and has begun
    /// nothing, the next fallback of the route is asked, which is another call.
    pub async fn call(&self, ask: Ask) -> Result<Passed, Refusal> {
        let envelope = Envelope::read(&ask.raw, ask.dialect)?;
        // The whole call goes by what is in force now: address and secret belong together.
        let now = self.0.routing.now();
        let first = choose(&now, ask.dialect, &envelope)?;
        let others = fallbacks(&now, ask.dialect, &envelope, &first.route_id);
        let mut answered = self.attempt((&ask, &envelope), (&first, &now), None, !others.is_empty()).await;
        for (at, next) in others.iter().enumerate() {
            let Some(after) = unanswered(&answered) else { break };
            let stands_in = Some((first.route_id.as_str(), after));
            let has_next = at + 1 < others.len();
            answered = self.attempt((&ask, &envelope), (next, &now), stands_in, has_next).await;
        }
        answered
    }

    /// Makes a call over one route, which may stand in for another that was not had for this reason.
    async fn attempt(
        &self,
        (ask, envelope): (&Ask, &Envelope<'_>),
        (route, now): (&ResolvedRoute, &InForce),
        stands_in: Option<(&str, Reason)>,
        has_next: bool,
    ) -> Result<Passed, Refusal> {
        let lane = self.lane(route, now)?;
        let request = self.request(ask, envelope, (route, now), stands_in)?;
        let lease_id = request.credential.as_ref().map(|used| used.lease_id);
        let reserved = self.reserve(ask, envelope, (request, lane)).await;
        if let (Err(_), Some(lease_id)) = (&reserved, lease_id) {
            self.0.credentials.withdraw(lease_id);
        }
        let mut open = reserved?;
        open.has_next = has_next;
        let holder = Stream::ModelCall(open.id);
        let leased = lease_id.map(|lease_id| self.0.credentials.redeem(lease_id, holder)).transpose();
        let leased = leased.inspect_err(|refusal| open.code = Some(refusal.reason))?;
        let body = envelope.written(&route.model, open.reservation.output_tokens, spare_key(ask.dialect, route));
        let headers = told(&ask.headers);
        // From here on nobody knows what it took until the answer comes.
        open.outcome = Outcome::Left;
        let secret = leased.as_ref().map(|leased| &leased.secret);
        let sending = now.providers.pass(route, endpoint(ask.dialect), (headers, body.into()), secret);
        let sent = tokio::select! {
            sent = sending => sent.map_err(|error| unsent(&error, &mut open)),
            () = revoked(leased.as_ref()) => Err(given_up(Reason::VaultLeaseRevoked, &mut open)),
            () = ask.withdrawn.clone() => Err(given_up(Reason::AuthInvalid, &mut open)),
            () = self.0.tasks.stopping() => {
                given_up(Reason::RequestOverloaded, &mut open);
                let detail = "The daemon is stopping; the provider may have taken the call.";
                // Whoever asks again may pay twice.
                Err(Refusal::new(Reason::ProviderStreamBroken, detail))
            }
        };
        self.answer(sent?, (ask.dialect, route), (leased, ask.withdrawn.clone()), open).await
    }

    /// The record of the intent.
    fn request(
        &self,
        ask: &Ask,
        envelope: &Envelope<'_>,
        (route, now): (&ResolvedRoute, &InForce),
        stands_in: Option<(&str, Reason)>,
    ) -> Result<model_call::Request, Refusal> {
        let terms = now.routes.get(&route.route_id).map(|route| &route.terms);
        let priced = terms.map_or(route.model.as_str(), |terms| terms.priced_as(&route.model));
        let input_tokens = input_tokens(&ask.raw);
        if let Some(most) = terms.and_then(|terms| terms.input_limit_passed(input_tokens)) {
            let detail = format!("The input is estimated at {input_tokens} tokens; the route takes {most}.");
            return Err(Refusal::new(Reason::RequestTooLarge, detail));
        }
        let subjects = model_call::subjects(&ask.by.provenance.actor.id, ask.session_id, &route.route_id);
        let reference = terms.and_then(|terms| terms.auth_ref.as_deref());
        let offer = |reference| self.0.credentials.offer(&ask.by.org, reference, subjects);
        Ok(model_call::Request {
            org: ask.by.org.clone(),
            route: route.route_id.clone(),
            driver: route.driver.name().to_owned(),
            model: route.model.clone(),
            dialect: ask.dialect,
            stream: envelope.stream,
            body_sha256: data_encoding::HEXLOWER.encode(&Sha256::digest(&ask.raw)),
            session_id: ask.session_id,
            quote: Quote {
                input_tokens,
                output_tokens: envelope.output_tokens.into_iter().chain(route.max_output_tokens.map(u64::from)).min(),
                answers: envelope.answers,
                price: self.0.prices.price(priced),
            },
            credential: reference.map(offer).transpose()?,
            route_decision: stands_in.map(|(route, after)| RouteDecision {
                why: RouteReason::Fallback,
                payer: Payer::Operator,
                auth_ref: reference.map(str::to_owned),
                in_place_of: Some(route.to_owned()),
                after: Some(after),
            }),
        })
    }

    /// A place among the calls that the route takes at a time, where that is bounded.
    fn lane(&self, route: &ResolvedRoute, now: &InForce) -> Result<Option<Lane>, Refusal> {
        let Some(most) = now.routes.get(&route.route_id).and_then(|route| route.terms.requests_at_a_time) else {
            return Ok(None);
        };
        let bounds = Bounds { own: usize::MAX, all: most as usize };
        let lane = self.0.routing.lanes().enter(&route.route_id, Side::Client, bounds);
        lane.map(Some).ok_or_else(|| {
            let detail = format!("The route {} takes {most} calls at a time.", route.route_id);
            Refusal::new(Reason::RequestOverloaded, detail).retry_after_ms(FULL_ROUTE_MS)
        })
    }

    /// Records the intent, in a task of its own: whoever hangs up meanwhile leaves nothing open.
    async fn reserve(
        &self,
        ask: &Ask,
        envelope: &Envelope<'_>,
        (request, lane): (model_call::Request, Option<Lane>),
    ) -> Result<Open, Refusal> {
        let (parts, by, route) = (Arc::clone(&self.0), ask.by.provenance.clone(), request.route.clone());
        let meter = Meter::new(ask.dialect, envelope.wants_usage, envelope.answers);
        let recording = self.0.tasks.spawn(async move {
            let command = Command::RequestModelCall(Box::new(request));
            let committed = parts.door.submit(command, by.clone(), desk::Lane::Ordinary).await?;
            Open::new(parts, committed, (by, route, lane), meter)
        });
        recording.await.map_err(|_| Refusal::from(Reason::InternalError))?
    }

    /// Begins to hand an answer on.
    async fn answer(
        &self,
        mut answer: Answer,
        (dialect, route): (Dialect, &ResolvedRoute),
        (leased, withdrawn): (Option<Leased>, Withdrawn),
        mut open: Open,
    ) -> Result<Passed, Refusal> {
        let status = answer.status();
        open.status = Some(status.as_u16());
        let redactor = self.0.published.redactor();
        let mut headers = answer.headers(&ANSWERED);
        let echoes: Vec<HeaderName> = headers
            .iter()
            .filter(|(_, value)| redactor.strict_bytes(value.as_bytes()) != value.as_bytes())
            .map(|(name, _)| name.clone())
            .collect();
        for name in &echoes {
            headers.remove(name);
        }
        let (model_call_id, route) = (open.id, format!("{}/{}", route.route_id, route.model));
        if status != http::StatusCode::OK {
            let code = code_of(status);
            open.fails(not_begun(code), code);
            let body = answer.beginning(ERROR_BODY_BYTES).await;
            // A key that the provider refuses is the operator's, not the client's.
            let is_shown = status.as_u16() >= 400 && !matches!(status.as_u16(), 401 | 403);
            if !is_shown || serde_json::from_slice::<serde_json::Map<_, _>>(&body).is_err() {
                return Err(Refusal::new(code, format!("The provider of the route answers with HTTP {status}.")));
            }
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if open.outcome == Outcome::Unanswered {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            let clean = bytes::Bytes::from(redactor.strict_bytes(&body).into_owned());
            let pieces = futures_util::stream::once(std::future::ready(Ok(clean))).boxed();
            return Ok(Passed { model_call_id, route, status, headers, pieces });
        }
        let media = answer.header(CONTENT_TYPE).unwrap_or_default().trim().to_ascii_lowercase();
        let is_stream = media.starts_with("text/event-stream");
        if !is_stream && !media.starts_with("application/json") {
            open.fails(Outcome::Broken, Reason::ProviderRejected);
            let detail = "The provider answers with neither JSON nor a stream of events.";
            return Err(Refusal::new(Reason::ProviderRejected, detail));
        }
        let media = if is_stream { "text/event-stream" } else { "application/json" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        let relay = Relay::new((answer, open), dialect, is_stream, (Arc::clone(&self.0), leased, withdrawn));
        Ok(Passed { model_call_id, route, status, headers, pieces: relay.pieces() })
    }
}

/// Tokens of a request, as estimated.
fn input_tokens(raw: &[u8]) -> u64 {
    raw.len().div_ceil(TOKEN_BYTES) as u64
}

/// The headers that the provider is told.
fn told(given: &HeaderMap) -> HeaderMap {
    let known = TOLD.into_iter().map(HeaderName::from_static);
    known.filter_map(|name| given.get(&name).cloned().map(|value| (name, value))).collect()
}

/// Resolves when the lease is revoked.
async fn revoked(leased: Option<&Leased>) {
    match leased {
        Some(leased) => leased.revoked.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Whether another route is asked after this.
fn leads_on(code: Reason) -> bool {
    [Reason::ProviderUnavailable, Reason::ProviderRateLimited].contains(&code)
}

/// What a status other than 200 means. After these an answer may have been made, and paid for.
fn code_of(status: http::StatusCode) -> Reason {
    match status.as_u16() {
        408 | 502 => Reason::ProviderStreamBroken,
        status => reason_of_status(status),
    }
}

/// Why a provider that has begun nothing could not be had.
fn unanswered(answered: &Result<Passed, Refusal>) -> Option<Reason> {
    let code = match answered {
        Ok(passed) if passed.status == http::StatusCode::OK => return None,
        Ok(passed) => code_of(passed.status),
        Err(refusal) => refusal.reason,
    };
    Some(code).filter(|code| leads_on(*code))
}

/// A call that has no answer.
fn unsent(error: &ProviderError, open: &mut Open) -> Refusal {
    let taken = error.reason == Reason::ProviderStreamBroken;
    open.fails(if taken { Outcome::Unanswered } else { Outcome::NotSent }, error.reason);
    let refusal = Refusal::new(error.reason, error.detail.clone());
    Refusal { retry_after_ms: error.retry_after_ms, ..refusal }
}

/// What becomes of a call that the provider refuses for this before it has begun an answer.
fn not_begun(code: Reason) -> Outcome {
    if code.surely_no_effect() { Outcome::Refused } else { Outcome::Unanswered }
}

/// A call that is given up before its answer comes.
fn given_up(reason: Reason, open: &mut Open) -> Refusal {
    open.fails(Outcome::Cut, reason);
    reason.into()
}
