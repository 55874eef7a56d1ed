"""What the proofs share: a house of its own below a temporary folder, daemons in it, requests as clients and as attackers
send them, streams, and the promise that everything begun here is ended here, by its process id."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PROJECT = pathlib.Path(__file__).resolve().parents[3]
JSON = {"Content-Type": "application/json"}


def binary():
    """The binary under test: CHANCERY_BIN, or the debug build."""
    path = pathlib.Path(os.environ.get("CHANCERY_BIN") or PROJECT / "target/debug/chancery").resolve()
    if not os.access(path, os.X_OK):
        sys.exit(f"no binary at {path}: build it (cargo build) or name one with CHANCERY_BIN")
    return str(path)


def clean_environment(home, **more):
    """An environment in which nothing of the caller's settings is left."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(home), "TMPDIR": str(home), **more}


class Failed(Exception):
    """Something is not as promised."""


def demand(holds, otherwise):
    """Fails the proof unless this holds."""
    if not holds:
        raise Failed(otherwise)


def until(seconds, what, found):
    """Waits until `found` gives something; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        value = found()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Answer:
    """An answer: status, headers in lower case, body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def code(self):
        """The code of a problem document, or nothing."""
        try:
            return json.loads(self.body).get("code")
        except (ValueError, AttributeError):
            return None

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class House:
    """A folder with a state root and a workspace, and the daemons that serve it."""

    def __init__(self, name):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"chancery-{name}-"))
        self.state, self.work = self.path / "state", self.path / "work"
        self.work.mkdir()
        (self.path / "home").mkdir()
        self.begun = []

    def arguments(self, *more, state=None, bind="127.0.0.1:0"):
        given = ["--bind", bind, "--state-root", str(state or self.state), "--workspace-root", str(self.work)]
        routes = self.path / "routes.toml"
        if routes.exists():
            given += ["--routes-file", str(routes)]
        return [binary(), "serve", *given, *map(str, more)]

    def launch(self, arguments, stderr=subprocess.DEVNULL, **more):
        """Begins a process that `end` will end."""
        environment = clean_environment(self.path / "home", **more.pop("environment", {}))
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=environment, **more
        )
        self.begun.append(process)
        return process

    def start(self, *more, state=None, bind="127.0.0.1:0", wait=30, **launch):
        """Starts a daemon and waits until it serves."""
        root = pathlib.Path(state or self.state)
        with contextlib.ExitStack() as stack:
            if "stderr" not in launch:
                log = stack.enter_context(open(self.path / "log", "ab"))
                launch["stderr"] = log
            process = self.launch(self.arguments(*more, state=state, bind=bind), **launch)

        def serves():
            demand(process.poll() is None, f"the daemon ended with {process.returncode}:\n{self.last_words()}")
            try:
                said = json.loads((root / "daemon.json").read_text())
            except (OSError, ValueError):
                return None
            return said if said["pid"] == process.pid else None

        said = until(wait, "the daemon serves", serves)
        return Daemon(process, said["address"], root)

    def last_words(self):
        try:
            return "\n".join((self.path / "log").read_text(errors="replace").splitlines()[-8:])
        except OSError:
            return ""

    def rehearse(self, *turns, more=""):
        """Writes a routes file whose script plays these turns, each a list of steps in TOML."""
        script = "version = 1\n" + "".join(f"[[turns]]\nsteps = [{steps}]\n" for steps in turns)
        (self.path / "script.toml").write_text(script)
        route = '[routes.practice]\ndriver = "rehearsal"\ndefault_model = "rehearsal"\nscript = "script.toml"\n'
        (self.path / "routes.toml").write_text(f"version = 1\n{more}{route}")

    def verify(self, root=None):
        """Exit code and words of `chancery verify`."""
        done = subprocess.run(
            [binary(), "verify", str(root or self.state)],
            capture_output=True,
            text=True,
            timeout=300,
            env=clean_environment(self.path / "home"),
        )
        return done.returncode, done.stdout + done.stderr

    def demand_valid(self, root=None):
        code, words = self.verify(root)
        demand(code == 0, f"verify gives {code}: {words}")
        return words

    def end(self):
        """Ends what was begun here, and takes the folder away."""
        for process in self.begun:
            if process.poll() is None:
                with contextlib.suppress(OSError):
                    process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        shutil.rmtree(self.path, ignore_errors=True)


class Daemon:
    """A daemon that serves."""

    def __init__(self, process, address, state):
        self.process, self.address, self.state = process, address, state
        self.token = self.read_token("admin")

    @property
    def readonly(self):
        return self.read_token("readonly")

    def read_token(self, role):
        path = self.state / f"tokens/{role}.token"
        return path.read_text().strip() if path.exists() else ""

    def connect(self, timeout=10):
        return connect(self.address, timeout)

    def request(self, method, path, body=None, headers=None, token=None, timeout=30):
        """One request on a connection of its own. `token=False` sends none."""
        return request(self.address, method, path, body, headers, self.token if token is None else token, timeout)

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, {} if body is None else body, **more)

    def create(self, title="a session"):
        answer = self.post("/v1/sessions", {"title": title})
        demand(answer.status == 201, f"a session is not created: {answer}")
        return answer.json()["session_id"]

    def head(self):
        return self.get("/v1/journal/head").json()

    def records(self, start=0):
        """All stored lines from this position on, as bytes."""
        lines = []
        while True:
            answer = self.get(f"/v1/journal/records?from={start + len(lines)}&limit=10000")
            demand(answer.status == 200, f"the journal is not readable: {answer}")
            found = answer.body.splitlines()
            if not found:
                return lines
            lines += found

    def stream(self, path="/v1/events/stream", after=None, token=None, timeout=20):
        return Stream(self.address, path, after, self.token if token is None else token, timeout)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=12):
        """SIGTERM; gives the exit code and how long it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"the daemon does not end within {seconds} s of SIGTERM") from None
        return code, time.monotonic() - began


def connect(address, timeout=10):
    if address.startswith("unix:"):
        wire = socket.socket(socket.AF_UNIX)
        wire.settimeout(timeout)
        wire.connect(address[5:])
        return wire
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout)


class Connection(http.client.HTTPConnection):
    """The library's connection, over TCP or a unix socket."""

    def __init__(self, address, timeout):
        super().__init__("localhost" if address.startswith("unix:") else address, timeout=timeout)
        self.address = address

    def connect(self):
        self.sock = connect(self.address, self.timeout)
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def request(address, method, path, body=None, headers=None, token="", timeout=30, connection=None):
    """One request; raises OSError or HTTPException where there is no whole answer."""
    wire = connection or Connection(address, timeout)
    head = dict(headers or {})
    if token:
        head.setdefault("Authorization", f"Bearer {token}")
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    if body is not None:
        head.setdefault("Content-Type", "application/json")
    try:
        wire.request(method, path, body=body, headers=head)
        answer = wire.getresponse()
        content = answer.read()
    finally:
        if connection is None:
            wire.close()
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)


def raw(address, data, timeout=5, enough=None):
    """Sends bytes as they are; gives what comes back until the other side closes or falls silent, or until `enough`."""
    wire = connect(address, timeout)
    out = b""
    with contextlib.closing(wire), contextlib.suppress(OSError):
        with contextlib.suppress(ConnectionError):
            wire.sendall(data)
        while not (enough and enough in out):
            piece = wire.recv(65536)
            if not piece:
                break
            out += piece
    return out


def statuses(answer):
    """The statuses of all answers in these bytes."""
    found, rest = [], answer
    while (at := rest.find(b"HTTP/1.1 ")) >= 0:
        found.append(int(rest[at + 9 : at + 12]))
        rest = rest[at + 12 :]
    return found


class Stream:
    """A stream of events, read as the standard says: whole frames only."""

    def __init__(self, address, path, after, token, timeout):
        wire = connect(address, timeout)
        host = "localhost" if address.startswith("unix:") else address
        cursor = "" if after is None else f"Last-Event-ID: {after}\r\n"
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n"
        wire.sendall(f"{head}{cursor}\r\n".encode())
        self.open(wire)

    def open(self, wire):
        """Reads the answer's head."""
        self.wire = wire
        self.file = self.wire.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while line := self.file.readline().strip():
            name, value = line.decode().split(":", 1)
            self.headers[name.strip().lower()] = value.strip()
        self.chunked = self.headers.get("transfer-encoding") == "chunked"
        self.buffer = b""

    def pieces(self):
        """The body as it comes; ends where the connection does, whole or cut."""
        while True:
            try:
                if self.chunked:
                    size = int(self.file.readline().strip() or b"0", 16)
                    if size == 0:
                        return
                    piece = self.file.read(size)
                    if len(piece) < size or self.file.readline() != b"\r\n":
                        yield piece
                        return
                else:
                    piece = self.file.read1(65536)
                    if not piece:
                        return
                yield piece
            except (OSError, ValueError):
                return

    def frames(self):
        """Whole frames as (id, event, data as bytes); comments come as (None, None, text)."""
        for piece in self.pieces():
            self.buffer += piece
            while b"\n\n" in self.buffer:
                frame, self.buffer = self.buffer.split(b"\n\n", 1)
                lines = frame.split(b"\n")
                if lines[0].startswith(b":"):
                    yield None, None, frame
                    continue
                fields = [line.split(b": ", 1) for line in lines]
                position = next((int(value) for name, value in fields if name == b"id"), None)
                event = next((value.decode() for name, value in fields if name == b"event"), None)
                yield position, event, b"\n".join(value for name, value in fields if name == b"data")

    def events(self):
        return (frame for frame in self.frames() if frame[1] is not None)

    def close(self):
        with contextlib.suppress(OSError):
            self.wire.shutdown(socket.SHUT_RDWR)
        self.file.close()
        self.wire.close()


class Threads:
    """Threads whose first failure becomes the proof's."""

    def __init__(self):
        self.threads, self.faults, self.stopping = [], [], threading.Event()

    def run(self, work, *arguments):
        def guarded():
            try:
                work(*arguments)
            except BaseException as fault:  # noqa: B902 - passed on to whoever joins
                self.faults.append(fault)

        thread = threading.Thread(target=guarded, daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self, seconds=60):
        self.stopping.set()
        deadline = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0, deadline - time.monotonic()))
            demand(not thread.is_alive(), f"a client hangs for {seconds} s")
        self.threads.clear()
        if self.faults:
            raise self.faults[0]


def tree(root, without=()):
    """Names, kinds, modes, sizes, contents of everything below a folder; some names left out."""
    found = {}
    for path in sorted(pathlib.Path(root).rglob("*")):
        name = str(path.relative_to(root))
        if name.split("/")[0] in without:
            continue
        kind = os.lstat(path)
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[name] = (kind.st_mode, kind.st_ino, kind.st_size, kind.st_mtime_ns, content)
    return found


def must_fail(what, work):
    """A negative control: this proof must fail on it."""
    try:
        work()
    except (Failed, OSError) as fault:
        print(f"  control: {what}: noticed ({str(fault).splitlines()[0][:140]})")
        return
    raise Failed(f"the control was not noticed: {what}")


def descendants(pid):
    """Process ids whose chain of parents leads to this one."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        grown = bool(more)
        found |= more
    return found - {pid}


def main(name, proofs):
    """Runs the proofs in order, each in a house of its own; tells what each proved; ends with its exit code."""
    began, skipped = time.monotonic(), 0
    for proof in proofs:
        house = House(name)
        try:
            words = proof(house)
            skipped += words.startswith("SKIPPED")
            print(f"  {words}" if words.startswith("SKIPPED") else f"  proved: {words}", flush=True)
        except (Failed, OSError, http.client.HTTPException) as fault:
            print(f"FAILED {name}: {proof.__name__}: {type(fault).__name__}: {fault}", flush=True)
            print(house.last_words(), file=sys.stderr)
            sys.exit(1)
        finally:
            house.end()
    left_out = f", {skipped} skipped" if skipped else ""
    print(f"{name}: {len(proofs) - skipped} proofs hold{left_out}, {time.monotonic() - began:.1f} s")
