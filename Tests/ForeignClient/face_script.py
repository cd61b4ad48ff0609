"""What the foreign client does against a face over a Unix socket; each step prints a line, the last one says `done`.

    python3 face_script.py SOCKET

The server has 50 pods p00 to p49 and writes when it sees the ConfigMap `go` (see APIFaceTests).
"""

import sys

import skerry_client
from skerry_client import CallFailed, Client


def expect(condition, what):
    if not condition:
        sys.exit(f"failed: {what}")
    print(what)


client = Client.connect_unix(sys.argv[1])
expect(client.welcome["v"] == 1 and client.welcome["ping"] == 15_000, "the handshake is done")

page, result = client.list_page("pods", namespace="default", limit=20)
expect(len(page) == 20 and result["continue"], "a page has 20 pods and a continuation")
revision, pods = client.list("pods", namespace="default", limit=20)
expect([pod["metadata"]["name"] for pod in pods] == [f"p{n:02}" for n in range(50)], "the pages have all 50 pods")
expect(revision == 50 and pods[7]["metadata"]["resourceVersion"] == "8", "the listing has its revision")
expect(pods[7]["status"] == {"phase": "Running"}, "the status is in its place")

try:
    client.get("pods", "none", "default")
    expect(False, "a pod that is not there is NotFound")
except CallFailed as error:
    expect(error.reason == "NotFound" and error.details["name"] == "none", "a pod that is not there is NotFound")

big = "x" * 300_000
made = client.create("configmaps", {"metadata": {"name": "big"}, "data": {"k": big}}, "default")
expect(made["data"]["k"] == big, "an object of many frames goes there and back")
try:
    client.create("configmaps", {"metadata": {"name": "big"}}, "default")
    expect(False, "a second one is AlreadyExists")
except CallFailed as error:
    expect(error.reason == "AlreadyExists", "a second one is AlreadyExists")

# Credit is withheld while the server writes more than every buffer holds, and given afterwards.
watch = client.watch("pods", after=revision, grant=False)
expect(watch.next() == ("BOOKMARK", None), "the watch stands")
client.create("configmaps", {"metadata": {"name": "go"}}, "default")
expect(client.get("pods", "p00", "default")["spec"]["n"] == 2_999, "other calls go on while a watch has no credit")
with client.changed:
    held = len(watch.stream.messages)
expect(held < 200, "what was sent without credit is bounded")
client_side = 0
numbers = []
while len(numbers) < 3_000:
    kind, pod = watch.next()
    client_side += 1
    if client_side % 20 == 1:
        watch.stream.give(40_000)
    numbers.append(pod["spec"]["n"])
expect(numbers == list(range(3_000)), "every event came once and in order")
position = watch.position
watch.cancel()

resumed = client.watch("pods", after=position - 5)
expect(resumed.next()[0] == "BOOKMARK", "the watch stands again")
expect([resumed.next()[1]["spec"]["n"] for _ in range(5)] == list(range(2_995, 3_000)), "it resumes by position")
resumed.cancel()

stream = client.connect_call("pods", "p00", "echo", "default", stream=True)
for part in (b"one", b"two", b"x" * 100_000):
    stream.send(part)
    expect(stream.receive() == part, f"{len(part)} bytes come back")
stream.finish()
expect(stream.receive() is None and stream.answer() == 3, "a duplex call ends with its result")

for method, params, reason in (
    ("list", {"resource": "pods", "selector": "a"}, "BadRequest"),
    ("proxy", {}, "UnknownMethod"),
):
    try:
        client.call(method, **params)
        expect(False, f"{method} is {reason}")
    except CallFailed as error:
        expect(error.reason == reason, f"{method} is {reason}")

client.ping()
with client.changed:
    client.wait(lambda: client.pongs, 10)
expect(client.pongs == [0], "a ping is answered")
client.close()

for frames, reason in (
    (skerry_client.frame(99, 1), "protocolViolation"),
    (skerry_client.frame(skerry_client.DATA, 7, b"x"), "protocolViolation"),
    (b"\xff\xff\x11\x00\x00\x00\x00\x01", "protocolViolation"),
):
    broken = Client.connect_unix(sys.argv[1])
    broken.write(frames)
    with broken.changed:
        broken.wait(lambda: broken.going_away, 10)
    expect(broken.going_away["reason"] == reason, f"a broken rule is {reason}: {broken.going_away['message']}")
    broken.close()

try:
    Client.connect_unix(sys.argv[1], versions=(9,))
    expect(False, "version 9 is refused")
except CallFailed as error:
    expect(error.reason == "unsupportedVersion" and "1" in error.message, "version 9 is refused")
print("done")
