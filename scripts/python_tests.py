"""Runs the unittest modules of Tests/Python and writes the counts as JSON to the file that is named."""

import json
import sys
import unittest

suite = unittest.defaultTestLoader.discover("Tests/Python", pattern="test_*.py")
result = unittest.TextTestRunner(verbosity=1).run(suite)
failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
skipped = len(result.skipped)
counts = {"passed": max(0, result.testsRun - failed - skipped), "failed": failed, "skipped": skipped}
with open(sys.argv[1], "w") as out:
    json.dump(counts, out)
sys.exit(0 if result.wasSuccessful() else 1)
