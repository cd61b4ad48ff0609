"""A cloud and edge nodes on "machines" of their own: directories, set up as an operator would, with real daemons.

    with Machines() as machines:
        cloud = machines.cloud()
        edge = machines.edge("n1", cloud)       # token, join, edgecore
        admin = cloud.client()                  # the foreign client of Tests/ForeignClient
"""

import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "ForeignClient"))

from cloud import free_port  # noqa: E402
from skerry_client import Client  # noqa: E402

BIN = pathlib.Path(os.environ.get("SKERRY_BIN", ROOT / ".build" / "debug"))
PATIENCE = 60
HAVE_PROGRAMS = all((BIN / name).exists() for name in ("skerry", "cloudcore", "edgecore"))
WHY_NOT = f"skerry, cloudcore and edgecore are not all in {BIN}; build them or set SKERRY_BIN"


def until(what, condition, patience=PATIENCE):
    """The first true value of `condition`, asked again and again; fails after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{patience} s went by without this: {what}")
        time.sleep(0.05)


def run(*words, config="/nonexistent", check=True, stdin=None, patience=PATIENCE):
    """One of the programs, to its end."""
    done = subprocess.run(
        [BIN / words[0], *map(str, words[1:])], capture_output=True, text=True, timeout=patience, input=stdin or "",
        env=dict(os.environ, SKERRY_CONFIG=str(config)))
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done


class Daemon:
    """A process with a log and a file that says that it serves."""

    def __init__(self, program, directory, config, sets):
        self.program, self.directory, self.config, self.sets = program, directory, config, dict(sets)
        self.ready, self.log = directory / "ready.json", directory / "log"
        self.sets["ready-file"] = self.ready
        self.process = None

    def argv(self, **more):
        sets = {**self.sets, **{key.replace("_", "-"): value for key, value in more.items()}}
        return [BIN / self.program, "--config", self.config] + [
            word for key, value in sets.items() for word in ("--set", f"{key}={value}")]

    def start(self, **more):
        self.ready.unlink(missing_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.argv(**more), stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def serves():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.program} ended with {self.process.returncode}: {self.log.read_text()}")
            return self.ready.exists()

        until(f"{self.program} serves; its log: {self.log}", serves)
        return self

    def fails(self, **more):
        """A start that must fail: its exit status and last words."""
        done = subprocess.run(self.argv(**more), capture_output=True, text=True, timeout=PATIENCE)
        return done.returncode, done.stderr

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()

    def metrics(self):
        address = json.loads(self.ready.read_text())["metrics"].removeprefix("http://")
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            text = b""
            while data := connection.recv(65_536):
                text += data
        found = {}
        for line in text.decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name and not line.startswith("#"):
                try:
                    found[name] = float(value)
                except ValueError:
                    continue
        return found


class Cloud(Daemon):
    def __init__(self, directory, sets=()):
        directory.mkdir(parents=True)
        self.port = free_port()
        run("skerry", "cloud", "init", "--dir", directory, "--host", "127.0.0.1", "--port", self.port, "--data",
            directory / "data")
        self.context, self.pki = directory / "config.yaml", directory / "pki"
        super().__init__("cloudcore", directory, directory / "cloudcore.yaml", {
            "operations": "127.0.0.1:0", "reconnect-spread": "200ms", **dict(sets)})

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def database(self):
        return self.directory / "data" / "objects.db"

    def skerry(self, *words, **options):
        return run("skerry", *words, config=self.context, **options)

    def client(self, cert=None, key=None, **options):
        """The foreign client, as the administrator unless another certificate is given."""
        return Client.connect(
            "127.0.0.1", self.port, ca=self.pki / "ca.crt", cert=cert or self.pki / "admin.crt",
            key=key or self.pki / "admin.key", **options)

    def create_client(self, name, role):
        directory = self.directory / "clients"
        self.skerry("client", "create", name, "--role", role, "--dir", directory)
        return self.client(directory / f"{name}.crt", directory / f"{name}.key")

    def token(self, *words):
        return self.skerry("token", "create", *words).stdout.strip()


class Edge(Daemon):
    """A node that joined; `start` runs its edgecore."""

    def __init__(self, name, directory, cloud, join=True, runtime="process"):
        directory.mkdir(parents=True)
        self.name, self.cloud = name, cloud
        base = "/run" if os.access("/run", os.W_OK) else "/dev/shm"
        # Unix sockets have short paths, and plain Secrets belong on memory.
        self.volatile = pathlib.Path(base) / f"skerry-t-{secrets.token_hex(4)}"
        self.cert, self.key = directory / "node.crt", directory / "node.key"
        super().__init__("edgecore", directory, directory / "edgecore.yaml", {
            "operations": "127.0.0.1:0", "runtime": runtime, "volatile": self.volatile,
            "socket": self.volatile / "edge.sock"})
        if join:
            self.join(cloud.token())

    def join(self, token, *words, check=True):
        return run(
            "skerry", "edge", "join", self.cloud.address, "--token", token, "--node", self.name, "--dir",
            self.directory, "--data", self.directory / "data", *words, check=check)

    def session(self, **options):
        """A raw session with this node's key."""
        return self.cloud.client(self.cert, self.key, hello={"role": "edge"}, **options)

    def is_ready(self, admin):
        for node in admin.list("nodes")[1]:
            conditions = node.get("status", {}).get("conditions", [])
            if node["metadata"]["name"] == self.name:
                return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        return False

    def tear_down(self):
        self.stop()
        if self.process:
            subprocess.run([*self.argv(), "--tear-down"], capture_output=True, timeout=PATIENCE)
        shutil.rmtree(self.volatile, ignore_errors=True)


class Machines:
    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="skm-"))
        self.clouds, self.edges = [], []

    def cloud(self, start=True, **sets):
        cloud = Cloud(
            self.directory / f"cloud{len(self.clouds)}", {k.replace("_", "-"): v for k, v in sets.items()})
        self.clouds.append(cloud)
        return cloud.start() if start else cloud

    def edge(self, name, cloud, start=True, **options):
        edge = Edge(name, self.directory / f"{name}-{len(self.edges)}", cloud, **options)
        self.edges.append(edge)
        return edge.start() if start else edge

    def end(self):
        for edge in self.edges:
            edge.tear_down()
        for cloud in self.clouds:
            cloud.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
