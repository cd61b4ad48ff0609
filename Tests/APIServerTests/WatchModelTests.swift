import API
import APIServer
import Base
import EventLoop
import ObjectLog
import Testing

/// Watches of all kinds against a model of what each has to see, while they are slow, go away and come again.
@Suite(.timeLimit(.minutes(1))) struct WatchModelTests {
  private typealias Wish = ReplicaHarness.Wish
  private typealias Thing = ReplicaHarness.Thing

  private struct Seen: Equatable {
    var kind: WatchEvent.Kind
    var key: String
    /// Its position too: the replica's revisions here are those of the positions.
    var revision: UInt64
  }

  @LoopActor private final class Watcher {
    let wish: Wish
    let pace: Int
    var cursor: any WatchCursor
    var seen: [Seen] = []
    var bookmark: UInt64 = 0
    /// Where the next watch goes on.
    var position: UInt64

    init(_ wish: Wish, pace: Int, _ cursor: any WatchCursor, at position: UInt64) {
      (self.wish, self.pace, self.cursor, self.position) = (wish, pace, cursor, position)
    }

    func pull(_ limit: Int) throws {
      for event in try cursor.next(limit: limit) {
        #expect(event.position >= position)
        position = max(position, event.position)
        guard let object = event.object else {
          bookmark = event.position
          continue
        }
        seen.append(Seen(kind: event.kind, key: object.reference.key, revision: object.revision))
      }
    }

    func resume(_ replica: ReplicaHarness) async throws {
      cursor.cancel()
      // A position that was seen in part comes again.
      seen.removeAll { $0.revision > position }
      cursor = try await replica.watch(wish, after: position)
    }
  }

  private static let wishes: [Wish] = [
    Wish(), Wish(namespace: "a"), Wish(labels: "app=x"), Wish(fields: "spec.nodeName!=n1"),
    Wish(fields: "spec.nodeName=n1"), Wish(fields: "spec.nodeName=n2", namespace: "b"),
    Wish(fields: "spec.nodeName=n1", labels: "app=x"), Wish(fields: "spec.nodeName="),
    Wish(fields: "metadata.name=d3"), Wish(fields: "metadata.name=d3,spec.nodeName=n1", namespace: "a"),
    Wish(fields: "metadata.namespace=b"), Wish(fields: "spec.nodeName=n9"),
  ]

  private static func matches(_ wish: Wish, _ key: String, _ thing: Thing?) -> Bool {
    guard let thing else { return false }
    let parts = key.split(separator: "/").map(String.init)
    guard wish.namespace.isEmpty || wish.namespace == parts[1], wish.labels.isEmpty || thing.app == "x" else {
      return false
    }
    return wish.fields.split(separator: ",").allSatisfy { term in
      switch term {
      case "spec.nodeName!=n1": thing.node != "n1"
      case "metadata.name=d3": parts[2] == "d3"
      case "metadata.namespace=b": parts[1] == "b"
      default: "spec.nodeName=\(thing.node)" == term
      }
    }
  }

  @Test(arguments: [1, 2, 3, 4], [2, 64]) func everyWatchSeesWhatItSelects(seed: UInt64, ring: Int) async throws {
    try await onLoop {
      var limits = APIServerLimits()
      limits.tailEntries = ring
      limits.scannedEntries = ring == 2 ? 5 : 8_192
      let replica = try await ReplicaHarness(limits: limits)
      let random = SeededRandom(seed: seed)
      func below(_ bound: Int) -> Int { Int(random.below(UInt64(bound))) }
      var (things, expected) = ([String: Thing](), [[Seen]](repeating: [], count: Self.wishes.count))
      var watchers: [Watcher] = []
      for index in 0..<(Self.wishes.count * 3) {
        let wish = Self.wishes[index % Self.wishes.count]
        let start = replica.log.tail.position
        watchers.append(Watcher(wish, pace: index / Self.wishes.count, try await replica.watch(wish), at: start))
      }
      for _ in 0..<300 {
        var changes: [(key: String, thing: Thing?)] = []
        for _ in 0...below(4) {
          let key = "\(below(8) == 0 ? "configmaps" : "pods")/\(below(2) == 0 ? "a" : "b")/d\(below(6))"
          guard !changes.contains(where: { $0.key == key }) else { continue }
          let thing = Thing(node: ["", "n1", "n2", "n3"][below(4)], app: below(2) == 0 ? "x" : "")
          changes.append((key, things[key] != nil && below(4) == 0 ? nil : thing))
        }
        await replica.publish(changes, skipping: UInt64(below(3)))
        for (key, thing) in changes {
          let old = things.updateValue(thing ?? Thing(), forKey: key)
          if thing == nil { things[key] = nil }
          guard key.hasPrefix("pods/") else { continue }
          for (index, wish) in Self.wishes.enumerated() {
            let (was, remains) = (Self.matches(wish, key, old), Self.matches(wish, key, thing))
            guard was || remains else { continue }
            let kind: WatchEvent.Kind = was ? (remains ? .modified : .deleted) : .added
            expected[index].append(Seen(kind: kind, key: key, revision: replica.log.tail.position))
          }
        }
        if below(10) == 0 { replica.scheduler.fire() }
        for watcher in watchers {
          // The first keep up, the second read a little now and then, the third hardly.
          guard watcher.pace == 0 || below(watcher.pace * 6) == 0 else { continue }
          try watcher.pull([50, 2, 7][watcher.pace])
          if below(12) == 0 { try await watcher.resume(replica) }
        }
      }
      replica.scheduler.fire()
      let end = replica.log.tail.position
      for (index, watcher) in watchers.enumerated() {
        for _ in 0..<5_000 where watcher.bookmark < end { try watcher.pull(7) }
        #expect(watcher.bookmark == end)
        #expect(watcher.seen == expected[index % Self.wishes.count], "\(watcher.wish), pace \(watcher.pace)")
      }
      #expect(expected.dropLast().allSatisfy { $0.count > 4 })
    }
  }
}
