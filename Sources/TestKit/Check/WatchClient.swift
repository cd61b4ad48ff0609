import API
import APIClient
import Base
import EventLoop
import ObjectLog
import Transport
import Wire

/// A client that lists and watches over the network, and holds every event against the history.
@LoopActor package final class WatchClient {
  /// What it asks for: a resource, and a label that it selects, if any.
  package struct Wish: Sendable {
    let resource: String
    let tier: String?
    var text: String { tier.map { "\(resource) with tier=\($0)" } ?? resource }
    var selector: String { tier.map { "tier=\($0)" } ?? "" }
    func selects(_ labels: [String: String]?) -> Bool {
      guard let labels else { return false }
      return tier == nil || labels["tier"] == tier
    }
  }

  private let name: String
  private let wish: Wish
  private unowned let world: SimWorld
  private let process: SimProcess
  private let client: ReconnectingAPIClient
  private let link: SimLink
  private var listed: [String: UInt64] = [:]
  /// The next change of the history that this watch has to be told, if it matches.
  private var next = 0
  private var epoch: UInt64 = 0
  private var position: UInt64 = 0
  package private(set) var events: UInt64 = 0
  /// The cursor goes no further for a while.
  package var pausedUntil: UInt64 = 0

  package init(_ name: String, wish: Wish, machine: SimMachine, link: SimLink) {
    self.name = name
    self.wish = wish
    self.link = link
    world = machine.world
    let process = machine.process(name)
    self.process = process
    let (network, clock) = (machine.world.network, process.clock)
    var identity = PeerInfo(address: "\(name):1")
    identity.certificate = PeerCertificate(
      commonName: name, organizations: ["skerry:admin"], serial: "1", keyFingerprint: Bytes(name.utf8),
      notBefore: 0, notAfter: .max / 2)
    identity.applicationProtocol = "skerry/1"
    client = ReconnectingAPIClient(scheduler: clock, random: process.random) { () async throws(SkerryError) in
      let stream = try await network.connect(to: SimCloud.address, over: link, clock: clock, identity: identity)
      let session = Session(
        stream: stream, role: .client, hello: ["role": "client"], scheduler: clock, random: process.random)
      session.start()
      try await session.ready()
      return session
    }
  }

  package var theLink: SimLink { link }
  private var judge: Judge { world.judge }
  private var history: CloudHistory { world.validator.history }

  package func start() { spawn { await self.run() } }

  private func run() async {
    var after: UInt64?
    while true {
      do throws(APIError) {
        after = try await follow(after)
      } catch {
        if error.reason == .expired {
          judge.check(
            .resumable, epoch != history.epoch || position <= (world.cloud?.log.compacted ?? .max),
            "\(name): its watch of \(wish.text) at \(position) is told to be too old: \(error)")
          after = nil
        }
        world.trace.note("\(name): the watch ended: \(error.reason.rawValue)")
        try? await process.clock.sleep(for: .seconds(2))
      }
    }
  }

  /// Watches until it breaks, or until it chooses to go on with a new cursor at what it answers.
  private func follow(_ after: UInt64?) async throws(APIError) -> UInt64 {
    let caller = Caller(user: name, groups: [], node: nil, origin: .network)
    let cursor = try await client.watch(
      WatchOptions(resource: wish.resource, labelSelector: wish.selector, after: after), caller: caller)
    defer { cursor.cancel() }
    if after == nil { listed = [:] } else { resumed(at: after ?? 0) }
    var isListing = after == nil
    let bell = Bell()
    cursor.onAvailable = { bell.ring() }
    let patience = process.random.between(20, 200)
    var seen = 0
    while true {
      let events = try cursor.next(limit: 50)
      for event in events {
        if isListing {
          isListing = !took(listed: event)
        } else {
          took(event)
        }
        seen += 1
      }
      if seen > patience, !isListing, position > 0 { return position }
      if pausedUntil > world.time.now {
        try? await process.clock.sleep(for: .nanoseconds(Int64(pausedUntil - world.time.now)))
      }
      if events.isEmpty { await bell.wait() }
    }
  }

  private func resumed(at position: UInt64) {
    self.position = position
    next = history.index(after: position)
  }

  /// One object of the first listing, or the bookmark behind it; true at its end.
  private func took(listed event: WatchEvent) -> Bool {
    if let object = event.object {
      listed[object.reference.key] = object.revision
      return false
    }
    epoch = history.epoch
    if event.position >= history.base {
      let expected = history.states("\(wish.resource)/", at: event.position).filter { wish.selects($0.value.labels) }
      let revisions = expected.mapValues(\.revision)
      judge.check(
        .noGap, revisions == listed,
        "\(name): a list of \(wish.text) at \(event.position): \(CloudHistory.difference(revisions, listed))")
    }
    resumed(at: event.position)
    return true
  }

  private func took(_ event: WatchEvent) {
    events += 1
    judge.check(
      .ordered, event.kind == .bookmark ? event.position >= position : event.position > position,
      "\(name): \(wish.text): position \(event.position) came after \(position)")
    position = max(position, event.position)
    guard epoch == history.epoch else { return }
    while next < history.items.count {
      let item = history.items[next]
      guard item.position <= event.position else { break }
      next += 1
      guard let kind = kind(of: item) else { continue }
      if item.position == event.position, event.kind != .bookmark {
        return judge.check(
          .noGap, kind == event.kind && event.object?.reference.key == item.key,
          "\(name): \(wish.text) at \(item.position): \(event.kind) \(event.object?.reference.key ?? "") instead of "
            + "\(kind) \(item.key)")
      }
      judge.check(
        .noGap, false, "\(name): \(wish.text): \(kind) \(item.key) at \(item.position) was left out")
    }
    judge.check(
      .filtered, event.kind == .bookmark,
      "\(name): \(wish.text) was told \(event.kind) \(event.object?.reference.key ?? "") at \(event.position)")
  }

  /// What the watch should be told of a change; nil: nothing.
  private func kind(of item: CloudHistory.Item) -> WatchEvent.Kind? {
    guard item.key.hasPrefix("\(wish.resource)/") else { return nil }
    switch (wish.selects(item.before), wish.selects(item.after)) {
    case (false, true): return .added
    case (true, true): return .modified
    case (true, false): return .deleted
    case (false, false): return nil
    }
  }

  /// Whether everything through the tail was told.
  package var isCurrent: Bool {
    guard epoch == history.epoch else { return false }
    return !history.items[min(next, history.items.count)...].contains { kind(of: $0) != nil }
  }
}

/// Remembers a ring that came before anybody waited.
@LoopActor private final class Bell {
  private var rang = false
  private var waiter: CheckedContinuation<Void, Never>?
  func ring() {
    rang = true
    waiter?.resume()
    waiter = nil
  }
  func wait() async {
    if !rang { await withCheckedContinuation { waiter = $0 } }
    rang = false
  }
}
