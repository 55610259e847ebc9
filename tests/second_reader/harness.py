"""What run.sh needs besides the two programs: data to protect, comparisons, and damage. Each command is a function."""
import collections
import hashlib
import json
import os
import random
import shutil
import socket
import sqlite3
import stat
import sys

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import reader
import structures


def tree(top):
    """A folder with one of everything that a tree can hold."""
    noise = random.Random(1)
    top = os.fsencode(top)

    def put(name, data, mode=0o644):
        with open(os.path.join(top, name), "wb") as file:
            file.write(data)
        os.chmod(os.path.join(top, name), mode)

    for folder in (b"a/b/c/d/e", b"empty", b"many"):
        os.makedirs(os.path.join(top, folder))
    put(b"empty-file", b"")
    put(b"a/one-byte", b"x", 0o600)
    put(b"a/b/text", b"some text\n" * 1000, 0o4755)
    put(b"a/b/c/d/e/deep", b"deep", 0o444)
    put(b"big", noise.randbytes(12_000_000))
    put(b"zeros", bytes(3_000_000))
    put(b"not-utf8-\xff\xfe", b"a name that is not UTF-8")
    put(b"n" * 255, b"a long name")
    put("grüße \n\\".encode(), b"an odd name")
    for number in range(1200):  # enough for several nodes
        put(b"many/%06d" % number, b"%d" % number)
    with open(os.path.join(top, b"sparse"), "wb") as file:
        for at in (1 << 20, 5 << 20, 40 << 20):
            file.seek(at)
            file.write(noise.randbytes(300_000))
        file.truncate(50 << 20)
    with open(os.path.join(top, b"hole"), "wb") as file:
        file.truncate(7 << 20)
    os.symlink(b"../a/b/text", os.path.join(top, b"empty/link"))
    os.symlink(b"/nowhere/\xff", os.path.join(top, b"dangling"))
    os.link(os.path.join(top, b"a/b/text"), os.path.join(top, b"hard"))
    os.link(os.path.join(top, b"big"), os.path.join(top, b"many/hard"))
    os.mkfifo(os.path.join(top, b"pipe"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(top, b"socket"))
    try:
        os.setxattr(os.path.join(top, b"big"), b"user.lifeboat", b"\0\xff")
    except OSError:
        print("no extended attributes here")
    os.utime(os.path.join(top, b"a/one-byte"), ns=(0, -1_500_000_001))  # before 1970
    os.utime(os.path.join(top, b"dangling"), ns=(0, 1_234_567_890_123_456_789), follow_symlinks=False)
    os.chmod(os.path.join(top, b"empty"), 0o1777)
    os.utime(os.path.join(top, b"a/b"), ns=(0, 987_654_321_000_000_001))


def change_tree(top):
    with open(os.path.join(top, "big"), "r+b") as file:
        file.seek(5_000_000)
        file.write(b"changed")
    os.unlink(os.path.join(top, "many/001000"))
    os.rename(os.path.join(top, "a/b/c"), os.path.join(top, "moved"))


def database(path, share, seed):
    """About 20 MB of rows; `share` (per mille) of them changed, all over the file."""
    noise = random.Random(int(seed))
    with sqlite3.connect(path) as connection:
        rows = 20_000
        if not os.path.getsize(path):
            connection.execute("create table t(id integer primary key, v blob)")
            connection.executemany("insert into t values (?, ?)", ((i, noise.randbytes(900)) for i in range(rows)))
        for row in noise.sample(range(rows), rows * int(share) // 1000):
            connection.execute("update t set v = ? where id = ?", (noise.randbytes(900), row))
    connection.close()


def rows(path):
    connection = sqlite3.connect(path)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    digest = hashlib.sha256()
    for row in connection.execute("select id, v from t order by id"):
        digest.update(repr(row).encode())
    connection.close()
    return digest.hexdigest()


def same_rows(one, other):
    assert rows(one) == rows(other), "other rows"


def describe(top):
    """{path: all that a restore brings back}"""
    top, found, inodes = os.fsencode(top), {}, collections.defaultdict(list)
    for folder, folders, files in os.walk(top):
        for name in [b"."] * (folder == top) + folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            content = None
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = status.st_size, hashlib.file_digest(file, "sha256").hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            xattrs = [(x, os.getxattr(path, x, follow_symlinks=False)) for x in
                      sorted(os.listxattr(path, follow_symlinks=False))]
            name = os.path.relpath(path, top)
            inodes[status.st_ino].append(name)
            found[name] = (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, content, xattrs)
    return found, sorted(sorted(names) for names in inodes.values() if len(names) > 1)


def same_tree(one, other):
    (one, one_links), (other, other_links) = describe(one), describe(other)
    differences = [f"{name}: {one.get(name)} / {other.get(name)}"
                   for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    assert not differences, "\n".join(differences[:20])
    assert one_links == other_links, f"hard links: {one_links} / {other_links}"


def load(path):
    with open(path) as file:
        return json.load(file)


def same_list(listed, points):
    def nanoseconds(time):  # the fraction's zeros may be left away
        seconds, _, fraction = time.rstrip("Z").partition(".")
        return seconds + "." + fraction.ljust(9, "0")

    keys = ("dataset", "taken", "files")
    listed = [(row["id"], *(row[key] for key in keys)) for row in load(listed)["snapshots"]]
    points = [(row["snapshot"], *(row[key] for key in keys)) for row in load(points)["points"]]
    listed, points = (sorted((i, d, nanoseconds(t), f) for i, d, t, f in rows) for rows in (listed, points))
    assert points and listed == points, f"{listed}\n{points}"


def ids(listed):
    for row in load(listed)["snapshots"]:
        print(row["id"], row["dataset"])


def ids_are_none(listed):
    assert load(listed) == {"snapshots": [], "unreadable": []}


def kinds(repository):
    """That the index has chunks of each kind of block: otherwise the test proves less than it says."""
    opened = reader.Repository(repository, os.environ["LIFEBOAT_PASSPHRASE"])
    opened.load_index()
    places = [place for places in opened.places.values() for place in places]
    names = ("data", "node", "pages", "delta", "sparse")
    counts = collections.Counter(names[place.block.kind] for place in places)
    base = {identity: place.base for identity, places in opened.places.items() for place in places if place.base}

    def depth(identity):
        return 1 + depth(base[identity]) if identity in base else 0

    print(dict(counts), "deltas on each other:", max(map(depth, base), default=0))
    assert all(counts[name] for name in names), "a kind is missing"


def only(folder):
    """The one object under a folder (or the object itself); flipping proves nothing if there are more."""
    if os.path.isfile(folder):
        return folder
    found = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
    assert len(found) == 1, found
    return found[0]


def damaged(repository, copy, folder, share):
    """A copy of the repository with one byte of the one object under `folder` flipped, `share` per mille in."""
    shutil.copytree(repository, copy)
    path = only(os.path.join(copy, folder))
    arrived = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(min(arrived.st_size * int(share) // 1000, arrived.st_size - 1))
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))
    os.utime(path, ns=(arrived.st_atime_ns, arrived.st_mtime_ns))


def forged_roster(repository, copy, how):
    """A copy of the repository with one roster more: a writer's of whom nobody knows."""
    shutil.copytree(repository, copy)
    folder = os.path.join(copy, "roster")
    newest = sorted(os.listdir(folder))[-1]
    with open(os.path.join(folder, newest), "rb") as file:
        old = structures.open_envelope(file.read(), (structures.ROSTER,))
    body = cbor2.loads(old.body)
    body[2], key = structures.sha256(old.body), Ed25519PrivateKey.generate()
    body[1] += 1
    body[3].append({0: key.public_key().public_bytes_raw(), 1: "thief", 2: 2, 3: [], 4: 0})
    body = cbor2.dumps(body)
    signature = key.sign(structures.message(structures.ROSTER, body))
    signatures = {"nobody": [], "thief": [[structures.key_id(key.public_key().public_bytes_raw()), signature]],
                  "root": [[old.signatures[0][0], signature]], "old": old.signatures}[how]
    with open(os.path.join(folder, f"{int(newest) + 1:012}"), "wb") as file:
        file.write(b"LBO\1" + bytes([structures.ROSTER]) + bytes(7) + cbor2.dumps([body, signatures]))


class Forge:
    """A copy of a repository, and its root's key, which the passphrase opens: whatever it signs is genuine."""

    def __init__(self, repository, copy):
        shutil.copytree(repository, copy)
        self.path = copy
        self.opened = reader.Repository(copy, os.environ["LIFEBOAT_PASSPHRASE"])
        self.root = Ed25519PrivateKey.from_private_bytes(self.opened.unlock(os.environ["LIFEBOAT_PASSPHRASE"])[5])

    def put(self, name, kind, body, key):
        """An open envelope, whatever the layout says of sealing: readers take it as it is."""
        body = cbor2.dumps(body)
        signature = [identity(key), key.sign(structures.message(kind, body))]
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(b"LBO\1" + bytes([kind]) + bytes(7) + cbor2.dumps([body, [signature]]))

    def roster(self, writers):
        folder = os.path.join(self.path, "roster")
        with open(os.path.join(folder, sorted(os.listdir(folder))[-1]), "rb") as file:
            old = structures.open_envelope(file.read(), (structures.ROSTER,))
        body = cbor2.loads(old.body)
        body[1], body[2], body[3] = body[1] + 1, structures.sha256(old.body), body[3] + writers
        self.put(f"roster/{body[1]:012}", structures.ROSTER, body, self.root)


def identity(key):
    return structures.key_id(key.public_key().public_bytes_raw())


def newer_roster(repository, copy):
    """A roster of the root's, with a writer whose role nobody knows yet."""
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    Forge(repository, copy).roster([{0: key, 1: "later", 2: 9, 3: [], 4: 0}])


def led(repository, copy, unknown):
    """Two leaders, of whom the first publishes once more after the second has taken over; `unknown`: and once
    under a generation that nobody led."""
    forge = Forge(repository, copy)
    [snapshot], _ = forge.opened.snapshots()
    a, b = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
    forge.roster([{0: key.public_key().public_bytes_raw(), 1: "leader", 2: 0, 3: [], 4: 0} for key in (a, b)])
    for generation, key in ((1, a), (2, b)):
        body = {0: forge.opened.id, 1: generation, 2: identity(key), 3: 0, 4: bytes(16)}
        forge.put(f"leaders/{generation:012}", structures.LEADER, body, key)
    dataset, tips = snapshot["position"][0], f"{identity(a).hex()}:2"
    slots = [(a, 1, 1, ""), (a, 2, 1, ""), (b, 1, 2, tips), (a, 3, 1, ""), (b, 2, 2, tips)]
    for key, number, generation, fact in slots + [(a, 4, 3, "")] * int(unknown):
        facts = dict(sorted((snapshot["body"][11] | {"leader-tips": fact}).items()))
        body = snapshot["body"] | {1: [dataset, identity(key), number], 11: facts, 13: generation}
        body[3] += 10**9 * (number + 10 * generation)
        body.pop(2, None)
        forge.put(f"snapshots/{dataset}/{identity(key).hex()}/{number:012}", structures.SNAPSHOT, body, key)


def lists(listed, count, failed):
    listed = load(listed)
    assert (len(listed["snapshots"]), len(listed["unreadable"])) == (int(count), int(failed)), listed


def moved(repository, copy):
    """A copy of the repository with the one snapshot at the next place as well."""
    shutil.copytree(repository, copy)
    path = only(os.path.join(copy, "snapshots"))
    shutil.copy2(path, os.path.join(os.path.dirname(path), "000000000002"))


def forged_tombstone(repository, copy):
    """A copy of the repository with a tombstone for the one snapshot that nobody signed."""
    shutil.copytree(repository, copy)
    path = only(os.path.join(copy, "snapshots"))
    with open(os.path.join(copy, "config"), "rb") as file:
        owner = cbor2.loads(structures.open_envelope(file.read(), (structures.CONFIG,)).body)[0]
    _, dataset, writer, number = os.path.relpath(path, copy).split("/")
    body = cbor2.dumps({0: owner, 1: [dataset, bytes.fromhex(writer), int(number)], 2: bytes(32), 3: 0, 4: ""})
    os.makedirs(os.path.join(copy, "tombstones", dataset, writer))
    with open(os.path.join(copy, "tombstones", dataset, writer, number), "wb") as file:
        file.write(b"LBO\1" + bytes([structures.TOMBSTONE]) + bytes(7) + cbor2.dumps([body, []]))


def named_unreadable(listed, readable):
    """That a listing names what failed and still shows the others."""
    listed = load(listed)
    assert len(listed["unreadable"]) == 1 and len(listed["snapshots"]) == int(readable), listed


if __name__ == "__main__":
    globals()[sys.argv[1].replace("-", "_")](*sys.argv[2:])
