import Base
import Wire

/// One stream of messages as hot paths use it: by callbacks on the loop, with no task and no hop. `Session`'s streams
/// are pipes, and so are the in-memory ones of tests and of the simulator.
@LoopActor package protocol MessagePipe: AnyObject {
  /// The other side has given credit and the socket takes more. Who sends in spite of false makes memory grow.
  var canSend: Bool { get }
  /// Everything that was sent has left for the socket.
  var isFlushed: Bool { get }
  /// `canSend` is true again after it was false.
  var onWritable: (@LoopActor () -> Void)? { get set }
  var onMessage: (@LoopActor (Bytes) -> Void)? { get set }
  /// The other side ended its direction, or the stream broke. The last call.
  var onEnd: (@LoopActor (Result<Value, CallError>) -> Void)? { get set }
  func send(_ message: Bytes)
  func finish(_ result: Value)
  func fail(_ error: CallError)
}
