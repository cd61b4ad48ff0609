#!/usr/bin/env python3
"""Real daemons under random faults and load, from a seed; then everything settles and every promise is checked.

    make chaos MINUTES=15 SEED=7

Needs root and the programs in .build/debug (or $SKERRY_BIN). Ends with counts, and with status 1 on any violation.
"""

import argparse
import collections
import contextlib
import json
import secrets
import sys
import time

from world import PORT, World, enter_network, why_not

from machines import until
from skerry_client import CallFailed

from checks import Checks
from faults import USUAL, Faults
from load import DEPLOYMENTS, Commander, Deployer, Wisher
from observers import Doubles, Series, Watcher

RESOURCES = ("pods", DEPLOYMENTS, "nodes", "devices.devices.kubeedge.io")
CLIENTS = ("127.0.0.1", 7000)
# What a run of a quarter of an hour or more must have borne to say anything.
LEAST = {"faults": 100, "readings": 500_000, "pod changes": 300}
SHOWN = 20  # violations of one promise that are printed


class Chaos:
    def __init__(self, world, options):
        self.world, self.options = world, options
        self.checks = Checks(world)
        seed = options.seed
        world.relay.do("open", link="clients", listen=CLIENTS, target=[world.cloud.address, PORT])
        for node in world.nodes:
            node.shape(up=USUAL, down=USUAL)
            for _ in range(options.devices):
                world.add_peer(node, options.registers, options.cycle)
        devices = [peer.name for peer in world.peers]
        near, far = world.cloud.client, lambda: world.cloud.client(CLIENTS)
        self.watchers = [Watcher(far, resource) for resource in RESOURCES]
        self.series = Series(near, devices)
        names = [f"app-{number}" for number in range(2 * len(world.nodes))]
        self.deployer = Deployer(near, f"{seed}/deployer", options.step, names, 4)
        self.commander = Commander(near, f"{seed}/commander", 1.5, devices)
        self.wisher = Wisher(near, f"{seed}/wisher", 5, devices)
        self.faults = Faults(
            world, seed, options.distance, options.hold, power_cuts=not options.no_power_cuts)
        self.client = None

    def admin(self):
        """A session that works."""
        if self.client is None or self.client.closed:
            self.client = self.world.cloud.client()
        return self.client

    def run(self):
        self.doubles = Doubles(self.world.nodes)
        observers = [*self.watchers, self.series, self.doubles]
        operators = [self.deployer, self.commander, self.wisher]
        for thread in observers + operators:
            thread.start()
        until("the readings begin", lambda: self.series.total)
        self.say("the load runs")
        self.faults.run(self.options.seconds)
        for operator in operators:
            operator.end()
        self.say("settling")
        self.settle()
        for observer in observers:
            observer.end()

    def settle(self):
        checks, patience = self.checks, self.options.patience
        self.faults.heal()
        began = time.monotonic()
        until("cloudcore answers", lambda: self.tried(lambda: self.admin().list("nodes")), patience)
        checks.converged(self.admin, patience)
        checks.readings(self.series, self.faults, patience)
        self.settled = time.monotonic() - began
        checks.numbering(self.series, patience)
        time.sleep(1)
        checks.commands(self.commander, self.wisher, self.faults)
        checks.watches(self.admin(), self.watchers, self.deployer, patience)
        checks.violations += self.doubles.violations
        checks.logs()
        for machine, name, status in self.faults.unexpected:
            checks.violation("runs", f"{machine}/{name} ended by itself with {status}")
        for error in self.faults.errors:
            checks.violation("driver", error)

    @staticmethod
    def tried(action):
        with contextlib.suppress(OSError, CallFailed):
            return action()

    def say(self, text):
        if not self.options.quiet:
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def result(self):
        promises = collections.Counter(promise for promise, _ in self.checks.violations)
        pods = self.watchers[0].events
        return {
            "seed": self.options.seed, "seconds": self.options.seconds,
            "faults": sum(self.faults.counts.values()), "faults by kind": dict(sorted(self.faults.counts.items())),
            "readings": self.series.total,
            "bad readings": sum(found.bad for found in self.series.properties.values()),
            "pod changes": pods["ADDED"] + pods["DELETED"], "pod events": dict(pods),
            "deployment writes": dict(sorted(self.deployer.outcomes.items())),
            "commands": dict(sorted(self.commander.outcomes.items())), "desired": dict(self.wisher.outcomes),
            "looks for doubled containers": self.doubles.looks,
            "watch sessions": sum(watcher.sessions for watcher in self.watchers),
            "lost with a killed driver": sum(sum(found.gaps) for found in self.series.properties.values()),
            "lost": promises["nothing lost"], "doubled": promises["exactly once"],
            "out of order": promises["ordered"], "converged": not promises["converges"],
            "settled in seconds": round(getattr(self, "settled", 0), 1),
            **self.checks.figures, "violations": dict(promises)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long faults go on")
    parser.add_argument("--seed", default="")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--devices", type=int, default=2, help="of each node")
    parser.add_argument("--registers", type=int, default=24, help="that are read of each device")
    parser.add_argument("--cycle", type=int, default=200, help="milliseconds between reads")
    parser.add_argument("--distance", type=float, default=4.0, help="mean seconds between faults")
    parser.add_argument("--hold", type=float, default=1.0, help="scales how long faults last")
    parser.add_argument("--step", type=float, default=2.0, help="mean seconds between writes of deployments")
    parser.add_argument("--patience", type=float, default=120.0, help="how long settling may take")
    parser.add_argument("--no-power-cuts", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave logs and databases")
    parser.add_argument("--quiet", action="store_true", help="print the result alone, as JSON")
    options = parser.parse_args()
    options.seed = options.seed or secrets.token_hex(4)
    if reason := why_not():
        sys.exit(f"chaos: {reason}")
    enter_network()
    with World(options.nodes, cloud={"ping-interval": "2s"}, keep=options.keep) as world:
        if not options.quiet:
            print(f"seed {options.seed}, in {world.directory}", flush=True)
        world.start()
        chaos = Chaos(world, options)
        chaos.run()
        result = chaos.result()
        for what, least in LEAST.items():
            if options.seconds >= 900 and result[what] < least:
                chaos.checks.violation("load", f"{result[what]} {what}, at least {least} are needed")
        report(chaos, result)
    sys.exit(1 if chaos.checks.violations else 0)


def report(chaos, result):
    shown = collections.Counter()
    for promise, text in chaos.checks.violations:
        shown[promise] += 1
        if shown[promise] <= SHOWN:
            print(f"VIOLATION of \"{promise}\": {text}", file=sys.stderr)
    if chaos.options.quiet:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:>26}: {json.dumps(value) if isinstance(value, dict) else value}")


if __name__ == "__main__":
    main()
