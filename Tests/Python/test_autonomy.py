"""A node goes on without its cloud, also over a crash of its own agent; what it has to tell arrives afterwards."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import unittest

from cluster import ROOT, Cluster, alive, until

PEER = f"{ROOT}/Tests/Peers/modbus_peer.py"
PAGE = 1000


class Peer:
    """The Modbus server from other hands. Its log says what it served."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="skerry-peer-")
        self.log = f"{self.directory.name}/served.log"
        self.process = subprocess.Popen(
            [sys.executable, PEER, "--log", self.log], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = json.loads(self.process.stdout.readline())["port"]

    def served(self):
        """The values of the counter register, in the order in which they were served."""
        if not os.path.exists(self.log):
            return []
        with open(self.log) as file:
            lines = [json.loads(line) for line in file.read().splitlines()]
        return [line["values"][0] for line in lines if line["table"] == "holding" and line["address"] == 0]

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.directory.cleanup()


def device(port):
    def modbus(**data):
        return {"protocolName": "modbus", "configData": data}

    protocol = modbus(ip="127.0.0.1", port=port, slaveID=1, timeout=10000)
    visitor = modbus(register="HoldingRegister", offset=0, dataType="uint16")
    return [
        {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel",
         "metadata": {"name": "meter-model", "namespace": "default"},
         "spec": {"protocol": "modbus", "properties": [{"name": "count", "type": "INT", "accessMode": "ReadOnly"}]}},
        {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
         "metadata": {"name": "meter", "namespace": "default"},
         "spec": {"deviceModelRef": {"name": "meter-model"}, "nodeName": "n1", "protocol": protocol,
                  "properties": [{"name": "count", "collectCycle": 50, "visitors": visitor}]}},
    ]


class AutonomyTests(unittest.TestCase):
    def series(self, cluster):
        """All readings of the device in the cloud, paged by number."""
        items, after = [], 0
        while True:
            text = cluster.skerry("readings", "meter", "--after", str(after), "-o", "json").stdout
            page = [json.loads(line) for line in text.splitlines()]
            items += page
            if len(page) < PAGE:
                break
            after = page[-1]["number"]
        numbers = [item["number"] for item in items]
        self.assertEqual(numbers, sorted(set(numbers)))
        # Before the node has the model that came with the device, a reading may say so.
        while items and "DeviceModel" in items[0]["quality"]:
            del items[0]
        self.assertEqual({item["quality"] for item in items} - {"Good"}, set())
        times = [item["time"] for item in items]
        self.assertEqual(times, sorted(times))
        return [int(item["value"]) for item in items]

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

    def check_series(self, cluster, peer):
        """The cloud's series is what the peer served, value for value, up to this moment."""
        served = peer.served()
        until("all readings are in the cloud", lambda: len(self.series(cluster)) >= len(served))
        self.assertEqual(self.series(cluster)[: len(served)], served)
        self.assertEqual(served, list(range(1, len(served) + 1)))

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
            until("first readings are in the cloud", lambda: self.series(cluster))

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
            self.check_series(cluster, peer)

    def test_readings_survive_each_daemon(self):
        with Cluster(nodes=1) as cluster:
            peer = Peer()
            self.addCleanup(peer.end)
            cluster.apply(*device(peer.port))
            until("first readings are in the cloud", lambda: self.series(cluster))
            for name in ("cloudcore", "edgecore/n1", "devicecore/n1"):
                with self.subTest(killed=name):
                    cluster.kill(name)
                    served = len(peer.served())
                    until("the device is read meanwhile", lambda: len(peer.served()) >= served + 5)
                    cluster.start_daemon(name)
                    self.check_series(cluster, peer)

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
