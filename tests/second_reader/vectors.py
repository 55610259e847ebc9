"""Checks the vectors of the format against this reader's idea of it; every one of vectors.json must be known here.

    reader.py - verify-vectors DIRECTORY
"""
import json
import os
import re
import sys
import traceback

from structures import *  # noqa: F403

# --- the shapes of bodies: an int n is bytes(n), a list is an array, [T, ...] a list of T ---------------------

TEXT, BYTES, UINT, TIME, BOOL = "text", "bytes", "unsigned", "time", "bool"
ARRAY, MAP, TEXTS = [UINT, UINT, UINT], dict, {TEXT: TEXT}
POSITION = [TEXT, 16, UINT]
SIGNED = [BYTES, [[16, 64], ...]]
META = {0: UINT, 1: UINT, 2: UINT, 3: [TIME, UINT], 4: [TIME, UINT], 5: UINT, 6: UINT, 7: UINT, 8: UINT,
        9: [[BYTES, BYTES], ...]}
LIST = {0: 16, 1: UINT, 2: [32, ...], 3: [32, ...], 4: [TEXT, ...], 5: 16}
LOG_HEAD = {0: 16, 1: TEXT, 2: TEXT, 3: UINT, 4: UINT, 5: TIME, 6: TIME, "7?": 32, 8: TEXT, 9: BOOL, "10?": UINT,
            11: 32, "12?": 32}
HEARTBEAT_BODY = {0: 16, 1: UINT, 2: UINT, 3: TIME, 4: BOOL}
ENTRY = {0: BYTES, 1: UINT, 2: UINT, 3: META, 4: [UINT, None], 5: BOOL}
ROSTER_BODY = {
    0: 16, 1: UINT, "2?": 32,
    3: [{0: 32, 1: TEXT, 2: UINT, 3: [TEXT, ...], 4: TIME, "5?": TIME, "6?": BYTES}, ...],
    4: [{0: UINT, 1: 32, "2?": 80}, ...], 5: [{0: 16, 1: TEXT, 2: BOOL, 3: TEXT, 4: TIME}, ...]}
SHAPES = {
    "config": {0: 16, 1: UINT, 2: 32, 3: TIME, 4: UINT, 5: UINT, 6: ARRAY, 7: UINT, 8: UINT, 9: TIME, "10?": 16},
    "roster": ROSTER_BODY,
    "origin": {0: 16, 1: 16, 2: 32, 3: SIGNED, 4: UINT},
    "snapshot": {0: 16, 1: POSITION, "2?": [UINT, 32], 3: TIME, 4: TIME, 5: TEXT, 6: TEXT, 7: TEXT, 8: [32, ...],
                 9: META, 10: {key: UINT for key in range(8)}, 11: TEXTS, "12?": TEXT, "13?": UINT, 14: TEXT},
    "copied-snapshot": {0: 16, 1: POSITION, 2: SIGNED, 3: [POSITION, ...], 4: TIME},
    "release": {0: 16, 1: POSITION},
    "void": {0: 16, 1: POSITION, 2: TIME},
    "tombstone": {0: 16, 1: POSITION, 2: 32, 3: TIME, 4: TEXT},
    "lease": {0: 16, 1: POSITION, 2: UINT, "3?": POSITION, 4: TIME, 5: 16},
    "lease-without-base": {0: 16, 1: POSITION, 2: UINT, "3?": POSITION, 4: TIME, 5: 16},
    "reader-lease": {0: 16, 1: 16, 2: UINT, 3: [POSITION, ...], 4: TIME, 5: TEXT},
    "end": {0: 16, 1: 16, 2: TIME},
    "hold": {0: 16, 1: 16, 2: POSITION, 3: TIME, 4: TEXT},
    "receipt": {0: 16, 1: 16, 2: 16, 3: UINT, 4: BYTES},
    "run-record": {0: 16, 1: TEXT, 2: UINT, 3: BYTES},
    "run-request": {0: 16, 1: TEXT, 2: 16, 3: BYTES},
    "condemn-list": LIST, "verdict": LIST, "verdict-with-logs": LIST,
    "condemn-list-with-logs": LIST | {6: [TEXT, ...]},
    "leader": {0: 16, 1: UINT, 2: 16, 3: TIME, 4: 16},
    "heartbeat": HEARTBEAT_BODY, "heartbeat-resigned": HEARTBEAT_BODY,
    "log-head": LOG_HEAD, "log-head-follower": LOG_HEAD, "log-head-compacted": LOG_HEAD,
    "log-table": {0: [[UINT, TIME], ...], 1: [[UINT, 32], ...]},
    "listing-node": [ENTRY, ...],
    "slot-secrets": {0: 16, 1: 32, 2: UINT, 3: 32, 4: 32, "5?": 32},
}
SHAPES["snapshot-of-leader"] = SHAPES["snapshot"]
CONTENTS = [[[32, ...], UINT, [[UINT, UINT], ...]], [UINT, 32, UINT], [[32, ...]], [BYTES], [BYTES], []]


def fits(value, shape):
    if isinstance(shape, int):
        return isinstance(value, bytes) and len(value) == shape
    if isinstance(shape, dict) and TEXT in shape:
        return all(isinstance(text, str) for pair in value.items() for text in pair)
    if isinstance(shape, dict):
        fields = {int(str(key).rstrip("?")): (part, str(key).endswith("?")) for key, part in shape.items()}
        return (list(value) == sorted(value) and value.keys() <= fields.keys()
                and all(fits(value[key], part) if key in value else optional
                        for key, (part, optional) in fields.items()))
    if isinstance(shape, list) and shape[-1:] == [...]:
        return all(fits(part, shape[0]) for part in value)
    if isinstance(shape, list):
        return len(value) == len(shape) and all(map(fits, value, shape))
    if shape is None:
        return True
    kinds = {TEXT: str, BYTES: bytes, UINT: int, TIME: int, BOOL: bool}
    return type(value) is kinds[shape] and (shape != UINT or 0 <= value < 1 << 64)


# --- what only vectors need: the writing half ------------------------------------------------------------------

def lengths_of_chunks(data, id_key, parameters):
    """[Chunker]"""
    least, average, most = parameters
    gear = struct.unpack("<256Q", blake3.blake3(b"lifeboat gear 1", key=id_key).digest(2048))
    bits, word = average.bit_length() - 1, (1 << 64) - 1

    def top(n):
        n = min(max(n, 1), 63)
        return word >> (64 - n) << (64 - n)

    start, lengths = 0, []
    while start < len(data):
        end = min(len(data) - start, most)
        cut, h, centre = end, 0, max(min(end, average), least)
        for i in range(least, end):
            h = (h << 1) + gear[data[start + i]] & word
            if not h & top(bits + 2 if i < centre else bits - 2):
                cut = i + 1
                break
        lengths.append(cut)
        start += cut
    return lengths


def node_cuts(names):
    """[Trees], where nodes end."""
    cuts, count = [], 0
    for name in names:
        count += 1
        h = 0x811C9DC5
        for byte in name:
            h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
        if count == 2048 or count >= 64 and (h ^ h >> 16) % 256 == 0:
            cuts.append(count)
            count = 0
    return cuts + [count] if count else cuts


def recovery_text(key):
    number = (int.from_bytes(key, "big") << 4) << 20 | int.from_bytes(sha256(key)[:3], "big") >> 4
    digits = "".join("0123456789ABCDEFGHJKMNPQRSTVWXYZ"[number >> 5 * i & 31] for i in range(55, -1, -1))
    return "-".join(["LIFEBOAT"] + re.findall("....", digits))


# --- the vectors -------------------------------------------------------------------------------------------------

def value(text):
    """'07 x 32' and '00 01 02 ... 1f'."""
    if text == "00 01 02 ... 1f":
        return bytes(range(32))
    byte, count = text.split(" x ")
    return bytes.fromhex(byte) * int(count)


class Vectors:
    def __init__(self, folder):
        self.folder = folder

    def bytes(self, name):
        with open(os.path.join(self.folder, name.removesuffix(".hex") + ".hex")) as file:
            return bytes.fromhex(file.read())

    def check(self, name, inputs):
        data = self.bytes(name)
        known = {key: value(text) for key, text in inputs.items()
                 if isinstance(text, str) and re.fullmatch(r"[0-9a-f]{2} x \d+|00 01 02 \.\.\. 1f", text)}
        if name in SHAPES:
            body = cbor(data)
            need(fits(body, SHAPES[name]), f"another shape: {body}")
            need(cbor2.dumps(body) == data, "not the shortest form")
            if name != "listing-node" and "repository" in known:
                need(body[0] == known["repository"], "another repository")
        method = getattr(self, re.split("-(?=passphrase|recovery|command|public)", name)[0].replace("-", "_"), None)
        if method:
            method(name, data, inputs, known)
        return name in SHAPES or method is not None

    def chunk_id(self, name, data, inputs, known):
        need(data == b"".join(keyed(known["id_key"], chunk.encode()) for chunk in inputs["chunks"]), "differs")

    def page_hash(self, name, data, inputs, known):
        need(data == keyed(known["id_key"], known["page"])[:16], "differs")

    def writer_id(self, name, data, inputs, known):
        public = Ed25519PrivateKey.from_private_bytes(known["seed"]).public_key().public_bytes_raw()
        need(data == public + key_id(public), "differs")

    def boundaries_small(self, name, data, inputs, known):
        noise = blake3.blake3(b"noise").digest(200_000 if name.endswith("small") else 16_777_216)
        cuts = lengths_of_chunks(noise, known["id_key"], inputs["parameters"])
        need(data == b"".join(le(cut, 4) for cut in cuts), "differs")

    boundaries_default = boundaries_small

    def recovery_key(self, name, data, inputs, known):
        need(data.decode() == recovery_text(known["key"]), "differs")
        for text in (data.decode(), data.decode().lower().replace("-", " ").replace("0", "o").replace("1", "l")):
            need(recovery_key(text) == known["key"], "does not read")
        need(recovery_key(data.decode()[:-1] + "7") is None, "a wrong check passes")

    def leader(self, name, data, inputs, known):
        public = Ed25519PrivateKey.from_private_bytes(known["writer"]).public_key().public_bytes_raw()
        need(cbor(data)[2] == key_id(public), "another leader")

    def snapshot_of_leader(self, name, data, inputs, known):
        body = cbor(data)
        tips = body[11]["leader-tips"].split(" ")
        need(body[13] == 2 and [tip.partition(":")[2] for tip in tips] == ["3", "12"], "another generation or tips")
        need(body[11]["log-position"] == str((1 << 64) - 1) and 2 not in body, "another position")

    def log_head(self, name, data, inputs, known):
        body, payload = cbor(data), self.bytes(inputs["payload"])
        need(body[11] == sha256(payload), "another payload")
        need(body[4] - body[3] == len(log_units(payload) if body[9] else payload), "other positions")
        need(body.get(12) == (sha256(self.bytes(inputs["table"])) if "table" in inputs else None), "another table")

    log_head_follower = log_head_compacted = log_head

    def log_payload_units(self, name, data, inputs, known):
        need(log_units(data) == [bytes.fromhex(unit) for unit in inputs["units"]], "other units")

    def log_payload_bytes(self, name, data, inputs, known):
        need(data == inputs["text"].encode(), "differs")

    def log_object(self, name, data, inputs, known):
        epochs = {inputs["epoch"]: known["epoch_private"]}
        head, table, payload = parse_log(data, known["repository"], epochs)
        need(payload == self.bytes(inputs["payload"]), "another payload")
        need(table == (self.bytes(inputs["table"]) if "table" in inputs else None), "another table")
        signers = [Ed25519PrivateKey.from_private_bytes(known[seed]).public_key().public_bytes_raw()
                   for seed in ("seed", "copier") if seed in known]
        need(len(head.signatures) == len(signers) and all(is_signed(head, key) for key in signers), "other signers")
        if "head" in inputs:
            need(head.body == self.bytes(inputs["head"]), "another head")
        else:
            body = cbor(head.body)
            need(body.pop(0) == known["origin"], "another origin")
            need(cbor2.dumps({0: known["repository"]} | body) == self.bytes("log-head"), "another head")
        for at in range(len(data)):  # no byte is without meaning
            try:
                changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
                parse_log(changed, known["repository"], epochs)
            except DAMAGE:
                continue
            raise Bad(f"byte {at} may be changed")

    log_object_compacted = log_object_carried = log_object

    def object_names(self, name, data, inputs, known):
        number, digits, place = "[0-9]{12}", "[0-9a-f]{32}", r"[a-z0-9][a-z0-9._-]{0,99}/[0-9a-f]{32}/[0-9]{12}"
        forms = ["config", f"slots/{digits}", f"roster/{number}", f"origins/{digits}/{number}",
                 r"packs/([0-9a-f]{2})/\1[0-9a-f]{62}", "index/[0-9a-f]{64}", f"snapshots/{place}",
                 f"tombstones/{place}", f"leases/{place}/{number}", f"readers/{digits}/{number}",
                 f"readers-ended/{digits}", f"holds/{digits}", f"holds-ended/{digits}", f"condemned/{number}",
                 f"verdicts/{number}", f"leaders/{number}", f"heartbeats/{number}/{number}",
                 f"receipts/{digits}/{digits}/{number}", f"runs/[a-z0-9][a-z0-9-]{{0,63}}/{number}",
                 f"requests/[a-z0-9][a-z0-9-]{{0,63}}/{digits}", LOG_NAME]
        lines = data.decode().splitlines()
        need(len(lines) == len(forms) and all(map(re.fullmatch, forms, lines)), f"other names: {lines}")

    def slot(self, name, data, inputs, known):
        body, kind = cbor(data), name.removeprefix("slot-")
        lock = {"passphrase": 0, "recovery": 1, "public-key": 2, "command-plain": 3}[kind]
        secret = (inputs["passphrase"].encode() if lock == 0 else
                  known[("recovery_key", "private", "secret")[lock - 1]])
        secrets = open_slot(body, body[0], lock, secret)
        need(body[3] == (secrets.get(5) is not None) == ("root_seed" in known), "admin and root seed")
        self.secrets(secrets, inputs, known)
        try:
            open_slot(body, body[0], lock, bytes([secret[0] ^ 16]) + secret[1:])
        except (InvalidTag, InvalidSignature):
            return
        raise Bad("a wrong secret opens it")

    def slot_secrets(self, name, data, inputs, known):
        self.secrets(cbor(data), inputs, known)

    def secrets(self, secrets, inputs, known):
        need((secrets[2], secrets[3], secrets[4], secrets.get(5)) ==
             (inputs["epoch"], known["epoch_private"], known["id_key"], known.get("root_seed")), "other secrets")

    def epoch_previous(self, name, data, inputs, known):
        info = b"lifeboat epoch 1\0" + known["repository"] + le(2, 4)
        need(hpke_open(known["epoch_2_private"], data[:32], data[32:], info) == known["epoch_1_private"], "differs")

    def signature(self, name, data, inputs, known):
        text = message(RELEASE, self.bytes(inputs["body"]))
        need(data == text + Ed25519PrivateKey.from_private_bytes(known["seed"]).sign(text), "differs")

    def envelope(self, name, data, inputs, known):
        kind = int(re.search(r"\((\d+)\)", inputs["kind"])[1])
        epochs = {inputs.get("epoch"): known.get("epoch_private")}
        thing = open_envelope(data, (kind,), name, 0, known.get("repository"), epochs)
        public = Ed25519PrivateKey.from_private_bytes(known["seed"]).public_key().public_bytes_raw()
        need(thing.body == self.bytes(inputs["body"]) and is_signed(thing, public), "another body or signer")
        for at in range(len(data)):  # no byte is without meaning
            try:
                changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
                thing = open_envelope(changed, (kind,), name, 0, known.get("repository"), epochs)
            except DAMAGE:
                continue
            need(not is_signed(thing, public), f"byte {at} may be changed")

    envelope_open = envelope_sealed = envelope_sealed_compressed = envelope

    def pack(self, name, data, inputs, known):
        key = pack_key(data[:92], known["repository"], {inputs["epoch"]: known["epoch_private"]})
        blocks = pack_table(key, data)
        need([b[0].kind for b in blocks] == [DATA, DELTA] and [b[0].compressed for b in blocks] == [1, 0], "blocks")
        (first, chunks), (second, deltas) = blocks
        text = open_block(key, data[first.offset:second.offset], first)
        need(text == (b"lifeboat " * 100)[:900] and [chunk[1] for chunk in chunks] == [500, 400], "another text")
        at = 0
        for identity, length, *_ in chunks:
            need(keyed(known["id_key"], text[at:at + length]) == identity, "another identity")
            at += length
        delta = open_block(key, data[second.offset:second.offset + second.stored], second)
        need(delta == self.bytes("delta"), "another difference")
        need(deltas == [[b"\x51" * 32, len(delta), b"\x52" * 32]], "another base")

    def pack_name(self, name, data, inputs, known):
        need(data == sha256(self.bytes(inputs["pack"])), "differs")

    def index_table(self, name, data, inputs, known):
        packs = parse_index(data, known["repository"])
        need(len(packs) == 2 and data[20:36] == b"\x77" * 16, "other packs")
        places = [place for entries in packs.values() for _, place in entries]
        need(any(place.base for place in places), "no difference in it")

    def listing_node(self, name, data, inputs, known):
        body = cbor(data)
        need({entry[1] for entry in body} == set(range(7)), "not every kind")
        need({entry[4][0] for entry in body} == set(range(6)), "not every content")
        need(all(fits(entry[4][1], CONTENTS[entry[4][0]]) for entry in body), "a content of another shape")

    def listing_cuts(self, name, data, inputs, known):
        cuts = node_cuts(b"%06d" % number for number in range(5000))
        need(data == b"".join(le(cut, 4) for cut in cuts), "differs")

    def list_of_chunks(self, name, data, inputs, known):
        need(parse_identities(data, b"LBCL", 4) == [value(text) for text in inputs["chunks"]], "differs")

    def inner_node(self, name, data, inputs, known):
        need(parse_identities(data, b"LBPI", 6) == [value(text) for text in inputs["children"]], "differs")

    def leaf(self, name, data, inputs, known):
        slots = parse_leaf(data)
        need(len(slots) == 5 and slots.count(ZEROS) == 2 and encode_leaf(slots) == data, "differs")

    def delta(self, name, data, inputs, known):
        need(data[:36] == b"LBPD" + keyed(known["id_key"], self.bytes("leaf")) and data[36] == 3, "another base")

    def delta_applied(self, name, data, inputs, known):
        base, delta = parse_leaf(self.bytes(inputs["base"])), self.bytes(inputs["difference"])
        need(encode_leaf(apply_delta(delta, base)) == data, "differs")

    def page_block(self, name, data, inputs, known):
        pages, whole = parse_page_block(data, 512)
        need(whole and pages == {n: bytes([n + 1]) * 512 for n in range(10)}, "other pages")

    def page_block_id(self, name, data, inputs, known):
        need(data == keyed(known["id_key"], self.bytes("page-block")), "differs")

    def page_block_sparse(self, name, data, inputs, known):
        pages, whole = parse_page_block(data, 512)
        need(not whole and pages == {n: bytes([n + 1]) * 512 for n in (2, 9)}, "other pages")


def verify(folder):
    vectors, good, bad = Vectors(folder), 0, 0
    with open(os.path.join(folder, "vectors.json")) as file:
        listed = json.load(file)["vectors"]
    for vector in listed:
        try:
            need(vectors.check(vector["name"], vector["inputs"]), "this reader does not know it")
            good += 1
        except DAMAGE as error:
            bad += 1
            print(f"{vector['name']}: {type(error).__name__}: {error}", file=sys.stderr)
            if os.environ.get("LIFEBOAT_TRACE"):
                traceback.print_exc()
    print(f"{good} vectors agree, {bad} do not")
    return 1 if bad or not good else 0
