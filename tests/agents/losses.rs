//! Supervisors of commands that are killed or stopped, and daemons that have to go on or end all the same.

use serde_json::json;

use crate::support::{Daemon, House, bash, calls, eventually, lives, says};

/// Has the machine send a signal.
fn signal(signal: rustix::process::Signal, pid: &str) {
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Writes the ids of its supervisor and of two processes, one of them detached, and stays.
const STAYS: &str = "setsid sh -c 'trap : TERM; echo $$ > below.txt; while :; do sleep 1; done' & \
                     echo $$ > pid.txt; echo $PPID > above.txt; sleep 300";

/// The command, what it detached, and its supervisor.
fn ids(house: &House) -> [String; 3] {
    ["pid.txt", "below.txt", "above.txt"].map(|name| house.written(name))
}

fn bypassing(daemon: &Daemon) -> String {
    daemon.run(&json!({ "permission_mode": "bypass-permissions" }))
}

#[test]
fn a_run_whose_supervisor_is_killed_ends_with_an_unknown_outcome_and_nothing_of_it_lives_on() {
    let house = House::playing(&[bash(STAYS), says("done")]);
    let daemon = house.start();
    let run = bypassing(&daemon);
    let [pid, below, above] = ids(&house);
    signal(rustix::process::Signal::KILL, &above);
    let view = daemon.when(&run, "failed");
    assert_eq!(view["error"]["code"], "run.outcome_unknown", "{view}");
    assert!(!lives(&pid) && !lives(&below), "what the command started is there when the run has ended");
    assert_eq!(
        (daemon.records(&run, "call.outcome_unknown").len(), daemon.records(&run, "call.finished").len()),
        (1, 0)
    );
    daemon.stop();
}

#[test]
fn a_background_task_whose_supervisor_is_killed_is_told_as_lost() {
    let house = House::playing(&[calls(&[("bash", json!({ "background": true, "command": STAYS }))]), says("done")]);
    let daemon = house.start();
    let run = bypassing(&daemon);
    daemon.when(&run, "completed");
    let [pid, below, above] = ids(&house);
    signal(rustix::process::Signal::KILL, &above);
    let end = eventually("end of the task", || daemon.records(&run, "task.finished").pop());
    assert_eq!((&end["data"]["status"], &end["data"]["terminal_reason"]), (&json!("failed"), &json!("lost")));
    assert!(!lives(&pid) && !lives(&below));
    daemon.stop();
}

#[test]
fn a_drain_kills_what_misses_its_deadline_and_says_so() {
    let house = House::playing(&[calls(&[("bash", json!({ "background": true, "command": STAYS }))]), says("done")]);
    let daemon = house.start();
    let run = bypassing(&daemon);
    daemon.when(&run, "completed");
    let [pid, below, above] = ids(&house);
    let task = daemon.records(&run, "task.started")[0]["data"]["task_id"].as_str().unwrap().to_owned();
    // A supervisor that does nothing any more: it hears no request and no end of the daemon.
    signal(rustix::process::Signal::STOP, &above);
    let began = std::time::Instant::now();
    daemon.stop();
    assert!(began.elapsed() < std::time::Duration::from_secs(11), "{:?}", began.elapsed());
    let left: Vec<&String> = [&pid, &below, &above].into_iter().filter(|pid| lives(pid)).collect();
    for pid in &left {
        signal(rustix::process::Signal::KILL, pid);
    }
    assert!(left.is_empty(), "{left:?} live on");
    let log = house.log();
    assert!(log.contains("background tasks did not end in time") && log.contains(&task), "{log}");
}

#[test]
fn a_drain_interrupts_a_run_whose_command_it_cuts() {
    let house = House::playing(&[bash("echo at work > ran.txt; exec sleep 300"), says("done")]);
    let daemon = house.start();
    let run = bypassing(&daemon);
    house.written("ran.txt");
    daemon.stop();
    let daemon = house.start();
    assert_eq!(daemon.view(&run)["status"], "interrupted", "it does not go on by itself");
    assert_eq!(daemon.records(&run, "run.interrupted")[0]["data"]["cause"], "shutdown");
    daemon.stop();
}

#[test]
fn temporary_files_of_commands_lie_beside_the_state_root_and_go_with_the_daemon_or_the_next_start() {
    let house =
        House::playing(&[bash("echo $TMPDIR > tmp.txt; echo $PPID > above.txt; echo x > $TMPDIR/x; exec sleep 300")]);
    let temporary = house.folder.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let daemon = house.start_with(&[], &[("TMPDIR", temporary.to_str().unwrap())]);
    let run = bypassing(&daemon);
    let folder = std::path::PathBuf::from(house.written("tmp.txt").trim());
    let own = folder.parent().unwrap();
    assert_eq!(own.parent().unwrap(), temporary.canonicalize().unwrap());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(own).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    // Both die at once: nobody is left to tidy up.
    let above = house.written("above.txt");
    signal(rustix::process::Signal::STOP, &above);
    daemon.kill();
    signal(rustix::process::Signal::KILL, &above);
    assert!(folder.join("x").exists());
    let in_the_state_root = house.folder.path().join("state/scratch/scratch-old");
    std::fs::create_dir(&in_the_state_root).unwrap();
    std::fs::create_dir(temporary.join("of-others")).unwrap();
    let daemon = house.start_with(&[], &[("TMPDIR", temporary.to_str().unwrap())]);
    daemon.when(&run, "interrupted");
    let names = || -> Vec<_> {
        temporary.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    eventually("tidy folder", || (names() == ["of-others"] && !in_the_state_root.exists()).then_some(()));
    std::fs::remove_file(house.work("tmp.txt")).unwrap();
    let next = bypassing(&daemon);
    house.written("tmp.txt");
    assert_eq!(names().len(), 2);
    daemon.post(&format!("/v1/runs/{next}/cancel"), &json!({}));
    daemon.when(&next, "cancelled");
    daemon.stop();
    assert_eq!(names(), ["of-others"], "the drain removes the daemon's folder");
}

#[test]
fn a_model_can_look_at_its_tasks_of_an_earlier_daemon() {
    let first = [calls(&[("bash", json!({ "background": true, "command": "echo hello" }))]), says("done")];
    let house = House::playing(&first);
    let daemon = house.start();
    let session = daemon.session(&json!({ "permission_mode": "bypass-permissions" }));
    let run = daemon.run_in(&session);
    let end = eventually("end of the task", || daemon.records(&run, "task.finished").pop());
    daemon.when(&run, "completed");
    daemon.stop();
    let task = &end["data"]["task_id"];
    let later = calls(&[("task_output", json!({ "task_id": task })), ("task_stop", json!({ "task_id": task }))]);
    let second = [later, says("done")].map(|turn| turn.replace("[[turns]]\n", "[[turns]]\nmessage = 2\n"));
    let script = format!("version = 1\n{}{}", first.concat(), second.concat());
    std::fs::write(house.folder.path().join("script.toml"), script).unwrap();
    let daemon = house.start();
    let run = daemon.run_in(&session);
    daemon.when(&run, "completed");
    let finished = daemon.records(&run, "call.finished");
    let codes: Vec<_> = finished.iter().map(|one| one["data"]["code"].as_str()).collect();
    assert_eq!(codes, [None, Some("task.terminal")], "{finished:?}");
    let shown = format!("[{} is completed with exit code 0; it wrote 6 bytes]\nhello\n", task.as_str().unwrap());
    assert_eq!(daemon.outputs(&run)[0], shown);
    daemon.stop();
}
