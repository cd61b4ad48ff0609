"""cloudcore against a client written from proto-spec alone: what a stranger may rely on, over real TLS, on a real disk,
over SIGKILL."""

import time
import unittest

from cloud import PATIENCE, CallFailed, CloudTest


def config_map(name, number, tier="a", filler=""):
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"tier": tier}},
        "data": {"n": str(number), "filler": filler},
    }


class ConfigMapTest(CloudTest):
    def make(self, count, first=0, tier=lambda number: "a", filler=""):
        for number in range(first, first + count):
            self.client.create("configmaps", config_map(f"c{number:04}", number, tier(number), filler), "default")

    def events(self, watch, count):
        """The next `count` events that are not bookmarks."""
        found = []
        while len(found) < count:
            kind, object = watch.next(PATIENCE)
            if kind != "BOOKMARK":
                found.append((kind, object))
        return found

    def revision(self):
        return self.client.list("configmaps", namespace="default")[0]


class ForeignClient(ConfigMapTest):
    def test_lists_page_by_page_at_one_revision(self):
        self.make(25)
        page, result = self.client.list_page("configmaps", namespace="default", limit=10)
        self.assertEqual(len(page), 10)
        self.make(1, first=100)  # behind the first page: it must not show in the rest
        names = [item["metadata"]["name"] for item in page]
        while result.get("continue"):
            page, again = self.client.list_page(
                "configmaps", namespace="default", limit=10, continuation=result["continue"])
            self.assertEqual(again["revision"], result["revision"])
            names += [item["metadata"]["name"] for item in page]
            result = again
        self.assertEqual(names, [f"c{number:04}" for number in range(25)])
        revision, now = self.client.list("configmaps", namespace="default")
        self.assertEqual(len(now), 26)
        self.assertGreater(revision, result["revision"])

    def test_watches_with_selectors_tell_who_enters_and_leaves(self):
        watch = self.client.watch("configmaps", namespace="default", labels="tier in (a)", after=self.revision())
        self.make(4, tier=lambda number: "a" if number % 2 else "b")
        self.client.patch("configmaps", "c0000", {"metadata": {"labels": {"tier": "a"}}}, "default")
        self.client.patch("configmaps", "c0001", {"metadata": {"labels": {"tier": "b"}}}, "default")
        self.client.delete("configmaps", "c0003", "default")
        seen = [(kind, object["metadata"]["name"]) for kind, object in self.events(watch, 5)]
        self.assertEqual(
            seen,
            [("ADDED", "c0001"), ("ADDED", "c0003"), ("ADDED", "c0000"), ("DELETED", "c0001"), ("DELETED", "c0003")])

    def test_a_watch_resumes_over_sigkill_without_gap_or_repeat(self):
        watch = self.client.watch("configmaps", namespace="default", after=self.revision())
        self.make(30)
        seen = [object["data"]["n"] for _, object in self.events(watch, 17)]
        position = watch.position
        self.cloud.kill()
        with self.assertRaises((CallFailed, OSError)):
            while True:
                watch.next(PATIENCE)  # what had arrived can still be read; here it is thrown away
        self.cloud.start()
        self.client = self.cloud.client()
        resumed = self.client.watch("configmaps", namespace="default", after=position)
        self.make(10, first=30)
        seen += [object["data"]["n"] for _, object in self.events(resumed, 40 - len(seen))]
        self.assertEqual(seen, [str(number) for number in range(40)])

    def test_withheld_credit_costs_nobody_anything(self):
        watch = self.client.watch("configmaps", namespace="default", after=self.revision(), grant=False)
        self.assertEqual(watch.next(), ("BOOKMARK", None))
        # 20 MB: more than a stream's, a session's and a socket's buffers hold, and than the log's tail in memory (16 MiB).
        self.make(400, filler="x" * 50_000)
        with self.client.changed:
            held = sum(map(len, watch.stream.messages))
        self.assertLess(held, 200_000)
        numbers = []
        while len(numbers) < 400:
            watch.stream.give(60_000)
            kind, object = watch.next(PATIENCE)
            if kind != "BOOKMARK":
                numbers.append(int(object["data"]["n"]))
        self.assertEqual(numbers, list(range(400)))

    def test_a_stale_update_is_a_conflict(self):
        self.make(1)
        stale = self.client.get("configmaps", "c0000", "default")
        fresh = dict(stale, data={"n": "7"})
        changed = self.client.update("configmaps", "c0000", fresh, "default")
        self.assertNotEqual(changed["metadata"]["resourceVersion"], stale["metadata"]["resourceVersion"])
        with self.assertRaises(CallFailed) as caught:
            self.client.update("configmaps", "c0000", dict(stale, data={"n": "8"}), "default")
        self.assertEqual(caught.exception.reason, "Conflict")
        self.assertEqual(self.client.get("configmaps", "c0000", "default")["data"]["n"], "7")

    def test_errors_name_what_is_wrong(self):
        for params, reason in (
            ({"resource": "gizmos"}, "NotFound"),
            ({"resource": "configmaps", "labels": "a b c"}, "BadRequest"),
            ({"resource": "configmaps", "selector": "a=b"}, "BadRequest"),
        ):
            with self.assertRaises(CallFailed, msg=params) as caught:
                self.client.open("list", params).answer()
            self.assertEqual(caught.exception.reason, reason)
        with self.assertRaises(CallFailed) as caught:
            self.client.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "A b"}}, "default")
        self.assertEqual(caught.exception.reason, "Invalid")
        self.assertEqual(caught.exception.details["causes"][0]["field"], "metadata.name")


class Compaction(ConfigMapTest):
    """A log that keeps a second."""

    settings = ("retention-time: 1s",)

    def test_a_watch_from_the_compacted_past_is_too_old(self):
        start = self.revision()
        self.make(5)
        deadline = time.monotonic() + PATIENCE
        while True:
            time.sleep(0.2)
            self.client.patch("configmaps", "c0000", {"data": {"t": str(time.monotonic())}}, "default")
            watch = self.client.watch("configmaps", namespace="default", after=start)
            try:
                watch.next(PATIENCE)
                watch.next(PATIENCE)
                watch.cancel()
            except CallFailed as error:
                self.assertEqual(error.reason, "Expired")
                break
            self.assertLess(time.monotonic(), deadline, "the log was not compacted")
        # The remedy: list again, and watch from there.
        revision, items = self.client.list("configmaps", namespace="default")
        self.assertEqual(len(items), 5)
        again = self.client.watch("configmaps", namespace="default", after=revision)
        self.client.delete("configmaps", "c0001", "default")
        self.assertEqual(self.events(again, 1)[0][0], "DELETED")


if __name__ == "__main__":
    unittest.main()
