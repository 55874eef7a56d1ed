"""Unkind clients, unkind machines and unkind signals: what each must get, and that the others do not notice."""

import contextlib
import http.client
import os
import random
import resource
import signal
import socket
import subprocess
import time

import house as h

TOOL = ('{ call = "bash", input = { command = "sleep 987 & (sleep 988 &) ; sleep 989" } }', '{ text = "done" }')


def working(house, more=()):
    """A daemon in which an approved shell command runs and has children of its own."""
    house.rehearse(*TOOL)
    daemon = house.start(*more)
    session = daemon.create()
    run = daemon.post(f"/v1/sessions/{session}/runs", {"content": "go"}).json()["run_id"]

    def waiting():
        view = daemon.get(f"/v1/runs/{run}").json()
        h.demand(view["status"] not in ("failed", "completed"), f"the run does not ask: {view}")
        return view if view["status"] == "waiting_for_approval" else None

    view = h.until(20, "the run asks", waiting)
    approval = daemon.get(f"/v1/approvals/{view['approval_id']}").json()
    body = {"decision": "allow", "call_hash": approval["call_hash"], "card_hash": approval["card_hash"]}
    h.demand(daemon.post(f"/v1/approvals/{view['approval_id']}/decision", body).status == 200, "not allowed")
    h.until(10, "the command's children run", lambda: len(sleepers()) >= 3)
    return daemon, run


def sleepers():
    """Processes that this proof's command started, wherever they hang in the tree."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                words = open(f"/proc/{entry}/cmdline", "rb").read().split(b"\0")
                if words[0].endswith(b"sleep") and words[1:2] and words[1] in (b"987", b"988", b"989"):
                    found.append(int(entry))
    return found


def tools(house):
    """A daemon that is killed while a command runs leaves no process behind; nor does one that drains."""
    h.demand(not sleepers(), "such processes are there before")
    daemon, run = working(house)
    family = h.descendants(daemon.process.pid)
    daemon.kill()
    began = time.monotonic()
    h.until(5, f"the command's processes are gone after kill -9: {sleepers()}", lambda: not sleepers())
    took = time.monotonic() - began
    # Who watched over them ends once they are gone.
    alive = lambda: [pid for pid in family if os.path.exists(f"/proc/{pid}") and not zombie(pid)]
    h.until(5, f"the watcher is gone as well: {alive()}", lambda: not alive())
    daemon = house.start()
    view = h.until(20, "the run ends", lambda: ended(daemon, run))
    h.demand(view["status"] == "interrupted", f"after the kill the run is {view['status']}")
    h.demand(b"outcome_unknown" in b"".join(daemon.records()), "the call's outcome is not named unknown")
    daemon.stop()
    daemon, run = working(house)
    code, seconds = daemon.stop()
    h.demand(code == 0 and seconds < 10, f"a drain with a running command: exit {code} after {seconds:.1f} s")
    h.until(2, "the command's processes are gone after a drain", lambda: not sleepers())
    house.demand_valid()
    return f"after kill -9 all processes of a running command are gone within {took:.2f} s and its outcome is called unknown; a drain ends them in {seconds:.1f} s"


def zombie(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def ended(daemon, run):
    view = daemon.get(f"/v1/runs/{run}").json()
    return view if view["status"] in ("interrupted", "completed", "failed", "cancelled") else None


def drains(house):
    """SIGTERM: at once when idle, with open streams and idle connections, and under load nothing acknowledged is lost."""
    daemon = house.start()
    streams = [daemon.stream() for _ in range(5)]
    idle = [daemon.connect() for _ in range(20)]
    partly = daemon.connect()
    partly.sendall(b"GET /v1/status HTTP/1.1\r\nHo")
    daemon.create()
    code, seconds = daemon.stop()
    h.demand(code == 0 and seconds < 2, f"with nothing running: exit {code} after {seconds:.2f} s")
    for stream in streams:
        ending = [data for _, kind, data in stream.frames() if kind is None]
        h.demand(ending[-1] == b": the daemon is stopping", f"a stream ends with {ending[-1:]}")
    for wire in [*idle, partly]:
        wire.close()
    made, threads, slowest = [], h.Threads(), 0.0
    for round_ in range(4):
        daemon, threads = house.start(), h.Threads()

        def write(daemon=daemon):
            wire = h.Connection(daemon.address, 10)
            with contextlib.suppress(OSError, http.client.HTTPException):
                while True:
                    answer = h.request(daemon.address, "POST", "/v1/sessions", {}, None, daemon.token, connection=wire)
                    h.demand(answer.status in (201, 503), f"during a drain: {answer}")
                    if answer.status == 201:
                        made.append(answer.json()["session_id"])

        for _ in range(4):
            threads.run(write)
        time.sleep(0.3)
        code, took = daemon.stop()
        threads.join()
        h.demand(code == 0, f"a drain under load ends with {code}")
        slowest = max(slowest, took)
    h.demand(slowest < 3, f"a drain under load takes {slowest:.2f} s")
    daemon = house.start()
    text = b"".join(daemon.records())
    lost = [name for name in made if name.encode() not in text]
    h.demand(made and not lost, f"{len(lost)} acknowledged sessions are gone after drains")
    daemon.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    h.demand(daemon.process.poll() is None, "a terminal that goes away ends the daemon")
    h.demand(daemon.stop()[0] == 0, "a drain after SIGHUP ends badly")
    # A second signal cuts the drain short; the command's processes end all the same.
    daemon, run = working(house)
    name = daemon.create()
    daemon.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    h.demand(daemon.process.poll() is None, "the drain was over before the second signal")
    again = daemon.stop(2)[1]
    h.until(2, "the command's processes are gone", lambda: not sleepers())
    daemon = house.start()
    h.demand(daemon.get(f"/v1/sessions/{name}").status == 200, "a session is gone after a drain that was cut short")
    h.until(20, "the run ends", lambda: ended(daemon, run))
    daemon.stop()
    house.demand_valid()
    return (
        f"idle with open streams: {seconds:.2f} s; under load: {slowest:.2f} s, all {len(made)} acknowledged sessions are "
        f"there; SIGHUP changes nothing; a second signal ends at once ({again:.2f} s)"
    )


def latency(daemon, count=60):
    """The slowest of some requests of a kind client."""
    slowest = 0.0
    for _ in range(count):
        began = time.monotonic()
        daemon.create()
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def crowd(house):
    """2,000 idle connections, 200 readers that never read, slow bodies: all bounded, and a kind client is served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    daemon = house.start()
    calm = latency(daemon)
    idle = [daemon.connect() for _ in range(2000)]
    with_idle = latency(daemon)
    slow = []
    for _ in range(60):
        wire = daemon.connect()
        wire.sendall(
            f"POST /v1/sessions HTTP/1.1\r\nHost: {daemon.address}\r\nAuthorization: Bearer {daemon.token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{".encode()
        )
        slow.append(wire)
    stuck = []
    for _ in range(200):
        wire = socket.socket()
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        host, port = daemon.address.split(":")
        wire.connect((host, int(port)))
        wire.sendall(
            f"GET /v1/events/stream?after=0 HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {daemon.token}\r\n\r\n".encode()
        )
        stuck.append(wire)
    before = memory(daemon)
    threads = h.Threads()
    titles = "t" * 180

    def press():
        wire = h.Connection(daemon.address, 20)
        while not threads.stopping.is_set():
            h.request(daemon.address, "POST", "/v1/sessions", {"title": titles}, None, daemon.token, connection=wire)

    for _ in range(3):
        threads.run(press)
    time.sleep(4)
    threads.join()
    worst = latency(daemon)
    grown = memory(daemon) - before
    h.demand(worst < 1.0, f"a kind client waits for {worst:.2f} s")
    h.demand(grown < 300 << 20, f"memory grows by {grown >> 20} MiB")
    began = time.monotonic()
    codes = [(h.statuses(drain(wire, 15)) or [None])[0] for wire in slow[:5]]
    h.demand(set(codes) == {408}, f"slow bodies get {codes}")
    ends = time.monotonic() - began
    for wire in [*idle, *slow, *stuck]:
        wire.close()
    h.until(10, "the connections are forgotten", lambda: descriptors(daemon) < 60)
    code, seconds = daemon.stop()
    h.demand(code == 0 and seconds < 3, f"a drain afterwards: exit {code}, {seconds:.1f} s")
    house.demand_valid()
    return (
        f"slowest write of a kind client {calm * 1e3:.0f} ms alone, {with_idle * 1e3:.0f} ms beside 2,000 idle connections, "
        f"{worst * 1e3:.0f} ms beside 200 readers that never read and 60 slow bodies (408 after {ends:.0f} s more); "
        f"memory grows by {grown >> 20} MiB"
    )


def drain(wire, seconds):
    wire.settimeout(seconds)
    out = b""
    with contextlib.suppress(OSError):
        while piece := wire.recv(65536):
            out += piece
    return out


def memory(daemon):
    for line in open(f"/proc/{daemon.process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    return 0


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def frozen(house):
    """A client that is stopped in the middle of everything, and goes on later."""
    daemon = house.start()
    client = subprocess.Popen(
        ["python3", "-c", """
import http.client, sys
address, token = sys.argv[1:]
wire = http.client.HTTPConnection(address, timeout=60)
print('ready', flush=True)
while True:
    wire.request('POST', '/v1/sessions', '{}', {'Authorization': 'Bearer ' + token, 'Content-Type': 'application/json'})
    answer = wire.getresponse(); answer.read()
    print(answer.status, flush=True)
""", daemon.address, daemon.token],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    house.begun.append(client)
    client.stdout.readline()
    for _ in range(5):
        time.sleep(0.2)
        client.send_signal(signal.SIGSTOP)
        h.demand(latency(daemon, 30) < 1.0, "a stopped client makes others wait")
        client.send_signal(signal.SIGCONT)
    client.kill()
    h.demand(all(line.strip() == "201" for line in client.stdout), "a stopped client gets something strange")
    # The daemon itself is stopped and goes on: the wall clock jumped for it, nothing else happened.
    daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(2)
    daemon.process.send_signal(signal.SIGCONT)
    h.demand(latency(daemon, 20) < 1.0 and daemon.get("/readyz", token="").status == 200, "a stopped daemon does not go on")
    h.demand(daemon.stop()[0] == 0, "no drain")
    return "a client that is stopped in the middle of requests makes nobody wait; a daemon that was stopped goes on"


def deaf(house):
    """Standard error that nobody reads, is closed, or breaks: no wait, no end."""
    for name in ("full", "broken", "closed"):
        reading, writing = os.pipe()
        environment = {"CHANCERY_LOG": "trace"} if name != "closed" else {}
        if name == "closed":
            command = ["sh", "-c", 'exec "$0" "$@" 2>&- >&- <&-', *house.arguments()]
            process = house.launch(command, environment=environment)
        else:
            process = house.launch(house.arguments(), stderr=writing, environment=environment)
        os.close(writing)
        if name == "broken":
            os.close(reading)
        said = h.until(20, f"{name}: it serves", lambda: served(house, process))
        daemon = h.Daemon(process, said["address"], house.state)
        for number in range(600):
            answer = daemon.request("GET", f"/nowhere/{'x' * 2000}", token="chy_x", timeout=5)
            h.demand(answer.status in (401, 429), f"{name}: request {number} gives {answer}")
        h.demand(latency(daemon, 20) < 1.0, f"{name}: a write waits for the log")
        code, seconds = daemon.stop()
        h.demand(code == 0 and seconds < 4, f"{name}: exit {code} after {seconds:.1f} s")
        if name == "full":
            # A refusal at start that cannot be told ends the process all the same.
            first = house.start(bind="127.0.0.1:0")
            blocked, held = os.pipe()
            with contextlib.suppress(BlockingIOError):
                os.set_blocking(held, False)
                while True:
                    os.write(held, b"x" * 65536)
            os.set_blocking(held, True)
            second = house.launch(house.arguments(), stderr=held)
            h.demand(second.wait(5) == 1, f"a refusal into a full pipe ends {second.returncode}")
            os.close(blocked)
            os.close(held)
            first.stop()
        if name != "broken":
            os.close(reading)
    house.demand_valid()
    return "a standard error that is full, broken or closed stops neither service nor drain nor a refusal"


def served(house, process):
    h.demand(process.poll() is None, f"it ends with {process.returncode}")
    with contextlib.suppress(OSError, ValueError, KeyError):
        import json

        said = json.loads((house.state / "daemon.json").read_text())
        return said if said["pid"] == process.pid else None


def scarce(house):
    """64 descriptors: connections wait or are turned away, the journal does not care."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))  # noqa: E731
    daemon = house.start(preexec_fn=limit)
    daemon.create()
    crowd_ = []
    for _ in range(150):
        with contextlib.suppress(OSError):
            crowd_.append(daemon.connect(2))
    time.sleep(1)
    before = cpu(daemon)
    time.sleep(2)
    spun = cpu(daemon) - before
    h.demand(spun < 1.0, f"with no descriptors left it spins: {spun:.2f} s of processor in 2 s")
    h.demand(daemon.process.poll() is None, "it ended")
    for wire in crowd_:
        wire.close()
    h.until(20, "it accepts again", lambda: reachable(daemon))
    made = [daemon.create() for _ in range(20)]
    h.demand(daemon.get("/v1/status").json()["storage"]["probes"][0]["ok"], "the journal took harm")
    h.demand(daemon.stop()[0] == 0, "no drain")
    daemon = house.start()
    h.demand(all(name.encode() in b"".join(daemon.records()) for name in made), "something is gone")
    daemon.stop()
    house.demand_valid()
    return f"with 64 descriptors and 150 connections it spins not ({spun:.2f} s of processor in 2 s), and serves again once they are gone"


def reachable(daemon):
    try:
        return daemon.request("GET", "/v1/status", timeout=3).status == 200
    except (OSError, http.client.HTTPException):
        return False


def cpu(daemon):
    fields = open(f"/proc/{daemon.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_starts(house):
    """Killed at any moment of the very first start: the next one makes what is missing."""
    chance = random.Random(3)
    rounds = 60
    for number in range(rounds):
        state = house.path / f"s{number}"
        process = house.launch(house.arguments(state=state))
        time.sleep(chance.random() * 0.25)
        process.kill()
        process.wait()
        if number % 2:
            process = house.launch(house.arguments(state=state))
            time.sleep(chance.random() * 0.2)
            process.kill()
            process.wait()
        daemon = house.start(state=state)
        daemon.create()
        code, _ = daemon.stop()
        h.demand(code == 0, f"round {number}: exit {code}")
        house.demand_valid(state)
        loose = [str(path) for path in state.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
        h.demand(not loose, f"others may read {loose}")
        strange = [path.name for path in state.rglob("*") if path.name.endswith((".tmp", ".new"))]
        h.demand(not strange, f"left behind: {strange}")
    return f"{rounds} state roots whose first start was killed at a random moment start the next time, and verify"


def control(house):
    daemon = house.start()
    h.must_fail("a process that is left behind", lambda: left(daemon))
    h.must_fail("a daemon that is stopped", lambda: slow(daemon))
    return "a process left behind and a daemon that does not answer would have been noticed"


def left(daemon):
    process = subprocess.Popen(["sleep", "987"])
    try:
        h.until(10, "the process shows", sleepers)
        h.until(0.3, "the command's processes are gone", lambda: not sleepers())
    finally:
        process.kill()
        process.wait()


def slow(daemon):
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        daemon.request("GET", "/v1/status", timeout=1)
    except OSError as fault:
        raise h.Failed(f"no answer: {fault}") from fault
    finally:
        daemon.process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    h.main("stress", [control, tools, drains, frozen, deaf, scarce, first_starts, crowd])
