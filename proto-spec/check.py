#!/usr/bin/env python3
"""Holds the golden vectors against skerry.cddl with pycddl, a CDDL validator from other hands.

    python3 -m venv .venv && .venv/bin/pip install pycddl==0.6.4 && .venv/bin/python proto-spec/check.py

Every vector with a `rule` must match that rule; every one under `refuse` that names a rule must not.
"""

import json
import pathlib
import sys

import pycddl

HERE = pathlib.Path(__file__).resolve().parent


def schema(rule, text, cache={}):
    """The whole file with `rule` in front: a schema's first rule is what it accepts."""
    if rule not in cache:
        cache[rule] = pycddl.Schema(f"start = {rule}\n{text}")
    return cache[rule]


def matches(rule, text, payload):
    try:
        schema(rule, text).validate_cbor(payload)
    except pycddl.ValidationError as error:
        return str(error) or "no match"
    return None


def main():
    text = (HERE / "skerry.cddl").read_text()
    sync = HERE / "sync.cddl"
    if sync.exists():
        text += sync.read_text()
    count, failures = 0, []
    for path in sorted((HERE / "vectors").glob("*.json")):
        vectors = json.loads(path.read_text())
        for vector in vectors.get("accept", []):
            if "rule" not in vector:
                continue
            count += 1
            problem = matches(vector["rule"], text, bytes.fromhex(vector["payload"]))
            if problem:
                failures.append(f"{path.name}: {vector['name']} does not match {vector['rule']}: {problem}")
        for vector in vectors.get("refuse", []):
            if "rule" not in vector:
                continue
            count += 1
            if matches(vector["rule"], text, bytes.fromhex(vector["payload"])) is None:
                failures.append(f"{path.name}: {vector['name']} matches {vector['rule']}, but must not")
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"proto-spec: {count} vectors checked against the CDDL, {len(failures)} failed")
    if count == 0:
        print("proto-spec: no vectors were found", file=sys.stderr)
    return 1 if failures or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
