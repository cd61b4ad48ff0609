#!/usr/bin/env bash
# Makes .venv with the pinned Python packages of Tests/requirements.txt, or another: `scripts/venv.sh DIR REQUIREMENTS`.
# Does nothing when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
wanted=${2:-Tests/requirements.txt}
stamp=$venv/.requirements
cmp -s "$wanted" "$stamp" && exit 0
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted"
cp "$wanted" "$stamp"
