import Base

/// Every version of every object that history still reaches, by key. Keys are ordered by their bytes.
struct MemoryState {
  private struct Version {
    var position: UInt64
    var object: StoredObject
    var deleted: Bool
  }
  private var versions: [Bytes: [Version]] = [:]
  private var sorted: [Bytes] = []

  mutating func add(_ key: Bytes, object: StoredObject, deleted: Bool, position: UInt64) {
    if versions[key] == nil { sorted.insert(key, at: index(of: key)) }
    versions[key, default: []].append(Version(position: position, object: object, deleted: deleted))
  }

  private func index(of key: Bytes) -> Int {
    var (low, high) = (0, sorted.count)
    while low < high {
      let middle = (low + high) / 2
      if sorted[middle].lexicographicallyPrecedes(key) { low = middle + 1 } else { high = middle }
    }
    return low
  }

  func newest(_ key: Bytes) -> StoredObject? { version(key, at: .max) }

  func version(_ key: Bytes, at position: UInt64) -> StoredObject? {
    guard let last = versions[key]?.last(where: { $0.position <= position }), !last.deleted else { return nil }
    return last.object
  }

  func keys(prefix: Bytes, after: Bytes?) -> some Sequence<Bytes> {
    var start = index(of: prefix)
    if let after {
      let next = index(of: after)
      start = max(start, next < sorted.count && sorted[next] == after ? next + 1 : next)
    }
    return sorted[start...].prefix { $0.starts(with: prefix) }
  }

  func current() -> [(key: Bytes, object: StoredObject)] {
    sorted.compactMap { key in newest(key).map { (key, $0) } }
  }

  /// Forgets what cannot be seen at `floor` or later.
  mutating func compact(floor: UInt64) {
    for (key, all) in versions {
      guard let base = all.lastIndex(where: { $0.position <= floor }) else { continue }
      let kept = Array(all[(all[base].deleted ? base + 1 : base)...])
      versions[key] = kept.isEmpty ? nil : kept
      if kept.isEmpty { sorted.remove(at: index(of: key)) }
    }
  }
}
