import API
import Base
import Transport
import Wire

/// `devices/command`: asked in the cloud, answered by devicecore on the device's node, within a deadline.
@LoopActor package final class DeviceCalls {
  private let forwarder: ReadingsForwarder
  private let random: any RandomSource
  package init(forwarder: ReadingsForwarder, random: any RandomSource) {
    self.forwarder = forwarder
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
    var parameters: Value = [
      "device": .string("\(reference.namespace)/\(reference.name)"), "property": .string(property),
      "id": .string(options["id"].string ?? random.uuid()), "deadline": .int(seconds * 1000),
      "caller": .string(Self.user(options, caller)),
    ]
    if options["verb"].string == "set" { parameters["value"] = options["value"] }
    do throws(CallError) {
      let answer = try await devices.call(
        method: "device.command", params: parameters, deadline: .seconds(seconds + 1))
      return try Self.result(answer, property)
    } catch {
      throw APIError(APIError.Reason(rawValue: error.reason) ?? .serviceUnavailable, error.message)
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
