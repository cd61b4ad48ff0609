import Base
import CLibUV
import Glibc

/// The owner of handles that nobody waits for.
@LoopActor final class Forgotten: HandleOwner {
  static let shared = Forgotten()
  func handleDidClose() {}
}

/// One attempt to connect a TCP or Unix socket: ends with a stream, an error, its timeout or its task's cancellation,
/// whichever comes first.
@LoopActor final class Connecting: HandleOwner {
  typealias Start =
    (UnsafeMutablePointer<uv_stream_t>, UnsafeMutablePointer<uv_connect_t>) -> Int32
  typealias Make = (UnsafeMutablePointer<uv_stream_t>) -> UVStream

  private let target: String
  private var handle: UnsafeMutablePointer<uv_stream_t>?
  private var make: Make?
  private var timer: TimerID?
  private var continuation: CheckedContinuation<Result<UVStream, SkerryError>, Never>?

  init(_ target: String) { self.target = target }

  func run(timeout: Duration, _ start: Start, made: @escaping Make) async throws(SkerryError) -> UVStream {
    make = made
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        self.continuation = continuation
        begin(timeout: timeout, start)
      }
    } onCancel: {
      spawn { self.fail(SkerryError(.cancelled, "the connection to \(self.target) was cancelled")) }
    }
    return try result.get()
  }

  private func begin(timeout: Duration, _ start: Start) {
    // Room for either kind of socket: `start` initialises the one that it means.
    let size = max(MemoryLayout<uv_tcp_t>.stride, MemoryLayout<uv_pipe_t>.stride)
    let raw = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    let handle = raw.assumingMemoryBound(to: uv_stream_t.self)
    let request = allocated(uv_connect_t())
    request.pointee.data = Unmanaged.passRetained(self).toOpaque()
    self.handle = handle
    let status = start(handle, request)
    if status != 0 {
      Unmanaged.passUnretained(self).release()
      request.deallocate()
      return fail(SkerryError(uv: status, "cannot connect to \(target)"))
    }
    timer = Loop.current.schedule(after: timeout) { [self] in
      fail(SkerryError(.timeout, "cannot connect to \(target): no answer within \(timeout)"))
    }
  }

  func didConnect(_ status: Int32) {
    guard let handle, let make else { return }  // given up meanwhile
    guard status == 0 else { return fail(SkerryError(uv: status, "cannot connect to \(target)")) }
    self.handle = nil
    finish(.success(make(handle)))
  }

  private func fail(_ error: SkerryError) {
    guard let handle else { return }
    self.handle = nil
    closeHandle(handle, owner: self)
    finish(.failure(error))
  }

  private func finish(_ result: Result<UVStream, SkerryError>) {
    if let timer { Loop.current.cancel(timer) }
    continuation?.resume(returning: result)
    continuation = nil
    make = nil
  }

  func handleDidClose() {}
}

func connectDone(_ request: UnsafeMutablePointer<uv_connect_t>?, _ status: Int32) {
  guard let request, let data = request.pointee.data else { return }
  let connecting = Unmanaged<Connecting>.fromOpaque(data).takeRetainedValue()
  request.deallocate()
  LoopActor.entered { connecting.didConnect(status) }
}
