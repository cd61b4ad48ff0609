import Base

/// What a driver is told of one device: everything it needs from the Device and DeviceModel objects, and nothing of
/// the cluster. It crosses the driver socket as a value.
package struct DeviceAssignment: Sendable, Hashable {
  /// `namespace/name`.
  package var device: String
  /// Tells a device that was deleted and made again from the one before.
  package var uid: String
  /// spec.protocol.protocolName, such as `modbus`.
  package var protocolName: String
  /// spec.protocol.configData, as the driver understands it.
  package var configuration: Value
  package var properties: [PropertyAssignment]

  /// Properties a device may have; more are refused with a message, so that one object cannot fill a driver.
  package static let maxProperties = 2000

  package init(
    device: String, uid: String, protocolName: String, configuration: Value, properties: [PropertyAssignment]
  ) {
    self.device = device
    self.uid = uid
    self.protocolName = protocolName
    self.configuration = configuration
    self.properties = properties
  }

  package var value: Value {
    [
      "device": .string(device), "uid": .string(uid), "protocol": .string(protocolName),
      "configuration": configuration, "properties": .array(properties.map(\.value)),
    ]
  }

  package init?(_ value: Value) {
    guard let device = value["device"].string, let protocolName = value["protocol"].string,
      let properties = value["properties"].array, properties.count <= Self.maxProperties
    else { return nil }
    let parsed = properties.compactMap(PropertyAssignment.init)
    guard parsed.count == properties.count else { return nil }
    self.init(
      device: device, uid: value["uid"].string ?? "", protocolName: protocolName,
      configuration: value["configuration"], properties: parsed)
  }
}

/// One property of a device, the model's facts and the device's joined.
package struct PropertyAssignment: Sendable, Hashable {
  package var name: String
  package var type: ModelType
  /// The model's accessMode is ReadWrite.
  package var writable: Bool
  /// The model's bounds for writes.
  package var minimum: Double?
  package var maximum: Double?
  /// visitors.configData: where the value is, in the protocol's words.
  package var visitor: Value
  /// Milliseconds between polls (collectCycle).
  package var interval: Int64

  package init(
    name: String, type: ModelType, writable: Bool, minimum: Double? = nil, maximum: Double? = nil, visitor: Value,
    interval: Int64
  ) {
    self.name = name
    self.type = type
    self.writable = writable
    self.minimum = minimum
    self.maximum = maximum
    self.visitor = visitor
    self.interval = interval
  }

  package var value: Value {
    var value: Value = [
      "name": .string(name), "type": .string(type.rawValue), "writable": .bool(writable), "visitor": visitor,
      "interval": .int(interval),
    ]
    if let minimum { value["minimum"] = .double(minimum) }
    if let maximum { value["maximum"] = .double(maximum) }
    return value
  }

  package init?(_ value: Value) {
    guard let name = value["name"].string, let type = value["type"].string.flatMap(ModelType.init(rawValue:)),
      let interval = value["interval"].int, interval > 0
    else { return nil }
    self.init(
      name: name, type: type, writable: value["writable"].bool ?? false, minimum: value["minimum"].double,
      maximum: value["maximum"].double, visitor: value["visitor"], interval: interval)
  }
}
