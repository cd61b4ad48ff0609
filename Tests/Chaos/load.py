"""What operators do meanwhile: deployments that come, grow, change and go; commands and desired values for devices."""

import collections
import random
import threading
import time

from cluster import image
from skerry_client import CallFailed

from observers import Observer
from world import DEVICES

DEPLOYMENTS = "deployments.apps"
LABEL = "app"


def deployment(name, replicas, version):
    container = {
        "name": "main", "image": image(), "command": ["/bin/sleep", "100000"],
        "env": [{"name": "VERSION", "value": str(version)}]}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {LABEL: name}},
            "template": {
                "metadata": {"labels": {LABEL: name}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}}}


class Operator(Observer):
    """Works at random, from a seed, at about one step in `interval` seconds."""

    def __init__(self, connect, seed, interval):
        super().__init__(connect)
        self.random = random.Random(seed)
        self.interval = interval
        self.outcomes = collections.Counter()

    def work(self):
        time.sleep(self.random.uniform(0.5, 1.5) * self.interval)
        if not self.over:
            self.step()

    def step(self):
        raise NotImplementedError


class Deployer(Operator):
    """Every answered write is remembered by its revision: a watching client must have seen it."""

    def __init__(self, connect, seed, interval, names, most):
        super().__init__(connect, seed, interval)
        self.names, self.most = names, most
        self.wanted = {}  # name -> (replicas, version), or None; absent while nobody knows
        self.answered = []  # (revision, name)
        self.version = 0

    def step(self):
        name = self.random.choice(self.names)
        verb = self.random.choice(["scale", "scale", "scale", "change", "delete"])
        wanted = self.wanted.pop(name, None)
        if wanted is None:
            # Nobody knows, or it is not there: look first.
            try:
                found = self.client.get(DEPLOYMENTS, name, "default")
            except CallFailed as error:
                if error.reason != "NotFound":
                    raise
                found, verb = None, "create"
            else:
                wanted = (found["spec"]["replicas"], None)
        self.version += 1
        replicas = self.random.randint(0, self.most)
        try:
            result, now = self.write(name, verb, replicas, wanted)
        except CallFailed as error:
            self.outcomes[f"{verb}: {error.reason}"] += 1
            # Deleted in the background, it may still be there for a moment, or already be gone.
            if error.reason not in ("AlreadyExists", "NotFound", "Conflict"):
                raise
            return
        self.outcomes[verb] += 1
        if verb != "delete":
            self.answered.append((int(result["metadata"]["resourceVersion"]), name))
            self.wanted[name] = now

    def write(self, name, verb, replicas, wanted):
        if verb == "create":
            made = deployment(name, replicas, self.version)
            return self.client.create(DEPLOYMENTS, made, "default"), (replicas, self.version)
        if verb == "delete":
            return self.client.delete(DEPLOYMENTS, name, "default"), None
        if verb == "scale":
            change = {"spec": {"replicas": replicas}}
        else:
            replicas = wanted[0]
            change = {"spec": {"template": deployment(name, replicas, self.version)["spec"]["template"]}}
        return self.client.patch(DEPLOYMENTS, name, change, "default"), (replicas, self.version)


class Commander(Operator):
    """Writes to devices with deadlines; each value is written to its device by one command only."""

    def __init__(self, connect, seed, interval, devices):
        super().__init__(connect, seed, interval)
        self.devices = devices
        self.commands = []  # (device, value, issued, timeout, outcome)
        self.values = collections.Counter()
        self.lock = threading.Lock()

    def step(self):
        if self.client.closed:
            raise ConnectionError("the session is over")
        device = self.random.choice(self.devices)
        timeout = self.random.choice([1, 2, 5, 10])
        self.values[device] += 1
        threading.Thread(
            target=self.command, args=(self.client, device, self.values[device], timeout), daemon=True).start()

    def command(self, client, device, value, timeout):
        issued = time.time()
        options = {"verb": "set", "property": "command", "value": value, "timeoutSeconds": timeout}
        try:
            client.connect_call(DEVICES, device, "command", "default", options).answer(timeout=60)
            outcome = "Done"
        except CallFailed as error:
            word = error.message.split(":")[0]
            outcome = word if word in ("Expired", "Unknown") else error.reason
        except OSError:
            outcome = "no answer"
        with self.lock:
            self.commands.append((device, value, issued, timeout, outcome))
            self.outcomes[outcome] += 1


class Wisher(Operator):
    """Changes the desired value of devices."""

    def __init__(self, connect, seed, interval, devices):
        super().__init__(connect, seed, interval)
        self.devices = devices
        self.last = {}  # device -> value, once it was answered

    def step(self):
        device = self.random.choice(self.devices)
        value = self.random.randint(1, 60_000)
        self.last.pop(device, None)
        found = self.client.get(DEVICES, device, "default")
        properties = found["spec"]["properties"]
        next(item for item in properties if item["name"] == "desired")["desired"] = {"value": str(value)}
        try:
            self.client.update(DEVICES, device, found, "default")
        except CallFailed as error:
            self.outcomes[f"desired: {error.reason}"] += 1
            if error.reason != "Conflict":
                raise
            return
        self.last[device] = value
        self.outcomes["desired"] += 1


__all__ = ["DEPLOYMENTS", "LABEL", "Commander", "Deployer", "Wisher"]
