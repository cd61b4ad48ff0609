import API
import Base
import EventLoop
import ObjectModel
import Testing

private let admin = Caller(user: "admin", groups: [Caller.adminGroup], node: nil, origin: .network)

/// Watches that see the same are sent the same frames; each must see everything once and in order all the same.
@Suite(.timeLimit(.minutes(1))) struct SharedRunTests {
  /// What a watcher saw, and how fast it reads.
  @LoopActor final class Watcher {
    let cursor: any WatchCursor
    let namespace: String
    private let limit: Int
    private let loop = Loop.startShared()
    private(set) var seen: [String] = []
    private(set) var failure: String?
    private var reading = false
    var onSeen: (() -> Void)?

    init(_ cursor: any WatchCursor, _ namespace: String, limit: Int) {
      (self.cursor, self.namespace, self.limit) = (cursor, namespace, limit)
      cursor.onAvailable = { [weak self] in self?.read() }
      read()
    }

    /// A few events a turn of the loop: the slower, the more waits for credit.
    private func read() {
      guard !reading else { return }
      reading = true
      loop.schedule(after: .zero) { self.take() }
    }

    private func take() {
      reading = false
      do throws(APIError) {
        let events = try cursor.next(limit: limit)
        for event in events {
          guard let object = event.object else { continue }
          seen.append("\(event.kind) \(object.reference.namespace)/\(object.reference.name) \(object.revision)")
        }
        onSeen?()
        if !events.isEmpty { read() }
      } catch {
        failure = "\(error)"
        onSeen?()
      }
    }
  }

  @Test func everyWatchSeesEachChangeOnceAndInOrder() async throws {
    try await onLoop {
      let harness = try await RemoteHarness()
      defer { harness.close() }
      let writer = try await harness.api(admin)
      for name in ["one", "two"] {
        _ = try await writer.create(
          resource: "namespaces", namespace: "", object: ["metadata": ["name": .string(name)]], caller: admin)
      }
      let start = try await writer.list(ListOptions(resource: "configmaps"), caller: admin).revision
      var watchers: [Watcher] = []
      for index in 0..<9 {
        let namespace = ["one", "two", ""][index % 3]
        let api = try await harness.api(admin)
        let cursor = try await api.watch(
          WatchOptions(resource: "configmaps", namespace: namespace, after: start), caller: admin)
        watchers.append(Watcher(cursor, namespace, limit: [1, 7, 200][index / 3]))
      }
      var expected: [String] = []
      for round in 0..<40 {
        // Groups of several sizes; now and then an object that fits no frame.
        let items = (0..<(1 + round % 13)).map { index -> BatchItem in
          let bytes = round % 11 == 5 && index == 2 ? 40_000 : 300 + 137 * (index % 9)
          return .create(
            resource: "configmaps", namespace: (round + index) % 3 == 0 ? "two" : "one",
            object: [
              "metadata": ["name": .string("c-\(round)-\(index)")],
              "data": ["k": .string(String(repeating: "x", count: bytes))],
            ])
        }
        for result in try await writer.batch(items, caller: admin) {
          let object = try result.get()
          expected.append("added \(object.reference.namespace)/\(object.reference.name) \(object.revision)")
        }
      }
      for watcher in watchers {
        let wanted = expected.filter { watcher.namespace.isEmpty || $0.contains(" \(watcher.namespace)/") }
        try await event("a watcher saw all", of: watcher) { watcher.seen.count >= wanted.count }
        #expect(watcher.failure == nil)
        #expect(watcher.seen == wanted)
      }
    }
  }

  @LoopActor private func event(_ what: String, of watcher: Watcher, _ condition: @escaping () -> Bool) async throws {
    let loop = Loop.startShared()
    var expired = false
    while !condition(), !expired, watcher.failure == nil {
      await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        var waiting: CheckedContinuation<Void, Never>? = continuation
        let timer = loop.schedule(after: .seconds(30)) {
          expired = true
          waiting?.resume()
          waiting = nil
        }
        watcher.onSeen = {
          loop.cancel(timer)
          waiting?.resume()
          waiting = nil
        }
      }
    }
    watcher.onSeen = nil
    #expect(condition(), "\(what): not within the deadline")
  }
}
