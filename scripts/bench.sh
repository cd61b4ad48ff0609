#!/usr/bin/env bash
# Runs skerry-bench with the release binaries: `scripts/bench.sh all`, `scripts/bench.sh peers` or single scenarios with
# commas between them; more arguments go to it.
# RUNS (default 1; recorded results use 5) is the number of interleaved runs, BENCH_OUT the directory of the results.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
[ $# = 0 ] || shift
out=${BENCH_OUT:-.build/bench}
mkdir -p "$out"
bin=$(swift build -c release --static-swift-stdlib --traits Devices --show-bin-path)
ulimit -n "$(ulimit -Hn)"

# Sizes and start times of the binaries; the start is the shortest of ten runs of `--help`.
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

# Real containers need an image: a small one of Debian's busybox, where the tools for it are. Else processes stand in.
more=()
runs_pods() { case ,$what, in *,all,*|*,start,*|*,footprint,*) true ;; *) false ;; esac; }
if runs_pods && [ "$(id -u)" = 0 ] && command -v runc >/dev/null && command -v conmon >/dev/null; then
  if scripts/make-image.sh "$out/image" bench >/dev/null; then more+=(--image "oci:$(realpath "$out")/image:bench"); fi
fi
# etcd's watches over gRPC.
case ,$what, in *,peers,*|*,etcd,*)
  scripts/venv.sh .build/peers benchmarks/peers/requirements.txt
  more+=(--grpc-watcher "$(pwd)/.build/peers/bin/python $(pwd)/benchmarks/peers/etcd_watch.py") ;;
esac

name=bench
[ "$what" = all ] || name=bench-${what//,/-}
exec "$bin/skerry-bench" "$what" --runs "${RUNS:-1}" --json "$out/$name.json" --report "$out/$name.html" "${more[@]}" "$@"
