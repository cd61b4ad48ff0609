"""The demo for somebody who has no privileges: it shows what it can, and says what it did not show."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from cluster import BIN, ROOT, Cluster, until_nothing

PROGRAMS = ["skerry", "cloudcore", "edgecore", "devicecore", "device-modbus", "modbus-simulator"]
NOBODY = 65534


class DemoTests(unittest.TestCase):
    def test_without_privileges(self):
        # Nobody may be able to look into the checkout or into TMPDIR: what the demo needs is copied to where all may.
        directory = tempfile.mkdtemp(prefix="skerry-nobody-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        for name in ("scripts", "examples"):
            shutil.copytree(f"{ROOT}/{name}", f"{directory}/{name}")
        os.mkdir(f"{directory}/bin")
        for name in PROGRAMS:
            shutil.copy(f"{BIN}/{name}", f"{directory}/bin/{name}")
        os.mkdir(f"{directory}/tmp")
        user = {}
        if os.geteuid() == 0:
            user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            os.chown(f"{directory}/tmp", NOBODY, NOBODY)
        os.chmod(directory, 0o755)
        environment = {"PATH": os.environ["PATH"], "TMPDIR": f"{directory}/tmp", "HOME": f"{directory}/tmp"}
        # Our own interpreter may lie in somebody's home.
        python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or os.path.realpath(sys.executable)
        done = subprocess.run(
            [python, f"{directory}/scripts/demo.py", "--bin", f"{directory}/bin", "--runtime", "process",
             "--results", f"{directory}/tmp/demo.json"],
            cwd=f"{directory}/tmp", env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=150, **user)
        said = f"{done.stdout}\n{done.stderr}"
        self.assertEqual(done.returncode, 0, said)
        self.assertIn("not shown: call a pod over the network", done.stdout)
        self.assertRegex(done.stdout.splitlines()[-1], r"^demo: partial: ")
        data = re.search(r"containers by process, in (\S+)$", done.stdout, re.MULTILINE).group(1)
        left = until_nothing(Cluster(data=data, runtime="process"))
        self.assertEqual(left, [], said)
        self.assertEqual(os.listdir(f"{directory}/tmp"), ["demo.json"])


if __name__ == "__main__":
    unittest.main()
