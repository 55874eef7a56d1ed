//! The door itself: takes each request through the checks that come before any route, calls the route, and writes what
//! every answer has in common: the request's id, the problem's body, numbers, a log line, an entry in the access log.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use tokio::time::Instant;
use tower::Service as _;

use super::at_work::KeysAtWork;
use super::audit::{AuditSink, Entry, Line};
use super::auth::{self, Authentication, ProxySecret};
use super::canonical::{self, Hosts};
use super::connection::{
    AnswerBody, BodyBudget, BodyShare, HeadFault, InFlight, RequestBody, SCREEN_HEADER, too_large,
};
use super::cors::{self, Origin};
use super::dialect;
use super::limits::Limits;
use super::metrics::{EdgeMetrics, RouteTable};
use super::passage::{self, Passage, REQUEST_ID, Source};
use super::problem;
use super::routes::{Route, RouteFacts, build};
use super::sources::Failures;
use crate::domain::ids::RequestId;
use crate::domain::reason::{Reason, Refusal};
use crate::platform::clock::Clock;
use crate::platform::entropy::Entropy;
use crate::platform::keyed::FingerprintKey;
use crate::platform::tasks::Tasks;
use crate::vault::redaction::Redactor;

/// What a door is made of.
pub struct EdgeParts {
    /// Its limits.
    pub limits: Limits,
    /// How callers prove who they are.
    pub authentication: Authentication,
    /// The names it answers to.
    pub hosts: Hosts,
    /// The secret of the operator's proxy.
    pub proxy_secret: Option<ProxySecret>,
    /// Origins whose pages may call it.
    pub cors_origins: Vec<String>,
    /// The key of credentials' fingerprints and bodies' MACs.
    pub fingerprint: FingerprintKey,
    /// Its numbers.
    pub metrics: EdgeMetrics,
    /// Knows the secrets that no answer may hold.
    pub redactor: Redactor,
    /// The access log.
    pub audit: AuditSink,
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The daemon's tasks.
    pub tasks: Tasks,
}

/// What all requests of a door share.
pub struct Gate {
    /// Its limits.
    pub limits: Limits,
    /// How callers prove who they are.
    pub authentication: Authentication,
    /// The key of credentials' fingerprints and bodies' MACs.
    pub fingerprint: FingerprintKey,
    /// Its numbers.
    pub metrics: EdgeMetrics,
    /// Knows the secrets that no answer may hold.
    pub redactor: Redactor,
    /// The daemon's tasks; a drain ends the streams.
    pub tasks: Tasks,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) failures: Failures,
    pub(super) openapi: Bytes,
    entropy: Arc<dyn Entropy>,
    pub(super) keys: KeysAtWork,
    bodies: BodyBudget,
    answers: BodyBudget,
    hosts: Hosts,
    proxy_secret: Option<ProxySecret>,
    cors_origins: Vec<String>,
    origin_failures: Failures,
    audit: AuditSink,
    facts: Vec<RouteFacts>,
    numbers: RouteTable,
}

/// One door with its routes.
pub struct Edge {
    gate: Arc<Gate>,
    paths: Router,
}

/// What is known about one connection.
pub struct ConnectionFacts {
    peer: Source,
    pub(super) in_flight: Arc<InFlight>,
    id_base: u128,
    requests: AtomicU64,
    /// The admission that repeats on this connection, and how often it did since it was written.
    admitted: Mutex<Option<Entry>>,
    audit: AuditSink,
}

impl Drop for ConnectionFacts {
    fn drop(&mut self) {
        let last = self.admitted.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(entry) = last.filter(|entry| entry.count > 0) {
            self.audit.put(entry);
        }
    }
}

impl Edge {
    /// A door with these routes; `state` is what their handlers share.
    pub fn new<S: Clone + Send + Sync + 'static>(parts: EdgeParts, routes: Vec<Route<S>>, state: S) -> Arc<Self> {
        let facts: Vec<RouteFacts> = routes.iter().map(Route::facts).collect();
        let limits = parts.limits;
        let failures = |most| Failures::new(most, limits.failure_window_ms, limits.failure_sources);
        let gate = Arc::new(Gate {
            numbers: RouteTable::new(&parts.metrics, facts.iter().map(|route| (route.method, route.pattern))),
            openapi: super::openapi::document(&facts),
            failures: failures(limits.auth_failures),
            origin_failures: failures(limits.origin_refusals),
            keys: KeysAtWork::default(),
            bodies: BodyBudget::new(limits.all_bodies_bytes),
            answers: BodyBudget::new(limits.all_answers_bytes),
            limits,
            authentication: parts.authentication,
            fingerprint: parts.fingerprint,
            metrics: parts.metrics,
            redactor: parts.redactor,
            tasks: parts.tasks,
            clock: parts.clock,
            entropy: parts.entropy,
            hosts: parts.hosts,
            proxy_secret: parts.proxy_secret,
            cors_origins: parts.cors_origins,
            audit: parts.audit,
            facts,
        });
        let paths = build(routes, state, &gate);
        Arc::new(Self { gate, paths })
    }

    /// What all requests share.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// A new connection from this peer.
    pub(super) fn connection(&self, peer: Source) -> ConnectionFacts {
        ConnectionFacts {
            peer,
            in_flight: Arc::default(),
            id_base: self.gate.entropy.u128(),
            requests: AtomicU64::new(0),
            admitted: Mutex::default(),
            audit: self.gate.audit.clone(),
        }
    }

    /// Answers one request.
    pub(super) async fn serve(
        &self,
        connection: &ConnectionFacts,
        request: Request<Incoming>,
    ) -> hyper::Response<AnswerBody> {
        let answering = connection.in_flight.begin();
        let started = Instant::now();
        let (mut parts, body) = request.into_parts();
        let passage = Arc::new(self.passage(connection, &mut parts));
        let method = parts.method.clone();
        let screened = parts.headers.contains_key(SCREEN_HEADER);
        let origin = cors::origin(&parts, &self.gate.cors_origins);
        let body = RequestBody::new(body, passage.clone(), Arc::clone(&connection.in_flight));
        let mut response = match self.pass(&passage, parts, body, &origin).await {
            Ok(response) => render(response, &passage),
            Err(refusal) => refused(&refusal, &passage),
        };
        let held = self.hold(&mut response, &passage, &method);
        connection.in_flight.rate(response.body().size_hint().exact().is_some());
        if screened || connection.in_flight.is_unread() {
            // What is left of the body is not read as a request. The client hears so, and is listened to until it stops:
            // closing on what it still sends would take the answer from it.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            connection.in_flight.linger();
        }
        finish(&mut response, &passage, origin);
        self.record(connection, &passage, &method, response.status(), started);
        response.map(|body| AnswerBody::new(body, answering, held))
    }

    /// Takes a large answer's share of the memory for answers. Where none is left, a read is refused in its place; what
    /// changed something is told all the same, because it has happened. A stream makes its frames as they are read.
    fn hold(&self, response: &mut Response, passage: &Passage, method: &Method) -> Option<BodyShare> {
        let size = response.body().size_hint().exact().filter(|size| *size > self.gate.limits.small_answer_bytes)?;
        let share = self.gate.answers.share();
        if share.take(size) {
            return Some(share);
        }
        if matches!(*method, Method::GET | Method::HEAD) {
            let detail = "the answers to other requests take all the memory that there is for answers";
            *response = refused(&Refusal::new(Reason::RequestOverloaded, detail), passage);
        }
        None
    }

    fn passage(&self, connection: &ConnectionFacts, parts: &mut Parts) -> Passage {
        let source = auth::source(&mut parts.headers, connection.peer, self.gate.proxy_secret.as_ref());
        let hides = |id: &[u8]| self.gate.redactor.found(id).is_some();
        let request_id = passage::request_id(&parts.headers, hides, || {
            let number = u128::from(connection.requests.fetch_add(1, Ordering::Relaxed));
            let random = connection.id_base.wrapping_add(number);
            RequestId::from_ulid(ulid::Ulid::from_parts(self.gate.clock.wall_ms(), random))
        });
        Passage {
            request_id,
            peer: connection.peer,
            source,
            dialect: dialect::of(parts.uri.path(), &parts.headers),
            held: self.gate.bodies.share(),
            gate: self.gate.clone(),
            route: OnceLock::new(),
            caller: OnceLock::new(),
            refused: OnceLock::new(),
        }
    }

    /// The checks before any route, then the route.
    async fn pass(
        &self,
        passage: &Arc<Passage>,
        mut parts: Parts,
        body: RequestBody,
        origin: &Origin,
    ) -> Result<Response, Refusal> {
        let gate = &self.gate;
        if let Some(number) = parts.headers.get(SCREEN_HEADER) {
            let number = number.to_str().ok().and_then(|text| text.parse().ok());
            let fault = number.and_then(HeadFault::from_number).unwrap_or(HeadFault::HeaderLine);
            return Err(fault.refusal());
        }
        let has_body = !body.is_end_stream();
        canonical::check(&parts, &gate.hosts, has_body)?;
        gate.authentication.check_directness(&parts.headers)?;
        if body.size_hint().lower() > passage.body_bytes() {
            return Err(too_large(passage.body_bytes()));
        }
        if let (Origin::Foreign, Some(reason)) = (origin, cors::refusal(&parts)) {
            let wait = gate.origin_failures.count(passage.source, gate.clock.boot_ms());
            return Err(wait.map_or(reason.into(), |wait_ms| {
                Refusal::from(Reason::CorsOriginRateLimited).retry_after_ms(wait_ms)
            }));
        }
        if matches!(origin, Origin::Allowed(_)) && cors::is_preflight(&parts) {
            return Ok(cors::preflight());
        }
        parts.extensions.insert(passage.clone());
        let body = if has_body { Body::new(body) } else { Body::empty() };
        let answer = self.paths.clone().call(Request::from_parts(parts, body));
        match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(Ok(response)) => Ok(response),
            Err(_) => {
                tracing::error!(request_id = passage.id(), "a handler panicked");
                Err(Reason::InternalError.into())
            }
        }
    }

    /// Numbers, log and access log. Nothing here waits.
    fn record(
        &self,
        connection: &ConnectionFacts,
        passage: &Passage,
        method: &Method,
        status: StatusCode,
        started: Instant,
    ) {
        let index = passage.route.get().copied();
        let took = started.elapsed();
        self.gate.numbers.count(index, status.as_u16(), took);
        let route = index.and_then(|index| self.gate.facts.get(index)).map_or("-", |facts| facts.pattern);
        let (request_id, status, ms) = (passage.id(), status.as_u16(), took.as_secs_f64() * 1e3);
        let code = passage.refused.get().map_or("", |reason| reason.code());
        match status {
            500.. => tracing::warn!(request_id, %method, route, status, code, ms, "answered"),
            400.. => tracing::info!(request_id, %method, route, status, code, ms, "answered"),
            _ => tracing::debug!(request_id, %method, route, status, ms, "answered"),
        }
        if let Some(reason) = passage.refused.get() {
            self.gate.metrics.refused(*reason);
            if matches!(reason.http_status(), 401 | 403 | 421 | 429) {
                self.gate.audit.put(entry(passage, method, route, Some(*reason)));
            }
        } else if passage.caller.get().is_some() {
            admit(connection, passage, method, route);
        }
    }
}

fn entry(passage: &Passage, method: &Method, route: &'static str, refused: Option<Reason>) -> Entry {
    let caller = passage.caller.get();
    let line = Line {
        code: refused.map_or("admitted", Reason::code),
        seed_code: refused.and_then(Reason::seed_code),
        method: method.to_string(),
        route,
        source: passage.source.to_string(),
        peer: passage.peer.to_string(),
        principal: caller.map(|caller| caller.principal().to_owned()),
        fp: caller.and_then(|caller| caller.actor().credential.as_ref()).map(|credential| credential.fp.clone()),
    };
    Entry { line, request_id: passage.id().to_owned(), count: 1 }
}

/// Notes an admission. Equal ones of a connection are counted there and written when another comes or the connection ends.
fn admit(connection: &ConnectionFacts, passage: &Passage, method: &Method, route: &'static str) {
    let mut last = connection.admitted.lock().unwrap_or_else(PoisonError::into_inner);
    let caller = passage.caller.get();
    if let Some(entry) = last.as_mut() {
        let line = &entry.line;
        let fp = caller.and_then(|caller| caller.actor().credential.as_ref()).map(|credential| &credential.fp);
        if line.route == route && line.method == method.as_str() && line.fp.as_ref() == fp {
            entry.count += 1;
            return;
        }
    }
    if let Some(before) = last.take().filter(|entry| entry.count > 0) {
        connection.audit.put(before);
    }
    let fresh = entry(passage, method, route, None);
    connection.audit.put(fresh.clone());
    *last = Some(Entry { count: 0, ..fresh });
}

fn refused(refusal: &Refusal, passage: &Passage) -> Response {
    let _ = passage.refused.set(refusal.reason);
    let clean = problem::clean(refusal, &passage.gate.redactor);
    let response = problem::response(&clean, passage.id());
    match passage.dialect {
        Some(dialect) => dialect::spoken(response, dialect, &clean, passage.id()),
        None => response,
    }
}

/// Gives refusals their body, and answers that a library made by itself the shape of refusals.
fn render(mut response: Response, passage: &Passage) -> Response {
    let refusal = match response.extensions_mut().remove::<Refusal>() {
        Some(refusal) => refusal,
        None if response.status().as_u16() >= 400 && is_library_made(&response) => {
            problem::of_status(response.status())
        }
        None => return response,
    };
    let mut rendered = refused(&refusal, passage);
    if response.extensions().get::<problem::StatusOfRoute>().is_some() {
        let clean = problem::clean(&refusal, &passage.gate.redactor);
        rendered = problem::response_with(&clean, response.status(), passage.id());
    }
    for (name, value) in response.headers() {
        if !matches!(*name, CONTENT_TYPE | hyper::header::CONTENT_LENGTH) {
            rendered.headers_mut().insert(name, value.clone());
        }
    }
    rendered
}

fn is_library_made(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).is_none_or(|value| value.as_bytes().starts_with(b"text/plain"))
}

fn finish(response: &mut Response, passage: &Passage, origin: Origin) {
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, passage.request_id.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(const { HeaderValue::from_static("no-store") });
    if let Origin::Allowed(origin) = origin {
        cors::allow_origin(headers, origin);
    }
}
