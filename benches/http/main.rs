//! The daemon over its door, each time against a neighbour in the same minutes:
//! `cargo bench --bench http [-- sessions streams gateway]`. Wants `postgres` with `pgbench`, and `nginx` with nchan; what is
//! absent is said and left out.
//!
//! * `sessions`: `POST /v1/sessions` with a bearer token, against `pgbench` inserts of rows of the same size into a
//!   PostgreSQL with its default durability;
//! * `streams`: a thousand subscribers of `/v1/events/stream`, against a thousand of an nchan channel;
//! * `gateway`: calls of a model through the daemon, against the same calls without it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a benchmark measures, prints, and may fail loudly"
)]

mod client;
mod gateway;
mod nchan;
mod postgres;
mod streams;
#[path = "../support/mod.rs"]
mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 5;
const MASTER_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A daemon on a fresh state root.
pub struct Daemon {
    child: Child,
    pub address: String,
    pub token: String,
    folder: tempfile::TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        Self::start_in(|_| {})
    }

    /// A daemon that finds what is put beside its state root: routes, prices.
    pub fn start_in(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let (state, work) = (folder.path().join("state"), folder.path().join("work"));
        std::fs::create_dir(&work).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_chancery"))
            .args(["serve", "--bind", "127.0.0.1:0", "--state-root"])
            .arg(&state)
            .arg("--workspace-root")
            .arg(&work)
            .args(given(folder.path(), "--routes-file", "routes.toml"))
            .args(given(folder.path(), "--price-table-file", "prices.toml"))
            .env("CHANCERY_AUTH_STORE_MASTER_KEY", MASTER_KEY)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = state.join("daemon.json");
        wait_for(&file);
        let said: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let token = std::fs::read_to_string(state.join("tokens/admin.token")).unwrap();
        let address = said["address"].as_str().unwrap().to_owned();
        Self { child, address, token: token.trim().to_owned(), folder }
    }

    /// Processor time that it took so far, seconds.
    pub fn busy(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let ticks = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
        ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / rustix::param::clock_ticks_per_second() as f64
    }

    /// Stores a secret in its vault.
    pub fn store(&self, name: &str, secret: &str) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_chancery"))
            .args(["secrets", "set", name, "--provider", "openai", "--state-root"])
            .arg(self.folder.path().join("state"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    pub fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

/// The arguments that name a file, if it is there.
fn given(folder: &Path, flag: &str, name: &str) -> Vec<std::ffi::OsString> {
    let path = folder.join(name);
    if path.exists() { vec![flag.into(), path.into()] } else { Vec::new() }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Waits until a file is there.
pub fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn sessions() {
    let daemon = Daemon::start();
    let Some(postgres) = postgres::Postgres::start() else {
        println!("sessions: no PostgreSQL here, so there is no baseline");
        return;
    };
    for clients in [1, 64] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut foreign = 0.0_f64;
        client::create_sessions(&daemon, clients, Duration::from_secs(1));
        for _ in 0..ROUNDS {
            foreign = foreign.max(support::foreign_load());
            theirs.push(postgres.insert(clients, ROUND));
            ours.push(client::create_sessions(&daemon, clients, ROUND));
        }
        let what = format!("POST /v1/sessions, {clients} clients (others used at most {foreign:.0} %)");
        support::compare(&what, "answers/s", ours, ("pgbench insert", theirs));
    }
}

fn main() {
    if support::chosen("sessions") {
        sessions();
    }
    if support::chosen("streams") {
        streams::run();
    }
    if support::chosen("gateway") {
        gateway::run();
    }
}
