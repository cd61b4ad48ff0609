"""Joining as proto-spec says it, by a stranger with openssl and a socket: tokens, the pin, and whose names a
certificate holds."""

import subprocess

from cloud import PATIENCE, CallFailed, Client, CloudTest


class Joining(CloudTest):
    def join(self, node, token):
        """Makes a key, and a certificate by joining with `ID.SECRET`; answers what `Client.connect` takes."""
        directory = self.cloud.directory
        key, request = directory / f"{node}.key", directory / f"{node}.csr"
        subprocess.run(
            ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
             "-subj", "/CN=system:node:somebody-else/O=skerry:admin", "-out", request],
            check=True, capture_output=True, timeout=PATIENCE)
        stranger = Client.connect("127.0.0.1", self.cloud.port, ca=self.cloud.directory / "pki" / "ca.crt", alpn="skerry-join/1")
        try:
            answer = stranger.call("join", token=token, node=node, csr=request.read_text())
        finally:
            stranger.close()
        self.assertEqual(answer["state"], "issued")
        certificate = directory / f"{node}.crt"
        certificate.write_text(answer["certificate"])
        return {"cert": certificate, "key": key}

    def token(self, node):
        """What goes over the wire of the token that the command line prints, `ID.SECRET.PIN`."""
        credential, pin = self.cloud.skerry("token", "create", "--node", node).strip().rsplit(".", 1)
        ca = self.cloud.directory / "pki" / "ca.crt"
        key = subprocess.run(
            f"openssl x509 -in {ca} -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum",
            shell=True, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout.split()[0]
        self.assertEqual(pin, key, "the pin is the SHA-256 of the CA's SubjectPublicKeyInfo")
        return credential

    def connect(self, credentials, **options):
        return Client.connect(
            "127.0.0.1", self.cloud.port, ca=self.cloud.directory / "pki" / "ca.crt", **credentials, **options)

    def test_a_token_is_used_up_and_only_good_for_its_node(self):
        token = self.token("n1")
        with self.assertRaises(CallFailed) as caught:
            self.join("n2", token)
        self.assertEqual(caught.exception.reason, "Forbidden")
        self.join("n1", token)
        with self.assertRaises(CallFailed) as caught:
            self.join("n1", token)
        self.assertEqual(caught.exception.reason, "Forbidden")
        with self.assertRaises(CallFailed):
            self.join("n3", "abcdef.0123456789abcdef")

    def test_the_names_come_from_the_token_and_not_from_the_request(self):
        credentials = self.join("n1", self.token("n1"))
        subject = subprocess.run(
            ["openssl", "x509", "-in", credentials["cert"], "-noout", "-subject", "-nameopt", "multiline"], check=True,
            capture_output=True, text=True, timeout=PATIENCE).stdout
        self.assertIn("= system:node:n1\n", subject)
        self.assertIn("= system:nodes\n", subject)
        self.assertNotIn("admin", subject)
        node = self.connect(credentials, hello={"role": "node"})
        self.addCleanup(node.close)
        with self.assertRaises(CallFailed) as caught:
            node.list("secrets")
        self.assertEqual(caught.exception.reason, "Forbidden")
        self.assertIn("system:node:n1", caught.exception.message)


if __name__ == "__main__":
    import unittest

    unittest.main()
