#!/usr/bin/env bash
# scripts/fuzz.sh SECONDS [FUZZER…]: runs libFuzzer over each decoder (every target in Sources whose name starts with
# Fuzz) for so long, starting from the kept corpus in Tests/Corpus/FUZZER. Ends at the first crash, whose input is
# left in .build-fuzz/FUZZER/.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
fuzzers=("$@")
if [ ${#fuzzers[@]} = 0 ]; then
  mapfile -t fuzzers < <(find Sources -maxdepth 1 -type d -name 'Fuzz*' -printf '%f\n' | sort)
fi
[ ${#fuzzers[@]} -gt 0 ] || { echo "fuzz.sh: there is no target Sources/Fuzz*" >&2; exit 1; }
# Swift's own crash handler would keep libFuzzer from writing the input down.
export SWIFT_BACKTRACE=enable=no
for fuzzer in "${fuzzers[@]}"; do
  # A scratch path of its own: instrumented modules must not mix with the others.
  options=(--traits Fuzzing --scratch-path .build-fuzz/build --sanitize=fuzzer --product "$fuzzer")
  swift build "${options[@]}"
  work=.build-fuzz/$fuzzer
  mkdir -p "$work/corpus"
  kept=Tests/Corpus/$fuzzer
  [ -d "$kept" ] || kept=
  echo "== $fuzzer for $seconds s"
  "$(swift build "${options[@]}" --show-bin-path)/$fuzzer" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 \
    -artifact_prefix="$work/" -print_final_stats=1 "$work/corpus" $kept
done
