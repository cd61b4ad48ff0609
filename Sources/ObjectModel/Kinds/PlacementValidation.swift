import Base

/// Kubernetes' rules for what a pod asks of other pods: inter-pod affinity and topology spread.
enum PlacementValidation {
  private static let required = "requiredDuringSchedulingIgnoredDuringExecution"
  private static let preferred = "preferredDuringSchedulingIgnoredDuringExecution"

  static func podAffinity(_ affinity: Value, at path: String, into errors: inout Validation) {
    for field in ["podAffinity", "podAntiAffinity"] {
      for (index, term) in (affinity[field][required].array ?? []).enumerated() {
        validate(term, at: "\(path).\(field).\(required)[\(index)]", into: &errors)
      }
      for (index, item) in (affinity[field][preferred].array ?? []).enumerated() {
        let place = "\(path).\(field).\(preferred)[\(index)]"
        let weight = item["weight"].int ?? 0
        if !(1...100).contains(weight) {
          errors.invalid("\(place).weight", .int(weight), "must be in the range 1-100")
        }
        validate(item["podAffinityTerm"], at: "\(place).podAffinityTerm", into: &errors)
      }
    }
  }

  private static func validate(_ term: Value, at path: String, into errors: inout Validation) {
    topologyKey(term, at: path, into: &errors)
    for field in ["labelSelector", "namespaceSelector"] { _ = errors.selector("\(path).\(field)", term[field]) }
    for (index, name) in (term["namespaces"].array ?? []).enumerated() {
      errors.invalid("\(path).namespaces[\(index)]", name.string ?? "", Names.label(name.string ?? ""))
    }
  }

  private static func topologyKey(_ value: Value, at path: String, into errors: inout Validation) {
    let key = value["topologyKey"].string ?? ""
    if key.isEmpty {
      errors.required("\(path).topologyKey", "can not be empty")
    } else {
      errors.invalid("\(path).topologyKey", key, Names.qualifiedName(key))
    }
  }

  static func spread(_ list: Value, at path: String, into errors: inout Validation) {
    var seen: Set<[String]> = []
    for (index, constraint) in (list.array ?? []).enumerated() {
      let place = "\(path)[\(index)]"
      let skew = constraint["maxSkew"].int ?? 0
      if skew < 1 { errors.invalid("\(place).maxSkew", .int(skew), "must be greater than zero") }
      topologyKey(constraint, at: place, into: &errors)
      let action = constraint["whenUnsatisfiable"].string ?? ""
      let actions = ["DoNotSchedule", "ScheduleAnyway"]
      if !actions.contains(action) { errors.unsupported("\(place).whenUnsatisfiable", action, actions) }
      let key = constraint["topologyKey"].string ?? ""
      if !seen.insert([key, action]).inserted {
        errors.duplicate("\(place).{topologyKey, whenUnsatisfiable}", .string("{\(key), \(action)}"))
      }
      if let least = constraint["minDomains"].int {
        if least < 1 { errors.invalid("\(place).minDomains", .int(least), "must be greater than zero") }
        if action == "ScheduleAnyway" {
          errors.invalid(
            "\(place).minDomains", .int(least),
            "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway")
        }
      }
      for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        errors.choice("\(place).\(field)", constraint[field], ["Honor", "Ignore"])
      }
      _ = errors.selector("\(place).labelSelector", constraint["labelSelector"])
    }
  }
}
