import Base
import CLibUV
import Glibc

/// Names to addresses, by the system's resolver on libuv's thread pool.
@LoopActor package enum Resolver {
  /// Addresses that one name may have; more are left out, so that a hostile zone cannot make a dialer busy for hours.
  package nonisolated static let maxAddresses = 16

  /// The addresses of `target`, in the system's order of preference; never empty. A numeric host answers itself.
  /// At the timeout and when the task is cancelled the answer is no longer waited for; the system's call goes on by
  /// itself, since it cannot be stopped.
  package static func resolve(_ target: HostPort, timeout: Duration = .seconds(10)) async throws(SkerryError)
    -> [SocketAddress]
  {
    if let address = SocketAddress(host: target.host, port: target.port) { return [address] }
    let lookup = Lookup(target)
    let timer = Loop.current.schedule(after: timeout) {
      lookup.finish(.failure(SkerryError(.timeout, "no name server told the address of \(target.host) in \(timeout)")))
    }
    let answer = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        lookup.continuation = continuation
        start(lookup)
      }
    } onCancel: {
      spawn { lookup.finish(.failure(SkerryError(.cancelled, "the look-up of \(target.host) was cancelled"))) }
    }
    Loop.current.cancel(timer)
    return try answer.get()
  }

  private static func start(_ lookup: Lookup) {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    let request = allocated(uv_getaddrinfo_t())
    request.pointee.data = Unmanaged.passRetained(lookup).toOpaque()
    let target = lookup.target
    let status = uv_getaddrinfo(Loop.current.uv, request, resolverDone, target.host, "\(target.port)", &hints)
    if status != 0 { resolverDone(request, status, nil) }
  }
}

@LoopActor private final class Lookup {
  typealias Answer = Result<[SocketAddress], SkerryError>
  let target: HostPort
  var continuation: CheckedContinuation<Answer, Never>?
  init(_ target: HostPort) { self.target = target }

  /// Only the first answer counts.
  func finish(_ answer: Answer) {
    continuation?.resume(returning: answer)
    continuation = nil
  }

  func heard(_ status: Int32, _ addresses: [SocketAddress]) {
    if status == 0, !addresses.isEmpty { return finish(.success(addresses)) }
    let reason = status == 0 ? UV_EAI_NODATA.rawValue : status
    finish(.failure(SkerryError(uv: reason, "cannot find the address of \(target.host)")))
  }
}

private func resolverDone(
  _ request: UnsafeMutablePointer<uv_getaddrinfo_t>?, _ status: Int32, _ list: UnsafeMutablePointer<addrinfo>?
) {
  guard let request, let data = request.pointee.data else { return }
  var addresses: [SocketAddress] = []
  var next = list
  while let entry = next, addresses.count < Resolver.maxAddresses {
    if let raw = entry.pointee.ai_addr, let address = SocketAddress(raw) { addresses.append(address) }
    next = entry.pointee.ai_next
  }
  uv_freeaddrinfo(list)
  request.deallocate()
  let lookup = Unmanaged<Lookup>.fromOpaque(data).takeRetainedValue()
  let found = addresses
  LoopActor.entered { lookup.heard(status, found) }
}
