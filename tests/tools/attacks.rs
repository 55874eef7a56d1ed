//! Ways around Landlock: what it does not guard, a confined command must not reach all the same.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;

use chancery::agent::sandbox::{Launcher, SandboxMode};

use serde_json::json;

use crate::support::{House, Place, run, sandbox_or_skip};

/// Mode, owner, group.
fn facts(path: &std::path::Path) -> (u32, u32, u32) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

#[tokio::test]
async fn a_command_cannot_change_mode_owner_or_access_list_of_what_it_may_not_write() {
    if !sandbox_or_skip("modes outside of the workspace") {
        return;
    }
    let place = Place::new();
    let state = place.root.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let secret = state.join("admin.token");
    std::fs::write(&secret, "chy_secret").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(&secret, place.work().join("link")).unwrap();
    std::os::unix::fs::symlink(&state, place.work().join("folder")).unwrap();
    let before = (facts(&secret), facts(&state));
    let launcher = place.launcher(SandboxMode::On);
    let (token, folder) = (secret.display(), state.display());
    let acl = format!("setxattr('{token}', 'system.posix_acl_access', pack('L(SSL)*', 2, 1, 6, -1, 2, 4, 1000))");
    for script in [
        format!("chmod 644 {token}"),
        "chmod 644 link".to_owned(),
        "chmod 644 folder/admin.token".to_owned(),
        "chmod 777 folder/".to_owned(),
        "chmod 644 ../state/admin.token".to_owned(),
        format!("chmod 000 {folder}"),
        format!("cd {folder} && chmod 644 admin.token"),
        format!("chown 12345:12345 {token}"),
        "chown -h 12345:12345 ../state/admin.token".to_owned(),
        "chown 12345 link".to_owned(),
        format!("perl -e 'chmod(0644, q({token})) or exit 9'"),
        // chmod, fchmodat, fchmodat2 and lchown by their numbers, and an access list, which is a mode in disguise
        format!("perl -e '$p = q({token}); exit 9 if syscall(90, $p, 0644) != 0'"),
        format!("perl -e '$p = q({token}); exit 9 if syscall(268, -100, $p, 0644) != 0'"),
        format!("perl -e '$p = q({token}); exit 9 if syscall(452, -100, $p, 0644, 0) != 0'"),
        format!("perl -e '$p = q({token}); exit 9 if syscall(94, $p, 1234, 1234) != 0'"),
        format!("perl -e '$p = q({token}); $n = q(user.x); exit 9 if syscall(188, $p, $n, $n, 2, 0) != 0' # {acl}"),
    ] {
        let (text, exit) = run(&launcher, place.shell(&script)).await;
        assert!(exit.code.is_some_and(|code| code != 0), "{script}: {exit:?} {text}");
        assert_eq!((facts(&secret), facts(&state)), before, "{script}: {text}");
    }
    // The control: without the sandbox the same command succeeds.
    let (_, exit) = run(&place.launcher(SandboxMode::Off), place.shell(&format!("chmod 640 {token}"))).await;
    assert_eq!((exit.code, facts(&secret).0), (Some(0), 0o640));
}

#[tokio::test]
async fn a_descriptor_that_reads_changes_nothing_of_a_file_that_may_only_be_read() {
    if !sandbox_or_skip("modes of system files") {
        return;
    }
    let place = Place::new();
    let folder = place.root.path().join("system");
    let file = folder.join("passwd");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&file, "root").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut settings = place.settings(SandboxMode::On);
    settings.read_only = vec![folder.clone()];
    let launcher = Launcher::new(settings);
    let before = (facts(&file), facts(&folder));
    let open = format!(
        "open(F, q({})) or exit 0; opendir(D, q({})) or exit 0; $n = fileno(F);",
        file.display(),
        folder.display()
    );
    // The last three are fchmod by its number, fsetxattr, and FS_IOC_SETFLAGS.
    let attacks = [
        "chmod(0666, *F)",
        "chmod(0777, *D)",
        "chown(12345, 12345, *F)",
        "syscall(91, $n, 0666) == 0",
        "syscall(190, $n, $a = q(user.x), $b = q(v), 1, 0) == 0",
        "ioctl(F, 0x40086602, $f = pack(q(L), 0x80))",
    ];
    let script = |attack: &str| format!("perl -e '{open} ({attack}) ? exit 0 : exit 9'");
    for attack in attacks {
        let (text, exit) = run(&launcher, place.shell(&script(attack))).await;
        assert_eq!(exit.code, Some(9), "{attack}: {text}");
        assert_eq!((facts(&file), facts(&folder)), before, "{attack}: {text}");
    }
    // What it may write it changes that way as ever.
    let own = "perl -e 'open(F, q(>own)); open(G, q(own)); chmod(0640, *G) or exit 9'; stat -c %a own; rm own; \
               perl -e 'open(F, q(>gone)); unlink(q(gone)); chmod(0640, *F) or exit 9'";
    let (text, exit) = run(&launcher, place.shell(own)).await;
    assert_eq!((exit.code, text.as_str()), (Some(0), "640\n"));
    // The control: without the sandbox the first one succeeds.
    let (_, exit) = run(&place.launcher(SandboxMode::Off), place.shell(&script(attacks[0]))).await;
    assert_eq!((exit.code, facts(&file).0), (Some(0), 0o666));
}

#[tokio::test]
async fn modes_and_times_of_its_own_files_a_command_changes_as_ever() {
    if !sandbox_or_skip("modes inside of the workspace") {
        return;
    }
    let place = Place::new();
    let script = "set -e; echo 'echo ran' > run.sh; chmod +x run.sh; ./run.sh; mkdir d; chmod 700 d; \
                  cp -p run.sh d/copy; cp -a d e; chmod -R a+rX e; ln -s run.sh l; chown -h $(id -u) l; \
                  chown $(id -u) run.sh; touch -d @1000 run.sh; (cd d; chmod 600 ./copy); chmod 750 $TMPDIR; \
                  tar cf t.tar d e; mkdir u; tar xpf t.tar -C u; install -m 711 run.sh i; \
                  for n in 1 2 3 4 5 6 7 8 9; do (chmod 64$((n % 8)) i) & done; wait; chmod 644 i; \
                  ! chmod 600 nothing 2> /dev/null; stat -c %a run.sh d e/copy d/copy i u/e/copy";
    let (text, exit) = run(&place.launcher(SandboxMode::On), place.shell(script)).await;
    assert_eq!((exit.code, text.as_str()), (Some(0), "ran\n755\n700\n755\n600\n644\n755\n"));
}

#[tokio::test]
async fn a_command_leaves_no_file_that_runs_as_its_owner() {
    if !sandbox_or_skip("set-user-id files") {
        return;
    }
    let place = Place::new();
    let script = "cp /bin/true t; chmod u+s t; chmod 6755 t; chmod g+s t; install -m 4755 /bin/true i; \
                  perl -MFcntl -e 'umask 0; sysopen(F, q(s), O_CREAT | O_WRONLY, 04755); open(G, q(>g)); chmod(04755, *G)'; \
                  true";
    let (text, exit) = run(&place.launcher(SandboxMode::On), place.shell(script)).await;
    assert_eq!(exit.code, Some(0), "{text}");
    for entry in std::fs::read_dir(place.work()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(facts(&path).0 & 0o6000, 0, "{}", path.display());
    }
    assert!(place.work().join("t").exists() && place.work().join("g").exists(), "the script must have run");
}

#[tokio::test]
async fn a_pair_of_sockets_reaches_nobody_outside() {
    if !sandbox_or_skip("datagrams to a socket outside") {
        return;
    }
    let place = Place::new();
    let path = place.root.path().join("outside.socket");
    let outside = UnixDatagram::bind(&path).unwrap();
    outside.set_nonblocking(true).unwrap();
    let script = format!(
        "perl -MSocket -e 'for my $kind (SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, SOCK_SEQPACKET) {{ \
           socketpair(my $a, my $b, AF_UNIX, $kind, 0) or next; print qq(pair $kind\\n); \
           send($a, q(hello), 0, pack_sockaddr_un(q({0}))); connect($a, pack_sockaddr_un(q({0}))) and send($a, q(hi), 0) }}'",
        path.display()
    );
    let mut networked = place.settings(SandboxMode::On);
    networked.tool_network = true;
    let mut heard = [0; 16];
    for launcher in [place.launcher(SandboxMode::On), Launcher::new(networked)] {
        let (text, _) = run(&launcher, place.shell(&script)).await;
        assert_eq!(text, "pair 1\npair 5\n");
        assert_eq!(outside.recv(&mut heard).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
    }
    // The control: without the sandbox the datagram arrives.
    run(&place.launcher(SandboxMode::Off), place.shell(&script)).await;
    assert_eq!(outside.recv(&mut heard).unwrap(), 5);
}

#[tokio::test]
async fn a_command_can_neither_slow_others_down_nor_leave_memory_behind() {
    if !sandbox_or_skip("priorities and shared memory") {
        return;
    }
    let place = Place::new();
    // Somebody with the same rights, whom the kernel itself would not protect.
    let launcher = place.launcher(SandboxMode::On);
    let other = launcher.start(place.shell("exec sleep 20")).await.unwrap();
    let pid = other.pid();
    // sched_setaffinity, sched_setscheduler, ioprio_set, shmget, msgget, semget; then the first for itself
    let script = format!(
        "perl -e '$mask = pack(q(Q), 1); $zero = pack(q(L), 0); $name = q(/chancery-test); \
          print syscall(203, {pid}, 8, $mask), q( ), syscall(144, {pid}, 3, $zero), q( ), \
            syscall(251, 1, {pid}, 3 << 13), q( ), syscall(29, 0x6368, 4096, 01600), q( ), \
            syscall(68, 0x6368, 01600), q( ), syscall(64, 0x6368, 1, 01600), q( ), syscall(240, $name, 0102, 0600, 0), \
            q( ), syscall(203, 0, 8, $mask)'"
    );
    let (text, exit) = run(&launcher, place.shell(&script)).await;
    if cfg!(target_arch = "x86_64") {
        assert_eq!((exit.code, text.as_str()), (Some(0), "-1 -1 -1 -1 -1 -1 -1 0"));
    }
}

#[tokio::test]
async fn a_folder_that_becomes_a_link_under_a_write_never_leads_the_write_out() {
    let house = House::new();
    let outside = house.place.root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept.txt"), "s3cret").unwrap();
    house.write("swapped/kept.txt", "inside");
    std::os::unix::fs::symlink(&outside, house.place.work().join("link")).unwrap();
    let (work, over) = (house.place.work(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let swaps = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (told, counted) = (over.clone(), swaps.clone());
    let swapping = std::thread::spawn(move || {
        let work = rustix::fs::open(&work, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        while !told.load(std::sync::atomic::Ordering::Relaxed) {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(&work, "swapped", &work, "link", exchange).unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    });
    let (mut written, mut refused) = (0, 0);
    for at in 0..200_000 {
        // On a busy machine the other side of the race needs its time.
        if at > 2_000 && written > 0 && refused > 0 && swaps.load(std::sync::atomic::Ordering::Relaxed) > 100 {
            break;
        }
        let arguments = json!({ "path": format!("swapped/new{at}.txt"), "content": "x" });
        let Ok(prepared) = house.prepare("write_file", arguments) else {
            refused += 1;
            continue;
        };
        if house.perform(&prepared).await.ok {
            written += 1;
        } else {
            refused += 1;
        }
        let read = house.prepare("read_file", json!({ "path": "swapped/kept.txt" })).map(|read| (read, "s3cret"));
        if let Ok((read, secret)) = read {
            let outcome = house.perform(&read).await;
            assert!(!outcome.ok || !outcome.output.contains(secret), "{}", outcome.output);
        }
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    swapping.join().unwrap();
    let swaps = swaps.load(std::sync::atomic::Ordering::Relaxed);
    assert!(written > 0 && refused > 0 && swaps > 100, "the race must have been run: {written} {refused} {swaps}");
    let names: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["kept.txt"]);
    assert_eq!(std::fs::read_to_string(outside.join("kept.txt")).unwrap(), "s3cret");
}

#[tokio::test]
async fn a_write_or_an_edit_cuts_a_hard_link_and_changes_nothing_outside() {
    let house = House::new();
    let outside = house.place.root.path().join("outside.txt");
    std::fs::write(&outside, "outside").unwrap();
    for (tool, arguments) in [
        ("write_file", json!({ "path": "hard.txt", "content": "new" })),
        ("edit_file", json!({ "path": "hard.txt", "old_text": "outside", "new_text": "new" })),
    ] {
        let link = house.place.work().join("hard.txt");
        let _ = std::fs::remove_file(&link);
        std::fs::hard_link(&outside, &link).unwrap();
        let outcome = house.call(tool, arguments).await;
        assert!(outcome.ok, "{tool}: {}", outcome.output);
        assert_eq!(
            (house.read("hard.txt").as_str(), std::fs::read_to_string(&outside).unwrap().as_str()),
            ("new", "outside")
        );
    }
}
