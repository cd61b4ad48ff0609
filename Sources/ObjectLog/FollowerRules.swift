import Base

extension Cursor {
  /// A later place in the same history.
  func continues(_ older: Cursor) -> Bool { log == older.log && epoch == older.epoch && position > older.position }
}

/// Whether a log assigns positions itself or takes them from another.
package enum LogRole: UInt8, Sendable {
  case leader = 1
  case follower = 2
}

/// What a follower does with what it is given: the same for every implementation.
enum FollowerRules {
  /// One change that the followed log made.
  struct Given {
    let key: String
    let revision: UInt64
    let type: EntryType
    let object: StoredObject
    init(key: String, revision: UInt64, type: EntryType, _ object: StoredObject) {
      self.key = key
      self.revision = revision
      self.type = type
      self.object = object
    }
  }

  static func refusal(_ role: LogRole, tail: Cursor, position: Cursor, count: Int) -> SkerryError? {
    if let error = refusal(role, replacing: count) { return error }
    guard position.log == tail.log, position.epoch == tail.epoch else {
      return SkerryError(
        .conflict,
        "the replica follows log \(tail.log) epoch \(tail.epoch), not \(position.log) epoch \(position.epoch): "
          + "replace it by a snapshot")
    }
    guard position.position > tail.position else {
      return SkerryError(
        .conflict, "position \(position.position) was applied before: the replica is at \(tail.position)")
    }
    return nil
  }

  static func refusal(_ role: LogRole, replacing count: Int) -> SkerryError? {
    guard role == .follower else {
      return SkerryError(.invalidArgument, "this log assigns its positions itself: append to it")
    }
    guard count < LogLimits.maxEntriesPerPosition else {
      return SkerryError(
        .limitExceeded, "\(count) objects at one position, more than \(LogLimits.maxEntriesPerPosition)")
    }
    return nil
  }

  /// The entry that a given change makes here; nil if it deletes what is not here. What it replaced is what stands
  /// here, whatever it replaced there: a slice may have skipped states.
  static func entry(_ given: Given, stored: StoredObject?, _ position: Cursor, index: UInt32) -> Entry? {
    var type = given.type
    var object = given.object
    if type == .deleted {
      guard let stored else { return nil }
      object = stored
    } else {
      type = stored == nil ? .created : .modified
    }
    return Entry(
      position: position.position, index: index, key: given.key, revision: given.revision,
      previousRevision: stored?.revision ?? 0, type: type, object: object, previousMeta: stored?.meta)
  }

  /// The entries of several changes to different keys.
  static func entries(_ changes: [Given], stored: [Bytes: StoredObject], _ position: Cursor) -> [Entry] {
    var entries: [Entry] = []
    for change in changes {
      let old = stored[Bytes(change.key.utf8)]
      if let entry = entry(change, stored: old, position, index: UInt32(entries.count)) { entries.append(entry) }
    }
    return entries
  }

  /// The changes that lead from what is stored to a snapshot, in key order; equal objects need none.
  static func difference(
    stored: [(key: String, object: StoredObject)], wanted: [(key: String, object: StoredObject)], position: UInt64
  ) -> [Given] {
    var left: [Bytes: StoredObject] = [:]
    for item in stored { left[Bytes(item.key.utf8)] = item.object }
    var changes: [Given] = []
    for item in wanted {
      let old = left.removeValue(forKey: Bytes(item.key.utf8))
      guard old != item.object else { continue }
      changes.append(
        Given(
          key: item.key, revision: item.object.revision, type: old == nil ? .created : .modified, item.object))
    }
    for (key, object) in left {
      changes.append(Given(key: String(decoding: key, as: UTF8.self), revision: position, type: .deleted, object))
    }
    return changes.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
  }
}

/// Refusals that every implementation words alike.
enum LogFailures {
  static func tooManyWaiting(_ limit: Int) -> SkerryError {
    SkerryError(.limitExceeded, "more than \(limit) changes wait for the log's writer: try again in a moment")
  }

  /// A follower changes objects by `apply` alone; privates are its own.
  static func wrongRole(_ role: LogRole, _ change: Change) -> SkerryError? {
    if role == .leader { return nil }
    if case .privatesOnly = change.operation { return nil }
    return SkerryError(.invalidArgument, "this log follows another: \(change.key) changes where that one is written")
  }
}
