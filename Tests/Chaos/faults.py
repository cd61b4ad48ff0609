"""Faults, drawn from a seed. Each is a function of (world, random) that strikes, holds and takes itself back; what it
touches is reserved meanwhile, so that faults fall together but not onto the same thing."""

import collections
import os
import random
import signal
import threading
import time

from machines import until

NODE_DAEMONS = ("edgecore", "devicecore", "device-modbus")
# The link as it is when nothing is wrong with it.
USUAL = {"delay": 0.02, "jitter": 0.005, "rate": 0}
# Seconds that an armed power cut may wait for its write.
ARMED = 20.0


class Faults:
    """The schedule: at a mean distance, of random kinds, at random places."""

    def __init__(self, world, seed, distance, hold=1.0, power_cuts=True):
        """`hold` scales how long faults last."""
        self.world, self.distance, self.hold = world, distance, hold
        self.random = random.Random(f"{seed}/faults")
        self.counts = collections.Counter()
        self.reserved = set()
        self.driver_losses = collections.Counter()  # by node: times at which a driver may have lost what it held
        self.standstills = []  # (what, from, to): of the cloud and of devices, who then do late what was asked in time
        self.lock = threading.Lock()
        self.threads = []
        self.errors = []
        self.over = threading.Event()
        self.kinds = {
            self.kill: 24, self.stop: 16, self.cut: 14, self.half_open: 12, self.slow: 6, self.fill: 6,
            self.reboot: 6, self.kill_container: 8, self.silence_device: 4, self.cut_clients: 4,
            **({self.cut_power: 10} if power_cuts else {})}
        world.on_unordered_end = self.unordered_end
        self.armed = set()  # (machine, daemon) that is to die by its file system
        self.full = collections.Counter()  # machines with a full disk
        self.unexpected = []

    # Schedule

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.over.is_set():
            self.over.wait(self.random.uniform(0.3, 1.7) * self.distance)
            self.strike()
        for thread in self.threads:
            thread.join(300)

    def strike(self):
        """Begins one fault, unless what it would touch is under another."""
        kind = self.random.choices(list(self.kinds), list(self.kinds.values()))[0]
        plan = kind(random.Random(self.random.getrandbits(64)))
        touched = next(plan)
        with self.lock:
            if self.reserved & touched:
                return
            self.reserved |= touched

        def carry_out():
            try:
                for name in plan:
                    with self.lock:
                        self.counts[name] += 1
            except Exception as error:  # told at the end: the run must not go on as if the fault had been there
                self.errors.append(f"{kind.__name__}: {type(error).__name__}: {error}")
            finally:
                with self.lock:
                    self.reserved -= touched

        thread = threading.Thread(target=carry_out, daemon=True)
        thread.start()
        self.threads = [known for known in self.threads if known.is_alive()] + [thread]

    def wait(self, random, low, high):
        time.sleep(random.uniform(low, high) * self.hold)

    # Places

    def daemon(self, random):
        """A daemon, and what stands for it; the cloud's own one time in five."""
        if random.random() < 0.2:
            return self.world.cloud, "cloudcore"
        return random.choice(self.world.nodes), random.choice(NODE_DAEMONS)

    def unordered_end(self, machine, name, status):
        """A supervisor starts again what has ended; an end that no fault explains is a violation."""
        key = (machine.name, name)
        explained = key in self.armed or (self.full[machine.name] > 0 and status > 0)
        if not explained:
            self.unexpected.append((machine.name, name, status))
        if name == "device-modbus":
            self.driver_losses[machine.name] += 1
        if key not in self.armed:
            threading.Timer(1.0, lambda: self.again(machine, name)).start()

    @staticmethod
    def again(machine, name):
        with machine.lock:
            if name in machine.wanted:
                machine.start(name)

    # Kinds. Each gives first the set of what it touches, then its name once it has struck.

    def kill(self, random):
        machine, name = self.daemon(random)
        yield {(machine.name, name)}
        machine.kill(name)
        if name == "device-modbus":
            self.driver_losses[machine.name] += 1
        yield f"kill {name}"
        self.wait(random, 0, 4)
        machine.start(name)

    def stop(self, random):
        machine, name = self.daemon(random)
        yield {(machine.name, name)}
        began = time.time()
        machine.send(name, signal.SIGSTOP)
        yield f"stop {name}"
        self.wait(random, 0.5, 12)
        machine.send(name, signal.SIGCONT)
        self.standstills.append((name, began, time.time()))

    def cut(self, random):
        node = random.choice(self.world.nodes)
        yield {(node.name, "link")}
        node.cut(refuse=random.random() < 0.7)
        yield "cut link"
        self.wait(random, 0, 15)
        node.mend()

    def half_open(self, random):
        node = random.choice(self.world.nodes)
        yield {(node.name, "link")}
        directions = random.choice([("up",), ("down",), ("up", "down")])
        node.drop(*directions)
        yield f"half-open {'+'.join(directions)}"
        self.wait(random, 2, 25)
        node.drop(*directions, on=False)

    def slow(self, random):
        node = random.choice(self.world.nodes)
        yield {(node.name, "link")}
        shape = {"delay": random.uniform(0.05, 0.5), "jitter": random.uniform(0, 0.3),
                 "rate": random.choice([0, 20_000, 100_000])}
        node.shape(up=shape, down=shape)
        yield "slow link"
        self.wait(random, 5, 20)
        node.shape(up=USUAL, down=USUAL)

    def fill(self, random):
        machine = random.choice([*self.world.nodes, self.world.cloud])
        disk = random.choice(list(machine.disks))
        yield {(machine.name, "disk")}
        self.full[machine.name] += 1
        machine.fill(disk)
        yield f"full disk {machine.name if machine is self.world.cloud else disk}"
        self.wait(random, 1, 10)
        machine.free(disk)
        # What ended for it may still be found ending.
        time.sleep(2)
        self.full[machine.name] -= 1

    def reboot(self, random):
        node = random.choice(self.world.nodes)
        yield {(node.name, name) for name in (*NODE_DAEMONS, "containers", "disk")}
        node.power_off()
        self.driver_losses[node.name] += 1
        yield "reboot"
        self.wait(random, 0, 4)
        node.boot()
        node.start(*NODE_DAEMONS)

    def kill_container(self, random):
        node = random.choice(self.world.nodes)
        yield {(node.name, "containers")}
        running = sorted(node.containers())
        if not running:
            return
        root = f"/run/{node.cgroup}/runc"
        node.run("runc", "--root", root, "kill", random.choice(running), "KILL", check=False)
        yield "kill container"

    def silence_device(self, random):
        peer = random.choice(self.world.peers)
        yield {(peer.name, "device")}
        began = time.time()
        os.kill(peer.process.pid, signal.SIGSTOP)
        yield "silent device"
        self.wait(random, 1, 15)
        os.kill(peer.process.pid, signal.SIGCONT)
        self.standstills.append((peer.name, began, time.time()))

    def cut_clients(self, random):
        yield {("clients", "link")}
        self.world.relay.do("refuse", link="clients", refuse=True)
        yield "cut clients"
        self.wait(random, 0, 3)
        self.world.relay.do("refuse", link="clients", refuse=False)

    def cut_power(self, random):
        """The daemon's file system loses what was not synced, at a random write, and the daemon with it."""
        machine, name = random.choice([
            (self.world.cloud, "cloudcore"), *((node, daemon) for node in self.world.nodes
                                               for daemon in ("edgecore", "devicecore"))])
        key = (machine.name, name)
        yield {key}
        machine.kill(name)
        self.armed.add(key)
        # Some fall into the start, some into work.
        seed, after = random.getrandbits(32), random.randint(1, random.choice([20, 60, 300]))
        machine.start(name, environment={"SKERRY_TEST_VFS": f"powercut,seed={seed},after={after}"})
        end = time.monotonic() + ARMED * self.hold
        while name in machine.running and time.monotonic() < end:
            time.sleep(0.05)
        if name in machine.running:
            machine.kill(name)
            yield f"kill {name}"
        else:
            yield f"power cut {name}"
        self.wait(random, 0, 2)
        self.armed.discard(key)
        machine.start(name)

    # The end

    def heal(self):
        """Takes back what a fault that failed may have left."""
        for node in self.world.nodes:
            if node.init is None:
                node.boot()
            node.mend()
            node.shape(up=USUAL, down=USUAL)
            for disk in node.disks:
                node.free(disk)
            node.start(*NODE_DAEMONS)
        self.world.cloud.free("data")
        self.world.cloud.start("cloudcore")
        self.world.relay.do("refuse", link="clients", refuse=False)
        until("all daemons run", lambda: all(
            set(node.running) == set(NODE_DAEMONS) for node in self.world.nodes) and self.world.cloud.running)
