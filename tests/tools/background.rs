//! Background tasks: their output, their end, their limits.

use std::time::Duration;

use chancery::agent::background::TaskEnd;
use chancery::domain::ids::{SessionId, TaskId};
use chancery::domain::reason::Reason;
use chancery::domain::task::{Status, TerminalReason};
use serde_json::json;

use crate::support::{House, gone, number_in, ulid};

async fn end(house: &mut House) -> TaskEnd {
    tokio::time::timeout(Duration::from_secs(20), house.ended.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_task_goes_on_after_its_call_and_tells_its_end_once() {
    let mut house = House::new();
    let command = "echo one; while ! test -e go; do sleep 0.05; done; echo two; exit 4";
    let started = house.call("bash", json!({"command": command, "background": true})).await;
    let task = started.task.unwrap();
    assert!(started.ok && task.task_id == house.context.fresh_task_id && task.command == command);
    let ask = json!({"task_id": task.task_id});
    let mut shown = house.call("task_output", ask.clone()).await.output;
    for _ in 0..500 {
        if shown.contains("one") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        shown = house.call("task_output", ask.clone()).await.output;
    }
    assert_eq!(shown, format!("[{} is in progress; it wrote 4 bytes]\none\n", task.task_id));
    house.write("go", "");
    let end = end(&mut house).await;
    assert_eq!((end.status, end.terminal_reason, end.exit_code), (Status::Completed, TerminalReason::Exited, Some(4)));
    assert_eq!((end.output_bytes, end.rotations), (8, 0));
    let digest = "c3f9c8c283a2b1f2f1896f27a01cbe3cddc0c9d93f752e4639035a0f5b36f6e8";
    assert_eq!(end.output_sha256.as_deref(), Some(digest));
    let shown = house.call("task_output", json!({"task_id": task.task_id, "limit_bytes": 4})).await;
    assert!(shown.truncated && shown.output.ends_with("[4 kept bytes before this are not shown]\ntwo\n"));
    assert_eq!(house.call("task_stop", ask).await.code, Some(Reason::TaskTerminal));
    assert!(house.ended.try_recv().is_err());
}

#[tokio::test]
async fn a_stopped_task_ends_with_all_it_started_and_only_its_own_session_sees_it() {
    let mut house = House::new();
    let command = "setsid sh -c 'echo $$ > pid; sleep 60' & sleep 60";
    let task = house.call("bash", json!({"command": command, "background": true})).await.task.unwrap();
    let detached = number_in(&house.place.work().join("pid")).await;
    let own = house.context.session_id;
    house.context.session_id = SessionId::from_ulid(ulid(99));
    for tool in ["task_output", "task_stop"] {
        let outcome = house.call(tool, json!({"task_id": task.task_id})).await;
        assert_eq!(outcome.code, Some(Reason::TaskNotFound), "{tool}");
    }
    house.context.session_id = own;
    assert!(house.call("task_stop", json!({"task_id": task.task_id})).await.ok);
    let end = end(&mut house).await;
    assert_eq!((end.status, end.terminal_reason), (Status::Cancelled, TerminalReason::Stopped));
    assert!(gone(detached).await);
}

#[tokio::test]
async fn a_task_ends_at_its_watchdog_with_its_session_or_with_the_daemon() {
    let mut house = House::new();
    house.call("bash", json!({"command": "sleep 60", "background": true, "timeout_ms": 200})).await;
    let watchdog = end(&mut house).await;
    assert_eq!((watchdog.status, watchdog.terminal_reason), (Status::Failed, TerminalReason::TimeLimit));

    house.context.fresh_task_id = TaskId::from_ulid(ulid(5));
    let many = "for i in $(seq 1500); do sleep 62.5 & done; wait";
    house.call("bash", json!({"command": many, "background": true})).await;
    let many = end(&mut house).await;
    assert_eq!((many.status, many.terminal_reason), (Status::Failed, TerminalReason::ProcessLimit));

    house.context.fresh_task_id = TaskId::from_ulid(ulid(3));
    house.call("bash", json!({"command": "sleep 60", "background": true})).await;
    let stopped = house.context.background.stop_session(house.context.session_id, TerminalReason::RunStopped);
    assert_eq!(stopped, 1);
    let session = end(&mut house).await;
    assert_eq!((session.status, session.terminal_reason), (Status::Cancelled, TerminalReason::RunStopped));

    house.context.fresh_task_id = TaskId::from_ulid(ulid(4));
    house.call("bash", json!({"command": "sleep 60", "background": true})).await;
    house.tasks.stop();
    let drained = end(&mut house).await;
    assert_eq!((drained.status, drained.terminal_reason), (Status::Failed, TerminalReason::DaemonRestarted));
    assert!(house.tasks.drained(Duration::from_secs(5)).await);
    house.context.fresh_task_id = TaskId::from_ulid(ulid(5));
    let late = house.call("bash", json!({"command": "true", "background": true})).await;
    assert_eq!(late.code, Some(Reason::RequestOverloaded));
}

#[tokio::test]
async fn a_flood_is_rotated_and_its_newest_part_kept() {
    let mut house = House::keeping(64 << 10);
    let task = house.call("bash", json!({"command": "seq 1 200000", "background": true})).await.task.unwrap();
    let end = end(&mut house).await;
    assert_eq!((end.status, end.output_bytes), (Status::Completed, 1_288_895));
    assert!(end.rotations >= 10, "{}", end.rotations);
    let kept = house.context.background.output(task.task_id, 1 << 20).await.unwrap();
    assert!(kept.bytes.len() <= 64 << 10);
    let text = String::from_utf8(kept.bytes).unwrap();
    assert!(text.starts_with('[') && text.ends_with("\n199999\n200000\n"), "{}", &text[..80]);
    assert!(text.lines().next().unwrap().ends_with("bytes of output before this were dropped]"));
}

#[tokio::test]
async fn of_all_tasks_the_newest_output_is_kept_up_to_its_number_and_its_bytes() {
    let mut house = House::new();
    let directory = house.place.root.path().join("output");
    let output = |number| directory.join(format!("{}.log", TaskId::from_ulid(ulid(number))));
    // Tasks of earlier daemons, one more than are kept.
    for number in 1..=1_001 {
        std::fs::write(output(number), "x").unwrap();
    }
    let kept = || std::fs::read_dir(&directory).unwrap().count();
    house.context.fresh_task_id = TaskId::from_ulid(ulid(2_000));
    assert!(house.call("bash", json!({"command": "true", "background": true})).await.ok);
    end(&mut house).await;
    assert_eq!((kept(), output(2).exists(), output(3).exists(), output(2_000).exists()), (1_000, false, true, true));
    for number in [1_000, 1_001] {
        std::fs::File::options().write(true).open(output(number)).unwrap().set_len(1_500 << 20).unwrap();
    }
    house.context.fresh_task_id = TaskId::from_ulid(ulid(2_001));
    assert!(house.call("bash", json!({"command": "true", "background": true})).await.ok);
    end(&mut house).await;
    assert_eq!((kept(), output(1_000).exists(), output(1_001).exists()), (3, false, true));
}
