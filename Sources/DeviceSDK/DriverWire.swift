import Base
import Wire

/// The words of the protocol between devicecore and its drivers, on a Unix socket (docs/devices.md).
///
/// The driver connects with the hello `{"role": "driver", "protocol": NAME}` and opens
/// * `driver.assignments` (a stream): devicecore sends `{"set": assignment}` and `{"remove": "ns/name"}`, and
///   `{"synced": true}` once everything has been said;
/// * `driver.readings` `{"run", "seq", "lost", "r": [row, …]}` (a call, answered when stored).
///
/// devicecore opens the calls `driver.read` `{"device", "property", "deadline"}` (answer `{"type", "value"}`) and
/// `driver.write` `{… "value", "onlyIfDifferent"}` (answer `{"before", "after", "written"}`). Deadlines are in
/// milliseconds from now; `until` beside one is the same moment on the monotonic clock that this machine's processes
/// share, so that a call that waited in the socket does not run late. An error's reason is the kind of `DriverError`.
package enum DriverWire {
  package static let role = "driver"
  package static let assignments = "driver.assignments"
  package static let readings = "driver.readings"
  package static let read = "driver.read"
  package static let write = "driver.write"
}

extension DriverError {
  package var call: CallError { CallError(reason: kind.rawValue, message: message) }

  /// What a failed call to a driver means. A call that broke off has an uncertain outcome if it was a write.
  package init(_ error: CallError, writing: Bool) {
    if let kind = Kind(rawValue: error.reason) {
      self.init(kind, error.message)
    } else if writing {
      self.init(.uncertain, "the driver went away or did not answer (\(error.message)): the write may have happened")
    } else {
      self.init(.unreachable, "the driver went away or did not answer: \(error.message)")
    }
  }
}

extension WriteOutcome {
  package var value: Value { ["before": before, "after": after, "written": .bool(written)] }
  package init(_ value: Value) {
    self.init(before: value["before"], after: value["after"], written: value["written"].bool ?? true)
  }
}

extension Sample {
  package var wire: Value { ["type": .string(type.rawValue), "value": value] }
  package init?(wire: Value) {
    guard let type = wire["type"].string.flatMap(ValueType.init(rawValue:)) else { return nil }
    self.init(type: type, value: wire["value"])
  }
}
