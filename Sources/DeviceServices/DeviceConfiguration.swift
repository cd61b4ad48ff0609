import Base
import DeviceSDK
import ObjectModel

/// Joins a Device with its DeviceModel (`devices.kubeedge.io/v1beta1`) into what a driver is told. Pure.
///
/// One bad property does not take the others with it: it is left out and told as a problem, which becomes a bad
/// reading of that property.
package enum DeviceConfiguration {
  /// A property that cannot be polled, or (property empty) a whole device.
  package struct Problem: Sendable, Hashable, CustomStringConvertible {
    package var device: String
    package var property: String
    package var message: String
    package var description: String {
      property.isEmpty ? "device \(device): \(message)" : "device \(device), property \(property): \(message)"
    }
  }

  package struct Outcome: Sendable, Hashable {
    /// Nil when nothing of the device can be used.
    package var assignment: DeviceAssignment?
    package var problems: [Problem]
  }

  /// Milliseconds between polls when the device does not say (KubeEdge's mappers take one second).
  package static let defaultInterval: Int64 = 1000
  /// The fastest and slowest poll: below, one property could busy a driver; above, a number was meant in another unit.
  package static let intervalRange: ClosedRange<Int64> = 10...86_400_000

  /// `model` is nil when no DeviceModel of the name that the device refers to is known.
  package static func join(device: Object, model: Object?) -> Outcome {
    let key = "\(device.namespace)/\(device.name)"
    var problems: [Problem] = []
    func problem(_ property: String, _ message: String) {
      problems.append(Problem(device: key, property: property, message: message))
    }
    let spec = device.spec
    let modelName = spec["deviceModelRef"]["name"].string ?? ""
    guard !modelName.isEmpty else {
      problem("", "spec.deviceModelRef.name is missing: name the DeviceModel")
      return Outcome(assignment: nil, problems: problems)
    }
    guard let model else {
      problem("", "DeviceModel \"\(modelName)\" is not known here: create it in namespace \(device.namespace)")
      return Outcome(assignment: nil, problems: problems)
    }
    guard let protocolName = spec["protocol"]["protocolName"].string, !protocolName.isEmpty else {
      problem("", "spec.protocol.protocolName is missing: say modbus, or another protocol that has a driver")
      return Outcome(assignment: nil, problems: problems)
    }
    let given = spec["properties"].array ?? []
    if given.count > DeviceAssignment.maxProperties {
      problem("", "has \(given.count) properties; \(DeviceAssignment.maxProperties) are used: split it into several")
    }
    var assigned: [PropertyAssignment] = []
    var seen: Set<String> = []
    for property in given.prefix(DeviceAssignment.maxProperties) {
      let name = property["name"].string ?? ""
      do throws(PropertyProblem) {
        guard !name.isEmpty else { throw PropertyProblem("has no name: give each of spec.properties one") }
        guard seen.insert(name).inserted else { throw PropertyProblem("appears twice in spec.properties: remove one") }
        assigned.append(try join(name, property, model: model, modelName: modelName, protocolName: protocolName))
      } catch {
        problem(name, error.message)
      }
    }
    if given.isEmpty { problem("", "spec.properties is empty: nothing will be read") }
    let assignment = DeviceAssignment(
      device: key, uid: device.uid, protocolName: protocolName, configuration: spec["protocol"]["configData"],
      properties: assigned)
    return Outcome(assignment: assignment, problems: problems)
  }

  private struct PropertyProblem: Error {
    let message: String
    init(_ message: String) { self.message = message }
  }

  private static func join(
    _ name: String, _ property: Value, model: Object, modelName: String, protocolName: String
  ) throws(PropertyProblem) -> PropertyAssignment {
    guard let fact = (model.spec["properties"].array ?? []).first(where: { $0["name"].string == name }) else {
      throw PropertyProblem("DeviceModel \"\(modelName)\" has no property of that name: add it there or remove it here")
    }
    let word = fact["type"].string ?? ""
    guard let type = ModelType(rawValue: word.uppercased()) else {
      let known = ModelType.allCases.map(\.rawValue).joined(separator: ", ")
      throw PropertyProblem("DeviceModel \"\(modelName)\" says type \"\(word)\": use one of \(known)")
    }
    let visitors = property["visitors"]
    let visitorProtocol = visitors["protocolName"].string ?? protocolName
    guard visitorProtocol == protocolName else {
      throw PropertyProblem(
        "visitors.protocolName is \"\(visitorProtocol)\", but the device's is \"\(protocolName)\": make them equal")
    }
    let interval = property["collectCycle"].int ?? 0
    guard interval == 0 || intervalRange.contains(interval) else {
      throw PropertyProblem(
        "collectCycle \(interval) is out of range: it counts milliseconds, "
          + "\(intervalRange.lowerBound) to \(intervalRange.upperBound)")
    }
    let access = fact["accessMode"].string ?? "ReadOnly"
    guard access == "ReadOnly" || access == "ReadWrite" else {
      throw PropertyProblem("DeviceModel \"\(modelName)\" says accessMode \"\(access)\": use ReadOnly or ReadWrite")
    }
    return PropertyAssignment(
      name: name, type: type, writable: access == "ReadWrite", minimum: try bound(fact, "minimum", modelName),
      maximum: try bound(fact, "maximum", modelName), visitor: visitors["configData"],
      interval: interval == 0 ? defaultInterval : interval)
  }

  /// KubeEdge writes bounds as texts; an empty one is none.
  private static func bound(
    _ fact: Value, _ field: String, _ modelName: String
  ) throws(PropertyProblem) -> Double? {
    switch fact[field] {
    case .null, .string(""): return nil
    default:
      guard let number = Number(fact[field]) else {
        throw PropertyProblem(
          "DeviceModel \"\(modelName)\" says \(field) \"\(fact[field].deviceText)\": give a number, or leave it out")
      }
      return number.double
    }
  }

  /// The desired values of a device by property: spec.properties[].desired.value, which a newer word in
  /// status.twins[].observedDesired does not override, since that only repeats what was seen.
  package static func desired(_ device: Object) -> [String: Value] {
    var desired: [String: Value] = [:]
    for property in device.spec["properties"].array ?? [] {
      let value = property["desired"]["value"]
      if let name = property["name"].string, !value.isNull, value != .string("") { desired[name] = value }
    }
    return desired
  }
}
