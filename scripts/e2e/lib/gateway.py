"""The official clients of OpenAI and Anthropic through the gateway, against a provider that follows a script."""

import http.server
import json
import subprocess
import sys
import threading

import house as h

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
TOOL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}


def chat(body):
    """A chat completion, whole."""
    message = {"role": "assistant", "content": "here"}
    if body.get("tools"):
        message = {"role": "assistant", "content": None, "tool_calls": [TOOL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if body.get("tools") else "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}


def chat_events():
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for delta, reason in [({"role": "assistant", "content": "he"}, None), ({"content": "re"}, None), ({}, "stop")]:
        yield None, {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    yield None, {**head, "choices": [], "usage": USAGE}
    yield None, "[DONE]"


def message(body):
    """A message, whole."""
    content = [{"type": "text", "text": "here"}]
    if body.get("tools"):
        content = [{"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}}]
    usage = {"input_tokens": 7, "output_tokens": 2}
    return {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": content,
            "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}


def message_events():
    begun = {**message({}), "content": [], "stop_reason": None, "usage": {"input_tokens": 7, "output_tokens": 1}}
    yield "message_start", {"message": begun}
    yield "content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}
    for text in ("he", "re"):
        yield "content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}}
    yield "content_block_stop", {"index": 0}
    yield "message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 2}}
    yield "message_stop", {}


def response():
    """A response, whole."""
    part = {"type": "output_text", "text": "here", "annotations": []}
    item = {"id": "i", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9, "input_tokens_details": {"cached_tokens": 0},
             "output_tokens_details": {"reasoning_tokens": 0}}
    return {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": [item],
            "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}


def response_events():
    place = {"item_id": "i", "output_index": 0, "content_index": 0, "logprobs": []}
    yield "response.created", {"response": {**response(), "status": "in_progress", "output": []}, "sequence_number": 0}
    for number, text in enumerate(("he", "re"), 1):
        yield "response.output_text.delta", {**place, "delta": text, "sequence_number": number}
    yield "response.completed", {"response": response(), "sequence_number": 3}


class Provider(http.server.BaseHTTPRequestHandler):
    """Follows the script, and keeps the credentials that it is shown."""

    shown = []

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.shown.append((self.headers.get("Authorization"), self.headers.get("x-api-key")))
        kind = self.path.rsplit("/", 1)[-1]
        if "fail" in json.dumps(body.get("messages", "")):
            return self.say(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "no such thing"}})
        whole, events = {
            "completions": (chat(body), chat_events), "messages": (message(body), message_events),
            "responses": (response(), response_events),
        }[kind]
        return self.stream(events()) if body.get("stream") else self.say(200, whole)

    def say(self, status, value):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def stream(self, events):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for name, value in events:
            text = value if isinstance(value, str) else json.dumps({"type": name, **value} if name else value)
            self.wfile.write((f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode())
            self.wfile.flush()


CLIENTS = '''
import sys
import anthropic, openai
base, token = sys.argv[1:]
client = openai.OpenAI(base_url=base + "/v1", api_key=token, max_retries=0)
said = [{"role": "user", "content": "hi"}]
tool = {"name": "look", "parameters": {"type": "object"}}
ids = [model.id for model in client.models.list()]
assert ids == ["claude/c", "far/m"], ids
plain = client.chat.completions.create(model="far/m", messages=said)
assert plain.choices[0].message.content == "here" and plain.usage.completion_tokens == 2
# more
chunks = list(client.chat.completions.create(model="far/m", messages=said, stream=True))
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "here"
asked = client.chat.completions.create(model="m", messages=said, stream=True, stream_options={"include_usage": True})
assert list(asked)[-1].usage.prompt_tokens == 7
called = client.chat.completions.create(model="m", messages=said, tools=[{"type": "function", "function": tool}])
assert called.choices[0].message.tool_calls[0].function.name == "look"
assert client.responses.create(model="far/m", input="hi").output_text == "here"
events = list(client.responses.create(model="far/m", input="hi", stream=True))
assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "here"
fails = [{"role": "user", "content": "fail"}]
try:
    client.chat.completions.create(model="far/m", messages=fails)
    raise SystemExit("no error")
except openai.BadRequestError as error:
    assert "no such thing" in str(error), error
try:
    client.chat.completions.create(model="claude/c", messages=said)
    raise SystemExit("no error")
except openai.UnprocessableEntityError as error:
    assert error.code == "request.invalid" and "does not speak" in str(error), error
try:
    openai.OpenAI(base_url=base + "/v1", api_key="nobody").models.list()
    raise SystemExit("no error")
except openai.AuthenticationError as error:
    assert error.code == "auth.invalid", error

client = anthropic.Anthropic(base_url=base, api_key=token, max_retries=0)
assert [model.id for model in client.models.list()] == ids
plain = client.messages.create(model="claude/c", max_tokens=9, messages=said)
assert plain.content[0].text == "here" and plain.usage.output_tokens == 2
assert client.messages.count_tokens(model="claude/c", messages=said).input_tokens > 9
with client.messages.stream(model="claude/c", max_tokens=9, messages=said) as stream:
    assert "".join(stream.text_stream) == "here"
tool = {"name": "look", "input_schema": {"type": "object"}}
called = client.messages.create(model="c", max_tokens=9, messages=said, tools=[tool])
assert called.content[0].name == "look"
try:
    client.messages.create(model="claude/c", max_tokens=9, messages=fails)
    raise SystemExit("no error")
except anthropic.BadRequestError as error:
    assert "no such thing" in str(error), error
try:
    anthropic.Anthropic(base_url=base, api_key="nobody").messages.create(model="c", max_tokens=9, messages=said)
    raise SystemExit("no error")
except anthropic.AuthenticationError as error:
    assert "auth.invalid" in str(error), error
'''


# Pinned, so that what is proven is known.
PINNED = ["openai==3.57.0", "anthropic==2.14.0"]


def clients(house):
    """A Python with both clients, or nothing where the registry cannot be had."""
    folder = house.path / "clients"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    done = subprocess.run([python, "-m", "pip", "install", "-q", *PINNED], capture_output=True, text=True)
    return python if done.returncode == 0 else None


def run(house, python, address, token, more=""):
    """What the clients say of an address; nothing where all is well."""
    script = house.path / "clients.py"
    script.write_text(CLIENTS.replace("# more", more))
    environment = h.clean_environment(house.path / "home")
    words = [python, script, f"http://{address}", token]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)
    return done.stdout + done.stderr if done.returncode else ""


def official(house):
    python = clients(house)
    if not python:
        return "SKIPPED: the clients cannot be installed from the registry"
    provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{provider.server_port}"
    (house.path / "routes.toml").write_text(
        'version = 1\ndefault_route = "far"\n'
        f'[routes.far]\ndriver = "openai"\ndefault_model = "m"\nbase_url = "{address}/v1"\n'
        f'[routes.claude]\ndriver = "anthropic"\ndefault_model = "c"\nbase_url = "{address}"\n'
        '[routes.play]\ndriver = "rehearsal"\ndefault_model = "rehearsal"\n'
    )
    daemon = house.start()
    said = run(house, python, daemon.address, daemon.token)
    h.demand(not said, f"a client fails:\n{said}")
    h.demand(Provider.shown and not any(map(any, Provider.shown)), f"credentials came through: {Provider.shown}")
    calls = len(Provider.shown)

    def wrong():
        said = run(house, python, daemon.address, daemon.token, 'assert plain.choices[0].message.content == "there"')
        h.demand(not said, said.strip().splitlines()[-1:])

    h.must_fail("an answer that is not the provider's", wrong)
    daemon.stop()
    provider.shutdown()
    return f"{calls} calls of the official clients passed, plain, streamed, with tools and failing, and no credential of theirs"


h.main("gateway", [official])
