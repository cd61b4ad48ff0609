import API
import Base
import ObjectLog

extension Defect {
  static let logDefects = [
    Defect(
      name: "ack-before-commit", breaks: .durable, story: "a write is answered before its transaction is done",
      seams: { SpoiledServerLog($0) { HastyLog($0) } }),
    Defect(
      name: "dropped-entry", breaks: .noGap, story: "the hub overlooks one entry of the log in forty",
      seams: { SpoiledSliceLog($0) { DroppingLog($0) { _, count in count % 40 == 0 } } }),
    Defect(
      name: "dropped-delete", breaks: .filtered, story: "the hub overlooks deletions",
      seams: { SpoiledSliceLog($0) { DroppingLog($0) { entry, _ in entry.type == .deleted } } }),
    Defect(
      name: "wrong-object", breaks: .filtered, story: "a node is sent a secret that nothing of its own refers to",
      seams: { SpoiledSliceLog($0) { StrayingLog($0) } }),
    Defect(
      name: "snapshot-always", breaks: .resumable, story: "the hub forgets history that the log still has",
      seams: { SpoiledSliceLog($0) { ShortLog($0) } }),
    Defect(
      name: "filter-change-ignored", breaks: .noGap,
      story: "a watch looks at an object's new labels only, and misses that it left the selection",
      seams: { SpoiledServerLog($0) { LabelBlindLog($0) } }),
    Defect(
      name: "reordered-positions", breaks: .ordered, story: "two entries reach the watches in the wrong order",
      seams: { SpoiledServerLog($0) { SwappingLog($0) } }),
    Defect(
      name: "watch-from-now", breaks: .noGap, story: "a watch that falls behind the newest entries goes on at the end",
      seams: { SpoiledServerLog($0) { SkippingLog($0) } }),
    Defect(
      name: "delete-merged", breaks: .noGap, story: "a replica takes a deletion and a re-creation for one change",
      seams: { SpoiledReplica($0) { MergingLog($0) } }),
    Defect(
      name: "replica-delete-dropped", breaks: .filtered, story: "a replica keeps one deleted object in four",
      seams: { SpoiledReplica($0) { KeepingLog($0) } }),
    Defect(
      name: "cursor-ahead", breaks: .noGap, story: "a replica says that it stands further than it does",
      seams: { SpoiledReplica($0) { BoastingLog($0) } }),
    Defect(
      name: "apply-never-ends", breaks: .converges,
      story: "a replica does not say that it applied one position in sixty",
      seams: { SpoiledReplica($0) { SilentLog($0) } }),
  ]
}

@LoopActor private final class SpoiledSliceLog: Seams {
  private let spoil: @LoopActor (any ObjectLog) -> any ObjectLog
  init(_ world: SimWorld, _ spoil: @escaping @LoopActor (any ObjectLog) -> any ObjectLog) {
    self.spoil = spoil
    super.init(world)
  }
  override func sliceLog(_ log: any ObjectLog) -> any ObjectLog { spoil(log) }
}

@LoopActor private final class SpoiledServerLog: Seams {
  private let spoil: @LoopActor (any ObjectLog) -> any ObjectLog
  init(_ world: SimWorld, _ spoil: @escaping @LoopActor (any ObjectLog) -> any ObjectLog) {
    self.spoil = spoil
    super.init(world)
  }
  override func serverLog(_ log: any ObjectLog) -> any ObjectLog { spoil(log) }
}

/// The defect lies above the recorder, as a defect of the follower would.
@LoopActor private final class SpoiledReplica: Seams {
  private let spoil: @LoopActor (any ObjectLog) -> any ObjectLog
  init(_ world: SimWorld, _ spoil: @escaping @LoopActor (any ObjectLog) -> any ObjectLog) {
    self.spoil = spoil
    super.init(world)
  }
  override func replica(_ replica: any ObjectLog, node: String, process: SimProcess) -> any ObjectLog {
    spoil(super.replica(replica, node: node, process: process))
  }
}

/// Publishes less, more or other entries than the log does.
@LoopActor class RetellingLog: ForwardingLog {
  private var count = 0
  func retell(_ entry: Entry, _ count: Int) -> [Entry] { [entry] }
  func retell(_ entries: [Entry]) -> [Entry] {
    entries.flatMap { entry in
      count += 1
      return retell(entry, count)
    }
  }
  override func observe(_ body: @escaping @LoopActor (_ published: [Entry]) -> Void) -> ObservationID {
    inner.observe { [weak self] entries in
      guard let self else { return }
      let told = self.retell(entries)
      if !told.isEmpty { body(told) }
    }
  }
}

extension Entry {
  fileprivate func with(
    type: EntryType? = nil, object: StoredObject? = nil, previousMeta: Bytes?? = nil
  ) -> Entry {
    Entry(
      position: position, index: index, key: key, revision: revision, previousRevision: previousRevision,
      type: type ?? self.type, object: object ?? self.object, previousMeta: previousMeta ?? self.previousMeta)
  }
}

@LoopActor private final class DroppingLog: RetellingLog {
  private let drops: @LoopActor (Entry, Int) -> Bool
  init(_ inner: any ObjectLog, _ drops: @escaping @LoopActor (Entry, Int) -> Bool) {
    self.drops = drops
    super.init(inner)
  }
  override func retell(_ entry: Entry, _ count: Int) -> [Entry] { drops(entry, count) ? [] : [entry] }
}

@LoopActor private final class StrayingLog: RetellingLog {
  override func retell(_ entry: Entry, _ count: Int) -> [Entry] {
    guard entry.key.hasPrefix("pods/"), entry.type == .created, var meta = try? ObjectMeta(decoding: entry.object.meta)
    else { return [entry] }
    meta.references.append("secrets/default/m\(count % 4 * 3)")
    var object = entry.object
    object.meta = meta.encoded
    return [entry.with(object: object)]
  }
}

@LoopActor private final class ShortLog: ForwardingLog {
  override var compacted: UInt64 { max(inner.compacted, inner.tail.position - min(inner.tail.position, 1)) }
}

@LoopActor private final class LabelBlindLog: RetellingLog {
  override func retell(_ entry: Entry, _ count: Int) -> [Entry] {
    entry.type == .modified ? [entry.with(previousMeta: .some(entry.object.meta))] : [entry]
  }
}

@LoopActor private final class SwappingLog: RetellingLog {
  private var held: Entry?
  override func retell(_ entries: [Entry]) -> [Entry] {
    var told: [Entry] = []
    for entry in entries {
      if let before = held {
        told += [entry, before]
        held = nil
      } else if entry.position % 16 == 0 {
        held = entry
      } else {
        told.append(entry)
      }
    }
    return told
  }
}

@LoopActor private final class SkippingLog: ForwardingLog {
  override func entries(after position: UInt64, prefix: String, limit: Int) throws(SkerryError) -> (
    entries: [Entry], through: UInt64
  ) {
    let found = try inner.entries(after: position, prefix: prefix, limit: limit)
    return found.entries.count > 2 ? ([], found.through) : found
  }
}

@LoopActor private final class MergingLog: ForwardingLog {
  override func apply(
    position: Cursor, entries: [Entry], privates: [(key: String, value: Bytes?)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    let created = Set(entries.filter { $0.type == .created }.map(\.key))
    var merged: [Entry] = []
    for entry in entries where !(entry.type == .deleted && created.contains(entry.key)) {
      let held = (try? inner.read(entry.key, at: nil)) ?? nil
      guard let held else {
        merged.append(entry)
        continue
      }
      merged.append(
        Entry(
          position: entry.position, index: UInt32(merged.count), key: entry.key, revision: entry.revision,
          previousRevision: held.revision, type: entry.type == .deleted ? .deleted : .modified, object: entry.object,
          previousMeta: held.meta))
    }
    inner.apply(position: position, entries: merged, privates: privates, completion: completion)
  }
}

@LoopActor private final class KeepingLog: ForwardingLog {
  private var count = 0
  override func apply(
    position: Cursor, entries: [Entry], privates: [(key: String, value: Bytes?)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    let kept = entries.filter { entry in
      guard entry.type == .deleted, !entries.contains(where: { $0.key == entry.key && $0.type == .created }) else {
        return true
      }
      count += 1
      return count % 4 != 0
    }
    inner.apply(position: position, entries: kept, privates: privates, completion: completion)
  }
}

@LoopActor private final class BoastingLog: ForwardingLog {
  override var tail: Cursor {
    var cursor = inner.tail
    if cursor.position > 0 { cursor.position += 3 }
    return cursor
  }
}

@LoopActor private final class HastyLog: ForwardingLog {
  override func append(_ group: [Change], completion: @escaping @LoopActor ([ChangeResult]) -> Void) {
    guard group.count == 1, case .put = group[0].operation, case .revision = group[0].guarding else {
      return inner.append(group, completion: completion)
    }
    let revision = inner.tail.position + 1
    inner.append(group) { _ in }
    spawn { completion([.applied(revision: revision)]) }
  }
}

@LoopActor private final class SilentLog: ForwardingLog {
  private var count = 0
  override func apply(
    position: Cursor, entries: [Entry], privates: [(key: String, value: Bytes?)],
    completion: @escaping @LoopActor (SkerryError?) -> Void
  ) {
    inner.apply(position: position, entries: entries, privates: privates) { [self] error in
      count += 1
      if count % 60 == 0 { forgotten.append(completion) } else { completion(error) }
    }
  }
  private var forgotten: [@LoopActor (SkerryError?) -> Void] = []
}
