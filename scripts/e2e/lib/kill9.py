"""Kills a daemon under load again and again and looks for every id that it acknowledged."""

import contextlib
import http.client
import random
import shutil
import sys
import threading
import time

import house as h

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
CLIENTS = 4
TURNS = ('{ call = "read_file", input = { path = "notes.txt" } }', '{ text = "done" }')
ENDS = {"completed", "failed", "interrupted", "cancelled"}


class Acknowledged:
    """What the daemon said it had done."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sessions, self.runs, self.keys = [], [], {}
        self.unanswered = set()

    def count(self):
        return len(self.sessions) + len(self.runs)


def client(daemon, number, said, stopping):
    """Creates sessions until the daemon is gone; the first starts runs in them, the second sends idempotency keys."""
    wire = h.Connection(daemon.address, 10)
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        while not stopping.is_set():
            key = f"key-{random.getrandbits(64):016x}" if number == 1 else None
            headers = {"Idempotency-Key": key} if key else None
            if key:
                with said.lock:
                    said.unanswered.add(key)
            answer = h.request(
                daemon.address, "POST", "/v1/sessions", {"title": key or "load"}, headers, daemon.token, connection=wire
            )
            h.demand(answer.status == 201, f"a session under load: {answer}")
            session = answer.json()["session_id"]
            with said.lock:
                said.sessions.append(session)
                if key:
                    said.keys[key] = session
                    said.unanswered.discard(key)
            if number == 0:
                path = f"/v1/sessions/{session}/runs"
                answer = h.request(
                    daemon.address, "POST", path, {"content": "go"}, None, daemon.token, connection=wire
                )
                h.demand(answer.status == 202, f"a run under load: {answer}")
                with said.lock:
                    said.runs.append(answer.json()["run_id"])
    wire.close()


class Journal:
    """Reads the journal's files as a stranger does, going on where it stopped."""

    def __init__(self, state):
        self.folder, self.at = state / "journal", {}

    def more(self):
        """The lines that stand behind what was read before."""
        text = b""
        for path in sorted(self.folder.glob("*.jsonl")):
            with open(path, "rb") as file:
                file.seek(self.at.get(path.name, 0))
                new = file.read().rstrip(b"\n\0")
            self.at[path.name] = self.at.get(path.name, 0) + max(0, new.rfind(b"\n") + 1)
            text += new + b"\n"
        return text


def check_answers(daemon, ids):
    """Every id is answered."""
    wire = h.Connection(daemon.address, 30)
    for identity in ids:
        kind = "runs" if identity.startswith("run_") else "sessions"
        answer = h.request(daemon.address, "GET", f"/v1/{kind}/{identity}", token=daemon.token, connection=wire)
        h.demand(answer.status == 200, f"{identity} was acknowledged and is gone: {answer}")
    wire.close()


def check_text(text, ids):
    """Every id stands in these lines of the journal."""
    for identity in ids:
        h.demand(identity.encode() in text, f"{identity} was acknowledged and is not in the journal")


def load(house, said, seconds):
    """One daemon, some clients, and a kill after so many seconds of answers."""
    daemon = house.start()
    before, threads, stopping = said.count(), h.Threads(), threading.Event()
    for number in range(CLIENTS):
        threads.run(client, daemon, number, said, stopping)
    h.until(20, "something is acknowledged", lambda: said.count() > before or threads.faults)
    time.sleep(seconds)
    daemon.kill()
    stopping.set()
    threads.join()


def repeat_unanswered(daemon, said):
    """A client that got no answer asks again with its key: the effect is there once, whether the kill came before or after."""
    for key in list(said.unanswered):
        for _ in range(2):
            answer = daemon.post("/v1/sessions", {"title": key}, headers={"Idempotency-Key": key})
            h.demand(answer.status == 201, f"a repeat is refused: {answer}")
            said.keys.setdefault(key, answer.json()["session_id"])
            h.demand(said.keys[key] == answer.json()["session_id"], f"{key} had two effects")
        said.sessions.append(said.keys[key])
        said.unanswered.discard(key)


def kills(house):
    house.rehearse(*TURNS)
    (house.work / "notes.txt").write_text("notes\n")
    said, journal, chance = Acknowledged(), Journal(house.state), random.Random(1)
    starts_cut = 0
    for round_ in range(KILLS):
        before = len(said.sessions), len(said.runs)
        load(house, said, 0.01 + chance.random() * 0.12)
        text = journal.more()
        check_text(text, said.sessions[before[0] :] + said.runs[before[1] :])
        if round_ % 4 == 3:
            # Killed again in the middle of the start that recovers.
            process = house.launch(house.arguments())
            time.sleep(chance.random() * 0.2)
            process.kill()
            process.wait()
            starts_cut += 1
        if round_ % 10 == 9:
            daemon = house.start()
            repeat_unanswered(daemon, said)
            recent = said.sessions[-400:] + said.runs[-100:]
            check_answers(daemon, recent)
            daemon.kill()
            house.demand_valid()
    daemon = house.start()
    repeat_unanswered(daemon, said)
    check_answers(daemon, said.sessions + said.runs)
    for run in said.runs:
        h.until(60, f"{run} ends", lambda run=run: daemon.get(f"/v1/runs/{run}").json()["status"] in ENDS)
    titles = b"".join(path.read_bytes() for path in sorted((house.state / "journal").glob("*.jsonl")))
    for key in said.keys:
        h.demand(titles.count(f'"title":"{key}"'.encode()) == 1, f"{key} stands in the journal other than once")
    h.demand(daemon.stop()[0] == 0, "the last daemon does not drain")
    words = house.demand_valid().splitlines()[0]
    return (
        f"after {KILLS} kills under load and {starts_cut} in the middle of a start, all {len(said.sessions)} sessions and "
        f"{len(said.runs)} runs that were acknowledged are there, {len(said.keys)} idempotency keys had one effect each, "
        f"and every run ended ({words})"
    )


def control(house):
    """An acknowledged id that is lost on purpose."""
    daemon = house.start()
    kept = [daemon.create()]
    daemon.stop()
    shutil.copytree(house.state, house.path / "older")
    daemon = house.start()
    lost = daemon.create()
    daemon.kill()
    check_text(Journal(house.state).more(), [*kept, lost])
    shutil.rmtree(house.state)
    shutil.copytree(house.path / "older", house.state)
    text = Journal(house.state).more()
    check_text(text, kept)
    h.must_fail("an older copy of the state root, read as text", lambda: check_text(text, [lost]))
    daemon = house.start()
    check_answers(daemon, kept)
    h.must_fail("an older copy of the state root, asked", lambda: check_answers(daemon, [lost]))
    return "a lost acknowledgement would have been noticed"


h.main("kill9", [control, kills])
