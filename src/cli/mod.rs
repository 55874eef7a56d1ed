//! The verbs: one file each. What a verb prints goes through `output`.

mod client;
mod output;
mod quickstart;
mod remote;
mod schema;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::settings::{Folders, ServeArgs};
use crate::domain::reason::{Reason, Refusal};

/// A self-hosted control plane for AI agents whose every act is sealed in a journal that anyone can verify.
#[derive(Debug, Parser)]
#[command(name = "chancery", version)]
struct Cli {
    #[command(flatten)]
    client: client::ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows in a minute what Chancery is for, on a state root of its own.
    Quickstart,
    /// Serves a state root on a loopback address.
    Serve(Box<ServeArgs>),
    /// Verifies a state root or a receipt, offline.
    Verify(verify::VerifyArgs),
    /// How the daemon stands.
    Status,
    /// The receipt of a line of the journal.
    Receipt {
        /// Its sequence number.
        seq: u64,
    },
    /// Sessions.
    #[command(subcommand)]
    Sessions(remote::Sessions),
    /// Runs.
    #[command(subcommand)]
    Runs(remote::Runs),
    /// Approvals.
    #[command(subcommand)]
    Approvals(remote::Approvals),
    /// The journal.
    #[command(subcommand)]
    Journal(remote::Journal),
    /// Schemas, samples and vectors of every format.
    #[command(subcommand)]
    Schema(schema::Schema),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if let Some(code) = crate::daemon::confined_child() {
        return code;
    }
    let cli = Cli::parse();
    let client = &cli.client;
    match cli.verb {
        Verb::Quickstart => quickstart::run(),
        Verb::Status => remote::status(client),
        Verb::Receipt { seq } => remote::receipt(client, seq),
        Verb::Sessions(verb) => remote::sessions(client, &verb),
        Verb::Runs(verb) => remote::runs(client, &verb),
        Verb::Approvals(verb) => remote::approvals(client, &verb),
        Verb::Journal(verb) => remote::journal(client, &verb),
        Verb::Schema(verb) => schema::run(&verb),
        Verb::Serve(args) => serve(&args),
        Verb::Verify(args) => verify::run(&args),
    }
}

fn serve(args: &ServeArgs) -> ExitCode {
    let settings = match args.settings(&Folders::from_environment()) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems {
                output::talk(&format!("{}: {}", problem.flag, problem.detail));
            }
            return ExitCode::from(2);
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHANCERY_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::refusal(&Refusal::new(Reason::InternalError, error.to_string())),
    };
    match runtime.block_on(crate::daemon::serve::serve(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => output::refusal(&refusal),
    }
}
