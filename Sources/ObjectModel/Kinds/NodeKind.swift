import Base

extension Kind {
  package static let node: Kind = {
    var kind = Kind(kind: "Node", plural: "nodes")
    kind.shortNames = ["no"]
    kind.isNamespaced = false
    kind.hasStatus = true
    kind.shape = [
      "spec": .object([
        "unschedulable": .bool, "podCIDR": .string, "podCIDRs": .strings, "providerID": .string,
        "taints": .list(.object(["key": .string, "value": .string, "effect": .string, "timeAdded": .string])),
      ]),
      "status": .object([
        "conditions": .conditions, "capacity": .quantities, "allocatable": .quantities, "phase": .string,
        "addresses": .list(.object(["type": .string, "address": .string])), "nodeInfo": .stringMap,
        "images": .list(.object(["names": .strings, "sizeBytes": .int])),
      ]),
    ]
    kind.columns = NodeColumns.all
    kind.validate = { object, errors in
      var seen: Set<String> = []
      for (index, taint) in Node(object).taints.enumerated() {
        let path = "spec.taints[\(index)]"
        errors.invalid("\(path).key", taint.key, Names.qualifiedName(taint.key))
        if !taint.value.isEmpty { errors.invalid("\(path).value", taint.value, Names.labelValue(taint.value)) }
        if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(taint.effect) {
          errors.unsupported("\(path).effect", taint.effect, ["NoSchedule", "PreferNoSchedule", "NoExecute"])
        }
        if !seen.insert("\(taint.key):\(taint.effect)").inserted { errors.duplicate(path, taint.object) }
      }
    }
    kind.validateUpdate = { new, old, errors in
      let (before, after) = (old.spec["podCIDR"].string ?? "", new.spec["podCIDR"].string ?? "")
      if !before.isEmpty, before != after {
        errors.forbidden("spec.podCIDR", "node updates may not change podCIDR except from \"\" to valid")
      }
    }
    kind.selectableFields = [
      "spec.unschedulable": { $0.spec["unschedulable"].bool == true ? "true" : "false" }
    ]
    kind.node = { $0.name }
    return kind
  }()
}

private enum NodeColumns {
  static let all: [Kind.Column] = [
    .name, Kind.Column("Status") { .string(status($0)) },
    Kind.Column("Roles") { .string(PodColumns.orNone(Node($0).roles.joined(separator: ","))) }, .age,
    Kind.Column("Version") { .string(Node($0).info["kubeletVersion"].string ?? "") },
    Kind.Column("Internal-IP", wide: true) { .string(PodColumns.orNone(Node($0).address("InternalIP") ?? "")) },
    Kind.Column("External-IP", wide: true) { .string(PodColumns.orNone(Node($0).address("ExternalIP") ?? "")) },
    Kind.Column("OS-Image", wide: true) { .string(info($0, "osImage")) },
    Kind.Column("Kernel-Version", wide: true) { .string(info($0, "kernelVersion")) },
    Kind.Column("Container-Runtime", wide: true) { .string(info($0, "containerRuntimeVersion")) },
  ]

  private static func info(_ object: Object, _ field: String) -> String {
    let text = Node(object).info[field].string ?? ""
    return text.isEmpty ? "<unknown>" : text
  }

  private static func status(_ object: Object) -> String {
    let node = Node(object)
    let ready =
      switch node.condition("Ready")?.status {
      case "True": "Ready"
      case "False": "NotReady"
      case "Unknown": "NotReady"
      default: "Unknown"
      }
    return node.isUnschedulable ? ready + ",SchedulingDisabled" : ready
  }
}
