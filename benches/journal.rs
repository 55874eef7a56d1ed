//! How fast commands become sealed, against a raw loop that signs and syncs batches of the same size into written space,
//! alternating within the same minutes. Prints medians and ratios; run it with `cargo bench --bench journal`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::too_many_lines,
    reason = "a benchmark measures, prints, and may fail loudly"
)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery::domain::command::Command;
use chancery::domain::ids::BootId;
use chancery::domain::record::{DEFAULT_ORG, Provenance};
use chancery::domain::session;
use chancery::journal::writer::Options;
use chancery::platform::clock::SystemClock;
use chancery::platform::entropy::SystemEntropy;
use chancery::platform::files::Folder;
use chancery::services::clerk::Clerk;
use chancery::services::desk::{Lane, WritePath as _};
use chancery::services::opening::{Opening, open};
use ed25519_dalek::{Signer as _, SigningKey};

const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;

/// Events a second of a loop that writes `batch` lines of 300 bytes, one signature and one sync a time.
fn raw(folder: &Path, batch: usize) -> f64 {
    let path = folder.join("raw");
    let file = File::create(&path).unwrap();
    file.write_all_at(&vec![b'\n'; 64 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let key = SigningKey::from_bytes(&[7; 32]);
    let line = vec![b'x'; 300];
    let (mut offset, mut events) = (0_u64, 0_usize);
    let began = Instant::now();
    while began.elapsed() < ROUND && offset < (60 << 20) {
        let mut bytes = line.repeat(batch);
        bytes.extend_from_slice(&key.sign(&bytes).to_bytes());
        bytes.resize(bytes.len() + 236, b'\n');
        file.write_all_at(&bytes, offset).unwrap();
        file.sync_data().unwrap();
        offset += bytes.len() as u64;
        events += batch;
    }
    events as f64 / began.elapsed().as_secs_f64()
}

/// Events a second, and lines a batch, of `producers` that wait for each of their commands.
fn clerk(runtime: &tokio::runtime::Runtime, clerk: &Clerk, producers: usize) -> f64 {
    let began = Instant::now();
    let events: usize = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..producers {
            let clerk = clerk.clone();
            tasks.spawn(async move {
                let mut done = 0;
                while began.elapsed() < ROUND {
                    let ask = session::Create { org: DEFAULT_ORG.to_owned(), body: body() };
                    let by = Provenance::system("bench");
                    clerk.submit(Command::CreateSession(ask), by, Lane::Ordinary).await.unwrap();
                    done += 1;
                }
                done
            });
        }
        let mut all = 0;
        while let Some(done) = tasks.join_next().await {
            all += done.unwrap();
        }
        all
    });
    events as f64 / began.elapsed().as_secs_f64()
}

fn body() -> session::Created {
    session::Created {
        title: Some("a session like any other".into()),
        route: None,
        model: None,
        permission_mode: None,
        permission_rules: Vec::new(),
        metadata: std::collections::BTreeMap::new(),
    }
}

fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn main() {
    let temporary = tempfile::tempdir().unwrap();
    let root = Arc::new(Folder::create(&temporary.path().join("state")).unwrap());
    let opened = open(Opening {
        disk: root,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy::default()),
        options: Options::default(),
        boot_id: BootId::from_ulid(ulid::Ulid(1)),
        build: "bench".to_owned(),
        encode: |_, _, line| bytes::Bytes::copy_from_slice(line),
        observe: Arc::new(|_, _| {}),
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for producers in [1, 64] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(raw(temporary.path(), producers));
            ours.push(clerk(&runtime, &opened.clerk, producers));
        }
        let ((ours, low, high), (theirs, raw_low, raw_high)) = (median(ours), median(theirs));
        println!(
            "{producers:>3} producers: clerk {ours:.0}/s ({low:.0} to {high:.0}), raw signed loop {theirs:.0}/s \
             ({raw_low:.0} to {raw_high:.0}), ratio {:.2}",
            ours / theirs
        );
    }
    let size = opened.published.head().note.size;
    drop(opened.clerk);
    let journal = opened.thread.finish().unwrap();
    journal.close().unwrap();
    let disk = Folder::open(&temporary.path().join("state")).unwrap();
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
    let took = began.elapsed().as_secs_f64();
    println!(
        "replay with verification: {folded} records of {size} lines in {took:.2} s, {:.0}/s",
        folded as f64 / took
    );
}
