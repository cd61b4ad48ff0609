import Base
import EventLoop
import Identity

/// Opens TLS connections to one server that may have several addresses. One call tries each once, beginning with
/// the one that worked last; when to call again is `RedialBackoff`'s matter.
@LoopActor package final class Dialer {
  /// Addresses that are tried; a longer list is an error of configuration.
  package nonisolated static let maxTargets = 16

  package let targets: [HostPort]
  package let context: TLSContext
  /// The name that the server's certificate must be for; the dialled host if nil. Not checked when the trust is a pin.
  package var serverName: String?
  package var proxy: HTTPProxy?
  package var connectTimeout: Duration = .seconds(10)
  package var handshakeTimeout: Duration = .seconds(10)
  private let scheduler: any Scheduler
  private var preferred = 0

  package init(targets: [HostPort], context: TLSContext, scheduler: any Scheduler) throws(SkerryError) {
    guard (1...Self.maxTargets).contains(targets.count) else {
      throw SkerryError(.invalidArgument, "\(targets.count) server addresses are given; 1 to \(Self.maxTargets) can be")
    }
    self.targets = targets
    self.context = context
    self.scheduler = scheduler
  }

  /// A connection whose handshake is done, paused. The error is a refusal's if any server refused, else the last;
  /// its message tells what each address said.
  package func connect() async throws(SkerryError) -> TLSStream {
    var errors: [SkerryError] = []
    for offset in targets.indices {
      let index = (preferred + offset) % targets.count
      do {
        let stream = try await connect(to: targets[index])
        preferred = index
        return stream
      } catch {
        if error.code == .cancelled { throw error }
        errors.append(error)
      }
    }
    if errors.count == 1 { throw errors[0] }
    let first = errors.first { RedialBackoff.outcome(of: $0) == .refused } ?? errors[errors.count - 1]
    throw SkerryError(first.code, errors.map(\.description).joined(separator: "; "))
  }

  private func connect(to target: HostPort) async throws(SkerryError) -> TLSStream {
    let transport = try await TCPStream.connect(to: proxy?.address ?? target, timeout: connectTimeout)
    if let proxy {
      try await ProxyTunnel.open(
        over: transport, proxy: proxy, to: target, timeout: connectTimeout, scheduler: scheduler)
    }
    let name = serverName ?? (context.pin == nil ? target.host : nil)
    return try await TLSStream.handshake(
      over: transport, context: context, serverName: name, timeout: handshakeTimeout, scheduler: scheduler)
  }
}

extension TLSStream {
  /// Does a handshake and waits for it; the transport is closed if it fails, at the timeout, and when the task is
  /// cancelled.
  package static func handshake(
    over transport: any ByteStream, context: TLSContext, serverName: String? = nil, timeout: Duration = .seconds(10),
    scheduler: any Scheduler
  ) async throws(SkerryError) -> TLSStream {
    let stream: TLSStream
    do {
      stream = try TLSStream(over: transport, context: context, serverName: serverName, scheduler: scheduler)
    } catch {
      transport.close()
      throw error
    }
    let timer = scheduler.schedule(after: timeout) {
      stream.giveUpHandshake(
        SkerryError(.timeout, "\(stream.peer.address) did not finish the TLS handshake within \(timeout)"))
    }
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { (continuation: CheckedContinuation<Result<Void, SkerryError>, Never>) in
        stream.onHandshake = { continuation.resume(returning: $0) }
      }
    } onCancel: {
      spawn {
        stream.giveUpHandshake(SkerryError(.cancelled, "the TLS handshake with \(stream.peer.address) was cancelled"))
      }
    }
    scheduler.cancel(timer)
    try result.get()
    return stream
  }
}
