import Base
import Store

/// One thing that waits for the writer.
enum Job: Sendable {
  case group([Change])
  case apply(Cursor, entries: [Entry], privates: [(key: String, value: Bytes?)])
  case replace(Cursor, objects: [(key: String, object: StoredObject)])

  var changes: Int {
    switch self {
    case .group(let changes): changes.count
    case .apply(_, let entries, _): entries.count + 1
    case .replace(_, let objects): objects.count + 1
    }
  }

  var size: Int {
    switch self {
    case .group(let changes): changes.reduce(0) { $0 + $1.size }
    case .apply(_, let entries, let privates):
      privates.reduce(entries.reduce(128) { $0 + 160 + $1.object.size }) { $0 + ($1.value?.count ?? 0) }
    case .replace(_, let objects): objects.reduce(128) { $0 + 160 + $1.object.size }
    }
  }
}

/// What a job comes to, answered in the order of the jobs.
enum JobAnswer: Sendable {
  case results([ChangeResult])
  case followed(SkerryError?)
}

extension LogTables {
  /// Does one job inside the transaction; entries that it makes are appended.
  func perform(_ job: Job, _ limits: LogLimits, _ entries: inout [Entry]) throws(SkerryError) -> JobAnswer {
    switch job {
    case .group(let changes):
      var results: [ChangeResult] = []
      results.reserveCapacity(changes.count)
      for change in changes { results.append(try perform(change, limits, &entries)) }
      return .results(results)
    case .apply(let position, let given, let privates):
      return try followed(&entries) { () throws(SkerryError) in try apply(position, given, privates) }
    case .replace(let position, let objects):
      return try followed(&entries) { () throws(SkerryError) in try replace(position, objects) }
    }
  }

  private func followed(
    _ entries: inout [Entry], _ body: () throws(SkerryError) -> Result<[Entry], SkerryError>
  ) throws(SkerryError) -> JobAnswer {
    switch try attempt(body) {
    case .success(let new):
      entries += new
      return .followed(nil)
    case .failure(let error): return .followed(error)
    }
  }

  // MARK: Leader

  private func perform(
    _ change: Change, _ limits: LogLimits, _ entries: inout [Entry]
  ) throws(SkerryError) -> ChangeResult {
    if let error = ChangeRules.refusal(of: change, limits) ?? LogFailures.wrongRole(state.role, change) {
      return .failed(error)
    }
    let current: Current?
    switch try self.current(change.key) {
    case .success(let found): current = found
    case .failure(let error): return .failed(error)
    }
    let stored = current.flatMap { $0.deleted ? nil : $0.object }
    let position = state.cursor.position + 1
    guard position <= LogLimits.maxPosition else {
      return .failed(SkerryError(.limitExceeded, "the log has no positions left: start a new one"))
    }
    switch ChangeRules.decide(change, stored: stored, position: position) {
    case .conflict(let revision): return .conflict(current: revision)
    case .privatesOnly(let revision):
      try write(change.privates)
      return .applied(revision: revision)
    case .write(let type, let object):
      let entry = Entry(
        position: position, index: 0, key: change.key, revision: position, previousRevision: stored?.revision ?? 0,
        type: type, object: object, previousMeta: stored?.meta)
      if case .failure(let error) = try write(entry, replacing: current) { return .failed(error) }
      try write(change.privates)
      state.cursor.position = position
      entries.append(entry)
      return .applied(revision: position)
    }
  }

  // MARK: Follower

  private func apply(
    _ position: Cursor, _ given: [Entry], _ privates: [(key: String, value: Bytes?)]
  ) throws(SkerryError) -> Result<[Entry], SkerryError> {
    if let error = FollowerRules.refusal(state.role, tail: state.cursor, position: position, count: given.count) {
      return .failure(error)
    }
    let changes = given.map { FollowerRules.Given(key: $0.key, revision: $0.revision, type: $0.type, $0.object) }
    try write(privates)
    return try follow(changes, position)
  }

  private func follow(
    _ changes: [FollowerRules.Given], _ position: Cursor
  ) throws(SkerryError) -> Result<[Entry], SkerryError> {
    if let error = refusal(position) { return .failure(error) }
    var entries: [Entry] = []
    for change in changes {
      if let error = ChangeRules.refusal(ofKey: change.key) { return .failure(error) }
      let current: Current?
      switch try self.current(change.key) {
      case .success(let found): current = found
      case .failure(let error): return .failure(error)
      }
      let stored = current.flatMap { $0.deleted ? nil : $0.object }
      guard let entry = FollowerRules.entry(change, stored: stored, position, index: UInt32(entries.count)) else {
        continue
      }
      if case .failure(let error) = try write(entry, replacing: current) { return .failure(error) }
      entries.append(entry)
    }
    state.cursor = position
    return .success(entries)
  }

  private func refusal(_ position: Cursor) -> SkerryError? {
    guard position.position > LogLimits.maxPosition else { return nil }
    return SkerryError(.protocolViolation, "position \(position.position) is out of range")
  }

  private func replace(
    _ position: Cursor, _ objects: [(key: String, object: StoredObject)]
  ) throws(SkerryError) -> Result<[Entry], SkerryError> {
    if let error = FollowerRules.refusal(state.role, replacing: objects.count) ?? refusal(position) {
      return .failure(error)
    }
    let stored: [(key: String, object: StoredObject)]
    switch try self.objects() {
    case .success(let all): stored = all
    case .failure(let error): return .failure(error)
    }
    let changes = FollowerRules.difference(stored: stored, wanted: objects, position: position.position)
    if position == state.cursor && changes.isEmpty { return .success([]) }
    if position.continues(state.cursor) { return try follow(changes, position) }
    return try restart(at: position, changes, stored, objects)
  }

  /// Another history: what was before means nothing to it, so every object is written anew at the new position, and
  /// nobody can go on from before. The entries tell what differs.
  private func restart(
    at position: Cursor, _ changes: [FollowerRules.Given], _ stored: [(key: String, object: StoredObject)],
    _ objects: [(key: String, object: StoredObject)]
  ) throws(SkerryError) -> Result<[Entry], SkerryError> {
    var before: [Bytes: StoredObject] = [:]
    for item in stored { before[Bytes(item.key.utf8)] = item.object }
    let entries = FollowerRules.entries(changes, stored: before, position)
    try removeAll()
    for (index, item) in objects.enumerated() {
      if let error = ChangeRules.refusal(ofKey: item.key) { return .failure(error) }
      let entry = Entry(
        position: position.position, index: UInt32(index), key: item.key, revision: item.object.revision,
        previousRevision: 0, type: .created, object: item.object, previousMeta: nil)
      if case .failure(let error) = try write(entry, replacing: nil) { return .failure(error) }
    }
    state.cursor = position
    state.compacted = position.position == 0 ? 0 : position.position - 1
    state.swept = Place.end(of: position.position).raw
    return .success(entries)
  }
}
