//! What the workspace keeps in and out.

use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};

fn place() -> (tempfile::TempDir, Workspace) {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("work")).unwrap();
    std::fs::write(root.path().join("secret"), "secret").unwrap();
    let workspace = Workspace::open(&root.path().join("work")).unwrap();
    (root, workspace)
}

fn call(number: u128) -> CallId {
    CallId::from_ulid(ulid::Ulid::from_parts(1_700_000_000_000, number))
}

#[test]
fn what_a_kill_left_of_a_call_is_swept_beside_its_file_and_nothing_else_is() {
    let (root, workspace) = place();
    std::fs::create_dir(workspace.path().join("folder")).unwrap();
    symlink(root.path(), workspace.path().join("out")).unwrap();
    let name = temporary(call(1));
    assert!(is_temporary(&name) && !is_temporary(".chancery-x.tmp") && !is_temporary("a.tmp"));
    for file in [workspace.path().join("folder").join(&name), root.path().join(&name)] {
        std::fs::write(file, "half").unwrap();
    }
    std::fs::create_dir(workspace.path().join(&name)).unwrap();
    for (path, number) in [("folder/file", 2), ("file", 1), ("out/file", 1), ("none/file", 1), (".", 1)] {
        assert!(!workspace.sweep(path, call(number)), "{path}");
    }
    assert!(workspace.sweep("folder/file", call(1)) && !workspace.sweep("folder/file", call(1)));
    assert!(root.path().join(&name).exists() && workspace.path().join(&name).exists());
    assert_eq!(std::fs::read_dir(workspace.path().join("folder")).unwrap().count(), 0);
}

#[test]
fn a_path_has_one_spelling_and_none_of_them_leads_out() {
    let (root, workspace) = place();
    let inside = workspace.path().join("a/b");
    for given in ["a/b", "./a//b/", "a/./b", inside.to_str().unwrap()] {
        assert_eq!(workspace.normalise(given).unwrap(), "a/b");
    }
    assert_eq!(workspace.normalise("").unwrap(), ".");
    let sibling = format!("{}-other/x", workspace.path().display());
    let secret = root.path().join("secret");
    for given in ["..", "a/../b", "/etc/passwd", "a\0b", &sibling, secret.to_str().unwrap()] {
        assert_eq!(workspace.normalise(given).unwrap_err().reason, Reason::ToolPathOutsideWorkspace, "{given:?}");
    }
}

#[test]
fn no_link_leads_out_but_links_inside_are_followed() {
    let (root, workspace) = place();
    let at = |name: &str| workspace.path().join(name);
    std::fs::create_dir(at("folder")).unwrap();
    std::fs::write(at("folder/file"), "inside").unwrap();
    symlink("folder/file", at("inside")).unwrap();
    symlink("../secret", at("relative")).unwrap();
    symlink(root.path().join("secret"), at("absolute")).unwrap();
    symlink("..", at("up")).unwrap();
    symlink("/proc/self/exe", at("magic")).unwrap();
    symlink("loop", at("loop")).unwrap();
    assert_eq!(workspace.read("inside", 100).unwrap().bytes, b"inside");
    for path in ["relative", "absolute", "up/secret", "magic"] {
        assert_eq!(workspace.read(path, 100).unwrap_err().reason, Reason::ToolPathOutsideWorkspace, "{path}");
    }
    assert_eq!(workspace.replace("up/new", b"x", None, call(1)).unwrap_err().reason, Reason::ToolPathOutsideWorkspace);
    for path in ["relative", "inside", "loop"] {
        assert_eq!(workspace.replace(path, b"x", None, call(1)).unwrap_err().reason, Reason::ToolFailed, "{path}");
    }
    assert_eq!(std::fs::read(root.path().join("secret")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2);
}

#[test]
fn a_pipe_or_a_device_is_refused_without_waiting() {
    let (_root, workspace) = place();
    let folder = workspace.folder(".").unwrap();
    rustix::fs::mknodat(&folder, "pipe", FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(workspace.read("pipe", 10).unwrap_err().reason, Reason::ToolFailed);
    assert_eq!(workspace.digest("pipe").unwrap_err().reason, Reason::ToolFailed);
    assert_eq!(workspace.replace("pipe", b"x", None, call(1)).unwrap_err().reason, Reason::ToolFailed);
    assert_eq!(workspace.read(".", 10).unwrap_err().reason, Reason::ToolFailed);
}

#[test]
fn a_file_is_replaced_whole_with_its_mode_and_only_if_it_is_still_the_same() {
    let (_root, workspace) = place();
    let file = workspace.path().join("new/deep/file");
    workspace.replace("new/deep/file", b"one", None, call(1)).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(workspace.replace("new/deep/file", b"two", None, call(1)).unwrap_err().reason, Reason::ToolFileChanged);
    let digest = workspace.digest("new/deep/file").unwrap().unwrap();
    workspace.replace("new/deep/file", b"two", Some(&digest), call(1)).unwrap();
    assert_eq!(
        workspace.replace("new/deep/file", b"x", Some(&digest), call(1)).unwrap_err().reason,
        Reason::ToolFileChanged
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"two");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    assert_eq!(workspace.digest("none/such").unwrap(), None);
    assert_eq!(
        workspace.replace("none/such", b"x", Some(&digest), call(1)).unwrap_err().reason,
        Reason::ToolFileChanged
    );
    assert!(!workspace.path().join("none").exists(), "what is refused makes no folder");
}

#[test]
fn the_id_is_the_same_for_the_same_folder_only() {
    let (root, workspace) = place();
    std::fs::create_dir(root.path().join("other")).unwrap();
    assert_eq!(Workspace::open(workspace.path()).unwrap().root_id(), workspace.root_id());
    assert_ne!(Workspace::open(&root.path().join("other")).unwrap().root_id(), workspace.root_id());
}
