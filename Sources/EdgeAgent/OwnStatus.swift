import Base

/// Compares what the node told of an object with what the cloud shows.
package enum OwnStatus {
  /// True if every field that the node told is shown as it told it. Conditions count by type and status, since others
  /// add theirs and times are of no matter; fields that only the cloud has do not count.
  package static func isShown(_ own: Value, in shown: Value) -> Bool {
    for (field, value) in own.object ?? [:] {
      if field == "conditions" {
        let all = (value.array ?? []).allSatisfy { mine in
          (shown[field].array ?? []).contains { $0["type"] == mine["type"] && $0["status"] == mine["status"] }
        }
        if !all { return false }
      } else if shown[field] != value {
        return false
      }
    }
    return true
  }
}
