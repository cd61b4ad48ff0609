"""A cloudcore of a test's own, and clients written from proto-spec alone that talk to it."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "ForeignClient"))

from skerry_client import CallFailed, Client  # noqa: E402

BIN = pathlib.Path(os.environ.get("SKERRY_BIN", ROOT / ".build" / "debug"))
PATIENCE = 30


def free_port():
    """A free port below those that the kernel gives out itself, so that nobody's port 0 lands on it meanwhile."""
    while True:
        port = random.randrange(20_000, 30_000)
        try:
            for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                with socket.socket(family) as probe:
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind((address, port))
            return port
        except OSError:
            continue


class Cloud:
    """One cloudcore below a directory of its own, which can be killed and started again."""

    def __init__(self, settings=()):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="fc-"))
        self.port = free_port()
        self.process = None
        config = self.directory / "config.yaml"
        subprocess.run(
            [BIN / "skerry", "--config", config, "cloud", "init", "--dir", self.directory, "--host", "127.0.0.1",
             "--port", str(self.port), "--data", self.directory / "data"],
            check=True, capture_output=True, timeout=PATIENCE, env=dict(os.environ, SKERRY_CONFIG=str(config)))
        self.ready = self.directory / "ready.json"
        with open(self.directory / "cloudcore.yaml", "a") as file:
            file.write(f'ready-file: {self.ready}\noperations: "127.0.0.1:{free_port()}"\n')
            for line in settings:
                file.write(line + "\n")
        self.start()

    def start(self):
        self.ready.unlink(missing_ok=True)
        self.log = open(self.directory / "log", "ab")
        self.process = subprocess.Popen(
            [BIN / "cloudcore", "--config", self.directory / "cloudcore.yaml"], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + PATIENCE
        while not self.ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"cloudcore did not start: {(self.directory / 'log').read_text()}")
            time.sleep(0.02)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)
        self.log.close()

    def client(self, **options):
        pki = self.directory / "pki"
        return Client.connect(
            "127.0.0.1", self.port, ca=pki / "ca.crt", cert=pki / "admin.crt", key=pki / "admin.key", **options)

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
        with contextlib.suppress(Exception):
            self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def skerry(self, *words):
        """Runs the command line as the administrator; answers what it prints."""
        config = self.directory / "config.yaml"
        return subprocess.run(
            [BIN / "skerry", "--config", config, *words], check=True, capture_output=True, text=True, timeout=PATIENCE,
            env=dict(os.environ, SKERRY_CONFIG=str(config))).stdout


needs_daemons = unittest.skipUnless(
    (BIN / "cloudcore").exists(), f"there is no {BIN}/cloudcore; build it or set SKERRY_BIN")


@needs_daemons
class CloudTest(unittest.TestCase):
    """A cloudcore of its own for every test, and an administrator's session."""

    settings = ()

    def setUp(self):
        self.cloud = Cloud(self.settings)
        self.addCleanup(self.cloud.end)
        self.client = self.cloud.client()
