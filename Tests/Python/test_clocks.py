"""Clocks that are wrong, with real daemons under libfaketime: a node in 1970 reaches its cloud, and one that was away for
longer than its certificate lives comes back by its key, unless it was revoked."""

import contextlib
import shutil
import signal
import ssl
import subprocess
import time
import unittest
import urllib.request

from cluster import Cluster, until

@contextlib.contextmanager
def wall(cluster, name, begin):
    """While inside, that daemon is started with a wall clock that begins at that time; timers are the machine's."""
    commands = cluster.ready["commands"]
    before = commands[name]
    commands[name] = ["faketime", "--exclude-monotonic", "-f", begin, *before]
    try:
        yield
        # faketime waits for what it started: the daemon is its child.
        wrapper = cluster.pids[name]
        with open(f"/proc/{wrapper}/task/{wrapper}/children") as file:
            children = file.read().split()
        if children:
            cluster.pids[name] = int(children[0])
    finally:
        commands[name] = before


@unittest.skipUnless(shutil.which("faketime"), "needs the program faketime (apt install faketime)")
class ClockTests(unittest.TestCase):
    @staticmethod
    def condition(cluster, kind):
        conditions = cluster.get("node", "n1")["status"].get("conditions", [])
        return next((c["status"] for c in conditions if c["type"] == kind), None)

    def test_a_node_in_1970_runs_its_pods_and_reaches_its_cloud(self):
        with Cluster(nodes=1) as cluster:
            cluster.apply(cluster.pod("web", ["/bin/sleep", "100000"]))
            before = cluster.process(cluster.wait_ready("web")[0])
            cluster.kill("edgecore/n1")
            with wall(cluster, "edgecore/n1", "@1970-01-02 00:00:00"):
                cluster.start_daemon("edgecore/n1")
            until("the node says that its clock is wrong", lambda: self.condition(cluster, "ClockSkew") == "True")
            self.assertEqual(cluster.process(cluster.get("pod", "web")), before)
            self.assertIn("not believed", cluster.log("edgecore/n1"))
            # What it says from now on has the cloud's time.
            cluster.apply(cluster.pod("later", ["/bin/sleep", "100000"]))
            pod = cluster.wait_ready("later")[0]
            self.assertGreater(pod["status"]["conditions"][0]["lastTransitionTime"], "2020")
            self.assertEqual(cluster.skerry("exec", "web", "--", "/bin/echo", "here").stdout, "here\n")
            # The clock is set right: the condition goes.
            cluster.kill("edgecore/n1", number=signal.SIGTERM)
            cluster.start_daemon("edgecore/n1")
            until("the clock agrees", lambda: self.condition(cluster, "ClockSkew") != "True")

    def test_a_node_away_beyond_its_certificates_life_comes_back_by_its_key_and_a_revoked_one_never(self):
        with Cluster(nodes=2) as cluster:
            cluster.apply(cluster.pod("one", ["/bin/sleep", "100000"], node="n1"))
            cluster.wait_ready("one")
            until("the second node is there", lambda: cluster.get("node", "n2"))
            cluster.skerry("node", "revoke", "n2")
            cluster.kill("edgecore/n1", "edgecore/n2", "cloudcore")
            # For the cloud the nodes' certificates are over since a day, for the nodes they are not.
            certificate = f"{cluster.node_directory('n1')}/node.crt"
            end = ssl.cert_time_to_seconds(self.openssl(certificate, "-enddate").stdout.strip().split("=")[1])
            days = int((end - time.time()) / 86400) + 2
            with wall(cluster, "cloudcore", f"+{days}d"):
                cluster.start_daemon("cloudcore")
            for node in ("n1", "n2"):
                cluster.start_daemon(f"edgecore/{node}")
            until(
                "the node has a new certificate",
                lambda: "was granted for its recorded key" in cluster.log("edgecore/n1"))
            until("the revoked one was refused", lambda: "revoked" in cluster.log("edgecore/n2"))
            fresh = self.openssl(certificate, "-checkend", str((days + 5) * 86400))
            self.assertEqual(fresh.returncode, 0, fresh.stdout)
            self.assertNotIn("was granted for its recorded key", cluster.log("edgecore/n2"))
            self.connected(cluster, "n1")
            with self.assertRaises(AssertionError):
                self.connected(cluster, "n2", 1)

    @staticmethod
    def openssl(certificate, *words):
        return subprocess.run(
            ["openssl", "x509", "-noout", "-in", certificate, *words], text=True, capture_output=True)

    def connected(self, cluster, node, deadline=30):
        with open(f"{cluster.node_directory(node)}/edgecore.yaml") as file:
            place = next(line.split('"')[1] for line in file if line.startswith("operations:"))

        def live():
            with urllib.request.urlopen(f"http://{place}/metrics", timeout=5) as answer:
                return "skerry_link_connected 1" in answer.read().decode().splitlines()

        until(f"{node} is connected", live, deadline)


if __name__ == "__main__":
    unittest.main()
