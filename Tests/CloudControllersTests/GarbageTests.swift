import API
import Base
import CloudControllers
import ObjectModel
import Testing
import Wire

private func meta(
  _ name: String, owners: [(uid: String, blocks: Bool)] = [], finalizers: [String] = [], deleting: Bool = false
) -> MetaState {
  var object = Object(["metadata": ["name": .string(name), "uid": .string(name)]])
  let references = owners.map {
    OwnerReference(
      apiVersion: "v1", kind: "ConfigMap", name: $0.uid, uid: $0.uid, isController: false, blockOwnerDeletion: $0.blocks
    ).value
  }
  object.metadata["ownerReferences"] = .array(references)
  object.metadata["finalizers"] = .array(finalizers.map(Value.string))
  if deleting { object.metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z" }
  return MetaState(object, key: ObjectKey(namespace: "default", name: name), revision: 1)
}

private func dependent(_ meta: MetaState) -> GarbageDecision.Dependent { .init(resource: "configmaps", meta: meta) }

@Suite struct MetaStateTests {
  private func stored(_ revision: UInt64, finalizers: [Value] = [], data: String) -> APIObject {
    APIObject(
      reference: ObjectReference(resource: "configmaps", namespace: "default", name: "x"), revision: revision,
      body: CBOR.encode(["metadata": ["name": "x", "finalizers": .array(finalizers)], "data": ["a": .string(data)]]),
      status: nil)
  }

  @Test func onlyMetadataIsReadAgain() throws {
    var state = try MetaState(stored: stored(1, data: "a"))
    #expect(try state.passes(stored(2, data: "b")) && state.revision == 2)
    #expect(try !state.passes(stored(3, finalizers: ["a/b"], data: "b")) && state.revision == 2)
    #expect(
      try MetaState.read(stored(3, finalizers: ["a/b"], data: "b"), after: state, beside: nil).finalizers == ["a/b"])
  }
}

@Suite struct GarbageDecisionTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let object: MetaState
    var owners: [String: GarbageDecision.Owner] = [:]
    var dependents: [GarbageDecision.Dependent] = []
    let decision: GarbageDecision
  }

  static let child = dependent(meta("child", owners: [("a", true)]))
  static let loose = dependent(meta("loose", owners: [("a", false)]))
  static let going = dependent(meta("going", owners: [("a", true)], deleting: true))

  static let cases: [Case] = [
    Case(testDescription: "nobody's", object: meta("x"), decision: .nothing),
    Case(
      testDescription: "its owner is there", object: meta("x", owners: [("a", true)]), owners: ["a": .present],
      decision: .nothing),
    Case(
      testDescription: "its owner is gone", object: meta("x", owners: [("a", true)]), owners: ["a": .absent],
      decision: .delete(.background)),
    Case(
      testDescription: "one of two owners is gone", object: meta("x", owners: [("a", true), ("b", true)]),
      owners: ["a": .absent, "b": .present], decision: .strip(uids: ["a"])),
    Case(
      testDescription: "one of two owners waits", object: meta("x", owners: [("a", true), ("b", true)]),
      owners: ["a": .waiting, "b": .present], decision: .strip(uids: ["a"])),
    Case(
      testDescription: "its owner waits", object: meta("x", owners: [("a", true)]), owners: ["a": .waiting],
      decision: .delete(.background)),
    Case(
      testDescription: "its owner waits and it has dependents itself", object: meta("x", owners: [("a", true)]),
      owners: ["a": .waiting], dependents: [child], decision: .delete(.foreground)),
    Case(
      testDescription: "already going", object: meta("x", owners: [("a", true)], deleting: true),
      owners: ["a": .absent], decision: .nothing),
    Case(
      testDescription: "foreground with dependents",
      object: meta("a", finalizers: ["foregroundDeletion"], deleting: true), dependents: [child, loose, going],
      decision: .deleteDependents([child])),
    Case(
      testDescription: "foreground with dependents that block nothing",
      object: meta("a", finalizers: ["foregroundDeletion"], deleting: true), dependents: [loose],
      decision: .removeFinalizer("foregroundDeletion")),
    Case(
      testDescription: "foreground still waits for one that goes",
      object: meta("a", finalizers: ["foregroundDeletion"], deleting: true), dependents: [going],
      decision: .deleteDependents([])),
    Case(
      testDescription: "orphan lets go", object: meta("a", finalizers: ["orphan"], deleting: true),
      dependents: [child], decision: .orphanDependents([child])),
    Case(
      testDescription: "orphan is done", object: meta("a", finalizers: ["orphan"], deleting: true),
      decision: .removeFinalizer("orphan")),
  ]

  @Test(arguments: cases) func decision(_ test: Case) {
    let decision = GarbageDecision(
      test.object, owner: { test.owners[$0.uid] ?? .present }, dependents: test.dependents)
    #expect(decision == test.decision)
  }
}

@Suite struct PodGarbageTests {
  @Test func podsOfMissingNodesGoAfterTheirQuarantine() {
    let pods = [podState("a", node: "gone"), podState("b", node: "missing"), podState("c", node: "there")]
    let missing: [String: Duration] = ["gone": .seconds(40), "missing": .seconds(39)]
    #expect(PodGarbageDecision(pods: pods, missing: missing).delete.map(\.uid) == ["a"])
  }

  @Test func unboundPodsThatAreGoingGo() {
    let pods = [podState("a", node: "") { $0.isBeingDeleted = true }, podState("b") { $0.isBeingDeleted = true }]
    #expect(PodGarbageDecision(pods: pods, missing: [:]).delete.map(\.uid) == ["a"])
  }

  @Test func theOldestEndedPodsGoBeyondTheLimit() {
    var settings = PodGarbageDecision.Settings()
    settings.maxTerminated = 2
    let pods = [
      podState("young", phase: .failed, age: 1), podState("old", phase: .succeeded, age: 900), podState("running"),
      podState("middle", phase: .failed, age: 50),
    ]
    #expect(PodGarbageDecision(pods: pods, missing: [:], settings: settings).delete.map(\.uid) == ["old"])
    settings.maxTerminated = 0
    settings.maxDeletions = 2
    #expect(PodGarbageDecision(pods: pods, missing: [:], settings: settings).delete.map(\.uid) == ["old", "middle"])
  }
}
