#!/usr/bin/env bash
# Runs every fuzz target, one after the other, and prints a table (docs/fuzzing.md).
set -euo pipefail

usage() {
    cat <<'HELP'
scripts/fuzz.sh [SECONDS [TARGET...]]   every target, or those named, for so long each (60)
scripts/fuzz.sh --help                  this

Needs cargo-fuzz (`cargo install cargo-fuzz`); the stable toolchain will do. Inputs that reach something new
are added to fuzz/corpus, crashes are left in fuzz/artifacts. The output is a table of what ran;
exit code 1 means that something crashed or did not run.
LIFEBOAT_FUZZ_BUILD=no runs what was built before.
HELP
}

case "${1-}" in
-h | --help)
    usage
    exit 0
    ;;
esac

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seconds=${1:-60}
shift || true
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/fuzz/target}
# What cargo-fuzz asks of the compiler is not stable yet.
export RUSTC_BOOTSTRAP=1
host=$(rustc -vV | sed -n 's/^host: //p')
programs=$CARGO_TARGET_DIR/$host/release

cd "$root"
if [ "${LIFEBOAT_FUZZ_BUILD:-yes}" = yes ]; then cargo fuzz build; fi
if [ $# = 0 ]; then
    # shellcheck disable=SC2046 # names of targets have no spaces
    set -- $(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' fuzz/Cargo.toml)
fi

# one TARGET: fuzzes in a scratch corpus beside the kept one, then keeps what reaches something new.
one() {
    local target=$1 scratch kept=fuzz/corpus/$1 log longest executions crashes
    scratch=$(mktemp -d)
    mkdir -p "$kept" "fuzz/artifacts/$target"
    # Inputs up to the longest one kept, where that is more than 8 KiB: a record of a log that goes over a page.
    longest=$(find "$kept" -type f -printf '%s\n' | sort -n | tail -n 1)
    longest=$((${longest:-0} > 8192 ? longest : 8192))
    log=$scratch/log
    mkdir "$scratch/corpus"
    # Stops at the first crash; -timeout and -rss_limit_mb make a hang and a flood crashes too.
    "$programs/$target" "$scratch/corpus" "$kept" -max_total_time="$seconds" -max_len="$longest" -timeout=20 \
        -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" >"$log" 2>&1 || true
    "$programs/$target" -set_cover_merge=1 -max_len="$longest" "$kept" "$scratch/corpus" >>"$log" 2>&1 || true
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | head -n 1)
    crashes=$(grep -c '^SUMMARY: ' "$log" || true)
    if [ "$crashes" != 0 ]; then cp "$log" "fuzz/artifacts/$target/log"; fi
    printf '| %-17s | %10s | %11s | %7s | %6s | %10s |\n' "$target" "$seconds" "${executions:-?}" "$crashes" \
        "$(find "$kept" -type f | wc -l)" "$(find "$kept" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')"
    rm -rf "$scratch"
    [ "$crashes" = 0 ] && [ -n "$executions" ]
}

printf '| target            |    seconds |  executions | crashes | inputs |      bytes |\n'
printf '|:------------------|-----------:|------------:|--------:|-------:|-----------:|\n'
failed=0
for target in "$@"; do
    one "$target" || failed=1
done
exit $failed
