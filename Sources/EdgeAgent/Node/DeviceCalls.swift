import API
import Base
import Transport
import Wire

/// `devices/command`: asked in the cloud, answered by devicecore on the device's node, within a deadline.
///
/// The deadline of a command from the cloud runs there, and the command may have been under way for long. So the cloud
/// is asked what is left, and that is counted from the asking; what is under way on this machine carries the moment
/// on the machine's monotonic clock.
@LoopActor package final class DeviceCalls {
  private let forwarder: ReadingsForwarder
  private let random: any RandomSource
  private let scheduler: any Scheduler
  /// The session with the cloud.
  package var cloud: @LoopActor () -> Session? = { nil }

  package init(forwarder: ReadingsForwarder, scheduler: any Scheduler, random: any RandomSource) {
    self.forwarder = forwarder
    self.scheduler = scheduler
    self.random = random
  }

  package func command(_ reference: ObjectReference, _ options: Value, _ caller: Caller) async throws(APIError) -> Value
  {
    guard let devices = forwarder.devices else {
      throw APIError(.serviceUnavailable, "devicecore is not running on the node of device \"\(reference.name)\"")
    }
    guard let property = options["property"].string else {
      throw APIError(.badRequest, "a device command names a property")
    }
    let seconds = min(max(1, options["timeoutSeconds"].int ?? ConnectCall.commandTimeout), 600)
    var until = scheduler.now + .seconds(seconds)
    if let ticket = options["ticket"].string, caller.groups.contains(EdgeAuthorizer.cloudGroup) {
      until = min(until, try await deadline(ticket, seconds))
    }
    // One with no time left goes on all the same: it may have run when it was asked before, which devicecore knows.
    let left = max(.zero, until - scheduler.now)
    var parameters: Value = [
      "device": .string("\(reference.namespace)/\(reference.name)"), "property": .string(property),
      "id": .string(options["id"].string ?? random.uuid()), "deadline": .int(left.milliseconds),
      "until": .int(Int64(clamping: until.nanoseconds)),
      "caller": .string(Self.user(options, caller)),
    ]
    if options["verb"].string == "set" { parameters["value"] = options["value"] }
    do throws(CallError) {
      return try Self.result(try await Self.ask(devices, parameters, left), property)
    } catch {
      throw APIError(APIError.Reason(rawValue: error.reason) ?? .serviceUnavailable, error.message)
    }
  }

  /// `devices/readings` on the node: the newest that devicecore has taken since its start. The series is in the cloud.
  package func readings(_ reference: ObjectReference, _ options: Value) async throws(APIError) -> Value {
    guard let devices = forwarder.devices else {
      throw APIError(.serviceUnavailable, "devicecore is not running on the node of device \"\(reference.name)\"")
    }
    var parameters: Value = ["device": .string("\(reference.namespace)/\(reference.name)")]
    for key in ["property", "after", "limit"] where !options[key].isNull { parameters[key] = options[key] }
    do throws(CallError) {
      return try await devices.call(method: "readings.recent", params: parameters, deadline: .seconds(10))
    } catch {
      throw APIError(APIError.Reason(rawValue: error.reason) ?? .serviceUnavailable, error.message)
    }
  }

  /// devicecore's answer; one that did not come leaves it open whether the command ran.
  private static func ask(_ devices: Session, _ parameters: Value, _ left: Duration) async throws(CallError) -> Value {
    do throws(CallError) {
      return try await devices.call(method: "device.command", params: parameters, deadline: left + .seconds(1))
    } catch {
      guard ["Timeout", "Disconnected"].contains(error.reason) else { throw error }
      throw CallError(reason: "Timeout", message: "Unknown: devicecore was asked and did not answer: \(error.message)")
    }
  }

  /// When a command of the cloud expires, on this machine's clock.
  private func deadline(_ ticket: String, _ seconds: Int64) async throws(APIError) -> Instant {
    guard let cloud = cloud() else {
      throw APIError(.serviceUnavailable, "the session with the cloud is over; the command was not begun")
    }
    let asked = scheduler.now
    do throws(CallError) {
      let answer = try await cloud.call(
        method: "command.left", params: ["ticket": .string(ticket)], deadline: .seconds(seconds))
      return asked + .milliseconds(answer["milliseconds"].int ?? 0)
    } catch {
      // A cloud of the version before this does not know the question.
      if error.reason == CallError.unknownMethod { return asked + .seconds(seconds) }
      throw APIError(.serviceUnavailable, "the cloud did not tell what is left of the command's time: \(error.message)")
    }
  }

  /// Who asks, for the audit: the cloud tells its user's name, everyone else speaks for himself.
  private static func user(_ options: Value, _ caller: Caller) -> String {
    guard caller.groups.contains(EdgeAuthorizer.cloudGroup) else { return caller.user }
    return options["caller"].string ?? caller.user
  }

  private static func result(_ answer: Value, _ property: String) throws(CallError) -> Value {
    let message = answer["message"].string ?? ""
    switch answer["state"].string {
    case "Done":
      return ["property": .string(property), "value": answer["value"], "quality": "Good", "time": answer["time"]]
    case "Expired": throw CallError(reason: "Timeout", message: "Expired: \(message)")
    case "Unknown": throw CallError(reason: "Timeout", message: "Unknown: \(message)")
    default:
      throw CallError(
        reason: answer["reason"].string ?? "ServiceUnavailable",
        message: message.isEmpty ? "the command failed" : message)
    }
  }
}
