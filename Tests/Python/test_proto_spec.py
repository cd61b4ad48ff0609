"""The protocol's contract: vectors against the CDDL, and a foreign client's codec against the vectors."""

import importlib.util
import json
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def vectors(name):
    return json.loads((ROOT / "proto-spec" / "vectors" / name).read_text())


class ProtoSpec(unittest.TestCase):
    def test_vectors_match_the_cddl(self):
        self.assertEqual(load(ROOT / "proto-spec" / "check.py").main(), 0)

    def test_the_foreign_codec_reads_and_writes_the_vectors(self):
        client = load(ROOT / "Tests" / "ForeignClient" / "skerry_client.py")
        for vector in vectors("rfc8949.json")["accept"]:
            data = bytes.fromhex(vector["hex"])
            self.assertEqual(client.decode(data), vector["value"])
            self.assertEqual(client.encode(vector["value"]), data)
        for vector in vectors("rfc8949.json")["refuse"]:
            if vector["hex"] == "1bffffffffffffffff":
                continue  # this client reads positions, which may be as large, with the same decoder
            with self.assertRaises(client.Malformed, msg=vector["why"]):
                client.decode(bytes.fromhex(vector["hex"]))
        for name in ("frames.json", "items.json", "calls.json"):
            for vector in vectors(name)["accept"]:
                if "message" in vector:
                    payload = bytes.fromhex(vector["payload"])
                    self.assertEqual(client.decode(payload), vector["message"], vector["name"])
                    self.assertEqual(client.encode(vector["message"]), payload, vector["name"])

    def test_packed_items_and_readings_are_read(self):
        sys.path.insert(0, str(ROOT / "Tests" / "ForeignClient"))
        node = load(ROOT / "Tests" / "ForeignClient" / "skerry_node.py")
        for vector in vectors("packed.json")["packed"]:
            self.assertEqual(node.unpack(bytes.fromhex(vector["payload"])).hex(), vector["plain"], vector["name"])
        readings = load(ROOT / "Tests" / "Python" / "packed_readings.py")
        for vector in vectors("readings.json")["blocks"]:
            self.assertEqual(readings.decode(bytes.fromhex(vector["payload"])), vector["rows"], vector["name"])
        for vector in vectors("readings.json")["refuse"]:
            with self.assertRaises(ValueError, msg=vector["name"]):
                readings.decode(bytes.fromhex(vector["payload"]))

    def test_the_foreign_node_reads_and_writes_the_vectors(self):
        sys.path.insert(0, str(ROOT / "Tests" / "ForeignClient"))
        node = load(ROOT / "Tests" / "ForeignClient" / "skerry_node.py")

        def shown(value):
            if isinstance(value, bytes):
                return f"h'{value.hex()}'"
            return [shown(item) for item in value] if isinstance(value, list) else value

        for vector in vectors("sync.json")["accept"]:
            payload = bytes.fromhex(vector["payload"])
            message = node.decode_message(payload)
            self.assertEqual(shown(message), vector["message"], vector["name"])
            self.assertEqual(node.encode_message(message), payload, vector["name"])
        for vector in vectors("sync.json")["digests"]:
            self.assertEqual(node.digest(vector["pairs"]).hex(), vector["digest"])

    def test_the_foreign_codec_cuts_frames(self):
        client = load(ROOT / "Tests" / "ForeignClient" / "skerry_client.py")
        for vector in vectors("frames.json")["accept"]:
            data = bytes.fromhex(vector["frame"])
            frames, rest = client.cut(data + b"\x00")
            self.assertEqual(rest, b"\x00")
            (found,) = frames
            self.assertEqual((found.type, found.flags, found.stream), (vector["type"], vector["flags"], vector["stream"]))
            self.assertEqual(client.frame(found.type, found.stream, found.payload, found.flags), data)
        for vector in vectors("frames.json")["refuseFrames"]:
            with self.assertRaises(client.Malformed):
                client.cut(bytes.fromhex(vector["frame"]))


if __name__ == "__main__":
    unittest.main()
