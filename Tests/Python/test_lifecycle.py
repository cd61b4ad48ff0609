"""Ending daemons and whole clusters: what must go on goes on, and what must be gone is gone."""

import signal
import time
import unittest

from cluster import BIN, Cluster, alive, has_oci, run, until, until_nothing

SLEEP = ["/bin/sleep", "100000"]


class LifecycleTests(unittest.TestCase):
    def test_edgecore_leaves_its_containers_and_up_leaves_nothing(self):
        with Cluster() as cluster:
            cluster.apply(cluster.pod("one", SLEEP), cluster.pod("two", SLEEP, node="n2"))
            pods = cluster.wait_ready("one", "two")
            before = [cluster.process(pod) for pod in pods]
            cluster.kill("edgecore/n1", number=signal.SIGTERM)
            self.assertEqual([cluster.process(pod) for pod in pods], before)
            self.assertTrue(alive(before[0][0]))
            cluster.start_daemon("edgecore/n1")
            until("n1 answers", lambda: cluster.skerry("exec", "one", "--", "/bin/true"))
            self.assertEqual([cluster.process(pod) for pod in cluster.wait_ready("one", "two")], before)
            self.assertEqual(cluster.stop(), 0)
            # `up` itself cleans up: nothing else has run since.
            self.assertEqual(until_nothing(cluster), [])
            self.assertFalse(alive(before[0][0]) or alive(before[1][0]))

    def test_down_cleans_up_after_kill(self):
        with Cluster() as cluster:
            cluster.apply(cluster.pod("one", SLEEP), cluster.pod("two", SLEEP, node="n2"))
            pids = [cluster.process(pod)[0] for pod in cluster.wait_ready("one", "two")]
            cluster.stop(signal.SIGKILL)
            self.assertTrue(all(alive(pid) for pid in cluster.pids.values()), "daemons outlive `up`")
            second = run([f"{BIN}/skerry", "up", "--data", cluster.data], check=False)
            self.assertNotEqual(second.returncode, 0, "`up` starts beside daemons that still run")
            self.assertIn("skerry down", second.stderr)
            daemons = cluster.pids.values()
            self.assertTrue(all(map(alive, daemons)), "the second `up` ended the first's daemons")
            cluster.down()
            self.assertEqual(until_nothing(cluster), [])
            self.assertFalse(any(map(alive, pids)))
            cluster.down()  # Twice does no harm.

            # The same directory serves again, with the same pods; then all daemons are killed as well.
            cluster.start()
            cluster.wait_ready("one", "two")
            cluster.stop(signal.SIGKILL)
            cluster.kill(*cluster.pids)
            self.assertTrue(cluster.traces(), "containers outlive everything")
            cluster.down()
            self.assertEqual(until_nothing(cluster), [])

    def test_two_clusters_side_by_side(self):
        with Cluster(nodes=1) as first, Cluster(nodes=1) as second:
            self.assertNotEqual(first.ready["api"], second.ready["api"])
            for cluster in (first, second):
                cluster.apply(cluster.pod("same", SLEEP))
            (one,), (two,) = first.wait_ready("same"), second.wait_ready("same")
            self.assertNotEqual(one["metadata"]["uid"], two["metadata"]["uid"])
            process = second.process(two)
            self.assertNotEqual(first.process(one), process)
            self.assertEqual(first.stop(), 0)
            self.assertEqual(until_nothing(first), [])
            self.assertEqual(second.process(second.get("pod", "same")), process)
            self.assertEqual(second.skerry("exec", "same", "--", "/bin/echo", "here").stdout, "here\n")

    @unittest.skipUnless(has_oci(), "needs root and runc: signals reach containers through them")
    def test_a_pod_is_gone_after_its_longest_grace(self):
        stubborn = ["/bin/sh", "-c", "trap '' TERM; echo armed; while :; do sleep 1; done"]
        with Cluster(nodes=1) as cluster:
            pod = cluster.pod("stubborn", stubborn, terminationGracePeriodSeconds=3)
            first = pod["spec"]["containers"][0]
            pod["spec"]["containers"] = [dict(first, name=name) for name in ("a", "b", "c", "d")]
            cluster.apply(pod)
            cluster.wait_ready("stubborn")
            for name in ("a", "b", "c", "d"):
                until("the trap is set", lambda: "armed" in cluster.skerry("logs", "stubborn", "-c", name).stdout)
            start = time.monotonic()
            cluster.skerry("delete", "pod", "stubborn", timeout=60)
            until("the pod is gone", lambda: not cluster.items("pods"))
            seconds = time.monotonic() - start
            self.assertGreaterEqual(seconds, 2.5)
            self.assertLess(seconds, 9, "four containers with 3 s of grace each are stopped one after the other")


if __name__ == "__main__":
    unittest.main()
