"""A Modbus meter from other hands, its Device, and the comparison of what it served with what the cloud has of it."""

import json
import os
import subprocess
import sys
import tempfile

from cluster import ROOT, until

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


def series(cluster):
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
    assert numbers == sorted(set(numbers)), "the numbers are not in order"
    # Before the node has the model that came with the device, a reading may say so.
    while items and "DeviceModel" in items[0]["quality"]:
        del items[0]
    assert {item["quality"] for item in items} <= {"Good"}, {item["quality"] for item in items}
    times = [item["time"] for item in items]
    assert times == sorted(times), "the times are not in order"
    return [int(item["value"]) for item in items]


def check_series(cluster, peer):
    """The cloud's series is what the peer served, value for value, up to this moment."""
    served = peer.served()
    until("all readings are in the cloud", lambda: len(series(cluster)) >= len(served))
    found = series(cluster)[: len(served)]
    differing = [(at, value, served[at]) for at, value in enumerate(found) if value != served[at]]
    assert found == served, f"(place, cloud, served): {differing[:5]}"
    assert served == list(range(1, len(served) + 1)), "the peer did not count"
