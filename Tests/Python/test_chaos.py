"""A short run of the chaos driver (`make chaos` is the long one): real daemons under faults and load, then checks."""

import json
import subprocess
import sys
import unittest

from machines import ROOT

sys.path.insert(0, str(ROOT / "Tests" / "Chaos"))
from world import why_not  # noqa: E402

CHAOS = ROOT / "Tests" / "Chaos" / "chaos.py"


@unittest.skipIf(why_not(), why_not())
class ChaosTests(unittest.TestCase):
    def chaos(self, seed):
        done = subprocess.run(
            [sys.executable, CHAOS, "--quiet", "--seed", seed, "--nodes", "2", "--devices", "1", "--seconds", "12",
             "--distance", "0.7", "--hold", "0.2", "--step", "0.7"],
            capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, f"seed {seed}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def test_a_short_run_ends_whole(self):
        result = self.chaos("short")
        self.assertGreaterEqual(result["faults"], 8, result)
        self.assertGreater(result["readings"], 1000, result)
        self.assertGreater(result["pod changes"], 4, result)
        self.assertEqual((result["lost"], result["doubled"], result["out of order"]), (0, 0, 0), result)
        self.assertTrue(result["converged"], result)


if __name__ == "__main__":
    unittest.main()
