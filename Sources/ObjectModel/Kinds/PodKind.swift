import Base

extension Kind {
  package static let pod: Kind = {
    var kind = Kind(kind: "Pod", plural: "pods")
    kind.shortNames = ["po"]
    kind.categories = ["all"]
    kind.hasStatus = true
    kind.shape = ["spec": PodShape.spec, "status": PodShape.status]
    kind.columns = PodColumns.all
    kind.defaults = { object in PodDefaults.apply(to: &object.spec) }
    kind.admit = { object in PodDefaults.admit(&object.spec) }
    kind.initialStatus = { ["phase": "Pending", "qosClass": .string(Pod($0).qosClass)] }
    kind.validate = { object, errors in PodValidation.validate(object.spec, at: "spec", into: &errors) }
    kind.validateUpdate = { new, old, errors in PodValidation.validateUpdate(new, old, into: &errors) }
    kind.selectableFields = [
      "spec.nodeName": { $0.spec["nodeName"].string ?? "" },
      "spec.restartPolicy": { $0.spec["restartPolicy"].string ?? "" },
      "spec.schedulerName": { $0.spec["schedulerName"].string ?? "" },
      "spec.serviceAccountName": { $0.spec["serviceAccountName"].string ?? "" },
      "spec.hostNetwork": { $0.spec["hostNetwork"].bool == true ? "true" : "false" },
      "status.phase": { $0.status["phase"].string ?? "" }, "status.podIP": { $0.status["podIP"].string ?? "" },
      "status.nominatedNodeName": { $0.status["nominatedNodeName"].string ?? "" },
    ]
    kind.node = { object in
      let name = object.spec["nodeName"].string ?? ""
      return name.isEmpty ? nil : name
    }
    kind.references = { PodReferences.keys(of: $0) }
    kind.gracePeriod = { object in
      let pod = Pod(object)
      if pod.nodeName.isEmpty || pod.isTerminal { return 0 }
      return max(0, pod.spec.terminationGracePeriod)
    }
    return kind
  }()
}

/// The ConfigMaps and Secrets that a pod names: in volumes, in the environment, for pulling images.
package enum PodReferences {
  /// Their log keys, sorted.
  package static func keys(of object: Object) -> [String] {
    var keys: Set<String> = []
    let namespace = object.namespace
    func add(_ resource: String, _ name: Value) {
      if let name = name.string, !name.isEmpty { keys.insert("\(resource)/\(namespace)/\(name)") }
    }
    let spec = PodSpec(object.spec)
    for container in spec.containers + spec.initContainers {
      for source in container.envFrom {
        add(ConfigMap.resource, source["configMapRef"]["name"])
        add(Secret.resource, source["secretRef"]["name"])
      }
      for variable in container.env {
        add(ConfigMap.resource, variable["valueFrom"]["configMapKeyRef"]["name"])
        add(Secret.resource, variable["valueFrom"]["secretKeyRef"]["name"])
      }
    }
    for volume in spec.volumes {
      add(ConfigMap.resource, volume.value["configMap"]["name"])
      add(Secret.resource, volume.value["secret"]["secretName"])
      for source in volume.value["projected"]["sources"].array ?? [] {
        add(ConfigMap.resource, source["configMap"]["name"])
        add(Secret.resource, source["secret"]["name"])
      }
    }
    for name in spec.imagePullSecrets { add(Secret.resource, .string(name)) }
    return keys.sorted()
  }
}
