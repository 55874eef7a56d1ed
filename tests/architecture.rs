//! The house rules that can be read off the source: which room names which, how long files are, and that every file says
//! what it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("platform", &["domain"]),
    ("config", &["domain", "platform"]),
    ("journal", &["domain", "platform"]),
    ("projections", &["domain", "platform", "journal"]),
    ("outbound", &["domain", "platform", "config"]),
    ("agent", &["domain", "platform", "config", "outbound", "projections"]),
    ("services", &["domain", "platform", "config", "journal", "projections", "outbound", "agent"]),
    ("http", &["domain", "platform", "config", "journal", "projections", "services"]),
    ("daemon", &["domain", "platform", "config", "journal", "projections", "outbound", "agent", "services", "http"]),
    ("cli", &["domain", "platform", "config", "journal", "services", "daemon"]),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    assert!(found.len() > 80, "the sources must be found");
    found
        .into_iter()
        .map(|path| (path.strip_prefix(&root).unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

/// The part of a file that is not its tests.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

fn named_rooms(text: &str) -> Vec<&'static str> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    ROOMS.iter().map(|(room, _)| *room).filter(|room| code.contains(&format!("crate::{room}::"))).collect()
}

#[test]
fn a_room_names_only_the_rooms_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    for (path, text) in sources() {
        let room = path.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
        let Some(allowed) = allowed.get(room.as_str()) else { continue };
        for named in named_rooms(production(&text)) {
            let fine = named == room || allowed.contains(&named);
            assert!(fine, "{} is in {room} and names {named}", path.display());
        }
    }
}

#[test]
fn the_rooms_are_those_of_the_library() {
    let library = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let rooms: Vec<&str> =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    for room in rooms {
        assert!(ROOMS.iter().any(|(known, _)| *known == room), "{room} has no row in the table");
    }
}

#[test]
fn every_file_says_what_it_is_and_is_short_enough_to_read() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} has no head", path.display());
        let lines = production(&text).lines().count();
        // The closed list of reasons is a table; tests in files of their own are not production.
        let table = path.ends_with("domain/reason/list.rs");
        let tests = path.file_stem().is_some_and(|stem| {
            ["tests", "laws", "stories", "testing"].iter().any(|name| stem.to_string_lossy() == *name)
        });
        assert!(lines <= 450 || table || tests, "{} has {lines} lines", path.display());
    }
}

#[test]
fn nobody_asserts_nothing_with_a_bare_matches() {
    for (path, text) in sources() {
        for line in text.lines() {
            let line = line.trim();
            assert!(
                !(line.starts_with("matches!(") && line.ends_with(");") && !line.contains(") ||")),
                "{}: {line}",
                path.display()
            );
        }
    }
}
