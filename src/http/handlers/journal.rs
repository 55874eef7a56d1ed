//! The journal as strangers read it: its newest note, its lines, receipts and consistency proofs.

use axum::extract::State;
use hyper::StatusCode;

use crate::domain::command::invalid;
use crate::domain::reason::{Reason, Refusal};
use crate::http::app::App;
use crate::http::extract::{OnPassage, Order, Query, Right};
use crate::http::limits::{RECORDS_BYTES, RECORDS_LINES};
use crate::http::reply::{Reply, detached, ok, raw};
use crate::http::routes::Route;
use crate::journal::note::verifier_key;
use crate::journal::proof::{Consistency, ProofError, Receipt};
use crate::journal::recovery::read_root;
use crate::services::authority::Action;
use crate::services::journal_keys::RotatedKey;

const ROTATE_SUMMARY: &str = "Hands the signing key over to a new one.";

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Route::get("/v1/journal/head", Action::JournalHeadRead, "The newest sealed tree.", head).gives::<HeadView>(200),
        Route::get("/v1/journal/checkpoint", Action::JournalHeadRead, "The newest note, as text.", checkpoint)
            .gives_text("text/plain; charset=utf-8"),
        Route::get("/v1/journal/records", Action::JournalRead, "Stored lines, seals included.", records)
            .asks(&[("from", "integer"), ("limit", "integer")])
            .gives_text("application/x-ndjson"),
        Route::get("/v1/journal/proof", Action::ReceiptRead, "A receipt, or a consistency proof.", proof)
            .asks(&[("seq", "integer"), ("size", "integer"), ("old", "integer"), ("new", "integer")])
            .gives::<ProofAnswer>(200),
        Route::post("/v1/journal/rotate-key", Action::JournalRotateKey, ROTATE_SUMMARY, rotate_key)
            .gives::<RotatedKey>(200),
    ]
}

/// A receipt, or with `old` and `new` a consistency proof.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is needed")]
enum ProofAnswer {
    /// That a line is in the tree.
    Receipt(Receipt),
    /// That one tree is a prefix of another.
    Consistency(Consistency),
}

/// The newest sealed tree.
#[derive(serde::Serialize, schemars::JsonSchema)]
struct HeadView {
    /// Sequence number of the newest seal.
    seq: u64,
    /// Leaves in the tree that it signs.
    size: u64,
    /// Root of that tree, base64.
    root: String,
    /// C2SP id of the key that signed, hex.
    key_id: String,
    /// The epoch.
    epoch: String,
    /// The signed note.
    note: String,
    /// The key that signs now, as a C2SP verifier key, for whoever pins it on first sight; trust in it comes from
    /// elsewhere. Absent where the state root cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    verifier_key: Option<String>,
}

async fn head(State(app): State<App>, Right(right): Right) -> Reply {
    right.demand(Action::JournalHeadRead)?;
    let note = app.published.head().note;
    let folder = app.status.folder.clone();
    let newest = blocking(move || read_root(folder.as_ref()).ok().and_then(|(_, ring)| ring.newest())).await?;
    let key_id = note.signatures.last().map(|signature| data_encoding::HEXLOWER.encode(&signature.key_id));
    ok(&HeadView {
        seq: note.size,
        size: note.size,
        root: data_encoding::BASE64.encode(&note.root),
        key_id: key_id.unwrap_or_default(),
        epoch: note.origin.epoch.to_string(),
        note: note.render(),
        verifier_key: newest.map(|(origin, key)| verifier_key(&origin.to_string(), &key)),
    })
}

async fn rotate_key(State(app): State<App>, OnPassage(passage): OnPassage, ask: Order) -> Reply {
    let wait = passage.gate().patience(&ask.right, &ask.request);
    let by = App::by(&ask.right, Action::JournalRotateKey, ask.request)?;
    let keys = app.journal_keys.clone();
    let rotated = detached(&passage.gate().tasks, wait, async move { keys.rotate(by).await }).await?;
    app.done(StatusCode::OK, &rotated, &ask.right)
}

async fn checkpoint(State(app): State<App>, Right(right): Right) -> Reply {
    right.demand(Action::JournalHeadRead)?;
    Ok(raw(StatusCode::OK, "text/plain; charset=utf-8", app.published.head().note.render()))
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordsQuery {
    from: Option<u64>,
    limit: Option<u64>,
}

async fn records(State(app): State<App>, Right(right): Right, Query(query): Query<RecordsQuery>) -> Reply {
    right.demand(Action::JournalRead)?;
    let from = query.from.unwrap_or(0);
    let limit = query.limit.unwrap_or(RECORDS_LINES);
    if !(1..=RECORDS_LINES).contains(&limit) {
        return Err(invalid("/limit", format!("A page has 1 to {RECORDS_LINES} lines.")).into());
    }
    let to = from.saturating_add(limit);
    let reader = app.published.reader().clone();
    let read = move || {
        let mut out = Vec::new();
        let scanned = reader.scan(from, to, |_, line| {
            out.extend_from_slice(line);
            out.push(b'\n');
            out.len() < RECORDS_BYTES
        });
        scanned.map(|()| out)
    };
    let lines = app.published.aside(read).await?.map_err(|error| unreadable(&error))?;
    Ok(raw(StatusCode::OK, "application/x-ndjson", lines))
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofQuery {
    seq: Option<u64>,
    size: Option<u64>,
    old: Option<u64>,
    new: Option<u64>,
}

async fn proof(State(app): State<App>, Right(right): Right, Query(query): Query<ProofQuery>) -> Reply {
    right.demand(Action::ReceiptRead)?;
    let reader = app.published.reader().clone();
    match query {
        ProofQuery { seq: Some(seq), size, old: None, new: None } => {
            let receipt = app.published.aside(move || Receipt::make(&reader, seq, size)).await?;
            ok(&receipt.map_err(|error| refused(&error))?)
        }
        ProofQuery { seq: None, size: None, old: Some(old), new } => {
            let proof = app.published.aside(move || Consistency::make(&reader, old, new)).await?;
            ok(&proof.map_err(|error| refused(&error))?)
        }
        ProofQuery { .. } => {
            Err(Refusal::new(Reason::RequestMalformed, "Ask with seq, or seq and size, or old and new.").into())
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Reason::InternalError.into())
}

fn unreadable(error: &std::io::Error) -> Refusal {
    Refusal::new(Reason::StorageJournalUnavailable, error.to_string())
}

fn refused(error: &ProofError) -> Refusal {
    match error {
        ProofError::NoLine(_) => Refusal::new(Reason::ReceiptNotFound, error.to_string()),
        ProofError::NotSealed(_) | ProofError::NotOlder { .. } => {
            Refusal::new(Reason::RequestInvalid, error.to_string())
        }
        ProofError::Unreadable(error) => unreadable(error),
    }
}
