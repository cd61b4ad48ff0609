import Base
import EventLoop
import Glibc

/// Tells of files that appear in one directory, complete: closed after writing, or renamed into it (inotify(7)).
@LoopActor final class DirectoryWatch: ByteStreamDelegate {
  private let stream: any ByteStream
  private let onFile: @LoopActor (String) -> Void
  /// The kernel dropped events, or the watch ended: look for yourself.
  private let onGap: @LoopActor () -> Void

  init(
    _ path: String, onFile: @escaping @LoopActor (String) -> Void, onGap: @escaping @LoopActor () -> Void
  ) throws(SkerryError) {
    let file = inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
    guard file >= 0 else { throw Files.failure("make an inotify instance for", path) }
    guard inotify_add_watch(file, path, UInt32(IN_CLOSE_WRITE) | UInt32(IN_MOVED_TO)) >= 0 else {
      let error = Files.failure("watch", path)
      close(file)
      throw error
    }
    self.onFile = onFile
    self.onGap = onGap
    stream = try DescriptorStream.open(file, name: "inotify \(path)")
    stream.delegate = self
    stream.resumeReading()
  }

  func stop() { stream.close() }

  /// The kernel hands out whole events only: wd, mask, cookie, length (each 32 bits), then the name, padded.
  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) {
    var offset = 0
    while offset + 16 <= bytes.count {
      let mask = bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self)
      let length = Int(bytes.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
      guard offset + 16 + length <= bytes.count else { break }
      let name = bytes[(offset + 16)..<(offset + 16 + length)].prefix { $0 != 0 }
      if mask & UInt32(IN_Q_OVERFLOW) != 0 { onGap() }
      if !name.isEmpty { onFile(String(decoding: name, as: UTF8.self)) }
      offset += 16 + length
    }
  }

  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { onGap() }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) {}
}
