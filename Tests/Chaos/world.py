"""A cloud, edge nodes and devices as real processes on machines of their own, with a WAN between that a test owns.

Each machine has a network, a mount, and a process namespace: what runs on it ends with it, as at a power failure, and
its disks (small tmpfs mounts) stay. The process that makes a `World` is in a network of its own (`enter_network`); the
relay and the devices are in it, so a node's way to the cloud can be cut while its field bus goes on.

    enter_network()
    with World(nodes=2) as world:
        world.start()
        world.nodes[0].kill("edgecore")
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

from machine import BIN, OPERATIONS, PORT, ROOT, Machine, Relay, command, enter_network, why_not  # noqa: F401

from cluster import fnv1a
from machines import run, until
from skerry_client import CallFailed, Client

DEVICES = "devices.devices.kubeedge.io"
MODELS = "devicemodels.devices.kubeedge.io"
COUNTERS = 100  # where the peer's counting registers begin


class CloudMachine(Machine):
    def __init__(self, world, settings):
        super().__init__(world, "cloud", 0, {"data": "1g"})
        hosts = [word for index in range(len(world.names) + 1)
                 for word in ("--host", f"10.77.{index}.{2 if index == 0 else 1}")]
        run("skerry", "cloud", "init", "--dir", self.directory, "--port", PORT, "--data", self.disks["data"] / "d",
            *hosts)
        self.context, self.pki = self.directory / "config.yaml", self.directory / "pki"
        sets = {"operations": f"127.0.0.1:{OPERATIONS['cloudcore']}", **settings}
        self.daemons["cloudcore"] = [BIN / "cloudcore", "--config", self.directory / "cloudcore.yaml"] + [
            word for key, value in sets.items() for word in ("--set", f"{key}={value}")]

    def client(self, address=None, **options):
        """The foreign client, as the administrator."""
        host, port = address or (self.address, PORT)
        return Client.connect(
            host, port, ca=self.pki / "ca.crt", cert=self.pki / "admin.crt", key=self.pki / "admin.key", **options)

    def skerry(self, *words, **options):
        return run("skerry", *words, config=self.context, **options)


class Node(Machine):
    """An edge node with its devices' driver. Its cloud is the relay's end of its WAN, or the cloud itself."""

    def __init__(self, world, name, index, settings):
        super().__init__(world, name, index, {"edge": "1g", "devices": "512m"})
        self.config = self.directory / "edgecore.yaml"
        self.socket = "/run/skerry/edge.sock"
        self.sets = {
            "operations": f"127.0.0.1:{OPERATIONS['edgecore']}", "volatile": "/run/skerry", "socket": self.socket,
            "address": self.address, **settings}
        self.daemons["devicecore"] = [
            BIN / "devicecore", "--data", self.disks["devices"] / "d", "--edge-socket", self.socket,
            "--driver-socket", "/run/skerry/devices.sock", "--operations", f"127.0.0.1:{OPERATIONS['devicecore']}"]
        self.daemons["device-modbus"] = [
            BIN / "device-modbus", "--socket", "/run/skerry/devices.sock", "--operations",
            f"127.0.0.1:{OPERATIONS['device-modbus']}"]
        self.peers = []

    def boot(self, linked=True):
        super().boot(linked)
        self.run("mkdir", "/run/skerry")  # a unit's RuntimeDirectory

    @property
    def runtime(self):
        return self.disks["edge"] / "d" / "runtime"

    @property
    def cgroup(self):
        return f"skerry-{fnv1a(str(self.runtime)):016x}"[:17]

    def join(self, cloud, address):
        token = cloud.skerry("token", "create").stdout.strip()
        run("skerry", "edge", "join", address, "--token", token, "--node", self.name, "--dir", self.directory,
            "--data", self.disks["edge"] / "d")
        self.configure()

    def configure(self, **sets):
        self.sets.update({key.replace("_", "-"): value for key, value in sets.items()})
        self.daemons["edgecore"] = [BIN / "edgecore", "--config", self.config] + [
            word for key, value in self.sets.items() for word in ("--set", f"{key}={value}")]

    # The link; "up" is from the node to the cloud.

    def drop(self, *directions, on=True):
        """Packets of the link vanish without a word, in the directions that are named."""
        for direction in directions:
            verb = "add" if on else "delete"
            command("nft", verb, "element", "inet", "wan", direction, "{", f'"{self.outer}"', "}")

    def cut(self, refuse=False):
        self.world.relay.do("refuse", link=self.name, refuse=refuse)
        self.world.relay.do("cut", link=self.name)

    def mend(self):
        self.world.relay.do("refuse", link=self.name, refuse=False)

    def shape(self, up=None, down=None):
        self.world.relay.do("set", link=self.name, up=up or {}, down=down or {})

    # What runs

    def containers_left(self):
        """Processes of this node's containers on a machine that is off: there must be none."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cgroup"):
            with contextlib.suppress(OSError):
                if self.cgroup in path.read_text():
                    found.append(path.parent.name)
        return found

    def containers(self):
        """Ids of the containers whose monitor runs here, in order of the process table: twice means doubled."""
        found = []
        for name in os.listdir(self.path("/proc")):
            if not name.isdigit():
                continue
            try:
                words = self.path(f"/proc/{name}/cmdline").read_text().split("\0")
            except OSError:
                continue
            if os.path.basename(words[0]) == "conmon" and "--cid" in words:
                found.append(words[words.index("--cid") + 1])
        return found

    def runc(self):
        """What runc says of its containers here: status by id."""
        root = f"/run/{self.cgroup}/runc"
        text = self.run("runc", "--root", root, "list", "--format", "json")
        return {item["id"]: item["status"] for item in json.loads(text) or []}

    def stored(self):
        """How many readings devicecore has ever numbered here, less the entries that stand for lost ones."""
        path = self.disks["devices"] / "d" / "readings.db"
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        try:
            numbers = database.execute("SELECT coalesce(sum(last), 0) FROM incarnation").fetchone()[0]
            losses = database.execute("SELECT count(*), coalesce(sum(high - low + 1), 0) FROM loss").fetchone()
            return numbers - losses[1], losses[0]
        finally:
            database.close()


class Peer:
    """One Modbus device from other hands, on the node's field bus: a process outside of the machines."""

    def __init__(self, node, name, counters):
        self.node, self.name, self.counters = node, name, counters
        self.log = node.directory / f"{name}.served"
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "Tests" / "Peers" / "modbus_peer.py", "--host", node.gateway, "--log", self.log,
             "--counters", str(counters)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(node.directory / f"{name}.err", "ab"), text=True)
        self.port = json.loads(self.process.stdout.readline())["port"]

    def served(self):
        """What it served, in order; a line that is being written is left out."""
        if not self.log.exists():
            return []
        text = self.log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def writes(self, address):
        return [line for line in self.served() if line["op"] == "write" and line["address"] == address]

    def end(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def objects(self, cycle):
        """The Device with its DeviceModel: the counters, `command` (register 10) and `desired` (register 12)."""
        def modbus(**data):
            return {"protocolName": "modbus", "configData": data}

        counters = [f"c{number:02}" for number in range(self.counters)]
        visitors = [(name, COUNTERS + number) for number, name in enumerate(counters)]
        model = {
            "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": {"name": self.name},
            "spec": {"protocol": "modbus", "properties": [
                *({"name": name, "type": "INT", "accessMode": "ReadOnly"} for name in counters),
                {"name": "command", "type": "INT", "accessMode": "ReadWrite"},
                {"name": "desired", "type": "INT", "accessMode": "ReadWrite"}]}}
        properties = [
            {"name": name, "collectCycle": cycle,
             "visitors": modbus(register="HoldingRegister", offset=offset, dataType="uint16")}
            for name, offset in visitors]
        for name, offset in (("command", 10), ("desired", 12)):
            properties.append({
                "name": name, "collectCycle": 60_000,
                "visitors": modbus(register="HoldingRegister", offset=offset, dataType="uint16")})
        device = {
            "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": {"name": self.name},
            "spec": {
                "deviceModelRef": {"name": self.name}, "nodeName": self.node.name, "properties": properties,
                "protocol": modbus(ip=self.node.gateway, port=self.port, slaveID=1, timeout=10_000)}}
        return model, device


class World:
    def __init__(self, nodes=2, relayed=True, cloud=(), edge=(), keep=False):
        """`cloud` and `edge` are settings of the daemons; without `relayed` nodes reach the cloud by routing alone."""
        self.names = [f"n{number + 1}" for number in range(nodes)]
        self.relayed, self.keep = relayed, keep
        self.settings = (dict(cloud), dict(edge))
        self.nodes, self.peers, self.unordered = [], [], []
        self.cloud = self.relay = None
        self.on_unordered_end = None

    def __enter__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="skw-"))
        self.directory.chmod(0o755)
        try:
            self.relay = Relay()
            self.cloud = CloudMachine(self, {"reconnect-spread": "1s", **self.settings[0]})
            for index, name in enumerate(self.names):
                self.nodes.append(Node(self, name, index + 1, self.settings[1]))
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *_):
        for peer in self.peers:
            peer.end()
        for machine in [*self.nodes, *([self.cloud] if self.cloud else [])]:
            machine.discard()
        if self.relay:
            self.relay.end()
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, devices=True):
        """Boots everything, joins the nodes and waits until they are Ready."""
        self.cloud.boot()
        self.cloud.start("cloudcore")
        self.admin = until("cloudcore answers", self.try_client)
        for node in self.nodes:
            node.boot()
            address = f"{node.gateway if self.relayed else self.cloud.address}:{PORT}"
            if self.relayed:
                self.relay.do(
                    "open", link=node.name, listen=[node.gateway, PORT], target=[self.cloud.address, PORT])
            node.join(self.cloud, address)
            node.start("edgecore", *(("devicecore", "device-modbus") if devices else ()))
        for node in self.nodes:
            until(f"{node.name} is Ready", lambda: self.is_ready(node))

    def try_client(self):
        try:
            return self.cloud.client()
        except (OSError, CallFailed):
            return None

    def conditions(self, node, client=None):
        found = (client or self.admin).get("nodes", node.name)
        return {item["type"]: item["status"] for item in found.get("status", {}).get("conditions", [])}

    def is_ready(self, node, client=None):
        try:
            return self.conditions(node, client).get("Ready") == "True"
        except CallFailed:
            return False

    def add_peer(self, node, counters, cycle):
        """A device on the node's field bus, known to the cluster."""
        peer = Peer(node, f"{node.name}-d{len(node.peers)}", counters)
        node.peers.append(peer)
        self.peers.append(peer)
        model, device = peer.objects(cycle)
        self.admin.create(MODELS, model, "default")
        self.admin.create(DEVICES, device, "default")
        return peer

    def unordered_end(self, machine, name, status):
        self.unordered.append((time.monotonic(), machine.name, name, status))
        if self.on_unordered_end:
            self.on_unordered_end(machine, name, status)
