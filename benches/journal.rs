//! The journal and the clerk in one process, each against its baseline in the same minutes:
//! `cargo bench --bench journal [-- append replay start]`.
//!
//! * `append`: commands that become sealed, against a raw loop that writes lines of the same size into written space
//!   with one signature and one sync a batch;
//! * `replay`: recovery with verification and fold, against read, hash and parse of the same bytes on two threads;
//! * `start`: opening a state root of a million events in ten thousand ended sessions from its snapshot.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    clippy::cast_precision_loss,
    reason = "a benchmark measures, prints, and may fail loudly"
)]

mod million;
mod support;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chancery::domain::command::Command;
use chancery::domain::ids::BootId;
use chancery::domain::record::{DEFAULT_ORG, Provenance};
use chancery::domain::session;
use chancery::journal::writer::Options;
use chancery::journal::{line, merkle};
use chancery::platform::clock::SystemClock;
use chancery::platform::entropy::SystemEntropy;
use chancery::platform::files::Folder;
use chancery::services::clerk::Clerk;
use chancery::services::desk::{Lane, WritePath as _};
use chancery::services::opening::{Opened, Opening, open};
use chancery::vault::redaction::Redactor;
use ed25519_dalek::{Signer as _, SigningKey};

const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;

/// Batches that the clerk has written, and the records in them.
static BATCHES: AtomicU64 = AtomicU64::new(0);
static RECORDS: AtomicU64 = AtomicU64::new(0);

/// Events a second of a loop that writes `batch` lines of `bytes` bytes, one signature and one sync a time.
fn raw(folder: &Path, batch: usize, bytes: usize) -> f64 {
    let path = folder.join("raw");
    let file = File::create(&path).unwrap();
    file.write_all_at(&vec![b'\n'; 96 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let key = SigningKey::from_bytes(&[7; 32]);
    let line = vec![b'x'; bytes];
    let (mut offset, mut events) = (0_u64, 0_usize);
    let began = Instant::now();
    while began.elapsed() < ROUND && offset < (90 << 20) {
        let mut block = line.repeat(batch);
        let signature = key.sign(&block).to_bytes();
        block.extend_from_slice(&signature);
        block.resize(block.len() + 236, b'\n');
        file.write_all_at(&block, offset).unwrap();
        file.sync_data().unwrap();
        offset += block.len() as u64;
        events += batch;
    }
    events as f64 / began.elapsed().as_secs_f64()
}

/// Events a second of `producers` that wait for each of their commands.
fn clerk(runtime: &tokio::runtime::Runtime, clerk: &Clerk, producers: usize) -> f64 {
    let began = Instant::now();
    let produce = |clerk: Clerk| async move {
        let mut done = 0;
        while began.elapsed() < ROUND {
            let ask = session::Create { org: DEFAULT_ORG.to_owned(), body: plain("a session") };
            let by = Provenance::system("bench");
            clerk.submit(Command::CreateSession(ask), by, Lane::Ordinary).await.unwrap();
            done += 1;
        }
        done
    };
    let events: usize = runtime.block_on(async {
        if producers == 1 {
            return produce(clerk.clone()).await;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..producers {
            tasks.spawn(produce(clerk.clone()));
        }
        let mut all = 0;
        while let Some(done) = tasks.join_next().await {
            all += done.unwrap();
        }
        all
    });
    events as f64 / began.elapsed().as_secs_f64()
}

/// A session that asks for nothing special.
pub fn plain(title: &str) -> session::Created {
    session::Created {
        subject_key: None,
        title: Some(title.into()),
        route: None,
        model: None,
        permission_mode: None,
        permission_rules: Vec::new(),
        metadata: std::collections::BTreeMap::new(),
        reply_targets: Vec::new(),
    }
}

/// Opens a state root as the daemon does.
pub fn opened(root: &Path) -> Opened {
    open(Opening {
        disk: Arc::new(Folder::create(root).unwrap()),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy::default()),
        options: Options::default(),
        redactor: Redactor::default(),
        subjects: chancery::vault::subject::Subjects::default(),
        boot_id: BootId::from_ulid(ulid::Ulid(1)),
        build: "bench".to_owned(),
        price_table: None,
        encode: chancery::http::sse::encode_record,
        observe: Arc::new(|records, _| {
            BATCHES.fetch_add(1, Ordering::Relaxed);
            RECORDS.fetch_add(records as u64, Ordering::Relaxed);
        }),
    })
    .unwrap()
}

/// Lets the clerk end and closes the journal.
pub fn close(opened: Opened) {
    drop(opened.clerk);
    opened.thread.finish().unwrap().close().unwrap();
}

fn append(folder: &Path) {
    let opened = opened(&folder.join("append"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    clerk(&runtime, &opened.clerk, 1);
    let head = opened.published.head().next_seq;
    let mut bytes = 0;
    opened
        .published
        .reader()
        .scan(head - 2, head - 1, |_, line| {
            bytes = line.len() + 1;
            true
        })
        .unwrap();
    for producers in [1, 64] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut foreign = 0.0_f64;
        for _ in 0..ROUNDS {
            foreign = foreign.max(support::foreign_load());
            theirs.push(raw(folder, producers, bytes));
            ours.push(clerk(&runtime, &opened.clerk, producers));
        }
        let what =
            format!("append, {producers} producers, records of {bytes} bytes (others used at most {foreign:.0} %)");
        support::compare(&what, "events/s", ours, ("raw signed loop", theirs));
        let (batches, records) = (BATCHES.swap(0, Ordering::Relaxed), RECORDS.swap(0, Ordering::Relaxed));
        println!("  {:.1} records a batch", records as f64 / batches as f64);
    }
    close(opened);
}

/// Reads, hashes and parses all segments, each thread every other one of equal parts.
fn read_hash_parse(root: &Path) -> (u64, f64) {
    let began = Instant::now();
    let mut texts = Vec::new();
    let mut names: Vec<_> =
        std::fs::read_dir(root.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in names.iter().filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")) {
        texts.push(std::fs::read(path).unwrap());
    }
    let lines: u64 = std::thread::scope(|scope| {
        let texts = &texts;
        let work = move |part: usize| {
            let mut count = 0_u64;
            for text in texts {
                for (index, line) in text.split(|byte| *byte == b'\n').enumerate().skip(1) {
                    if line.is_empty() || (index / 64) % 2 != part {
                        continue;
                    }
                    std::hint::black_box(merkle::leaf_hash(line));
                    if line.starts_with(b"{\"seq\"") && std::hint::black_box(line::parse_record(line)).is_ok() {
                        count += 1;
                    }
                }
            }
            count
        };
        let other = scope.spawn(move || work(1));
        work(0) + other.join().unwrap()
    });
    (lines, lines as f64 / began.elapsed().as_secs_f64())
}

/// Recovery as a start without a snapshot does it.
fn recover(root: &Path) -> f64 {
    let disk = Folder::open(root).unwrap();
    let began = Instant::now();
    let mut folded = 0_u64;
    let mut models = chancery::projections::Models::default();
    let mut world = chancery::domain::world::World::default();
    let recovered = chancery::journal::recovery::read(&disk, None, &mut |record| {
        world.apply(&record);
        models.apply(&record);
        folded += 1;
    });
    recovered.unwrap();
    folded as f64 / began.elapsed().as_secs_f64()
}

fn replay(root: &Path) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut foreign = 0.0_f64;
    for _ in 0..ROUNDS {
        foreign = foreign.max(support::foreign_load());
        theirs.push(read_hash_parse(root).1);
        ours.push(recover(root));
    }
    let what = format!("replay with verification and fold (others used at most {foreign:.0} %)");
    support::compare(&what, "records/s", ours, ("read, hash and parse on two threads", theirs));
}

fn start(root: &Path) {
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let opened = opened(root);
        took.push(began.elapsed().as_secs_f64() * 1e3);
        assert!(opened.found.snapshot_seq.is_some(), "a snapshot is there");
        close(opened);
    }
    let took = support::spread(took);
    println!("start from a snapshot: {:.0} ms ({:.0} to {:.0})", took.median, took.low, took.high);
    println!("{}", million::daemon_at_rest(root));
}

fn main() {
    let temporary = tempfile::tempdir().unwrap();
    if support::chosen("append") {
        append(temporary.path());
    }
    if support::chosen("replay") || support::chosen("start") {
        let root = temporary.path().join("million");
        million::make(&root);
        if support::chosen("replay") {
            replay(&root);
        }
        if support::chosen("start") {
            start(&root);
        }
    }
}
