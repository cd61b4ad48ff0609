import API
import APIServer
import Base
import CloudHub
import ObjectLog
import Sync
import Wire

/// Where the simulated processes are joined to what is around them: recorders, and in a planted run a defect.
@LoopActor package class Seams {
  package unowned let world: SimWorld
  package init(_ world: SimWorld) { self.world = world }

  /// A restored backup begins a new epoch.
  package var beginsEpochs: Bool { true }
  /// Connections whose certificate has run out are cut.
  package var cutsExpired: Bool { true }
  package func prepare(cloud disk: SimDisk) {}
  package func prepare(_ node: SimNode) {}
  /// What is on an edge's disk when its program has died.
  package func died(_ node: SimNode) {}
  package func configuration(_ configuration: SessionConfiguration) -> SessionConfiguration { configuration }

  package func sliceLog(_ log: any ObjectLog) -> any ObjectLog { log }
  package func serverLog(_ log: any ObjectLog) -> any ObjectLog { log }
  package func authorizer(_ authorizer: any Authorizer) -> any Authorizer { authorizer }
  package func outboxRandom(_ random: any RandomSource, node: String) -> any RandomSource { random }

  package func effect(_ effect: any LaneEffect, process: SimProcess) -> any LaneEffect {
    RecordedEffect(effect, world: world, process: process)
  }

  package func replica(_ replica: any ObjectLog, node: String, process: SimProcess) -> any ObjectLog {
    RecordedReplica(replica, node: node, world: world, process: process)
  }
}

/// A log that passes everything on; what records or spoils something overrides one call.
@LoopActor package class ForwardingLog: ObjectLog {
  package let inner: any ObjectLog
  package init(_ inner: any ObjectLog) { self.inner = inner }

  package var tail: Cursor { inner.tail }
  package var compacted: UInt64 { inner.compacted }
  package func append(_ group: [Change], completion: @escaping @LoopActor ([ChangeResult]) -> Void) {
    inner.append(group, completion: completion)
  }
  package func apply(
    position: Cursor, entries: [Entry], privates: [(key: String, value: Bytes?)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    inner.apply(position: position, entries: entries, privates: privates, completion: completion)
  }
  package func replace(
    position: Cursor, objects: [(key: String, object: StoredObject)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    inner.replace(position: position, objects: objects, completion: completion)
  }
  package func read(_ key: String, at position: UInt64?) throws(SkerryError) -> StoredObject? {
    try inner.read(key, at: position)
  }
  package func list(prefix: String, at position: UInt64?, after: String?, limit: Int) throws(SkerryError) -> Page {
    try inner.list(prefix: prefix, at: position, after: after, limit: limit)
  }
  package func entries(after position: UInt64, prefix: String, limit: Int) throws(SkerryError) -> (
    entries: [Entry], through: UInt64
  ) {
    try inner.entries(after: position, prefix: prefix, limit: limit)
  }
  package func compact(through position: UInt64) { inner.compact(through: position) }
  package func privateValue(_ key: String) throws(SkerryError) -> Bytes? { try inner.privateValue(key) }
  package func privateValues(prefix: String) throws(SkerryError) -> [(key: String, value: Bytes)] {
    try inner.privateValues(prefix: prefix)
  }
  package func observe(_ body: @escaping @LoopActor (_ published: [Entry]) -> Void) -> ObservationID {
    inner.observe(body)
  }
  package func cancelObservation(_ id: ObservationID) { inner.cancelObservation(id) }
}

/// A node's replica as the link writes it: every position that was completed is held against the model.
@LoopActor private final class RecordedReplica: ForwardingLog {
  private let node: String
  private unowned let world: SimWorld
  private let process: SimProcess

  init(_ inner: any ObjectLog, node: String, world: SimWorld, process: SimProcess) {
    self.node = node
    self.world = world
    self.process = process
    super.init(inner)
  }

  override func apply(
    position: Cursor, entries: [Entry], privates: [(key: String, value: Bytes?)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    inner.apply(position: position, entries: entries, privates: privates) { [self] error in
      guard process.isAlive else { return world.time.bury(completion) }
      if error == nil { world.validator.applied(node, position, entries) }
      completion(error)
    }
  }

  override func replace(
    position: Cursor, objects: [(key: String, object: StoredObject)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    var revisions: [String: UInt64] = [:]
    for (key, object) in objects { revisions[key] = object.revision }
    inner.replace(position: position, objects: objects) { [self, revisions] error in
      guard process.isAlive else { return world.time.bury(completion) }
      if error == nil { world.validator.replaced(node, position, revisions) }
      completion(error)
    }
  }
}

/// A lane's effect, with every batch that it took written down.
@LoopActor package class ForwardingEffect: LaneEffect {
  package let inner: any LaneEffect
  package init(_ inner: any LaneEffect) { self.inner = inner }
  package func cursor(node: String, lane: Lane, incarnation: Incarnation) throws(SkerryError) -> UInt64 {
    try inner.cursor(node: node, lane: lane, incarnation: incarnation)
  }
  package func keepOnly(_ incarnations: [Incarnation], node: String, lane: Lane) {
    inner.keepOnly(incarnations, node: node, lane: lane)
  }
  package func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
    try await inner.apply(batch, node: node, lane: lane)
  }
}

@LoopActor private final class RecordedEffect: ForwardingEffect {
  private unowned let world: SimWorld
  private let process: SimProcess
  init(_ inner: any LaneEffect, world: SimWorld, process: SimProcess) {
    self.world = world
    self.process = process
    super.init(inner)
  }
  override func apply(_ batch: LaneBatch, node: String, lane: Lane) async throws(SkerryError) {
    let begun = world.time.now
    do throws(SkerryError) {
      try await inner.apply(batch, node: node, lane: lane)
      await process.passDeadEnd()
      world.ledger.applied(batch, node: node, lane: lane, begun: begun)
    } catch {
      await process.passDeadEnd()
      throw error
    }
  }
}
