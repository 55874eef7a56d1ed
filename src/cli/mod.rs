//! The verbs: one file each. What a verb prints goes through `output`.

mod output;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::settings::{Folders, ServeArgs};
use crate::domain::reason::{Reason, Refusal};

/// A self-hosted control plane for AI agents whose every act is sealed in a journal that anyone can verify.
#[derive(Debug, Parser)]
#[command(name = "chancery", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serves a state root on a loopback address.
    Serve(Box<ServeArgs>),
    /// Verifies a state root or a receipt, offline.
    Verify(verify::VerifyArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if let Some(code) = crate::daemon::confined_child() {
        return code;
    }
    match Cli::parse().verb {
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
