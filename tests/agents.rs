//! Stories of agents in the built binary: each a rehearsal script, a daemon, and what must have come of it in the
//! views and in the journal.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "tests look at the disk and the clock themselves")]
#![allow(clippy::too_many_lines, reason = "a story or a list of cases is told in one go")]

#[path = "agents/canary.rs"]
mod canary;
#[path = "agents/clients.rs"]
mod clients;
#[path = "agents/crashes.rs"]
mod crashes;
#[path = "agents/disguises.rs"]
mod disguises;
#[path = "agents/erasure.rs"]
mod erasure;
#[path = "agents/external.rs"]
mod external;
#[path = "agents/gateway.rs"]
mod gateway;
#[path = "agents/losses.rs"]
mod losses;
#[path = "agents/models.rs"]
mod models;
#[path = "agents/passing.rs"]
mod passing;
#[path = "agents/people.rs"]
mod people;
#[path = "agents/queues.rs"]
mod queues;
#[path = "agents/support.rs"]
mod support;
