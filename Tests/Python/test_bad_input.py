"""Bad input from the wire, from files and from disks: each is refused in words that name the place and the remedy, and
what can go on goes on."""

import pathlib
import socket
import sqlite3
import ssl
import struct
import subprocess
import tempfile
import unittest

from machines import HAVE_PROGRAMS, WHY_NOT, Machines, until
from skerry_client import GOAWAY, HELLO, CallFailed, Client, cut, decode, encode, frame

HELLO_MESSAGE = {"v": [1], "f": [], "agent": "test", "time": 0, "hello": None}


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=30)


@unittest.skipUnless(HAVE_PROGRAMS, WHY_NOT)
class OnTheWire(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.machines = Machines()
        cls.addClassCleanup(cls.machines.end)
        cls.cloud = cls.machines.cloud()
        cls.admin = cls.cloud.client()

    def tearDown(self):
        # Whatever a stranger sent: the process is up, and another session did not notice.
        self.assertIsNone(self.cloud.process.poll())
        self.assertTrue(self.admin.list("namespaces")[1])

    def raw(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.cloud.pki / "ca.crt")
        context.check_hostname = False
        context.set_alpn_protocols(["skerry/1"])
        context.load_cert_chain(self.cloud.pki / "admin.crt", self.cloud.pki / "admin.key")
        plain = socket.create_connection(("127.0.0.1", self.cloud.port), 10)
        connection = context.wrap_socket(plain)
        self.addCleanup(connection.close)
        return connection

    def last_word(self, connection):
        """GOAWAY's payload, once the server has closed."""
        data = b""
        try:
            while chunk := connection.recv(65_536):
                data += chunk
        except OSError:
            pass
        frames, _ = cut(data)
        self.assertTrue(frames and frames[-1].type == GOAWAY, frames)
        return decode(frames[-1].payload)

    def test_a_frame_over_the_limit(self):
        connection = self.raw()
        connection.sendall(frame(HELLO, payload=encode(HELLO_MESSAGE)) + struct.pack(">HBBI", 16_377, 17, 0, 1))
        word = self.last_word(connection)
        self.assertEqual(word["reason"], "protocolViolation")
        self.assertIn("16", word["message"])

    def test_bad_cbor(self):
        for payload in (b"\xff", encode(HELLO_MESSAGE)[:-1], encode(HELLO_MESSAGE) + b"\x00", b"\x9f\xff", b""):
            connection = self.raw()
            connection.sendall(frame(HELLO, payload=payload))
            word = self.last_word(connection)
            self.assertEqual(word["reason"], "protocolViolation", payload)
            self.assertTrue(word["message"])

    def test_no_hello(self):
        connection = self.raw()
        connection.sendall(frame(16, 1, encode({"m": "list", "p": {"resource": "pods"}}), 2))
        self.assertEqual(self.last_word(connection)["reason"], "protocolViolation")

    def test_a_wrong_version(self):
        with self.assertRaises(CallFailed) as caught:
            self.cloud.client(versions=(99,))
        self.assertEqual(caught.exception.reason, "unsupportedVersion")
        self.assertIn("1", caught.exception.message)

    def test_an_http_client(self):
        context = ssl._create_unverified_context()
        context.set_alpn_protocols(["http/1.1"])
        with self.assertRaises(OSError):
            with socket.create_connection(("127.0.0.1", self.cloud.port), 10) as plain:
                with context.wrap_socket(plain) as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    self.assertEqual(connection.recv(100), b"")
                    raise ConnectionError("closed without a word, which is right too")

    def test_certificates_that_are_not_good(self):
        directory = self.machines.directory / "certificates"
        directory.mkdir()
        subject = "/O=skerry:admin/CN=mallory"
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                directory / "c.key", "-out", directory / "c.csr", "-subj", subject)
        # By a CA of mallory's own.
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                directory / "ca.key", "-out", directory / "ca.crt", "-subj", "/CN=skerry-ca", "-days", "2")
        openssl("x509", "-req", "-in", directory / "c.csr", "-CA", directory / "ca.crt", "-CAkey",
                directory / "ca.key", "-CAcreateserial", "-out", directory / "foreign.crt", "-days", "1")
        # By the cluster's CA, but of yesterday.
        (directory / "index.txt").touch()
        (directory / "ca.conf").write_text(
            f"[ca]\ndefault_ca = a\n[a]\ndatabase = {directory}/index.txt\nnew_certs_dir = {directory}\n"
            "rand_serial = yes\ndefault_md = sha256\npolicy = p\nunique_subject = no\n"
            "[p]\nO = optional\nCN = supplied\n[e]\nextendedKeyUsage = clientAuth\n")
        openssl("ca", "-batch", "-config", directory / "ca.conf", "-cert", self.cloud.pki / "ca.crt", "-keyfile",
                self.cloud.pki / "ca.key", "-in", directory / "c.csr", "-out", directory / "expired.crt", "-notext",
                "-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-extensions", "e")
        for name, word in (("foreign", "certificate"), ("expired", "expired")):
            before = self.cloud.log.stat().st_size
            with self.assertRaises((CallFailed, OSError), msg=name):
                self.cloud.client(directory / f"{name}.crt", directory / "c.key").list("namespaces")
            said = until("the refusal is logged", lambda: [
                line for line in self.cloud.log.read_bytes()[before:].decode().splitlines() if "W-CLOUD-001" in line])
            self.assertIn(word, said[0])
        with self.assertRaises((CallFailed, OSError), msg="none"):
            Client.connect("127.0.0.1", self.cloud.port, ca=self.cloud.pki / "ca.crt").list("namespaces")

    def apply(self, text):
        done = self.cloud.skerry("apply", "-f", "-", stdin=text, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stderr

    def test_manifests_that_are_wrong(self):
        said = self.apply("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  n: 5\n")
        for word in ("stdin:6", "data", "string"):
            self.assertIn(word, said)
        said = self.apply("apiVersion: v1\nkind: Gizmo\nmetadata:\n  name: a\n")
        for word in ("stdin:2", "Gizmo", "ConfigMap"):
            self.assertIn(word, said)
        said = self.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: [\n")
        self.assertIn("stdin:", said)
        said = self.apply("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: Not A Name\n")
        for word in ("stdin:1", "metadata.name"):
            self.assertIn(word, said)


@unittest.skipUnless(HAVE_PROGRAMS, WHY_NOT)
class OnDisk(unittest.TestCase):
    def setUp(self):
        self.machines = Machines()
        self.addCleanup(self.machines.end)
        self.cloud = self.machines.cloud(start=False)

    def refused(self, *words, status=78, **sets):
        code, said = self.cloud.fails(**sets)
        self.assertEqual(code, status, said)
        for word in words:
            self.assertIn(str(word), said)
        self.assertEqual(len(said.strip().splitlines()), 1, said)

    def filled(self):
        """Stopped, with something in its log."""
        self.cloud.start()
        client = self.cloud.client()
        for number in range(50):
            client.create("configmaps", {
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"},
                "data": {"text": f"{number} " * 500}}, "default")
        client.close()
        self.cloud.stop()

    def test_an_unknown_key(self):
        with open(self.cloud.config, "a") as file:
            file.write("listn: 127.0.0.1:1\n")
        lines = len(self.cloud.config.read_text().splitlines())
        self.refused(f"{self.cloud.config}, line {lines}:", "listn", "listen")

    def test_a_value_of_a_wrong_type(self):
        self.refused("ping-interval", "soon", ping_interval="soon")
        self.refused("retention-bytes", "many", retention_bytes="many")

    def test_a_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            code, said = self.cloud.fails(listen=f"127.0.0.1:{port}")
            self.assertNotEqual(code, 0)
            self.assertIn(str(port), said)
            self.assertIn("in use", said)

    def test_a_newer_schema(self):
        self.filled()
        with sqlite3.connect(self.cloud.database) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            database.execute(f"PRAGMA user_version = {version + 1}")
        database.close()
        self.refused(self.cloud.database, str(version + 1), "newer")

    def test_a_corrupt_database(self):
        self.filled()
        with open(self.cloud.database, "r+b") as file:
            file.seek(0, 2)
            for page in range(1, file.tell() // 4096):
                file.seek(page * 4096)
                file.write(b"\xa5" * 512)
        self.refused(self.cloud.database, "backup")

    def test_no_database_at_all(self):
        self.filled()
        self.cloud.database.write_bytes(b"this is a text of more than sixteen bytes\n" * 200)
        self.refused(self.cloud.database)

    def test_a_second_daemon(self):
        self.cloud.start()
        code, said = self.cloud.fails(listen="127.0.0.1:0")
        self.assertNotEqual(code, 0)
        for word in (self.cloud.database, "in use", self.cloud.process.pid):
            self.assertIn(str(word), said)

    def test_keys_that_others_may_read(self):
        path = self.cloud.pki / "sealing.keys"
        self.cloud.start()
        self.cloud.stop()
        path.chmod(0o644)
        self.refused(path, f"chmod 600 {path}")


@unittest.skipUnless(HAVE_PROGRAMS, WHY_NOT)
class OnTheEdge(unittest.TestCase):
    def test_a_configuration_that_cannot_work(self):
        with Machines() as machines:
            cloud = machines.cloud()
            edge = machines.edge("n1", cloud, start=False)
            for sets, words in (
                ({"runtme": "oci"}, ("runtme",)),
                ({"runtime": "docker"}, ("runtime", "docker", "oci", "process")),
                ({"cert": "/nonexistent.crt"}, ("/nonexistent.crt",)),
                ({"max-pods": "-1"}, ("max-pods",)),
            ):
                code, said = edge.fails(**sets)
                self.assertNotEqual(code, 0, sets)
                for word in words:
                    self.assertIn(word, said)

    def test_a_server_that_is_not_the_tokens(self):
        with Machines() as machines, tempfile.TemporaryDirectory() as directory:
            real, other = machines.cloud(), machines.cloud()
            edge = machines.edge("n1", other, start=False, join=False)
            edge.directory = pathlib.Path(directory)
            done = edge.join(real.token(), check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(other.address, done.stderr)
            self.assertFalse((edge.directory / "node.crt").exists())


if __name__ == "__main__":
    unittest.main()
