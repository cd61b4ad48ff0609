"""The demo as strangers meet it: without privileges it shows what it can and says what it did not show; held, all that
its results name is there to be looked at."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request

from cluster import BIN, DEADLINE, ROOT, Cluster, has_oci, start_ticks, until, until_nothing

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

    @unittest.skipUnless(has_oci(), "needs root and runc: pods with a network of their own")
    def test_held_everything_can_be_looked_up(self):
        directory = tempfile.mkdtemp(prefix="skerry-held-")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        results, output = f"{directory}/demo.json", f"{directory}/out"
        with open(output, "w") as out:
            demo = subprocess.Popen(
                [sys.executable, f"{ROOT}/scripts/demo.py", "--bin", BIN, "--results", results],
                env=dict(os.environ, DEMO_HOLD="1"), stdin=subprocess.DEVNULL, stdout=out, stderr=out)

        def end():
            demo.terminate()  # it takes its cluster with it
            demo.wait(DEADLINE)

        self.addCleanup(end)

        def said():
            with open(output) as file:
                return file.read()

        until("the demo is held", lambda: demo.poll() is not None or "\nheld: " in said(), 3 * DEADLINE)
        self.assertIsNone(demo.poll(), said())
        with open(results) as file:
            held = next(step for step in json.load(file)["steps"] if step["step"] == "hold")
        self.assertEqual(len(held["pods"]), 3)
        for pod in held["pods"]:
            self.assertEqual(len(pod["containers"]), 2)
            for container in pod["containers"]:
                pid = container["pid"]
                self.assertEqual(start_ticks(pid), container["startTicks"])
                self.assertEqual(os.stat(f"/proc/{pid}/ns/net").st_ino, container["netns"])
                with open(f"/proc/{pid}/cgroup") as file:
                    self.assertIn(container["cgroup"], file.read())
            with urllib.request.urlopen(f"http://{pod['podIP']}:8080/", timeout=5) as reply:
                self.assertIn(f"hello from the edge from {pod['name']}", reply.read().decode())
        demo.send_signal(signal.SIGTERM)
        self.assertEqual(demo.wait(DEADLINE), 0, said())
        self.assertRegex(said().splitlines()[-1], r"^demo: complete: ")
        data = re.search(r"containers by oci, in (\S+)$", said(), re.MULTILINE).group(1)
        self.assertEqual(until_nothing(Cluster(data=data)), [], said())


if __name__ == "__main__":
    unittest.main()
