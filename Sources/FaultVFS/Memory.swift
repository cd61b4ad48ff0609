import Glibc

/// The C library's calls: buffers of slices are slow in debug builds, and a simulator copies pages all day.
@inline(__always)
func copy(_ source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ count: Int) {
  memcpy(target, source, count)
}

/// Fills a buffer with zeros from an offset on.
func zero(_ buffer: UnsafeMutableRawBufferPointer, from start: Int) {
  guard start < buffer.count, let base = buffer.baseAddress else { return }
  memset(base + start, 0, buffer.count - start)
}

extension UnsafeRawBufferPointer {
  func piece(_ start: Int, _ count: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: baseAddress.map { $0 + start }, count: count)
  }
}

extension UnsafeMutableRawBufferPointer {
  func piece(_ start: Int, _ count: Int) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: baseAddress.map { $0 + start }, count: count)
  }

  /// Copies a whole buffer to the start of this one, which is at least as long.
  func fill(_ source: UnsafeRawBufferPointer) {
    precondition(source.count <= count, "a copy goes past its buffer")
    guard source.count > 0, let base = baseAddress, let from = source.baseAddress else { return }
    copy(from, to: base, source.count)
  }
}
