import API
import Base
import ObjectLog
import ObjectModel

/// Which node has a reason to read which object: the slice's rule, followed over the log for the authoriser.
///
/// Invariant: `reasons[node][key]` counts what is placed on the node and is the object, or refers to it.
@LoopActor package final class NodeIndex: NodeGraph {
  private var placed: [String: (node: String, keys: [String])] = [:]
  private var reasons: [String: [String: Int]] = [:]
  private let log: any ObjectLog
  private var observation: ObservationID?

  /// Objects read a page while it starts.
  private static let pageSize = 1_000

  /// Reads every object's metadata once, then follows. Throws when the log cannot be read.
  package init(log: any ObjectLog) throws(SkerryError) {
    self.log = log
    let position = log.tail.position
    var after: String?
    while true {
      let page = try log.list(prefix: "", at: position, after: after, limit: Self.pageSize)
      for (key, object) in page.objects {
        after = key
        place(key, try ObjectMeta(decoding: object.meta))
      }
      if !page.more { break }
    }
    observation = log.observe { [weak self] entries in self?.follow(entries) }
  }

  package func stop() {
    if let observation { log.cancelObservation(observation) }
    observation = nil
  }

  package func mayRead(node: String, key: String) -> Bool { reasons[node]?[key] != nil }

  private func follow(_ entries: [Entry]) {
    for entry in entries {
      remove(entry.key)
      // What does not decode gives nobody a reason.
      if entry.type != .deleted, let meta = try? ObjectMeta(decoding: entry.object.meta) { place(entry.key, meta) }
    }
  }

  private func place(_ key: String, _ meta: ObjectMeta) {
    guard let node = meta.node else { return }
    let keys = [key] + meta.references
    placed[key] = (node, keys)
    for key in keys { reasons[node, default: [:]][key, default: 0] += 1 }
  }

  private func remove(_ key: String) {
    guard let old = placed.removeValue(forKey: key) else { return }
    for key in old.keys {
      guard let count = reasons[old.node]?[key] else { continue }
      reasons[old.node]?[key] = count > 1 ? count - 1 : nil
    }
    if reasons[old.node]?.isEmpty ?? false { reasons[old.node] = nil }
  }
}
