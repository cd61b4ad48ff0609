import Base

/// A medium in memory.
struct MemoryMedium: Medium, Sendable {
  private(set) var bytes: Bytes = []

  func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) {
    guard buffer.count > 0 else { return }
    precondition(offset + buffer.count <= bytes.count, "a read goes past the medium")
    bytes.withUnsafeBytes { buffer.fill($0.piece(offset, buffer.count)) }
  }

  mutating func write(_ source: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
    guard source.count > 0 else { return }
    if bytes.count < offset + source.count { try resize(to: offset + source.count) }
    bytes.withUnsafeMutableBytes { $0.piece(offset, source.count).fill(source) }
  }

  mutating func resize(to size: Int) throws(DiskError) {
    if size < bytes.count {
      bytes.removeLast(bytes.count - size)
    } else {
      bytes += Bytes(repeating: 0, count: size - bytes.count)
    }
  }
}

/// One file of a simulated disk.
struct ImageFile: Sendable {
  private var medium = MemoryMedium()
  private var cache = CachedFile(size: 0)
  /// Replaced when the processes that have the file open are gone.
  var sharing = Sharing()
  /// Handles of this life of the disk.
  var handles = 0

  init() {}

  /// A file that holds these bytes durably.
  init(_ bytes: Bytes) {
    bytes.withUnsafeBytes { buffer in _ = resultCode { () throws(DiskError) in try medium.write(buffer, at: 0) } }
    cache = CachedFile(size: bytes.count)
  }

  var size: Int { cache.size }
  var hasPendingChanges: Bool { !cache.pending.isEmpty }

  func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) -> Int {
    try cache.read(buffer, at: offset, over: medium)
  }

  /// The whole content as the kernel shows it.
  func content() -> Bytes {
    var bytes = Bytes(repeating: 0, count: size)
    bytes.withUnsafeMutableBytes { buffer in
      _ = resultCode { () throws(DiskError) in _ = try cache.read(buffer, at: 0, over: medium) }
    }
    return bytes
  }

  mutating func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
    try cache.write(bytes, at: offset, over: &medium)
  }

  mutating func resize(to size: Int) throws(DiskError) { try cache.resize(to: size, over: &medium) }

  mutating func sync() throws(DiskError) { try cache.sync(to: &medium) }

  mutating func lose(_ survival: Survival) throws(DiskError) {
    try cache.lose(to: &medium, mediumSize: medium.bytes.count, survival: survival)
    cache = CachedFile(size: medium.bytes.count)
  }
}
