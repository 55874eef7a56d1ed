//! `chancery bench journal`: how fast this machine acknowledges, against a raw loop that appends and syncs, in turns
//! within the same minute, on a scratch state root of its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::ClientArgs;
use super::output::{self, Format, escape, talk};
use crate::domain::command::Command;
use crate::domain::ids::BootId;
use crate::domain::record::{DEFAULT_ORG, Provenance};
use crate::domain::session;
use crate::journal::writer::Options;
use crate::platform::clock::SystemClock;
use crate::platform::disk::{Disk as _, Open};
use crate::platform::entropy::{Entropy as _, SystemEntropy};
use crate::platform::files::Folder;
use crate::platform::scratch;
use crate::services::clerk::Clerk;
use crate::services::desk::{Lane, WritePath as _};
use crate::services::opening::{Opened, Opening, open};
use crate::vault::redaction::Redactor;

const ROUND: Duration = Duration::from_millis(1_200);
const ROUNDS: usize = 3;
const PRODUCERS: [usize; 2] = [1, 64];
/// Bytes of one event of the raw loop; a session's record is about as long.
const EVENT_BYTES: usize = 300;
/// Written space of the raw loop, bytes.
const RAW_BYTES: usize = 64 << 20;
/// The file system must have this much room.
const ROOM_BYTES: u64 = 512 << 20;

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Events acknowledged a second, against a raw loop; about fifteen seconds
    Journal(JournalArgs),
}

/// Where it is measured.
#[derive(Debug, Args)]
pub struct JournalArgs {
    /// Folder for the scratch state root, on the disk in question; beside the state root where absent
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Removes the scratch folder whatever happens.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = scratch::remove(&self.0) {
            talk(&format!("{} could not be removed: {error}", self.0.display()));
        }
    }
}

/// Runs the verb.
pub fn run(args: &ClientArgs, verb: &Bench) -> ExitCode {
    let Bench::Journal(ask) = verb;
    let beside = args.root().and_then(|root| root.parent().map(Path::to_owned));
    let Some(parent) = ask.dir.clone().or(beside).filter(|parent| parent.is_dir()) else {
        talk("there is no folder to measure in; name one with --dir");
        return ExitCode::from(2);
    };
    match measure(&parent) {
        Ok(found) => {
            match args.output {
                Format::Json => output::json(&found),
                Format::Human => output::data(&told(&found)),
            };
            ExitCode::SUCCESS
        }
        Err(why) => {
            talk(&format!("bench failed: {}", escape(&why)));
            ExitCode::FAILURE
        }
    }
}

fn measure(parent: &Path) -> Result<Value, String> {
    let said = |error: std::io::Error| format!("{}: {error}", parent.display());
    let home = Scratch(scratch::create(parent, &SystemEntropy::default()).map_err(said)?);
    talk(&format!("Measuring in {} for about fifteen seconds.", home.0.display()));
    let folder = Folder::open(&home.0).map_err(said)?;
    let (free, _, _) = folder.space().map_err(said)?;
    if free < ROOM_BYTES {
        return Err(format!("{} MiB are free there, {} are needed", free >> 20, ROOM_BYTES >> 20));
    }
    let raw = raw_file(&folder).map_err(said)?;
    let opened = scratch_root(&home.0)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(said)?;
    let mut rows = Vec::new();
    for producers in PRODUCERS {
        let (mut ours, mut theirs, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(raw_round(raw.as_ref(), producers).map_err(said)?);
            let (rate, mut waited) = runtime.block_on(clerk_round(&opened.clerk, producers))?;
            ours.push(rate);
            waits.append(&mut waited);
        }
        waits.sort_unstable();
        rows.push(row(producers, &mut ours, &mut theirs, &waits));
    }
    drop(opened.clerk);
    let journal = opened.thread.finish().ok_or("the clerk's thread did not end well")?;
    journal.close().map_err(|error| error.to_string())?;
    Ok(json!({ "event_bytes": EVENT_BYTES, "round_ms": ROUND.as_millis() as u64, "rounds": ROUNDS, "rows": rows }))
}

fn scratch_root(home: &Path) -> Result<Opened, String> {
    let disk = Folder::create(&home.join("state")).map_err(|error| error.to_string())?;
    let entropy = SystemEntropy::default();
    let opening = Opening {
        disk: Arc::new(disk),
        clock: Arc::new(SystemClock),
        redactor: Redactor::default(),
        subjects: crate::vault::subject::Subjects::default(),
        boot_id: BootId::from_ulid(ulid::Ulid(entropy.u128())),
        entropy: Arc::new(entropy),
        options: Options::default(),
        build: "bench".to_owned(),
        price_table: None,
        encode: |_, _, line, out| {
            let at = out.len();
            out.extend_from_slice(line);
            at
        },
        observe: Arc::new(|_, _| {}),
    };
    open(opening).map_err(|refusal| refusal.detail)
}

fn raw_file(folder: &Folder) -> std::io::Result<Arc<dyn crate::platform::disk::DiskFile>> {
    let file = folder.open("raw", Open::Create)?;
    file.write_at(0, &vec![b'\n'; RAW_BYTES])?;
    file.sync()?;
    Ok(file)
}

/// Events a second of a loop that appends one batch and syncs it, into written space.
fn raw_round(file: &dyn crate::platform::disk::DiskFile, batch: usize) -> std::io::Result<f64> {
    let bytes = vec![b'x'; EVENT_BYTES * batch];
    let (mut offset, mut events) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < ROUND {
        file.write_at(offset as u64, &bytes)?;
        file.sync()?;
        events += batch;
        offset += bytes.len();
        if offset + bytes.len() > RAW_BYTES {
            offset = 0;
        }
    }
    Ok(a_second(events, began.elapsed()))
}

/// Acknowledged events a second of producers that each wait for their own, and how long each waited, microseconds.
async fn clerk_round(clerk: &Clerk, producers: usize) -> Result<(f64, Vec<u64>), String> {
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..producers {
        let clerk = clerk.clone();
        tasks.spawn(async move {
            let mut waits = Vec::new();
            while began.elapsed() < ROUND {
                let asked = Instant::now();
                let ask = session::Create { org: DEFAULT_ORG.to_owned(), body: body() };
                let by = Provenance::system("bench");
                let done = clerk.submit(Command::CreateSession(ask), by, Lane::Ordinary).await;
                done.map_err(|refusal| refusal.detail)?;
                waits.push(asked.elapsed().as_micros() as u64);
            }
            Ok::<_, String>(waits)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.append(&mut done.map_err(|error| error.to_string())??);
    }
    Ok((a_second(all.len(), began.elapsed()), all))
}

#[expect(clippy::cast_precision_loss, reason = "a count of events in some seconds is far below 2^52")]
fn a_second(events: usize, took: Duration) -> f64 {
    events as f64 / took.as_secs_f64()
}

fn body() -> session::Created {
    session::Created {
        title: Some("a session like any other".into()),
        route: None,
        model: None,
        subject_key: None,
        permission_mode: None,
        permission_rules: Vec::new(),
        metadata: std::collections::BTreeMap::new(),
        reply_targets: Vec::new(),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn row(producers: usize, ours: &mut [f64], theirs: &mut [f64], waits: &[u64]) -> Value {
    let (ours, theirs) = (median(ours), median(theirs));
    let at = |share: usize| waits.get((waits.len() * share / 100).min(waits.len().saturating_sub(1))).copied();
    json!({
        "producers": producers,
        "acknowledged_per_second": ours.round(),
        "raw_per_second": theirs.round(),
        "ratio": (ours / theirs.max(1.0) * 100.0).round() / 100.0,
        "p50_us": at(50),
        "p99_us": at(99),
    })
}

fn told(found: &Value) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["PRODUCERS", "ACKNOWLEDGED/S", "RAW APPEND+SYNC/S", "RATIO", "P50 µs", "P99 µs"]);
    for row in found["rows"].as_array().into_iter().flatten() {
        let names = ["producers", "acknowledged_per_second", "raw_per_second", "ratio", "p50_us", "p99_us"];
        table.add_row(names.map(|name| match row[name].as_f64() {
            Some(number) if name == "ratio" => format!("{number:.2}"),
            Some(number) => format!("{number:.0}"),
            None => "-".to_owned(),
        }));
    }
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}
