//! What a confined command can and cannot do, and that nothing of it stays behind.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use chancery::agent::sandbox::{Confinement, How, Launcher, SandboxMode};
use chancery::domain::reason::Reason;

use crate::support::{Place, finish, gone, lives, number_in, run, sandbox_or_skip};

/// A script that leaves a process behind which has its own session and whose parent has gone, and writes its id.
const DETACH: &str =
    "setsid sh -c 'sh -c \"echo \\$\\$ > pid.tmp; mv pid.tmp pid; trap : TERM; while :; do sleep 1; done\" &' & ";

#[tokio::test]
async fn an_allowed_cat_of_a_secret_outside_the_workspace_fails() {
    if !sandbox_or_skip("secrets outside of the workspace") {
        return;
    }
    let place = Place::new();
    let secret = place.root.path().join("admin-token");
    std::fs::write(&secret, "chy_secret").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&secret, place.work().join("link")).unwrap();
    let launcher = place.launcher(SandboxMode::On);
    let path = secret.display();
    for script in [
        format!("cat {path}"),
        "cat link".to_owned(),
        "cat ../admin-token".to_owned(),
        format!("cp {path} stolen"),
        format!("ln {path} stolen && cat stolen"),
        format!("echo x > {path}"),
        format!("rm {path}"),
        format!("mv {path} stolen"),
        format!("ls {}", place.root.path().display()),
        "cat /etc/shadow".to_owned(),
        format!("cat /proc/{}/environ", std::process::id()),
        format!("cat /proc/{}/root{path}", std::process::id()),
        format!("cat /proc/self/root{path}"),
        "mknod disk b 254 0".to_owned(),
        "mount -t tmpfs none .".to_owned(),
        "chroot . true".to_owned(),
        "unshare -U true".to_owned(),
    ] {
        let (text, exit) = run(&launcher, place.shell(&script)).await;
        assert!(exit.code.is_some_and(|code| code != 0), "{script}: {exit:?} {text}");
        assert!(!text.contains("chy_secret"), "{script}: {text}");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "chy_secret");
    // The control: without the sandbox the same command reads it.
    let (text, _) = run(&place.launcher(SandboxMode::Off), place.shell(&format!("cat {path}"))).await;
    assert_eq!(text, "chy_secret");
}

#[tokio::test]
async fn common_commands_work_in_the_workspace_and_in_a_tmp_that_goes_away() {
    if !sandbox_or_skip("ordinary work inside the sandbox") {
        return;
    }
    let place = Place::new();
    let script = "mkdir d && echo hello > d/a && cp d/a d/b && mv d/b b && sed -i s/hello/bye/ b && cat b && \
                  echo $TMPDIR $HOME && echo x > $TMPDIR/x && mktemp > /dev/null && sort b | uniq | grep -c bye && \
                  id -u > /dev/null && ls -l > /dev/null && date > /dev/null && head -c 8 /dev/urandom > /dev/null";
    let (text, exit) = run(&place.launcher(SandboxMode::On), place.shell(script)).await;
    assert_eq!((exit.how, exit.code), (How::Exited, Some(0)), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let (tmp, home) = lines[1].split_once(' ').unwrap();
    assert_eq!((lines[0], lines[2], tmp), ("bye", "1", home));
    assert!(tmp.starts_with(place.scratch().to_str().unwrap()), "{tmp}");
    assert_eq!(std::fs::read_dir(place.scratch()).unwrap().count(), 0, "the private folder is removed");
}

#[tokio::test]
async fn no_socket_of_any_family_can_be_made_but_with_network_internet_ones_can() {
    if !sandbox_or_skip("sockets") {
        return;
    }
    let place = Place::new();
    let script = r#"
perl -MSocket -e '
for my $family (AF_INET, AF_INET6, AF_UNIX, 16, 17, 38, 40) {
  print "$family ", (socket(my $s, $family, SOCK_DGRAM, 0) ? "made" : $!{EPERM} ? "refused" : "other"), "\n";
}
print "pair ", (socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0) ? "made" : "refused"), "\n";
print "io_uring ", (syscall(425, 1, 0) == -1 && $!{ENOSYS} ? "missing" : "there"), "\n";
print "ptrace ", (syscall(101, 16, getppid()) == -1 && $!{EPERM} ? "refused" : "other"), "\n" if `uname -m` =~ /x86_64/;
'"#;
    let (text, exit) = run(&place.launcher(SandboxMode::On), place.shell(script)).await;
    assert_eq!(exit.code, Some(0), "{text}");
    assert_eq!(text.matches("made").count(), 1, "{text}");
    assert!(text.contains("2 refused") && text.contains("1 refused") && text.contains("pair made"), "{text}");
    assert!(text.contains("io_uring missing") && !text.contains("ptrace other"), "{text}");

    let mut settings = place.settings(SandboxMode::On);
    settings.tool_network = true;
    let (text, _) = run(&Launcher::new(settings), place.shell(script)).await;
    assert!(text.contains("2 made") && text.contains("\n1 refused") && text.contains("40 refused"), "{text}");
}

#[tokio::test]
async fn a_command_inherits_three_descriptors_and_a_short_list_of_variables() {
    let place = Place::new();
    // Opened without close-on-exec, as a shell or a service manager might have left it.
    let leaked = rustix::fs::open("/etc/hostname", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&leaked);
    let script = "perl -MPOSIX -e 'for (0..300) { my $d = POSIX::dup($_); next unless defined $d; POSIX::close($d); \
                  print qq(fd $_\\n) }'; env";
    let modes = if sandbox_or_skip("descriptors inside the sandbox") {
        vec![SandboxMode::On, SandboxMode::Off]
    } else {
        vec![SandboxMode::Off]
    };
    for mode in modes {
        let (text, _) = run(&place.launcher(mode), place.shell(script)).await;
        let open: Vec<&str> = text.lines().filter(|line| line.starts_with("fd ")).collect();
        assert_eq!(open, ["fd 0", "fd 1", "fd 2"], "the leaked one was {number}");
        let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER"]);
    }
}

#[tokio::test]
async fn a_command_has_limits_of_its_own_also_where_the_sandbox_is_off() {
    let place = Place::new();
    let (text, _) = run(&place.launcher(SandboxMode::Off), place.shell("ulimit -c; ulimit -f; ulimit -n")).await;
    let limits: Vec<u64> = text.lines().map(|line| line.parse().unwrap_or(u64::MAX)).collect();
    // No core files, no file beyond 4 GiB in blocks of 512 bytes, no more open files than there may be.
    assert!(limits[..2] == [0, 8 << 20] && limits[2] <= 4_096, "{text}");
}

#[tokio::test]
async fn a_command_can_signal_neither_the_daemon_nor_its_supervisor() {
    if !sandbox_or_skip("signals out of the sandbox") {
        return;
    }
    let place = Place::new();
    let daemon = std::process::id();
    // Below ABI 6 the filter has to do what Landlock does above.
    for landlock_abi in [Confinement::probe().landlock_abi, Some(5), Some(3)] {
        let mut settings = place.settings(SandboxMode::On);
        settings.confinement.landlock_abi = landlock_abi;
        let group = rustix::process::getpgrp().as_raw_nonzero();
        let script = format!(
            "for to in {daemon} -{group} $PPID -$PPID -1; do /bin/kill -0 -- $to && echo reached $to; done; \
             kill -9 $PPID; sleep 30 & kill -9 $! && echo own; kill -TERM $$"
        );
        let (text, exit) = run(&Launcher::new(settings), place.shell(&script)).await;
        let reached: Vec<&str> = text.lines().filter(|line| line.starts_with("reached")).collect();
        // To signal everyone succeeds where Landlock narrows everyone down to the sandbox.
        assert!(reached.iter().all(|line| landlock_abi > Some(5) && *line == "reached -1"), "{landlock_abi:?} {text}");
        assert!(text.contains("own"), "{text}");
        assert_eq!((exit.how, exit.signal, exit.survivors), (How::Exited, Some(15), 0));
    }
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_with_it() {
    for mode in modes("descendants after the end") {
        let place = Place::new();
        let script = format!("{DETACH} while ! test -e pid; do sleep 0.05; done; exit 3");
        let (_, exit) = run(&place.launcher(mode), place.shell(&script)).await;
        assert_eq!((exit.how, exit.code, exit.survivors), (How::Exited, Some(3), 0));
        assert!(!lives(number_in(&place.work().join("pid")).await));
    }
}

#[tokio::test]
async fn a_stop_asks_first_and_then_kills_every_descendant() {
    for mode in modes("descendants after a stop") {
        let place = Place::new();
        let script = format!("trap 'echo asked; exit 7' TERM; {DETACH} while :; do sleep 0.05; done");
        let child = place.launcher(mode).start(place.shell(&script)).await.unwrap();
        let detached = number_in(&place.work().join("pid")).await;
        assert!(lives(detached));
        child.stopper().stop();
        let (text, exit) = finish(child).await;
        assert_eq!((exit.how, exit.code), (How::Stopped, Some(7)));
        assert!(text.contains("asked"), "{text}");
        assert!(!lives(detached));
    }
}

#[tokio::test]
async fn a_time_limit_ends_a_command_that_ignores_requests() {
    for mode in modes("the time limit") {
        let place = Place::new();
        let mut command = place.shell(&format!("trap '' TERM; {DETACH} while :; do sleep 0.05; done"));
        command.time_limit = Some(Duration::from_millis(700));
        let began = Instant::now();
        let (_, exit) = run(&place.launcher(mode), command).await;
        assert_eq!((exit.how, exit.signal, exit.survivors), (How::TimeLimit, Some(9), 0));
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(!lives(number_in(&place.work().join("pid")).await));
    }
}

#[tokio::test]
async fn a_command_with_too_many_processes_is_killed_with_all_of_them() {
    for mode in modes("the limit of processes") {
        let place = Place::new();
        // Each in a session of its own: neither a group nor a session holds them together.
        let many = "for i in $(seq 2000); do setsid sleep 61.5 & done; echo started; wait";
        let (text, exit) = run(&place.launcher(mode), place.shell(many)).await;
        assert_eq!((exit.how, exit.survivors), (How::Processes, 0), "{text}");
        assert_eq!(exit.signal, Some(9));
        let few = "for i in $(seq 100); do sleep 0.5 & done; wait; echo fine";
        let (text, exit) = run(&place.launcher(mode), place.shell(few)).await;
        assert_eq!((exit.how, exit.code, text.as_str()), (How::Exited, Some(0), "fine\n"));
    }
}

#[tokio::test]
async fn a_process_that_becomes_another_all_the_time_is_caught() {
    for mode in modes("a process that hops") {
        let place = Place::new();
        let hop = "perl -MPOSIX -e '$SIG{TERM} = q(IGNORE); while (1) { exit if fork; POSIX::setsid() }' & \
                   perl -e '$SIG{TERM} = q(IGNORE); while (1) { exit if fork }' & sleep 0.3";
        let (_, exit) = run(&place.launcher(mode), place.shell(hop)).await;
        assert_eq!((exit.how, exit.code, exit.survivors), (How::Exited, Some(0), 0));
    }
}

#[tokio::test]
async fn dropping_a_child_kills_it() {
    let place = Place::new();
    let child = place.launcher(SandboxMode::Off).start(place.shell(&format!("{DETACH} sleep 60"))).await.unwrap();
    let (main, detached) = (child.pid(), number_in(&place.work().join("pid")).await);
    let stopper = child.stopper();
    drop(child);
    assert!(gone(main).await && gone(detached).await);
    stopper.stop();
}

/// Not a test of its own: the daemon of the next one, which kills it.
#[tokio::test]
async fn a_daemon_to_be_killed() {
    let Ok(root) = std::env::var("CHANCERY_TEST_DAEMON_ROOT") else { return };
    let mode =
        if std::env::var("CHANCERY_TEST_DAEMON_MODE").unwrap() == "on" { SandboxMode::On } else { SandboxMode::Off };
    let place = Place::new();
    let mut settings = place.settings(mode);
    settings.scratch = std::path::Path::new(&root).join("scratch");
    let mut command = place.shell(&format!("{DETACH} echo $$ > main.tmp; mv main.tmp main; sleep 60"));
    command.workspace = std::path::Path::new(&root).join("work");
    command.cwd = command.workspace.clone();
    let _child = Launcher::new(settings).start(command).await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
}

#[tokio::test]
async fn a_daemon_killed_by_minus_nine_leaves_no_tool_running() {
    for mode in modes("a killed daemon") {
        let place = Place::new();
        let mut daemon = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox::a_daemon_to_be_killed"])
            .env("CHANCERY_TEST_DAEMON_ROOT", place.root.path())
            .env("CHANCERY_TEST_DAEMON_MODE", if mode == SandboxMode::On { "on" } else { "off" })
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let main = number_in(&place.work().join("main")).await;
        let detached = number_in(&place.work().join("pid")).await;
        assert!(lives(main) && lives(detached));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert!(gone(main).await, "the command lives on");
        assert!(gone(detached).await, "what it detached lives on");
        for _ in 0..200 {
            if std::fs::read_dir(place.scratch()).unwrap().count() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(std::fs::read_dir(place.scratch()).unwrap().count(), 0, "its private folder is still there");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_started_or_confined_is_refused_with_a_reason() {
    let place = Place::new();
    let mut missing = place.shell("true");
    missing.program = "/no/such/program".into();
    let refusal = place.launcher(SandboxMode::Off).start(missing).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::ToolFailed);
    assert!(refusal.detail.contains("/no/such/program"), "{refusal}");

    let mut settings = place.settings(SandboxMode::On);
    settings.confinement.landlock_abi = Some(2);
    let weak = Launcher::new(settings);
    // Asked when a call is prepared, before a person is asked to allow it.
    assert_eq!(weak.require().unwrap_err().reason, Reason::ToolSandboxUnavailable);
    assert_eq!(place.launcher(SandboxMode::Off).require(), Ok(()));
    let refusal = weak.start(place.shell("true")).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::ToolSandboxUnavailable);

    // The launcher believes in more than the kernel has: the verb finds out, and does not run the command.
    let mut settings = place.settings(SandboxMode::On);
    settings.confinement = Confinement { landlock_abi: Some(7), seccomp: true };
    settings.protected = vec![place.work().join("state")];
    std::fs::create_dir(place.work().join("state")).unwrap();
    let refusal = Launcher::new(settings).start(place.shell("true")).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::ToolSandboxUnavailable);
    assert!(refusal.detail.contains("state"), "{refusal}");
    assert_eq!(std::fs::read_dir(place.scratch()).unwrap().count(), 0);
}

#[test]
fn the_hidden_verb_does_nothing_without_a_daemon() {
    for arguments in [vec!["__confine"], vec!["__confine", "enter"]] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_chancery"))
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
}

fn modes(what: &str) -> Vec<SandboxMode> {
    if sandbox_or_skip(what) { vec![SandboxMode::On, SandboxMode::Off] } else { vec![SandboxMode::Off] }
}
