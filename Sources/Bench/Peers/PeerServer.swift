import Base
import EventLoop
import Glibc
import Identity
import ObjectModel
import Transport

/// Another product's server, started with certificates of the same kind as ours and ended with the run.
@LoopActor final class PeerServer {
  enum Product: String, Sendable {
    case nats = "nats-server"
    case mosquitto
    case etcd
  }

  let context: BenchContext
  let product: Product
  let target: BenchTarget
  let probe: ProcessProbe
  let directory: String
  private let child: Child

  /// Where Debian puts servers; PATH often lacks its second half.
  static func program(_ name: String) -> String? {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].map { "\($0)/\(name)" }.first { Files.exists($0) }
  }

  static func start(_ product: Product, _ context: BenchContext) async throws -> PeerServer {
    guard let program = program(product.rawValue) else {
      throw SkerryError(
        .notFound, "\(product.rawValue) is not installed: run scripts/install-deps.sh bench (or apt-get install it)")
    }
    let directory = try context.newDirectory(product.rawValue)
    let now = context.scheduler.wall
    let pki = try ClusterPKI.create(directory: directory, hosts: [], now: now, random: context.random)
    let client = try pki.issueClient(name: "bench", role: "view", now: now, random: context.random)
    let (port, spare) = try freePorts()
    let argv = try configure(product, program, directory, port, spare)
    let log = "\(directory)/log"
    let output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard output >= 0 else { throw Files.failure("open", log) }
    defer { Glibc.close(output) }
    let child = try Subprocess.spawn(
      argv, environment: ["PATH": "/usr/bin:/bin", "HOME": directory, "GOMAXPROCS": "2"], directory: directory,
      stdout: .fd(output), stderr: .fd(output), detached: true, onExit: { _ in })
    context.own(child)
    let speech: BenchTarget.Speech = product == .nats ? .nats : product == .mosquitto ? .mqtt : .http
    let target = BenchTarget(
      address: HostPort(host: "127.0.0.1", port: port), caPEM: pki.authority.certificate.pem,
      client: TLSCredentials(certificatePEM: client.certificatePEM, keyPEM: client.keyPEM), speech: speech)
    let server = PeerServer(context, product, target, directory, child)
    try await server.waitUntilServing(log)
    return server
  }

  private init(
    _ context: BenchContext, _ product: Product, _ target: BenchTarget, _ directory: String, _ child: Child
  ) {
    self.context = context
    self.product = product
    self.target = target
    self.directory = directory
    self.child = child
    probe = ProcessProbe(pid: child.pid)
  }

  private static func freePorts() throws(SkerryError) -> (Int, Int) {
    let first = try TCPListener.listen(host: "127.0.0.1", port: 0)
    let second = try TCPListener.listen(host: "127.0.0.1", port: 0)
    defer {
      first.close()
      second.close()
    }
    return (first.boundPort, second.boundPort)
  }

  private static func configure(
    _ product: Product, _ program: String, _ directory: String, _ port: Int, _ spare: Int
  ) throws(SkerryError) -> [String] {
    let file = "\(directory)/server.conf"
    switch product {
    case .nats:
      let text = """
        listen: "127.0.0.1:\(port)"
        max_connections: 65536
        max_pending: 268435456
        write_deadline: "60s"
        ping_interval: "10m"
        tls { cert_file: "\(directory)/server.crt", key_file: "\(directory)/server.key", ca_file: "\(directory)/ca.crt", verify: true, timeout: 60 }
        jetstream { store_dir: "\(directory)/js", max_file_store: 8589934592, max_memory_store: 67108864 }

        """
      try Files.write(file, text, mode: 0o600)
      return [program, "-c", file]
    case .mosquitto:
      let text = """
        listener \(port) 127.0.0.1
        cafile \(directory)/ca.crt
        certfile \(directory)/server.crt
        keyfile \(directory)/server.key
        tls_version tlsv1.3
        require_certificate true
        allow_anonymous true
        persistence false
        max_connections -1
        max_queued_messages 0
        set_tcp_nodelay true
        user root
        log_type error

        """
      try Files.write(file, text, mode: 0o600)
      return [program, "-c", file]
    case .etcd:
      let url = "https://127.0.0.1:\(port)"
      let peer = "http://127.0.0.1:\(spare)"
      return [
        program, "--name", "bench", "--data-dir", "\(directory)/etcd", "--listen-client-urls", url,
        "--advertise-client-urls", url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", "bench=\(peer)", "--cert-file", "\(directory)/server.crt", "--key-file",
        "\(directory)/server.key", "--quota-backend-bytes", "4294967296",
      ]
    }
  }

  private func waitUntilServing(_ log: String) async throws {
    let answers = try await Objects.wait(context, .seconds(30), each: .milliseconds(50)) {
      guard child.exitStatus == nil else {
        let last = (Files.readText(log) ?? "").split(separator: "\n").suffix(3).joined(separator: " | ")
        throw SkerryError(.unavailable, "\(product.rawValue) ended at once: \(last)")
      }
      guard let stream = try? await TCPStream.connect(to: target.address, timeout: .seconds(1)) else { return false }
      stream.close()
      return true
    }
    guard answers else { throw SkerryError(.timeout, "\(product.rawValue) does not serve; see \(log)") }
    try await context.scheduler.sleep(for: .milliseconds(500))
  }

  func stop() {
    child.kill(SIGKILL)
    context.disown(child)
    try? Files.removeTree(directory)
  }
}

/// A publisher in a worker.
@LoopActor final class RemotePublisher {
  private let pool: WorkerPool
  private let worker: Int
  private let id: Int64

  init(_ target: BenchTarget, _ params: Value, pool: WorkerPool, worker: Int) async throws(SkerryError) {
    self.pool = pool
    self.worker = worker
    id = pool.newID()
    try await pool.ensure(worker + 1)
    var order = params
    order["id"] = .int(id)
    order["target"] = target.value
    _ = try await pool.call(worker, "publisher.make", order, patience: .seconds(120))
  }

  func run(_ params: Value, patience: Duration) async throws(SkerryError) -> Value {
    var order = params
    order["id"] = .int(id)
    return try await pool.call(worker, "publisher.run", order, patience: patience)
  }

  func close() async {
    _ = try? await pool.call(worker, "publisher.close", ["id": .int(id)], patience: .seconds(10))
  }
}
