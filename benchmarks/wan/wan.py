#!/usr/bin/env python3
"""Prints what a node costs on its link with the cloud: bytes at the socket and IP bytes, by what caused them.

    benchmarks/wan/wan.py [--profile default|metered] [--minutes 3] [--only idle,pod,status,reconnect,readings] [--json FILE]

It starts a real cluster (cloudcore, edgecore, devicecore) with one node behind a relay that counts what passes, and
feeds readings through devicecore's driver socket. As root everything runs in a network namespace of its own, where
nftables counts the IP bytes between node and relay too. Needs the debug or release binaries: SKERRY_BIN names their
directory (.build/debug without it). Standard library only.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Tests" / "Python"), str(ROOT / "Tests" / "ForeignClient")]

from cluster import Cluster, until  # noqa: E402
from skerry_client import Client, encode  # noqa: E402

NAMESPACE_MARK = "SKERRY_WAN_NAMESPACE"
QUIET_SECONDS = 8


def enter_namespace():
    """Runs this program again in a network namespace of its own; False where that cannot be done."""
    if os.environ.get(NAMESPACE_MARK):
        return True
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("unshare"):
        print("no root, nft or unshare: IP bytes are left out", flush=True)
        return False
    os.environ[NAMESPACE_MARK] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])


def run(*words, **options):
    return subprocess.run(words, check=True, capture_output=True, text=True, **options).stdout


class Packets:
    """nftables' counters of what passes to and from the relay's port, or the node's own for one without relay."""

    def __init__(self, port):
        run("ip", "link", "set", "lo", "mtu", "1500", "up")
        # A WAN has no 64 KiB packets: with offloading the counters would see fewer headers than a wire carries.
        run("ip", "link", "set", "lo", "gso_max_segs", "1")
        run("nft", "-f", "-", input="""
            table inet wan {
              counter up {}
              counter down {}
              chain out { type filter hook output priority 0; }
            }""")
        self.follow(port)

    def follow(self, port, of_node=False):
        up, down = ("sport", "dport") if of_node else ("dport", "sport")
        run("nft", "-f", "-", input=f"""
            flush chain inet wan out
            add rule inet wan out tcp {up} {port} counter name up
            add rule inet wan out tcp {down} {port} counter name down""")

    def read(self):
        found = json.loads(run("nft", "-j", "list", "counters"))["nftables"]
        counters = [item["counter"] for item in found if "counter" in item]
        return {f"{unit}_{item['name']}": item[key] for item in counters
                for unit, key in (("ip", "bytes"), ("packets", "packets"))}


class Relay:
    """A TCP relay that counts what passes, and can break what stands."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = None
        self.up = self.down = self.connections = 0
        self.last = time.monotonic()
        self.open = []
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections += 1
                self.open.append((near, far))
            threading.Thread(target=self.pump, args=(near, far, "up"), daemon=True).start()
            threading.Thread(target=self.pump, args=(far, near, "down"), daemon=True).start()

    def pump(self, source, sink, direction):
        try:
            while data := source.recv(65_536):
                with self.lock:
                    setattr(self, direction, getattr(self, direction) + len(data))
                    self.last = time.monotonic()
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """Breaks every connection."""
        with self.lock:
            ends, self.open = self.open, []
        for pair in ends:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def quiet(self, seconds=QUIET_SECONDS, deadline=90):
        """Waits until nothing passed for a while; pings are further apart than that."""
        end = time.monotonic() + deadline
        while time.monotonic() - self.last < seconds:
            if time.monotonic() > end:
                raise SystemError(f"the link does not fall quiet for {seconds} s")
            time.sleep(0.05)


class Straight:
    """The node's connection without a relay, as the kernel counts it: an acknowledgement of the relay's would not be one
    of the cloud's."""

    def __init__(self, cloud, pid):
        self.cloud, self.pid = cloud, pid
        self.up = self.down = 0
        self.port = None
        self.last = time.monotonic()
        until("the node is connected", self.look)

    def look(self):
        """Reads the kernel's counters of the node's one connection with the cloud; False while there is none."""
        for line in run("ss", "-tinpOH", "state", "established", "dport", "=", f":{self.cloud}").splitlines():
            found = re.search(rf":(\d+) \S+:{self.cloud} .*pid={self.pid},.* bytes_sent:(\d+) .*bytes_received:(\d+)", line)
            if found:
                port, *now = map(int, found.groups())
                break
        else:
            return False
        if self.port not in (None, port):
            raise AssertionError("the node has connected anew, and the kernel counts from nothing")
        self.port = port
        if now != [self.up, self.down]:
            self.last = time.monotonic()
        self.up, self.down = now
        return True

    def quiet(self, seconds=QUIET_SECONDS, deadline=90):
        end = time.monotonic() + deadline
        until("the node is connected", self.look)
        while time.monotonic() - self.last < seconds:
            if time.monotonic() > end:
                raise SystemError(f"the link does not fall quiet for {seconds} s")
            time.sleep(0.2)
            self.look()


class Meter:
    """Bytes between two readings of the counters."""

    def __init__(self, relay, packets):
        self.relay, self.packets = relay, packets

    def read(self):
        counts = {"up": self.relay.up, "down": self.relay.down}
        if self.packets:
            counts |= self.packets.read()
        return counts

    def during(self, action):
        before = self.read()
        action()
        return {name: value - before[name] for name, value in self.read().items()}


class Bench:
    def __init__(self, arguments, namespaced):
        self.arguments = arguments
        self.relay = Relay()
        self.packets = Packets(self.relay.port) if namespaced else None
        self.meter = Meter(self.relay, self.packets)
        self.results = {}

    def report(self, name, counts, divisor=1, unit=""):
        shown = {key: round(value / divisor, 1) for key, value in counts.items()}
        text = "  ".join(f"{key} {value:>9.1f}" for key, value in shown.items())
        print(f"{name:<44} {text}  {unit}", flush=True)
        self.results[name] = shown

    def prepare(self, cluster):
        directory = pathlib.Path(cluster.node_directory("n1"))
        directory.mkdir(parents=True)
        (directory / "cloud-port").write_text(str(self.relay.port))

    def set_profile(self, cluster):
        """The node's profile is a setting of edgecore: written behind what `skerry up` wrote, and started anew."""
        if self.arguments.profile == "default":
            return
        with open(f"{cluster.node_directory('n1')}/edgecore.yaml", "a") as file:
            file.write(f"profile: {self.arguments.profile}\n")
        self.restart(cluster)

    @staticmethod
    def restart(cluster):
        cluster.kill("edgecore/n1")
        cluster.start_daemon("edgecore/n1")

    def connect_to(self, cluster, port):
        """Has the node dial that port."""
        path = pathlib.Path(cluster.node_directory("n1")) / "edgecore.yaml"
        path.write_text(re.sub(r'(?m)^cloud: .*$', f'cloud: "127.0.0.1:{port}"', path.read_text()))
        self.restart(cluster)

    def run(self):
        only = set(self.arguments.only.split(","))
        with Cluster(nodes=1, prepare=self.prepare_with_target) as cluster:
            self.set_profile(cluster)
            pods = [self.sample(cluster, f"web-{n}") for n in range(5)]
            cluster.apply(*pods)
            cluster.wait_ready(*[pod["metadata"]["name"] for pod in pods])
            self.relay.quiet()
            self.driver = None
            for name in ("idle", "pod", "status", "reconnect", "readings"):
                if name in only:
                    getattr(self, name)(cluster)
        if self.arguments.json:
            pathlib.Path(self.arguments.json).write_text(json.dumps(self.results, indent=2) + "\n")

    def prepare_with_target(self, cluster):
        self.prepare(cluster)

        def point():
            # The cluster chooses the cloud's port; the relay learns it when it is known.
            path = pathlib.Path(cluster.data) / "ports.json"
            while not path.exists():
                time.sleep(0.01)
            while self.relay.target is None:
                try:
                    self.relay.target = json.loads(path.read_text())["api"]
                except ValueError:
                    time.sleep(0.01)

        threading.Thread(target=point, daemon=True).start()

    def sample(self, cluster, name):
        pod = cluster.pod(name, ["/bin/sh", "-c", "trap 'exit 1' TERM; while true; do sleep 1; done"])
        # Only the pod whose status is to change has a probe: on a busy machine one may fail by itself.
        if name != "web-1" or "status" not in self.arguments.only:
            return pod
        pod["spec"]["containers"][0]["readinessProbe"] = {
            "exec": {"command": ["/bin/sh", "-c", "test ! -e /tmp/broken"]}, "periodSeconds": 1, "failureThreshold": 1}
        return pod

    # What is measured

    def idle(self, cluster):
        minutes = self.arguments.minutes
        interval = 60 if self.arguments.profile == "metered" else 15
        self.connect_to(cluster, self.relay.target)
        link = Straight(self.relay.target, cluster.pids["edgecore/n1"])
        link.quiet()
        if self.packets:
            self.packets.follow(link.port, of_node=True)
        # From just behind a ping to just behind a ping, so that whole intervals are counted.
        last = link.last
        until("a ping passes", lambda: link.look() and link.last > last, interval + 30)
        time.sleep(2)
        link.look()
        counts = Meter(link, self.packets).during(lambda: (time.sleep(60 * minutes), link.look()))
        self.report(f"idle, 5 pods, a minute (over {minutes:g} min)", counts, minutes, "bytes/min")
        if self.packets:
            self.packets.follow(self.relay.port)
        self.connect_to(cluster, self.relay.port)
        until("the relay is used", lambda: time.monotonic() - self.relay.last < QUIET_SECONDS)
        self.relay.quiet()

    def after_ping(self):
        """Waits until a ping has just passed, so that none is counted with something else."""
        self.relay.quiet()
        before = self.relay.up
        until("a ping passes", lambda: self.relay.up > before, 90)
        time.sleep(0.5)

    def each(self, name, times, action):
        """Reports the median of several measurements of the same thing."""
        found = []
        for number in range(times):
            self.after_ping()

            def change():
                action(number)
                self.relay.quiet()

            found.append(self.meter.during(change))
        self.report(name, {key: statistics.median(item[key] for item in found) for key in found[0]}, 1, "bytes")

    def pod_change(self, cluster, number):
        pod = self.sample(cluster, "web-0")
        pod["metadata"]["labels"] = {"release": f"r{number}"}
        cluster.apply(pod)

    def metrics(self, cluster, daemon="edgecore/n1"):
        with urllib.request.urlopen(f"{cluster.ready['metrics'][daemon]}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}

    def status(self, cluster):
        """One pod's readiness flips: one status, and an event from the probe where it fails."""
        pod = cluster.get("pod", "web-1")
        container = cluster.pid("n1", pod["status"]["containerStatuses"][0]["containerID"])

        def ready(wanted):
            return until("the readiness is told", lambda: self.condition(cluster.get("pod", "web-1")) == wanted)

        def breaks(_):
            pathlib.Path(f"/proc/{container}/root/tmp").mkdir(exist_ok=True)
            pathlib.Path(f"/proc/{container}/root/tmp/broken").touch()
            ready("False")

        def mends(_):
            pathlib.Path(f"/proc/{container}/root/tmp/broken").unlink()
            ready("True")

        failing, mending, statuses = [], [], []
        for _ in range(3):
            for action, found in ((breaks, failing), (mends, mending)):
                self.after_ping()
                before = self.metrics(cluster)

                def change():
                    action(0)
                    self.relay.quiet()

                found.append(self.meter.during(change))
                after = self.metrics(cluster)
                statuses.append({key: after[key] - before.get(key, 0) for key in after if "link_bytes" in key})
        for name, found in (("status change: not ready, with its event", failing), ("status change: ready again", mending)):
            self.report(name, {key: statistics.median(item[key] for item in found) for key in found[0]}, 1, "bytes")
        for key in statuses[0] if statuses else []:
            values = [item[key] for item in statuses]
            if any(values):
                self.report(key, {"median": statistics.median(values), "max": max(values)}, 1, "bytes of frames")

    @staticmethod
    def condition(pod):
        return next(c["status"] for c in pod["status"]["conditions"] if c["type"] == "Ready")

    def pod(self, cluster):
        self.each("pod change: a label, both ways", 3, lambda number: self.pod_change(cluster, number))

        def create(number):
            cluster.apply(self.sample(cluster, f"extra-{number}"))
            cluster.wait_ready(f"extra-{number}")

        def delete(number):
            cluster.skerry("delete", "pod", f"extra-{number}")
            until("the pod is gone", lambda: not any(
                pod["metadata"]["name"] == f"extra-{number}" for pod in cluster.items("pods")))

        self.each("pod made and started, with statuses and events", 3, create)
        self.each("pod deleted, with statuses and events", 3, delete)

    def reconnect(self, cluster):
        def cut(_):
            before = self.relay.connections
            self.relay.cut()
            until("the node is back", lambda: self.relay.connections > before)

        self.each("reconnect with nothing changed", 5, cut)

    # Readings

    def readings(self, cluster):
        corpus = Corpus(self.arguments.seed)
        cluster.apply(*corpus.objects())
        self.driver = Driver(cluster)
        store = f"{cluster.node_directory('n1')}/devices/readings.db"
        until("readings are taken", lambda: self.stored(cluster) >= 0)
        self.driver.send(corpus.rows(1))
        until("the first readings are in the cloud", lambda: self.stored(cluster) >= 1)
        self.relay.quiet()
        rows = corpus.rows(self.arguments.readings)
        raw = {"cbor": sum(len(encode(row)) for row in rows), "json": sum(len(json.dumps(row)) for row in rows)}
        # The link is down while they are taken, so that they travel as a backlog does.
        start, size = self.stored(cluster), self.file_size(store)
        target, self.relay.target = self.relay.target, 1
        self.relay.cut()
        self.driver.send(rows)
        stored_bytes = self.file_size(store) - size
        before = self.meter.read()
        self.relay.target = target

        def arrive():
            until("all readings are in the cloud", lambda: self.stored(cluster) >= start + len(rows), 300)
            self.relay.quiet()

        arrive()
        counts = {key: value - before[key] for key, value in self.meter.read().items()}
        self.report(f"a reading of a backlog of {len(rows)}", counts, len(rows), "bytes")
        self.report("a reading, raw rows", raw, len(rows), "bytes")
        self.report("a reading in devicecore's store", {"file": stored_bytes}, len(rows), "bytes")
        self.live(cluster, corpus)

    def live(self, cluster, corpus):
        """Readings as they come: what gathering costs and saves."""
        seconds = self.arguments.live
        if not seconds:
            return
        start, before, sent = self.stored(cluster), self.meter.read(), 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rows = corpus.rows(corpus.per_round)
            self.driver.send(rows)
            sent += len(rows)
            time.sleep(corpus.round_seconds)
        until("all readings are in the cloud", lambda: self.stored(cluster) >= start + sent, 120)
        self.relay.quiet()
        counts = {key: value - before[key] for key, value in self.meter.read().items()}
        self.report(f"a reading as they come ({sent / seconds:.0f}/s)", counts, sent, "bytes")

    def stored(self, cluster):
        return self.metrics(cluster, "cloudcore").get("skerry_readings_stored_total", 0)

    @staticmethod
    def file_size(path):
        """What the store takes: pages in use, with the write-ahead log copied back."""
        database = sqlite3.connect(path)
        try:
            until("the log is copied back", lambda: database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
            pages, free, size = (database.execute(f"PRAGMA {name}").fetchone()[0]
                                 for name in ("page_count", "freelist_count", "page_size"))
            return (pages - free) * size
        finally:
            database.close()


class Corpus:
    """Readings with noise and counters: ten devices, polled twice a second with some milliseconds of jitter.

    Each has a temperature in hundredths with noise, a pressure in single precision with noise, an energy counter that
    rises unevenly, a fill level of 12 bits with noise, and a door that is opened now and then.
    """

    devices = 10
    per_round = 50
    round_seconds = 0.5

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.time = int(time.time() * 1000) - 3_600_000
        self.state = [{"energy": self.random.randrange(10**6), "door": False} for _ in range(self.devices)]
        self.pending = []

    def round(self):
        self.time += 500
        for number in range(self.devices):
            draw, state = self.random, self.state[number]
            at = self.time + number * 37 + draw.randrange(-4, 5)
            state["energy"] += draw.choice((2, 3, 3, 3, 4, 7))
            if draw.random() < 0.002:
                state["door"] = not state["door"]
            pressure = 101_325 + draw.gauss(0, 12)
            yield from (
                [f"default/meter-{number}", name, kind, value, "Good", at]
                for name, kind, value in (
                    ("temperature", "float64", round(21 + number / 3 + draw.gauss(0, 0.05), 2)),
                    ("pressure", "float32", self.single(pressure)),
                    ("energy", "int64", state["energy"]),
                    ("level", "uint16", 2048 + int(draw.gauss(0, 6))),
                    ("door", "bool", state["door"])))

    @staticmethod
    def single(value):
        import struct
        return struct.unpack(">f", struct.pack(">f", value))[0]

    def rows(self, count):
        while len(self.pending) < count:
            self.pending += self.round()
        rows, self.pending = self.pending[:count], self.pending[count:]
        return rows

    def objects(self):
        names = {"temperature": "DOUBLE", "pressure": "FLOAT", "energy": "INT", "level": "INT", "door": "BOOLEAN"}
        yield {
            "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel",
            "metadata": {"name": "corpus-model", "namespace": "default"},
            "spec": {"protocol": "corpus", "properties": [
                {"name": name, "type": kind, "accessMode": "ReadOnly"} for name, kind in names.items()]}}
        for number in range(self.devices):
            yield {
                "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
                "metadata": {"name": f"meter-{number}", "namespace": "default"},
                "spec": {"deviceModelRef": {"name": "corpus-model"}, "nodeName": "n1",
                         "protocol": {"protocolName": "corpus", "configData": {}},
                         "properties": [{"name": name, "collectCycle": 500, "visitors": {
                             "protocolName": "corpus", "configData": {}}} for name in names]}}


class Driver:
    """A driver of devicecore, written from the protocol: it hands over rows in batches of 500."""

    def __init__(self, cluster):
        command = cluster.ready["commands"]["devicecore/n1"]
        path = command[command.index("--driver-socket") + 1]
        self.client = Client.connect_unix(path, hello={"role": "driver", "protocol": "corpus"})
        self.run, self.sequence = os.urandom(16).hex(), 0

    def send(self, rows):
        for start in range(0, len(rows), 500):
            self.sequence += 1
            batch = {"run": self.run, "seq": self.sequence, "lost": 0, "r": rows[start : start + 500]}
            self.client.open("driver.readings", batch).answer()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="default", choices=("default", "metered"))
    parser.add_argument("--minutes", type=float, default=3, help="how long the idle node is watched")
    parser.add_argument("--only", default="idle,pod,status,reconnect,readings")
    parser.add_argument("--readings", type=int, default=50_000, help="readings of the backlog")
    parser.add_argument("--live", type=float, default=60, help="seconds of readings as they come; 0: none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="a file for the figures")
    arguments = parser.parse_args()
    Bench(arguments, enter_namespace()).run()


if __name__ == "__main__":
    main()
