//! The model gateway: models are called in the way that clients of their providers do.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use hyper::header::{HeaderName, HeaderValue};

use crate::domain::ids::{ModelCallId, SessionId};
use crate::domain::model_call::Dialect;
use crate::domain::reason::{Reason, Refusal};
use crate::http::app::App;
use crate::http::cursor;
use crate::http::dialect::{CHAT_COMPLETIONS, COUNT_TOKENS, MESSAGES, MODELS, RESPONSES};
use crate::http::extract::{Forwarded, On, Query, Right};
use crate::http::json;
use crate::http::reply::{Reply, ok};
use crate::http::routes::Route;
use crate::services::authority::Action;
use crate::services::desk::parse_filter;
use crate::services::external_actions::{ExternalAction, ExternalActions};
use crate::services::gateway::{Ask, ModelsView, TokenCount};
use crate::services::model_calls::{self, Wanted};

/// The session that pays as well.
const SESSION: HeaderName = HeaderName::from_static("chancery-session");
/// The call, as the journal names it.
const MODEL_CALL: HeaderName = HeaderName::from_static("chancery-model-call");
/// The route that answers and its model: not the one that was asked for where that could not be had.
const ROUTE: HeaderName = HeaderName::from_static("chancery-route");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn routes() -> Vec<Route<App>> {
    let post = Action::ModelCall;
    vec![
        Route::get(MODELS, Action::ModelRead, "Lists the models that clients can call.", models)
            .gives::<ModelsView>(200),
        Route::post(CHAT_COMPLETIONS, post, "Calls a model as clients of chat completions do.", chat)
            .takes::<serde_json::Value>()
            .gives::<serde_json::Value>(200),
        Route::post(RESPONSES, post, "Calls a model as clients of responses do.", responses)
            .takes::<serde_json::Value>()
            .gives::<serde_json::Value>(200),
        Route::post(MESSAGES, post, "Calls a model as clients of messages do.", messages)
            .asks(&[("beta", "string")])
            .takes::<serde_json::Value>()
            .gives::<serde_json::Value>(200),
        Route::post(COUNT_TOKENS, post, "Estimates how many tokens messages have.", count_tokens)
            .asks(&[("beta", "string")])
            .takes::<serde_json::Value>()
            .gives::<TokenCount>(200),
        Route::get("/v1/model-calls", Action::ModelRead, "Lists the calls that clients made, oldest first.", list)
            .asks(&[("cursor", "string"), ("limit", "integer"), ("session_id", "string"), ("route", "string")])
            .gives::<ExternalActions>(200),
        Route::get("/v1/model-calls/{model_call_id}", Action::ModelRead, "Shows a call that a client made.", get)
            .gives::<ExternalAction>(200),
    ]
}

async fn models(State(app): State<App>, Right(right): Right) -> Reply {
    right.demand(Action::ModelRead)?;
    ok(&app.gateway.models())
}

async fn chat(State(app): State<App>, ask: Forwarded) -> Reply {
    call(app, ask, Dialect::ChatCompletions).await
}

async fn responses(State(app): State<App>, ask: Forwarded) -> Reply {
    call(app, ask, Dialect::Responses).await
}

async fn messages(State(app): State<App>, ask: Forwarded) -> Reply {
    call(app, ask, Dialect::Messages).await
}

async fn count_tokens(State(app): State<App>, ask: Forwarded) -> Reply {
    ask.right.demand(Action::ModelCall)?;
    json::check(&ask.raw, ask.passage.gate().limits.json_depth)?;
    ok(&app.gateway.count_tokens(Dialect::Messages, &ask.raw)?)
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    cursor: Option<String>,
    limit: Option<usize>,
    session_id: Option<String>,
    route: Option<String>,
}

async fn list(State(app): State<App>, Right(right): Right, Query(query): Query<ListQuery>) -> Reply {
    let org = right.demand(Action::ModelRead)?.organisation();
    let after = query.cursor.map(|text| cursor::parse(text.as_bytes())).transpose()?;
    let session = query.session_id.as_deref().map(|id| parse_filter("/session_id", id)).transpose()?;
    let wanted = Wanted { session, route: query.route };
    ok(&model_calls::list(&app.published, org, wanted, (after, query.limit)).await?)
}

async fn get(State(app): State<App>, ask: On<ModelCallId>) -> Reply {
    ok(&model_calls::get(&app.published, ask.org(Action::ModelRead)?, ask.on).await?)
}

async fn call(app: App, ask: Forwarded, dialect: Dialect) -> Reply {
    let Forwarded { right, request, headers, raw, passage } = ask;
    let by = App::by(&right, Action::ModelCall, request)?;
    json::check(&raw, passage.gate().limits.json_depth)?;
    let named = headers.get(&SESSION).map(|value| value.to_str().unwrap_or_default());
    let session_id = named.map(parse_session).transpose()?;
    let withdrawn = passage.gate().authentication.withdrawn(right.caller());
    let passed = app.gateway.call(Ask { by, dialect, session_id, headers, raw, withdrawn }).await?;
    let mut response = Response::new(Body::from_stream(passed.pieces));
    *response.status_mut() = passed.status;
    *response.headers_mut() = passed.headers;
    let headers = response.headers_mut();
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    for (name, text) in [(MODEL_CALL, passed.model_call_id.to_string()), (ROUTE, passed.route)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

fn parse_session(text: &str) -> Result<SessionId, Refusal> {
    text.parse().map_err(|_| Reason::SessionNotFound.into())
}
