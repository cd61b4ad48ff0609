import Base
import CLibUV
import Glibc

/// A C struct at a stable address, which libuv demands of its handles and requests. Freed by `deallocate`, for a
/// handle in its close callback.
func allocated<T>(_ value: T) -> UnsafeMutablePointer<T> {
  let pointer = UnsafeMutablePointer<T>.allocate(capacity: 1)
  pointer.initialize(to: value)
  return pointer
}

extension UnsafeMutablePointer {
  /// The same address as another handle type: libuv's "subclassing".
  func cast<T>(to: T.Type) -> UnsafeMutablePointer<T> {
    UnsafeMutableRawPointer(self).assumingMemoryBound(to: T.self)
  }
}

extension UnsafeMutablePointer<uv_handle_t> {
  /// Makes the handle keep `owner` alive until `closeHandle`.
  func retain(_ owner: AnyObject) { pointee.data = Unmanaged.passRetained(owner).toOpaque() }
}

/// The object that a handle keeps alive.
func owner<T: AnyObject>(_ data: UnsafeMutableRawPointer?, as: T.Type = T.self) -> T {
  guard let data else { preconditionFailure("a libuv callback without its \(T.self)") }
  return Unmanaged<T>.fromOpaque(data).takeUnretainedValue()
}

/// A protocol that hears that its handle is gone.
@LoopActor protocol HandleOwner: AnyObject, Sendable {
  func handleDidClose()
}

private final class ClosingBox {
  let owner: any HandleOwner
  init(_ owner: any HandleOwner) { self.owner = owner }
}

/// Closes a handle that keeps `owner`, once; the owner hears of it in a later turn, after which the memory is gone.
/// With `reset`, a TCP peer is told that the connection broke.
@LoopActor func closeHandle<T>(_ handle: UnsafeMutablePointer<T>, owner: some HandleOwner, reset: Bool = false) {
  let base = handle.cast(to: uv_handle_t.self)
  precondition(uv_is_closing(base) == 0, "a handle was closed twice")
  if let data = base.pointee.data { Unmanaged<AnyObject>.fromOpaque(data).release() }
  base.pointee.data = Unmanaged.passRetained(ClosingBox(owner)).toOpaque()
  // It refuses a socket that has been shut down for writing.
  if reset, uv_tcp_close_reset(handle.cast(to: uv_tcp_t.self), handleClosed) == 0 { return }
  uv_close(base, handleClosed)
}

private func handleClosed(_ handle: UnsafeMutablePointer<uv_handle_t>?) {
  guard let handle, let data = handle.pointee.data else { return }
  let box = Unmanaged<ClosingBox>.fromOpaque(data).takeRetainedValue()
  UnsafeMutableRawPointer(handle).deallocate()
  let owner = box.owner
  LoopActor.entered { owner.handleDidClose() }
}

/// libuv's sentence for an error number.
func uvMessage(_ status: Int32) -> String { String(cString: uv_strerror(status)) }

extension SkerryError {
  /// The error of a system call that libuv made. `what` says what was tried and on what.
  init(uv status: Int32, _ what: String, file: StaticString = #fileID, line: UInt = #line) {
    let code: Code =
      switch status {
      case UV_ECONNREFUSED.rawValue, UV_EHOSTUNREACH.rawValue, UV_ENETUNREACH.rawValue, UV_EHOSTDOWN.rawValue,
        UV_ENETDOWN.rawValue, UV_EAI_AGAIN.rawValue, UV_EAI_NONAME.rawValue, UV_EAI_NODATA.rawValue:
        .unavailable
      case UV_ETIMEDOUT.rawValue: .timeout
      case UV_ECANCELED.rawValue: .cancelled
      case UV_ECONNRESET.rawValue, UV_EPIPE.rawValue, UV_ECONNABORTED.rawValue, UV_ENOTCONN.rawValue, UV_EOF.rawValue:
        .closed
      default: .system
      }
    self.init(code, "\(what): \(uvMessage(status))", file: file, line: line)
  }
}
