//! A folder for a daemon, and the built binary at work in it. Test files add what only they need.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot be set up fails")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_chancery");

/// A state root, a workspace, and what else lies beside them.
pub struct House {
    pub folder: tempfile::TempDir,
}

/// A daemon that ends with the test, also where that fails.
pub struct Daemon {
    pub child: Child,
    pub address: String,
    pub token: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl House {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// What the daemon wrote to its standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Lets a command, which is the binary or starts it, serve this house.
    pub fn serving<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.args(["serve", "--bind", "127.0.0.1:0", "--state-root"]).arg(self.state());
        command.arg("--workspace-root").arg(self.path("work"));
        if self.path("routes.toml").exists() {
            command.arg("--routes-file").arg(self.path("routes.toml"));
        }
        if self.path("master.key").exists() {
            command.env("CHANCERY_AUTH_STORE_MASTER_KEY_FILE", self.path("master.key"));
        }
        // What a killed daemon leaves goes with the house.
        command.env("TMPDIR", self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null())
    }

    /// Starts a daemon by a command and waits until it serves.
    pub fn launch(&self, command: &mut Command) -> Daemon {
        self.launch_saying(command, std::fs::File::create(self.path("log")).unwrap())
    }

    /// The same, with its standard error in this file.
    pub fn launch_saying(&self, command: &mut Command, log: std::fs::File) -> Daemon {
        let child = self.serving(command).stderr(log).spawn().unwrap();
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
}

impl Daemon {
    /// The head of a request whose body has this length.
    pub fn head(&self, token: &str, method: &str, path: &str, headers: &str, length: usize) -> String {
        let content = match length {
            0 => String::new(),
            _ => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        };
        let address = &self.address;
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             {content}{headers}\r\n"
        )
    }

    /// Sends a request on a connection of its own: the whole answer, none where there is no daemon.
    pub fn answer(&self, token: &str, method: &str, path: &str, headers: &str, body: &str) -> Option<String> {
        let mut socket = TcpStream::connect(&self.address).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = self.head(token, method, path, headers, body.len());
        socket.write_all(format!("{head}{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Status and body of the answer.
    pub fn send(&self, token: &str, method: &str, path: &str, headers: &str, body: &str) -> Option<(u16, String)> {
        let answer = self.answer(token, method, path, headers, body)?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    /// What the machine says of the process.
    pub fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    /// A size that the machine tells of the process, MiB.
    pub fn mebibytes(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1_024
    }
}
