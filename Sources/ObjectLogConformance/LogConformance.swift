import Base
import Conformance
import ObjectLog

/// Makes the logs that a conformance case runs on, empty and with files of its own.
@LoopActor package protocol LogHarness: AnyObject {
  func leader(_ limits: LogLimits) throws -> any ObjectLog
  func follower(_ limits: LogLimits) throws -> any ObjectLog
}

/// What every `ObjectLog` must do, as library code: tests and the simulator run each case on each implementation.
package struct LogConformance: Sendable, CustomStringConvertible {
  package let description: String
  /// Throws `ConformanceFailure`, or what the log threw.
  package let run: @Sendable @LoopActor (any LogHarness) async throws -> Void

  init(_ name: String, _ run: @escaping @Sendable @LoopActor (any LogHarness) async throws -> Void) {
    description = name
    self.run = run
  }

  package static let all = writing + reading + following + scripts
}

/// Runs `body` and checks that it fails with a code.
@LoopActor func fails<R>(
  _ code: SkerryError.Code, line: UInt = #line, _ body: @LoopActor () throws -> R
) throws -> SkerryError {
  do {
    let result = try body()
    throw ConformanceFailure(description: "line \(line): answered \(result) instead of failing with \(code)")
  } catch let error as SkerryError {
    try equal(error.code, code, "code", line: line)
    return error
  }
}

// MARK: Shorthand

extension Bytes {
  init(_ text: String) { self = Bytes(text.utf8) }
}

extension Change {
  static func put(
    _ key: String, _ body: String, status: String? = nil, meta: String = "m", _ guarding: Guard = .any,
    privates: [(key: String, value: Bytes?)] = []
  ) -> Change {
    Change(
      key: key, guarding: guarding,
      operation: .put(body: Bytes(body), status: status.map { Bytes($0) }, meta: Bytes(meta)),
      privates: privates)
  }
  static func delete(_ key: String, _ guarding: Guard = .any) -> Change {
    Change(key: key, guarding: guarding, operation: .delete)
  }
}

extension ChangeResult {
  /// The revision if it was applied.
  var revision: UInt64? { if case .applied(let revision) = self { revision } else { nil } }
  var isConflict: Bool { if case .conflict = self { true } else { false } }
  var error: SkerryError? { if case .failed(let error) = self { error } else { nil } }
}

extension ObjectLog {
  func append(_ changes: Change...) async -> [ChangeResult] { await append(changes) }

  func append(_ changes: [Change]) async -> [ChangeResult] {
    await withCheckedContinuation { continuation in append(changes) { continuation.resume(returning: $0) } }
  }

  /// Applies one change and answers its revision.
  func write(_ change: Change, line: UInt = #line) async throws -> UInt64 {
    let result = await append([change])[0]
    guard let revision = result.revision else {
      throw ConformanceFailure(description: "line \(line): \(change.key) was not applied: \(result)")
    }
    return revision
  }

  func apply(_ position: Cursor, _ entries: [Entry], privates: [(key: String, value: Bytes?)] = []) async
    -> SkerryError?
  {
    await withCheckedContinuation { continuation in
      apply(position: position, entries: entries, privates: privates) { continuation.resume(returning: $0) }
    }
  }

  func replace(_ position: Cursor, _ objects: [(key: String, object: StoredObject)]) async -> SkerryError? {
    await withCheckedContinuation { continuation in
      replace(position: position, objects: objects) { continuation.resume(returning: $0) }
    }
  }

  func body(_ key: String, at position: UInt64? = nil) throws -> String? {
    try read(key, at: position).map { String(decoding: $0.body, as: UTF8.self) }
  }

  func keys(_ prefix: String, at position: UInt64? = nil, limit: Int = 1000) throws -> [String] {
    try list(prefix: prefix, at: position, after: nil, limit: limit).objects.map(\.key)
  }

  func all(after position: UInt64, prefix: String = "") throws -> [Entry] {
    try entries(after: position, prefix: prefix, limit: 100_000).entries
  }
}
