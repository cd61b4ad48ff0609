import Base

/// What stays of a file when the power fails.
protocol Medium {
  /// Fills the buffer with the bytes at `offset`, all of which lie inside the medium's size.
  func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError)
  mutating func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError)
  mutating func resize(to size: Int) throws(DiskError)
}

/// A change of a file's content that was not followed by a sync.
enum FileChange: Sendable {
  case write(Bytes, at: Int)
  case resize(to: Int)
}

/// One file as the kernel's cache shows it: what the medium holds, and over it what was written and not yet synced.
struct CachedFile: Sendable {
  static let pageBytes = 4096
  /// A kernel writes back by itself in the end: beyond so many bytes of changes the older half reaches the medium.
  /// Bounds the memory of a process that never syncs.
  static let maxPendingBytes = 64 << 20

  private(set) var size: Int
  private(set) var pending: [FileChange] = []
  private var pendingBytes = 0
  /// Pages that differ from the medium, by number.
  private var pages: [Int: Bytes] = [:]
  /// The medium counts up to here; a resize hides what lies beyond, even if the file grows again.
  private var reach: Int

  /// `size` is that of the medium.
  init(size: Int) {
    self.size = size
    reach = size
  }

  // MARK: Reading

  /// Fills the buffer; bytes behind the file's end are zero. Answers how many are inside.
  func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: Int, over medium: some Medium) throws(DiskError) -> Int
  {
    let count = max(0, min(buffer.count, size - offset))
    zero(buffer, from: count)
    if pages.isEmpty {
      try fetch(buffer.piece(0, count), at: offset, medium)
      return count
    }
    var done = 0
    while done < count {
      let (page, start) = (offset + done).quotientAndRemainder(dividingBy: Self.pageBytes)
      let length = min(Self.pageBytes - start, count - done)
      let piece = buffer.piece(done, length)
      if let bytes = pages[page] {
        bytes.withUnsafeBytes { piece.fill($0.piece(start, length)) }
      } else {
        try fetch(piece, at: offset + done, medium)
      }
      done += length
    }
    return count
  }

  /// Bytes of the medium, zeros behind its reach.
  private func fetch(
    _ buffer: UnsafeMutableRawBufferPointer, at offset: Int, _ medium: some Medium
  ) throws(DiskError) {
    let inside = max(0, min(buffer.count, reach - offset))
    if inside > 0 { try medium.read(buffer.piece(0, inside), at: offset) }
    zero(buffer, from: inside)
  }

  // MARK: Changing

  mutating func write(
    _ bytes: UnsafeRawBufferPointer, at offset: Int, over medium: inout some Medium
  ) throws(DiskError) {
    var done = 0
    while done < bytes.count {
      let (page, start) = (offset + done).quotientAndRemainder(dividingBy: Self.pageBytes)
      let length = min(Self.pageBytes - start, bytes.count - done)
      let piece = bytes.piece(done, length)
      try load(page, isReplaced: length == Self.pageBytes, medium)
      pages[page]?.withUnsafeMutableBytes { $0.piece(start, length).fill(piece) }
      done += length
    }
    size = max(size, offset + bytes.count)
    try note(.write(Bytes(bytes), at: offset), bytes.count, &medium)
  }

  mutating func resize(to size: Int, over medium: inout some Medium) throws(DiskError) {
    if size < self.size {
      let (last, kept) = size.quotientAndRemainder(dividingBy: Self.pageBytes)
      for page in pages.keys where page > last || page == last && kept == 0 { pages[page] = nil }
      pages[last]?.withUnsafeMutableBytes { zero($0, from: kept) }
      reach = min(reach, size)
    }
    self.size = size
    try note(.resize(to: size), 0, &medium)
  }

  private mutating func load(_ page: Int, isReplaced: Bool, _ medium: some Medium) throws(DiskError) {
    guard pages[page] == nil else { return }
    var bytes = Bytes(repeating: 0, count: Self.pageBytes)
    if !isReplaced {
      var failure: DiskError?
      bytes.withUnsafeMutableBytes { buffer in
        do throws(DiskError) { try fetch(buffer, at: page * Self.pageBytes, medium) } catch { failure = error }
      }
      if let failure { throw failure }
    }
    pages[page] = bytes
  }

  private mutating func note(_ change: FileChange, _ bytes: Int, _ medium: inout some Medium) throws(DiskError) {
    pending.append(change)
    pendingBytes += bytes
    guard pendingBytes > Self.maxPendingBytes else { return }
    let older = pending.count / 2
    try Self.apply(pending[..<older], to: &medium)
    pending.removeFirst(older)
    pendingBytes = pending.reduce(0) { sum, change in
      if case .write(let bytes, _) = change { sum + bytes.count } else { sum }
    }
  }

  // MARK: Ends of the cache

  /// Brings every change to the medium: what a sync does.
  mutating func sync(to medium: inout some Medium) throws(DiskError) {
    try Self.apply(pending[...], to: &medium)
    forget()
  }

  /// Brings a random part of the changes to the medium: what a power cut does, and a sync that fails (Linux marks the
  /// pages as clean all the same; https://lwn.net/Articles/752063/). This value is of no use after it.
  func lose(to medium: inout some Medium, mediumSize: Int, survival: Survival) throws(DiskError) {
    let rest = survival.choose(from: pending, mediumSize: mediumSize)
    try Self.apply(rest[...], to: &medium)
  }

  private mutating func forget() {
    pending = []
    pendingBytes = 0
    pages = [:]
    reach = size
  }

  static func apply(_ changes: ArraySlice<FileChange>, to medium: inout some Medium) throws(DiskError) {
    for change in changes {
      switch change {
      case .resize(let size): try medium.resize(to: size)
      case .write(let bytes, let offset):
        var failure: DiskError?
        bytes.withUnsafeBytes { buffer in
          do throws(DiskError) { try medium.write(buffer, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
      }
    }
  }
}
