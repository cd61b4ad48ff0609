"""Power cuts in real daemons: each of cloudcore, edgecore and devicecore loses power at random writes under load.

POWER_CUTS (5) says how many times each; `make power-cuts COUNT=50` is the long run. The daemons are debug builds with
SKERRY_TEST_VFS (docs/operations.md): what they had not synced is kept, lost or torn in the moment they die.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

from cloud import free_port
from cluster import BIN, ROOT, Cluster, until
from meter import Peer, check_series, device

sys.path.insert(0, f"{ROOT}/Tests/ForeignClient")
from skerry_client import CallFailed, Client  # noqa: E402

COUNT = int(os.environ.get("POWER_CUTS", "5"))
SEED = int(os.environ.get("POWER_CUT_SEED", "1"))
# First starts of each daemon.
FIRST = min(COUNT, 10) // 2 or 1
KEYS = 8
PODS = 2
INDEX_BITS = 18
CUT = re.compile(r"SKERRY_TEST_VFS: power cut in operation (\d+), the (\w+) of (\S+)")


class Load(threading.Thread):
    """Something that an operator does without end, over a session that is made anew whenever it is lost."""

    def __init__(self, connect):
        super().__init__(daemon=True)
        self.connect = connect
        self.over = threading.Event()
        self.problems = []

    def run(self):
        while not self.over.is_set():
            try:
                client = self.connect()
            except (OSError, CallFailed, ValueError):
                self.over.wait(0.05)
                continue
            try:
                while not self.over.is_set():
                    self.step(client)
            except (OSError, CallFailed, TimeoutError, ValueError) as error:
                self.failed(error)
            finally:
                with contextlib.suppress(Exception):
                    client.close()

    def failed(self, error):
        pass

    def end(self):
        self.over.set()
        self.join(90)


class Writer(Load):
    """Writes ConfigMaps that a pod of the node uses, and remembers what was answered."""

    def __init__(self, connect):
        super().__init__(connect)
        self.random = random.Random(SEED)
        self.attempted = {}  # name -> the value that was last tried
        self.answered = {}  # name -> (revision, value)
        self.writes = 0
        self.lock = threading.Lock()

    def step(self, client):
        name = f"c{self.random.randrange(KEYS)}"
        value = str(self.writes)
        with self.lock:
            self.attempted[name] = value
        result = client.patch("configmaps", name, {"data": {"value": value}}, "default")
        with self.lock:
            self.writes += 1
            self.answered[name] = (int(result["metadata"]["resourceVersion"]), value)
        self.over.wait(0.01)

    def snapshot(self):
        with self.lock:
            return dict(self.answered), dict(self.attempted)


class Watcher(Load):
    """Remembers the newest state of every pod and node that the cloud showed."""

    def __init__(self, connect, resource):
        super().__init__(connect)
        self.resource = resource
        self.seen = {}  # name -> (revision, object)
        self.count = 0
        self.watch = None
        self.client = None

    def step(self, client):
        if self.client is not client:
            self.client = client
            revision, items = client.list(self.resource)
            for item in items:
                self.note(item)
            self.watch = client.watch(self.resource, after=revision)
        try:
            event = self.watch.next(timeout=1)
        except TimeoutError:
            if client.closed:
                raise ConnectionError("the session is over") from None
            return
        if event is None:
            raise ConnectionError("the watch is over")
        if event[1] is not None and event[0] != "DELETED":
            self.note(event[1])

    def note(self, item):
        name, revision = item["metadata"]["name"], int(item["metadata"]["resourceVersion"])
        old = self.seen.get(name)
        if old and revision < old[0]:
            self.problems.append(f"{self.resource} {name} went back from revision {old[0]} to {revision}")
        if old and revision == old[0] and item != old[1]:
            self.problems.append(f"{self.resource} {name} has two states at revision {revision}")
        self.count += old is None or revision > old[0]
        self.seen[name] = (revision, item)


class Flipper(threading.Thread):
    """Makes the pods ready and not ready in turn: status changes on the node."""

    def __init__(self, directory):
        super().__init__(daemon=True)
        self.directory = directory
        self.over = threading.Event()

    def run(self):
        turn = 0
        while not self.over.wait(0.7):
            turn += 1
            self.set(turn % PODS, turn // PODS % 2 == 0)

    def set(self, pod, is_ready):
        path = f"{self.directory}/ready{pod}"
        if is_ready:
            with open(path, "w"):
                pass
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def end(self):
        self.over.set()
        self.join(10)
        for pod in range(PODS):
            self.set(pod, True)


def rows(path, query):
    """What a database holds, without touching it: it is copied with its WAL, and the copy checked in full."""
    with tempfile.TemporaryDirectory(prefix="skerry-copy-") as directory:
        for suffix in ("", "-wal"):
            if os.path.exists(path + suffix):
                shutil.copyfile(path + suffix, f"{directory}/copy.db{suffix}")
        database = sqlite3.connect(f"{directory}/copy.db")
        try:
            found = database.execute("PRAGMA integrity_check").fetchall()
            if found != [("ok",)]:
                raise AssertionError(f"{path}: {found[:3]}")
            return database.execute(query).fetchall() if query else []
        except sqlite3.DatabaseError as error:
            raise AssertionError(f"{path}: {error}") from error
        finally:
            database.close()


NEWEST = """
    SELECT key, revision, type = 3 FROM (SELECT key, revision, type, max(place) FROM history GROUP BY key)
"""


@unittest.skipUnless(os.path.exists(f"{BIN}/cloudcore"), f"there is no {BIN}/cloudcore; build it or set SKERRY_BIN")
class PowerCutTests(unittest.TestCase):
    def test_each_daemon(self):
        self.random = random.Random(SEED)
        with Cluster(nodes=1, runtime="process") as cluster:
            self.cluster = cluster
            peer = Peer()
            self.addCleanup(peer.end)
            self.prepare(peer)
            self.loads = [Writer(self.connect), Watcher(self.connect, "pods"), Watcher(self.connect, "nodes")]
            flipper = Flipper(cluster.data)
            for load in [*self.loads, flipper]:
                load.start()
            try:
                for name in ("cloudcore", "edgecore/n1", "devicecore/n1"):
                    self.cut_power(name, peer)
            finally:
                flipper.end()
                for load in self.loads:
                    load.end()
            self.compare_all(peer)

    def test_ignored_syncs_are_found(self):
        """The same over a disk that only says that it synced: the inspection must fail soon."""
        self.random = random.Random(SEED)
        with Cluster(nodes=1, runtime="process") as cluster:
            self.cluster = cluster
            cluster.apply(*(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}, "data": {"value": ""}}
                for number in range(KEYS)))
            self.loads = [Writer(self.connect), Watcher(self.connect, "pods"), Watcher(self.connect, "nodes")]
            self.loads[0].start()
            cluster.kill("cloudcore")
            try:
                with self.assertRaises(AssertionError):
                    for seed in range(20):
                        self.run_until_cut("cloudcore", seed, self.random.randint(100, 400), ",syncs=ignored")
                        self.inspect("cloudcore")
            finally:
                self.loads[0].end()
            cluster.discard()

    def test_first_starts(self):
        """A daemon that makes its databases loses power, and starts."""
        self.random = random.Random(SEED)
        for _ in range(FIRST):
            # A first start writes and syncs 36 times.
            self.first_start_of_a_cloud(self.random.getrandbits(32), self.random.randint(1, 34))
        with Cluster(nodes=1, runtime="process") as cluster:
            self.cluster = cluster
            node = cluster.node_directory("n1")
            files = {"edgecore/n1": ("data/replica.db", "data/outbox.db"), "devicecore/n1": ("devices/readings.db",)}
            for name in files:
                cluster.kill(name)
                for _ in range(FIRST):
                    for file in files[name]:
                        for suffix in ("", "-wal", "-shm", ".lock"):
                            with contextlib.suppress(FileNotFoundError):
                                os.unlink(f"{node}/{file}{suffix}")
                    seed, after = self.random.getrandbits(32), self.random.randint(1, 25)
                    with self.subTest(daemon=name, seed=seed, after=after):
                        status, text = self.run_until_cut(name, seed, after)
                        self.assertEqual(status, -signal.SIGKILL, text)
                        cluster.start_daemon(name)
                        try:
                            until(f"{name} is connected", lambda: self.is_ready(name))
                        finally:
                            cluster.kill(name)
                cluster.start_daemon(name)

    def is_ready(self, name):
        with open(f"{self.cluster.data}/ports.json") as file:
            ports = json.load(file)
        port = ports["edges"]["n1"] if name.startswith("edgecore") else ports["devices"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status == 200

    def first_start_of_a_cloud(self, seed, after):
        with tempfile.TemporaryDirectory(prefix="skerry-first-") as directory:
            config = f"{directory}/config.yaml"
            environment = dict(os.environ, SKERRY_CONFIG=config)
            subprocess.run(
                [f"{BIN}/skerry", "cloud", "init", "--dir", directory, "--host", "127.0.0.1", "--port",
                 str(free_port()), "--data", f"{directory}/data"],
                check=True, capture_output=True, timeout=60, env=environment)
            with open(f"{directory}/cloudcore.yaml", "a") as file:
                file.write(f'operations: "127.0.0.1:{free_port()}"\n')
            command = [f"{BIN}/cloudcore", "--config", f"{directory}/cloudcore.yaml"]
            with self.subTest(daemon="cloudcore", seed=seed, after=after):
                cut = dict(environment, SKERRY_TEST_VFS=f"powercut,seed={seed},after={after}")
                done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=cut)
                self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)
                cloud = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    until("the cloud serves", lambda: subprocess.run(
                        [f"{BIN}/skerry", "get", "namespaces"], check=True, capture_output=True, timeout=60,
                        env=environment))
                finally:
                    cloud.kill()
                    cloud.wait()

    def connect(self):
        with open(f"{self.cluster.data}/ports.json") as file:
            port = json.load(file)["api"]
        pki = f"{self.cluster.data}/pki"
        return Client.connect(
            "127.0.0.1", port, ca=f"{pki}/ca.crt", cert=f"{pki}/admin.crt", key=f"{pki}/admin.key", timeout=5)

    def prepare(self, peer):
        cluster = self.cluster
        for number in range(PODS):
            with open(f"{cluster.data}/ready{number}", "w"):
                pass
        maps = [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}, "data": {"value": ""}}
            for number in range(KEYS)]
        pods = []
        for number in range(PODS):
            pod = cluster.pod(f"p{number}", ["/bin/sleep", "100000"], volumes=[
                {"name": f"c{key}", "configMap": {"name": f"c{key}"}} for key in range(KEYS) if key % PODS == number])
            container = pod["spec"]["containers"][0]
            container["readinessProbe"] = {
                "exec": {"command": ["test", "-e", f"{cluster.data}/ready{number}"]}, "periodSeconds": 1,
                "failureThreshold": 1}
            pods.append(pod)
        cluster.apply(*maps, *pods, *device(peer.port))
        cluster.wait_ready(*(f"p{number}" for number in range(PODS)))
        until("readings arrive", lambda: len(peer.served()) > 5)

    # Cutting

    def cut_power(self, name, peer):
        """COUNT power cuts in one daemon, each start of which goes on until the next one."""
        cluster = self.cluster
        cluster.kill(name)
        points, began = [], time.monotonic()
        while len(points) < COUNT:
            # Some fall into the start, most into the work of seconds.
            after = self.random.randint(1, 40) if self.random.random() < 0.3 else self.random.randint(40, 600)
            seed = self.random.getrandbits(32)
            status, text = self.run_until_cut(name, seed, after)
            with self.subTest(daemon=name, cut=len(points), seed=seed, after=after):
                self.assertEqual(status, -signal.SIGKILL, text[-2000:])
                found = CUT.search(text)
                self.assertTrue(found, f"{name} was not ended by a power cut: {text[-2000:]}")
                points.append(f"{found[2]} {os.path.basename(found[3])}")
                self.inspect(name)
        cluster.start_daemon(name)
        seconds = time.monotonic() - began
        kinds = ", ".join(f"{points.count(kind)} {kind}" for kind in sorted(set(points)))
        print(f"{name}: {len(points)} power cuts in {seconds:.0f} s ({kinds})", flush=True)

    def run_until_cut(self, name, seed, after, more=""):
        """Starts a daemon and waits until it has lost power; its status, and what it printed."""
        log = f"{self.cluster.data}/logs/{name.replace('/', '-')}.log"
        size = os.path.getsize(log)
        os.environ["SKERRY_TEST_VFS"] = f"powercut,seed={seed},after={after}{more}"
        try:
            self.cluster.start_daemon(name, wait=False)
        finally:
            del os.environ["SKERRY_TEST_VFS"]
        try:
            status = self.cluster.children[name].wait(60)
        except subprocess.TimeoutExpired:
            status = None
        with open(log, errors="replace") as file:
            file.seek(size)
            text = file.read()
        self.assertIsNotNone(status, f"{name} did not reach operation {after}: {text[-2000:]}")
        return status, text

    def inspect(self, name):
        """The daemon's files, before it starts again: whole, and with everything that was answered."""
        if name == "cloudcore":
            return self.inspect_cloud()
        node = self.cluster.node_directory("n1")
        if name.startswith("edgecore"):
            rows(f"{node}/data/outbox.db", "")
            held = rows(f"{node}/data/replica.db", "SELECT position FROM state")
            self.replica = max(held[0][0], getattr(self, "replica", 0))
            self.assertEqual(held[0][0], self.replica, "the replica went back")
        else:
            last = rows(f"{node}/devices/readings.db", "SELECT coalesce(sum(last), 0) FROM incarnation")[0][0]
            self.assertGreaterEqual(last, getattr(self, "numbered", 0), "numbers of readings went back")
            self.numbered = last

    def inspect_cloud(self):
        data = f"{self.cluster.data}/cloud/data"
        rows(f"{data}/readings.db", "")
        newest = {key: revision for key, revision, deleted in rows(f"{data}/objects.db", NEWEST) if not deleted}
        answered, _ = self.loads[0].snapshot()
        for name, (revision, _) in answered.items():
            self.assertGreaterEqual(newest.get(f"configmaps/default/{name}", 0), revision, f"{name} went back")
        for load, prefix in zip(self.loads[1:], ("pods/default/", "nodes//")):
            for name, (revision, _) in list(load.seen.items()):
                self.assertGreaterEqual(newest.get(prefix + name, 0), revision, f"{prefix}{name} went back")
        command = self.cluster.ready["commands"]["cloudcore"]
        done = subprocess.run([*command, "--check"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)

    # The end

    def compare_all(self, peer):
        """After the last start: what was answered is there under its revision, and the node has the same."""
        cluster = self.cluster
        answered, attempted = self.loads[0].snapshot()
        self.assertGreater(self.loads[0].writes, 10 * COUNT)
        objects = {item["metadata"]["name"]: item for item in cluster.items("configmaps")}
        for name, (revision, value) in answered.items():
            now = (int(objects[name]["metadata"]["resourceVersion"]), objects[name]["data"]["value"])
            # One write at most was under way when the session was lost.
            self.assertTrue(
                now == (revision, value) or now[0] > revision and now[1] == attempted[name],
                f"{name} was answered as {value} at {revision} and is {now}")
        cluster.wait_ready(*(f"p{number}" for number in range(PODS)))
        for load in self.loads:
            self.assertEqual(load.problems, [])

        def same():
            cloud = {f"configmaps/default/{name}": int(item["metadata"]["resourceVersion"])
                     for name, item in objects.items() if name in answered}
            held = rows(f"{cluster.node_directory('n1')}/data/replica.db", NEWEST)
            node = {key: revision for key, revision, deleted in held if not deleted}
            return all(node.get(key) == revision for key, revision in cloud.items())

        until("the node has what the cloud has, under the same revisions", same)
        check_series(cluster, peer)
        statuses = sum(load.count for load in self.loads[1:])
        print(
            f"{self.loads[0].writes} writes, {statuses} statuses and {len(peer.served())} readings were acknowledged; "
            "all are there", flush=True)


if __name__ == "__main__":
    unittest.main()
