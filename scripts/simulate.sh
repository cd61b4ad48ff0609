#!/usr/bin/env bash
# Builds the simulator, optimised, apart from the other builds, and runs it: `make simulate`, `make simulate-defects`.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=$1 seeds=$2 first=${3-} jobs=${4-} seed=${5-} trace=${6-} defect=${7-}
# Hashing is the same in every run, so that a seed replays to the bit.
export SWIFT_DETERMINISTIC_HASHING=1
swift build -c release --scratch-path .build-simulate --product skerry-simulate
simulator=.build-simulate/release/skerry-simulate

if [ "$mode" = scenario ]; then
  exec "$simulator" --scenario "$seeds"
fi
if [ "$mode" = defects ]; then
  # Small seeds: they find all of them, in a minute.
  exec "$simulator" --defects --small --seeds "$seeds" --first "$first" --jobs "$jobs"
fi
options=()
[ -z "$defect" ] || options+=(--defect "$defect")
[ -z "$trace" ] || options+=(--trace)
if [ -n "$seed" ]; then
  exec "$simulator" --first "$seed" --seeds 1 "${options[@]}"
fi
exec "$simulator" --first "$first" --seeds "$seeds" --jobs "$jobs" "${options[@]}"
