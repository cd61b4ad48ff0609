import Base

/// The calls that go through `API.connect`: resource, subresource, options, messages, result. Options and results are
/// objects; absent members mean what is said here.
///
/// | reference | subresource | options | messages | result |
/// |---|---|---|---|---|
/// | `pods` NS/NAME | `log` | `container`, `follow`, `previous`, `tailLines`, `timestamps` | log bytes as they are | `{}` |
/// | `pods` NS/NAME | `exec` | `container`, `command`, `tty`, `stdin`, `width`, `height` | `ExecMessage` | `exitCode` |
/// | `devices.devices.kubeedge.io` NS/NAME | `readings` | `after`, `limit`, `property` | none | `items`, `next` |
/// | `devices.devices.kubeedge.io` NS/NAME | `command` | `verb` (`get`, `set`), `property`, `value`, `timeoutSeconds` | none | `property`, `value`, `quality`, `time` |
/// | `tokens` (no name) | `create` | `lifetimeSeconds`, `uses`, `node` | none | `token`, `id`, `expires` |
/// | `tokens` (no name) | `list` | none | none | `items` of `id`, `created`, `expires`, `usesLeft`, `node` |
/// | `tokens` ID | `delete` | none | none | `{}` |
/// | `nodes` NAME | `revoke`, `approve` | none | none | `{}` |
/// | `nodes` (no name) | `links` | none | none | `nodes`: a map by name, see proto-spec |
/// | `clients` NAME | `create` | `csr` (PEM), `role`, `lifetimeSeconds` | none | `certificate`, `ca` (PEM) |
///
/// `readings` answers items after number `after` (0: from the oldest; absent: the newest `limit`), oldest first, each
/// `{number, property, type, value, quality, time}` with time in milliseconds since 1970; `next` is the number to ask
/// after. `exitCode` is 128 + signal for a command that was killed. Times of tokens are RFC 3339.
package enum ConnectCall {
  /// Readings a page of `readings` holds at most.
  package static let maxReadings: Int64 = 1_000
  /// Seconds that a device command may take unless it says otherwise.
  package static let commandTimeout: Int64 = 10
}

/// A message of an exec stream: a channel byte, then the bytes. Channels are numbered as in Kubernetes' remote command
/// protocol (https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets).
package enum ExecMessage: Sendable, Hashable {
  case stdin(Bytes)
  case stdout(Bytes)
  case stderr(Bytes)
  /// The terminal's size in characters.
  case resize(width: Int, height: Int)
  /// Nothing more comes on stdin.
  case stdinEnd

  /// Payload bytes of one message: what a sender reads at a time.
  package static let maxPayload = 32 * 1024

  package init?(_ message: Bytes) {
    guard let channel = message.first else { return nil }
    let payload = Bytes(message.dropFirst())
    switch channel {
    case 0: self = .stdin(payload)
    case 1: self = .stdout(payload)
    case 2: self = .stderr(payload)
    case 4 where payload.count == 4:
      let (width, height): (UInt16, UInt16) = (payload.bigEndian(at: 0), payload.bigEndian(at: 2))
      self = .resize(width: Int(width), height: Int(height))
    case 255 where payload == [0]: self = .stdinEnd
    default: return nil
    }
  }

  package var message: Bytes {
    switch self {
    case .stdin(let bytes): return [0] + bytes
    case .stdout(let bytes): return [1] + bytes
    case .stderr(let bytes): return [2] + bytes
    case .resize(let width, let height):
      var message: Bytes = [4]
      message.append(bigEndian: UInt16(clamping: width))
      message.append(bigEndian: UInt16(clamping: height))
      return message
    case .stdinEnd: return [255, 0]
    }
  }
}
