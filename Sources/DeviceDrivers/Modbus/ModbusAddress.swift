import Base
import DeviceSDK

/// How to reach a Modbus device: spec.protocol.configData.
package struct ModbusAddress: Sendable, Hashable {
  package enum Link: Sendable, Hashable {
    case tcp(host: String, port: Int)
    case serial(Serial)
  }
  package struct Serial: Sendable, Hashable {
    package var path: String
    package var baud: Int
    /// `N`, `E` or `O`.
    package var parity: Character
    package var dataBits: Int
    package var stopBits: Int
  }
  package var link: Link
  /// Unit identifier (slave address).
  package var unit: Int
  /// How long one request may take.
  package var timeout: Duration
  /// Unread addresses that a grouped read may span.
  package var gap: Int

  package static let defaultTimeout: Int64 = 1000

  /// Devices with the same link share one connection, on which requests go one after the other: many gateways
  /// and every serial line allow no more.
  package var linkKey: String {
    switch link {
    case .tcp(let host, let port): "\(host):\(port)"
    case .serial(let serial): serial.path
    }
  }

  package init(link: Link, unit: Int = 1, timeout: Duration = .milliseconds(1000), gap: Int = 0) {
    self.link = link
    self.unit = unit
    self.timeout = timeout
    self.gap = gap
  }

  /// Reads configData; errors name the device, the field and the remedy.
  package init(device: String, _ configuration: Value) throws(DriverError) {
    let fields = ProtocolFields(device: device, value: configuration)
    unit = Int(try fields.int(["slaveID", "unitID"], in: 0...255) ?? 1)
    timeout = .milliseconds(try fields.int(["timeout"], in: 10...60_000) ?? Self.defaultTimeout)
    gap = Int(try fields.int(["maxGap"], in: 0...100) ?? 0)
    if let host = try fields.text(["ip", "host", "address"]) {
      guard !host.isEmpty else { throw fields.bad("ip", "the device's address") }
      link = .tcp(host: host, port: Int(try fields.int(["port"], in: 1...65535) ?? 502))
    } else if let path = try fields.text(["serialPort"]) {
      guard path.hasPrefix("/") else { throw fields.bad("serialPort", "a path such as /dev/ttyS0") }
      let parity: Character
      switch try fields.text(["parity"])?.lowercased() ?? "none" {
      case "none", "n": parity = "N"
      case "even", "e": parity = "E"
      case "odd", "o": parity = "O"
      default: throw fields.bad("parity", "none, even or odd")
      }
      link = .serial(
        Serial(
          path: path, baud: Int(try fields.int(["baudRate"], in: 110...921_600) ?? 9600), parity: parity,
          dataBits: Int(try fields.int(["dataBits"], in: 5...8) ?? 8),
          stopBits: Int(try fields.int(["stopBits"], in: 1...2) ?? 1)))
    } else {
      throw fields.bad("ip", "the device's address (Modbus TCP), or serialPort (RTU)")
    }
  }
}

/// The fields of spec.protocol.configData with their errors.
private struct ProtocolFields {
  let device: String
  let value: Value

  func bad(_ field: String, _ remedy: String) -> DriverError {
    let given = value[field].isNull ? "is missing" : "cannot be \"\(value[field].deviceText)\""
    return DriverError(
      .configuration, "device \(device): spec.protocol.configData.\(field) \(given): say \(remedy)")
  }

  /// The first of several names for the same field.
  func text(_ names: [String]) throws(DriverError) -> String? {
    for name in names {
      switch value[name] {
      case .null: continue
      case .string(let text): return text
      case .int(let int): return "\(int)"
      default: throw bad(name, "a text or a whole number")
      }
    }
    return nil
  }

  func int(_ names: [String], in range: ClosedRange<Int64>) throws(DriverError) -> Int64? {
    guard let text = try text(names) else { return nil }
    guard let int = Int64(text), range.contains(int) else {
      let name = names.first { !value[$0].isNull } ?? names[0]
      throw bad(name, "a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return int
  }
}
