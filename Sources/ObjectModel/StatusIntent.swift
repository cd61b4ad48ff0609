import Base

/// What a node says of a status, and what it makes of the status that is there: maps merge, lists whose elements are told
/// apart by a member merge by it, null takes away.
package enum StatusIntent {
  /// Those lists and their members: what the node does not name stays.
  private static let keyed = [
    "conditions": "type", "twins": "propertyName", "containerStatuses": "name", "initContainerStatuses": "name",
  ]

  package static func merge(_ fields: Value, into status: Value) -> Value {
    guard case .object(let changes) = fields else { return status }
    var merged = status.object ?? [:]
    for (key, change) in changes {
      if change.isNull {
        merged[key] = nil
      } else if let member = keyed[key], let elements = change.array {
        merged[key] = .array(mergeList(elements, into: merged[key]?.array ?? [], by: member))
      } else {
        merged[key] = MergePatch.apply(change, to: merged[key] ?? .null)
      }
    }
    return .object(merged)
  }

  private static func mergeList(_ changes: [Value], into list: [Value], by member: String) -> [Value] {
    var merged = list
    for change in changes {
      if let index = merged.firstIndex(where: { $0[member] == change[member] }) {
        merged[index] = MergePatch.apply(change, to: merged[index])
      } else {
        merged.append(change.withoutNulls())
      }
    }
    return merged
  }

  /// The whole status as fields: what may have been in its lists' elements before and is not in them now is taken away.
  package static func whole(_ status: Value) -> Value {
    var fields = status
    for (list, optional) in [("conditions", ["reason", "message"])] + containers.map({ ($0, ["containerID"]) }) {
      guard var elements = status[list].array else { continue }
      for index in elements.indices {
        for member in optional where elements[index][member].isNull { elements[index][member] = .null }
        guard containers.contains(list) else { continue }
        for member in ["state", "lastState"] {
          var state = elements[index][member]
          if state.isNull, member == "lastState" {
            elements[index][member] = .null
            continue
          }
          for kind in ["waiting", "running", "terminated"] where state[kind].isNull { state[kind] = .null }
          elements[index][member] = state
        }
      }
      fields[list] = .array(elements)
    }
    return fields
  }

  private static let containers = ["containerStatuses", "initContainerStatuses"]

  /// Fields that make `status` of each of `before`, as far as they differ. Each is a status that the cloud may have; a
  /// field counts that differs from any, so that the result is right whichever it has.
  package static func difference(_ status: Value, from before: [Value]) -> Value {
    let target = status.withoutNulls()
    var fields: Value = [:]
    for old in before.map({ $0.withoutNulls() }) { fields = union(fields, Self.fields(target, old)) }
    return fields
  }

  private static func fields(_ status: Value, _ old: Value) -> Value {
    var fields: Value = [:]
    for (key, value) in status.object ?? [:] where old[key] != value {
      if let member = keyed[key], let elements = value.array {
        fields[key] = .array(elements.compactMap { element(of: $0, in: old[key].array ?? [], by: member) })
      } else {
        fields[key] = member(value, old[key])
      }
    }
    for (key, _) in old.object ?? [:] where status[key].isNull { fields[key] = .null }
    return fields
  }

  private static func element(of new: Value, in list: [Value], by member: String) -> Value? {
    guard let old = list.first(where: { $0[member] == new[member] }) else { return new }
    guard old != new, var change = Optional(Self.member(new, old)) else { return nil }
    change[member] = new[member]
    return change
  }

  /// A merge patch (RFC 7386) from an old value to a new one, without nulls in either.
  private static func member(_ new: Value, _ old: Value) -> Value {
    guard case .object(let members) = new, case .object(let before) = old else { return new }
    var patch: Value = [:]
    for (key, value) in members where before[key] != value { patch[key] = member(value, before[key] ?? .null) }
    for (key, _) in before where members[key] == nil { patch[key] = .null }
    return patch
  }

  /// Two differences to the same target together.
  private static func union(_ a: Value, _ b: Value) -> Value {
    guard case .object(let first) = a, case .object(let second) = b else { return b }
    var both = a
    for (key, value) in second {
      guard let mine = first[key] else {
        both[key] = value
        continue
      }
      if let member = keyed[key], let left = mine.array, let right = value.array {
        var list = left
        for element in right {
          if let index = list.firstIndex(where: { $0[member] == element[member] }) {
            list[index] = union(list[index], element)
          } else {
            list.append(element)
          }
        }
        both[key] = .array(list)
      } else {
        both[key] = union(mine, value)
      }
    }
    return both
  }
}

extension Value {
  /// Without the null members of objects, at every depth: Kubernetes takes null for absent. Arrays keep theirs.
  package func withoutNulls() -> Value { hasNull ? copyWithoutNulls() : self }

  private func copyWithoutNulls() -> Value {
    switch self {
    case .object(let fields):
      var kept = Value.Fields()
      kept.reserveCapacity(fields.count)
      for (key, value) in fields where !value.isNull { _ = kept.appendLast(key, value.withoutNulls()) }
      return .object(kept)
    case .array(let values): return .array(values.map { $0.withoutNulls() })
    default: return self
    }
  }
}
