//! `chancery quickstart`: the whole story in one minute, on a state root of its own: an agent reads a file, asks to run a
//! command, is allowed, runs it; the receipt verifies, the state root verifies, and a copy with one changed byte does not.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Door, Trouble, read_token};
use super::output::{escape, escape_lines, talk};
use super::prompt::{Prompt, now_ms};
use super::waits;
use super::wire::Address;
use crate::journal::layout;
use crate::journal::note::parse_verifier_key;
use crate::journal::proof::Receipt;
use crate::journal::verify::{Verdict, verify};
use crate::platform::disk::{Disk, Open, read_bounded, replace_atomically};
use crate::platform::entropy::{Entropy as _, SystemEntropy};
use crate::platform::files::Folder;

const NOTES: &[u8] = b"Three things to remember: the journal is text, seals are signatures, and nothing is trusted.\n";
const SCRIPT: &[u8] = br#"version = 1
[[turns]]
steps = [{ text = "I read the notes first." }, { call = "read_file", input = { path = "notes.txt" } }]
[[turns]]
steps = [{ text = "Now I count their words." }, { call = "bash", input = { command = "wc -w notes.txt" } }]
[[turns]]
steps = [{ text = "The notes are read and counted." }]
"#;
const ROUTES: &[u8] =
    b"version = 1\n[routes.rehearsal]\ndriver = \"rehearsal\"\ndefault_model = \"rehearsal\"\nscript = \"script.toml\"\n";
const STEP: Duration = Duration::from_millis(50);
/// Steps to wait for the daemon or a run: twenty seconds.
const STEPS: u32 = 400;

/// Lines of the daemon that are told where it ended by itself.
const LAST_LINES: usize = 10;
/// Longest of them that is told whole, bytes.
const LINE_BYTES: u64 = 4_096;

/// Ends the daemon whatever happens.
struct Daemon {
    process: Child,
    /// Takes what it says, so that it is never held up, and gives the last of it once it has ended.
    words: Option<JoinHandle<VecDeque<String>>>,
}

impl Daemon {
    /// Adds to a failure what the daemon said at last, where it has ended by itself.
    fn explain(&mut self, why: String) -> String {
        let Ok(Some(status)) = self.process.try_wait() else { return why };
        let words = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        let said = words.into_iter().collect::<Vec<_>>().join("\n  | ");
        format!("{why}; the daemon ended ({status}) and said at last:\n  | {said}")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads to the end and keeps the last lines.
fn last_lines(from: impl Read) -> VecDeque<String> {
    let (mut from, mut kept) = (BufReader::new(from), VecDeque::new());
    loop {
        let mut line = Vec::new();
        match from.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return kept,
            Ok(_) => kept.push_back(String::from_utf8_lossy(&line).trim_end().to_owned()),
        }
        if kept.len() > LAST_LINES {
            kept.pop_front();
        }
    }
}

/// Tells the next part of the story. It is what quickstart is run for, so it is data; what went wrong is talk.
fn tell(text: &str) {
    super::output::data(text);
}

/// Whether a flag of the other verbs was given; one from the environment is passed over, like the whole environment.
fn stray_flag(line: &clap::ArgMatches) -> Option<&'static str> {
    const FLAGS: [(&str, &str); 5] = [
        ("url", "--url"),
        ("token", "--token"),
        ("token_file", "--token-file"),
        ("state_root", "--state-root"),
        ("output", "--output"),
    ];
    let given = |id: &str| line.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
    FLAGS.iter().find(|(id, _)| given(id)).map(|(_, flag)| *flag)
}

/// Runs the verb.
pub fn run(line: &clap::ArgMatches) -> ExitCode {
    if let Some(flag) = stray_flag(line) {
        talk(&format!(
            "quickstart takes no {flag}: it serves a new state root of its own and tells what happens there"
        ));
        return ExitCode::from(2);
    }
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let why = escape_lines(&why);
            talk(&format!("quickstart failed: {why}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is the last stop of an error")]
fn said(trouble: Trouble) -> String {
    trouble.sentence()
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> String {
    let what = what.to_owned();
    move |error| format!("{what}: {error}")
}

/// A fresh folder below `$TMPDIR`, which must be there already.
fn fresh_home() -> Result<PathBuf, String> {
    // An empty variable names no folder; then it is as if it were not set.
    let named = std::env::var_os("TMPDIR").filter(|named| !named.is_empty());
    let temporary = named.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let wrong = |why: &dyn std::fmt::Display| {
        let path = temporary.display();
        format!(
            "the folder for temporary files, {path}, cannot be used: {why}; set TMPDIR to a folder that you can write to"
        )
    };
    let parent = temporary.canonicalize().map_err(|error| wrong(&error))?;
    if !parent.is_dir() {
        return Err(wrong(&"it is no folder"));
    }
    let home = parent.join(format!("chancery-quickstart-{:016x}", SystemEntropy::default().u128() as u64));
    Folder::create(&home).map_err(|error| wrong(&error))?;
    Ok(home)
}

fn play() -> Result<(), String> {
    let home = fresh_home()?;
    let folder = Folder::open(&home).map_err(io("making a folder"))?;
    folder.create_dir("work").map_err(io("making a folder"))?;
    for (place, name, content) in
        [("work", "notes.txt", NOTES), ("", "script.toml", SCRIPT), ("", "routes.toml", ROUTES)]
    {
        replace_atomically(&folder, place, name, content).map_err(io(name))?;
    }
    tell(&format!("Everything is in {} and stays there.", home.display()));
    let mut daemon = start(&home)?;
    let receipt = work(&home, &folder, &mut daemon).map_err(|why| daemon.explain(why))?;
    stop(daemon)?;
    prove(&home, &folder, &receipt)
}

/// What happens while the daemon serves; what is left of it is the receipt.
fn work(home: &Path, folder: &Folder, daemon: &mut Daemon) -> Result<Receipt, String> {
    let client = connect(home, daemon)?;
    let session = client.post("/v1/sessions", &json!({ "title": "quickstart" })).map_err(said)?;
    let path = format!("/v1/sessions/{}/runs", session["session_id"].as_str().unwrap_or_default());
    let run = client.post(&path, &json!({ "content": "Read the notes and count their words." })).map_err(said)?;
    let run = run["run_id"].as_str().unwrap_or_default().to_owned();
    tell(&format!("An agent works: {run}. It is a rehearsal: a script answers in place of a model."));
    let waiting = wait(&client, &run, "waiting_for_approval")?;
    let approval = decide(&client, waiting["approval_id"].as_str().unwrap_or_default())?;
    let done = wait(&client, &run, "completed")?;
    tell(&format!(
        "The approved call ran, and the agent said: {}",
        escape(done["output"].as_str().unwrap_or_default())
    ));
    let seq = approval["ended_seq"].as_u64().ok_or("the approval names no record")?;
    let receipt: Receipt = serde_json::from_value(client.get(&format!("/v1/journal/proof?seq={seq}")).map_err(said)?)
        .map_err(|error| error.to_string())?;
    let text = serde_json::to_string_pretty(&receipt).map_err(|error| error.to_string())?;
    replace_atomically(folder, "", "receipt.json", text.as_bytes()).map_err(io("receipt.json"))?;
    Ok(receipt)
}

fn start(home: &Path) -> Result<Daemon, String> {
    let binary = std::env::current_exe().map_err(io("finding this program"))?;
    let mut command = Command::new(binary);
    command.args(["serve", "--bind", "127.0.0.1:0", "--state-root"]).arg(home.join("state"));
    command.arg("--workspace-root").arg(home.join("work")).arg("--routes-file").arg(home.join("routes.toml"));
    // However this story ends, also by a signal, its daemon ends with it.
    command.arg("--while-parent").arg(std::process::id().to_string());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHANCERY_")) {
        command.env_remove(name);
    }
    if std::env::var_os("TMPDIR").is_some_and(|named| named.is_empty()) {
        command.env_remove("TMPDIR");
    }
    if !crate::daemon::can_confine() {
        talk("This machine cannot confine commands; the fixed, harmless script runs without the sandbox.");
        command.args(["--tool-sandbox", "off"]);
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut process = child.map_err(io("starting the daemon"))?;
    let words = process.stderr.take().map(|from| std::thread::spawn(move || last_lines(from)));
    Ok(Daemon { process, words })
}

fn connect(home: &Path, daemon: &mut Daemon) -> Result<Client, String> {
    let state = home.join("state");
    for _ in 0..STEPS {
        if matches!(daemon.process.try_wait(), Ok(Some(_))) {
            break;
        }
        let file = Folder::open(&state).and_then(|folder| read_bounded(&folder, "daemon.json", 64 << 10));
        let said: Value = file.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        if let (Some(address), Ok(token)) = (said["address"].as_str(), read_token(&state.join("tokens/admin.token"))) {
            tell(&format!("A daemon serves {address}; its token is in {}.", state.join("tokens").display()));
            let door = Address::parse(address).and_then(|at| Door::new(at, Some(token)).map_err(|t| t.sentence()));
            return door.map(Client::forgetful);
        }
        std::thread::sleep(STEP);
    }
    Err("the daemon does not serve".to_owned())
}

fn wait(client: &Client, run: &str, status: &str) -> Result<Value, String> {
    for _ in 0..STEPS {
        let view = client.get(&format!("/v1/runs/{run}")).map_err(said)?;
        if view["status"] == status {
            return Ok(view);
        }
        if ["failed", "interrupted", "cancelled"].iter().any(|end| view["status"] == *end) {
            return Err(format!("the run ended otherwise: {view}"));
        }
        std::thread::sleep(STEP);
    }
    Err(format!("the run does not become {status}"))
}

/// Asks until an answer comes that can be one to what is shown; nothing where there will be none.
fn answered() -> Result<String, String> {
    loop {
        talk("Allow it? [y/N]");
        let (prompt, mut answer) = (Prompt::shown(false), String::new());
        let read = std::io::stdin().lock().read_line(&mut answer).map_err(io("reading the answer"))?;
        if read == 0 || prompt.takes(now_ms()) {
            return Ok(answer);
        }
    }
}

/// Shows the card and decides: a person on a terminal, else the program itself.
fn decide(client: &Client, id: &str) -> Result<Value, String> {
    let approval = client.get(&format!("/v1/approvals/{id}")).map_err(said)?;
    tell("It asks to make this call:");
    let card = approval["card"].as_str().unwrap_or("the card is not kept any more");
    escape_lines(card).lines().for_each(|line| tell(&format!("  | {line}")));
    // Only a person who sees the card can decide about it.
    let allowed = if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        matches!(answered()?.trim(), "y" | "Y" | "yes")
    } else {
        tell("There is no terminal, so quickstart itself allows it through the interface.");
        true
    };
    let decision = if allowed { "allow" } else { "deny" };
    let decided = waits::decision_of(client, &approval, decision, None).map_err(said)?;
    if allowed {
        tell("It is approved, bound to the hashes of exactly this call and this card.");
        Ok(decided)
    } else {
        Err("you denied the call, so there is nothing more to show".to_owned())
    }
}

fn stop(mut daemon: Daemon) -> Result<(), String> {
    let pid = rustix::process::Pid::from_child(&daemon.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|error| error.to_string())?;
    let status = daemon.process.wait().map_err(io("waiting for the daemon"))?;
    if status.success() { Ok(()) } else { Err(daemon.explain("the daemon stopped badly".to_owned())) }
}

/// Verifies receipt and state root, and shows that a copy with one changed byte does not verify.
fn prove(home: &Path, folder: &Folder, receipt: &Receipt) -> Result<(), String> {
    let state = Folder::open(&home.join("state")).map_err(io("state"))?;
    let report = verify(&state, false);
    let (_, key) = parse_verifier_key(&report.key).ok_or("the state root names no key")?;
    receipt.verify(&key).map_err(|fault| format!("the receipt does not verify: {fault}"))?;
    tell(&format!("The receipt of the approval is verified: {}", home.join("receipt.json").display()));
    if report.verdict != Verdict::Valid {
        return Err(format!("the state root does not verify: {:?}", report.verdict));
    }
    tell(&format!("The state root is verified: {} lines under {} seals.", report.lines, report.seals));
    let copy = copy(&state, folder, home)?;
    let path = layout::segment_path(0);
    let file = copy.open(&path, Open::Write).map_err(io(&path))?;
    let at = read_bounded(&copy, &path, 64 << 20)
        .ok()
        .and_then(|bytes| memchr::memmem::find(&bytes, b"quickstart"))
        .ok_or("the record is not found")?;
    file.write_at(at as u64, b"Q").map_err(io(&path))?;
    let changed = verify(&copy, false).verdict;
    let Verdict::Invalid { file, offset, why, .. } = changed else {
        return Err("a changed byte was not noticed".to_owned());
    };
    tell(&format!("In a copy, one byte was changed; it is invalid: {file}, byte {offset}: {why}."));
    let program = std::env::current_exe().map_err(io("finding this program"))?;
    tell(&format!("See for yourself: {} verify {}", program.display(), home.join("state").display()));
    Ok(())
}

/// Copies what verification reads.
fn copy(state: &Folder, folder: &Folder, home: &Path) -> Result<Folder, String> {
    folder.create_dir("copy").map_err(io("copy"))?;
    let target: PathBuf = home.join("copy");
    let copy = Folder::open(&target).map_err(io("copy"))?;
    for place in [layout::FOLDER, layout::QUARANTINE] {
        copy.create_dir(place).map_err(io(place))?;
    }
    let root = read_bounded(state, layout::STATE_ROOT, 1 << 20).map_err(io(layout::STATE_ROOT))?;
    replace_atomically(&copy, "", layout::STATE_ROOT, &root).map_err(io(layout::STATE_ROOT))?;
    for entry in state.list(layout::FOLDER).map_err(io(layout::FOLDER))?.into_iter().filter(|entry| entry.plain) {
        let path = format!("{}/{}", layout::FOLDER, entry.name);
        let bytes = read_bounded(state, &path, 1 << 30).map_err(io(&path))?;
        replace_atomically(&copy, layout::FOLDER, &entry.name, &bytes).map_err(io(&path))?;
    }
    Ok(copy)
}
