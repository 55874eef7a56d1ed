//! A PostgreSQL of its own in a temporary folder, reached over its unix socket, with its default durability.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A running server.
pub struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
}

/// A command that runs as the user `postgres` where this is root, for which the server refuses to start.
fn as_user(program: &Path) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn quiet(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Postgres {
    /// Starts one, where there is one.
    pub fn start() -> Option<Self> {
        let mut versions: Vec<PathBuf> =
            std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        versions.sort();
        let programs = versions.pop()?.join("bin");
        let folder = tempfile::tempdir().unwrap();
        quiet(Command::new("chmod").arg("777").arg(folder.path()));
        let data = folder.path().join("data");
        let made = quiet(as_user(&programs.join("initdb")).arg("-D").arg(&data).args(["-A", "trust", "-U", "bench"]));
        let options = format!("-c listen_addresses='' -k {}", folder.path().display());
        let started = made
            && quiet(
                as_user(&programs.join("pg_ctl"))
                    .arg("-D")
                    .arg(&data)
                    .arg("-l")
                    .arg(folder.path().join("log"))
                    .args(["-w", "-o", &options, "start"]),
            );
        let postgres = Self { folder, programs };
        let table = "create table sessions (id bigserial primary key, created timestamptz default now(), body text)";
        let ready = started && quiet(postgres.command("psql").args(["-q", "-c", table]));
        std::fs::write(
            postgres.folder.path().join("insert.sql"),
            format!("insert into sessions (body) values ('{}');\n", "x".repeat(300)),
        )
        .unwrap();
        ready.then_some(postgres)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(["-U", "bench", "-h"]).arg(self.folder.path());
        if program == "psql" {
            command.args(["-d", "postgres"]);
        }
        command
    }

    /// Inserts a second by so many clients.
    pub fn insert(&self, clients: usize, round: Duration) -> f64 {
        let clients_text = clients.to_string();
        let threads = clients.min(2).to_string();
        let output = self
            .command("pgbench")
            .args([
                "-n",
                "-M",
                "prepared",
                "-c",
                &clients_text,
                "-j",
                &threads,
                "-T",
                &round.as_secs().to_string(),
                "-f",
            ])
            .arg(self.folder.path().join("insert.sql"))
            .arg("postgres")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("tps = "));
        let line = line.unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)));
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        quiet(as_user(&self.programs.join("pg_ctl")).arg("-D").arg(data).args(["-m", "immediate", "stop"]));
    }
}
