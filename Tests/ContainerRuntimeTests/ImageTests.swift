import Base
import EventLoop
import EventLoopConformance
import Glibc
import Testing

@testable import ContainerRuntime

/// Images from each kind of source, into a store of its own.
@Suite(.enabled(if: canRunContainers, whyNot)) struct ImageTests {
  @Test func aRegistryOnLoopbackIsPulledFromOnce() async throws {
    try await OCIWorld.with { world in
      let registry = try await TestRegistry.start(world)
      let name = try await registry.push(try await OCIWorld.image(), as: "library/tool:1")
      var progress: [Int64] = []
      world.runtime.images.progressInterval = .milliseconds(1)
      world.runtime.onPullProgress = { image, bytes in if image == name { progress.append(bytes) } }
      let first = try await world.runtime.pull(name, policy: .ifNotPresent, credentials: nil)
      let rootfs = world.runtime.images.rootfs(first.digest)
      #expect(Files.exists("\(rootfs)/bin/busybox"))
      #expect(!progress.isEmpty)
      let made = Files.look(rootfs)?.modified

      // The same bytes under another name, and the same name asked for again: nothing is unpacked twice.
      let other = try await registry.push(try await OCIWorld.image(), as: "library/tool:2")
      let second = try await world.runtime.pull(other, policy: .ifNotPresent, credentials: nil)
      let third = try await world.runtime.pull(name, policy: .always, credentials: nil)
      #expect(second.digest == first.digest && third.digest == first.digest)
      #expect(third.references == [name, other])
      #expect(Files.look(rootfs)?.modified == made)

      // What is here is found again, with the registry gone.
      registry.stop()
      try await world.restart()
      #expect(try await world.runtime.pull(name, policy: .ifNotPresent, credentials: nil).digest == first.digest)
      await #expect(throws: SkerryError.self) {
        try await world.runtime.pull(name, policy: .always, credentials: nil)
      }
      try await world.runtime.removeImage(first.digest)
      #expect(try await world.runtime.images().isEmpty)
      #expect(Files.list(world.runtime.layout.images).isEmpty)
    }
  }

  @Test func aRegistryThatAsksForCredentials() async throws {
    try await OCIWorld.with { world in
      let registry = try await TestRegistry.start(world, authenticated: true)
      let name = try await registry.push(try await OCIWorld.image(), as: "private/tool:1")
      await #expect(throws: SkerryError.self) {
        try await world.runtime.pull(name, policy: .always, credentials: nil)
      }
      let user = RegistryCredentials(username: "user", password: "secret")
      #expect(try await world.runtime.pull(name, policy: .always, credentials: user).bytes > 0)
      // The credentials were in a file while they were needed.
      #expect(!Files.list(world.runtime.layout.volatile).contains { $0.hasPrefix("auth-") })
      registry.stop()
    }
  }

  @Test func archives() async throws {
    try await OCIWorld.with { world in
      let layout = try await OCIWorld.image()
      let direct = try await world.runtime.pull(layout, policy: .ifNotPresent, credentials: nil)
      for kind in ["oci-archive", "docker-archive"] {
        let archive = "\(kind):\(world.root)/\(kind).tar"
        let made = try await Subprocess.run(
          ["skopeo", "--insecure-policy", "copy", "-q", layout, "\(archive):example/tool:1"], deadline: .seconds(60))
        #expect(made.status == .exited(0), "\(made.errorText)")
        let image = try await world.runtime.pull(archive, policy: .ifNotPresent, credentials: nil)
        if kind == "oci-archive" { #expect(image.digest == direct.digest) }
        let config = try world.runtime.images.config(image.digest)
        #expect(config.command == ["/bin/sh"] && config.exposedPorts == ["8080/tcp"])
      }
    }
  }

  @Test func alteredBlobsAreRefusedAndLeaveNothing() async throws {
    try await OCIWorld.with { world in
      let path = try await OCIWorld.image().dropFirst("oci:".count).prefix { $0 != ":" }
      world.runtime.images.makeSource = { _, _ in AlteringSource(original: String(path)) }
      let error = await #expect(throws: SkerryError.self) {
        try await world.runtime.pull("example/altered:1", policy: .always, credentials: nil)
      }
      #expect("\(try #require(error))".contains("altered on its way"))
      #expect(Files.list(world.runtime.layout.images).isEmpty)
    }
  }

  @Test func whatACrashLeftHalfMadeGoes() async throws {
    try await OCIWorld.with { world in
      let image = try await world.runtime.pull(try await OCIWorld.image(), policy: .ifNotPresent, credentials: nil)
      let store = world.runtime.layout.images
      try Files.makeDirectory("\(store)/.new-1/layout")
      try Files.makeDirectory("\(store)/\(String(repeating: "a", count: 64))/rootfs")
      try await world.restart()
      #expect(try await world.runtime.images() == [image])
      #expect(Files.list(store).count == 1)
    }
  }

  @Test(arguments: ["", "-rf", "has space", "oci:relative/path", "line\nbreak"])
  func namesThatAreNone(name: String) {
    #expect(throws: SkerryError.self) { try ImageReference(name) }
  }

  @Test func onlyLoopbackMaySpeakPlainly() throws {
    #expect(try ImageReference("127.0.0.1:5000/a:1").mayBePlain)
    #expect(try ImageReference("localhost:5000/a:1").mayBePlain)
    #expect(try !ImageReference("127.0.0.1.example.com/a:1").mayBePlain)
    #expect(try !ImageReference("registry.example/a:1").mayBePlain)
    #expect(try !ImageReference("alpine").mayBePlain)
  }

  /// RFC 4648, section 10.
  @Test(arguments: [
    ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
    ("foobar", "Zm9vYmFy"),
  ])
  func base64(plain: String, encoded: String) {
    #expect(AuthFile.base64(Bytes(plain.utf8)) == encoded)
  }
}

/// Hands over a layout in which one byte of the layer has changed.
@LoopActor private struct AlteringSource: ImageSource {
  let original: String
  func currentDigest() async throws(SkerryError) -> String? { nil }
  func fetch(into layout: String) async throws(SkerryError) {
    let copied = try await Subprocess.run(["cp", "-r", original, layout], deadline: .seconds(10))
    guard copied.status == .exited(0) else { throw SkerryError(.internal, copied.errorText) }
    let blobs = "\(layout)/blobs/sha256"
    guard
      let layer = Files.list(blobs).max(by: { Files.treeBytes("\(blobs)/\($0)") < Files.treeBytes("\(blobs)/\($1)") })
    else { throw SkerryError(.internal, "no blobs") }
    var bytes = try Files.read("\(blobs)/\(layer)")
    bytes[bytes.count / 2] ^= 1
    try Files.write("\(blobs)/\(layer)", bytes)
  }
}

/// Debian's docker-registry on a port of its own.
@LoopActor final class TestRegistry {
  private let child: Child
  let port: Int
  private let probe: StreamProbe
  private let authenticated: Bool

  private init(_ child: Child, _ probe: StreamProbe, port: Int, authenticated: Bool) {
    self.child = child
    self.probe = probe
    self.port = port
    self.authenticated = authenticated
  }

  static func start(_ world: OCIWorld, authenticated: Bool = false) async throws -> TestRegistry {
    let (config, users) = ("\(world.root)/registry.yml", "\(world.root)/htpasswd")
    var text = """
      version: 0.1
      storage: {filesystem: {rootdirectory: \(world.root)/registry}}
      http: {addr: "127.0.0.1:0"}

      """
    if authenticated { text += "auth: {htpasswd: {realm: test, path: \(users)}}\n" }
    try Files.write(config, text)
    // user:secret, by bcrypt.
    try Files.write(users, "user:$2b$05$6Ca0dsneFLd/3oKtLFm9eeySI3xw1ATpRvlR0.GR2iyXlyTvrrx4K\n")
    let child = try Subprocess.spawn(["docker-registry", "serve", config], stderr: .pipe, onExit: { _ in })
    let probe = StreamProbe(try #require(child.stderr), on: world.loop)
    let said = "listening on 127.0.0.1:"
    try await probe.wait("the registry's port") { probe in
      guard let range = probe.text.firstRange(of: said) else { return false }
      return probe.text[range.upperBound...].contains("\"")
    }
    let range = try #require(probe.text.firstRange(of: said))
    let port = try #require(Int(probe.text[range.upperBound...].prefix { $0.isNumber }))
    return TestRegistry(child, probe, port: port, authenticated: authenticated)
  }

  func push(_ image: String, as name: String) async throws -> String {
    let reference = "127.0.0.1:\(port)/\(name)"
    let credentials = authenticated ? ["--dest-creds", "user:secret"] : []
    let pushed = try await Subprocess.run(
      ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"] + credentials
        + [image, "docker://\(reference)"], deadline: .seconds(60))
    try #require(pushed.status == .exited(0), "\(pushed.errorText)")
    return reference
  }

  func stop() {
    child.kill(SIGKILL)
    probe.stream.close()
  }
}
