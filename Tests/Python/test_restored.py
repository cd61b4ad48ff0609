"""Clouds and nodes that come out of backups, with real daemons: nothing that runs is ended by an old copy, nothing that was
said takes effect twice, and nobody who was shut out comes back in."""

import json
import os
import shutil
import signal
import unittest

from cluster import BIN, Cluster, run, until

GRACE = 12


class RestoredTests(unittest.TestCase):
    def cloudcore(self, cluster, *words):
        return run([*cluster.ready["commands"]["cloudcore"], *words])

    @staticmethod
    def condition(node, kind):
        return next((c["status"] for c in node["status"].get("conditions", []) if c["type"] == kind), None)

    def test_an_old_backup_of_the_cloud_does_not_kill_what_runs(self):
        with Cluster(nodes=1) as cluster:
            with open(f"{cluster.node_directory('n1')}/edgecore.yaml", "a") as file:
                file.write(f'unknown-grace: "{GRACE}s"\n')
            cluster.kill("edgecore/n1", number=signal.SIGTERM)
            cluster.start_daemon("edgecore/n1")
            cluster.apply(cluster.pod("old", ["/bin/sleep", "100000"]))
            old = cluster.process(cluster.wait_ready("old")[0])
            backup = f"{cluster.data}/backup.db"
            told = self.cloudcore(cluster, "--backup", backup).stdout
            self.assertIn(f"{backup}.readings", told)
            self.assertTrue(os.path.exists(f"{backup}.readings"))

            # After the backup: a pod, and a client that is revoked.
            cluster.apply(cluster.pod("new", ["/bin/sleep", "100000"]))
            new_pod = cluster.wait_ready("new")[0]
            new = cluster.process(new_pod)
            cluster.skerry("client", "create", "jane", "--role", "view", "--dir", f"{cluster.data}/jane")
            jane = ["--config", f"{cluster.data}/jane/jane.yaml", "get", "pods"]
            cluster.skerry(*jane)
            cluster.skerry("client", "revoke", "jane")
            self.assertNotEqual(cluster.skerry(*jane, check=False).returncode, 0)
            me = cluster.skerry("client", "revoke", "admin", check=False)
            self.assertIn("lock you out", me.stderr)

            cluster.kill("cloudcore", number=signal.SIGTERM)
            self.cloudcore(cluster, "--restore", backup)
            cluster.start_daemon("cloudcore")
            node = until(
                "the node says that the cloud is not what it was",
                lambda: (n := cluster.get("node", "n1")) and self.condition(n, "CloudRestored") == "True" and n)
            message = next(c["message"] for c in node["status"]["conditions"] if c["type"] == "CloudRestored")
            self.assertIn("pods/default/new", message)
            self.assertNotIn("pods/default/old", message)
            self.assertNotEqual(cluster.skerry("get", "pod", "new", check=False).returncode, 0)
            # Both go on, the processes that they were.
            self.assertEqual(cluster.process(new_pod), new)
            self.assertEqual(cluster.process(cluster.get("pod", "old")), old)
            self.assertNotEqual(cluster.skerry(*jane, check=False).returncode, 0)

            # When the grace is over the node is as the cloud wants it.
            until("the unknown pod has gone", lambda: not os.path.exists(f"/proc/{new[0]}"))
            until(
                "the node says so",
                lambda: self.condition(cluster.get("node", "n1"), "CloudRestored") == "False")
            self.assertEqual(cluster.process(cluster.get("pod", "old")), old)
            # And goes on with the new history.
            cluster.apply(cluster.pod("newer", ["/bin/sleep", "100000"]))
            cluster.wait_ready("newer")

    def test_a_node_from_an_older_backup_or_wiped_repeats_nothing(self):
        with Cluster(nodes=1) as cluster:
            data = f"{cluster.node_directory('n1')}/data"
            copy = f"{cluster.data}/copy"
            cluster.apply(cluster.pod("one", ["/bin/sleep", "100000"]))
            cluster.wait_ready("one")
            cluster.kill("cloudcore", number=signal.SIGTERM)
            pid, _ = cluster.process(json.loads(self.edge(cluster, "get", "pod", "one", "-o", "json")))
            os.kill(pid, signal.SIGKILL)
            until("the node has something to say", lambda: self.restarts(cluster) == 1)
            cluster.kill("edgecore/n1", number=signal.SIGTERM)
            files = [name for name in os.listdir(data) if name.startswith(("replica.db", "outbox.db"))]
            os.mkdir(copy)
            for name in files:
                shutil.copy(f"{data}/{name}", copy)
            cluster.start_daemon("cloudcore")
            cluster.start_daemon("edgecore/n1")
            until("the cloud heard it", lambda: self.restarted(cluster) == 1)
            cluster.apply(cluster.pod("two", ["/bin/sleep", "100000"]))
            two = cluster.process(cluster.wait_ready("two")[0])
            until("nothing waits on the node", lambda: self.events(cluster))
            before = self.events(cluster)

            # The older files: the node has what it had, hears the rest, and repeats nothing.
            cluster.kill("edgecore/n1", number=signal.SIGTERM)
            for name in os.listdir(data):
                if name.startswith(("replica.db", "outbox.db")) and not name.endswith(".lock"):
                    os.unlink(f"{data}/{name}")
            for name in files:
                shutil.copy(f"{copy}/{name}", data)
            cluster.start_daemon("edgecore/n1")
            until("the node follows", lambda: "two" in self.edge(cluster, "get", "pods", "-o", "name"))
            self.settle(cluster)
            after = self.events(cluster)
            self.assertEqual({name: after[name] for name in before}, before)
            until("the second pod runs", lambda: cluster.is_ready(cluster.get("pod", "two")))
            del two

            # No files at all: everything comes again, and the pods are there.
            cluster.kill("edgecore/n1", number=signal.SIGTERM)
            for name in os.listdir(data):
                if name.startswith(("replica.db", "outbox.db")):
                    os.unlink(f"{data}/{name}")
            cluster.start_daemon("edgecore/n1")
            until(
                "the slice is there again",
                lambda: self.edge(cluster, "get", "pods", "-o", "name").split() == ["pod/one", "pod/two"])
            cluster.wait_ready("one", "two")

    def edge(self, cluster, *words):
        with open(f"{cluster.node_directory('n1')}/edgecore.yaml") as file:
            socket = next(json.loads(line.split(": ", 1)[1]) for line in file if line.startswith("socket:"))
        return run([f"{BIN}/skerry", "--edge", socket, *words]).stdout

    def restarts(self, cluster):
        pod = json.loads(self.edge(cluster, "get", "pod", "one", "-o", "json"))
        return pod["status"]["containerStatuses"][0]["restartCount"]

    @staticmethod
    def restarted(cluster):
        return cluster.get("pod", "one")["status"]["containerStatuses"][0]["restartCount"]

    @staticmethod
    def events(cluster):
        """The node's events by name, with how often the cloud counts each."""
        return {
            event["metadata"]["name"]: event.get("count")
            for event in cluster.items("events") if event["source"].get("component") == "edgecore"}

    def settle(self, cluster):
        """Something new from the node has arrived, so that everything before it has."""
        pod = cluster.get("pod", "two")
        pid, _ = cluster.process(pod)
        os.kill(pid, signal.SIGKILL)
        until(
            "the node's word arrives",
            lambda: cluster.get("pod", "two")["status"]["containerStatuses"][0]["restartCount"] >= 1)


if __name__ == "__main__":
    unittest.main()
