"""The API of a node: served with the cloud stopped, to root, to holders of a token, to pods, and to nobody else."""

import json
import os
import signal
import subprocess
import unittest

from cluster import BIN, DEADLINE, Cluster, has_oci, run, until
from meter import Peer, device


class EdgeAPITests(unittest.TestCase):
    def edge(self, cluster, *words, check=True, place=None, options=()):
        """Runs `skerry --edge` against a node's socket, without any configuration of the cloud's."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SKERRY_")}
        environment["SKERRY_CONFIG"] = "/nonexistent"
        return run(
            [f"{BIN}/skerry", "--edge", place or self.socket(cluster), *options, *words], check=check, timeout=DEADLINE,
            environment=environment)

    @staticmethod
    def settings(cluster):
        with open(f"{cluster.node_directory('n1')}/edgecore.yaml") as file:
            return dict(line.strip().split(": ", 1) for line in file)

    def socket(self, cluster):
        return json.loads(self.settings(cluster)["socket"])

    def get(self, cluster, *words):
        return json.loads(self.edge(cluster, "get", *words, "-o", "json").stdout)

    def test_a_node_answers_for_itself_while_the_cloud_is_stopped(self):
        with Cluster(nodes=1) as cluster:
            cluster.apply(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"k": "v"}},
                cluster.pod("web", ["/bin/sh", "-c", "echo hello; sleep 100000"]), cluster.pod("other", ["/bin/sleep", "100000"]))
            before = cluster.wait_ready("web", "other")[0]
            cluster.kill("cloudcore", number=signal.SIGTERM)

            shown = self.get(cluster, "pod", "web")
            self.assertEqual(shown["metadata"]["uid"], before["metadata"]["uid"])
            self.assertEqual(self.edge(cluster, "logs", "web").stdout, "hello\n")
            self.assertEqual(self.edge(cluster, "exec", "web", "--", "/bin/echo", "there").stdout, "there\n")

            # What the node does now only it can know; it is seen in get, list and watch.
            watch = subprocess.Popen(
                [f"{BIN}/skerry", "--edge", self.socket(cluster), "get", "pods", "-w", "-o", "json"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            pid, _ = cluster.process(before)
            os.kill(pid, signal.SIGKILL)

            def restarted(pod):
                return pod["status"]["containerStatuses"][0]["restartCount"] == 1

            until("the node restarts the container and says so", lambda: restarted(self.get(cluster, "pod", "web")))
            listed = {pod["metadata"]["name"]: pod for pod in self.get(cluster, "pods")["items"]}
            self.assertTrue(restarted(listed["web"]))
            self.assertFalse(restarted(listed["other"]))
            decoder, text = json.JSONDecoder(), ""
            seen = []
            while not any(pod["metadata"]["name"] == "web" and restarted(pod) for pod in seen):
                text += os.read(watch.stdout.fileno(), 65536).decode()
                while text.strip():
                    try:
                        value, end = decoder.raw_decode(text.lstrip())
                    except ValueError:
                        break
                    seen.append(value)
                    text = text.lstrip()[end:]
            watch.kill()
            watch.wait()
            watch.stdout.close()
            events = self.get(cluster, "events")["items"]
            self.assertIn("Started", {event["reason"] for event in events})

            # It survives a crash of the agent, too.
            cluster.kill("edgecore/n1")
            cluster.start_daemon("edgecore/n1")
            self.assertTrue(restarted(self.get(cluster, "pod", "web")))

            # A status is written here, an object is not.
            gate = json.dumps({"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}})
            self.edge(cluster, "patch", "pod", "web", "--subresource", "status", "-p", gate)
            refused = self.edge(cluster, "delete", "pod", "web", check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("in the cloud", refused.stderr)

            def gated(pod):
                return any(c["type"] == "example.com/gate" for c in pod["status"]["conditions"])

            self.assertTrue(gated(self.get(cluster, "pod", "web")))
            cluster.start_daemon("cloudcore")
            until("the cloud has what was written on the node", lambda: gated(cluster.get("pod", "web")))
            until("the cloud has the restart", lambda: restarted(cluster.get("pod", "web")))

    def test_the_port_wants_a_token(self):
        with Cluster(nodes=1) as cluster:
            directory = f"{cluster.node_directory('n1')}/data/edge-api"
            with open(f"{directory}/endpoint") as file:
                place = file.read().strip()
            self.assertEqual(os.stat(f"{directory}/operator.token").st_mode & 0o777, 0o600)
            trust = ("--edge-ca", f"{directory}/ca.crt")
            token = ("--edge-token", f"{directory}/operator.token")
            nodes = self.edge(cluster, "get", "nodes", "-o", "name", place=place, options=(*trust, *token)).stdout
            self.assertEqual(nodes, "node/n1\n")
            false = f"{cluster.data}/false.token"
            with open(false, "w") as file:
                file.write("skerry-node." + "0" * 64)
            refused = self.edge(
                cluster, "get", "nodes", place=place, options=(*trust, "--edge-token", false), check=False)
            self.assertIn("the token is not valid here", refused.stderr)
            self.assertNotEqual(
                self.edge(cluster, "get", "nodes", place=place, options=trust, check=False).returncode, 0)

    @unittest.skipUnless(has_oci(), "needs root and runc")
    def test_a_pod_reaches_the_api_of_its_node_with_its_own_token(self):
        with Cluster(nodes=1) as cluster:
            quiet = cluster.pod("quiet", ["/bin/sleep", "100000"], automountServiceAccountToken=False)
            cluster.apply(cluster.pod("talker", ["/bin/sleep", "100000"]), quiet)
            talker, _ = cluster.wait_ready("talker", "quiet")

            def read(pod, *words, check=True):
                return cluster.skerry("exec", pod, "--", *words, check=check)

            files = "/var/run/secrets/skerry.io/edge"
            self.assertEqual(read("talker", "/bin/cat", f"{files}/namespace").stdout, "default")
            token = read("talker", "/bin/cat", f"{files}/token").stdout
            self.assertIn(talker["metadata"]["uid"], token)
            self.assertNotEqual(read("quiet", "/bin/ls", files, check=False).returncode, 0)
            self.assertNotEqual(read("quiet", "/bin/ls", "/var/run/skerry", check=False).returncode, 0)
            listing = read("talker", "/bin/ls", "-l", "/var/run/skerry/edge.sock").stdout
            self.assertTrue(listing.startswith("s"), listing)

            # What a program in the pod does: the pod's own mount of the socket, seen from its process.
            pid, _ = cluster.process(talker)
            inside = f"/proc/{pid}/root/var/run/skerry/edge.sock"
            mine = f"{cluster.data}/pod.token"
            with open(mine, "w") as file:
                file.write(token)
            link = f"{cluster.data}/s"
            os.symlink(os.path.dirname(inside), link)
            options = ("--edge-token", mine)
            cluster.kill("cloudcore", number=signal.SIGTERM)
            place = f"{link}/edge.sock"
            names = self.edge(cluster, "get", "pods", "-o", "name", place=place, options=options).stdout.split()
            self.assertEqual(names, ["pod/quiet", "pod/talker"])
            for words in (["get", "secrets"], ["get", "pods", "-A"], ["get", "pods", "-n", "kube-system"]):
                refused = self.edge(cluster, *words, place=place, options=options, check=False)
                self.assertIn("orbidden", refused.stderr, words)
            self.assertNotEqual(self.edge(cluster, "get", "pods", place=place, check=False).returncode, 0)
            # The mount is a directory: a new edgecore's socket appears in it.
            cluster.kill("edgecore/n1")
            cluster.start_daemon("edgecore/n1")
            again = self.edge(cluster, "get", "pods", "-o", "name", place=place, options=options).stdout.split()
            self.assertEqual(again, names)


    def test_devices_are_read_and_set_on_the_node_while_the_cloud_is_stopped(self):
        with Cluster(nodes=1) as cluster:
            peer = Peer()
            self.addCleanup(peer.end)
            model, meter = device(peer.port)
            model["spec"]["properties"].append({"name": "level", "type": "INT", "accessMode": "ReadWrite"})
            visitor = {"protocolName": "modbus",
                       "configData": {"register": "HoldingRegister", "offset": 10, "dataType": "uint16"}}
            meter["spec"]["properties"].append({"name": "level", "collectCycle": 60_000, "visitors": visitor})
            cluster.apply(model, meter)

            def readings(*words):
                text = self.edge(cluster, "readings", "meter", "--property", "count", "-o", "json", *words).stdout
                return [json.loads(line) for line in text.splitlines()]

            until("readings are on the node", lambda: readings("--tail", "1"))
            cluster.kill("cloudcore", number=signal.SIGTERM)
            last = readings("--tail", "1")[0]
            later = until("more readings come", lambda: readings("--after", str(last["number"])))
            numbers = [item["number"] for item in [last, *later]]
            self.assertEqual(numbers, sorted(set(numbers)))
            self.assertIn("Good", {item["quality"] for item in later})
            table = self.edge(cluster, "readings", "meter", "--tail", "3").stdout.splitlines()
            self.assertEqual(table[0].split(), ["NUMBER", "TIME", "PROPERTY", "VALUE", "QUALITY"])
            self.assertEqual(len(table), 4)

            self.assertEqual(self.edge(cluster, "device", "get", "meter", "level").stdout, "200\n")
            self.assertEqual(self.edge(cluster, "device", "set", "meter", "level", "7").stdout, "meter level = 7\n")
            self.assertEqual(self.edge(cluster, "device", "get", "meter", "level").stdout, "7\n")
            for words in (["set", "meter", "count", "1"], ["get", "meter", "nothing"], ["get", "nobody", "level"]):
                self.assertNotEqual(self.edge(cluster, "device", *words, check=False).returncode, 0, words)
            self.assertNotEqual(self.edge(cluster, "readings", "nobody", check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
