//! What waits for a person: approvals and questions.

use axum::extract::{Path, State};
use hyper::StatusCode;

use super::PageQuery;
use super::sessions::done;
use crate::domain::ids::{ApprovalId, QuestionId};
use crate::domain::reason::Reason;
use crate::http::app::App;
use crate::http::extract::{Mutation, OnPassage, Query, Right};
use crate::http::reply::{Reply, detached, ok};
use crate::http::routes::Route;
use crate::projections::Page;
use crate::projections::approvals::ApprovalView;
use crate::projections::questions::QuestionView;
use crate::projections::waits::Filter;
use crate::services::approvals::Decide;
use crate::services::authority::Action;
use crate::services::desk::parse_id;
use crate::services::questions::{Answer, Decline};

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::get("/v1/approvals", Action::ApprovalRead, "Lists approvals, newest first.", approvals)
            .gives::<Page<ApprovalView>>(200),
        Route::get("/v1/approvals/{approval_id}", Action::ApprovalRead, "Shows an approval.", approval)
            .gives::<ApprovalView>(200),
        Route::post("/v1/approvals/{approval_id}/decision", Action::ApprovalDecide, "Allows or denies a call.", decide)
            .takes::<Decide>()
            .gives::<ApprovalView>(200),
        Route::get("/v1/questions", Action::QuestionRead, "Lists questions, newest first.", questions)
            .gives::<Page<QuestionView>>(200),
        Route::get("/v1/questions/{question_id}", Action::QuestionRead, "Shows a question.", question)
            .gives::<QuestionView>(200),
        Route::post("/v1/questions/{question_id}/answer", Action::QuestionAnswer, "Answers a question.", answer)
            .takes::<Answer>()
            .gives::<QuestionView>(200),
        Route::post("/v1/questions/{question_id}/decline", Action::QuestionAnswer, "Declines a question.", decline)
            .takes::<Decline>()
            .gives::<QuestionView>(200),
    ]
}

async fn approvals(State(app): State<App>, Right(right): Right, Query(query): Query<PageQuery>) -> Reply {
    let org = right.demand(Action::ApprovalRead)?.organisation();
    ok(&app.approvals.list(org, &Filter { session: None, run: None, status: None }, &query.into())?)
}

async fn approval(State(app): State<App>, Right(right): Right, Path(id): Path<String>) -> Reply {
    let id: ApprovalId = parse_id(&id, Reason::ApprovalNotFound)?;
    ok(&app.approvals.get(right.demand(Action::ApprovalRead)?.organisation(), id)?)
}

async fn decide(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Path(id): Path<String>,
    ask: Mutation<Decide>,
) -> Reply {
    let id: ApprovalId = parse_id(&id, Reason::ApprovalNotFound)?;
    let by = App::by(&ask.right, Action::ApprovalDecide, ask.request)?;
    let (cases, body) = (app.approvals.clone(), ask.body);
    let decided = detached(&passage.gate().tasks, async move { cases.decide(by, id, body).await }).await?;
    done(StatusCode::OK, &decided, &ask.right, &app.published)
}

async fn questions(State(app): State<App>, Right(right): Right, Query(query): Query<PageQuery>) -> Reply {
    let org = right.demand(Action::QuestionRead)?.organisation();
    ok(&app.questions.list(org, &Filter { session: None, run: None, status: None }, &query.into())?)
}

async fn question(State(app): State<App>, Right(right): Right, Path(id): Path<String>) -> Reply {
    let id: QuestionId = parse_id(&id, Reason::QuestionNotFound)?;
    ok(&app.questions.get(right.demand(Action::QuestionRead)?.organisation(), id)?)
}

async fn answer(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Path(id): Path<String>,
    ask: Mutation<Answer>,
) -> Reply {
    let id: QuestionId = parse_id(&id, Reason::QuestionNotFound)?;
    let by = App::by(&ask.right, Action::QuestionAnswer, ask.request)?;
    let (cases, body) = (app.questions.clone(), ask.body);
    let answered = detached(&passage.gate().tasks, async move { cases.answer(by, id, body).await }).await?;
    done(StatusCode::OK, &answered, &ask.right, &app.published)
}

async fn decline(
    State(app): State<App>,
    OnPassage(passage): OnPassage,
    Path(id): Path<String>,
    ask: Mutation<Decline>,
) -> Reply {
    let id: QuestionId = parse_id(&id, Reason::QuestionNotFound)?;
    let by = App::by(&ask.right, Action::QuestionAnswer, ask.request)?;
    let (cases, body) = (app.questions.clone(), ask.body);
    let declined = detached(&passage.gate().tasks, async move { cases.decline(by, id, body).await }).await?;
    done(StatusCode::OK, &declined, &ask.right, &app.published)
}
