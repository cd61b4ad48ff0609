import API
import Base
import CloudScheduler
import ObjectModel
import Testing

private let start = Instant(nanoseconds: 1_000_000_000_000)
private func at(_ seconds: Int64) -> Instant { start + .seconds(seconds) }

private func prioritised(_ name: String, _ priority: Int64) -> PodDemand {
  pod(name, spec: [("priority", .int(priority))])
}

@Suite struct SchedulingQueueTests {
  @Test func priorityFirstThenAge() {
    var queue = SchedulingQueue()
    for (name, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", 10)] as [(String, Int64)] {
      queue.add(prioritised(name, priority), now: start)
    }
    var order: [String] = []
    while let demand = queue.take(now: start) { order.append(demand.key.name) }
    #expect(order == ["b", "d", "a", "c"])
    #expect(queue.count == 4)
  }

  @Test func whatWasRemovedDoesNotComeUp() {
    var queue = SchedulingQueue()
    queue.add(pod("a"), now: start)
    queue.add(pod("b"), now: start)
    queue.remove(pod("a").key)
    #expect(queue.take(now: start)?.key.name == "b")
    #expect(queue.take(now: start) == nil)
    queue.add(pod("a"), now: start)
    #expect(queue.take(now: start)?.key.name == "a")
  }

  @Test func refusedPodsWaitForAChangeAndForTheirBackoff() {
    var queue = SchedulingQueue()
    queue.add(pod("a"), now: at(0))
    _ = queue.take(now: at(0))
    queue.refuse(pod("a").key, now: at(0))
    #expect(queue.take(now: at(100)) == nil)
    #expect(queue.refusedCount == 1)
    // The change comes before the backoff of a second is over.
    queue.clusterChanged(now: at(0))
    #expect(queue.take(now: at(0)) == nil)
    #expect(queue.nextDue == at(1))
    #expect(queue.take(now: at(1))?.key.name == "a")
    // Refused again: two seconds, but the change comes later than that.
    queue.refuse(pod("a").key, now: at(1))
    queue.clusterChanged(now: at(50))
    #expect(queue.take(now: at(50))?.key.name == "a")
  }

  /// Pods that come and go let in those that ask for pods, or to be spread among them, and nobody else.
  @Test func podsThatMoveWakeThoseThatAskForPods() {
    var queue = SchedulingQueue()
    let apart: Value = [
      "podAntiAffinity": ["requiredDuringSchedulingIgnoredDuringExecution": [["topologyKey": "zone"]]]
    ]
    let asking = pod("asking", spec: [("affinity", apart)])
    for demand in [asking, pod("plain")] {
      queue.add(demand, now: at(0))
      _ = queue.take(now: at(0))
      queue.refuse(demand.key, now: at(0))
    }
    queue.podsChanged(now: at(5))
    #expect(queue.refusedCount == 1)
    #expect(queue.take(now: at(5))?.key.name == "asking")
    #expect(queue.take(now: at(5)) == nil)
    queue.refuse(asking.key, now: at(5))
    queue.remove(asking.key)
    queue.podsChanged(now: at(50))
    queue.clusterChanged(now: at(50))
    #expect(queue.take(now: at(50))?.key.name == "plain")
    #expect(queue.take(now: at(50)) == nil)
  }

  @Test func backoffGrowsToItsCap() {
    var queue = SchedulingQueue()
    queue.add(pod("a"), now: at(0))
    var now = at(0)
    var waits: [Int64] = []
    for _ in 0..<7 {
      _ = queue.take(now: now)
      queue.retry(pod("a").key, now: now)
      let due = queue.nextDue ?? now
      waits.append((due - now).nanosecondCount / 1_000_000_000)
      now = due
    }
    #expect(waits == [1, 2, 4, 8, 10, 10, 10])
  }

  @Test func refusedLongAgoComesUpInAnyCase() {
    var queue = SchedulingQueue()
    queue.add(pod("a"), now: at(0))
    _ = queue.take(now: at(0))
    queue.refuse(pod("a").key, now: at(0))
    queue.releaseStale(now: at(299))
    #expect(queue.take(now: at(299)) == nil)
    queue.releaseStale(now: at(300))
    #expect(queue.take(now: at(300))?.key.name == "a")
  }

  @Test func aRefusedPodThatAsksForLessIsLookedAtAgain() {
    var queue = SchedulingQueue()
    queue.add(pod("a", cpu: "8"), now: at(0))
    _ = queue.take(now: at(0))
    queue.refuse(pod("a").key, now: at(0))
    // What was written about it is no reason.
    let said: Value = ["type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"]
    let told = pod("a", cpu: "8", status: ["conditions": [said]])
    #expect(told != pod("a", cpu: "8"))
    queue.add(told, now: at(10))
    #expect(queue.take(now: at(10)) == nil)
    queue.add(pod("a", cpu: "1"), now: at(11))
    #expect(queue.take(now: at(11))?.requests.cpu == 1000)
  }

  @Test func aPodThatWasMadeAgainStartsAfresh() {
    var queue = SchedulingQueue()
    queue.add(pod("a"), now: at(0))
    _ = queue.take(now: at(0))
    queue.refuse(pod("a").key, now: at(0))
    let other = pod("a", metadata: [("uid", "another")])
    queue.add(other, now: at(0))
    #expect(queue.take(now: at(0))?.uid == "another")
  }
}
