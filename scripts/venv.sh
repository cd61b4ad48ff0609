#!/usr/bin/env bash
# Makes .venv with the pinned Python packages of Tests/requirements.txt. Does nothing when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv/.requirements
cmp -s Tests/requirements.txt "$stamp" && exit 0
rm -rf .venv
python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r Tests/requirements.txt
cp Tests/requirements.txt "$stamp"
