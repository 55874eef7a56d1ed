//! `chancery token …`: the token files of a state root, by whoever may read them; no daemon is asked.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::ClientArgs;
use super::output::{self, data, escape, talk};
use crate::domain::token::{RANDOM_BYTES, TOKEN_BYTES, Token};
use crate::platform::disk::{Disk as _, replace_atomically};
use crate::platform::entropy::{Entropy as _, SystemEntropy};
use crate::platform::files::Folder;
use crate::platform::private_file;
use crate::services::tokens::TokenFiles;

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
}

impl Which {
    fn file(&self, root: &Path) -> PathBuf {
        let files = TokenFiles::below(root);
        if self.readonly { files.readonly } else { files.admin }
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
        talk(&format!("{} does not exist; name the state root with --state-root", root.display()));
        return ExitCode::from(USAGE);
    }
    let done = match verb {
        TokenVerb::Show(which) => show(args.output, &which.file(&root)),
        TokenVerb::Rotate(which) => rotate(which, &which.file(&root)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            talk(&escape(&why));
            ExitCode::FAILURE
        }
    }
}

fn show(format: output::Format, file: &Path) -> Result<(), String> {
    let bytes = private_file::read(file, TOKEN_BYTES + 1).map_err(|fault| fault.to_string())?;
    let bytes = zeroize::Zeroizing::new(bytes);
    let token = Token::parse_file(&bytes).map_err(|fault| format!("{}: {fault}", file.display()))?;
    match format {
        output::Format::Human => data(token.expose()),
        output::Format::Json => output::json(&serde_json::json!({ "token": token.expose(), "file": file })),
    };
    Ok(())
}

fn rotate(which: &Which, file: &Path) -> Result<(), String> {
    let said = |error: io::Error| format!("{}: {error}", file.display());
    let (Some(parent), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
        return Err(format!("{} is no place for a token", file.display()));
    };
    let folder = Folder::open(parent).map_err(said)?;
    match folder.list("").map_err(said)?.into_iter().find(|entry| entry.name == name) {
        Some(entry) if !entry.plain => {
            return Err(format!("{} is a link or no file; rotate what it points to", file.display()));
        }
        Some(_) => {}
        None => return Err(format!("{} does not exist; `chancery serve` makes it", file.display())),
    }
    let mut random = zeroize::Zeroizing::new([0; RANDOM_BYTES]);
    SystemEntropy::default().fill(random.as_mut());
    let line = zeroize::Zeroizing::new(format!("{}\n", Token::generate(&random).expose()));
    replace_atomically(&folder, "", name, line.as_bytes()).map_err(said)?;
    talk(&format!("The new {} token is in {}; the old one is void.", which.name(), file.display()));
    talk("A running daemon takes it up within two seconds, and ends the streams of the old one.");
    Ok(())
}
