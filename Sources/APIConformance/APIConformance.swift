import API
import Base
import Conformance
import ObjectModel

/// Makes the API that a conformance case runs on: an empty cluster that has the namespace `default`.
@LoopActor package protocol APIHarness: AnyObject {
  /// The same cluster as this caller reaches it; a connection knows its caller, in process the call names it.
  func api(_ caller: Caller) async throws -> any API
  /// Lets the log forget history up to and including a revision.
  func compact(through revision: UInt64) throws
}

/// What every `API` must do, as library code: run against the server in process and against a client of it.
package struct APIConformance: Sendable, CustomStringConvertible {
  package let description: String
  /// Throws `ConformanceFailure`, or what the API threw.
  package let run: @Sendable @LoopActor (any APIHarness) async throws -> Void

  init(_ name: String, _ run: @escaping @Sendable @LoopActor (any APIHarness) async throws -> Void) {
    description = name
    self.run = run
  }

  package static let all = writing + reading + watching + access
  /// What an API must do that answers reads, whoever takes its writes.
  package static let readOnly = reading + watching
}

/// The call must be refused for this reason; answers the error.
@discardableResult
@LoopActor func refused<R>(
  _ reason: APIError.Reason, line: UInt = #line, file: StaticString = #fileID,
  _ body: @LoopActor () async throws(APIError) -> R
) async throws -> APIError {
  do throws(APIError) {
    _ = try await body()
  } catch {
    try check(error.reason == reason, "refused with \(error.reason): \(error), not \(reason)", line: line, file: file)
    return error
  }
  throw ConformanceFailure(description: "\(file):\(line): taken, though it must be refused with \(reason)")
}

/// One cluster and its administrator.
@LoopActor struct Admin {
  static let caller = Caller(user: "admin", groups: [Caller.adminGroup], node: nil, origin: .network)
  let api: any API

  init(_ harness: any APIHarness) async throws { api = try await harness.api(Self.caller) }

  func create(_ resource: String, _ object: Value, namespace: String = "default") async throws(APIError) -> Object {
    try await decode(api.create(resource: resource, namespace: namespace, object: object, caller: Self.caller))
  }
  func get(_ resource: String, _ name: String, namespace: String = "default") async throws(APIError) -> Object {
    try await decode(api.get(reference(resource, name, namespace), caller: Self.caller))
  }
  func update(
    _ resource: String, _ object: Object, subresource: String = "", namespace: String = "default"
  ) async throws(APIError) -> Object {
    try await decode(
      api.update(
        reference(resource, object.name, namespace), object: object.value, subresource: subresource,
        caller: Self.caller))
  }
  func patch(
    _ resource: String, _ name: String, _ patch: Value, type: PatchType = .merge, subresource: String = "",
    namespace: String = "default"
  ) async throws(APIError) -> Object {
    try await decode(
      api.patch(
        reference(resource, name, namespace), type: type, patch: patch, subresource: subresource, caller: Self.caller))
  }
  @discardableResult
  func delete(
    _ resource: String, _ name: String, _ options: DeleteOptions = DeleteOptions(), namespace: String = "default"
  ) async throws(APIError) -> Object {
    try await decode(api.delete(reference(resource, name, namespace), options: options, caller: Self.caller))
  }
  func list(_ options: ListOptions) async throws(APIError) -> ObjectList {
    try await api.list(options, caller: Self.caller)
  }
  func watch(_ options: WatchOptions) async throws(APIError) -> any WatchCursor {
    try await api.watch(options, caller: Self.caller)
  }

  func reference(_ resource: String, _ name: String, _ namespace: String = "default") -> ObjectReference {
    let scoped = KindRegistry.standard[resource: resource]?.isNamespaced ?? true
    return ObjectReference(resource: resource, namespace: scoped ? namespace : "", name: name)
  }

  private func decode(_ object: APIObject) throws(APIError) -> Object {
    do throws(SkerryError) {
      return try object.decoded()
    } catch {
      throw APIError(.internalError, "an answer does not decode: \(error)")
    }
  }
}

/// Objects that the cases write.
enum Sample {
  static func configMap(_ name: String, _ value: String = "v", labels: [String: String] = [:]) -> Value {
    ["metadata": ["name": .string(name), "labels": Value(labels)], "data": ["k": .string(value)]]
  }
  static func pod(_ name: String, node: String = "", grace: Int64 = 30, secret: String = "") -> Value {
    var spec: Value = [
      "containers": [["name": "c", "image": "busybox:1.36"]], "terminationGracePeriodSeconds": .int(grace),
    ]
    if !node.isEmpty { spec["nodeName"] = .string(node) }
    if !secret.isEmpty { spec["volumes"] = [["name": "s", "secret": ["secretName": .string(secret)]]] }
    return ["metadata": ["name": .string(name)], "spec": spec]
  }
  static func deployment(_ name: String) -> Value {
    [
      "metadata": ["name": .string(name)],
      "spec": [
        "selector": ["matchLabels": ["app": .string(name)]],
        "template": [
          "metadata": ["labels": ["app": .string(name)]], "spec": ["containers": [["name": "c", "image": "i:1"]]],
        ],
      ],
    ]
  }
}

/// Reads a watch until enough has come, waiting for `onAvailable` in between.
@LoopActor final class Reader {
  /// Times that the cursor is pulled before a case fails; each waits for the cursor to call.
  private static let maxPulls = 1_000
  let cursor: any WatchCursor
  private var waiter: CheckedContinuation<Void, Never>?
  private var rung = false

  init(_ cursor: any WatchCursor) {
    self.cursor = cursor
    cursor.onAvailable = { [weak self] in self?.ring() }
  }

  private func ring() {
    rung = true
    waiter?.resume()
    waiter = nil
  }

  /// Exactly `count` events, bookmarks left out.
  func take(_ count: Int) async throws -> [WatchEvent] {
    var events: [WatchEvent] = []
    for _ in 0..<Self.maxPulls {
      rung = false
      let more = try cursor.next(limit: count - events.count)
      events += more.filter { $0.kind != .bookmark }
      if events.count >= count { return events }
      if !more.isEmpty || rung { continue }
      await withCheckedContinuation { waiter = $0 }
    }
    throw ConformanceFailure(description: "a watch gave \(events.count) events of \(count)")
  }

  /// Until a bookmark; answers it and the events before.
  func takeBookmark() async throws -> (events: [WatchEvent], position: UInt64) {
    var events: [WatchEvent] = []
    for _ in 0..<Self.maxPulls {
      rung = false
      let more = try cursor.next(limit: 100)
      events += more.filter { $0.kind != .bookmark }
      if let mark = more.last(where: { $0.kind == .bookmark }) { return (events, mark.position) }
      if !more.isEmpty || rung { continue }
      await withCheckedContinuation { waiter = $0 }
    }
    throw ConformanceFailure(description: "a watch gave no bookmark")
  }

  /// `added p1`, `deleted p1`: for short comparisons.
  static func text(_ events: [WatchEvent]) -> [String] {
    events.map { "\($0.kind) \($0.object?.reference.name ?? "")" }
  }
}
