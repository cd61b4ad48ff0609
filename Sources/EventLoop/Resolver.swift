import Base
import CLibUV
import Glibc

/// Names to addresses, by the system's resolver on libuv's thread pool.
@LoopActor package enum Resolver {
  /// Addresses that one name may have; more are left out, so that a hostile zone cannot make a dialer busy for hours.
  package nonisolated static let maxAddresses = 16

  /// The addresses of `host`, in the system's order of preference; never empty. A numeric host answers itself.
  package static func resolve(_ target: HostPort) async throws(SkerryError) -> [SocketAddress] {
    if let address = SocketAddress(host: target.host, port: target.port) { return [address] }
    let result = await withCheckedContinuation { (continuation: CheckedContinuation<ResolverAnswer, Never>) in
      start(target, continuation)
    }
    return try result.get()
  }

  private static func start(_ target: HostPort, _ continuation: CheckedContinuation<ResolverAnswer, Never>) {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    let request = allocated(uv_getaddrinfo_t())
    request.pointee.data = Unmanaged.passRetained(Lookup(target, continuation)).toOpaque()
    let status = uv_getaddrinfo(Loop.current.uv, request, resolverDone, target.host, "\(target.port)", &hints)
    if status != 0 { resolverDone(request, status, nil) }
  }
}

private typealias ResolverAnswer = Result<[SocketAddress], SkerryError>

@LoopActor private final class Lookup {
  private let target: HostPort
  private let continuation: CheckedContinuation<ResolverAnswer, Never>
  init(_ target: HostPort, _ continuation: CheckedContinuation<ResolverAnswer, Never>) {
    self.target = target
    self.continuation = continuation
  }
  func finish(_ status: Int32, _ addresses: [SocketAddress]) {
    if status == 0, !addresses.isEmpty {
      continuation.resume(returning: .success(addresses))
    } else {
      let reason = status == 0 ? UV_EAI_NODATA.rawValue : status
      continuation.resume(
        returning: .failure(SkerryError(uv: reason, "cannot find the address of \(target.host)")))
    }
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
  LoopActor.entered { lookup.finish(status, found) }
}
