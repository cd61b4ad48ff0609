"""What a node must bear, on real processes, each scenario in short; `make acceptance-edge` runs them in full."""

import json
import subprocess
import sys
import unittest

from machines import ROOT

sys.path.insert(0, str(ROOT / "Tests" / "Chaos"))
from world import why_not  # noqa: E402


@unittest.skipIf(why_not(), why_not())
class EdgeAcceptance(unittest.TestCase):
    def scenario(self, name, *options):
        done = subprocess.run(
            [sys.executable, ROOT / "Tests" / "Chaos" / "acceptance.py", name, *map(str, options)],
            capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def test_a_half_open_link_is_known_and_got_over(self):
        self.scenario("half-open", "--ping", "1s", "--held", 2)

    def test_a_node_boots_alone_in_1970(self):
        self.scenario("reboot", "--pods", 6)

    def test_commands_expire_and_desired_values_are_written_once(self):
        self.scenario("commands", "--cut", 6, "--after", 2)

    def test_no_daemon_that_stood_still_runs_an_expired_command(self):
        self.scenario("late")

    def test_everything_of_a_cut_arrives_once_in_order_and_soon(self):
        self.scenario(
            "outage", "--cut", 6, "--rate", 200, "--changes", 8, "--pods", 2, "--bandwidth", 50_000, "--slack", 10)

    def test_a_node_that_was_away_hears_nothing_of_what_is_not_its_own(self):
        self.scenario("away", "--changes", 100)


if __name__ == "__main__":
    unittest.main()
