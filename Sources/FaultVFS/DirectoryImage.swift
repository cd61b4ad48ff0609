import Base

/// The names of a disk: as the kernel shows them, and as they are after a power cut. A name changes for good when its
/// directory is synced; a sync of the file does not do that.
struct DirectoryImage: Sendable {
  typealias FileID = UInt64

  private enum Change: Sendable {
    case link(String, FileID)
    case unlink(String)
    case rename(String, to: String, FileID)

    /// The directory whose sync makes the change durable.
    var directory: String {
      switch self {
      case .link(let path, _), .unlink(let path), .rename(_, to: let path, _): DirectoryImage.directory(of: path)
      }
    }
  }

  private(set) var current: [String: FileID] = [:]
  private var durable: [String: FileID] = [:]
  private var pending: [Change] = []

  static func directory(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
  }

  subscript(path: String) -> FileID? { current[path] }

  /// Every file that some name leads to, now or after a power cut.
  var reachable: Set<FileID> {
    var found = Set(current.values).union(durable.values)
    for change in pending {
      if case .link(_, let file) = change { found.insert(file) }
      if case .rename(_, _, let file) = change { found.insert(file) }
    }
    return found
  }

  mutating func link(_ path: String, _ file: FileID) {
    current[path] = file
    pending.append(.link(path, file))
  }

  mutating func unlink(_ path: String) {
    current[path] = nil
    pending.append(.unlink(path))
  }

  mutating func rename(_ path: String, to new: String) {
    guard let file = current.removeValue(forKey: path) else { return }
    current[new] = file
    pending.append(.rename(path, to: new, file))
  }

  mutating func sync(_ directory: String) {
    for change in pending where change.directory == directory { Self.apply(change, to: &durable) }
    pending.removeAll { $0.directory == directory }
  }

  /// Some of the changes happened: the first ones, as a journal would have it, or any of them.
  mutating func lose(random: any RandomSource) {
    let first = random.below(2) == 0 ? Int(random.below(UInt64(pending.count + 1))) : nil
    for (index, change) in pending.enumerated() {
      if let first { if index >= first { break } } else if random.below(2) == 0 { continue }
      Self.apply(change, to: &durable)
    }
    pending = []
    current = durable
  }

  /// What the kernel shows becomes durable as it is.
  mutating func settle() {
    durable = current
    pending = []
  }

  private static func apply(_ change: Change, to names: inout [String: FileID]) {
    switch change {
    case .link(let path, let file): names[path] = file
    case .unlink(let path): names[path] = nil
    case .rename(let path, let new, let file):
      names[path] = nil
      names[new] = file
    }
  }
}
