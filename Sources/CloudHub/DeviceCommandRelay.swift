import API
import APIClient
import Base
import Transport

/// Device commands on their way to a node. Each waits for its node until its deadline, and is asked again under the
/// same id when the connection broke under it: a node runs an id once. Past the deadline it is answered `Expired` if the
/// node has not begun it, which it says by asking what is left, else `Unknown`.
///
/// A deadline counts on this clock, from the moment the command came. The node cannot know how long a command was
/// under way to it, so before it runs one it asks how much time is left (`command.left`), and counts that from the
/// moment it asked: so it never runs one late, however long either side or the network stood still.
@LoopActor final class DeviceCommandRelay {
  /// Commands that wait for a node or its answer; more are refused, so that a node's absence fills no memory.
  static let maxWaiting = 10_000
  /// The node's own answer, which knows more, may come this much after the deadline.
  static let answerSlack: Duration = .seconds(2)
  static let maxTimeout: Int64 = 600
  /// The call by which a node asks what is left; params `{ticket}`, answer `{milliseconds}`.
  static let leftMethod = "command.left"

  private let scheduler: any Scheduler
  private let random: any RandomSource
  /// Deadlines by ticket.
  private var deadlines: [String: Instant] = [:]
  /// Tickets whose node was told that time is left.
  private var begun: Set<String> = []
  private var waiting: [String: [UInt64: CheckedContinuation<Void, Never>]] = [:]
  private var nextWaiter: UInt64 = 0

  init(scheduler: any Scheduler, random: any RandomSource) {
    self.scheduler = scheduler
    self.random = random
  }

  /// Runs a command; `session` tells the node's session that takes calls now.
  func run(
    _ reference: ObjectReference, node: String, options: Value, caller: Caller,
    session: @LoopActor () -> Session?
  ) async throws(APIError) -> Value {
    guard deadlines.count < Self.maxWaiting else {
      throw APIError(.tooManyRequests, "\(deadlines.count) device commands are under way: try later")
    }
    let timeout = min(max(1, options["timeoutSeconds"].int ?? ConnectCall.commandTimeout), Self.maxTimeout)
    let until = scheduler.now + .seconds(timeout)
    let ticket = random.uuid()
    deadlines[ticket] = until
    defer {
      deadlines[ticket] = nil
      begun.remove(ticket)
    }
    var options = options
    options["caller"] = .string(caller.user)
    options["ticket"] = .string(ticket)
    if options["id"].string == nil { options["id"] = .string(random.uuid()) }
    while scheduler.now < until {
      guard let current = session() else {
        await wait(for: node, until: until)
        continue
      }
      do throws(APIError) {
        return try await APIClient(session: current, deadline: until - scheduler.now + Self.answerSlack).connect(
          reference, subresource: "command", options: options, stream: nil, caller: caller)
      } catch {
        // What the node said is the answer; what its connection said is none.
        if !current.isClosed, scheduler.now < until + Self.answerSlack { throw error }
      }
    }
    if begun.contains(ticket) {
      throw APIError(
        .timeout, "Unknown: node \"\(node)\" began it and did not answer within \(timeout) s: it may have run")
    }
    throw APIError(
      .timeout, "Expired: node \"\(node)\" did not begin it within \(timeout) s; the command was not run")
  }

  /// What is left of a command's time; nil when nobody waits for it any more.
  func left(_ ticket: String) -> Duration? {
    guard let until = deadlines[ticket] else { return nil }
    if until > scheduler.now { begun.insert(ticket) }
    return until - scheduler.now
  }

  /// The node has a session: what waits for it looks again.
  func connected(_ node: String) {
    for (_, waiter) in waiting.removeValue(forKey: node) ?? [:] { waiter.resume() }
  }

  private func wait(for node: String, until: Instant) async {
    nextWaiter += 1
    let id = nextWaiter
    let timer = scheduler.schedule(after: max(.zero, until - scheduler.now)) { [weak self] in
      self?.waiting[node]?.removeValue(forKey: id)?.resume()
    }
    await withCheckedContinuation { waiting[node, default: [:]][id] = $0 }
    scheduler.cancel(timer)
    if waiting[node]?.isEmpty ?? false { waiting[node] = nil }
  }
}
