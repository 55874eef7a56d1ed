//! Runtime configuration: what is in force, and other permissions.

use axum::extract::State;
use hyper::StatusCode;

use super::{AT, AtQuery};
use crate::http::app::App;
use crate::http::extract::{Mutation, Query, Right};
use crate::http::reply::{Reply, ok, shown};
use crate::http::routes::Route;
use crate::projections::runtime::{RevisionView, RuntimeView};
use crate::projections::{Page, Paging};
use crate::services::authority::Action;
use crate::services::route_references::RouteReferences;
use crate::services::runtime::{
    CheckPermission, PermissionExplanation, RollBack, SetDebugLevel, SetErasure, SetMode, SetModel, SetRules,
    SetSystemPrompt, SetToolLimits, ToolLimitsView,
};

const MODE: &str = "/v1/runtime/permission-mode";
const MODE_SUMMARY: &str = "Sets the mode of sessions that set none; `plan` and `dont-ask` bind every run.";
const LEVEL: &str = "/v1/runtime/debug-level";
const LEVEL_SUMMARY: &str = "Sets how much the daemon says in its log.";
const RULES: &str = "/v1/runtime/permission-rules";
const CHECK: &str = "/v1/runtime/permissions/check";
const CHECK_SUMMARY: &str = "Says what would be decided about a call; changes nothing.";
const RULES_SUMMARY: &str = "Sets all permission rules of one scope.";

const MODEL: &str = "/v1/runtime/model";
const MODEL_SUMMARY: &str = "Sets route and model for sessions that choose none.";
const PROMPT: &str = "/v1/runtime/system-prompt";
const PROMPT_SUMMARY: &str = "Sets what models are told before conversations.";
const ERASURE: &str = "/v1/runtime/erasure";
const ERASURE_SUMMARY: &str = "Sets whether words of new sessions can be erased.";
const TOOL_LIMITS: &str = "/v1/runtime/tool-limits";
const TOOL_LIMITS_SUMMARY: &str = "Sets what bounds tools besides their own limits.";

pub(super) fn routes() -> Vec<Route<App>> {
    let write = Action::RuntimeWrite;
    vec![
        Route::get("/v1/runtime", Action::RuntimeRead, "The configuration in force.", get)
            .asks(AT)
            .gives::<RuntimeView>(200),
        Route::get("/v1/runtime/revisions", Action::RuntimeRevisionsRead, "Who changed what, newest first.", revisions)
            .asks(&[("limit", "integer"), ("cursor", "string")])
            .gives::<Page<RevisionView>>(200),
        Route::get("/v1/runtime/routes/references", Action::RuntimeRead, "What names missing routes.", references)
            .gives::<RouteReferences>(200),
        Route::post("/v1/runtime/rollback", write, "Goes back to an earlier revision, as a new one.", roll_back)
            .takes::<RollBack>()
            .gives::<RuntimeView>(200),
        Route::post(CHECK, Action::RuntimeRead, CHECK_SUMMARY, check)
            .takes::<CheckPermission>()
            .gives::<PermissionExplanation>(200),
        Route::put(LEVEL, write, LEVEL_SUMMARY, set_level).takes::<SetDebugLevel>().gives::<RuntimeView>(200),
        Route::post(LEVEL, write, LEVEL_SUMMARY, set_level).takes::<SetDebugLevel>().gives::<RuntimeView>(200),
        Route::put(MODEL, write, MODEL_SUMMARY, set_model).takes::<SetModel>().gives::<RuntimeView>(200),
        Route::post(MODEL, write, MODEL_SUMMARY, set_model).takes::<SetModel>().gives::<RuntimeView>(200),
        Route::put(PROMPT, write, PROMPT_SUMMARY, set_prompt).takes::<SetSystemPrompt>().gives::<RuntimeView>(200),
        Route::post(PROMPT, write, PROMPT_SUMMARY, set_prompt).takes::<SetSystemPrompt>().gives::<RuntimeView>(200),
        Route::get(TOOL_LIMITS, Action::RuntimeRead, "What bounds tools.", tool_limits).gives::<ToolLimitsView>(200),
        Route::put(TOOL_LIMITS, write, TOOL_LIMITS_SUMMARY, set_tool_limits)
            .takes::<SetToolLimits>()
            .gives::<RuntimeView>(200),
        Route::post(TOOL_LIMITS, write, TOOL_LIMITS_SUMMARY, set_tool_limits)
            .takes::<SetToolLimits>()
            .gives::<RuntimeView>(200),
        Route::put(ERASURE, write, ERASURE_SUMMARY, set_erasure).takes::<SetErasure>().gives::<RuntimeView>(200),
        Route::post(ERASURE, write, ERASURE_SUMMARY, set_erasure).takes::<SetErasure>().gives::<RuntimeView>(200),
        Route::put(MODE, write, MODE_SUMMARY, set_mode).takes::<SetMode>().gives::<RuntimeView>(200),
        Route::post(MODE, write, MODE_SUMMARY, set_mode).takes::<SetMode>().gives::<RuntimeView>(200),
        Route::put(RULES, write, RULES_SUMMARY, set_rules).takes::<SetRules>().gives::<RuntimeView>(200),
        Route::post(RULES, write, RULES_SUMMARY, set_rules).takes::<SetRules>().gives::<RuntimeView>(200),
    ]
}

async fn get(State(app): State<App>, Right(right): Right, Query(query): Query<AtQuery>) -> Reply {
    right.demand(Action::RuntimeRead)?;
    shown(&app.runtime.get(query.at).await?)
}

/// A page of the revisions.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RevisionsQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn revisions(State(app): State<App>, Right(right): Right, Query(query): Query<RevisionsQuery>) -> Reply {
    right.demand(Action::RuntimeRevisionsRead)?;
    ok(&app.runtime.revisions(Paging { limit: query.limit, cursor: query.cursor }).await?)
}

async fn check(State(app): State<App>, ask: Mutation<CheckPermission>) -> Reply {
    let right = ask.right.demand(Action::RuntimeRead)?;
    ok(&app.runtime.check_permission(right.organisation(), ask.body).await?)
}

async fn roll_back(State(app): State<App>, ask: Mutation<RollBack>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), body| async move { runtime.roll_back(by, body).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}

async fn set_level(State(app): State<App>, ask: Mutation<SetDebugLevel>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), body| async move { runtime.set_debug_level(by, body).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}

async fn references(State(app): State<App>, Right(right): Right) -> Reply {
    let org = right.demand(Action::RuntimeRead)?.organisation();
    ok(&app.runtime.route_references(org).await?)
}

async fn tool_limits(State(app): State<App>, Right(right): Right) -> Reply {
    right.demand(Action::RuntimeRead)?;
    ok(&app.runtime.tool_limits())
}

async fn set_model(State(app): State<App>, ask: Mutation<SetModel>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), body| async move { runtime.set_model(by, body).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}

async fn set_prompt(State(app): State<App>, ask: Mutation<SetSystemPrompt>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), body| async move { runtime.set_system_prompt(by, body).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}

async fn set_tool_limits(State(app): State<App>, ask: Mutation<SetToolLimits>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), body| async move { runtime.set_tool_limits(by, body).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}

async fn set_erasure(State(app): State<App>, ask: Mutation<SetErasure>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), body| async move { runtime.set_erasure(by, body).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}

async fn set_mode(State(app): State<App>, ask: Mutation<SetMode>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), body| async move { runtime.set_mode(by, body).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}

async fn set_rules(State(app): State<App>, ask: Mutation<SetRules>) -> Reply {
    let runtime = app.runtime.clone();
    let work = |by, (), body| async move { runtime.set_rules(by, body).await };
    app.carry_out(Action::RuntimeWrite, StatusCode::OK, ask, work).await
}
