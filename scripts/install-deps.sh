#!/usr/bin/env bash
# Installs the Debian packages that are missing: `scripts/install-deps.sh build` for building, `… build test` for
# tests and demo too, `bench` for the peers of the bench, `budgets` for counting instructions. Quick when nothing is missing. Works as root or with sudo; else it says what to run.
set -euo pipefail

# What each is for: the loop, TLS and X.509, the store, Modbus; how SwiftPM finds them.
build=(libuv1-dev libssl-dev libsqlite3-dev libmodbus-dev pkg-config)
# Containers and their network; images; certificates by hand; Python peers; a wrong clock; a checker of systemd units.
test=(runc conmon containernetworking-plugins iptables nftables iproute2 skopeo umoci docker-registry busybox-static openssl
  python3-venv procps faketime systemd)

# The counter of the bench's budgets, and the peers that it is compared with.
budgets=(valgrind)
bench=(etcd-server etcd-client nats-server mosquitto valgrind)

wanted=()
for set in "${@:-build}"; do
  case $set in
    build) wanted+=("${build[@]}") ;;
    test) wanted+=("${test[@]}") ;;
    budgets) wanted+=("${budgets[@]}") ;;
    bench) wanted+=("${bench[@]}") ;;
    *) echo "install-deps.sh: unknown set \"$set\"; say build, test, budgets or bench" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Missing Debian packages: ${missing[*]}"
command=(apt-get install -y --no-install-recommends "${missing[@]}")
if [ "$(id -u)" = 0 ]; then
  root=()
elif sudo -n true 2>/dev/null; then
  root=(sudo)
else
  echo "They cannot be installed without root. Run: sudo ${command[*]}" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get update -q
"${root[@]}" "${command[@]}"
