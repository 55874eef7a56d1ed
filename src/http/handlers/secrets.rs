//! Secrets, who uses them, and taking that back. No answer holds a secret.

use axum::extract::State;
use hyper::StatusCode;

use crate::domain::ids::LeaseId;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::secret::check_reference;
use crate::http::app::App;
use crate::http::extract::{Mutation, On, Place, Query, Right};
use crate::http::reply::{Reply, ok};
use crate::http::routes::Route;
use crate::projections::vault::LeaseView;
use crate::projections::{Page, Paging};
use crate::services::authority::Action;
use crate::services::secrets::{
    GrantList, RevocationView, SecretList, SecretView, SetSecret, StoredSecret, SubjectList,
};

use super::Noun;

const SECRETS: &str = "/v1/runtime/secrets";
const SECRET: &str = "/v1/runtime/secrets/{ref}";
const SET_SUMMARY: &str = "Stores a secret, as its next version where there is one; leases on earlier versions end.";
const REVOKE_SLOT: &str = "/v1/runtime/auth/slots/{ref}/revoke";
const REVOKE_SUBJECT: &str = "/v1/runtime/auth/subjects/revoke";
const REINSTATE_SUBJECT: &str = "/v1/runtime/auth/subjects/reinstate";
const LEASES: &str = "/v1/runtime/auth/leases";
const LEASE: &str = "/v1/runtime/auth/leases/{lease_id}";
const REVOKE_LEASE: &str = "/v1/runtime/auth/leases/{lease_id}/revoke";

pub(super) fn routes() -> Vec<Route<App>> {
    let (read, write, revoke) = (Action::SecretRead, Action::SecretWrite, Action::AuthorityRevoke);
    vec![
        Route::get(SECRETS, read, "Every secret's metadata.", list).gives::<SecretList>(200),
        Route::post(SECRETS, write, SET_SUMMARY, set).takes::<SetSecret>().gives::<StoredSecret>(200),
        Route::get(SECRET, read, "One secret's metadata.", get).gives::<SecretView>(200),
        Route::delete(SECRET, write, "Deletes a secret; calls that use it are cut.", delete)
            .gives::<RevocationView>(200),
        Route::post(
            REVOKE_SLOT,
            revoke,
            "Lets nobody have a secret until another is stored; calls are cut.",
            revoke_slot,
        )
        .takes::<Nothing>()
        .gives::<RevocationView>(200),
        Route::get("/v1/runtime/auth/grants", read, "Which routes may use which secret, and where it is sent.", grants)
            .gives::<GrantList>(200),
        Route::get("/v1/runtime/auth/subjects", read, "Subjects that get no secret.", subjects)
            .gives::<SubjectList>(200),
        Route::post(REVOKE_SUBJECT, revoke, "Gives a subject no secret any more; its calls are cut.", revoke_subject)
            .takes::<Subject>()
            .gives::<RevocationView>(200),
        Route::post(REINSTATE_SUBJECT, revoke, "Gives a subject secrets again.", reinstate_subject)
            .takes::<Subject>()
            .gives::<RevocationView>(200),
        Route::get(LEASES, read, "Leases, newest first: of calls that go on, and the newest that ended.", leases)
            .asks(&[("ref", "string"), ("limit", "integer"), ("cursor", "string")])
            .gives::<Page<LeaseView>>(200),
        Route::get(LEASE, read, "One lease.", lease).gives::<LeaseView>(200),
        Route::post(REVOKE_LEASE, revoke, "Takes a lease back; its call is cut.", revoke_lease)
            .takes::<Nothing>()
            .gives::<LeaseView>(200),
    ]
}

/// A subject, by its name.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Subject {
    /// `route/<id>`, `session/<session_id>`, `run/<run_id>` or `token/<name>`.
    subject: String,
}

/// No words.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// A secret's name in a path.
#[derive(Debug, Clone)]
struct Reference(String);

impl Place for Reference {
    fn read(name: &str) -> Result<Self, Refusal> {
        match check_reference("", name) {
            Ok(()) => Ok(Self(name.to_owned())),
            Err(_) => Err(Reason::VaultSlotNotFound.into()),
        }
    }
}

impl Noun for LeaseId {
    const ABSENT: Reason = Reason::VaultLeaseNotFound;
}

async fn list(State(app): State<App>, Right(right): Right) -> Reply {
    let caller = right.demand(Action::SecretRead)?;
    ok(&app.secrets.list(caller.organisation()))
}

async fn get(State(app): State<App>, on: On<Reference>) -> Reply {
    ok(&app.secrets.get(on.org(Action::SecretRead)?, &on.on.0)?)
}

async fn set(State(app): State<App>, ask: Mutation<SetSecret>) -> Reply {
    let secrets = app.secrets.clone();
    let work = |by, (), body| async move { secrets.set(by, body).await };
    app.carry_out(Action::SecretWrite, StatusCode::OK, ask, work).await
}

async fn delete(State(app): State<App>, ask: Mutation<Nothing, Reference>) -> Reply {
    let secrets = app.secrets.clone();
    let work = |by, Reference(name), Nothing {}| async move { secrets.delete(by, name).await };
    app.carry_out(Action::SecretWrite, StatusCode::OK, ask, work).await
}

async fn revoke_slot(State(app): State<App>, ask: Mutation<Nothing, Reference>) -> Reply {
    let secrets = app.secrets.clone();
    let work = |by, Reference(name), Nothing {}| async move { secrets.revoke_slot(by, name).await };
    app.carry_out(Action::AuthorityRevoke, StatusCode::OK, ask, work).await
}

async fn grants(State(app): State<App>, Right(right): Right) -> Reply {
    let caller = right.demand(Action::SecretRead)?;
    ok(&app.secrets.grants(caller.organisation()))
}

async fn subjects(State(app): State<App>, Right(right): Right) -> Reply {
    let caller = right.demand(Action::SecretRead)?;
    ok(&app.secrets.subjects(caller.organisation()))
}

async fn revoke_subject(State(app): State<App>, ask: Mutation<Subject>) -> Reply {
    let secrets = app.secrets.clone();
    let work = |by, (), body: Subject| async move { secrets.revoke_subject(by, body.subject, true).await };
    app.carry_out(Action::AuthorityRevoke, StatusCode::OK, ask, work).await
}

async fn reinstate_subject(State(app): State<App>, ask: Mutation<Subject>) -> Reply {
    let secrets = app.secrets.clone();
    let work = |by, (), body: Subject| async move { secrets.revoke_subject(by, body.subject, false).await };
    app.carry_out(Action::AuthorityRevoke, StatusCode::OK, ask, work).await
}

/// Which leases.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LeasesQuery {
    #[serde(rename = "ref")]
    reference: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn leases(State(app): State<App>, Right(right): Right, Query(query): Query<LeasesQuery>) -> Reply {
    let caller = right.demand(Action::SecretRead)?;
    let paging = Paging { limit: query.limit, cursor: query.cursor };
    ok(&app.secrets.leases(caller.organisation(), query.reference, paging).await?)
}

async fn lease(State(app): State<App>, on: On<LeaseId>) -> Reply {
    ok(&app.secrets.lease(on.org(Action::SecretRead)?, on.on)?)
}

async fn revoke_lease(State(app): State<App>, ask: Mutation<Nothing, LeaseId>) -> Reply {
    let secrets = app.secrets.clone();
    let work = |by, lease_id, Nothing {}| async move { secrets.revoke_lease(by, lease_id).await };
    app.carry_out(Action::AuthorityRevoke, StatusCode::OK, ask, work).await
}
