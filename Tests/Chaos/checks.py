"""What must hold when everything has settled. Each check notes violations as (promise, text)."""

import json
import re
import time

from cluster import ROOT
from skerry_client import CallFailed

from load import DEPLOYMENTS, LABEL
from world import COUNTERS

LINE = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z (\w+) [^ ]+: ")
CODE = re.compile(r" code=\"?([EW]-[A-Z]+-\d+)")
DOCUMENTED = re.compile(r"^\| `?([EW]-[A-Z]+-\d+)`? \|", re.MULTILINE)
# What a program says that could not start, to whoever started it; and the last words of one whose power was cut.
REFUSAL = re.compile(r"^(cloudcore|edgecore|devicecore|device-modbus): ")
POWER_CUT = re.compile(r"^SKERRY_TEST_VFS: power cut in operation")
ALLOWED_LATE = 1.0  # seconds between the decision to write and the device's own log


def documented_codes():
    with open(f"{ROOT}/docs/operations.md") as file:
        return set(DOCUMENTED.findall(file.read()))


class Checks:
    def __init__(self, world):
        self.world = world
        self.violations = []
        self.figures = {}

    def violation(self, promise, text):
        self.violations.append((promise, text))

    # Convergence

    def converged(self, admin, patience):
        """Waits until every node runs what it should and nothing else; says what is still different if it does not."""
        end = time.monotonic() + patience
        while True:
            try:
                different = self.differences(admin())
            except (OSError, CallFailed, ValueError, KeyError) as error:
                different = [f"not to be seen: {type(error).__name__}: {error}"]
            if not different:
                return True
            if time.monotonic() > end:
                for text in different:
                    self.violation("converges", text)
                return False
            time.sleep(0.5)

    def differences(self, admin):
        found = []
        pods = [pod for pod in admin.list("pods")[1] if LABEL in pod["metadata"].get("labels", {})]
        found += [f"{node.name} is not Ready" for node in self.world.nodes if not self.world.is_ready(node, admin)]
        found += self.deployments(admin, pods)
        for node in self.world.nodes:
            found += self.node(node, [pod for pod in pods if pod["spec"].get("nodeName") == node.name])
        return found

    @staticmethod
    def deployments(admin, pods):
        found = []
        for item in admin.list(DEPLOYMENTS)[1]:
            name, replicas = item["metadata"]["name"], item["spec"]["replicas"]
            own = [pod for pod in pods if pod["metadata"]["labels"][LABEL] == name]
            status = item.get("status", {})
            if len(own) != replicas or status.get("readyReplicas", 0) != replicas:
                found.append(
                    f"deployment {name} wants {replicas}, has {len(own)} pods, says {status.get('readyReplicas', 0)}")
            if status.get("updatedReplicas", 0) != replicas:
                updated = status.get("updatedReplicas", 0)
                found.append(f"deployment {name}: {updated} of {replicas} are of its last version")
            wanted = item["spec"]["template"]["spec"]["containers"][0]["env"]
            for pod in own:
                if pod["spec"]["containers"][0]["env"] != wanted:
                    found.append(f"pod {pod['metadata']['name']} is not of its deployment's last version")
        return found

    def node(self, node, pods):
        """Pods of a node against the monitors that run there and what runc says."""
        found, wanted = [], {}
        for pod in pods:
            name = pod["metadata"]["name"]
            if "deletionTimestamp" in pod["metadata"]:
                found.append(f"{node.name}: pod {name} is still to go")
                continue
            statuses = pod.get("status", {}).get("containerStatuses", [])
            if len(statuses) != 1 or "running" not in statuses[0]["state"] or not statuses[0]["ready"]:
                found.append(f"{node.name}: pod {name} does not run: {json.dumps(statuses)[:300]}")
                continue
            wanted[statuses[0]["containerID"].split("://")[1]] = pod["metadata"]["uid"]
        running = node.containers()
        doubled = {one for one in running if running.count(one) > 1}
        found += [f"{node.name}: container {one} runs twice" for one in sorted(doubled)]
        found += [f"{node.name}: container {one} is nobody's" for one in sorted(set(running) - set(wanted))]
        found += [f"{node.name}: container {one} is not there" for one in sorted(set(wanted) - set(running))]
        by_runc = node.runc()
        # The one before the last of a container is kept for its log.
        alive = {one for one, status in by_runc.items() if status != "stopped"}
        kept = {one for one in by_runc if one.split("_")[0] not in wanted.values()}
        if alive != set(wanted) or kept:
            found.append(f"{node.name}: runc has {by_runc}, pods have {sorted(wanted)}")
        return found

    # Readings

    def readings(self, series, faults, patience):
        """Every value that a device counted out, once and in order; and as many readings as devicecore numbered."""
        self.arrived(series, patience)
        for (device, name), found in sorted(series.properties.items()):
            node = device.rsplit("-", 1)[0]
            if len(found.gaps) > faults.driver_losses[node]:
                self.violation(
                    "nothing lost",
                    f"{device} {name}: {len(found.gaps)} gaps, {faults.driver_losses[node]} ends of the driver explain "
                    f"fewer; {sum(found.gaps)} values are not there")
        self.violations += series.violations

    def arrived(self, series, patience):
        """Waits until the cloud's series has what the devices have served up to now."""
        served = {}
        for peer in self.world.peers:
            for line in reversed(peer.served()):
                if line["op"] == "read" and line["address"] == COUNTERS and len(line["values"]) == peer.counters:
                    for number, value in enumerate(line["values"]):
                        served[peer.name, f"c{number:02}"] = value
                    break
        end = time.monotonic() + patience

        def lacking():
            return [
                f"{device} {name}: the device has served {value}, the cloud has {series.properties[device, name].last}"
                for (device, name), value in served.items()
                if series.properties[device, name].last is None
                or (value - series.properties[device, name].last) % 65536 < 32768
                and value != series.properties[device, name].last]

        while lacking() and time.monotonic() < end:
            time.sleep(0.2)
        for text in lacking():
            self.violation("nothing lost", text)

    def numbering(self, series, patience):
        """With the drivers stopped: the cloud has as many readings of a node as devicecore has numbered there."""
        for node in self.world.nodes:
            node.kill("device-modbus", number=15)
        end = time.monotonic() + patience

        def different():
            found = []
            for node in self.world.nodes:
                stored, losses = node.stored()
                here = sum(series.counts[peer.name] for peer in node.peers)
                if stored != here:
                    text = f"{node.name}: devicecore numbered {stored} readings, the cloud has {here}"
                    found.append(("nothing lost" if here < stored else "exactly once", text))
                if losses:
                    found.append(("nothing lost", f"{node.name}: devicecore has {losses} loss entries"))
            return found

        while different() and time.monotonic() < end:
            time.sleep(0.2)
        for promise, text in different():
            self.violation(promise, text)

    # Commands

    @staticmethod
    def taken(device, issued, timeout, faults):
        """When a command began to count: a cloud that stood still had not heard it, and what a device had been told
        in time it does when it goes on."""
        return max([issued] + [
            end for name, began, end in faults.standstills
            if name in ("cloudcore", device) and began <= issued + timeout and end >= issued])

    def commands(self, commander, wisher, faults):
        for peer in self.world.peers:
            writes = peer.writes(10)
            times = {}
            for line in writes:
                times.setdefault(line["values"][0], []).append(line["t"])
            for device, value, issued, timeout, outcome in commander.commands:
                if device != peer.name:
                    continue
                at = times.get(value, [])
                text = f"{device}: the command for {value} was answered {outcome}"
                if outcome == "Expired" and at:
                    self.violation("no expired command", f"{text} and ran at {at}, issued at {issued} for {timeout} s")
                if outcome == "Done" and len(at) != 1:
                    promise = "exactly once" if at else "nothing lost"
                    self.violation(promise, f"{text} and the device wrote it {len(at)} times")
                elif len(at) > 1:
                    self.violation("exactly once", f"{text} and ran {len(at)} times")
                latest = self.taken(device, issued, timeout, faults) + timeout + ALLOWED_LATE
                late = [one for one in at if one > latest]
                if late:
                    self.violation("no expired command", f"{text} and ran {late[0] - issued:.1f} s after it was issued")
            wanted = wisher.last.get(peer.name)
            written = [line["values"][0] for line in peer.writes(12)][-1:]
            if wanted is not None and written != [wanted]:
                self.violation("converges", f"{peer.name}: {wanted} is desired, the device was last told {written}")

    # The watching client

    def watches(self, admin, watchers, deployer, patience):
        for watcher in watchers:
            end = time.monotonic() + patience

            def listed(watcher=watcher):
                return {watcher.key(item): watcher.version(item) for item in admin.list(watcher.resource)[1]}

            while listed() != watcher.objects and time.monotonic() < end:
                time.sleep(0.1)
            now = listed()
            for key in set(now) | set(watcher.objects):
                if now.get(key) != watcher.objects.get(key):
                    self.violation(
                        "resumable", f"{watcher.resource} {'/'.join(key)}: listed as {now.get(key)}, the watch has "
                        f"shown {watcher.objects.get(key)}")
            self.violations += watcher.violations
        seen = next(watcher for watcher in watchers if watcher.resource == DEPLOYMENTS)
        for revision, name in deployer.answered:
            if seen.revisions.get(revision) != ("default", name):
                self.violation("nothing lost", f"deployment {name} was written at {revision}, and no watch showed that")

    # Logs

    def logs(self):
        """Each line is a log line, and each warning or error has a code that the operator finds in the manual."""
        codes, counts, refused = documented_codes(), {}, 0
        for path in sorted(self.world.directory.glob("*/*.log")):
            if path.name == "init.log":
                continue
            for line in path.read_text(errors="replace").splitlines():
                match = LINE.match(line)
                where = f"{path.parent.name}/{path.name}"
                if REFUSAL.match(line):
                    refused += 1
                elif POWER_CUT.match(line):
                    continue
                elif not match:
                    self.violation("documented", f"{where}: not a log line: {line[:300]}")
                elif match.group(1) in ("warning", "error", "critical"):
                    code = CODE.search(line)
                    if not code or code.group(1) not in codes:
                        self.violation("documented", f"{where}: no documented code: {line[:300]}")
                    else:
                        counts[code.group(1)] = counts.get(code.group(1), 0) + 1
        self.figures["refused starts"] = refused
        self.figures["log codes"] = dict(sorted(counts.items()))
