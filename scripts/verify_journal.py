#!/usr/bin/env python3
"""Verifies a Chancery state root or receipt without any of its code.

Usage: verify_journal.py PATH [--key VERIFIER_KEY] [--state-root DIR]
A receipt is checked with the key, or with the keys of the state root, walked from its first one (which must be the key given).
Needs the package `cryptography`. Exit code: 0 valid, 1 invalid, 2 no such path, 3 unverifiable.
Of a state root that a daemon holds, what stands behind the newest seal is on its way and not looked at. Kinds, versions and bodies are compared with the schemas that lie
beside this file in ../state-schema; without them a journal is unverifiable. Large parts in artifacts/ and files in the quarantine
are compared with the records that name them. Not looked at: the access log, snapshots, and the digests of read models.
"""
import base64
import fcntl
import hashlib
import json
import os
import re
import stat
import sys
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DASH = "\u2014 "


class Invalid(Exception):
    pass


class Unverifiable(Exception):
    pass


class Open(Unverifiable):
    """Lines without a seal stand at the end: the next start decides."""


def whole(value):
    """Whether a value is a whole number as the formats have them: neither a boolean nor a fraction."""
    return type(value) is int and 0 <= value < 1 << 64


def read_file(path):
    """Reads a plain file; never follows a link, never waits on a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as fault:
        if os.path.islink(path):
            raise Unverifiable(f"{path}: a link is not followed") from fault
        raise
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unverifiable(f"{path}: not a plain file")
        return file.read()


def sha(data):
    return hashlib.sha256(data).digest()


def leaf(line):
    return sha(b"\0" + line)


def node(left, right):
    return sha(b"\1" + left + right)


def strict_b64(text):
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise Invalid("base64 is not canonical")
    return data


class Tree:
    def __init__(self, size=0, roots=()):
        self.size, self.roots = size, list(roots)
        if len(self.roots) != bin(size).count("1"):
            raise Invalid("the frontier does not fit its size")

    def push(self, h):
        n = self.size
        while n & 1:
            h = node(self.roots.pop(), h)
            n >>= 1
        self.roots.append(h)
        self.size += 1

    def root(self):
        if not self.roots:
            return sha(b"")
        h = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            h = node(left, h)
        return h


class Note:
    def __init__(self, text):
        try:
            head, tail = text.split("\n\n")
            self.origin, size, root = head.split("\n")
            self.size, self.root = int(size), strict_b64(root)
            if str(self.size) != size or not whole(self.size) or len(self.root) != 32 or not tail.endswith("\n"):
                raise ValueError
            self.signed = (head + "\n").encode()
            self.signatures = []
            for line in tail[:-1].split("\n"):
                name, blob = line.removeprefix(DASH).split(" ")
                blob = strict_b64(blob)
                if not line.startswith(DASH) or name != self.origin or len(blob) != 68:
                    raise ValueError
                self.signatures.append((blob[:4], blob[4:]))
        except (ValueError, Invalid) as fault:
            raise Invalid("a note is not canonical") from fault
        self.text = text

    def signed_by(self, key):
        wanted = sha(self.origin.encode() + b"\n\1" + key)[:4]
        for key_id, signature in self.signatures:
            if key_id == wanted:
                try:
                    Ed25519PublicKey.from_public_bytes(key).verify(signature, self.signed)
                    return True
                except InvalidSignature:
                    return False
        return False


class Keys:
    """The keys of state-root.json, walked from the pin."""

    def __init__(self, root):
        entries = root["keys"]
        shaped = isinstance(entries, list) and entries and all(
            isinstance(entry, dict) and not set(entry) - {"epoch", "from_seq", "public_key", "note"}
            and whole(entry["from_seq"]) and all(isinstance(entry[name], str) for name in set(entry) - {"from_seq"})
            for entry in entries)
        if set(root) != {"id", "format", "created_at_ms", "keys"} or not shaped or not whole(root["created_at_ms"]):
            raise Invalid("state-root.json is not of the documented form")
        self.links = []
        for entry in entries:
            key, origin = strict_b64(entry["public_key"]), f"chancery/{root['id']}/{entry['epoch']}"
            handover = None
            if not self.links:
                if "note" in entry or entry["from_seq"] != 0:
                    raise Invalid("the pin is not the first key")
            else:
                before, note = self.links[-1], Note(entry["note"])
                good = note.origin == before[1] and note.signed_by(before[2]) and entry["from_seq"] >= before[0]
                if origin == before[1]:
                    handover = note.text
                    good = good and note.signed_by(key) and key != before[2]
                    good = good and note.size == entry["from_seq"] and len(note.signatures) == 2
                else:
                    good = good and note.size < entry["from_seq"]
                if not good:
                    raise Invalid("a key is not introduced by the key before it")
            self.links.append((entry["from_seq"], origin, key, handover))

    def epoch_at(self, seq):
        return [origin for from_seq, origin, _, _ in self.links if from_seq <= seq][-1].split("/")[2]

    def accepts(self, note):
        for from_seq, origin, key, handover in reversed(self.links):
            if from_seq <= note.size:
                if handover and from_seq == note.size:
                    return note.text == handover
                return note.origin == origin and len(note.signatures) == 1 and note.signed_by(key)
        return False


def unique(pairs):
    found = {}
    for name, value in pairs:
        if name in found:
            raise Invalid(f"the key {name} is repeated")
        if value is None:
            raise Invalid(f"the key {name} is null")
        found[name] = value
    return found


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


HEAD_KEYS = ["seq", "at_ms", "mono_ms", "kind", "v", "org", "stream", "project", "subject", "actor", "on_behalf_of",
             "ctx", "request", "cause", "reason", "data"]


SCHEMAS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "state-schema")
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}


def of_type(value, name):
    if name in ("integer", "number"):
        return isinstance(value, int if name == "integer" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def fits(value, schema, top):
    """Whether a value fits the part of JSON Schema that these schemas use."""
    if schema is True or schema == {}:
        return True
    if "$ref" in schema and not fits(value, top["$defs"][schema["$ref"].rsplit("/", 1)[1]], top):
        return False
    names = schema.get("type", [])
    if names and not any(of_type(value, name) for name in ([names] if isinstance(names, str) else names)):
        return False
    if "enum" in schema and value not in schema["enum"] or "const" in schema and value != schema["const"]:
        return False
    for word, count in (("anyOf", lambda n: n > 0), ("oneOf", lambda n: n == 1), ("allOf", None)):
        if word in schema:
            good = sum(fits(value, choice, top) for choice in schema[word])
            if not (good == len(schema[word]) if count is None else count(good)):
                return False
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return False
    if isinstance(value, list) and "items" in schema and not all(fits(item, schema["items"], top) for item in value):
        return False
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", True)
        if any(name not in value for name in schema.get("required", [])):
            return False
        for name, part in value.items():
            rule = known.get(name, other)
            if rule is False or rule is not True and not fits(part, rule, top):
                return False
    return True


def load_schema(path, loaded={}):
    if path not in loaded:
        if not os.path.isdir(SCHEMAS):
            raise Unverifiable("the schemas are not beside this file")
        full = os.path.join(SCHEMAS, path)
        loaded[path] = json.load(open(full, encoding="utf-8")) if os.path.exists(full) else None
    return loaded[path]


def check_schema(record):
    seq, kind, version = record["seq"], record["kind"], record["v"]
    named = isinstance(kind, str) and re.fullmatch(r"[a-z_]+\.[a-z_]+", kind)
    schema = load_schema(f"events/{kind}.v{version}.json") if named else None
    if schema is None:
        raise Invalid(f"record {seq} is of an unknown kind or version")
    envelope = load_schema("formats/record.json")
    if not fits(record, envelope, envelope) or not fits(record["data"], schema, schema):
        raise Invalid(f"record {seq} does not fit its schema")
    if record["stream"].split("/")[0] not in schema["x-stream"]:
        raise Invalid(f"record {seq} does not belong on its stream")


def check_record(line, seq, in_force):
    record = json.loads(line, object_pairs_hook=unique)
    if compact(record) != line:
        raise Invalid(f"record {seq} is not compact")
    order = [HEAD_KEYS.index(name) for name in record if name in HEAD_KEYS]
    if len(order) != len(record) or order != sorted(order) or record["seq"] != seq:
        raise Invalid(f"record {seq} has other keys, or in another order")
    in_force = seq if record["kind"] == "context.set" else in_force
    if len(line) > 1 << 20 or record["ctx"] != in_force:
        raise Invalid(f"record {seq} passes a limit or names another context than the one in force")
    check_schema(record)
    return record, in_force


def render_seal(note, seq=None):
    text = note.text.replace("\n", "\\n")
    return f'{{"seq":{note.size if seq is None else seq},"seal":"{text}"}}'.encode()


def check_format(number, path):
    if whole(number) and 1 < number < 1 << 32:
        raise Unverifiable(f"{path}: format {number} is newer")
    if not whole(number) or number != 1:
        raise Invalid(f"{path}: {number} is no format")


def read_header(line, path):
    body = json.loads(line, object_pairs_hook=unique)
    segment = body["segment"]
    if list(body) != ["segment"] or compact(body) != line:
        raise Invalid(f"{path}: the header is not canonical")
    check_format(segment["format"], path)
    if not whole(segment["first_seq"]):
        raise Invalid(f"{path}: {segment['first_seq']} is no sequence number")
    note = Note(segment["checkpoint"]) if "checkpoint" in segment else None
    tree = Tree(note.size if note else 0, [strict_b64(root) for root in segment["frontier"]])
    if note and tree.root() != note.root:
        raise Invalid(f"{path}: the frontier does not hash to the checkpoint")
    if note:
        tree.push(leaf(render_seal(note)))
    if segment["first_seq"] != tree.size:
        raise Invalid(f"{path}: the header's numbers do not agree")
    return segment, note, tree


def verify_segment(path, name, last, keys, root, seals, named):
    data = read_file(path)
    line, _, rest = data.partition(b"\n")
    segment, note, tree = read_header(line, name)
    wanted = ["format", "root_id", "epoch", "first_seq"] + (["checkpoint"] if note else []) + ["frontier"]
    if list(segment) != wanted or segment["epoch"] != keys.epoch_at(segment["first_seq"]):
        raise Invalid(f"{name}: the header has other keys, or another epoch")
    if (note.text if note else None) != (last.text if last else None) or segment["root_id"] != root["id"]:
        raise Invalid(f"{name}: the header does not continue the segment before")
    if name != f"{segment['first_seq']:020}.jsonl":
        raise Invalid(f"{name}: the name is not the first sequence number")
    at, in_force, fault = len(data) - len(rest), None, None
    while fault is None and data[at:at + 1] not in (b"", b"\n"):
        batch, grown, end, sealed = [], Tree(tree.size, tree.roots), at, False
        while fault is None and not sealed:
            stop, seq = data.find(b"\n", end), grown.size
            line = data[end:max(stop, end)]
            number, sealed = shape(line) or (None, False)
            seal = parse_seal(line) if sealed else None
            if stop < 0 or number != seq:
                fault = f"line {seq} is not the one that is due"
            elif sealed and not (seal and seal.size == seq and seal.root == grown.root()):
                fault = f"seal {seq} does not match the lines before it"
            else:
                batch, end = batch + [line], stop + 1
                grown.push(leaf(line))
        if fault is None:
            in_force = check_batch(batch[:-1], tree.size, in_force, name, named)
            if not keys.accepts(seal):
                raise Invalid(f"{name}: the signature of seal {seal.size} is not valid")
            seals[seal.size], last, tree, at = seal.root, seal, grown, end
    judge_tail(data[at:], at, tree.size, f"{name}: {fault or 'padding holds other bytes than newlines'}")
    return last, tree


def check_batch(lines, seq, in_force, name, named):
    if not lines:
        raise Invalid(f"{name}: the batch at {seq} holds no record")
    for index, line in enumerate(lines):
        try:
            record, in_force = check_record(line, seq + index, in_force)
        except (ValueError, KeyError) as fault:
            raise Invalid(f"{name}: line {seq + index} is no record: {fault}") from fault
        body = record["data"]
        for file in {"journal.tail_quarantined": [body], "journal.repaired": body.get("files", [])}.get(record["kind"], []):
            named.quarantined[file["file"]] = file["sha256"]
        if b'"blob":{' in line:
            named.find_blobs(body)
    return in_force


class Named:
    """Files beside the segments that records name."""

    def __init__(self):
        self.quarantined, self.blobs = {}, {}

    def find_blobs(self, value):
        if isinstance(value, dict) and list(value) == ["blob"]:
            self.blobs[value["blob"]["sha256"]] = value["blob"]["bytes"]
        elif isinstance(value, (dict, list)):
            for part in value.values() if isinstance(value, dict) else value:
                self.find_blobs(part)

    def check(self, path):
        folder = os.path.join(path, "journal", "quarantine")
        planned = []
        if os.path.exists(os.path.join(path, "repair.json")):
            plan = json.loads(read_file(os.path.join(path, "repair.json")))
            planned = [file["file"] for file in plan["repaired"].get("files", [])]
        unnamed = None
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if name in self.quarantined:
                if sha(read_file(os.path.join(folder, name))).hex() != self.quarantined[name]:
                    raise Invalid(f"quarantine/{name} is not the file that its record names")
            elif not name.endswith(".pending") and name not in planned:
                unnamed = unnamed or name
        if unnamed:
            raise Unverifiable(f"quarantine/{unnamed}: no record names this file")

    def check_blobs(self, path):
        missing = []
        for digest, size in sorted(self.blobs.items()):
            file = os.path.join(path, "artifacts", "sha256", digest[:2], digest)
            if not os.path.exists(file):
                missing.append(digest)
            elif os.path.getsize(file) != size or sha(read_file(file)).hex() != digest:
                raise Invalid(f"artifacts: {digest} is not the part that the journal names")
        if missing:
            raise Unverifiable(f"{len(missing)} parts that the journal names are not there, among them {missing[0]}")


def shape(line):
    """The number of a line, and whether it begins as a seal."""
    found = re.match(rb'\{"seq":([0-9]{1,20}),"(seal|at_ms)":', line)
    return found and (int(found[1]), found[2] == b"seal")


def parse_seal(line):
    try:
        seal = Note(json.loads(line, object_pairs_hook=unique)["seal"])
        return seal if render_seal(seal, shape(line)[0]) == line else None
    except (Invalid, ValueError, KeyError, TypeError, AttributeError):
        return None


def parses(line, sealed):
    if sealed:
        return parse_seal(line) is not None
    try:
        check_schema(json.loads(line, object_pairs_hook=unique))
        return True
    except (Invalid, ValueError, KeyError, TypeError):
        return False


def judge_tail(tail, offset, seq, fault):
    """Judges what stands behind the last good seal: padding, damage, or what a crash explains.

    A crash takes two things: directly behind the last right byte stands a run of newlines or NULs that ends where a
    sector of 512 bytes does, or at the end of the file; and at most one seal is left."""
    if not tail.strip(b"\n"):
        return
    at = 0
    while (stop := tail.find(b"\n", at)) >= 0:
        found = shape(tail[at:stop])
        if not found or not parses(tail[at:stop], found[1]):
            break
        if found[0] != seq or found[1]:
            raise Invalid(fault)
        at, seq = stop + 1, seq + 1
    torn = re.match(rb"[^\n\0]*", tail[at:])[0]
    end = at + len(torn) + len(re.match(rb"[\n\0]*", tail[at + len(torn):])[0])
    due = b'{"seq":%d,"' % seq
    begins = due.startswith(torn) or torn.startswith(due)
    sector = (offset + end) % 512 == 0 or (offset + end) % 512 == 1 and tail[end - 1:end] == b"\n"
    seals = sum(parse_seal(part) is not None for part in re.split(rb"[\n\0]+", tail))
    if not begins or not (end == len(tail) or end > at + len(torn) and sector) or seals > 1:
        raise Invalid(fault)
    raise Open(f"{fault.split(':')[0]}: bytes stand behind the newest seal: the next start will decide")


def is_held(path):
    """Whether a daemon holds the state root, asked with a shared lock that is released at once."""
    try:
        descriptor = os.open(os.path.join(path, "LOCK"), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def read_slots(path, held, keys):
    """The notes of `acked`. A running daemon may be writing one of the two slots."""
    slots = read_file(path)
    if len(slots) != 8192:
        raise Invalid("acked has another length than two slots")
    notes = []
    for slot in (slots[:4096], slots[4096:]):
        try:
            note = Note(slot.rstrip(b"\n").decode() + "\n")
            if note.text.encode().ljust(4096, b"\n") != slot or not keys.accepts(note):
                raise Invalid("a slot of acked is no canonical signed note")
            notes.append(note)
        except (Invalid, UnicodeDecodeError) as fault:
            if not held:
                raise Invalid("a slot of acked is no canonical signed note") from fault
    if not notes:
        raise Invalid("no slot of acked is a canonical signed note")
    return notes


def read_state_root(path):
    root = json.loads(read_file(os.path.join(path, "state-root.json")), object_pairs_hook=unique)
    check_format(root["format"], "state-root.json")
    return root, Keys(root)


def verify_root(path, key):
    """Verifies a state root. One that a daemon writes may look broken at a moment, and is looked at again."""
    for attempt in range(3):
        held = is_held(path)
        try:
            return look(path, key, held)
        except (Invalid, Unverifiable, OSError):
            if attempt == 2 or not (held or is_held(path)):
                raise
            time.sleep(0.05)


def look(path, key, held):
    root, keys = read_state_root(path)
    folder = os.path.join(path, "journal")
    if os.path.islink(folder):
        raise Unverifiable("journal: a link is not followed")
    if key is not None and key != keys.links[0][2]:
        raise Unverifiable("the pinned key is not the key given")
    if not os.path.lexists(os.path.join(folder, "acked")):
        raise Invalid("acked is missing")
    # What acked names was on disk before it was named: it is read first.
    slots = read_slots(os.path.join(folder, "acked"), held, keys)
    names = sorted(os.listdir(folder))
    segments = [name for name in names if name.endswith(".jsonl")]
    for name in names:
        if name not in segments and name not in ("acked", "next", "quarantine"):
            raise Invalid(f"{name}: nothing but the journal's files may stand here")
    for name in segments:
        if not stat.S_ISREG(os.lstat(os.path.join(folder, name)).st_mode):
            raise Invalid(f"{name}: not a plain file")
    if segments and segments[0] != f"{0:020}.jsonl":
        raise Invalid("the first segment is missing")
    if not segments or any(os.path.getsize(os.path.join(folder, name)) == 0 for name in segments):
        raise Invalid("a segment is missing or empty")
    last, tree, seals, opened, named = None, Tree(), {0: sha(b"")}, None, Named()
    for name in segments:
        try:
            last, tree = verify_segment(os.path.join(folder, name), name, last, keys, root, seals, named)
        except Open as fault:
            if name != segments[-1]:
                raise Invalid(str(fault)) from fault
            opened = fault
    if any(seals.get(note.size) != note.root for note in slots):
        raise Invalid("a slot of acked is not over a prefix of the journal")
    named.check(path)
    if "next" in names and not held:
        check_next(os.path.join(folder, "next"))
    if opened is not None and not held:
        raise opened
    named.check_blobs(path)
    return f"valid: {tree.size} lines in {len(segments)} segments" if opened is None else "valid, as far as it is sealed"


def check_next(path):
    header, _, rest = read_file(path).partition(b"\n")
    if header:
        read_header(header, "next")
    if rest.strip(b"\n"):
        raise Invalid("next holds other bytes than a header and newlines")


def read_receipt(path):
    """A receipt, if the file is one: with these keys and these kinds of values."""
    try:
        receipt = json.loads(read_file(path), object_pairs_hook=unique)
        texts = [receipt["line"], receipt["note"], *receipt["hashes"]]
        numbers = [receipt["format"], receipt["seq"], receipt["tree_size"]]
        shaped = isinstance(receipt["hashes"], list) and len(receipt) == 6
        if shaped and all(map(whole, numbers)) and numbers[0] < 1 << 32 and all(isinstance(text, str) for text in texts):
            return receipt
    except (Invalid, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Unverifiable("the file is neither a state root nor a receipt")


def verify_receipt(path, key, root=None):
    receipt = read_receipt(path)
    if receipt["format"] != 1 or "\n" in receipt["line"]:
        raise Invalid("the receipt's numbers do not agree")
    note, line = Note(receipt["note"]), receipt["line"].encode()
    index, size, h = receipt["seq"], receipt["tree_size"], leaf(line)
    if note.size != size or index >= size or (shape(line) or (None,))[0] != index:
        raise Invalid("the receipt's numbers do not agree")
    last = size - 1
    for sibling in map(strict_b64, receipt["hashes"]):
        if last == 0 or len(sibling) != 32:
            raise Invalid("the proof is too long")
        if index & 1 or index == last:
            h = node(sibling, h)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            h = node(h, sibling)
        index, last = index >> 1, last >> 1
    if last or h != note.root:
        raise Invalid("the hashes do not lead to the root that the note signs")
    keys = None if root is None else read_state_root(root)[1]
    if keys and (key not in (None, keys.links[0][2]) or note.origin not in [origin for _, origin, _, _ in keys.links]):
        keys = None
    if key is None and keys is None:
        raise Unverifiable("--key or --state-root is needed to say who signed")
    if not (key and note.signed_by(key)) and not (keys and keys.accepts(note)):
        raise Invalid("the note is not signed by the key")
    return f"valid: line {receipt['seq']} is in the tree of {size} lines"


def parse_key(text):
    """A C2SP verifier key: its name, its id and the key."""
    try:
        name, key_id, key = text.split("+", 2)
        key = strict_b64(key)
        if len(key) == 33 and key[:1] == b"\1" and sha(name.encode() + b"\n" + key)[:4].hex() == key_id:
            return key[1:]
    except (ValueError, Invalid):
        pass
    return None


def main(arguments):
    key = root = None
    if "--key" in arguments:
        at = arguments.index("--key")
        key = parse_key("".join(arguments[at + 1:at + 2]))
        if key is None:
            print("--key is not a C2SP verifier key", file=sys.stderr)
            return 2
        del arguments[at:at + 2]
    if "--state-root" in arguments:
        at = arguments.index("--state-root")
        root = "".join(arguments[at + 1:at + 2])
        del arguments[at:at + 2]
    if len(arguments) != 1 or not os.path.exists(arguments[0]):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        path = arguments[0]
        print(verify_root(path, key) if os.path.isdir(path) else verify_receipt(path, key, root))
        return 0
    except Invalid as fault:
        print(f"invalid: {fault}")
        return 1
    except Unverifiable as fault:
        print(f"unverifiable: {fault}")
        return 3
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as fault:
        print(f"invalid: not of the documented form: {fault}")
        return 1
    except OSError as fault:
        print(f"unverifiable: {fault}")
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
