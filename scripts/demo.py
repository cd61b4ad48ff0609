"""The main job, driven as a user would: `skerry up`, `apply`, `scale`, `delete`, `logs`, `exec`, `readings`.

What it prints was observed: from the API, from /proc, and by calling the pods over the network. Standard library only.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

STEP_DEADLINE = 60.0


class Failure(Exception):
    pass


class Relay(threading.Thread):
    """Stands between a node and the cloud: forwards, or resets what is there and refuses what comes."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.target = target
        self.open = True
        self.pairs = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self):
        while True:
            client, _ = self.listener.accept()
            port = self.target()
            if not self.open or port is None:
                self.reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", port), timeout=5)
            except OSError:
                self.reset(client)
                continue
            server.settimeout(None)
            with self.lock:
                self.pairs.add((client, server))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def reset(connection):
        # SO_LINGER 0: the peer sees a reset, as when a line goes away and comes back.
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
        except OSError:
            pass

    def pump(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self):
        self.open = False
        with self.lock:
            pairs, self.pairs = self.pairs, set()
        for pair in pairs:
            for connection in pair:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                self.reset(connection)

    def restore(self):
        self.open = True


class Demo:
    def __init__(self, arguments):
        self.bin = os.path.abspath(arguments.bin)
        self.results = arguments.results
        self.root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.data = tempfile.mkdtemp(prefix="skerry-demo-")
        self.runtime = arguments.runtime or ("oci" if os.geteuid() == 0 else "process")
        self.steps = []
        self.missing = []
        self.up = None
        self.ready = None
        self.relay = Relay(self.api_port)

    # Tools

    def api_port(self):
        try:
            with open(f"{self.data}/ports.json") as file:
                return json.load(file)["api"]
        except (OSError, ValueError, KeyError):
            return None

    def skerry(self, *words, check=True, deadline=STEP_DEADLINE):
        environment = dict(os.environ, SKERRY_CONFIG=f"{self.data}/config.yaml")
        done = subprocess.run(
            [f"{self.bin}/skerry", *words], capture_output=True, text=True, timeout=deadline, env=environment,
            stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise Failure(f"skerry {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def get(self, *words):
        return json.loads(self.skerry("get", *words, "-o", "json").stdout)

    def pods(self):
        """The Deployment's pods that are not on their way out."""
        items = self.get("pods", "-l", "app=web")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    @staticmethod
    def is_ready(pod):
        conditions = pod.get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def until(self, what, condition, deadline=STEP_DEADLINE):
        end = time.monotonic() + deadline
        last = None
        while time.monotonic() < end:
            try:
                value = condition()
                if value:
                    return value
            except (Failure, OSError, KeyError, subprocess.TimeoutExpired) as error:
                last = error
            time.sleep(0.1)
        raise Failure(f"timed out after {deadline:.0f} s waiting until {what}" + (f": {last}" if last else ""))

    def running(self, count):
        def check():
            pods = self.pods()
            return pods if len(pods) == count and all(map(self.is_ready, pods)) else None

        return self.until(f"{count} pods are ready", check)

    def node_directory(self, node):
        return f"{self.data}/nodes/{node}"

    def describe(self, pod):
        """What the machine itself says about a pod: its processes, namespace and cgroups."""
        node = pod["spec"]["nodeName"]
        facts = {
            "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"],
            "revision": pod["metadata"]["resourceVersion"], "node": node,
            "podIP": pod["status"].get("podIP", ""), "containers": [],
        }
        for status in pod["status"]["containerStatuses"]:
            identity = status["containerID"].split("://", 1)[1]
            entry = {"name": status["name"], "id": identity, "restarts": status["restartCount"]}
            pid = self.pid(node, identity)
            if pid:
                entry["pid"] = pid
                entry["netns"] = os.stat(f"/proc/{pid}/ns/net").st_ino
                with open(f"/proc/{pid}/stat") as file:
                    entry["startTicks"] = int(file.read().rsplit(")", 1)[1].split()[19])
                with open(f"/proc/{pid}/cgroup") as file:
                    lines = [line.strip().split(":", 2) for line in file]
                entry["cgroup"] = next((path for _, name, path in lines if "pids" in name or name == ""), lines[0][2])
            facts["containers"].append(entry)
        return facts

    def pid(self, node, identity):
        base = f"{self.node_directory(node)}/data/runtime/containers/{identity}"
        for name in ("pid", "record.json"):
            try:
                with open(f"{base}/{name}") as file:
                    text = file.read()
            except OSError:
                continue
            value = text if name == "pid" else json.loads(text).get("pid", 0)
            if int(value or 0) > 0:
                return int(value)
        return None

    def fetch(self, pod):
        """Calls the pod over the network, as a neighbour would."""
        address = pod["status"]["podIP"]
        with urllib.request.urlopen(f"http://{address}:8080/", timeout=3) as reply:
            return reply.read()

    def step(self, name, body):
        start = time.monotonic()
        try:
            observed, facts = body()
        except Failure as error:
            print(f"  FAILED  {name}: {error}", flush=True)
            raise
        seconds = time.monotonic() - start
        self.steps.append({"step": name, "seconds": round(seconds, 3), "observed": observed, **facts})
        print(f"  {seconds:6.2f} s  {name}\n            {observed}", flush=True)

    # Steps

    def start(self):
        node = self.node_directory("n1")
        os.makedirs(node, mode=0o700)
        self.relay.start()
        with open(f"{node}/cloud-port", "w") as file:
            file.write(str(self.relay.port))
        ready = f"{self.data}/ready.json"
        with open(f"{self.data}/up.log", "w") as log:
            self.up = subprocess.Popen(
                [f"{self.bin}/skerry", "up", "--data", self.data, "--ready-file", ready, "--runtime", self.runtime],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)

        def started():
            if self.up.poll() is not None:
                with open(f"{self.data}/up.log") as log:
                    raise SystemExit(f"skerry up ended with {self.up.returncode}:\n{log.read()}")
            return os.path.exists(ready)

        self.until("the cluster is ready", started, 90)
        with open(ready) as file:
            self.ready = json.load(file)
        nodes = self.get("nodes")["items"]
        names = ", ".join(node["metadata"]["name"] for node in nodes)
        return f"nodes {names} are Ready; the API is on {self.ready['api']}", {
            "nodes": [{"name": n["metadata"]["name"], "uid": n["metadata"]["uid"]} for n in nodes]}

    def make_image(self):
        """The example's image, made from Debian's busybox and named as the manifest names it."""
        layout = f"{self.data}/image"
        subprocess.run([f"{self.root}/scripts/make-image.sh", layout, "1"], check=True, capture_output=True)
        example = "web.yaml" if self.runtime == "oci" else "web-processes.yaml"
        with open(f"{self.root}/examples/{example}") as file:
            text = file.read().replace("oci:/var/lib/skerry/images/busybox:1", f"oci:{layout}:1")
        self.manifest = f"{self.data}/web.yaml"
        with open(self.manifest, "w") as file:
            file.write(text)

    def apply(self):
        self.make_image()
        self.skerry("apply", "-f", self.manifest)
        pods = self.running(3)
        nodes = sorted({pod["spec"]["nodeName"] for pod in pods})
        if nodes != ["n1", "n2"]:
            raise Failure(f"the pods run on {nodes}, not on both nodes")
        facts = [self.describe(pod) for pod in pods]
        first = facts[0]["containers"]
        shared = {entry.get("netns") for entry in first}
        if self.runtime == "oci" and (len(shared) != 1 or None in shared):
            raise Failure(f"the containers of {facts[0]['name']} do not share a network namespace: {first}")
        pids = " ".join(str(c.get("pid", "?")) for pod in facts for c in pod["containers"])
        return f"3 pods, 6 containers on n1 and n2; pids {pids}", {"pods": facts}

    def call(self):
        def body():
            for pod in self.pods():
                text = self.fetch(pod)
                if b"hello from the edge" in text:
                    return pod, text
            return None

        pod, text = self.until("a pod answers over HTTP", body)
        log = self.until(
            "the second container has heard the first over localhost",
            lambda: self.skerry("logs", pod["metadata"]["name"], "-c", "page").stdout)
        if "hello from the edge" not in log:
            raise Failure(f"container page did not reach container web over localhost: {log!r}")
        length = self.skerry("exec", pod["metadata"]["name"], "-c", "page", "--", "cat", "/pages/token-length").stdout
        return (
            f"GET http://{pod['status']['podIP']}:8080/ answered {len(text)} bytes: {text.decode().strip()!r}; "
            f"its Secret has {length.strip()} bytes inside", {
                "pod": pod["metadata"]["uid"], "podIP": pod["status"]["podIP"], "bytes": len(text)})

    def scale(self):
        self.skerry("scale", "deployment/web", "--replicas", "5")
        five = self.running(5)
        spread = {node: sum(p["spec"]["nodeName"] == node for p in five) for node in ("n1", "n2")}
        self.skerry("scale", "deployment/web", "--replicas", "3")
        three = self.running(3)
        return f"5 pods ({spread['n1']} on n1, {spread['n2']} on n2), then 3", {
            "five": [p["metadata"]["uid"] for p in five], "three": [p["metadata"]["uid"] for p in three]}

    def replace(self):
        before = self.running(3)
        victim = before[0]
        self.skerry("delete", "pod", victim["metadata"]["name"])
        after = self.running(3)
        known = {pod["metadata"]["uid"] for pod in before}
        fresh = [pod for pod in after if pod["metadata"]["uid"] not in known]
        if len(fresh) != 1 or victim["metadata"]["uid"] in {p["metadata"]["uid"] for p in after}:
            raise Failure("the deleted pod was not replaced by exactly one")
        return f"{victim['metadata']['name']} was replaced by {fresh[0]['metadata']['name']}", {
            "deleted": victim["metadata"]["uid"], "replacement": self.describe(fresh[0])}

    def on(self, node):
        return [pod for pod in self.running(3) if pod["spec"]["nodeName"] == node]

    def link(self):
        pods = self.on("n1")
        before = {pod["metadata"]["uid"]: self.describe(pod) for pod in pods}
        self.relay.cut()
        pod = pods[0]
        name = pod["metadata"]["name"]
        self.until(
            "the cloud cannot reach n1", lambda: self.skerry("logs", name, "-c", "web", check=False).returncode != 0)
        # Without a network of its own a pod cannot be called: then its processes must be the same.
        alive = f"still answered {len(self.fetch(pod))} bytes" if self.runtime == "oci" else "went on"
        self.same(before, {pod["metadata"]["uid"]: self.describe(pod) for pod in pods})
        self.skerry("patch", "configmap", "web-text", "-p", '{"data":{"greeting":"written while n1 was away"}}')
        self.relay.restore()
        start = time.monotonic()
        self.until("the cloud reaches n1 again", lambda: self.skerry("logs", name, "-c", "web", check=False).returncode == 0)
        back = time.monotonic() - start
        after = {pod["metadata"]["uid"]: self.describe(pod) for pod in self.on("n1")}
        self.same(before, after)
        return (
            f"cut: n1's pod {alive}; restored: back after {back:.2f} s, "
            f"the same {sum(len(p['containers']) for p in after.values())} containers with the same pids", {
                "pods": list(after.values()), "backAfter": round(back, 3)})

    def same(self, before, after):
        def pids(pods):
            return {u: [(c["id"], c.get("pid"), c.get("startTicks")) for c in p["containers"]] for u, p in pods.items()}

        if pids(before) != pids(after):
            raise Failure(f"the containers are not the same: {pids(before)} and then {pids(after)}")

    def kill(self):
        before = {pod["metadata"]["uid"]: self.describe(pod) for pod in self.on("n1")}
        pid = self.ready["pids"]["edgecore/n1"]
        os.kill(pid, signal.SIGKILL)
        ready = f"{self.node_directory('n1')}/ready.json"
        os.unlink(ready)
        log = open(f"{self.data}/logs/edgecore-n1.log", "a")
        self.edgecore = subprocess.Popen(
            self.ready["commands"]["edgecore/n1"], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True)
        self.until("edgecore serves again", lambda: os.path.exists(ready))
        name = next(iter(before.values()))["name"]
        self.until(
            "the cloud reaches n1 again", lambda: self.skerry("logs", name, "-c", "web", check=False).returncode == 0)
        after = {pod["metadata"]["uid"]: self.describe(pod) for pod in self.on("n1")}
        self.same(before, after)
        return (
            f"edgecore {pid} was killed and is now {self.edgecore.pid}; "
            f"its {sum(len(p['containers']) for p in after.values())} containers never stopped", {
                "killed": pid, "restarted": self.edgecore.pid, "pods": list(after.values())})

    def device(self):
        with open(f"{self.data}/ports.json") as file:
            port = json.load(file)["modbus"]
        for name in ("device-model.yaml", "device.yaml"):
            with open(f"{self.root}/examples/{name}") as file:
                text = file.read()
            for known in ("1502", "5020", "502"):
                text = text.replace(f"port: {known}", f"port: {port}").replace(f"port: '{known}'", f"port: {port}")
            with open(f"{self.data}/{name}", "w") as file:
                file.write(text)
            self.skerry("apply", "-f", f"{self.data}/{name}")
        self.device_name = self.get("devices")["items"][0]["metadata"]["name"]
        items = self.until("readings have arrived in the cloud", self.readings)
        newest = items[-1]
        return f"device {self.device_name}: first readings are there, {newest['property']} = {newest['value']}", {
            "device": self.device_name, "readings": len(items)}

    def readings(self):
        """The good readings of the newest page: one JSON object a line."""
        text = self.skerry("readings", self.device_name, "--tail", "500", "-o", "json").stdout
        items = [json.loads(line) for line in text.splitlines() if line.strip()]
        return [item for item in items if item["quality"] == "Good"]

    def series(self):
        items = self.until("more readings have arrived", lambda: (self.readings() or None))
        numbers = [item["number"] for item in items]
        if numbers != sorted(set(numbers)):
            raise Failure("the readings are not in order, each once")
        values = {}
        for item in items:
            values[item["property"]] = item["value"]
        shown = ", ".join(f"{name} = {value}" for name, value in sorted(values.items()))
        return f"{len(items)} readings in order, each once; newest: {shown}", {"readings": items[-20:]}

    def remove(self):
        self.skerry("delete", "-f", self.manifest)
        self.until("no pod is left", lambda: not self.get("pods", "-l", "app=web")["items"])
        return "no pod is left", {}

    def run(self):
        print(f"skerry demo: containers by {self.runtime}, in {self.data}", flush=True)
        shown = [
            ("start a cluster with two edge nodes", self.start),
            ("apply a Deployment of three replicas", self.apply),
            ("call a pod over the network", self.call),
            ("attach a Modbus sensor", self.device),
            ("scale to five and back to three", self.scale),
            ("delete a pod and see it replaced", self.replace),
            ("cut the link of n1 and restore it", self.link),
            ("kill -9 the edgecore of n1 and restart it", self.kill),
            ("show the sensor's readings", self.series),
        ]
        if self.runtime != "oci":
            hidden = {"call a pod over the network"}
            self.missing = [name for name, _ in shown if name in hidden]
            shown = [(name, body) for name, body in shown if name not in hidden]
        for name, body in shown:
            self.step(name, body)
        if os.environ.get("DEMO_HOLD"):
            self.hold()
        self.step("delete the Deployment", self.remove)

    def hold(self):
        """Keeps everything up, and says in the results what runs now, until Enter, Ctrl-C or SIGTERM."""
        # The handler stands before anybody can read that the demo is held.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            self.step("hold", self.held)
            self.save()
            print(f"held: export SKERRY_CONFIG={self.data}/config.yaml; Enter or SIGTERM ends it", flush=True)
            sys.stdin.readline() if sys.stdin.isatty() else signal.pause()
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def held(self):
        pods = [self.describe(pod) for pod in self.running(3)]
        return f"{len(pods)} pods run: {', '.join(pod['name'] for pod in pods)}", {
            "config": f"{self.data}/config.yaml", "pods": pods}

    def save(self):
        with open(self.results, "w") as file:
            json.dump({"runtime": self.runtime, "steps": self.steps, "notShown": self.missing}, file, indent=2)
            file.write("\n")

    def end(self, keep):
        if self.up and self.up.poll() is None:
            self.up.terminate()
            try:
                self.up.wait(60)
            except subprocess.TimeoutExpired:
                self.up.kill()
        subprocess.run(
            [f"{self.bin}/skerry", "down", "--data", self.data], capture_output=True, stdin=subprocess.DEVNULL)
        if keep:
            print(f"what happened is in {self.data}/logs")
        else:
            shutil.rmtree(self.data, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description="Skerry's main job from end to end.")
    parser.add_argument("--bin", required=True, help="where the programs are")
    parser.add_argument("--results", default="demo.json")
    parser.add_argument("--runtime", choices=["oci", "process"])
    demo = Demo(parser.parse_args())
    start = time.monotonic()
    keep = True
    try:
        demo.run()
        keep = False
    except (Failure, SystemExit) as error:
        print(f"demo: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        demo.end(keep)
        demo.save()
    for name in demo.missing:
        print(f"not shown: {name} (needs root and runc)")
    word = "partial" if demo.missing else "complete"
    print(f"demo: {word}: {len(demo.steps)} steps in {time.monotonic() - start:.1f} s; see {demo.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
