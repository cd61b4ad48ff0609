"""A real cluster for tests: `skerry up` in a directory of its own, its daemons killed and started at will, and what the
machine still has of it afterwards. Standard library only.

    with Cluster() as cluster:
        cluster.apply(cluster.pod("one", ["/bin/sleep", "1000"]))
        cluster.until("pod one runs", lambda: cluster.is_ready(cluster.get("pod", "one")))
        cluster.kill("edgecore/n1")
        cluster.start_daemon("edgecore/n1")

Leaving the block ends the cluster and fails when something of it is left on the machine.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.abspath(os.environ.get("SKERRY_BIN") or os.path.join(ROOT, ".build", "debug"))
# Longer than anything takes on a machine that also compiles; a test that waits this long has failed.
DEADLINE = 60.0
INTERVAL = 0.05


def has_oci():
    """Whether this process may run containers with runc."""
    return os.geteuid() == 0 and shutil.which("runc") is not None


def until(what, condition, deadline=DEADLINE):
    """Waits until condition() gives something true, and returns that. Errors while waiting count as "not yet"."""
    end = time.monotonic() + deadline
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = None
        except (OSError, KeyError, IndexError, ValueError, CommandFailed, subprocess.SubprocessError) as error:
            last = error
        if time.monotonic() > end:
            why = f": {last}" if last else ""
            raise AssertionError(f"timed out after {deadline:.0f} s waiting until {what}{why}")
        time.sleep(INTERVAL)


class CommandFailed(Exception):
    """A program ended with another status than 0; says what it printed."""


def alive(pid):
    """Whether a process runs; one that ended and was not reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def start_ticks(pid):
    """When a process started, in clock ticks since boot: with the pid it names one process for good."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[19])


def fnv1a(text):
    """The 64-bit hash by which a cluster names what it makes on the machine."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


_image_directory = None


def image():
    """Name of the small busybox image, made once per run."""
    global _image_directory
    if _image_directory is None:
        _image_directory = tempfile.TemporaryDirectory(prefix="skerry-image-")
        os.chmod(_image_directory.name, 0o755)
        subprocess.run(
            [f"{ROOT}/scripts/make-image.sh", f"{_image_directory.name}/busybox", "1"], check=True, capture_output=True)
    return f"oci:{_image_directory.name}/busybox:1"


class Cluster:
    def __init__(self, data=None, runtime=None, nodes=2, prepare=None):
        """prepare(cluster), if given, runs before `skerry up`, for instance to place a relay's port."""
        self.owns_data = data is None
        self.data = os.path.realpath(data or tempfile.mkdtemp(prefix="skerry-test-"))
        self.runtime = runtime or ("oci" if has_oci() else "process")
        self.nodes = [f"n{number + 1}" for number in range(nodes)]
        self.config = f"{self.data}/config.yaml"
        self.ready_file = f"{self.data}/ready.json"
        self.prepare = prepare
        self.up = None
        self.ready = None
        self.pids = {}
        self.children = {}

    # Life

    def __enter__(self):
        try:
            if self.prepare:
                self.prepare(self)
            self.start()
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            self.report()
            self.discard()
            return
        try:
            if self.up is not None:
                self.stop()
            self.down(check=False)
            left = until_nothing(self)
        finally:
            self.discard()
        if left:
            raise AssertionError("the cluster left behind:\n" + "\n".join(left))

    def start(self):
        """Runs `skerry up` until it says that the cluster serves."""
        if os.path.exists(self.ready_file):
            os.unlink(self.ready_file)
        with open(f"{self.data}/up.log", "a") as log:
            self.up = subprocess.Popen(
                [f"{BIN}/skerry", "up", "--data", self.data, "--ready-file", self.ready_file,
                 "--runtime", self.runtime, "--nodes", str(len(self.nodes))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

        def serves():
            if self.up.poll() is not None:
                raise SystemError(f"skerry up ended with {self.up.returncode}: {self.log('up')}")
            return os.path.exists(self.ready_file)

        until("the cluster serves", serves, 90)
        with open(self.ready_file) as file:
            self.ready = json.load(file)
        self.pids = dict(self.ready["pids"])

    def stop(self, number=signal.SIGTERM):
        """Ends `skerry up` by a signal and returns its status. With SIGTERM the whole cluster ends."""
        self.up.send_signal(number)
        status = self.up.wait(DEADLINE)
        self.up = None
        return status

    def down(self, check=True):
        return run([f"{BIN}/skerry", "down", "--data", self.data], check=check)

    def discard(self):
        """Ends whatever is left, without a word: for the way out after a failure."""
        if self.up is not None and self.up.poll() is None:
            self.up.kill()
            self.up.wait()
        self.up = None
        if os.path.exists(f"{self.data}/nodes"):
            self.down(check=False)
        for child in self.children.values():
            if child.poll() is None:
                child.kill()
            child.wait()
        self.children = {}
        if self.owns_data:
            shutil.rmtree(self.data, ignore_errors=True)

    def report(self):
        """The last lines of every log: what one wants to see of a cluster whose test failed."""
        print(f"\n--- {self.data}: {self.nodes}, {self.runtime}")
        logs = sorted(os.listdir(f"{self.data}/logs")) if os.path.isdir(f"{self.data}/logs") else []
        for name in ["../up.log", *[name for name in logs if name != "modbus-served.log"]]:
            path = os.path.join(self.data, "logs", name)
            if os.path.exists(path):
                with open(path, errors="replace") as file:
                    lines = file.read().splitlines()[-12:]
                print(f"--- {name}", *lines, sep="\n    ", flush=True)

    def log(self, name):
        path = f"{self.data}/up.log" if name == "up" else f"{self.data}/logs/{name.replace('/', '-')}.log"
        with open(path, errors="replace") as file:
            return file.read()

    # Daemons

    def kill(self, *daemons, number=signal.SIGKILL):
        """Sends a signal to daemons and waits until they are gone."""
        pids = [self.pids[name] for name in daemons]
        for pid in pids:
            os.kill(pid, number)
        for name, pid in zip(daemons, pids):
            until(f"{name} is gone", lambda: not alive(pid))
            if name in self.children:
                self.children.pop(name).wait()

    def node_directory(self, node):
        return f"{self.data}/nodes/{node}"

    def start_daemon(self, name, wait=True):
        """Starts a daemon with the arguments of the ready file and waits until it says that it serves, if it does."""
        marks = {"cloudcore": f"{self.data}/cloud/ready.json"}
        for node in self.nodes:
            marks[f"edgecore/{node}"] = f"{self.node_directory(node)}/ready.json"
        mark = marks.get(name)
        if mark and os.path.exists(mark):
            os.unlink(mark)
        with open(f"{self.data}/logs/{name.replace('/', '-')}.log", "a") as log:
            child = subprocess.Popen(
                self.ready["commands"][name], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.children[name] = child
        self.pids[name] = child.pid

        def serves():
            if child.poll() is not None:
                raise SystemError(f"{name} ended with {child.returncode}: {self.log(name)[-2000:]}")
            return not mark or os.path.exists(mark)

        if wait:
            until(f"{name} serves", serves)
        return child.pid

    # Commands

    def skerry(self, *words, check=True, timeout=DEADLINE, stdin=None):
        """Runs `skerry` on this cluster; a status other than 0 is an error unless check is False."""
        environment = dict(os.environ, SKERRY_CONFIG=self.config)
        return run([f"{BIN}/skerry", *words], check=check, timeout=timeout, stdin=stdin, environment=environment)

    def get(self, *words):
        return json.loads(self.skerry("get", *words, "-o", "json").stdout)

    def items(self, *words):
        return self.get(*words)["items"]

    def apply(self, *objects):
        """Applies objects given as dictionaries."""
        path = f"{self.data}/manifest.json"
        with open(path, "w") as file:
            json.dump({"apiVersion": "v1", "kind": "List", "items": list(objects)}, file)
        return self.skerry("apply", "-f", path).stdout

    until = staticmethod(until)

    # Pods

    def pod(self, name, command, node="n1", restart="Always", labels=None, **spec):
        """A pod of one container `main` that runs a command of the busybox image on a node."""
        return {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}},
            "spec": {
                "nodeName": node, "restartPolicy": restart, "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": image(), "command": command}], **spec},
        }

    @staticmethod
    def is_ready(pod):
        conditions = pod.get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def wait_ready(self, *names):
        """Waits until the pods of these names are ready; returns them."""

        def ready():
            pods = [self.get("pod", name) for name in names]
            return pods if all(map(self.is_ready, pods)) else None

        return until(f"pods {' '.join(names)} are ready", ready)

    def pid(self, node, container_id):
        """The process of a container, as `containerID` in a pod's status names it; None when it has none."""
        identity = container_id.split("://", 1)[-1]
        base = f"{self.node_directory(node)}/data/runtime/containers/{identity}"
        for name in ("pid", "record.json"):
            try:
                with open(f"{base}/{name}") as file:
                    text = file.read()
            except OSError:
                continue
            value = int((text if name == "pid" else json.loads(text).get("pid")) or 0)
            if value > 0:
                return value
        return None

    def process(self, pod, container="main"):
        """(pid, start) of a pod's container: the same pair means the same process."""
        status = next(s for s in pod["status"]["containerStatuses"] if s["name"] == container)
        pid = self.pid(pod["spec"]["nodeName"], status["containerID"])
        return pid, start_ticks(pid)

    # What the machine has of this cluster

    def marks(self):
        """Names by which this cluster's things are found on the machine."""
        marks = [f"{self.data}/"]
        for node in self.nodes:
            short = f"{fnv1a(f'{self.data}/nodes/{node}/data/runtime'):016x}"[:10]
            marks += [f"skerry-{short}", f"sk{short}", f"skerry-up-{fnv1a(f'{self.data}/{node}'):016x}"]
        return marks

    def traces(self):
        """Every process, mount, namespace, bridge, NAT rule, cgroup and volatile directory of this cluster."""
        marks = self.marks()
        found = [f"process {pid}: {what}" for pid, what in self.processes()]

        def search(kind, lines):
            found.extend(f"{kind} {line.strip()}" for line in lines if any(mark in line for mark in marks))

        with open("/proc/self/mountinfo") as file:
            search("mount", file)
        search("interface", os.listdir("/sys/class/net"))
        for base in ("/run", "/dev/shm", "/run/netns", "/var/run/netns"):
            if os.path.isdir(base):
                search(f"{base}:", os.listdir(base))
        for base, directories, _ in os.walk("/sys/fs/cgroup"):
            search("cgroup", [os.path.join(base, name) for name in directories])
            if base.count("/") >= 5:
                directories.clear()
        if os.geteuid() == 0 and shutil.which("iptables-save"):
            rules = subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True)
            search("NAT rule", rules.stdout.splitlines())
        return found

    def processes(self):
        """(pid, command line) of all that runs for this cluster: daemons, monitors, containers and `skerry up`."""
        marks = self.marks() + [f"\0{self.data}\0"]
        own = os.getpid()
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == own or not alive(int(name)):
                continue
            texts = []
            for file in ("cmdline", "cgroup"):
                try:
                    with open(f"/proc/{name}/{file}", errors="replace") as opened:
                        texts.append(opened.read())
                except OSError:
                    texts.append("")
            if any(mark in text for text in texts for mark in marks):
                found.append((int(name), texts[0].replace("\0", " ").strip()))
        return found


def until_nothing(cluster, deadline=5.0):
    """What is left of a cluster; gives the kernel a moment to take down the namespaces of processes that ended."""
    try:
        until("nothing is left", lambda: not cluster.traces(), deadline)
    except AssertionError:
        pass
    return cluster.traces()


def run(argv, check=True, timeout=DEADLINE, stdin=None, environment=None):
    """Runs a program and returns what it printed, as text."""
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, env=environment, **source)
    if check and done.returncode != 0:
        words = " ".join(os.path.basename(word) for word in argv)
        raise CommandFailed(f"{words}: {done.stderr.strip() or done.stdout.strip()}")
    return done
