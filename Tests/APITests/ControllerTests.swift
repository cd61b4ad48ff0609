import API
import APIServer
import Base
import EventLoop
import Logging
import ObjectLog
import ObjectModel
import Testing

/// Progress that a test makes by hand.
@LoopActor private final class HandProgress: InformerProgress {
  var revision: UInt64 = 0 {
    didSet {
      let ready = waiters.filter { $0.target <= revision }
      waiters.removeAll { $0.target <= revision }
      for waiter in ready { waiter.action() }
    }
  }
  var isSynced = true
  private var waiters: [(target: UInt64, action: @LoopActor () -> Void)] = []
  func whenReached(_ target: UInt64, _ action: @escaping @LoopActor () -> Void) {
    if revision >= target { action() } else { waiters.append((target, action)) }
  }
  func whenSynced(_ action: @escaping @LoopActor () -> Void) { action() }
}

@LoopActor private func makeController(
  _ scheduler: ManualScheduler, workers: Int = 5, _ reconcile: @escaping Controller<String>.Reconcile
) -> Controller<String> {
  var logger = Logger(label: "test")
  logger.logLevel = .critical
  let random = SeededRandom(seed: 1)
  let server = APIServer(
    log: MemoryObjectLog(random: random), authorizer: HouseAuthorizer(logger: logger), scheduler: scheduler,
    random: random, logger: logger)
  return Controller(
    name: "test", api: server, scheduler: scheduler, random: random, metrics: Metrics(), logger: logger,
    workers: workers, reconcile: reconcile)
}

/// Lets what was spawned run until nothing is under way.
@LoopActor private func settle(_ controller: Controller<String>) async {
  repeat { await Task.yield() } while !controller.isIdle
}

@Suite struct ControllerTests {
  @Test func aKeyWaitsUntilItsOwnWritesShow() async throws {
    try await onLoop {
      let progress = HandProgress()
      var runs = 0
      let controller = makeController(ManualScheduler()) { _, context throws(APIError) in
        runs += 1
        context.wrote(UInt64(runs * 10), seenBy: progress)
        return nil
      }
      controller.start(after: [progress])
      controller.enqueue("a")
      await settle(controller)
      #expect(runs == 1)
      controller.enqueue("a")
      await settle(controller)
      #expect(runs == 1)
      progress.revision = 9
      await settle(controller)
      #expect(runs == 1)
      progress.revision = 10
      await settle(controller)
      #expect(runs == 2)
      // Another key is not held up by it.
      controller.enqueue("b")
      await settle(controller)
      #expect(runs == 3)
    }
  }

  @Test func aFailedKeyComesBackAndStillWaitsForWhatItWrote() async throws {
    try await onLoop {
      let progress = HandProgress()
      let scheduler = ManualScheduler()
      var runs = 0
      let controller = makeController(scheduler) { _, context throws(APIError) in
        runs += 1
        if runs == 1 {
          context.wrote(5, seenBy: progress)
          throw APIError(.serviceUnavailable, "half done")
        }
        return nil
      }
      controller.start(after: [])
      controller.enqueue("a")
      await settle(controller)
      scheduler.advance(.seconds(1))
      await settle(controller)
      #expect(runs == 1)
      progress.revision = 5
      await settle(controller)
      #expect(runs == 2)
      #expect(controller.queue.failureCount("a") == 0)
    }
  }

  @Test func atMostSoManyAtOnceAndNoKeyTwice() async throws {
    try await onLoop {
      var (running, most): (Set<String>, Int) = ([], 0)
      var twice = false
      let controller = makeController(ManualScheduler(), workers: 3) { key, _ throws(APIError) in
        if !running.insert(key).inserted { twice = true }
        most = max(most, running.count)
        for _ in 0..<5 { await Task.yield() }
        running.remove(key)
        return nil
      }
      controller.start(after: [])
      for round in 0..<5 {
        for key in ["a", "b", "c", "d", "e", "f"] { controller.enqueue(key) }
        for _ in 0..<round { await Task.yield() }
      }
      await settle(controller)
      #expect(most == 3)
      #expect(!twice)
    }
  }

  @Test func aSlowKeyHoldsUpNobody() async throws {
    try await onLoop {
      var held: CheckedContinuation<Void, Never>?
      var done: [String] = []
      let controller = makeController(ManualScheduler(), workers: 2) { key, _ throws(APIError) in
        if key == "slow" { await withCheckedContinuation { held = $0 } }
        done.append(key)
        return nil
      }
      controller.start(after: [])
      controller.enqueue("slow")
      for _ in 0..<1000 where held == nil { await Task.yield() }
      controller.enqueue("quick")
      for _ in 0..<1000 where done.isEmpty { await Task.yield() }
      #expect(done == ["quick"])
      held?.resume()
      await settle(controller)
      #expect(done == ["quick", "slow"])
    }
  }

  @Test func itComesBackWhenItAskedTo() async throws {
    try await onLoop {
      let scheduler = ManualScheduler()
      var runs = 0
      let controller = makeController(scheduler) { _, _ throws(APIError) in
        runs += 1
        return .seconds(10)
      }
      controller.start(after: [])
      controller.enqueue("a")
      await settle(controller)
      scheduler.advance(.seconds(9))
      await settle(controller)
      #expect(runs == 1)
      scheduler.advance(.seconds(1))
      await settle(controller)
      #expect(runs == 2)
      controller.stop()
      #expect(scheduler.pending == 0)
    }
  }
}
