import Base

/// Why a driver could not do what it was asked. The kind decides what the service does next; the message goes into
/// the bad reading or the command's answer.
package struct DriverError: Error, Sendable, Hashable, CustomStringConvertible {
  package enum Kind: String, Sendable {
    /// The Device or DeviceModel says something that the driver cannot follow; trying again cannot help.
    case configuration
    /// No connection, or it broke: the whole device is away, back off.
    case unreachable
    /// The device did not answer in time: back off as well.
    case timeout
    /// The device answered with an error for this one request.
    case refused
    /// The value does not fit: out of the model's bounds or of the register's range, or not a number.
    case value
    /// What was written did not read back.
    case readBack
    /// A write was sent and its outcome is not known: no answer, or the driver went away meanwhile.
    case uncertain
    /// The deadline passed before anything was sent.
    case expired
  }
  package let kind: Kind
  package let message: String
  package init(_ kind: Kind, _ message: String) {
    self.kind = kind
    self.message = message
  }
  package var description: String { message }
  /// True when the device as a whole is away, so that nothing else on it need be tried now.
  package var isOutage: Bool { kind == .unreachable || kind == .timeout || kind == .uncertain }
}

/// A value that was read, with the type under which it is reported.
package struct Sample: Sendable, Hashable {
  package var type: ValueType
  package var value: Value
  package init(type: ValueType, value: Value) {
    self.type = type
    self.value = value
  }
}

/// What a write did: the value that was there before, if it could be read, and what reads back now.
package struct WriteOutcome: Sendable, Hashable {
  package var before: Value
  package var after: Value
  /// False when the device already held the value and nothing was sent.
  package var written: Bool
  package init(before: Value, after: Value, written: Bool) {
    self.before = before
    self.after = after
    self.written = written
  }
}

/// A protocol's driver: makes connections to devices. Devices at one address may share a connection underneath.
@LoopActor package protocol Driver: AnyObject, Sendable {
  /// As spec.protocol.protocolName names it.
  var protocolName: String { get }
  /// Reads the device's configuration, without any input or output. A configuration that cannot be used as a
  /// whole throws; single properties that cannot are told by `problems` and the rest works.
  func connection(to device: DeviceAssignment) throws(DriverError) -> any DriverConnection
}

/// One device as a driver reaches it. The service makes one call at a time and gives each a deadline; a call may
/// suspend, but never blocks the loop.
@LoopActor package protocol DriverConnection: AnyObject, Sendable {
  /// Properties whose configuration cannot be used, each with the reason and the remedy.
  var problems: [String: DriverError] { get }
  /// The type under which a property is reported, also when reading it failed; nil for an unknown property.
  func reportedType(_ property: String) -> ValueType?
  /// Connects; does nothing when connected.
  func open(deadline: Duration) async throws(DriverError)
  /// Reads properties in as few requests as the protocol allows. Every property that was asked for is answered.
  func read(_ properties: [String], deadline: Duration) async -> [String: Result<Sample, DriverError>]
  /// Writes one property and reads it back. With `onlyIfDifferent` it reads first and leaves a device alone that
  /// already holds the value: how desired values are applied.
  func write(
    _ property: String, value: Value, onlyIfDifferent: Bool, deadline: Duration
  ) async throws(DriverError) -> WriteOutcome
  /// Ends the connection; `open` makes a new one.
  func close()
}
