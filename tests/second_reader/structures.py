"""The structures of Lifeboat's repository format, from bytes and to bytes: the pure half of the second reader.

Written from docs/format.md alone, as reader.py is. Headings in brackets are the document's.
"""
import collections
import hashlib
import hmac
import os
import re
import struct

import argon2.low_level
import blake3
import cbor2
import zstandard
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CONFIG, SLOT, ROSTER, INDEX, SNAPSHOT, RELEASE, VOID, TOMBSTONE = range(1, 9)
END, HOLD, CONDEMNED, VERDICT, LOG, LEADER, HEARTBEAT, ORIGIN, PACK, COPIED = range(11, 21)
WRITE, WRITE_ONLY, MAINTAIN = range(3)
DATA, NODE, PAGES, DELTA, SPARSE = range(5)
# Which kinds of block a chunk may be taken from, by what it is wanted as. [Identities of chunks and pages]
AS_BYTES, AS_LEAF, AS_PAGES = (DATA, NODE), (NODE, DELTA), (PAGES, SPARSE)


class Bad(Exception):
    """Damaged, forged, missing, or of a kind that this reader does not know."""


# All that malformed bytes can raise on their way through here.
DAMAGE = (Bad, OSError, InvalidSignature, InvalidTag, struct.error, cbor2.CBORDecodeError, zstandard.ZstdError,
          LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def need(condition, what):
    if not condition:
        raise Bad(what)


# --- Conventions -------------------------------------------------------------------------------------------

def le(number, size):
    return number.to_bytes(size, "little")


def sha256(data):
    return hashlib.sha256(data).digest()


def keyed(id_key, data):
    """The identity of a chunk; its first 16 bytes are the hash of a page. [Identities of chunks and pages]"""
    return blake3.blake3(data, key=id_key).digest()


def nonce(n):
    return le(n, 8) + bytes(4)


def cbor(data):
    """One value and nothing behind it: read as an array of the value and a mark that nobody can know."""
    mark = os.urandom(16)
    pair = cbor2.loads(b"\x82" + data + b"\x50" + mark)
    need(pair[1] == mark, "bytes behind the end of a CBOR value")
    return pair[0]


def unzstd(frame, length, limit):
    need(length <= limit and zstandard.frame_content_size(frame) in (-1, length), "a zstd frame of another length")
    data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=length, allow_extra_data=False)
    need(len(data) == length, "a zstd frame of another length")
    return data


def hkdf(salt, secret, info):
    return hmac.digest(hmac.digest(salt, secret, "sha256"), info + b"\1", "sha256")  # 32 bytes are one round


def hpke_open(private, encapsulated, ciphertext, info):
    """RFC 9180, base mode, X25519 / HKDF-SHA256 / AES-256-GCM."""
    def extract(suite, salt, label, secret):
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, "sha256")

    def expand(suite, key, label, context, length):
        text = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context + b"\1"
        return hmac.digest(key, text, "sha256")[:length]

    key = X25519PrivateKey.from_private_bytes(private)
    shared = key.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    kem, suite = b"KEM\0\x20", b"HPKE\0\x20\0\1\0\2"
    secret = expand(kem, extract(kem, b"", b"eae_prk", shared), b"shared_secret",
                    encapsulated + key.public_key().public_bytes_raw(), 32)
    context = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, secret, b"secret", b"")
    aead = AESGCM(expand(suite, secret, b"key", context, 32))
    return aead.decrypt(expand(suite, secret, b"base_nonce", context, 12), ciphertext, b"")


# --- Envelope, Signatures ----------------------------------------------------------------------------------

Object = collections.namedtuple("Object", "name arrival kind body signatures")  # body: bytes


def content_key(head, kind, repository, epochs):
    """The key of a sealed envelope or a pack; `head` is epoch (4), encapsulated key (32), sealed key (48)."""
    epoch = int.from_bytes(head[:4], "little")
    need(epoch in epochs, f"sealed to epoch {epoch}, which this secret does not open")
    info = b"lifeboat seal 1\0" + repository + bytes([kind]) + head[:4]
    return AESGCM(hpke_open(epochs[epoch], head[4:36], head[36:84], info))


def open_envelope(data, kinds, name="", arrival=0, repository=None, epochs=()):
    magic, version, kind, flags, zero, epoch = struct.unpack("<3sBBBHI", data[:12])
    need(magic == b"LBO" and version > 0 and zero == 0 and flags < 4, "no envelope")
    need(version == 1, f"format {version} needs a newer reader")
    need(kind in kinds, f"an object of kind {kind} where one of {kinds} belongs")
    if flags & 1:
        payload = content_key(data[8:92], kind, repository, epochs).decrypt(nonce(0), data[92:], data[:92])
    else:
        need(flags == 0 and epoch == 0, "an open envelope with flags or an epoch")
        payload = data[12:]
    if flags & 2:
        payload = unzstd(payload[4:], int.from_bytes(payload[:4], "little"), 256 << 20)
    body, signatures = cbor(payload)[:2]
    return Object(name, arrival, kind, body, signatures)


def message(kind, body):
    return b"lifeboat object 1\0" + bytes([kind]) + sha256(body)


def key_id(public):
    return sha256(public)[:16]


def is_signed(thing, public):
    for signature in (s[1] for s in thing.signatures if s[0] == key_id(public)):
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message(thing.kind, thing.body))
            return True
        except InvalidSignature:
            pass
    return False


# --- Key slots ---------------------------------------------------------------------------------------------

def recovery_key(text):
    """The 32 bytes of what reads as a recovery key, else None. [Recovery key]"""
    text = re.sub(r"[\s-]", "", text).upper().translate(str.maketrans("OIL", "011"))
    if not re.fullmatch("11FEB0AT[0-9A-HJKMNP-TV-Z]{56}", text):
        return None
    number = 0
    for character in text[8:]:
        number = number << 5 | "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)
    key = (number >> 24).to_bytes(32, "big")
    good = (number >> 20) & 15 == 0 and number & 0xFFFFF == int.from_bytes(sha256(key)[:3], "big") >> 4
    return key if good else None


def open_slot(slot, repository, lock, secret):
    """What a slot's body holds for the secret of that kind of lock; None where the lock is another."""
    variant, fields = slot[2][:2]
    if variant != lock:
        return None
    binding = b"lifeboat slot 1\0" + repository + slot[1] + bytes([slot[3]])
    if variant == 2:
        secrets = hpke_open(secret, fields[1], slot[4], binding)
    else:
        if variant == 0:
            memory, passes, lanes = fields[0][:3]
            need(8 <= memory <= 1 << 20 and 1 <= passes <= 64 and 1 <= lanes <= 16, "a slot of unreasonable cost")
            key = argon2.low_level.hash_secret_raw(secret, fields[1], passes, memory, lanes, 32,
                                                   argon2.low_level.Type.ID, 0x13)
        else:
            key = hkdf(fields[0], secret, b"lifeboat slot")
        secrets = AESGCM(key).decrypt(nonce(0), slot[4], binding)
    secrets = cbor(secrets)
    need(secrets[0] == slot[0] == repository, "a slot of another repository")
    if slot[3]:
        seed = Ed25519PrivateKey.from_private_bytes(secrets[5])
        need(seed.public_key().public_bytes_raw() == secrets[1], "a root seed of another root")
    return secrets


# --- Page maps ---------------------------------------------------------------------------------------------

ZEROS = (None, 0, bytes(16))  # a slot of a leaf: identity of the page block, slot in it, page hash


def parse_slots(data, blocks, count, head):
    """`count` slots, each behind `head` bytes, after a list of `blocks` identities: [(head, slot)]."""
    need(len(data) == 32 * blocks + (head + 20) * count and max(blocks, count) <= 1024, "a malformed leaf")
    result = []
    for at in range(32 * blocks, len(data), head + 20):
        place, slot, digest = struct.unpack_from("<HH16s", data, at + head)
        need(place < blocks or (place, slot, digest) == (0xFFFF, 0, bytes(16)), "a slot without a block")
        entry = ZEROS if place == 0xFFFF else (data[32 * place:32 * place + 32], slot, digest)
        result.append((int.from_bytes(data[at:at + head], "little"), entry))
    return result


def parse_leaf(data):
    magic, slots, blocks = struct.unpack("<4sHH", data[:8])
    need(magic == b"LBPN", "no leaf")
    return [slot for _, slot in parse_slots(data[8:], blocks, slots, 0)]


def encode_leaf(slots):
    blocks = list(dict.fromkeys(block for block, _, _ in slots if block))
    places = {block: place for place, block in enumerate(blocks)} | {None: 0xFFFF}
    return (struct.pack("<4sHH", b"LBPN", len(slots), len(blocks)) + b"".join(blocks)
            + b"".join(struct.pack("<HH16s", places[block], slot, digest) for block, slot, digest in slots))


def apply_delta(data, slots):
    magic, _base, _depth, changes, blocks = struct.unpack("<4s32sBHH", data[:41])
    need(magic == b"LBPD", "no delta")
    slots = list(slots)
    for place, slot in parse_slots(data[41:], blocks, changes, 2):
        slots[place] = slot
    return slots


def parse_page_block(data, page_bytes):
    """The pages that are there, by slot; and whether all are."""
    magic, size, slots = struct.unpack("<4sIH", data[:10])
    need(magic == b"LBPB" and size == page_bytes and slots <= 1024, "no page block of that page size")
    bitmap = data[10:10 + (slots + 7) // 8]
    there = [n for n in range(slots) if bitmap[n // 8] >> n % 8 & 1]
    start = 10 + len(bitmap)
    need(len(data) == start + size * len(there), "a page block of another length")
    pages = {slot: data[start + i * size:start + (i + 1) * size] for i, slot in enumerate(there)}
    return pages, len(there) == slots


def parse_identities(data, magic, head):
    """A list of chunks or an inner node: a magic, perhaps a count, identities."""
    need(data[:4] == magic and len(data) % 32 == head % 32, "no " + magic.decode())
    identities = [data[i:i + 32] for i in range(head, len(data), 32)]
    need(len(identities) <= 1024 and (head == 4 or le(len(identities), 2) == data[4:6]), "another count")
    return identities


# --- Index, Packs ------------------------------------------------------------------------------------------

Block = collections.namedtuple("Block", "pack number offset stored raw kind compressed")
Place = collections.namedtuple("Place", "block offset length base")  # base: of a delta, else None


def parse_index(body, repository):
    """{pack: [(identity, place)]}: each pack that the body describes, whole."""
    magic, owner, _random, *counts = struct.unpack("<4s16s16s4I", body[:52])
    need(magic == b"LBIX" and owner == repository and sum(counts[1:]) <= 400_000, "no index of this repository")
    tables, start = [], 52
    for layout, count in zip(("<32sII", "<6I", "<32sIII", "<32sI32s"), counts):
        end = start + struct.calcsize(layout) * count
        tables.append(list(struct.iter_unpack(layout, body[start:end])))
        need(end <= len(body), "an index that ends early")
        start = end
    need(start == len(body), "bytes behind the end of an index")
    packs, blocks, entries, deltas = tables
    blocks = [Block(packs[p][0], n, at, stored, raw, f & 255, f >> 8) for p, n, at, stored, raw, f in blocks]
    need(all(b.raw <= 16 << 20 and b.compressed < 2 for b in blocks), "a block beyond the limits")
    need(all(b.kind <= SPARSE for b in blocks), "a block of an unknown kind")
    bases = {(identity, block): base for identity, block, base in deltas}
    result = {name: [] for name, _size, _blocks in packs}
    for identity, block, offset, length in entries:
        place = Place(blocks[block], offset, length, bases.get((identity, block)))
        need((place.base is None) == (place.block.kind != DELTA), "a delta without a base, or a base without")
        result[place.block.pack].append((identity, place))
    return result


def pack_key(head, repository, epochs):
    need(head[:4] == b"LBP\1", "no pack of format 1")
    need(head[4:8] == bytes(4), "it has features that this reader does not know")
    return content_key(head[8:92], PACK, repository, epochs)


def pack_table(key, pack):
    """What a whole pack says of itself: [(block, its chunks)]; for when the index is lost."""
    need(pack[-4:] == b"LBPE", "a pack without an end")
    end = len(pack) - 8
    start = end - int.from_bytes(pack[end:end + 4], "little")
    table = key.decrypt(nonce((1 << 64) - 1), pack[start:end], b"table")
    table = cbor(unzstd(table[4:], int.from_bytes(table[:4], "little"), 16 << 20))
    blocks, at = [], 92
    for number, (kind, compressed, offset, stored, raw, chunks, *_) in enumerate(table[0]):
        need(kind <= SPARSE and raw <= 16 << 20, "a block of an unknown kind, or beyond the limits")
        need(offset == at and sum(chunk[1] for chunk in chunks) == raw, "blocks with gaps")
        need(all((len(chunk) > 2) == (kind == DELTA) for chunk in chunks), "bases where none belong, or none")
        blocks.append((Block(None, number, offset, stored, raw, kind, int(compressed)), chunks))
        at += stored
    need(at == start, "blocks do not fill the pack")
    return blocks


def open_block(key, stored, block):
    aad = bytes([block.kind, block.compressed])
    data = key.decrypt(nonce(block.number), stored, aad)
    if block.compressed:
        data = unzstd(data, block.raw, 16 << 20)
    need(len(data) == block.raw, "a block of another length")
    return data


# --- Logs --------------------------------------------------------------------------------------------------

LOG_NAME = (r"logs/([a-z0-9][a-z0-9._-]{0,99})/([a-z0-9][a-z0-9._-]{0,99})"
            r"/([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{32})-([0-9a-f]{16})")


def parse_log(data, repository, epochs):
    """The head as an object, the table's body or None, the payload's body: bound to each other."""
    magic, version, head, table, payload = struct.unpack("<3sBIII", data[:16])
    need(magic == b"LBG" and version == 1, "no log object of format 1")
    need(len(data) == 16 + head + table + payload <= 33 << 20, "a log object of another length")
    parts, at = [], 16
    for length in (head, table, payload):
        part = open_envelope(data[at:at + length], (LOG,), "", 0, repository, epochs) if length else None
        parts.append(part)
        at += length
    head, table, payload = parts
    body = cbor(head.body)
    need(body[3] < body[4], "a log without positions")
    need(body[11] == sha256(payload.body), "another payload than was signed")
    need(body.get(12) == (sha256(table.body) if table else None), "another table than was signed")
    units = log_units(payload.body) if body[9] else payload.body
    need(len(units) == body[4] - body[3], "a payload that does not fill its positions")
    return head, table and table.body, payload.body


def log_units(data):
    units, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at:at + 4], "little")
        units.append(data[at + 4:at + 4 + length])
        at += 4 + length
    need(at == len(data), "a unit that ends beyond its payload")
    return units
