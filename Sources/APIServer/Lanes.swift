import API
import Base
import ObjectLog
import ObjectModel

extension APIServer: LaneWriter {
  package func applyLane(
    _ intents: [LaneIntent], cursor: (key: String, value: Bytes), caller: Caller
  ) async throws(APIError) -> [APIError?] {
    let units = Self.units(intents)
    var results = [APIError?](repeating: nil, count: intents.count)
    var (start, isMoved) = (0, false)
    while start < units.count {
      let end = start + nextGroup(units, intents, from: start)
      // Most batches are one change, and the cursor goes with it: one way through the log.
      let isOne = end == units.count && end - start == 1
      isMoved = try await apply(Array(units[start..<end]), intents, moving: isOne ? cursor : nil, caller, &results)
      start = end
    }
    if isMoved { return results }
    // Only now: an effect that was not stored must never be behind the cursor.
    let change = Change(
      key: "\(Node.resource)//\(caller.node ?? "")", guarding: .any, operation: .privatesOnly,
      privates: [(cursor.key, cursor.value)])
    if case .failed(let error)? = await append([change]).first { throw Failures.from(error) }
    return results
  }

  /// Intents that become one change: each by itself, but statuses of one object that follow each other together.
  private static func units(_ intents: [LaneIntent]) -> [Range<Int>] {
    var units: [Range<Int>] = []
    for (index, intent) in intents.enumerated() {
      if let last = units.last, case .status(let reference, let uid, _) = intent,
        case .status(reference, uid, _) = intents[last.lowerBound]
      {
        units[units.count - 1] = last.lowerBound..<index + 1
      } else {
        units.append(index..<index + 1)
      }
    }
    return units
  }

  /// Units about different objects go as one group; two about one object must see each other.
  private func nextGroup(_ units: [Range<Int>], _ intents: [LaneIntent], from start: Int) -> Int {
    var seen: Set<String> = []
    var count = 0
    while start + count < units.count, count < limits.batchItems {
      guard seen.insert(key(intents[units[start + count].lowerBound])).inserted else { break }
      count += 1
    }
    return count
  }

  private func key(_ intent: LaneIntent) -> String {
    switch intent {
    case .status(let reference, _, _), .podGone(let reference, _): reference.key
    case .event(let namespace, let object):
      ObjectReference(
        resource: Event.resource, namespace: namespace, name: object["metadata"]["name"].string ?? ""
      ).key
    }
  }

  /// Applies units about different objects as one group; `cursor` moves with the change of the only one. Answers whether
  /// it moved: it does not where there was nothing to change.
  private func apply(
    _ units: [Range<Int>], _ intents: [LaneIntent], moving cursor: (key: String, value: Bytes)?, _ caller: Caller,
    _ results: inout [APIError?]
  ) async throws(APIError) -> Bool {
    var (pending, apart, isMoved) = (units, [Range<Int>](), false)
    func refuse(_ unit: Range<Int>, _ error: APIError) {
      if unit.count == 1 { results[unit.lowerBound] = error } else { apart.append(unit) }
    }
    for _ in 0...limits.conflictRetries where !pending.isEmpty {
      var prepared: [(unit: Range<Int>, change: Change)] = []
      for unit in pending {
        do throws(APIError) {
          guard var change = try prepare(intents[unit], caller)?.change else { continue }
          if let cursor { change.privates.append((cursor.key, cursor.value)) }
          prepared.append((unit, change))
        } catch {
          refuse(unit, error)
        }
      }
      pending = []
      for ((unit, _), answer) in zip(prepared, await append(prepared.map(\.change))) {
        switch answer {
        case .applied: isMoved = cursor != nil
        case .conflict: pending.append(unit)
        case .failed(let error) where error.code == .invalidArgument: refuse(unit, Failures.from(error))
        case .failed(let error): throw Failures.from(error)
        }
      }
    }
    if !pending.isEmpty {
      throw APIError(.serviceUnavailable, "others write the same objects all the time: send the batch again")
    }
    // One of several statuses is refused: the others are not.
    for index in apart.joined() {
      _ = try await apply([index..<index + 1], intents, moving: nil, caller, &results)
    }
    return isMoved
  }

  /// nil: there is nothing to do, the object is gone or another one by now.
  private func prepare(_ unit: ArraySlice<LaneIntent>, _ caller: Caller) throws(APIError) -> PreparedWrite? {
    switch unit[unit.startIndex] {
    case .status(let reference, let uid, _):
      let words = unit.compactMap { if case .status(_, _, let fields) = $0 { fields } else { nil } }
      let kind = try kind(reference.resource)
      try check(reference, kind)
      guard let stored = try stored(reference.key) else { return nil }
      let meta = try stored.decodedMeta()
      guard meta.uid == uid else { return nil }
      var asked = AccessRequest(.patch, reference, subresource: "status")
      asked.placedOn = meta.node
      try authorize(asked, caller)
      if kind.hasStatus, !meta.isBeingDeleted { return try prepareStatus(reference, kind, stored, meta, words) }
      let old = try stored.decoded()
      var wanted = old
      wanted.metadata.remove("resourceVersion")
      for fields in words { wanted.status = StatusIntent.merge(fields, into: wanted.status) }
      return try prepareChange(reference, kind, stored, old, wanted.value, "status")
    case .podGone(let reference, let uid):
      guard reference.resource == Pod.resource else {
        throw APIError(.badRequest, "only a pod can be told to be gone, not \(reference.resource)")
      }
      guard let stored = try stored(reference.key), try stored.decodedMeta().uid == uid else { return nil }
      let meta = try stored.decodedMeta()
      guard meta.isBeingDeleted else {
        throw APIError(.conflict, "pod \(reference.name) is not being deleted: its node may not let it go")
      }
      return try prepareDelete(reference, DeleteOptions(gracePeriod: 0, uid: uid), caller)
    case .event(let namespace, let object):
      let name = object["metadata"]["name"].string ?? ""
      return try prepareUpdate(
        ObjectReference(resource: Event.resource, namespace: namespace, name: name), object, "", caller)
    }
  }
}
