//! The verbs: one file each. What a verb prints goes through `output`.

mod ask;
mod auth;
mod bench;
mod budget;
mod client;
mod doctor;
mod events;
mod follow;
mod heads;
mod index;
mod model_calls;
mod output;
mod prompt;
mod quickstart;
mod remote;
mod repair;
mod runs;
mod runtime;
mod schema;
mod secret_shapes;
mod secrets;
mod sessions;
mod show;
mod stream;
mod tasks;
mod token;
mod trouble;
mod verify;
mod waits;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::settings::{Folders, ServeArgs};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::runtime::DebugLevel;
use crate::platform::log_pipe::LogPipe;
use crate::vault::redaction::Redactor;

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
    /// Shows in a minute what Chancery is for, on a state root of its own
    Quickstart,
    /// Serves a state root on a loopback address
    Serve(Box<Serve>),
    /// How the daemon stands
    Status(ask::At),
    /// Examines a state root and its daemon
    Doctor(doctor::DoctorArgs),
    /// Verifies a state root or a receipt, offline
    Verify(verify::VerifyArgs),
    /// The receipt of a record: by its number, or by the id of what it ended or began
    Receipt {
        /// A sequence number, or the id of a session, run, approval or question
        what: String,
    },
    /// The two token files of a state root
    #[command(subcommand)]
    Token(token::TokenVerb),
    /// Sessions
    #[command(subcommand)]
    Sessions(sessions::Sessions),
    /// Runs
    #[command(subcommand)]
    Runs(runs::Runs),
    /// Approvals
    #[command(subcommand)]
    Approvals(waits::Approvals),
    /// Questions
    #[command(subcommand)]
    Questions(waits::Questions),
    /// Background tasks
    #[command(subcommand)]
    Tasks(tasks::Tasks),
    /// The configuration of the running daemon
    #[command(subcommand)]
    Runtime(runtime::Runtime),
    /// Secrets that the daemon uses and never shows
    #[command(subcommand)]
    Secrets(secrets::SecretsVerb),
    /// Budgets: what may be spent, and what was
    #[command(subcommand)]
    Budget(budget::Budget),
    /// Calls of models that clients made through the gateway
    #[command(subcommand)]
    ModelCalls(model_calls::ModelCalls),
    /// The journal
    #[command(subcommand)]
    Journal(remote::Journal),
    /// Schemas, samples and vectors of every format
    #[command(subcommand)]
    Schema(schema::Schema),
    /// Measurements on this machine
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Completions for a shell, on standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The disposable index
    #[command(subcommand)]
    Index(index::Index),
}

/// How a state root is served.
#[derive(Debug, clap::Args)]
struct Serve {
    #[command(flatten)]
    args: ServeArgs,
    /// Drains when this process, which started it, has ended
    #[arg(long, hide = true, value_name = "PID")]
    while_parent: Option<i32>,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if let Some(code) = crate::daemon::confined_child() {
        return code;
    }
    let line = without_empty_variables(Cli::command()).get_matches();
    let mut cli = Cli::from_arg_matches(&line).unwrap_or_else(|fault| fault.exit());
    cli.client.settle(&line);
    let client = &cli.client;
    match cli.verb {
        Verb::Quickstart => quickstart::run(&line),
        Verb::Serve(wanted) => serve(&wanted),
        Verb::Status(at) => remote::status(client, &at),
        Verb::Doctor(args) => doctor::run(client, &args),
        Verb::Verify(args) => verify::run(client, &args),
        Verb::Receipt { what } => remote::receipt(client, &what),
        Verb::Token(verb) => token::run(client, &verb),
        Verb::Sessions(verb) => sessions::run(client, &verb),
        Verb::Runs(verb) => runs::run(client, &verb),
        Verb::Approvals(verb) => waits::approvals(client, &verb),
        Verb::Questions(verb) => waits::questions(client, &verb),
        Verb::Tasks(verb) => tasks::tasks(client, &verb),
        Verb::Runtime(verb) => runtime::runtime(client, &verb),
        Verb::Secrets(verb) => secrets::run(client, &verb),
        Verb::Budget(verb) => budget::run(client, &verb),
        Verb::ModelCalls(verb) => model_calls::run(client, &verb),
        Verb::Journal(verb) => remote::journal(client, &verb),
        Verb::Index(verb) => index::run(client, &verb),
        Verb::Schema(verb) => schema::run(&verb),
        Verb::Bench(verb) => bench::run(client, &verb),
        Verb::Completions { shell } => completions(shell),
    }
}

/// A variable that is set to nothing counts as one that is not set: lists of variables are often written that way.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(None::<&'static str>) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Written to memory first: a reader who leaves early is no error.
fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "chancery", &mut script);
    output::words(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// What is to be logged.
fn log_words() -> String {
    std::env::var("CHANCERY_LOG").ok().filter(|words| !words.is_empty()).unwrap_or_else(|| "info".to_owned())
}

/// What is logged at a level.
fn filter(level: DebugLevel) -> EnvFilter {
    let filter = EnvFilter::try_new(log_words()).unwrap_or_else(|_| "info".into());
    let own = match level {
        DebugLevel::Off => return filter,
        DebugLevel::Redacted => LevelFilter::DEBUG,
        DebugLevel::Full => LevelFilter::TRACE,
    };
    // Libraries say no more than before: what they would say may hold anything.
    match format!("{}={own}", env!("CARGO_CRATE_NAME")).parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

/// Threads that serve: one processor is left to the clerk, whom every change waits for. With as many threads as
/// processors they wake one another in its way.
fn serving_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() - 1).max(1))
}

fn serve(wanted: &Serve) -> ExitCode {
    if let Some(parent) = wanted.while_parent
        && !crate::platform::own_process::end_with(parent).unwrap_or(false)
    {
        output::talk("the process that this daemon was to serve has ended");
        return ExitCode::FAILURE;
    }
    let settings = match wanted.args.settings(&Folders::from_environment()) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems {
                output::talk(&format!("{}: {}", problem.flag, problem.detail));
            }
            return ExitCode::from(2);
        }
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(serving_threads()).enable_all();
    let redactor = Redactor::default();
    let known = redactor.clone();
    let built = LogPipe::stderr(move |line| known.strict_bytes(line)).and_then(|log| Ok((log, runtime.build()?)));
    let (log, runtime) = match built {
        Ok(built) => built,
        Err(error) => return output::refusal(&Refusal::new(Reason::InternalError, error.to_string())),
    };
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_env_filter(filter(DebugLevel::Off));
    let subscriber = subscriber.with_writer(move || writer.clone()).with_filter_reloading();
    let handle = subscriber.reload_handle();
    subscriber.init();
    // What a panic says may hold anything: it goes the way of all lines.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread panicked")));
    // It fails only where the subscriber is gone, and then nobody is told anything.
    let set_level = Arc::new(move |level| drop(handle.reload(filter(level))));
    let served = runtime.block_on(crate::daemon::serve::serve(settings, set_level, redactor));
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
