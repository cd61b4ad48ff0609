import Base

/// Kubernetes' rules for a pod's spec; `path` is where the spec lies (`spec`, `spec.template.spec`).
enum PodValidation {
  static let restartPolicies = ["Always", "OnFailure", "Never"]
  private static let dnsPolicies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]
  /// Containers of one pod; it stops a manifest that would hold a node up for hours.
  static let maxContainers = 200

  static func validate(_ value: Value, at path: String, into errors: inout Validation) {
    let spec = PodSpec(value)
    var volumes: Set<String> = []
    for (index, volume) in spec.volumes.enumerated() {
      VolumeValidation.validate(volume, at: "\(path).volumes[\(index)]", into: &errors)
      if !volumes.insert(volume.name).inserted {
        errors.duplicate("\(path).volumes[\(index)].name", .string(volume.name))
      }
    }
    containers(spec, volumes, at: path, into: &errors)
    errors.choice("\(path).restartPolicy", value["restartPolicy"], restartPolicies)
    errors.choice("\(path).dnsPolicy", value["dnsPolicy"], dnsPolicies)
    errors.notNegative("\(path).terminationGracePeriodSeconds", value["terminationGracePeriodSeconds"])
    if let deadline = value["activeDeadlineSeconds"].int, deadline < 1 {
      errors.invalid("\(path).activeDeadlineSeconds", .int(deadline), "must be between 1 and 2147483647, inclusive")
    }
    errors.labels("\(path).nodeSelector", value["nodeSelector"])
    for field in ["nodeName", "serviceAccountName"] {
      if let name = value[field].string, !name.isEmpty {
        errors.invalid("\(path).\(field)", name, Names.subdomain(name))
      }
    }
    for field in ["hostname", "subdomain"] {
      if let name = value[field].string, !name.isEmpty { errors.invalid("\(path).\(field)", name, Names.label(name)) }
    }
    tolerations(value, at: path, into: &errors)
    affinity(value["affinity"], at: "\(path).affinity", into: &errors)
    PlacementValidation.podAffinity(value["affinity"], at: "\(path).affinity", into: &errors)
    PlacementValidation.spread(
      value["topologySpreadConstraints"], at: "\(path).topologySpreadConstraints", into: &errors)
  }

  private static func containers(
    _ spec: PodSpec, _ volumes: Set<String>, at path: String, into errors: inout Validation
  ) {
    if spec.containers.isEmpty { errors.required("\(path).containers") }
    if spec.containers.count + spec.initContainers.count > maxContainers {
      errors.invalid(
        "\(path).containers", .int(Int64(spec.containers.count)), "must have at most \(maxContainers) items")
    }
    var names: Set<String> = []
    var hostPorts: Set<PodSpec.HostPort> = []
    for (list, items) in [("initContainers", spec.initContainers), ("containers", spec.containers)] {
      for (index, container) in items.enumerated() {
        let place = "\(path).\(list)[\(index)]"
        ContainerValidation.validate(container, isInit: list != "containers", volumes, at: place, into: &errors)
        if !container.name.isEmpty, !names.insert(container.name).inserted {
          errors.duplicate("\(place).name", .string(container.name))
        }
        for (number, port) in container.ports.enumerated() where port.hostPort != 0 && list == "containers" {
          let taken = PodSpec.HostPort(protocol: port.protocol, address: port.hostIP, port: port.hostPort)
          if !hostPorts.insert(taken).inserted {
            errors.duplicate(
              "\(place).ports[\(number)].hostPort", .string("\(port.protocol)/\(port.hostIP)/\(port.hostPort)"))
          }
          if spec.hostNetwork, port.hostPort != port.containerPort {
            errors.invalid(
              "\(place).ports[\(number)].containerPort", .int(port.containerPort),
              "must match `hostPort` when `hostNetwork` is true")
          }
        }
      }
    }
  }

  private static func tolerations(_ value: Value, at path: String, into errors: inout Validation) {
    for (index, element) in (value["tolerations"].array ?? []).enumerated() {
      let (toleration, place) = (Toleration(element), "\(path).tolerations[\(index)]")
      if !toleration.key.isEmpty {
        errors.invalid("\(place).key", toleration.key, Names.qualifiedName(toleration.key))
      } else if toleration.condition != "Exists" {
        errors.invalid(
          "\(place).operator", .string(toleration.condition),
          "operator must be Exists when `key` is empty, which "
            + "means \"match all values and all keys\"")
      }
      errors.choice("\(place).operator", element["operator"], ["Equal", "Exists"])
      if toleration.condition == "Exists", !toleration.value.isEmpty {
        errors.invalid(
          "\(place).operator", .string(toleration.value), "value must be empty when `operator` is 'Exists'")
      }
      if !toleration.effect.isEmpty {
        errors.choice("\(place).effect", element["effect"], ["NoSchedule", "PreferNoSchedule", "NoExecute"])
      }
      if toleration.seconds != nil, toleration.effect != "NoExecute" {
        errors.invalid(
          "\(place).effect", .string(toleration.effect), "effect must be 'NoExecute' when `tolerationSeconds` is set")
      }
    }
  }

  private static func affinity(_ affinity: Value, at path: String, into errors: inout Validation) {
    let required = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    guard !required.isNull else { return }
    let place = "\(path).nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    let terms = required["nodeSelectorTerms"].array ?? []
    if terms.isEmpty { errors.required(place, "must have at least one node selector term") }
    for (index, term) in terms.enumerated() {
      for (number, expression) in (term["matchExpressions"].array ?? []).enumerated() {
        let field = "\(place)[\(index)].matchExpressions[\(number)]"
        errors.invalid(
          "\(field).key", expression["key"].string ?? "", Names.qualifiedName(expression["key"].string ?? ""))
        let allowed = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
        if !allowed.contains(expression["operator"].string ?? "") {
          errors.invalid("\(field).operator", expression["operator"], "not a valid selector operator")
        }
      }
    }
  }

  private static let updatable =
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    + "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    + "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

  /// A pod's spec is fixed but for images, an earlier deadline, more tolerations, and being bound to a node once.
  static func validateUpdate(_ new: Object, _ old: Object, into errors: inout Validation) {
    if new.spec == old.spec { return }
    var (before, after) = (old.spec, new.spec)
    for list in ["containers", "initContainers"] {
      let images = (before[list].array ?? []).map { $0["image"] }
      guard images.count == after[list].array?.count ?? 0 else { continue }
      var index = 0
      after.eachElement(list) { container in
        if container["image"].string?.isEmpty ?? true {
          errors.required("spec.\(list)[\(index)].image")
        }
        container["image"] = images[index]
        index += 1
      }
    }
    if (before["nodeName"].string ?? "").isEmpty { before.remove("nodeName"); after.remove("nodeName") }
    let deadlines = (before["activeDeadlineSeconds"].int, after["activeDeadlineSeconds"].int)
    if let later = deadlines.1, later > 0, deadlines.0.map({ later <= $0 }) ?? true {
      before.remove("activeDeadlineSeconds")
      after.remove("activeDeadlineSeconds")
    }
    let tolerations = (before["tolerations"].array ?? [], after["tolerations"].array ?? [])
    if tolerations.0.allSatisfy(tolerations.1.contains) {
      before.remove("tolerations")
      after.remove("tolerations")
    }
    if before != after { errors.forbidden("spec", updatable) }
  }
}
