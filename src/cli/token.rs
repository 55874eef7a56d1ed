//! `chancery token …`: the token files of a state root, by whoever may read them; no daemon is asked.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::{ClientArgs, files_in_use};
use super::output::{self, data, escape, talk};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::token::{RANDOM_BYTES, TOKEN_BYTES, Token};
use crate::journal::error::OpenError;
use crate::journal::layout;
use crate::platform::disk::{Disk as _, replace_atomically};
use crate::platform::entropy::{Entropy as _, SystemEntropy};
use crate::platform::files::Folder;
use crate::platform::private_file;
use crate::services::tokens::{TokenFileFault, TokenFiles};

const USAGE: u8 = 2;

/// Something about the two tokens of a state root.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Prints a token
    Show(Which),
    /// Writes a new token in place of the old one; a running daemon takes it up by itself
    Rotate(Which),
}

/// Which token.
#[derive(Debug, Args)]
pub struct Which {
    /// The read-only token in place of the admin token
    #[arg(long)]
    readonly: bool,
    /// Its file, where `serve` was given one; found by itself while the daemon runs
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Which {
    fn of(&self, files: TokenFiles) -> PathBuf {
        if self.readonly { files.readonly } else { files.admin }
    }

    /// Its file, where the daemon of the state root reads these.
    fn file(&self, root: &Path, in_use: Option<TokenFiles>) -> PathBuf {
        self.file.clone().unwrap_or_else(|| self.of(in_use.unwrap_or_else(|| TokenFiles::below(root))))
    }

    fn name(&self) -> &'static str {
        if self.readonly { "read-only" } else { "admin" }
    }
}

/// Runs the verb.
pub fn run(args: &ClientArgs, verb: &TokenVerb) -> ExitCode {
    let Some(root) = args.root() else {
        talk("--state-root is needed, as neither XDG_STATE_HOME nor HOME is set");
        return ExitCode::from(USAGE);
    };
    if !root.is_dir() {
        return args.refused(&Refusal::new(Reason::StateRootNotFound, format!("{} does not exist.", root.display())));
    }
    let done = match verb {
        TokenVerb::Show(which) => show(args.output, &which.file(&root, files_in_use(&root))),
        TokenVerb::Rotate(which) => rotate(args.output, which, &root),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => args.refused(&refusal),
    }
}

fn show(format: output::Format, file: &Path) -> Result<(), Refusal> {
    let bytes = private_file::read(file, TOKEN_BYTES + 1).map_err(TokenFileFault::from)?;
    let bytes = zeroize::Zeroizing::new(bytes);
    let token = Token::parse_file(&bytes).map_err(|fault| TokenFileFault::Contents { path: file.to_owned(), fault })?;
    match format {
        output::Format::Human => data(token.expose()),
        output::Format::Json => output::json(&serde_json::json!({ "token": token.expose(), "file": file })),
    };
    Ok(())
}

/// Nobody says which file the next start will read; a new one would leave the old token in force elsewhere.
fn nowhere(file: &Path) -> Refusal {
    unusable(format!(
        "{} does not exist and no daemon holds this state root, so nothing says where its token is; name the file that \
         `serve` is given with --file, or let `chancery serve` make one",
        file.display()
    ))
}

fn unusable(detail: String) -> Refusal {
    Refusal::new(Reason::ConfigInvalid, detail)
}

fn rotate(format: output::Format, which: &Which, root: &Path) -> Result<(), Refusal> {
    let in_use = files_in_use(root);
    let file = &which.file(root, in_use.clone());
    let said = |error| Refusal::from(OpenError::io(file.display().to_string())(error));
    let (Some(parent), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
        return Err(unusable(format!("{} is no place for a token", file.display())));
    };
    let state = Folder::open(root).map_err(said)?;
    if state.mode(layout::STATE_ROOT).is_err() {
        return Err(unusable(format!("{} is no state root; `chancery serve` makes one", root.display())));
    }
    let read_now = in_use.map(|files| which.of(files));
    match &read_now {
        Some(other) if other != file => {
            return Err(unusable(format!(
                "the daemon of this state root reads {}, not {}",
                other.display(),
                file.display()
            )));
        }
        Some(_) if parent == root.join("tokens") => state.create_dir("tokens").map_err(said)?,
        None if !parent.is_dir() => return Err(nowhere(file)),
        Some(_) | None => {}
    }
    let folder = Folder::open(parent).map_err(said)?;
    let replaced = match folder.list("").map_err(said)?.into_iter().find(|entry| entry.name == name) {
        Some(entry) if !entry.plain => {
            return Err(unusable(format!("{} is a link or no file; rotate what it points to", file.display())));
        }
        Some(_) => true,
        // A file that was lost is written anew: the daemon may still run on the token that it held.
        None if read_now.is_some() => false,
        None => return Err(nowhere(file)),
    };
    let mut random = zeroize::Zeroizing::new([0; RANDOM_BYTES]);
    SystemEntropy::default().fill(random.as_mut());
    let line = zeroize::Zeroizing::new(format!("{}\n", Token::generate(&random).expose()));
    replace_atomically(&folder, "", name, line.as_bytes()).map_err(said)?;
    let shown = file.to_string_lossy();
    if format == output::Format::Json {
        output::json(&serde_json::json!({ "role": which.name(), "file": shown, "replaced": replaced }));
    }
    if read_now.is_some() {
        talk(&format!("The new {} token is in {}; the old one is void.", which.name(), escape(&shown)));
        talk("The daemon takes it up within two seconds, and ends the streams of the old one.");
    } else {
        talk(&format!("The new {} token is in {}.", which.name(), escape(&shown)));
        talk(
            "No daemon holds this state root. One that is started with this file takes the new token and not the old.",
        );
    }
    Ok(())
}
