//! What every driver of models must do: one list of answers, told by a rehearsal script and by a server over real
//! sockets; and one list of what servers and networks do wrong, with what must come of each.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "tests look at the disk and the clock themselves")]
#![allow(clippy::too_many_lines, reason = "a story or a list of cases is told in one go")]

#[path = "providers/answers.rs"]
mod answers;
#[path = "providers/conformance.rs"]
mod conformance;
#[path = "providers/faults.rs"]
mod faults;
#[path = "providers/particulars.rs"]
mod particulars;
#[path = "providers/server.rs"]
mod server;
#[path = "providers/tls.rs"]
mod tls;
#[path = "providers/ways.rs"]
mod ways;
#[path = "providers/wire/mod.rs"]
mod wire;
