"""A state root on a disk that fills up while the daemon works: refused with 507, readable, and healed without a restart."""

import errno
import http.server
import json
import os
import socket
import subprocess
import sys
import threading

import house as h

MEBIBYTES = 64
# A session of some 25 KiB, so that space is soon used up.
LARGE = {"title": "large", "metadata": {f"pad{number}": "p" * 900 for number in range(28)}}


class Upstream(http.server.ThreadingHTTPServer):
    """A provider that counts how often it is asked."""

    daemon_threads = True

    def __init__(self):
        self.asked = 0
        super().__init__(("127.0.0.1", 0), Reply)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Reply(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"choices": [{"message": {"content": "here"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Mounted:
    """A small file system of its own below the house."""

    def __init__(self, house, size=MEBIBYTES, options=""):
        self.path = house.path / "disk"
        self.path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=0700{options}", "chancery-e2e", self.path], capture_output=True, text=True
        )
        h.demand(done.returncode == 0, done.stderr)

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=False)


def fill(path, leave=0):
    """Takes all space but so many bytes."""
    # Unbuffered: a buffered file tries its rest once more when it is closed, and fails there.
    with open(path, "wb", buffering=0) as file:
        piece = b"x" * 65536
        try:
            while file.write(piece):
                pass
        except OSError as fault:
            h.demand(fault.errno == errno.ENOSPC, fault)
        if leave:
            file.truncate(max(0, os.path.getsize(path) - leave))


def refused(daemon):
    """Creates sessions until one is refused; gives what was acknowledged and the refusal."""
    made = []
    for _ in range(200_000):
        answer = daemon.post("/v1/sessions", LARGE)
        if answer.status != 201:
            return made, answer
        made.append(answer.json()["session_id"])
    raise h.Failed("a full disk refuses nothing")


def demand_full(answer):
    found = answer.status, answer.code()
    h.demand(found == (507, "storage.full"), f"a full disk gives {answer}")
    h.demand(answer.headers.get("retry-after"), "507 without Retry-After")
    problem = answer.json()
    h.demand(problem["surely_no_effect"] is True and problem["next"], f"the refusal does not explain itself: {problem}")


def called(daemon):
    """What a client of the gateway is told: status and code."""
    answer = daemon.post("/v1/chat/completions", {"model": "far/m", "messages": [{"role": "user", "content": "hi"}]})
    return answer.status, answer.json().get("error", {}).get("code")


def space(house):
    upstream = Upstream()
    (house.path / "routes.toml").write_text(
        'version = 1\n[routes.far]\ndriver = "openai"\ndefault_model = "m"\n'
        f'base_url = "http://127.0.0.1:{upstream.server_address[1]}/v1"\n'
    )
    with Mounted(house) as disk:
        state, ballast = disk / "state", disk / "ballast"
        daemon = house.start(state=state)
        session, seen, reading = daemon.create("before"), [], h.Threads()
        stream = daemon.stream()
        reading.run(lambda: seen.extend(data for _, _, data in stream.events()))
        made, rounds = [session], 0
        for leave in (0, 4096, 1 << 20):
            fill(ballast, leave)
            # What was written ahead is used up first; then comes the refusal.
            more, answer = refused(daemon)
            made += more
            demand_full(answer)
            size = daemon.head()["size"]
            for _ in range(20):
                demand_full(daemon.post("/v1/sessions", {}))
            found = called(daemon), upstream.asked
            h.demand(found == ((507, "storage.full"), rounds), f"on a full disk a model's call is told {found}")
            h.demand(daemon.head()["size"] == size, "a refusal left a record")
            for path in (f"/v1/sessions/{session}", "/v1/sessions", "/v1/status", "/v1/journal/head", "/metrics", "/healthz"):
                h.demand(daemon.get(path).status == 200, f"on a full disk {path} gives {daemon.get(path)}")
            h.demand(not daemon.get("/v1/status").json()["health"]["ok"], "status calls a full disk healthy")
            h.demand(daemon.get(f"/v1/journal/proof?seq={size - 1}").status == 200, "no receipt on a full disk")
            ballast.unlink()
            answer = h.until(5, "it takes work again", lambda: works(daemon))
            made.append(answer.json()["session_id"])
            rounds += 1
            found = called(daemon), upstream.asked
            h.demand(found == ((200, None), rounds), f"with space a model's call is told {found}")
        h.until(10, "the stream shows the last", lambda: made[-1].encode() in b"".join(seen))
        shown = b"".join(seen)
        h.demand(all(name.encode() in shown for name in made[1:]), "a stream missed something")
        # Killed while full: the next start neither loses nor invents.
        fill(ballast)
        more, answer = refused(daemon)
        made += more
        daemon.kill()
        reading.join()
        # What the kill freed is taken too.
        fill(disk / "more")
        daemon = start_full(house, state)
        h.demand(daemon.get(f"/v1/sessions/{session}").status == 200, "a start on a full disk serves no reads")
        demand_full(daemon.post("/v1/sessions", {}))
        h.demand(daemon.get("/readyz").code() == "storage.full", "a start on a full disk calls itself ready")
        for ballasted in (ballast, disk / "more"):
            ballasted.unlink()
        h.until(10, "it takes work again", lambda: works(daemon))
        text = b"".join(daemon.records())
        lost = [name for name in made if name.encode() not in text]
        h.demand(not lost, f"{len(lost)} acknowledged sessions are gone")
        h.demand(daemon.stop()[0] == 0, "no drain")
        house.demand_valid(state)
        # A drain on a full disk keeps what was acknowledged.
        daemon = house.start(state=state)
        last = daemon.create("before the drain")
        fill(ballast)
        code, seconds = daemon.stop()
        h.demand(seconds < 10, f"a drain on a full disk takes {seconds:.1f} s")
        ballast.unlink()
        daemon = house.start(state=state)
        h.demand(daemon.get(f"/v1/sessions/{last}").status == 200, "an acknowledged session is gone after the drain")
        daemon.stop()
        house.demand_valid(state)
    return (
        f"{rounds} times full and free again: 507 storage.full, no provider is asked, reads go on, work is taken again without a restart, all "
        f"{len(made)} acknowledged sessions are there; after a kill a start on the full disk serves reads and takes work once there is space; a drain on it exits {code}"
    )


def start_full(house, state):
    """Starts a daemon that may not be able to say where it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with open(house.path / "log", "ab") as log:
        process = house.launch(house.arguments(state=state, bind=address), stderr=log)

    def answers():
        h.demand(process.poll() is None, f"the daemon ended with {process.returncode}:\n{house.last_words()}")
        try:
            h.connect(address).close()
        except OSError:
            return None
        return True

    h.until(20, "it answers on a full disk", answers)
    return h.Daemon(process, address, state)


def works(daemon):
    answer = daemon.post("/v1/sessions", {"title": "again"})
    return answer if answer.status == 201 else None


def control(house):
    with Mounted(house) as disk:
        daemon = house.start(state=disk / "state")
        h.must_fail("a disk with room", lambda: demand_full(daemon.post("/v1/sessions", {})))
        daemon.kill()
    return "a daemon that acknowledges would not pass for one that refuses"


def can_mount(house):
    try:
        with Mounted(house):
            return True
    except (h.Failed, OSError) as fault:
        print(f"full_disk: SKIPPED, nothing can be mounted here: {str(fault).strip()[:120]}")
        return False


def possible():
    house = h.House("full_disk")
    try:
        return can_mount(house)
    finally:
        house.end()


if __name__ == "__main__":
    if not possible():
        sys.exit(0)
    h.main("full_disk", [control, space])
