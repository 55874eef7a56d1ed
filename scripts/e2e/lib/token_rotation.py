"""Tokens that are replaced under load, in every way that operators and orchestrators replace files."""

import http.client
import os
import secrets
import threading
import time

import house as h

IN_FORCE_S = 2.0
STREAM_ENDS_S = 5.0


def fresh():
    return f"operators-own-{secrets.token_hex(16)}"


def put(path, content, mode=0o600):
    """Writes a file with this mode, in place."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    os.chmod(path, mode)


def by_rename(path, token):
    beside = path.with_suffix(".new")
    put(beside, token + "\n")
    os.rename(beside, path)


def in_place(path, token):
    """Truncates, writes half, waits, writes the rest: what an editor or `echo >` may look like."""
    with open(path, "wb", buffering=0) as file:
        time.sleep(0.1)
        file.write(token[:30].encode())
        time.sleep(0.3)
        file.write(token[30:].encode() + b"\n")


def by_link(path, token):
    """A symbolic link to a folder that is swapped, as orchestrators mount secrets."""
    data = path.parent.parent / f"data-{secrets.token_hex(4)}"
    data.mkdir()
    put(data / "token", token + "\n")
    link = path.with_suffix(".link")
    link.symlink_to(data / "token")
    os.rename(link, path)


WAYS = (by_rename, in_place, by_rename, by_link, by_rename)


class Load:
    """Clients of both roles that always use the newest token, and accept 401 only right around its change."""

    def __init__(self, daemon):
        self.daemon, self.threads = daemon, h.Threads()
        self.tokens = {"admin": daemon.token, "readonly": daemon.readonly}
        self.changed_at = {"admin": 0.0, "readonly": 0.0}
        self.answered = 0
        for role in ("admin", "readonly", "admin"):
            self.threads.run(self.press, role)

    def press(self, role):
        wire = h.Connection(self.daemon.address, 10)
        while not self.threads.stopping.is_set():
            token, began = self.tokens[role], time.monotonic()
            method, body, good = ("POST", {}, 201) if role == "admin" else ("GET", None, 200)
            try:
                answer = h.request(
                    self.daemon.address, method, "/v1/sessions", body, None, token, connection=wire
                )
            except (OSError, http.client.HTTPException) as fault:
                raise h.Failed(f"a connection breaks during a rotation: {fault}") from fault
            h.demand(answer.status < 500, f"a rotation gives {answer}")
            if answer.status != good:
                changing = began - self.changed_at[role] < IN_FORCE_S + 0.5 or self.tokens[role] != token
                h.demand(answer.status in (401, 429) and changing, f"a valid {role} token gives {answer}")
            self.answered += 1
            time.sleep(0.004)

    def expect(self, role, token):
        """From now on this token is the one in the file."""
        self.tokens[role], self.changed_at[role] = token, time.monotonic()


def status_of(daemon, token, role):
    return daemon.get("/v1/sessions", token=token).status


def ends_within(stream, seconds):
    """Whether the stream's connection ends in time."""
    began = time.monotonic()
    for _ in stream.frames():
        pass
    took = time.monotonic() - began
    h.demand(took < seconds, f"the stream of an old token is open for {took:.1f} s")
    return took


def rotate(house):
    daemon = house.start()
    load, slowest, streams = Load(daemon), 0.0, []
    for number, way in enumerate(WAYS * 2):
        role = ("admin", "readonly")[number % 2]
        path, old, new = daemon.state / f"tokens/{role}.token", load.tokens[role], fresh()
        stream = daemon.stream(token=old, timeout=STREAM_ENDS_S + 2)
        h.demand(stream.status == 200, f"the {role} token opens no stream: {stream.status}")
        watching = h.Threads()
        watching.run(lambda stream=stream: streams.append(ends_within(stream, STREAM_ENDS_S + 0.5)))
        load.expect(role, new)
        way(path, new)
        began = time.monotonic()
        h.until(IN_FORCE_S, f"the new {role} token works ({way.__name__})", lambda: status_of(daemon, new, role) == 200)
        slowest = max(slowest, time.monotonic() - began)
        h.demand(status_of(daemon, old, role) in (401, 429), f"the old {role} token still works")
        write = daemon.post("/v1/sessions", token=new).status
        h.demand(write == (201 if role == "admin" else 403), f"a {role} token writes: {write}")
        watching.join(STREAM_ENDS_S + 2)
        h.demand(not problems(daemon, load.tokens["admin"]), f"status warns: {problems(daemon, load.tokens['admin'])}")
    load.threads.join()
    journal = daemon.state / "journal/00000000000000000000.jsonl"
    text = journal.read_bytes() + b"".join(path.read_bytes() for path in house.path.glob("log"))
    for token in load.tokens.values():
        h.demand(token.encode() not in text, "a token stands in the journal or the log")
    changes = text.count(b'"kind":"control_plane.token_changed"') or text.count(b"token_changed")
    h.demand(changes >= len(WAYS) * 2, f"only {changes} changes are recorded")
    return (
        f"{len(WAYS) * 2} rotations under {load.answered} requests: no 5xx, the new token works within {slowest:.2f} s, the "
        f"old one does not, its stream ends within {max(streams):.1f} s, each change is a record without the token"
    )


def problems(daemon, token=None):
    """What status says about the token files."""
    warnings = daemon.get("/v1/status", token=token).json()["health"]["warnings"]
    return [warning["detail"] for warning in warnings if warning["code"] == "token_problem"]


def broken(house):
    daemon = house.start()
    admin, path = daemon.token, daemon.state / "tokens/admin.token"
    good = path.read_bytes()

    def gone():
        path.unlink()

    def folder():
        path.unlink(missing_ok=True)
        path.mkdir()

    def pipe():
        path.rmdir()
        os.mkfifo(path)

    def loose():
        path.unlink()
        put(path, fresh() + "\n", 0o644)

    faults = {
        "empty": lambda: put(path, b""),
        "a newline": lambda: put(path, b"\n"),
        "half": lambda: put(path, good[:12]),
        "not UTF-8": lambda: put(path, b"\xff\xfe" * 20),
        "NUL": lambda: put(path, b"\0" * 40),
        "two lines": lambda: put(path, fresh() + "\n" + fresh() + "\n"),
        "CRLF": lambda: put(path, fresh() + "\r\n"),
        "huge": lambda: put(path, b"a" * (4 << 20)),
        "a dangling link": lambda: (path.unlink(), path.symlink_to("nowhere")),
        "gone": gone,
        "a folder": folder,
        "a pipe": pipe,
        "loose": loose,
    }
    for name, fault in faults.items():
        fault()
        h.until(4, f"status says so ({name})", lambda: problems(daemon))
        time.sleep(0.7)
        h.demand(daemon.get("/v1/sessions", token=admin).status == 200, f"{name}: the last good token is not in force")
        h.demand("admin.token" in problems(daemon)[0], f"{name}: the warning does not name the file: {problems(daemon)}")
        h.demand(daemon.get("/readyz", token=False).status == 200, f"{name}: the daemon is not ready")
    path.unlink()
    put(path, good)
    h.until(3, "the warning goes", lambda: not problems(daemon))
    readonly = daemon.readonly
    put(daemon.state / "tokens/readonly.token", good)
    h.until(3, "equal tokens are refused", lambda: daemon.get("/v1/sessions").status == 503 or daemon.get("/v1/sessions").code() == "auth.tokens_ambiguous")
    for token in (admin, readonly, fresh()):
        answer = daemon.get("/v1/sessions", token=token)
        h.demand(answer.code() == "auth.tokens_ambiguous", f"with equal tokens: {answer}")
    h.demand(daemon.get("/healthz", token=False).status == 200, "equal tokens take the health away")
    put(daemon.state / "tokens/readonly.token", readonly + "\n")
    h.until(3, "differing tokens work again", lambda: daemon.get("/v1/sessions", token=admin).status == 200)
    h.demand(daemon.get("/v1/sessions", token=readonly).status == 200, "the read-only token does not work again")
    h.demand(daemon.stop()[0] == 0, "no drain")
    return f"{len(faults)} broken states of the file leave the last good token in force and status says so; equal tokens refuse everybody until they differ"


def control(house):
    daemon = house.start()
    load = Load(daemon)
    time.sleep(0.2)
    by_rename(daemon.state / "tokens/admin.token", fresh())
    time.sleep(1)
    h.must_fail("a client that keeps the old token", lambda: load.threads.join())
    daemon.kill()
    daemon = house.start()
    stream = daemon.stream(timeout=STREAM_ENDS_S + 1)
    h.must_fail("a stream whose token stays in force", lambda: ends_within(stream, STREAM_ENDS_S))
    return "an old token's 401 and an open stream would have been noticed"


h.main("token_rotation", [control, rotate, broken])
