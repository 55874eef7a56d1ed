//! What is left of commands whose daemon or supervisor goes away at a bad moment.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use chancery::agent::sandbox::{Child, Command, How, SandboxMode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{Place, gone};

/// Processes whose environment holds this text; zombies have none.
fn marked(mark: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let holds = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|text| memchr::memmem::find(&text, mark.as_bytes()).is_some())
    };
    numbers.filter(holds).collect()
}

#[test]
fn a_daemon_that_goes_away_while_a_command_starts_leaves_neither_processes_nor_a_folder() {
    let place = Place::new();
    let scratch = place.scratch();
    std::fs::create_dir(&scratch).unwrap();
    let mark = format!("CHANCERY_TEST_MARK={}", place.root.path().display());
    let (name, value) = mark.split_once('=').unwrap();
    for round in 0..30 {
        let folder = scratch.join(format!("round-{round}"));
        std::fs::create_dir(&folder).unwrap();
        let plan = json!({
            "program": "/bin/sh",
            "args": ["-c", "sleep 30 & setsid sleep 30 & setsid sh -c 'sleep 30 & sleep 30' & sleep 30"],
            "cwd": place.work(), "environment": { name: value, "PATH": "/usr/bin:/bin" }, "scratch": folder,
            "rules": null, "time_limit_ms": 20_000, "grace_ms": 2_000, "file_bytes": 1 << 20,
            "daemon_pid": 1, "daemon_group": 1, "supervisor_pid": 0,
        });
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut supervisor = std::process::Command::new(env!("CARGO_BIN_EXE_chancery"))
            .arg("__confine")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(&ours, "{plan}").unwrap();
        drop(ours);
        supervisor.wait().unwrap();
        let left = marked(&mark);
        for pid in &left {
            let pid = rustix::process::Pid::from_raw(*pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        assert_eq!((left, folder.exists()), (vec![], false), "round {round}");
    }
}

/// Stops the supervisor of a command, which is its parent.
fn stop_supervisor(child: &Child) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok()).unwrap();
    kill_process(Pid::from_raw(parent).unwrap(), Signal::STOP).unwrap();
}

#[tokio::test]
async fn a_supervisor_that_is_stopped_itself_is_lost_once_its_command_is_overdue() {
    let place = Place::new();
    let launcher = place.launcher(SandboxMode::Off);
    let limit = |time_limit| Command { time_limit, ..place.shell("sleep 90") };
    // The end of one is due by its time limit, that of the other because it is asked to end.
    let mut limited = launcher.start(limit(Some(Duration::from_secs(1)))).await.unwrap();
    let mut asked = launcher.start(limit(None)).await.unwrap();
    stop_supervisor(&limited);
    stop_supervisor(&asked);
    asked.stop();
    let both = async { tokio::join!(limited.wait(), asked.wait()) };
    let (one, other) = tokio::time::timeout(Duration::from_secs(40), both).await.expect("nobody waits for ever");
    assert_eq!([one.how, other.how], [How::Lost, How::Lost]);
    assert!(gone(limited.pid()).await && gone(asked.pid()).await);
}
