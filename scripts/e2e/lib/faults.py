"""What a hostile machine does to a state root, and what the daemon must make of it."""

import contextlib
import http.client
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import time

import full_disk
import house as h

FULL = bool(os.environ.get("CHANCERY_E2E_FULL"))
# What changes the disk, and how files are reached.
KINDS = ("openat2", "openat", "pwrite64", "write", "fdatasync", "fsync", "renameat", "unlinkat", "linkat", "mkdirat", "ftruncate")


def refused(house, *more, state=None, within=5):
    """A start that must end by itself; gives its words."""
    process = house.launch(house.arguments(*more, state=state), stderr=subprocess.PIPE)
    try:
        words = process.communicate(timeout=within)[1].decode()
    except subprocess.TimeoutExpired:
        raise h.Failed("it neither ends nor refuses") from None
    h.demand(process.returncode == 1, f"it ends with {process.returncode}: {words}")
    return words


def unchanged(root, work, without=("LOCK",)):
    """Does the work and demands that nothing below the root changed."""
    before = shape(root, without)
    out = work()
    after = shape(root, without)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    h.demand(not changed, f"a refused start changed {changed}")
    return out


def shape(root, without):
    """Names, kinds, modes and sizes, and the contents of what is small and plain."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            short = os.path.relpath(path, root)
            if short.split("/")[0] in without:
                continue
            facts = os.lstat(path)
            small = stat.S_ISREG(facts.st_mode) and facts.st_size < 32 << 20
            found[short] = (facts.st_mode, facts.st_size, facts.st_uid, open(path, "rb").read() if small else None)
    return found


def fifo(path):
    os.mkfifo(path, 0o600)


def device(path):
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))


def folder(path):
    os.mkdir(path, 0o700)


def huge(path):
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
        file.truncate(4 << 30)


def link(path):
    """To a file that is right: links to files are not followed below a state root."""
    kept = path.parent.parent / f"kept-{path.name}"
    if kept.exists():
        os.symlink(kept, path)
    else:
        os.symlink("/dev/zero", path)


SEGMENT = "journal/00000000000000000000.jsonl"
PLACES = {
    # Where a file is expected, and what may stand there all the same.
    "state-root.json": (),
    "audit-signing.key": (),
    "auth/fingerprint.key": (),
    SEGMENT: (),
    "journal/acked": (),
    # Absent in a sound root; read where they are there. A torn damage.json names every segment, so that all is checked.
    "damage.json": (),
    "repair.json": (),
    "control-plane-auth/audit.jsonl": (),
    # Operators mount tokens through links.
    "tokens/admin.token": (link,),
    "tokens/readonly.token": (link,),
    # Only locked: its words are for people.
    "LOCK": (huge,),
}


def odd_files(house):
    """A pipe, a device, a folder, a link, 4 GiB of nothing where a file is expected: refused at once, nothing changed."""
    daemon = house.start()
    daemon.create()
    daemon.stop()
    cases = 0
    for place, allowed in PLACES.items():
        path, kept = house.state / place, house.path / "kept"
        if path.exists():
            os.rename(path, kept)
        for odd in (fifo, device, folder, link, huge):
            if odd in allowed or (odd is device and os.geteuid() != 0):
                continue
            odd(path)
            try:
                words = unchanged(house.state, lambda: refused(house), without=("LOCK",) if place != "LOCK" else ())
            except h.Failed as fault:
                raise h.Failed(f"{odd.__name__} for {place}: {fault}") from None
            h.demand(os.path.basename(place) in words or place == "LOCK", f"{odd.__name__} for {place}: {words}")
            h.demand("state_root." in words or "storage." in words or "config." in words, f"no code: {words}")
            path.rmdir() if odd is folder else path.unlink()
            cases += 1
        if kept.exists():
            os.rename(kept, path)
    # Files that are named on the command line.
    for flag in ("--routes-file", "--trusted-proxy-secret-file", "--http-admin-token-file"):
        for odd in (fifo, folder, huge):
            path = house.path / "odd"
            odd(path)
            h.demand("odd" in unchanged(house.state, lambda: refused(house, flag, path), without=("LOCK", "journal")), flag)
            path.rmdir() if odd is folder else path.unlink()
            cases += 1
    # While it runs: the last good token stays in force, and nothing hangs.
    daemon = house.start()
    token = house.state / "tokens/admin.token"
    good = token.read_bytes()
    for odd in (fifo, folder, huge):
        token.unlink()
        odd(token)
        time.sleep(1.2)
        daemon.create()
        h.demand(daemon.get("/v1/status").json()["health"]["ok"] is False, f"a {odd.__name__} for the token is healthy")
        token.rmdir() if odd is folder else token.unlink()
        with open(os.open(token, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(good)
        cases += 1
    h.demand(daemon.stop()[0] == 0, "no drain")
    house.demand_valid()
    return f"{cases} odd files where a plain one is expected are refused by name within seconds, and nothing is changed"


def acl(path):
    """A default access list by which everybody may do everything in what is made here."""
    entries = [(0x01, 7, 0xFFFFFFFF), (0x04, 7, 0xFFFFFFFF), (0x10, 7, 0xFFFFFFFF), (0x20, 7, 0xFFFFFFFF)]
    entries.insert(1, (0x02, 7, 65534))
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_default", packed)
        return True
    except OSError:
        return False


def closed(house):
    """With umask 000 and a generous default access list nothing in the state root is open to others."""
    listed = acl(house.path)
    house.rehearse('{ text = "done" }')
    daemon = house.start(umask=0)
    session = daemon.create()
    run = daemon.post(f"/v1/sessions/{session}/runs", {"content": "w" * 100_000}).json()["run_id"]
    h.until(20, "the run ends", lambda: daemon.get(f"/v1/runs/{run}").json()["status"] == "completed")
    h.demand(daemon.post("/v1/journal/rotate-key").status == 200, "no rotation")
    for _ in range(2):
        loose = [
            f"{path} {os.lstat(path).st_mode & 0o777:o}"
            for path in [house.state, *house.state.rglob("*")]
            if os.lstat(path).st_mode & 0o077
        ]
        h.demand(not loose, f"open to others: {loose}")
        if daemon.process.poll() is None:
            daemon.stop()
    names = {str(path.relative_to(house.state)) for path in house.state.rglob("*") if path.is_file()}
    h.demand(any("artifacts" in name for name in names) and len(names) > 8, f"too little is made: {names}")
    for secret in ("audit-signing.key", "auth/fingerprint.key", "tokens/admin.token", "tokens/readonly.token"):
        for mode in (0o640, 0o604, 0o620):
            os.chmod(house.state / secret, mode)
            words = unchanged(house.state, lambda: refused(house), without=("LOCK", "journal", "daemon.json"))
            h.demand("state_root.insecure_permissions" in words and secret in words, f"{secret} {mode:o}: {words}")
            os.chmod(house.state / secret, 0o600)
    house.start().stop()
    words = "and a default access list " if listed else "(no access lists here) "
    return f"with umask 000 {words}all {len(names)} files are closed to others; each loose secret refuses a start"


def newer(house):
    """Formats of a newer program are named as such, and left alone."""
    daemon = house.start()
    daemon.create()
    daemon.stop()
    sample = (h.PROJECT / "state-schema/samples/repair.json").read_bytes()
    damage = (h.PROJECT / "state-schema/samples/damage.json").read_bytes()
    changes = {
        "state-root.json": (b'"format": 1', b'"format": 2', None),
        SEGMENT: (b'"format":1', b'"format":2', None),
        "damage.json": (b'"format": 1', b'"format": 2', damage),
        "repair.json": (b'"format": 1', b'"format": 2', sample),
    }
    for place, (old, new, text) in changes.items():
        path = house.state / place
        kept = path.read_bytes() if path.exists() else None
        content = text or kept
        h.demand(content.count(old) == 1, f"{place} names no format")
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content.replace(old, new))
        words = unchanged(house.state, lambda: refused(house))
        h.demand("state_root.version_too_new" in words, f"{place}: {words}")
        path.unlink() if kept is None else path.write_bytes(kept)
    house.start().stop()
    house.demand_valid()
    return f"a newer format of {', '.join(changes)} refuses with state_root.version_too_new and nothing is changed"


def inherited(house):
    """No descriptor of the daemon goes to a program that it starts."""
    house.rehearse('{ text = "done" }')
    daemon = house.start()
    session = daemon.create()
    stream = daemon.stream()
    daemon.post(f"/v1/sessions/{session}/runs", {"content": "go"})
    folder_ = f"/proc/{daemon.process.pid}"
    open_, seen = [], 0
    for name in os.listdir(f"{folder_}/fdinfo"):
        if int(name) < 3:
            continue
        with contextlib.suppress(OSError):
            flags = int(next(line for line in open(f"{folder_}/fdinfo/{name}") if line.startswith("flags")).split()[1], 8)
            seen += 1
            if not flags & os.O_CLOEXEC:
                open_.append((name, os.readlink(f"{folder_}/fd/{name}")))
    h.demand(seen > 8 and not open_, f"{len(open_)} of {seen} descriptors would be inherited: {open_}")
    stream.close()
    daemon.stop()
    return f"all {seen} descriptors of a serving daemon close when a program is started, the lock's among them"


# A log of this many bytes is closed by the next line.
AUDIT_BYTES = 4 << 20


def swapped(house):
    """The state root is named by a link; the link, and then the folder itself, is swapped while the daemon runs."""
    real, elsewhere, moved = house.path / "real", house.path / "elsewhere", house.path / "moved"
    for folder_ in (real, elsewhere, elsewhere / "control-plane-auth", elsewhere / "index", elsewhere / "tokens"):
        folder_.mkdir(0o700)
    named = house.path / "named"
    named.symlink_to(real)
    house.rehearse('{ text = "done" }')
    house.start(state=named).stop()
    log = real / "control-plane-auth/audit.jsonl"
    with open(log, "r+b") as file:
        # What is logged before the swap fits, and what is logged behind it does not.
        file.seek(AUDIT_BYTES - 2_000)
        file.write(b"x\n")
    daemon = house.start(state=named)
    made = [daemon.create()]
    # Whoever swaps the link must not bring a token of his own.
    planted = "operators-own-" + "p" * 32
    with open(os.open(elsewhere / "tokens/admin.token", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write(planted + "\n")
    before = shape(elsewhere, ())
    named.unlink()
    named.symlink_to(elsewhere)
    time.sleep(2.5)
    h.demand(daemon.request("GET", "/v1/status", token=planted).status == 401, "a planted token is in force")
    made.append(daemon.create())
    shutil.rmtree(elsewhere / "tokens")
    del before["tokens"], before["tokens/admin.token"]
    os.rename(real, moved)
    real.symlink_to(elsewhere)
    session = daemon.create()
    made.append(session)
    run = daemon.post(f"/v1/sessions/{session}/runs", {"content": "w" * 100_000}).json()["run_id"]
    h.until(20, "the run ends", lambda: daemon.get(f"/v1/runs/{run}").json()["status"] == "completed")
    h.demand(daemon.post("/v1/journal/rotate-key").status == 200, "no rotation")
    chunks = moved / "control-plane-auth"
    h.demand(not any(path.name.startswith("audit.jsonl.") for path in chunks.iterdir()), "the access log is closed too soon")
    for path in ("status", "sessions", "runs", "approvals", "questions", "tasks", "journal/head", "runtime", "openapi.json"):
        h.demand(daemon.get(f"/v1/{path}").status == 200, f"{path} is not answered")
    h.until(5, "the access log is closed", lambda: any(path.name.startswith("audit.jsonl.") for path in chunks.iterdir()))
    h.demand(daemon.stop()[0] == 0, "no drain")
    after = shape(elsewhere, ())
    h.demand(after == before, f"written outside: {sorted(after.keys() - before.keys())}")
    text = b"".join(path.read_bytes() for path in (moved / "journal").glob("*.jsonl"))
    h.demand(all(name.encode() in text for name in made), "something acknowledged is not in the folder that was opened")
    house.demand_valid(moved)
    return "a link to the state root, and the folder itself, may be swapped while it runs: nothing is written elsewhere"


class Tampered:
    """strace on a running daemon, with faults in its system calls."""

    def __init__(self, daemon, *faults):
        calls = ",".join(fault.split(":")[0] for fault in faults)
        arguments = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
        for fault in faults:
            arguments += ["-e", f"inject={fault}"]
        self.process = subprocess.Popen([*arguments, "-p", str(daemon.process.pid)], stderr=subprocess.PIPE)
        tasks = f"/proc/{daemon.process.pid}/task"

        def attached():
            h.demand(self.process.poll() is None, f"strace ends: {self.process.stderr.read() if self.process.poll() else ''}")
            with contextlib.suppress(OSError):
                return all("TracerPid:\t0" not in open(f"{tasks}/{task}/status").read() for task in os.listdir(tasks))

        h.until(10, "strace is attached", attached)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def named(house):
    """The folders above a new state root are synced, so that its name survives as well as what it holds."""
    state, log = house.path / "deep/er/state", house.path / "syncs"
    tracer = ["strace", "-D", "-f", "-qq", "-y", "-o", str(log), "-e", "trace=fsync"]
    process = house.launch([*tracer, *house.arguments(state=state)])
    h.demand(wait(house, process, state), "it does not serve")
    process.send_signal(signal.SIGTERM)
    h.demand(process.wait(15) == 0, "no drain")
    above = list(state.parents)[:3]

    def synced():
        found = set(re.findall(r"fsync\(\d+<(.*?)>", log.read_text()))
        return all(str(path) in found for path in above)

    h.until(5, f"{', '.join(map(str, above))} are synced", synced)
    return f"a first start syncs each of the {len(above)} folders in which it or what it made got a name"


def failing(house):
    """EIO and EROFS of writes and syncs: nothing is acknowledged from then on, reads go on, a restart heals it."""
    told = []
    for fault in ("fdatasync:error=EIO", "pwrite64:error=EIO", "pwrite64:error=EROFS", "pwrite64:error=EDQUOT", "fdatasync:error=EIO:when=1"):
        daemon = house.start()
        kept = daemon.create("kept")
        with Tampered(daemon, fault):
            answer = daemon.post("/v1/sessions", {"title": "not acknowledged"})
            found = answer.status, answer.code()
            h.demand(found == (503, "storage.journal_unavailable"), f"{fault}: {answer}")
            h.demand(answer.headers.get("retry-after"), "503 without Retry-After")
        # The disk is well again, and that proves nothing.
        answer = daemon.post("/v1/sessions", {})
        h.demand((answer.status, answer.code()) == (503, "storage.journal_unavailable"), f"{fault}: acknowledged again: {answer}")
        h.demand(daemon.get("/readyz", token="").status == 503, f"{fault}: it calls itself ready")
        for path in (f"/v1/sessions/{kept}", "/v1/sessions", "/v1/status", "/metrics", "/healthz", "/v1/journal/head"):
            h.demand(daemon.get(path).status == 200, f"{fault}: {path} gives {daemon.get(path)}")
        h.demand(daemon.process.poll() is None, f"{fault}: it ended")
        daemon.kill()
        daemon = house.start()
        h.demand(daemon.get(f"/v1/sessions/{kept}").status == 200, f"{fault}: an acknowledged session is gone")
        daemon.create("again")
        h.demand(daemon.stop()[0] == 0, "no drain")
        house.demand_valid()
        told.append(fault)
    return f"{', '.join(told)}: 503 storage.journal_unavailable until a restart, reads go on, nothing acknowledged is lost"


def interrupted(house):
    """Every third system call on files and connections is interrupted: nobody notices."""
    daemon = house.start()
    faults = [f"{name}:error=EINTR:when=1+3" for name in ("pwrite64", "pread64", "fdatasync", "openat2")]
    with Tampered(daemon, *faults):
        made = [daemon.create() for _ in range(30)]
        for name in made:
            h.demand(daemon.get(f"/v1/sessions/{name}").status == 200, f"{name} is not found")
        h.demand(len(daemon.records()) > 30, "the journal is not readable")
        for _ in range(3):
            h.demand(daemon.post("/v1/journal/rotate-key").status == 200, "no handover, which opens files")
        # A call that the tracer has taken away and not answered when it goes is "not implemented": none may be on its way,
        # which is why waiting for connections, which always is, is not among them.
        time.sleep(1)
    h.demand(daemon.get("/readyz", token="").status == 200 and daemon.stop()[0] == 0, "it took harm")
    house.demand_valid()
    return "with every third call interrupted, 30 sessions are made, found and sealed"


def slow(house):
    """A sync that takes three seconds holds up who writes, and nobody who reads."""
    daemon = house.start()
    kept = daemon.create()
    with Tampered(daemon, "fdatasync:delay_enter=3000000"):
        threads, answers = h.Threads(), []
        for _ in range(16):
            threads.run(lambda: answers.append(daemon.post("/v1/sessions", {}, timeout=60).status))
        time.sleep(0.3)
        reads = 0
        for path in (f"/v1/sessions/{kept}", "/v1/sessions", "/v1/status", "/v1/journal/head", "/v1/journal/records", "/healthz"):
            h.demand(daemon.get(path, timeout=10).status == 200, f"{path} is not answered")
            reads += 1
        h.demand(not answers, "a write was answered before its sync, or the reads waited for it")
        threads.join()
    h.demand(answers == [201] * 16, f"the writes get {answers}")
    h.demand(daemon.stop()[0] == 0, "no drain")
    house.demand_valid()
    return f"behind a sync of three seconds, {reads} reads are answered before any of 16 writes; then all of them are"


def kills(house):
    """SIGKILL in the n-th call of each kind of a thread: in the first start, at work, at a handover, in a drain, in recovery."""
    rounds, cut = 0, 0
    for lives in ("first", "again"):
        for kind in KINDS:
            number = 1
            while True:
                whole = cut_life(house, kind, number, fresh=lives == "first")
                rounds, cut = rounds + 1, cut + (not whole)
                if whole:
                    break
                number = number + 1 if FULL else number * 2 + 2
    h.demand(cut > 40, f"only {cut} of {rounds} lives were cut")
    return f"{cut} lives of a daemon killed in a system call, each another one, start again with all that was acknowledged and no leftovers"


def cut_life(house, kind, number, fresh):
    """One life that is killed in that call; says whether it came to its end. Then a start that must find everything."""
    state = house.path / "life"
    if fresh or not state.exists():
        shutil.rmtree(state, ignore_errors=True)
        if not fresh:
            daemon = house.start(state=state)
            daemon.create()
            daemon.kill()
    fault = f"{kind}:signal=KILL:when={number}"
    tracer = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={kind}", "-e", f"inject={fault}"]
    process = house.launch([*tracer, *house.arguments(state=state)])
    made, handed = [], 0
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        daemon = wait(house, process, state)
        if daemon:
            made.append(daemon.create())
            handed += daemon.post("/v1/journal/rotate-key").status == 200
            token = state / "tokens/readonly.token"
            beside = token.with_suffix(".new")
            with open(os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
                file.write(f"operators-own-{number:032}\n")
            os.rename(beside, token)
            made.append(daemon.create())
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(15)
    except subprocess.TimeoutExpired:
        raise h.Failed(f"{fault}: it does not end") from None
    h.demand(code in (0, -9), f"{fault}: it ends with {code}")
    daemon = house.start(state=state)
    text = b"".join(daemon.records())
    h.demand(all(name.encode() in text for name in made), f"{fault}: something acknowledged is gone")
    h.demand(text.count(b'"journal.key_changed"') >= handed, f"{fault}: a handover is gone")
    daemon.create()
    h.demand(daemon.stop()[0] == 0, f"{fault}: no drain")
    house.demand_valid(state)
    strange = [path.name for path in state.rglob("*") if path.name.endswith((".tmp", ".next", ".pending")) or ".new-" in path.name]
    h.demand(not strange, f"{fault}: left behind: {strange}")
    if not fresh:
        # The next life begins with a recovery.
        daemon = house.start(state=state)
        daemon.create()
        daemon.kill()
    return code == 0


def wait(house, process, state):
    """The daemon once it serves; nothing where it was killed before."""
    deadline = time.monotonic() + 20
    while process.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            import json

            said = json.loads((state / "daemon.json").read_text())
            if said["pid"] == process.pid:
                return h.Daemon(process, said["address"], state)
        h.demand(time.monotonic() < deadline, "it does not serve")
        time.sleep(0.02)
    return None


def inodes(house):
    """No inode is left: what needs none goes on, what needs one is refused with 507, and all is well when there are some."""
    if not full_disk.possible():
        return "SKIPPED inodes: nothing can be mounted here"
    with full_disk.Mounted(house, options=",nr_inodes=200") as disk:
        house.rehearse('{ text = "done" }')
        daemon = house.start(state=disk / "state")
        session = daemon.create()
        taken = take_inodes(disk)
        made = [daemon.create() for _ in range(20)]
        answer = daemon.post(f"/v1/sessions/{session}/runs", {"content": "w" * 100_000})
        h.demand((answer.status, answer.code()) == (507, "storage.full"), f"a text that needs a file: {answer}")
        answer = daemon.post("/v1/journal/rotate-key")
        h.demand((answer.status, answer.code()) == (507, "storage.full"), f"a handover that needs a file: {answer}")
        made.append(daemon.create())
        daemon.kill()
        words = refused_or_serves(house, disk / "state")
        for path in taken:
            path.unlink()
        daemon = house.start(state=disk / "state")
        text = b"".join(daemon.records())
        h.demand(all(name.encode() in text for name in made), "something acknowledged is gone")
        h.demand(daemon.post(f"/v1/sessions/{session}/runs", {"content": "w" * 100_000}).status == 202, "it does not take it again")
        h.demand(daemon.post("/v1/journal/rotate-key").status == 200, "no handover")
        h.demand(daemon.stop()[0] == 0, "no drain")
        house.demand_valid(disk / "state")
    return f"with no inode left sessions are made, what needs a file gets 507 storage.full, a start {words}"


def refused_or_serves(house, state):
    process = house.launch(house.arguments(state=state), stderr=subprocess.PIPE)
    try:
        words = process.communicate(timeout=6)[1].decode()
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "serves"
    h.demand(process.returncode == 1 and "storage.full" in words, f"a start without inodes: {words}")
    return "is refused with storage.full"


def take_inodes(disk):
    taken = []
    folder_ = disk / "ballast"
    folder_.mkdir()
    with contextlib.suppress(OSError):
        while True:
            path = folder_ / str(len(taken))
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            taken.append(path)
    return taken


def control(house):
    """A daemon that serves would not pass for one that refuses, and a changed folder not for an unchanged one."""
    h.must_fail("a sound state root", lambda: refused(house, within=3))
    daemon = house.start(state=house.path / "other")
    h.must_fail("a folder that changes", lambda: unchanged(daemon.state, lambda: daemon.create()))
    loose = house.path / "other/loose"
    loose.touch()
    os.chmod(loose, 0o666)
    h.demand(os.lstat(loose).st_mode & 0o077, "modes are not seen")
    return "a start that serves and a folder that changes would have been noticed"


def traceable(house):
    """Whether strace can put faults into a process here."""
    if not shutil.which("strace"):
        return False
    done = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO", "true"], capture_output=True
    )
    return done.returncode == 0


def with_faults(proof):
    def guarded(house):
        if not traceable(house):
            return f"SKIPPED {proof.__name__}: no strace, or it may not trace here"
        return proof(house)

    guarded.__name__ = proof.__name__
    return guarded


PROOFS = [control, odd_files, closed, newer, inherited, swapped, inodes]
PROOFS += [with_faults(proof) for proof in (named, failing, interrupted, slow, kills)]

if __name__ == "__main__":
    h.main("faults", PROOFS)
