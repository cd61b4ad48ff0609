import Base
import EventLoop
import Transport
import Wire

/// What the peers of a fleet are.
enum HollowKind: String, Sendable {
  /// A session and nothing on it.
  case client
  /// A session with one watch.
  case watcher
  /// An edge node: slice, status lane, readings lane.
  case node
  /// An edge node that watches its own pods too.
  case watchingNode
  /// Other products' receivers.
  case natsSubscriber
  case mqttSubscriber
  case etcdWatcher
}

/// What a fleet is to be; travels to the worker as a value.
struct FleetPlan: Sendable {
  var kind = HollowKind.watcher
  var count = 0
  /// The number of the first peer, over all workers.
  var first = 0
  /// Handshakes at a time.
  var concurrency = 64
  var resource = "configmaps"
  var namespace = "bench"
  /// Watches begin after this revision.
  var after: UInt64 = 0
  /// Size of the payload that events carry.
  var payloadBytes = 1_024
  var latestWins = false
  /// Peers come back when their session ends.
  var reconnects = false
  /// Nodes say that the pods that are placed on them run.
  var runsPods = true
  /// Another one for each plan: a given server does not let a node join again that was removed and revoked.
  var namePrefix = "hollow-\(SystemRandom().bytes(3).hex)"

  var value: Value {
    [
      "kind": .string(kind.rawValue), "count": .int(Int64(count)), "first": .int(Int64(first)),
      "concurrency": .int(Int64(concurrency)), "resource": .string(resource), "namespace": .string(namespace),
      "after": .int(Int64(clamping: after)), "payload": .int(Int64(payloadBytes)), "latestWins": .bool(latestWins),
      "reconnects": .bool(reconnects), "runsPods": .bool(runsPods), "prefix": .string(namePrefix),
    ]
  }

  init() {}
  init(_ value: Value) {
    func number(_ key: String) -> Int { Int(clamping: value[key].int ?? 0) }
    kind = HollowKind(rawValue: value["kind"].string ?? "") ?? .client
    count = number("count")
    first = number("first")
    concurrency = max(1, number("concurrency"))
    resource = value["resource"].string ?? ""
    namespace = value["namespace"].string ?? ""
    after = UInt64(number("after"))
    payloadBytes = number("payload")
    latestWins = value["latestWins"].bool ?? false
    reconnects = value["reconnects"].bool ?? false
    runsPods = value["runsPods"].bool ?? true
    namePrefix = value["prefix"].string ?? "hollow"
  }

  func nodeName(_ index: Int) -> String { "\(namePrefix)-\(index)" }
}

/// Somebody who waits for what is delivered. A struct: a closure in a tuple gets one more wrapper each time that it goes
/// from one array to another, and this one does so at every delivery.
private struct Waiter {
  let isOver: @LoopActor () -> Bool
  let continuation: CheckedContinuation<Void, Never>
}

/// The hollow peers of one process: how they connect, what they all count, and who waits for it.
@LoopActor final class HollowFleet {
  let plan: FleetPlan
  let scheduler: any Scheduler
  let random: any RandomSource
  let wire = WireCount()
  private let dialer: HollowDialer
  private var contexts: [TLSContext] = []
  private(set) var peers: [HollowPeer] = []
  var tally = Tally()
  /// From dialling to the end of the protocol's handshake.
  private(set) var handshakes = Latency()
  private var errors: [String: Int] = [:]
  /// Sessions that ended though nobody here closed them, and those that came back.
  private(set) var lost = 0
  private(set) var regained = 0
  private(set) var readyCount = 0
  /// Peers whose watch stands, or whose slice has reached its first position.
  private(set) var standing = 0
  private var waiters: [Waiter] = []
  private var pingTimer: TimerID?
  private var pingTurn = 0
  private var closing = false
  /// Receivers of paced events do not sleep between those of one burst. One process stands for thousands of machines here:
  /// what waking it costs a server's thread, from nothing to a fifth of a delivery, would hang on which is quicker.
  private var busyPolls = false
  /// When the tally last grew.
  private(set) var lastDelivery: UInt64 = 0

  init(
    _ plan: FleetPlan, _ target: BenchTarget, scheduler: any Scheduler, random: any RandomSource
  ) throws(SkerryError) {
    self.plan = plan
    self.scheduler = scheduler
    self.random = random
    dialer = try HollowDialer(target, wire: wire, scheduler: scheduler)
  }

  var target: BenchTarget { dialer.target }
  var now: UInt64 { scheduler.now.nanoseconds }

  /// How long receivers that busy poll look for the next event before they sleep.
  private static let receiverPoll = Duration.microseconds(100)

  // MARK: connecting

  /// Identities that are made before the loop turns: a tenth of a second or two.
  private static let mintedAtOnce = 64

  /// Makes the nodes' identities, so that they are not part of what is timed.
  func prepare() async throws(SkerryError) {
    for index in 0..<plan.count { peers.append(make(index)) }
    guard plan.kind == .node || plan.kind == .watchingNode else { return }
    let mint = try HollowMint(target, scheduler: scheduler, random: random)
    for (index, peer) in peers.enumerated() {
      peer.context = try HollowDialer.context(target, try await mint.credentials(node: peer.name))
      // The coordinator takes a worker that is silent for dead, and all of them may take the better part of a minute.
      if index % Self.mintedAtOnce == Self.mintedAtOnce - 1 { try? await scheduler.sleep(for: .milliseconds(1)) }
    }
  }

  private func make(_ index: Int) -> HollowPeer {
    switch plan.kind {
    case .client: HollowPeer(self, index: plan.first + index)
    case .watcher: HollowWatcher(self, index: plan.first + index)
    case .node, .watchingNode: HollowNode(self, index: plan.first + index)
    case .natsSubscriber: NATSSubscriber(self, index: plan.first + index)
    case .mqttSubscriber: MQTTSubscriber(self, index: plan.first + index)
    case .etcdWatcher: EtcdWatcher(self, index: plan.first + index)
    }
  }

  /// Connects all peers, some at a time; returns when each is connected and stands, or has failed.
  func connect(deadline: Duration) async {
    var next = 0
    errors = [:]
    let tasks = (0..<min(plan.concurrency, max(1, plan.count))).map { _ in
      spawn {
        while next < self.peers.count, !self.closing {
          let peer = self.peers[next]
          next += 1
          await self.connect(peer)
        }
      }
    }
    for task in tasks { await task.value }
    if pingTimer == nil { schedulePings() }
    await wait(deadline) { self.standing + self.failures >= self.peers.count }
  }

  private var failures: Int { errors.values.reduce(0, +) }

  private func connect(_ peer: HollowPeer) async {
    let start = now
    do throws(SkerryError) {
      let stream = try await dialer.dial(slot: peer.index, context: peer.context)
      guard !closing else { return stream.close() }
      peer.adopt(stream)
      await peer.settled()
      if peer.isReady { handshakes.record(now - start) } else { note("the session was refused") }
    } catch {
      note(error.description)
    }
  }

  private func note(_ error: String) {
    // Ports and numbers would make each message another one.
    let text = String(error.map { $0.isNumber ? "#" : $0 })
    if errors.count < 20 || errors[text] != nil { errors[text, default: 0] += 1 }
    wake()
  }

  /// A peer's session ended though nobody here closed it.
  func peerIsOver(_ peer: HollowPeer, _ error: SkerryError?) {
    lost += 1
    guard plan.reconnects, !closing else {
      if let error { note(error.description) }
      return
    }
    spawn { await self.comeBack(peer) }
  }

  private func comeBack(_ peer: HollowPeer) async {
    while !closing {
      try? await scheduler.sleep(for: peer.backoff.delay(after: .unreachable, random: random))
      do throws(SkerryError) {
        peer.adopt(try await dialer.dial(slot: peer.index, context: peer.context))
        await peer.settled()
        guard peer.isReady else { continue }
        peer.backoff.succeeded()
        regained += 1
        return wake()
      } catch {
        continue
      }
    }
  }

  func counted(ready: Int = 0, standing: Int = 0) {
    readyCount += ready
    self.standing += standing
    wake()
  }

  /// All sessions end. `abruptly`: without a word, as when a node loses its power.
  func close() {
    closing = true
    if let pingTimer { scheduler.cancel(pingTimer) }
    for peer in peers { peer.close() }
    wake()
  }

  // MARK: pings

  /// One timer for all: each turn pings a slice of the fleet, so that every link is pinged once an interval.
  private func schedulePings() {
    pingTimer = scheduler.schedule(after: .milliseconds(500)) { [weak self] in
      guard let self, !self.closing else { return }
      let interval = self.peers.first { $0.isReady }?.pingInterval ?? .seconds(15)
      let turns = max(1, Int(interval.seconds * 2) - 2)
      for index in stride(from: self.pingTurn % turns, to: self.peers.count, by: turns) { self.peers[index].ping() }
      self.pingTurn += 1
      self.schedulePings()
    }
  }

  // MARK: waiting

  func delivered() {
    lastDelivery = now
    if busyPolls { Loop.installed?.busyPoll(for: Self.receiverPoll) }
    if !waiters.isEmpty { wake() }
  }

  func wake() {
    guard !waiters.isEmpty else { return }
    var kept: [Waiter] = []
    for waiter in waiters {
      if waiter.isOver() { waiter.continuation.resume() } else { kept.append(waiter) }
    }
    waiters = kept
  }

  /// Returns when the condition holds or at the deadline; answers whether it held.
  @discardableResult
  func wait(_ deadline: Duration, _ condition: @escaping @LoopActor () -> Bool) async -> Bool {
    if condition() { return true }
    var expired = false
    let timer = scheduler.schedule(after: deadline) {
      expired = true
      self.wake()
    }
    defer { scheduler.cancel(timer) }
    await withCheckedContinuation { waiters.append(Waiter(isOver: { expired || condition() }, continuation: $0)) }
    return condition()
  }

  /// What the coordinator asks for.
  var report: Value {
    var value: Value = [
      "tally": tally.value, "handshakes": handshakes.value, "ready": .int(Int64(readyCount)),
      "standing": .int(Int64(standing)), "lost": .int(Int64(lost)), "regained": .int(Int64(regained)),
      "received": .int(Int64(wire.received)), "sent": .int(Int64(wire.sent)),
      "last": .int(Int64(clamping: lastDelivery)),
    ]
    value["errors"] = Value(errors.mapValues { String($0) })
    return value
  }

  func reset(busyPolls: Bool) {
    self.busyPolls = busyPolls
    tally = Tally()
    wire.received = 0
    wire.sent = 0
    lost = 0
    regained = 0
    lastDelivery = 0
  }
}
