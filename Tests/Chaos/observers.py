"""Those who watch a cluster from outside and believe nothing: a watching client that resumes, and a reader of devices'
series. Each notes what breaks a promise."""

import collections
import threading
import time

from skerry_client import CallFailed

from world import DEVICES

# Bookmarks come at least each minute; without one the link is taken for dead.
SILENCE = 70.0
PAGE = 1000


class Observer(threading.Thread):
    """A thread that works over a session and makes a new one when that breaks."""

    def __init__(self, connect):
        super().__init__(daemon=True)
        self.connect = connect
        self.client = None
        self.violations = []
        self.sessions = 0
        self.over = False

    def violation(self, promise, text):
        self.violations.append((promise, text))

    def run(self):
        while not self.over:
            try:
                if self.client is None:
                    self.client = self.connect()
                    self.sessions += 1
                self.work()
            except (OSError, CallFailed, ValueError) as error:
                self.failed(error)
                self.drop()
                time.sleep(0.2)
        self.drop()

    def failed(self, error):
        pass

    def drop(self):
        client, self.client = self.client, None
        if client is not None:
            try:
                client.close()
            except OSError:
                pass

    def end(self):
        self.over = True
        self.drop()
        self.join(60)


class Watcher(Observer):
    """Follows a resource over any number of sessions; every revision must come once and in order."""

    def __init__(self, connect, resource):
        super().__init__(connect)
        self.resource = resource
        self.position = None
        self.objects = {}  # (namespace, name) -> (uid, revision)
        self.revisions = {}  # revision -> (namespace, name)
        self.events = collections.Counter()

    @staticmethod
    def key(item):
        return item["metadata"].get("namespace", ""), item["metadata"]["name"]

    @staticmethod
    def version(item):
        return item["metadata"]["uid"], int(item["metadata"]["resourceVersion"])

    def work(self):
        if self.position is None:
            revision, items = self.client.list(self.resource)
            self.objects = {self.key(item): self.version(item) for item in items}
            self.position = revision
        watch = self.client.watch(self.resource, after=self.position)
        last = time.monotonic()
        while not self.over:
            try:
                event = watch.next(1)
            except TimeoutError:
                if time.monotonic() - last > SILENCE:
                    raise ConnectionError("neither an event nor a bookmark for so long")
                continue
            if event is None:
                return
            last = time.monotonic()
            self.take(*event)
            if watch.position < self.position:
                self.violation("ordered", f"{self.resource}: the position went from {self.position} back")
            self.position = max(self.position, watch.position)

    def failed(self, error):
        if isinstance(error, CallFailed) and error.reason in ("Expired", "Gone"):
            self.violation("resumable", f"{self.resource}: a watch after {self.position} was refused: {error}")
            self.position = None

    def take(self, kind, item):
        if kind == "BOOKMARK":
            return
        key, (uid, revision) = self.key(item), self.version(item)
        name = f"{self.resource} {'/'.join(key)}"
        self.events[kind] += 1
        if revision <= self.position:
            self.violation("ordered", f"{name}: {kind} at {revision} came behind {self.position}")
        if revision in self.revisions:
            self.violation("exactly once", f"revision {revision} came for {self.revisions[revision]} and {name}")
        self.revisions[revision] = key
        known = self.objects.get(key)
        if known and revision <= known[1]:
            self.violation("ordered", f"{name}: revision {known[1]} was followed by {revision}")
        if kind == "ADDED" and known:
            self.violation("no gap", f"{name} was added although it was there")
        if kind in ("MODIFIED", "DELETED") and (not known or known[0] != uid):
            self.violation("no gap", f"{name} was {kind.lower()} and was not there before, or was another one")
        if kind == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = (uid, revision)


class Doubles(threading.Thread):
    """Looks all the time whether a container of a pod runs twice. One that ends may overlap its successor for a moment,
    so it counts only when the same two are there at two looks."""

    INTERVAL = 3.0

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.nodes = nodes
        self.over = threading.Event()
        self.violations = []
        self.looks = 0

    def run(self):
        before = set()
        while not self.over.wait(self.INTERVAL):
            now = set()
            for node in self.nodes:
                try:
                    running = node.containers()
                except OSError:
                    continue  # it is switched off
                by_container = collections.defaultdict(list)
                for one in running:
                    by_container[one.rsplit("_", 1)[0]].append(one)
                now |= {(node.name, *sorted(found)) for found in by_container.values() if len(found) > 1}
                self.looks += 1
            for name, *found in now & before:
                self.violations.append(("exactly once", f"{name}: {' and '.join(found)} run beside each other"))
            before = now

    def end(self):
        self.over.set()
        self.join(60)


class Property:
    """One counting register: the device itself numbers what it serves."""

    def __init__(self):
        self.last = self.time = None
        self.good = self.bad = 0
        self.bad_since = False
        self.gaps = []  # how many values each unexplained gap lacks


class Series(Observer):
    """Reads devices' series to their ends, again and again, in order."""

    def __init__(self, connect, devices):
        super().__init__(connect)
        self.devices = devices
        self.after = dict.fromkeys(devices, 0)
        self.counts = collections.Counter()
        self.properties = collections.defaultdict(Property)
        self.rounds = 0
        self.interval = 1.0

    def work(self):
        more = False
        for device in self.devices:
            answer = self.client.connect_call(
                DEVICES, device, "readings", "default", {"after": self.after[device], "limit": PAGE}).answer()
            for item in answer["items"]:
                self.take(device, item)
            more = more or len(answer["items"]) == PAGE
        if not more:
            self.rounds += 1
            time.sleep(self.interval)

    def take(self, device, item):
        if item["number"] <= self.after[device]:
            self.violation("ordered", f"{device}: number {item['number']} came behind {self.after[device]}")
        self.after[device] = item["number"]
        self.counts[device] += 1
        name = item["property"]
        found = self.properties[device, name]
        if item["quality"] != "Good":
            found.bad += 1
            found.bad_since = True
            return
        found.good += 1
        if not name.startswith("c") or name == "command":
            return
        value = int(item["value"])
        if found.last is not None:
            step = (value - found.last) % 65536
            if step == 0:
                self.violation("exactly once", f"{device} {name}: {value} is there twice, at {item['number']}")
            elif step >= 32768:
                self.violation("ordered", f"{device} {name}: {value} came behind {found.last}, at {item['number']}")
            elif step > 1 and not found.bad_since:
                found.gaps.append(step - 1)
            if item["time"] < found.time:
                self.violation("ordered", f"{device} {name}: the time went back at {item['number']}")
        found.last, found.time, found.bad_since = value, item["time"], False

    @property
    def total(self):
        return sum(self.counts.values())
