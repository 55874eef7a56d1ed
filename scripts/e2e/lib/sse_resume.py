"""Streams that are cut by kills, drains and clients, and go on with Last-Event-ID: no gap, no duplicate, the same bytes."""

import http.client
import json
import os
import random
import shutil
import subprocess
import threading
import time

import house as h

def wanted(daemon, session=None):
    """What a stream over everything must have shown, as (seq, line)."""
    found = []
    for line in daemon.records():
        record = json.loads(line)
        if "seal" in record:
            continue
        if session and record["stream"] != f"session/{session}":
            continue
        found.append((record["seq"], line))
    return found


class Follower:
    """A client that follows a stream over cuts. It keeps what it got, and where it was cut."""

    def __init__(self, name, place, careful=True, cut_after=None, path="/v1/events/stream"):
        self.name, self.place, self.careful, self.cut_after, self.path = name, place, careful, cut_after, path
        self.got, self.cuts, self.stopping = [], 0, threading.Event()

    def run(self):
        last = 0
        while not self.stopping.is_set():
            address, token = self.place()
            try:
                cursor = last if self.careful or not self.got else None
                stream = h.Stream(address, self.path, cursor, token, timeout=2)
            except (OSError, IndexError, ValueError):
                time.sleep(0.02)
                continue
            if stream.status != 200:
                stream.close()
                h.demand(stream.status in (503, 401), f"{self.name}: the stream answers {stream.status}")
                time.sleep(0.05)
                continue
            since = 0
            for position, _, data in stream.events():
                self.got.append((position, data))
                last, since = position, since + 1
                if self.stopping.is_set() or (self.cut_after and since >= self.cut_after):
                    break
            self.cuts += 1
            stream.close()


def check(got, want, who):
    """Exactly these, in this order, with these bytes."""
    positions = [position for position, _ in got]
    h.demand(len(set(positions)) == len(positions), f"{who} saw an event twice")
    h.demand(positions == sorted(positions), f"{who} saw events out of order")
    missing = [position for position, _ in want if position not in set(positions)]
    h.demand(not missing, f"{who} has a gap: {len(missing)} events, the first at {missing[:1]}")
    h.demand(got == want, f"{who} saw other bytes than the journal holds")


def load(daemon, stopping):
    wire = h.Connection(daemon.address, 5)
    number = 0
    while not stopping.is_set():
        number += 1
        title = f"event {number} \u2028 id: 9"
        try:
            h.request(daemon.address, "POST", "/v1/sessions", {"title": title}, None, daemon.token, connection=wire)
        except (OSError, http.client.HTTPException):
            return
        time.sleep(0.002)


def restarts(house, followers, rounds=8):
    """Load and restarts, by kill and by drain in turn, on one port so that clients find the daemon again."""
    daemon = house.start()
    port, place = daemon.address, [daemon.address, daemon.token]
    threads = h.Threads()
    crowd = followers(lambda: tuple(place))
    for follower in crowd:
        threads.run(follower.run)
    for round_ in range(rounds):
        stopping, pressing = threading.Event(), h.Threads()
        for _ in range(2):
            pressing.run(load, daemon, stopping)
        time.sleep(0.3 + random.random() * 0.2)
        if round_ % 2:
            daemon.kill()
        else:
            code, took = daemon.stop()
            h.demand(code == 0, f"a drain under load ends with {code}")
            h.demand(took < 10, f"a drain under load takes {took:.1f} s")
        stopping.set()
        pressing.join()
        daemon = house.start(bind=port)
    last = daemon.head()["size"]
    deadline = time.monotonic() + 20
    want = wanted(daemon)
    while time.monotonic() < deadline and any(f.careful and len(f.got) < len(want) for f in crowd):
        time.sleep(0.1)
    for follower in crowd:
        follower.stopping.set()
    daemon.create("the last event, so that every stream wakes up")
    threads.join(30)
    want = [item for item in wanted(daemon) if item[0] <= last]
    return daemon, crowd, want


def trimmed(follower, want):
    return [item for item in follower.got if item[0] <= want[-1][0]]


def resume(house):
    def followers(place):
        cuts = [None, None, 1, 2, 7, 50, 256, 257, 1000]
        return [Follower(f"client {number} (cut after {cut})", place, cut_after=cut) for number, cut in enumerate(cuts)]

    daemon, crowd, want = restarts(house, followers)
    for follower in crowd:
        # A cursor of 0 asks for what comes after the first line.
        check(trimmed(follower, want), [item for item in want if item[0] > 0], follower.name)
    cuts = sum(follower.cuts for follower in crowd)
    daemon.stop()
    house.demand_valid()
    return f"{len(crowd)} clients over 8 restarts and {cuts} cuts each saw the same {len(want) - 1} events, once, in order, byte for byte"


def control(house):
    daemon, crowd, want = restarts(house, lambda place: [Follower("a client without Last-Event-ID", place, careful=False)], 3)
    want = [item for item in want if item[0] > 0]
    h.must_fail("a client that does not send Last-Event-ID", lambda: check(trimmed(crowd[0], want), want, crowd[0].name))
    h.must_fail("an event counted twice", lambda: check(want[:3] + want[2:], want, "a checker's test"))
    h.must_fail("a changed byte", lambda: check([(want[0][0], want[0][1] + b" "), *want[1:]], want, "a checker's test"))
    return "gaps, duplicates and changed bytes would have been noticed"


def every_byte(house):
    """A client that is cut after every number of bytes, and goes on from the last whole frame."""
    daemon = house.start()
    for number in range(3):
        daemon.create(f"s{number} \r\n\n: x")
    want = [item for item in wanted(daemon) if item[0] > 0]
    whole = b"".join(
        piece for piece in take(daemon.stream(after=0), want[-1][0])
    )
    points = 0
    for cut in range(0, len(whole), max(1, len(whole) // 300)):
        seen, frames = whole[:cut], []
        for frame in seen.split(b"\n\n")[:-1]:
            if frame.startswith(b"id: "):
                frames.append(int(frame.split(b"\n")[0][4:]))
        last = frames[-1] if frames else 0
        rest = b"".join(take(daemon.stream(after=last), want[-1][0])) if last < want[-1][0] else b""
        behind = whole.find(f"id: {last}\n".encode())
        following = whole[whole.find(b"\n\n", behind) + 2 :] if frames else whole[whole.find(b"id: ") :]
        rest = rest[rest.find(b"id: ") :] if b"id: " in rest else b""
        h.demand(rest == following, f"cut at byte {cut}: other bytes come after {last}")
        points += 1
    for cursor, status in ((10**9, 409), ("x", 400), ("-1", 400), (2**64, 400), ("01", 400), ("9" * 4000, 400)):
        stream = daemon.stream(after=cursor)
        h.demand(stream.status == status, f"the cursor {str(cursor)[:20]} gives {stream.status}")
        stream.close()
    stream = daemon.stream("/v1/events/stream?cursor_errors=in_stream", after=10**9)
    event = next(stream.events())
    h.demand(event[1] == "reset" and b"cursor.ahead" in event[2], f"no reset is told in the stream: {event}")
    return f"a stream cut at {points} places inside its bytes goes on with the very same bytes; wrong cursors are refused"


def take(stream, last):
    """The bytes of a stream up to and with this event."""
    out = b""
    for piece in stream.pieces():
        out += piece
        at = out.find(f"id: {last}\n".encode())
        if at >= 0 and (end := out.find(b"\n\n", at)) >= 0:
            stream.close()
            return [out[: end + 2]]
    raise h.Failed(f"the stream ends before {last}")


NODE = """
const { EventSource } = require('eventsource');
const [address, token] = process.argv.slice(2);
const seen = [];
const source = new EventSource(`http://${address}/v1/events/stream?after=0`, {
  fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
});
let dropped = 0;
source.onerror = () => { dropped += 1; };
const take = (event) => { seen.push([Number(event.lastEventId), event.data]); };
for (const kind of ['session.created', 'daemon.started', 'daemon.stopped', 'context.set', 'message']) source.addEventListener(kind, take);
process.stdin.on('data', () => { source.close(); process.stdout.write(JSON.stringify({ seen, dropped })); process.exit(0); });
"""


def browser(house):
    """The client that browsers have, from npm; skipped where npm is not at hand."""
    if not os.environ.get("CHANCERY_E2E_FULL") or not shutil.which("npm"):
        return "SKIPPED, only in the full run and with npm: a browser's EventSource was not tried"
    folder = house.path / "node"
    folder.mkdir()
    (folder / "package.json").write_text('{"private":true}')
    try:
        done = subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "eventsource@4"],
            cwd=folder, capture_output=True, text=True, timeout=60,
        )
    except subprocess.TimeoutExpired:
        return "SKIPPED, npm does not answer: a browser's EventSource was not tried"
    if done.returncode:
        return "SKIPPED, npm could not install eventsource: a browser's EventSource was not tried"
    (folder / "client.js").write_text(NODE)
    daemon = house.start()
    client = subprocess.Popen(
        ["node", "client.js", daemon.address, daemon.token], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    house.begun.append(client)
    for round_ in range(3):
        # The client waits for three seconds before it comes back.
        time.sleep(3.6 if round_ else 1)
        for number in range(20):
            daemon.create(f"round {round_}, {number}")
        daemon.kill() if round_ % 2 else daemon.stop()
        daemon = house.start(bind=daemon.address)
    time.sleep(4)
    daemon.create("after the last restart")
    time.sleep(0.5)
    out, _ = client.communicate(b"x", timeout=20)
    said = json.loads(out)
    kinds = {"session.created", "daemon.started", "daemon.stopped", "context.set"}
    want = [(seq, line) for seq, line in wanted(daemon) if seq > 0 and json.loads(line)["kind"] in kinds]
    check([(position, data.encode()) for position, data in said["seen"]], want, "a browser's EventSource")
    h.demand(said["dropped"] >= 3, f"the restarts were not noticed by the client: {said['dropped']}")
    return f"a browser's EventSource reconnects by itself over 3 restarts and has all {len(want)} events"


h.main("sse_resume", [control, resume, every_byte, browser])
