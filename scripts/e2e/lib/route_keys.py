"""A route's key from the vault: used, rotated, revoked and stored again, and never seen but by the provider."""

import base64
import http.server
import json
import pathlib
import secrets
import subprocess
import threading

import house as h

SLOT = "far.prod"


def forms(key):
    """A key as it is, in both alphabets of base64 at each place in a group of three, and in hexadecimal."""
    plain = key.encode()
    found = {plain, plain.hex().encode(), plain.hex().upper().encode()}
    for before in range(3):
        whole = base64.b64encode(b"x" * before + plain + b"x" * 2)
        # Characters that depend on what stands before or behind are not the key's.
        start, end = (before * 8 + 5) // 6, (before + len(plain)) * 8 // 6
        found |= {whole[start:end], whole[start:end].translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def places(root, wanted):
    """Files below a folder that hold one of these."""
    files = [path for path in pathlib.Path(root).rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path) for path in files for content in [path.read_bytes()] if any(form in content for form in wanted)]


class Upstream(http.server.ThreadingHTTPServer):
    """A provider that notes the credentials it is shown, and repeats each in its answer. It can be made to wait."""

    daemon_threads = True

    def __init__(self):
        self.shown, self.go = [], threading.Event()
        self.go.set()
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """A call that was cut has nobody to answer."""


class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        shown = self.headers.get("Authorization", "")
        self.server.shown.append(shown)
        self.server.go.wait(20)
        said = json.dumps({"choices": [{"delta": {"content": f"You said: {shown}"}, "finish_reason": "stop"}]})
        body = f"data: {said}\n\ndata: [DONE]\n\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Desk:
    """The command line on a house; keeps all that it prints."""

    def __init__(self, house, master):
        self.house, self.master, self.printed = house, master, house.path / "printed"
        self.printed.touch()

    def run(self, *words, stdin="", readonly=False):
        given = [h.binary(), *words, "--state-root", self.house.state, "--output", "json"]
        if readonly:
            given += ["--token-file", self.house.state / "tokens/readonly.token"]
        done = subprocess.run(
            [str(word) for word in given],
            input=stdin.encode(),
            capture_output=True,
            timeout=60,
            env=h.clean_environment(self.house.path / "home"),
        )
        with open(self.printed, "ab") as file:
            file.write(done.stdout + done.stderr)
        return done.returncode, done.stdout.decode()

    def ask(self, *words, **more):
        code, text = self.run(*words, **more)
        h.demand(code == 0, f"{' '.join(words)} ends with {code}: {text}")
        return json.loads(text)

    def store(self, key):
        return self.ask("secrets", "set", SLOT, "--provider", "openai", stdin=f"{key}\n")

    def auth(self):
        """What doctor says of the routes' keys."""
        code, text = self.run("doctor", "routes", "--check-auth")
        return code, text


def begin(house):
    upstream = Upstream()
    (house.path / "routes.toml").write_text(
        f'version = 1\n[routes.far]\ndriver = "openai"\ndefault_model = "m"\nauth_ref = "{SLOT}"\n'
        f'base_url = "http://127.0.0.1:{upstream.server_address[1]}/v1"\n'
    )
    master = house.path / "master.key"
    desk = Desk(house, master)
    code, text = desk.run("secrets", "generate", "--to-file", master)
    h.demand(code == 0 and master.stat().st_mode & 0o777 == 0o600, f"no master key: {text}")
    daemon = house.start(environment={"CHANCERY_AUTH_STORE_MASTER_KEY_FILE": str(master)})
    return upstream, desk, daemon


def queue(daemon):
    run = daemon.post(f"/v1/sessions/{daemon.create()}/runs", {"content": "please"})
    h.demand(run.status == 202, f"no run: {run}")
    return run.json()["run_id"]


def ended(daemon, run):
    def over():
        view = daemon.get(f"/v1/runs/{run}").json()
        return view if view["status"] in ("completed", "failed") else None

    return h.until(30, f"{run} ends", over)


def demand_served(upstream, daemon, key):
    """A run that is answered, with this key."""
    before = len(upstream.shown)
    run = queue(daemon)
    view = ended(daemon, run)
    h.demand(view["status"] == "completed", f"the run failed: {view['error']}")
    h.demand(upstream.shown[before:] == [f"Bearer {key}"], f"the provider was shown {len(upstream.shown) - before} other credentials")
    h.demand(f"[redacted:{SLOT}]" in view["output"], f"the provider's repeat is told as {view['output']!r}")
    return run


def begun(upstream, desk, daemon):
    """A run whose call has reached the provider, which waits, and the lease of the call."""
    upstream.go.clear()
    shown = len(upstream.shown)
    run = queue(daemon)
    h.until(20, "the call reaches the provider", lambda: len(upstream.shown) > shown)
    leases = desk.ask("runtime", "auth", "leases")["items"]
    live = [lease["lease_id"] for lease in leases if (lease["subject"], lease["status"]) == (f"run/{run}", "live")]
    h.demand(len(live) == 1, f"a call that goes on has leases {leases}")
    return run, live[0]


def demand_cut(upstream, desk, daemon, revoke):
    """A call that goes on is cut when what it uses is taken back."""
    run, lease = begun(upstream, desk, daemon)
    revoke(lease)
    failed = ended(daemon, run)
    h.demand((failed["error"] or {}).get("code") == "vault.lease_revoked", f"what was taken back is used: {failed}")
    upstream.go.set()
    return run


def revoking(desk, what, name, about):
    """Takes a slot or a subject back; the answer names the lease that ended."""

    def revoke(lease):
        told, expected = desk.ask("runtime", "auth", what, name), {**about, "revoked": True, "leases_revoked": [lease]}
        h.demand(told == expected, f"{what} tells {told}, not {expected}")

    return revoke


def readiness(desk):
    return desk.ask("status")["provider_readiness"]["routes"][0]


def life(house):
    upstream, desk, daemon = begin(house)
    first, second, third = (f"sk-e2e-{secrets.token_hex(16)}" for _ in range(3))
    h.demand(daemon.post("/v1/runtime/debug-level", {"level": "full"}).status == 200, "no debug level")
    code, text = desk.auth()
    h.demand(code != 0 and SLOT in text, f"doctor misses no key: {code} {text}")
    failed = ended(daemon, queue(daemon))
    h.demand(failed["error"]["code"] == "route.credential_missing", f"without a key: {failed}")
    h.demand(upstream.shown == [], "the provider was asked without a key")

    desk.store(first)
    code, text = desk.auth()
    h.demand(code == 0, f"doctor is not content with a key: {code} {text}")
    uses = {demand_served(upstream, daemon, first): 1}

    # Rotated while a call goes on: that one ends as it began, the next has the new key.
    going, lease = begun(upstream, desk, daemon)
    told = desk.store(second)
    h.demand((told["version"], told["leases_revoked"]) == (2, [lease]), f"a rotation tells {told}")
    upstream.go.set()
    h.demand(ended(daemon, going)["status"] == "completed", "a call that went on did not survive the rotation")
    h.demand(upstream.shown[1] == f"Bearer {first}", "the call that went on had another key")
    uses |= {going: 1, demand_served(upstream, daemon, second): 2}

    # A lease or a subject that is taken back cuts its call, and the key stays in use for others.
    def revoke_lease(lease):
        told = desk.ask("runtime", "auth", "revoke-lease", lease)
        found = [told[name] for name in ("lease_id", "ref", "version", "status")]
        h.demand(found == [lease, SLOT, 2, "revoked"], f"revoke-lease tells {told}")

    uses[demand_cut(upstream, desk, daemon, revoke_lease)] = 2
    uses[demand_served(upstream, daemon, second)] = 2
    uses[demand_cut(upstream, desk, daemon, revoking(desk, "revoke-subject", "route/far", {"subject": "route/far"}))] = 2
    failed = ended(daemon, queue(daemon))
    h.demand(failed["status"] == "failed", f"a revoked subject is served: {failed}")
    desk.ask("runtime", "auth", "reinstate-subject", "route/far")
    uses[demand_served(upstream, daemon, second)] = 2
    found = readiness(desk)
    h.demand((found["auth_ref"], found["credential_ready"], found["ready"]) == (SLOT, True, True), f"with a key: {found}")

    uses[demand_cut(upstream, desk, daemon, revoking(desk, "revoke-slot", SLOT, {"ref": SLOT, "version": 2}))] = 2
    found = readiness(desk)
    h.demand((found["credential_ready"], found["ready"]) == (False, False), f"with a revoked key: {found}")
    before = len(upstream.shown)
    failed = ended(daemon, queue(daemon))
    h.demand(failed["error"]["code"] == "vault.lease_revoked", f"with a revoked key: {failed}")
    h.demand(len(upstream.shown) == before, "the provider was asked with a revoked key")
    code, text = desk.auth()
    h.demand(code != 0, f"doctor is content with a revoked key: {text}")
    desk.store(third)
    uses[demand_served(upstream, daemon, third)] = 3
    h.demand(desk.auth()[0] == 0, "doctor is not content with another key")

    leases = desk.ask("runtime", "auth", "leases")["items"]
    used = {lease["subject"]: lease["version"] for lease in leases}
    expected = {f"run/{run}": version for run, version in uses.items()}
    h.demand(used == expected, f"leases say {used}, runs {expected}")
    code, text = desk.run("doctor", "routes", "--canary", "--route", "far")
    h.demand(code == 0 and "route far answered" in text, f"doctor's call gives {code}: {text}")
    h.demand(upstream.shown[-1] == f"Bearer {third}", "doctor's call has another key")
    for words in (("secrets", "list"), ("secrets", "get", SLOT), ("runtime", "auth", "leases")):
        desk.ask(*words)
        code, text = desk.run(*words, readonly=True)
        h.demand(code != 0, f"a read-only token reads {' '.join(words)}: {text}")
    desk.ask("status", readonly=True)
    for run in uses:
        desk.ask("runs", "get", run)
        desk.ask("runs", "events", run)
        for artifact in desk.ask("runs", "debug", run)["items"]:
            desk.run("runs", "debug", run, "--artifact", artifact["artifact_id"])

    h.demand(daemon.stop()[0] == 0, "no drain")
    code, text = desk.run("verify", house.state)
    h.demand(code == 0, f"verify gives {code}: {text}")
    keys = (first, second, third)
    found = [place for key in keys for place in places(house.path, forms(key))]
    h.demand(not found, f"a key stands in {found}")
    upstream.shutdown()
    files = sum(1 for path in house.path.rglob("*") if path.is_file())
    return (
        f"{len(uses)} runs used three keys in turn, what was taken back cut its call and reached nobody, and none stands in any of {files} files "
        "of the state root, the log and what the command line printed"
    )


def control(house):
    """What is looked for is found where it stands, in each form, and a provider that is shown the wrong key is noticed."""
    key = f"sk-e2e-{secrets.token_hex(16)}"
    for number in range(3):
        shift = b"-" * number
        for name, content in (
            ("plain", shift + key.encode()),
            ("base64", base64.b64encode(shift + key.encode() + b"..")),
            ("url", base64.urlsafe_b64encode(shift + key.encode() + b"..")),
            ("hex", (shift + key.encode()).hex().encode()),
        ):
            place = house.path / name
            place.write_bytes(b"some text " + content + b" and more")
            h.demand(places(house.path, forms(key)) == [str(place)], f"a key as {name}, {number} bytes on, is not found")
            place.unlink()
    upstream, desk, daemon = begin(house)
    desk.store(key)
    other = f"sk-e2e-{secrets.token_hex(16)}"
    h.must_fail("a run with another key", lambda: demand_served(upstream, daemon, other))
    daemon.stop()
    (house.state / "debug").mkdir(exist_ok=True)
    (house.state / "debug" / "left").write_text(f"Authorization: Bearer {key}\n")
    h.must_fail("a key below the state root", lambda: h.demand(not places(house.path, forms(key)), "it is found"))
    upstream.shutdown()
    return "a key in clear, base64 or hexadecimal is found, and so is a call with another key"


h.main("route_keys", [control, life])
