//! The built binary under conditions that a careful operator knows: signals, limits of the machine, another user, clients
//! that do not let go.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may fail loudly and looks at the machine directly"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const BINARY: &str = env!("CARGO_BIN_EXE_chancery");
const NOBODY: u32 = 65_534;

struct House {
    folder: tempfile::TempDir,
}

/// A daemon that ends with the test, also where that fails.
struct Daemon {
    child: Child,
    address: String,
    token: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a daemon through a shell that sets limits first.
    fn start(&self, limits: &str) -> Daemon {
        self.launch(Command::new("sh").arg("-c").arg(format!("{limits} exec \"$0\" \"$@\"")).arg(BINARY))
    }

    fn launch(&self, command: &mut Command) -> Daemon {
        command.args(["serve", "--bind", "127.0.0.1:0", "--state-root"]).arg(self.path("state"));
        command.arg("--workspace-root").arg(self.path("work"));
        if self.path("routes.toml").exists() {
            command.arg("--routes-file").arg(self.path("routes.toml"));
        }
        let log = std::fs::File::create(self.path("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut daemon = Daemon { child, address: String::new(), token: String::new() };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(daemon.child.try_wait().unwrap().is_none(), "no daemon: {}", self.log());
            assert!(Instant::now() < deadline, "the daemon does not serve: {}", self.log());
            let file = std::fs::read_to_string(self.path("state/daemon.json")).unwrap_or_default();
            let said: serde_json::Value = serde_json::from_str(&file).unwrap_or_default();
            if said["pid"] == daemon.child.id() {
                let token = std::fs::read_to_string(self.path("state/tokens/admin.token")).unwrap();
                said["address"].as_str().unwrap().clone_into(&mut daemon.address);
                token.trim().clone_into(&mut daemon.token);
                return daemon;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn verify(&self) -> Option<i32> {
        Command::new(BINARY).arg("verify").arg(self.path("state")).output().unwrap().status.code()
    }

    /// Routes to a script that runs one command.
    fn rehearse(&self, command: &str) {
        let input = serde_json::json!({ "command": command }).to_string();
        let script = format!(
            "version = 1\n[[turns]]\nsteps = [{{ call = \"bash\", input = '{input}' }}]\n[[turns]]\nsteps = [{{ text = \"done\" }}]\n"
        );
        std::fs::write(self.path("script.toml"), script).unwrap();
        let routes = "version = 1\n[routes.practice]\ndriver = \"rehearsal\"\ndefault_model = \"rehearsal\"\nscript = \"script.toml\"\n";
        std::fs::write(self.path("routes.toml"), routes).unwrap();
    }
}

impl Daemon {
    fn request(&self, method: &str, path: &str, body: &str) -> Option<(u16, serde_json::Value)> {
        let mut socket = TcpStream::connect(&self.address).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(&self.head(method, path, body.len())).ok()?;
        socket.write_all(body.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(answer.split_once("\r\n\r\n")?.1).unwrap_or_default()))
    }

    fn head(&self, method: &str, path: &str, length: usize) -> Vec<u8> {
        let content = if length == 0 {
            String::new()
        } else {
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
        };
        let Self { address, token, .. } = self;
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{content}\r\n")
            .into_bytes()
    }

    fn create(&self) -> Option<(u16, serde_json::Value)> {
        self.request("POST", "/v1/sessions", "{}")
    }

    /// A request whose body never ends.
    fn stuck(&self) -> TcpStream {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.write_all(&self.head("POST", "/v1/sessions", 100)).unwrap();
        socket.write_all(b"{").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        socket
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ends_within(&mut self, seconds: f64) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed().as_secs_f64() < seconds, "it has not ended after {seconds} s");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    /// Has a command run by an agent, and gives the run as it ended.
    fn run_command(&self) -> serde_json::Value {
        let (_, session) = self.create().unwrap();
        let path = format!("/v1/sessions/{}/runs", session["session_id"].as_str().unwrap());
        let (status, run) = self.request("POST", &path, r#"{"content":"please"}"#).unwrap();
        assert_eq!(status, 202, "{run}");
        let path = format!("/v1/runs/{}", run["run_id"].as_str().unwrap());
        let approval = self.wait_for(&path, "waiting_for_approval")["approval_id"].as_str().unwrap().to_owned();
        let (_, approval) = self.request("GET", &format!("/v1/approvals/{approval}"), "").unwrap();
        let decision = serde_json::json!({
            "decision": "allow", "call_hash": approval["call_hash"], "card_hash": approval["card_hash"],
        });
        let decide = format!("/v1/approvals/{}/decision", approval["approval_id"].as_str().unwrap());
        assert_eq!(self.request("POST", &decide, &decision.to_string()).unwrap().0, 200);
        self.wait_for(&path, "completed")
    }

    fn wait_for(&self, path: &str, status: &str) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (_, view) = self.request("GET", path, "").unwrap();
            if view["status"] == status {
                return view;
            }
            assert!(Instant::now() < deadline, "the run does not become {status}: {view}");
            std::thread::sleep(Duration::from_millis(25));
        }
    }
}

#[test]
fn an_idle_daemon_ends_within_two_seconds_of_a_signal_and_hangup_is_none() {
    let house = House::new();
    let mut daemon = house.start("");
    assert_eq!(daemon.create().unwrap().0, 201);
    daemon.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.create().unwrap().0, 201, "a hangup must not end the daemon");
    assert!(house.log().contains("SIGHUP is ignored"), "{}", house.log());
    daemon.signal(Signal::TERM);
    assert!(daemon.ends_within(2.0).success());
    assert_eq!(house.verify(), Some(0));
}

#[test]
fn a_daemon_that_winds_down_takes_nothing_new_and_ends_in_time_whatever_a_client_does() {
    let house = House::new();
    let mut daemon = house.start("");
    let mut stuck = daemon.stuck();
    daemon.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!house.path("state/daemon.json").exists());
    // The rest of the body comes too late for anything to be done.
    stuck.write_all(&[b' '; 98]).unwrap();
    stuck.write_all(b"}").unwrap();
    let mut answer = String::new();
    stuck.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the daemon is stopping"), "{answer}");
    assert!(daemon.ends_within(2.0).success());
    let mut daemon = house.start("");
    let _stuck = daemon.stuck();
    daemon.signal(Signal::TERM);
    assert!(daemon.ends_within(10.0).success(), "{}", house.log());
    assert_eq!(house.verify(), Some(0), "all of it must be acknowledged and closed");
}

#[test]
fn a_second_signal_ends_the_daemon_at_once() {
    let house = House::new();
    let mut daemon = house.start("");
    assert_eq!(daemon.create().unwrap().0, 201);
    let _stuck = daemon.stuck();
    daemon.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(300));
    assert!(daemon.child.try_wait().unwrap().is_none(), "the client must hold up the drain");
    daemon.signal(Signal::INT);
    daemon.ends_within(1.5);
    assert_eq!(house.verify(), Some(0));
}

#[test]
fn the_memory_of_the_daemon_is_closed_and_its_limit_of_descriptors_raised() {
    let house = House::new();
    let daemon = house.start("ulimit -Sn 128;");
    let limits = daemon.proc("limits");
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    let files = limit("Max open files");
    assert!(files[0] == files[1] && files[0] != "128", "{files:?}");
}

#[test]
fn another_users_daemon_is_not_dumpable_and_its_sandbox_still_starts() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can start a daemon as somebody else");
        return;
    }
    let house = House::new();
    house.rehearse("echo ran > ran.txt");
    let copy = house.path("chancery");
    std::fs::copy(BINARY, &copy).unwrap();
    for name in ["", "work", "script.toml", "routes.toml"] {
        chown(house.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let daemon = house.launch(Command::new(&copy).uid(NOBODY).gid(NOBODY));
    // The machine gives what belongs to a process that is not dumpable to root.
    let owner = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(format!("/proc/{}/{name}", daemon.child.id())).unwrap().uid()
    };
    assert_eq!((owner("mem"), owner("environ")), (0, 0));
    let (_, status) = daemon.request("GET", "/v1/status", "").unwrap();
    if status["sandbox"].as_str().is_none_or(|label| !label.contains("landlock")) {
        assert!(std::env::var_os("CHANCERY_TEST_NO_SANDBOX").is_some(), "no Landlock: {status}");
        return;
    }
    daemon.run_command();
    assert_eq!(std::fs::read_to_string(house.path("work/ran.txt")).unwrap(), "ran\n");
}

#[test]
fn idle_strangers_leave_the_journal_its_descriptors() {
    let house = House::new();
    let daemon = house.start("ulimit -n 320;");
    let idle: Vec<TcpStream> = (0..400).filter_map(|_| TcpStream::connect(&daemon.address).ok()).collect();
    std::thread::sleep(Duration::from_millis(500));
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).unwrap().count();
    assert!(open < 200, "{open} descriptors are open while {} strangers wait", idle.len());
    drop(idle);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(daemon.create().unwrap().0, 201);
}

#[test]
fn a_limit_of_file_sizes_refuses_like_a_full_disk_and_reads_go_on() {
    let house = House::new();
    assert!(house.start("").create().is_some());
    // 512-byte blocks: below what the journal's written-ahead space will want, above what there is.
    let bytes = std::fs::metadata(house.path("state/journal/00000000000000000000.jsonl")).unwrap().len();
    let mut daemon = house.start(&format!("ulimit -f {};", bytes / 512 + 64));
    let notes: std::collections::BTreeMap<String, String> =
        (0..32).map(|number| (format!("note{number}"), "x".repeat(900))).collect();
    let body = serde_json::json!({ "metadata": notes }).to_string();
    let refused = (0..2_000).find_map(|_| {
        let (status, answer) = daemon.request("POST", "/v1/sessions", &body)?;
        (status != 201).then(|| (status, answer["code"].clone()))
    });
    assert!(daemon.child.try_wait().unwrap().is_none(), "the daemon was killed: {}", house.log());
    assert_eq!(refused, Some((507, serde_json::json!("storage.full"))));
    assert_eq!(daemon.request("GET", "/v1/sessions", "").unwrap().0, 200);
}

#[test]
fn a_start_says_when_its_file_system_does_not_keep_what_is_written() {
    let shared = std::path::Path::new("/dev/shm");
    if !rustix::fs::statfs(shared).is_ok_and(|facts| facts.f_type == 0x0102_1994) {
        eprintln!("skipped: there is no tmpfs at /dev/shm");
        return;
    }
    let house = House { folder: tempfile::tempdir_in(shared).unwrap() };
    std::fs::create_dir(house.path("work")).unwrap();
    let daemon = house.start("");
    assert_eq!(daemon.create().unwrap().0, 201, "it is a warning, no refusal");
    let log = house.log();
    let warning = log.lines().find(|line| line.contains("file system of the state root")).unwrap_or_default();
    assert!(
        warning.contains("WARN") && warning.contains("tmpfs") && warning.contains("put the state root on a disk"),
        "{log}"
    );
}
