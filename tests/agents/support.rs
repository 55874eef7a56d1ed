//! A folder with a state root, a workspace and a script; and a daemon on them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub const BINARY: &str = env!("CARGO_BIN_EXE_chancery");

pub struct House {
    pub folder: tempfile::TempDir,
}

pub struct Daemon {
    child: Child,
    pub address: String,
    pub token: String,
    pub readonly: String,
    /// What confines commands here.
    pub sandbox: String,
}

/// A turn of a script that makes calls.
pub fn calls(calls: &[(&str, Value)]) -> String {
    let one = |(tool, input): &(&str, Value)| format!("{{ call = \"{tool}\", input = '''{input}''' }}");
    turn(&calls.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// A turn of a script that makes one call of `bash`.
pub fn bash(command: &str) -> String {
    calls(&[("bash", json!({ "command": command }))])
}

/// A turn that says one thing.
pub fn says(text: &str) -> String {
    turn(&format!("{{ text = \"{text}\" }}"))
}

/// A turn of these steps.
pub fn turn(steps: &str) -> String {
    format!("[[turns]]\nsteps = [{steps}]\n")
}

impl House {
    /// A house whose runs play these turns.
    pub fn playing(turns: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        std::fs::write(folder.path().join("script.toml"), format!("version = 1\n{}", turns.concat())).unwrap();
        let routes = "version = 1\n[routes.practice]\ndriver = \"rehearsal\"\ndefault_model = \"rehearsal\"\nscript = \"script.toml\"\n";
        std::fs::write(folder.path().join("routes.toml"), routes).unwrap();
        Self { folder }
    }

    pub fn work(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// Waits until a file of the workspace is there, and reads it.
    pub fn written(&self, name: &str) -> String {
        eventually(name, || std::fs::read_to_string(self.work(name)).ok().filter(|text| text.ends_with('\n')))
    }

    /// What the daemon wrote to its standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn start(&self) -> Daemon {
        self.start_with(&[], &[])
    }

    /// Starts a daemon for which a token of the model `m` costs one micro-unit sent and a hundred received.
    pub fn start_priced(&self) -> Daemon {
        let prices = self.folder.path().join("prices.toml");
        let table =
            "version = \"test\"\n[models.m]\ninput = 1_000_000\noutput = 100_000_000\nmax_output_tokens = 1_000\n";
        std::fs::write(&prices, table).unwrap();
        self.start_with(&["--price-table-file", prices.to_str().unwrap()], &[])
    }

    /// A daemon with these flags and variables.
    pub fn start_with(&self, flags: &[&str], variables: &[(&str, &str)]) -> Daemon {
        let state = self.folder.path().join("state");
        let mut command = Command::new(BINARY);
        command.args(["serve", "--bind", "127.0.0.1:0", "--state-root"]).arg(&state);
        command.arg("--workspace-root").arg(self.folder.path().join("work"));
        command.arg("--routes-file").arg(self.folder.path().join("routes.toml")).args(flags);
        if std::env::var_os("CHANCERY_TEST_NO_SANDBOX").is_some() {
            command.args(["--tool-sandbox", "off"]);
        }
        // What a killed daemon leaves goes with the house.
        command.env("TMPDIR", self.folder.path());
        command.envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(self.folder.path().join("log")).unwrap());
        let mut child = command.spawn().unwrap();
        let address = eventually("a daemon that serves", || {
            assert!(child.try_wait().unwrap().is_none(), "the daemon ended instead of serving");
            let said = std::fs::read_to_string(state.join("daemon.json")).unwrap_or_default();
            let said: Value = serde_json::from_str(&said).unwrap_or_default();
            (said["pid"] == child.id()).then(|| said["address"].as_str().unwrap().to_owned())
        });
        let token = |name: &str| std::fs::read_to_string(state.join("tokens").join(name)).unwrap().trim().to_owned();
        let (token, readonly) = (token("admin.token"), token("readonly.token"));
        let mut daemon = Daemon { child, address, token, readonly, sandbox: String::new() };
        let status = daemon.get("/v1/status");
        status["sandbox"].as_str().unwrap_or_default().clone_into(&mut daemon.sandbox);
        daemon
    }
}

/// Waits, for a bounded time, until there is something.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "there is no {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process is there.
pub fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

impl Daemon {
    pub fn request(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let content = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let (address, length) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             {content}Content-Length: {length}\r\n\r\n"
        );
        socket.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())))
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.request(&self.token, "POST", path, &body.to_string())
    }

    pub fn get(&self, path: &str) -> Value {
        self.request(&self.token, "GET", path, "").1
    }

    pub fn session(&self, body: &Value) -> String {
        let (status, view) = self.post("/v1/sessions", body);
        assert_eq!(status, 201, "{view}");
        view["session_id"].as_str().unwrap().to_owned()
    }

    pub fn run_in(&self, session: &str) -> String {
        let (status, view) = self.post(&format!("/v1/sessions/{session}/runs"), &json!({ "content": "please" }));
        assert_eq!(status, 202, "{view}");
        view["run_id"].as_str().unwrap().to_owned()
    }

    /// A run in a session of its own.
    pub fn run(&self, session: &Value) -> String {
        self.run_in(&self.session(session))
    }

    pub fn view(&self, run: &str) -> Value {
        self.get(&format!("/v1/runs/{run}"))
    }

    /// Waits until the run stands as wanted.
    pub fn when(&self, run: &str, status: &str) -> Value {
        eventually(&format!("run that is {status}: {}", self.view(run)), || {
            Some(self.view(run)).filter(|view| view["status"] == status)
        })
    }

    /// What waits for a person, once it does.
    pub fn pending(&self, run: &str) -> Value {
        let view = self.when(run, "waiting_for_approval");
        self.get(&format!("/v1/approvals/{}", view["approval_id"].as_str().unwrap()))
    }

    pub fn question(&self, run: &str) -> Value {
        let view = self.when(run, "waiting_for_user_question");
        self.get(&format!("/v1/questions/{}", view["question_id"].as_str().unwrap()))
    }

    pub fn decide_as(&self, token: &str, approval: &Value, decision: &str) -> (u16, Value) {
        let body = json!({
            "decision": decision, "call_hash": approval["call_hash"], "card_hash": approval["card_hash"],
        });
        let id = approval["approval_id"].as_str().unwrap();
        self.request(token, "POST", &format!("/v1/approvals/{id}/decision"), &body.to_string())
    }

    pub fn decide(&self, approval: &Value, decision: &str) -> (u16, Value) {
        self.decide_as(&self.token, approval, decision)
    }

    /// Bodies of a run's records of one kind, in order.
    pub fn records(&self, run: &str, kind: &str) -> Vec<Value> {
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            let (_, lines) =
                self.request(&self.token, "GET", &format!("/v1/journal/records?from={from}&limit=1000"), "");
            let lines: Vec<Value> = match lines {
                Value::String(text) => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
                one => vec![one],
            };
            let Some(last) = lines.iter().filter_map(|line| line["seq"].as_u64()).max() else { return found };
            let stream = format!("run/{run}");
            found.extend(lines.into_iter().filter(|line| line["kind"] == kind && line["stream"] == stream.as_str()));
            if last < from {
                return found;
            }
            from = last + 1;
        }
    }

    /// The output of the run's finished calls.
    pub fn outputs(&self, run: &str) -> Vec<String> {
        let text = |record: &Value| record["data"]["output"].as_str().unwrap_or_default().to_owned();
        self.records(run, "call.finished").iter().map(text).collect()
    }

    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
