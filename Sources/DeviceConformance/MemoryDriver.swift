import Base
import DeviceSDK

/// A driver without devices: properties are cells in memory. For tests of what is above drivers; it passes the same
/// suite as the real ones.
///
/// The visitor says what a cell does: `{"cell": name}` and optionally `"fault": "refused"`, `"stall"` (no read is
/// answered) or `"mute"` (a write happens and is not answered). The device's configuration says `{"bank": name}`; a bank that is not in `banks` is unreachable.
@LoopActor package final class MemoryDriver: Driver {
  package let protocolName = "memory"
  package var banks: [String: [String: Value]] = [:]
  /// Stalled reads never answer before their deadline.
  package let scheduler: any Scheduler
  /// Called after each answered read, with the names in one request.
  package var onRead: (@LoopActor ([String]) -> Void)?
  /// Values written, in order: `bank/cell`, value.
  package private(set) var written: [(cell: String, value: Value)] = []

  package init(scheduler: any Scheduler) { self.scheduler = scheduler }

  package func connection(to device: DeviceAssignment) throws(DriverError) -> any DriverConnection {
    guard let bank = device.configuration["bank"].string else {
      throw DriverError(.configuration, "device \(device.device): configData.bank is missing: name one")
    }
    return MemoryConnection(driver: self, bank: bank, device: device)
  }

  fileprivate func note(_ cell: String, _ value: Value) { written.append((cell, value)) }
}

@LoopActor private final class MemoryConnection: DriverConnection {
  private let driver: MemoryDriver
  private let bank: String
  private var properties: [String: PropertyAssignment] = [:]
  private(set) var problems: [String: DriverError] = [:]

  init(driver: MemoryDriver, bank: String, device: DeviceAssignment) {
    self.driver = driver
    self.bank = bank
    for property in device.properties {
      properties[property.name] = property
      if property.visitor["cell"].string == nil {
        problems[property.name] = DriverError(
          .configuration, "property \(property.name): visitors.configData.cell is missing: name one")
      }
    }
  }

  func reportedType(_ property: String) -> ValueType? { properties[property]?.type.fallback }

  func open(deadline: Duration) async throws(DriverError) {
    guard driver.banks[bank] != nil else { throw DriverError(.unreachable, "bank \(bank) is not there") }
  }

  func close() {}

  func read(_ names: [String], deadline: Duration) async -> [String: Result<Sample, DriverError>] {
    var samples: [String: Result<Sample, DriverError>] = [:]
    if names.contains(where: { properties[$0]?.visitor["fault"] == "stall" }) {
      try? await driver.scheduler.sleep(for: deadline)
    }
    for name in names { samples[name] = Result { () throws(DriverError) in try sample(name) } }
    driver.onRead?(names)
    return samples
  }

  private func property(_ name: String) throws(DriverError) -> PropertyAssignment {
    guard let property = properties[name] else {
      throw DriverError(.configuration, "property \(name) is not known")
    }
    if let problem = problems[name] { throw problem }
    return property
  }

  private func sample(_ name: String) throws(DriverError) -> Sample {
    let property = try property(name)
    guard let cells = driver.banks[bank] else { throw DriverError(.unreachable, "bank \(bank) is not there") }
    if property.visitor["fault"] == "refused" { throw DriverError(.refused, "property \(name): refused") }
    if property.visitor["fault"] == "stall" { throw DriverError(.timeout, "property \(name): no answer in time") }
    guard let value = cells[property.visitor["cell"].string ?? ""] else {
      throw DriverError(.refused, "property \(name): there is no such cell")
    }
    return Sample(type: property.type.fallback, value: value)
  }

  func write(
    _ name: String, value: Value, onlyIfDifferent: Bool, deadline: Duration
  ) async throws(DriverError) -> WriteOutcome {
    let property = try property(name)
    guard property.writable else { throw DriverError(.configuration, "property \(name) is read-only") }
    let before = try sample(name).value
    let wanted = try converted(value, property)
    if onlyIfDifferent, before == wanted { return WriteOutcome(before: before, after: before, written: false) }
    let cell = property.visitor["cell"].string ?? ""
    driver.banks[bank]?[cell] = wanted
    driver.note("\(bank)/\(cell)", wanted)
    if property.visitor["fault"] == "mute" {
      try? await driver.scheduler.sleep(for: deadline)
      throw DriverError(.uncertain, "property \(name): no answer to the write")
    }
    return WriteOutcome(before: before, after: wanted, written: true)
  }

  private func converted(_ value: Value, _ property: PropertyAssignment) throws(DriverError) -> Value {
    let refused = DriverError(.value, "property \(property.name): cannot write \"\(value.deviceText)\"")
    switch property.type {
    case .string, .bytes, .stream: return .string(value.deviceText)
    case .boolean:
      guard let bool = value.deviceBool else { throw refused }
      return .bool(bool)
    case .int, .float, .double:
      guard let number = Number(value), let converted = number.value else { throw refused }
      if let low = property.minimum, number.double < low { throw refused }
      if let high = property.maximum, number.double > high { throw refused }
      return converted
    }
  }
}
