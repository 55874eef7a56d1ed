//! `state-schema/` and the printed pages are what the types produce; every sample is read and written again to the same
//! bytes; and the verifier says of every vector what its `expected.json` says. Rewrite with
//! `cargo run -- schema print --write .`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may fail loudly and looks at the machine directly"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use chancery::domain::event::Event;
use chancery::domain::ids::EpochId;
use chancery::domain::reason::Reason;
use chancery::journal::cold::{self, Damage, Found};
use chancery::journal::error::OpenError;
use chancery::journal::layout;
use chancery::journal::line::{check_record, render_record};
use chancery::journal::note::{Note, parse_verifier_key};
use chancery::journal::proof::{Consistency, ProofFault};
use chancery::journal::recovery;
use chancery::journal::repair::{self, Plan};
use chancery::journal::segments;
use chancery::journal::verify::{Report, Verdict, verify};
use chancery::platform::files::Folder;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    if !from.exists() {
        return;
    }
    for path in folders(from) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            std::fs::write(&target, std::fs::read(&path).unwrap()).unwrap();
        }
    }
}

/// The vector as a state root of its own: the good files, without the absent ones, under the changed ones.
fn lay_out(vector: &Path, expected: &Value, to: &Path) {
    copy(&vector.parent().unwrap().join("good/files"), to);
    for path in expected["absent"].as_array().into_iter().flatten() {
        std::fs::remove_file(to.join(path.as_str().unwrap())).unwrap();
    }
    copy(&vector.join("files"), to);
    if let Some(fill) = expected.get("fill") {
        let path = to.join(fill["file"].as_str().unwrap());
        let run = fill["byte"].as_str().unwrap().repeat(fill["count"].as_u64().unwrap().try_into().unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(fill["marker"].as_str().unwrap(), &run)).unwrap();
    }
}

fn judge(state_root: &Path) -> Report {
    verify(&Folder::open(state_root).unwrap(), false)
}

#[test]
fn the_files_are_what_the_types_produce() {
    let checked = Command::new(env!("CARGO_BIN_EXE_chancery")).args(["schema", "check"]).arg(root()).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "run `cargo run -- schema print --write .`:\n{said}");
}

#[test]
fn a_changed_a_missing_and_a_strange_file_are_each_named() {
    let copied = tempfile::tempdir().unwrap();
    let write = Command::new(env!("CARGO_BIN_EXE_chancery"))
        .args(["schema", "print", "--write"])
        .arg(copied.path())
        .status()
        .unwrap();
    assert!(write.success());
    let schemas = copied.path().join("state-schema/events");
    std::fs::write(schemas.join("run.queued.v1.json"), "{}\n").unwrap();
    std::fs::remove_file(schemas.join("run.failed.v1.json")).unwrap();
    std::fs::write(schemas.join("run.dreamed.v1.json"), "{}\n").unwrap();
    let checked =
        Command::new(env!("CARGO_BIN_EXE_chancery")).args(["schema", "check"]).arg(copied.path()).output().unwrap();
    let wanted = "state-schema/events/run.failed.v1.json is missing\n\
        state-schema/events/run.queued.v1.json has other contents\n\
        state-schema/events/run.dreamed.v1.json does not belong here\n";
    assert_eq!(String::from_utf8_lossy(&checked.stdout), wanted);
    assert_eq!(checked.status.code(), Some(1));
}

#[test]
fn every_kind_has_a_sample_that_is_read_and_written_again_to_the_same_bytes() {
    let mut seen = Vec::new();
    for (kind, version) in Event::KINDS {
        let line = std::fs::read(root().join(format!("state-schema/samples/{kind}.v{version}.json"))).unwrap();
        let line = line.strip_suffix(b"\n").unwrap();
        let record = check_record(line).unwrap();
        let mut again = Vec::new();
        render_record(&record, &mut again).unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), std::str::from_utf8(line).unwrap());
        seen.push((record.event.kind(), record.event.version()));
    }
    assert_eq!(seen, Event::KINDS);
}

#[test]
fn the_files_of_a_damaged_state_root_have_samples_that_are_read_and_written_again_to_the_same_bytes() {
    let sample = |name: &str| std::fs::read(root().join(format!("state-schema/samples/{name}.json"))).unwrap();
    let schema = |name: &str| json(&root().join(format!("state-schema/formats/{name}.json")));
    let (damage, plan) = (sample("damage"), sample("repair"));
    assert_eq!(Damage::parse(&damage).unwrap().unwrap().render(), damage);
    assert_eq!(Plan::parse(&plan).unwrap().render(), plan);
    for (name, bytes) in [("damage", &damage), ("repair", &plan)] {
        let (text, schema) = (String::from_utf8(bytes.clone()).unwrap(), schema(name));
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (keys(&found), schema["additionalProperties"].as_bool()),
            (keys(&schema["properties"]), Some(false))
        );
        let newer = text.replacen("\"format\": 1", "\"format\": 2", 1);
        let newer = newer.as_bytes();
        let refused = if name == "damage" { Damage::parse(newer).err() } else { Plan::parse(newer).err() };
        assert!(matches!(refused, Some(OpenError::TooNew(_))), "{name}: {refused:?}");
        let other = text.replacen("\"format\"", "\"colour\": 1, \"format\"", 1);
        let other = other.as_bytes();
        assert!(Plan::parse(other).is_err() && Damage::parse(other).unwrap().is_none(), "{name}");
    }
}

#[test]
fn the_verifier_says_of_every_journal_what_is_expected() {
    let mut seen = 0;
    for vector in folders(&root().join("state-schema/vectors/journal")) {
        let expected = json(&vector.join("expected.json"));
        let home = tempfile::tempdir().unwrap();
        lay_out(&vector, &expected, home.path());
        let said = match judge(home.path()).verdict {
            Verdict::Valid => (0, None),
            Verdict::Invalid { file, seq, .. } => (1, Some((file, seq))),
            Verdict::Unverifiable { .. } => (3, None),
        };
        let at =
            expected.get("file").map(|file| (file.as_str().unwrap().to_owned(), expected["seq"].as_u64().unwrap()));
        assert_eq!(said, (expected["exit"].as_u64().unwrap(), at), "{}", vector.display());
        seen += 1;
    }
    assert!(seen > 50, "{seen} vectors were found");
}

#[test]
fn the_check_of_closed_segments_finds_their_faults() {
    let (mut found, mut passed) = (0, Vec::new());
    for vector in folders(&root().join("state-schema/vectors/journal")) {
        let expected = json(&vector.join("expected.json"));
        if !["journal/00000000000000000000.jsonl", "null"].contains(&expected["file"].as_str().unwrap_or("null")) {
            continue;
        }
        let home = tempfile::tempdir().unwrap();
        lay_out(&vector, &expected, home.path());
        let disk = Folder::open(home.path()).unwrap();
        // What these say refuses the start.
        let (Ok((root, ring)), Ok(files)) = (recovery::read_root(&disk), segments::list(&disk)) else { continue };
        let [file, next, ..] = files.as_slice() else { continue };
        match (cold::check(&disk, (&root, &ring), file, next, &mut || true).unwrap(), expected["exit"].as_u64()) {
            (Found::Rot(_), Some(0)) => panic!("{}", vector.display()),
            (Found::Rot(_), _) => found += 1,
            (_, Some(1)) => passed.push(vector.file_name().unwrap().to_str().unwrap().to_owned()),
            _ => {}
        }
    }
    assert_eq!(passed, [""; 0], "`verify` finds these");
    assert!(found > 20, "{found} faults were found");
}

#[test]
fn a_repair_keeps_nothing_of_a_journal_from_its_fault_on() {
    let epoch = EpochId::from_ulid(ulid::Ulid(7));
    let (mut planned, mut kept) = (0, Vec::new());
    for vector in folders(&root().join("state-schema/vectors/journal")) {
        let expected = json(&vector.join("expected.json"));
        if expected["file"].as_str().is_none_or(|file| !file.starts_with("journal/0")) {
            continue;
        }
        let home = tempfile::tempdir().unwrap();
        lay_out(&vector, &expected, home.path());
        std::fs::write(home.path().join(layout::SIGNING_KEY), [2; 32]).unwrap();
        // Some leave nothing to be kept.
        let Ok(plan) = repair::plan(&Folder::open(home.path()).unwrap(), epoch) else { continue };
        planned += 1;
        // A file that is none at all has no number; it is moved whole.
        if (1..plan.repaired().lost_from_seq).contains(&expected["seq"].as_u64().unwrap()) {
            kept.push(vector.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    assert_eq!(kept, [""; 0]);
    assert!(planned > 10, "{planned} repairs were planned");
}

/// Broken journals that a start takes all the same. It checks every byte against the newest signature, and leaves to
/// `verify` and the background check what only whoever signs can have put there: spellings, contexts and older signatures.
/// A bad slot of `acked` beside a good one is rewritten and recorded; an unsealed tail is quarantined and recorded; `next`
/// is never read.
const STARTS: [&str; 21] = [
    "acked-filling-other-bytes",
    "acked-other-history",
    "acked-slot-broken",
    "acked-slot-foreign",
    "ctx-in-another-segment",
    "ctx-not-in-force",
    "first-record-no-context",
    "next-other-bytes",
    "record-keys-swapped",
    "record-not-compact",
    "record-null",
    "record-over-limit",
    "record-text-escaped",
    "seal-of-a-foreign-key",
    "seal-of-another-epoch",
    "seal-of-the-next-key",
    "seal-signature-wrong",
    "seal-signed-twice",
    "torn-line",
    "torn-zeros",
    "unsealed-tail",
];

#[test]
fn a_start_refuses_every_broken_journal_but_those_that_it_mends_in_the_open() {
    let mut started = Vec::new();
    for vector in folders(&root().join("state-schema/vectors/journal")) {
        let expected = json(&vector.join("expected.json"));
        let home = tempfile::tempdir().unwrap();
        lay_out(&vector, &expected, home.path());
        std::fs::write(home.path().join(layout::SIGNING_KEY), [2; 32]).unwrap();
        let name = vector.file_name().unwrap().to_str().unwrap().to_owned();
        match (recovery::read(&Folder::open(home.path()).unwrap(), None, &mut |_| {}), expected["exit"].as_u64()) {
            (Ok(_), Some(0)) => {}
            (Ok(_), _) => started.push(name),
            (Err(error), exit) => {
                assert_ne!(exit, Some(0), "{name}: {error}");
                let fits = match &error {
                    OpenError::TooNew(_) => name.ends_with("newer") || name.ends_with("unknown"),
                    OpenError::Absent(_) => name == "state-root-missing",
                    OpenError::Corrupt { file, .. } | OpenError::Rollback { file, .. } => !file.is_empty(),
                    OpenError::Keys(_) => name.starts_with("state-root") || name.starts_with("handover"),
                    OpenError::Loose { .. } | OpenError::Io { .. } => false,
                };
                assert!(fits, "{name}: {error:?}");
            }
        }
    }
    assert_eq!(started, STARTS);
}

#[test]
fn the_command_says_of_every_receipt_what_is_expected() {
    let key = std::fs::read_to_string(root().join("state-schema/vectors/verifier.key")).unwrap();
    for vector in folders(&root().join("state-schema/vectors/receipts")) {
        let expected = json(&vector.join("expected.json"));
        let said = Command::new(env!("CARGO_BIN_EXE_chancery"))
            .arg("verify")
            .arg(vector.join("receipt.json"))
            .args(["--key", key.trim()])
            .output()
            .unwrap();
        assert_eq!(said.status.code().map(i64::from), expected["exit"].as_i64(), "{}", vector.display());
    }
}

#[test]
fn the_consistency_proof_holds_against_the_older_note_only() {
    let folder = root().join("state-schema/vectors/consistency/good");
    let key = std::fs::read_to_string(root().join("state-schema/vectors/verifier.key")).unwrap();
    let (_, key) = parse_verifier_key(&key).unwrap();
    let old = Note::parse(&std::fs::read_to_string(folder.join("old.note")).unwrap()).unwrap();
    let proof: Consistency = serde_json::from_value(json(&folder.join("proof.json"))).unwrap();
    assert_eq!(proof.verify(&old, &key).map(|note| note.size), Ok(proof.new));
    let other = Note { root: [1; 32], ..old };
    assert_eq!(proof.verify(&other, &key), Err(ProofFault::Root));
}

/// Codes that stand in our list beside those of its first content.
const OURS: &[&str] = &[
    "auth.proxy_refused",
    "run.step_out_of_order",
    "run.stopping",
    "tool.failed",
    "tool.file_changed",
    "tool.unknown",
    "budget.model_unpriced",
    "budget.not_found",
    "budget.reserved",
    "model_call.not_found",
    "vault.lease_not_found",
];

#[test]
fn every_limit_that_the_source_names_as_one_is_printed() {
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in folders(folder) {
            if path.is_dir() {
                files(&path, found);
            } else if path.file_name().unwrap() == "limits.rs" {
                found.push(path);
            }
        }
    }
    let page = std::fs::read_to_string(root().join("docs/runbooks/limits.md")).unwrap();
    let mut found = Vec::new();
    files(&root().join("src"), &mut found);
    assert!(found.len() >= 7, "{found:?}");
    for path in found {
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let named = line.strip_prefix("pub const ").or_else(|| line.strip_prefix("    pub "));
            let name = named.and_then(|rest| rest.split_once(':')).map(|(name, _)| name);
            if let Some(name) = name.filter(|name| !name.contains(' ')) {
                assert!(page.contains(&format!("| `{name}` |")), "{name} of {}", path.display());
            }
        }
    }
}

#[test]
fn the_reasons_are_those_of_the_closed_list() {
    let listed = json(&root().join("tests/data/reason-codes.json"));
    let mut wanted = BTreeMap::new();
    for group in ["contract_codes", "tenancy_codes", "workspace_codes", "daemon_codes"] {
        for entry in listed[group].as_array().unwrap() {
            let exit = entry.get("exit").and_then(Value::as_u64);
            let status = entry.get("status").and_then(Value::as_u64);
            wanted.insert(
                entry["code"].as_str().unwrap().to_owned(),
                (
                    status.unwrap_or(500),
                    exit.unwrap_or(1),
                    entry.get("retry").and_then(Value::as_bool).unwrap_or(false),
                    entry.get("no_effect").and_then(Value::as_bool).unwrap_or(true),
                    entry.get("seed_code").and_then(Value::as_str).map(str::to_owned),
                ),
            );
        }
    }
    let mut ours: BTreeMap<_, _> = Reason::ALL
        .iter()
        .map(|reason| {
            let seed = reason.seed_code().map(str::to_owned);
            let (status, exit) = (u64::from(reason.http_status()), u64::from(reason.exit_code()));
            (reason.code().to_owned(), (status, exit, reason.retry(), reason.surely_no_effect(), seed))
        })
        .collect();
    // What the list has gained since.
    for code in OURS {
        assert!(ours.remove(*code).is_some() && !wanted.contains_key(*code), "{code}");
    }
    assert_eq!(ours, wanted);
}
