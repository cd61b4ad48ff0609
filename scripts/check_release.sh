#!/usr/bin/env bash
# That release builds do not lose data on request: each daemon, given the test switch, refuses to start and says why.
# check_release.sh DIRECTORY DAEMON...
set -euo pipefail
bin=$1
shift
# A daemon that did not refuse must not touch this machine.
place=$(mktemp -d "${TMPDIR:-/tmp}/sc.XXXXXX")
trap 'rm -rf --one-file-system "$place"' EXIT
for daemon in "$@"; do
  arguments=(--config "$place/there-is-none.yaml")
  # It reads its settings first.
  [ "$daemon" != devicecore ] || arguments=(--data "$place" --edge-socket "$place/e" --driver-socket "$place/d")
  status=0
  said=$(SKERRY_TEST_VFS=powercut,seed=1,after=1 timeout 20 "$bin/$daemon" "${arguments[@]}" 2>&1 </dev/null) ||
    status=$?
  if [ "$status" = 0 ] || [ "$status" = 124 ] || ! grep -q "this is a release build, which does not lose data" <<<"$said"
  then
    echo "check_release.sh: $daemon did not refuse SKERRY_TEST_VFS (exit status $status): ${said:0:500}" >&2
    exit 1
  fi
  echo "$daemon refuses SKERRY_TEST_VFS: exit status $status"
done
