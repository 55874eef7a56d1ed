"""A real nginx with the project's own configuration in front of a daemon, and what comes through it."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import time

import house as h

FIXTURE = h.PROJECT / "deploy/reverse-proxy"
NAME = "chancery.example"
SECRET = "e2e-proxy-secret-0123456789abcdef"
LIMIT = 1 << 20


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Proxy:
    """An nginx of our own on loopback, with the shipped file in which only the marked places are changed."""

    def __init__(self, house, upstream, tls=False, secret=SECRET, change=()):
        self.house, self.address = house, f"127.0.0.1:{free_port()}"
        folder = house.path / f"nginx-{self.address.rsplit(':')[1]}"
        folder.mkdir()
        self.folder = folder
        server = (FIXTURE / "chancery.conf").read_text()
        kind = " ssl" if tls else ""
        changes = [
            ("server 127.0.0.1:4000;", f"server {upstream};"),
            ("listen 443 ssl default_server;", f"listen {self.address}{kind} default_server;"),
            ("listen 443 ssl; ", f"listen {self.address}{kind}; "),
            ("/var/log/nginx/chancery.log", f"{folder}/access.log"),
            *change,
        ]
        for old, new in changes:
            h.demand(server.count(old) == 1, f"the fixture has {old!r} {server.count(old)} times")
            server = server.replace(old, new)
        (folder / "chancery.conf").write_text(server)
        (folder / "chancery-tls.conf").write_text(self.certificate() if tls else "")
        example = (FIXTURE / "chancery-proxy-secret.conf.example").read_text()
        words = example.replace("REPLACE-WITH-AT-LEAST-22-RANDOM-CHARACTERS", secret) if secret else ""
        (folder / "chancery-proxy-secret.conf").write_text(words)
        user = "user root;" if os.geteuid() == 0 else ""
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; {user} pid {folder}/pid; error_log {folder}/error.log info;\n"
            f"events {{ worker_connections 1024; }}\nhttp {{ {paths} include chancery.conf; }}\n"
        )
        self.process = house.launch(
            ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", f"{folder}/error.log"],
            stderr=open(folder / "told", "wb"),
        )

        def answers():
            h.demand(self.process.poll() is None, f"nginx ends: {(folder / 'told').read_text()[-800:]}")
            with contextlib.suppress(OSError):
                h.connect(self.address, 1).close()
                return True

        h.until(10, "nginx answers", answers)

    def certificate(self):
        done = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}",
             "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", "key.pem", "-out", "cert.pem"],
            cwd=self.folder, capture_output=True, text=True,
        )
        h.demand(done.returncode == 0, done.stderr)
        shipped = (FIXTURE / "chancery-tls.conf").read_text()
        shipped = shipped.replace("/etc/ssl/chancery/fullchain.pem", f"{self.folder}/cert.pem")
        return shipped.replace("/etc/ssl/chancery/privkey.pem", f"{self.folder}/key.pem")

    def request(self, method, path, body=None, headers=None, token=""):
        return h.request(self.address, method, path, body, {"Host": NAME, **(headers or {})}, token)

    def end(self):
        self.process.terminate()
        self.process.wait(10)


def start(house, *more, **proxy):
    (house.path / "secret").write_text(SECRET + "\n")
    (house.path / "secret").chmod(0o600)
    daemon = house.start("--http-host", NAME, "--trusted-proxy-secret-file", house.path / "secret", *more)
    return daemon, Proxy(house, daemon.address, **proxy)


def audit(daemon):
    time.sleep(0.3)
    lines = (daemon.state / "control-plane-auth/audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def said(answer):
    return answer.status, answer.code()


def auth(house):
    daemon, proxy = start(house)
    tokens = {"none": "", "foreign": "chy_foreign", "readonly": daemon.readonly, "admin": daemon.token}
    want = {
        ("none", "GET"): (401, "auth.missing"), ("none", "POST"): (401, "auth.missing"),
        ("foreign", "GET"): (401, "auth.invalid"), ("foreign", "POST"): (401, "auth.invalid"),
        ("readonly", "GET"): (200, None), ("readonly", "POST"): (403, "auth.read_only"),
        ("admin", "GET"): (200, None), ("admin", "POST"): (201, None),
    }
    for (who, method), expected in want.items():
        body = {} if method == "POST" else None
        for way in (proxy.request, lambda *a, **k: h.request(daemon.address, *a, **k)):
            found = said(way(method, "/v1/sessions", body, token=tokens[who]))
            h.demand(found == expected, f"{who} {method} gives {found}, not {expected}")
    basic = proxy.request("GET", "/v1/sessions", headers={"Authorization": f"Basic {daemon.token}"})
    h.demand(basic.status == 401 and "www-authenticate" in basic.headers, f"another scheme: {basic}")
    hopped = proxy.request("POST", "/v1/sessions", {}, {"Connection": "close, Authorization"}, daemon.readonly)
    h.demand(hopped.status in (401, 403), f"Connection: Authorization gives {hopped}")
    query = proxy.request("GET", f"/v1/sessions?token={daemon.token}")
    h.demand(said(query) == (400, "request.malformed"), f"a token in the address gives {query}")
    log = (proxy.folder / "access.log").read_text()
    h.demand(daemon.token not in log and SECRET not in log, "the proxy's log holds a secret")
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 401), ("/v1/status", 401)):
        found = proxy.request("GET", path).status
        h.demand(found == status, f"{path} gives {found} to strangers")
    wire = h.Connection(proxy.address, 10)
    for number in range(100):
        answer = h.request(proxy.address, "POST", "/v1/sessions", {"title": "x" * 700_000}, {"Host": NAME}, "chy_wrong", connection=wire)
        h.demand(answer.status in (401, 429), f"refusal {number} on one connection becomes {answer}")
    return "each of four callers gets through the proxy what it gets without; 100 refused large bodies in a row never become a 503"


def arrives(daemon, stream, seconds=1.0):
    """The time from an act to its event."""
    began = time.monotonic()
    session = daemon.create("live")
    stream.wire.settimeout(seconds)
    for _, _, data in stream.events():
        if session.encode() in data:
            took = time.monotonic() - began
            h.demand(took < seconds, f"an event arrives after {took:.1f} s")
            return took
    raise h.Failed(f"no event within {seconds} s of the act")


def streams(house):
    # What nginx does by itself, and even against the daemon's word.
    buffered = (
        ("proxy_buffering off;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"),
        ("proxy_http_version 1.1;", "proxy_http_version 1.0;"),
    )
    daemon, proxy = start(house)
    stream = through(proxy, daemon.token)
    h.demand(stream.status == 200 and stream.headers["content-type"] == "text/event-stream", f"{stream.headers}")
    h.demand("content-encoding" not in stream.headers, "the stream is compressed")
    slowest = max(arrives(daemon, stream) for _ in range(20))
    # The daemon dies; the client comes back with the last id it has and misses nothing.
    last, address = daemon.head()["size"] - 1, daemon.address
    daemon.kill()
    for _ in stream.frames():
        pass
    answer = proxy.request("GET", "/v1/sessions", token=daemon.token)
    h.demand(said(answer) == (503, "request.overloaded") and answer.headers.get("retry-after"), f"no daemon: {answer}")
    daemon = house.start("--http-host", NAME, "--trusted-proxy-secret-file", house.path / "secret", bind=address)
    made = [daemon.create() for _ in range(5)]
    stream = through(proxy, daemon.token, last)
    found = []
    for _, kind, data in stream.events():
        found += [name for name in made if kind == "session.created" and name.encode() in data]
        if len(found) == len(made):
            break
    h.demand(found == made, f"after a restart the stream shows {found}, not {made}")
    late = Proxy(house, daemon.address, change=buffered)
    h.must_fail("a proxy that buffers", lambda: arrives(daemon, through(late, daemon.token, timeout=3)))
    return f"20 events each arrive within {slowest * 1000:.0f} ms of the act; the stream goes on across a kill behind the proxy"


def through(proxy, token, after=None, timeout=20):
    """A stream by way of the proxy, under its name."""
    stream = h.Stream.__new__(h.Stream)
    wire = h.connect(proxy.address, timeout)
    cursor = "" if after is None else f"Last-Event-ID: {after}\r\n"
    wire.sendall(
        f"GET /v1/events/stream HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {token}\r\n"
        f"Accept-Encoding: gzip\r\n{cursor}\r\n".encode()
    )
    stream.open(wire)
    return stream


def bodies(house):
    daemon, proxy = start(house)
    ways = {"direct": (daemon.address, daemon.address), "nginx": (proxy.address, NAME)}
    before = None
    for name, (address, host) in ways.items():
        def send(size, address=address, host=host):
            body = b"{}" + b" " * (size - 2)
            return h.request(address, "POST", "/v1/sessions", body, {"Host": host}, daemon.token)

        h.demand(send(LIMIT).status == 201, f"{name}: the largest body is refused: {send(LIMIT)}")
        before = daemon.head()["size"]
        h.demand(said(send(LIMIT + 1)) == (413, "request.too_large"), f"{name}: one byte more: {send(LIMIT + 1)}")
        head = f"POST /v1/sessions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {daemon.token}\r\nContent-Type: application/json\r\n"
        began = time.monotonic()
        answer = h.raw(address, f"{head}Content-Length: 2147483648\r\n\r\n".encode(), 5, b"\r\n\r\n")
        h.demand(h.statuses(answer)[:1] == [413], f"{name}: a declared 2 GiB: {answer[:200]}")
        h.demand(time.monotonic() - began < 4, f"{name}: a declared 2 GiB is answered late")
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        answer = h.raw(address, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 40, 5, b"\r\n\r\n")
        h.demand(h.statuses(answer)[:1] == [413], f"{name}: endless chunks: {answer[:200]}")
        for what, status, lines in (
            ("a long address", 414, f"GET /v1/sessions?cursor={'a' * 9000} HTTP/1.1\r\nHost: {host}\r\n"),
            ("large headers", 431, f"GET /v1/sessions HTTP/1.1\r\nHost: {host}\r\n" + "".join(f"X-{n}: {'a' * 6000}\r\n" for n in range(8))),
            ("many headers", 431, f"GET /v1/sessions HTTP/1.1\r\nHost: {host}\r\n" + "".join(f"X-{n}: a\r\n" for n in range(90))),
        ):
            answer = h.raw(address, f"{lines}Authorization: Bearer {daemon.token}\r\nConnection: close\r\n\r\n".encode(), 5, b"\r\n\r\n")
            h.demand(h.statuses(answer)[:1] == [status], f"{name}: {what}: {answer[:200]}")
        h.demand(daemon.head()["size"] == before, f"{name}: a refused body left a record")
    spilled = [path for path in (proxy.folder / "client_body").rglob("*") if path.is_file()]
    h.demand(not spilled, f"the proxy keeps bodies in files: {spilled}")
    return "1 MiB passes on both ways and one byte more on neither; 413, 414 and 431 are the same from whichever hop"


PATHS = (
    "/v1/sessions", "/v1/sessions/", "/v1/sessions.", "/v1/sessions/.", "/v1/../v1/sessions", "/a/../v1/sessions",
    "/v1/%2e%2e/v1/sessions", "/v1/./sessions", "//v1/sessions", "/v1//sessions", "/v1%2fsessions", "/%76%31/sessions",
    "/v1/sessions%00", "/v1/sessions;x=1", "/v1/sessions%20", "/v1\\sessions", "/V1/sessions", "/healthz/../v1/sessions",
    "/healthz%2f..%2fv1/sessions", "/healthz/..;/v1/sessions", "/metrics", "/metrics/", "//metrics", "/healthz/", "/healthz?x=%zz",
    "/v1/sessions?a=b#c", "/v1/s\u00fcssions", "/v1/journal/head/..", "/v1/journal/%68ead", "/../../etc/passwd", "/.", "/..", "*",
)


def paths(house):
    daemon, proxy = start(house)

    def ask(address, host, path, token):
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        head += f"Authorization: Bearer {token}\r\n" if token else ""
        found = h.statuses(h.raw(address, f"{head}\r\n".encode(), 5))
        return found[0] if found else None

    differing, admitted = [], []
    for token in ("", daemon.token):
        for path in PATHS:
            direct, behind = ask(daemon.address, daemon.address, path, token), ask(proxy.address, NAME, path, token)
            if direct != behind:
                differing.append((path, direct, behind))
            if behind == 200:
                admitted.append((path, bool(token)))
    h.demand(not differing, f"paths that mean something else behind the proxy: {differing}")
    want = [("/v1/sessions", True), ("/metrics", True)]
    h.demand(admitted == want, f"admitted behind the proxy: {admitted}")
    normalising = Proxy(house, daemon.address, change=(("proxy_pass http://chancery;", "proxy_pass http://chancery/;"),))
    sly = "/a/../v1/sessions"
    h.must_fail("a proxy that rewrites paths", lambda: h.demand(
        ask(normalising.address, NAME, sly, daemon.token) == ask(daemon.address, daemon.address, sly, daemon.token),
        f"{sly} is admitted only behind the proxy",
    ))
    return f"{len(PATHS)} spellings get the same answer with and without the proxy, with and without a token"


LENIENT = {"chunk that ends with LF", "extension with LF"}


def smuggling(house):
    daemon, proxy = start(house)
    done = 0
    for address, host in ((daemon.address, daemon.address), (proxy.address, NAME)):
        inner = (
            f"POST /v1/sessions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {daemon.token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
        chunk = f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n"
        size = len(chunk)

        def outer(lines, rest, host=host):
            return f"POST /v1/status HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{lines}\r\n{rest}".encode("latin1")

        tries = {
            "CL.TE": outer(f"Content-Length: {len(inner) + 5}\r\nTransfer-Encoding: chunked\r\n", f"0\r\n\r\n{inner}"),
            "TE.CL": outer("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", chunk),
            "TE.CL, shortest": outer("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", chunk),
            "two lengths": outer(f"Content-Length: {len(inner)}\r\nContent-Length: 0\r\n", inner),
            "a list of lengths": outer(f"Content-Length: {len(inner)}, 0\r\n", inner),
            "+length": outer("Content-Length: +0\r\n", inner),
            "-length": outer("Content-Length: -1\r\n", inner),
            "hex length": outer("Content-Length: 0x0\r\n", inner),
            "xchunked": outer(f"Transfer-Encoding: xchunked\r\nContent-Length: {size}\r\n", chunk),
            "two codings": outer("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", chunk),
            "chunked, identity": outer("Transfer-Encoding: chunked, identity\r\n", chunk),
            "VT": outer(f"Transfer-Encoding: \x0bchunked\r\nContent-Length: {size}\r\n", chunk),
            "space before the colon": outer(f"Transfer-Encoding : chunked\r\nContent-Length: {size}\r\n", chunk),
            "folded": outer(f"Transfer-Encoding:\r\n chunked\r\nContent-Length: {size}\r\n", chunk),
            "bare CR": outer(f"X: a\rTransfer-Encoding: chunked\r\nContent-Length: {size}\r\n", chunk),
            "NUL": outer(f"X: a\0\r\nContent-Length: {len(inner)}\r\n", inner),
            "a length behind a bare LF": outer(f"X: a\nContent-Length: {len(inner)}\r\n", inner),
            "size that overflows": outer("Transfer-Encoding: chunked\r\n", f"10000000000000000\r\n{inner}\r\n0\r\n\r\n"),
            "size with 0x": outer("Transfer-Encoding: chunked\r\n", f"0x0\r\n\r\n{inner}"),
            "chunk that ends with LF": outer("Transfer-Encoding: chunked\r\n", f"1\nx\n0\n\n{inner}"),
            "extension with LF": outer("Transfer-Encoding: chunked\r\n", f"1;a\nx\r\n0\r\n\r\n{inner}"),
            "CL.0 on GET": outer("", "").replace(b"POST", b"GET").replace(b"\r\n\r\n", f"\r\nContent-Length: {len(inner)}\r\n\r\n{inner}".encode()),
            "HTTP/1.0 chunked": outer(f"Transfer-Encoding: chunked\r\nContent-Length: {size}\r\n", chunk).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
            "absolute form": outer("Content-Length: 0\r\n", "").replace(b"/v1/status", b"http://evil.example/v1/status"),
        }
        before = daemon.head()["size"]
        for name, data in tries.items():
            answer = h.raw(address, data, 1.5)
            executed = daemon.head()["size"] != before
            if executed and name in LENIENT and address == proxy.address:
                # Nginx reads two whole requests here and tells the daemon so: the client gets both answers, in step.
                h.demand(len(h.statuses(answer)) == 2, f"{name}: one answer for two requests: {answer[:300]}")
                before = daemon.head()["size"]
                continue
            h.demand(not executed, f"{name} at {address}: the smuggled request was executed: {answer[:300]}")
            h.demand(201 not in h.statuses(answer), f"{name}: {answer[:300]}")
            done += 1

        def honest(address=address, inner=inner, before=before, host=host):
            h.raw(address, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n{inner}".encode(), 1.5)
            h.demand(daemon.head()["size"] == before, "the second request was executed")

        h.must_fail(f"a second request that nothing hides, at {'nginx' if host == NAME else 'the daemon'}", honest)
    # What one client smuggles must not become the beginning of another's request.
    for _ in range(20):
        answer = proxy.request("GET", "/v1/journal/head", token=daemon.token)
        h.demand(answer.status == 200, f"a connection to the daemon is out of step: {answer}")
    return f"{done} tries to hide a request in another leave the journal unchanged, on both hops"


def names(house):
    daemon, proxy = start(house)

    def ask(lines, address=proxy.address):
        data = f"{lines}Authorization: Bearer {daemon.token}\r\nConnection: close\r\n\r\n"
        return (h.statuses(h.raw(address, data.encode(), 5)) or [None])[0]

    for lines, want in (
        (f"GET /v1/status HTTP/1.1\r\nHost: {NAME}\r\n", {200}),
        (f"GET /v1/status HTTP/1.1\r\nHost: {NAME}:8443\r\n", {200}),
        (f"GET /v1/status HTTP/1.1\r\nHost: {NAME.upper()}\r\n", {200}),
        ("GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n", {421}),
        (f"GET /v1/status HTTP/1.1\r\nHost: {NAME}.evil.example\r\n", {421}),
        (f"GET /v1/status HTTP/1.1\r\nHost: {daemon.address}\r\n", {421}),
        ("GET /v1/status HTTP/1.0\r\n", {421}),
        ("GET /v1/status HTTP/1.1\r\n", {400}),
        (f"GET /v1/status HTTP/1.1\r\nHost: {NAME}\r\nHost: evil.example\r\n", {400}),
        (f"GET http://evil.example/v1/status HTTP/1.1\r\nHost: {NAME}\r\n", {400, 421}),
        (f"TRACE /v1/status HTTP/1.1\r\nHost: {NAME}\r\n", {405}),
        (f"CONNECT {NAME}:443 HTTP/1.1\r\nHost: {NAME}\r\n", {400, 405}),
    ):
        found = ask(lines)
        h.demand(found in want, f"{lines!r} gives {found}")
    h.demand(ask("GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n", daemon.address) == 421, "the daemon itself answers")
    return "only the served name is answered; others, none and two get 421 or 400"


def forwarded(house):
    daemon, proxy = start(house)

    def refuse(address, host, headers, source="127.0.0.1"):
        """A refused request from this loopback address; gives the newest line of the access log about it."""
        seen = len(audit(daemon))
        wire = socket.create_connection(tuple([address.split(":")[0], int(address.split(":")[1])]), 5, (source, 0))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        token = f"chy_{os.urandom(4).hex()}"
        wire.sendall(f"DELETE /nowhere HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{lines}\r\n".encode())
        status = int(wire.recv(4096).split()[1])
        wire.close()
        new = h.until(14, "the access log shows it", lambda: audit(daemon)[seen:])
        return status, new[0]["source"], new[0]["peer"]

    own = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6"}
    found = refuse(proxy.address, NAME, own, "127.0.0.77")
    h.demand(found == (401, "127.0.0.77", "127.0.0.1"), f"behind the proxy: {found}")
    found = refuse(proxy.address, NAME, {**own, "X-Chancery-Proxy-Secret": "guess"}, "127.0.0.78")
    h.demand(found == (401, "127.0.0.78", "127.0.0.1"), f"a guessed secret behind the proxy: {found}")
    found = refuse(daemon.address, daemon.address, own)
    h.demand(found == (401, "127.0.0.1", "127.0.0.1"), f"without a proxy: {found}")
    found = refuse(daemon.address, daemon.address, {"X-Forwarded-For": "9.9.9.9", "X-Chancery-Proxy-Secret": SECRET})
    h.demand(found == (401, "9.9.9.9", "127.0.0.1"), f"with the secret: {found}")
    # A stranger's failures are its own.
    for _ in range(30):
        wire = socket.create_connection(tuple([proxy.address.split(":")[0], int(proxy.address.split(":")[1])]), 5, ("127.0.0.66", 0))
        wire.sendall(f"GET /v1/status HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer chy_guess\r\nConnection: close\r\n\r\n".encode())
        status = int(wire.recv(4096).split()[1])
        wire.close()
    h.demand(status == 429, f"a stranger guesses 30 times and gets {status}")
    h.demand(proxy.request("GET", "/v1/status", token=daemon.token).status == 200, "a stranger's failures limit a valid token")
    h.demand(proxy.request("GET", "/v1/status", token="chy_typo").status == 401, "a stranger's failures limit another address")
    text = (daemon.state / "control-plane-auth/audit.jsonl").read_text() + (house.path / "log").read_text()
    h.demand(SECRET not in text, "the proxy's secret stands in a log")
    silent = Proxy(house, daemon.address, secret=None)
    h.must_fail("a proxy without the secret", lambda: h.demand(
        refuse(silent.address, NAME, {}, "127.0.0.79")[1] == "127.0.0.79", "its addresses do not count"
    ))
    return "the access log shows the address that the proxy saw and the socket's peer; what clients say about themselves counts nowhere"


def nobody(house):
    daemon = house.start("--http-auth-mode", "none")
    plain = (("proxy_set_header Host $host;", f"proxy_set_header Host {daemon.address};"),)
    proxy = Proxy(house, daemon.address, change=plain)
    before = daemon.get("/v1/journal/head", token="").json()["size"]
    for method, path, body in (("GET", "/v1/status", None), ("POST", "/v1/sessions", {}), ("GET", "/v1/journal/records", None)):
        answer = proxy.request(method, path, body)
        h.demand(said(answer) == (403, "auth.proxy_refused"), f"without authentication {method} {path} gives {answer}")
    for header in ("Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Anything", "Via"):
        answer = daemon.get("/v1/status", headers={header: "x"}, token="")
        h.demand(said(answer) == (403, "auth.proxy_refused"), f"{header} gives {answer}")
    answer = daemon.get("/v1/status", headers={"Host": "evil.example"}, token="")
    h.demand(answer.status == 421, f"a foreign Host gives {answer}")
    size = daemon.get("/v1/journal/head", token="").json()["size"]
    h.demand(size == before, "a refused request left a record")
    h.must_fail("the same request from the machine itself", lambda: h.demand(
        daemon.get("/v1/status", token="").status == 403, "it is answered"
    ))
    return "a daemon without authentication refuses all that came through a proxy"


def sockets(house):
    path = f"unix:{house.path}/http.sock"
    daemon = house.start("--http-host", NAME, bind=path)
    h.demand(os.stat(path[5:]).st_mode & 0o077 == 0, "others may connect to the socket")
    proxy = Proxy(house, path)
    answer = proxy.request("POST", "/v1/sessions", {"title": "by socket"}, token=daemon.token)
    h.demand(answer.status == 201, f"by the unix socket: {answer}")
    arrives(daemon, through(proxy, daemon.token))
    words = "over TLS"
    tls = Proxy(house, path, tls=True)
    context = ssl.create_default_context(cafile=tls.folder / "cert.pem")
    context.check_hostname = True
    wire = context.wrap_socket(h.connect(tls.address), server_hostname=NAME)
    wire.sendall(f"GET /v1/status HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {daemon.token}\r\nConnection: close\r\n\r\n".encode())
    answer = b"".join(iter(lambda: wire.recv(65536), b""))
    h.demand(h.statuses(answer) == [200] and b"strict-transport-security" in answer.lower(), f"{words}: {answer[:200]}")
    h.demand(daemon.stop()[0] == 0, "no drain")
    h.demand(not os.path.exists(path[5:]), "the socket is left behind")
    return "the same holds by a unix socket, and over TLS with the shipped settings"


def restarts(house):
    """Writers through the proxy while the daemon drains and starts again."""
    daemon, proxy = start(house)
    made, seen, threads = [], set(), h.Threads()

    def write():
        wire = h.Connection(proxy.address, 20)
        while not threads.stopping.is_set():
            answer = h.request(proxy.address, "POST", "/v1/sessions", {}, {"Host": NAME}, daemon.token, connection=wire)
            seen.add((answer.status, answer.code()))
            if answer.status == 201:
                made.append(answer.json()["session_id"])
            else:
                time.sleep(0.02)

    for _ in range(3):
        threads.run(write)
    for round_ in range(4):
        time.sleep(0.4)
        if round_ % 2:
            daemon.kill()
        else:
            h.demand(daemon.stop()[0] == 0, "no drain under load")
        daemon = house.start("--http-host", NAME, "--trusted-proxy-secret-file", house.path / "secret", bind=daemon.address)
    threads.join()
    strange = {pair for pair in seen if pair[0] not in (201, 503)}
    h.demand(not strange, f"through restarts clients see {strange}")
    text = b"".join(daemon.records())
    lost = [name for name in made if name.encode() not in text]
    h.demand(made and not lost, f"{len(lost)} acknowledged sessions are gone")
    return f"through four restarts clients see 201 and 503 only, and all {len(made)} acknowledged sessions are there"


def doctor(house):
    """The doctor, which speaks no TLS, by the loopback line of the shipped configuration."""
    def look(*change):
        port = free_port()
        line = ("    # listen 127.0.0.1:8080;", f"    listen 127.0.0.1:{port};")
        proxy = Proxy(house, daemon.address, tls=True, change=(line, *change))
        done = subprocess.run(
            [h.binary(), "doctor", "--url", f"http://127.0.0.1:{port}", "--state-root", daemon.state,
             "--token-file", daemon.state / "tokens/admin.token", "--output", "json"],
            capture_output=True, text=True, timeout=60, env=h.clean_environment(house.path / "home"),
        )
        proxy.end()
        return {found["check"]: found["outcome"] for found in json.loads(done.stdout)["findings"]}

    (house.path / "secret").write_text(SECRET + "\n")
    (house.path / "secret").chmod(0o600)
    names = ("--http-host", NAME, "--http-host", "127.0.0.1")
    daemon = house.start(*names, "--trusted-proxy-secret-file", house.path / "secret")
    found = look()
    wrong = {check: found.get(check) for check in ("ready", "lock", "stream", "cors", "tokens") if found.get(check) != "ok"}
    h.demand(not wrong, f"through the proxy the doctor says {wrong}")
    buffered = (
        ("proxy_buffering off;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"),
        ("proxy_http_version 1.1;", "proxy_http_version 1.0;"),
    )
    h.demand(look(*buffered)["stream"] == "broken", "the doctor does not see a proxy that buffers")
    opened = ("gzip off;", 'gzip off; add_header Access-Control-Allow-Origin "*" always;')
    h.demand(look(opened)["cors"] == "broken", "the doctor does not see a proxy that lets every page in")
    return "the doctor measures the proxy: in order as shipped, broken where it buffers or lets foreign pages in"


if __name__ == "__main__":
    h.main("proxy", [auth, streams, bodies, paths, smuggling, names, forwarded, nobody, sockets, restarts, doctor])
