import Base

/// A view of a Device (devices.kubeedge.io/v1beta1): one machine at one node.
package struct Device: Sendable, Hashable {
  package var object: Object
  package init(_ object: Object) { self.object = object }

  package static let group = "devices.kubeedge.io"
  package static let version = "v1beta1"
  package static let resource = "devices.devices.kubeedge.io"

  package var name: String { object.name }
  package var namespace: String { object.namespace }
  package var uid: String { object.uid }
  /// The node whose device services drive it.
  package var nodeName: String { object.spec["nodeName"].string ?? "" }
  /// The DeviceModel's name, in the same namespace.
  package var modelName: String { object.spec["deviceModelRef"]["name"].string ?? "" }
  /// `modbus`, …: which driver.
  package var protocolName: String { object.spec["protocol"]["protocolName"].string ?? "" }
  /// How to reach the device; the driver's own members.
  package var protocolConfig: Value { object.spec["protocol"]["configData"] }
  package var properties: [Property] { (object.spec["properties"].array ?? []).map(Property.init) }
  package func property(_ name: String) -> Property? { properties.first { $0.name == name } }
  package var twins: [Twin] { (object.status["twins"].array ?? []).map(Twin.init) }

  /// spec.properties[]: how one property of the model is read and written on this device.
  package struct Property: Sendable, Hashable {
    package var value: Value
    package init(_ value: Value) { self.value = value }
    package var name: String { value["name"].string ?? "" }
    /// The value that the device is to have; nil: nothing is wanted.
    package var desired: String? { value["desired"]["value"].string }
    package var visitorProtocol: String { value["visitors"]["protocolName"].string ?? "" }
    /// Where the property lies; the driver's own members.
    package var visitorConfig: Value { value["visitors"]["configData"] }
    /// Milliseconds between reads; nil: the driver's default.
    package var collectCycle: Int64? { value["collectCycle"].int }
    /// Milliseconds between reports of the newest value.
    package var reportCycle: Int64? { value["reportCycle"].int }
    package var reportToCloud: Bool { value["reportToCloud"].bool ?? false }
  }

  /// status.twins[]: what the device last reported, and which desired value it was last asked for.
  package struct Twin: Sendable, Hashable {
    package var value: Value
    package init(_ value: Value) { self.value = value }
    package init(propertyName: String) { value = ["propertyName": .string(propertyName)] }
    package var propertyName: String { value["propertyName"].string ?? "" }
    package var reported: String? { value["reported"]["value"].string }
    package var reportedTimestamp: String? { value["reported"]["metadata"]["timestamp"].string }
    package var observedDesired: String? { value["observedDesired"]["value"].string }
  }
}

/// A view of a DeviceModel (devices.kubeedge.io/v1beta1): what devices of a type have.
package struct DeviceModel: Sendable, Hashable {
  package var object: Object
  package init(_ object: Object) { self.object = object }

  package static let resource = "devicemodels.devices.kubeedge.io"
  /// spec.properties[].type.
  package static let types = ["INT", "FLOAT", "DOUBLE", "STRING", "BOOLEAN", "BYTES", "STREAM"]
  package static let accessModes = ["ReadWrite", "ReadOnly"]

  package var name: String { object.name }
  package var protocolName: String { object.spec["protocol"].string ?? "" }
  package var properties: [Property] { (object.spec["properties"].array ?? []).map(Property.init) }
  package func property(_ name: String) -> Property? { properties.first { $0.name == name } }

  package struct Property: Sendable, Hashable {
    package var value: Value
    package init(_ value: Value) { self.value = value }
    package var name: String { value["name"].string ?? "" }
    package var type: String { value["type"].string ?? "" }
    package var isWritable: Bool { value["accessMode"].string == "ReadWrite" }
    /// Bounds are texts, as the kind has them.
    package var minimum: Double? { value["minimum"].string.flatMap(Double.init) ?? value["minimum"].double }
    package var maximum: Double? { value["maximum"].string.flatMap(Double.init) ?? value["maximum"].double }
    package var unit: String { value["unit"].string ?? "" }
  }
}
