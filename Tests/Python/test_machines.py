"""A cluster on separate machines: joining by token, approval, Secrets that no file holds, logs, backup and restore."""

import base64
import os
import pathlib
import sqlite3
import subprocess
import unittest

import cluster
from machines import HAVE_PROGRAMS, WHY_NOT, Machines, run, until
from skerry_client import CallFailed
from skerry_node import Slice

# Goes through every place where a value could be written down.
CANARY = "canary-0d6f1c2a9b7e4835"


def base64_forms(text):
    """The part of each of the three base64 spellings that does not depend on what stands around the text."""
    forms = []
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + text.encode()).decode()
        start = {0: 0, 1: 2, 2: 3}[offset]
        forms.append(encoded[start : len(encoded) - 4])
    return forms


def pod(name, script, node="n1", **spec):
    container = {
        "name": "main", "image": cluster.image(), "command": ["/bin/busybox", "sh", "-c", script],
        "env": spec.pop("env", []), "volumeMounts": spec.pop("mounts", []),
    }
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


@unittest.skipUnless(HAVE_PROGRAMS, WHY_NOT)
class SeparateMachines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.machines = Machines()
        cls.addClassCleanup(cls.machines.end)
        cls.cloud = cls.machines.cloud()
        runtime = "oci" if cluster.has_oci() else "process"
        cls.edge = cls.machines.edge("n1", cls.cloud, runtime=runtime)
        cls.admin = cls.cloud.client()
        until("n1 is Ready", lambda: cls.edge.is_ready(cls.admin))

    def running(self, name):
        """The pod, once its container runs."""
        def check():
            pod = self.admin.get("pods", name, "default")
            statuses = pod.get("status", {}).get("containerStatuses", [])
            return pod if statuses and all("running" in s["state"] for s in statuses) else None

        return until(f"{name} runs", check)

    def remove(self, name):
        self.admin.delete("pods", name, "default", grace=0)

        def gone():
            try:
                self.admin.get("pods", name, "default")
            except CallFailed as error:
                return error.reason == "NotFound"

        until(f"{name} is gone", gone)

    def log(self, name, **options):
        return b"".join(self.admin.log(name, **options)).decode()

    # Joining

    def test_a_token_is_good_for_as_many_nodes_as_it_says(self):
        token = self.cloud.token("--uses", "1")
        first = self.machines.edge("t1", self.cloud, start=False, join=False)
        first.join(token)
        first.join(token)  # the same key again: an answer that was lost is asked for again
        second = self.machines.edge("t2", self.cloud, start=False, join=False)
        done = second.join(token, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("skerry token create", done.stderr)
        self.assertFalse(second.cert.exists())

    def test_a_token_for_one_node_is_for_no_other(self):
        token = self.cloud.token("--node", "t3")
        other = self.machines.edge("t4", self.cloud, start=False, join=False)
        self.assertNotEqual(other.join(token, check=False).returncode, 0)
        self.machines.edge("t3", self.cloud, start=False, join=False).join(token)

    def test_another_key_for_a_node_waits_for_approval(self):
        first = self.machines.edge("t5", self.cloud, start=False)
        session = first.session()
        self.registered("t5")
        token = self.cloud.token()
        second = self.machines.edge("t5", self.cloud, start=False, join=False)
        done = second.join(token, "--no-wait", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("skerry node approve t5", done.stderr)
        self.assertFalse(second.cert.exists())
        self.assertEqual(session.get("nodes", "t5")["metadata"]["name"], "t5")  # the first one is untouched
        self.cloud.skerry("node", "approve", "t5")
        second.join(token, "--no-wait")
        self.assertEqual(second.session().get("nodes", "t5")["metadata"]["name"], "t5")
        with self.assertRaises((CallFailed, OSError)):  # and the old key is good for nothing
            first.session().get("nodes", "t5")

    def registered(self, name):
        return until(f"{name} is registered", lambda: any(
            item["metadata"]["name"] == name for item in self.admin.list("nodes")[1]))

    def test_a_client_is_created_and_its_context_works(self):
        directory = self.machines.directory / "ann"
        self.cloud.skerry("client", "create", "ann", "--role", "view", "--dir", directory)
        listed = run("skerry", "get", "nodes", config=directory / "ann.yaml")
        self.assertIn("n1", listed.stdout)
        refused = run("skerry", "delete", "node", "n1", config=directory / "ann.yaml", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("forbidden", refused.stderr)
        self.assertEqual(os.stat(directory / "ann.key").st_mode & 0o777, 0o600)

    # Logs

    def test_a_log_is_followed(self):
        script = "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"
        self.admin.create("pods", pod("talks", script, restartPolicy="Never"), "default")
        self.running("talks")
        text = self.log("talks", follow=True)  # ends with the container
        self.assertEqual(text.splitlines(), [f"line {number}" for number in range(40)])
        self.assertEqual(self.log("talks", tailLines=2).splitlines(), ["line 38", "line 39"])
        self.remove("talks")

    # Secrets

    def files_with(self, words):
        """The files below the machines' directory in which one of the words stands."""
        directory = self.machines.directory
        arguments = [word for text in words for word in ("-e", text)]
        found = subprocess.run(
            ["grep", "-rlaF", *arguments, str(directory)], capture_output=True, text=True, timeout=120)
        return found.stdout.splitlines()

    def test_no_file_holds_a_secret(self):
        self.admin.create("secrets", {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "canary"}, "stringData": {"word": CANARY + "-s"},
        }, "default")
        self.admin.create("configmaps", {
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "canary", "annotations": {"skerry.io/sensitive-keys": "word"}},
            "data": {"word": CANARY + "-c"},
        }, "default")
        script = 'echo "${#WORD} $(wc -c </etc/s/word) $(wc -c </etc/c/word)"; exec sleep 1000'
        if self.edge.sets["runtime"] == "process":
            script = 'echo "${#WORD} ${#WORD} ${#WORD}"; exec sleep 1000'
        self.admin.create("pods", pod(
            "keeps", script,
            env=[{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "canary", "key": "word"}}}],
            mounts=[{"name": "s", "mountPath": "/etc/s"}, {"name": "c", "mountPath": "/etc/c"}],
            volumes=[{"name": "s", "secret": {"secretName": "canary"}},
                     {"name": "c", "configMap": {"name": "canary"}}]), "default")
        self.running("keeps")
        length = str(len(CANARY) + 2)
        until("the container has the values", lambda: self.log("keeps").split() == [length] * 3)
        # An update leaves nothing of the older value either.
        self.admin.patch("secrets", "canary", {"stringData": {"word": CANARY + "-2"}}, "default")
        backup = self.machines.directory / "backup.db"
        run("cloudcore", "--config", self.cloud.config, "--backup", backup)
        self.assertTrue(backup.exists())
        forms = [CANARY, *base64_forms(CANARY)]
        self.assertEqual(self.files_with(forms), [])
        # The same search finds the objects' names in each of the places, so it looks where it should.
        places = " ".join(self.files_with(["default/canary"]))
        for place in ("cloud0/data", "n1-0/data", "backup.db"):
            self.assertIn(place, places)
        self.remove("keeps")
        # Nothing is left when the daemons have ended either.
        self.edge.stop()
        self.cloud.stop()
        self.assertEqual(self.files_with(forms), [])
        self.cloud.start()
        self.edge.start()
        type(self).admin = self.cloud.client()

    # Logs

    def test_a_stranger_follows_a_log(self):
        go = f"/tmp/{self.machines.directory.name}-go"  # in the container, or beside it where it has no files of its own
        self.admin.create("pods", pod(
            "counts", f"echo ready; until rm {go} 2>/dev/null; do sleep 0.05; done; seq 1 20000", restartPolicy="Never",
        ), "default")
        self.running("counts")
        log = self.admin.log("counts", follow=True)
        seen = b""
        while not seen.endswith(b"ready\n"):
            seen += next(log)
        # What is written from here on can only come by following.
        self.cloud.skerry("exec", "counts", "--", "/bin/busybox", "touch", go)
        lines = (seen + b"".join(log)).decode().splitlines()  # it ends by itself, with the container
        self.assertEqual(lines, ["ready", *map(str, range(1, 20001))])
        self.assertEqual(self.log("counts", tailLines=2), "19999\n20000\n")
        self.remove("counts")

    # Backup and restore

    def test_a_restore_is_a_new_epoch_and_pods_run_on(self):
        self.admin.create("pods", pod("stays", "exec sleep 1000"), "default")
        before = self.running("stays")
        # A node has one session: its daemon stands aside while the test speaks for it.
        self.edge.stop()
        session = self.edge.session()
        slice = Slice(session)
        slice.until(lambda s: "pods/default/stays" in s.held)
        session.close()
        self.edge.start()
        backup = self.machines.directory / "restored.db"
        done = run("cloudcore", "--config", self.cloud.config, "--backup", backup)
        self.assertIn(str(backup), done.stdout)
        again = run("cloudcore", "--config", self.cloud.config, "--backup", backup, check=False)
        self.assertNotEqual(again.returncode, 0)
        self.assertIn("exists", again.stderr)
        self.admin.create("configmaps", {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "after-the-backup"}}, "default")
        revision = self.admin.list("configmaps")[0]

        busy = run("cloudcore", "--config", self.cloud.config, "--restore", backup, check=False)
        self.assertNotEqual(busy.returncode, 0)
        self.assertIn("in use", busy.stderr)
        self.assertIn("sound", run("cloudcore", "--config", self.cloud.config, "--check").stdout)
        self.cloud.stop()
        run("cloudcore", "--config", self.cloud.config, "--restore", backup)
        self.cloud.start()
        type(self).admin = self.cloud.client()

        now, maps = self.admin.list("configmaps")
        self.assertGreaterEqual(now, revision + 10**9)
        self.assertNotIn("after-the-backup", [item["metadata"]["name"] for item in maps])
        with self.assertRaises(CallFailed) as caught:
            self.admin.watch("configmaps", after=revision).next()
        self.assertEqual(caught.exception.reason, "Expired")
        # The node comes back by itself and does as it is told, which the restored statuses cannot pretend.
        self.admin.create("pods", pod("comes", "exec sleep 1000"), "default")
        self.running("comes")
        after = self.running("stays")
        self.assertEqual(after["metadata"]["uid"], before["metadata"]["uid"])
        self.assertEqual(after["status"]["containerStatuses"][0]["containerID"],
                         before["status"]["containerStatuses"][0]["containerID"])
        self.assertEqual(after["status"]["containerStatuses"][0]["restartCount"], 0)
        # Its cursor was of another epoch: it compares what it holds, and resumes or takes a snapshot.
        self.edge.stop()
        session = self.edge.session()
        resumed = Slice(session, held={"pods/default/gone": (1, False)}, cursor=slice.cursor)
        resumed.until(lambda s: s.snapshots == 1 and "pods/default/stays" in s.held)
        self.assertEqual(resumed.inventories, 1)
        self.assertNotEqual(resumed.cursor[1], slice.cursor[1])
        self.assertNotIn("pods/default/gone", resumed.held)
        session.close()
        self.edge.start()
        for name in ("stays", "comes"):
            self.remove(name)

    def test_a_damaged_backup_is_not_restored(self):
        backup = self.machines.directory / "damaged.db"
        run("cloudcore", "--config", self.cloud.config, "--backup", backup)
        with sqlite3.connect(backup) as database:
            database.execute("UPDATE history SET body = zeroblob(length(body)) WHERE place = (SELECT max(place) FROM history)")
        database.close()
        spare = self.machines.directory / "spare"
        done = run(
            "cloudcore", "--config", self.cloud.config, "--set", f"data={spare}", "--restore", backup, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(backup), done.stderr)
        self.assertEqual([path.name for path in pathlib.Path(spare).iterdir() if path.suffix == ".db"], [])


if __name__ == "__main__":
    unittest.main()
