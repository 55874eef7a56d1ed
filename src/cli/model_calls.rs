//! `chancery model-calls …`: calls that clients made through the gateway.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::ask::{asking, with};
use super::client::ClientArgs;
use super::runs::{all_actions, write_receipts};
use super::show;
use super::wire::segment;

/// Something about calls of clients.
#[derive(Debug, Subcommand)]
pub enum ModelCalls {
    /// Lists them, oldest first
    List {
        /// Only those that this session pays for
        #[arg(long, alias = "session", value_name = "SESSION")]
        session_id: Option<String>,
        /// Only those over this route
        #[arg(long)]
        route: Option<String>,
        /// Writes the receipt of each record to a file of its own in this folder; `chancery verify` takes each alone
        #[arg(long, value_name = "DIR")]
        receipts: Option<PathBuf>,
    },
    /// Shows a call
    #[command(alias = "show")]
    Get {
        /// The call
        id: String,
    },
}

/// Runs the verb.
pub fn run(args: &ClientArgs, verb: &ModelCalls) -> ExitCode {
    with(args, |client| match verb {
        ModelCalls::List { session_id, route, receipts } => {
            let path = asking("/v1/model-calls?limit=500".to_owned(), "session_id", session_id.as_deref());
            let list = all_actions(client, &asking(path, "route", route.as_deref()))?;
            if let Some(folder) = receipts {
                write_receipts(client, &list, folder)?;
            }
            Ok((show::MODEL_CALLS, list))
        }
        ModelCalls::Get { id } => {
            client.get(&format!("/v1/model-calls/{}", segment(id))).map(|call| (show::MODEL_CALL, call))
        }
    })
}
