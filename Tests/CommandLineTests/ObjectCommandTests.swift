import API
import ArgumentParser
import Base
import EventLoop
import ObjectModel
import Testing

@testable import CommandLine

@Suite(.timeLimit(.minutes(1))) struct ApplyTests {
  @Test func createThenNothingThenChange() async throws {
    try await CLI.with { cli in
      let file = try cli.write("web.yaml", web)
      #expect(try await cli.run("apply", "-f", file) == "deployment.apps/web created\n")
      #expect(try await cli.run("apply", "-f", file) == "deployment.apps/web unchanged\n")
      let changed = web.replacing("replicas: 3", with: "replicas: 4").replacing(", tier: front", with: "")
      try await cli.run("label", "deployment", "web", "mine=yes")
      #expect(try await cli.run("apply", "-f", "-", input: changed) == "deployment.apps/web configured\n")
      let live = try await cli.run("get", "deployment", "web", "-o", "json")
      let object = try Object(JSON.parse(live))
      #expect(object.spec["replicas"] == 4)
      #expect(object.labels == ["app": "web", "mine": "yes"], "taken from the manifest goes, set by others stays")
    }
  }

  @Test func aSecretIsNotInItsAnnotation() async throws {
    try await CLI.with { cli in
      let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: canary, b: x}\n"
      #expect(try await cli.run("apply", "-f", "-", input: secret) == "secret/s created\n")
      #expect(try await cli.run("apply", "-f", "-", input: secret) == "secret/s unchanged\n")
      let less = secret.replacing(", b: x", with: "")
      #expect(try await cli.run("apply", "-f", "-", input: less) == "secret/s configured\n")
      let object = try Object(JSON.parse(try await cli.run("get", "secret", "s", "-o", "json")))
      #expect(object.value["data"].object?.keys == ["a"])
      let remembered = try #require(object.annotations[Applier.annotation])
      #expect(!remembered.contains("canary") && !remembered.contains(Base64.encode(Bytes("canary".utf8))))
    }
  }

  @Test func directoriesListsAndNamespaces() async throws {
    try await CLI.with { cli in
      _ = try cli.write("b.json", #"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"j"},"data":{"a":"1"}}"#)
      _ = try cli.write(
        "a.yaml",
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: n}}\n"
          + "- {apiVersion: v1, kind: ConfigMap, metadata: {name: y, namespace: n}}\n")
      _ = try cli.write("ignored.txt", "{{{")
      try FileManagerBridge.remove("\(cli.directory)/config.yaml", keepingCopy: "\(cli.directory)/.config.yaml")
      let full = ["--config", "\(cli.directory)/.config.yaml", "apply", "-f", cli.directory]
      let printed = try await cli.run(full)
      #expect(printed == "namespace/n created\nconfigmap/y created\nconfigmap/j created\n")
    }
  }

  static let mistakes: [(String, String)] = [
    (
      "apiVersion: v1\nkind: Deployment\nmetadata: {name: a}\n",
      ":2: kind: no kind \"Deployment\" in version \"v1\"; write apiVersion: apps/v1"
    ),
    ("apiVersion: v1\nkind: Nonsense\nmetadata: {name: a}\n", ":2: kind: no kind \"Nonsense\""),
    (web.replacing("replicas: 3", with: "replicas: many"), ":7: spec.replicas: found a string, expected an integer"),
    (
      web.replacing("name: c\n", with: "name: 7\n"),
      ":13: spec.template.spec.containers[0].name: found an integer, expected a string"
    ),
    ("kind: Pod\n", "apiVersion: is missing"), ("apiVersion: v1\n", "kind: is missing"),
    ("apiVersion: v1\nkind: Pod\n", "metadata.name: is missing"), ("- 1\n", "an object is expected"),
    ("a: [\n", ":2:"), ("", "no object"),
  ]
  @Test(arguments: mistakes) func mistakesNameFileLineAndField(text: String, expected: String) async throws {
    try await CLI.with { cli in
      let file = try cli.write("bad.yaml", text)
      let message = await cli.failure("apply", "-f", file)
      #expect(message.contains(expected), "\(message)")
      #expect(message.contains("bad.yaml"))
    }
  }

  @Test func whatTheServerRefusesIsToldWithItsPlaceAndTheRestIsApplied() async throws {
    try await CLI.with { cli in
      let text = web.replacing("{app: web}}\n    spec", with: "{app: other}}\n    spec") + "---\n" + podManifest("p")
      let file = try cli.write("two.yaml", text)
      let message = await cli.failure("apply", "-f", file)
      #expect(message.contains("two.yaml:1: deployment.apps/web: Error from server (Invalid)"), "\(message)")
      #expect(cli.output == "pod/p created\n")
    }
  }

  @Test func threeWayPatches() {
    let live: Value = ["a": 1, "b": ["x": 1, "y": 2], "l": [1, 2], "extra": 5]
    #expect(Applier.patch(last: .null, wanted: ["a": 1, "b": ["x": 1]], live: live) == [:])
    #expect(Applier.patch(last: ["a": 1], wanted: [:], live: live) == ["a": .null])
    #expect(Applier.patch(last: ["b": ["y": 2]], wanted: ["b": [:]], live: live) == ["b": ["y": .null]])
    #expect(Applier.patch(last: ["gone": 1], wanted: [:], live: live) == [:])
    #expect(
      Applier.patch(last: .null, wanted: ["l": [1, 3], "n": ["m": 1]], live: live) == ["l": [1, 3], "n": ["m": 1]])
  }

  @Test func createIsForNewObjects() async throws {
    try await CLI.with { cli in
      let generated = podManifest("x").replacing("name: x,", with: "generateName: gen-,")
      let printed = try await cli.run("create", "-f", "-", input: generated)
      #expect(printed.hasPrefix("pod/gen-") && printed.hasSuffix(" created\n"))
      let file = try cli.write("p.yaml", podManifest("x"))
      try await cli.run("create", "-f", file)
      #expect(await cli.failure("create", "-f", file).contains("Error from server (AlreadyExists)"))
    }
  }
}

@Suite(.timeLimit(.minutes(1))) struct GetTests {
  @Test func tables() async throws {
    try await CLI.with { cli in
      try await cli.run("apply", "-f", "-", input: podManifest("a") + podManifest("bcd", app: "db"))
      let lines = try await cli.run("get", "pods").split(separator: "\n").map(String.init)
      #expect(lines.count == 3)
      #expect(lines[0].split(separator: " ") == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"])
      #expect(lines[1].hasPrefix("a      0/1     Pending   0          "), "\(lines[1])")
      #expect(try await cli.run("get", "po", "-l", "app=db", "--no-headers").hasPrefix("bcd "))
      #expect(try await cli.run("get", "pods", "-o", "name") == "pod/a\npod/bcd\n")
      #expect(try await cli.run("get", "pod/a", "pod/bcd", "-o", "name") == "pod/a\npod/bcd\n")
      #expect(try await cli.run("get", "pods", "--field-selector", "metadata.name=a", "-o", "name") == "pod/a\n")
      let wide = try await cli.run("get", "pods", "-o", "wide", "--show-labels")
      #expect(wide.contains("NODE") && wide.contains("LABELS") && wide.contains("app=db"))
      let everywhere = try await cli.run("get", "pods", "-A")
      #expect(everywhere.hasPrefix("NAMESPACE   NAME"))
      try await cli.run("apply", "-f", "-", input: web)
      let both = try await cli.run("get", "pods,deployments")
      #expect(both.contains("\npod/bcd") && both.contains("\n\nNAME") && both.contains("deployment.apps/web"))
    }
  }

  @Test func machineFormats() async throws {
    try await CLI.with { cli in
      try await cli.run("apply", "-f", "-", input: podManifest("a"))
      let one = try JSON.parse(try await cli.run("get", "pod", "a", "-o", "json"))
      #expect(one["kind"] == "Pod" && one["metadata"]["resourceVersion"].string != nil)
      let yaml = try await cli.run("get", "pod", "a", "-o", "yaml")
      #expect(try YAMLReader.documents(yaml).first?.value == one)
      let list = try JSON.parse(try await cli.run("get", "pods", "-o", "json"))
      #expect(list["kind"] == "List" && list["items"].array?.count == 1)
    }
  }

  @Test func whatIsNotThere() async throws {
    try await CLI.with { cli in
      #expect(await cli.failure("get", "pod", "x").contains("Error from server (NotFound): pods \"x\" not found"))
      #expect(await cli.failure("get", "nonsense").contains("the server has no resource type \"nonsense\"; it has "))
      #expect(await cli.failure("get", "pods", "-o", "xml").contains("there is wide, json, yaml and name"))
      #expect(await cli.failure("get", "pod/x", "y").contains("\"y\" is not TYPE/NAME"))
      #expect(await cli.failure("get", "pods", "-l", "a=(").contains("BadRequest"))
      #expect(try await cli.run("get", "pods") == "")
      #expect(cli.errors == "No resources found in default namespace.\n")
      try await cli.run("get", "pods", "-n", "other")
      #expect(cli.errors == "No resources found in other namespace.\n")
      #expect(try await cli.run("get", "pod", "x", "--ignore-not-found") == "")
    }
  }

  @Test func aWatchGoesOnPastCompaction() async throws {
    try await CLI.with { cli in
      try await cli.run("apply", "-f", "-", input: podManifest("a"))
      let console = TestConsole()
      let watcher = ObjectWatcher(
        kind: .pod, name: nil, listing: try ListingOptions.parse([]), format: .name, withEvents: false,
        environment: Environment(
          console: console, scheduler: Loop.startShared(), random: SystemRandom(),
          globals: try GlobalOptions.parse(["--config", "\(cli.directory)/config.yaml"]), variables: [:],
          connector: { _ in cli.api }))
      let task = spawnThrowing { try await watcher.run(initial: true) }
      try await cli.until { console.output == "pod/a\n" }
      try await cli.run("apply", "-f", "-", input: podManifest("b"))
      try await cli.until { console.output == "pod/a\npod/b\n" }
      try await cli.run("delete", "pod", "a", "--force")
      try await cli.until { console.output.hasPrefix("pod/a\npod/b\npod/a\n") }
      task.cancel()
    }
  }

  @Test func watchSaysWhatHappened() async throws {
    try await CLI.with { cli in
      let console = TestConsole()
      cli.console = console
      let task = spawnThrowing { try await cli.run("watch", "configmaps") }
      let second = try await CLI()
      _ = second
      let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: w}\ndata: {a: '1'}\n"
      _ = try await cli.api.create(
        resource: "configmaps", namespace: "default", object: try YAMLReader.documents(manifest)[0].value,
        caller: cli.api.admin)
      try await cli.until { console.output.contains("ADDED") && console.output.contains("w ") }
      let reference = ObjectReference(resource: "configmaps", namespace: "default", name: "w")
      _ = try await cli.api.delete(reference, options: DeleteOptions(), caller: cli.api.admin)
      try await cli.until { console.output.contains("DELETED") }
      task.cancel()
    }
  }

  @Test func describeTellsEventsAndHidesSecrets() async throws {
    try await CLI.with { cli in
      try await cli.run(
        "apply", "-f", "-",
        input: podManifest("a") + "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: canary}\n")
      let pod = try Object(JSON.parse(try await cli.run("get", "pod", "a", "-o", "json")))
      let event: Value = [
        "metadata": ["name": "a.1"], "type": "Warning", "reason": "BackOff", "message": "went wrong", "count": 3,
        "involvedObject": ["kind": "Pod", "name": "a", "namespace": "default", "uid": .string(pod.uid)],
        "lastTimestamp": .string(pod.creationTimestamp), "source": ["component": "edgecore"],
      ]
      _ = try await cli.api.create(
        resource: "events", namespace: "default", object: event, caller: cli.api.admin)
      let text = try await cli.run("describe", "pod", "a")
      #expect(text.contains("Name:             a\n") && text.contains("Labels:           app=web\n"))
      #expect(text.contains("BackOff") && text.contains("(x3 over ") && text.contains("went wrong"))
      let secret = try await cli.run("describe", "secret/s")
      #expect(secret.contains("k: 6 bytes") && !secret.contains(Base64.encode(Bytes("canary".utf8))))
    }
  }
}

@Suite(.timeLimit(.minutes(1))) struct ChangeTests {
  @Test func delete() async throws {
    try await CLI.with { cli in
      let file = try cli.write("all.yaml", podManifest("a") + podManifest("b") + web)
      try await cli.run("apply", "-f", file)
      #expect(try await cli.run("delete", "pod", "a", "--force") == "pod \"a\" deleted\n")
      #expect(await cli.failure("delete", "pods").contains("say -l SELECTOR or --all"))
      #expect(await cli.failure("delete", "pod", "a").contains("NotFound"))
      #expect(try await cli.run("delete", "pod", "a", "--ignore-not-found") == "")
      #expect(await cli.failure("delete", "pod", "b", "--cascade", "x").contains("--cascade is"))
      let printed = try await cli.run("delete", "-f", file, "--force")
      #expect(printed == "deployment.apps \"web\" deleted\npod \"b\" deleted\n")
      try await cli.run("apply", "-f", file)
      #expect(
        try await cli.run("delete", "pods", "-l", "app=web", "--grace-period", "0").split(separator: "\n").count == 2)
    }
  }

  @Test func labelsAndAnnotations() async throws {
    try await CLI.with { cli in
      try await cli.run("apply", "-f", "-", input: podManifest("a"))
      #expect(try await cli.run("label", "pod", "a", "x=1", "app-") == "pod/a labeled\n")
      #expect(try await cli.run("label", "pod/a", "x=1") == "pod/a not labeled\n")
      #expect(await cli.failure("label", "pod", "a", "x=2").contains("add --overwrite"))
      #expect(try await cli.run("label", "pods", "-l", "x=1", "x=2", "--overwrite") == "pod/a labeled\n")
      #expect(try await cli.run("annotate", "pod", "a", "note=a=b") == "pod/a annotated\n")
      let object = try Object(JSON.parse(try await cli.run("get", "pod", "a", "-o", "json")))
      #expect(object.labels == ["x": "2"] && object.annotations["note"] == "a=b")
      #expect(await cli.failure("label", "pod", "a").contains("say what to set"))
    }
  }

  @Test func patchAndScale() async throws {
    try await CLI.with { cli in
      try await cli.run("apply", "-f", "-", input: web)
      #expect(try await cli.run("scale", "deployment/web", "--replicas", "5") == "deployment.apps/web scaled\n")
      #expect(
        await cli.failure("scale", "deployment/web", "--replicas", "6", "--current-replicas", "3").contains("has 5"))
      #expect(await cli.failure("scale", "ns/default", "--replicas", "6").contains("has no replicas"))
      #expect(
        try await cli.run("patch", "deploy", "web", "-p", "spec: {replicas: 2}") == "deployment.apps/web patched\n")
      #expect(try await cli.run("patch", "deploy", "web", "-p", "spec: {replicas: 2}").contains("no change"))
      let operations = #"[{"op":"replace","path":"/spec/replicas","value":1}]"#
      let after = try await cli.run("patch", "deploy", "web", "--type", "json", "-p", operations, "-o", "json")
      #expect(try JSON.parse(after)["spec"]["replicas"] == 1)
      #expect(await cli.failure("patch", "deploy", "web", "--type", "strategic", "-p", "{}").contains("merge or json"))
    }
  }
}

extension String {
  func replacing(_ old: String, with new: String) -> String {
    guard let range = range(of: old) else { return self }
    return replacingCharacters(in: range, with: new)
  }
  private func range(of text: String) -> Range<String.Index>? { firstRange(of: text) }
  private func replacingCharacters(in range: Range<String.Index>, with text: String) -> String {
    String(self[..<range.lowerBound]) + text + String(self[range.upperBound...])
  }
}
