#!/usr/bin/env python3
"""A second reader of Lifeboat's repository format.

Written from docs/format.md alone, with public libraries, without a look at the program's source: what it can
read, anybody can read for as long as that document exists. Headings in brackets are the document's.

    LIFEBOAT_PASSPHRASE=...  reader.py REPOSITORY list
    LIFEBOAT_PASSPHRASE=...  reader.py REPOSITORY restore SNAPSHOT TARGET
    reader.py - verify-vectors DIRECTORY

REPOSITORY is a directory; the secret a passphrase or a recovery key. Exit code 0: done and whole; 1: not.

It has no memory between runs (so it cannot tell a replay), writes no reader's lease (what prune takes away
meanwhile it looks for again) and restores no logs, whose objects it knows from the vectors alone. It opens no
write-only domains, which the document marks as later.
"""
import collections
import contextlib
import datetime
import functools
import json
import os
import re
import stat
import sys

from structures import *  # noqa: F403, the other half of this program

@contextlib.contextmanager
def passed_over(name):
    """What fails here counts for nothing and stops nobody; it is named. What is gone is another matter."""
    try:
        yield
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        print(f"passed over: {name}: {type(error).__name__}: {error}", file=sys.stderr)


def maintainer(writer):
    return writer[2] == MAINTAIN


NUMBER = r"((?!0{12})[0-9]{12})"  # from 1; only those of renewals start at 0, and nobody here reads them
POSITION = r"/([a-z0-9][a-z0-9._-]{0,99})/([0-9a-f]{32})/" + NUMBER


class Repository:
    def __init__(self, path, secret):
        """[Trust], steps 1 to 6."""
        self.path, self.epochs, self.id = path, {}, None
        config = self.get("config", CONFIG)
        fields = cbor(config.body)
        need(fields[1] == 1, f"format {fields[1]} needs a newer reader")
        self.id = fields[0]
        secrets = self.unlock(secret)
        self.root, self.id_key = secrets[1], secrets[4]
        need(fields[2] == self.root and is_signed(config, self.root), "config is not the root's")
        self.load_roster()
        self.load_epochs(secrets[2], secrets[3])
        self.origins = {} if fields.get(10) is None else self.load_origins()
        self.block = functools.lru_cache(32)(self.block)
        self.page_blocks = functools.lru_cache(64)(self.page_blocks)
        self.pack_key = functools.lru_cache(None)(self.pack_key)

    # The store: a directory.
    def names(self, pattern):
        """The objects whose whole name has this form, in byte order, each with what the form's groups hold."""
        top = os.path.join(self.path, pattern.split("/")[0])
        found = []
        for folder, _, files in os.walk(top):
            for name in (os.path.relpath(os.path.join(folder, file), self.path) for file in files):
                match = re.fullmatch(pattern, name)
                if match and stat.S_ISREG(os.lstat(os.path.join(self.path, name)).st_mode):
                    found.append((name, match.groups()))
        return sorted(found)

    def get(self, name, *kinds):
        with open(os.path.join(self.path, name), "rb") as file:
            arrival = os.fstat(file.fileno()).st_mtime_ns
            data = file.read((33 << 20) + 1)
        need(len(data) <= 33 << 20, "an object beyond the limits")
        if kinds == (INDEX,):
            need(sha256(data).hex() == os.path.basename(name), "its bytes have another name")
        return open_envelope(data, kinds, name, arrival, self.id, self.epochs)

    def unlock(self, secret):
        key = recovery_key(secret)
        lock, secret = (0, secret.encode("utf-8", "surrogateescape")) if key is None else (1, key)
        for name, (slot_id,) in self.names("slots/([0-9a-f]{32})"):
            try:
                slot = self.get(name, SLOT)
                fields = cbor(slot.body)
                need(fields[1].hex() == slot_id, "a slot under another name")
                secrets = open_slot(fields, self.id, lock, secret)
                if secrets and is_signed(slot, secrets[1]):
                    return secrets
            except DAMAGE:
                continue  # the secret may be another slot's
        raise Bad("this secret opens no key slot")

    def load_roster(self):
        for name, (number,) in reversed(self.names("roster/" + NUMBER)):
            roster = None
            with passed_over(name):  # anybody who can create objects can put something at a higher number
                roster = self.get(name, ROSTER)
                need(is_signed(roster, self.root), "not signed by the root")
            if roster is None or not is_signed(roster, self.root):
                continue
            try:  # what the root signed is no junk: passing over it would be going back
                body = cbor(roster.body)
                writers = {key_id(writer[0]): writer for writer in body[3]}
                need(all(writer[2] in (WRITE, WRITE_ONLY, MAINTAIN) for writer in body[3]), "an unknown role")
            except DAMAGE as error:
                raise Bad(f"{name} is the root's and needs a newer reader: {error}") from error
            with passed_over(name):
                need(body[0] == self.id and body[1] == int(number), "it stands elsewhere than it says")
                self.roster, self.writers = body, writers
                return
        raise Bad("no roster is the root's")

    def load_epochs(self, number, private):
        """[Epochs]: from the one in the slot down."""
        listed = {epoch[0]: epoch for epoch in self.roster[4]}
        while True:
            public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
            need(listed[number][1] == public, f"epoch {number} has another public key in the roster")
            self.epochs[number] = private
            sealed = listed[number].get(2)
            if sealed is None:
                return
            info = b"lifeboat epoch 1\0" + self.id + le(number, 4)
            private, number = hpke_open(private, sealed[:32], sealed[32:], info), number - 1

    def load_origins(self):
        """[Copies]: {repository of the origin: its writers}, of each the highest number."""
        origins = {}
        for name, (root, number) in self.names("origins/([0-9a-f]{32})/" + NUMBER):
            with passed_over(name):
                origin = self.get(name, ORIGIN)
                fields = cbor(origin.body)
                roster = Object(name, 0, ROSTER, *fields[3][:2])
                need(is_signed(origin, self.root) and is_signed(roster, fields[2]), "not signed")
                inner = cbor(roster.body)
                need(fields[0] == self.id != fields[1] and fields[1] == inner[0]
                     and fields[4] == inner[1] == int(number) and key_id(fields[2]).hex() == root,
                     "it belongs elsewhere")
                need(all(writer[2] in (WRITE, WRITE_ONLY, MAINTAIN) for writer in inner[3]), "an unknown role")
                origins[inner[0]] = {key_id(writer[0]): writer for writer in inner[3]}
        return origins

    def signer(self, thing, may):
        """The writer whose good signature makes the object count; revocation is by arrival. [Trust]"""
        if not all(signature[0] in self.writers for signature in thing.signatures):
            self.load_roster()
        for writer in (self.writers.get(signature[0]) for signature in thing.signatures):
            if (writer and may(writer) and (writer.get(5) is None or thing.arrival < writer[5])
                    and is_signed(thing, writer[0])):
                return writer
        raise Bad("no good signature of a writer who may sign it")

    # Snapshots.
    def position(self, groups):
        return [groups[0], bytes.fromhex(groups[1]), int(groups[2])]

    def body(self, name, kind, may, place):
        """The body of an object that counts: signed, of this repository, and bound to its place."""
        thing = self.get(name, kind)
        self.signer(thing, may)
        body = cbor(thing.body)
        need(body[0] == self.id and all(body[key] == at for key, at in place.items()), "it belongs elsewhere")
        return body

    def held(self):
        """The positions that holds keep, whatever tombstones say. [Tombstones and holds]"""
        ended, held = set(), []
        for name, (ticket,) in self.names("holds-ended/([0-9a-f]{32})"):
            with passed_over(name):
                self.body(name, END, maintainer, {1: bytes.fromhex(ticket)})
                ended.add(ticket)
        for name, (ticket,) in self.names("holds/([0-9a-f]{32})"):
            with passed_over(name):
                body = self.body(name, HOLD, lambda writer: True, {1: bytes.fromhex(ticket)})
                held += [body[2]] if ticket not in ended else []
        return held

    def snapshots(self):
        """[({id, position, body})], [what failed]; those that are not forgotten. [Reading a snapshot]"""
        forgotten, found, failed, held = set(), [], [], self.held()
        for name, groups in self.names("tombstones" + POSITION):
            with passed_over(name):
                self.body(name, TOMBSTONE, maintainer, {1: self.position(groups)})
                forgotten.add(groups)
        for name, groups in self.names("snapshots" + POSITION):
            if groups not in forgotten or self.position(groups) in held:
                try:
                    found += self.snapshot(name, self.position(groups))
                except DAMAGE as error:
                    failed.append({"name": name, "error": f"{type(error).__name__}: {error}"})
        found, unled = self.counted(found)
        return sorted(found, key=lambda s: (s["body"][3], s["position"])), failed + unled

    # Leaders.
    def leaders(self):
        """{generation: the writer that led it}"""
        leaders = {}
        for name, (number,) in self.names("leaders/" + NUMBER):
            with passed_over(name):
                thing = self.get(name, LEADER)
                writer = key_id(self.signer(thing, lambda writer: writer[2] != WRITE_ONLY)[0])
                body = cbor(thing.body)
                need((body[0], body[1], body[2]) == (self.id, int(number), writer), "it belongs elsewhere")
                leaders[int(number)] = writer
        return leaders

    def counted(self, found):
        """The snapshots that count, and those of which it cannot be told, as what failed. [Leaders]"""
        if all(snapshot["generation"] is None for snapshot in found):
            return found, []
        leaders, first, good, unled = self.leaders(), {}, [], []
        for snapshot in found:
            (dataset, writer, number), generation = snapshot["position"], snapshot["generation"]
            if generation in leaders and leaders[generation] == writer:
                key = (dataset, generation)
                first[key] = min(first.get(key, snapshot), snapshot, key=lambda s: s["position"][2])
        for snapshot in found:
            (dataset, writer, number), generation = snapshot["position"], snapshot["generation"]
            later = [fix for (where, by), fix in first.items() if where == dataset and by > (generation or 0)]
            if generation is None or (leaders.get(generation) == writer
                                      and all(admits(fix, writer, number) for fix in later)):
                good.append(snapshot)
            elif generation not in leaders:
                unled.append({"name": "snapshots/%s/%s/%012d" % (dataset, writer.hex(), number),
                              "error": f"nobody is known to have led generation {generation}"})
        return good, unled

    def snapshot(self, name, position):
        thing = self.get(name, SNAPSHOT, COPIED, RELEASE, VOID)
        body = cbor(thing.body)
        need(body[0] == self.id and body[1] == position, "it stands elsewhere than it says")
        if thing.kind == VOID:
            self.signer(thing, maintainer)
            return []
        # "Any": a writer without a list of datasets may publish all.
        may = lambda writer: thing.kind == RELEASE or not writer[3] or position[0] in writer[3]
        self.signer(thing, lambda writer: key_id(writer[0]) == position[1] and may(writer))
        if thing.kind == RELEASE:
            return []
        generation = body.get(13)
        if thing.kind == COPIED:
            need(all(left_out[0] == position[0] for left_out in body[3]), "it leaves out another dataset's")
            thing, generation = Object(name, 0, SNAPSHOT, *body[2][:2]), None  # the copier judged the leader
            body = cbor(thing.body)
            writers = self.writers if body[0] == self.id else self.origins[body[0]]
            writer = writers[body[1][1]]
            need(is_signed(thing, writer[0]), "the origin's writer has not signed it")
            need(body[1][0] == position[0] and may(writer), "the origin's writer may not publish the dataset")
        return [{"id": sha256(thing.body).hex(), "position": position, "generation": generation, "body": body}]

    # The index.
    def verdicts(self):
        """Those that count: up to the highest that is good. [Lists and verdicts]"""
        found, errors = {}, {}
        for prefix, kind in (("verdicts", VERDICT), ("condemned", CONDEMNED)):
            for name, (number,) in self.names(f"{prefix}/{NUMBER}"):
                try:
                    found[prefix, int(number)] = self.body(name, kind, maintainer, {1: int(number)})
                except FileNotFoundError:
                    raise
                except DAMAGE as error:
                    errors[prefix, int(number)] = error
        count = max((number for prefix, number in found if prefix == "verdicts"), default=0)
        for number in range(1, count + 1):
            for prefix in ("verdicts", "condemned"):
                need((prefix, number) in found, f"{prefix}/{number}: {errors.get((prefix, number), 'a gap')}")
            verdict, proposed = found["verdicts", number], found["condemned", number]
            proposed[4] = proposed[4] + proposed.get(6, [])  # what expired, and what was replaced
            need(all(set(verdict[key]) <= set(proposed[key]) for key in (2, 3, 4)), "more dead than condemned")
        return [found["verdicts", number] for number in range(1, count + 1)]

    def load_index(self):
        """[Reading a snapshot, from nothing], 2 and 3."""
        self.page_blocks.cache_clear()
        for _ in range(5):
            try:
                return self.load_index_once()
            except FileNotFoundError:  # prune is at work
                continue
        raise Bad("the index does not stand still")

    def load_index_once(self):
        dead = {name for verdict in self.verdicts() for key in (2, 3) for name in verdict[key]}
        self.places, known = collections.defaultdict(list), set()
        for name, (digest,) in self.names("index/([0-9a-f]{64})"):
            if bytes.fromhex(digest) in dead:
                continue
            packs = {}
            with passed_over(name):  # what it alone describes is missing, and shows where it is needed
                thing = self.get(name, INDEX)
                self.signer(thing, lambda writer: writer[2] != WRITE_ONLY)
                packs = parse_index(thing.body, self.id)
            for pack in packs.keys() - dead - known:
                for identity, place in packs[pack]:
                    self.places[identity].append(place)
            known |= packs.keys()

    # Chunks, checked.
    def identity(self, data):
        return keyed(self.id_key, data)

    def pack_file(self, name):
        return open(os.path.join(self.path, "packs", name.hex()[:2], name.hex()), "rb")

    def pack_key(self, name):
        with self.pack_file(name) as file:
            return pack_key(file.read(92), self.id, self.epochs)

    def block(self, block):
        with self.pack_file(block.pack) as file:
            file.seek(block.offset)
            return open_block(self.pack_key(block.pack), file.read(block.stored), block)

    def copies(self, identity, wanted, check):
        """What `check` makes of the raw bytes of each copy that serves and is whole; never nothing."""
        for attempt in range(2):
            good, errors = [], []
            for place in self.places.get(identity, ()):
                if place.block.kind in wanted:
                    try:
                        data = self.block(place.block)[place.offset:place.offset + place.length]
                        need(len(data) == place.length, "a chunk beyond its block")
                        good.append(check(data, place))
                    except DAMAGE as error:
                        errors.append(f"{place.block.pack.hex()[:8]}: {type(error).__name__} {error}")
                if good and wanted != AS_PAGES:
                    return good  # one copy is enough, but for pages, which may lie in several
            if good:
                return good
            if not attempt:
                self.load_index()  # prune may have moved it
        raise Bad(f"chunk {identity.hex()} is lost: {'; '.join(errors) or 'it is nowhere'}")

    def chunk(self, identity):
        def check(data, _):
            need(self.identity(data) == identity, "not the bytes of this identity")
            return data
        return self.copies(identity, AS_BYTES, check)[0]

    def leaf(self, identity, depth=0):
        need(depth <= 8, "more than eight deltas on each other")

        def check(data, place):
            if place.block.kind == NODE:
                slots = parse_leaf(data)
            else:
                need(data[4:36] == place.base, "the index names another base")
                slots = apply_delta(data, self.leaf(place.base, depth + 1))
                data = encode_leaf(slots)
            need(self.identity(data) == identity, "not the leaf of this identity")
            return slots
        return self.copies(identity, AS_LEAF, check)[0]

    def page_blocks(self, identity, page_bytes):
        def check(data, place):
            pages, whole = parse_page_block(data, page_bytes)
            need(place.block.kind == SPARSE or whole and self.identity(data) == identity, "not this page block")
            return pages
        return self.copies(identity, AS_PAGES, check)

    def page(self, slot, page_bytes):
        identity, number, digest = slot
        for attempt in range(2):
            for pages in self.page_blocks(identity, page_bytes):
                if number in pages and self.identity(pages[number])[:16] == digest:
                    return pages[number]
            if not attempt:
                self.load_index()
        raise Bad(f"page {number} of block {identity.hex()} is lost")

    # Trees and files.
    def entries(self, identities):
        last = b""
        for identity in identities:
            node = cbor(self.chunk(identity))
            need(all(entry[1] in range(7) and entry[4][0] in range(6) for entry in node), "an unknown kind of entry")
            for entry in node:
                name = entry[0]
                need(last < name and len(name) <= 4096 and name not in (b".", b"..")
                     and b"/" not in name and b"\0" not in name, "a name that no entry may have")
                last = name
                yield entry

    def expand(self, identities, depth, magic, head):
        """Lists of chunks or inner nodes, down to what they name."""
        need(depth <= 4, "too many levels")
        for identity in identities:
            if depth:
                yield from self.expand(parse_identities(self.chunk(identity), magic, head), depth - 1, magic, head)
            else:
                yield identity

    def write_chunks(self, file, size, identities, depth, extents):
        """[Lists of chunks], [Extents]: the stream goes into the extents, one after the other."""
        extents = iter(extents or [[0, size]])
        at, left, end = 0, 0, -1
        for identity in self.expand(identities, depth, b"LBCL", 4):
            data = self.chunk(identity)
            while data:
                while not left:
                    at, left = next(extents, (None, None))[:2]
                    need(at is not None and at > end and at + left <= size, "a stream beyond its extents")
                    end = at + left
                file.seek(at)
                file.write(data[:left])
                data, at, left = data[left:], at + len(data[:left]), left - len(data[:left])
        need(not left and all(length == 0 for _, length in extents), "a stream shorter than its extents")

    def write_pages(self, file, size, page_bytes, root, depth):
        need(512 <= page_bytes <= 65536, "an impossible size of pages")
        leaves = [self.leaf(identity) for identity in self.expand([root], depth, b"LBPI", 6)]
        need(all(len(leaf) == 1024 for leaf in leaves[:-1]), "a leaf that is not full")
        slots = [slot for leaf in leaves for slot in leaf]
        need(len(slots) == -(-size // page_bytes), "a page map of another length")
        for number, slot in enumerate(slots):
            if slot != ZEROS:
                file.seek(number * page_bytes)
                file.write(self.page(slot, page_bytes))

    def restore(self, snapshot, target):
        self.load_index()
        os.makedirs(target, exist_ok=True)
        need(not os.listdir(target), "the target is not empty")
        self.restore_directory(os.fsencode(target), b"", snapshot["body"][8], set())
        finish(os.fsencode(target), snapshot["body"][9])

    def restore_directory(self, target, folder, identities, made):
        """`made`: the paths of what was restored, but for directories; a hard link may go there alone."""
        for entry in self.entries(identities):
            name, kind, size, metadata, (variant, content) = (entry[key] for key in range(5))
            inner = os.path.join(folder, name)
            path = os.path.join(target, inner)
            if kind == 1:
                need(variant in (2, 5), "a directory that is none")
                os.mkdir(path, 0o700)
                self.restore_directory(target, inner, content[0] if variant == 2 else [], made)
            elif variant == 3:
                need(content[0] in made, "a hard link to what was not restored before")
                os.link(os.path.join(target, content[0]), path, follow_symlinks=False)
                continue
            elif kind == 2:
                need(variant == 4, "a symbolic link without a target")
                os.symlink(content[0], path)
            elif kind == 0:
                need(variant in (0, 1, 5), "a file that is none")
                with open(path, "xb") as file:
                    if variant != 5:  # which has no data, and may have a size: all of it zeros
                        (self.write_chunks, self.write_pages)[variant](file, size, *content)
                    file.truncate(size)
            else:
                need(variant == 5 and kind <= 6, "an unknown kind of entry")
                special = (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK)[kind - 3]
                os.mknod(path, special | 0o600, metadata[8])
            if kind != 1:
                made.add(inner)
            finish(path, metadata, link=kind == 2)


def admits(fix, writer, number):
    """Whether the first entry of a later generation leaves this one in its place. [Leaders]"""
    if fix["position"][1] == writer:
        return number < fix["position"][2]
    tips = {}
    for tip in filter(None, fix["body"][11].get("leader-tips", "?").split(" ")):
        match = re.fullmatch("([0-9a-f]{32}):([0-9]+)", tip)
        if not match or int(match[2]) >= 1 << 64:
            return True  # what cannot be read fixes its own chain alone
        tips[bytes.fromhex(match[1])] = int(match[2])
    return number <= tips.get(writer, 0)


@contextlib.contextmanager
def told(path, what):
    try:
        yield
    except OSError as error:
        print(f"not restored: {what} of {path}: {error}", file=sys.stderr)


def finish(path, metadata, link=False):
    """Owner, mode, extended attributes, time, in this order; what is refused is told. [Restoring]"""
    owned = False
    with told(path, "the owner"):
        os.chown(path, metadata[1], metadata[2], follow_symlinks=False)
        owned = True
    if not owned:
        with told(path, "the group"):
            os.chown(path, -1, metadata[2], follow_symlinks=False)
    if not link:
        os.chmod(path, metadata[0] if owned else metadata[0] & ~0o6000)
    for name, value in metadata[9]:
        with told(path, name):
            os.setxattr(path, name, value, follow_symlinks=False)
    modified = metadata[3][0] * 10**9 + min(metadata[3][1], 999_999_999)
    os.utime(path, ns=(os.lstat(path).st_atime_ns, modified), follow_symlinks=False)


def instant(ns):
    seconds = datetime.datetime.fromtimestamp(ns // 10**9, datetime.timezone.utc)
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09}Z"


def main(arguments):
    if arguments[1:2] == ["verify-vectors"] and len(arguments) == 3:
        import vectors
        return vectors.verify(arguments[2])
    restoring = arguments[1:2] == ["restore"]
    if arguments[1:] != ["list"] and not (restoring and len(arguments) == 4):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        repository = Repository(arguments[0], os.environ["LIFEBOAT_PASSPHRASE"])
        found, failed = repository.snapshots()
        if restoring:
            chosen = [snapshot for snapshot in found if snapshot["id"].startswith(arguments[2])]
            need(len(chosen) == 1, f"{len(chosen)} snapshots are named so; not readable: {failed}")
            repository.restore(chosen[0], arguments[3])
            return 0
        rows = [{"id": snapshot["id"], "dataset": snapshot["body"][1][0], "taken": instant(snapshot["body"][3]),
                 "files": snapshot["body"][10][0]} for snapshot in found]
        print(json.dumps({"snapshots": rows, "unreadable": failed}, indent=2))
        return 1 if failed else 0
    except DAMAGE as error:
        print(f"refused: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
