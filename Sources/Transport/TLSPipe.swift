import Base
import COpenSSL
import EventLoop

/// The bytes between OpenSSL and the sockets: what it may read next, and what it wrote.
///
/// All sessions of the loop share one BIO over one pipe, since OpenSSL touches it only during a call and calls do not
/// nest; memory BIOs would cost each session four kilobytes more.
struct TLSPipe {
  var input = UnsafeRawBufferPointer(start: nil, count: 0)
  var output: Bytes = []
}

/// What the TLS sessions of the loop share. Callbacks of OpenSSL reach the pipe by its pointer, within a call that was
/// made on the loop.
@LoopActor final class TLSEngine {
  static let shared = TLSEngine()
  /// One record's plaintext and more: OpenSSL hands out a record at most in one read.
  static let plaintextSize = 16 * 1024 + 512

  let bio: OpaquePointer
  private let pipe: UnsafeMutablePointer<TLSPipe>
  private var plaintext: UnsafeMutableRawBufferPointer?

  private init() {
    pipe = .allocate(capacity: 1)
    pipe.initialize(to: TLSPipe())
    guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "skerry"),
      BIO_meth_set_read(method, pipeRead) == 1, BIO_meth_set_write(method, pipeWrite) == 1,
      BIO_meth_set_ctrl(method, pipeControl) == 1, let bio = BIO_new(method)
    else { preconditionFailure("OpenSSL has no memory for its first BIO") }
    BIO_set_data(bio, pipe)
    BIO_set_init(bio, 1)
    self.bio = bio
  }

  /// Runs one call of OpenSSL that may read from the front of `input` and write. What was read is cut off.
  func call(_ input: inout UnsafeRawBufferPointer, _ body: () -> Int32) -> Int32 {
    // The queue is the thread's: an error of another session must not be taken for ours. Clearing an empty one costs
    // more than the look.
    if ERR_peek_error() != 0 { ERR_clear_error() }
    pipe.pointee.input = input
    let result = body()
    input = pipe.pointee.input
    pipe.pointee.input = UnsafeRawBufferPointer(start: nil, count: 0)
    return result
  }

  /// A call that has nothing to read.
  func call(_ body: () -> Int32) -> Int32 {
    var nothing = UnsafeRawBufferPointer(start: nil, count: 0)
    return call(&nothing, body)
  }

  /// Sends what OpenSSL wrote since the last time.
  func flush(to transport: any ByteStream) {
    guard !pipe.pointee.output.isEmpty else { return }
    transport.write(pipe.pointee.output)
    pipe.pointee.output.removeAll(keepingCapacity: true)
  }

  /// What established server sessions share; made by the first one.
  private var established: (context: OpaquePointer, session: OpaquePointer)?

  /// Lets a server's session go on without its peer's certificates, of which there are thousands: who the peer is was
  /// read from them before.
  func forgetHandshake(_ ssl: OpaquePointer) {
    if established == nil, let context = skerry_established_context(ssl) {
      guard let session = skerry_established_session(ssl) else { return SSL_CTX_free(context) }
      established = (context, session)
    }
    if let established { _ = skerry_forget_handshake(ssl, established.context, established.session) }
  }

  /// Lends the buffer for decrypted bytes; a session inside of another's delivery gets one of its own.
  func withPlaintext<R>(_ body: (UnsafeMutableRawBufferPointer) -> R) -> R {
    let buffer = plaintext ?? .allocate(byteCount: Self.plaintextSize, alignment: 16)
    plaintext = nil
    defer {
      if plaintext == nil { plaintext = buffer } else { buffer.deallocate() }
    }
    return body(buffer)
  }
}

private func pipeOf(_ bio: OpaquePointer?) -> UnsafeMutablePointer<TLSPipe>? {
  BIO_get_data(bio)?.assumingMemoryBound(to: TLSPipe.self)
}

private func pipeRead(_ bio: OpaquePointer?, _ target: UnsafeMutablePointer<CChar>?, _ count: Int32) -> Int32 {
  skerry_clear_retry(bio)
  guard let pipe = pipeOf(bio), let target, count > 0 else { return 0 }
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

private func pipeWrite(_ bio: OpaquePointer?, _ source: UnsafePointer<CChar>?, _ count: Int32) -> Int32 {
  skerry_clear_retry(bio)
  guard let pipe = pipeOf(bio), let source, count > 0 else { return 0 }
  pipe.pointee.output.append(contentsOf: UnsafeRawBufferPointer(start: source, count: Int(count)))
  return count
}

private func pipeControl(_ bio: OpaquePointer?, _ command: Int32, _ number: Int, _ pointer: UnsafeMutableRawPointer?)
  -> Int
{
  command == BIO_CTRL_FLUSH ? 1 : 0
}
