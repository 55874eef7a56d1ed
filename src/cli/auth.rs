//! `chancery runtime auth …`: who uses secrets, and taking that back.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::{Paging, asking};
use super::client::{Client, Trouble};
use super::secret_shapes;
use super::show::Shape;
use super::wire::segment;

/// Something about the use of secrets.
#[derive(Debug, Subcommand)]
pub enum Auth {
    /// Lets nobody have a secret until another one is stored, and cuts the calls that use it
    RevokeSlot {
        /// Its dotted name
        reference: String,
    },
    /// Gives a subject no secret any more, and cuts its calls that use one
    RevokeSubject(Subject),
    /// Gives a subject secrets again
    ReinstateSubject(Subject),
    /// Takes a lease back, and cuts its call
    RevokeLease {
        /// The lease
        lease: String,
    },
    /// Lists leases, newest first
    Leases {
        /// Only those on this secret
        #[arg(long = "ref", value_name = "REF")]
        reference: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Lists subjects that get no secret
    Subjects,
    /// Lists which routes may use which secret, and where it is sent
    Grants,
}

/// A subject.
#[derive(Debug, Args)]
pub struct Subject {
    /// route/ID, session/SESSION, run/RUN or token/NAME
    subject: String,
}

/// Asks the daemon.
pub fn ask(client: &Client, verb: &Auth) -> Result<(Shape, Value), Trouble> {
    let about = |what: &str, subject: &Subject| {
        client.post(&format!("/v1/runtime/auth/subjects/{what}"), &json!({ "subject": subject.subject }))
    };
    match verb {
        Auth::RevokeSlot { reference } => {
            let path = format!("/v1/runtime/auth/slots/{}/revoke", segment(reference));
            client.post(&path, &json!({})).map(|view| (secret_shapes::REVOCATION, view))
        }
        Auth::RevokeSubject(subject) => about("revoke", subject).map(|view| (secret_shapes::REVOCATION, view)),
        Auth::ReinstateSubject(subject) => about("reinstate", subject).map(|view| (secret_shapes::REVOCATION, view)),
        Auth::RevokeLease { lease } => {
            let path = format!("/v1/runtime/auth/leases/{}/revoke", segment(lease));
            client.post(&path, &json!({})).map(|view| (secret_shapes::LEASE, view))
        }
        Auth::Leases { reference, paging } => {
            let path = asking(paging.of("/v1/runtime/auth/leases"), "ref", reference.as_deref());
            client.get(&path).map(|list| (secret_shapes::LEASES, list))
        }
        Auth::Grants => client.get("/v1/runtime/auth/grants").map(|list| (secret_shapes::GRANTS, list)),
        Auth::Subjects => client.get("/v1/runtime/auth/subjects").map(|list| (secret_shapes::SUBJECTS, list)),
    }
}
