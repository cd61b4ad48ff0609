#!/usr/bin/env bash
# Builds every program optimised and with the Swift library linked statically, and prints where they lie.
set -euo pipefail
cd "$(dirname "$0")/.."
options=(-c release --static-swift-stdlib --traits Devices)
swift build "${options[@]}"
bin=$(swift build "${options[@]}" --show-bin-path)
for program in cloudcore edgecore devicecore device-modbus skerry skerry-bench; do
  [ ! -x "$bin/$program" ] || ls -l --block-size=K "$bin/$program" | awk '{print $5, $NF}'
done
scripts/check_release.sh "$bin" cloudcore edgecore devicecore
