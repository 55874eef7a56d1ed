//! `chancery schema`: prints, writes and checks the schemas, samples, vectors and printed pages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::output;
use crate::domain::reason::{Reason, Refusal};
use crate::platform::bounded_read::bounded_read;
use crate::platform::disk::{Disk as _, Entry, join, replace_atomically};
use crate::platform::files::Folder;
use crate::services::schema::{FOLDER, Files, differences};

/// Largest file that is compared, bytes.
const FILE_BYTES: usize = 8 << 20;

/// Prints or checks what describes this binary's formats.
#[derive(Debug, Subcommand)]
pub enum Schema {
    /// Prints one file, or the list of all; with --write, writes all of them.
    Print {
        /// A file of the list, such as `state-schema/openapi.json`.
        name: Option<String>,
        /// The project's folder.
        #[arg(long, value_name = "DIR", conflicts_with = "name")]
        write: Option<PathBuf>,
    },
    /// Compares the files below the project's folder with what this binary would write.
    Check {
        /// The project's folder.
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
}

/// Runs the verb.
pub fn run(verb: &Schema) -> ExitCode {
    let files = match crate::daemon::schema::files() {
        Ok(files) => files,
        Err(why) => return output::refusal(&Refusal::new(Reason::InternalError, why)),
    };
    match verb {
        Schema::Print { name: Some(name), .. } => print(&files, name),
        Schema::Print { write: Some(folder), .. } => match write(&files, folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                output::talk(&format!("{}: {error}", folder.display()));
                ExitCode::FAILURE
            }
        },
        Schema::Print { .. } => {
            for path in files.keys() {
                output::data(path);
            }
            ExitCode::SUCCESS
        }
        Schema::Check { folder } => check(&files, folder),
    }
}

fn print(files: &Files, name: &str) -> ExitCode {
    let Some(bytes) = files.get(name).or_else(|| files.get(&format!("{FOLDER}/{name}"))) else {
        output::talk(&format!("{name} is none of the files that `chancery schema print` lists"));
        return ExitCode::from(2);
    };
    output::data(String::from_utf8_lossy(bytes).trim_end_matches('\n'));
    ExitCode::SUCCESS
}

/// Writes every file and removes what does not belong into the folder.
fn write(files: &Files, folder: &Path) -> std::io::Result<()> {
    let root = Folder::open(folder)?;
    for (path, bytes) in files {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut made = String::new();
        for part in parent.split('/').filter(|part| !part.is_empty()) {
            made = join(&made, part);
            root.create_dir(&made)?;
        }
        if bounded_read(&folder.join(path), FILE_BYTES).ok().as_ref() != Some(bytes) {
            replace_atomically(&root, parent, name, bytes)?;
        }
    }
    for extra in found(folder, files)?.keys().filter(|path| !files.contains_key(*path)) {
        root.remove(extra)?;
    }
    Ok(())
}

fn check(files: &Files, folder: &Path) -> ExitCode {
    let found = match found(folder, files) {
        Ok(found) => found,
        Err(error) => {
            output::talk(&format!("{}: {error}", folder.display()));
            return ExitCode::from(2);
        }
    };
    let differences = differences(files, &found);
    for difference in &differences {
        output::data(difference);
    }
    if differences.is_empty() {
        output::data(&format!("same: {} files", files.len()));
        return ExitCode::SUCCESS;
    }
    output::talk("next: cargo run -- schema print --write .");
    ExitCode::FAILURE
}

/// What stands in the folder, its `README.md` left out, and those of the printed pages that exist.
fn found(folder: &Path, files: &Files) -> std::io::Result<Files> {
    let root = Folder::open(folder)?;
    let mut found = Files::new();
    let mut folders = vec![FOLDER.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match root.list(&next) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        for Entry { name, folder: is_folder, .. } in entries {
            let path = join(&next, &name);
            if is_folder {
                folders.push(path);
            } else if path != format!("{FOLDER}/README.md") {
                found.insert(path.clone(), bounded_read(&folder.join(&path), FILE_BYTES)?);
            }
        }
    }
    for path in files.keys().filter(|path| !path.starts_with(FOLDER)) {
        if let Ok(bytes) = bounded_read(&folder.join(path), FILE_BYTES) {
            found.insert(path.clone(), bytes);
        }
    }
    Ok(found)
}
