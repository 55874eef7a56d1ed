//! Everything under `state-schema/` and the printed pages, made from the types: what `chancery schema` writes and what the
//! tests compare.

mod events;
mod faults;
mod files;
mod formats;
mod pages;
mod receipts;
mod samples;
mod vectors;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use vectors::Edits;

/// Files by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The folder that holds nothing but these files and its `README.md`.
pub const FOLDER: &str = "state-schema";

/// What only the door knows.
pub struct Door {
    /// `openapi.json`.
    pub openapi: Vec<u8>,
    /// The schema of the problem document.
    pub problem: Value,
}

/// Every file by its path below the project's folder.
pub fn files(door: &Door) -> Result<Files, String> {
    let mut files = Files::new();
    events::add(&mut files)?;
    formats::add(&mut files, &door.problem);
    let openapi: Value = serde_json::from_slice(&door.openapi).map_err(|error| error.to_string())?;
    put_json(&mut files, "state-schema/openapi.json", &openapi);
    let good = vectors::make(&Edits::default())?;
    let root = "state-schema/vectors/journal";
    put_json(
        &mut files,
        &format!("{root}/good/expected.json"),
        &json!({ "about": "Everything holds.", "verdict": "valid", "exit": 0 }),
    );
    for (path, bytes) in &good.files {
        files.insert(format!("{root}/good/files/{path}"), bytes.clone());
    }
    for broken in faults::all()? {
        let changed = broken.files.iter().filter(|(path, bytes)| good.files.get(*path) != Some(bytes));
        for (path, bytes) in changed {
            files.insert(format!("{root}/{}/files/{path}", broken.name), bytes.clone());
        }
        put_json(&mut files, &format!("{root}/{}/expected.json", broken.name), &broken.expected(&good.files));
    }
    receipts::add(&mut files, &good)?;
    files::add(&mut files, &good)?;
    pages::add(&mut files);
    Ok(files)
}

fn put_json(files: &mut Files, path: &str, value: &Value) {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    files.insert(path.to_owned(), text);
}

/// What differs between the files as they should be and as they were found: a path and how.
pub fn differences(wanted: &Files, found: &Files) -> Vec<String> {
    let missing = wanted.keys().filter(|path| !found.contains_key(*path)).map(|path| format!("{path} is missing"));
    let other = wanted.iter().filter(|(path, bytes)| found.get(*path).is_some_and(|found| found != *bytes));
    let extra =
        found.keys().filter(|path| !wanted.contains_key(*path)).map(|path| format!("{path} does not belong here"));
    missing.chain(other.map(|(path, _)| format!("{path} has other contents"))).chain(extra).collect()
}

/// Fields of a table of limits with their defaults and their sentences, from its source.
fn fields(source: &str) -> Vec<(String, String, String)> {
    let (shape, defaults) = source.split_once("impl Default").unwrap_or((source, ""));
    let default = |name: &str| {
        let found = defaults.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        pages::number(found.unwrap_or("?").trim_end_matches(','))
    };
    let mut found = Vec::new();
    let mut about = Vec::new();
    for line in shape.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            about.push(text);
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")) {
            found.push((name.to_owned(), default(name), about.join(" ")));
            about.clear();
        } else {
            about.clear();
        }
    }
    found
}
