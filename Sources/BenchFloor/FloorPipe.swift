import COpenSSL
import Glibc

/// What OpenSSL reads from and writes to during one call; all sessions of the floor share one, as Transport's do.
struct FloorPipe {
  var input = UnsafeRawBufferPointer(start: nil, count: 0)
  let output: UnsafeMutableRawPointer
  var outputCount = 0
  let capacity: Int

  /// Room for the records of one turn of one session.
  static let outputBytes = 256 * 1024

  static func make() -> (bio: OpaquePointer, pipe: UnsafeMutablePointer<FloorPipe>)? {
    let pipe = UnsafeMutablePointer<FloorPipe>.allocate(capacity: 1)
    pipe.initialize(
      to: FloorPipe(output: .allocate(byteCount: outputBytes, alignment: 64), capacity: outputBytes))
    guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "floor"),
      BIO_meth_set_read(method, floorRead) == 1, BIO_meth_set_write(method, floorWrite) == 1,
      BIO_meth_set_ctrl(method, floorControl) == 1, let bio = BIO_new(method)
    else { return nil }
    BIO_set_data(bio, pipe)
    BIO_set_init(bio, 1)
    return (bio, pipe)
  }
}

private func floorPipe(_ bio: OpaquePointer?) -> UnsafeMutablePointer<FloorPipe>? {
  BIO_get_data(bio)?.assumingMemoryBound(to: FloorPipe.self)
}

private func floorRead(_ bio: OpaquePointer?, _ target: UnsafeMutablePointer<CChar>?, _ count: Int32) -> Int32 {
  skerry_clear_retry(bio)
  guard let pipe = floorPipe(bio), let target, count > 0 else { return 0 }
  let input = pipe.pointee.input
  guard let base = input.baseAddress, input.count > 0 else {
    skerry_retry_read(bio)
    return -1
  }
  let taken = min(Int(count), input.count)
  UnsafeMutableRawPointer(target).copyMemory(from: base, byteCount: taken)
  pipe.pointee.input = UnsafeRawBufferPointer(rebasing: input[taken...])
  return Int32(taken)
}

private func floorWrite(_ bio: OpaquePointer?, _ source: UnsafePointer<CChar>?, _ count: Int32) -> Int32 {
  skerry_clear_retry(bio)
  guard let pipe = floorPipe(bio), let source, count > 0 else { return 0 }
  let room = pipe.pointee.capacity - pipe.pointee.outputCount
  guard Int(count) <= room else { return -1 }
  (pipe.pointee.output + pipe.pointee.outputCount).copyMemory(from: source, byteCount: Int(count))
  pipe.pointee.outputCount += Int(count)
  return count
}

private func floorControl(_ bio: OpaquePointer?, _ command: Int32, _ number: Int, _ pointer: UnsafeMutableRawPointer?)
  -> Int
{
  command == BIO_CTRL_FLUSH ? 1 : 0
}
