//! What the operator says to `serve`: flags and their `CHANCERY_…` variables, checked as a whole. Every problem is named
//! at once; a secret is never the value of a flag.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::addresses::{Bind, HostPort, parse_bind, parse_host, parse_host_port, parse_origin, parse_proxy};
use super::limits::RUNS_AT_A_TIME_MOST;

/// Whether and how callers prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// A bearer token on every request; the token files are made where they are absent.
    Auto,
    /// A bearer token on every request.
    Bearer,
    /// None at all: loopback only, and never behind a proxy.
    None,
}

/// A setting that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// The master key, as far as it is named: its value is never the value of a flag.
#[derive(Debug, Clone, Args)]
pub struct AuthStoreKey {
    /// File with the master key that opens the vault of secrets
    #[arg(
        id = "auth_store_master_key_file",
        long = "auth-store-master-key-file",
        env = "CHANCERY_AUTH_STORE_MASTER_KEY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub file: Option<PathBuf>,
}

/// The arguments of `serve`, as given.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where to listen: ADDRESS:PORT, or unix:PATH
    #[arg(
        long,
        env = "CHANCERY_BIND",
        hide_env_values = true,
        default_value = "127.0.0.1:4000",
        value_name = "ADDRESS"
    )]
    pub bind: String,
    /// Where everything is kept [default: $XDG_STATE_HOME/chancery]
    #[arg(long, env = "CHANCERY_STATE_ROOT", hide_env_values = true, value_name = "DIR")]
    pub state_root: Option<PathBuf>,
    /// The directory that agents work in (required)
    #[arg(long, env = "CHANCERY_WORKSPACE_ROOT", hide_env_values = true, value_name = "DIR")]
    pub workspace_root: Option<PathBuf>,
    /// Model routes; without it runs follow rehearsal scripts
    #[arg(long, env = "CHANCERY_ROUTES_FILE", hide_env_values = true, value_name = "FILE")]
    pub routes_file: Option<PathBuf>,
    /// What models cost, instead of the table that ships with the program
    #[arg(long, env = "CHANCERY_PRICE_TABLE_FILE", hide_env_values = true, value_name = "FILE")]
    pub price_table_file: Option<PathBuf>,
    /// The route of runs that name none
    #[arg(long, env = "CHANCERY_DEFAULT_ROUTE", hide_env_values = true, value_name = "ROUTE")]
    pub default_route: Option<String>,
    /// How callers prove who they are
    #[arg(long, env = "CHANCERY_HTTP_AUTH_MODE", hide_env_values = true, value_enum, default_value = "auto")]
    pub http_auth_mode: AuthMode,
    /// File with the admin token [default: STATE_ROOT/tokens/admin.token]
    #[arg(long, env = "CHANCERY_HTTP_ADMIN_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub http_admin_token_file: Option<PathBuf>,
    /// File with the read-only token [default: STATE_ROOT/tokens/readonly.token]
    #[arg(long, env = "CHANCERY_HTTP_READONLY_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub http_readonly_token_file: Option<PathBuf>,
    /// A further name under which clients reach the daemon; may repeat
    #[arg(long, env = "CHANCERY_HTTP_HOST", hide_env_values = true, value_delimiter = ',', value_name = "NAME")]
    pub http_host: Vec<String>,
    /// File with the secret by which a reverse proxy proves itself
    #[arg(long, env = "CHANCERY_TRUSTED_PROXY_SECRET_FILE", hide_env_values = true, value_name = "FILE")]
    pub trusted_proxy_secret_file: Option<PathBuf>,
    /// A loopback origin whose pages may call the daemon; may repeat
    #[arg(
        long,
        env = "CHANCERY_HTTP_CORS_ALLOW_ORIGIN",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    pub http_cors_allow_origin: Vec<String>,
    /// What opens the vault of secrets.
    #[command(flatten)]
    pub master_key: AuthStoreKey,
    /// An internal HOST:PORT that outgoing calls may reach; may repeat
    #[arg(
        long,
        env = "CHANCERY_OUTBOUND_ALLOW",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "HOST:PORT"
    )]
    pub outbound_allow: Vec<String>,
    /// The proxy through which public machines are reached, http://HOST:PORT; variables such as HTTPS_PROXY are not read
    #[arg(long, env = "CHANCERY_OUTBOUND_PROXY", hide_env_values = true, value_name = "URL")]
    pub outbound_proxy: Option<String>,
    /// File of further certificate authorities (PEM) that outgoing calls trust
    #[arg(long, env = "CHANCERY_OUTBOUND_CA_FILE", hide_env_values = true, value_name = "FILE")]
    pub outbound_ca_file: Option<PathBuf>,
    /// Whether commands run confined
    #[arg(long, env = "CHANCERY_TOOL_SANDBOX", hide_env_values = true, value_enum, default_value = "on")]
    pub tool_sandbox: Switch,
    /// Whether confined commands may use the network
    #[arg(long, env = "CHANCERY_TOOL_NETWORK", hide_env_values = true, value_enum, default_value = "off")]
    pub tool_network: Switch,
    /// Runs that work, and calls that wait at one route, at a time; each holds its conversation in memory [default: 8]
    #[arg(long, env = "CHANCERY_RUNS_AT_A_TIME", hide_env_values = true, value_name = "NUMBER")]
    pub runs_at_a_time: Option<usize>,
}

/// The settings of `serve`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeSettings {
    /// Where to listen.
    pub bind: Bind,
    /// The state root.
    pub state_root: PathBuf,
    /// The workspace root.
    pub workspace_root: PathBuf,
    /// The routes file, if there is one.
    pub routes_file: Option<PathBuf>,
    /// The file of the price table, if there is one.
    pub price_table_file: Option<PathBuf>,
    /// The default route, where the command line names one.
    pub default_route: Option<String>,
    /// How callers prove who they are.
    pub auth_mode: AuthMode,
    /// The admin token's file.
    pub admin_token_file: PathBuf,
    /// The read-only token's file.
    pub readonly_token_file: PathBuf,
    /// Further Hosts, lower case, with or without a port.
    pub http_hosts: Vec<String>,
    /// The file of the proxy's secret.
    pub trusted_proxy_secret_file: Option<PathBuf>,
    /// The file of the vault's master key.
    pub master_key_file: Option<PathBuf>,
    /// Allowed origins, lower case.
    pub cors_origins: Vec<String>,
    /// Allowed internal destinations.
    pub outbound_allow: Vec<HostPort>,
    /// The proxy to public machines.
    pub outbound_proxy: Option<HostPort>,
    /// The file of further certificate authorities.
    pub outbound_ca_file: Option<PathBuf>,
    /// Whether commands run confined.
    pub tool_sandbox: bool,
    /// Whether confined commands may use the network.
    pub tool_network: bool,
    /// Runs that work, and calls that wait at one route, at a time, where the operator names a number.
    pub runs_at_a_time: Option<usize>,
}

impl ServeSettings {
    /// The same with the state root's resolved path, wherever something below it is named.
    #[must_use]
    pub fn at_state_root(mut self, resolved: &Path) -> Self {
        for file in [&mut self.admin_token_file, &mut self.readonly_token_file] {
            if let Ok(below) = file.strip_prefix(&self.state_root) {
                *file = resolved.join(below);
            }
        }
        resolved.clone_into(&mut self.state_root);
        self
    }
}

/// One thing wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag}: {detail}")]
pub struct SettingProblem {
    /// The flag.
    pub flag: &'static str,
    /// What is wrong, without a secret.
    pub detail: String,
}

/// What the settings need from the environment: the folders of the user.
#[derive(Debug, Clone, Default)]
pub struct Folders {
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
}

impl Folders {
    /// Reads the two variables.
    pub fn from_environment() -> Self {
        let read = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self { xdg_state_home: read("XDG_STATE_HOME"), home: read("HOME") }
    }

    /// The state root where nobody names one.
    pub fn default_state_root(&self) -> Option<PathBuf> {
        let base = self.xdg_state_home.clone().or_else(|| self.home.as_ref().map(|home| home.join(".local/state")));
        base.map(|base| base.join("chancery"))
    }
}

/// Collects problems, so that all are named at once.
#[derive(Default)]
struct Problems(Vec<SettingProblem>);

impl Problems {
    fn add(&mut self, flag: &'static str, detail: impl Into<String>) {
        self.0.push(SettingProblem { flag, detail: detail.into() });
    }

    fn each<T>(&mut self, flag: &'static str, given: &[String], parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut good = Vec::new();
        for text in given {
            match parse(text) {
                Ok(value) => good.push(value),
                Err(detail) => self.add(flag, format!("{text:?} {detail}")),
            }
        }
        good
    }
}

impl ServeArgs {
    /// Checks everything; names every problem. A caller exits 2 with them.
    pub fn settings(&self, folders: &Folders) -> Result<ServeSettings, Vec<SettingProblem>> {
        let mut problems = Problems::default();
        let bind = parse_bind(&self.bind).unwrap_or_else(|detail| {
            problems.add("--bind", detail);
            Bind::Unix(PathBuf::new())
        });
        let state_root = self.state_root.clone().or_else(|| folders.default_state_root()).unwrap_or_else(|| {
            problems.add("--state-root", "is needed, as neither XDG_STATE_HOME nor HOME is set");
            PathBuf::new()
        });
        let workspace_root = self.workspace_root.clone().unwrap_or_else(|| {
            problems.add("--workspace-root", "is required: the directory that agents may work in");
            PathBuf::new()
        });
        let below = |name: &str| state_root.join("tokens").join(name);
        let settings = ServeSettings {
            admin_token_file: self.http_admin_token_file.clone().unwrap_or_else(|| below("admin.token")),
            readonly_token_file: self.http_readonly_token_file.clone().unwrap_or_else(|| below("readonly.token")),
            http_hosts: problems.each("--http-host", &self.http_host, parse_host),
            cors_origins: problems.each("--http-cors-allow-origin", &self.http_cors_allow_origin, parse_origin),
            outbound_allow: problems.each("--outbound-allow", &self.outbound_allow, parse_host_port),
            outbound_proxy: problems.each("--outbound-proxy", self.outbound_proxy.as_slice(), parse_proxy).pop(),
            outbound_ca_file: self.outbound_ca_file.clone(),
            bind,
            state_root,
            workspace_root,
            routes_file: self.routes_file.clone(),
            price_table_file: self.price_table_file.clone(),
            default_route: self.default_route.clone(),
            auth_mode: self.http_auth_mode,
            trusted_proxy_secret_file: self.trusted_proxy_secret_file.clone(),
            master_key_file: self.master_key.file.clone(),
            tool_sandbox: self.tool_sandbox == Switch::On,
            tool_network: self.tool_network == Switch::On,
            runs_at_a_time: self.runs_at_a_time,
        };
        check_together(&settings, &mut problems);
        if problems.0.is_empty() { Ok(settings) } else { Err(problems.0) }
    }
}

/// The rules that concern more than one setting, and numbers.
fn check_together(settings: &ServeSettings, problems: &mut Problems) {
    if settings.runs_at_a_time.is_some_and(|number| !(1..=RUNS_AT_A_TIME_MOST).contains(&number)) {
        problems.add("--runs-at-a-time", format!("is a number from 1 to {RUNS_AT_A_TIME_MOST}"));
    }
    if settings.auth_mode == AuthMode::None {
        if !settings.bind.is_loopback() {
            problems.add("--http-auth-mode", "none needs a loopback --bind");
        }
        if settings.tool_network {
            problems.add("--tool-network", "on needs authentication: a command could reach the daemon itself");
        }
        if !settings.tool_sandbox {
            problems.add("--tool-sandbox", "off needs authentication: a command could reach the daemon itself");
        }
        if settings.trusted_proxy_secret_file.is_some() {
            problems.add("--trusted-proxy-secret-file", "a proxy needs authentication behind it");
        }
    }
    if settings.admin_token_file == settings.readonly_token_file {
        problems.add("--http-readonly-token-file", "must be another file than the admin token's");
    }
    let (state, workspace) = (&settings.state_root, &settings.workspace_root);
    let named = !state.as_os_str().is_empty() && !workspace.as_os_str().is_empty();
    if named && (state.starts_with(workspace) || workspace.starts_with(state)) {
        problems.add("--workspace-root", "and the state root must not contain one another");
    }
    if settings.routes_file.is_none() && settings.default_route.is_some() {
        problems.add("--default-route", "needs a --routes-file that holds the route");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn settings(words: &[&str]) -> Result<ServeSettings, Vec<SettingProblem>> {
        let line = Line::try_parse_from(std::iter::once(&"serve").chain(words)).unwrap();
        line.serve.settings(&Folders { xdg_state_home: Some("/s".into()), home: None })
    }

    #[test]
    fn the_defaults_need_only_a_workspace() {
        let got = settings(&["--workspace-root", "/w"]).unwrap();
        assert_eq!(got.bind.to_string(), "127.0.0.1:4000");
        assert_eq!(got.state_root, Path::new("/s/chancery"));
        assert_eq!(got.admin_token_file, Path::new("/s/chancery/tokens/admin.token"));
        assert_eq!((got.tool_sandbox, got.tool_network, got.auth_mode), (true, false, AuthMode::Auto));
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let words =
            ["--bind", "0.0.0.0:4000", "--http-auth-mode", "none", "--tool-network", "on", "--http-host", "a b"];
        let more =
            ["--http-cors-allow-origin", "https://evil.example", "--outbound-allow", "x", "--default-route", "r"];
        let proxy = ["--outbound-proxy", "https://proxy.example:3128"];
        let flags: Vec<_> = settings(&[&words[..], &more[..], &proxy[..]].concat())
            .unwrap_err()
            .into_iter()
            .map(|problem| problem.flag)
            .collect();
        assert_eq!(
            flags,
            [
                "--workspace-root",
                "--http-host",
                "--http-cors-allow-origin",
                "--outbound-allow",
                "--outbound-proxy",
                "--http-auth-mode",
                "--tool-network",
                "--default-route"
            ]
        );
    }

    #[test]
    fn the_number_of_runs_at_a_time_has_bounds() {
        let number = |number: &str| settings(&["--workspace-root", "/w", "--runs-at-a-time", number]);
        assert_eq!(number("256").unwrap().runs_at_a_time, Some(256));
        for odd in ["0", "257"] {
            assert_eq!(number(odd).unwrap_err()[0].flag, "--runs-at-a-time", "{odd}");
        }
    }

    #[test]
    fn mode_none_takes_loopback_and_unix_sockets_only() {
        for bind in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:1", "unix:/run/chancery.sock"] {
            assert!(
                settings(&["--workspace-root", "/w", "--http-auth-mode", "none", "--bind", bind]).is_ok(),
                "{bind}"
            );
        }
        assert!(settings(&["--workspace-root", "/w", "--http-auth-mode", "none", "--bind", "[::]:1"]).is_err());
        for flags in [["--tool-network", "on"], ["--tool-sandbox", "off"]] {
            let words = ["--workspace-root", "/w", "--http-auth-mode", "none", flags[0], flags[1]];
            let problems = settings(&words).unwrap_err();
            assert_eq!(problems.iter().map(|problem| problem.flag).collect::<Vec<_>>(), [flags[0]]);
        }
        assert!(settings(&["--workspace-root", "/w", "--bind", "nonsense"]).is_err());
    }

    #[test]
    fn a_socket_has_one_place_whatever_folder_a_client_stands_in() {
        let bind = settings(&["--workspace-root", "/w", "--bind", "unix:run.sock"]).unwrap().bind;
        assert_eq!(bind, Bind::Unix(std::env::current_dir().unwrap().join("run.sock")));
        assert!(settings(&["--workspace-root", "/w", "--bind", &format!("unix:{}", "a".repeat(107))]).is_err());
    }

    #[test]
    fn one_root_inside_the_other_is_refused() {
        assert!(settings(&["--workspace-root", "/a", "--state-root", "/a/b"]).is_err());
        assert!(settings(&["--workspace-root", "/a/b", "--state-root", "/a"]).is_err());
        assert!(settings(&["--workspace-root", "/ab", "--state-root", "/a"]).is_ok());
    }
}
