import Base

/// What a change does to what is stored: the one place that decides it, for every implementation of the log.
enum ChangeRules {
  enum Decision {
    /// The guard did not hold.
    case conflict(current: UInt64?)
    /// Nothing changes but the privates: a no-op write, a delete of nothing, or `privatesOnly`.
    case privatesOnly(revision: UInt64)
    /// The object's new state at the position; on delete its last value.
    case write(EntryType, StoredObject)
  }

  /// Decides a leader's change against the object that is stored now; `position` is the next free one.
  static func decide(_ change: Change, stored: StoredObject?, position: UInt64) -> Decision {
    switch change.guarding {
    case .any: break
    case .absent: if let stored { return .conflict(current: stored.revision) }
    case .revision(let wanted):
      if stored?.revision != wanted { return .conflict(current: stored?.revision) }
    }
    switch change.operation {
    case .privatesOnly: return .privatesOnly(revision: 0)
    case .delete:
      guard let stored else { return .privatesOnly(revision: 0) }
      return .write(.deleted, stored)
    case .put(let body, let status, let meta):
      guard let stored else {
        let created = StoredObject(
          body: body, status: status, meta: meta, bodyRevision: position,
          statusRevision: status == nil ? 0 : position, createRevision: position, sealed: change.seal)
        return .write(.created, created)
      }
      return update(stored, body, status, meta, seal: change.seal, position)
    }
  }

  private static func update(
    _ stored: StoredObject, _ body: Bytes, _ status: Bytes?, _ meta: Bytes, seal: Bool, _ position: UInt64
  ) -> Decision {
    // A value that must be sealed from now on is written again even if its bytes are the same.
    let sameBody = stored.body.hasSameBytes(as: body) && stored.meta.hasSameBytes(as: meta) && stored.sealed == seal
    let sameStatus = stored.status == status
    if sameBody && sameStatus { return .privatesOnly(revision: stored.revision) }
    var new = stored
    if !sameBody {
      new.body = body
      new.meta = meta
      new.sealed = seal
      new.bodyRevision = position
    }
    if !sameStatus {
      new.status = status
      new.statusRevision = position
    }
    return .write(.modified, new)
  }

  /// Keys are text without NUL, within the bound; nil if this one is.
  static func refusal(ofKey key: String) -> SkerryError? {
    let bytes = key.utf8
    if bytes.isEmpty || key.holds(0) {
      return SkerryError(.invalidArgument, "a key of the log is empty or holds a NUL: '\(key)'")
    }
    if bytes.count > LogLimits.maxKeyBytes {
      return SkerryError(.limitExceeded, "a key has \(bytes.count) bytes, more than \(LogLimits.maxKeyBytes): \(key)")
    }
    return nil
  }

  /// Why a change cannot be stored at all, whatever its guard; nil if it can.
  static func refusal(of change: Change, _ limits: LogLimits) -> SkerryError? {
    if let error = refusal(ofKey: change.key) { return error }
    for item in change.privates {
      if let error = refusal(ofKey: item.key) { return error }
      if let count = item.value?.count, count > limits.valueBytes { return tooLarge(item.key, count, limits) }
    }
    guard case .put(let body, let status, let meta) = change.operation else { return nil }
    let largest = max(body.count, status?.count ?? 0, meta.count)
    return largest > limits.valueBytes ? tooLarge(change.key, largest, limits) : nil
  }

  private static func tooLarge(_ key: String, _ count: Int, _ limits: LogLimits) -> SkerryError {
    SkerryError(.limitExceeded, "the value of \(key) has \(count) bytes, more than the \(limits.valueBytes) allowed")
  }
}

/// Checks that every implementation makes of a position that a reader brings.
enum PositionRules {
  /// `compacted < position <= newest`, or the error that says what to do.
  static func check(_ position: UInt64, compacted: UInt64, newest: UInt64) throws(SkerryError) {
    if position <= compacted {
      throw SkerryError(
        .tooOld,
        "position \(position) is too old, history begins after \(compacted): list again and restart from "
          + "revision \(newest)")
    }
    if position > newest {
      throw SkerryError(
        .invalidArgument,
        "position \(position) is ahead of this log, whose newest is \(newest): it belongs to another log or epoch")
    }
  }
}
