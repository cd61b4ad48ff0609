import Base

/// JSON merge patch (RFC 7396): objects merge member by member, null removes, everything else replaces.
package enum MergePatch {
  package static func apply(_ patch: Value, to target: Value) -> Value {
    guard case .object(let changes) = patch else { return patch }
    var fields = target.object ?? Value.Fields()
    for (key, change) in changes {
      if change.isNull {
        fields[key] = nil
      } else {
        fields[key] = apply(change, to: fields[key] ?? .null)
      }
    }
    return .object(fields)
  }

  /// The patch that turns `old` into `new`; an empty object if they are equal.
  package static func difference(from old: Value, to new: Value) -> Value {
    guard case .object(let before) = old, case .object(let after) = new else { return new }
    var changes = Value.Fields()
    for (key, value) in before where after[key] == nil && !value.isNull { changes[key] = .null }
    for (key, value) in after where before[key] != value {
      if case .object = value, case .object? = before[key] {
        changes[key] = difference(from: before[key] ?? .null, to: value)
      } else {
        changes[key] = value
      }
    }
    return .object(changes)
  }
}
