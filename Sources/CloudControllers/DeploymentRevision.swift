import API
import Base
import ObjectModel

/// The new replica set and its number in the deployment's history.
extension DeploymentDecision {
  package enum Annotation {
    package static let revision = "deployment.kubernetes.io/revision"
    package static let history = "deployment.kubernetes.io/revision-history"
    package static let desired = "deployment.kubernetes.io/desired-replicas"
    package static let most = "deployment.kubernetes.io/max-replicas"
    /// Not handed on from a deployment to its replica sets.
    static let own: Set<String> = [
      "kubectl.kubernetes.io/last-applied-configuration", revision, history, desired, most,
      "deprecated.deployment.rollback.to",
    ]
  }
  /// Characters of the history annotation; the oldest numbers fall out.
  static let maxHistory = 2000

  /// Finds the new set (one that was rolled back to gets the next number) or, if asked, describes it for creation.
  mutating func syncRevision(creating: Bool) {
    let next = (old.map(\.revisionNumber).max() ?? 0) + 1
    if let new {
      updateNew(new, next)
    } else if creating {
      create = newReplicaSet(revision: next)
      note(revision: String(next))
      setProgress(true, "NewReplicaSetCreated", "Created new replica set \"\(newName)\"")
    }
  }

  private mutating func updateNew(_ new: ReplicaSet, _ next: Int64) {
    var annotations: [String: String] = [:]
    for (key, value) in deployment.annotations where !Annotation.own.contains(key) && new.annotations[key] != value {
      annotations[key] = value
    }
    var number = new.annotations[Annotation.revision] ?? ""
    if new.revisionNumber < next {
      if !number.isEmpty {
        let history = (new.annotations[Annotation.history].map { $0 + "," } ?? "") + number
        annotations[Annotation.history] = Self.shortened(history)
      }
      number = String(next)
      annotations[Annotation.revision] = number
    }
    let minReady = deployment.minReadySeconds
    if !annotations.isEmpty || new.minReadySeconds != minReady {
      change(new) { patch in
        for (key, value) in annotations { patch["metadata"]["annotations"][key] = .string(value) }
        if new.minReadySeconds != minReady { patch["spec"]["minReadySeconds"] = .int(minReady) }
      }
    }
    note(revision: number)
    if Conditions.get(status, "Progressing") == nil {
      setProgress(true, "FoundNewReplicaSet", "Found new replica set \"\(new.name)\"")
    }
  }

  private static func shortened(_ history: String) -> String {
    var numbers = history.split(separator: ",")[...]
    while numbers.joined(separator: ",").utf8.count > maxHistory, numbers.count > 1 { numbers = numbers.dropFirst() }
    return numbers.joined(separator: ",")
  }

  private mutating func note(revision number: String) {
    if !number.isEmpty, deployment.annotations[Annotation.revision] != number { revision = number }
  }

  var newName: String {
    "\(deployment.name)-\(TemplateHash.of(deployment.template, collisions: deployment.collisionCount))"
  }

  private func newReplicaSet(revision: Int64) -> Value {
    let hash = TemplateHash.of(deployment.template, collisions: deployment.collisionCount)
    var template = deployment.template
    template["metadata"]["labels"][TemplateHash.label] = .string(hash)
    var selector = deployment.object.spec["selector"]
    selector["matchLabels"][TemplateHash.label] = .string(hash)
    var annotations = deployment.annotations.filter { !Annotation.own.contains($0.key) }
    annotations[Annotation.revision] = String(revision)
    annotations[Annotation.desired] = String(deployment.replicas)
    annotations[Annotation.most] = String(deployment.replicas + deployment.maxSurge)
    return [
      "apiVersion": .string(ReplicaSet.apiVersion), "kind": .string(ReplicaSet.kind),
      "metadata": [
        "name": .string(newName), "namespace": .string(deployment.namespace),
        "labels": template["metadata"]["labels"], "annotations": Value(annotations),
        "ownerReferences": [deployment.reference.value],
      ],
      "spec": [
        "replicas": .int(newReplicas(current: 0)), "minReadySeconds": .int(deployment.minReadySeconds),
        "selector": selector, "template": template,
      ],
    ]
  }
}

extension Deployment {
  /// How its replica sets name it as their controller.
  package var reference: OwnerReference {
    OwnerReference(apiVersion: Self.apiVersion, kind: Self.kind, name: name, uid: uid)
  }
}
