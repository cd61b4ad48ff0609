import CSQLite

/// What the connections to one file share while they live: SQLite's file locks and the WAL's shared memory, as the
/// system's VFS has them (https://www.sqlite.org/lockingv3.html, https://www.sqlite.org/walformat.html#wal_locks).
/// A handle of a process that died keeps its own, so that pointers into the memory stay good.
///
/// Confined to the disk's mutex, but for the shared memory's bytes, which belong to SQLite (`@unchecked Sendable`).
final class Sharing: @unchecked Sendable {
  typealias HandleID = UInt64
  /// Locks of the shared memory.
  static let slots = 8

  private var shared: Set<HandleID> = []
  private var reserved: HandleID?
  private var pending: HandleID?
  private var exclusive: HandleID?

  private var regions: [UnsafeMutableRawPointer] = []
  private var mapped: Set<HandleID> = []
  private var readers: [Set<HandleID>] = Array(repeating: [], count: slots)
  private var writers: [HandleID?] = Array(repeating: nil, count: slots)

  deinit { freeRegions() }

  // MARK: File locks

  func lock(_ level: Int32, by handle: HandleID) throws(DiskError) {
    switch level {
    case SQLITE_LOCK_SHARED:
      if shared.contains(handle) { return }
      guard isFree(pending, handle), isFree(exclusive, handle) else { throw .busy }
      shared.insert(handle)
    case SQLITE_LOCK_RESERVED:
      guard isFree(reserved, handle), isFree(pending, handle), isFree(exclusive, handle) else { throw .busy }
      reserved = handle
    case SQLITE_LOCK_EXCLUSIVE, SQLITE_LOCK_PENDING:
      guard isFree(pending, handle), isFree(exclusive, handle), isFree(reserved, handle) else { throw .busy }
      pending = handle
      guard level == SQLITE_LOCK_EXCLUSIVE else { return }
      guard shared.subtracting([handle]).isEmpty else { throw .busy }
      exclusive = handle
    default: break
    }
  }

  func unlock(_ level: Int32, by handle: HandleID) {
    if reserved == handle { reserved = nil }
    if pending == handle { pending = nil }
    if exclusive == handle { exclusive = nil }
    if level == SQLITE_LOCK_NONE { shared.remove(handle) }
  }

  var isReserved: Bool { reserved != nil || pending != nil || exclusive != nil }

  private func isFree(_ holder: HandleID?, _ handle: HandleID) -> Bool { holder == nil || holder == handle }

  // MARK: Shared memory

  /// The region's memory; nil if there is none and `extend` is false.
  func map(_ region: Int, bytes: Int, extend: Bool, by handle: HandleID) -> UnsafeMutableRawPointer? {
    mapped.insert(handle)
    while extend, regions.count <= region {
      let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
      memory.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
      regions.append(memory)
    }
    return region < regions.count ? regions[region] : nil
  }

  func lockMemory(_ range: Range<Int>, isExclusive: Bool, by handle: HandleID) throws(DiskError) {
    for slot in range {
      guard isFree(writers[slot], handle) else { throw .busy }
      if isExclusive, !readers[slot].subtracting([handle]).isEmpty { throw .busy }
    }
    for slot in range {
      if isExclusive { writers[slot] = handle } else { readers[slot].insert(handle) }
    }
  }

  func unlockMemory(_ range: Range<Int>, by handle: HandleID) {
    for slot in range {
      if writers[slot] == handle { writers[slot] = nil }
      readers[slot].remove(handle)
    }
  }

  /// The last one that lets go takes the memory with it: the next one builds it from the WAL, as after a start.
  func unmap(by handle: HandleID) {
    unlockMemory(0..<Self.slots, by: handle)
    mapped.remove(handle)
    if mapped.isEmpty { freeRegions() }
  }

  func close(by handle: HandleID) {
    unlock(SQLITE_LOCK_NONE, by: handle)
    if mapped.contains(handle) { unmap(by: handle) }
  }

  private func freeRegions() {
    for region in regions { region.deallocate() }
    regions = []
  }
}
