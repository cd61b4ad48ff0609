import Base

/// A view of an Event (v1), and how one is made.
package struct Event: Sendable, Hashable {
  package var object: Object
  package init(_ object: Object) { self.object = object }

  package static let resource = "events"

  package enum Level: String, Sendable {
    case normal = "Normal"
    case warning = "Warning"
  }

  /// A new event about `subject`. Its name is the subject's and the time in hexadecimal, so that two differ.
  package init(
    about subject: Object, level: Level, reason: String, message: String, component: String, host: String = "",
    now: WallTime
  ) {
    let time = Value.string(Timestamp.format(now))
    let namespace = subject.namespace.isEmpty ? "default" : subject.namespace
    var involved: Value = [
      "apiVersion": .string(subject.apiVersion), "kind": .string(subject.kind), "name": .string(subject.name),
      "uid": .string(subject.uid),
    ]
    if !subject.namespace.isEmpty { involved["namespace"] = .string(subject.namespace) }
    var source: Value = ["component": .string(component)]
    if !host.isEmpty { source["host"] = .string(host) }
    let suffix = String(UInt64(bitPattern: now.nanoseconds), radix: 16)
    object = Object([
      "apiVersion": "v1", "kind": "Event",
      "metadata": ["name": .string("\(subject.name).\(suffix)"), "namespace": .string(namespace)],
      "involvedObject": involved, "type": .string(level.rawValue), "reason": .string(reason),
      "message": .string(String(message.prefix(Self.maxMessage))), "source": source, "firstTimestamp": time,
      "lastTimestamp": time, "count": 1, "reportingComponent": .string(component), "reportingInstance": .string(host),
    ])
  }

  /// Characters of a message; Kubernetes refuses more.
  package static let maxMessage = 1024

  package var involved: Value { object.value["involvedObject"] }
  package var type: String { object.value["type"].string ?? "" }
  package var reason: String { object.value["reason"].string ?? "" }
  package var message: String { object.value["message"].string ?? "" }
  package var count: Int64 { object.value["count"].int ?? 1 }
  package var lastTimestamp: String? {
    object.value["lastTimestamp"].string ?? object.value["eventTime"].string
      ?? object.metadata["creationTimestamp"].string
  }
  package var firstTimestamp: String? {
    object.value["firstTimestamp"].string ?? object.value["eventTime"].string
      ?? object.metadata["creationTimestamp"].string
  }
  /// `component, host`.
  package var source: String {
    let source = object.value["source"]
    let parts = [
      source["component"].string ?? object.value["reportingComponent"].string ?? "", source["host"].string ?? "",
    ]
    return parts.filter { !$0.isEmpty }.joined(separator: ", ")
  }
}
