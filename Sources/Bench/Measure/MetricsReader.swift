import Base
import EventLoop

/// Reads one value from a daemon's `/metrics`, over HTTP/1.1 on loopback.
@LoopActor final class MetricsReader: ByteStreamDelegate {
  static let patience = Duration.seconds(5)
  private var text: Bytes = []
  private var waiter: CheckedContinuation<Void, Never>?
  private var isOver = false

  /// The value of a series without labels; nil if the daemon does not tell it.
  static func value(of name: String, at url: String, _ scheduler: any Scheduler) async -> Double? {
    let place = url.hasPrefix("http://") ? String(url.dropFirst(7)) : url
    guard let address = try? HostPort(place),
      let stream = try? await TCPStream.connect(to: address, timeout: patience)
    else { return nil }
    let reader = MetricsReader()
    stream.delegate = reader
    stream.resumeReading()
    stream.write(Bytes("GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n".utf8))
    let timer = scheduler.schedule(after: patience) { reader.end() }
    await reader.wait()
    scheduler.cancel(timer)
    stream.close()
    return parse(String(decoding: reader.text, as: UTF8.self), name)
  }

  nonisolated static func parse(_ text: String, _ name: String) -> Double? {
    for line in text.split(whereSeparator: \.isNewline) where line.hasPrefix("\(name) ") {
      return Double(line.dropFirst(name.count + 1))
    }
    return nil
  }

  private func wait() async {
    if !isOver { await withCheckedContinuation { waiter = $0 } }
  }
  private func end() {
    isOver = true
    waiter?.resume()
    waiter = nil
  }

  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer) { text.append(contentsOf: bytes) }
  func streamDidDrain(_ stream: any ByteStream) {}
  func streamReceivedEnd(_ stream: any ByteStream) { end() }
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?) { end() }
}
