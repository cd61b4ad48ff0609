import API
import Base
import ObjectLog
import ObjectModel

extension APIServer: LaneWriter {
  package func applyLane(
    _ intents: [LaneIntent], cursor: (key: String, value: Bytes), caller: Caller
  ) async throws(APIError) -> [APIError?] {
    var results: [APIError?] = []
    var (start, isMoved) = (0, false)
    while start < intents.count {
      let group = nextGroup(intents, from: start)
      let isLast = start + group == intents.count
      if isLast, group == 1 {
        // Most batches: the effect and the cursor are one change, one way through the log.
        let (result, moved) = try await apply(intents[start], movingCursor: cursor, caller)
        results.append(result)
        isMoved = moved
      } else {
        results += try await apply(Array(intents[start..<start + group]), caller)
      }
      start += group
    }
    if isMoved { return results }
    // Only now: an effect that was not stored must never be behind the cursor.
    let change = Change(
      key: "\(Node.resource)//\(caller.node ?? "")", guarding: .any, operation: .privatesOnly,
      privates: [(cursor.key, cursor.value)])
    if case .failed(let error)? = await append([change]).first { throw Failures.from(error) }
    return results
  }

  /// Applies one intent with the cursor that stands behind it. `moved` is false where there was nothing to change: the
  /// cursor is then still where it was.
  private func apply(
    _ intent: LaneIntent, movingCursor cursor: (key: String, value: Bytes), _ caller: Caller
  ) async throws(APIError) -> (result: APIError?, moved: Bool) {
    for _ in 0...limits.conflictRetries {
      var change: Change
      do throws(APIError) {
        guard let write = try prepare(intent, caller) else { return (nil, false) }
        change = write.change
      } catch {
        return (error, false)
      }
      change.privates.append((cursor.key, cursor.value))
      switch await append([change]).first {
      case .applied: return (nil, true)
      case .failed(let error) where error.code == .invalidArgument: return (Failures.from(error), false)
      case .failed(let error): throw Failures.from(error)
      case .conflict, nil: continue
      }
    }
    throw Self.overtaken
  }

  private static var overtaken: APIError {
    APIError(.serviceUnavailable, "others write the same objects all the time: send the batch again")
  }

  /// Intents about different objects go as one group; two about one object must see each other.
  private func nextGroup(_ intents: [LaneIntent], from start: Int) -> Int {
    var seen: Set<String> = []
    var count = 0
    while start + count < intents.count, count < limits.batchItems {
      guard seen.insert(key(intents[start + count])).inserted else { break }
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

  private func apply(_ intents: [LaneIntent], _ caller: Caller) async throws(APIError) -> [APIError?] {
    var results = [APIError?](repeating: nil, count: intents.count)
    var pending = Array(intents.indices)
    for _ in 0...limits.conflictRetries where !pending.isEmpty {
      var prepared: [(index: Int, change: Change)] = []
      for index in pending {
        do throws(APIError) {
          if let write = try prepare(intents[index], caller) { prepared.append((index, write.change)) }
        } catch {
          results[index] = error
        }
      }
      pending = []
      for ((index, _), answer) in zip(prepared, await append(prepared.map(\.change))) {
        switch answer {
        case .applied: break
        case .conflict: pending.append(index)
        case .failed(let error) where error.code == .invalidArgument: results[index] = Failures.from(error)
        case .failed(let error): throw Failures.from(error)
        }
      }
    }
    if !pending.isEmpty { throw Self.overtaken }
    return results
  }

  /// nil: there is nothing to do, the object is gone or another one by now.
  private func prepare(_ intent: LaneIntent, _ caller: Caller) throws(APIError) -> PreparedWrite? {
    switch intent {
    case .status(let reference, let uid, let fields):
      let kind = try kind(reference.resource)
      try check(reference, kind)
      guard let stored = try stored(reference.key) else { return nil }
      let meta = try stored.decodedMeta()
      guard meta.uid == uid else { return nil }
      var asked = AccessRequest(.patch, reference, subresource: "status")
      asked.placedOn = meta.node
      try authorize(asked, caller)
      if kind.hasStatus, !meta.isBeingDeleted { return try prepareStatus(reference, kind, stored, meta, fields) }
      let old = try stored.decoded()
      var wanted = old
      wanted.metadata.remove("resourceVersion")
      wanted.status = StatusIntent.merge(fields, into: old.status)
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
