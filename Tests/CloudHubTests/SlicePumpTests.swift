import API
import Base
import CloudHub
import EventLoop
import Logging
import ObjectLog
import Sync
import Testing
import Wire

/// A stream whose other end is the test: it takes as many messages as it gives credit for.
@LoopActor final class Pipe: MessagePipe {
  var credit = Int.max
  var sent: [Bytes] = []
  var failure: CallError?
  var canSend: Bool { credit > 0 }
  var isFlushed: Bool { true }
  var onWritable: (@LoopActor () -> Void)?
  var onMessage: (@LoopActor (Bytes) -> Void)?
  var onEnd: (@LoopActor (Result<Value, CallError>) -> Void)?
  func send(_ message: Bytes) {
    credit -= 1
    sent.append(message)
  }
  func finish(_ result: Value) {}
  func fail(_ error: CallError) { failure = error }
  func give(_ messages: Int) {
    credit = messages
    onWritable?()
  }
  func take() throws -> [SliceMessage] {
    defer { sent = [] }
    return try sent.map { try SliceMessage.decode($0) }
  }
}

/// A leader's log in memory and the hub's slices over it.
@LoopActor private final class Cloud {
  let log = MemoryObjectLog(random: SystemRandom())
  let hub: SliceHub

  init(journalLimit: Int = SliceIndex.defaultJournalLimit) throws {
    _ = Loop.startShared()
    hub = SliceHub(
      log: log, anchors: ["pods", "devices"], bodyOnly: ["devices"], journalLimit: journalLimit,
      logger: Logger(label: "test"))
    try hub.start()
  }

  func write(
    _ key: String, _ body: Value, status: Value? = nil, node: String? = nil, references: [String] = []
  ) async {
    var meta = ObjectMeta()
    meta.node = node
    meta.references = references
    await append(
      Change(
        key: key, guarding: .any,
        operation: .put(
          body: CBOR.encode(body), status: status.map { CBOR.encode($0) }, meta: meta.encoded)))
  }

  func delete(_ key: String) async { await append(Change(key: key, guarding: .any, operation: .delete)) }

  private func append(_ change: Change) async {
    await withCheckedContinuation { continuation in
      log.append([change]) { _ in continuation.resume() }
    }
  }
}

@Suite struct SlicePumpTests {
  private func keys(_ messages: [SliceMessage]) -> [String] {
    messages.map { message in
      switch message {
      case .resume: "resume"
      case .begin: "begin"
      case .object(let object): "object \(object.key)"
      case .keep(let key, _): "keep \(key)"
      case .end: "end"
      case .inventory: "inventory"
      case .position(_, let entries):
        entries.map { entry in
          switch entry {
          case .put(let object): "put \(object.key)"
          case .drop(let key): "drop \(key)"
          case .told(let key, _, _): "told \(key)"
          case .toldBy(let number, _, _): "told by \(number)"
          }
        }.joined(separator: ", ")
      }
    }
  }

  @Test func aNewNodeTakesASnapshotThenFollows() async throws {
    try await onLoop {
      let cloud = try Cloud()
      await cloud.write("configmaps/a/c", ["x": 1])
      await cloud.write("pods/a/p", ["y": 1], node: "n1", references: ["configmaps/a/c"])
      await cloud.write("pods/a/q", ["y": 2], node: "n2")
      let pipe = Pipe()
      let pump = cloud.hub.attach(node: "n1", pipe: pipe, cursor: nil, digest: SliceDigest().bytes)
      #expect(try keys(pipe.take()) == ["inventory"])
      pipe.onMessage?(SliceInventory.encode([(key: "configmaps/a/c", revision: 2), (key: "pods/a/old", revision: 1)]))
      pipe.onMessage?(SliceInventory.encode([]))
      #expect(try keys(pipe.take()) == ["begin", "keep configmaps/a/c", "object pods/a/p", "end"])
      await cloud.write("configmaps/a/c", ["x": 2])
      #expect(try keys(pipe.take()) == ["put configmaps/a/c"])
      await cloud.write("pods/a/q", ["y": 3], node: "n2")
      #expect(try keys(pipe.take()) == [])
      await cloud.delete("pods/a/p")
      #expect(try keys(pipe.take()) == ["drop configmaps/a/c, drop pods/a/p"])
      #expect(pump.bookmark() == cloud.log.tail.position)
    }
  }

  @Test func aNodeThatNothingHappensToStaysWithinWhatIsRemembered() async throws {
    try await onLoop {
      let cloud = try Cloud(journalLimit: 4)
      await cloud.write("pods/a/p", ["y": 1], node: "n1")
      let pipe = Pipe()
      let pump = cloud.hub.attach(node: "n1", pipe: pipe, cursor: nil, digest: SliceDigest().bytes)
      pipe.onMessage?(SliceInventory.encode([]))
      #expect(try keys(pipe.take()) == ["inventory", "begin", "object pods/a/p", "end"])
      for round in 0..<3 {
        for change in 0..<4 { await cloud.write("pods/a/q", ["y": .int(Int64(round * 4 + change))], node: "n2") }
        // As the answer to a ping asks.
        #expect(pump.bookmark() == cloud.log.tail.position)
      }
      await cloud.write("pods/a/p", ["y": 2], node: "n1")
      #expect(try keys(pipe.take()) == ["put pods/a/p"])
      // Not asked for so long, it has to compare.
      for change in 0..<6 { await cloud.write("pods/a/q", ["z": .int(Int64(change))], node: "n2") }
      await cloud.write("pods/a/p", ["y": 3], node: "n1")
      #expect(try keys(pipe.take()) == ["inventory"])
    }
  }

  @Test func aCursorResumesAndALaggardGetsEachObjectOnce() async throws {
    try await onLoop {
      let cloud = try Cloud()
      await cloud.write("pods/a/p", ["y": 1], node: "n1")
      let cursor = cloud.log.tail
      let pipe = Pipe()
      pipe.credit = 1
      _ = cloud.hub.attach(node: "n1", pipe: pipe, cursor: cursor, digest: [])
      #expect(try keys(pipe.take()) == ["resume"])
      for number in 2...20 { await cloud.write("pods/a/p", ["y": .int(Int64(number))], node: "n1") }
      await cloud.delete("pods/a/p")
      await cloud.write("pods/a/p", ["y": 99], node: "n1")
      #expect(try keys(pipe.take()) == [])
      pipe.give(10)
      // The deletion is not merged with the re-creation.
      #expect(try keys(pipe.take()) == ["drop pods/a/p, put pods/a/p"])
    }
  }

  /// What a node told of a status is not sent back: only that it counts, and how to tell it from others.
  @Test func aStatusThatTheNodeToldIsOnlyNamed() async throws {
    try await onLoop {
      let cloud = try Cloud()
      await cloud.write("pods/a/p", ["y": 1], node: "n1")
      let pipe = Pipe()
      _ = cloud.hub.attach(node: "n1", pipe: pipe, cursor: cloud.log.tail, digest: [])
      _ = try pipe.take()
      let told: Value = ["phase": "Running"]
      let lane = try #require(Incarnation(Bytes(repeating: 1, count: 16)))
      cloud.hub.nodeTells("n1", "pods/a/p", lane, 1)
      await cloud.write("pods/a/p", ["y": 1], status: told, node: "n1")
      // Only once the lane's cursor is behind it.
      #expect(try pipe.take() == [])
      cloud.hub.nodeTold("n1", isStored: true)
      let position = cloud.log.tail.position
      #expect(
        try pipe.take() == [
          .position(
            position,
            [.told(key: "pods/a/p", statusRevision: position, check: SliceEntry.check(CBOR.encode(told)))])
        ])
      // Once a word; and what somebody else says is sent, as is a body that changed with it.
      await cloud.write("pods/a/p", ["y": 1], status: ["phase": "Failed"], node: "n1")
      #expect(try keys(pipe.take()) == ["put pods/a/p"])
      cloud.hub.nodeTells("n1", "pods/a/p", lane, 2)
      await cloud.write("pods/a/p", ["y": 2], status: told, node: "n1")
      cloud.hub.nodeTold("n1", isStored: true)
      #expect(try keys(pipe.take()) == ["put pods/a/p"])
      // A node that does not know what it told asks for all of it.
      let before = cloud.log.tail
      cloud.hub.nodeTells("n1", "pods/a/p", lane, 3)
      let whole = Pipe()
      await cloud.write("pods/a/p", ["y": 2], status: ["phase": "Pending"], node: "n1")
      pipe.credit = 0
      cloud.hub.nodeTold("n1", isStored: true)
      _ = cloud.hub.attach(node: "n1", pipe: whole, cursor: before, digest: [], whole: true)
      #expect(try keys(whole.take()) == ["resume", "put pods/a/p"])
    }
  }

  /// A node that asked for it hears by its slice what became of its lane's entries, by their numbers.
  @Test func theSliceAnswersForTheStatusLane() async throws {
    try await onLoop {
      let cloud = try Cloud()
      let ids = try (1...2).map { try #require(Incarnation(Bytes(repeating: $0, count: 16))) }
      for name in ["p", "q"] { await cloud.write("pods/a/\(name)", ["y": 1], node: "n1") }
      let pipe = Pipe()
      let pump = cloud.hub.attach(node: "n1", pipe: pipe, cursor: cloud.log.tail, digest: [], statusLane: ids[1])
      _ = try pipe.take()
      let told: Value = ["phase": "Running"]
      let check = SliceEntry.check(CBOR.encode(told))
      cloud.hub.nodeTells("n1", "pods/a/p", ids[1], 7)
      cloud.hub.nodeTells("n1", "pods/a/q", ids[1], 8)
      for name in ["p", "q"] { await cloud.write("pods/a/\(name)", ["y": 1], status: told, node: "n1") }
      #expect(!pump.hasTold(ids[1], 8))
      cloud.hub.nodeTold("n1", isStored: true)
      let position = cloud.log.tail.position
      #expect(
        try pipe.take() == [
          .position(
            position,
            [
              .toldBy(number: 7, statusRevision: position - 1, check: check),
              .toldBy(number: 8, statusRevision: position, check: check),
            ])
        ])
      #expect(pump.hasTold(ids[1], 8) && !pump.hasTold(ids[1], 9) && !pump.hasTold(ids[0], 8))
      // An entry of another incarnation has no number here, and one that changed nothing answers for nothing later.
      cloud.hub.nodeTells("n1", "pods/a/p", ids[0], 9)
      await cloud.write("pods/a/p", ["y": 1], status: ["phase": "Failed"], node: "n1")
      cloud.hub.nodeTold("n1", isStored: true)
      guard case .position(_, let entries)? = try pipe.take().first, case .told(let key, _, _)? = entries.first else {
        Issue.record("not told by its key")
        return
      }
      #expect(key == "pods/a/p" && !pump.hasTold(ids[0], 9))
      cloud.hub.nodeTells("n1", "pods/a/p", ids[1], 9)
      cloud.hub.nodeTold("n1", isStored: true)
      await cloud.write("pods/a/p", ["y": 1], status: ["phase": "Unknown"], node: "n1")
      #expect(try keys(pipe.take()) == ["put pods/a/p"])
      // What failed may have taken effect or not: it is sent.
      cloud.hub.nodeTells("n1", "pods/a/p", ids[1], 10)
      await cloud.write("pods/a/p", ["y": 1], status: told, node: "n1")
      cloud.hub.nodeTold("n1", isStored: false)
      #expect(try keys(pipe.take()) == ["put pods/a/p"])
      #expect(!pump.hasTold(ids[1], 10))
    }
  }

  /// What a device reports came from its node: it does not travel back, nor is it in the slice.
  @Test func statusesOfDevicesDoNotTravelDown() async throws {
    try await onLoop {
      let cloud = try Cloud()
      await cloud.write("devices/a/d", ["y": 1], status: ["twins": [1]], node: "n1")
      let pipe = Pipe()
      let pump = cloud.hub.attach(node: "n1", pipe: pipe, cursor: nil, digest: SliceDigest().bytes)
      _ = try pipe.take()
      pipe.onMessage?(SliceInventory.encode([]))
      let messages = try pipe.take()
      guard case .object(let object)? = messages.dropFirst().first else {
        Issue.record("no object: \(messages)")
        return
      }
      #expect(object.status == nil && object.revision == object.bodyRevision)
      await cloud.write("devices/a/d", ["y": 1], status: ["twins": [2]], node: "n1")
      #expect(try keys(pipe.take()) == [])
      await cloud.write("devices/a/d", ["y": 2], status: ["twins": [2]], node: "n1")
      #expect(try keys(pipe.take()) == ["put devices/a/d"])
      #expect(pump.bookmark() == cloud.log.tail.position)
    }
  }

  @Test func anEqualDigestNeedsNothing() async throws {
    try await onLoop {
      let cloud = try Cloud()
      await cloud.write("pods/a/p", ["y": 1], node: "n1")
      var digest = SliceDigest()
      digest.add(key: "pods/a/p", revision: cloud.log.tail.position)
      let pipe = Pipe()
      _ = cloud.hub.attach(node: "n1", pipe: pipe, cursor: nil, digest: digest.bytes)
      let messages = try pipe.take()
      #expect(
        messages == [
          .resume(log: cloud.log.tail.log.bytes, epoch: cloud.log.tail.epoch, position: cloud.log.tail.position)
        ])
    }
  }

  @Test func aHubThatStartsAnewKnowsTheWayFromOlderCursors() async throws {
    try await onLoop {
      let cloud = try Cloud()
      await cloud.write("configmaps/a/c", ["x": 1])
      await cloud.write("pods/a/p", ["y": 1], node: "n1", references: ["configmaps/a/c"])
      let cursor = cloud.log.tail
      await cloud.write("configmaps/a/c", ["x": 2])
      let again = SliceHub(log: cloud.log, anchors: ["pods"], logger: Logger(label: "test"))
      try again.start()
      let pipe = Pipe()
      _ = again.attach(node: "n1", pipe: pipe, cursor: cursor, digest: [])
      #expect(try keys(pipe.take()) == ["resume", "put configmaps/a/c"])
    }
  }

  /// When it met a reference in history, a hub that started looked for the object at the end of the log. One that was
  /// deleted by then counted as never there, and a node that held it was not told to drop it.
  @Test func aHubThatStartsAnewDropsWhatWasDeletedMeanwhile() async throws {
    try await onLoop {
      let cloud = try Cloud()
      await cloud.write("pods/a/first", ["y": 1], node: "n2")
      await cloud.write("secrets/a/s", ["x": 1])
      await cloud.write("pods/a/p", ["y": 1], node: "n1", references: ["secrets/a/s"])
      let cursor = cloud.log.tail
      await cloud.delete("secrets/a/s")
      let again = SliceHub(log: cloud.log, anchors: ["pods"], logger: Logger(label: "test"))
      try again.start()
      let pipe = Pipe()
      _ = again.attach(node: "n1", pipe: pipe, cursor: cursor, digest: [])
      #expect(try keys(pipe.take()) == ["resume", "drop secrets/a/s"])
      // Whoever is as far behind when it is there again hears of both.
      await cloud.write("secrets/a/s", ["x": 2])
      let late = Pipe()
      _ = again.attach(node: "n1", pipe: late, cursor: cursor, digest: [])
      #expect(try keys(late.take()) == ["resume", "drop secrets/a/s, put secrets/a/s"])
    }
  }
}
