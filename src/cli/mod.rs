//! The verbs: one file each. What a verb prints goes through `output`.

mod client;
mod output;
mod quickstart;
mod remote;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::settings::{Folders, ServeArgs};
use crate::domain::reason::{Reason, Refusal};
use crate::platform::log_pipe::LogPipe;

/// How long what still runs in threads may hold up the end of the daemon.
const RUNTIME_ENDS: Duration = Duration::from_millis(500);
/// How long the end waits for a reader of standard error.
const LOG_SETTLES: Duration = Duration::from_millis(500);

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
    let built =
        LogPipe::stderr().and_then(|log| Ok((log, tokio::runtime::Builder::new_multi_thread().enable_all().build()?)));
    let (log, runtime) = match built {
        Ok(built) => built,
        Err(error) => return output::refusal(&Refusal::new(Reason::InternalError, error.to_string())),
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHANCERY_LOG").unwrap_or_else(|_| "info".into());
    let writer = log.clone();
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(move || writer.clone()).init();
    let served = runtime.block_on(crate::daemon::serve::serve(settings));
    runtime.shutdown_timeout(RUNTIME_ENDS);
    let code = served.map_or_else(
        |refusal| {
            // Through the log's queue: where nobody reads standard error, the process ends all the same.
            let (reason, detail) = (refusal.reason, output::escape(&refusal.detail));
            log.put(format!("{}: {detail}\nnext: {}\n", reason.code(), reason.next()).as_bytes());
            ExitCode::from(reason.exit_code())
        },
        |()| ExitCode::SUCCESS,
    );
    log.settle(LOG_SETTLES);
    code
}
