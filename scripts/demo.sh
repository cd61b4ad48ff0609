#!/usr/bin/env bash
# The main job from end to end, each step with what it observed and how long it took. Writes demo.json.
# DEMO_HOLD=1 keeps the cluster up until Enter or SIGTERM, so that a stranger can look at it.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(swift build --traits Devices --show-bin-path)
exec python3 scripts/demo.py --bin "$bin" --results demo.json
