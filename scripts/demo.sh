#!/usr/bin/env bash
# The main job from end to end. Every step that is not there yet is named, and the last line says `demo: partial`.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(swift build --traits Devices --show-bin-path)
if "$bin/skerry" demo --help >/dev/null 2>&1; then
  exec "$bin/skerry" demo --results demo.json
fi
cat <<'TXT'
not shown: a Deployment of three replicas on two edge nodes, and a call to one of its pods
not shown: scaling to five and back, and a deleted pod that is replaced
not shown: a node whose link is cut and restored, and an edgecore that is killed and restarted
not shown: a sensor's readings that arrive in the cloud
demo: partial
TXT
