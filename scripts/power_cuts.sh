#!/usr/bin/env bash
# Power cuts at random writes: in each store on a simulated disk, in whole simulated clusters, and COUNT times in each
# real daemon; then what it came to. power_cuts.sh COUNT SEED
set -uo pipefail
cd "$(dirname "$0")/.."
count=$1 seed=$2
results=$(mktemp -d "${TMPDIR:-/tmp}/sp.XXXXXX")
trap 'rm -rf --one-file-system "$results"' EXIT
failed=()

echo "== each store by itself, on simulated disks"
POWER_CUT_ROUNDS=5 POWER_CUT_FIRST=$seed \
  swift test --traits Devices --disable-xctest --no-parallel --filter PowerCutTests 2>&1 |
  grep -v '^warning:' | tee "$results/stores" || failed+=("the stores' trials")
echo "== whole simulated clusters"
"$(swift build --traits Devices --show-bin-path 2>/dev/null)/skerry-simulate" --small --first "$seed" --seeds 20 --jobs 2 |
  tee "$results/clusters" || failed+=("the simulated clusters")
echo "== real daemons"
(cd Tests/Python && POWER_CUTS=$count POWER_CUT_SEED=$seed ../../.venv/bin/python -m unittest -v test_power_cuts) 2>&1 |
  tee "$results/daemons" || failed+=("the real daemons")

echo
echo "power cuts, in all:"
awk -F': ' '/^simulated power cuts of / { sub("simulated power cuts of ", "", $1)
  split($2, n, ","); split($2, a, "; "); printf "  simulated, %-20s %5d, each with a full check; %s\n", $1, n[1], a[2]; sum += n[1] }
  END { printf "  simulated, all stores          %5d\n", sum; exit (sum < 1000) }' "$results/stores" ||
  failed+=("fewer than 1,000 simulated cuts")
sed -n 's/^power cuts at a write point: /  simulated clusters: /p' "$results/clusters"
grep -oE '(cloudcore|edgecore|devicecore)[^ :]*: [0-9]+ power cuts in [0-9]+ s' "$results/daemons" | sed 's/^/  real /'
grep -oE '[0-9]+ writes, [0-9]+ statuses and .*' "$results/daemons" | sed 's/^/  real daemons: /'
for name in cloudcore edgecore devicecore; do
  grep -qE "$name[^ :]*: $count power cuts" "$results/daemons" || failed+=("$name had no $count power cuts")
done
if [ ${#failed[@]} -gt 0 ]; then
  printf '  FAILED: %s\n' "${failed[@]}"
  exit 1
fi
echo "  nothing that was acknowledged is missing, and every full check passed"
