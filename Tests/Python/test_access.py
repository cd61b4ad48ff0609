"""Who may do what, tried by a stranger's client with real certificates: nodes, roles, and what was revoked."""

import time
import unittest

from machines import HAVE_PROGRAMS, WHY_NOT, Machines, until
from skerry_client import CallFailed
from skerry_node import Lane, Slice


def pod(name, node, secret):
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "image": "x.local/x:1", "command": ["/bin/true"]}],
            "volumes": [{"name": "s", "secret": {"secretName": secret}}],
        },
    }


def secret(name):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": f"value of {name}"}}


def config_map(name):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}


@unittest.skipUnless(HAVE_PROGRAMS, WHY_NOT)
class Access(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.machines = Machines()
        cls.addClassCleanup(cls.machines.end)
        cls.cloud = cls.machines.cloud()
        cls.admin = cls.cloud.client()
        cls.n1 = cls.machines.edge("n1", cls.cloud, start=False)
        cls.n2 = cls.machines.edge("n2", cls.cloud, start=False)
        cls.sessions = {node.name: node.session() for node in (cls.n1, cls.n2)}
        for node in ("n1", "n2"):
            until(f"{node} is registered", lambda: any(
                item["metadata"]["name"] == node for item in cls.admin.list("nodes")[1]))
            cls.admin.create("secrets", secret(f"of-{node}"), "default")
            cls.admin.create("pods", pod(f"on-{node}", node, f"of-{node}"), "default")

    def forbidden(self, call, *arguments, **named):
        with self.assertRaises(CallFailed) as caught:
            call(*arguments, **named)
        self.assertEqual(caught.exception.reason, "Forbidden", caught.exception)

    def state(self):
        """What nobody but their owners may change."""
        watched = [("pods", "on-n2", "default"), ("secrets", "of-n2", "default")]
        found = [self.admin.get(*names)["metadata"]["resourceVersion"] for names in watched]
        return found + [self.admin.get("nodes", "n2").get("status", {}).get("nodeInfo")]

    def test_a_node_reads_and_writes_its_own_and_nothing_else(self):
        node = self.sessions["n1"]
        # What is its own, so that the refusals below say something.
        self.assertEqual(node.get("pods", "on-n1", "default")["metadata"]["name"], "on-n1")
        self.assertIn("data", node.get("secrets", "of-n1", "default"))
        names = [item["metadata"]["name"] for item in node.list("pods", fields="spec.nodeName=n1")[1]]
        self.assertEqual(names, ["on-n1"])

        before = self.state()
        foreign = self.admin.get("pods", "on-n2", "default")
        self.forbidden(node.get, "pods", "on-n2", "default")
        self.forbidden(node.get, "secrets", "of-n2", "default")
        self.forbidden(node.list, "secrets")
        for resource in ("pods", "secrets", "configmaps", "nodes"):
            self.forbidden(node.watch(resource, after=0).next)
        self.forbidden(node.update, "pods", "on-n2", dict(foreign, status={"phase": "Failed"}), "default", sub="status")
        self.forbidden(node.patch, "nodes", "n2", {"status": {"nodeInfo": {"osImage": "mine"}}}, sub="status")
        self.forbidden(node.delete, "pods", "on-n2", "default", grace=0)
        self.forbidden(node.patch, "nodes", "n1", {"spec": {"unschedulable": True}})
        self.forbidden(node.create, "pods", pod("mirror", "n1", "of-n2"), "default")
        self.forbidden(node.connect_call("nodes", "n2", "revoke").answer)
        self.forbidden(node.connect_call("tokens", "", "create").answer)
        self.forbidden(node.connect_call("pods", "on-n2", "log", "default").answer)
        self.assertEqual(self.state(), before)

    def test_a_lane_takes_no_entry_about_another_node(self):
        own, foreign = (self.admin.get("pods", name, "default") for name in ("on-n1", "on-n2"))
        before = self.state()
        refused = self.cloud.metrics()["skerry_hub_intents_refused_total"]
        lane = Lane(self.sessions["n1"], "status")
        self.assertEqual(lane.cursors, [1, [[lane.incarnation, 0]]])

        def status(key, uid):
            return [key, uid, {"message": "written by n1"}]

        node2 = self.admin.get("nodes", "n2")
        event = {
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "reason": "R",
            "source": {"host": "n2"}, "message": "in n2's name",
            "involvedObject": {"kind": "Pod", "name": "on-n2", "namespace": "default"},
        }
        answer = lane.send(
            status("pods/default/on-n2", foreign["metadata"]["uid"]),
            status("nodes//n2", node2["metadata"]["uid"]),
            {"k": "gone", "key": "pods/default/on-n2", "uid": foreign["metadata"]["uid"]},
            {"k": "event", "ns": "default", "o": event},
            status("pods/default/on-n1", own["metadata"]["uid"]))
        # Refusals do not stop a lane; the last entry, which is n1's own business, has its effect.
        self.assertEqual(answer, (5, False))
        self.assertEqual(self.admin.get("pods", "on-n1", "default")["status"]["message"], "written by n1")
        self.assertEqual(self.state(), before)
        self.assertNotIn("message", self.admin.get("pods", "on-n2", "default").get("status", {}))
        self.assertNotIn("message", self.admin.get("nodes", "n2").get("status", {}))
        self.assertEqual(self.admin.list("events", namespace="default")[1], [])
        self.assertEqual(self.cloud.metrics()["skerry_hub_intents_refused_total"], refused + 4)

    def test_a_lane_takes_each_entry_once_and_in_order(self):
        own = self.admin.get("pods", "on-n1", "default")
        lane = Lane(self.sessions["n1"], "status")

        def entry(text):
            return ["pods/default/on-n1", own["metadata"]["uid"], {"reason": text}]

        self.assertEqual(lane.send(entry("first")), (1, False))
        self.assertEqual(lane.send(entry("second")), (2, False))
        self.assertEqual(lane.batch(0, 1, []), (2, False))  # repeated: applied before, told again
        self.assertEqual(lane.batch(5, 6, []), (2, True))  # a gap: refused, with the cursor
        self.assertEqual(self.admin.get("pods", "on-n1", "default")["status"]["reason"], "second")

    def readings(self, device):
        call = self.admin.connect_call("devices.devices.kubeedge.io", device, "readings", "default")
        return [item["value"] for item in call.answer()["items"]]

    def test_a_lane_takes_no_reading_of_another_nodes_device(self):
        self.admin.create("devicemodels.devices.kubeedge.io", {
            "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": {"name": "model"},
            "spec": {"protocol": "modbus", "properties": [{"name": "t", "type": "INT", "accessMode": "ReadOnly"}]},
        }, "default")
        for node in ("n1", "n2"):
            self.admin.create("devices.devices.kubeedge.io", {
                "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": {"name": f"boiler-{node}"},
                "spec": {
                    "deviceModelRef": {"name": "model"}, "nodeName": node, "protocol": {"protocolName": "modbus"},
                    "properties": [{"name": "t"}],
                },
            }, "default")

        def reading(number, device, value):
            return [number, f"default/{device}", "t", "INT", value, "Good", 1_700_000_000_000 + number]

        lane = Lane(self.sessions["n1"], "readings")
        answer = lane.send(
            reading(1, "boiler-n2", "666"), reading(2, "boiler-n1", "20"), reading(3, "no-such-boiler", "1"))
        self.assertEqual(answer, (3, False))
        self.assertEqual(self.readings("boiler-n2"), [])
        self.assertEqual(self.readings("boiler-n1"), ["20"])
        self.assertEqual(self.cloud.metrics()["skerry_readings_refused_total"], 2)
        Lane(self.sessions["n2"], "readings").send(reading(1, "boiler-n2", "21"))
        self.assertEqual(self.readings("boiler-n2"), ["21"])

    def test_a_node_does_not_give_itself_an_operators_labels(self):
        node = self.machines.edge("n4", self.cloud, start=False)
        labels = {"node-role.kubernetes.io/trusted": "", "node-restriction.kubernetes.io/zone": "a", "rack": "7"}
        session = self.cloud.client(node.cert, node.key, hello={"role": "node", "node": "n4", "labels": labels})
        self.addCleanup(session.close)

        def registered():
            found = [item for item in self.admin.list("nodes")[1] if item["metadata"]["name"] == "n4"]
            return found[0] if found else None

        self.assertEqual(
            until("n4 is registered", registered)["metadata"]["labels"], {"kubernetes.io/hostname": "n4", "rack": "7"})

    def test_a_slice_holds_what_is_the_nodes_business(self):
        slice = Slice(self.sessions["n1"])
        slice.until(lambda s: s.snapshots == 1 and set(s.held) >= {
            "nodes//n1", "pods/default/on-n1", "secrets/default/of-n1"})
        self.assertFalse([key for key in slice.held if "n2" in key], slice.held)
        self.assertTrue(slice.held["secrets/default/of-n1"][1], "a Secret is to be kept sealed")
        # Where it stands by position, and where it holds the same by digest: nothing is sent again.
        for cursor in (slice.cursor, ("00" * 16, 7, 1)):
            again = Slice(self.sessions["n1"], held=slice.held, cursor=cursor)
            self.assertEqual(again.step(), "resume")

    def test_view_reads_all_but_secrets_and_writes_nothing(self):
        self.admin.create("configmaps", config_map("seen"), "default")
        view = self.cloud.create_client("ann", "view")
        self.assertIn("seen", [item["metadata"]["name"] for item in view.list("configmaps", namespace="default")[1]])
        before = self.admin.get("configmaps", "seen", "default")["metadata"]["resourceVersion"]
        self.forbidden(view.create, "configmaps", config_map("mine"), "default")
        self.forbidden(view.update, "configmaps", "seen", config_map("seen"), "default")
        self.forbidden(view.patch, "configmaps", "seen", {"data": {"a": "c"}}, "default")
        self.forbidden(view.delete, "configmaps", "seen", "default")
        self.forbidden(view.get, "secrets", "of-n1", "default")
        self.forbidden(view.list, "secrets")
        self.forbidden(view.watch("secrets", after=0).next)
        self.forbidden(view.connect_call("pods", "on-n1", "exec", "default", {"command": ["id"]}, stream=True).answer)
        self.forbidden(view.connect_call("nodes", "n1", "revoke").answer)
        self.forbidden(view.connect_call("tokens", "", "create").answer)
        batch = view.open("batch", {"items": [{"call": "create", "params": {
            "resource": "configmaps", "namespace": "default", "object": config_map("mine")}}]}).answer()
        self.assertEqual(batch[0]["reason"], "Forbidden")
        self.assertEqual(self.admin.get("configmaps", "seen", "default")["metadata"]["resourceVersion"], before)

    def test_edit_writes_but_not_nodes_and_identities(self):
        edit = self.cloud.create_client("bob", "edit")
        edit.create("configmaps", config_map("by-bob"), "default")
        self.forbidden(edit.patch, "nodes", "n1", {"spec": {"unschedulable": True}})
        self.forbidden(edit.connect_call("nodes", "n1", "revoke").answer)
        self.forbidden(edit.connect_call("clients", "eve", "create", options={"csr": "", "role": "admin"}).answer)

    def test_a_revoked_node_is_cut_within_a_second_until_it_is_approved(self):
        node = self.machines.edge("n3", self.cloud, start=False)
        session = node.session()
        watch = session.watch("nodes", fields="metadata.name=n3")
        watch.next()
        self.cloud.skerry("node", "revoke", "n3")
        start = time.monotonic()
        with session.changed:
            session.wait(lambda: session.closed, 5)
        self.assertLess(time.monotonic() - start, 1)
        self.assertEqual(session.going_away["reason"], "revoked")
        with self.assertRaises((CallFailed, OSError)):
            node.session()
        done = node.join(self.cloud.token(), check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("revoked", done.stderr)
        self.cloud.skerry("node", "approve", "n3")
        self.assertEqual(node.session().get("nodes", "n3")["metadata"]["name"], "n3")


if __name__ == "__main__":
    unittest.main()
