#!/usr/bin/env bash
# Prints the size of each release binary and how long it takes to start (the shortest of ten runs of `--help`).
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(swift build -c release --static-swift-stdlib --traits Devices --show-bin-path)
printf '%-15s %10s %12s\n' program bytes 'start (ms)'
for program in cloudcore edgecore devicecore device-modbus skerry; do
  [ -x "$bin/$program" ] || continue
  best=
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    start=$(date +%s%N)
    timeout 5 "$bin/$program" --help >/dev/null 2>&1 || true
    took=$(($(date +%s%N) - start))
    [ -n "$best" ] && [ "$best" -le "$took" ] || best=$took
  done
  printf '%-15s %10s %12s\n' "$program" "$(stat -c %s "$bin/$program")" "$(awk "BEGIN{printf \"%.1f\", $best/1e6}")"
done
