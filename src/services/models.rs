//! The runner's way to the model providers: the routes choose, the drivers speak.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::numbers::{LastCall, ProviderNumbers};
use super::runner::{Choice, ModelAnswer, ModelCaller, ModelFailure, ModelRequest, Wish};
use crate::agent::transcript::{CallText, Message};
use crate::config::routes::{Asked, ResolvedRoute, Routes};
use crate::domain::reason::{Reason, Refusal};
use crate::outbound::providers::{self, Delta, Providers, RequestedCall, ToolSpec};
use crate::platform::clock::Clock;

/// Live pieces that may wait for whoever watches.
const WAITING_PIECES: usize = 64;

/// Routes and the drivers behind them.
pub struct RoutedModels {
    routes: Routes,
    providers: Providers,
    numbers: ProviderNumbers,
    clock: Arc<dyn Clock>,
}

impl RoutedModels {
    /// Speaks over these drivers.
    pub fn new(routes: Routes, providers: Providers, numbers: ProviderNumbers, clock: Arc<dyn Clock>) -> Self {
        Self { routes, providers, numbers, clock }
    }

    fn resolve(&self, request: &ModelRequest) -> Result<ResolvedRoute, ModelFailure> {
        let pinned = Asked { route: Some(&request.route), model: Some(&request.model) };
        self.routes.choose(pinned, Asked::default()).map_err(|refusal| ModelFailure {
            code: refusal.reason,
            detail: refusal.detail,
            retry_after_ms: None,
            partial: None,
        })
    }
}

fn asked(wish: Wish<'_>) -> Asked<'_> {
    Asked { route: wish.route, model: wish.model }
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
    fn choose(&self, run: Wish<'_>, session: Wish<'_>) -> Result<Choice, Refusal> {
        let route = self.routes.choose(asked(run), asked(session))?;
        Ok(Choice {
            rehearsal: route.is_rehearsal(),
            driver: route.driver.name().to_owned(),
            route: route.route_id,
            model: route.model,
            chosen_by: route.chosen_by,
        })
    }

    fn call(
        &self,
        request: ModelRequest,
        words: mpsc::Sender<String>,
        stop: CancellationToken,
    ) -> BoxFuture<'_, Result<ModelAnswer, ModelFailure>> {
        Box::pin(async move {
            let route = self.resolve(&request)?;
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
                max_output_tokens: route.max_output_tokens,
            };
            let (deltas, mut pieces) = mpsc::channel(WAITING_PIECES);
            let began = self.clock.since_boot();
            let calling = self.providers.call(&route, &request, None, deltas, stop.clone());
            let passing = async {
                while let Some(piece) = pieces.recv().await {
                    if let Delta::Text(text) = piece {
                        // Whoever listened has left: then the call is given up.
                        let _ = words.send(text).await;
                    }
                }
            };
            let (answer, ()) = tokio::join!(calling, passing);
            let call = LastCall { code: answer.as_ref().err().map(|error| error.reason), at_ms: self.clock.wall_ms() };
            // A call that we gave up says nothing about the provider.
            if call.code.is_none() || !stop.is_cancelled() {
                self.numbers.observe(&route.route_id, call, self.clock.since_boot().saturating_sub(began));
            }
            let answer = answer.map_err(|error| ModelFailure {
                // A call that broke off within its answer is not made again by itself; the detail names the cause.
                code: if error.answer_begun && error.reason.retry() {
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
