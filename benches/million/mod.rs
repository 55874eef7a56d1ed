//! A state root of a million events: ten thousand sessions of ten runs each, all ended, with a snapshot at the end.

use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use chancery::domain::command::{Answer, Command};
use chancery::domain::event::Event;
use chancery::domain::ids::{RunId, SessionId};
use chancery::domain::record::{DEFAULT_ORG, Provenance};
use chancery::domain::run::{self, InputItem, RouteChoice};
use chancery::domain::turn::{self, StopReason, Wanted};
use chancery::domain::{call, permission, session};
use chancery::platform::files::Folder;
use chancery::projections::Bodies as _;
use chancery::services::desk::{Committed, Lane, WritePath as _};
use chancery::services::opening::Opened;
use chancery::services::snapshotter::Snapshotter;

const SESSIONS: usize = 10_000;
const RUNS: usize = 10;
const PRODUCERS: usize = 256;

async fn act(house: &Opened, command: Command) -> Committed {
    house.clerk.submit(command, Provenance::system("bench"), Lane::Ordinary).await.unwrap()
}

async fn ask_model(house: &Opened, run_id: RunId, turn: u32) {
    let body = turn::Requested {
        turn,
        attempt: 1,
        route: "rehearsal".into(),
        model: "script".into(),
        ..turn::Requested::default()
    };
    act(house, Command::RecordTurnRequested(turn::Request { run_id, body, quote: None })).await;
}

async fn answer(house: &Opened, run_id: RunId, turn: u32, tool: Option<&str>) -> u64 {
    let wanted = |tool: &str| Wanted { provider_id: "c".into(), tool: tool.into(), input: r#"{"path":"."}"#.into() };
    let answer = turn::Answer {
        run_id,
        turn,
        text: Some("Here is what I found in the folder, and what I think of it.".into()),
        reasoning: None,
        calls: tool.map(wanted).into_iter().collect(),
        stop: if tool.is_some() { StopReason::ToolUse } else { StopReason::EndTurn },
        usage: None,
        duration_ms: 1,
    };
    act(house, Command::RecordTurnAnswered(answer)).await.seq.unwrap()
}

async fn one_run(house: &Opened, session_id: SessionId) {
    let ask = run::Queue {
        org: DEFAULT_ORG.into(),
        session_id,
        input: vec![InputItem::Text { text: "What is in this folder?".into() }],
        route: None,
        model: None,
        max_turns: None,
        max_output_tokens: None,
        metadata: std::collections::BTreeMap::new(),
        reply_targets: None,
    };
    let Answer::Run(run_id) = act(house, Command::QueueRun(ask)).await.answer else { panic!("no run") };
    let start = run::Start {
        run_id,
        route: "rehearsal".into(),
        driver: "rehearsal".into(),
        model: "script".into(),
        chosen_by: RouteChoice::Default,
        chosen_under: (0, None),
        rehearsal: true,
    };
    act(house, Command::StartRun(start)).await;
    ask_model(house, run_id, 1).await;
    let seq = answer(house, run_id, 1, Some("list_files")).await;
    let Some(Event::TurnAnswered(answered)) = house.published.record(seq).map(|record| record.event) else {
        panic!("no answer")
    };
    let call_id = answered.tool_calls[0].call_id;
    act(house, Command::RecordPermission(permission::Judge { run_id, call_id })).await;
    let dispatch = call::Dispatch { run_id, call_id, call_hash: "0".repeat(64), sandbox: None };
    act(house, Command::DispatchCall(dispatch)).await;
    let body = call::Finished {
        call_id,
        ok: true,
        code: None,
        output: "a.txt\nb.txt\nc.txt\n".into(),
        truncated: false,
        exit_code: None,
        task_id: None,
        duration_ms: 1,
    };
    act(house, Command::FinishCall(call::Finish { run_id, body })).await;
    ask_model(house, run_id, 2).await;
    answer(house, run_id, 2, None).await;
    act(house, Command::CompleteRun(run::Complete { run_id, output: "Three files.".into() })).await;
}

async fn one_session(house: &Opened, number: usize) {
    let body = super::plain(&format!("session {number}"));
    let ask = session::Create { org: DEFAULT_ORG.into(), body };
    let Answer::Session(id) = act(house, Command::CreateSession(ask)).await.answer else { panic!("no session") };
    for _ in 0..RUNS {
        one_run(house, id).await;
    }
    act(house, Command::EndSession(session::End { org: DEFAULT_ORG.into(), session_id: id, note: None })).await;
}

/// Makes it, through the clerk.
pub fn make(root: &Path) {
    let house = std::sync::Arc::new(super::opened(root));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let began = Instant::now();
    runtime.block_on(async {
        let next = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..PRODUCERS {
            let (house, next) = (house.clone(), next.clone());
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= SESSIONS {
                        break;
                    }
                    one_session(&house, number).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let disk = std::sync::Arc::new(Folder::open(root).unwrap());
        let began = Instant::now();
        Snapshotter::new(house.clerk.clone(), house.published.clone(), disk, None).take().await.unwrap();
        println!("snapshot taken in {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
    });
    let seconds = began.elapsed().as_secs_f64();
    let lines = house.published.head().next_seq;
    println!("made {lines} lines in {seconds:.1} s, {:.0} lines/s, by {PRODUCERS} producers", lines as f64 / seconds);
    let house = std::sync::Arc::try_unwrap(house).unwrap_or_else(|_| panic!("still in use"));
    super::close(house);
}

/// Starts the daemon on it and tells when it answered and what it holds in memory.
pub fn daemon_at_rest(root: &Path) -> String {
    let work = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let mut daemon = Process::new(env!("CARGO_BIN_EXE_chancery"))
        .args(["serve", "--bind", "127.0.0.1:0", "--state-root"])
        .arg(root)
        .arg("--workspace-root")
        .arg(work.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !root.join("daemon.json").exists() {
        assert!(began.elapsed() < Duration::from_mins(1), "the daemon does not serve");
        std::thread::sleep(Duration::from_millis(2));
    }
    let ready = began.elapsed().as_secs_f64() * 1e3;
    std::thread::sleep(Duration::from_millis(500));
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let kib = |name: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let (resident, most) = (kib("VmRSS") / 1024.0, kib("VmHWM") / 1024.0);
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    daemon.wait().unwrap();
    format!("daemon: serving after {ready:.0} ms, resident {resident:.0} MiB, at most {most:.0} MiB")
}
