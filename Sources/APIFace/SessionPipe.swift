import API
import Base
import Transport
import Wire

/// A session's stream in the shape that hot paths take.
@LoopActor package final class SessionPipe: MessagePipe {
  private let session: Session
  private let stream: SessionStream
  package init(_ stream: SessionStream, of session: Session) {
    self.stream = stream
    self.session = session
  }

  package var canSend: Bool { stream.canSend }
  /// Looks at the whole session: a little too careful, never wrong.
  package var isFlushed: Bool { session.pendingBytes == 0 }
  package var onWritable: (@LoopActor () -> Void)? {
    get { stream.onWritable }
    set { stream.onWritable = newValue }
  }
  package var onMessage: (@LoopActor (Bytes) -> Void)? {
    get { stream.onMessage }
    set { stream.onMessage = newValue }
  }
  package var onEnd: (@LoopActor (Result<Value, CallError>) -> Void)? {
    get { stream.onEnd }
    set { stream.onEnd = newValue }
  }
  package func send(_ message: Bytes) { stream.send(message) }
  package func finish(_ result: Value) { stream.finish(result) }
  package func fail(_ error: CallError) { stream.fail(error) }
}
