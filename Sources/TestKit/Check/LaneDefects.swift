import API
import Base
import CloudHub
import ObjectLog
import Sync
import Wire

extension Defect {
  static let laneDefects = [
    Defect(
      name: "resend-without-check", breaks: .effectExactlyOnce,
      story: "a lane begins from its start after every connect",
      seams: { SpoiledEffect($0) { ForgetfulEffect($0) } }),
    Defect(
      name: "duplicated-reading", breaks: .effectExactlyOnce, story: "one reading in thirty takes effect twice",
      seams: { SpoiledEffect($0) { DoublingEffect($0) } }),
    Defect(
      name: "lost-lane-entry", breaks: .effectExactlyOnce, story: "one lane entry in twenty has no effect",
      seams: { SpoiledEffect($0) { LosingEffect($0) } }),
    Defect(
      name: "cursor-off-by-one", breaks: .effectExactlyOnce,
      story: "the cloud says that it has one lane entry more than it has",
      seams: { SpoiledEffect($0) { EagerEffect($0) } }),
    Defect(
      name: "stale-session-accepted", breaks: .effectExactlyOnce,
      story: "what an old session said last takes effect again when the next one is there",
      seams: { SpoiledEffect($0) { StaleEffect($0) } }),
    Defect(
      name: "reused-incarnation", breaks: .effectExactlyOnce,
      story: "an outbox that is opened again goes on under the incarnation that it had before",
      seams: { RepeatedIncarnations($0) }),
  ]
  static let otherDefects = [
    Defect(
      name: "authorizer-open", breaks: .authorised, story: "the authoriser lets nodes read whatever they ask for",
      seams: { OpenDoors($0) }),
    Defect(
      name: "expired-session-kept", breaks: .authorised, story: "sessions outlive their certificates",
      seams: { ExpiredSessions($0) }),
    Defect(
      name: "silence-ignored", breaks: .bounded, story: "a session on which nothing is heard is kept for an hour",
      seams: { DeafSessions($0) }),
  ]
}

/// The defect lies below the recorder.
@LoopActor private final class SpoiledEffect: Seams {
  private let spoil: @LoopActor (any LaneEffect) -> any LaneEffect
  init(_ world: SimWorld, _ spoil: @escaping @LoopActor (any LaneEffect) -> any LaneEffect) {
    self.spoil = spoil
    super.init(world)
  }
  override func effect(_ effect: any LaneEffect, process: SimProcess) -> any LaneEffect {
    super.effect(spoil(effect), process: process)
  }
}

/// Readings as a batch carries them.
private func packed(_ readings: [Reading]) throws(SkerryError) -> ReadingBatch? {
  readings.isEmpty ? nil : try ReadingBatch(readings)
}

@LoopActor private final class ForgetfulEffect: ForwardingEffect {
  override func cursor(node: String, lane: Lane, incarnation: Incarnation) throws(SkerryError) -> UInt64 { 0 }
}

@LoopActor private final class DoublingEffect: ForwardingEffect {
  private var count = 0
  override func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
    var spoiled = batch
    spoiled.entries = batch.entries.flatMap(doubled)
    spoiled.packed = try packed(batch.readings.flatMap(doubled))
    try await inner.apply(spoiled, node: node, lane: lane)
  }
  private func doubled<Item>(_ item: Item) -> [Item] {
    count += 1
    return count % 30 == 0 ? [item, item] : [item]
  }
}

@LoopActor private final class LosingEffect: ForwardingEffect {
  private var count = 0
  override func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
    var spoiled = batch
    spoiled.entries = batch.entries.filter { _ in isKept(lane) }
    spoiled.packed = try packed(batch.readings.filter { _ in isKept(lane) })
    try await inner.apply(spoiled, node: node, lane: lane)
  }
  private func isKept(_ lane: Lane) -> Bool {
    count += 1
    return lane == .status || count % 20 != 0
  }
}

@LoopActor private final class EagerEffect: ForwardingEffect {
  override func cursor(node: String, lane: Lane, incarnation: Incarnation) throws(SkerryError) -> UInt64 {
    let cursor = try inner.cursor(node: node, lane: lane, incarnation: incarnation)
    return cursor == 0 ? 0 : cursor + 1
  }
}

@LoopActor private final class StaleEffect: ForwardingEffect {
  private var last: [String: LaneBatch] = [:]
  override func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
    try await inner.apply(batch, node: node, lane: lane)
    last["\(node) \(lane)"] = batch
  }
  override func keepOnly(_ incarnations: [Incarnation], node: String, lane: Lane) {
    inner.keepOnly(incarnations, node: node, lane: lane)
    guard let batch = last["\(node) \(lane)"] else { return }
    spawn { try? await self.inner.apply(batch, node: node, lane: lane) }
  }
}

@LoopActor private final class RepeatedIncarnations: Seams {
  private var starts: [String: Int] = [:]
  override func outboxRandom(_ random: any RandomSource, node: String) -> any RandomSource {
    starts[node, default: 0] += 1
    return FixedRandom("\(node) \((starts[node] ?? 0) / 2)")
  }
}

/// Gives the same bits at each opening.
private final class FixedRandom: RandomSource {
  private let inner: SeededRandom
  init(_ name: String) { inner = SeededRandom.stream(7, name) }
  func next() -> UInt64 { inner.next() }
}

@LoopActor private final class OpenDoors: Seams {
  override func authorizer(_ authorizer: any Authorizer) -> any Authorizer { Everything() }
}

@LoopActor private final class Everything: Authorizer {
  func authorize(_ request: AccessRequest, caller: Caller) throws(APIError) {}
}

@LoopActor private final class ExpiredSessions: Seams {
  override var cutsExpired: Bool { false }
}

@LoopActor private final class DeafSessions: Seams {
  override func configuration(_ configuration: SessionConfiguration) -> SessionConfiguration {
    var deaf = configuration
    deaf.pingInterval = .seconds(1200)
    return deaf
  }
}
