#!/usr/bin/env bash
# Runs every test and ends with one line: `N passed, N failed, N skipped`, summed over Swift Testing and Python.
# Arguments go to `swift test` (for instance `--filter WireTests`, which leaves Python out).
# TEST_TIMEOUT (seconds, default 1500) bounds each of the two parts.
set -uo pipefail
cd "$(dirname "$0")/.."
limit=${TEST_TIMEOUT:-1500}
results=$(mktemp -d "${TMPDIR:-/tmp}/st.XXXXXX")
trap 'rm -rf --one-file-system "$results"' EXIT

# What a run of this script left behind would be the next run's surprise: everything goes below one directory.
export TMPDIR=$results/tmp
mkdir "$TMPDIR"

build() {
  timeout --kill-after=10 "$limit" swift build --build-tests --traits Devices
}
swift_tests() {
  timeout --kill-after=10 "$limit" swift test --skip-build --traits Devices --disable-xctest --no-parallel \
    --xunit-output "$results/swift.xml" "$@"
}
python_tests() {
  [ -n "$(find Tests/Python -name 'test_*.py' -print -quit 2>/dev/null)" ] || return 0
  SKERRY_BIN=$(swift build --traits Devices --show-bin-path) \
    timeout --kill-after=10 "$limit" .venv/bin/python scripts/python_tests.py "$results/python.json"
}

status=0
if ! build; then
  echo "test.sh: the tests do not build" >&2
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
fi
swift_tests "$@" || status=$?
[ "$status" != 124 ] || echo "test.sh: the Swift tests did not end within $limit s" >&2
if [ $# = 0 ]; then
  python_tests || status=$?
  [ "$status" != 124 ] || echo "test.sh: the Python tests did not end within $limit s" >&2
fi
python3 scripts/count_tests.py "$results" "$status"
