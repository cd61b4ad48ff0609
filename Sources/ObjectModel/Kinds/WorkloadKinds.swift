import Base

/// What Deployment and ReplicaSet share.
private enum Workload {
  static let statusCounts: Shape.Members = [
    "replicas": .int, "readyReplicas": .int, "availableReplicas": .int, "updatedReplicas": .int,
    "unavailableReplicas": .int, "fullyLabeledReplicas": .int, "observedGeneration": .int, "collisionCount": .int,
    "conditions": .conditions,
  ]

  static func containers(_ object: Object) -> [PodSpec.Container] {
    PodSpec(object.spec["template"]["spec"]).containers
  }
  static func selectorText(_ object: Object) -> String {
    let text = (try? LabelSelector(object.spec["selector"]))?.description ?? "<error>"
    return PodColumns.orNone(text)
  }
  static let wideColumns: [Kind.Column] = [
    Kind.Column("Containers", wide: true) { .string(containers($0).map(\.name).joined(separator: ",")) },
    Kind.Column("Images", wide: true) { .string(containers($0).map(\.image).joined(separator: ",")) },
    Kind.Column("Selector", wide: true) { .string(selectorText($0)) },
  ]

  static func validate(_ object: Object, into errors: inout Validation) {
    let spec = object.spec
    errors.notNegative("spec.replicas", spec["replicas"])
    errors.notNegative("spec.minReadySeconds", spec["minReadySeconds"])
    if spec["selector"].isNull {
      errors.required("spec.selector")
    } else if let selector = errors.selector("spec.selector", spec["selector"]) {
      let labels = spec["template"]["metadata"]["labels"]
      if selector.isEmpty {
        errors.invalid("spec.selector", spec["selector"], "empty selector is invalid for this kind")
      } else if !spec["template"].isNull, !selector.matches(labels.stringMap) {
        errors.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
      }
    }
    template(spec["template"], into: &errors)
  }

  private static func template(_ template: Value, into errors: inout Validation) {
    if template.isNull { return errors.required("spec.template") }
    errors.labels("spec.template.metadata.labels", template["metadata"]["labels"])
    PodValidation.validate(template["spec"], at: "spec.template.spec", into: &errors)
    if let policy = template["spec"]["restartPolicy"].string, PodValidation.restartPolicies.contains(policy),
      policy != "Always"
    {
      errors.unsupported("spec.template.spec.restartPolicy", policy, ["Always"])
    }
    if !template["spec"]["activeDeadlineSeconds"].isNull {
      errors.forbidden(
        "spec.template.spec.activeDeadlineSeconds",
        "activeDeadlineSeconds in ReplicaSet is not Supported")
    }
  }

  static func count(_ object: Object, _ field: String) -> Int64 { object.status[field].int ?? 0 }
}

extension Kind {
  package static let replicaSet: Kind = {
    var kind = Kind(group: "apps", kind: "ReplicaSet", plural: "replicasets")
    kind.shortNames = ["rs"]
    kind.categories = ["all"]
    kind.hasStatus = true
    kind.countsGenerations = true
    kind.shape = [
      "spec": .object([
        "replicas": .int, "minReadySeconds": .int, "selector": .selector, "template": PodShape.template,
      ]), "status": .object(Workload.statusCounts),
    ]
    kind.columns =
      [
        .name, Column("Desired", type: "integer") { .int($0.spec["replicas"].int ?? 0) },
        Column("Current", type: "integer") { .int(Workload.count($0, "replicas")) },
        Column("Ready", type: "integer") { .int(Workload.count($0, "readyReplicas")) }, .age,
      ] + Workload.wideColumns
    kind.defaults = { object in
      object.spec.setDefault("replicas", 1)
      object.spec.ifPresent("template") { template in template.ifPresent("spec") { PodDefaults.apply(to: &$0) } }
    }
    kind.initialStatus = { _ in ["replicas": 0] }
    kind.validate = { Workload.validate($0, into: &$1) }
    kind.validateUpdate = { $2.immutable("spec.selector", $0.spec["selector"], $1.spec["selector"]) }
    kind.selectableFields = ["status.replicas": { String(Workload.count($0, "replicas")) }]
    return kind
  }()

  package static let deployment: Kind = {
    var kind = Kind(group: "apps", kind: "Deployment", plural: "deployments")
    kind.shortNames = ["deploy"]
    kind.categories = ["all"]
    kind.hasStatus = true
    kind.countsGenerations = true
    kind.annotationsCountAsSpec = true
    kind.shape = [
      "spec": .object([
        "replicas": .int, "minReadySeconds": .int, "selector": .selector, "template": PodShape.template,
        "revisionHistoryLimit": .int, "progressDeadlineSeconds": .int, "paused": .bool,
        "strategy": .object([
          "type": .string,
          "rollingUpdate": .object(["maxSurge": .intOrString, "maxUnavailable": .intOrString]),
        ]),
      ]), "status": .object(Workload.statusCounts),
    ]
    kind.columns =
      [
        .name,
        Column("Ready") { .string("\(Workload.count($0, "readyReplicas"))/\($0.spec["replicas"].int ?? 0)") },
        Column("Up-to-date", type: "integer") { .int(Workload.count($0, "updatedReplicas")) },
        Column("Available", type: "integer") { .int(Workload.count($0, "availableReplicas")) }, .age,
      ] + Workload.wideColumns
    kind.defaults = { DeploymentRules.defaults(&$0) }
    kind.validate = { object, errors in
      Workload.validate(object, into: &errors)
      DeploymentRules.validate(object.spec, into: &errors)
    }
    kind.validateUpdate = { $2.immutable("spec.selector", $0.spec["selector"], $1.spec["selector"]) }
    return kind
  }()
}

private enum DeploymentRules {
  static func defaults(_ object: inout Object) {
    object.spec.setDefault("replicas", 1)
    object.spec.setDefault("revisionHistoryLimit", 10)
    object.spec.setDefault("progressDeadlineSeconds", 600)
    object.spec["strategy"].setDefault("type", "RollingUpdate")
    if object.spec["strategy"]["type"].string == "RollingUpdate" {
      object.spec["strategy"]["rollingUpdate"].setDefault("maxUnavailable", "25%")
      object.spec["strategy"]["rollingUpdate"].setDefault("maxSurge", "25%")
    }
    object.spec.ifPresent("template") { template in template.ifPresent("spec") { PodDefaults.apply(to: &$0) } }
  }

  static func validate(_ spec: Value, into errors: inout Validation) {
    errors.notNegative("spec.revisionHistoryLimit", spec["revisionHistoryLimit"])
    errors.notNegative("spec.progressDeadlineSeconds", spec["progressDeadlineSeconds"])
    if let deadline = spec["progressDeadlineSeconds"].int, deadline <= spec["minReadySeconds"].int ?? 0 {
      errors.invalid("spec.progressDeadlineSeconds", .int(deadline), "must be greater than minReadySeconds")
    }
    let strategy = spec["strategy"]
    errors.choice("spec.strategy.type", strategy["type"], ["Recreate", "RollingUpdate"])
    if strategy["type"].string == "Recreate", !strategy["rollingUpdate"].isNull {
      errors.forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    }
    guard strategy["type"].string == "RollingUpdate" else { return }
    let path = "spec.strategy.rollingUpdate"
    var zero = 0
    for field in ["maxUnavailable", "maxSurge"] {
      let value = strategy["rollingUpdate"][field]
      guard let amount = IntOrString(value) else { continue }
      guard let number = amount.percent ?? amount.scaled(of: 0, roundUp: true) else {
        errors.invalid(
          "\(path).\(field)", value,
          "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used "
            + "for validation is '[0-9]+%')"
        )
        continue
      }
      if number < 0 { errors.invalid("\(path).\(field)", value, "must be greater than or equal to 0") }
      if field == "maxUnavailable", let percent = amount.percent, percent > 100 {
        errors.invalid("\(path).\(field)", value, "must not be greater than 100%")
      }
      if number == 0 { zero += 1 }
    }
    if zero == 2 {
      errors.invalid(
        "\(path).maxUnavailable", strategy["rollingUpdate"]["maxUnavailable"], "may not be 0 when `maxSurge` is 0")
    }
  }
}
