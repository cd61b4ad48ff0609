import Base
import COpenSSL
import Identity

/// What OpenSSL's error numbers mean here.
enum TLSFailure {
  /// What a browser or curl is told that speaks plain HTTP to the TLS port.
  static let plainHTTPAnswer =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    + "This port speaks Skerry's protocol over TLS, not HTTP.\n"

  static func isPlainHTTP(_ number: UInt) -> Bool {
    ERR_GET_LIB(number) == ERR_LIB_SSL && ERR_GET_REASON(number) == SSL_R_HTTP_REQUEST
  }

  /// The error's code and its reason. `verification` is the connection's result, `refusal` what our own hook said.
  static func explain(number: UInt, verification: Int, refusal: String?, spoken: String) -> (SkerryError.Code, String) {
    if let refusal { return (.forbidden, "the certificate was refused: \(refusal)") }
    let isOurs = ERR_GET_LIB(number) == ERR_LIB_SSL
    let reason = isOurs ? ERR_GET_REASON(number) : 0
    if reason == SSL_R_CERTIFICATE_VERIFY_FAILED, let flaw = PeerChain.flaw(verification) {
      return (.unauthenticated, "the peer's certificate \(flaw)")
    }
    if let known = known(reason, spoken) { return known }
    let text = ERR_reason_error_string(number).map { String(cString: $0) } ?? "the peer broke the TLS protocol"
    return (.protocolViolation, text)
  }

  private static func known(_ reason: Int32, _ spoken: String) -> (SkerryError.Code, String)? {
    switch reason {
    case SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST:
      (.protocolViolation, "plain HTTP came where TLS is spoken: use skerry, or the port of /metrics")
    case SSL_R_WRONG_VERSION_NUMBER:
      (.protocolViolation, "the other side does not speak TLS: is it the right port?")
    case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
      (.unsupportedVersion, "no common TLS version: both sides need TLS 1.3")
    case SSL_R_NO_APPLICATION_PROTOCOL:
      (.unsupportedVersion, "the peer offers none of the application protocols that are spoken here (\(spoken))")
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
      (.unsupportedVersion, "the server speaks none of \(spoken): is it a Skerry server of another version?")
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      (.unauthenticated, "the peer has no certificate, and this protocol requires one: join first")
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
      (.unauthenticated, "the server requires a client certificate, and none is configured: join first")
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
      (.unauthenticated, "the peer does not trust the authority of our certificate: compare the CAs of both sides")
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
      (.unauthenticated, "our certificate has expired in the peer's eyes: renew it, and check both clocks")
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
      (.forbidden, "our certificate was revoked: the peer refuses it, join again if that is an error")
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN,
      SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, SSL_R_TLSV1_ALERT_ACCESS_DENIED:
      (.unauthenticated, "the peer does not accept our certificate")
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
      (.unsupportedVersion, "no common cipher or key exchange (X25519 or P-256 with AES-128-GCM is needed)")
    default: nil
    }
  }
}
