import Base

extension Kind {
  package static let namespace: Kind = {
    var kind = Kind(kind: "Namespace", plural: "namespaces")
    kind.shortNames = ["ns"]
    kind.isNamespaced = false
    kind.hasStatus = true
    kind.shape = [
      "spec": .object(["finalizers": .strings]),
      "status": .object(["phase": .string, "conditions": .conditions]),
    ]
    kind.columns = [.name, Column("Status") { .string($0.status["phase"].string ?? "") }, .age]
    kind.nameRule = { Names.label($0) }
    kind.defaults = { object in
      if !object.name.isEmpty { object.metadata["labels"]["kubernetes.io/metadata.name"] = .string(object.name) }
    }
    kind.admit = { object in
      var finalizers = Namespace(object).specFinalizers
      if !finalizers.contains(Namespace.finalizer) { finalizers.append(Namespace.finalizer) }
      object.spec["finalizers"] = .array(finalizers.map(Value.string))
    }
    kind.initialStatus = { _ in ["phase": "Active"] }
    kind.selectableFields = ["status.phase": { $0.status["phase"].string ?? "" }]
    return kind
  }()

  package static let lease: Kind = {
    var kind = Kind(group: "coordination.k8s.io", kind: "Lease", plural: "leases")
    kind.createsOnUpdate = true
    kind.shape = [
      "spec": .object([
        "holderIdentity": .string, "leaseDurationSeconds": .int, "acquireTime": .string, "renewTime": .string,
        "leaseTransitions": .int,
      ])
    ]
    kind.columns = [.name, Column("Holder") { .string(Lease($0).holder) }, .age]
    kind.validate = { object, errors in
      if let duration = object.spec["leaseDurationSeconds"].int, duration <= 0 {
        errors.invalid("spec.leaseDurationSeconds", .int(duration), "must be greater than 0")
      }
      for field in ["acquireTime", "renewTime"] {
        if let text = object.spec[field].string, Timestamp.parse(text) == nil {
          errors.invalid("spec.\(field)", .string(text), "must be an RFC 3339 time")
        }
      }
    }
    kind.comparesBody = { _ in false }
    kind.isPlacedByMetadata = true
    kind.node = { object in object.namespace == Lease.nodeNamespace ? object.name : nil }
    return kind
  }()

  package static let event: Kind = {
    var kind = Kind(kind: "Event", plural: "events")
    kind.shortNames = ["ev"]
    kind.createsOnUpdate = true
    kind.shape = [
      "involvedObject": .object([
        "kind": .string, "namespace": .string, "name": .string, "uid": .string, "apiVersion": .string,
        "resourceVersion": .string, "fieldPath": .string,
      ]), "reason": .string, "message": .string, "type": .string, "count": .int, "firstTimestamp": .string,
      "lastTimestamp": .string, "eventTime": .string, "reportingComponent": .string, "reportingInstance": .string,
      "source": .object(["component": .string, "host": .string]),
    ]
    kind.columns = EventColumns.all
    kind.comparesBody = { _ in false }
    kind.validate = { object, errors in
      let involved = object.value["involvedObject"]
      let namespace = involved["namespace"].string ?? ""
      if (namespace.isEmpty ? "default" : namespace) != object.namespace,
        !(namespace.isEmpty && object.namespace == "kube-system")
      {
        errors.invalid("involvedObject.namespace", .string(namespace), "does not match event.namespace")
      }
      if let type = object.value["type"].string, !["Normal", "Warning"].contains(type) {
        errors.unsupported("type", type, ["Normal", "Warning"])
      }
      if (object.value["message"].string ?? "").utf8.count > Event.maxMessage * 4 {
        errors.tooLong("message", Event.maxMessage * 4)
      }
    }
    var fields: [String: @Sendable (Object) -> String] = [
      "reason": { $0.value["reason"].string ?? "" }, "type": { $0.value["type"].string ?? "" },
      "reportingComponent": { $0.value["reportingComponent"].string ?? "" },
      "source": { $0.value["source"]["component"].string ?? $0.value["reportingComponent"].string ?? "" },
    ]
    for name in ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"] {
      fields["involvedObject.\(name)"] = { $0.value["involvedObject"][name].string ?? "" }
    }
    kind.selectableFields = fields
    return kind
  }()
}

private enum EventColumns {
  static let all: [Kind.Column] = [
    Kind.Column("Last Seen", at: { .string(HumanDuration.age(of: Event($0).lastTimestamp, now: $1)) }),
    Kind.Column("Type") { .string(Event($0).type) }, Kind.Column("Reason") { .string(Event($0).reason) },
    Kind.Column("Object") { object in
      let involved = Event(object).involved
      return .string("\((involved["kind"].string ?? "").lowercased())/\(involved["name"].string ?? "")")
    },
    Kind.Column("Subobject", wide: true) { .string(Event($0).involved["fieldPath"].string ?? "") },
    Kind.Column("Source", wide: true) { .string(Event($0).source) },
    Kind.Column("Message") { object in
      .string(String(Event(object).message.reversed().drop { $0.isWhitespace }.reversed()))
    },
    Kind.Column("First Seen", wide: true, at: { .string(HumanDuration.age(of: Event($0).firstTimestamp, now: $1)) }),
    Kind.Column("Count", type: "integer", wide: true) { .int(Event($0).count) },
    Kind.Column("Name", wide: true) { .string($0.name) },
  ]
}
