import Base
import DeviceSDK
import Logging

/// A command to a device: read a property now, or write one.
package struct DeviceCommand: Sendable, Hashable {
  /// Drawn by whoever asks first: the same id runs once.
  package var id: String
  package var device: String
  package var property: String
  /// Nil reads.
  package var value: Value?
  /// From now.
  package var deadline: Duration
  /// The user, as edgecore authenticated it.
  package var caller: String

  package static let maxID = 128
  package static let maxDeadline: Duration = .seconds(600)

  package init(
    id: String, device: String, property: String, value: Value?, deadline: Duration, caller: String
  ) {
    self.id = id
    self.device = device
    self.property = property
    self.value = value
    self.deadline = deadline
    self.caller = caller
  }

  /// From the params of `device.command`: `{"device", "property", "id", "deadline"}`, and `value`, `caller`, `until`.
  /// `until` is the deadline on the monotonic clock that this machine's processes share, so that what waited in a
  /// socket is not taken for fresh; `now` is on it too.
  package init(_ params: Value, now: Instant) throws(SkerryError) {
    guard let id = params["id"].string, !id.isEmpty, id.utf8.count <= Self.maxID,
      let device = params["device"].string, let property = params["property"].string,
      let deadline = params["deadline"].int
    else {
      throw SkerryError(
        .invalidArgument, "a command needs id (1 to \(Self.maxID) bytes), device, property and deadline (milliseconds)")
    }
    var left = min(.milliseconds(deadline), Self.maxDeadline)
    if let until = params["until"].int, until >= 0 {
      left = min(left, Instant(nanoseconds: UInt64(until)) - now)
    }
    self.init(
      id: id, device: device, property: property, value: params.object?["value"].flatMap { $0.isNull ? nil : $0 },
      deadline: left, caller: params["caller"].string ?? "")
  }
}

/// What became of a command.
package struct CommandAnswer: Sendable, Hashable {
  package var state: CommandState
  /// Of a read: what was read; of a write: what reads back.
  package var value: Value = .null
  /// Of a write: what was there before.
  package var before: Value = .null
  package var message = ""
  /// Of a failure, in Kubernetes' words: `BadRequest` when asking again cannot help.
  package var reason = ""
  /// Milliseconds since 1970 on the edge.
  package var time: Int64

  package var wire: Value {
    var wire: Value = ["state": .string(state.rawValue), "message": .string(message), "time": .int(time)]
    if !value.isNull { wire["value"] = value }
    if !before.isNull { wire["before"] = before }
    if !reason.isEmpty { wire["reason"] = .string(reason) }
    return wire
  }
}

/// Runs commands: each id once, none past its deadline, each written down before it is run.
@LoopActor package final class CommandService {
  /// Commands under way; beyond it they are refused.
  package static let maxRunning = 256

  private let hub: DriverHub
  private let store: ReadingStore
  private let scheduler: any Scheduler
  private let logger: Logger
  private var running: [String: Task<CommandAnswer, Never>] = [:]
  private var ended: [CommandState: Counter] = [:]

  package init(
    hub: DriverHub, store: ReadingStore, scheduler: any Scheduler, metrics: Metrics = Metrics(), logger: Logger
  ) {
    for state in [CommandState.done, .expired, .unknown, .failed] {
      ended[state] = metrics.counter(
        "skerry_device_commands_total", "Commands by how they ended.", [("state", state.rawValue)])
    }
    self.hub = hub
    self.store = store
    self.scheduler = scheduler
    self.logger = logger
  }

  /// Runs the command, or answers what is known of one with the same id.
  package func run(_ command: DeviceCommand) async -> CommandAnswer {
    if let task = running[command.id] { return await task.value }
    guard running.count < Self.maxRunning else {
      return answer(.failed, "\(running.count) commands are under way on this node: try later")
    }
    let until = scheduler.now + command.deadline
    let task = spawn { await self.execute(command, until: until) }
    running[command.id] = task
    let answer = await task.value
    running[command.id] = nil
    ended[answer.state]?.add()
    return answer
  }

  private func answer(_ state: CommandState, _ message: String) -> CommandAnswer {
    CommandAnswer(state: state, message: message, time: store.wallMilliseconds)
  }

  private func execute(_ command: DeviceCommand, until: Instant) async -> CommandAnswer {
    let entry = AuditEntry(
      command: command.id, device: command.device, property: command.property, origin: "command",
      caller: command.caller, verb: command.value == nil ? "read" : "write", value: command.value ?? .null,
      state: .running, started: store.wallMilliseconds)
    let row: Int64
    do throws(SkerryError) {
      switch try await store.perform({ log throws(SkerryError) in try log.begin(entry) }) {
      case .begun(let id): row = id
      case .repeated(let known): return Self.answer(known)
      }
    } catch {
      logger.error(.deviceStoreFailed, "a command could not be written down: \(error)")
      return answer(.failed, "the command was not run, since the audit cannot be written: \(error)")
    }
    let result = await carryOut(command, until: until)
    do throws(SkerryError) {
      let now = store.wallMilliseconds
      try await store.perform { log throws(SkerryError) in
        try log.finish(
          row, state: result.state, before: result.before, after: result.value, message: result.message, now: now)
      }
    } catch {
      logger.error(.deviceStoreFailed, "the end of command \(command.id) could not be written down: \(error)")
    }
    return result
  }

  /// What the audit knows of a command that was asked before.
  private static func answer(_ known: AuditEntry) -> CommandAnswer {
    let time = known.finished == 0 ? known.started : known.finished
    // Nobody runs it now, so its end was never written.
    guard known.state != .running else {
      return CommandAnswer(state: .unknown, message: "it was begun before and its end is not known", time: time)
    }
    return CommandAnswer(
      state: known.state, value: known.after, before: known.before, message: known.message, time: time)
  }

  private func carryOut(_ command: DeviceCommand, until: Instant) async -> CommandAnswer {
    let left = until - scheduler.now
    guard left >= .milliseconds(1) else { return answer(.expired, "the deadline passed before the command was begun") }
    do throws(DriverError) {
      var result = answer(.done, "")
      if let value = command.value {
        let outcome = try await hub.write(
          command.device, command.property, value: value, onlyIfDifferent: false, deadline: left)
        (result.before, result.value) = (outcome.before, outcome.after)
      } else {
        result.value = try await hub.read(command.device, command.property, deadline: left).value
      }
      result.time = store.wallMilliseconds
      return result
    } catch {
      switch error.kind {
      case .expired: return answer(.expired, error.message)
      case .uncertain: return answer(.unknown, error.message)
      default:
        var failed = answer(.failed, error.message)
        failed.reason = error.kind == .configuration || error.kind == .value ? "BadRequest" : "ServiceUnavailable"
        return failed
      }
    }
  }
}
