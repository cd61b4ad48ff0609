"""What an operator sees and sets of the links with nodes: profiles, budgets, groups, `get nodes -o wide`."""

import pathlib
import unittest
import urllib.request

from cluster import Cluster, until


class LinkTests(unittest.TestCase):
    def setting(self, cluster, daemon, path, lines):
        with open(path, "a") as file:
            file.write(lines)
        cluster.kill(daemon)
        cluster.start_daemon(daemon)

    def metrics(self, cluster, daemon):
        with urllib.request.urlopen(f"{cluster.ready['metrics'][daemon]}/metrics") as answer:
            lines = [line for line in answer.read().decode().splitlines() if line and line[0] != "#"]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    def wide(self, cluster):
        lines = cluster.skerry("get", "nodes", "-o", "wide").stdout.splitlines()
        columns = [lines[0].index(name) for name in ("LAST-SEEN", "BEHIND", "WAITING", "BYTES-TODAY")]
        return [
            [line[start:].split("   ")[0].strip() for start in columns] for line in lines[1:]]

    def test_what_is_known_of_links_is_shown(self):
        with Cluster(nodes=2) as cluster:
            cluster.apply(cluster.pod("one", ["/bin/sleep", "1000"]))
            cluster.wait_ready("one")
            until("both nodes are seen", lambda: [row[1] for row in self.wide(cluster)] == ["0", "0"])
            seen, behind, waiting, bytes_today = self.wide(cluster)[0]
            self.assertRegex(seen, r"^\d+s$")
            self.assertEqual(waiting, "0")
            self.assertRegex(bytes_today, r"^[0-9.]+(B|KiB|MiB)$")
            metrics = self.metrics(cluster, "edgecore/n1")
            for name in ("control", "status"):
                for direction in ("up", "down"):
                    self.assertGreater(metrics[f'skerry_link_bytes_total{{class="{name}",direction="{direction}"}}'], 0)
            # A node that went is shown as such, with what it has not had.
            cluster.kill("edgecore/n1")
            cluster.apply(cluster.pod("two", ["/bin/sleep", "1000"]))
            until("the node is behind", lambda: self.wide(cluster)[0][1] not in ("0", "<unknown>"))
            self.assertIn("(away)", self.wide(cluster)[0][0])
            cluster.start_daemon("edgecore/n1")
            cluster.wait_ready("one", "two")
            until("it has caught up", lambda: self.wide(cluster)[0][1] == "0")

    def test_profiles_budgets_and_groups_are_settings(self):
        with Cluster(nodes=1) as cluster:
            node = pathlib.Path(cluster.node_directory("n1"))
            self.setting(
                cluster, "edgecore/n1", node / "edgecore.yaml", "profile: metered\nbudget: 64KiB\nbudget-bulk: 4KiB\n")
            self.setting(
                cluster, "cloudcore", f"{cluster.data}/cloud/cloudcore.yaml",
                "groups:\n  - remote grace=1h eviction=never budget=64KiB\n")
            cluster.apply(cluster.pod("one", ["/bin/sleep", "1000"]))
            pod = cluster.wait_ready("one")[0]
            # The pod is pinned, so a silent node does not cost it its place.
            tolerations = {t["key"]: t for t in pod["spec"]["tolerations"]}
            self.assertNotIn("tolerationSeconds", tolerations["node.kubernetes.io/unreachable"])
            cluster.skerry("label", "node", "n1", "skerry.io/group=remote")
            bad = f"{cluster.data}/bad.yaml"
            text = pathlib.Path(f"{cluster.data}/cloud/cloudcore.yaml").read_text()
            pathlib.Path(bad).write_text(text.replace("grace=1h", "grace=soon"))
            from cluster import BIN, run
            failed = run([f"{BIN}/cloudcore", "--config", bad], check=False)
            self.assertNotEqual(failed.returncode, 0)
            self.assertIn("grace", failed.stderr + failed.stdout)


if __name__ == "__main__":
    unittest.main()
