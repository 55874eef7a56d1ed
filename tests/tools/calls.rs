//! Calls as a model makes them: prepared, then performed.

use std::time::{Duration, Instant};

use chancery::domain::reason::Reason;
use serde_json::json;

use crate::support::{House, gone, number_in, sandbox_or_skip};

#[tokio::test]
async fn read_file_shows_numbered_lines_and_says_what_it_left_out() {
    let house = House::new();
    house.write("a/text", "one\ntwo\nthree\nfour\n");
    house.write("empty", "");
    house.write("binary", "x\0y");
    let whole = house.call("read_file", json!({"path": "a/text"})).await;
    assert_eq!((whole.ok, whole.truncated), (true, false));
    assert_eq!(whole.output, "     1\tone\n     2\ttwo\n     3\tthree\n     4\tfour\n");
    let part = house.call("read_file", json!({"path": "a/text", "offset_line": 2, "limit_lines": 2})).await;
    assert!(part.truncated);
    assert_eq!(part.output, "     2\ttwo\n     3\tthree\n[lines 4 to 4 are not shown; go on with offset_line 4]\n");
    let beyond = house.call("read_file", json!({"path": "a/text", "offset_line": 9})).await;
    assert_eq!(beyond.output, "[the file has 4 lines]\n");
    assert_eq!(house.call("read_file", json!({"path": "empty"})).await.output, "[the file is empty]\n");
    for path in ["binary", "none", "a"] {
        let outcome = house.call("read_file", json!({"path": path})).await;
        assert_eq!((outcome.ok, outcome.code), (false, Some(Reason::ToolFailed)), "{path}");
    }
}

#[tokio::test]
async fn a_long_file_is_cut_at_the_limit_of_a_result() {
    let house = House::new();
    house.write("long", &"0123456789abcdef\n".repeat(10_000));
    house.write("wide", &"x".repeat(1 << 20));
    let long = house.call("read_file", json!({"path": "long", "limit_lines": 20_000})).await;
    assert!(long.truncated && long.output.len() < 70_000 && long.output.contains("go on with offset_line"));
    let wide = house.call("read_file", json!({"path": "wide"})).await;
    assert!(wide.truncated && wide.output.len() < 3_000 && wide.output.contains("more bytes in this line"));
}

#[tokio::test]
async fn files_that_are_not_in_their_place_yet_are_neither_listed_nor_searched() {
    let house = House::new();
    house.write(&format!("folder/.chancery-{:032x}.tmp", 7), "find me");
    house.write("folder/.chancery-notes.tmp", "find me");
    let listed = house.call("list_files", json!({"path": "folder", "include_ignored": true})).await;
    assert_eq!(listed.output, "folder/.chancery-notes.tmp\t7\n");
    let found = house.call("search_files", json!({"pattern": "find", "include_ignored": true})).await;
    assert_eq!(found.output, "folder/.chancery-notes.tmp:1:find me\n");
}

#[tokio::test]
async fn no_file_tool_leaves_the_workspace_or_hangs_on_a_pipe() {
    let house = House::new();
    let root = house.place.root.path();
    std::fs::write(root.join("secret"), "find me").unwrap();
    std::os::unix::fs::symlink(root, house.place.work().join("up")).unwrap();
    std::os::unix::fs::symlink("/proc/self/cwd", house.place.work().join("magic")).unwrap();
    let folder = house.context.workspace.folder(".").unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(&folder, "pipe", rustix::fs::FileType::Fifo, mode, 0).unwrap();
    house.write("inside", "find me");
    let began = Instant::now();
    let secret = root.join("secret");
    for path in ["../secret", "a/../../secret", secret.to_str().unwrap(), "/etc/passwd"] {
        for tool in ["read_file", "list_files"] {
            let refusal = house.prepare(tool, json!({"path": path})).unwrap_err();
            assert_eq!(refusal.reason, Reason::ToolPathOutsideWorkspace, "{tool} {path}");
        }
        let refusal = house.prepare("write_file", json!({"path": path, "content": "x"})).unwrap_err();
        assert_eq!(refusal.reason, Reason::ToolPathOutsideWorkspace, "{path}");
    }
    for (tool, path) in [("read_file", "up/secret"), ("list_files", "up"), ("list_files", "magic")] {
        let outcome = house.call(tool, json!({"path": path})).await;
        assert_eq!(outcome.code, Some(Reason::ToolPathOutsideWorkspace), "{tool} {path}: {}", outcome.output);
    }
    assert!(house.prepare("write_file", json!({"path": "up/new", "content": "x"})).is_err());
    let found = house.call("search_files", json!({"pattern": "find me"})).await;
    assert_eq!(found.output, "inside:1:find me\n");
    let listed = house.call("list_files", json!({})).await;
    assert_eq!(listed.output, "inside\t7\nmagic\tlink\npipe\tspecial\nup\tlink\n");
    assert_eq!(house.call("read_file", json!({"path": "pipe"})).await.code, Some(Reason::ToolFailed));
    assert!(house.prepare("write_file", json!({"path": "pipe", "content": "x"})).is_err());
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "find me");
}

#[tokio::test]
async fn lists_and_searches_heed_globs_depth_and_ignore_files() {
    let house = House::new();
    house.write(".gitignore", "target/\n*.log\n");
    house.write("target/out.rs", "fn out() {}");
    house.write("a.log", "fn log() {}");
    house.write(".git/config.rs", "fn git() {}");
    house.write("src/.gitignore", "!keep.log\n");
    house.write("src/keep.log", "fn keep() {}");
    house.write("src/main.rs", "fn main() {}\nFN MAIN\n");
    house.write("src/deep/er/x.rs", "fn deep() {}");
    let listed = house.call("list_files", json!({"depth": 2})).await.output;
    let expected = ".gitignore\t14\nsrc/\nsrc/.gitignore\t10\nsrc/deep/\nsrc/keep.log\t12\nsrc/main.rs\t21\n";
    assert_eq!(listed, expected);
    let globbed = house.call("list_files", json!({"glob": "*.rs"})).await.output;
    assert_eq!(globbed, "src/deep/er/x.rs\t12\nsrc/main.rs\t21\n");
    let all = house.call("list_files", json!({"path": "target", "include_ignored": true})).await.output;
    assert_eq!(all, "target/out.rs\t11\n");
    let found = house.call("search_files", json!({"pattern": "^fn ", "path": "src"})).await.output;
    assert_eq!(found, "src/deep/er/x.rs:1:fn deep() {}\nsrc/keep.log:1:fn keep() {}\nsrc/main.rs:1:fn main() {}\n");
    let cased = json!({"pattern": "fn main", "ignore_case": true, "glob": "src/*.rs", "limit_matches": 1});
    let cased = house.call("search_files", cased).await;
    assert!(cased.truncated && cased.output.starts_with("src/main.rs:1:fn main() {}\n["), "{}", cased.output);
    let one = house.call("search_files", json!({"pattern": "MAIN", "path": "src/main.rs"})).await.output;
    assert_eq!(one, "src/main.rs:2:FN MAIN\n");
    let none = house.call("search_files", json!({"pattern": "no such line"})).await;
    assert_eq!((none.ok, none.output.as_str()), (true, "[no line matches]\n"));
    for (tool, wrong) in [
        ("search_files", json!({"pattern": "("})),
        ("search_files", json!({"pattern": "a{1000}{1000}"})),
        ("list_files", json!({"glob": "[", "depth": 1})),
        ("list_files", json!({"depth": 0})),
        ("read_file", json!({"path": "a", "offset_line": 0})),
    ] {
        assert_eq!(house.prepare(tool, wrong.clone()).unwrap_err().reason, Reason::RequestInvalid, "{tool} {wrong}");
    }
}

#[tokio::test]
async fn an_edit_names_the_file_as_it_was_and_shows_the_difference() {
    let house = House::new();
    house.write("a.txt", "one\ntwo\nthree\n");
    let arguments = json!({"path": "./a.txt", "old_text": "two", "new_text": "2"});
    let prepared = house.prepare("edit_file", arguments.clone()).unwrap();
    assert_eq!(prepared.arguments["path"], "a.txt");
    assert_eq!(prepared.edited_files.len(), 1);
    let digest = "b6285c57e8797db5d4c51c80d6f11938afda9b11c6a003549709189e9b4b92a2";
    assert_eq!(prepared.edited_files[0].sha256.as_deref(), Some(digest));
    let outcome = house.perform(&prepared).await;
    assert_eq!(outcome.output, "--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n");
    assert_eq!(house.read("a.txt"), "one\n2\nthree\n");
    // The same prepared call a second time finds another file than it was bound to.
    assert_eq!(house.perform(&prepared).await.code, Some(Reason::ToolFileChanged));
}

#[tokio::test]
async fn an_edit_or_write_of_a_file_that_changed_after_it_was_prepared_is_not_done() {
    let house = House::new();
    house.write("a.txt", "one two");
    let edit = house.prepare("edit_file", json!({"path": "a.txt", "old_text": "two", "new_text": "2"})).unwrap();
    let write = house.prepare("write_file", json!({"path": "a.txt", "content": "new"})).unwrap();
    let create = house.prepare("write_file", json!({"path": "b.txt", "content": "new"})).unwrap();
    assert_eq!(create.edited_files[0].sha256, None);
    house.write("a.txt", "one two!");
    house.write("b.txt", "theirs");
    for prepared in [&edit, &write, &create] {
        let outcome = house.perform(prepared).await;
        assert_eq!((outcome.ok, outcome.code), (false, Some(Reason::ToolFileChanged)), "{}", outcome.output);
    }
    assert_eq!((house.read("a.txt").as_str(), house.read("b.txt").as_str()), ("one two!", "theirs"));
    let again = house.call("write_file", json!({"path": "c/d.txt", "content": "new"})).await;
    assert_eq!((again.ok, house.read("c/d.txt").as_str()), (true, "new"));
}

#[tokio::test]
async fn an_edit_must_be_about_one_passage_unless_it_is_about_all() {
    let house = House::new();
    house.write("a.txt", "x x x");
    for (old, new, reason) in [
        ("x", "y", Reason::ToolFailed),
        ("absent", "y", Reason::ToolFailed),
        ("", "y", Reason::RequestInvalid),
        ("x x x", "x x x", Reason::RequestInvalid),
    ] {
        let refusal = house.prepare("edit_file", json!({"path": "a.txt", "old_text": old, "new_text": new}));
        assert_eq!(refusal.unwrap_err().reason, reason, "{old:?}");
    }
    let all = json!({"path": "a.txt", "old_text": "x", "new_text": "y", "replace_all": true});
    assert!(house.call("edit_file", all).await.ok);
    assert_eq!(house.read("a.txt"), "y y y");
    let missing = house.prepare("edit_file", json!({"path": "none", "old_text": "x", "new_text": "y"}));
    assert_eq!(missing.unwrap_err().reason, Reason::ToolFailed);
}

#[tokio::test]
async fn bash_shows_both_streams_in_order_with_exit_code_and_valid_text() {
    let house = House::new();
    let script = "echo out; echo err >&2; printf 'a\\0b\\377'; exit 3";
    let outcome = house.call("bash", json!({"command": script})).await;
    assert_eq!((outcome.ok, outcome.code, outcome.exit_code), (false, Some(Reason::ToolFailed), Some(3)));
    assert_eq!(outcome.output, "out\nerr\na\u{2400}b\u{fffd}\n[exit code 3]\n");
    let fine = house.call("bash", json!({"command": "pwd"})).await;
    assert_eq!((fine.ok, fine.output.trim()), (true, house.context.workspace.path().to_str().unwrap()));
    let prepared = house.prepare("bash", json!({"command": "true"})).unwrap();
    assert_eq!(prepared.arguments, json!({"command": "true", "timeout_ms": 120_000, "background": false}));
    for wrong in [json!({"command": " "}), json!({"command": "true", "timeout_ms": 0})] {
        assert_eq!(house.prepare("bash", wrong).unwrap_err().reason, Reason::RequestInvalid);
    }
}

#[tokio::test]
async fn bash_cuts_floods_in_the_middle_and_ends_at_its_time_limit() {
    let house = House::new();
    let flood = house.call("bash", json!({"command": "echo first; seq 1 100000; echo last"})).await;
    assert!(flood.ok && flood.truncated && flood.output.len() < 70_000);
    assert!(flood.output.starts_with("first\n") && flood.output.ends_with("last\n"));
    assert!(flood.output.contains("bytes of output were left out here"));
    let slow = house.call("bash", json!({"command": "echo begun; sleep 60", "timeout_ms": 300})).await;
    assert_eq!((slow.ok, slow.code), (false, Some(Reason::ToolTimeout)));
    assert!(slow.output.starts_with("begun\n"), "{}", slow.output);
}

#[tokio::test]
async fn a_command_that_is_told_to_stop_keeps_what_it_wrote() {
    let house = House::new();
    let prepared = house.prepare("bash", json!({"command": "echo begun; echo $$ > pid; sleep 60"})).unwrap();
    let pid_file = house.place.work().join("pid");
    let (outcome, pid) = tokio::join!(house.perform(&prepared), async {
        let pid = number_in(&pid_file).await;
        house.context.stop.cancel();
        pid
    });
    assert!(!outcome.ok && outcome.output.starts_with("begun\n"), "{}", outcome.output);
    assert!(outcome.output.contains("stopped on request"));
    assert!(gone(pid).await);
}

#[tokio::test]
async fn an_approved_cat_of_a_secret_fails_as_a_call() {
    if !sandbox_or_skip("secrets and the bash tool") {
        return;
    }
    let house = House::new();
    let secret = house.place.root.path().join("admin-token");
    std::fs::write(&secret, "chy_secret").unwrap();
    let outcome = house.call("bash", json!({"command": format!("cat {}", secret.display())})).await;
    assert!(!outcome.ok && !outcome.output.contains("chy_secret"), "{}", outcome.output);
    assert!(outcome.output.contains("Permission denied"), "{}", outcome.output);
}

#[tokio::test]
async fn a_search_or_a_list_that_is_told_to_stop_ends_before_it_is_through() {
    let house = House::new();
    house.write("a/b.txt", "x");
    house.context.stop.cancel();
    for (tool, arguments) in [("search_files", json!({"pattern": "x"})), ("list_files", json!({}))] {
        let outcome = house.call(tool, arguments).await;
        let told = (outcome.ok, outcome.code, outcome.output.as_str());
        assert_eq!(told, (false, Some(Reason::ToolFailed), "Stopped on request."), "{tool}");
    }
}

#[tokio::test]
async fn names_that_cannot_be_said_are_counted_and_said_to_be_left_out() {
    use std::os::unix::ffi::OsStrExt as _;
    let house = House::new();
    let odd = |name: &[u8]| house.place.work().join(std::ffi::OsStr::from_bytes(name));
    std::fs::create_dir(odd(b"in")).unwrap();
    for name in [&b"sch\xf6n.txt"[..], b"in/\xff", b"fine.txt"] {
        std::fs::write(odd(name), "x").unwrap();
    }
    let said = "[2 entries have names that are not UTF-8; they and what they hold are left out]\n";
    let listed = house.call("list_files", json!({})).await;
    assert_eq!(listed.output, format!("fine.txt\t1\nin/\n{said}"));
    let found = house.call("search_files", json!({"pattern": "x"})).await;
    assert_eq!(found.output, format!("fine.txt:1:x\n{said}"));
    let other = house.call("list_files", json!({"path": "in", "depth": 1})).await;
    assert!(other.output.contains("[1 entries"), "{}", other.output);
}
