//! What waits for a person: approvals and questions.

use axum::extract::{Path, State};
use hyper::StatusCode;

use super::runs::run;
use super::sessions::{done, session};
use super::{BY_STATUS, ListQuery, OF_ALL};
use crate::domain::ids::{ApprovalId, QuestionId};
use crate::domain::reason::Reason;
use crate::http::app::App;
use crate::http::extract::{Mutation, OnPassage, Query, Right};
use crate::http::reply::{Reply, detached, ok};
use crate::http::routes::Route;
use crate::projections::Page;
use crate::projections::approvals::{self, ApprovalView};
use crate::projections::questions::{self, QuestionView};
use crate::services::approvals::Decide;
use crate::services::authority::Action;
use crate::services::desk::parse_id;
use crate::services::questions::{Answer, Decline};

pub(super) fn routes() -> Vec<Route<App>> {
    let mut routes = of_sessions_and_runs();
    routes.extend([
        Route::get("/v1/approvals", Action::ApprovalRead, "Lists approvals, newest first.", all_approvals)
            .asks(OF_ALL)
            .gives::<Page<ApprovalView>>(200),
        Route::get("/v1/approvals/{approval_id}", Action::ApprovalRead, "Shows an approval.", approval)
            .gives::<ApprovalView>(200),
        Route::post("/v1/approvals/{approval_id}/decision", Action::ApprovalDecide, "Allows or denies a call.", decide)
            .takes::<Decide>()
            .gives::<ApprovalView>(200),
        Route::get("/v1/questions", Action::QuestionRead, "Lists questions, newest first.", all_questions)
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
        Route::get("/v1/sessions/{session_id}/approvals", approvals, "Lists a session's approvals.", session_approvals)
            .asks(BY_STATUS)
            .gives::<Page<ApprovalView>>(200),
        Route::get("/v1/sessions/{session_id}/questions", questions, "Lists a session's questions.", session_questions)
            .asks(BY_STATUS)
            .gives::<Page<QuestionView>>(200),
        Route::get("/v1/runs/{run_id}/approvals", approvals, "Lists a run's approvals.", run_approvals)
            .asks(BY_STATUS)
            .gives::<Page<ApprovalView>>(200),
        Route::get("/v1/runs/{run_id}/questions", questions, "Lists a run's questions.", run_questions)
            .asks(BY_STATUS)
            .gives::<Page<QuestionView>>(200),
    ]
}

type ApprovalQuery = Query<ListQuery<approvals::Status>>;
type QuestionQuery = Query<ListQuery<questions::Status>>;

async fn session_approvals(
    State(app): State<App>,
    Right(right): Right,
    Path(id): Path<String>,
    Query(query): ApprovalQuery,
) -> Reply {
    let org = right.demand(Action::ApprovalRead)?.organisation();
    ok(&app.approvals.list(org, query.of_session(session(&id)?)?, query.paging()).await?)
}

async fn run_approvals(
    State(app): State<App>,
    Right(right): Right,
    Path(id): Path<String>,
    Query(query): ApprovalQuery,
) -> Reply {
    let org = right.demand(Action::ApprovalRead)?.organisation();
    ok(&app.approvals.list(org, query.of_run(run(&id)?)?, query.paging()).await?)
}

async fn session_questions(
    State(app): State<App>,
    Right(right): Right,
    Path(id): Path<String>,
    Query(query): QuestionQuery,
) -> Reply {
    let org = right.demand(Action::QuestionRead)?.organisation();
    ok(&app.questions.list(org, query.of_session(session(&id)?)?, query.paging()).await?)
}

async fn run_questions(
    State(app): State<App>,
    Right(right): Right,
    Path(id): Path<String>,
    Query(query): QuestionQuery,
) -> Reply {
    let org = right.demand(Action::QuestionRead)?.organisation();
    ok(&app.questions.list(org, query.of_run(run(&id)?)?, query.paging()).await?)
}

async fn all_approvals(State(app): State<App>, Right(right): Right, Query(query): ApprovalQuery) -> Reply {
    let org = right.demand(Action::ApprovalRead)?.organisation();
    ok(&app.approvals.list(org, query.filter()?, query.paging()).await?)
}

async fn approval(State(app): State<App>, Right(right): Right, Path(id): Path<String>) -> Reply {
    let id: ApprovalId = parse_id(&id, Reason::ApprovalNotFound)?;
    ok(&app.approvals.get(right.demand(Action::ApprovalRead)?.organisation(), id).await?)
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

async fn all_questions(State(app): State<App>, Right(right): Right, Query(query): QuestionQuery) -> Reply {
    let org = right.demand(Action::QuestionRead)?.organisation();
    ok(&app.questions.list(org, query.filter()?, query.paging()).await?)
}

async fn question(State(app): State<App>, Right(right): Right, Path(id): Path<String>) -> Reply {
    let id: QuestionId = parse_id(&id, Reason::QuestionNotFound)?;
    ok(&app.questions.get(right.demand(Action::QuestionRead)?.organisation(), id).await?)
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
