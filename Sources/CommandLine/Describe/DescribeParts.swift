import Base
import ObjectModel

/// What several kinds' descriptions are made of, in kubectl's words and layout.
extension TabbedText {
  /// `Mon, 23 Nov 2026 08:00:00 +0000`, or `<unset>`.
  static func date(_ timestamp: String?) -> String {
    guard let timestamp, let time = Timestamp.parse(timestamp) else { return "<unset>" }
    let (days, text) = (Int(time.seconds / 86_400), Timestamp.format(time))
    let parts = text.split { !$0.isNumber }.map(String.init)
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    guard parts.count == 6, let month = Int(parts[1]), (1...12).contains(month) else { return timestamp }
    // The first of January 1970 was a Thursday.
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][((days % 7) + 7) % 7]
    return "\(weekday), \(parts[2]) \(months[month - 1]) \(parts[0]) \(parts[3]):\(parts[4]):\(parts[5]) +0000"
  }

  /// Labels, annotations and the like: one pair a line.
  mutating func map(_ level: Int, _ title: String, _ map: [String: String], separator: String = "=") {
    guard !map.isEmpty else { return line(level, "\(title):", "<none>") }
    for (index, pair) in map.sorted(by: { $0.key < $1.key }).enumerated() {
      line(index == 0 ? level : 0, index == 0 ? "\(title):" : "", "\(pair.key)\(separator)\(pair.value)")
    }
  }

  mutating func annotations(_ object: Object) {
    map(0, "Annotations", object.annotations.filter { $0.key != Applier.annotationKey }, separator: ": ")
  }

  mutating func list(_ title: String, _ items: [String]) {
    guard !items.isEmpty else { return line(0, "\(title):", "<none>") }
    for (index, item) in items.enumerated() { line(0, index == 0 ? "\(title):" : "", item) }
  }

  /// A title, then a table below it with a rule under its header.
  mutating func table(_ level: Int, _ header: [String], _ rows: [[String]]) {
    row(level, header)
    row(level, header.map { String(repeating: "-", count: $0.count) })
    for cells in rows { row(level, cells) }
  }

  mutating func events(_ events: [Event], now: WallTime) {
    guard !events.isEmpty else { return line(0, "Events:", "<none>") }
    line(0, "Events:")
    table(
      1, ["Type", "Reason", "Age", "From", "Message"],
      events.map { event in
        let age = HumanDuration.age(of: event.lastTimestamp, now: now)
        let since = HumanDuration.age(of: event.firstTimestamp, now: now)
        return [
          event.type, event.reason, event.count > 1 ? "\(age) (x\(event.count) over \(since))" : age, event.source,
          event.message,
        ]
      })
  }

  mutating func placement(_ level: Int, _ spec: PodSpec) {
    map(level, "Node-Selectors", spec.nodeSelector)
    guard !spec.tolerations.isEmpty else { return line(level, "Tolerations:", "<none>") }
    for (index, toleration) in spec.tolerations.enumerated() {
      line(index == 0 ? level : 0, index == 0 ? "Tolerations:" : "", Self.text(toleration))
    }
  }

  private static func text(_ toleration: Toleration) -> String {
    var text = toleration.key
    if !toleration.value.isEmpty { text += "=\(toleration.value)" }
    if !toleration.effect.isEmpty { text += ":\(toleration.effect)" }
    if toleration.condition == "Exists" {
      text +=
        toleration.value.isEmpty && (!toleration.key.isEmpty || !toleration.effect.isEmpty) ? " op=Exists" : "op=Exists"
    }
    if let seconds = toleration.seconds { text += " for \(seconds)s" }
    return text
  }

  mutating func volumes(_ level: Int, _ volumes: [PodSpec.Volume]) {
    guard !volumes.isEmpty else { return line(level, "Volumes:", "<none>") }
    line(level, "Volumes:")
    for volume in volumes {
      line(level + 1, "\(volume.name):")
      let source = volume.source
      func optional() -> String { source["optional"].bool == true ? "true" : "false" }
      switch volume.kind {
      case "configMap":
        line(level + 2, "Type:", "ConfigMap (a volume populated by a ConfigMap)")
        line(level + 2, "Name:", source["name"].string ?? "")
        line(level + 2, "Optional:", optional())
      case "secret":
        line(level + 2, "Type:", "Secret (a volume populated by a Secret)")
        line(level + 2, "SecretName:", source["secretName"].string ?? "")
        line(level + 2, "Optional:", optional())
      case "emptyDir":
        line(level + 2, "Type:", "EmptyDir (a temporary directory that shares a pod's lifetime)")
        line(level + 2, "Medium:", source["medium"].string ?? "")
        line(level + 2, "SizeLimit:", Quantity(source["sizeLimit"])?.description ?? "<unset>")
      case "hostPath":
        line(level + 2, "Type:", "HostPath (bare host directory volume)")
        line(level + 2, "Path:", source["path"].string ?? "")
        line(level + 2, "HostPathType:", source["type"].string ?? "")
      case "projected":
        line(level + 2, "Type:", "Projected (a volume that contains injected data from multiple sources)")
        for item in source["sources"].array ?? [] {
          if let name = item["configMap"]["name"].string { line(level + 2, "ConfigMapName:", name) }
          if let name = item["secret"]["name"].string { line(level + 2, "SecretName:", name) }
          if item["downwardAPI"].object != nil { line(level + 2, "DownwardAPI:", "true") }
        }
      case "downwardAPI": line(level + 2, "Type:", "DownwardAPI (a volume populated by information about the pod)")
      default: line(level + 2, "Type:", volume.kind)
      }
    }
  }
}
