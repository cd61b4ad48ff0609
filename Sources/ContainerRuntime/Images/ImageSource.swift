import Base
import EventLoop
import ObjectModel

/// Where an image comes from. Whatever it is, it answers an OCI layout, so that verifying and unpacking are written
/// once.
@LoopActor protocol ImageSource {
  /// A digest that changes when the image does, asked cheaply; nil where there is no cheap way.
  func currentDigest() async throws(SkerryError) -> String?
  /// Writes the image, for this machine's platform, as the only one into the OCI layout directory `layout`, named
  /// `ImageReference.layoutTag`.
  func fetch(into layout: String) async throws(SkerryError)
}

/// The name of an image as users write it.
struct ImageReference: Sendable, Hashable {
  enum Kind: Sendable, Hashable {
    case registry
    /// A directory (`oci:`) or file that an operator put on this machine.
    case local
  }

  static let layoutTag = "image"
  /// Longest name that is taken.
  static let maxLength = 1024

  let text: String
  let kind: Kind
  /// As skopeo takes it: `docker://…`, `oci:/path:tag` …
  let transportName: String

  init(_ text: String) throws(SkerryError) {
    guard !text.isEmpty, text.utf8.count <= Self.maxLength, !text.hasPrefix("-"),
      text.unicodeScalars.allSatisfy({ $0.value > 0x20 && $0.value < 0x7f })
    else {
      throw SkerryError(
        .invalidArgument, "\"\(text)\" is not the name of an image, such as docker.io/library/nginx:1.27")
    }
    self.text = text
    for transport in ["oci:", "oci-archive:", "docker-archive:"] where text.hasPrefix(transport) {
      guard text.dropFirst(transport.count).hasPrefix("/") else {
        throw SkerryError(.invalidArgument, "image \(text): the path after \(transport) must be absolute")
      }
      kind = .local
      transportName = text
      return
    }
    kind = .registry
    transportName = text.hasPrefix("docker://") ? text : "docker://\(text)"
  }

  /// True for a registry on this machine's loopback, which may speak plain HTTP: nobody can sit in between.
  var mayBePlain: Bool {
    guard kind == .registry else { return false }
    let name = transportName.dropFirst("docker://".count)
    guard let slash = name.firstIndex(of: "/") else { return false }
    let host = name[..<slash]
    return host.hasPrefix("127.0.0.1:") || host.hasPrefix("localhost:") || host.hasPrefix("[::1]:")
      || host == "localhost" || host == "127.0.0.1"
  }
}

/// Registries, layouts and archives, by way of skopeo.
@LoopActor struct SkopeoSource: ImageSource {
  let reference: ImageReference
  let tool: Tool
  /// A file for `--authfile`, or nil.
  let credentials: String?

  /// One image; a registry that stalls longer is given up, and the kubelet's back-off tries again.
  static let deadline: Duration = .seconds(1800)

  private func options(_ prefix: String) -> [String] {
    var options: [String] = []
    if reference.mayBePlain { options.append("--\(prefix)tls-verify=false") }
    if let credentials { options += ["--\(prefix)authfile", credentials] }
    return options
  }

  func currentDigest() async throws(SkerryError) -> String? {
    guard reference.kind == .registry else { return nil }
    let output = try await tool.run(
      ["skopeo", "--insecure-policy", "inspect", "--no-tags", "--format", "{{.Digest}}"] + options("")
        + [reference.transportName])
    let digest = String(decoding: output, as: UTF8.self).filter { !$0.isWhitespace }
    return digest.hasPrefix("sha256:") ? digest : nil
  }

  func fetch(into layout: String) async throws(SkerryError) {
    // The policy is off because it says whose signatures to ask for, not whether bytes are what the digest says.
    try await tool.run(
      ["skopeo", "--insecure-policy", "copy", "--quiet"] + options("src-")
        + [reference.transportName, "oci:\(layout):\(ImageReference.layoutTag)"],
      deadline: Self.deadline)
  }
}

/// The file that containers-auth.json(5) describes, for one registry.
enum AuthFile {
  static func bytes(registry: String, _ credentials: RegistryCredentials) -> Bytes {
    let secret = base64(Bytes("\(credentials.username):\(credentials.password)".utf8))
    let document: Value = ["auths": .object([registry: ["auth": .string(secret)]])]
    return JSON.bytes(document)
  }

  /// The registry of an image's name: what stands before the first `/`, if it looks like a host.
  static func registry(of reference: ImageReference) -> String {
    let name = reference.transportName.dropFirst("docker://".count)
    let first = name.prefix { $0 != "/" }
    let isHost = name.contains("/") && (first.contains(".") || first.contains(":") || first == "localhost")
    return isHost ? String(first) : "docker.io"
  }

  /// RFC 4648, section 4.
  static func base64(_ bytes: Bytes) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var out: Bytes = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      var bits: UInt32 = 0
      for byte in group { bits = bits << 8 | UInt32(byte) }
      bits <<= UInt32(8 * (3 - group.count))
      for place in 0..<4 {
        let digit = alphabet[Int(bits >> UInt32(18 - 6 * place) & 63)]
        out.append(place <= group.count ? digit : UInt8(ascii: "="))
      }
    }
    return String(decoding: out, as: UTF8.self)
  }
}
