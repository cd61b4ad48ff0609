#!/usr/bin/env bash
# Counts instructions and allocations of the hot paths in a release build and compares them with what was recorded:
# status 3 if one costs more than TOLERANCE (default 0.05) allows. `scripts/budgets.sh --record` writes them anew.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v valgrind >/dev/null; then
  echo "budgets: skipped: valgrind counts the instructions and is not installed (scripts/install-deps.sh bench)"
  exit 0
fi
file=benchmarks/budgets/$(uname -m).json
options=(-c release --static-swift-stdlib)
swift build "${options[@]}" --product skerry-bench
bin=$(swift build "${options[@]}" --show-bin-path)
if [ "${1:-}" = --record ]; then
  mkdir -p benchmarks/budgets
  exec "$bin/skerry-bench" micro --record "$file"
fi
if [ ! -e "$file" ]; then
  echo "budgets: skipped: nothing was recorded for $(uname -m) (scripts/budgets.sh --record)"
  exit 0
fi
exec "$bin/skerry-bench" micro --budgets "$file" --tolerance "${TOLERANCE:-0.05}"
