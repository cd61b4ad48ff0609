"""Adds up what the test runners recorded: `count_tests.py DIR STATUS` prints the closing line of `make test`.

Exits with 1 if a test failed, or if a runner did (STATUS is not 0): then at least one failure is counted, since a
runner that crashed or was stopped has not recorded what it did not reach.
"""

import json
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

directory, status = pathlib.Path(sys.argv[1]), int(sys.argv[2])
passed = failed = skipped = 0
for report in directory.glob("*.xml"):
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            print(f"failed: {case.get('classname')}.{case.get('name')}")
        elif case.find("skipped") is not None:
            skipped += 1
            print(f"skipped: {case.get('classname')}.{case.get('name')}")
        else:
            passed += 1
for report in directory.glob("*.json"):
    counts = json.loads(report.read_text())
    passed += counts["passed"]
    failed += counts["failed"]
    skipped += counts["skipped"]
if status != 0 and failed == 0:
    print(f"a test runner ended with status {status} before it had recorded a failure", file=sys.stderr)
    failed = 1
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed or passed == 0 else 0)
