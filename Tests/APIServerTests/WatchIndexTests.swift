import API
import APIServer
import Base
import EventLoop
import ObjectLog
import Testing

@Suite(.timeLimit(.minutes(1))) struct WatchIndexTests {
  /// What watches did when they were woken, and what they are to do then.
  @LoopActor private final class Notes {
    var woken: [Int] = []
    var seen: [String] = []
    var ended = 0
    var looks = false
    var cursors: [any WatchCursor] = []

    /// Looks at a watch that may not be the one that was woken.
    func look(_ index: Int) {
      do throws(APIError) { seen += text(try cursors[index].next(limit: 100)) } catch { seen.append("\(error)") }
    }
  }

  @Test(arguments: [10, 1_000]) func whatConcernsOneNodeAsksItsWatchesAlone(nodes: Int) async throws {
    try await onLoop {
      let replica = try await ReplicaHarness()
      let everything = try await replica.watch(.init())
      #expect(try everything.next(limit: 10).isEmpty)
      var watches: [any WatchCursor] = []
      let notes = Notes()
      for index in 0..<nodes {
        // Some have the node alone, some also a label, a name or a namespace.
        let wish = [
          ReplicaHarness.Wish(fields: "spec.nodeName=n\(index)"),
          ReplicaHarness.Wish(fields: "spec.nodeName=n\(index)", labels: "app=x", namespace: "a"),
          ReplicaHarness.Wish(fields: "metadata.name=n\(index)"),
          ReplicaHarness.Wish(namespace: "n\(index)"),
        ][index % 4]
        let watch = try await replica.watch(wish)
        watch.onAvailable = { notes.woken.append(index) }
        #expect(try watch.next(limit: 10).isEmpty)
        watches.append(watch)
      }
      @LoopActor func asked(_ changes: [(key: String, thing: ReplicaHarness.Thing?)]) async -> Int {
        let before = replica.asked
        notes.woken = []
        await replica.publish(changes)
        return replica.asked - before
      }
      // One of the two that were asked is `everything`.
      #expect(await asked([("pods/a/one", .init(node: "n4"))]) == 2)
      #expect(notes.woken == [4])
      #expect(await asked([("pods/a/one", .init(node: "n4"))]) == 2)
      #expect(await asked([("pods/a/n6", .init())]) == 2)
      #expect(notes.woken == [6])
      #expect(await asked([("pods/n7/two", .init(node: "n5", app: "x"))]) == 3)
      #expect(notes.woken == [7], "n5's watch takes another namespace")
      #expect(await asked([("pods/a/two", .init(node: "n5"))]) == 2)
      #expect(notes.woken.isEmpty, "n5's watch takes another label")
      #expect(await asked([("pods/a/two", .init(node: "n5", app: "x"))]) == 2)
      #expect(notes.woken == [5])
      #expect(await asked([("pods/a/one", .init(node: "n8"))]) == 3)
      #expect(notes.woken == [8], "n4 has not yet taken what it was woken for")
      #expect(await asked([("pods/a/one", nil)]) == 2)
      #expect(await asked([("configmaps/a/one", .init(node: "n4"))]) == 0)
      #expect(text(try watches[4].next(limit: 10)) == ["added one", "modified one", "deleted one"])
      #expect(text(try watches[8].next(limit: 10)) == ["added one", "deleted one"])
      #expect(text(try watches[5].next(limit: 10)) == ["added two"])
      for watch in watches { watch.cancel() }
      #expect(await asked([("pods/a/one", .init(node: "n4"))]) == 1)
      everything.cancel()
      #expect(await asked([("pods/a/one", .init(node: "n0"))]) == 0)
    }
  }

  /// Nothing happens to a node for so long that the log forgets: its watch has missed nothing.
  @Test func whoIsNotConcernedMovesOnAllTheSame() async throws {
    try await onLoop {
      var limits = APIServerLimits()
      limits.tailEntries = 4
      let replica = try await ReplicaHarness(limits: limits)
      let notes = Notes()
      for index in 0..<2 {
        let watch = try await replica.watch(.init(fields: "spec.nodeName=n1"))
        watch.onAvailable = { notes.woken.append(index) }
        #expect(try watch.next(limit: 10).isEmpty)
        notes.cursors.append(watch)
      }
      // This one looks at another watch in the moment in which a publication wakes it, once it is told to.
      let early = try await replica.watch(.init())
      early.onAvailable = {
        if notes.looks { notes.look(0) }
        #expect(throws: Never.self) { try early.next(limit: 1_000) }
      }
      #expect(try early.next(limit: 10).isEmpty)
      @LoopActor func others() async {
        for index in 0..<50 { await replica.publish([("pods/a/x\(index)", .init(node: "n2"))]) }
        replica.log.compact(through: replica.log.tail.position - 1)
      }
      await others()
      #expect(notes.woken == [])
      replica.scheduler.fire()
      #expect(notes.woken == [0, 1])
      let newest = replica.log.tail.position
      for watch in notes.cursors { #expect(text(try watch.next(limit: 10)) == ["bookmark at \(newest)"]) }
      await others()
      notes.looks = true
      await replica.publish([
        ("pods/a/x0", .init(node: "n2")), ("pods/a/own", .init(node: "n1")), ("pods/a/x2", .init(node: "n2")),
      ])
      #expect(notes.seen == ["added own"])
      notes.looks = false
      // Not taken at once: the next publication does not make it look for what was before the last.
      await others()
      await replica.publish([("pods/a/own", .init(node: "n3"))])
      #expect(throws: APIError.self) { try notes.cursors[1].next(limit: 10) }
      #expect(text(try notes.cursors[0].next(limit: 10)) == ["deleted own"])
      early.cancel()
    }
  }

  @Test func anObjectThatMovesLeavesOneNodeAndComesToTheOther() async throws {
    try await onLoop {
      let replica = try await ReplicaHarness()
      await replica.publish([("pods/a/d", .init(node: "n1"))])
      let list = replica.log.tail.position
      let (first, second) = (
        try await replica.watch(.init(fields: "spec.nodeName=n1"), after: list),
        try await replica.watch(.init(fields: "spec.nodeName=n2"), after: list)
      )
      #expect(try first.next(limit: 10).isEmpty && second.next(limit: 10).isEmpty)
      await replica.publish([("pods/a/d", .init(node: "n2"))])
      let (left, came) = (try first.next(limit: 10), try second.next(limit: 10))
      #expect(text(left) == ["deleted d"] && text(came) == ["added d"])
      #expect(left[0].position == replica.log.tail.position && came[0].position == replica.log.tail.position)
      await replica.publish([("pods/a/d", .init(node: "n2", app: "x"))])
      first.cancel()
      second.cancel()
      await replica.publish([("pods/a/d", .init(node: "n1", app: "x"))])
      await replica.publish([("pods/a/e", .init(node: "n3"))])
      // Both come again from where they were.
      let again = try await replica.watch(.init(fields: "spec.nodeName=n1"), after: left[0].position)
      let other = try await replica.watch(.init(fields: "spec.nodeName=n2"), after: came[0].position)
      #expect(text(try again.next(limit: 10)) == ["added d"])
      #expect(text(try other.next(limit: 10)) == ["modified d", "deleted d"])
    }
  }

  /// A position may change several resources: whoever is woken for one may look at another at once.
  @Test func aPublicationIsKnownWholeBeforeTheFirstWatchLooks() async throws {
    try await onLoop {
      let replica = try await ReplicaHarness()
      let notes = Notes()
      for resource in ["pods", "secrets", "configmaps"] {
        let watch = try await replica.watch(.init(), resource: resource)
        watch.onAvailable = {
          for index in notes.cursors.indices { notes.look(index) }
        }
        notes.cursors.append(watch)
      }
      for cursor in notes.cursors { #expect(try cursor.next(limit: 10).isEmpty) }
      await replica.publish([("pods/a/d", .init()), ("configmaps/a/c", .init()), ("secrets/a/s", .init())])
      #expect(notes.seen.sorted() == ["added c", "added d", "added s"])
    }
  }

  /// A writer's answer comes before the watches hear of it: whoever looks then reads it from the log, and not again.
  @Test func whatWasReadFromTheLogIsNotToldAgain() async throws {
    try await onLoop {
      var limits = APIServerLimits()
      limits.tailEntries = 4
      let replica = try await ReplicaHarness(limits: limits)
      let notes = Notes()
      // One that takes runs, and one that is asked about each entry.
      for wish in [ReplicaHarness.Wish(), .init(labels: "app=x")] {
        let watch = try await replica.watch(wish)
        notes.cursors.append(watch)
      }
      // Nobody looks, so both fall behind the newest entries.
      for index in 0..<8 { await replica.publish([("pods/a/x\(index)", .init(app: "x"))]) }
      await replica.publish([("pods/a/newest", .init(app: "x"))]) {
        for index in notes.cursors.indices {
          notes.look(index)
          notes.look(index)
        }
      }
      let once = (0..<8).map { "added x\($0)" } + ["added newest"]
      #expect(notes.seen == once + once)
      notes.seen = []
      for index in notes.cursors.indices {
        #expect(notes.cursors[index].sharedRun() == nil)
        notes.look(index)
      }
      #expect(notes.seen.isEmpty)
      await replica.publish([("pods/a/next", .init(app: "x"))])
      for index in notes.cursors.indices { notes.look(index) }
      #expect(notes.seen == ["added next", "added next"])
    }
  }

  @Test func anotherHistoryEndsEveryWatch() async throws {
    try await onLoop {
      let replica = try await ReplicaHarness()
      let notes = Notes()
      for wish in [ReplicaHarness.Wish(), .init(fields: "spec.nodeName=n1"), .init(fields: "spec.nodeName=n2")] {
        let watch = try await replica.watch(wish)
        watch.onAvailable = { do { _ = try watch.next(limit: 10) } catch { notes.ended += 1 } }
        #expect(try watch.next(limit: 10).isEmpty)
        notes.cursors.append(watch)
      }
      for index in 0..<20 { await replica.publish([("pods/a/x\(index)", .init(node: "n1"))]) }
      var other = replica.log.tail
      other.epoch += 1
      other.position = 5
      await ReplicaHarness.replace(
        replica.log, other, [("pods/a/y", ReplicaHarness.stored(.init(node: "n2"), revision: 4))])
      await Task.yield()
      #expect(notes.ended == 3)
      let again = try await replica.watch(.init(fields: "spec.nodeName=n1"))
      #expect(try again.next(limit: 10).isEmpty)
      await replica.publish([("pods/a/y", .init(node: "n1"))])
      #expect(text(try again.next(limit: 10)) == ["added y"])
    }
  }
}
