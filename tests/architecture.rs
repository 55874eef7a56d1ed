//! The house rules that can be read off the source: which room names which, how long files are, and that every file says
//! what it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    clippy::range_plus_one,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::unused_self,
    reason = "a test may fail loudly and looks at the machine directly"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The house's limit for a file.
const PRODUCTION_LINES: usize = 400;

const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("platform", &["domain"]),
    ("config", &["domain", "platform"]),
    ("journal", &["domain", "platform"]),
    ("projections", &["domain", "platform", "journal"]),
    ("vault", &["domain", "platform", "config"]),
    ("outbound", &["domain", "platform", "config", "vault"]),
    ("agent", &["domain", "platform", "config", "vault", "outbound", "projections"]),
    ("services", &["domain", "platform", "config", "journal", "projections", "vault", "outbound", "agent"]),
    ("http", &["domain", "platform", "config", "journal", "projections", "vault", "services"]),
    (
        "daemon",
        &["domain", "platform", "config", "journal", "projections", "vault", "outbound", "agent", "services", "http"],
    ),
    ("cli", &["domain", "platform", "config", "journal", "vault", "services", "daemon"]),
];

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
}

fn sources() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, "rs", &mut found);
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
        // What is counted is production: tests at the end of a file, or in files of their own (`tests`, `laws`,
        // `stories`, and `testing`, which serves them), may be longer, and so may `tests/`. The closed list of reasons
        // is a table, one entry a code, that nobody reads from top to bottom.
        let table = path.ends_with("domain/reason/list.rs");
        let tests = path.file_stem().is_some_and(|stem| {
            ["tests", "laws", "stories", "testing"].iter().any(|name| stem.to_string_lossy() == *name)
        });
        assert!(lines <= PRODUCTION_LINES || table || tests, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_page_of_errors_marks_exactly_codes_that_nothing_refuses_with() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/runbooks/errors.md")).unwrap();
    let marked: Vec<&str> = page
        .split("\n## `")
        .filter(|part| part.contains("\nNot in this release"))
        .map(|part| part.split('`').next().unwrap())
        .collect();
    assert!(marked.len() > 20, "{marked:?}");
    let sources = sources();
    let (list, others): (Vec<_>, Vec<_>) = sources.iter().partition(|(path, _)| path.ends_with("reason/list.rs"));
    for line in list[0].1.lines() {
        let Some((name, rest)) = line.trim().split_once(" = \"") else { continue };
        let code = rest.split('"').next().unwrap();
        let named = format!("Reason::{name}");
        let used = others.iter().any(|(_, text)| {
            let after = |at: usize| text[at + named.len()..].chars().next();
            text.match_indices(&named).any(|(at, _)| after(at).is_none_or(|next| !next.is_alphanumeric()))
        });
        assert!(!(used && marked.contains(&code)), "{code} is marked as not in this release, and something names it");
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

/// The text of every file below a folder with this ending.
fn texts(folder: &str, ending: &str) -> String {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), ending, &mut found);
    found.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn the_page_of_threats_names_proofs_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let (tests, scripts) = (texts("src", "rs") + &texts("tests", "rs"), texts("scripts/e2e/lib", "py"));
    let mut proofs = 0;
    for name in page.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() >= 4) {
        let wanted = name.strip_suffix('…').map_or_else(|| format!("fn {name}()"), |begin| format!("fn {begin}"));
        assert!(tests.contains(&wanted), "there is no test {name}");
        proofs += 1;
    }
    for (script, rest) in page.split(".sh: ").zip(page.split(".sh: ").skip(1)) {
        let script = script.rsplit([' ', '`', '(']).next().unwrap();
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        assert!(root.join(format!("scripts/e2e/{script}.sh")).exists(), "there is no {script}.sh");
        assert!(scripts.contains(&format!("def {name}(house)")), "{script}.sh has no proof {name}");
        proofs += 1;
    }
    assert!(proofs > 60, "{proofs}");
}

/// Where a line of code ends in a catch-all arm over a tuple, which no lint reports.
fn is_tuple_catch_all(line: &str) -> bool {
    let pattern = line.trim().split("=>").next().unwrap().trim();
    let inside = pattern.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    line.contains("=>") && inside.is_some_and(|parts| parts.split(',').all(|part| part.trim() == "_"))
}

#[test]
fn no_arm_of_the_domain_catches_all() {
    assert!(is_tuple_catch_all("            (_, _) => None,") && !is_tuple_catch_all("(Some(_), _) => None,"));
    for (path, text) in sources() {
        let found = production(&text).lines().find(|line| is_tuple_catch_all(line));
        assert!(!path.starts_with("domain") || found.is_none(), "{}: {}", path.display(), found.unwrap());
    }
}

#[test]
fn callers_are_made_where_credentials_are_checked() {
    let makers = [("Caller::token_holder", "services/tokens"), ("Caller::anonymous", "http/")];
    for (maker, place) in makers {
        let users: Vec<PathBuf> =
            sources().into_iter().filter(|(_, text)| production(text).contains(maker)).map(|(path, _)| path).collect();
        assert!(!users.is_empty(), "nobody calls {maker}");
        for user in users {
            assert!(user.to_str().unwrap().starts_with(place), "{} calls {maker}", user.display());
        }
    }
}
