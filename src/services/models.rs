//! The runner's way to the model providers: the routes choose, the drivers speak.

use std::num::NonZeroU32;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::credentials::{Credentials, Leased};
use super::lanes::Lanes;
use super::numbers::LastCall;
use super::routing::Routing;
use super::runner::{Choice, ModelAnswer, ModelCaller, ModelFailure, ModelRequest, Piece, RouteTerms, Wish};
use crate::agent::transcript::{CallText, Message};
use crate::config::prices::PriceTable;
use crate::config::routes::{Asked, Driver, ResolvedRoute, Routes};
use crate::domain::credential::CredentialUse;
use crate::domain::ledger::Quote;
use crate::domain::limits::TOKEN_BYTES;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::stream::Stream;
use crate::outbound::providers::{self, Delta, RequestedCall, ToolSpec};
use crate::platform::clock::Clock;

/// Live pieces that may wait for whoever watches.
const WAITING_PIECES: usize = 64;

/// Routes and the drivers behind them.
pub struct RoutedModels {
    routing: Arc<Routing>,
    credentials: Credentials,
    prices: Arc<PriceTable>,
    clock: Arc<dyn Clock>,
}

impl RoutedModels {
    /// Speaks over these drivers, with secrets from there, at these prices.
    pub fn new(
        routing: Arc<Routing>,
        (credentials, prices): (Credentials, Arc<PriceTable>),
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { routing, credentials, prices, clock }
    }

    /// The secret that the record of the intent names, if the route still names the same: what was kept for one address
    /// must not go to another.
    fn redeem(&self, routes: &Routes, request: &ModelRequest) -> Result<Option<Leased>, ModelFailure> {
        let failure = |detail: &str| ModelFailure {
            code: Reason::RouteNotReady,
            detail: detail.to_owned(),
            retry_after_ms: None,
            partial: None,
        };
        let named = routes.get(&request.route).and_then(|route| route.terms.auth_ref.as_ref());
        if named != request.credential.as_ref().map(|used| &used.reference) {
            return Err(failure("The route names another secret than it did; nothing was sent."));
        }
        let Some(used) = &request.credential else { return Ok(None) };
        self.credentials.redeem(used.lease_id, Stream::Run(request.run_id)).map(Some).map_err(|refusal| {
            // Its record may also have waited longer than a lease does. The next attempt gets another one.
            if [Reason::VaultLeaseRevoked, Reason::VaultLeaseUsed].contains(&refusal.reason) {
                return failure("The lease ended before the secret was used; nothing was sent.");
            }
            ModelFailure { code: refusal.reason, detail: refusal.detail, retry_after_ms: None, partial: None }
        })
    }
}

/// Carries a call to its end, which comes early where the lease on its secret is revoked.
async fn until_revoked<T>(
    mut call: impl Future<Output = T> + Unpin,
    leased: Option<&Leased>,
    cut: &CancellationToken,
) -> T {
    let Some(leased) = leased else { return call.await };
    tokio::select! {
        done = &mut call => done,
        () = leased.revoked.cancelled() => {
            cut.cancel();
            call.await
        }
    }
}

fn resolve(routes: &Routes, request: &ModelRequest) -> Result<ResolvedRoute, ModelFailure> {
    let pinned = Asked { route: Some(&request.route), model: Some(&request.model) };
    routes.choose(pinned, Asked::default()).map_err(|refusal| ModelFailure {
        code: refusal.reason,
        detail: refusal.detail,
        retry_after_ms: None,
        partial: None,
    })
}

fn fewest(route: Option<u32>, run: Option<NonZeroU32>) -> Option<u32> {
    route.into_iter().chain(run.map(NonZeroU32::get)).min()
}

fn asked(wish: Wish<'_>) -> Asked<'_> {
    Asked { route: wish.route, model: wish.model }
}

fn heard(delta: Delta) -> Piece {
    match delta {
        Delta::Text(text) => Piece::Words(text),
        Delta::Reasoning(text) => Piece::Unshown(text.len()),
        Delta::Call(bytes) => Piece::Unshown(bytes),
    }
}

fn message(message: Message) -> providers::Message {
    match message {
        Message::User { text } => providers::Message::user(text),
        Message::Assistant { text, calls } => {
            let call = |CallText { provider_id, tool, input }| RequestedCall { provider_id, tool, input };
            providers::Message::Assistant { text, tool_calls: calls.into_iter().map(call).collect() }
        }
        Message::Result { provider_id, ok, text, .. } => {
            providers::Message::ToolResult { provider_id, ok, output: text }
        }
    }
}

impl ModelCaller for RoutedModels {
    fn choose(&self, run: Wish<'_>, session: Wish<'_>, runtime: Wish<'_>) -> Result<Choice, Refusal> {
        let route = self.routing.now().routes.choose_among(asked(run), asked(session), asked(runtime))?;
        Ok(Choice {
            rehearsal: route.is_rehearsal(),
            driver: route.driver.name().to_owned(),
            route: route.route_id,
            model: route.model,
            chosen_by: route.chosen_by,
        })
    }

    fn credential(&self, org: &str, route: &str, subjects: Vec<String>) -> Result<Option<CredentialUse>, Refusal> {
        let routes = &self.routing.now().routes;
        let named = routes.get(route).and_then(|route| route.terms.auth_ref.as_deref());
        named.map(|reference| self.credentials.offer(org, reference, subjects)).transpose()
    }

    fn quote(&self, request: &ModelRequest) -> Result<Option<Quote>, Refusal> {
        let now = self.routing.now();
        let Some(route) = now.routes.get(&request.route).filter(|route| route.driver != Driver::Rehearsal) else {
            return Ok(None);
        };
        let input_tokens = request.bytes()?.div_ceil(TOKEN_BYTES) as u64;
        if let Some(most) = route.terms.input_limit_passed(input_tokens) {
            let detail = format!("The request has about {input_tokens} tokens; the route takes {most}.");
            return Err(Refusal::new(Reason::RequestTooLarge, detail));
        }
        Ok(Some(Quote {
            input_tokens,
            output_tokens: fewest(route.max_output_tokens, request.max_output_tokens).map(u64::from),
            answers: 1,
            price: self.prices.price(route.terms.priced_as(&request.model)),
        }))
    }

    fn fallbacks(&self, route: &str) -> Vec<(String, String)> {
        let routes = &self.routing.now().routes;
        let model = |id: &str| Some((id.to_owned(), routes.get(id)?.default_model.clone()));
        routes.fallbacks(route).into_iter().filter_map(model).collect()
    }

    fn terms(&self, route: &str) -> RouteTerms {
        let now = self.routing.now();
        let Some(terms) = now.routes.get(route).map(|route| &route.terms) else { return RouteTerms::default() };
        RouteTerms {
            auth_ref: terms.auth_ref.clone(),
            calls_at_a_time: terms.requests_at_a_time.and_then(|most| usize::try_from(most).ok()),
            without_tools: terms.capabilities.tools == Some(false),
        }
    }

    fn lanes(&self) -> Lanes {
        self.routing.lanes().clone()
    }

    fn call(
        &self,
        request: ModelRequest,
        told: mpsc::Sender<Piece>,
        stop: CancellationToken,
    ) -> BoxFuture<'_, Result<ModelAnswer, ModelFailure>> {
        Box::pin(async move {
            // The whole call goes by what is in force now.
            let in_force = self.routing.now();
            let route = resolve(&in_force.routes, &request)?;
            let leased = self.redeem(&in_force.routes, &request)?;
            let secret = leased.as_ref().map(|leased| leased.secret.clone());
            let cut = stop.child_token();
            let tool = |tool: super::runner::ToolText| ToolSpec {
                name: tool.name,
                description: tool.description,
                schema: tool.schema,
            };
            let answered = usize::try_from(request.turn.saturating_sub(1)).unwrap_or(usize::MAX);
            let request = providers::ModelRequest {
                earlier_messages: request.left_out.runs.into(),
                answered,
                model: request.model,
                system: Some(request.system),
                messages: request.messages.into_iter().map(message).collect(),
                tools: request.tools.into_iter().map(tool).collect(),
                max_output_tokens: fewest(route.max_output_tokens, request.max_output_tokens),
            };
            let (deltas, mut pieces) = mpsc::channel(WAITING_PIECES);
            let began = self.clock.since_boot();
            let calling = in_force.providers.call(&route, &request, secret, deltas, cut.clone());
            let passing = async {
                while let Some(piece) = pieces.recv().await {
                    // Whoever listened has left: then the call is given up.
                    let _ = told.send(heard(piece)).await;
                }
            };
            let both = async { tokio::join!(calling, passing) };
            let (answer, ()) = until_revoked(Box::pin(both), leased.as_ref(), &cut).await;
            let call = LastCall { code: answer.as_ref().err().map(|error| error.reason), at_ms: self.clock.wall_ms() };
            // A call that we gave up says nothing about the provider.
            if call.code.is_none() || !cut.is_cancelled() {
                let status = answer.as_ref().err().and_then(|error| error.status);
                let took = self.clock.since_boot().saturating_sub(began);
                self.routing.numbers().observe(&route.route_id, call, took, status);
            }
            let answer = answer.map_err(|error| ModelFailure {
                // It was cut: what it had begun is nobody's fault but the one who revoked.
                code: if leased.as_ref().is_some_and(|leased| leased.revoked.is_cancelled()) {
                    Reason::VaultLeaseRevoked
                } else if error.answer_begun && error.reason.retry() {
                    // A call that broke off within its answer is not made again by itself; the detail names the cause.
                    Reason::ProviderStreamBroken
                } else {
                    error.reason
                },
                detail: error.detail,
                retry_after_ms: error.retry_after_ms,
                partial: error.partial,
            })?;
            let call = |RequestedCall { provider_id, tool, input }| CallText { provider_id, tool, input };
            Ok(ModelAnswer {
                text: answer.text,
                reasoning: answer.reasoning,
                calls: answer.tool_calls.into_iter().map(call).collect(),
                stop: answer.stop,
                usage: answer.usage,
            })
        })
    }
}
