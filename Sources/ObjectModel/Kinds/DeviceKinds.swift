import Base

extension Kind {
  private static let visitor = Shape.object(["protocolName": .string, "configData": .object([:])])

  package static let device: Kind = {
    var kind = Kind(group: Device.group, version: Device.version, kind: "Device", plural: "devices")
    kind.hasStatus = true
    kind.countsGenerations = true
    let twin = Shape.object(["value": .string, "metadata": .stringMap])
    kind.shape = [
      "spec": .object([
        "deviceModelRef": .object(["name": .string]), "nodeName": .string, "protocol": visitor,
        "properties": .list(
          .object([
            "name": .string, "desired": twin, "visitors": visitor, "collectCycle": .int, "reportCycle": .int,
            "reportToCloud": .bool,
          ])),
      ]),
      "status": .object([
        "twins": .list(.object(["propertyName": .string, "reported": twin, "observedDesired": twin])),
        "state": .string, "lastOnlineTime": .string, "conditions": .conditions,
      ]),
    ]
    kind.columns = [
      .name, Column("Node") { .string(PodColumns.orNone(Device($0).nodeName)) },
      Column("Model") { .string(PodColumns.orNone(Device($0).modelName)) },
      Column("State") { .string($0.status["state"].string ?? "") }, .age,
      Column("Protocol", wide: true) { .string(Device($0).protocolName) },
      Column("Twins", wide: true) { object in
        .string(Device(object).twins.map { "\($0.propertyName)=\($0.reported ?? "")" }.joined(separator: ","))
      },
    ]
    kind.validate = { DeviceRules.validate(Device($0), into: &$1) }
    kind.validateUpdate = { new, old, errors in
      errors.immutable("spec.deviceModelRef", new.spec["deviceModelRef"], old.spec["deviceModelRef"])
    }
    kind.selectableFields = [
      "spec.nodeName": { Device($0).nodeName }, "spec.deviceModelRef.name": { Device($0).modelName },
    ]
    kind.node = { object in
      let name = Device(object).nodeName
      return name.isEmpty ? nil : name
    }
    kind.references = { object in
      let model = Device(object).modelName
      return model.isEmpty ? [] : ["\(DeviceModel.resource)/\(object.namespace)/\(model)"]
    }
    return kind
  }()

  package static let deviceModel: Kind = {
    var kind = Kind(group: Device.group, version: Device.version, kind: "DeviceModel", plural: "devicemodels")
    kind.countsGenerations = true
    kind.shape = [
      "spec": .object([
        "protocol": .string,
        "properties": .list(
          .object([
            "name": .string, "description": .string, "type": .string, "accessMode": .string, "unit": .string,
          ])),
      ])
    ]
    kind.columns = [
      .name, Column("Protocol") { .string(DeviceModel($0).protocolName) },
      Column("Properties", type: "integer") { .int(Int64(DeviceModel($0).properties.count)) }, .age,
    ]
    kind.validate = { DeviceRules.validate(DeviceModel($0), into: &$1) }
    return kind
  }()
}

private enum DeviceRules {
  /// Properties of one device or model.
  static let maxProperties = 1000
  /// Milliseconds; a faster poll would starve the others on its line.
  static let minCycle: Int64 = 1

  static func validate(_ device: Device, into errors: inout Validation) {
    if device.modelName.isEmpty { errors.required("spec.deviceModelRef.name") }
    if device.protocolName.isEmpty { errors.required("spec.protocol.protocolName") }
    if !device.nodeName.isEmpty { errors.invalid("spec.nodeName", device.nodeName, Names.subdomain(device.nodeName)) }
    names(device.properties.map(\.name), into: &errors)
    for (index, property) in device.properties.enumerated() {
      for field in ["collectCycle", "reportCycle"] {
        if let cycle = property.value[field].int, cycle < minCycle {
          errors.invalid("spec.properties[\(index)].\(field)", .int(cycle), "must be at least \(minCycle) ms")
        }
      }
    }
  }

  static func validate(_ model: DeviceModel, into errors: inout Validation) {
    names(model.properties.map(\.name), into: &errors)
    for (index, property) in model.properties.enumerated() {
      let path = "spec.properties[\(index)]"
      if property.type.isEmpty {
        errors.required("\(path).type")
      } else {
        errors.choice("\(path).type", property.value["type"], DeviceModel.types)
      }
      errors.choice("\(path).accessMode", property.value["accessMode"], DeviceModel.accessModes)
      if let low = property.minimum, let high = property.maximum, low > high {
        errors.invalid("\(path).minimum", property.value["minimum"], "must not be greater than maximum")
      }
    }
  }

  private static func names(_ names: [String], into errors: inout Validation) {
    if names.count > maxProperties {
      errors.invalid("spec.properties", .int(Int64(names.count)), "must have at most \(maxProperties) items")
    }
    var seen: Set<String> = []
    for (index, name) in names.enumerated() {
      if name.isEmpty { errors.required("spec.properties[\(index)].name") }
      if !seen.insert(name).inserted { errors.duplicate("spec.properties[\(index)].name", .string(name)) }
    }
  }
}
