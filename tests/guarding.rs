//! The built binary under conditions that a careful operator knows: signals, limits of the machine, another user, clients
//! that do not let go.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may fail loudly and looks at the machine directly"
)]

mod stand;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stand::{BINARY, Daemon, House};

const NOBODY: u32 = 65_534;

/// The first segment.
const JOURNAL: &str = "state/journal/00000000000000000000.jsonl";

impl House {
    /// Starts a daemon through a shell that sets limits first.
    fn start(&self, limits: &str) -> Daemon {
        self.launch(Command::new("sh").arg("-c").arg(format!("{limits} exec \"$0\" \"$@\"")).arg(BINARY))
    }

    /// Role and fingerprint of each token that the journal names.
    fn told_tokens(&self) -> Vec<(String, String)> {
        let journal = std::fs::read_to_string(self.path(JOURNAL)).unwrap();
        let lines = journal.lines().filter(|line| line.contains(r#""kind":"control_plane.token_changed""#));
        lines
            .map(|line| {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                let text = |name: &str| record["data"][name].as_str().unwrap().to_owned();
                (text("role"), text("fp"))
            })
            .collect()
    }

    fn verify(&self) -> Option<i32> {
        Command::new(BINARY).arg("verify").arg(self.state()).output().unwrap().status.code()
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
        let (status, body) = self.send(&self.token, method, path, "", body)?;
        Some((status, serde_json::from_str(&body).unwrap_or_default()))
    }

    fn create(&self) -> Option<(u16, serde_json::Value)> {
        self.request("POST", "/v1/sessions", "{}")
    }

    /// A request whose body never ends.
    fn stuck(&self) -> TcpStream {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.write_all(self.head(&self.token, "POST", "/v1/sessions", "", 100).as_bytes()).unwrap();
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
    assert!(!daemon.ends_within(1.5).success(), "nobody takes a drain that was cut for a clean end");
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
    let bytes = std::fs::metadata(house.path(JOURNAL)).unwrap().len();
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
fn a_token_that_is_replaced_while_the_disk_is_full_is_recorded_once_there_is_room() {
    let house = House::new();
    assert!(house.start("").create().is_some());
    let bytes = std::fs::metadata(house.path(JOURNAL)).unwrap().len();
    let daemon = house.start(&format!("ulimit -S -f {};", bytes / 512 + 64));
    let notes: std::collections::BTreeMap<String, String> =
        (0..32).map(|number| (format!("note{number}"), "x".repeat(900))).collect();
    let body = serde_json::json!({ "metadata": notes }).to_string();
    while daemon.request("POST", "/v1/sessions", &body).unwrap().0 == 201 {}
    let (status, answer) = daemon.send("", "GET", "/readyz", "", "").unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["status"]), (503, &503.into()), "a probe is told: not now: {answer}");
    assert_eq!(answer["code"], "storage.full");
    let token = "an-operators-own-0123456789-string";
    let beside = house.path("new");
    std::fs::write(&beside, token).unwrap();
    std::fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(beside, house.state().join("tokens/admin.token")).unwrap();
    let until = |done: &dyn Fn() -> bool, what: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < deadline, "{what}: {}", house.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let status = || daemon.send(token, "GET", "/v1/status", "", "").unwrap().0;
    until(&|| status() == 200, "the token is not in force");
    std::thread::sleep(Duration::from_millis(500));
    let pid = Some(Pid::from_child(&daemon.child));
    let none = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, none).unwrap();
    let journal = || daemon.send(token, "GET", "/v1/journal/records?from=0&limit=10000", "", "").unwrap().1;
    // The first start recorded both.
    until(&|| house.told_tokens().len() == 3, "the change is not recorded");
    assert!(!journal().is_empty());
}

#[test]
fn a_token_that_was_replaced_while_no_daemon_ran_is_recorded_by_the_next_start_and_no_other_is() {
    let house = House::new();
    drop(house.start(""));
    let first = house.told_tokens();
    assert_eq!(first.iter().map(|(role, _)| role.as_str()).collect::<Vec<_>>(), ["admin", "read_only"]);
    drop(house.start(""));
    assert_eq!(house.told_tokens(), first, "nothing was replaced");
    let token = "an-operators-own-0123456789-string";
    std::fs::write(house.state().join("tokens/admin.token"), token).unwrap();
    let daemon = house.start("");
    assert_eq!(daemon.send(token, "GET", "/v1/status", "", "").unwrap().0, 200);
    drop(daemon);
    let told = house.told_tokens();
    assert_eq!((told.len(), &told[..2], told[2].0.as_str()), (3, &first[..], "admin"));
    assert!(told[2].1 != told[0].1, "another fingerprint");
    drop(house.start(""));
    assert_eq!(house.told_tokens(), told);
    assert!(!std::fs::read_to_string(house.path(JOURNAL)).unwrap().contains(token));
}

#[test]
fn a_start_whose_address_is_taken_leaves_the_journal_as_it_was() {
    let (house, other) = (House::new(), House::new());
    drop(house.start(""));
    let taken = other.start("");
    let socket = house.path("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let journal = || std::fs::read(house.path("state/journal/00000000000000000000.jsonl")).unwrap();
    let before = journal();
    for bind in [taken.address.clone(), format!("unix:{}", socket.display())] {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--bind", &bind, "--state-root"]).arg(house.state());
        let out = command.arg("--workspace-root").arg(house.path("work")).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(1) && said.contains("another process listens"), "{bind}: {said}");
        assert!(journal() == before, "{bind}: a refused start wrote");
    }
    drop(house.start(""));
    assert!(journal() != before, "the control: a start writes");
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

#[test]
fn a_token_file_that_is_loose_or_holds_no_token_refuses_the_start_without_telling_the_value() {
    let house = House::new();
    drop(house.start(""));
    let read = |name: &str| std::fs::read_to_string(house.state().join("tokens").join(name)).unwrap();
    let (good, readonly, path) =
        (read("admin.token"), read("readonly.token"), house.state().join("tokens/admin.token"));
    let (token, segment) = (good.trim(), house.state().join("journal/00000000000000000000.jsonl"));
    let journal = std::fs::read(&segment).unwrap();
    for (contents, mode, code, words) in [
        (good.clone(), 0o644, "state_root.insecure_permissions", "chmod 600"),
        (format!("\u{feff}{good}"), 0o600, "config.invalid", "line 1: begins with a byte-order mark"),
        (format!("{token}\r\n"), 0o600, "config.invalid", "line 1: ends with a carriage return"),
        (format!("{token}\0\n"), 0o600, "config.invalid", "line 1: holds a character"),
        (format!("{token}\n# the old one\n"), 0o600, "config.invalid", "line 2: comments"),
        (format!("{token}\n{token}\n"), 0o600, "config.invalid", "line 2: the file must hold one token"),
        (token[..40].to_owned(), 0o600, "config.invalid", "line 1: begins with chy_"),
        (token[4..24].to_owned(), 0o600, "config.invalid", "line 1: shorter than 22"),
        (String::new(), 0o600, "config.invalid", "line 1: the file holds no token"),
        (readonly, 0o600, "auth.tokens_ambiguous", "the same token"),
    ] {
        std::fs::write(&path, &contents).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let out = house.serving(&mut Command::new(BINARY)).output().unwrap();
        let told = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && told.contains(code) && told.contains(words), "{contents:?}: {told}");
        assert!(!told.contains(&token[4..24]), "{told}");
    }
    std::fs::write(&path, &good).unwrap();
    // Nor does any other refusal that the settings alone explain.
    for flags in [["--routes-file", "/nowhere"], ["--trusted-proxy-secret-file", "/nowhere"]] {
        let out = house.serving(&mut Command::new(BINARY)).args(flags).output().unwrap();
        assert!(!out.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    assert!(std::fs::read(&segment).unwrap() == journal, "a refused start leaves the journal as it was");
    assert_eq!(house.start("").create().unwrap().0, 201, "the control: the file as it was");
    assert!(std::fs::read(&segment).unwrap() != journal);
}

#[test]
fn a_secret_that_agents_could_read_refuses_the_start_and_is_not_made() {
    let house = House::new();
    drop(house.start(""));
    for folder in ["beside", "work/folder"] {
        std::fs::create_dir(house.path(folder)).unwrap();
    }
    std::os::unix::fs::symlink(house.path("beside"), house.path("work/out")).unwrap();
    std::os::unix::fs::symlink(house.path("work/folder"), house.path("in")).unwrap();
    let secret = house.path("work/secret");
    std::fs::write(&secret, format!("{}\n", "0123456789abcdef".repeat(4))).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let below_programs = std::path::PathBuf::from("/usr/lib/chancery-test-of-places.token");
    for (flag, path, absent) in [
        ("--http-admin-token-file", house.path("work/admin"), true),
        ("--http-readonly-token-file", house.path("work/folder/readonly"), true),
        ("--http-admin-token-file", house.path("in/admin"), true),
        ("--http-admin-token-file", house.path("work/out/admin"), true),
        ("--http-admin-token-file", below_programs, true),
        ("--trusted-proxy-secret-file", secret, false),
    ] {
        let mut command = Command::new(BINARY);
        let command = house.serving(&mut command).arg(flag).arg(&path).stderr(Stdio::piped());
        let mut daemon = Daemon { child: command.spawn().unwrap(), address: String::new(), token: String::new() };
        let deadline = Instant::now() + Duration::from_secs(10);
        let ended = loop {
            match daemon.child.try_wait().unwrap() {
                Some(status) => break Some(status.code()),
                None if Instant::now() >= deadline => break None,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let _ = daemon.child.kill();
        let mut told = String::new();
        daemon.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        let made = absent && path.exists() && std::fs::remove_file(&path).is_ok();
        assert_eq!((ended, made), (Some(Some(1)), false), "{flag} {}: {told}", path.display());
        assert!(told.contains("config.invalid") && told.contains(flag) && told.contains("agents could read"), "{told}");
    }
    // The control: beside the workspace it is made.
    let beside = house.path("beside/admin");
    let mut command = Command::new(BINARY);
    command.env("CHANCERY_HTTP_ADMIN_TOKEN_FILE", &beside);
    drop(house.launch(&mut command));
    assert!(beside.exists());
}

/// What serving with this routes file comes to within ten seconds: how it ended, if it did, and what it said.
fn serve_with_routes(house: &House, routes: &std::path::Path) -> (Option<ExitStatus>, String) {
    let mut command = Command::new(BINARY);
    let command = house.serving(&mut command).arg("--routes-file").arg(routes).stderr(Stdio::piped());
    let mut daemon = Daemon { child: command.spawn().unwrap(), address: String::new(), token: String::new() };
    let deadline = Instant::now() + Duration::from_secs(10);
    let serves = || house.path("state/daemon.json").exists();
    let mut ended = None;
    while ended.is_none() && Instant::now() < deadline && !serves() {
        ended = daemon.child.try_wait().unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = daemon.child.kill();
    let _ = std::fs::remove_file(house.path("state/daemon.json"));
    let mut told = String::new();
    daemon.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    (ended, told)
}

#[test]
fn routes_and_scripts_that_agents_could_change_refuse_the_start() {
    let house = House::new();
    std::fs::create_dir_all(house.path("work/folder")).unwrap();
    std::fs::create_dir_all(house.path("beside")).unwrap();
    std::os::unix::fs::symlink(house.path("beside"), house.path("work/out")).unwrap();
    std::os::unix::fs::symlink(house.path("work/folder"), house.path("in")).unwrap();
    let script = "version = 1\n[[turns]]\nsteps = [{ text = \"hello\" }]\n";
    let routes = |script: &str| {
        format!("version = 1\n[routes.r]\ndriver = \"rehearsal\"\ndefault_model = \"m\"\nscript = \"{script}\"\n")
    };
    for place in ["work/folder", "beside"] {
        std::fs::write(house.path(place).join("script.toml"), script).unwrap();
        std::fs::write(house.path(place).join("routes.toml"), routes("script.toml")).unwrap();
    }
    let named = house.path("beside/named.toml");
    std::fs::write(&named, routes(house.path("work/folder/script.toml").to_str().unwrap())).unwrap();
    for path in
        [house.path("work/folder/routes.toml"), house.path("in/routes.toml"), house.path("work/out/routes.toml"), named]
    {
        let (ended, told) = serve_with_routes(&house, &path);
        assert_eq!(ended.and_then(|status| status.code()), Some(1), "{}: {told}", path.display());
        assert!(told.contains("config.invalid") && told.contains("--routes-file: agents could change"), "{told}");
    }
    let mut command = Command::new(BINARY);
    let socket = format!("unix:{}", house.path("work/folder/socket").display());
    command.args(["serve", "--bind", &socket, "--state-root"]).arg(house.state());
    let ended = command.arg("--workspace-root").arg(house.path("work")).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && told.contains("--bind: agents could change"), "{told}");
    // The control: beside the workspace they are fine.
    let (ended, told) = serve_with_routes(&house, &house.path("beside/routes.toml"));
    assert_eq!(ended, None, "{told}");
}

#[test]
fn no_token_stands_in_arguments_environment_or_logs_wherever_a_client_puts_it() {
    let house = House::new();
    let daemon = house.launch(Command::new(BINARY).env("CHANCERY_LOG", "trace"));
    let token = daemon.token.clone();
    let readonly = std::fs::read_to_string(house.state().join("tokens/readonly.token")).unwrap();
    for (path, status) in [
        (format!("/v1/sessions?token={token}"), 400),
        (format!("/v1/sessions?cursor={token}"), 400),
        (format!("/v1/sessions/{token}"), 404),
        (format!("/{token}"), 404),
    ] {
        assert_eq!(daemon.send(&token, "GET", &path, "", "").unwrap().0, status, "{path}");
    }
    for (shown, headers) in [
        (format!("{token} {token}"), String::new()),
        (token[..54].to_owned(), format!("Cookie: token={token}\r\nX-Token: {token}\r\nUser-Agent: {token}\r\n")),
        (readonly.trim().to_owned(), format!("Authorization: Bearer {token}\r\n")),
    ] {
        let status = daemon.send(&shown, "GET", "/v1/sessions", &headers, "").unwrap().0;
        assert!([400, 401].contains(&status), "{status}");
    }
    assert_eq!(daemon.create().unwrap().0, 201);
    let (arguments, environment) = (daemon.proc("cmdline"), daemon.proc("environ"));
    drop(daemon);
    let log = house.log();
    let audit = std::fs::read_to_string(house.state().join("control-plane-auth/audit.jsonl")).unwrap();
    assert!(log.contains("\"TRACE\"") || log.contains("\"DEBUG\""), "the log is at its loudest: {log}");
    for text in [arguments, environment, log, audit] {
        assert!(!text.contains(&token[4..50]) && !text.contains(&readonly[4..50]), "{text}");
    }
}

#[test]
fn bodies_take_no_more_memory_than_there_is_for_them_however_many_and_however_cut() {
    let house = House::new();
    let daemon = house.start("");
    let open = |headers: &str, length: usize| {
        let mut socket = TcpStream::connect(&daemon.address).unwrap();
        let head = daemon.head(&daemon.token, "POST", "/v1/sessions", headers, length);
        socket.write_all(head.as_bytes()).unwrap();
        socket
    };
    // Single bytes: kept apart, each would take many times its size.
    let before = daemon.mebibytes("VmRSS:");
    let bytes = "1\r\n \r\n".repeat(900_000);
    let mut dripping: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut socket = open("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n", 0);
            socket.write_all(bytes.as_bytes()).unwrap();
            socket
        })
        .collect();
    for socket in &mut dripping {
        socket.write_all(b"2\r\n{}\r\n0\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    let grown = daemon.mebibytes("VmHWM:") - before;
    assert!(grown < 48, "2 bodies of 900,000 bytes in as many pieces take {grown} MiB");
    // The largest bodies, each short of its last byte.
    let before = daemon.mebibytes("VmRSS:");
    let body = vec![b' '; (1 << 20) - 1];
    let mut waiting = Vec::new();
    loop {
        let mut socket = open("", 1 << 20);
        // Who is refused is heard out for a while only.
        let _ = socket.write_all(&body);
        waiting.push(socket);
        if waiting.len() < 100 {
            continue;
        }
        assert!(waiting.len() < 250, "250 MiB of bodies are taken");
        std::thread::sleep(Duration::from_millis(20));
        let (status, answer) = daemon.request("POST", "/v1/sessions", &format!("{{}}{}", " ".repeat(200))).unwrap();
        if status != 201 {
            assert_eq!((status, answer["code"].as_str()), (503, Some("request.overloaded")), "{answer}");
            break;
        }
    }
    assert_eq!(daemon.request("GET", "/v1/sessions", "").unwrap().0, 200, "reads go on");
    let grown = daemon.mebibytes("VmHWM:") - before;
    assert!(grown < 170, "while {} bodies of 1 MiB wait, {grown} MiB are taken", waiting.len());
    drop(waiting);
    let deadline = Instant::now() + Duration::from_secs(10);
    while daemon.request("POST", "/v1/sessions", &format!("{{}}{}", " ".repeat(1_000_000))).unwrap().0 != 201 {
        assert!(Instant::now() < deadline, "what hung up still takes its room");
        std::thread::sleep(Duration::from_millis(50));
    }
}
