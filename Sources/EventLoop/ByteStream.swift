import Base

/// Who is at the other end of a stream, as whoever authenticated it knows; never what the peer claims.
package struct PeerInfo: Sendable {
  /// `10.0.0.7:51234`, `[::1]:7`, or `unix:` and the socket's path: for logs.
  package var address: String
  /// Of a Unix socket, read from the kernel (SO_PEERCRED).
  package var credentials: UnixCredentials?
  /// Of a TLS peer whose chain was verified.
  package var certificate: PeerCertificate?
  /// The ALPN protocol that TLS negotiated.
  package var applicationProtocol: String?
  package init(address: String) { self.address = address }
}

package struct UnixCredentials: Sendable, Hashable {
  package var pid: Int32
  package var uid: UInt32
  package var gid: UInt32
  package init(pid: Int32, uid: UInt32, gid: UInt32) {
    self.pid = pid
    self.uid = uid
    self.gid = gid
  }
}

/// What the rest of the system needs of a verified certificate.
package struct PeerCertificate: Sendable, Hashable {
  /// Subject CN, such as `system:node:n1`.
  package var commonName: String
  /// Every subject O, such as `system:nodes`.
  package var organizations: [String]
  /// Lower-case hexadecimal, as the signer drew it.
  package var serial: String
  /// SHA-256 of the SubjectPublicKeyInfo: the identity of the key itself.
  package var keyFingerprint: Bytes
  /// Validity, seconds since 1970.
  package var notBefore: Int64
  package var notAfter: Int64
  package init(
    commonName: String, organizations: [String], serial: String, keyFingerprint: Bytes, notBefore: Int64,
    notAfter: Int64
  ) {
    self.commonName = commonName
    self.organizations = organizations
    self.serial = serial
    self.keyFingerprint = keyFingerprint
    self.notBefore = notBefore
    self.notAfter = notAfter
  }
}

/// A reliable, ordered stream of bytes in both directions: TCP, a Unix socket, TLS over either, or two ends in
/// memory for tests. Sans protocol: framing lives above.
///
/// Backpressure: a reader that is paused lets the kernel's buffers fill; a writer watches `pendingWriteBytes` and
/// goes on at `didDrain`.
@LoopActor package protocol ByteStream: AnyObject, Sendable {
  var delegate: (any ByteStreamDelegate)? { get set }
  var peer: PeerInfo { get }
  /// Accepted by `write` and not yet taken by the kernel.
  var pendingWriteBytes: Int { get }
  func resumeReading()
  func pauseReading()
  /// Queues bytes behind what was written before. Ignored after `close`.
  func write(_ bytes: Bytes)
  /// Ends after everything written has left; the delegate hears `streamDidClose` when both sides are done.
  func finishWriting()
  /// Ends at once; the delegate hears `streamDidClose` once, later, with no further bytes before it.
  func close()
  /// The same, as a broken connection: nothing that waits is sent, and the peer hears of it although it has not
  /// acknowledged what was sent before. A stream that knows no such end closes.
  func reset()
  /// What came and what comes next is about to be answered: the kernel lets its acknowledgement wait (40 ms on Linux) and
  /// travel with the answer, instead of sending a packet of its own. A stream that is no TCP connection does nothing.
  func expectToAnswer()
  /// Notes the memory that a write touches.
  func note(_ touched: inout WorkingSet)
}

extension ByteStream {
  package func reset() { close() }
  package func expectToAnswer() {}
  package func note(_ touched: inout WorkingSet) {}
}

@LoopActor package protocol ByteStreamDelegate: AnyObject, Sendable {
  /// Bytes that arrived, never empty. The buffer is only valid during the call.
  func stream(_ stream: any ByteStream, received bytes: UnsafeRawBufferPointer)
  /// `pendingWriteBytes` fell to zero after having been above it.
  func streamDidDrain(_ stream: any ByteStream)
  /// The peer will send no more. The stream is still open for writing.
  func streamReceivedEnd(_ stream: any ByteStream)
  /// The last call: the stream is gone; nil after an orderly end.
  func streamDidClose(_ stream: any ByteStream, error: SkerryError?)
}
