//! What a snapshot holds stays what its version says.

#![allow(clippy::disallowed_methods, reason = "tests look at the disk themselves")]

use super::*;
use crate::domain::event::Event;
use crate::domain::record::Record;
use crate::journal::line::check_record;

/// A run with everything open that can be open.
const BEGINNING: [&str; 12] = [
    "session.created",
    "run.queued",
    "run.started",
    "turn.requested",
    "turn.answered",
    "permission.decided",
    "approval.requested",
    "call.dispatched",
    "question.asked",
    "task.started",
    "run.stop_requested",
    "runtime.permission_rules_set",
];

fn sample(kind: &str, seq: u64) -> Record {
    let version = Event::KINDS.iter().find(|(known, _)| *known == kind).map_or(0, |(_, version)| *version);
    let path = format!("{}/state-schema/samples/{kind}.v{version}.json", env!("CARGO_MANIFEST_DIR"));
    let line = std::fs::read(path).unwrap();
    Record { seq, at_ms: 1_800_000_000_000 + seq, ..check_record(line.strip_suffix(b"\n").unwrap()).unwrap() }
}

#[test]
fn another_layout_has_another_version() {
    let (mut begun, mut layout) = ((World::default(), Models::default()), Sha256::new());
    for (seq, kind) in (0..).zip(BEGINNING) {
        let record = sample(kind, seq);
        begun.0.apply(&record);
        begun.1.apply(&record);
    }
    let World { sessions, runs, approvals, questions, tasks, .. } = &begun.0;
    let open = [sessions.len(), runs.len(), approvals.len(), questions.len(), tasks.len()];
    assert_eq!(open, [1; 5], "one of each is open");
    for (last, _) in Event::KINDS {
        let (mut world, mut models) = begun.clone();
        let record = sample(last, BEGINNING.len() as u64);
        world.apply(&record);
        models.apply(&record);
        layout.update(serde_json::to_vec(&models.digests()).unwrap());
        let snapshot = Snapshot { version: 0, seq: BEGINNING.len() as u64, frontier: Vec::new(), world, models };
        let encoded = serde_json::to_vec(&snapshot).unwrap();
        layout.update(&encoded);
        assert_eq!(serde_json::from_slice::<Snapshot>(&encoded).unwrap(), snapshot, "{last}");
    }
    let layout = HEXLOWER.encode(&layout.finalize());
    assert_eq!(
        layout, LAYOUT,
        "a snapshot, or what is folded into it, is not what it was in version {VERSION}. Older snapshots must not be \
         read as if they were of this layout: raise VERSION and put the digest on the left in LAYOUT. Only where \
         nothing but a sample in state-schema/samples changed, or a new one came, is LAYOUT enough."
    );
}
