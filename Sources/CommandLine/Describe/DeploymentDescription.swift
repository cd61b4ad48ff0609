import Base
import ObjectModel

/// `describe deployment`, as kubectl prints it in its main parts.
enum DeploymentDescription {
  /// `sets` are its own replica sets.
  static func text(_ deployment: Deployment, sets: [ReplicaSet], events: [Event], now: WallTime) -> String {
    var out = TabbedText()
    let (object, status) = (deployment.object, deployment.object.status)
    out.line(0, "Name:", deployment.name)
    out.line(0, "Namespace:", deployment.namespace)
    out.line(0, "CreationTimestamp:", TabbedText.date(object.creationTimestamp))
    out.map(0, "Labels", object.labels)
    out.annotations(object)
    out.line(0, "Selector:", deployment.selector?.description ?? "")
    func count(_ field: String) -> Int64 { status[field].int ?? 0 }
    out.line(
      0, "Replicas:",
      "\(deployment.replicas) desired | \(count("updatedReplicas")) updated | \(count("replicas")) total | "
        + "\(count("availableReplicas")) available | \(count("unavailableReplicas")) unavailable")
    out.line(0, "StrategyType:", deployment.strategy.rawValue)
    out.line(0, "MinReadySeconds:", "\(deployment.minReadySeconds)")
    if deployment.strategy == .rollingUpdate {
      let rolling = object.spec["strategy"]["rollingUpdate"]
      func text(_ value: Value) -> String { value.int.map(String.init) ?? value.string ?? "25%" }
      out.line(
        0, "RollingUpdateStrategy:",
        "\(text(rolling["maxUnavailable"])) max unavailable, \(text(rolling["maxSurge"])) max surge")
    }
    template(deployment.template, &out)
    if !Conditions.all(status).isEmpty {
      out.line(0, "Conditions:")
      out.table(
        1, ["Type", "Status", "Reason"], Conditions.all(status).map { [$0.type, $0.status, $0.reason] })
    }
    replicaSets(deployment, sets, &out)
    out.events(events, now: now)
    return out.text
  }

  private static func template(_ template: Value, _ out: inout TabbedText) {
    out.line(0, "Pod Template:")
    let spec = PodSpec(template["spec"])
    out.map(1, "Labels", template["metadata"]["labels"].stringMap)
    let annotations = template["metadata"]["annotations"].stringMap
    if !annotations.isEmpty { out.map(1, "Annotations", annotations, separator: ": ") }
    out.containers(1, "Init Containers", spec.initContainers, nil)
    out.containers(1, "Containers", spec.containers, nil)
    out.volumes(1, spec.volumes)
    out.placement(1, spec)
  }

  /// The newest one is that of the template as it is; the others that still have replicas are old.
  private static func replicaSets(_ deployment: Deployment, _ sets: [ReplicaSet], _ out: inout TabbedText) {
    func revision(_ annotations: [String: String]) -> Int64 {
      Int64(annotations[Rollout.revisionAnnotation] ?? "") ?? 0
    }
    let newest = sets.max { revision($0.annotations) < revision($1.annotations) }
    let isCurrent = newest.map { revision($0.annotations) == revision(deployment.annotations) } ?? false
    func text(_ set: ReplicaSet) -> String { "\(set.name) (\(set.statusReplicas)/\(set.replicas) replicas created)" }
    let old = sets.filter { $0.uid != newest?.uid || !isCurrent }.filter { $0.replicas > 0 || $0.statusReplicas > 0 }
    out.line(0, "OldReplicaSets:", old.isEmpty ? "<none>" : old.map(text).joined(separator: ", "))
    out.line(0, "NewReplicaSet:", newest.flatMap { isCurrent ? text($0) : nil } ?? "<none>")
  }
}
