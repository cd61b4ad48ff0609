import API
import ArgumentParser
import Base
import EventLoop
import Foundation
import ObjectModel
import Testing

@testable import CommandLine

enum FileManagerBridge {
  static func remove(_ path: String, keepingCopy copy: String) throws {
    try FileManager.default.moveItem(atPath: path, toPath: copy)
  }
}

@Suite(.timeLimit(.minutes(1))) struct RolloutTests {
  func deployment(_ status: Value, generation: Int64 = 2) -> Object {
    Object(["metadata": ["name": "web", "generation": .int(generation)], "spec": ["replicas": 3], "status": status])
  }

  @Test func progressInKubectlsWords() throws {
    let cases: [(Value, String, Bool)] = [
      (["observedGeneration": 1], "Waiting for deployment spec update to be observed...", false),
      (["observedGeneration": 2, "updatedReplicas": 1], "1 out of 3 new replicas have been updated...", false),
      (
        ["observedGeneration": 2, "updatedReplicas": 3, "replicas": 5], "2 old replicas are pending termination...",
        false
      ),
      (
        ["observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 1],
        "1 of 3 updated replicas are available...", false
      ),
      (
        ["observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3],
        "successfully rolled out", true
      ),
    ]
    for (status, words, isDone) in cases {
      let progress = try Rollout.progress(deployment(status))
      #expect(progress.message.hasSuffix(words) && progress.isDone == isDone)
    }
    let late: Value = [
      "observedGeneration": 2,
      "conditions": [["type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"]],
    ]
    #expect(throws: SkerryError.self) { try Rollout.progress(deployment(late)) }
  }

  @Test func pauseResumeRestartAndStatus() async throws {
    try await CLI.with { cli in
      try await cli.run("apply", "-f", "-", input: web)
      #expect(try await cli.run("rollout", "pause", "deployment/web") == "deployment.apps/web paused\n")
      #expect(await cli.failure("rollout", "pause", "web").contains("paused already"))
      #expect(try await cli.run("rollout", "resume", "web") == "deployment.apps/web resumed\n")
      #expect(try await cli.run("rollout", "restart", "deploy", "web") == "deployment.apps/web restarted\n")
      let object = try Object(JSON.parse(try await cli.run("get", "deploy", "web", "-o", "json")))
      #expect(object.spec["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].string != nil)
      #expect(object.spec["paused"].isNull || object.spec["paused"] == false)
      #expect(try await cli.run("rollout", "status", "web", "--no-watch").hasPrefix("Waiting for deployment"))
      #expect(await cli.failure("rollout", "status", "ns/default").contains("name a deployment"))
    }
  }

  @Test func undoGoesToTheRevisionBefore() async throws {
    try await CLI.with { cli in
      try await cli.run("apply", "-f", "-", input: web)
      let deployment = try Object(JSON.parse(try await cli.run("get", "deploy", "web", "-o", "json")))
      for (number, image) in [(1, "old"), (2, "busybox")] {
        var template = deployment.spec["template"]
        template["metadata"]["labels"]["pod-template-hash"] = .string("h\(number)")
        template["spec"]["containers"] = [["name": "c", "image": .string(image)]]
        let owner = OwnerReference(apiVersion: "apps/v1", kind: "Deployment", name: "web", uid: deployment.uid)
        _ = try await cli.api.create(
          resource: "replicasets.apps", namespace: "default",
          object: [
            "metadata": [
              "name": .string("web-\(number)"), "ownerReferences": [owner.value],
              "annotations": [Rollout.revisionAnnotation: .string(String(number))],
            ],
            "spec": [
              "selector": ["matchLabels": ["app": "web", "pod-template-hash": .string("h\(number)")]],
              "template": template,
            ],
          ], caller: cli.api.admin)
      }
      #expect(try await cli.run("rollout", "history", "web").contains("1          <none>\n2          <none>\n"))
      #expect(try await cli.run("rollout", "undo", "web") == "deployment.apps/web rolled back\n")
      let after = try Object(JSON.parse(try await cli.run("get", "deploy", "web", "-o", "json")))
      #expect(after.spec["template"]["spec"]["containers"][0]["image"] == "old")
      #expect(after.spec["template"]["metadata"]["labels"] == ["app": "web"])
      #expect(await cli.failure("rollout", "undo", "web", "--to-revision", "9").contains("there is 1, 2"))
    }
  }
}

@Suite(.timeLimit(.minutes(1))) struct StreamCommandTests {
  @Test func logs() async throws {
    try await CLI.with { cli in
      try await cli.run("apply", "-f", "-", input: podManifest("a", containers: ["c", "d"]))
      cli.api.onConnect = { (_, _, stream) in
        try await stream?.send(Bytes("line 1\n".utf8))
        try await stream?.send(Bytes("line 2\n".utf8))
        return [:]
      }
      #expect(try await cli.run("logs", "a", "-c", "d", "-f", "--tail", "5", "-p") == "line 1\nline 2\n")
      let call = try #require(cli.api.connects.first)
      #expect(call.reference == ObjectReference(resource: "pods", namespace: "default", name: "a"))
      #expect(call.options == ["container": "d", "follow": true, "previous": true, "tailLines": 5])
      try await cli.run("logs", "pod/a")
      #expect(cli.errors == "Defaulted container \"c\" out of: c, d\n")
      #expect(await cli.failure("logs", "a", "-c", "x").contains("it has c, d"))
      #expect(await cli.failure("logs", "ns/default").contains("has no pods"))
    }
  }

  @Test func logsOfAWorkloadAreThoseOfAPod() async throws {
    try await CLI.with { cli in
      try await cli.run("apply", "-f", "-", input: web)
      #expect(await cli.failure("logs", "deployment/web").contains("has no pod now"))
      try await cli.run("apply", "-f", "-", input: podManifest("p"))
      try await cli.run("logs", "deployment/web")
      #expect(cli.api.connects.last?.reference.name == "p")
    }
  }

  @Test func execPassesInputOutputAndExitCode() async throws {
    try await CLI.with { cli in
      try await cli.run("apply", "-f", "-", input: podManifest("a"))
      let console = TestConsole()
      console.input = [Bytes("typed".utf8), Bytes("more".utf8)]
      cli.console = console
      var received: [ExecMessage] = []
      cli.api.onConnect = { (_, _, stream) in
        #expect(console.isRaw)
        while let message = try await stream?.receive() {
          guard let decoded = ExecMessage(message) else { continue }
          received.append(decoded)
          if decoded == .stdinEnd { break }
        }
        try await stream?.send(ExecMessage.stdout(Bytes("out".utf8)).message)
        try await stream?.send(ExecMessage.stderr(Bytes("err".utf8)).message)
        return ["exitCode": 7]
      }
      let error = await #expect(throws: ExitCode.self) {
        try await cli.run("exec", "-it", "a", "--", "sh", "-c", "ls --config x")
      }
      #expect(error?.rawValue == 7)
      #expect(received == [.stdin(Bytes("typed".utf8)), .stdin(Bytes("more".utf8)), .stdinEnd])
      #expect(console.output == "out" && console.errors == "err" && !console.isRaw)
      let options = try #require(cli.api.connects.first?.options)
      #expect(options["command"] == ["sh", "-c", "ls --config x"])
      #expect(options["tty"] == true && options["stdin"] == true && options["width"] == 80)
      #expect(await cli.failure("exec", "a").contains("behind --"))
    }
  }

  @Test func execMessagesComeBack() {
    let messages: [ExecMessage] = [
      .stdin([1, 2]), .stdout([]), .stderr([255]), .resize(width: 80, height: 24), .stdinEnd,
    ]
    for message in messages { #expect(ExecMessage(message.message) == message) }
    for bad: Bytes in [[], [3, 1], [4, 1], [255], [255, 1], [9]] { #expect(ExecMessage(bad) == nil) }
  }
}

@Suite(.timeLimit(.minutes(1))) struct DeviceAndNodeCommandTests {
  @Test func readingsInATableAndAsJSON() async throws {
    try await CLI.with { cli in
      var pages: [Value] = [
        [
          "items": [
            [
              "number": 4, "property": "t", "type": "float", "value": 21.5, "quality": "Good",
              "time": 1_700_000_000_123,
            ],
            [
              "number": 5, "property": "t", "type": "float", "value": .null, "quality": "Bad: timeout",
              "time": 1_700_000_001_000,
            ],
          ], "next": 5,
        ]
      ]
      cli.api.onConnect = { (_, _, _) in
        guard !pages.isEmpty else { throw APIError(.serviceUnavailable, "enough") }
        return pages.removeFirst()
      }
      let text = try await cli.run("readings", "thermometer", "--property", "t")
      #expect(text.contains("4        2023-11-14T22:13:20.123"))
      #expect(text.contains("21.5") && text.contains("Bad: timeout"))
      #expect(cli.api.connects.last?.options == ["limit": 20, "property": "t"])
      pages = [
        ["items": [["number": 6]], "next": 6], ["items": .array([]), "next": 6], ["items": [["number": 7]], "next": 7],
      ]
      #expect(await cli.failure("readings", "thermometer", "-f", "-o", "json").contains("enough"))
      #expect(cli.output == "{\"number\":6}\n{\"number\":7}\n")
      #expect(cli.api.connects.last?.options == ["limit": 1000, "after": 7])
      pages = [["items": .array([])]]
      #expect(await cli.failure("readings", "nothing").contains("\"nothing\" not found"))
    }
  }

  @Test func deviceCommands() async throws {
    try await CLI.with { cli in
      cli.api.onConnect = { (_, options, _) in ["value": options["verb"] == "get" ? 3 : .null] }
      let read = try await cli.run("device", "get", "pump", "speed")
      #expect(read == "3\n")
      #expect(try await cli.run("device", "set", "pump", "speed", "7", "--timeout", "3") == "pump speed = 7\n")
      #expect(
        cli.api.connects.last?.options == ["verb": "set", "property": "speed", "value": "7", "timeoutSeconds": 3])
    }
  }

  @Test func cordonAndDrain() async throws {
    try await CLI.with { cli in
      _ = try await cli.api.create(
        resource: "nodes", namespace: "", object: ["metadata": ["name": "n1"]], caller: cli.api.admin)
      #expect(try await cli.run("cordon", "n1") == "node/n1 cordoned\n")
      #expect(try await cli.run("cordon", "n1") == "node/n1 already cordoned\n")
      #expect(try await cli.run("uncordon", "n1") == "node/n1 uncordoned\n")
      let bound = podManifest("p").replacing("spec:\n", with: "spec:\n  nodeName: n1\n")
      try await cli.run("apply", "-f", "-", input: bound + podManifest("elsewhere"))
      #expect(await cli.failure("drain", "n1").contains("default/p; add --force"))
      let printed = try await cli.run("drain", "n1", "--force", "--grace-period", "0")
      #expect(printed.contains("evicting pod default/p\n") && printed.hasSuffix("node/n1 drained\n"))
      #expect(try await cli.run("get", "pods", "-o", "name") == "pod/elsewhere\n")
    }
  }

  @Test func tokensAndNodes() async throws {
    try await CLI.with { cli in
      cli.api.onConnect = { (subresource, _, _) in
        switch subresource {
        case "create": ["token": "a.b.c", "id": "a"]
        case "list": ["items": [["id": "a", "expires": 1_700_000_000, "usesLeft": 1]]]
        default: [:]
        }
      }
      let token = try await cli.run("token", "create", "--ttl", "30m", "--node", "n9")
      #expect(token == "a.b.c\n")
      #expect(cli.errors.contains("skerry edge join memory:1 --node n9 --token a.b.c"))
      #expect(cli.api.connects.last?.options == ["lifetimeSeconds": 1800, "uses": 1, "node": "n9"])
      #expect(try await cli.run("token", "list").contains("a    2023-11-14T22:13:20Z   1           <any>"))
      #expect(try await cli.run("token", "delete", "a") == "token a deleted\n")
      #expect(try await cli.run("node", "revoke", "n1") == "node/n1 revoked\n")
      #expect(try await cli.run("node", "approve", "n1") == "node/n1 approved\n")
      #expect(cli.api.connects.last?.reference == ObjectReference(resource: "nodes", name: "n1"))
    }
  }
}
