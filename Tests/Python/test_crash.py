"""SIGKILL of any daemon, or of all: what was there is there again, once."""

import json
import unittest

from cluster import Cluster, start_ticks, until

DEPLOYMENT = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
    "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}},
}
TEXT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "text"}, "data": {"greeting": "hello"}}
TOKEN = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"token": "hidden"}}
KINDS = ["nodes", "namespaces", "configmaps", "secrets", "deployments", "replicasets", "pods"]
UNTOUCHED = {"configmaps", "secrets", "deployments"}
LINES = 10_000


class CrashTests(unittest.TestCase):
    def objects(self, cluster):
        """(uid, revision) of every object, by kind and name."""
        found = {}
        for kind in KINDS:
            for item in cluster.items(kind, "-A"):
                metadata = item["metadata"]
                key = (kind, metadata.get("namespace", ""), metadata["name"])
                self.assertNotIn(key, found)
                found[key] = (metadata["uid"], int(metadata["resourceVersion"]))
        return found

    def settled(self, cluster):
        """Waits until the Deployment is as it should be and every node answers; returns the objects."""

        def check():
            status = cluster.get("deployment", "web")["status"]
            pods = cluster.items("pods", "-l", "app=web")
            return status.get("readyReplicas") == 3 and len(pods) == 3 and all(map(cluster.is_ready, pods)) and pods

        for pod in until("three pods are ready", check):
            name = pod["metadata"]["name"]
            until(f"{name} answers", lambda: cluster.skerry("exec", name, "--", "/bin/true"))
        return self.objects(cluster)

    def containers(self, cluster):
        """Pid and start of every pod's container; fails if the machine has another number of them."""
        pods = cluster.items("pods", "-l", "app=web")
        monitors = [pid for pid, command in cluster.processes() if command.startswith("conmon ")]
        if cluster.runtime == "oci":
            self.assertEqual(len(monitors), len(pods), "containers were lost or doubled")
        return {pod["metadata"]["uid"]: cluster.process(pod) for pod in pods}

    def compare(self, before, after):
        self.assertEqual(before.keys(), after.keys())
        for key, (uid, revision) in before.items():
            with self.subTest(object="/".join(key)):
                self.assertEqual(after[key][0], uid)
                if key[0] in UNTOUCHED:
                    self.assertEqual(after[key][1], revision)
                self.assertGreaterEqual(after[key][1], revision)

    def test_each_daemon_and_all_of_them(self):
        with Cluster() as cluster:
            template = cluster.pod("any", ["/bin/sleep", "100000"], labels={"app": "web"})
            del template["spec"]["nodeName"]
            template = {"metadata": {"labels": {"app": "web"}}, "spec": template["spec"]}
            cluster.apply(TEXT, TOKEN, dict(DEPLOYMENT, spec=dict(DEPLOYMENT["spec"], template=template)))
            before = self.settled(cluster)
            containers = self.containers(cluster)
            alone = ["cloudcore", "edgecore/n1", "devicecore/n1", "device-modbus/n1"]
            for killed in [*([name] for name in alone), [*alone, "edgecore/n2"]]:
                with self.subTest(killed=killed):
                    cluster.kill(*killed)
                    for name in killed:
                        cluster.start_daemon(name)
                    after = self.settled(cluster)
                    self.compare(before, after)
                    self.assertEqual(self.containers(cluster), containers)
                    before = after
            revision = int(cluster.get("configmap", "text")["metadata"]["resourceVersion"])
            cluster.skerry("patch", "configmap", "text", "-p", json.dumps({"data": {"greeting": "again"}}))
            self.assertGreater(
                int(cluster.get("configmap", "text")["metadata"]["resourceVersion"]),
                max(revision, *(number for _, number in before.values())), "new revisions lie above all old ones")

    def test_edgecore_killed_while_a_container_prints_and_ends(self):
        with Cluster(nodes=1) as cluster:
            # It waits for a file, so that the kill falls into its run; then it prints and ends without an edgecore.
            script = (
                "echo begin; while [ ! -e /gate/go ]; do sleep 0.1; done; "
                f"i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; done; exit 7")
            printer = cluster.pod(
                "printer", ["/bin/sh", "-c", script], restart="Never",
                volumes=[{"name": "gate", "hostPath": {"path": f"{cluster.data}/gate", "type": "DirectoryOrCreate"}}])
            printer["spec"]["containers"][0]["volumeMounts"] = [{"name": "gate", "mountPath": "/gate"}]
            cluster.apply(printer, cluster.pod("survivor", ["/bin/sleep", "100000"]))
            pods = cluster.wait_ready("printer", "survivor")
            printing, surviving = map(cluster.process, pods)
            uids = [pod["metadata"]["uid"] for pod in pods]
            until("it prints", lambda: "begin" in cluster.skerry("logs", "printer").stdout)
            cluster.kill("edgecore/n1")
            with open(f"{cluster.data}/gate/go", "w"):
                pass
            until("the printer has ended", lambda: not self.is_same(printing))
            cluster.start_daemon("edgecore/n1")

            def ended():
                status = cluster.get("pod", "printer")["status"]
                return status["phase"] == "Failed" and status["containerStatuses"][0]["state"]["terminated"]

            state = until("the end is told", ended)
            self.assertEqual(state["exitCode"], 7)
            self.assertLessEqual(state["startedAt"], state["finishedAt"])
            self.assertRegex(state["finishedAt"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
            lines = cluster.skerry("logs", "printer").stdout.splitlines()
            self.assertEqual(lines, ["begin"] + [f"line {number}" for number in range(1, LINES + 1)])
            self.assertEqual(cluster.process(*cluster.wait_ready("survivor")), surviving)
            survivor = cluster.get("pod", "survivor")["status"]["containerStatuses"][0]
            self.assertEqual(survivor["restartCount"], 0)
            self.assertEqual([cluster.get("pod", name)["metadata"]["uid"] for name in ("printer", "survivor")], uids)

    @staticmethod
    def is_same(process):
        try:
            return start_ticks(process[0]) == process[1]
        except OSError:
            return False


if __name__ == "__main__":
    unittest.main()
