//! What waits for a person: approvals and questions.

use axum::extract::State;
use hyper::StatusCode;

use super::{BY_STATUS, ListQuery, OF_ALL, Within};
use crate::domain::ids::{ApprovalId, QuestionId, RunId, SessionId};
use crate::http::app::App;
use crate::http::extract::{Mutation, On, Query};
use crate::http::reply::{Reply, ok};
use crate::http::routes::Route;
use crate::projections::Page;
use crate::projections::approvals::{self, ApprovalView};
use crate::projections::questions::{self, QuestionView};
use crate::services::approvals::Decide;
use crate::services::authority::Action;
use crate::services::questions::{Answer, Decline};

pub(super) fn routes() -> Vec<Route<App>> {
    let mut routes = of_sessions_and_runs();
    routes.extend([
        Route::get("/v1/approvals", Action::ApprovalRead, "Lists approvals, newest first.", list_approvals::<()>)
            .asks(OF_ALL)
            .gives::<Page<ApprovalView>>(200),
        Route::get("/v1/approvals/{approval_id}", Action::ApprovalRead, "Shows an approval.", approval)
            .gives::<ApprovalView>(200),
        Route::post("/v1/approvals/{approval_id}/decision", Action::ApprovalDecide, "Allows or denies a call.", decide)
            .takes::<Decide>()
            .gives::<ApprovalView>(200),
        Route::get("/v1/questions", Action::QuestionRead, "Lists questions, newest first.", list_questions::<()>)
            .asks(OF_ALL)
            .gives::<Page<QuestionView>>(200),
        Route::get("/v1/questions/{question_id}", Action::QuestionRead, "Shows a question.", question)
            .gives::<QuestionView>(200),
        Route::post("/v1/questions/{question_id}/answer", Action::QuestionAnswer, "Answers a question.", answer)
            .takes::<Answer>()
            .gives::<QuestionView>(200),
        Route::post("/v1/questions/{question_id}/decline", Action::QuestionAnswer, "Declines a question.", decline)
            .takes::<Decline>()
            .gives::<QuestionView>(200),
    ]);
    routes
}

fn of_sessions_and_runs() -> Vec<Route<App>> {
    let (approvals, questions) = (Action::ApprovalRead, Action::QuestionRead);
    vec![
        Route::get(
            "/v1/sessions/{session_id}/approvals",
            approvals,
            "Lists a session's approvals.",
            list_approvals::<SessionId>,
        )
        .asks(BY_STATUS)
        .gives::<Page<ApprovalView>>(200),
        Route::get(
            "/v1/sessions/{session_id}/questions",
            questions,
            "Lists a session's questions.",
            list_questions::<SessionId>,
        )
        .asks(BY_STATUS)
        .gives::<Page<QuestionView>>(200),
        Route::get("/v1/runs/{run_id}/approvals", approvals, "Lists a run's approvals.", list_approvals::<RunId>)
            .asks(BY_STATUS)
            .gives::<Page<ApprovalView>>(200),
        Route::get("/v1/runs/{run_id}/questions", questions, "Lists a run's questions.", list_questions::<RunId>)
            .asks(BY_STATUS)
            .gives::<Page<QuestionView>>(200),
    ]
}

async fn list_approvals<P: Within>(
    State(app): State<App>,
    ask: On<P>,
    Query(query): Query<ListQuery<approvals::Status>>,
) -> Reply {
    let org = ask.org(Action::ApprovalRead)?.to_owned();
    ok(&app.approvals.list(&org, ask.on.filter(&query)?, query.paging()).await?)
}

async fn approval(State(app): State<App>, ask: On<ApprovalId>) -> Reply {
    ok(&app.approvals.get(ask.org(Action::ApprovalRead)?, ask.on).await?)
}

async fn decide(State(app): State<App>, ask: Mutation<Decide, ApprovalId>) -> Reply {
    let approvals = app.approvals.clone();
    let work = |by, id, body| async move { approvals.decide(by, id, body).await };
    app.carry_out(Action::ApprovalDecide, StatusCode::OK, ask, work).await
}

async fn list_questions<P: Within>(
    State(app): State<App>,
    ask: On<P>,
    Query(query): Query<ListQuery<questions::Status>>,
) -> Reply {
    let org = ask.org(Action::QuestionRead)?.to_owned();
    ok(&app.questions.list(&org, ask.on.filter(&query)?, query.paging()).await?)
}

async fn question(State(app): State<App>, ask: On<QuestionId>) -> Reply {
    ok(&app.questions.get(ask.org(Action::QuestionRead)?, ask.on).await?)
}

async fn answer(State(app): State<App>, ask: Mutation<Answer, QuestionId>) -> Reply {
    let questions = app.questions.clone();
    let work = |by, id, body| async move { questions.answer(by, id, body).await };
    app.carry_out(Action::QuestionAnswer, StatusCode::OK, ask, work).await
}

async fn decline(State(app): State<App>, ask: Mutation<Decline, QuestionId>) -> Reply {
    let questions = app.questions.clone();
    let work = |by, id, body| async move { questions.decline(by, id, body).await };
    app.carry_out(Action::QuestionAnswer, StatusCode::OK, ask, work).await
}
