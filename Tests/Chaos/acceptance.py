#!/usr/bin/env python3
"""What a node must bear, scenario by scenario, on real processes; each prints what it measured as one line of JSON.

    acceptance.py half-open --profile metered     both sides know a half-open link, and get over it
    acceptance.py reboot --pods 20                a node boots with its link down, without DNS, in 1970
    acceptance.py commands --cut 60               commands expire and desired values are written once over a cut
    acceptance.py late                            no daemon that stood still runs a command that has expired
    acceptance.py outage --cut 300 --rate 1000    everything of a long cut arrives once, in order, and soon
    acceptance.py away --changes 1000             a node that was away hears nothing of what is not its own
    acceptance.py all                             all of them, in full (make acceptance-edge)

Ends with status 1 and a reason when a bound is broken.
"""

import argparse
import contextlib
import json
import shutil
import signal
import sys
import threading
import time

from world import DEVICES, PORT, World, command, enter_network, why_not

from cluster import image
from machines import until
from skerry_client import CallFailed

from checks import Checks
from observers import Series

# A look at the other side takes this long at most; what is measured by looking is measured that well.
LOOK = 0.5
START = "@1970-01-01 00:01:00"


class Broken(Exception):
    """A bound that did not hold."""


def expect(holds, text):
    if not holds:
        raise Broken(text)


def pod(name, node, script="exec sleep 100000", **spec):
    container = {
        "name": "main", "image": image(), "command": ["/bin/sh", "-c", script],
        **{key: spec.pop(key) for key in ("volumeMounts", "readinessProbe") if key in spec}}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container], **spec}}


def config_map(name, text):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}}


def ready_pods(admin):
    def is_ready(found):
        return any(item["type"] == "Ready" and item["status"] == "True"
                   for item in found.get("status", {}).get("conditions", []))

    return [found for found in admin.list("pods")[1] if is_ready(found)]


def tried(action):
    with contextlib.suppress(OSError, CallFailed, KeyError):
        return action()


def seconds(text):
    units = {"ms": 0.001, "s": 1, "m": 60}
    unit = next(unit for unit in units if text.endswith(unit))
    return float(text.removesuffix(unit)) * units[unit]


# --- half-open -------------------------------------------------------------------------------------------------------


def half_open(options):
    """Packets are dropped silently: up for one node, down for another, both ways for a third."""
    metered = options.profile == "metered"
    ping = "60s" if metered else options.ping
    bound = 3 * seconds(ping) + LOOK
    ways = (("up",), ("down",), ("up", "down"))
    measured, threads = {}, []
    with World(len(ways), relayed=False, cloud={"ping-interval": options.ping, "reconnect-spread": options.spread},
               edge={"profile": options.profile}) as world:
        world.start(devices=False)
        for node in world.nodes:
            world.admin.create("pods", pod(f"p-{node.name}", node.name, "echo here; exec sleep 100000"), "default")
        until("the pods run", lambda: len(ready_pods(world.admin)) == len(ways))
        # Somewhere in a ping's interval, and not always at its start.
        time.sleep(0.37 * seconds(ping))
        for node, way in zip(world.nodes, ways):
            known = measured["+".join(way)] = {}
            threads.append(threading.Thread(target=break_link, args=(world, node, way, bound, options.held, known)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if options.verbose:
            logs = [world.cloud.log("cloudcore"), *(node.log("edgecore") for node in world.nodes)]
            print(measured, *(log.read_text() for log in logs), sep="\n", file=sys.stderr)
    for way, known in measured.items():
        for side in ("edge", "cloud"):
            expect(known.get(side, 1e9) <= bound, f"{way}: {side} knew after {known.get(side)} s, bound {bound} s")
        expect(known.get("back", 1e9) <= 5 + LOOK, f"{way}: back in service after {known.get('back')} s")
    return {"profile": options.profile, "ping": ping, "bound": bound, **measured}


def break_link(world, node, way, bound, held, known):
    """Drops packets until both sides know, and mends the link; `known` hears after how many seconds each was so."""
    log, word = world.cloud.log("cloudcore"), f"node {node.name} disconnected"
    before = log.read_text().count(word)
    began = time.monotonic()
    node.drop(*way)
    while len(known) < 2 and time.monotonic() < began + bound + 30:
        if "edge" not in known and node.metrics("edgecore")["skerry_link_connected"] == 0:
            known["edge"] = round(time.monotonic() - began, 2)
        if "cloud" not in known and log.read_text().count(word) > before:
            known["cloud"] = round(time.monotonic() - began, 2)
        time.sleep(0.05)
    time.sleep(held)
    node.drop(*way, on=False)
    flows = time.monotonic()
    with contextlib.suppress(AssertionError):
        until("the node is back in service", lambda: in_service(world, node, f"p-{node.name}"), 60)
        known["back"] = round(time.monotonic() - flows, 2)


def in_service(world, node, name="p"):
    """It answers a call from the cloud, for the log of its pod, and is Ready."""
    def answers():
        text = b"".join(world.admin.log(name, tailLines=1))
        return text == b"here\n" and world.is_ready(node)

    return tried(answers)


# --- reboot ----------------------------------------------------------------------------------------------------------


def reboot(options):
    """SIGKILL of everything, containers gone, no link, no DNS, and a clock that starts in 1970."""
    expect(shutil.which("faketime"), "faketime is not installed")
    names = [f"p{number:02}" for number in range(options.pods)]
    with World(1) as world:
        world.start(devices=False)
        node, admin = world.nodes[0], world.admin
        host = node.directory / "host"
        host.mkdir()
        for name in names:
            admin.create("configmaps", config_map(name, f"text of {name}"), "default")
            admin.create("secrets", {
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                "stringData": {"word": f"word of {name}"},
            }, "default")
            script = f'echo "$(cat /etc/c/text), $(cat /etc/s/word)" >>/host/{name}; exec sleep 100000'
            volumes = [
                {"name": "c", "configMap": {"name": name}}, {"name": "s", "secret": {"secretName": name}},
                {"name": "h", "hostPath": {"path": str(host), "type": "Directory"}}]
            mounts = [{"name": "c", "mountPath": "/etc/c"}, {"name": "s", "mountPath": "/etc/s"},
                      {"name": "h", "mountPath": "/host"}]
            admin.create("pods", pod(name, node.name, script, volumes=volumes, volumeMounts=mounts), "default")
        until("all pods are ready", lambda: len(ready_pods(admin)) == len(names), 120)
        before = {found["metadata"]["name"]: found["metadata"]["uid"] for found in ready_pods(admin)}
        node.power_off()
        expect(not node.containers_left(), f"still there: {node.containers_left()}")
        for name in names:
            expect((host / name).read_text() == f"text of {name}, word of {name}\n", f"{name} had wrong files")

        node.boot(linked=False)
        node.run("mount", "--bind", "/dev/null", "/etc/resolv.conf")
        began = time.monotonic()
        node.daemons["edgecore"] = ["faketime", "--exclude-monotonic", "-f", START, *node.daemons["edgecore"]]
        node.start("edgecore")

        def again():
            return all((host / name).read_text().count("\n") == 2 for name in names)

        until("all pods run again", again, 60)
        took = time.monotonic() - began
        until("each has its container", lambda: len(set(node.containers())) == len(names), 20)
        for name in names:
            expect((host / name).read_text() == f"text of {name}, word of {name}\n" * 2, f"{name} has wrong files")
        log = node.log("edgecore").read_text()
        expect("W-EDGE-016" in log, "the clock was not in 1970")
        # Told once there is a link, and the same pods as before; the clock is still wrong.
        node.link(True)
        until("the restarts are told", lambda: all(
            found["status"]["containerStatuses"][0]["restartCount"] >= 1 for found in ready_pods(admin))
            and len(ready_pods(admin)) == len(names), 60)
        after = {found["metadata"]["name"]: found["metadata"]["uid"] for found in ready_pods(admin)}
        expect(after == before, "other pods than before")
    expect(took <= options.within, f"{len(names)} pods ran again after {took:.1f} s, bound {options.within} s")
    return {"pods": len(names), "seconds": round(took, 2)}


# --- commands --------------------------------------------------------------------------------------------------------


def set_property(admin, device, value, timeout):
    """A command's outcome in one word."""
    options = {"verb": "set", "property": "command", "value": value, "timeoutSeconds": timeout}
    try:
        admin.connect_call(DEVICES, device, "command", "default", options).answer(timeout=timeout + 30)
        return "Done"
    except CallFailed as error:
        return error.message.split(":")[0] if error.reason == "Timeout" else f"{error.reason}: {error.message}"


def desire(admin, device, value):
    found = admin.get(DEVICES, device, "default")
    next(item for item in found["spec"]["properties"] if item["name"] == "desired")["desired"] = {"value": str(value)}
    admin.update(DEVICES, device, found, "default")


def commands(options):
    """20 commands and 5 desired changes while the link is cut."""
    with World(1) as world:
        world.start()
        node, admin = world.nodes[0], world.admin
        peers = [world.add_peer(node, 2, 500) for _ in range(5)]
        until("the devices are read", lambda: all(peer.served() for peer in peers))
        for number, peer in enumerate(peers):
            until("a command arrives", lambda peer=peer, number=number: set_property(
                admin, peer.name, 1000 + number, 10) == "Done")
        node.cut(refuse=True)
        began = time.monotonic()
        outcomes = {}

        def issue(number):
            timeout = max(1, min(10, int(options.cut / 2)))
            outcomes[number] = set_property(admin, peers[number % 5].name, 2000 + number, timeout)

        threads = [threading.Thread(target=issue, args=(number,)) for number in range(20)]
        for number, thread in enumerate(threads):
            thread.start()
            time.sleep(options.cut / 50)
            if number % 4 == 0:
                # Only the newest counts: the value before it is wished for and withdrawn while nobody hears it.
                desire(admin, peers[number // 4].name, 3000 + number)
                desire(admin, peers[number // 4].name, 4000 + number)
        for thread in threads:
            thread.join()
        time.sleep(max(0, began + options.cut - time.monotonic()))
        node.mend()
        until("desired values are written", lambda: all(peer.writes(12) for peer in peers), 90)
        until("commands work again", lambda: set_property(admin, peers[0].name, 5000, 5) == "Done", 60)
        time.sleep(options.after)  # whatever might still come late
        expect(all(outcome == "Expired" for outcome in outcomes.values()), f"answers: {outcomes}")
        for number, peer in enumerate(peers):
            written = [line["values"][0] for line in peer.writes(12)]
            expect(written == [4000 + 4 * number], f"{peer.name} was told the desired values {written}")
            ran = [line["values"][0] for line in peer.writes(10)]
            expect(ran == [1000 + number] + ([5000] if number == 0 else []), f"{peer.name} was told {ran}")
    return {"cut": options.cut, "expired": len(outcomes), "desired": len(peers)}


def late(_):
    """Each daemon on a command's way stands still while the command expires."""
    measured = {}
    with World(1, cloud={"ping-interval": "15s"}) as world:
        world.start()
        node, admin = world.nodes[0], world.admin
        peer = world.add_peer(node, 2, 500)
        until("a command arrives", lambda: set_property(admin, peer.name, 1, 10) == "Done")
        for number, name in enumerate(("edgecore", "devicecore", "device-modbus")):
            value = 100 + number
            node.send(name, signal.SIGSTOP)
            outcome = set_property(admin, peer.name, value, 1)
            time.sleep(1)
            node.send(name, signal.SIGCONT)
            until("commands work again", lambda: set_property(admin, peer.name, 7, 10) == "Done")
            time.sleep(1)
            ran = [line for line in peer.writes(10) if line["values"] == [value]]
            expect(not ran, f"{name} stood still, the command was answered {outcome} and ran all the same")
            expect(outcome in ("Expired", "Unknown"), f"{name} stood still, the command was answered {outcome}")
            measured[name] = outcome
    return measured


# --- outage ----------------------------------------------------------------------------------------------------------


def outage(options):
    """A cut at a high rate of readings, with pods whose status changes meanwhile."""
    devices, cycle = 4, 200
    registers = max(1, options.rate * cycle // 1000 // devices)
    with World(1, cloud={"ping-interval": "2s"}) as world:
        world.start()
        node, admin = world.nodes[0], world.admin
        host = node.directory / "host"
        host.mkdir()
        probe = {"exec": {"command": ["/bin/sh", "-c", "[ -e /host/$HOSTNAME ]"]}, "periodSeconds": 1}
        names = [f"p{number}" for number in range(options.pods)]
        volumes = [{"name": "h", "hostPath": {"path": str(host), "type": "Directory"}}]
        for name in names:
            (host / name).touch()
            admin.create("pods", pod(
                name, node.name, volumes=volumes, volumeMounts=[{"name": "h", "mountPath": "/host"}],
                readinessProbe=probe), "default")
        peers = [world.add_peer(node, registers, cycle) for _ in range(devices)]
        series = Series(world.cloud.client, [peer.name for peer in peers])
        series.start()
        until("pods are ready", lambda: len(ready_pods(admin)) == len(names))
        until("readings arrive", lambda: series.total)
        node.shape(up={"delay": 0.02, "rate": options.bandwidth}, down={"delay": 0.02, "rate": options.bandwidth})
        before = series.total
        node.cut(refuse=True)
        flips, end = 0, time.monotonic() + options.cut
        toggle = max(1.5, options.cut / max(1, options.changes / len(names)))
        while time.monotonic() < end:
            time.sleep(toggle)
            for name in names:
                path = host / name
                path.unlink() if path.exists() else path.touch()
                flips += 1
        wanted = {name: (host / name).exists() for name in names}
        time.sleep(2)  # the node has seen the last change
        stored = node.stored()[0]
        start, sent = time.monotonic(), world.relay.do("stats")["n1"]["up"]
        told = 0

        def all_there():
            nonlocal told
            links = admin.connect_call("nodes", "", "links", "", {}).answer()["nodes"]
            told = max(told, links.get("n1", {}).get("waiting", 0))
            return world.cloud.metrics("cloudcore")["skerry_readings_stored_total"] >= stored

        node.mend()
        until("all that waited is in the cloud", all_there, 10 * options.cut)
        took = time.monotonic() - start
        count = world.relay.do("stats")["n1"]["up"] - sent
        checks = Checks(world)
        checks.arrived(series, 600)
        until("the last statuses are there", lambda: {
            name: name in {found["metadata"]["name"] for found in ready_pods(admin)} for name in names} == wanted)
        checks.numbering(series, 60)
        series.end()
        gaps = {name: found.gaps for name, found in series.properties.items() if found.gaps}
        problems = checks.violations + series.violations
        expect(not problems and not gaps, f"{problems[:5]} {gaps}")
        least = count / options.bandwidth
        expect(
            took < 2 * least + options.slack,
            f"{stored - before} readings, {count} bytes took {took:.1f} s; at {options.bandwidth} B/s: {least:.1f}")
        expect(stored - before >= 0.9 * options.rate * options.cut, f"only {stored - before} readings were waiting")
        return {"cut": options.cut, "readings waiting": stored - before, "told to wait": told, "status changes": flips, "bytes": count,
                "rate": options.bandwidth, "seconds": round(took, 1), "seconds at the rate": round(least, 1)}


# --- away ------------------------------------------------------------------------------------------------------------


def away(options):
    """Unrelated objects change while a node is away."""
    with World(1, cloud={"ping-interval": "2s"}) as world:
        world.start(devices=False)
        node, admin = world.nodes[0], world.admin
        admin.create("pods", pod("p", node.name, "echo here; exec sleep 100000"), "default")
        until("the pod runs", lambda: ready_pods(admin))

        def reconnect(meanwhile):
            """Bytes of a reconnection: from the cut until the node has been served for two pings."""
            node.cut(refuse=True)
            until("the cloud knows", lambda: world.cloud.metrics("cloudcore")["skerry_hub_node_sessions"] == 0)
            meanwhile()
            before = world.relay.do("stats")["n1"]
            node.mend()
            until("the node is back in service", lambda: in_service(world, node))
            time.sleep(5)
            after = world.relay.do("stats")["n1"]
            return {way: after[way] - before[way] for way in ("up", "down")}

        def change():
            for number in range(options.changes):
                admin.create("configmaps", config_map(f"c{number}", "x" * 200), "default")

        reconnect(lambda: None)
        idle = reconnect(lambda: None)
        busy = reconnect(change)
        expect(
            busy["down"] <= idle["down"] + 500, f"a reconnection costs {idle} bytes, after {options.changes} unrelated "
            f"changes {busy}")
        return {"changes": options.changes, "idle": idle, "after": busy}


# --- main ------------------------------------------------------------------------------------------------------------

SCENARIOS = {
    "half-open": half_open, "reboot": reboot, "commands": commands, "late": late, "outage": outage, "away": away}
EVERYTHING = [("half-open", {}), ("half-open", {"profile": "metered"}), *((name, {}) for name in SCENARIOS
                                                                         if name != "half-open")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=[*SCENARIOS, "all"])
    parser.add_argument("--ping", default="15s", help="half-open: the cloud's ping-interval")
    parser.add_argument("--profile", default="default", choices=("default", "metered"), help="half-open: the nodes'")
    parser.add_argument("--spread", default="5s", help="half-open: the cloud's reconnect-spread")
    parser.add_argument("--held", type=float, default=10, help="half-open: seconds that it stays so once it is known")
    parser.add_argument("--pods", type=int, default=20, help="reboot")
    parser.add_argument("--within", type=float, default=10, help="reboot: seconds")
    parser.add_argument("--cut", type=float, help="commands: seconds (60); outage: seconds (300)")
    parser.add_argument("--after", type=float, default=10, help="commands: seconds of listening afterwards")
    parser.add_argument("--rate", type=int, default=1000, help="outage: readings a second")
    parser.add_argument("--bandwidth", type=int, default=8000, help="outage: bytes a second of the link")
    parser.add_argument("--slack", type=float, default=0, help="outage: seconds more, where little was to be sent")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--changes", type=int, help="outage: of statuses (200); away: of objects (1000)")
    options = parser.parse_args()
    if reason := why_not():
        sys.exit(f"acceptance: {reason}")
    enter_network()
    failed = False
    for name, changes in EVERYTHING if options.scenario == "all" else [(options.scenario, {})]:
        chosen = argparse.Namespace(**vars(options) | changes)
        chosen.cut = options.cut or {"commands": 60, "outage": 300}.get(name)
        chosen.changes = options.changes or {"outage": 200, "away": 1000}.get(name)
        if name == "outage":
            chosen.pods = min(options.pods, 10)
        began = time.monotonic()
        try:
            result = SCENARIOS[name](chosen)
            print(json.dumps({"scenario": name, "took": round(time.monotonic() - began, 1), **result}), flush=True)
        except (Broken, AssertionError) as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
