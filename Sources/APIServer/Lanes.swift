import API
import Base
import ObjectLog
import ObjectModel

extension APIServer: LaneWriter {
  package func applyLane(
    _ intents: [LaneIntent], cursor: (key: String, value: Bytes), caller: Caller
  ) async throws(APIError) -> [APIError?] {
    var results: [APIError?] = []
    var start = 0
    while start < intents.count {
      let group = nextGroup(intents, from: start)
      results += try await apply(Array(intents[start..<start + group]), caller)
      start += group
    }
    // Only now: an effect that was not stored must never be behind the cursor.
    let change = Change(
      key: "\(Node.resource)//\(caller.node ?? "")", guarding: .any, operation: .privatesOnly,
      privates: [(cursor.key, cursor.value)])
    if case .failed(let error)? = await append([change]).first { throw Failures.from(error) }
    return results
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
    if !pending.isEmpty {
      throw APIError(.serviceUnavailable, "others write the same objects all the time: send the batch again")
    }
    return results
  }

  /// nil: there is nothing to do, the object is gone or another one by now.
  private func prepare(_ intent: LaneIntent, _ caller: Caller) throws(APIError) -> PreparedWrite? {
    switch intent {
    case .status(let reference, let uid, let fields):
      let kind = try kind(reference.resource)
      try check(reference, kind)
      guard let stored = try stored(reference.key), try stored.decodedMeta().uid == uid else { return nil }
      try authorize(try request(.patch, reference, "status", stored: stored), caller)
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
