#!/usr/bin/env bash
# The second reader of the format (reader.py, written from docs/format.md alone) against the program itself.
#
#   tests/second_reader/run.sh [PROGRAM]      PROGRAM: target/debug/lifeboat, which is built if it is not there
#
# LIFEBOAT_TEST_PYTHON is a Python 3.11 or later with argon2-cffi, blake3, cbor2, cryptography, zstandard; else
# python3. The last line is `N passed, N failed`; exit code 0 means that nothing failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
python=${LIFEBOAT_TEST_PYTHON:-python3}
program=${1:-${CARGO_TARGET_DIR:-$top/target}/debug/lifeboat}
if [ ! -x "$program" ]; then
    (cd "$top" && cargo build --locked --bin lifeboat)
fi
program=$(realpath "$program")

work=$(mktemp -d)
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
cd "$work" # where there is no plan
unset LIFEBOAT_KEY LIFEBOAT_PLAN LIFEBOAT_WRITER_KEY
export LIFEBOAT_STATE=$work/state LIFEBOAT_PASSPHRASE='an old passphrase, with ümlauts'
export LIFEBOAT_COPY_PASSPHRASE='another one' PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$here
passed=0
failed=0

# check WHAT COMMAND...: counts, and says what failed.
check() {
    local what=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $what"
    else
        failed=$((failed + 1))
        echo "FAILED  $what"
        sed 's/^/        /' "$work/said"
    fi
}

lifeboat() { "$program" --quiet "$@" >/dev/null; }
asked() { "$program" --quiet --json "$@"; }
harness() { "$python" "$here/harness.py" "$@"; }
reader() { "$python" "$here/reader.py" "$@"; }

# refuses TEXT REPOSITORY COMMAND...: the reader must end with 1 for a reason that TEXT (a pattern) names.
refuses() {
    local text=$1 code=0
    shift
    reader "$@" >"$work/refusal" 2>&1 || code=$?
    cat "$work/refusal"
    [ "$code" = 1 ] && grep -q '^refused: ' "$work/refusal" && grep -Eq "$text" "$work/refusal"
}

# passes_over PREFIX REPOSITORY: what was put under the prefix must be named, and change nothing.
passes_over() {
    reader small list >"$work/list" 2>/dev/null
    reader "$2" list >"$work/list-forged" 2>"$work/named" || return 1
    cat "$work/named"
    cmp "$work/list" "$work/list-forged" && grep -q "^passed over: $1/" "$work/named"
}

# restores REPOSITORY: every snapshot by both readers, compared.
restores() {
    local id dataset
    asked --repository "$1" points >"$work/points"
    reader "$1" list >"$work/list"
    check "$1: the same snapshots" harness same-list "$work/list" "$work/points"
    harness ids "$work/list" >"$work/ids"
    while read -r id dataset; do
        rm -rf "$work/ours" "$work/second"
        lifeboat --repository "$1" restore "$dataset" --to "$id" --into "$work/ours"
        check "$1: $dataset ${id:0:8} is read" reader "$1" restore "$id" "$work/second"
        check "$1: $dataset ${id:0:8} is the same" harness same-tree "$work/ours" "$work/second"
    done <"$work/ids"
}

forget_first() { # COUNT DATASET
    local id
    grep " $2\$" ids | head -n "$1" | cut -d ' ' -f 1 >forgotten # the list is in order of time
    while read -r id; do lifeboat --repository repo forget "$2" "$id"; done <forgotten
}

check "the vectors of the format" reader - verify-vectors "$top/crates/repository/tests/vectors"

# --- a repository with a bit of everything ---------------------------------------------------------------------

asked --repository repo repo init >init.json
recovery=$("$python" -c 'import json; print(json.load(open("init.json"))["recovery_key"])')
mkdir tree
harness tree tree
lifeboat --repository repo backup tree --name tree
for round in 1 2 3 4 5 6 7 8; do # 25 per mille of the rows, and once 400: the first pack loses much
    share=25
    [ "$round" != 4 ] || share=400
    harness database app.db "$share" "$round"
    lifeboat --repository repo backup app.db --name app
done
harness change-tree tree
lifeboat --repository repo backup tree --name tree

restores repo
newest=$(grep ' tree$' ids | tail -n 1 | cut -d ' ' -f 1)
rm -rf second && reader repo restore "$newest" second && rm tree/socket second/socket
touch --reference tree second
check "the newest tree is the one that was protected" harness same-tree tree second
newest=$(grep ' app$' ids | tail -n 1 | cut -d ' ' -f 1)
rm -rf second && reader repo restore "$newest" second
check "the newest database has the rows that were protected" harness same-rows app.db second/app.db

# --- after prune: packs rewritten, page blocks that lost slots --------------------------------------------------

forget_first 3 app
forget_first 1 tree
lifeboat --repository repo prune --max-unused 0
check "every kind of block is there" harness kinds repo
cat said
restores repo

LIFEBOAT_PASSPHRASE=$recovery reader repo list >by-recovery
check "the recovery key opens it" cmp list by-recovery
lower=$(printf %s "$recovery" | tr 'A-Z-' 'a-z ')
LIFEBOAT_PASSPHRASE=$lower reader repo list >by-recovery
check "the recovery key opens it, however it is typed" cmp list by-recovery

# --- a copy: its own root and keys, snapshots that another repository's writer signed ----------------------------

LIFEBOAT_ORIGIN_PASSPHRASE=$LIFEBOAT_PASSPHRASE LIFEBOAT_PASSPHRASE=$LIFEBOAT_COPY_PASSPHRASE \
    lifeboat --repository copy repo init --copy-of repo
lifeboat --repository repo copy --to copy --latest
(
    export LIFEBOAT_PASSPHRASE=$LIFEBOAT_COPY_PASSPHRASE
    restores copy
    echo "$passed $failed" >counts
)
read -r passed failed <counts

# --- what it must refuse -----------------------------------------------------------------------------------------

mkdir one
head -c 100000 /dev/urandom >one/file
lifeboat --repository small repo init --no-recovery-key
lifeboat --repository small backup one --name one
check "the small repository can be read" reader small restore "" small-restored

wrong_passphrase() { LIFEBOAT_PASSPHRASE=wrong refuses "opens no key slot" small list; }
wrong_recovery() { LIFEBOAT_PASSPHRASE=$recovery refuses "opens no key slot" small list; }
check "refuses a wrong passphrase" wrong_passphrase
check "refuses another repository's recovery key" wrong_recovery

# All of an object up to its end, but for the pack's table, which this reader does not need.
for place in snapshots:0,20,100,500,999 index:0,20,100,500,999 packs:0,1,500 config:10,500,990 slots:10,500,990; do
    for share in $(tr , ' ' <<<"${place#*:}"); do
        rm -rf damaged
        harness damaged small damaged "${place%:*}" "$share"
        check "refuses a flipped byte: ${place%:*} at $share per mille" refuses . damaged restore "" gone-"${place%:*}-$share"
        if [ "${place%:*}" = snapshots ]; then
            reader damaged list >list && code=0 || code=$?
            check "names the damaged snapshot" harness named-unreadable list 0
            check "and does not call it whole" [ "$code" = 1 ]
        fi
    done
done
for how in nobody thief root old; do
    rm -rf forged
    harness forged-roster small forged "$how"
    check "passes over a roster signed by: $how" passes_over roster forged
done
harness moved small moved
reader moved list >list && code=0 || code=$?
check "names a snapshot that stands elsewhere than it says" harness named-unreadable list 1
check "and does not call the repository whole" [ "$code" = 1 ]
harness forged-tombstone small tombstone
check "passes over a tombstone signed by nobody" passes_over tombstones tombstone
rm -rf forged && harness damaged small forged roster/000000000001 500 # the older of two: nobody needs it
check "reads with an older roster damaged" reader forged list
rm -rf forged && harness damaged small forged roster/000000000002 500 # without it no writer is listed
check "refuses when the writers' roster is damaged" refuses "0 snapshots" forged restore "" gone-roster

# Two copies that part: the tombstone of one and the hold of the other: by a race both can come through.
id=$(reader small list | sed -n 's/.*"id": "\(.*\)",/\1/p')
cp -a small held
cp -a small parted
lifeboat --repository held hold add one "$id" --reason "a race"
lifeboat --repository parted forget one "$id"
cp -a parted/tombstones held/
asked --repository held points >points
reader held list >list
check "a hold is stronger than a tombstone" harness same-list list points
check "which alone forgets" harness ids-are-none <(reader parted list)
lifeboat --repository held hold release "$(ls held/holds)"
check "and forgets when the hold has ended" harness ids-are-none <(reader held list)
cp -a repo gap
rm gap/condemned/000000000001
check "refuses a verdict without its list" refuses "condemned/1: a gap" gap restore "$newest" gone-gap

# --- leaders, and objects that are open where writers seal them; a machine of its own, which has seen nothing ------

(
    export LIFEBOAT_STATE=$work/state-led
    harness led small led 0
    reader led list >list
    asked --repository led points >points
    check "two leaders: what came too late from the first does not count" harness lists list 5 0
    check "two leaders: the same snapshots" harness same-list list points
    harness led small unled 1
    reader unled list >list && code=0 || code=$?
    check "names the snapshot whose leader nobody knows" harness lists list 5 1
    check "and does not call it whole" [ "$code" = 1 ]
    "$program" --quiet --json --repository unled points >points 2>said || true
    check "as the program does" harness same-list list points
    harness newer-roster small newer
    check "refuses a roster of the root's with an unknown role" refuses "needs a newer reader" newer list
    newer() { ! "$program" --quiet --repository newer points >said 2>&1 && grep -q "does not know" said; }
    check "as the program does" newer
    echo "$passed $failed" >counts
)
read -r passed failed <counts

echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
