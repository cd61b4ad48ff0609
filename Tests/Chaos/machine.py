"""A machine: processes, mounts and a network of their own that all end together, with disks that stay; and the WAN
between machines, which packets and connections cross only as a test allows. `world.py` puts them together.
"""

import ctypes
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "Tests" / "Python"), str(ROOT / "Tests" / "ForeignClient")]

from machines import BIN, until  # noqa: E402

PORT = 6443
OPERATIONS = {"cloudcore": 6080, "edgecore": 6081, "devicecore": 6082, "device-modbus": 6083}
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
TOOLS = ("runc", "conmon", "ip", "nft", "unshare", "mount")


def why_not():
    """Why this machine cannot run a World; None if it can."""
    if os.geteuid() != 0:
        return "needs root: machines are namespaces, containers run with runc"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    missing += [name for name in ("cloudcore", "edgecore", "devicecore", "device-modbus", "skerry")
                if not (BIN / name).exists()]
    return f"not installed or not built: {', '.join(missing)}" if missing else None


def enter_network():
    """Puts this process, and what it starts, into a network of its own, with mounts that end with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    command("mount", "--make-rprivate", "/")
    command("ip", "link", "set", "lo", "up")
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    command("nft", "-f", "-", stdin=f"""
        table inet wan {{
          set up {{ type ifname; }}
          set down {{ type ifname; }}
          chain in {{ type filter hook input priority 0; iifname @up tcp dport {PORT} drop; }}
          chain out {{ type filter hook output priority 0; oifname @down tcp sport {PORT} drop; }}
          chain through {{
            type filter hook forward priority 0;
            iifname @up tcp dport {PORT} drop
            oifname @down tcp sport {PORT} drop
          }}
        }}""")


def command(*argv, stdin=""):
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")
    return done.stdout


class Relay:
    """The WAN's user-space half; see relay.py."""

    def __init__(self):
        self.lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, HERE / "relay.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def do(self, what, **words):
        with self.lock:
            self.process.stdin.write(json.dumps({"do": what, **words}) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise OSError(f"relay: {answer['error']}")
        return answer

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class Machine:
    """A machine that can be switched off and on. Its daemons are named by their program."""

    def __init__(self, world, name, index, disks):
        self.world, self.name, self.index = world, name, index
        self.directory = world.directory / name
        self.directory.mkdir()
        self.disks = {}
        for disk, size in disks.items():
            path = self.directory / disk
            path.mkdir()
            command("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)
            self.disks[disk] = path
        self.address, self.gateway = f"10.77.{index}.2", f"10.77.{index}.1"
        self.outer = f"w{index}"
        self.environment = {}  # by daemon, for its next start only
        self.daemons = {}  # name -> argv
        self.wanted = set()  # those that should run now
        self.running = {}  # name -> pid inside
        self.ends = []  # (name, status, whether it was ordered)
        self.init = None
        self.lock = threading.RLock()

    # Power

    def boot(self, linked=True):
        """Switches it on; without `linked` its cable is not plugged in."""
        self.init = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable,
             HERE / "machine_init.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.directory / "init.log", "ab"), text=True)
        self.answers, self.answered, self.next_id = {}, threading.Condition(), 0
        self.running = {}
        if not self.init.stdout.readline():
            raise OSError(f"{self.name} does not boot: {(self.directory / 'init.log').read_text()}")
        threading.Thread(target=self.listen, args=(self.init,), daemon=True).start()
        inside = pathlib.Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()[0]
        self.first = int(inside)
        command("ip", "link", "add", self.outer, "type", "veth", "peer", "name", "eth0", "netns", inside)
        command("ip", "address", "add", f"{self.gateway}/24", "dev", self.outer)
        self.link(linked)
        for words in (f"address add {self.address}/24 dev eth0", "link set eth0 up",
                      f"route add default via {self.gateway}"):
            self.run("ip", *words.split())

    def link(self, up):
        command("ip", "link", "set", self.outer, "up" if up else "down")

    def power_off(self):
        """Everything that runs here is gone at once; disks stay."""
        with self.lock:
            init, self.init = self.init, None
            if init is None:
                return
            self.running = {}
            self.wanted = set()
        # The first process is killed, and the kernel kills the rest before that process is gone.
        os.kill(self.first, signal.SIGKILL)
        init.wait(60)
        init.stdin.close()
        with self.answered:
            self.answered.notify_all()
        # The kernel takes a namespace's interfaces down some time after its last process.
        subprocess.run(["ip", "link", "delete", self.outer], capture_output=True)
        self.remove_cgroups()

    def remove_cgroups(self):
        """A machine that boots has none; on ours, those of its containers are left."""
        for hierarchy in pathlib.Path("/sys/fs/cgroup").iterdir():
            top = hierarchy / self.cgroup if self.cgroup else None
            if top and top.is_dir():
                for base, _, _ in os.walk(top, topdown=False):
                    until(f"{base} is empty", lambda base=base: self.removed(base))

    @staticmethod
    def removed(path):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True

    @property
    def cgroup(self):
        return None

    # The first process

    def listen(self, init):
        for line in init.stdout:
            message = json.loads(line)
            if "ended" in message:
                self.daemon_ended(message)
                continue
            with self.answered:
                self.answers[message["id"]] = message
                self.answered.notify_all()
        init.stdout.close()

    def ask(self, what, patience=60, **words):
        with self.answered:
            init = self.init
            if init is None:
                raise OSError(f"{self.name} is switched off")
            self.next_id += 1
            number = self.next_id
            init.stdin.write(json.dumps({"id": number, "do": what, **words}) + "\n")
            init.stdin.flush()
            self.answered.wait_for(lambda: number in self.answers or self.init is not init, patience)
            if number not in self.answers:
                raise OSError(f"{self.name} does not answer {what}")
            answer = self.answers.pop(number)
        if "error" in answer:
            raise OSError(f"{self.name}: {answer['error']}")
        return answer

    def run(self, *argv, check=True, stdin="", patience=60):
        done = self.ask("run", argv=[str(word) for word in argv], input=stdin, patience=patience)
        if check and done["code"] != 0:
            words = " ".join(map(str, argv))
            raise OSError(f"{self.name}: {words} ended with {done['code']}: {done['err']}{done['out']}")
        return done["out"]

    def path(self, inside):
        """A path as this machine sees it, for us."""
        return pathlib.Path(f"/proc/{self.first}/root{inside}")

    # Daemons

    def log(self, name):
        return self.directory / f"{name}.log"

    def start(self, *names, environment=None):
        for name in names:
            with self.lock:
                if self.init is None:
                    return
                self.wanted.add(name)
                if name in self.running:
                    continue
                answer = self.ask(
                    "start", name=name, argv=[str(word) for word in self.daemons[name]], log=str(self.log(name)),
                    environment=environment or {})
                self.running[name] = answer["pid"]

    def send(self, name, number):
        """Sends a signal; False if the daemon does not run."""
        return self.ask("signal", name=name, signal=int(number))["sent"]

    def kill(self, *names, number=signal.SIGKILL):
        """Ends daemons by a signal and waits until they are gone."""
        for name in names:
            with self.lock:
                self.wanted.discard(name)
                self.send(name, number)
        for name in names:
            until(f"{name} of {self.name} is gone", lambda: name not in self.running or self.init is None)

    def daemon_ended(self, message):
        name = message["ended"]
        with self.lock:
            if self.running.get(name) == message["pid"]:
                del self.running[name]
            ordered = name not in self.wanted
            self.ends.append((name, message["status"], ordered))
        if not ordered:
            self.world.unordered_end(self, name, message["status"])

    def metrics(self, name):
        body = self.ask("http", port=OPERATIONS[name], path="/metrics")["body"]
        found = {}
        for line in body.splitlines():
            key, _, value = line.rpartition(" ")
            if key and not line.startswith("#"):
                found[key] = float(value)
        return found

    def fill(self, disk):
        """Fills a disk to its last page."""
        with open(self.disks[disk] / "ballast", "wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def free(self, disk):
        (self.disks[disk] / "ballast").unlink(missing_ok=True)

    def discard(self):
        self.power_off()
        for path in self.disks.values():
            subprocess.run(["umount", "-l", path], capture_output=True)
