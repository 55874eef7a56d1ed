//! `chancery verify [PATH]`: a state root or a receipt, offline.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use ed25519_dalek::VerifyingKey;
use serde_json::{Value, json};

use super::client::ClientArgs;
use super::heads::{self, Earlier, Kept, Lost, earlier};
use super::output::{self, Format};
use crate::journal::keys::{KeyRing, WalkedKey};
use crate::journal::note::{Note, Origin, parse_verifier_key};
use crate::journal::proof::{ProofFault, Receipt};
use crate::journal::recovery::read_root;
use crate::journal::verify::{Report, Verdict};
use crate::journal::walk::{self, Step};
use crate::journal::{layout, segments};
use crate::platform::bounded_read::bounded_read;
use crate::platform::disk::{Disk as _, Open};
use crate::platform::files::Folder;
use crate::services::house_verify::verify;

/// Largest receipt that is read, bytes.
const RECEIPT_BYTES: usize = 8 << 20;
const INVALID: u8 = 1;
const NO_SUCH_PATH: u8 = 2;
const UNVERIFIABLE: u8 = 3;

/// Verifies a state root, running or not, or a receipt. A receipt is checked with `--key`, or with the key that
/// `--state-root` names for its place. Exit code: 0 valid, 1 invalid, 2 no such path, 3 unverifiable.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A state root, a receipt, or `-` for a receipt on standard input; the default state root where absent
    path: Option<PathBuf>,
    /// A C2SP verifier key from a source that you trust; a state root's own pin where absent
    #[arg(long)]
    key: Option<String>,
}

/// What is said of what was verified.
struct Said {
    code: u8,
    lines: Vec<String>,
    facts: Value,
}

impl Said {
    fn new(code: u8, line: String, facts: Value) -> Self {
        Self { code, lines: vec![line], facts }
    }

    fn unverifiable(why: &str) -> Self {
        Self::new(UNVERIFIABLE, format!("unverifiable: {why}"), json!({ "verdict": "unverifiable", "why": why }))
    }

    fn invalid(why: &str) -> Self {
        Self::new(INVALID, format!("invalid: {why}"), json!({ "verdict": "invalid", "why": why }))
    }

    /// Names what was seen and is gone. It is a fault unless a repair has recorded the loss.
    fn lost(&mut self, lost: &[Lost], named: &[(u64, u64)]) {
        for lost in lost {
            // Where it ends is not compared: what a repair gave up after an earlier one stands in two records.
            let recorded = named.iter().any(|(from, _)| *from == lost.from_seq);
            let how = if recorded { "a repair has recorded the loss" } else { "and no record says why" };
            let line = format!("{}; {how}", lost.told());
            if !recorded && self.code == 0 {
                *self = Self::invalid(&line);
            } else {
                self.lines.push(line);
            }
        }
        if !lost.is_empty() {
            self.facts["lost_since_seen"] = json!(lost);
        }
    }

    fn print(&self, format: Format) -> ExitCode {
        match format {
            Format::Json => output::json(&self.facts),
            Format::Human => output::data(&self.lines.join("\n")),
        };
        ExitCode::from(self.code)
    }
}

/// Runs the verb.
pub fn run(client: &ClientArgs, args: &VerifyArgs) -> ExitCode {
    let key = match args.key.as_deref().map(parse_verifier_key) {
        None => None,
        Some(Some((_, key))) => Some(key),
        Some(None) => {
            output::talk("--key is not a C2SP verifier key");
            return ExitCode::from(NO_SUCH_PATH);
        }
    };
    let Some(path) = args.path.clone().or_else(|| client.root()) else {
        output::talk("no path is given and there is no default state root");
        return ExitCode::from(NO_SUCH_PATH);
    };
    if path.is_dir() {
        return state_root(&path, key.as_ref(), client.output);
    }
    let keys = match client.named_root().map(ring_of) {
        None => Keys { key, ring: None },
        Some(Ok(ring)) => Keys { key, ring: Some(ring) },
        // The key that was given needs no state root.
        Some(Err(_)) if key.is_some() => Keys { key, ring: None },
        Some(Err(why)) => return Said::unverifiable(&why).print(client.output),
    };
    if path == Path::new("-") {
        return from_stdin(&keys).print(client.output);
    }
    if !path.exists() {
        output::talk(&format!("{} does not exist", path.display()));
        return ExitCode::from(NO_SUCH_PATH);
    }
    match bounded_read(&path, RECEIPT_BYTES) {
        Ok(text) => receipt(&text, &keys).print(client.output),
        Err(error) => Said::unverifiable(&error.to_string()).print(client.output),
    }
}

/// Whose word counts for a receipt.
struct Keys {
    /// The key that was given.
    key: Option<VerifyingKey>,
    /// The keys of the state root that was named, walked from its pin.
    ring: Option<KeyRing>,
}

/// The keys of a state root.
fn ring_of(root: &Path) -> Result<KeyRing, String> {
    let folder = Folder::open(root).map_err(|error| format!("{}: {error}", root.display()))?;
    read_root(&folder).map(|(_, ring)| ring).map_err(|error| format!("{}: {error}", root.display()))
}

fn from_stdin(keys: &Keys) -> Said {
    let mut text = Vec::new();
    match std::io::stdin().lock().take(RECEIPT_BYTES as u64 + 1).read_to_end(&mut text) {
        Ok(_) if text.len() > RECEIPT_BYTES => Said::unverifiable("standard input holds more than a receipt"),
        Ok(_) => receipt(&text, keys),
        Err(error) => Said::unverifiable(&error.to_string()),
    }
}

fn state_root(path: &Path, key: Option<&VerifyingKey>, format: Format) -> ExitCode {
    let folder = match Folder::open(path) {
        Ok(folder) => folder,
        Err(error) => {
            output::talk(&format!("{}: {error}", path.display()));
            return ExitCode::from(NO_SUCH_PATH);
        }
    };
    let held = match folder.is_locked(layout::LOCK) {
        Ok(held) => held,
        Err(error) => return Said::unverifiable(&format!("{}: {error}", layout::LOCK)).print(format),
    };
    // Commands go on while the journal is read: a head that they keep meanwhile says nothing about what was read.
    let before = kept_before(&folder);
    let mut house = verify(&folder, held);
    if house.journal.verdict != Verdict::Valid && !held && folder.is_locked(layout::LOCK).unwrap_or(false) {
        // A daemon has started in the meantime, and what it writes is no damage.
        house = verify(&folder, true);
    }
    let report = house.journal;
    let pinned = parse_verifier_key(&report.key).map(|(_, key)| key);
    if key.is_some() && key != pinned.as_ref() {
        return Said::unverifiable("the state root's pinned key is not the key given").print(format);
    }
    if house.chunks + house.unnamed > 0 {
        let (chunks, unnamed) = (house.chunks, house.unnamed);
        output::talk(&format!("access log: {chunks} closed chunks verified, {unnamed} not named by the journal yet"));
    }
    if house.blobs > 0 {
        output::talk(&format!("artifacts: {} large parts verified", house.blobs));
    }
    if house.digests > 0 {
        output::talk(&format!("read models: {} digests in the records of snapshots verified", house.digests));
    }
    if house.digests_passed_over > 0 {
        let digests = house.digests_passed_over;
        output::talk(&format!("not looked at: {digests} digests of read models of older snapshots or other versions"));
    }
    let mut said = judged(&report);
    if report.verdict == Verdict::Valid {
        match beside_kept(&folder, &report, before) {
            Ok(None) => {}
            Ok(Some(line)) => {
                said.lines.insert(1, line.clone());
                said.facts["kept_head"] = json!(line);
            }
            Err(Differs::Unknown(why)) => output::talk(&format!("warning: the kept head was not compared: {why}")),
            Err(Differs::Otherwise(why)) => {
                said = Said::invalid(&why);
            }
        }
    }
    if said.code == 0 {
        match earlier_epochs(&folder) {
            Ok(lost) => said.lost(&lost, &house.losses),
            Err(Differs::Unknown(why)) => output::talk(&format!("warning: earlier heads were not compared: {why}")),
            Err(Differs::Otherwise(why)) => said = Said::invalid(&why),
        }
    }
    said.print(format)
}

fn judged(report: &Report) -> Said {
    let (lines, seals, segments) = (report.lines, report.seals, report.segments);
    let facts = serde_json::to_value(report).unwrap_or_default();
    let mut said = match &report.verdict {
        Verdict::Valid => {
            Said::new(0, format!("valid: {lines} lines under {seals} seals in {segments} segments verified"), facts)
        }
        Verdict::Invalid { file, offset, seq, why } => {
            let line = format!("invalid: {file}, byte {offset}, sequence number {seq}: {why}");
            Said::new(INVALID, line, facts)
        }
        Verdict::Unverifiable { why } => Said::new(UNVERIFIABLE, format!("unverifiable: {why}"), facts),
    };
    if report.verdict == Verdict::Valid && report.in_flight_bytes > 0 {
        said.lines.push(format!("in flight: {} bytes after the newest seal", report.in_flight_bytes));
    }
    if report.quarantined > 0 {
        said.lines.push(format!("quarantine: {} files, each the one that a record names", report.quarantined));
    }
    if !report.key.is_empty() {
        said.lines.push(format!("pinned key: {}", report.key));
    }
    said.lines.extend(walk_told(&report.keys));
    said
}

/// The walk over epochs and keys, in lines.
fn walk_told(keys: &[WalkedKey]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut epoch = None;
    for WalkedKey { epoch: of, from_seq, key_id, verifier_key, seals } in keys {
        if epoch.replace(of) != Some(of) {
            lines.push(format!("{of}, from sequence number {from_seq}"));
        }
        lines.push(format!("  key {key_id} from {from_seq}, {seals} seals: {verifier_key}"));
    }
    lines
}

enum Differs {
    /// It could not be compared.
    Unknown(String),
    /// The journal is not the one that was seen before.
    Otherwise(String),
}

/// The head that this user's commands keep of a state root's journal, and the journal's name.
fn kept_before(folder: &Folder) -> Option<(Origin, Result<Option<Kept>, String>)> {
    let (origin, _) = read_root(folder).ok()?.1.newest()?;
    Some((origin, heads::kept(&origin)))
}

/// Compares with the head that this user's commands kept before: the journal must hold the seal that they saw.
fn beside_kept(
    folder: &Folder,
    report: &Report,
    before: Option<(Origin, Result<Option<Kept>, String>)>,
) -> Result<Option<String>, Differs> {
    let Some(newest) = Note::parse(&report.note) else { return Ok(None) };
    let kept = match before {
        Some((origin, kept)) if origin == newest.origin => kept,
        // The newest seal is of an epoch before.
        Some(_) | None => heads::kept(&newest.origin),
    };
    let Some(kept) = kept.map_err(Differs::Unknown)?.and_then(|kept| kept.note()) else { return Ok(None) };
    if kept.size > newest.size {
        let (seen, found) = (kept.size, newest.size);
        return Err(Differs::Otherwise(format!(
            "the journal ends at {found} lines, and a command of this user has seen {seen} under a signature: it was rolled back"
        )));
    }
    match seal_of(folder, kept.size).map_err(|error| Differs::Unknown(error.to_string()))? {
        Some(note) if note.root == kept.root => {
            Ok(Some(format!("kept head: the journal continues the {} lines that were seen before", kept.size)))
        }
        Some(_) => {
            let why = format!("the tree of {} lines is not the one that a command of this user has seen", kept.size);
            Err(Differs::Otherwise(why))
        }
        None => Err(Differs::Otherwise(format!("the seal over {} lines, seen before, is not there", kept.size))),
    }
}

/// Compares with the heads that this user's commands kept under earlier epochs; gives what is gone since.
fn earlier_epochs(folder: &Folder) -> Result<Vec<Lost>, Differs> {
    let Ok((_, ring)) = read_root(folder) else { return Ok(Vec::new()) };
    let Some((origin, _)) = ring.newest() else { return Ok(Vec::new()) };
    let mut gone = Vec::new();
    for (origin, kept) in heads::kept_of_other_epochs(&origin).map_err(Differs::Unknown)? {
        let epoch = origin.epoch;
        match earlier(&ring, &origin, &kept) {
            Earlier::Beyond(lost) => gone.push(lost),
            Earlier::Within(note) => match seal_of(folder, note.size) {
                Ok(Some(seal)) if seal.root == note.root => {}
                Ok(_) => {
                    let why = format!("the seal over {} lines, seen under {epoch}, is not there", note.size);
                    return Err(Differs::Otherwise(why));
                }
                Err(error) => return Err(Differs::Unknown(error.to_string())),
            },
            Earlier::Strange => {
                let why =
                    format!("the keys do not lead from the one that was trusted under {epoch} to the present one");
                return Err(Differs::Otherwise(why));
            }
        }
    }
    Ok(gone)
}

/// The seal over a tree of this size, if the journal has one.
fn seal_of(folder: &Folder, size: u64) -> std::io::Result<Option<Note>> {
    let files = segments::list(folder).map_err(|error| std::io::Error::other(error.to_string()))?;
    let Some(file) = files.iter().rev().find(|file| file.first_seq <= size) else { return Ok(None) };
    let opened: Arc<_> = folder.open(&file.path, Open::Read)?;
    let Ok((_, mut walker)) = walk::open(opened)? else { return Ok(None) };
    while let Step::Batch(batch) = walker.step()? {
        if batch.note.size == size {
            return Ok(Some(batch.note));
        }
    }
    Ok(None)
}

fn receipt(text: &[u8], keys: &Keys) -> Said {
    let Ok(receipt) = serde_json::from_slice::<Receipt>(text) else {
        return Said::unverifiable("the file is neither a state root nor a receipt");
    };
    let note = match receipt.verify_unsigned() {
        Ok(note) => note,
        Err(fault) => return Said::invalid(&fault.to_string()),
    };
    // A state root speaks for its own journal only, and only where its pin is the key that is trusted.
    let ring = keys.ring.as_ref().filter(|ring| {
        let trusted = ring.pin().is_some_and(|(_, pin)| keys.key.is_none_or(|key| key == pin));
        trusted && ring.knows(&note.origin)
    });
    let signed = keys.key.is_some_and(|key| note.signed_by(&key)) || ring.is_some_and(|ring| ring.accepts(&note));
    match (signed, keys.key.is_some() || ring.is_some()) {
        (true, _) => {
            let (seq, size, origin) = (receipt.seq, note.size, note.origin.to_string());
            let line = format!("valid: line {seq} is in the tree of {size} lines of {origin}");
            Said::new(0, line, json!({ "verdict": "valid", "seq": seq, "tree_size": size, "origin": origin }))
        }
        (false, true) => Said::invalid(&ProofFault::Signature.to_string()),
        (false, false) if keys.ring.is_some() => {
            Said::unverifiable("the hashes lead to the note's root, but it is the note of another journal")
        }
        (false, false) => Said::unverifiable(
            "the hashes lead to the note's root, but --key or --state-root is needed to say who signed it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::EpochId;

    #[test]
    fn a_loss_is_a_fault_unless_the_repair_that_gave_up_these_very_lines_is_recorded() {
        let lost = [Lost { epoch: EpochId::from_ulid(ulid::Ulid(1)), from_seq: 500, to_seq: 600 }];
        for (named, code) in
            [(&[][..], INVALID), (&[(100, 200)], INVALID), (&[(501, 600)], INVALID), (&[(500, 550)], 0)]
        {
            let mut said = Said::new(0, "valid".to_owned(), json!({ "verdict": "valid" }));
            said.lost(&lost, named);
            assert_eq!((said.code, &said.facts["lost_since_seen"][0]["from_seq"]), (code, &json!(500)), "{named:?}");
            assert_eq!(said.lines.iter().filter(|line| line.contains("lines 500 to 600")).count(), 1);
        }
    }
}
