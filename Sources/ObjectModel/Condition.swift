import Base

/// One element of `status.conditions`.
package struct Condition: Sendable, Hashable {
  package var type: String
  /// `True`, `False` or `Unknown`.
  package var status: String
  package var reason: String
  package var message: String
  /// RFC 3339; set by `Conditions.set`, and only when the status changes.
  package var lastTransitionTime: String?
  /// Members beyond the five above, kept as they are (`lastHeartbeatTime`, `lastUpdateTime`, `observedGeneration`).
  package var others: Value.Fields

  package init(
    _ type: String, _ status: Bool?, reason: String = "", message: String = "", others: Value.Fields = [:]
  ) {
    self.type = type
    self.status = status.map { $0 ? "True" : "False" } ?? "Unknown"
    self.reason = reason
    self.message = message
    self.others = others
  }

  package init(_ value: Value) {
    type = value["type"].string ?? ""
    status = value["status"].string ?? ""
    reason = value["reason"].string ?? ""
    message = value["message"].string ?? ""
    lastTransitionTime = value["lastTransitionTime"].string
    others = value.object ?? [:]
    for key in ["type", "status", "reason", "message", "lastTransitionTime"] { others[key] = nil }
  }

  package var isTrue: Bool { status == "True" }
  package var isFalse: Bool { status == "False" }

  package var value: Value {
    var fields = others
    fields["type"] = .string(type)
    fields["status"] = .string(status)
    if !reason.isEmpty { fields["reason"] = .string(reason) }
    if !message.isEmpty { fields["message"] = .string(message) }
    if let lastTransitionTime { fields["lastTransitionTime"] = .string(lastTransitionTime) }
    return .object(fields)
  }
}

/// `status.conditions`: a list keyed by type.
package enum Conditions {
  package static func all(_ status: Value) -> [Condition] { (status["conditions"].array ?? []).map(Condition.init) }
  package static func get(_ status: Value, _ type: String) -> Condition? {
    (status["conditions"].array ?? []).first { $0["type"].string == type }.map(Condition.init)
  }

  /// Puts a condition in place of the one of its type, or at the end. `lastTransitionTime` becomes `now` only when
  /// the status differs. True if anything but times changed.
  @discardableResult
  package static func set(_ status: inout Value, _ condition: Condition, now: WallTime) -> Bool {
    var list = status["conditions"].array ?? []
    var condition = condition
    guard let index = list.firstIndex(where: { $0["type"].string == condition.type }) else {
      condition.lastTransitionTime = Timestamp.format(now)
      status["conditions"] = .array(list + [condition.value])
      return true
    }
    let old = Condition(list[index])
    let moved = old.status != condition.status
    condition.lastTransitionTime = moved ? Timestamp.format(now) : old.lastTransitionTime ?? Timestamp.format(now)
    condition.others = old.others.merging(condition.others)
    list[index] = condition.value
    status["conditions"] = .array(list)
    return moved || old.reason != condition.reason || old.message != condition.message
  }

  package static func remove(_ status: inout Value, _ type: String) {
    guard let list = status["conditions"].array else { return }
    status["conditions"] = .array(list.filter { $0["type"].string != type })
  }
}

extension Value.Fields {
  /// The members of both; `other` wins.
  package func merging(_ other: Value.Fields) -> Value.Fields {
    var merged = self
    for (key, value) in other { merged[key] = value }
    return merged
  }
}
