"""A node goes on without its cloud, also over a crash of its own agent; what it has to tell arrives afterwards."""

import os
import signal
import sqlite3
import unittest

from cluster import Cluster, alive, until
from meter import Peer, check_series, device, series


class AutonomyTests(unittest.TestCase):
    @staticmethod
    def stored(cluster):
        """How many readings the node's own store has ever numbered."""
        database = sqlite3.connect(f"file:{cluster.node_directory('n1')}/devices/readings.db?mode=ro", uri=True)
        try:
            return database.execute("SELECT coalesce(sum(last), 0) FROM incarnation").fetchone()[0]
        finally:
            database.close()

    def more_readings(self, cluster, peer):
        served, stored = len(peer.served()), self.stored(cluster)
        until("the device is read", lambda: len(peer.served()) >= served + 10)
        until("readings are stored on the node", lambda: self.stored(cluster) >= stored + 10)

    def test_a_node_without_cloud(self):
        with Cluster(nodes=1) as cluster:
            peer = Peer()
            self.addCleanup(peer.end)
            cluster.apply(
                cluster.pod("steady", ["/bin/sleep", "100000"]), cluster.pod("fragile", ["/bin/sleep", "100000"]),
                *device(peer.port))
            pods = cluster.wait_ready("steady", "fragile")
            steady, fragile = map(cluster.process, pods)
            uids = [pod["metadata"]["uid"] for pod in pods]
            until("first readings are in the cloud", lambda: series(cluster))

            cluster.kill("cloudcore", number=signal.SIGTERM)
            self.more_readings(cluster, peer)
            # The node restarts what crashes.
            os.kill(fragile[0], signal.SIGKILL)
            second = until("the node has restarted it", lambda: self.replacement(cluster, pods[1], [fragile[0]]))
            # The agent crashes too, and comes back with no cloud.
            cluster.kill("edgecore/n1")
            self.more_readings(cluster, peer)
            cluster.start_daemon("edgecore/n1")
            self.assertTrue(alive(steady[0]) and alive(second))
            # What it found again it still looks after.
            os.kill(second, signal.SIGKILL)
            third = until(
                "the new edgecore has restarted it", lambda: self.replacement(cluster, pods[1], [fragile[0], second]))
            self.assertEqual(self.running(cluster, pods[0]), [steady[0]])
            self.more_readings(cluster, peer)

            cluster.start_daemon("cloudcore")
            until("the restarts are told", lambda: self.restarts(cluster, "fragile") == 2)
            after = cluster.wait_ready("steady", "fragile")
            self.assertEqual([pod["metadata"]["uid"] for pod in after], uids)
            self.assertEqual(cluster.process(after[0]), steady)
            self.assertEqual(cluster.process(after[1])[0], third)
            self.assertEqual(self.restarts(cluster, "steady"), 0)
            check_series(cluster, peer)

    def test_readings_survive_each_daemon(self):
        with Cluster(nodes=1) as cluster:
            peer = Peer()
            self.addCleanup(peer.end)
            cluster.apply(*device(peer.port))
            until("first readings are in the cloud", lambda: series(cluster))
            for name in ("cloudcore", "edgecore/n1", "devicecore/n1"):
                with self.subTest(killed=name):
                    cluster.kill(name)
                    served = len(peer.served())
                    until("the device is read meanwhile", lambda: len(peer.served()) >= served + 5)
                    cluster.start_daemon(name)
                    check_series(cluster, peer)

    @staticmethod
    def restarts(cluster, name):
        return cluster.get("pod", name)["status"]["containerStatuses"][0]["restartCount"]

    @staticmethod
    def running(cluster, pod):
        """Pids of what runs for a pod, from the node's own records: there may be no cloud to ask."""
        base = f"{cluster.node_directory('n1')}/data/runtime/containers"
        names = [name for name in os.listdir(base) if name.startswith(pod["metadata"]["uid"])]
        pids = [cluster.pid("n1", name) for name in names]
        return [pid for pid in pids if pid and AutonomyTests.sleeps(pid)]

    @staticmethod
    def sleeps(pid):
        """Whether a process is the container's program by now; before, it is the runtime that prepares it."""
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                return file.read().split("\0")[:2] == ["/bin/sleep", "100000"]
        except OSError:
            return False

    def replacement(self, cluster, pod, old):
        pids = [pid for pid in self.running(cluster, pod) if pid not in old]
        self.assertLessEqual(len(pids), 1, "the container runs twice")
        return pids[0] if pids else None


if __name__ == "__main__":
    unittest.main()
