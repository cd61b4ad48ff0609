import API
import Base
import ObjectLog
import ObjectModel

/// Which objects of a resource are placed on which node: what `spec.nodeName=` selects, without a look at all of them.
///
/// Made for a resource when somebody first asks, in pages that let others run, and kept up with the log from then on.
/// Invariant: once `changed` is nil, `keysByNode` and `nodes` are what the log holds at `position`.
@LoopActor final class PlacementIndex {
  private struct Table {
    var keysByNode: [String: Set<String>] = [:]
    var nodes: [String: String] = [:]
    /// While the table is being made: what changed meanwhile, which the older page must not undo.
    var changed: Set<String>? = []

    mutating func set(_ key: String, _ node: String?) {
      if let old = nodes.removeValue(forKey: key) {
        keysByNode[old]?.remove(key)
        if keysByNode[old]?.isEmpty == true { keysByNode[old] = nil }
      }
      guard let node else { return }
      nodes[key] = node
      keysByNode[node, default: []].insert(key)
    }
  }

  /// Objects read between two chances for others to run.
  private static let pageSize = 500

  private let log: any ObjectLog
  private var tables: [String: Table] = [:]
  private var observation: ObservationID?
  /// Everything up to here was taken in.
  private var position: UInt64 = 0

  init(log: any ObjectLog) { self.log = log }

  func stop() {
    if let observation { log.cancelObservation(observation) }
    observation = nil
    tables = [:]
  }

  /// The log keys of the resource's objects on a node as of the log's newest position, in the order of a listing; nil
  /// while that is not known: then whoever asks has to look at all objects.
  func keys(_ resource: String, on node: String) -> [String]? {
    guard let table = tables[resource] else {
      begin(resource)
      return nil
    }
    guard table.changed == nil, position == log.tail.position else { return nil }
    return (table.keysByNode[node] ?? []).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  private func begin(_ resource: String) {
    if observation == nil {
      position = log.tail.position
      observation = log.observe { [weak self] entries in self?.follow(entries) }
    }
    tables[resource] = Table()
    let start = log.tail.position
    spawn { [weak self] in await self?.fill(resource, at: start) }
  }

  private func fill(_ resource: String, at start: UInt64) async {
    var after: String?
    while tables[resource] != nil {
      do throws(SkerryError) {
        let page = try log.list(prefix: "\(resource)/", at: start, after: after, limit: Self.pageSize)
        for (key, object) in page.objects {
          after = key
          guard tables[resource]?.changed?.contains(key) == false else { continue }
          tables[resource]?.set(key, try ObjectMeta(decoding: object.meta).node)
        }
        guard page.more else {
          tables[resource]?.changed = nil
          return
        }
      } catch {
        // The position was compacted away, or the log cannot be read: the next question begins anew.
        tables[resource] = nil
        return
      }
      await Task.yield()
    }
  }

  private func follow(_ entries: [Entry]) {
    let isMaking = tables.values.contains { $0.changed != nil }
    for entry in entries {
      position = entry.position
      // Most changes are of a status, and leave the object where it is. A table that is being made must hear of them.
      if entry.type == .modified, entry.previousMeta == entry.object.meta, !isMaking { continue }
      guard let slash = entry.key.utf8.firstIndex(of: UInt8(ascii: "/")) else { continue }
      let resource = String(entry.key[..<slash])
      guard tables[resource] != nil else { continue }
      let node = entry.type == .deleted ? nil : (try? ObjectMeta(decoding: entry.object.meta))?.node
      tables[resource]?.set(entry.key, node)
      tables[resource]?.changed?.insert(entry.key)
    }
  }
}
